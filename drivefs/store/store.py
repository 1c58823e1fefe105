"""The local half of drivefs: tree, content and journal in one cache folder, brought in order when it is opened."""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from drivefs.errors import CacheDamaged, CacheFull, DatabaseDamaged, StoreError
from drivefs.model import ROOT_INODE, Generation, Inode, Kind, RevisionId
from drivefs.store import salvage
from drivefs.store.content import ContentStore
from drivefs.store.content_file import ContentFile
from drivefs.store.db import Database
from drivefs.store.generations import Base, State
from drivefs.store.habits import Habits
from drivefs.store.journal import Journal
from drivefs.store.news import News
from drivefs.store.node import Node
from drivefs.store.nodes import Nodes
from drivefs.store.quarantine import Quarantine
from drivefs.store.recovery import Recovered, recover
from drivefs.store.requests import Requests
from drivefs.store.sync_points import SyncPoint, read_boot_id, sync_folder
from drivefs.store.write_buffers import WriteBuffers

log = logging.getLogger(__name__)

CHECKPOINT_TRIES = 5
"""Where writers never rest, the log begins anew only when a checkpoint has met with a moment of rest: while it is
long, that is tried several times."""

RELIEF_LIMIT_S = 1.0
"""Who makes names waits for such a moment no longer than this."""


