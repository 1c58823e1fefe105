"""Puts a cache folder in order when it is opened, before anything else enters it.

After a kill everything that was written is there, and the database is right but for what was under way. After a power
cut the database is as of the last sync point (store.sync_points), and content has gone on since: what was appended is
cut off, what had not begun by then is put into quarantine, and what changed in place stays where it is, as on any
disk, but is not sent until a program or the person has had a look at it.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from drivefs.errors import CacheDamaged
from drivefs.model import ROOT_INODE, Generation, Inode
from drivefs.store.content import ContentStore
from drivefs.store.content_file import ContentFile
from drivefs.store.db import Database
from drivefs.store.generations import State
from drivefs.store.journal import Journal
from drivefs.store.nodes import Nodes
from drivefs.store.quarantine import Quarantine

log = logging.getLogger(__name__)

CHANGED = (
    "It was being changed in place when the power went, so some of it may be old and some new: look at it, then save "
    "it again, or touch it to send it as it is."
)
CUT = "It was written just before the power went, and may be torn: copy it into the mount if it is whole."
DAMAGED = "The cache's database was damaged, and does not say whether Drive has it: copy it into the mount if not."
UNKNOWN = "The cache does not know what it belongs to: copy it into the mount if you want it."


@dataclass(frozen=True, slots=True)
class Recovered:
    """What opening the cache found of last time."""

    interrupted: int  # files that were being written: sealed as they were
    lost: int  # files whose content is missing
    orphans: int  # content files that nothing vouches for: moved to `quarantine`
    unsure: int  # files that changed in place when the power went: not sent until somebody has looked at them


def recover(
    db: Database,
    nodes: Nodes,
    content: ContentStore,
    journal: Journal,
    quarantine: Quarantine,
    in_use: Collection[Inode] = (),
) -> tuple[Recovered, dict[Inode, Generation]]:
    """May be repeated. Leaves the inodes that are `in_use` open; returns the old revisions that those read who opened
    a file before it changed on Drive, too. Raises CacheFull, CacheDamaged."""
    changed: frozenset[Generation] = frozenset()
    if db.was_cut:
        changed = db.points.changed
        content.leftovers.distrust(changed)
        _cut_what_was_appended(db, content)
    left: dict[Inode, Generation] = {}
    with db.transaction():
        for row in db.rows("SELECT inode FROM nodes WHERE parent IS NULL AND inode != ?", (ROOT_INODE,)):
            if row[0] not in in_use:
                journal.forget_unnamed(Inode(row[0]))
        for inode in in_use:
            node = nodes.find(inode)
            if node is not None and node.frozen:
                journal.keep_frozen(inode)
        for row in db.rows(
            "SELECT g.generation, g.inode, g.state, l.state AS live FROM generations g"
            " LEFT JOIN nodes h ON h.inode = g.inode LEFT JOIN generations l ON l.generation = h.generation"
            " WHERE NOT EXISTS (SELECT 1 FROM nodes n WHERE n.generation = g.generation)"
            " AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.generation = g.generation) ORDER BY g.generation"
        ):
            if row["inode"] in in_use and row["state"] == State.CLEAN.value and row["live"] in (None, row["state"]):
                left[Inode(row["inode"])] = Generation(row["generation"])
            else:
                content.discard(Generation(row["generation"]))
    interrupted = lost = 0
    for row in db.rows("SELECT generation, inode FROM generations WHERE state = ?", (State.OPEN.value,)):
        if row["inode"] in in_use and nodes.get(Inode(row["inode"])).generation == row["generation"]:
            continue
        try:
            apart = content.is_written_elsewhere(Generation(row["generation"]))
            file = content.open(Generation(row["generation"]))
        except (CacheDamaged, FileNotFoundError):
            # The record is committed before its file is made: nothing was written to it yet.
            with db.transaction():
                nodes.update(Inode(row["inode"]), generation=None)
                content.discard(Generation(row["generation"]))
            lost += 1
            continue
        _seal(db, nodes, content, journal, file, apart=apart)
        interrupted += 1
    _measure_sealed(db, nodes, content, journal, in_use)
    journal.forget_disowned()
    journal.unpark_all()
    unsure = _hold(db, nodes, journal, changed)
    orphans = _quarantine_orphans(db, content, quarantine)
    db.forget_ahead()
    db.was_cut = False
    return Recovered(interrupted, lost, orphans, unsure), left


def _cut_what_was_appended(db: Database, content: ContentStore) -> None:
    """Back to the size of the last sync point."""
    point = db.points.last
    assert point is not None
    for row in db.rows(
        "SELECT generation, size_bytes, state FROM generations WHERE state != ?", (State.CLEAN.value,)
    ):
        generation = Generation(row["generation"])
        size_bytes = row["size_bytes"]
        if State(row["state"]) is State.OPEN:
            size_bytes = point.sizes.get(generation, size_bytes)
        content.leftovers.cut(generation, size_bytes)


def _seal(
    db: Database, nodes: Nodes, content: ContentStore, journal: Journal, file: ContentFile, *, apart: bool
) -> None:
    """What was interrupted waits for Drive; `apart` from those who write it still, of whom nobody hears."""
    if apart:
        log.warning("Inode %d is still written from a mount that is gone: a copy of it is sent", file.inode)
        with db.transaction():
            file = content.detach(file)
            nodes.update(file.inode, generation=file.generation)
    journal.seal(file)
    file.close()


def _measure_sealed(
    db: Database, nodes: Nodes, content: ContentStore, journal: Journal, in_use: Collection[Inode]
) -> None:
    """The kernel may have written to a file between its seal and its release, unseen. It is noted which files it
    writes: to look at each of many that wait would keep the mount waiting."""
    query = (
        "SELECT g.generation, g.inode, g.size_bytes FROM generations g"
        " JOIN nodes n ON n.generation = g.generation WHERE g.state = ?"
    )
    if db.points.last is None:
        rows = db.rows(query, (State.SEALED.value,))
    else:
        rows = [
            row
            for generation in sorted(db.points.changed)
            for row in db.rows(f"{query} AND g.generation = ?", (State.SEALED.value, generation))
        ]
    for row in rows:
        status = content.find_status(Generation(row["generation"]))
        if (
            status is not None
            and row["inode"] not in in_use
            and content.is_written_elsewhere(Generation(row["generation"]))
        ):
            _seal(db, nodes, content, journal, content.open(Generation(row["generation"])), apart=True)
        elif status is not None and status.st_size != row["size_bytes"]:
            with db.transaction():
                content.set_size(Generation(row["generation"]), status.st_size)
                nodes.update(Inode(row["inode"]), size_bytes=status.st_size, mtime_ns=status.st_mtime_ns)


def _hold(db: Database, nodes: Nodes, journal: Journal, changed: frozenset[Generation]) -> int:
    held = 0
    for row in db.rows("SELECT inode, generation FROM jobs WHERE generation IS NOT NULL") if changed else ():
        if row["generation"] not in changed:
            continue
        node = nodes.get(Inode(row["inode"]))
        if node.frozen:
            journal.give_up(node)  # no name leads to it: nobody can look at it
        else:
            journal.hold(node.inode, CHANGED)
            held += 1
    return held


def _quarantine_orphans(db: Database, content: ContentStore, quarantine: Quarantine) -> int:
    content.points.unlink_dropped()
    orphans = content.leftovers.orphans()
    paths = _paths(db.ahead, {path.name for path in orphans}) if db.ahead is not None else {}
    for path in orphans:
        reason = CUT if db.was_cut else DAMAGED if db.ahead is not None else UNKNOWN
        quarantine.take(path, paths.get(path.name, ""), reason)
    if orphans:
        quarantine.sync()
    return len(orphans)


def _paths(ahead: Path, names: set[str]) -> dict[str, str]:
    """What the database said of content files before it was cut, as far as it can be read: names of files, paths."""
    found: dict[str, str] = {}
    try:
        with closing(sqlite3.connect(f"file:{ahead}?mode=ro", uri=True)) as connection:
            for name in names:
                row = connection.execute(
                    "SELECT parent, name FROM nodes WHERE generation = ?", (int(name) if name.isdecimal() else -1,)
                ).fetchone()
                if row is not None and row[1] is not None:
                    found[name] = "/".join([*reversed(list(_folders(connection, row[0]))), row[1]])
    except sqlite3.Error as error:
        log.info("What the power cut has left of the database cannot be read: %s", error)
    return found


def _folders(connection: sqlite3.Connection, inode: int | None) -> Iterator[str]:
    """Names, from the nearest up to the root's child."""
    seen: set[int] = set()
    while inode is not None and inode not in seen:
        seen.add(inode)
        row = connection.execute("SELECT parent, name FROM nodes WHERE inode = ?", (inode,)).fetchone()
        if row is None or row[1] is None:
            return
        yield row[1]
        inode = row[0]
