"""libfuse's path-based calls in terms of the filesystem. No policy: it finds the inode, and passes the call on.

Entered by libfuse's threads, any number at once. `fi` is libfuse's fuse_file_info, whose `fh` is the number of the
handle; with it the path may be missing, for an unlinked file has none. An open folder's `fh` is its inode.
"""

from __future__ import annotations

import stat
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from cachetools import TTLCache

from drivefs.errors import NoEntry, NotPermitted, NotSupported
from drivefs.fuse.direct import past_the_page_cache
from drivefs.model import Inode, Kind
from drivefs.vfs.opened import Attributes
from drivefs.vfs.vfs import Vfs
from drivefs.vfs.xattrs import OWN_PREFIX

BLOCK_BYTES = 4096
NAME_LIMIT_BYTES = 255

KEPT_S = 1
"""How long the kernel may keep names and attributes: libfuse cannot tell it of a change on Drive."""

TICK_S = 0.02
"""The kernel counts such times in steps of up to 10 ms."""

UNMEASURED_KEPT = 100_000

FORMAT = {Kind.FILE: stat.S_IFREG, Kind.FOLDER: stat.S_IFDIR, Kind.SYMLINK: stat.S_IFLNK}


class Operations:
    """What libfuse may call, under the names that mfusepy and fusepy know."""

    use_ns = True
    # No path where there is a handle: libfuse need not put it together.
    flag_nullpath_ok = 1
    flag_nopath = 1
    flag_utime_omit_ok = 1

    def __init__(self, vfs: Vfs, on_ready: Callable[[], None]) -> None:
        self.vfs = vfs
        self._tree = vfs.tree
        self._files = vfs.files
        self._xattrs = vfs.xattrs
        self._on_ready = on_ready
        self.answered = False
        """Whether the mount ever came to be."""
        # Google documents of which the kernel was told lately, though their size is not known. Guarded by _lock.
        self._unmeasured: TTLCache[Inode, bool] = TTLCache(UNMEASURED_KEPT, 2 * KEPT_S)
        self._lock = threading.Lock()
        self.interrupted: Callable[[], bool] = lambda: False
        """Whether whoever made the call that this thread handles is to end."""
        self.pid: Callable[[], int] = lambda: 0
        """The thread that made it."""

    def init(self, _path: str) -> None:
        self.answered = True
        self._on_ready()

    # --- finding ---

    def inode(self, path: str | None, fi: Any = None) -> Inode:
        """The inode that a call is about. Raises NoEntry, NotDirectory, BadHandle."""
        if path is None:
            return self._files.handle(fi.fh).opened.inode
        return self._tree.resolve(path)

    def _parent(self, path: str) -> tuple[Inode, str]:
        folder, _, name = path.rpartition("/")
        return self._tree.resolve(folder), name

    def getattr(self, path: str | None, fi: Any = None) -> Attributes:
        if fi is not None:
            return self._told(self._tree.attributes(self._files.handle(fi.fh).opened.inode))
        if path is None:
            raise NoEntry("The file has no name any more.")
        return self._told(self._tree.stat(path))

    def _told(self, attributes: Attributes) -> Attributes:
        if not attributes.measured:
            with self._lock:
                self._unmeasured[attributes.inode] = True
        return attributes

    def readlink(self, path: str) -> str:
        return self._tree.read_link(self._tree.resolve(path))

    def opendir(self, path: str) -> int:
        return self._tree.resolve(path)

    def readdir(self, _path: str | None, fh: int) -> Iterator[tuple[str, Attributes]]:
        return ((name, self._told(attributes)) for name, attributes in self._tree.entries(Inode(fh)))

    def statfs(self, _path: str) -> dict[str, int]:
        volume = self.vfs.volume()
        free_blocks = volume.free_bytes // BLOCK_BYTES
        return {
            "f_bsize": BLOCK_BYTES,
            "f_frsize": BLOCK_BYTES,
            "f_blocks": volume.total_bytes // BLOCK_BYTES,
            "f_bfree": free_blocks,
            "f_bavail": free_blocks,
            "f_namemax": NAME_LIMIT_BYTES,
        }

    # --- names ---

    def mkdir(self, path: str, mode: int) -> None:
        parent, name = self._parent(path)
        self._tree.make_folder(parent, name, mode)

    def mknod(self, path: str, mode: int, _device: int) -> None:
        if not stat.S_ISREG(mode):
            raise NotPermitted("Drive has no device files, pipes or sockets.")
        parent, name = self._parent(path)
        self._files.make(parent, name, mode)

    def symlink(self, path: str, target: str) -> None:
        parent, name = self._parent(path)
        self._tree.make_symlink(parent, name, target)

    def link(self, _path: str, _source: str) -> None:
        raise NotPermitted("Drive has no hard links.")

    def unlink(self, path: str) -> None:
        parent, name = self._parent(path)
        self._tree.unlink(parent, name)

    def rmdir(self, path: str) -> None:
        parent, name = self._parent(path)
        self._tree.remove_folder(parent, name)

    def rename(self, old: str, new: str, flags: int = 0) -> None:
        parent, name = self._parent(old)
        new_parent, new_name = self._parent(new)
        self._tree.rename(parent, name, new_parent, new_name, flags)

    # --- attributes ---

    def chmod(self, path: str | None, mode: int, fi: Any = None) -> None:
        self._tree.set_mode(self.inode(path, fi), mode)

    def chown(self, path: str | None, uid: int, gid: int, fi: Any = None) -> None:
        self._tree.set_owner(self.inode(path, fi), uid, gid)

    def utimens(self, path: str | None, mtime_ns: int | None, fi: Any = None) -> None:
        """None leaves the time as it is: access times are not kept."""
        inode = self.inode(path, fi)
        if mtime_ns is not None:
            self._tree.set_mtime(inode, mtime_ns)

    def getxattr(self, path: str, name: str, _position: int = 0) -> bytes:
        if not name.startswith(OWN_PREFIX):
            # ls asks for others: no need to look for the file.
            raise NotSupported("Only user attributes are kept.")
        return self._xattrs.get(self._tree.resolve(path), name)

    def listxattr(self, path: str) -> list[str]:
        return self._xattrs.names(self._tree.resolve(path))

    def setxattr(self, path: str, name: str, value: bytes, flags: int, _position: int = 0) -> None:
        self._xattrs.set(self._tree.resolve(path), name, value, flags)

    def removexattr(self, path: str, name: str) -> None:
        self._xattrs.remove(self._tree.resolve(path), name)

    # --- open files ---

    def create(self, path: str, mode: int, fi: Any) -> None:
        parent, name = self._parent(path)
        fi.fh = self._files.create(parent, name, mode, fi.flags).number
        fi.direct_io = past_the_page_cache(fi.flags)

    def open(self, path: str, fi: Any) -> None:
        began_s = time.monotonic()
        inode = self._tree.resolve(path)
        fi.fh = self._files.open(inode, fi.flags, pid=self.pid()).number
        with self._lock:
            unmeasured = self._unmeasured.pop(inode, False)
        if unmeasured:
            # Its size is known now, but the kernel may take it for empty until what it was told before has expired.
            time.sleep(max(0.0, began_s + KEPT_S + TICK_S - time.monotonic()))
        fi.direct_io = past_the_page_cache(fi.flags)

    def read(self, fi: Any, offset: int, buffer: memoryview) -> int:
        return self._files.read_into(fi.fh, offset, buffer, self.interrupted)

    def write(self, fi: Any, offset: int, data: memoryview) -> int:
        return self._files.write(fi.fh, offset, data)

    def copy_file_range(self, source_fi: Any, offset: int, fi: Any, to_offset: int, length: int) -> int:
        return self._files.copy_range(source_fi.fh, offset, fi.fh, to_offset, length)

    def truncate(self, path: str | None, length: int, fi: Any = None) -> None:
        self._files.truncate(self.inode(path, fi), length, None if fi is None else fi.fh)

    def fallocate(self, _path: str | None, mode: int, offset: int, length: int, fi: Any) -> None:
        self._files.allocate(fi.fh, mode, offset, length)

    def flush(self, _path: str | None, fi: Any) -> None:
        self._files.flush(fi.fh)

    def fsync(self, _path: str | None, _datasync: int, fi: Any) -> None:
        self._files.sync(fi.fh, self.interrupted)

    def fsyncdir(self, _path: str | None, _datasync: int, _fh: int) -> None:
        self._files.sync_names()

    def release(self, _path: str | None, fi: Any) -> None:
        self._files.release(fi.fh)
