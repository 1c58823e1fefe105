"""Many files at once, past the API: what would take an hour request by request."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from drivefs.emulator.accounts import Caller
from drivefs.emulator.database import Row, new_revision_id, now_ms
from drivefs.emulator.state import Emulator

_MIME = "application/octet-stream"


def fill(emulator: Emulator, caller: Caller, folder: Row, count: int) -> None:
    """Make `count` empty files in a folder, named `f0000000` and so on; all share one blob."""
    db = emulator.db
    with db.transaction():
        stored = emulator.contents.store_small(b"")
        sums = (stored.size, stored.md5, stored.sha1, stored.sha256)
        first, now = int(db.value("SELECT max(n) FROM files")) + 1, now_ms()
        heads = [new_revision_id() for _ in range(count)]

        def files() -> Iterator[tuple[Any, ...]]:
            for number, head in enumerate(heads):
                name = f"f{number:07d}"
                yield (
                    first + number, db.new_id(), folder["n"], caller.user.n, name, name, _MIME, *sums, head, now, now,
                    caller.user.n, 1, db.next_seq(), now, caller.client,
                )  # fmt: skip

        db.sql.executemany(
            "INSERT INTO files (n, id, parent, owner, name, name_fold, mime, size, md5, sha1, sha256, head,"
            " created_ms, modified_ms, modifier, version, seq, changed_ms, creator_app)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            files(),
        )
        db.sql.executemany(
            "INSERT INTO revisions (id, file, blob, mime, size, md5, sha1, sha256, modified_ms, modifier)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                (head, first + number, stored.blob, _MIME, *sums, now, caller.user.n)
                for number, head in enumerate(heads)
            ),
        )
        emulator.tree.count_child(folder["n"], count)
