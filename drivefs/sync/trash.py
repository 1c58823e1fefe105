"""The trash: what this mount made and trashed counts against the quota, so it does not stay there for ever.

Drive itself empties the trash after 30 days. Rotated checkpoints would fill it long before, so beyond a limit the
oldest of them are deleted for good; and before anything waits for room on a full Drive. Never what somebody else
made, what was restored or changed since, and never within an hour unless Drive is full: an `rm` by mistake can be
undone.

Entered by one thread of the uploader's at a time. A row of `trashed` is written with the removal that it is about.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable

from drivefs.drive.api import Drive
from drivefs.errors import RemoteNotFound
from drivefs.model import DriveId, RevisionId, TrashLimit
from drivefs.store.store import Store

log = logging.getLogger(__name__)

REGRET_S = 3600.0
"""What was trashed less than an hour ago can be restored, unless its room is needed."""


class Trash:
    """What this mount has put into Drive's trash."""

    def __init__(self, store: Store, drive: Drive, limit: TrashLimit, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._drive = drive
        self._limit = limit
        self._clock = clock

    def sweep(self) -> int:
        """Delete for good what is beyond the limit, oldest first; the bytes freed. Raises DriveError."""
        freed = 0
        now_s = self._clock()
        total = sum(int(row["size_bytes"]) for row in self._rows())
        for row in self._rows():
            age_s = now_s - row["trashed_ns"] / 1e9
            too_much = self._limit.size_bytes is not None and total > self._limit.size_bytes
            too_old = self._limit.age_s is not None and age_s > self._limit.age_s
            if age_s < REGRET_S or not (too_much or too_old):
                break  # the rest is younger
            total -= row["size_bytes"]
            freed += self._delete(row["drive_id"], row["revision"], row["size_bytes"])
        return freed

    def make_room(self, size_bytes: int) -> int:
        """Delete for good, oldest first, until `size_bytes` are free or nothing of ours is left; the bytes freed.
        Raises DriveError."""
        freed = 0
        for row in self._rows():
            if freed >= size_bytes:
                break
            freed += self._delete(row["drive_id"], row["revision"], row["size_bytes"])
        if freed:
            log.info("Drive is full: %d bytes of older files of ours were deleted from the trash.", freed)
        return freed

    def _rows(self) -> list[sqlite3.Row]:
        return self._store.db.rows("SELECT * FROM trashed ORDER BY trashed_ns")

    def _delete(self, drive_id: DriveId, revision: RevisionId | None, size_bytes: int) -> int:
        try:
            file = self._drive.get(drive_id)
        except RemoteNotFound:
            freed = 0
        else:
            ours = file.trashed and file.revision == revision
            if ours:
                self._drive.delete(drive_id)
            freed = size_bytes if ours else 0
        self._store.db.run("DELETE FROM trashed WHERE drive_id = ?", (drive_id,))
        return freed
