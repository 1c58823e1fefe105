"""What the uploader starts next, of what the order leaves free.

Used by the dispatcher's thread only. What a publish point that has begun needs goes first, then the newest: a model
that was saved a moment ago does not wait for an old backlog.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field

from drivefs.model import DriveId, Inode, Kind
from drivefs.store.points import Point
from drivefs.store.queue import Job
from drivefs.store.store import Store
from drivefs.sync.order import Look, Ready, look

WINDOW_JOBS = 2_000
"""Jobs looked at from the beginning of the order; what lies behind waits until some of these are done."""

ROOM_BYTES = 16 << 30
"""Newer content makes room for an overtaken point of up to this much: some minutes on a usual line, so that nothing
waits for hours behind a large backlog."""

FILLING_AT_ONCE = 6
FILLING_BYTES = 256 << 20
"""So many large uploads fill the line, and more at once only end later, all of them; but for what it carries in a
few seconds, of which each waits for round trips too."""

AGAIN_S = 0.5
"""A long queue is looked through no more often than this, while what was found is not used up."""

LONG_JOBS = 200
"""Looking through so many takes a few milliseconds."""


@dataclass(slots=True)
class Plan:
    """What was found to be ready, in the order in which it is to start."""

    first: list[Ready] = field(default_factory=list)
    found: Look = field(default_factory=Look)
    until_s: float = 0.0
    """Good until then, unless it is used up before."""
    next_ns: int = 0
    """When more may be ready, if nothing changes before."""


class Planner:
    """Chooses the jobs that start."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._plan = Plan()

    def choose(
        self,
        busy: Set[Inode],
        busy_ids: Set[DriveId],
        free_small: int,
        free_large: int,
        large_bytes: Sequence[int],
        horizon_s: float,
    ) -> tuple[list[Ready], float]:
        """Up to so many jobs that start now, beside large ones of `large_bytes` each, and the seconds until there may
        be more, `horizon_s` at most. Begins the publish points that these are of."""
        points = self._store.journal.points()
        plan = self._plan
        if self._clock() >= plan.until_s or len(plan.first) < free_small + free_large:
            plan = self._plan = self._look(busy, busy_ids, points, horizon_s)
        free = [each for each in plan.first if each.job.inode not in busy and each.node.drive_id not in busy_ids]
        large = [each for each in free if each.large]
        batch = [
            *_some(large, min(free_large, _that_fill(large, large_bytes))),
            *_some([each for each in free if not each.large], free_small),
        ]
        for pointer in _to_begin(plan.found, batch, points):
            self._store.journal.begin_point(pointer.job)
        started = {each.job.inode for each in batch}
        plan.first = [each for each in free if each.job.inode not in started]
        return batch, plan.next_ns / 1e9 - self._clock()

    def removals(self, busy: Set[Inode], busy_ids: Set[DriveId], needed_bytes: int) -> list[Ready]:
        """What may be removed before its turn, so that a full Drive has room for what it waits for: files that this
        mount made, oldest first, and no more than that takes."""
        chosen: list[Ready] = []
        for job in self._store.journal.removals(WINDOW_JOBS):
            node = self._store.nodes.get(job.inode)
            if needed_bytes <= 0:
                break
            if job.inode not in busy and node.drive_id not in busy_ids:
                chosen.append(Ready(job, node, large=False, needed=False, above=frozenset()))
                needed_bytes -= node.size_bytes
        return chosen

    def _look(self, busy: Set[Inode], busy_ids: Set[DriveId], points: Sequence[Point], horizon_s: float) -> Plan:
        now_s = self._clock()
        now_ns = int(now_s * 1e9)
        plan = Plan(next_ns=now_ns + int(horizon_s * 1e9))
        journal = self._store.journal
        seen = list(journal.in_order(WINDOW_JOBS))
        owed_later = journal.owed_since(seen[-1].seq) if len(seen) == WINDOW_JOBS else math.inf

        def jobs() -> Iterator[Job]:
            for job in seen:
                if job.ready_ns > now_ns:
                    plan.next_ns = min(plan.next_ns, job.ready_ns)
                yield job

        plan.found = look(jobs(), self._store.nodes, journal.find, busy, now_ns, busy_ids, points, owed_later)
        plan.first = _first_to_go(plan.found, points)
        plan.until_s = now_s + AGAIN_S if len(seen) > LONG_JOBS else now_s
        return plan


def _first_to_go(found: Look, points: Sequence[Point]) -> list[Ready]:
    """What is ready in the order in which it is to start: what a point that has begun needs, then folders, then the
    newest; without what makes room for an overtaken point that is on its way. Small files of one folder and those
    below it keep their order, for the last of them may name the others."""
    active = [each for each in (*found.busy, *found.ready) if each.needed]
    overtaken = [point.folder for point in points if point.overtaken and _is_on_its_way(point, active)]
    newest: dict[Inode, int] = {}  # folder: place of the newest small one in it
    for each in found.ready:
        if each.node.parent is not None and not each.large:
            newest[each.node.parent] = each.job.seq

    def rank(each: Ready) -> tuple[bool, bool, int, int]:
        seq = each.job.seq
        new = seq if each.large else max((newest.get(folder, 0) for folder in each.above), default=seq)
        return not each.needed, each.node.kind is not Kind.FOLDER, -new, seq

    chosen = [
        each
        for each in found.ready
        if each.needed or not each.large or not any(folder in each.above for folder in overtaken)
    ]
    return sorted(chosen, key=rank)


def _is_on_its_way(point: Point, active: Iterable[Ready]) -> bool:
    """Whether something of it is being sent or can be, and the rest of it is not too much to wait for."""
    sizes = [each.node.size_bytes for each in active if each.job.seq <= point.seq and point.folder in each.above]
    return bool(sizes) and sum(sizes) <= ROOM_BYTES


def _to_begin(found: Look, started: Iterable[Ready], points: Sequence[Point]) -> list[Ready]:
    """The pointers whose points begin, now that `started` start: of each folder the newest, where something of its
    point is on its way and no other point of that folder, or one that holds all of it, has begun."""
    moving = (*found.busy, *started)
    begun = list(points)
    chosen: list[Ready] = []
    newest = sorted(found.pointers, key=lambda each: (len(each.above), -each.job.seq))
    for each in newest:
        folder, seq = each.node.parent, each.job.seq
        assert folder is not None
        if any(at.folder == folder or (at.folder in each.above and seq <= at.seq) for at in begun):
            continue
        if any(other.job.seq < seq and folder in other.above for other in moving):
            chosen.append(each)
            begun.append(Point(folder, seq, overtaken=False))
    return chosen


def _that_fill(large: Iterable[Ready], under_way: Sequence[int]) -> int:
    """How many of these the line takes, beside what is under way."""
    fits, count, size_bytes = 0, len(under_way), sum(under_way)
    for each in large:
        count, size_bytes = count + 1, size_bytes + each.node.size_bytes
        if count > FILLING_AT_ONCE and size_bytes > FILLING_BYTES:
            break
        fits += 1
    return fits


def _some(first: list[Ready], free: int) -> list[Ready]:
    """The first `free` of these, the last of them being the oldest there is: it is not passed over for ever."""
    if free <= 0 or len(first) <= free:
        return first[: max(free, 0)]
    oldest = min(first, key=lambda each: each.job.seq)
    chosen = first[:free]
    if oldest not in chosen and not chosen[-1].needed:
        chosen[-1] = oldest
    return chosen
