"""What the kernel's own protocol gives beyond libfuse: with passthrough, and without it."""

from __future__ import annotations

import mmap
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.mounting import KERNEL, KERNEL_PLAIN, Drive, Mounted, await_true

MIB = 1 << 20

TRANSPORTS = (KERNEL, KERNEL_PLAIN)


def test_local_file_passes_the_daemon_by_with_passthrough_only(drive: Drive, mount: Mounted, folder: Path) -> None:
    drive.stop()
    before = mount.moved_bytes()
    data = os.urandom(32 * MIB)
    path = folder / "file"
    path.write_bytes(data)
    assert path.read_bytes() == data
    moved = mount.moved_bytes() - before
    drive.start()
    assert (moved < len(data)) == (mount.transport is KERNEL)


def test_file_read_again_comes_from_the_kernels_cache_until_it_changes_on_drive(
    mount: Mounted, drive: Drive, folder: Path
) -> None:
    path = folder / "file"
    data = os.urandom(32 * MIB)
    path.write_bytes(data)
    mount.flush()
    path.read_bytes()
    before = mount.moved_bytes()
    path.read_bytes()
    assert mount.moved_bytes() - before < len(data)
    drive.admin.put_file(f"{folder.name}/file", b"of somebody else")
    mount.command("refresh", mount.path)
    await_true(lambda: path.read_bytes() == b"of somebody else")
    with path.open("r+b") as file:
        file.write(b"OF")
    assert path.read_bytes() == b"OF somebody else"


def test_unlinked_file_still_has_its_attributes(folder: Path) -> None:
    with (folder / "file").open("w+b", buffering=0) as file:
        file.write(b"content")
        (folder / "file").unlink()
        found = os.fstat(file.fileno())
        assert (found.st_size, found.st_nlink) == (7, 0)
        os.fchmod(file.fileno(), 0o640)
        os.ftruncate(file.fileno(), 3)
        assert os.fstat(file.fileno()).st_size == 3


def test_map_written_after_the_close_arrives(mount: Mounted, drive: Drive, folder: Path) -> None:
    path = folder / "mapped"
    path.write_bytes(bytes(4 * MIB))
    with path.open("r+b") as file:
        memory = mmap.mmap(file.fileno(), 0)
        memory[:5] = b"first"
    mount.flush()
    memory[MIB : MIB + 6] = b"second"
    memory[:5] = b"FIRST"
    memory.close()
    expected = bytearray(4 * MIB)
    expected[:5], expected[MIB : MIB + 6] = b"FIRST", b"second"
    mount.flush()
    assert drive.admin.read_file(f"{folder.name}/mapped") == bytes(expected)
    assert path.read_bytes() == expected


def test_descriptor_kept_by_another_process_is_written_after_the_close(
    mount: Mounted, drive: Drive, folder: Path
) -> None:
    path = folder / "log"
    code = "import os, sys\nos.write(1, b'child\\n')\nsys.stdin.read()\nos.write(1, b'late\\n')"
    with path.open("ab", buffering=0) as file:
        file.write(b"parent\n")
        child = subprocess.Popen([sys.executable, "-S", "-c", code], stdin=subprocess.PIPE, stdout=file)
    await_true(lambda: path.read_bytes() == b"parent\nchild\n")
    mount.flush()
    assert drive.admin.read_file(f"{folder.name}/log") == b"parent\nchild\n"
    (folder / "other").write_bytes(b"x")
    (folder / "other").unlink()  # waits for what was closed before it: not for ever
    mount.flush()
    child.communicate(b"")
    assert path.read_bytes() == b"parent\nchild\nlate\n"
    assert path.stat().st_size == 18
    mount.flush()
    assert drive.admin.read_file(f"{folder.name}/log") == b"parent\nchild\nlate\n"


def test_file_opened_and_not_changed_is_not_sent_again(mount: Mounted, drive: Drive, folder: Path) -> None:
    path = folder / "file"
    path.write_bytes(b"content")
    mount.flush()
    before = drive.find(f"{folder.name}/file")["headRevisionId"]
    with path.open("r+b") as file:
        assert file.read() == b"content"
    mount.flush()
    assert os.getxattr(path, "user.drivefs.state") == b"durable"
    assert drive.find(f"{folder.name}/file")["headRevisionId"] == before


def test_edit_on_drive_while_open_for_writing_is_seen_after_the_close(
    mount: Mounted, drive: Drive, folder: Path
) -> None:
    path = folder / "file"
    path.write_bytes(b"first")
    mount.flush()
    with path.open("r+b"):
        drive.admin.put_file(f"{folder.name}/file", b"of somebody else")
        mount.command("refresh", mount.path)
    mount.command("refresh", mount.path)
    await_true(lambda: path.read_bytes() == b"of somebody else")


