"""The way out of the tree: into the trash, back from it, and for good. Callers hold the transaction."""

from __future__ import annotations

from drivefs.emulator.accounts import Caller
from drivefs.emulator.database import Row, now_ms
from drivefs.emulator.errors import no_permission, not_writable
from drivefs.emulator.heads import Heads
from drivefs.emulator.tree import Tree


class Removal:
    """Trashing and deleting, with all that lies below."""

    def __init__(self, tree: Tree, heads: Heads) -> None:
        self.tree = tree
        self.db = tree.db
        self._heads = heads

    def set_trashed(self, row: Row, trashed: bool) -> None:
        if row["is_root"]:
            raise no_permission()
        if trashed and not row["explicitly_trashed"]:
            self.tree.touch(row["n"], explicitly_trashed=1, trashed_ms=now_ms())
            self.spread_trash(row["n"], True)
        elif not trashed and row["explicitly_trashed"]:
            parent = None if row["parent"] is None else self.tree.by_n(row["parent"])
            self.tree.touch(row["n"], explicitly_trashed=0, trashed_ms=None)
            self.spread_trash(row["n"], bool(parent is not None and parent["trashed"]))
        elif not trashed and row["trashed"]:
            raise not_writable("The file is in a trashed folder: untrash that one.")

    def spread_trash(self, n: int, trashed: bool) -> None:
        """Set `trashed` from the item downward; what was trashed by itself stays so."""
        if trashed:
            self.db.run(self.tree.subtree() + "UPDATE files SET trashed = 1 WHERE n IN below", (n,))
            return
        self.db.run(
            "WITH RECURSIVE below(n) AS (VALUES(?) UNION ALL SELECT f.n FROM files f JOIN below b ON f.parent = b.n"
            " WHERE f.explicitly_trashed = 0) UPDATE files SET trashed = 0 WHERE n IN below",
            (n,),
        )

    def delete(self, caller: Caller, file_id: str, *, all_drives: bool) -> None:
        """For good, with all that lies below."""
        with self.db.transaction():
            row = self.tree.get(file_id, caller, all_drives=all_drives)
            self.tree.need(row, caller, "organizer" if row["drive"] else "owner")
            if row["is_root"]:
                raise no_permission()
            self.remove(row)

    def remove(self, row: Row) -> None:
        """Delete without asking; what others own below loses its parent instead."""
        gone = []
        for each in self.tree.below(row["n"]):
            if each["owner"] == row["owner"]:
                gone.append(each)
            else:
                self.tree.touch(each["n"], parent=None)
        for each in gone:
            self.tree.charge(each["owner"], -self.tree.quota_bytes(each))
            for revision in self.db.rows("SELECT n FROM revisions WHERE file = ?", (each["n"],)):
                self._heads.drop(revision["n"])
            self.tombstone(each)
            self.db.run("DELETE FROM permissions WHERE file = ?", (each["n"],))
            self.db.run("DELETE FROM user_state WHERE file = ?", (each["n"],))
            self.db.run("DELETE FROM files WHERE n = ?", (each["n"],))
        self.tree.forget_counts()

    def tombstone(self, row: Row) -> None:
        """Entries in the changes feeds of all who saw the item."""
        if row["drive"]:
            self._removal(row["id"], None, row["drive"])
            return
        users = {row["owner"]}
        if self.tree.any_sharing:
            users |= {
                entry["n"]
                for entry in self.db.rows("SELECT n FROM users")
                if self.tree.role(row, Caller(self.tree.accounts.by_n(entry["n"]), "", frozenset({"drive"})))
            }
        for user in users:
            self._removal(row["id"], user, None)

    def _removal(self, file_id: str, user: int | None, drive: str | None) -> None:
        self.db.run(
            "INSERT INTO removals VALUES (?, ?, ?, ?, ?)", (self.db.next_seq(), file_id, user, drive, now_ms())
        )

    def empty_trash(self, caller: Caller, drive: str | None) -> None:
        """Delete all that was put into the trash itself."""
        with self.db.transaction():
            where, argument = ("drive = ?", drive) if drive else ("owner = ?", caller.user.n)
            for row in self.db.rows(f"SELECT * FROM files WHERE {where} AND explicitly_trashed = 1", (argument,)):
                if self.tree.find(row["id"]) is not None:
                    self.remove(row)
