"""The inodes that are open, each with its one live content, and how any inode looks right now.

Any thread may enter. Locks are taken in one order: an OpenFile's, a content file's, the database's, the store's.
The table itself and the counts of uses change under the database's lock only, together with the rows: so a file
that was unlinked and is open nowhere is forgotten in the same instant, and nobody can open it in between.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from drivefs.errors import Stale
from drivefs.model import Inode, Kind
from drivefs.store.content_file import ContentFile
from drivefs.store.generations import State
from drivefs.store.node import Node
from drivefs.store.store import Store

_WRITE_BITS = 0o222


class Attributes(NamedTuple):
    """What stat(2) tells of an inode, but for its owner, who is the mount's. Times are in nanoseconds."""

    inode: Inode
    kind: Kind
    mode: int
    """Permission bits only."""
    links: int
    """1, and 0 once it is unlinked. Folders say 1 too: what lies in them is not counted."""
    size_bytes: int
    mtime_ns: int
    ctime_ns: int
    measured: bool = True
    """False: the size of a Google document that was not exported yet, which is not known, or of a shortcut, which
    changes with what it leads to."""


class OpenFile:
    """One inode that is in use; shared by all its handles."""

    __slots__ = (
        *("busy", "direct", "file", "indirect", "inode", "lock", "sealed", "sealed_ns", "sent", "sent_ns", "uses"),
    )

    def __init__(self, inode: Inode) -> None:
        self.inode = inode
        self.lock = threading.RLock()
        self.uses = 0  # guarded by the database's lock
        # Guarded by lock; `file` may be read without it by those who take a use of it first:
        self.file: ContentFile | None = None  # None until someone needs the content
        self.busy = 0  # writing handles that were not closed since they last wrote
        # Handles through which the kernel reads and writes `file` itself, and the others. There is only one kind at a
        # time, and while it is the first, `file` stays what it is.
        self.direct = 0
        self.indirect = 0
        self.sealed: tuple[int, int, int] | None = None  # the content's fingerprint when it was sealed
        self.sealed_ns = 0  # when that was
        self.sent: tuple[int, int] | None = None  # size and mtime of the last snapshot
        self.sent_ns: int | None = None  # when that was taken, or when the file was first seen open

    @property
    def dirty(self) -> bool:
        """Whether its content is being written."""
        file = self.file
        return file is not None and file.state is State.OPEN


class OpenFiles:
    """The table of open inodes."""

    def __init__(self, store: Store, umask: int = 0) -> None:
        """`umask` has the permission bits that nothing shows."""
        self._store = store
        self._umask = umask
        self._lock = store.db.transaction_lock()
        self._table: dict[Inode, OpenFile] = {}  # guarded by the database's lock

    def acquire(self, inode: Inode) -> OpenFile:
        """One use of an inode, given back by `release`. Raises NoEntry."""
        with self._lock:
            self._store.nodes.get(inode)
            opened = self._table.get(inode)
            if opened is None:
                opened = self._table[inode] = OpenFile(inode)
            opened.uses += 1
            return opened

    def acquire_named(self, inode: Inode) -> OpenFile:
        """`acquire` of what a name led to. Raises Stale when it has lost that, and its content, since."""
        with self._lock:
            node = self._store.nodes.find(inode)
            if node is None or (node.unnamed and inode not in self._table):
                raise Stale("The file was removed or replaced while it was being opened: open it again.")
            return self.acquire(inode)

    def release(self, opened: OpenFile) -> None:
        """Give a use back; after the last one, an unlinked inode is gone."""
        with self._lock:
            opened.uses -= 1
            if opened.uses:
                return
            del self._table[opened.inode]
            node = self._store.nodes.find(opened.inode)
            if opened.file is not None and node is not None and opened.file.generation != node.generation:
                self._store.news.attributes(opened.inode)  # it showed the size of an old revision
            self.forget_unnamed(opened.inode)
        # Outside of the lock: the last close of a large unlinked file takes the disk its time.
        if opened.file is not None:
            opened.file.close()

    @contextmanager
    def used(self, inode: Inode) -> Iterator[OpenFile]:
        """A use, and its lock, for the time of one call."""
        opened = self.acquire(inode)
        try:
            with opened.lock:
                yield opened
        finally:
            self.release(opened)

    def keep_content(self, node: Node) -> None:
        """A file loses its name, and perhaps its place on Drive: who has it open can fetch its bytes all the same.
        Part of the caller's transaction."""
        with self._lock:
            if node.kind is not Kind.FILE or node.export is not None or node.generation is not None:
                return
            if node.inode in self._table and node.revision:
                self._store.remote_content(node).close()

    def forget_unnamed(self, inode: Inode) -> None:
        """Drop an unlinked inode that nobody has open; part of the caller's transaction, if there is one."""
        with self._lock:
            node = self._store.nodes.find(inode)
            if inode in self._table:
                if node is not None and node.frozen:
                    self._store.journal.keep_frozen(inode)
            elif node is not None and node.gone:
                self._store.journal.forget_unnamed(inode)

    def all(self) -> list[OpenFile]:
        with self._lock:
            return list(self._table.values())

    def is_dirty(self, inode: Inode) -> bool:
        """Whether the inode's content is being written."""
        opened = self._table.get(inode)
        return opened is not None and opened.dirty

    def load_if_exported(self, opened: OpenFile) -> bool:
        """`load`, but for a Google document that has no content yet; whether it is loaded."""
        with self._lock:
            node = self._store.nodes.get(opened.inode)
            if opened.file is None and node.export is not None and node.generation is None:
                return False
            self.load(opened)
            return True

    def load(self, opened: OpenFile) -> ContentFile:
        """The live content of an inode; the caller holds its lock. Raises CacheDamaged, CacheFull."""
        file = opened.file
        if file is None:
            with self._lock:
                node = self._store.nodes.get(opened.inode)
                file = self._store.content_of(node)
            opened.file = file
        return file

    # --- how it looks ---

    def attributes(self, inode: Inode) -> Attributes:
        """Raises NoEntry."""
        with self._lock:
            return self.describe(self._store.nodes.get(inode))

    def describe(self, node: Node) -> Attributes:
        """How a node read under the database's lock looks, by a caller who still holds it."""
        size_bytes, mtime_ns, ctime_ns = node.size_bytes, node.mtime_ns, node.ctime_ns
        measured = node.measured
        if node.points_to is not None:
            size_bytes, measured = len(self._store.nodes.leads_to(node).encode(errors="surrogateescape")), False
        opened = self._table.get(node.inode)
        if opened is not None:
            live = _stat_if_dirty(opened)
            if live is not None:
                size_bytes, mtime_ns, ctime_ns = live.st_size, live.st_mtime_ns, max(ctime_ns, live.st_ctime_ns)
            elif opened.file is not None and opened.file.generation != node.generation and opened.file.use():
                # An old revision: whoever has it open could not read beyond the size that the kernel knows.
                size_bytes, measured = opened.file.size_bytes, True
                opened.file.close()
        mode = node.mode if node.writable and node.export is None else node.mode & ~_WRITE_BITS
        mode &= ~self._umask
        links = 0 if node.gone else 1
        return Attributes(node.inode, node.kind, mode, links, size_bytes, mtime_ns, ctime_ns, measured)


def _stat_if_dirty(opened: OpenFile) -> os.stat_result | None:
    """Size and times of content that is being written, or may be by the kernel. The row has them right while it is
    not, and while one content is being swapped for another."""
    file = opened.file
    if file is None or not (file.state is State.OPEN or file.direct_writers) or not file.use():
        return None
    try:
        return os.fstat(file.fd)
    finally:
        file.close()
