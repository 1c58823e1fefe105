"""What of contents has left for Drive before they are sealed, or before their turn: the rows of `sent_ahead`.

A row says that a session holds the beginning of a generation. It is not trusted after a crash: whoever goes on with
it compares the digest of what was sent with the content first. Any thread may enter; each function is one
transaction, or part of the caller's. A row is committed before the bytes that it speaks of leave, and its removal
before a byte of them changes.
"""

from __future__ import annotations

from dataclasses import dataclass

from drivefs.model import DriveId, Generation, SessionUri
from drivefs.store.db import Database

DIGEST_BYTES = 16


@dataclass(frozen=True, slots=True)
class SentAhead:
    """A row of `sent_ahead`; the columns' meaning stands in schema.SCHEMA."""

    generation: Generation
    drive_id: DriveId
    fresh: bool
    session: SessionUri
    base_bytes: int
    grain_bytes: int
    digests: bytes

    def digest_at(self, offset: int) -> bytes | None:
        """The md5 of the first `offset` bytes as they were sent; None where that was not noted."""
        grains, rest = divmod(offset - self.base_bytes, self.grain_bytes)
        found = self.digests[grains * DIGEST_BYTES : (grains + 1) * DIGEST_BYTES] if grains >= 0 else b""
        return found if found and not rest else None


class SentAheadRows:
    """The rows of `sent_ahead`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def begin(
        self, generation: Generation, drive_id: DriveId, session: SessionUri, *, fresh: bool, grain_bytes: int
    ) -> bool:
        """Note a session of which nothing has been sent; whether the generation is still there."""
        with self._db.transaction():
            if self._db.row("SELECT 1 FROM generations WHERE generation = ?", (generation,)) is None:
                return False
            self._db.run(
                "INSERT OR REPLACE INTO sent_ahead VALUES (?, ?, ?, ?, 0, ?, x'')",
                (generation, drive_id, fresh, session, grain_bytes),
            )
            return True

    def note(self, generation: Generation, base_bytes: int, digests: bytes) -> bool:
        """Note what is about to leave; False when the session was given up meanwhile."""
        cursor = self._db.run(
            "UPDATE sent_ahead SET base_bytes = ?, digests = ? WHERE generation = ?",
            (base_bytes, digests, generation),
        )
        return cursor.rowcount > 0

    def find(self, generation: Generation) -> SentAhead | None:
        row = self._db.row("SELECT * FROM sent_ahead WHERE generation = ?", (generation,))
        if row is None:
            return None
        return SentAhead(
            generation=generation,
            drive_id=DriveId(row["drive_id"]),
            fresh=bool(row["fresh"]),
            session=SessionUri(row["session"]),
            base_bytes=row["base_bytes"],
            grain_bytes=row["grain_bytes"],
            digests=row["digests"],
        )

    def forget(self, generation: Generation) -> None:
        """The session is not gone on with."""
        self._db.run("DELETE FROM sent_ahead WHERE generation = ?", (generation,))

    def others_wait(self, size_bytes: int) -> bool:
        """Whether content of more than `size_bytes` waits of which nothing was sent ahead."""
        row = self._db.row(
            "SELECT 1 FROM generations g INDEXED BY generations_sealed"
            " CROSS JOIN jobs j ON j.generation = g.generation"
            " WHERE g.state = 'sealed' AND g.size_bytes > ? AND j.state = 'waiting'"
            " AND NOT EXISTS (SELECT 1 FROM sent_ahead a WHERE a.generation = j.generation) LIMIT 1",
            (size_bytes,),
        )
        return row is not None
