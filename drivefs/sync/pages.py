"""What a page of a listing means for the rows: any thread may hand one in.

New files, which is nearly all of it, go in at once; what is known already is compared one by one. The changes feed
may have been faster than a page, and so may a removal from here: what went is not brought back.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Protocol

from cachetools import TTLCache

from drivefs.model import DriveId, Inode, RemoteFile
from drivefs.store.node import Node
from drivefs.store.store import Store
from drivefs.sync.layout import is_reserved
from drivefs.sync.metadata import attributes, node_values
from drivefs.sync.names import NAME_LIMIT_BYTES, shown_name

GONE_S = 600.0
"""No page of a listing is applied later than this after it was asked for."""

UNPARK_FOLDERS = 1_000
"""Parked folders put into the tree in one transaction."""


class Tree(Protocol):
    """What one item of Drive means for the rows; in the caller's transaction."""

    def take(self, file: RemoteFile) -> None: ...

    def forget(self, node: Node) -> bool: ...


class Pages:
    """Puts listings into the store."""

    def __init__(self, store: Store, tree: Tree, formats: Sequence[str]) -> None:
        """`formats` are those of sync.exports."""
        self._store = store
        self._formats = formats
        self._tree = tree
        # Guarded by the database's lock:
        self._moment = 0
        self._gone: TTLCache[DriveId, int] = TTLCache(100_000, GONE_S)

    def moment(self) -> int:
        """Now, in the order of what went; for `apply` and `went_after`."""
        with self._store.db.transaction_lock():
            return self._moment

    def is_gone(self, drive_id: DriveId) -> None:
        """Drive no longer has an item: an answer asked for before must not bring it back. In the caller's
        transaction."""
        self._moment += 1
        self._gone[drive_id] = self._moment
        self._store.db.run("DELETE FROM parked_folders WHERE drive_id = ?", (drive_id,))

    def went_after(self, moment: int, drive_id: DriveId) -> bool:
        """Whether an item has gone since. In the caller's transaction."""
        return self._gone.get(drive_id, 0) > moment

    def apply(self, files: Sequence[RemoteFile], since: int, *, park: bool = False) -> None:
        """Take over what a listing asked for at moment `since` says; in the caller's transaction.

        `park`: keep folders whose own folder is not here.
        """
        nodes = self._store.nodes
        # Of twins the older one keeps the plain name, whatever the order of the listing.
        items = sorted(
            (file for file in files if not file.trashed and not self.went_after(since, file.id)),
            key=lambda file: (file.created_ns, file.id),
        )
        known = nodes.inodes_of(list({file.id for file in items} | {file.parent for file in items if file.parent}))
        disowned = self._store.journal.disowned()
        rows: dict[DriveId, list[Any]] = {}
        single: list[RemoteFile] = []
        for file in items:
            parent = known.get(file.parent) if file.parent is not None else None
            shared = file.parent is None and not file.owned_by_me
            if file.id in known or file.id in disowned or shared:
                single.append(file)
            elif parent is not None and parent[1]:
                row = self._row(file, parent[0])
                if row is None:
                    single.append(file)
                else:
                    rows[file.id] = row
            elif park and file.parent is not None:
                item = json.dumps({**asdict(file), "app_properties": dict(file.app_properties)})
                self._store.db.run(
                    "INSERT OR REPLACE INTO parked_folders VALUES (?, ?, ?)", (file.id, file.parent, item)
                )
        if rows:
            nodes.add_missing(list(rows.values()), _COLUMNS)
            added = nodes.inodes_of(list(rows))
            # The others have a twin.
            single += [file for file in items if file.id in rows and file.id not in added]
        for file in single:
            self._tree.take(file)

    def unpark(self) -> bool:
        """Put parked folders into the tree whose own folder has come; whether there were any. In the caller's
        transaction."""
        db = self._store.db
        rows = db.rows(
            "SELECT p.drive_id, p.item FROM parked_folders p JOIN nodes n ON n.drive_id = p.parent LIMIT ?",
            (UNPARK_FOLDERS,),
        )
        for drive_id, item in rows:
            self._tree.take(RemoteFile(**json.loads(item)))
            db.run("DELETE FROM parked_folders WHERE drive_id = ?", (drive_id,))
        if not rows:
            # What is left hangs in nothing that this account sees.
            db.run("DELETE FROM parked_folders")
        return bool(rows)

    def _row(self, file: RemoteFile, parent: Inode) -> list[Any] | None:
        """A new item as a row, where nothing about it is special."""
        shown = attributes(file, self._formats)
        name = shown_name(shown.name)
        if (
            shown.xattrs
            or is_reserved(parent, name)
            or len(name) > NAME_LIMIT_BYTES
            or len(name.encode()) > NAME_LIMIT_BYTES
        ):
            return None
        values = node_values(file, shown)
        return [parent, name, *(values[column] for column in _COLUMNS[2:])]


_COLUMNS = (
    "parent", "name", "kind", "mode", "size_bytes", "mtime_ns", "ctime_ns", "target", "listed", "writable", "ours",
    "change", "drive_id", "confirmed_ns", "revision", "md5", "remote_name", "remote_parent", "remote_meta",
    "remote_version", "export", "points_to", "kept",
)  # fmt: skip
