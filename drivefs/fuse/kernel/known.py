"""The inodes that the kernel knows: it counts each reply that names one, and gives the counts back by FORGET.

Any thread may enter. Nothing here is durable: a new mount begins with a kernel that knows the root only, and of a
kernel that was another process's nobody can tell.
"""

from __future__ import annotations

import threading

from drivefs.model import ROOT_INODE, Inode


class KnownInodes:
    """How often the kernel was told of each inode."""

    def __init__(self, *, all_of_them: bool = False) -> None:
        """`all_of_them`: the kernel may know any inode, for it was told by another process."""
        self._lock = threading.Lock()
        self._all = all_of_them
        self._lookups: dict[int, int] = {}  # guarded by _lock

    def __contains__(self, inode: object) -> bool:
        return self._all or inode in self._lookups or inode == ROOT_INODE

    def __len__(self) -> int:
        return len(self._lookups)

    def told(self, inode: Inode) -> None:
        """A reply names `inode` once more."""
        with self._lock:
            self._lookups[inode] = self._lookups.get(inode, 0) + 1

    def forget(self, inode: int, lookups: int) -> bool:
        """The kernel gives back `lookups` of its counts; whether it no longer knows the inode."""
        with self._lock:
            left = self._lookups.get(inode, 0) - lookups
            if left > 0:
                self._lookups[inode] = left
                return False
            self._lookups.pop(inode, None)
            return True
