"""What only a real mount can show: maps, locks, processes side by side, and the mount as a whole."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.mounting import Mounted
from tests.promises import fails_with

KIB = 1 << 10


def test_mount_runs_on_the_library_asked_for(mount: Mounted) -> None:
    maps = Path(f"/proc/{mount.status()['pid']}/maps").read_text()
    assert ("libfuse3.so" in maps) == (mount.transport.library == "fuse3")
    assert ("libfuse.so.2" in maps) == (mount.transport.library == "fuse")


# --- content ---


def test_file_shows_its_size_to_others_while_it_is_written(folder: Path) -> None:
    path = folder / "log"
    with path.open("wb", buffering=0) as file:
        for size in (1, 5000, 5001):
            file.write(b"x" * (size - file.tell()))
            assert path.stat().st_size == size
            assert path.read_bytes() == b"x" * size


def test_append_of_several_processes_loses_nothing(folder: Path) -> None:
    path = folder / "log"
    path.touch()
    code = "import os, sys\nfd = os.open(sys.argv[1], os.O_APPEND | os.O_WRONLY)\n" + (
        "for n in range(200): os.write(fd, b'%s %03d\\n' % (sys.argv[2].encode(), n))"
    )
    writers = [subprocess.Popen([sys.executable, "-S", "-c", code, str(path), name]) for name in "abc"]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    lines = path.read_text().splitlines()
    assert sorted(lines) == sorted(f"{name} {n:03}" for name in "abc" for n in range(200))


def test_exclusive_creation_fails_where_there_is_something(folder: Path) -> None:
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
    os.close(os.open(folder / "lock", flags))
    with fails_with(errno.EEXIST):
        os.open(folder / "lock", flags)
    (folder / "link").symlink_to("nowhere")
    with fails_with(errno.EEXIST):
        os.open(folder / "link", flags)


def test_exclusive_creation_has_one_winner(folder: Path) -> None:
    def attempt(_: int) -> bool:
        try:
            os.close(os.open(folder / "lock", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(attempt, range(8))) == 1


def test_shared_map_is_written_to_the_file(folder: Path) -> None:
    path = folder / "mapped"
    path.write_bytes(bytes(300 * KIB))
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        memory[200 * KIB : 200 * KIB + 5] = b"hello"
        memory.flush()
        assert path.read_bytes()[200 * KIB : 200 * KIB + 5] == b"hello"
        memory[0:3] = b"end"  # not flushed: unmapping must do
    assert path.read_bytes() == b"end" + bytes(200 * KIB - 3) + b"hello" + bytes(100 * KIB - 5)


def test_map_of_a_file_shows_its_content(folder: Path) -> None:
    data = os.urandom(500 * KIB)
    (folder / "file").write_bytes(data)
    with (folder / "file").open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as memory:
        assert memory[:] == data


def test_sync_calls_succeed(folder: Path) -> None:
    with (folder / "file").open("wb") as file:
        file.write(b"x" * 10_000)
        file.flush()
        os.fsync(file.fileno())
        os.fdatasync(file.fileno())
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def test_files_written_side_by_side_do_not_mix(folder: Path) -> None:
    def write(number: int) -> None:
        with (folder / str(number)).open("wb", buffering=0) as file:
            for _ in range(50):
                file.write(bytes([number]) * 10_007)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(write, range(8)))
    for number in range(8):
        assert (folder / str(number)).read_bytes() == bytes([number]) * 10_007 * 50


# --- names ---


def test_temporary_file_without_a_name_works(folder: Path) -> None:
    with tempfile.TemporaryFile(dir=folder) as file:
        assert os.listdir(folder) == []
        file.write(b"x" * 100_000)
        file.seek(0)
        assert file.read() == b"x" * 100_000
        file.truncate(10)
        file.seek(0)
        assert file.read() == b"x" * 10
    assert os.listdir(folder) == []


def test_name_that_is_not_utf8_is_refused(folder: Path) -> None:
    name = os.fsencode(folder) + b"/\xff\xfe"
    with fails_with(errno.EINVAL, errno.EILSEQ):
        os.open(name, os.O_CREAT | os.O_WRONLY)
    assert not os.path.exists(name)


# --- attributes ---


def test_files_belong_to_the_mounting_user(folder: Path) -> None:
    (folder / "file").touch()
    for path in (folder, folder / "file"):
        assert (path.stat().st_uid, path.stat().st_gid) == (os.geteuid(), os.getegid())
        assert os.access(path, os.R_OK | os.W_OK)


def test_symlink_holds_any_target(folder: Path) -> None:
    (folder / "file").write_bytes(b"pointed at")
    targets = {"near": "file", "nowhere": "../missing/ünknown", "long": "x/" * 500 + "y"}
    for name, target in targets.items():
        (folder / name).symlink_to(target)
        assert os.readlink(folder / name) == target
        assert (folder / name).lstat().st_size == len(os.fsencode(target))
    assert (folder / "near").read_bytes() == b"pointed at"
    with fails_with(errno.EINVAL):
        os.readlink(folder / "file")
    (folder / "near").unlink()
    assert (folder / "file").exists()


# --- what there is not ---


def test_hard_link_is_refused(folder: Path) -> None:
    (folder / "file").touch()
    with fails_with(errno.EPERM, errno.EOPNOTSUPP):
        os.link(folder / "file", folder / "second")
    assert os.listdir(folder) == ["file"]
    assert (folder / "file").stat().st_nlink == 1


def test_special_files_are_refused(folder: Path) -> None:
    with fails_with(errno.EPERM, errno.EOPNOTSUPP):
        os.mkfifo(folder / "pipe")
    assert os.listdir(folder) == []


# --- locks ---


def test_locks_hold_between_processes(folder: Path) -> None:
    path = folder / "file"
    path.touch()
    code = "import fcntl, sys\nfile = open(sys.argv[1], 'r+')\ntry: {}\nexcept BlockingIOError: sys.exit(3)"
    for lock in (fcntl.flock, fcntl.lockf):
        attempt = code.format(f"fcntl.{lock.__name__}(file, fcntl.LOCK_EX | fcntl.LOCK_NB)")
        command = [sys.executable, "-S", "-c", attempt, str(path)]
        with path.open("r+") as file:
            lock(file, fcntl.LOCK_EX)
            assert subprocess.run(command, check=False, timeout=60).returncode == 3
            lock(file, fcntl.LOCK_UN)
            assert subprocess.run(command, check=False, timeout=60).returncode == 0


# --- the mount as a whole ---


def test_space_is_that_of_drive(mount: Mounted) -> None:
    found = mount.space()
    assert found.f_frsize * found.f_blocks == 2 << 40  # what the emulator gives an account
    assert 0 < found.f_bavail <= found.f_bfree <= found.f_blocks
    assert found.f_namemax == 255


def test_mount_is_told_apart_in_the_mount_table(mount: Mounted) -> None:
    lines = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    assert [line[2] for line in lines if line[1] == str(mount.path)] == ["fuse.drivefs"]


def test_syncfs_succeeds(folder: Path) -> None:
    (folder / "file").write_bytes(b"x")
    fd = os.open(folder, os.O_RDONLY)
    try:
        assert ctypes.CDLL(None, use_errno=True).syncfs(fd) == 0
    finally:
        os.close(fd)
