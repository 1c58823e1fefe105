"""The filesystem: its rooms put together, by inode, without FUSE.

Any number of threads may enter at once. `tree` has the names and attributes, `files` the open files, `xattrs` the
extended attributes; each call of theirs is one system call. Errors are those of the `FsError` branch, and what the
store and Drive raise (fuse/errno_map.py has the errno of each).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import NamedTuple

from drivefs.model import Inode, RequestId
from drivefs.store.room import Room
from drivefs.store.store import Store
from drivefs.vfs.durable import Durability
from drivefs.vfs.files import Files
from drivefs.vfs.handle_memory import HandleMemory
from drivefs.vfs.opened import OpenFiles
from drivefs.vfs.ports import Downloader, Mirror
from drivefs.vfs.rights import Rights
from drivefs.vfs.tree import Tree
from drivefs.vfs.writeback import WriteBack
from drivefs.vfs.xattrs import Xattrs

UNKNOWN_BYTES = 1 << 50
"""Shown as size and free space until Drive has told its own."""


class Volume(NamedTuple):
    """What statvfs(3) tells."""

    total_bytes: int
    free_bytes: int


class Vfs:
    """One mounted Drive."""

    def __init__(
        self,
        store: Store,
        mirror: Mirror,
        downloader: Downloader,
        *,
        uid: int | None = None,
        gid: int | None = None,
        umask: int = 0,
        read_only: bool = False,
        fsync_drive: bool = False,
        now_ns: Callable[[], int] = time.time_ns,
        handles: HandleMemory | None = None,
        room: Room | None = None,
    ) -> None:
        """All files belong to `uid` and `gid`, by default those of the process; nothing has
        the permission bits of `umask`. With `fsync_drive`, fsync(2) of a
        file waits for Drive. `handles`: what there is of the process before, for `take_over`; closed by `close`.
        `room` has the limits of the cache."""
        self.uid = os.getuid() if uid is None else uid
        self.gid = os.getgid() if gid is None else gid
        self.news = store.news
        """What changes otherwise than through the three above, for who keeps copies."""
        self._mirror = mirror
        self._now_ns = now_ns
        rights = Rights(store.nodes, self.uid, self.gid, read_only)
        opened = OpenFiles(store, umask)
        self.tree = Tree(store, mirror, downloader, opened, rights, now_ns=now_ns)
        self._durability = Durability(store)
        self.writeback = WriteBack(store, opened)
        self._requests = store.requests
        self._handles = HandleMemory() if handles is None else handles
        self._room = Room(store) if room is None else room
        self.places = self._handles
        """Where the readers of open folders are."""
        self.files = Files(
            store,
            downloader,
            opened,
            self.tree,
            rights,
            self.writeback,
            self._durability if fsync_drive else None,
            self._handles,
            self._room,
        )
        self.xattrs = Xattrs(store, opened, self.tree, rights)

    @property
    def first_slot(self) -> int:
        """RequestId.slot is this or more, and less than this and `handle_memory.SLOTS`."""
        return self._handles.first_slot

    @property
    def first_number(self) -> int:
        """No handle of a process before has this number or a higher one."""
        return self._handles.first_number

    def find_done(self, request: RequestId) -> Inode | None:
        """To which inode the change of names or attributes that comes again was done; None when it was not."""
        return self._requests.find(request.number)

    def volume(self) -> Volume:
        """Drive's quota, without asking for it."""
        space = self._mirror.space()
        if space is None:
            return Volume(UNKNOWN_BYTES, UNKNOWN_BYTES)
        return Volume(space.total_bytes, space.free_bytes)

    def snapshot_open(self, chosen: Callable[[Inode], bool] = lambda inode: True) -> None:
        """Let a flush cover the files that are open now: each is sent as it is, and its writers go on."""
        self.writeback.snapshot_all(chosen)

    def snapshot_due(self) -> None:
        """Send the open files whose turn it is; called every few seconds."""
        self.writeback.snapshot_due(self._now_ns())

    def dirty_open(self) -> int:
        """How many open files are being written."""
        return self.writeback.count_dirty()

    def end_waits(self) -> None:
        """Let no fsync(2) wait for Drive any longer, nor anybody for room."""
        self._durability.end()
        self._room.end_waits()

    def close(self) -> None:
        """Close what is still open, after the mount has gone."""
        self.files.release_all()
        self._handles.close()
