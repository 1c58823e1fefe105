"""Which file on Drive a node goes on with: decided here, when names change (design, promise 5).

A node has a file on Drive of its own, or none yet, or it goes on with that of something frozen (store.points) as soon
as Drive has that: the frozen one names its heir. So what a file is on Drive does not hang on how far older versions
of it have come, nor on the names that it has had meanwhile.

- A name that is moved keeps its file; one that is removed gives it up.
- What is renamed over another goes on with the other's file, if it is a temporary file or has none; what it had of
  its own leaves no trace then. If it has a life of its own on Drive it keeps its file, and the other's is removed.
- What is made anew under the name of something frozen, with which nobody goes on, goes on with it.

Any thread may enter. Each function is one transaction, or part of the caller's.
"""

from __future__ import annotations

import time

from drivefs.model import DriveId, Generation, Inode, Kind, RevisionId
from drivefs.store.content import ContentStore
from drivefs.store.db import Database
from drivefs.store.generations import State
from drivefs.store.node import NOT_ON_DRIVE, Node
from drivefs.store.nodes import Nodes
from drivefs.store.queue import Barrier, Queue

FRESH_NS = 600_000_000_000
"""A file that this mount made and published less than 10 minutes ago counts as a temporary file when it is renamed
over another: it takes the other's place on Drive. An older one has a life of its own there (design, promise 5)."""

IDENTITY = (*NOT_ON_DRIVE, "ours")
"""The columns that go with a file on Drive to the node that takes it over."""


