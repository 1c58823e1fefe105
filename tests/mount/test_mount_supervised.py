"""A mount whose process dies comes back by itself, with all that was written. Each test has a Drive of its own."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from drivefs.mounts import find_mount_at
from tests.mounting import Drive, Mounted, Transport, await_true, contents, drive_at, entries, mounted

LIMIT_S = 30.0


@pytest.fixture
def drive(tmp_path: Path) -> Iterator[Drive]:
    with drive_at(tmp_path / "drive") as drive:
        yield drive


@pytest.fixture
def mount(drive: Drive, transport: Transport, tmp_path: Path) -> Iterator[Mounted]:
    with mounted(drive, transport, tmp_path / "mount") as mount:
        yield mount


def wait_until_it_answers(mount: Mounted) -> float:
    """Seconds until the mount point answers as one."""
    started_s = time.monotonic()
    while True:
        try:
            os.statvfs(mount.path)  # stat may be answered by what the kernel remembers
        except OSError:
            pass
        else:
            if find_mount_at(mount.path) is not None:
                return time.monotonic() - started_s
        assert time.monotonic() - started_s < LIMIT_S, "the mount has not come back"
        time.sleep(0.005)


class Writer:
    """Saves one file after the other, as a training loop does; goes on with the next when one fails."""

    def __init__(self, mount: Mounted) -> None:
        self.saved: dict[str, bytes] = {}
        self.failed: list[str] = []
        self._mount = mount
        self._stop = threading.Event()
        self._wrote = threading.Condition()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(LIMIT_S)
        assert not self._thread.is_alive(), "the writer hangs"

    def _run(self) -> None:
        number = 0
        while not self._stop.is_set():
            number += 1
            name, data = f"step-{number:06}", f"weights of {number} ".encode() * 4000
            try:
                with (self._mount.path / "run" / name).open("wb", buffering=0) as file:
                    file.write(data[:30_000])
                    file.write(data[30_000:])
            except OSError:
                self.failed.append(name)
                wait_until_it_answers(self._mount)  # the next step is computed meanwhile
            else:
                with self._wrote:
                    self.saved[name] = data
                    self._wrote.notify_all()

    def wait_for_more(self, count: int) -> None:
        with self._wrote:
            wanted = len(self.saved) + count
            assert self._wrote.wait_for(lambda: len(self.saved) >= wanted, LIMIT_S), "the writer has stopped"


def test_writer_sees_one_error_at_most_when_the_daemon_is_killed(
    drive: Drive, mount: Mounted, record_property: pytest.RecordProperty
) -> None:
    (mount.path / "run").mkdir()
    drive.admin.set_network(latency_s=0.05)  # so that something waits whenever it is killed
    kills = 3
    pauses = []
    with Writer(mount) as writer:
        for _ in range(kills):
            writer.wait_for_more(20)
            mount.kill_daemon()
            pauses.append(wait_until_it_answers(mount))
            writer.wait_for_more(20)
    record_property("pauses_s", pauses)
    assert len(writer.failed) <= (0 if mount.transport.option == "kernel" else kills)
    for name, data in writer.saved.items():
        assert (mount.path / "run" / name).read_bytes() == data
    drive.admin.set_network(latency_s=0.0)
    mount.flush()
    assert drive.contents() == contents(entries(mount.path))
    assert drive.contents("run").keys() >= writer.saved.keys()
    assert mount.status()["restarts"] == kills
    assert "Restarted  3 times" in mount.command("status", mount.path).stdout


@pytest.mark.parametrize("death", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL])
def test_any_death_is_survived_with_the_queue_whole(drive: Drive, mount: Mounted, death: signal.Signals) -> None:
    drive.stop()
    (mount.path / "closed").write_bytes(b"waits for Drive")
    (mount.path / "open").touch()
    fd = os.open(mount.path / "open", os.O_WRONLY)
    os.write(fd, b"so far")
    os.kill(int(mount.status()["pid"]), death)
    wrote = b"so far"
    if mount.transport.option == "kernel":
        wrote += b", and on"
        os.write(fd, b", and on")
        os.close(fd)
    else:
        with pytest.raises(OSError):
            while True:
                os.fsync(fd)
        with suppress(OSError):
            os.close(fd)
    wait_until_it_answers(mount)
    assert (mount.path / "closed").read_bytes() == b"waits for Drive"
    assert (mount.path / "open").read_bytes() == wrote
    drive.start()
    mount.flush()
    assert drive.contents() == contents(entries(mount.path))


def test_what_changed_on_drive_while_the_process_was_dead_is_seen(drive: Drive, mount: Mounted) -> None:
    for name in ("edited", "removed"):
        (mount.path / name).write_text("before")
    mount.flush()
    assert sorted(os.listdir(mount.path)) == ["edited", "removed"]
    assert not (mount.path / "new").exists()
    drive.admin.put_file("edited", b"of somebody else")
    drive.admin.delete_file("removed")
    drive.admin.put_file("new", b"")
    mount.kill_daemon()
    wait_until_it_answers(mount)
    mount.command("refresh", mount.path)
    await_true(lambda: sorted(os.listdir(mount.path)) == ["edited", "new"])
    await_true(lambda: (mount.path / "new").exists() and not (mount.path / "removed").exists())
    await_true(lambda: (mount.path / "edited").stat().st_size == 16)
    assert (mount.path / "edited").read_bytes() == b"of somebody else"


def test_commands_find_a_mount_that_is_being_brought_back(drive: Drive, mount: Mounted) -> None:
    (mount.path / "file").write_bytes(b"x")
    before = mount.kill_daemon()
    told = mount.status()
    assert told["running"] and told["pid"] != before
    mount.kill_daemon()
    mount.flush()
    assert drive.contents() == contents(entries(mount.path))
    mount.kill_daemon()
    assert "mounted by drivefs already" in mount.command("mount", mount.path, check=False).stderr
    mount.kill_daemon()
    mount.umount()
    assert mount.processes() == []


def test_mount_without_its_supervisor_goes_on_and_ends_as_any_other(drive: Drive, mount: Mounted) -> None:
    daemon = int(mount.status()["pid"])
    (supervisor,) = set(mount.processes()) - {daemon}
    os.kill(supervisor, signal.SIGKILL)
    (mount.path / "file").write_bytes(b"x")
    mount.flush()
    assert mount.status()["pid"] == daemon
    assert drive.contents() == contents(entries(mount.path))
    mount.umount()
    assert mount.processes() == []


def test_mount_that_cannot_be_brought_back_can_be_ended(mount: Mounted) -> None:
    (mount.path / "file").write_bytes(b"x")
    database = mount.cache_dir / "drivefs.db"
    away = database.with_suffix(".away")
    daemon = int(mount.status()["pid"])
    database.rename(away)
    database.mkdir()  # so that no start succeeds
    os.kill(daemon, signal.SIGKILL)
    mount.command("umount", mount.path, check=False)
    assert find_mount_at(mount.path) is None
    assert mount.processes() == []
    database.rmdir()
    away.rename(database)
    mount.mount()
    assert (mount.path / "file").read_bytes() == b"x"
    mount.umount()
    for log in mount.cache_dir.parent.rglob("*.log"):
        log.write_text("")  # it complained, and rightly
