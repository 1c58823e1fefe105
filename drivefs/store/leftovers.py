"""What the process before left of content files: seen to when the cache is opened, before anybody else enters."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from drivefs.errors import CacheDamaged, CacheFull
from drivefs.model import Generation
from drivefs.store.content_points import ContentPoints
from drivefs.store.db import Database
from drivefs.store.disk import write_all
from drivefs.store.generations import Generations
from drivefs.store.write_buffers import LeftWrite


class Leftovers:
    """The content files of one cache, none of them open."""

    def __init__(self, db: Database, rows: Generations, points: ContentPoints, folder: Path) -> None:
        self._db = db
        self._rows = rows
        self._points = points
        self._folder = folder

    def cut(self, generation: Generation, size_bytes: int) -> None:
        """Drop what lies behind `size_bytes`, if anything does."""
        path = self._folder / str(generation)
        try:
            status = path.stat()
        except FileNotFoundError:
            return
        if status.st_size > size_bytes:
            os.truncate(path, size_bytes)
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    def finish(self, write: LeftWrite) -> None:
        """Put in place what was answered. Raises CacheFull, CacheDamaged."""
        try:
            fd = os.open(self._folder / str(write.generation), os.O_WRONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return  # it was unlinked
        try:
            write_all(fd, memoryview(write.data), write.offset)
        except OSError as error:
            why = f"What was written just before a crash has no place ({error.strerror}): make room, and mount again."
            raise (CacheFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else CacheDamaged)(why) from error
        finally:
            os.close(fd)

    def distrust(self, changed: frozenset[Generation]) -> None:
        """After a power cut: forget the CLEAN content that was only fetched, which nobody has flushed; what is in
        `changed` becomes an orphan, for it may have something new too, and of none in there is it known what is a
        copy of Drive's."""
        for generation in self._rows.fetched():
            with self._db.transaction():
                self._rows.forget(generation)
                if generation not in changed:
                    self._db.after_commit(lambda generation=generation: self._points.unlink(generation))  # type: ignore[misc]
        for generation in self._rows.clean():
            if generation in changed or not (self._folder / str(generation)).exists():
                self._rows.forget(generation)
        for generation in changed:
            self._rows.forget_checksums(generation)

    def orphans(self) -> list[Path]:
        """Files that no record knows."""
        known = self._rows.all()
        return [Path(entry.path) for entry in os.scandir(self._folder) if entry.name not in known]
