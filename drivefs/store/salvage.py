"""A database that cannot be read any more: what waited for Drive is taken over into a new one, as far as that goes.

Entered once, while the cache is opened and nobody else has it. The damaged database is kept in the quarantine, and so
is every content file that the new one does not know. What Drive has is listed anew.
"""

from __future__ import annotations

import logging
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drivefs.model import ROOT_INODE, Kind
from drivefs.store.db import Database
from drivefs.store.generations import State
from drivefs.store.sync_points import sync_folder

log = logging.getLogger(__name__)

PAGE_ROWS = 200
GIVE_UP_ROWS = 1 << 20
"""A table is read on behind what is illegible, in steps that double up to this one."""

Row = dict[str, Any]


@dataclass(slots=True)
class Salvaged:
    """What a damaged database had to say of the files that wait for Drive, and where it is now."""

    aside: Path
    nodes: dict[int, Row] = field(default_factory=dict)
    generations: dict[int, Row] = field(default_factory=dict)
    jobs: list[Row] = field(default_factory=list)
    ranges: list[Row] = field(default_factory=list)
    xattrs: list[Row] = field(default_factory=list)


def read(folder: Path) -> Salvaged:
    """Read what can be read of the database of a cache folder, and move it into the quarantine. Raises OSError."""
    quarantine = folder / "quarantine"
    quarantine.mkdir(mode=0o700, exist_ok=True)
    aside = quarantine / f"damaged-{time.time_ns()}.db"
    for end in ("", "-wal"):
        source = folder / f"drivefs.db{end}"
        if source.exists():
            shutil.copy(source, f"{aside}{end}")
    sync_folder(quarantine)
    found = Salvaged(aside)
    # Read from a second copy: to read a database may change it.
    copy = folder / "ahead.db"
    for end in ("", "-wal"):
        if Path(f"{aside}{end}").exists():
            shutil.copy(f"{aside}{end}", f"{copy}{end}")
    try:
        with closing(sqlite3.connect(copy, isolation_level=None)) as connection:
            connection.row_factory = sqlite3.Row
            found.nodes = {row["inode"]: row for row in _rows(connection, "nodes", "inode")}
            found.generations = {row["generation"]: row for row in _rows(connection, "generations", "generation")}
            found.jobs = list(_rows(connection, "jobs", "inode"))
            for table, key, rows in (("ranges", "generation", found.ranges), ("xattrs", "inode", found.xattrs)):
                try:
                    rows += [dict(row) for row in connection.execute(f"SELECT * FROM {table} ORDER BY {key}")]
                except sqlite3.Error as error:
                    log.info("The damaged database's %s cannot be read: %s", table, error)
    except sqlite3.Error as error:
        log.info("The damaged database cannot be read at all: %s", error)
    for name in ("drivefs.db", "drivefs.db-wal", "drivefs.db-shm", "sync-points"):
        (folder / name).unlink(missing_ok=True)
    sync_folder(folder)
    return found


def _rows(connection: sqlite3.Connection, table: str, key: str) -> Iterator[Row]:
    """The legible rows, by a key that is the row ID."""
    after, skip, limit = 0, 0, PAGE_ROWS
    while skip <= GIVE_UP_ROWS:
        try:
            page = connection.execute(
                f"SELECT * FROM {table} WHERE {key} > ? ORDER BY {key} LIMIT ?", (after + skip, limit)
            ).fetchall()
        except sqlite3.Error:
            if limit == 1:
                skip = max(1, 2 * skip)
            limit = 1
            continue
        if not page:
            return
        yield from map(dict, page)
        after, skip, limit = page[-1][key], 0, PAGE_ROWS


def take_over(found: Salvaged, db: Database, content: Path) -> int:
    """Put what waits for Drive, with the folders above it, into the new database; returns how many files. What is not
    wholly legible is left to the recovery, which keeps its content in quarantine."""
    taken = 0
    with db.transaction():
        if ROOT_INODE in found.nodes:
            _insert(db, "nodes", {**found.nodes[ROOT_INODE], "listed": 0})
        for job in sorted(found.jobs, key=lambda row: row["seq"]):
            chain = _chain(found, job["inode"])
            node = found.nodes.get(job["inode"])
            if node is None or chain is None:
                continue
            wanted = {each for each in (job["generation"], node["generation"]) if each is not None}
            if any(each not in found.generations or not (content / str(each)).exists() for each in wanted):
                continue
            for above in chain:
                _insert(db, "nodes", {**above, "listed": 0})
            _insert(db, "nodes", node)
            for each in wanted:
                _insert(db, "generations", found.generations[each])
                for row in found.ranges:
                    if row["generation"] == each:
                        _insert(db, "ranges", row)
            for row in found.xattrs:
                if row["inode"] in {job["inode"], *(above["inode"] for above in chain)}:
                    _insert(db, "xattrs", row)
            _insert(db, "jobs", job)
            taken += 1
        _take_over_open(found, db, content)
    for generation, row in found.generations.items():
        if row["state"] == State.CLEAN.value:
            (content / str(generation)).unlink(missing_ok=True)  # a copy of Drive's
    db.ahead = db.folder / "ahead.db"
    return taken


def _take_over_open(found: Salvaged, db: Database, content: Path) -> None:
    """Files that were being written have no job yet: the recovery seals them."""
    for node in found.nodes.values():
        generation = found.generations.get(node["generation"] or 0)
        chain = _chain(found, node["inode"])
        if generation is None or chain is None or generation["state"] != State.OPEN.value:
            continue
        if (content / str(generation["generation"])).exists():
            for above in chain:
                _insert(db, "nodes", {**above, "listed": 0})
            _insert(db, "nodes", node)
            _insert(db, "generations", generation)


def _chain(found: Salvaged, inode: int) -> list[Row] | None:
    """The folders above a node, but for the root; None where they are not legible, or the node has no name."""
    chain: list[Row] = []
    node = found.nodes.get(inode)
    while node is not None and node["parent"] is not None and len(chain) <= len(found.nodes):
        if node["parent"] == ROOT_INODE:
            return chain[::-1]
        node = found.nodes.get(node["parent"])
        if node is not None and node["kind"] == Kind.FOLDER.value:
            chain.append(node)
    return None


def _insert(db: Database, table: str, row: Row) -> None:
    columns = {each["name"] for each in db.rows(f"PRAGMA table_info({table})")}
    known = {name: value for name, value in row.items() if name in columns}
    names, marks = ", ".join(known), ", ".join("?" * len(known))
    db.run(f"INSERT OR IGNORE INTO {table} ({names}) VALUES ({marks})", list(known.values()))
