"""What is asked of the disk beneath the cache that Python has no function for, or too short a one.

Any thread may enter. Each raises OSError.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
from pathlib import Path

_SYNC_FILE_RANGE_WRITE = 2  # sync_file_range(2)
_KEEP_SIZE_PUNCH_HOLE = 3  # fallocate(2)
_FICLONE = 0x40049409  # ioctl_ficlone(2)


def _load_libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)

    def check(result: int, _function: object, _arguments: object) -> int:
        if result != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return result

    libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    libc.sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    for function in (libc.syncfs, libc.sync_file_range, libc.fallocate):
        function.errcheck = check  # type: ignore[assignment]  # ctypes' own type for it is narrower than its manual
    return libc


_libc = _load_libc()


def start_writeback(fd: int) -> None:
    """Let the disk begin to write what a later fsync(2) will wait for."""
    _libc.sync_file_range(fd, 0, 0, _SYNC_FILE_RANGE_WRITE)


def sync_disk(fd: int) -> None:
    """Flush everything on the disk that `fd` lies on: syncfs(2)."""
    _libc.syncfs(fd)


def punch_hole(fd: int, start: int, length: int) -> None:
    """Give a part of a file back to the disk: it reads as zeros from then on."""
    _libc.fallocate(fd, _KEEP_SIZE_PUNCH_HOLE, start, length)


def data_from_start(fd: int) -> int:
    """Where the first hole of a file is, or its end: lseek(2), SEEK_HOLE."""
    try:
        return os.lseek(fd, 0, os.SEEK_HOLE)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return 0  # it is empty
        raise


def share_blocks(source_fd: int, target_fd: int) -> None:
    """Make the target a copy of the source at once, where the disk can do that."""
    fcntl.ioctl(target_fd, _FICLONE, source_fd)


def is_open_for_writing(path: Path) -> bool:
    """Whether any process, or the kernel in the name of one, has a file open for writing: fcntl(2), F_SETLEASE."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN  # others: this disk, or this user, has no leases
    else:
        return False
    finally:
        os.close(fd)


def write_all(fd: int, data: memoryview, offset: int) -> None:
    """pwrite(2) until all of it is written: on a disk that is getting full it may stop halfway."""
    done = 0
    while done < len(data):
        done += os.pwrite(fd, data[done:], offset + done)


def copy_bytes(source_fd: int, target_fd: int, size: int) -> None:
    """Copy the first `size` bytes."""
    done = 0
    while done < size:
        copied = os.copy_file_range(source_fd, target_fd, size - done, done, done)
        if copied == 0:
            raise OSError(errno.EIO, "The content file is shorter than it was")
        done += copied