def test_file_in_use_in_many_ways_is_one_file(folder: Path) -> None:
    path = folder / "file"
    path.write_bytes(b"0123456789")
    reader = os.open(path, os.O_RDONLY)
    appender = os.open(path, os.O_WRONLY | os.O_APPEND)
    writer = os.open(path, os.O_RDWR)
    with mmap.mmap(writer, 10) as memory:
        os.write(appender, b"abc")
        memory[0:1] = b"X"
        os.pwrite(writer, b"Y", 1)
        os.ftruncate(writer, 12)
        assert os.pread(reader, 20, 0) == b"XY23456789ab"
        emptier = os.open(path, os.O_WRONLY | os.O_TRUNC)
        assert os.pread(reader, 20, 0) == b""
    os.write(emptier, b"new")
    os.write(appender, b"!")
    assert os.pread(reader, 20, 0) == b"new!"
    assert path.stat().st_size == 4
    for fd in (reader, appender, writer, emptier):
        os.close(fd)
    assert path.read_bytes() == b"new!"


def test_file_rewritten_while_its_close_is_under_way_has_what_was_written_last(folder: Path) -> None:
    """The kernel releases a file some time after close(2) returned: often the next open is there before that."""

    def rewrite(number: int) -> None:
        path = folder / f"log {number}"
        for version in range(300):
            wanted = b"%d " % version * (version % 7 + 1)
            path.write_bytes(wanted)
            path.write_bytes(wanted[:-1])
            assert path.read_bytes() == wanted[:-1]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(rewrite, range(8)))


def test_store_into_a_map_shows_in_the_time_of_the_file(folder: Path) -> None:
    path = folder / "file"
    path.write_bytes(bytes(4096))
    os.utime(path, ns=(10**18, 10**18))
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        assert path.stat().st_mtime_ns == 10**18
        memory[0:3] = b"new"
    await_true(lambda: path.stat().st_mtime_ns > 10**18)


def test_copy_within_the_mount_and_allocation_work(folder: Path) -> None:
    data = os.urandom(3 * MIB + 5)
    (folder / "source").write_bytes(data)
    source, target = os.open(folder / "source", os.O_RDONLY), os.open(folder / "target", os.O_RDWR | os.O_CREAT)
    done = 0
    while done < len(data):
        done += os.copy_file_range(source, target, len(data) - done)
    assert os.pread(target, len(data) + 1, 0) == data
    os.posix_fallocate(target, 0, len(data) + 100)
    assert os.fstat(target).st_size == len(data) + 100
    os.fsync(target)
    os.close(source)
    os.close(target)
    assert (folder / "target").read_bytes() == data + bytes(100)


def test_what_was_looked_at_is_answered_by_the_kernel_alone(mount: Mounted, folder: Path) -> None:
    (folder / "sub").mkdir()
    for name in ("one", "sub/two"):
        (folder / name).write_text(name)
    look = (
        "import os, sys\n"
        "os.chdir(sys.argv[1])\n"
        "for name in ('one', 'sub', 'sub/two'): os.lstat(name)\n"
        "assert not os.path.lexists('three')\n"
    )
    command = [sys.executable, "-S", "-c", look, folder]
    subprocess.run(command, check=True, timeout=60)
    daemon = int(mount.status()["pid"])
    os.kill(daemon, signal.SIGSTOP)
    try:
        subprocess.run(command, check=True, timeout=20)
    finally:
        os.kill(daemon, signal.SIGCONT)


def test_program_that_waits_for_bytes_goes_on_after_a_signal_and_can_be_killed(
    mount: Mounted, drive: Drive, folder: Path
) -> None:
    mount.flush()
    for name in ("file", "other"):
        drive.admin.put_file(f"{folder.name}/{name}", os.urandom(2 * MIB))
    mount.command("refresh", mount.path)
    await_true((folder / "other").exists)
    drive.admin.set_network(latency_s=2.0)
    code = (
        "import os, signal, sys\nsignal.signal(signal.SIGALRM, lambda *_: print('rang', flush=True))\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.2)\nfd = os.open(sys.argv[1], os.O_RDONLY)\n"
        "print('opened', flush=True)\nprint(len(os.pread(fd, 1 << 20, 1000)), flush=True)"
    )

    def start(name: str) -> subprocess.Popen[str]:
        return subprocess.Popen([sys.executable, "-S", "-c", code, folder / name], stdout=subprocess.PIPE, text=True)

    with start("file") as program:
        assert program.stdout is not None
        assert program.stdout.read().split() == ["opened", "rang", str(MIB)]
    drive.admin.set_network(latency_s=60.0)
    with start("other") as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "opened\n"
        with pytest.raises(subprocess.TimeoutExpired):
            program.wait(1.0)  # the timer has rung meanwhile: the kernel tells of no further signal
        started_s = time.monotonic()
        program.kill()
        program.wait(30.0)
        assert time.monotonic() - started_s < 5.0
    drive.admin.set_network(latency_s=0.0)
