"""Tells the kernel what to forget of what it keeps: names, attributes, listings and pages that are no longer right.

Entered by one thread, which answers no requests: the kernel may keep it waiting for one (FUSE_NOTIFY_INVAL_ENTRY
takes the folder's lock, FUSE_NOTIFY_INVAL_INODE those of the pages). It does not matter what comes first: who looked
before the change and has not used the reply yet holds the folder's lock, or finds by the inode's attr_version that
the reply is out of date (fs/fuse/inode.c).
"""

from __future__ import annotations

import errno
import logging
import os

from drivefs.errors import NoEntry
from drivefs.fuse.kernel import wire
from drivefs.fuse.kernel.known import KnownInodes
from drivefs.fuse.kernel.wire import Notification
from drivefs.model import Changes, Inode
from drivefs.vfs.vfs import Vfs

log = logging.getLogger(__name__)

_ATTRIBUTES_ONLY = -1

_GONE = {errno.ENODEV, errno.ECONNABORTED, errno.EBADF, errno.EPERM}
_NOT_KEPT = {errno.ENOENT, errno.ENOTDIR, errno.ENOTEMPTY, errno.EBUSY}
"""It keeps nothing of the kind, or (of a folder that is gone) has dropped it as far as it is not in use."""


class Notifier:
    """Carries the news of a filesystem to the kernel."""

    def __init__(self, fd: int, vfs: Vfs, known: KnownInodes) -> None:
        self._fd = fd
        self._vfs = vfs
        self._known = known

    def run(self) -> None:
        """Until there is no more news to come, or the mount is gone."""
        try:
            while (changes := self._vfs.news.take()) is not None:
                self.tell(changes)
        except ConnectionAbortedError:
            log.debug("There is no kernel any more to be told")

    def tell(self, changes: Changes) -> None:
        """Raises ConnectionAbortedError."""
        for (folder, name), gone in changes.names.items():
            self._forget_name(folder, name, gone)
        # After the names: who was reading the folder has ended then, and what came of it is dropped too.
        for folder in {folder for folder, _ in changes.names}:
            self._forget_inode(folder, 0)
        for inode in changes.attributes - changes.contents:
            self._forget_inode(inode, _ATTRIBUTES_ONLY)
        for inode in changes.contents:
            self._forget_inode(inode, 0)

    def _forget_name(self, folder: Inode, name: str, gone: Inode | None) -> None:
        raw = wire.bytes_of(name)
        if gone is None:
            head = wire.NOTIFY_INVAL_ENTRY_OUT.pack(folder, len(raw), 0)
            self._send(Notification.INVAL_ENTRY, head + raw + b"\0")
        else:
            head = wire.NOTIFY_DELETE_OUT.pack(folder, gone, len(raw), 0)
            self._send(Notification.DELETE, head + raw + b"\0")

    def _forget_inode(self, inode: Inode, offset: int) -> None:
        """Its attributes, and pages from an offset on."""
        body = wire.NOTIFY_INVAL_INODE_OUT.pack(inode, offset, 0)
        if self._send(Notification.INVAL_INODE, body) or inode not in self._known:
            return
        # It is being told of the inode at this moment, by a look that holds the folder's lock.
        try:
            place = self._vfs.tree.place(inode)
        except NoEntry:
            return
        if place is not None:
            parent, raw = place[0], wire.bytes_of(place[1])
            entry = wire.NOTIFY_INVAL_ENTRY_OUT.pack(parent, len(raw), wire.EXPIRE_ONLY)
            self._send(Notification.INVAL_ENTRY, entry + raw + b"\0")
        self._send(Notification.INVAL_INODE, body)

    def _send(self, code: Notification, body: bytes) -> bool:
        """Whether the kernel kept it. Raises ConnectionAbortedError when the mount is gone."""
        try:
            os.write(self._fd, wire.OUT_HEADER.pack(wire.OUT_HEADER.size + len(body), code, 0) + body)
        except OSError as error:
            if error.errno in _GONE:
                raise ConnectionAbortedError from error
            if error.errno not in _NOT_KEPT:
                log.error("The kernel takes no notification %s: %s", code.name, error.strerror)
            return False
        return True
