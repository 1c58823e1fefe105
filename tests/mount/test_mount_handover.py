"""A crash is a pause: with the kernel's own protocol, programs go on with all that they have open."""

from __future__ import annotations

import fcntl
import mmap
import os
import random
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from drivefs.mounts import find_mount_at, unmount
from tests.mounting import (
    KERNEL,
    KERNEL_PLAIN,
    Drive,
    Mounted,
    Transport,
    contents,
    drive_at,
    entries,
    mounted,
    wait_for_end,
)

MIB = 1 << 20
LIMIT_S = 60.0

TRANSPORTS = (KERNEL, KERNEL_PLAIN)


@pytest.fixture
def drive(tmp_path: Path) -> Iterator[Drive]:
    with drive_at(tmp_path / "drive") as drive:
        yield drive


@pytest.fixture
def mount(drive: Drive, transport: Transport, tmp_path: Path) -> Iterator[Mounted]:
    with mounted(drive, transport, tmp_path / "mount") as mount:
        yield mount


class Program:
    """Calls a step again and again, in a thread of its own, until the block ends; what it raises fails the test."""

    def __init__(self, step: Callable[[int], None]) -> None:
        self._step = step
        self._stop = threading.Event()
        self._stepped = threading.Condition()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.steps = 0

    def __enter__(self) -> Program:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(LIMIT_S)
        assert not self._thread.is_alive(), f"{self._step.__name__} hangs"
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._step(self.steps)
                with self._stepped:
                    self.steps += 1
                    self._stepped.notify_all()
        except BaseException as error:  # noqa: BLE001 - raised again by who waits
            self._failure = error
            with self._stepped:
                self._stepped.notify_all()

    def wait_for_more(self, count: int) -> None:
        with self._stepped:
            wanted = self.steps + count
            done = self._stepped.wait_for(lambda: self.steps >= wanted or self._failure is not None, LIMIT_S)
        assert done, f"{self._step.__name__} has stopped"