class Store:
    """A cache folder in use by this process. Any thread may enter once it is opened."""

    def __init__(self, folder: Path, boot_id: Callable[[], str] = read_boot_id) -> None:
        """Open or create it. Raises CacheInUse, CacheDamaged, StoreError."""
        self.folder = folder
        self._counting = threading.Lock()
        self._syncing = threading.Lock()  # held for one sync point; guards nothing that others ask for
        self._begun = 0  # sync points; guarded by _counting
        self._done = 0  # the number of the last one that ended well; guarded by _syncing
        self._at_rest = threading.Event()  # not set: who makes names waits, so that the log can begin anew
        self._at_rest.set()
        self.damaged: Path | None = None
        """A damaged database that was found instead of this one, and is kept there."""
        try:
            self.db = Database(folder, boot_id)
        except DatabaseDamaged:
            found = salvage.read(folder)
            self.db = Database(folder, boot_id)
            self.damaged = found.aside
            files = salvage.take_over(found, self.db, folder / "content")
            log.error("The cache's database was damaged; %d files that wait for Drive were found in it.", files)
        self.news = News(self.db)
        self.nodes = Nodes(self.db, self.news)
        self.habits = Habits()
        self.content = ContentStore(self.db, folder / "content")
        self.journal = Journal(self.db, self.nodes, self.content)
        self.requests = Requests(self.db)
        self.quarantine = Quarantine(self.db, folder / "quarantine")
        self.write_buffers = WriteBuffers(folder / "write-buffers")
        self.left: dict[Inode, Generation] = {}
        """After `recover`: the old revision that those read who opened a file before it changed on Drive."""
        try:
            sync_folder(folder)
            if self.db.points.last is None:
                sync_folder(folder.parent)
        except OSError as error:
            raise CacheDamaged(f"The cache could not be flushed to the disk: {error.strerror}.") from error
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

    def recover(self, in_use: Collection[Inode] = ()) -> Recovered:
        """Put right what an unclean end left; before the mount answers. May be repeated.

        `in_use`: inodes that the kernel has open still, for its end of the mount lives. They keep their content, open
        for writing where it is, also without a name.
        """
        if not self.db.was_cut:
            for write in self.write_buffers.left():
                self.content.leftovers.finish(write)
        self.write_buffers.discard()
        recovered, self.left = recover(self.db, self.nodes, self.content, self.journal, self.quarantine, in_use)
        if self.db.points.last is None or self.db.points.was_cut:
            self.sync()
        return recovered

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

    def content_of(self, node: Node) -> ContentFile:
        """What a node reads, which may have to be fetched; the caller closes it. A content file that is missing is
        fetched anew where Drive has it. Raises CacheDamaged, CacheFull."""
        with self.db.transaction():
            if node.generation is None:
                return self.remote_content(node)
            try:
                return self.content.open(node.generation)
            except CacheDamaged as error:
                if node.export is not None or not self.content.is_copy(node.generation):
                    raise
                log.warning("What was kept of inode %d is fetched again: %s", node.inode, error)
                self.content.discard(node.generation)
                return self.remote_content(node)

    def lose_content(self, file: ContentFile) -> None:
        """A complete copy of what Drive has is wrong, nobody knows where: all of it is fetched again. Raises
        CacheDamaged where it is not known from where."""
        with file.lock, self.db.transaction():
            node = self.nodes.find(file.inode)
            if file.state is not State.CLEAN or file.base is not None:
                return
            if node is None or node.drive_id is None or node.generation != file.generation:
                raise CacheDamaged(f"Content file {file.generation} is damaged, and not on Drive any more.")
            file.lose_all(Base(node.drive_id, node.revision or RevisionId("")))

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
                node = self.nodes.find(inode)
                if node is not None and node.gone:
                    continue  # who has it open could not fetch it any more: another file has its place on Drive
                if self.content.drop_unused(generation):
                    if node is not None and node.generation == generation:
                        self.nodes.update(inode, generation=None)
                    freed += size_bytes
        for file in self.content.in_use():
            try:
                if freed < room_bytes and not (pins and self._is_pinned(file.inode, pins)):
                    freed += file.drop_parts(room_bytes - freed)
            finally:
                file.close()
        return freed

    def make_room(self, room_bytes: int) -> bool:
        """Free some of the disk, if there is anything to be freed; may wait for it."""
        if self.evict(room_bytes):
            return True
        if not self.content.points.has_room_coming:
            return False
        self.sync()
        self.evict(room_bytes)
        return True

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

    # --- sync points ---

    def sync(self) -> None:
        """Make everything that was done before the call outlive a power cut. Waits for the disk, and holds no lock
        that others need meanwhile; those who call it at the same time share one. Raises CacheDamaged, CacheFull."""
        self._sync_once(checkpoint=False)

    def checkpoint(self) -> None:
        """What `sync` does; then move the database's log into the database, so that it does not grow for ever.

        Raises CacheDamaged, CacheFull.
        """
        if self._checkpoint_at_rest():
            return
        self._at_rest.clear()
        try:
            self._checkpoint_at_rest()
        finally:
            self._at_rest.set()

    def _checkpoint_at_rest(self) -> bool:
        """Whether the log need not be looked at again now."""
        return any(self._sync_once(checkpoint=True) for _ in range(CHECKPOINT_TRIES))

    def await_relief(self) -> None:
        """Called by who is about to make names, and holds no lock: where those who do never rest, the log would grow
        for as long as they go on. Returns at once nearly always."""
        self._at_rest.wait(RELIEF_LIMIT_S)

    def relieve(self) -> None:
        """Called by who writes much and has time, between his transactions: `checkpoint` once the log is long. In a
        log that is written all the time there is no end from which it could begin anew. Raises CacheFull."""
        if self.db.is_long():
            self.checkpoint()

    def _sync_once(self, *, checkpoint: bool) -> bool:
        """Whether the log need not be looked at again now."""
        with self._counting:
            wanted = self._begun + 1  # one that begins after this call
        with self._syncing:
            if self._done >= wanted and not checkpoint:
                return True
            with self._counting:
                self._begun += 1
                number = self._begun
            emptied = self._sync(checkpoint=checkpoint)
            self._done = number
            return emptied

    def _sync(self, *, checkpoint: bool) -> bool:
        db, content, points = self.db, self.content, self.db.points
        with db.transaction():
            content.points.forget_unlinked()
        with db.transaction_lock():
            number = points.begin()
            position = db.position()
            held = content.points.begin()
            idle = points.last is not None and points.last.position == position and not (held.any or points.was_cut)
            if idle and not (checkpoint and db.is_long()):
                held.close()
                return True  # nothing has happened since
            if checkpoint:
                db.begin_checkpoint()
        ended = False
        try:
            sizes = content.points.flush(held)
            db.sync()
            points.end(SyncPoint(number, points.boot_id, position, sizes, held.written_unseen))
            ended = True
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise CacheFull("The disk of the cache has no room for a sync point.") from error
            raise CacheDamaged(f"The cache could not be flushed to the disk: {error.strerror}.") from error
        finally:
            if not ended:
                content.points.give_back(held)
            held.close()
            emptied = db.end_checkpoint(move=ended) if checkpoint else True
        content.points.end(held)
        return not checkpoint or not db.is_long() or (emptied and db.begin_anew())

    def close(self) -> None:
        """Make a last sync point, if the disk lets us, and close it."""
        try:
            # To close the database moves its log into it: what that speaks of must be on the disk before.
            self.sync()
            self.write_buffers.close()
        except StoreError as error:
            log.error("The cache is closed with data that is not on the disk: %s", error)
        finally:
            self.content.points.close()
            self.db.close()
