"""Files that the kernel reads and writes itself: it is handed the content file, once for all who have that open.

Any thread may enter. The kernel demands one backing file for all opens of an inode at a time (fs/fuse/iomode.c); the
filesystem below promises the same of the files that it gives for that. A backing file belongs to a content and not to
an inode: a file that is opened with O_TRUNC right after a close has another content while that close is under way.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import threading

from drivefs.fuse.kernel import wire
from drivefs.model import Generation
from drivefs.vfs.handles import Handle

log = logging.getLogger(__name__)


class Passthrough:
    """The backing files that the kernel has been given."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = threading.Lock()
        # Guarded by _lock:
        self._backings: dict[Generation, int] = {}  # the kernel's ID
        self._opens: dict[int, tuple[Generation | None, int]] = {}  # by ID: of what, and how many
        self.enabled = False
        """Set once the kernel has agreed to it; cleared when it refuses after all. One assignment."""

    def restore(self, handle: Handle) -> None:
        """The kernel was given a direct handle's file by the process before."""
        file = handle.opened.file
        with self._lock:
            self._count(None if file is None else file.generation, handle.backing)

    def acquire(self, handle: Handle) -> int | None:
        """The ID of the backing file for one more open of a handle's content; None when the kernel refuses."""
        if handle.backing:
            return handle.backing  # restored, and asked for again
        file = handle.opened.file
        assert file is not None  # the handle is direct
        with self._lock:
            backing = self._backings.get(file.generation)
            if backing is None:
                try:
                    backing = fcntl.ioctl(self._fd, wire.DEV_IOC_BACKING_OPEN, wire.backing_map(file.fd))
                except OSError as error:
                    self._refused(error)
                    return None
            self._count(file.generation, backing)
            return backing

    def _count(self, generation: Generation | None, backing: int) -> None:
        if generation is not None:  # else it could not be read when the process took over
            self._backings[generation] = backing
        _, opens = self._opens.get(backing, (generation, 0))
        self._opens[backing] = generation, opens + 1

    def _refused(self, error: OSError) -> None:
        self.enabled = False
        if error.errno == errno.EPERM:
            log.info("The kernel does not hand local files through to this user")
        else:
            log.warning("The kernel does not hand local files through: %s", error.strerror)

    def release(self, backing: int) -> None:
        """One of the opens that have this ID is over."""
        with self._lock:
            generation, opens = self._opens.pop(backing)
            if opens > 1:
                self._opens[backing] = generation, opens - 1
                return
            if generation is not None:
                del self._backings[generation]
            fcntl.ioctl(self._fd, wire.DEV_IOC_BACKING_CLOSE, backing.to_bytes(4, "little"))
