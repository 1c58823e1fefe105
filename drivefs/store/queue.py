"""The jobs of the journal as a queue: one a node that differs from Drive, in publish order.

Any thread may enter. Each function is one transaction, or part of the caller's.

The order (design, promise 4) is by `seq`, which is taken at the last close, rename over, or removal of a node. What
a node already owed Drive before that is remembered in `since_seq`, so that a flush waits for it all the same.
"""

from __future__ import annotations

import math
import sqlite3
import threading
import time
from collections.abc import Iterator, Set
from dataclasses import dataclass
from enum import Enum

from drivefs.model import DriveId, Generation, Inode, SessionUri
from drivefs.store.db import Database
from drivefs.store.node import Node
from drivefs.store.nodes import Nodes

QUIET_NS = 200_000_000
"""A change is published after this much quiet, so that a rename or a rewrite that follows at once costs nothing."""

QUIET_LIMIT_NS = 3_000_000_000
"""But no later than this after the first change, so that a file rewritten all the time gets to Drive too."""

LULL_NS = 100_000_000
"""Changes that come faster than this, one after another, are one burst: a program that makes many small files."""

BURST_NS = 1_000_000_000
"""For so long after its beginning a burst has the machine for itself."""

SESSION_NS = 8 * 86_400 * 10**9
"""Longer than any session lives."""

PAGE_JOBS = 64
"""Read at a time: the uploader seldom looks further than what it can start."""


class Barrier(Enum):
    """What must be on Drive before a job. The values are stored."""

    NONE = "none"
    FOLDER = "folder"  # all that was closed before it in its folder and below
    MOUNT = "mount"  # all that was closed before it anywhere


class JobState(Enum):
    """Of a job. The values are stored."""

    WAITING = "waiting"
    PARKED = "parked"  # will not work until something else changes; it blocks nobody
    HELD = "held"  # is not sent until the file is changed once more; it blocks nobody


@dataclass(frozen=True, slots=True)
class Job:
    """A row of `jobs`; the columns' meaning stands in schema.SCHEMA."""

    inode: Inode
    seq: int
    since_seq: int
    barrier: Barrier
    generation: Generation | None
    state: JobState
    since_ns: int
    ready_ns: int
    attempts: int
    reason: str
    session: SessionUri | None
    tried_md5: str | None = None
    begun: bool = False

    @property
    def stuck(self) -> bool:
        """Whether it waits for something that does not come by itself."""
        return self.state is not JobState.WAITING


@dataclass(frozen=True, slots=True)
class Left:
    """How much waits: jobs, bytes of sealed content, and how many of the jobs are parked or held."""

    jobs: int
    size_bytes: int
    parked: int


def _job(row: sqlite3.Row) -> Job:
    generation = row["generation"]
    session = row["session"] if generation and row["session_generation"] == generation else None
    return Job(
        inode=Inode(row["inode"]),
        seq=row["seq"],
        since_seq=row["since_seq"],
        barrier=Barrier(row["barrier"]),
        generation=generation,
        state=JobState(row["state"]),
        since_ns=row["since_ns"],
        ready_ns=row["ready_ns"],
        attempts=row["attempts"],
        reason=row["reason"],
        session=session,
        tried_md5=row["tried_md5"],
        begun=bool(row["begun"]),
    )


