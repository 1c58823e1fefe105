"""What requests of the kernel's have done, noted in the same commit: one that is sent again is not done twice.

Any thread may enter. A note is good for as long as the kernel's end of the mount lives; each thread that answers
requests has one, the last. Nothing else depends on them.
"""

from __future__ import annotations

from drivefs.model import Inode, RequestId
from drivefs.store.db import Database


class Requests:
    """The rows of `requests`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def note(self, request: RequestId | None, inode: Inode) -> None:
        """The transaction under way does what `request` asks for, to `inode`. None: nobody can ask again."""
        if request is not None:
            self._db.run("INSERT OR REPLACE INTO requests VALUES (?, ?, ?)", (*request, inode))

    def find(self, number: int) -> Inode | None:
        """To which inode the request of that number was done; None when it was not."""
        row = self._db.row("SELECT inode FROM requests WHERE number = ?", (number,))
        return None if row is None else Inode(row[0])

    def forget_all(self) -> None:
        """A new mount begins: its requests have other numbers."""
        self._db.run("DELETE FROM requests")
