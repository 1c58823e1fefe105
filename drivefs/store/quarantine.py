"""Content that nobody can vouch for: kept beside the cache for the person, shown in `status`, never sent or deleted.

Any thread may enter.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from drivefs.store.db import Database
from drivefs.store.sync_points import sync_folder


@dataclass(frozen=True, slots=True)
class Quarantined:
    """One file in quarantine."""

    file: Path
    path: str
    """What it was in the mount; "" where nothing tells."""
    size_bytes: int
    reason: str


class Quarantine:
    """The folder, and what is known of the files in it."""

    def __init__(self, db: Database, folder: Path) -> None:
        self._db = db
        self._folder = folder

    def take(self, file: Path, path: str, reason: str) -> None:
        """Move a file of the cache into it; `sync` makes that last. Raises OSError."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        stem = path.rpartition("/")[2][-100:] or "unknown"
        now_ns = time.time_ns()
        for number in range(1_000_000):
            target = self._folder / (f"{file.name}-{stem}" if not number else f"{file.name}-{number}-{stem}")
            if not target.exists():
                break
        self._db.run("INSERT OR REPLACE INTO quarantined VALUES (?, ?, ?, ?)", (target.name, path, reason, now_ns))
        os.replace(file, target)

    def sync(self) -> None:
        """What was taken is there after a power cut: before its old folder is flushed. Raises OSError."""
        sync_folder(self._folder)
        sync_folder(self._folder.parent)

    def all(self, path: str | None = None) -> list[Quarantined]:
        """What is still there, the newest first; of one path of the mount, or all."""
        found = []
        for row in self._db.rows("SELECT file, path, reason FROM quarantined ORDER BY found_ns DESC, file"):
            if path is None or row["path"] == path:
                file = self._folder / row["file"]
                try:
                    size_bytes = file.stat().st_size
                except FileNotFoundError:
                    continue  # the person has taken it away
                found.append(Quarantined(file, row["path"], size_bytes, row["reason"]))
        return found
