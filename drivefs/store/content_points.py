"""What a sync point (store.sync_points) flushes of the content, and what it removes.

Any thread may enter; one sync point at a time. Holds no lock while it waits for the disk.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from drivefs.errors import CacheDamaged
from drivefs.model import Generation
from drivefs.store.content_file import ContentFile
from drivefs.store.db import Database
from drivefs.store.disk import sync_disk
from drivefs.store.generations import Generations, State
from drivefs.store.open_files import OpenFiles

SYNC_ALL_ABOVE = 32
"""More files than this are flushed by one syncfs(2) of the cache's disk: 1,000 small files must not cost 1,000
flushes."""


@dataclass(frozen=True, slots=True)
class Held:
    """What a sync point takes hold of when it begins."""

    opened: list[ContentFile]
    """With a use of each, so that none is closed under the flush."""
    open: list[ContentFile]
    """Those that were OPEN."""
    written_unseen: frozenset[Generation]
    closed: set[Generation]
    """Closed, and not flushed since they were written."""
    dropped: list[Generation]
    all: bool
    """Nobody knows what is flushed."""

    @property
    def any(self) -> bool:
        """Whether there is anything to flush or to remove."""
        return bool(self.all or self.closed or self.dropped or any(file.unsynced for file in self.opened))

    def close(self) -> None:
        for file in self.opened:
            file.close()


class ContentPoints:
    """The content files' part of the sync points of one cache."""

    def __init__(self, db: Database, rows: Generations, opened: OpenFiles[ContentFile], folder: Path) -> None:
        self._db = db
        self._rows = rows
        self._opened = opened
        self._folder = folder
        # Guarded by the database's lock:
        self._dropped: list[Generation] = []  # since the last sync point began
        self._unlinked: list[Generation] = []  # with their rows in `dropped` still there
        self._clean_since: dict[Generation, int] = {}  # the sync point that was current when it became CLEAN
        # What a process before this one has flushed is not known.
        self._all_unsynced = rows.any_dirty()
        self._folder_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def drop(self, generation: Generation) -> None:
        """Its bytes go after the next sync point: until then a power cut brings it back. Part of the caller's
        transaction."""
        self._dropped.append(generation)
        self._db.if_undone(lambda: self._dropped.remove(generation))

    def became_clean(self, generation: Generation) -> None:
        """Drive has it now. Part of the caller's transaction."""
        self._clean_since[generation] = self._db.points.current

    def is_needed(self, generation: Generation) -> bool:
        """Whether it became CLEAN after the last sync point: for that one it still waits for Drive."""
        last = self._db.points.last
        return self._clean_since.get(generation, -1) >= (last.number if last is not None else 0)

    def unlink(self, generation: Generation) -> None:
        """Remove its file now."""
        (self._folder / str(generation)).unlink(missing_ok=True)

    def unlink_dropped(self) -> None:
        """Remove the files that no sync point has seen to; nobody else has entered yet."""
        for generation in self._rows.dropped():
            self._dropped = [each for each in self._dropped if each != generation]
            self.unlink(generation)
            self._unlinked.append(generation)

    def begin(self) -> Held:
        """Take hold of what a sync point must flush; the caller holds the database's lock, gives it to `flush`, and
        closes it."""
        opened = [file for file in self._opened.all() if file.use()]
        with self._opened.lock:
            closed, self._opened.closed_unsynced = self._opened.closed_unsynced, set()
        dropped, self._dropped = self._dropped, []
        return Held(
            opened,
            [file for file in opened if file.state is State.OPEN],
            frozenset(file.generation for file in opened if file.direct_writers),
            closed,
            dropped,
            self._all_unsynced,
        )

    def forget_unlinked(self) -> None:
        """What the last sync point unlinked is no longer noted: this one makes that durable too."""
        if self._unlinked:
            self._rows.forget_dropped(self._unlinked)
            self._db.after_commit(self._unlinked.clear)

    def flush(self, held: Held) -> dict[Generation, int]:
        """Flush what was written before the point; returns the sizes of the OPEN ones as of then. Holds no lock while
        it waits. Raises CacheDamaged; the next one flushes it all again."""
        # Who was writing when the point began is done when its lock can be had, so that is flushed too.
        sizes = {file.generation: file.reach_point() for file in held.open}
        unsynced = [file for file in held.opened if file.begin_sync()]
        try:
            if held.all or len(held.closed) + len(unsynced) > SYNC_ALL_ABOVE:
                sync_disk(self._folder_fd)
            else:
                for file in unsynced:
                    os.fsync(file.fd)
                for generation in held.closed:
                    self._sync_closed(generation)
                os.fsync(self._folder_fd)
        except OSError as error:
            for file in unsynced:
                file.unsynced = True
            raise CacheDamaged(f"The cache could not be flushed to the disk: {error.strerror}.") from error
        return sizes

    def end(self, held: Held) -> None:
        """The point is on the disk: what was dropped before it goes."""
        if held.all:
            self._all_unsynced = False
        for generation in held.dropped:
            self.unlink(generation)
        last = self._db.points.last
        with self._db.transaction_lock():
            self._unlinked += held.dropped
            if last is not None:
                self._clean_since = {each: at for each, at in self._clean_since.items() if at >= last.number}

    def give_back(self, held: Held) -> None:
        """The point has failed: the next one sees to all of it."""
        with self._db.transaction_lock():
            self._dropped = held.dropped + self._dropped
            with self._opened.lock:
                self._opened.closed_unsynced |= held.closed

    @property
    def has_room_coming(self) -> bool:
        """Whether the next sync point makes room."""
        return bool(self._dropped or self._clean_since)

    def _sync_closed(self, generation: Generation) -> None:
        try:
            fd = os.open(self._folder / str(generation), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return  # discarded meanwhile
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def close(self) -> None:
        os.close(self._folder_fd)
