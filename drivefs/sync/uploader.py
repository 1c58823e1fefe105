"""Takes jobs out of the journal, in publish order, and makes Drive agree with them.

`run` is the body of one thread, the dispatcher; each job is published on a thread of the executor given. It holds no
lock of the filesystem, and a job leaves the journal only in the transaction that notes what Drive has confirmed.

Durable when: before Drive can show anything of a job, a sync point has its content and the row with the ID reserved
for it: those that start together share one, and a large one has its own before its last byte leaves.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass

from drivefs.drive.api import Drive
from drivefs.errors import (
    CacheDamaged,
    DriveError,
    DrivefsError,
    QueueBlocked,
    RateLimited,
    Refused,
    RemoteNotFound,
    SignInNeeded,
    Superseded,
)
from drivefs.model import DriveId, Inode, Kind, Priority
from drivefs.store.claim import Claim
from drivefs.store.node import Node
from drivefs.store.queue import BURST_NS, Job
from drivefs.store.store import Store
from drivefs.sync.downloader import Downloader
from drivefs.sync.mirror import Mirror
from drivefs.sync.order import SMALL_LIMIT_BYTES, Ready
from drivefs.sync.plan import Planner
from drivefs.sync.publish import Publisher
from drivefs.sync.sending import Progress
from drivefs.sync.streaming import Streaming
from drivefs.sync.trash import Trash

log = logging.getLogger(__name__)

BETWEEN_S = 0.02
"""Uploads end and files close hundreds of times a second: the order is looked through for several at once."""

SMALL_AT_ONCE = 48
LARGE_AT_ONCE = 16
"""Uploads at a time: small ones wait for round trips, large ones fill the line (`plan.FILLING_AT_ONCE`)."""

IDS_AT_ONCE = 1_000
"""files.generateIds gives that many for one request (drive-api: Create without duplicates)."""

SWEEP_EVERY_S = 60.0

RELEASE_NS = 50_000_000
"""The kernel releases a file that it writes itself a few milliseconds after close(2)."""

BACKOFF_LIMIT_S = 64.0
PAUSE_S = 60.0
"""A full Drive, an expired sign-in, a rate limit that outlasts the client's patience (as after 750 GB of uploads in a
day) are looked at again after a minute, or when Drive has asked for."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """An upload under way."""

    inode: Inode
    path: str
    size_bytes: int
    done_bytes: int


@dataclass(frozen=True, slots=True)
class Pause:
    """Why the whole queue waits, in words, and until when (seconds since the epoch)."""

    reason: str
    until_s: float
    sign_in: bool = False
    """Whether it takes the person to sign in again."""


class Uploader:
    """The publishing half of sync."""

    def __init__(
        self,
        store: Store,
        drive: Drive,
        mirror: Mirror,
        downloader: Downloader,
        trash: Trash,
        streaming: Streaming,
        executor: Executor,
        *,
        delete: bool = False,
        clock: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`executor` needs SMALL_AT_ONCE + LARGE_AT_ONCE threads to be used in full. `delete`: what is removed here
        does not go to Drive's trash (`Publisher`)."""
        self._store = store
        self._drive = drive.at(Priority.PUBLISH)
        self._mirror = mirror
        self._downloader = downloader
        self._trash = trash
        self._streaming = streaming
        self._trash_lock = threading.Lock()  # one sweep at a time
        self._next_sweep_s = 0.0  # the dispatcher's own
        self._needed_bytes = 0  # for which a full Drive has no room; one assignment
        self._publisher = Publisher(store, self._drive, mirror, delete=delete)
        self._planner = Planner(store, clock)
        self._executor = executor
        self._clock = clock
        self._chance = chance
        self._lock = threading.Lock()
        self._active: dict[Inode, Progress] = {}  # guarded by _lock
        self._idle = threading.Condition(self._lock)
        self._pause: Pause | None = None  # written by whoever meets the reason; one assignment

    # --- what status asks ---

    def active(self) -> list[Transfer]:
        """The uploads under way."""
        with self._lock:
            progress = list(self._active.items())
        return [
            Transfer(inode, self._store.nodes.path(inode), each.size_bytes, each.done_bytes)
            for inode, each in progress
        ]

    @property
    def paused(self) -> Pause | None:
        pause = self._pause
        return pause if pause is not None and pause.until_s > self._clock() else None

    def resume(self) -> None:
        """End a pause, and try again what was postponed: the person says that the reason is gone."""
        self._pause = None
        self._store.journal.retry_all()

    # --- the dispatcher ---

    def run(self, stop: threading.Event) -> None:
        """Publish until `stop` is set (and `journal.changed`, to wake it); then wait for what is under way."""
        journal = self._store.journal
        stocked = False
        while not stop.wait(BETWEEN_S):
            journal.changed.clear()
            if not stocked and journal.oldest() is not None:
                self._stock_ids()
                stocked = True
            wait_s = PAUSE_S
            try:
                wait_s = self.dispatch()
            except DrivefsError as error:
                # Nothing was started; whatever it is (no room for the records, no IDs from Drive) may pass.
                paused = self._note_pause(error) is not None  # then `status` says so
                log.log(logging.INFO if paused else logging.WARNING, "Nothing can be published for now: %s", error)
                wait_s = 2.0
            journal.changed.wait(wait_s)
        with self._idle:
            self._idle.wait_for(lambda: not self._active)

    def _stock_ids(self) -> None:
        """Have IDs ready when the first file has had its quiet time; who only reads costs no request for them."""
        try:
            if not self._store.journal.spare_ids(1):
                self._store.journal.add_spare_ids(self._drive.generate_ids(IDS_AT_ONCE))
        except DrivefsError as error:
            log.info("Drive gives no IDs yet, the first upload asks again: %s", error)

    def _sweep_at_times(self) -> None:
        if self._clock() >= self._next_sweep_s:
            self._next_sweep_s = self._clock() + SWEEP_EVERY_S
            self._executor.submit(self._sweep)

    def dispatch(self) -> float:
        """Start what may start now; returns the seconds until there may be more, if nothing changes before."""
        pause = self.paused
        with self._lock:
            busy = set(self._active)
            busy_ids = {each.drive_id for each in self._active.values() if each.drive_id is not None}
            sizes = [each.size_bytes for each in self._active.values()]
        large = [size_bytes for size_bytes in sizes if size_bytes > SMALL_LIMIT_BYTES]
        if pause is not None:
            needed_bytes, self._needed_bytes = self._needed_bytes, 0
            if needed_bytes:
                self._start(self._planner.removals(busy, busy_ids, needed_bytes))
            return pause.until_s - self._clock()
        now_ns = int(self._clock() * 1e9)
        burst_over_ns = self._store.journal.burst_over_ns()
        if now_ns < burst_over_ns < now_ns + BURST_NS:
            return (burst_over_ns - now_ns) / 1e9
        free_small, free_large = SMALL_AT_ONCE - (len(sizes) - len(large)), LARGE_AT_ONCE - len(large)
        if free_large > 0 and not self._store.journal.has_larger(SMALL_LIMIT_BYTES):
            free_large = 0
        if free_small <= 0 and free_large <= 0:
            return PAUSE_S  # the end of any of them sets `changed`
        batch, wait_s = self._planner.choose(busy, busy_ids, free_small, free_large, large, PAUSE_S)
        if batch:
            self._start(batch)
        else:
            self._sweep_at_times()
        return wait_s

    def _start(self, batch: list[Ready]) -> None:
        journal = self._store.journal
        fresh = [each for each in batch if each.node.drive_id is None and not each.node.unnamed]
        ids = journal.spare_ids(len(fresh))
        if len(ids) < len(fresh):
            journal.add_spare_ids(self._drive.generate_ids(IDS_AT_ONCE))
            ids = journal.spare_ids(len(fresh))
        starting: list[tuple[Job, Node, Claim | None]] = []
        try:
            for each in batch:
                taken = self._take(each.job, ids)
                if taken is not None:
                    starting.append(taken)
            if any(claim is None for _, _, claim in starting):
                self._store.sync()  # where there is content, just before that leaves
        except BaseException:
            for _, _, claim in starting:
                if claim is not None:
                    claim.close()
            raise
        for job, node, claim in starting:
            progress = Progress(claim.size_bytes if claim is not None else 0, drive_id=node.drive_id)
            with self._lock:
                self._active[job.inode] = progress
            self._executor.submit(self._publish, job, node, claim, progress)

    def _take(self, planned: Job, ids: list[DriveId]) -> tuple[Job, Node, Claim | None] | None:
        """Claim a job's content and reserve its ID, unless the job has changed since it was planned."""
        journal = self._store.journal
        with self._store.db.transaction():
            job = journal.find(planned.inode)
            if job is None or (job.seq, job.generation) != (planned.seq, planned.generation):
                return None
            node = self._store.nodes.get(job.inode)
            if job.generation is not None and self._store.content.may_be_written(job.generation):
                # Closed, and about to be released by the kernel: not before that.
                journal.defer(job.inode, int(self._clock() * 1e9) + RELEASE_NS)
                return None
            try:
                claim = self._store.content.claim(job.generation) if job.generation is not None else None
            except Superseded:
                return None  # it is being written again
            except CacheDamaged as error:
                journal.park(job.inode, str(error))
                return None
            if node.drive_id is None and not node.unnamed:
                node = journal.reserve_id(node.inode, journal.bound_id(job) or ids.pop())
            return job, node, claim

    # --- one job, on a thread of the executor ---

    def _publish(self, job: Job, node: Node, claim: Claim | None, progress: Progress) -> None:
        journal = self._store.journal
        try:
            head = None
            if claim is not None:
                self._downloader.ensure(claim.file, 0, claim.size_bytes)
                self._downloader.mend(claim.file, 0, claim.size_bytes)
                head = self._streaming.take(claim, node)
                if head is not None:
                    journal.go_on(job, head.session)
            self._publisher.publish(job, node, claim, progress, head)
            if claim is not None:
                claim.complete_checksums()
            self._pause = None
        except Superseded:
            pass  # newer content is coming, and has or gets a job of its own
        except RemoteNotFound as error:
            self._not_found(job, node, error)
        except Refused as error:
            log.error("Drive refuses %s: %s", self._store.nodes.path(job.inode), error)
            journal.park(self._holder(job), str(error))
        except CacheDamaged as error:
            log.error("The cache cannot give %s: %s", self._store.nodes.path(job.inode), error)
            journal.park(self._holder(job), str(error))
        except QueueBlocked as error:
            needed_bytes = claim.size_bytes if claim is not None else 1
            full = error.reason == "storageQuotaExceeded"
            swept = full and self._sweep(needed_bytes)
            if full and not swept:
                self._needed_bytes = needed_bytes
            self._postpone(job, error, None if swept else self._note_pause(error))
        except DrivefsError as error:
            self._postpone(job, error, self._note_pause(error))
        except BaseException as error:
            log.exception("Publishing %s failed unexpectedly.", self._store.nodes.path(job.inode))
            self._postpone(job, error)
        finally:
            if claim is not None:
                claim.close()
                journal.forget_orphan(claim.generation)
            with self._idle:
                self._active.pop(job.inode, None)
                self._idle.notify_all()
            journal.changed.set()

    def _holder(self, job: Job) -> Inode:
        """The node that has a job's place in the order by now: its own, or what was frozen of it meanwhile."""
        at = self._store.journal.find_at(job.seq)
        return job.inode if at is None else at.inode

    def _not_found(self, job: Job, node: Node, error: RemoteNotFound) -> None:
        """The file that was to be updated is gone from Drive, or the folder to create it in."""
        inode = self._holder(job)
        current = self._store.nodes.find(inode)
        is_theirs = current is not None and (current.export or current.points_to) is not None
        if current is not None and is_theirs and self._is_gone(current):
            with self._store.db.transaction():
                self._mirror.forget(current)  # there is nothing of it here to make it of
            return
        if current is not None and current.unnamed and self._is_gone(current):
            self._store.journal.removal_published(inode)  # somebody else was faster
            return
        if current is None or current.unnamed or current.confirmed_ns is None or node.kind is not Kind.FILE:
            self._store.journal.park(inode, str(error))
            return
        if not self._is_gone(current):
            # An old revision that the content here is based on, or something else that Drive was asked for.
            log.warning("Drive lacks what %s needs: %s", self._store.nodes.path(job.inode), error)
            self._postpone(job, error)
            return
        log.warning(
            "%s was deleted on Drive while it was changed here: it is made anew.", self._store.nodes.path(job.inode)
        )
        self._store.journal.lost_on_drive(current)

    def _is_gone(self, node: Node) -> bool:
        """Whether Drive says that it does not have the file, as far as can be learnt now."""
        if node.drive_id is None:
            return True
        try:
            self._drive.get(node.drive_id)
        except RemoteNotFound:
            return True
        except (DriveError, SignInNeeded):
            return False
        return False

    def _sweep(self, needed_bytes: int = 0) -> int:
        """Take out of the trash what is ours and too much, or as much as is needed; the bytes freed."""
        with self._trash_lock:
            try:
                return self._trash.make_room(needed_bytes) if needed_bytes else self._trash.sweep()
            except (DriveError, SignInNeeded) as error:
                log.info("The trash could not be looked through, and is later: %s", error)
                return 0

    def _note_pause(self, error: DrivefsError) -> Pause | None:
        """The pause that an error calls for, begun."""
        pause = None
        if isinstance(error, RateLimited):
            until_s = self._clock() + max(PAUSE_S, error.retry_after_s or 0.0)
            pause = Pause(f"Drive takes no more for now: {error}", until_s)
        elif isinstance(error, (QueueBlocked, SignInNeeded)):
            pause = Pause(str(error), self._clock() + PAUSE_S, isinstance(error, SignInNeeded))
        if pause is not None:
            self._pause = pause
        return pause

    def _postpone(self, job: Job, error: BaseException, pause: Pause | None = None) -> None:
        """Try a job again later: when the pause is over, or after the backoff of its own."""
        delay_s = min(2.0 ** min(job.attempts, 6) + self._chance(), BACKOFF_LIMIT_S)
        if pause is not None:
            delay_s = pause.until_s - self._clock()
        path = self._store.nodes.path(job.inode) or "What Drive has of a removed file"
        log.info("%s has to wait, and is tried again in %.0f s: %s", path, delay_s, error)
        self._store.journal.postpone(self._holder(job), str(error), int((self._clock() + delay_s) * 1e9))
