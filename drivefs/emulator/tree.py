"""The tree of items, and who may see and do what in it."""

from __future__ import annotations

import json
from typing import Any

from drivefs.emulator.accounts import FOLDER_MIME, Accounts, Caller
from drivefs.emulator.content import Contents
from drivefs.emulator.database import Database, Row, now_ms
from drivefs.emulator.errors import ApiError, no_permission, not_found

RANKS = {"reader": 1, "commenter": 2, "writer": 3, "fileOrganizer": 4, "organizer": 5, "owner": 6}
"""Roles by what they may; each may all that those before it may."""

MAX_DEPTH = 100
MAX_CHILDREN = 500_000
MAX_DRIVE_ITEMS = 500_000

_BELOW = """
WITH RECURSIVE below(n) AS (
    VALUES(?) UNION ALL SELECT f.n FROM files f JOIN below b ON f.parent = b.n
)
"""


class Tree:
    """Looking things up, and the bookkeeping that every change needs."""

    def __init__(self, db: Database, contents: Contents, accounts: Accounts, storage_bytes: int | None) -> None:
        self.db = db
        self.contents = contents
        self.accounts = accounts
        self.storage_bytes = storage_bytes
        self._children: dict[int, int] = {}
        self.any_sharing = bool(db.value("SELECT 1 FROM permissions LIMIT 1"))
        """False until something is shared: then ownership alone decides, without walking up."""

    # --- finding ---

    def by_n(self, n: int) -> Row:
        row = self.db.row("SELECT * FROM files WHERE n = ?", (n,))
        if row is None:
            raise KeyError(n)
        return row

    def find(self, file_id: str) -> Row | None:
        return self.db.row("SELECT * FROM files WHERE id = ?", (file_id,))

    def get(self, file_id: str, caller: Caller, *, all_drives: bool = True) -> Row:
        """The item, by ID or as `root`; 404 when it is not there for this caller."""
        if file_id == "root":
            if caller.user.root is None:
                raise not_found(".")
            return self.by_n(caller.user.root)
        row = self.find(file_id)
        if row is None or (row["drive"] and not all_drives) or self.role(row, caller) is None:
            raise not_found(file_id)
        if caller.only_own_files and row["creator_app"] != caller.client and not row["is_root"]:
            raise not_found(file_id)
        return row

    def role(self, row: Row, caller: Caller) -> str | None:
        """The caller's best role on the item, its own or inherited; None when there is none."""
        user = caller.user.n
        if row["owner"] == user:
            return "owner"
        if not self.any_sharing:
            return None
        best, rank = None, 0
        at: Row | None = row
        while at is not None:
            found = ["writer"] if at["owner"] == user else []
            found += [
                grant["role"]
                for grant in self.db.rows(
                    "SELECT role FROM permissions WHERE file = ? AND (user = ? OR type = 'anyone')", (at["n"], user)
                )
            ]
            for role in found:
                if RANKS[role] > rank:
                    best, rank = role, RANKS[role]
            at = None if at["parent"] is None else self.db.row("SELECT * FROM files WHERE n = ?", (at["parent"],))
        return best

    def need(self, row: Row, caller: Caller, role: str, error: ApiError | None = None) -> str:
        """The caller's role, which is at least `role`; 403 otherwise."""
        mine = self.role(row, caller)
        if mine is None:
            raise not_found(row["id"])
        if RANKS[mine] < RANKS[role]:
            raise error or no_permission()
        return mine

    def public(self, row: Row) -> bool:
        """Whether anyone with the link may read the item."""
        return any(grant["type"] == "anyone" for grant in self._grants(row))

    def is_shared(self, row: Row) -> bool:
        if row["drive"]:
            return True
        return self.any_sharing and bool(self._grants(row))

    def _grants(self, row: Row) -> list[Row]:
        """All grants on the item, the nearest first, inherited ones too."""
        found: list[Row] = []
        at: Row | None = row
        while at is not None:
            found += self.db.rows("SELECT * FROM permissions WHERE file = ?", (at["n"],))
            at = None if at["parent"] is None else self.db.row("SELECT * FROM files WHERE n = ?", (at["parent"],))
        return found

    def permissions(self, row: Row, viewer: int) -> list[dict[str, Any]]:
        """Resources Permission: the owner's, then what was granted here or above, the best for each person."""
        result: dict[str, dict[str, Any]] = {}
        if row["owner"] is not None:
            owner = self.accounts.by_n(row["owner"])
            result[owner.permission_id] = {
                "kind": "drive#permission",
                "id": owner.permission_id,
                "type": "user",
                "emailAddress": owner.email,
                "role": "owner",
                "displayName": owner.name,
                "deleted": False,
                "pendingOwner": False,
            }
        for grant in self._grants(row) if self.any_sharing else ():
            known = result.get(grant["id"])
            if known is None or RANKS[known["role"]] < RANKS[grant["role"]]:
                result[grant["id"]] = self.permission(grant, inherited=grant["file"] != row["n"], item=row)
        return list(result.values())

    def permission(self, grant: Row, *, inherited: bool, item: Row) -> dict[str, Any]:
        """The resource Permission of one grant."""
        result: dict[str, Any] = {"kind": "drive#permission", "id": grant["id"], "type": grant["type"]}
        result["role"] = grant["role"]
        if grant["type"] in ("user", "group"):
            result["emailAddress"] = grant["email"]
            known = None if grant["user"] is None else self.accounts.by_n(grant["user"])
            result["displayName"] = known.name if known else grant["email"]
            result["deleted"] = False
            result["pendingOwner"] = False
        else:
            result["allowFileDiscovery"] = bool(grant["discoverable"])
        if grant["type"] == "domain":
            result["domain"] = grant["domain"]
            result["displayName"] = grant["domain"]
        if item["drive"]:
            kind = "member" if item["n"] != grant["file"] or item["is_root"] else "file"
            details = {"permissionType": kind, "role": grant["role"], "inherited": inherited}
            result["permissionDetails"] = [details]
        result.update(json.loads(grant["more"] or "{}"))
        return result

    # --- the shape of the tree ---

    def ancestors(self, row: Row) -> list[int]:
        """Numbers of the folders above, the nearest first."""
        found: list[int] = []
        parent = row["parent"]
        while parent is not None and parent not in found:
            found.append(parent)
            parent = self.db.value("SELECT parent FROM files WHERE n = ?", (parent,))
        return found

    def below(self, n: int) -> list[Row]:
        """The item and all that lies below it."""
        return self.db.rows(_BELOW + "SELECT * FROM files WHERE n IN below", (n,))

    def height(self, n: int) -> int:
        """How many levels of folders lie below."""
        levels, level = 0, [n]
        while level:
            marks = ",".join("?" * len(level))
            level = [
                row["n"]
                for row in self.db.rows(
                    f"SELECT n FROM files WHERE parent IN ({marks}) AND mime = '{FOLDER_MIME}'", level
                )
            ]
            levels += bool(level)
        return levels

    def children(self, n: int) -> int:
        """How many items lie directly in the folder; counted once, then kept."""
        if n not in self._children:
            self._children[n] = self.db.value("SELECT count(*) FROM files WHERE parent = ?", (n,))
        return self._children[n]

    def count_child(self, n: int | None, by: int) -> None:
        if n in self._children:
            self._children[n] += by

    def forget_counts(self) -> None:
        self._children.clear()

    def subtree(self) -> str:
        """SQL that begins a statement: `below` holds the numbers from its one argument downward."""
        return _BELOW

    # --- bookkeeping ---

    def touch(self, n: int, **columns: Any) -> None:
        """Change columns of an item: a new version, and an entry in the changes feed."""
        self.db.set("files", n, seq=self.db.next_seq(), changed_ms=now_ms(), **columns)
        self.db.run("UPDATE files SET version = version + 1 WHERE n = ?", (n,))

    def quota_bytes(self, row: Row) -> int:
        """The head's size and that of revisions kept forever."""
        if row["size"] is None or row["drive"]:
            return 0
        kept = 0
        if json.loads(row["more"] or "{}").get("kept"):
            kept = self.db.value(
                "SELECT coalesce(sum(size), 0) FROM revisions WHERE file = ? AND keep = 1 AND id != ?",
                (row["n"], row["head"]),
            )
        return int(row["size"] + kept)

    def charge(self, owner: int | None, size_delta: int) -> None:
        """Count bytes for the owner, whose limit was checked before with `check_room`."""
        if owner is not None and size_delta:
            self.db.run("UPDATE users SET storage_used = storage_used + ? WHERE n = ?", (size_delta, owner))

    def used_bytes(self, user: int) -> int:
        return int(self.db.value("SELECT storage_used FROM users WHERE n = ?", (user,)))

    def has_room(self, owner: int | None, size_bytes: int) -> bool:
        if owner is None or self.storage_bytes is None or size_bytes <= 0:
            return True
        return self.used_bytes(owner) + size_bytes <= self.storage_bytes
