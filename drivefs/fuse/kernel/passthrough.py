"""Files that the kernel reads and writes itself: it is handed the content file, once for all who have an inode open.

Any thread may enter. The kernel demands one backing file for all opens of an inode at a time (fs/fuse/iomode.c); the
filesystem below promises the same of the files that it gives for that.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import threading

from drivefs.fuse.kernel import wire
from drivefs.vfs.handles import Handle

log = logging.getLogger(__name__)


class Passthrough:
    """The backing files that the kernel has been given."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = threading.Lock()
        self._backings: dict[int, tuple[int, int]] = {}  # inode → ID and how many opens; guarded by _lock
        self.enabled = False
        """Set once the kernel has agreed to it; cleared when it refuses after all. One assignment."""

    def restore(self, handle: Handle) -> None:
        """The kernel was given a direct handle's file by the process before."""
        with self._lock:
            _, opens = self._backings.get(handle.opened.inode, (0, 0))
            self._backings[handle.opened.inode] = handle.backing, opens + 1

    def acquire(self, handle: Handle) -> int | None:
        """The ID of the backing file for one more open of a handle's inode; None when the kernel refuses."""
        if handle.backing:
            return handle.backing  # restored, and asked for again
        file = handle.opened.file
        assert file is not None  # the handle is direct
        inode = handle.opened.inode
        with self._lock:
            backing, opens = self._backings.get(inode, (0, 0))
            if not opens:
                try:
                    backing = fcntl.ioctl(self._fd, wire.DEV_IOC_BACKING_OPEN, wire.backing_map(file.fd))
                except OSError as error:
                    self._refused(error)
                    return None
            self._backings[inode] = backing, opens + 1
            return backing

    def _refused(self, error: OSError) -> None:
        self.enabled = False
        if error.errno == errno.EPERM:
            log.info("The kernel does not hand local files through to this user")
        else:
            log.warning("The kernel does not hand local files through: %s", error.strerror)

    def release(self, inode: int) -> None:
        """One of the opens is over."""
        with self._lock:
            backing, opens = self._backings.pop(inode)
            if opens > 1:
                self._backings[inode] = backing, opens - 1
                return
            fcntl.ioctl(self._fd, wire.DEV_IOC_BACKING_CLOSE, backing.to_bytes(4, "little"))
