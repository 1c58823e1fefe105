"""One row of `nodes` as the other rooms see it: frozen, and right at the moment of its reading."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any

from drivefs.model import LINK_EXPORTS, ROOT_INODE, DriveId, Generation, Inode, Kind, Place, RevisionId, Trash


@dataclass(frozen=True, slots=True)
class Node:
    """A row of `nodes`; the columns' meaning stands in schema.SCHEMA."""

    inode: Inode
    parent: Inode | None
    name: str | None
    kind: Kind
    mode: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int
    target: str | None = None
    generation: Generation | None = None
    listed: bool = False
    writable: bool = True
    ours: bool = False
    change: int = 0
    drive_id: DriveId | None = None
    confirmed_ns: int | None = None
    revision: RevisionId | None = None
    md5: str | None = None
    remote_name: str | None = None
    remote_parent: DriveId | None = None
    remote_meta: str | None = None
    remote_version: int | None = None
    place: Place | None = None
    frozen_ns: int | None = None
    export: str | None = None
    points_to: DriveId | None = None
    kept: int | None = None
    heir: Inode | None = None
    local: int | None = None
    trash: Trash | None = None
    remote_trashed: int | None = None

    @property
    def unnamed(self) -> bool:
        """Whether the node was unlinked, and Drive is to lose it."""
        return self.parent is None and self.inode != ROOT_INODE

    @property
    def frozen(self) -> bool:
        """Whether the node was replaced or unlinked here, and Drive is to have it first (store.points)."""
        return self.frozen_ns is not None

    @property
    def measured(self) -> bool:
        """Whether `size_bytes` is right: that of an export is known only while it is here."""
        return self.export is None or self.generation is not None or self.export in LINK_EXPORTS

    @property
    def gone(self) -> bool:
        """Whether no name leads to the node any more."""
        return self.unnamed or self.frozen


NOT_ON_DRIVE: dict[str, None] = dict.fromkeys(
    (
        *("drive_id", "confirmed_ns", "revision", "md5", "remote_name", "remote_parent", "remote_meta"),
        *("remote_version", "remote_trashed"),
    )
)
"""The columns that tell of a node's file or folder on Drive, for one that has none."""

COLUMNS = tuple(field.name for field in fields(Node))

_PLACE_AT, _TRASH_AT = COLUMNS.index("place"), COLUMNS.index("trash")


def from_row(row: sqlite3.Row) -> Node:
    """A row of COLUMNS."""
    values = list(row)
    values[3] = Kind(values[3])
    for at in (10, 11, 12):
        values[at] = bool(values[at])
    if values[_PLACE_AT] is not None:
        values[_PLACE_AT] = Place(values[_PLACE_AT])
    if values[_TRASH_AT] is not None:
        values[_TRASH_AT] = Trash(values[_TRASH_AT])
    return Node(*values)


_columns = attrgetter(*COLUMNS)
_PLACES = {column: place for place, column in enumerate(COLUMNS)}


def changed(node: Node, values: dict[str, Any]) -> Node:
    """The node with other values in these columns."""
    columns = list(_columns(node))
    for name, value in values.items():
        columns[_PLACES[name]] = value
    return Node(*columns)


shown = attrgetter("mode", "writable", "size_bytes", "mtime_ns", "ctime_ns", "target", "unnamed", "measured")
"""What stat(2) and readlink(2) tell."""
