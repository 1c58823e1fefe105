"""Large files travel to Drive while they are written, through the whole mount."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.mounting import KERNEL, MFUSEPY, Drive, Mounted, Transport, drive_at, mounted, wait_for_end

MIB = 1 << 20
SIZE_BYTES = 40 * MIB
LIMIT_S = 60.0

TRANSPORTS = (KERNEL, MFUSEPY)


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drive]:
    with drive_at(tmp_path_factory.mktemp("drive")) as drive:
        yield drive


@pytest.fixture
def mount(drive: Drive, transport: Transport, tmp_path: Path) -> Iterator[Mounted]:
    with mounted(drive, transport, tmp_path / "mount") as mount:
        drive.admin.reset_counters()
        yield mount


def wait_for(condition: Callable[[], bool], what: str) -> None:
    end_s = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end_s, what
        time.sleep(0.05)


def arrived(drive: Drive) -> int:
    return int(drive.admin.counters()["bytes_in"])


def write_slowly(drive: Drive, file: int, data: bytes) -> None:
    """All of it, and return when half of it has left for Drive, before any close."""
    for offset in range(0, len(data), MIB):
        os.pwrite(file, data[offset : offset + MIB], offset)
    wait_for(lambda: arrived(drive) >= len(data) // 2, "nothing is sent before the close")


def test_large_file_is_sent_before_it_is_closed_and_once(drive: Drive, mount: Mounted) -> None:
    data = os.urandom(SIZE_BYTES)
    name = f"large-{mount.transport.name}"
    fd = os.open(mount.path / name, os.O_WRONLY | os.O_CREAT)
    write_slowly(drive, fd, data)
    # No command is run meanwhile: a new process closes its copy of the descriptor, which counts as a close.
    assert name not in drive.contents(), "it shows before it is closed"
    os.close(fd)
    mount.flush()
    assert drive.contents()[name] == ("file", hashlib.md5(data).hexdigest())
    assert arrived(drive) < SIZE_BYTES + MIB, "a part of it was sent twice"


def test_file_whose_beginning_changes_at_the_close_arrives_whole(drive: Drive, mount: Mounted) -> None:
    """As HDF5 writes: its header comes last."""
    data = bytearray(os.urandom(SIZE_BYTES))
    name = f"header-{mount.transport.name}"
    fd = os.open(mount.path / name, os.O_WRONLY | os.O_CREAT)
    write_slowly(drive, fd, bytes(data))
    data[:4096] = os.urandom(4096)
    os.pwrite(fd, data[:4096], 0)
    os.close(fd)
    mount.flush()
    assert drive.contents()[name] == ("file", hashlib.md5(data).hexdigest())


def test_process_that_is_killed_in_mid_stream_goes_on_from_there(drive: Drive, mount: Mounted) -> None:
    data = os.urandom(SIZE_BYTES)
    name = f"killed-{mount.transport.name}"
    fd = os.open(mount.path / name, os.O_WRONLY | os.O_CREAT)
    write_slowly(drive, fd, data)
    os.fsync(fd)
    mount.kill()
    with suppress(OSError):  # of a mount that is gone
        os.close(fd)
    mount.dispose()
    mount.mount()
    mount.flush()
    assert drive.contents()[name] == ("file", hashlib.md5(data).hexdigest())
    assert arrived(drive) < SIZE_BYTES + 2 * MIB, "what Drive had was sent again"


@pytest.mark.parametrize("transport", [KERNEL], indirect=True, ids=lambda transport: transport.name)
@pytest.mark.parametrize("changed", [False, True], ids=["went-on", "changed-its-beginning"])
def test_writer_that_outlives_a_killed_process_in_mid_stream(drive: Drive, mount: Mounted, changed: bool) -> None:
    """Open files outlive it with the kernel's own protocol."""
    data = bytearray(os.urandom(SIZE_BYTES))
    name = f"outlived-{changed}"
    pid = mount.status()["pid"]
    fd = os.open(mount.path / name, os.O_WRONLY | os.O_CREAT)
    write_slowly(drive, fd, bytes(data))
    os.kill(pid, signal.SIGKILL)
    assert wait_for_end(pid, 10.0)
    more = os.urandom(8 * MIB)
    os.pwrite(fd, more, len(data))
    if changed:
        os.pwrite(fd, b"changed", MIB)
        data[MIB : MIB + 7] = b"changed"
    os.close(fd)
    mount.flush()
    assert drive.contents()[name] == ("file", hashlib.md5(data + more).hexdigest())
    assert changed or arrived(drive) < SIZE_BYTES + len(more) + 2 * MIB, "what Drive had was sent again"
