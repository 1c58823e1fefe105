"""What changed in the tree otherwise than by who keeps copies of it (the kernel): what those copies must forget.

Any thread may enter. News is noted in the transaction that makes the change, and can be taken once that is committed;
nothing of it is durable, for the copies are not either. Only inodes that copies are kept of are noted, so there is
never more than those.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager

from drivefs.model import Changes, Inode
from drivefs.store.db import Database


class _EveryInode:
    def __contains__(self, _inode: object) -> bool:
        return True


EVERY_INODE: Container[int] = _EveryInode()
"""Of a kernel that was told by another process nobody knows what it keeps."""


class News:
    """The changes that nobody has taken yet."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._kept: Container[int] = ()
        self._muted = 0  # guarded by the database's lock
        self._changed = threading.Condition()
        self._waiting = Changes()  # guarded by _changed
        self._closed = False  # guarded by _changed
        self.mark = 0
        """Grows before anything is noted. Who reads a row, then lets `kept` have its inode, and finds the mark as it
        was before, has not missed a change of the row."""

    def keep(self, kept: Container[int]) -> None:
        """From now on note what happens to the inodes in `kept`, which is asked under the database's lock."""
        self._kept = kept

    @contextmanager
    def muted(self) -> Iterator[None]:
        """Note nothing, within a transaction: it does what somebody asked for who knows what follows."""
        self._muted += 1
        try:
            yield
        finally:
            self._muted -= 1

    # --- noted in the transaction of the change ---

    def name(self, folder: Inode, name: str, gone: Inode | None = None) -> None:
        """A name came into its folder or left it; `gone` where nothing is left of the inode that had it."""
        self._note(folder, lambda changes: changes.names.__setitem__((folder, name), gone))

    def attributes(self, inode: Inode) -> None:
        self._note(inode, lambda changes: changes.attributes.add(inode))

    def contents(self, inode: Inode) -> None:
        """A file has other content."""
        self._note(inode, lambda changes: changes.contents.add(inode))

    def is_kept(self, inode: Inode) -> bool:
        """Whether copies are kept of it, and what happens now is news to them."""
        return not self._muted and inode in self._kept

    def _note(self, inode: Inode, add: Callable[[Changes], None]) -> None:
        with self._db.transaction_lock():
            if self._muted:
                return
            self.mark += 1
            if inode in self._kept:
                self._db.after_commit(lambda: self._publish(add))

    def _publish(self, add: Callable[[Changes], None]) -> None:
        with self._changed:
            add(self._waiting)
            self._changed.notify()

    # --- taken by one thread ---

    def take(self) -> Changes | None:
        """Wait for changes, and take all that there are; None once it is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if self._closed:
                return None
            taken, self._waiting = self._waiting, Changes()
            return taken

    def close(self) -> None:
        """Let nobody wait any longer."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
