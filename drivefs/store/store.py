"""The local half of drivefs: tree, content and journal in one cache folder, brought in order when it is opened."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from drivefs.errors import CacheDamaged
from drivefs.model import ROOT_INODE, Generation, Inode, Kind, RevisionId
from drivefs.store.content import ContentStore
from drivefs.store.content_file import ContentFile
from drivefs.store.db import Database
from drivefs.store.generations import Base, State
from drivefs.store.habits import Habits
from drivefs.store.journal import Journal
from drivefs.store.news import News
from drivefs.store.nodes import Node, Nodes
from drivefs.store.requests import Requests

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Recovered:
    """What opening the cache found of last time."""

    interrupted: int  # files that were being written: sealed as they were
    lost: int  # files whose content is missing
    orphans: int  # content files without a record: moved to `quarantine`


class Store:
    """A cache folder in use by this process. Any thread may enter once it is opened."""

    def __init__(self, folder: Path) -> None:
        """Open or create it. Raises CacheInUse, CacheDamaged, StoreError."""
        self.folder = folder
        self.db = Database(folder)
        self.news = News(self.db)
        self.nodes = Nodes(self.db, self.news)
        self.habits = Habits()
        self.content = ContentStore(self.db, folder / "content")
        self.journal = Journal(self.db, self.nodes, self.content)
        self.requests = Requests(self.db)
        self.left: dict[Inode, Generation] = {}
        """After `recover`: the old revision that those read who opened a file before it changed on Drive."""
        if self.nodes.find(ROOT_INODE) is None:
            now_ns = time.time_ns()
            self.nodes.add(
                inode=ROOT_INODE,
                parent=None,
                name=None,
                kind=Kind.FOLDER,
                mode=0o755,
                size_bytes=0,
                mtime_ns=now_ns,
                ctime_ns=now_ns,
            )

    @contextmanager
    def request(self) -> Iterator[None]:
        """A transaction that does what a program asked the kernel for, which knows what follows of it."""
        with self.db.transaction(), self.news.muted():
            yield

    def recover(self, held: Collection[Inode] = ()) -> Recovered:
        """Put right what an unclean end left; before the mount answers. May be repeated.

        `held`: inodes that the kernel has open still, for its end of the mount lives. They keep their content, open
        for writing where it is, also without a name.
        """
        with self.db.transaction():
            for row in self.db.rows("SELECT inode FROM nodes WHERE parent IS NULL AND inode != ?", (ROOT_INODE,)):
                if row[0] not in held:
                    self.journal.forget_unnamed(Inode(row[0]))
            for row in self.db.rows(
                "SELECT g.generation, g.inode, g.state, l.state AS live FROM generations g"
                " LEFT JOIN nodes h ON h.inode = g.inode LEFT JOIN generations l ON l.generation = h.generation"
                " WHERE NOT EXISTS (SELECT 1 FROM nodes n WHERE n.generation = g.generation)"
                " AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.generation = g.generation) ORDER BY g.generation"
            ):
                if row["inode"] in held and row["state"] == State.CLEAN.value and row["live"] in (None, row["state"]):
                    self.left[Inode(row["inode"])] = Generation(row["generation"])
                else:
                    self.content.discard(Generation(row["generation"]))
        interrupted = lost = 0
        for row in self.db.rows("SELECT generation, inode FROM generations WHERE state = ?", (State.OPEN.value,)):
            if row["inode"] in held and self.nodes.get(Inode(row["inode"])).generation == row["generation"]:
                continue
            try:
                apart = self.content.is_written_elsewhere(Generation(row["generation"]))
                file = self.content.open(Generation(row["generation"]))
            except (CacheDamaged, FileNotFoundError):
                # The record is committed before its file is made: nothing was written to it yet.
                with self.db.transaction():
                    self.nodes.update(Inode(row["inode"]), generation=None)
                    self.content.discard(Generation(row["generation"]))
                lost += 1
                continue
            self._seal(file, apart=apart)
            interrupted += 1
        self._measure_sealed(held)
        self.journal.unpark_all()
        return Recovered(interrupted, lost, self._quarantine_orphans())

    def _seal(self, file: ContentFile, *, apart: bool) -> None:
        """What was interrupted waits for Drive; `apart` from those who write it still, of whom nobody hears."""
        if apart:
            log.warning("Inode %d is still written from a mount that is gone: a copy of it is sent", file.inode)
            with self.db.transaction():
                file = self.content.detach(file)
                self.nodes.update(file.inode, generation=file.generation)
        self.journal.seal(file)
        file.close()

    def _measure_sealed(self, held: Collection[Inode]) -> None:
        """The kernel may have written to a file between its seal and its release, unseen."""
        for row in self.db.rows(
            "SELECT g.generation, g.inode, g.size_bytes FROM generations g"
            " JOIN nodes n ON n.generation = g.generation WHERE g.state = ?",
            (State.SEALED.value,),
        ):
            status = self.content.find_status(Generation(row["generation"]))
            if (
                status is not None
                and row["inode"] not in held
                and self.content.is_written_elsewhere(Generation(row["generation"]))
            ):
                self._seal(self.content.open(Generation(row["generation"])), apart=True)
            elif status is not None and status.st_size != row["size_bytes"]:
                with self.db.transaction():
                    self.content.set_size(Generation(row["generation"]), status.st_size)
                    self.nodes.update(Inode(row["inode"]), size_bytes=status.st_size, mtime_ns=status.st_mtime_ns)

    def _quarantine_orphans(self) -> int:
        known = {str(row[0]) for row in self.db.rows("SELECT generation FROM generations")}
        orphans = [entry for entry in os.scandir(self.folder / "content") if entry.name not in known]
        if orphans:
            quarantine = self.folder / "quarantine"
            quarantine.mkdir(mode=0o700, exist_ok=True)
            for entry in orphans:
                os.replace(entry.path, quarantine / entry.name)
        return len(orphans)

    def remote_content(self, node: Node) -> ContentFile:
        """A clean, empty content file for a node whose bytes are on Drive only; the caller fills and closes it.

        Part of the caller's transaction. Raises CacheDamaged, CacheFull.
        """
        if node.drive_id is None:
            raise CacheDamaged(f"The content of inode {node.inode} is missing from the cache.")
        with self.db.transaction():
            base = Base(node.drive_id, node.revision or RevisionId(""))
            file = self.content.create_clean(node.inode, node.size_bytes, base)
            self.nodes.update(node.inode, generation=file.generation)
            return file

    def evict(self, room_bytes: int) -> int:
        """Drop clean content that is not pinned, least recently used first, until `room_bytes` are freed or none is
        left: files that nobody has open, then parts of those that are not all here. Returns the bytes freed. Never
        touches what Drive does not have."""
        freed = 0
        pins = self._pins()
        for generation, inode, size_bytes in self.content.least_recently_used():
            if freed >= room_bytes:
                break
            if pins and self._is_pinned(inode, pins):
                continue
            with self.db.transaction():
                if self.content.drop_unused(generation):
                    node = self.nodes.find(inode)
                    if node is not None and node.generation == generation:
                        self.nodes.update(inode, generation=None)
                    freed += size_bytes
        for file in self.content.in_use():
            if freed >= room_bytes:
                break
            try:
                if not (pins and self._is_pinned(file.inode, pins)):
                    freed += file.drop_parts(room_bytes - freed)
            finally:
                file.close()
        return freed

    def pin(self, inode: Inode) -> None:
        """Keep what lies at and below a node from eviction."""
        self.db.run("INSERT OR IGNORE INTO pins VALUES (?)", (inode,))

    def unpin(self, inode: Inode) -> None:
        """Take back every pin at and below a node."""
        with self.db.transaction():
            for pinned in self._pins():
                if self._is_pinned(pinned, {inode}):
                    self.db.run("DELETE FROM pins WHERE inode = ?", (pinned,))

    def _pins(self) -> set[Inode]:
        return {Inode(row[0]) for row in self.db.rows("SELECT inode FROM pins")}

    def _is_pinned(self, inode: Inode, pins: set[Inode]) -> bool:
        return inode in pins or any(folder in pins for folder in self.nodes.ancestors(inode))

    def sync(self) -> None:
        """Make everything that was written before the call outlive a power cut: content first, then the rows
        that speak of it. Takes no lock for long."""
        self.content.sync()
        self.db.sync()

    def close(self) -> None:
        self.content.close()
        self.db.close()
