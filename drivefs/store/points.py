"""Publish points, and what of them is frozen (design: A write).

A point is a pointer (what replaces a name, as `latest` does) with all that was closed before it in its folder and
below. On a line that cannot keep up the next pointer comes before this one could go, so a point that the uploader has
begun is finished: what belongs to it and is replaced or removed here from then on is frozen. It stays in its place in
the tree, with its content, its job and its file on Drive, and no system call sees it. What goes on with that file
(store.identity), or has its name by now, waits; when Drive has the frozen one, its file is handed over, or removed in
its turn.

Any thread may enter. Each function is one transaction, or part of the caller's; what is frozen outlives the process.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from drivefs.model import DriveId, Generation, Inode, Kind
from drivefs.store.content import ContentStore
from drivefs.store.db import Database
from drivefs.store.identity import Identities
from drivefs.store.node import COLUMNS, NOT_ON_DRIVE, Node
from drivefs.store.nodes import Nodes
from drivefs.store.queue import Barrier, Job, JobState


@dataclass(frozen=True, slots=True)
class Point:
    """A publish point that has begun: what waits in `folder` and below it, up to the pointer's own `seq`."""

    folder: Inode
    seq: int
    overtaken: bool
    """Whether a newer version of its pointer is there: the line has not kept up."""


