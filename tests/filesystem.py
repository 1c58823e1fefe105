"""Two filesystems under one face, for promises that both must keep: a folder of a mount, and the VFS without FUSE."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from drivefs.errors import DrivefsError, NotSupported, Stale
from drivefs.fuse.errno_map import errno_of
from drivefs.model import ROOT_INODE, Inode, Kind, RequestId
from drivefs.vfs.handles import Handle
from drivefs.vfs.vfs import Vfs


@dataclass(frozen=True, slots=True)
class Status:
    """The part of stat(2) that promises speak of."""

    inode: int
    is_folder: bool
    mode: int
    size_bytes: int
    mtime_ns: int


class Filesystem(Protocol):
    """System calls on paths relative to an empty folder. All raise OSError."""

    def open(self, path: str, flags: int, mode: int = 0o644) -> int: ...
    def duplicate(self, fd: int) -> int: ...
    def close(self, fd: int) -> None: ...
    def write(self, fd: int, data: bytes) -> int: ...
    def pwrite(self, fd: int, data: bytes, offset: int) -> int: ...
    def pread(self, fd: int, length: int, offset: int) -> bytes: ...
    def copy_range(self, fd: int, offset: int, to_fd: int, to_offset: int, length: int) -> int: ...
    def set_size(self, fd: int, size_bytes: int) -> None: ...
    def fsync(self, fd: int) -> None: ...
    def status(self, path: str) -> Status: ...
    def names(self, path: str = "") -> list[str]: ...
    def mkdir(self, path: str, mode: int = 0o755) -> None: ...
    def rmdir(self, path: str) -> None: ...
    def unlink(self, path: str) -> None: ...
    def rename(self, old: str, new: str) -> None: ...
    def symlink(self, target: str, path: str) -> None: ...
    def readlink(self, path: str) -> str: ...
    def truncate(self, path: str, size_bytes: int) -> None: ...
    def chmod(self, path: str, mode: int) -> None: ...
    def set_mtime(self, path: str, mtime_ns: int) -> None: ...
    def set_xattr(self, path: str, name: str, value: bytes, flags: int = 0) -> None: ...
    def xattr(self, path: str, name: str) -> bytes: ...
    def xattrs(self, path: str) -> list[str]: ...
    def remove_xattr(self, path: str, name: str) -> None: ...


def write_file(fs: Filesystem, path: str, data: bytes) -> None:
    fd = fs.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    if data:
        assert fs.write(fd, data) == len(data)
    fs.close(fd)


def read_file(fs: Filesystem, path: str) -> bytes:
    fd = fs.open(path, os.O_RDONLY)
    try:
        return fs.pread(fd, 1 << 24, 0)
    finally:
        fs.close(fd)


class OsFilesystem:
    """A folder, through the kernel."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def _at(self, path: str) -> Path:
        return self._root / path

    def open(self, path: str, flags: int, mode: int = 0o644) -> int:
        return os.open(self._at(path), flags, mode)

    def duplicate(self, fd: int) -> int:
        return os.dup(fd)

    def close(self, fd: int) -> None:
        os.close(fd)

    def write(self, fd: int, data: bytes) -> int:
        return os.write(fd, data)

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        return os.pwrite(fd, data, offset)

    def pread(self, fd: int, length: int, offset: int) -> bytes:
        return os.pread(fd, length, offset)

    def copy_range(self, fd: int, offset: int, to_fd: int, to_offset: int, length: int) -> int:
        return os.copy_file_range(fd, to_fd, length, offset, to_offset)

    def set_size(self, fd: int, size_bytes: int) -> None:
        os.ftruncate(fd, size_bytes)

    def fsync(self, fd: int) -> None:
        os.fsync(fd)

    def status(self, path: str) -> Status:
        found = os.lstat(self._at(path))
        folder = self._at(path).is_dir() and not self._at(path).is_symlink()
        return Status(found.st_ino, folder, found.st_mode & 0o7777, found.st_size, found.st_mtime_ns)

    def names(self, path: str = "") -> list[str]:
        return sorted(os.listdir(self._at(path)))

    def mkdir(self, path: str, mode: int = 0o755) -> None:
        os.mkdir(self._at(path), mode)

    def rmdir(self, path: str) -> None:
        os.rmdir(self._at(path))

    def unlink(self, path: str) -> None:
        os.unlink(self._at(path))

    def rename(self, old: str, new: str) -> None:
        os.rename(self._at(old), self._at(new))

    def symlink(self, target: str, path: str) -> None:
        os.symlink(target, self._at(path))

    def readlink(self, path: str) -> str:
        return os.readlink(self._at(path))

    def truncate(self, path: str, size_bytes: int) -> None:
        os.truncate(self._at(path), size_bytes)

    def chmod(self, path: str, mode: int) -> None:
        os.chmod(self._at(path), mode)

    def set_mtime(self, path: str, mtime_ns: int) -> None:
        os.utime(self._at(path), ns=(mtime_ns, mtime_ns))

    def set_xattr(self, path: str, name: str, value: bytes, flags: int = 0) -> None:
        os.setxattr(self._at(path), name, value, flags)

    def xattr(self, path: str, name: str) -> bytes:
        return os.getxattr(self._at(path), name)

    def xattrs(self, path: str) -> list[str]:
        return sorted(os.listxattr(self._at(path)))

    def remove_xattr(self, path: str, name: str) -> None:
        os.removexattr(self._at(path), name)


