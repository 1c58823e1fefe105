"""A mount without its Drive: gone, silent, or cut off in the middle; and one whose disk is full. Nothing freezes."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.mounting import KERNEL, MFUSEPY, Drive, Mounted, Transport, contents, drive_at, entries, mounted

EXIT_TIMED_OUT = 3
QUICK_S = 10.0
"""Far more than any call takes that waits for no network, and less than any wait for one."""

NETWORK_S = 2
TOLD_S = 30.0
"""A reader is told after some three times NETWORK_S; the rest is for a machine with other work."""

TRANSPORTS = (KERNEL, MFUSEPY)


@pytest.fixture
def drive(tmp_path: Path) -> Iterator[Drive]:
    with drive_at(tmp_path / "drive", storage_bytes=10 << 30) as drive:
        yield drive


@pytest.fixture
def mount(drive: Drive, transport: Transport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mounted]:
    drive.admin.put_file("data/here", b"read before")
    drive.admin.put_file("data/not here", os.urandom(20_000_000))
    with mounted(drive, transport, tmp_path / "mount") as mount:
        mount.umount()
        mount.environment["DRIVEFS_NETWORK_TIMEOUT"] = str(NETWORK_S)
        mount.mount()
        assert (mount.path / "data" / "here").read_bytes() == b"read before"
        yield mount


@contextmanager
def silent(drive: Drive) -> Iterator[None]:
    """It accepts what comes, and answers nothing, on old connections and on new ones."""
    pid = drive.running.process.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


class Told:
    """What a read in a thread of its own ends with, and when."""

    def __init__(self, read: Callable[[], object]) -> None:
        self.error: OSError | None = None
        self._began_s = time.monotonic()
        self.took_s = 0.0
        self._thread = threading.Thread(target=self._run, args=(read,))
        self._thread.start()

    def _run(self, read: Callable[[], object]) -> None:
        try:
            read()
        except OSError as error:
            self.error = error
        self.took_s = time.monotonic() - self._began_s

    def check(self) -> None:
        self._thread.join(TOLD_S)
        assert not self._thread.is_alive(), "the reader hangs"
        assert self.error is not None, "the reader was not told"
        assert self.error.errno in (errno.EIO, errno.ETIMEDOUT)


def quickly(action: Callable[[], object]) -> None:
    began_s = time.monotonic()
    action()
    assert time.monotonic() - began_s < QUICK_S


def work(folder: Path) -> None:
    """What needs no Drive, each within its time."""
    quickly(lambda: os.listdir(folder))
    quickly((folder / "here").stat)
    quickly((folder / "here").read_bytes)
    quickly(lambda: (folder / "new").write_bytes(os.urandom(3_000_000)))
    quickly(lambda: (folder / "new").rename(folder / "renamed"))
    quickly((folder / "sub").mkdir)
    quickly(lambda: (folder / "sub" / "link").symlink_to("../renamed"))
    quickly(lambda: (folder / "temporary").write_bytes(b"x"))
    quickly((folder / "temporary").unlink)
    quickly(lambda: (folder / "here").write_bytes(b"written over"))


def test_mount_lives_offline_and_catches_up(drive: Drive, mount: Mounted) -> None:
    drive.stop(kill=True)
    folder = mount.path / "data"
    told = Told((folder / "not here").read_bytes)
    work(folder)
    told.check()
    for _ in range(2):
        mount.umount("--no-wait")
        mount.mount()
        assert (folder / "here").read_bytes() == b"written over"
        assert len((folder / "renamed").read_bytes()) == 3_000_000
        (folder / "sub").rename(folder / "moved")
        (folder / "moved").rename(folder / "sub")
    with pytest.raises(OSError, check=lambda error: error.errno in (errno.EIO, errno.ETIMEDOUT)):
        (folder / "not here").read_bytes()
    told_state = mount.status()
    assert told_state["queue"]["files"] > 0
    assert told_state["offline"] or told_state["pause"]
    drive.start()
    drive.admin.put_file("data/theirs", b"made meanwhile")
    mount.flush()
    mount.command("refresh", mount.path)
    assert drive.contents() == contents(entries(mount.path))
    assert (folder / "theirs").read_bytes() == b"made meanwhile"
    assert drive.trash() == []


def test_mount_of_a_drive_that_falls_silent_freezes_nothing(drive: Drive, mount: Mounted) -> None:
    folder = mount.path / "data"
    with silent(drive):
        told = Told((folder / "not here").read_bytes)
        work(folder)
        assert mount.command("flush", mount.path, "--timeout", "1", check=False).returncode == EXIT_TIMED_OUT
        told.check()
        while mount.status()["offline"] is None:
            pass  # asked every few seconds: it shows soon
        began_s = time.monotonic()
        mount.umount("--no-wait")
        assert time.monotonic() - began_s < TOLD_S
    mount.mount()
    mount.flush()
    assert drive.contents() == contents(entries(mount.path))


def test_mount_reads_on_after_a_body_that_stopped_in_the_middle(drive: Drive, mount: Mounted) -> None:
    path = mount.path / "data" / "not here"
    drive.admin.set_network(bandwidth_bytes_s=2_000_000)
    fd = os.open(path, os.O_RDONLY)
    try:
        first = os.pread(fd, 100_000, 0)
        drive.admin.set_network(bandwidth_bytes_s=1)
        Told(lambda: os.pread(fd, 100_000, 15_000_000)).check()
        work(path.parent)
        drive.admin.set_network(bandwidth_bytes_s=None)
        wanted = drive.admin.read_file("data/not here")
        assert first == wanted[:100_000]
        assert os.pread(fd, 100_000, 15_000_000) == wanted[15_000_000:15_100_000]
        assert path.read_bytes() == wanted
    finally:
        os.close(fd)
    mount.flush()
    assert drive.contents() == contents(entries(mount.path))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_mount_on_a_disk_that_is_too_small_waits_for_its_uploads(
    drive: Drive, transport: Transport, tmp_path: Path
) -> None:
    cache = tmp_path / "mount" / "cache"
    cache.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m,mode=700", "drivefs-test", str(cache)], check=True)
    try:
        drive.admin.set_network(shared_bandwidth_bytes_s=30_000_000)
        with mounted(drive, transport, tmp_path / "mount") as mount:
            written = {}
            for number in range(5):
                written[f"checkpoint-{number}"] = os.urandom(30_000_000)
                (mount.path / f"checkpoint-{number}").write_bytes(written[f"checkpoint-{number}"])
            mount.flush()
            for name, data in written.items():
                assert (mount.path / name).read_bytes() == data
            assert drive.contents() == contents(entries(mount.path))
            assert mount.status()["queue"]["files"] == 0
            mount.umount()
    finally:
        subprocess.run(["umount", "-l", str(cache)], check=True)
