"""The tree: one row a file, folder or symlink, with what the mount shows and what Drive last said of it.

Any thread may enter. Rows read lately are kept in memory, bounded; this process is the only writer, so they are
always right. A node without a parent (other than the root) has lost its name: it lives on while it is open, or
until Drive has heard of the removal.
"""

from __future__ import annotations

import posixpath
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from drivefs.errors import NoEntry
from drivefs.model import ROOT_INODE, DriveId, Inode, Kind, Place, Trash
from drivefs.store.db import Database
from drivefs.store.news import News
from drivefs.store.node import COLUMNS, Node, changed, from_row, shown

KEPT_NODES = 20_000
"""Nodes and names kept in memory: some 15 MB."""

PAGE_ROWS = 1_000

COPIED_LEAST_BYTES = 1 << 20
"""From this size on a content that Drive has in another file is copied there. Below it an upload takes one request of
the same price (drive-api: Quota), and its bytes little more than the round trips that a copy takes; and an index of
the many small files of a Drive would cost more than it saves."""

_SELECT = f"SELECT {', '.join(COLUMNS)} FROM nodes"

_TWIN = (
    f"size_bytes >= {COPIED_LEAST_BYTES} AND md5 IS NOT NULL AND size_bytes = ? AND confirmed_ns IS NOT NULL"
    " AND drive_id IS NOT NULL"
)
"""The first two terms are those of the index."""

_DEFAULTS = {"listed": False, "writable": True, "ours": False, "change": 0}


@cache
def _insert(columns: tuple[str, ...]) -> str:
    return f"INSERT INTO nodes ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"


@cache
def _update(columns: tuple[str, ...]) -> str:
    return f"UPDATE nodes SET {', '.join(f'{name} = ?' for name in columns)} WHERE inode = ?"


def _stored(value: Any) -> Any:
    return value.value if isinstance(value, Kind | Place | Trash) else value


