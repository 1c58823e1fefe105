"""The content files that are open, each by one object for all who use it.

Any thread may enter. Locks are taken in one order: a file's lock, the database's, that of the table.
"""

from __future__ import annotations

import os
import threading
from typing import Any, Generic, NamedTuple, TypeVar

from cachetools import LRUCache

from drivefs.model import Generation, Inode
from drivefs.store.db import Database
from drivefs.store.generations import Base, Generations, State
from drivefs.store.ranges import Ranges
from drivefs.store.writes_behind import WritesBehind

COMPARED_FILES = 20_000
"""Of so many closed ones it is known what was compared of them: some 8 MB."""

COMPARED_PARTS = 64
"""Of a file that was compared in more parts than this it is not kept."""


class Fingerprint(NamedTuple):
    """Differs after any write that came after an earlier look: the kernel gives those a later time (since Linux 6.13
    always, before if they are a tick of some 4 ms apart). Stores into a map count once they are flushed."""

    size_bytes: int
    mtime_ns: int
    ctime_ns: int


class Compared(NamedTuple):
    """What was compared with its checksums, of a file that has not changed since."""

    fingerprint: Fingerprint
    blocks: tuple[tuple[int, int], ...]
    """Ranges of their numbers."""


class Opened:
    """A generation that is open: its descriptor, who uses it, and what of it is here.

    `lock` guards `base` and `ranges` and orders writes against fills; it is held for one disk access at most.
    """

    def __init__(
        self, opened: OpenFiles[Any], generation: Generation, inode: Inode, state: State, base: Base | None
    ) -> None:
        self.generation = generation
        self.inode = inode
        self.lock = threading.RLock()
        self._opened = opened
        self._fd = -1
        self._behind: WritesBehind | None = None  # None: there never was any
        self._users = 0  # guarded by OpenFiles.lock
        # Guarded by lock:
        self.base = base  # None: every byte that the file has is right
        self.ranges = Ranges()  # meaningful while base is set
        self.fetched_bytes = 0  # of `ranges`, from Drive since they were saved
        self.unsynced = False
        # Guarded by the database's lock:
        self.state = state
        self.claims = 0

    @property
    def fd(self) -> int:
        """The open file, with all that was written to it."""
        self.settle()
        return self._fd

    @property
    def is_behind(self) -> bool:
        """Whether a write that was answered is not in place yet."""
        return self._behind is not None and self._behind.any

    def settle(self) -> None:
        """Put in place what was answered. Whoever looks at the bytes, the size or the times needs that."""
        if self._behind is not None and self._behind.any:
            self._behind.settle()

    @property
    def users(self) -> int:
        """How many uses of it there are at this moment."""
        return self._users

    @property
    def size_bytes(self) -> int:
        return os.fstat(self.fd).st_size

    @property
    def mtime_ns(self) -> int:
        return os.fstat(self.fd).st_mtime_ns

    def fingerprint(self) -> Fingerprint:
        status = os.fstat(self.fd)
        return Fingerprint(status.st_size, status.st_mtime_ns, status.st_ctime_ns)

    def gaps(self, start: int, stop: int) -> list[tuple[int, int]]:
        """What of [start, stop) must be fetched before it can be read."""
        with self.lock:
            if self.base is None:
                return []
            return self.ranges.gaps(start, min(stop, self.size_bytes))

    def here(self, start: int, stop: int) -> list[tuple[int, int]]:
        """What of [start, stop) can be read."""
        with self.lock:
            stop = min(stop, self.size_bytes)
            if self.base is not None:
                return self.ranges.within(start, stop)
            return [(start, stop)] if start < stop else []

    def save_ranges(self) -> None:
        """Note which ranges are here."""
        self._opened.rows.save_ranges(self.generation, self.ranges)
        self.fetched_bytes = 0

    def compared(self) -> Compared | None:
        """What was compared of it, for the next one who opens it; None where that is not known."""
        return None

    def use(self) -> bool:
        """Take one more use of it, given back by `close`; False when the last one was given back already."""
        return self._opened.use(self)

    def close(self) -> None:
        """Give back one use of it."""
        self._opened.release(self)


F = TypeVar("F", bound=Opened)


class OpenFiles(Generic[F]):
    """The generations that somebody has open."""

    def __init__(self, db: Database, rows: Generations) -> None:
        self.rows = rows
        self.points = db.points
        self.db = db
        self.lock = threading.RLock()
        # Guarded by lock:
        self._files: dict[Generation, F] = {}
        self.closed_unsynced: set[Generation] = set()
        self._compared: LRUCache[Generation, Compared] = LRUCache(COMPARED_FILES)
        # These only ever grow, and more or less tell how much there was:
        self.filled_bytes = 0
        self.sent_bytes = 0
        self.damaged_blocks = 0
        self.mended_blocks = 0

    def all(self) -> list[F]:
        with self.lock:
            return list(self._files.values())

    def find(self, generation: Generation) -> F | None:
        with self.lock:
            return self._files.get(generation)

    def find_used(self, generation: Generation) -> F | None:
        """With one more use of it, for the caller to give back."""
        with self.lock:
            file = self._files.get(generation)
            if file is not None:
                file._users += 1
            return file

    def add(self, file: F, fd: int) -> F:
        """Enter a generation that was opened as `fd`; returns the first one that entered it, with one more use."""
        with self.lock:
            first = self._files.setdefault(file.generation, file)
            first._users += 1
            if first is file:
                file._fd = fd
        if first is not file:
            os.close(fd)
        return first

    def take_back(self, file: F) -> bool:
        """Take out a file whose making was undone; whether it had been opened."""
        with self.lock:
            self._files.pop(file.generation, None)
            file._users = 0
            fd, file._fd = file.fd, -1
        if fd >= 0:
            os.close(fd)
        return fd >= 0

    def use(self, file: F) -> bool:
        """What Opened.use does."""
        with self.lock:
            if not file._users:
                return False
            file._users += 1
            return True

    def release(self, file: F) -> None:
        """What Opened.close does."""
        # The database's lock keeps those who open it anew from reading its ranges before they are saved.
        with self.db.transaction_lock():
            with self.lock:
                file._users -= 1
                if file._users or file._fd < 0:
                    return
                self._files.pop(file.generation, None)
                if file.unsynced:
                    self.closed_unsynced.add(file.generation)
                self._remember(file.generation, file.compared())
            if file.state is State.CLEAN:
                with self.db.transaction():
                    if self.rows.used(file.generation) and file.base is not None:
                        file.save_ranges()
        os.close(file.fd)

    def release_claim(self, file: F) -> None:
        """What Claim.close does."""
        with self.db.transaction_lock():
            file.claims -= 1
        file.close()

    # --- what was compared with its checksums ---

    def _remember(self, generation: Generation, compared: Compared | None) -> None:
        if compared is not None and len(compared.blocks) <= COMPARED_PARTS:
            self._compared[generation] = compared
        else:
            self._compared.pop(generation, None)

    def compared(self, generation: Generation, fingerprint: Fingerprint) -> Ranges:
        """The numbers of the blocks that were compared already, since this process began, of a file that looks so."""
        with self.lock:
            found = self._compared.get(generation)
        return Ranges(found.blocks) if found is not None and found.fingerprint == fingerprint else Ranges()