class Points(Identities):
    """The queue, and what it keeps for points that have begun."""

    def __init__(self, db: Database, nodes: Nodes, content: ContentStore) -> None:
        super().__init__(db, nodes, content)
        self._frozen_in_use: set[Inode] = set()  # frozen and open; guarded by the database's lock

    # --- what the uploader does ---

    def begin_point(self, pointer: Job) -> None:
        """From now on the point of this job is finished, whatever comes."""
        self._db.run(
            "UPDATE jobs SET begun = 1 WHERE inode = ? AND seq = ? AND generation IS ?",
            (pointer.inode, pointer.seq, pointer.generation),
        )

    def points(self) -> list[Point]:
        """Those that have begun and are not on Drive yet."""
        rows = self._db.rows(
            "SELECT n.parent, j.seq, n.frozen_ns IS NOT NULL FROM jobs j JOIN nodes n ON n.inode = j.inode"
            " WHERE j.begun = 1 AND j.state = ? AND n.parent IS NOT NULL",
            (JobState.WAITING.value,),
        )
        return [Point(Inode(row[0]), row[1], bool(row[2])) for row in rows]

    def makes_room(self, inode: Inode) -> bool:
        """Whether a node lies below a point that was overtaken, and is not needed by it."""
        overtaken = [point for point in self.points() if point.overtaken]
        if not overtaken:
            return False
        job, above = self.find(inode), set(self._nodes.ancestors(inode))
        return any(
            point.folder in above and (job is None or job.generation is None or job.seq > point.seq)
            for point in overtaken
        )

    def park(self, inode: Inode, reason: str) -> None:
        """What Drive refuses is kept, shown, and blocks nobody; a frozen one gives way to what goes on with it."""
        with self._db.transaction():
            node = self._nodes.find(inode)
            if node is not None and node.frozen:
                self.give_up(node)
            else:
                super().park(inode, reason)

    def give_up(self, frozen: Node) -> None:
        """Drive will not have a frozen node: whatever was to go on with it does without."""
        with self._db.transaction():
            now = self._nodes.find(frozen.inode)
            if now is not None and now.frozen:
                self._finish(now)

    def find_oldest(self, node: Node) -> Job | None:
        """The first of the jobs that bring a file to Drive: that of what it goes on with, or its own."""
        before = self._nodes.find_before(node.inode)
        older = self.find_oldest(before) if before is not None else None
        return older if older is not None else self.find(node.inode)

    # --- what system calls do ---

    def lose_name(self, node: Node, ctime_ns: int) -> Node:
        """The node as it is when its name is taken away here: without one, or frozen."""
        with self._db.transaction():
            job = self.find(node.inode)
            if job is not None and self._is_needed(node, job) and self._is_of_an_open_file(node, job):
                self._leave_behind(node, job)
            elif self._must_stay(node, job):
                return self._nodes.update(node.inode, frozen_ns=time.time_ns(), ctime_ns=ctime_ns)
            return self._nodes.update(
                node.inode, parent=None, name=None, remote_parent=self._drive_parent(node), ctime_ns=ctime_ns
            )

    def _drive_parent(self, node: Node) -> DriveId | None:
        """The folder in which Drive has a node, or may have it: nobody knows, while its create is under way."""
        if node.drive_id is None or node.remote_parent is not None or node.parent is None:
            return node.remote_parent
        return self._nodes.get(node.parent).drive_id

    def keep_frozen(self, inode: Inode) -> None:
        """A frozen node is open: its content stays for who has it. Part of the transaction that froze it."""
        self._frozen_in_use.add(inode)

    def forget_unnamed(self, inode: Inode) -> None:
        """The last handle of a nameless node is closed: its content goes, and its row unless Drive must hear."""
        with self._db.transaction():
            self._frozen_in_use.discard(inode)
            node = self._nodes.find(inode)
            if node is None or not node.unnamed:
                return
            if node.generation is not None:
                self._content.discard(node.generation)
            if self.find(inode) is None:
                self._nodes.remove(inode)
            else:
                self._nodes.update(inode, generation=None)

    # --- freezing ---

    def _is_needed(self, node: Node, job: Job | None) -> bool:
        """Whether a point that has begun needs what waits of a node."""
        if job is None or job.state is JobState.PARKED:
            return False
        if job.generation is None and (node.kind is Kind.FILE or node.confirmed_ns is not None):
            return False  # still being written, or there already
        points = self.points()
        if not points or node.parent is None:
            return False
        above = {node.parent, *self._nodes.ancestors(node.parent)}
        return any(job.seq <= point.seq and point.folder in above for point in points)

    def _must_stay(self, node: Node, job: Job | None) -> bool:
        if node.kind is Kind.FOLDER and self._nodes.frozen_in(node.inode):
            return True
        return self._is_needed(node, job)

    @staticmethod
    def _is_of_an_open_file(node: Node, job: Job) -> bool:
        """Whether it is a snapshot of a file that has gone on since."""
        return job.generation is not None and job.generation != node.generation

    def _leave_behind(self, node: Node, job: Job) -> None:
        """What waits of `node` becomes a frozen node of its own, with its place, its job and its file on Drive;
        `node` goes on as a new one. If it was frozen already, it is from now on what its handles write, nameless."""
        with self._db.transaction():
            values = {column: getattr(node, column) for column in COLUMNS if column != "inode"}
            assert job.generation is not None
            values |= {"generation": job.generation, "size_bytes": self._content.sealed_bytes(job.generation)}
            values["frozen_ns"] = node.frozen_ns or time.time_ns()
            nameless = {"parent": None, "name": None, "frozen_ns": None} if node.frozen else {}
            self._nodes.update(node.inode, **NOT_ON_DRIVE, heir=None, **nameless)
            frozen = self._nodes.add(**values)
            self._bequeath(node, frozen.inode)
            if not node.frozen:
                self._nodes.update(frozen.inode, heir=node.inode)
            for name, value in self._nodes.xattrs(node.inode).items():
                self._nodes.set_xattr(frozen.inode, name, value)
            self._content.belongs_to(job.generation, frozen.inode)
            self._db.run("UPDATE jobs SET inode = ? WHERE inode = ?", (frozen.inode, node.inode))
            if node.frozen:
                self._frozen_in_use.discard(node.inode)
                return
            self._enqueue(self._nodes.get(node.inode), Barrier.FOLDER, renew=True)

    def _break(self, node: Node, job: Job) -> None:
        """What points need of a node cannot be kept: older versions of what was to replace a name after it are not
        published any more, for Drive would not have all that they name."""
        for folder in self._nodes.ancestors(node.inode):
            self._db.run(
                "UPDATE jobs SET begun = NULL WHERE seq >= ? AND inode IN (SELECT inode FROM nodes WHERE parent = ?)",
                (job.seq, folder),
            )
            for frozen in self._nodes.frozen_in(folder):
                other = self.find(frozen.inode)
                if other is not None and other.seq > job.seq and other.barrier is Barrier.FOLDER:
                    self.give_up(frozen)

    # --- thawing ---

    def _finish(self, frozen: Node, last: Job | None = None) -> None:
        """Nothing of a frozen node waits for Drive any more: its file there is taken over, or removed. `last`: the
        job of what was the last in it to be finished, where it is a folder that had to stay for that."""
        job = self.find(frozen.inode)
        self._drop(frozen.inode)
        if frozen.kind is Kind.FOLDER and self._nodes.frozen_in(frozen.inode):
            return  # the last of them takes it along
        if job is not None and job.generation not in (None, frozen.generation):
            self._content.discard(job.generation)
        heir = self._find_heir(frozen)
        self._bequeath(frozen, None if heir is None else heir.inode)  # it was given up before what it waited for
        if heir is not None and frozen.drive_id is not None:
            self._hand_over(frozen, heir)
            self._nodes.update(frozen.inode, parent=None, name=None, frozen_ns=None, heir=None)
            self._forget_thawed(frozen.inode)
        else:
            self._let_go(frozen)
            # A flush that waited for it, or for what was in it, waits for its removal too.
            if job is not None:
                self._inherit(frozen.inode, job)
            elif last is not None:
                self._owe_since(frozen.inode, last)
        folder = self._nodes.find(frozen.parent) if frozen.parent is not None else None
        if folder is not None and folder.frozen and self.find(folder.inode) is None:
            self._finish(folder, job or last)
        self.changed.set()

    def _let_go(self, frozen: Node) -> None:
        # What Drive got only after it was removed here leaves no trace there.
        before = frozen.confirmed_ns is not None and frozen.confirmed_ns < (frozen.frozen_ns or 0)
        node = self._nodes.update(
            frozen.inode,
            parent=None,
            name=None,
            frozen_ns=None,
            heir=None,
            confirmed_ns=frozen.confirmed_ns if before else None,
        )
        if node.drive_id is not None:
            self._enqueue(node, Barrier.MOUNT, renew=True)
        self._forget_thawed(node.inode)

    def _forget_thawed(self, inode: Inode) -> None:
        if inode in self._frozen_in_use:
            self._frozen_in_use.discard(inode)  # the last close forgets it
        else:
            self.forget_unnamed(inode)

    def forget_orphan(self, generation: Generation) -> None:
        """Discard content that was kept for an upload only, now that the upload has ended."""
        with self._db.transaction():
            used = self._db.row("SELECT 1 FROM nodes WHERE generation = ?", (generation,)) or self._db.row(
                "SELECT 1 FROM jobs WHERE generation = ?", (generation,)
            )
            if used is None and not self._content.is_claimed(generation):
                self._content.discard(generation)
