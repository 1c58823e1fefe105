"""A look at a cache folder that no process has in use, without changing or locking anything in it."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from drivefs.errors import CacheDamaged
from drivefs.store.generations import State
from drivefs.store.queue import JobState


@dataclass(frozen=True, slots=True)
class Survey:
    """What waits in a cache for its next mount."""

    jobs: int
    size_bytes: int
    parked: int
    oldest_ns: int | None
    """When the oldest of it first differed from Drive, since the epoch."""
    writing_files: int
    """Files that were being written when its process died."""


def survey(folder: Path) -> Survey:
    """Raises CacheDamaged when there is no database that can be read."""
    try:
        connection = sqlite3.connect(f"file:{quote(str(folder / 'drivefs.db'))}?mode=ro", uri=True)
        try:
            jobs, size_bytes, parked, oldest_ns = connection.execute(
                "SELECT COUNT(*), COALESCE(SUM(g.size_bytes), 0), COALESCE(SUM(j.state != ?), 0), MIN(j.since_ns)"
                " FROM jobs j LEFT JOIN generations g ON g.generation = j.generation",
                (JobState.WAITING.value,),
            ).fetchone()
            writing = connection.execute(
                "SELECT COUNT(*) FROM generations WHERE state = ?", (State.OPEN.value,)
            ).fetchone()[0]
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise CacheDamaged(f"The cache in {folder} cannot be read ({error}).") from error
    return Survey(jobs, size_bytes, parked, oldest_ns, writing)