class Queue:
    """The rows of `jobs`."""

    def __init__(self, db: Database, nodes: Nodes) -> None:
        self._db = db
        self._nodes = nodes
        self._next_seq = 1 + (db.rows("SELECT COALESCE(MAX(seq), 0) FROM jobs")[0][0])  # guarded by the database
        # When the last change was, and the first of those that came without a lull; guarded by the database.
        self._last_ns = self._burst_ns = 0
        self.changed = threading.Event()
        """Set when there may be something new to publish; the uploader clears it."""
        self.progress = threading.Condition()
        """Notified when a job was published, postponed or parked."""

    # --- putting in and taking out ---

    def _enqueue(self, node: Node, barrier: Barrier, *, generation: Generation | None = None, renew: bool) -> None:
        """Make or widen the node's job. `renew` gives it a new place at the end of the publish order. Of what lies
        here only, Drive is never told."""
        if node.local:
            return
        now_ns = time.time_ns()
        with self._db.transaction():
            if now_ns - self._last_ns > LULL_NS:
                self._burst_ns = now_ns
            self._last_ns = now_ns
            self._nodes.update(node.inode, change=self._nodes.get(node.inode).change + 1)
            old = self.find(node.inode)
            if old is None:
                self._db.run(
                    "INSERT INTO jobs"
                    " (inode, seq, since_seq, barrier, generation, state, since_ns, ready_ns, attempts, reason)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, '')",
                    (
                        node.inode,
                        seq := self._take_seq(),
                        seq,
                        barrier.value,
                        generation,
                        JobState.WAITING.value,
                        now_ns,
                        now_ns + QUIET_NS,
                    ),
                )
            else:
                widest = max(barrier, old.barrier, key=list(Barrier).index)
                ready_ns = max(old.since_ns, min(now_ns + QUIET_NS, old.since_ns + QUIET_LIMIT_NS))
                self._db.run(
                    "UPDATE jobs SET seq = ?, begun = ?, barrier = ?, generation = ?, state = ?, ready_ns = ?,"
                    " attempts = 0 WHERE inode = ?",
                    (
                        self._take_seq() if renew else old.seq,
                        1 if old.begun and not renew else None,
                        widest.value,
                        generation if generation is not None else old.generation,
                        JobState.WAITING.value,
                        ready_ns,
                        node.inode,
                    ),
                )
            self.changed.set()

    def _inherit(self, inode: Inode, older: Job) -> None:
        """The node has taken the place of another, and owes Drive since whichever of the two did first."""
        self._owe_since(inode, older)
        self._db.run("UPDATE jobs SET tried_md5 = ? WHERE inode = ?", (older.tried_md5, inode))

    def _owe_since(self, inode: Inode, older: Job) -> None:
        """The node owes Drive its job, if it has one, since `older` at the latest: a flush that waits for that waits
        for both."""
        self._db.run(
            "UPDATE jobs SET since_seq = MIN(since_seq, ?), since_ns = MIN(since_ns, ?) WHERE inode = ?",
            (older.since_seq, older.since_ns, inode),
        )

    def set_tried(self, drive_id: DriveId, md5: str) -> None:
        """Note the content whose upload may work without our hearing of it, with whoever has its place by now."""
        self._db.run(
            "UPDATE jobs SET tried_md5 = ? WHERE inode = (SELECT inode FROM nodes WHERE drive_id = ?)",
            (md5, drive_id),
        )

    def set_trying(self, inode: Inode, told: str) -> None:
        """Note the place that Drive is about to be told of a node, without its content: until a reply says what
        became of that, nobody knows what Drive has."""
        # A content that was tried counts for more; an earlier place has been asked after by now.
        self._db.run(
            "UPDATE jobs SET tried_md5 = CASE WHEN tried_md5 IS NULL OR tried_md5 LIKE '=%' THEN ? ELSE tried_md5 END"
            " WHERE inode = ?",
            (told, inode),
        )

    def _take_seq(self) -> int:
        seq: int = self._next_seq
        self._next_seq += 1
        return seq

    def _drop(self, inode: Inode) -> None:
        self._db.run("DELETE FROM jobs WHERE inode = ?", (inode,))
        self._db.after_commit(self._notify)

    def _notify(self) -> None:
        with self.progress:
            self.progress.notify_all()

    def postpone(self, inode: Inode, reason: str, ready_ns: int) -> None:
        """A try failed; the next one is at `ready_ns`."""
        self._db.run(
            "UPDATE jobs SET attempts = attempts + 1, reason = ?, ready_ns = ? WHERE inode = ?",
            (reason, ready_ns, inode),
        )
        self._notify()

    def defer(self, inode: Inode, ready_ns: int) -> None:
        """It is looked at again at `ready_ns`; nothing was tried."""
        self._db.run("UPDATE jobs SET ready_ns = ? WHERE inode = ?", (ready_ns, inode))

    def park(self, inode: Inode, reason: str) -> None:
        """It will not work until something else changes. It is kept, shown, and blocks nobody."""
        self._db.run(
            "UPDATE jobs SET attempts = attempts + 1, reason = ?, state = ? WHERE inode = ?",
            (reason, JobState.PARKED.value, inode),
        )
        self._notify()

    def hold(self, inode: Inode, reason: str) -> None:
        """It is not sent until the file is changed once more. It is kept, shown, and blocks nobody."""
        self._db.run("UPDATE jobs SET reason = ?, state = ? WHERE inode = ?", (reason, JobState.HELD.value, inode))
        self._notify()

    def unpark_all(self) -> None:
        """Try again what was parked (a new start, or the person asks)."""
        self._db.run(
            "UPDATE jobs SET state = ?, ready_ns = 0 WHERE state = ?",
            (JobState.WAITING.value, JobState.PARKED.value),
        )
        self.changed.set()

    def retry_all(self) -> None:
        """Try again now what was postponed: the person asks."""
        self._db.run("UPDATE jobs SET ready_ns = 0 WHERE attempts > 0")
        self.changed.set()

    # --- what was removed before Drive had it ---

    def disown(self, drive_id: DriveId) -> None:
        """Should a create with this ID, whose reply never came, work after all, its file goes."""
        self._db.run("INSERT OR REPLACE INTO disowned VALUES (?, ?)", (drive_id, time.time_ns()))

    def disowned(self) -> set[DriveId]:
        return {DriveId(row[0]) for row in self._db.rows("SELECT drive_id FROM disowned")}

    def forget_disowned(self) -> None:
        """A session lives one week (drive-api: Uploads): no create comes later than that."""
        self._db.run("DELETE FROM disowned WHERE since_ns < ?", (time.time_ns() - SESSION_NS,))

    # --- what the uploader asks ---

    def find(self, inode: Inode) -> Job | None:
        row = self._db.row("SELECT * FROM jobs WHERE inode = ?", (inode,))
        return None if row is None else _job(row)

    def find_at(self, seq: int) -> Job | None:
        """The job that has this place in the order."""
        row = self._db.row("SELECT * FROM jobs WHERE seq = ?", (seq,))
        return None if row is None else _job(row)

    def in_order(self, limit: int) -> Iterator[Job]:
        """The first `limit` jobs of the publish order, read a page at a time; others may change them meanwhile."""
        after = 0
        while limit > 0:
            rows = self._db.rows(
                "SELECT * FROM jobs WHERE seq > ? ORDER BY seq LIMIT ?", (after, min(limit, PAGE_JOBS))
            )
            for row in rows:
                yield _job(row)
            if len(rows) < PAGE_JOBS:
                return
            after = rows[-1]["seq"]
            limit -= PAGE_JOBS

    def removals(self, limit: int) -> list[Job]:
        """The first `limit` jobs that take a file of ours away from Drive, in publish order."""
        rows = self._db.rows(
            "SELECT j.* FROM jobs j JOIN nodes n ON n.inode = j.inode WHERE n.parent IS NULL AND n.kind = 'file'"
            " AND n.ours AND n.confirmed_ns IS NOT NULL AND j.state = ? ORDER BY j.seq LIMIT ?",
            (JobState.WAITING.value, limit),
        )
        return [_job(row) for row in rows]

    def owed_since(self, after_seq: int) -> float:
        """The smallest `since_seq` of what replaces a name and comes behind `after_seq`; infinite if nothing does."""
        row = self._db.row(
            "SELECT since_seq FROM jobs INDEXED BY jobs_replacing"
            " WHERE barrier = 'folder' AND seq > ? AND state = ? ORDER BY since_seq LIMIT 1",
            (after_seq, JobState.WAITING.value),
        )
        return math.inf if row is None else int(row[0])

    def burst_over_ns(self) -> int:
        """Until when a burst of changes should not be slowed down by uploads. Long ago where nobody makes any, or
        somebody waits for them."""
        return min(self._last_ns + LULL_NS, self._burst_ns + BURST_NS)

    def has_larger(self, size_bytes: int) -> bool:
        """Whether content of more than `size_bytes` waits."""
        row = self._db.row(
            # What waits is sealed.
            "SELECT 1 FROM generations g INDEXED BY generations_sealed"
            " CROSS JOIN jobs j ON j.generation = g.generation"
            " WHERE g.state = 'sealed' AND g.size_bytes > ? AND j.state = ? LIMIT 1",
            (size_bytes, JobState.WAITING.value),
        )
        return row is not None

    # --- what status and flush ask ---

    @property
    def last_seq(self) -> int:
        last: int = self._next_seq - 1
        return last

    def waiting_up_to(self, seq: int) -> Iterator[Job]:
        """Jobs of nodes that owed Drive something at the time of `seq` already."""
        for row in self._db.rows("SELECT * FROM jobs WHERE since_seq <= ? ORDER BY seq", (seq,)):
            yield _job(row)

    def left(self, seq: int | None = None) -> Left:
        """What waits, of all jobs or of nodes that owed Drive something at the time of `seq` already."""
        row = self._db.rows(
            "SELECT COUNT(*), COALESCE(SUM(g.size_bytes), 0), COALESCE(SUM(j.state != ?), 0)"
            " FROM jobs j LEFT JOIN generations g ON g.generation = j.generation WHERE j.since_seq <= ?",
            (JobState.WAITING.value, self.last_seq if seq is None else seq),
        )[0]
        return Left(int(row[0]), int(row[1]), int(row[2]))

    def left_among(self, inodes: Set[Inode], seq: int) -> Left:
        """What waits of these, as far as they owed it at the time of `seq` already."""
        jobs = size_bytes = parked = 0
        for row in self._db.rows(
            "SELECT j.inode, j.state, COALESCE(g.size_bytes, 0)"
            " FROM jobs j LEFT JOIN generations g ON g.generation = j.generation WHERE j.since_seq <= ?",
            (seq,),
        ):
            if row[0] in inodes:
                jobs += 1
                size_bytes += row[2]
                parked += row[1] != JobState.WAITING.value
        return Left(jobs, size_bytes, parked)

    def oldest(self) -> Job | None:
        """The job that has waited for longest."""
        row = self._db.row("SELECT * FROM jobs ORDER BY since_ns LIMIT 1")
        return None if row is None else _job(row)

    def parked(self, limit: int) -> list[Job]:
        """The first `limit` parked or held jobs, in publish order."""
        return [
            _job(row)
            for row in self._db.rows(
                "SELECT * FROM jobs WHERE state != ? ORDER BY seq LIMIT ?", (JobState.WAITING.value, limit)
            )
        ]

    def hasten(self, inode: Inode | None = None) -> None:
        """Do not wait for quiet: everything, or this one, may be published now."""
        self._burst_ns = 0
        if inode is None:
            self._db.run("UPDATE jobs SET ready_ns = 0 WHERE attempts = 0")
        else:
            self._db.run("UPDATE jobs SET ready_ns = 0 WHERE attempts = 0 AND inode = ?", (inode,))
        self.changed.set()