class Nodes:
    """The rows of `nodes` and `xattrs`."""

    def __init__(self, db: Database, news: News) -> None:
        self._db = db
        self._news = news
        # Both guarded by the database's transaction lock.
        self._by_inode: OrderedDict[Inode, Node] = OrderedDict()
        self._by_name: OrderedDict[tuple[Inode, str], Inode] = OrderedDict()
        # Whether a folder that is not listed may have been, and is kept by somebody as it was. Guarded likewise.
        self._all_listed_once = False
        db.after_rollback(self._forget_all)

    def _forget_all(self) -> None:
        self._by_inode.clear()
        self._by_name.clear()

    def _keep(self, node: Node) -> None:
        if len(self._by_inode) >= KEPT_NODES:
            self._by_inode.popitem(last=False)
        self._by_inode[node.inode] = node
        if node.parent is not None and node.name is not None and not node.frozen:
            if len(self._by_name) >= KEPT_NODES:
                self._by_name.popitem(last=False)
            self._by_name[node.parent, node.name] = node.inode

    # --- reading ---

    def find(self, inode: Inode) -> Node | None:
        with self._db.transaction_lock():
            node = self._by_inode.get(inode)
            if node is None:
                row = self._db.row(f"{_SELECT} WHERE inode = ?", (inode,))
                if row is None:
                    return None
                node = from_row(row)
                self._keep(node)
            return node

    def get(self, inode: Inode) -> Node:
        """Raises NoEntry."""
        node = self.find(inode)
        if node is None:
            raise NoEntry(f"There is no inode {inode}.")
        return node

    def find_child(self, parent: Inode, name: str) -> Node | None:
        with self._db.transaction_lock():
            inode = self._by_name.get((parent, name))
            if inode is not None:
                return self.find(inode)
            row = self._db.row(f"{_SELECT} WHERE parent = ? AND name = ? AND frozen_ns IS NULL", (parent, name))
            if row is None:
                return None
            node = from_row(row)
            self._keep(node)
            return node

    def find_by_drive_id(self, drive_id: DriveId) -> Node | None:
        row = self._db.row(f"{_SELECT} WHERE drive_id = ?", (drive_id,))
        return None if row is None else from_row(row)

    def inodes_of(self, drive_ids: Sequence[DriveId]) -> dict[DriveId, tuple[Inode, bool]]:
        """The inodes of those of the items that have a node, and whether entries can hang in it: in a folder that was
        not removed."""
        found: dict[DriveId, tuple[Inode, bool]] = {}
        for at in range(0, len(drive_ids), PAGE_ROWS):
            some = drive_ids[at : at + PAGE_ROWS]
            marks = ",".join("?" * len(some))
            for row in self._db.rows(
                "SELECT drive_id, inode, kind = 'folder' AND (parent IS NOT NULL OR inode = ?)"
                f" FROM nodes WHERE drive_id IN ({marks})",
                (ROOT_INODE, *some),
            ):
                found[row[0]] = Inode(row[1]), bool(row[2])
        return found

    def documents(self) -> list[Node]:
        """All Google documents."""
        return [from_row(row) for row in self._db.rows(f"{_SELECT} WHERE export IS NOT NULL")]

    def may_have_twins(self, size_bytes: int) -> bool:
        """Whether any file on Drive has a content of that size, which is COPIED_LEAST_BYTES or more."""
        return self._db.row(f"SELECT 1 FROM nodes WHERE {_TWIN} LIMIT 1", (size_bytes,)) is not None

    def twins(self, size_bytes: int, md5: str, limit: int) -> list[DriveId]:
        """The first `limit` files that have this content on Drive, as far as is known here."""
        rows = self._db.rows(
            f"SELECT drive_id FROM nodes WHERE {_TWIN} AND md5 = ? ORDER BY inode LIMIT ?", (size_bytes, md5, limit)
        )
        return [DriveId(row[0]) for row in rows]

    def unlisted(self, limit: int) -> list[Node]:
        """Folders on Drive whose entries are not known yet, without those in its trash."""
        rows = self._db.rows(
            f"{_SELECT} WHERE kind = 'folder' AND listed = 0 AND confirmed_ns IS NOT NULL AND remote_trashed IS NULL"
            " LIMIT ?",
            (limit,),
        )
        return [from_row(row) for row in rows]

    def unlisted_after(self, parent: Inode, after: str, limit: int) -> list[Node]:
        """Folders of one folder whose entries are not known yet, from a name on."""
        rows = self._db.rows(
            f"{_SELECT} WHERE parent = ? AND name > ? AND kind = 'folder' AND listed = 0"
            " AND confirmed_ns IS NOT NULL AND frozen_ns IS NULL ORDER BY name LIMIT ?",
            (parent, after, limit),
        )
        return [from_row(row) for row in rows]

    def remote_files_after(self, parent: Inode, after: str, limit_bytes: int, limit: int) -> list[Node]:
        """Files of a folder that have a checksum, up to `limit_bytes`, and none of them here; from a name on."""
        rows = self._db.rows(
            f"{_SELECT} WHERE parent = ? AND name > ? AND kind = 'file' AND generation IS NULL AND md5 IS NOT NULL"
            " AND drive_id IS NOT NULL AND frozen_ns IS NULL AND size_bytes BETWEEN 1 AND ? ORDER BY name LIMIT ?",
            (parent, after, limit_bytes, limit),
        )
        return [from_row(row) for row in rows]

    def confirmed_in(self, parent: Inode) -> list[tuple[DriveId, Inode]]:
        """Drive ID and inode of every entry of a folder that Drive has, or had."""
        rows = self._db.rows(
            "SELECT drive_id, inode FROM nodes WHERE parent = ? AND confirmed_ns IS NOT NULL AND frozen_ns IS NULL",
            (parent,),
        )
        return [(DriveId(row[0]), Inode(row[1])) for row in rows]

    def set_all_listed(self, last: Inode) -> None:
        """Mark every folder on Drive up to inode `last`: their entries are all known."""
        with self._db.transaction():
            self._db.run(
                # Of shared drives, a listing of everything has what the account has opened.
                # And what lies in a trash is in no listing.
                "WITH RECURSIVE elsewhere(inode) AS"
                " (SELECT inode FROM nodes WHERE place = 'shared-drive' OR local = 1 UNION"
                " SELECT n.inode FROM nodes n JOIN elsewhere e ON n.parent = e.inode WHERE n.kind = 'folder')"
                " UPDATE nodes SET listed = 1 WHERE kind = 'folder' AND listed = 0 AND confirmed_ns IS NOT NULL"
                " AND inode <= ? AND inode NOT IN elsewhere",
                (last,),
            )
            self._forget_all()

    def set_none_listed(self) -> None:
        """The entries of every folder on Drive must be asked for again."""
        with self._db.transaction():
            self._db.run("UPDATE nodes SET listed = 0 WHERE kind = 'folder' AND confirmed_ns IS NOT NULL")
            self._all_listed_once = True
            self._forget_all()

    def last_inode(self) -> Inode:
        """The largest number given to a node that is there."""
        row = self._db.row("SELECT MAX(inode) FROM nodes")
        assert row is not None
        return Inode(row[0])

    def children(self, parent: Inode) -> Iterator[Node]:
        """All children in the order of their names, read a page at a time; others may change them meanwhile."""
        after = ""
        while page := self.page(parent, after):
            yield from page
            after = page[-1].name or ""

    def page(self, parent: Inode, after: str, limit: int = PAGE_ROWS) -> list[Node]:
        """The first `limit` children whose names come after `after`, in the order of their names; without the place
        that shows Drive's trash, so that who goes through all of the mount does not come there."""
        rows = self._db.rows(
            f"{_SELECT} WHERE parent = ? AND name > ? AND frozen_ns IS NULL AND place IS NOT 'trash'"
            " ORDER BY name LIMIT ?",
            (parent, after, limit),
        )
        return [from_row(row) for row in rows]

    def children_from(self, parent: Inode, remote_parent: DriveId) -> list[Node]:
        """The children whose folder on Drive is another one."""
        rows = self._db.rows(f"{_SELECT} WHERE parent = ? AND remote_parent = ?", (parent, remote_parent))
        return [from_row(row) for row in rows]

    def below(self, folder: Node) -> Iterator[Node]:
        """All that is known at any depth in a folder, a folder before its entries; nobody may move it meanwhile."""
        waiting = [folder] if folder.kind is Kind.FOLDER else []
        while waiting:
            for child in self.children(waiting.pop().inode):
                yield child
                if child.kind is Kind.FOLDER:
                    waiting.append(child)

    def has_children(self, parent: Inode) -> bool:
        row = self._db.row("SELECT 1 FROM nodes WHERE parent = ? AND frozen_ns IS NULL LIMIT 1", (parent,))
        return row is not None

    def frozen_in(self, parent: Inode, name: str | None = None) -> list[Node]:
        """Frozen children of a folder, or those of one name, oldest first."""
        rows = self._db.rows(
            f"{_SELECT} WHERE parent = ? AND (name = ? OR ? IS NULL) AND frozen_ns IS NOT NULL"
            " ORDER BY frozen_ns, inode",
            (parent, name, name),
        )
        return [from_row(row) for row in rows]

    def find_before(self, inode: Inode) -> Node | None:
        """The frozen node with whose file on Drive this one goes on."""
        row = self._db.row(f"{_SELECT} WHERE heir = ?", (inode,))
        return None if row is None else from_row(row)

    def last_heir(self, node: Node) -> Node:
        """What has a node's file on Drive in the end, as far as it is known: of something frozen, its heir."""
        while node.heir is not None and (heir := self.find(node.heir)) is not None:
            node = heir
        return node

    def find_place(self, place: Place) -> Node | None:
        """The one node of a place; the first of those that there are many of."""
        rows = self._db.rows("SELECT inode FROM nodes WHERE place = ? ORDER BY inode LIMIT 1", (place.value,))
        return self.get(Inode(rows[0][0])) if rows else None

    def place_above(self, inode: Inode) -> Inode:
        """The place that an inode lies in, which may be itself; the root where the layout has none."""
        for each in (inode, *self.ancestors(inode)):
            node = self.find(each)
            if node is not None and node.place is not None:
                return each
        return ROOT_INODE

    def trash_above(self, node: Node) -> Node | None:
        """The folder of a trash, Drive's or a desktop's, that an item of Drive lies in, at any depth; None where it
        lies in none."""
        while not node.local:
            above = self.find(node.parent) if node.parent is not None else None
            if above is None:
                return None
            if above.local:
                return above
            node = above
        return None

    def ancestors(self, inode: Inode) -> Iterator[Inode]:
        """The folders above a node, nearest first, up to the root; nothing for a node without a name."""
        node = self.find(inode)
        while node is not None and node.parent is not None:
            yield node.parent
            node = self.find(node.parent)

    def path(self, inode: Inode) -> str:
        """The path from the mount's root, without a leading slash; "" for the root and for unnamed nodes."""
        parts: list[str] = []
        node = self.find(inode)
        while node is not None and node.parent is not None:
            parts.append(node.name or "")
            node = self.find(node.parent)
        return "/".join(reversed(parts))

    def leads_to(self, node: Node) -> str:
        """Where a symlink or shortcut leads: a shortcut by a relative path to what it stands for, or to its page in
        the browser where that is not in the tree. Inside a transaction, or as of some instant."""
        target = self.find_by_drive_id(node.points_to) if node.points_to is not None else None
        if target is None or node.parent is None or target.gone or self._is_apart(target):
            return node.target or ""
        return posixpath.relpath("/" + self.path(target.inode), "/" + self.path(node.parent))

    def _is_apart(self, node: Node) -> bool:
        """Whether a folder above it was removed."""
        return any(above.gone for above in map(self.get, self.ancestors(node.inode)))

    # --- changing: inside a transaction of the caller's, or each its own ---

    def add(self, **values: Any) -> Node:
        """A new node; `values` are columns of Node without `inode` (given only for the root)."""
        values = _DEFAULTS | values
        with self._db.transaction():
            cursor = self._db.run(_insert(tuple(values)), [_stored(value) for value in values.values()])
            node = Node(**(values | {"inode": Inode(cursor.lastrowid or 0), "kind": Kind(values["kind"])}))
            self._keep(node)
            if node.parent is not None and node.name is not None and not node.frozen:
                self._came(node.parent, node.name)
            return node

    def add_missing(self, rows: Sequence[Sequence[Any]], columns: Sequence[str]) -> None:
        """Many new nodes at once, as values of `columns`; leaves out those whose name or Drive ID is taken."""
        names = ", ".join(columns)
        marks = ", ".join("?" * len(columns))
        parent, name = columns.index("parent"), columns.index("name")
        with self._db.transaction():
            self._db.run_many(f"INSERT OR IGNORE INTO nodes ({names}) VALUES ({marks})", rows)
            for row in rows:
                self._came(row[parent], row[name])

    def update(self, inode: Inode, **values: Any) -> Node:
        """Change columns of a node. Raises NoEntry."""
        with self._db.transaction():
            old = self.get(inode)
            self._db.run(_update(tuple(values)), [*map(_stored, values.values()), inode])
            new = changed(old, values)
            self._forget(old)
            self._keep(new)
            if (new.parent, new.name) != (old.parent, old.name) and not old.frozen:
                if old.parent is not None and old.name is not None:
                    self._news.name(old.parent, old.name, inode if new.unnamed else None)
                if new.parent is not None and new.name is not None:
                    self._came(new.parent, new.name)
            if shown(new) != shown(old):
                self._news.attributes(inode)
            return new

    def _came(self, folder: Inode, name: str) -> None:
        """A new name is news, unless nobody can know what is not in the folder."""
        if self._news.is_kept(folder) and (self._all_listed_once or self.get(folder).listed):
            self._news.name(folder, name)

    def remove(self, inode: Inode) -> None:
        """Drop the row and its xattrs; no error when there is none."""
        with self._db.transaction():
            old = self.find(inode)
            if old is not None:
                self._forget(old)
                if old.parent is not None and old.name is not None and not old.frozen:
                    self._news.name(old.parent, old.name, inode)
                self._db.run("DELETE FROM nodes WHERE inode = ?", (inode,))
                self._db.run("DELETE FROM xattrs WHERE inode = ?", (inode,))

    def _forget(self, node: Node) -> None:
        self._by_inode.pop(node.inode, None)
        if node.parent is not None and node.name is not None:
            self._by_name.pop((node.parent, node.name), None)

    # --- extended attributes ---

    def xattrs(self, inode: Inode) -> dict[str, bytes]:
        """All of a node's own extended attributes, by name."""
        rows = self._db.rows("SELECT name, value FROM xattrs WHERE inode = ? ORDER BY name", (inode,))
        return {row[0]: bytes(row[1]) for row in rows}

    def set_xattr(self, inode: Inode, name: str, value: bytes) -> None:
        self._db.run("INSERT OR REPLACE INTO xattrs VALUES (?, ?, ?)", (inode, name, value))

    def remove_xattr(self, inode: Inode, name: str) -> bool:
        """Whether there was one."""
        return self._db.run("DELETE FROM xattrs WHERE inode = ? AND name = ?", (inode, name)).rowcount > 0