class Identities(Queue):
    """The queue, and who has which file on Drive."""

    def __init__(self, db: Database, nodes: Nodes, content: ContentStore) -> None:
        super().__init__(db, nodes)
        self._content = content

    def origin(self, node: Node) -> Node:
        """The node that has the file on Drive with which `node` goes on, or will have it first: itself, or something
        frozen."""
        while node.drive_id is None and (before := self._nodes.find_before(node.inode)) is not None:
            node = before
        return node

    def replaced(self, source: Node, target: Node) -> None:
        """`source` was renamed over `target`, which has lost its name. Both are given as they are now."""
        with self._db.transaction():
            if self.takes_over(source, target):
                self._take_over(source, target)
            elif target.frozen or self.origin(target).drive_id is not None:
                self._enqueue(source, Barrier.FOLDER, renew=True)
                self.removed(target)
            else:
                self.removed(target)
                self._enqueue(source, Barrier.NONE, renew=source.drive_id is None)

    def removed(self, node: Node) -> None:
        """A node lost its name: nothing more of it is sent, and what Drive has of it goes. A frozen one waits."""
        with self._db.transaction():
            if node.frozen:
                return
            self._bequeath(node, None)
            job = self.find(node.inode)
            if job is not None and job.generation is not None:
                if job.generation == node.generation:
                    self._content.supersede(job.generation)
                else:
                    self._content.discard(job.generation)
                self._db.run("UPDATE jobs SET generation = NULL WHERE inode = ?", (node.inode,))
            if node.drive_id is None:
                self._drop(node.inode)
            else:
                self._enqueue(node, Barrier.MOUNT, renew=True)

    # --- renamed over ---

    def takes_over(self, source: Node, target: Node) -> bool:
        """Whether `source`, renamed over `target`, goes on with what that has on Drive, or will have; otherwise that
        goes to the trash."""
        if source.kind is not target.kind or target.points_to is not None:
            return False
        awaited = target.frozen or self._nodes.find_before(target.inode) is not None
        return (awaited or target.drive_id is not None) and self._is_temporary(source)

    def _is_temporary(self, source: Node) -> bool:
        """Whether `source` may give up its own identity on Drive for that of the file it replaces."""
        if source.kind is Kind.FOLDER:
            return False
        own = self.origin(source)
        if own.drive_id is None:
            return True
        if not own.ours:
            return False
        if own.confirmed_ns is not None and time.time_ns() - own.confirmed_ns > FRESH_NS:
            return False
        return source.kind is Kind.SYMLINK or (
            source.generation is not None and self._content.is_whole(source.generation)
        )

    def _take_over(self, source: Node, target: Node) -> None:
        """`source` goes on with the Drive file of `target`; what it had of its own goes for good."""
        older = None if target.frozen else self.find(target.inode)
        # A target that was never sent replaces nothing on Drive.
        never_sent = target.confirmed_ns is None and older is not None and older.barrier is Barrier.NONE
        self._abandon(source)
        values: dict[str, object] = dict(NOT_ON_DRIVE)
        if target.frozen:
            self._nodes.update(target.inode, heir=source.inode)
        else:
            if target.drive_id is not None:
                values = {column: getattr(target, column) for column in IDENTITY}
            self._bequeath(target, source.inode)
            self.removed(self._nodes.update(target.inode, drive_id=None, confirmed_ns=None))
        node = self._nodes.update(source.inode, **values)
        barrier = Barrier.NONE if never_sent else Barrier.FOLDER
        self._enqueue(node, barrier, generation=self._to_send(node), renew=True)
        if older is not None:
            self._inherit(node.inode, older)

    def _to_send(self, node: Node) -> Generation | None:
        """The content that a node sends to another file on Drive than its own; None while it is being written."""
        job = self.find(node.inode)
        if job is not None and job.generation is not None:
            return job.generation
        if node.generation is None:
            return None
        state = self._content.state(node.generation)
        if state is State.CLEAN:
            self._content.mark(node.generation, State.SEALED)
        return node.generation if state is not State.OPEN else None

    def _abandon(self, source: Node) -> None:
        """Leave a nameless node behind that goes on with the file that `source` had on Drive, or may have, or was to
        go on with, and whose job deletes that."""
        if source.drive_id is None and self._nodes.find_before(source.inode) is None:
            return
        job = self.find(source.inode)
        if source.generation is not None:
            self._content.supersede(source.generation)
        if job is not None and job.generation is not None:
            self._content.supersede(job.generation)
        self._db.run("UPDATE jobs SET session = NULL, session_generation = NULL WHERE inode = ?", (source.inode,))
        self._nodes.update(source.inode, drive_id=None)
        left = self._leave_nameless(source.drive_id, source.kind, source.revision)
        self._bequeath(source, left.inode)
        if job is not None and job.tried_md5 is not None:
            self._db.run("UPDATE jobs SET tried_md5 = ? WHERE inode = ?", (job.tried_md5, left.inode))

    def _leave_nameless(self, drive_id: DriveId | None, kind: Kind, revision: RevisionId | None) -> Node:
        left = self._nodes.add(
            parent=None,
            name=None,
            kind=kind,
            mode=0,
            size_bytes=0,
            mtime_ns=0,
            ctime_ns=0,
            ours=True,
            drive_id=drive_id,
            confirmed_ns=None,
            revision=revision,
        )
        self._enqueue(left, Barrier.MOUNT, renew=True)
        return left

    # --- what is frozen ---

    def _bequeath(self, node: Node, heir: Inode | None) -> None:
        """Let `heir` go on with what `node` was to go on with, if there is anything; None: nobody."""
        before = self._nodes.find_before(node.inode)
        if before is not None:
            self._nodes.update(before.inode, heir=heir)

    def _find_heir(self, frozen: Node) -> Node | None:
        """Who goes on with the file of something frozen now that Drive has it."""
        if frozen.heir is not None:
            heir = self._nodes.find(frozen.heir)
            return heir if heir is not None and heir.drive_id is None else None
        assert frozen.parent is not None
        same = self._nodes.frozen_in(frozen.parent, frozen.name)
        shown = self._nodes.find_child(frozen.parent, frozen.name or "")
        later = same[[each.inode for each in same].index(frozen.inode) + 1 :]
        for each in (*later, *([] if shown is None else [shown])):
            if each.drive_id is None and each.kind is frozen.kind and self._nodes.find_before(each.inode) is None:
                return None if each.kind is Kind.FOLDER else each
        return None

    def _hand_over(self, frozen: Node, heir: Node) -> None:
        """The file of `frozen` is that of `heir` from now on."""
        values: dict[str, object] = {column: getattr(frozen, column) for column in IDENTITY}
        self._nodes.update(frozen.inode, **NOT_ON_DRIVE)
        if heir.unnamed:
            values["confirmed_ns"] = None  # it is to leave no trace
        elif frozen.confirmed_ns is not None:
            # What replaces nothing on Drive needs no barrier.
            self._db.run("UPDATE jobs SET barrier = ? WHERE inode = ?", (Barrier.FOLDER.value, heir.inode))
        self._nodes.update(heir.inode, change=heir.change + 1, **values)