def test_programs_see_nothing_of_the_daemons_death(
    drive: Drive, mount: Mounted, record_property: pytest.RecordProperty
) -> None:
    seed = random.randrange(1 << 32)
    record_property("seed", seed)
    chance = random.Random(seed)
    remote = chance.randbytes(6 * MIB)
    drive.admin.put_file("remote", remote)
    mount.command("refresh", mount.path)
    drive.admin.set_network(latency_s=0.02)
    top = mount.path

    with ExitStack() as stack:
        written = stack.enter_context((top / "written").open("wb", buffering=0))
        log = stack.enter_context((top / "log").open("ab", buffering=0))
        mapped = stack.enter_context((top / "mapped").open("w+b"))
        mapped.truncate(1000)
        memory = stack.enter_context(mmap.mmap(mapped.fileno(), 1000))
        source = stack.enter_context((top / "remote").open("rb", buffering=0))

        def write(number: int) -> None:
            assert written.write(b"%07d " % number * 500) == 4000
            if number % 50 == 0:
                os.fsync(written.fileno())

        def append(number: int) -> None:
            assert log.write(b"%07d\n" % number) == 8

        def store(number: int) -> None:
            memory[number % 1000] = number // 1000 % 256
            if number % 100 == 0:
                memory.flush()

        def read(number: int) -> None:
            offset = number * 7919 % len(remote)
            assert os.pread(source.fileno(), 5000, offset) == remote[offset : offset + 5000]

        def rename(number: int) -> None:
            folder = top / f"folder-{number}"
            folder.mkdir()
            os.close(os.open(folder / "new", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            os.setxattr(folder / "new", "user.number", b"%d" % number, os.XATTR_CREATE)
            os.rename(folder / "new", folder / "name")
            os.symlink("name", folder / "link")
            assert sorted(os.listdir(folder)) == ["link", "name"]
            os.removexattr(folder / "name", "user.number")
            os.unlink(folder / "link")
            os.unlink(folder / "name")
            os.rmdir(folder)

        def save(number: int) -> None:
            (top / "checkpoint.tmp").write_bytes(b"%d " % number * 1000)
            os.replace(top / "checkpoint.tmp", top / "checkpoint")
            assert (top / "checkpoint").read_bytes() == b"%d " % number * 1000

        with ExitStack() as running:
            programs = [running.enter_context(Program(step)) for step in (write, append, store, read, rename, save)]
            for _ in range(3):
                for program in programs:
                    program.wait_for_more(1 + chance.randrange(20))
                mount.kill_daemon()
            for program in programs:
                program.wait_for_more(3)
        memory.flush()
        kept = bytes(memory)
    wrote, appended, *_ = (program.steps for program in programs)
    assert (top / "written").read_bytes() == b"".join(b"%07d " % number * 500 for number in range(wrote))
    assert (top / "log").read_bytes() == b"".join(b"%07d\n" % number for number in range(appended))
    assert (top / "mapped").read_bytes() == kept
    assert [name for name in os.listdir(top) if name.startswith("folder")] == []
    drive.admin.set_network(latency_s=0.0)
    mount.flush()
    assert drive.contents() == contents(entries(top))
    assert mount.status()["restarts"] == 3


def test_large_writes_are_all_there_after_the_daemons_deaths(drive: Drive, mount: Mounted) -> None:
    """Without passthrough a program goes on while its last write is on its way into the content file."""
    places, piece_bytes = 40, 800_000

    def piece(number: int) -> bytes:
        return (b"%07d " % number) * (piece_bytes // 8)

    with (mount.path / "large").open("wb", buffering=0) as file:

        def write(number: int) -> None:
            assert os.pwrite(file.fileno(), piece(number), number % places * piece_bytes) == piece_bytes

        with Program(write) as program:
            program.wait_for_more(places)
            for _ in range(3):
                program.wait_for_more(7)
                mount.kill_daemon()
            program.wait_for_more(3)
    last = {number % places: number for number in range(program.steps)}
    written = b"".join(piece(last[place]) for place in range(places))
    assert (mount.path / "large").read_bytes() == written
    mount.flush()
    assert drive.admin.read_file("large") == written


def test_what_is_open_is_open_after_the_daemons_death(drive: Drive, mount: Mounted) -> None:
    top = mount.path
    (top / "folder").mkdir()
    (top / "folder" / "whole").write_bytes(b"whole")
    here = os.open(top / "folder", os.O_RDONLY | os.O_DIRECTORY)
    with (top / "unlinked").open("w+b", buffering=0) as unlinked, (top / "locked").open("w") as locked:
        unlinked.write(b"content")
        (top / "unlinked").unlink()
        fcntl.flock(locked, fcntl.LOCK_EX)
        drive.admin.put_file("remote", b"old revision")
        mount.command("refresh", top)
        with (top / "remote").open("rb", buffering=0) as reader, (top / "folder" / "whole").open("rb") as second:
            assert reader.read(3) == b"old"
            drive.admin.put_file("remote", b"new")
            mount.command("refresh", top)
            mount.kill_daemon()
            assert reader.read() == b" revision"
            with (top / "folder" / "whole").open("r+b") as writer:  # beside who has it open from before
                writer.write(b"W")
            assert second.read() == b"Whole"
        assert os.stat("whole", dir_fd=here).st_size == 5
        assert os.listdir(here) == ["whole"]
        unlinked.write(b" and more")
        unlinked.seek(0)
        assert unlinked.read() == b"content and more"
        assert os.fstat(unlinked.fileno()).st_nlink == 0
        refused = subprocess.run(["flock", "--nonblock", top / "locked", "true"], check=False, timeout=LIMIT_S)
        assert refused.returncode == 1
    os.close(here)
    mount.flush()
    assert drive.admin.read_file("folder/whole") == b"Whole"
    assert "unlinked" not in drive.contents()
    assert (top / "remote").read_bytes() == b"new"


def test_file_written_while_there_is_no_daemon_is_sent(drive: Drive, mount: Mounted) -> None:
    data = os.urandom(3 * MIB)
    with (mount.path / "file").open("wb", buffering=0) as file:
        file.write(data[:MIB])
        os.kill(int(mount.status()["pid"]), signal.SIGKILL)
        file.write(data[MIB:])
    mount.flush()
    assert drive.admin.read_file("file") == data


def test_mount_that_is_unmounted_while_its_daemon_is_dead_ends(drive: Drive, mount: Mounted) -> None:
    (mount.path / "file").write_bytes(b"x")
    daemon = int(mount.status()["pid"])
    (supervisor,) = set(mount.processes()) - {daemon}
    os.kill(supervisor, signal.SIGSTOP)
    os.kill(daemon, signal.SIGKILL)
    unmount(mount.path)  # umount(8) looks at it first, and would wait
    os.kill(supervisor, signal.SIGCONT)
    assert wait_for_end(supervisor, LIMIT_S)
    assert find_mount_at(mount.path) is None
    assert drive.admin.read_file("file") == b"x"


def test_program_that_outlives_its_mount_spoils_nothing(drive: Drive, mount: Mounted) -> None:
    path, data = mount.path / "file", os.urandom(MIB)
    with ExitStack() as stack:
        stack.enter_context(suppress(OSError))  # of the close: that is where it is told
        file = stack.enter_context(path.open("wb", buffering=0))
        file.write(data)
        mount.kill()
        written_on = mount.transport is KERNEL
        if written_on:
            file.write(b"unheard")
        else:
            with pytest.raises(OSError, match="not connected"):
                file.write(b"unheard")
        mount.mount()
        expected = path.read_bytes()
        assert expected == data + (b"unheard" if written_on else b"")
        with suppress(OSError):
            file.write(b"of before")
        mount.flush()
        assert path.read_bytes() == drive.admin.read_file("file") == expected
    kept = [each.read_bytes() for each in (mount.cache_dir / "quarantine").glob("*")]
    assert kept == ([expected + b"of before"] if written_on else [])


def test_removal_of_a_folder_goes_on_after_the_daemons_death(mount: Mounted) -> None:
    folder = mount.path / "folder"
    folder.mkdir()
    names = {f"entry-{number:04}-{'x' * 200}" for number in range(300)}
    for name in names:
        (folder / name).touch()
    found = []
    with os.scandir(folder) as listed:
        for number, entry in enumerate(listed):
            if number == 100:
                mount.kill_daemon()
            found.append(entry.name)
            os.unlink(entry.path)
    assert sorted(found) == sorted(names)
    folder.rmdir()
