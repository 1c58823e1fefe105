"""The records of the local content files: one row a generation, and the ranges of those that are not whole.

A generation is OPEN while it may change, SEALED while Drive does not have it and it no longer changes, and CLEAN
when it is a copy of a revision on Drive. Any thread may enter; each function is one transaction, or part of the
caller's.
"""

from __future__ import annotations

import sqlite3
import time
from dataclasses import dataclass
from enum import Enum

from drivefs.errors import CacheDamaged
from drivefs.model import DriveId, Generation, Inode, RevisionId
from drivefs.store.db import Database
from drivefs.store.ranges import Ranges
from drivefs.store.sent_ahead import SentAheadRows

_HELD_BYTES = (
    "CASE WHEN whole THEN size_bytes ELSE"
    " (SELECT TOTAL(stop - start) FROM ranges r WHERE r.generation = g.generation) END"
)
"""What a row of `generations` has on the disk."""


class State(Enum):
    """Of a generation. The values are stored."""

    OPEN = "open"
    SEALED = "sealed"
    CLEAN = "clean"


@dataclass(frozen=True, slots=True)
class Base:
    """The revision on Drive that a generation's missing bytes come from."""

    drive_id: DriveId
    revision: RevisionId


class Generations:
    """The rows of `generations` and `ranges`."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.sent_ahead = SentAheadRows(db)

    def add(self, inode: Inode, state: State, size_bytes: int, base: Base | None) -> Generation:
        cursor = self._db.run(
            "INSERT INTO generations (inode, state, size_bytes, whole, base_id, base_revision, used_ns)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                inode,
                state.value,
                size_bytes,
                base is None,
                base and base.drive_id,
                base and base.revision,
                time.time_ns(),
            ),
        )
        return Generation(cursor.lastrowid or 0)

    def get(self, generation: Generation) -> sqlite3.Row:
        """Raises CacheDamaged when there is no such generation."""
        row = self._db.row("SELECT * FROM generations WHERE generation = ?", (generation,))
        if row is None:
            raise CacheDamaged(f"The cache has no record of content file {generation}.")
        return row

    def any_dirty(self) -> bool:
        """Whether there is any that Drive does not have."""
        return self._db.row("SELECT 1 FROM generations WHERE state != ? LIMIT 1", (State.CLEAN.value,)) is not None

    def drop(self, generation: Generation) -> None:
        """Remove it, and note that its file is to go."""
        with self._db.transaction():
            self.remove(generation)
            self._db.run("INSERT OR IGNORE INTO dropped VALUES (?)", (generation,))

    def forget(self, generation: Generation) -> None:
        """Remove a CLEAN one; its node's content is on Drive only."""
        with self._db.transaction():
            self.remove(generation)
            self._db.run("UPDATE nodes SET generation = NULL WHERE generation = ?", (generation,))

    def fetched(self) -> list[Generation]:
        """CLEAN ones whose bytes came from Drive."""
        return self._select("state = ? AND base_id IS NOT NULL", State.CLEAN.value)

    def clean(self) -> list[Generation]:
        return self._select("state = ?", State.CLEAN.value)

    def _select(self, condition: str, *values: object) -> list[Generation]:
        rows = self._db.rows(f"SELECT generation FROM generations WHERE {condition}", values)
        return [Generation(row[0]) for row in rows]

    def all(self) -> set[str]:
        """The names of their files."""
        return {str(row[0]) for row in self._db.rows("SELECT generation FROM generations")}

    def dropped(self) -> list[Generation]:
        return [Generation(row[0]) for row in self._db.rows("SELECT generation FROM dropped")]

    def forget_dropped(self, generations: list[Generation]) -> None:
        self._db.run_many("DELETE FROM dropped WHERE generation = ?", [(each,) for each in generations])

    def remove(self, generation: Generation) -> None:
        with self._db.transaction():
            self._db.run("DELETE FROM generations WHERE generation = ?", (generation,))
            self._db.run("DELETE FROM ranges WHERE generation = ?", (generation,))
            self.forget_checksums(generation)
            self.sent_ahead.forget(generation)

    def base(self, row: sqlite3.Row) -> Base | None:
        return None if row["whole"] else Base(DriveId(row["base_id"]), RevisionId(row["base_revision"]))

    def ranges(self, generation: Generation) -> Ranges:
        """What is here of one that is not whole."""
        ranges = Ranges()
        for start, stop in self._db.rows("SELECT start, stop FROM ranges WHERE generation = ?", (generation,)):
            ranges.add(start, stop)
        return ranges

    def save_ranges(self, generation: Generation, ranges: Ranges) -> None:
        with self._db.transaction():
            self._db.run("DELETE FROM ranges WHERE generation = ?", (generation,))
            for start, stop in ranges:
                self._db.run("INSERT INTO ranges VALUES (?, ?, ?)", (generation, start, stop))

    def checksums(self, generation: Generation) -> tuple[Base, bytes] | None:
        """The revision whose blocks it has, and their checksums (store.blocks)."""
        row = self._db.row("SELECT drive_id, revision, digests FROM checksums WHERE generation = ?", (generation,))
        return None if row is None else (Base(DriveId(row[0]), RevisionId(row[1])), row[2])

    def save_checksums(self, generation: Generation, source: Base, digests: bytes) -> None:
        self._db.run(
            "INSERT OR REPLACE INTO checksums VALUES (?, ?, ?, ?)",
            (generation, source.drive_id, source.revision, digests),
        )

    def forget_checksums(self, generation: Generation) -> None:
        self._db.run("DELETE FROM checksums WHERE generation = ?", (generation,))

    def lose(self, generation: Generation, base: Base) -> None:
        """Nothing of a CLEAN one is here any more; its bytes come from `base`."""
        with self._db.transaction():
            self.forget_checksums(generation)
            self._db.run("DELETE FROM ranges WHERE generation = ?", (generation,))
            self._db.run(
                "UPDATE generations SET whole = 0, base_id = ?, base_revision = ? WHERE generation = ?",
                (base.drive_id, base.revision, generation),
            )

    def mark_whole(self, generation: Generation) -> None:
        with self._db.transaction():
            self._db.run("UPDATE generations SET whole = 1 WHERE generation = ?", (generation,))
            self._db.run("DELETE FROM ranges WHERE generation = ?", (generation,))

    def set_state(self, generation: Generation, state: State, size_bytes: int) -> None:
        self._db.run(
            "UPDATE generations SET state = ?, size_bytes = ? WHERE generation = ?",
            (state.value, size_bytes, generation),
        )

    def mark(self, generation: Generation, state: State) -> None:
        """Another state of the same bytes."""
        self._db.run(
            "UPDATE generations SET state = ?, used_ns = ? WHERE generation = ?",
            (state.value, time.time_ns(), generation),
        )

    def used(self, generation: Generation) -> bool:
        """Note that it was used now; whether it exists."""
        with self._db.transaction():
            cursor = self._db.run(
                "UPDATE generations SET used_ns = ? WHERE generation = ?", (time.time_ns(), generation)
            )
            return cursor.rowcount > 0

    def set_inode(self, generation: Generation, inode: Inode) -> None:
        self._db.run("UPDATE generations SET inode = ? WHERE generation = ?", (inode, generation))

    def set_size(self, generation: Generation, size_bytes: int) -> None:
        self._db.run("UPDATE generations SET size_bytes = ? WHERE generation = ?", (size_bytes, generation))

    def is_in(self, generation: Generation, state: State) -> bool:
        """Whether it exists, and is in this state."""
        row = self._db.row("SELECT state FROM generations WHERE generation = ?", (generation,))
        return row is not None and State(row[0]) is state

    def is_whole(self, generation: Generation) -> bool:
        """Whether every byte of it is here."""
        row = self._db.row("SELECT whole FROM generations WHERE generation = ?", (generation,))
        return row is not None and bool(row[0])

    def clean_bytes(self) -> int:
        """How much of the disk the clean generations take, by their records."""
        row = self._db.row(
            f"SELECT TOTAL({_HELD_BYTES}) FROM generations g WHERE state = ?",
            (State.CLEAN.value,),
        )
        assert row is not None
        return int(row[0])

    def least_recently_used(self) -> list[tuple[Generation, Inode, int]]:
        """Clean generations as (generation, inode, bytes here), the one not used for longest first."""
        return [
            (Generation(row[0]), Inode(row[1]), int(row[2]))
            for row in self._db.rows(
                f"SELECT generation, inode, {_HELD_BYTES} FROM generations g WHERE state = ? ORDER BY used_ns",
                (State.CLEAN.value,),
            )
        ]