@dataclass
class _Description:
    """An open file description: what copies of a descriptor share."""

    handle: int
    position: int = 0
    descriptors: int = 1


@dataclass
class VfsFilesystem:
    """The VFS as the kernel would call it: a flush at each close, a release after the last."""

    vfs: Vfs
    delayed: list[Callable[[], None]] | None = None
    """Where releases wait, for the kernel sends them some time after close(2) returned; None: at once."""
    direct: bool = False
    """Read and write the content files themselves where that is allowed, as the kernel does with passthrough."""
    _fds: dict[int, _Description] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _finish: Callable[[], None] = lambda: None
    """Puts the last write in place that was taken over."""

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except DrivefsError as error:
            number = errno_of(error)
            raise OSError(number, os.strerror(number)) from error

    def _place(self, path: str) -> tuple[Inode, str]:
        folder, _, name = path.rpartition("/")
        return self.vfs.tree.resolve(folder), name

    def open(self, path: str, flags: int, mode: int = 0o644) -> int:
        with self._errors():
            if flags & os.O_CREAT:
                handle = self.vfs.files.create(*self._place(path), mode, flags, direct=self.direct)
            else:
                handle = self._open(path, flags)
        fd = next(self._numbers)
        self._fds[fd] = _Description(handle.number)
        return fd

    def _open(self, path: str, flags: int) -> Handle:
        while True:  # as the kernel does, though that gives up after the second time
            try:
                return self.vfs.files.open(self.vfs.tree.resolve(path), flags, direct=self.direct)
            except Stale:
                continue

    def handle_number(self, fd: int) -> int:
        return self._fds[fd].handle

    def duplicate(self, fd: int) -> int:
        copy = next(self._numbers)
        self._fds[copy] = self._fds[fd]
        self._fds[fd].descriptors += 1
        return copy

    def close(self, fd: int) -> None:
        description = self._fds.pop(fd)
        with self._errors():
            self.vfs.files.flush(description.handle)
            description.descriptors -= 1
            if description.descriptors:
                return
            if self.delayed is not None:
                self.delayed.append(lambda: self.vfs.files.release(description.handle))
            else:
                self.vfs.files.release(description.handle)

    def write(self, fd: int, data: bytes) -> int:
        description = self._fds[fd]
        done = self.pwrite(fd, data, description.position)
        description.position += done
        return done

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        with self._errors():
            handle = self.vfs.files.handle(self._fds[fd].handle)
            if handle.direct:
                assert handle.writable and handle.opened.file is not None
                file = handle.opened.file
                return os.pwrite(file.fd, data, file.size_bytes if handle.append else offset)
            return self._write(handle, data, offset)

    def _write(self, handle: Handle, data: bytes, offset: int) -> int:
        """One that is taken over is put in place as late as can be: before the next one, for there is one buffer."""
        room = self.vfs.files.receive_buffer(self.vfs.first_slot)
        if room is None or len(data) > len(room):
            return self.vfs.files.write(handle.number, offset, data)
        self._finish()
        room[: len(data)] = data
        request = RequestId(self.vfs.first_slot, 0)
        finish = self.vfs.files.write_behind(handle.number, offset, room[: len(data)], request, 0)
        if finish is None:
            return self.vfs.files.write(handle.number, offset, data)
        self._finish = finish
        return len(data)

    def pread(self, fd: int, length: int, offset: int) -> bytes:
        with self._errors():
            handle = self.vfs.files.handle(self._fds[fd].handle)
            if handle.direct:
                assert handle.opened.file is not None
                return os.pread(handle.opened.file.fd, length, offset)
            return self.vfs.files.read(handle.number, offset, length)

    def copy_range(self, fd: int, offset: int, to_fd: int, to_offset: int, length: int) -> int:
        with self._errors():
            try:
                return self.vfs.files.copy_range(
                    self._fds[fd].handle, offset, self._fds[to_fd].handle, to_offset, length
                )
            except NotSupported:
                pass  # as the kernel does then
        data = self.pread(fd, length, offset)
        return self.pwrite(to_fd, data, to_offset) if data else 0

    def set_size(self, fd: int, size_bytes: int) -> None:
        with self._errors():
            handle = self.vfs.files.handle(self._fds[fd].handle)
            self.vfs.files.truncate(handle.opened.inode, size_bytes, handle.number)

    def fsync(self, fd: int) -> None:
        with self._errors():
            self.vfs.files.sync(self._fds[fd].handle)

    def status(self, path: str) -> Status:
        with self._errors():
            found = self.vfs.tree.stat(path)
        return Status(found.inode, found.kind is Kind.FOLDER, found.mode, found.size_bytes, found.mtime_ns)

    def names(self, path: str = "") -> list[str]:
        with self._errors():
            entries = self.vfs.tree.entries(self.vfs.tree.resolve(path) if path else ROOT_INODE)
        return sorted(name for name, _ in entries if name not in (".", ".."))

    def mkdir(self, path: str, mode: int = 0o755) -> None:
        with self._errors():
            self.vfs.tree.make_folder(*self._place(path), mode)

    def rmdir(self, path: str) -> None:
        with self._errors():
            self.vfs.tree.remove_folder(*self._place(path))

    def unlink(self, path: str) -> None:
        with self._errors():
            self.vfs.tree.unlink(*self._place(path))

    def rename(self, old: str, new: str) -> None:
        with self._errors():
            self.vfs.tree.rename(*self._place(old), *self._place(new))

    def symlink(self, target: str, path: str) -> None:
        with self._errors():
            self.vfs.tree.make_symlink(*self._place(path), target)

    def readlink(self, path: str) -> str:
        with self._errors():
            return self.vfs.tree.read_link(self.vfs.tree.resolve(path))

    def truncate(self, path: str, size_bytes: int) -> None:
        with self._errors():
            self.vfs.files.truncate(self.vfs.tree.resolve(path), size_bytes)

    def chmod(self, path: str, mode: int) -> None:
        with self._errors():
            self.vfs.tree.set_mode(self.vfs.tree.resolve(path), mode)

    def set_mtime(self, path: str, mtime_ns: int) -> None:
        with self._errors():
            self.vfs.tree.set_mtime(self.vfs.tree.resolve(path), mtime_ns)

    def set_xattr(self, path: str, name: str, value: bytes, flags: int = 0) -> None:
        with self._errors():
            self.vfs.xattrs.set(self.vfs.tree.resolve(path), name, value, flags)

    def xattr(self, path: str, name: str) -> bytes:
        with self._errors():
            return self.vfs.xattrs.get(self.vfs.tree.resolve(path), name)

    def xattrs(self, path: str) -> list[str]:
        with self._errors():
            return sorted(self.vfs.xattrs.names(self.vfs.tree.resolve(path)))

    def remove_xattr(self, path: str, name: str) -> None:
        with self._errors():
            self.vfs.xattrs.remove(self.vfs.tree.resolve(path), name)
