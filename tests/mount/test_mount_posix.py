"""What a program may expect of a filesystem, through the kernel."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import stat
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.mounting import Mounted

KIB = 1 << 10


def raised(number: int, *more: int) -> pytest.RaisesExc[OSError]:
    """Expects an OSError with one of these errnos."""
    return pytest.raises(OSError, check=lambda error: error.errno in (number, *more))


def test_mount_runs_on_the_library_asked_for(mount: Mounted) -> None:
    (daemon,) = [pid for pid in mount.processes() if "libfuse" in Path(f"/proc/{pid}/maps").read_text()]
    maps = Path(f"/proc/{daemon}/maps").read_text()
    assert ("libfuse3.so" in maps) == (mount.transport.library == "fuse3")
    assert ("libfuse.so.2" in maps) == (mount.transport.library == "fuse")


# --- content ---


def test_file_is_read_as_it_was_written(folder: Path) -> None:
    data = os.urandom(3 * 1024 * KIB + 17)
    path = folder / "file"
    path.write_bytes(data)
    assert path.read_bytes() == data
    assert path.stat().st_size == len(data)
    with path.open("rb") as file:
        file.seek(1_000_003)
        assert file.read(70_001) == data[1_000_003:1_070_004]
        file.seek(-5, os.SEEK_END)
        assert file.read() == data[-5:]
        assert file.read() == b""


def test_file_shows_its_size_to_others_while_it_is_written(folder: Path) -> None:
    path = folder / "log"
    with path.open("wb", buffering=0) as file:
        for size in (1, 5000, 5001):
            file.write(b"x" * (size - file.tell()))
            assert path.stat().st_size == size
            assert path.read_bytes() == b"x" * size


def test_file_of_nothing_stays_so(folder: Path) -> None:
    path = folder / "empty"
    path.touch()
    assert path.stat().st_size == 0
    assert path.read_bytes() == b""


def test_write_at_an_offset_changes_only_that(folder: Path) -> None:
    path = folder / "file"
    path.write_bytes(bytes(range(256)) * 64)
    with path.open("r+b") as file:
        file.seek(5000)
        file.write(b"in the middle")
    expected = bytearray(bytes(range(256)) * 64)
    expected[5000:5013] = b"in the middle"
    assert path.read_bytes() == expected


def test_hole_reads_as_zeros(folder: Path) -> None:
    path = folder / "sparse"
    with path.open("wb") as file:
        file.seek(1 << 20)
        file.write(b"end")
    assert path.read_bytes() == bytes(1 << 20) + b"end"


def test_append_goes_to_the_end_whoever_wrote_before(folder: Path) -> None:
    path = folder / "log"
    with path.open("ab", buffering=0) as one, path.open("ab", buffering=0) as two:
        one.write(b"1")
        two.write(b"22")
        one.seek(0)
        one.write(b"333")
        two.write(b"4444")
    assert path.read_bytes() == b"1223334444"


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
    with raised(errno.EEXIST):
        os.open(folder / "lock", flags)
    (folder / "link").symlink_to("nowhere")
    with raised(errno.EEXIST):
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


def test_open_with_truncation_empties_the_file(folder: Path) -> None:
    path = folder / "file"
    path.write_bytes(b"long content")
    with path.open("wb") as file:
        assert path.stat().st_size == 0
        file.write(b"new")
    assert path.read_bytes() == b"new"


def test_truncate_cuts_and_grows_by_zeros(folder: Path) -> None:
    path = folder / "file"
    path.write_bytes(b"0123456789")
    os.truncate(path, 4)
    assert path.read_bytes() == b"0123"
    os.truncate(path, 8)
    assert path.read_bytes() == b"0123\0\0\0\0"
    with path.open("r+b") as file:
        file.truncate(2)
        assert path.stat().st_size == 2
    assert path.read_bytes() == b"01"


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


def test_folder_lists_each_name_once(folder: Path) -> None:
    names = {f"name {number}" for number in range(500)}
    for name in names:
        (folder / name).touch()
    listed = os.listdir(folder)
    assert sorted(listed) == sorted(names)
    for name in sorted(names)[::2]:
        (folder / name).unlink()
    assert sorted(os.listdir(folder)) == sorted(names)[1::2]


def test_rename_moves_a_file_between_folders(folder: Path) -> None:
    (folder / "one").mkdir()
    (folder / "two").mkdir()
    (folder / "one" / "file").write_bytes(b"content")
    inode = (folder / "one" / "file").stat().st_ino
    (folder / "one" / "file").rename(folder / "two" / "moved")
    assert os.listdir(folder / "one") == []
    assert (folder / "two" / "moved").read_bytes() == b"content"
    assert (folder / "two" / "moved").stat().st_ino == inode


def test_rename_over_a_file_leaves_open_readers_the_old_one(folder: Path) -> None:
    (folder / "target").write_bytes(b"old")
    (folder / "source").write_bytes(b"new")
    with (folder / "target").open("rb") as reader:
        (folder / "source").replace(folder / "target")
        assert (folder / "target").read_bytes() == b"new"
        assert reader.read() == b"old"
    assert os.listdir(folder) == ["target"]


def test_rename_of_a_file_that_is_being_written_takes_the_writer_along(folder: Path) -> None:
    with (folder / "temporary").open("wb", buffering=0) as writer:
        writer.write(b"first ")
        (folder / "temporary").rename(folder / "final")
        writer.write(b"second")
    assert (folder / "final").read_bytes() == b"first second"
    assert os.listdir(folder) == ["final"]


def test_rename_of_a_folder_takes_all_of_it_along(folder: Path) -> None:
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "b" / "file").write_bytes(b"deep")
    (folder / "a").rename(folder / "z")
    assert (folder / "z" / "b" / "file").read_bytes() == b"deep"
    assert not (folder / "a").exists()


def test_rename_refuses_what_posix_refuses(folder: Path) -> None:
    for name in ("full", "empty", "other"):
        (folder / name).mkdir()
    (folder / "full" / "file").touch()
    (folder / "file").touch()
    with raised(errno.ENOTEMPTY, errno.EEXIST):
        (folder / "empty").rename(folder / "full")
    with raised(errno.EISDIR):
        (folder / "file").rename(folder / "empty")
    with raised(errno.ENOTDIR):
        (folder / "empty").rename(folder / "file")
    with raised(errno.EINVAL):
        (folder / "full").rename(folder / "full" / "below")
    with raised(errno.ENOENT):
        (folder / "missing").rename(folder / "found")
    (folder / "other").rename(folder / "empty")
    assert sorted(os.listdir(folder)) == ["empty", "file", "full"]


def test_unlinked_file_can_be_used_while_it_is_open(folder: Path) -> None:
    path = folder / "file"
    path.write_bytes(b"still here")
    with path.open("r+b", buffering=0) as file:
        path.unlink()
        assert os.listdir(folder) == []
        assert file.read() == b"still here"
        file.write(b", and longer")
        path.write_bytes(b"another one of that name")
        file.seek(0)
        assert file.read() == b"still here, and longer"
    assert path.read_bytes() == b"another one of that name"
    assert os.listdir(folder) == ["file"]


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


def test_rmdir_takes_empty_folders_only(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "file").touch()
    with raised(errno.ENOTEMPTY, errno.EEXIST):
        (folder / "sub").rmdir()
    with raised(errno.ENOTDIR):
        (folder / "sub" / "file").rmdir()
    with raised(errno.EISDIR, errno.EPERM):
        os.unlink(folder / "sub")
    (folder / "sub" / "file").unlink()
    (folder / "sub").rmdir()
    assert os.listdir(folder) == []


def test_missing_and_wrong_kinds_are_told(folder: Path) -> None:
    (folder / "file").touch()
    with raised(errno.ENOENT):
        (folder / "missing").read_bytes()
    with raised(errno.ENOENT):
        (folder / "missing" / "below").touch()
    with raised(errno.ENOTDIR):
        (folder / "file" / "below").touch()
    with raised(errno.EISDIR):
        folder.open("wb")
    with raised(errno.EEXIST):
        (folder / "file").mkdir()
    with raised(errno.ENOTDIR):
        os.listdir(folder / "file")


def test_name_may_have_255_bytes(folder: Path) -> None:
    for name in ("x" * 255, "é" * 127 + "x", "🎈" * 63 + "abc"):
        assert len(name.encode()) == 255
        (folder / name).write_bytes(b"long")
        assert (folder / name).read_bytes() == b"long"
        with raised(errno.ENAMETOOLONG):
            (folder / (name + "y")).touch()
        with raised(errno.ENAMETOOLONG):
            (folder / (name + "y")).stat()


def test_name_is_kept_as_it_was_given(folder: Path) -> None:
    names = [
        "caf\u00e9",
        "cafe\u0301",
        "Case",
        "case",
        " blank ",
        "'\"\\",
        "new\nline",
        "-rf",
        "🎈",
        "a~b",
        ".hidden",
    ]
    for name in names:
        (folder / name).write_text(name)
    assert sorted(os.listdir(folder)) == sorted(names)
    for name in names:
        assert (folder / name).read_text() == name


def test_name_that_is_not_utf8_is_refused(folder: Path) -> None:
    name = os.fsencode(folder) + b"/\xff\xfe"
    with raised(errno.EINVAL, errno.EILSEQ):
        os.open(name, os.O_CREAT | os.O_WRONLY)
    assert not os.path.exists(name)


# --- attributes ---


def test_mode_is_kept(folder: Path) -> None:
    path = folder / "script"
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o640))
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    for mode in (0o755, 0o444, 0o600):
        path.chmod(mode)
        assert stat.S_IMODE(path.stat().st_mode) == mode
    (folder / "private").mkdir(mode=0o700)
    assert stat.S_IMODE((folder / "private").stat().st_mode) == 0o700


def test_times_are_kept_to_the_nanosecond(folder: Path) -> None:
    path = folder / "file"
    path.write_bytes(b"x")
    for mtime_ns in (1_234_567_890_123_456_789, 1_000, 4_102_444_800_000_000_001):
        os.utime(path, ns=(mtime_ns, mtime_ns))
        assert path.stat().st_mtime_ns == mtime_ns
        assert path.read_bytes() == b"x"
        assert path.stat().st_mtime_ns == mtime_ns
    os.utime(folder, ns=(5, 1_234_567_890_123_456_789))
    assert folder.stat().st_mtime_ns == 1_234_567_890_123_456_789


def test_times_set_on_an_open_file_outlive_its_close(folder: Path) -> None:
    path = folder / "file"
    with path.open("wb") as file:
        file.write(b"copied")
        file.flush()
        os.utime(file.fileno(), ns=(7, 1_234_567_890_123_456_789))
    assert path.stat().st_mtime_ns == 1_234_567_890_123_456_789


def test_write_moves_the_time(folder: Path) -> None:
    path = folder / "file"
    path.write_bytes(b"x")
    os.utime(path, ns=(0, 1_000_000_000))
    with path.open("ab") as file:
        file.write(b"y")
    assert path.stat().st_mtime_ns > 1_600_000_000_000_000_000


def test_change_in_a_folder_moves_its_time(folder: Path) -> None:
    os.utime(folder, ns=(0, 1_000_000_000))
    (folder / "file").touch()
    assert folder.stat().st_mtime_ns > 1_600_000_000_000_000_000


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
    with raised(errno.EINVAL):
        os.readlink(folder / "file")
    (folder / "near").unlink()
    assert (folder / "file").exists()


def test_extended_attributes_are_kept(folder: Path) -> None:
    path = folder / "file"
    path.touch()
    os.setxattr(path, "user.text", b"value")
    os.setxattr(path, "user.bytes", b"\0\xff" * 10)
    os.setxattr(folder, "user.text", "of a folder é".encode())
    assert os.getxattr(path, "user.text") == b"value"
    assert os.getxattr(path, "user.bytes") == b"\0\xff" * 10
    assert {"user.text", "user.bytes"} <= set(os.listxattr(path))
    with raised(errno.EEXIST):
        os.setxattr(path, "user.text", b"other", os.XATTR_CREATE)
    os.setxattr(path, "user.text", b"other", os.XATTR_REPLACE)
    assert os.getxattr(path, "user.text") == b"other"
    os.removexattr(path, "user.text")
    for attempt in (os.getxattr, os.removexattr):
        with raised(errno.ENODATA):
            attempt(path, "user.text")
    with raised(errno.ENODATA):
        os.setxattr(path, "user.text", b"x", os.XATTR_REPLACE)


def test_extended_attribute_that_drive_cannot_keep_is_refused(folder: Path) -> None:
    path = folder / "file"
    path.touch()
    with raised(errno.ENOSPC, errno.E2BIG):
        os.setxattr(path, "user.large", b"x" * 200)
    assert "user.large" not in os.listxattr(path)


# --- what there is not ---


def test_hard_link_is_refused(folder: Path) -> None:
    (folder / "file").touch()
    with raised(errno.EPERM, errno.EOPNOTSUPP):
        os.link(folder / "file", folder / "second")
    assert os.listdir(folder) == ["file"]
    assert (folder / "file").stat().st_nlink == 1


def test_special_files_are_refused(folder: Path) -> None:
    with raised(errno.EPERM, errno.EOPNOTSUPP):
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
    found = os.statvfs(mount.path)
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
