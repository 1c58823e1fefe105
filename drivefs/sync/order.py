"""Which jobs may go to Drive now: the publish order (design, promise 4). Pure; reads the tree only.

- What replaces a name waits for everything that was closed before it in its folder and below.
- What removes a name waits for everything that was closed before it anywhere; of what replaces a name, also for what
  has superseded that since: until some newer pointer is there, the one on Drive may name what is to be removed.
- A small new file waits for the large new ones that were closed before it in its folder and below: the first
  `checkpoint` or `latest` must not be there before the weights that it names. Small ones travel side by side.
- A child waits for its folder, also for its way out of the trash; the removal of a folder for those of its children.
- What has the name of something frozen, or goes on with its file on Drive, waits for that.
- What was moved into a trash is sent first, at the place that it had, and then counts as what removes a name.
- A parked or held job, and what lies in a folder whose own job is, blocks nobody.

What is held back by one of the first and the third rule is the pointer of a publish point (store.points). While a
point that was overtaken by a newer version of its pointer is on its way, newer large content in its folder and below
waits too: on a line that cannot keep up, the point would never be finished otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field

from drivefs.model import DriveId, Inode, Kind, Trash
from drivefs.store.node import Node
from drivefs.store.nodes import Nodes
from drivefs.store.points import Point
from drivefs.store.queue import Barrier, Job
from drivefs.sync.layout import root_of

SMALL_LIMIT_BYTES = 5_000_000
"""What fits into one multipart request (drive-api: Uploads)."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A job that may start."""

    job: Job
    node: Node
    large: bool
    needed: bool
    """A point that has begun needs it."""
    above: frozenset[Inode]
    """The folders that it lies in."""


@dataclass(slots=True)
class Look:
    """What one look through the jobs has found."""

    ready: list[Ready] = field(default_factory=list)  # in publish order
    pointers: list[Ready] = field(default_factory=list)  # only held back by what was closed before them
    busy: list[Ready] = field(default_factory=list)  # being published


def look(
    jobs: Iterable[Job],
    nodes: Nodes,
    find_job: Callable[[Inode], Job | None],
    busy: Set[Inode],
    now_ns: int,
    busy_ids: Set[DriveId] = frozenset(),
    points: Sequence[Point] = (),
    owed_later: float = math.inf,
) -> Look:
    """The jobs that may start at `now_ns`. `jobs` come in publish order from its very beginning;
    `busy` are the inodes that are being published, which still count as not there, and `busy_ids` the IDs under
    which they are: another node that has such an ID by now waits for it, or an older content, or a file that was to
    be removed, would come last. `points` are those that have begun. `owed_later` is since when what replaces a name
    is owed among the jobs behind the last one given."""
    found = Look()
    pending: set[Inode] = set()  # folders with something earlier in or below them
    pending_large: set[Inode] = set()
    chains: dict[Inode, frozenset[Inode]] = {}  # folder: itself and all above it
    restoring: dict[Inode, bool] = {}  # folder: whether it, or one above it, is still in Drive's trash
    emptying: set[DriveId] = set()  # folders from which something is still being removed
    taken: set[tuple[Inode, str | None]] = set()  # places of frozen nodes
    heirs: set[Inode | None] = set()  # of frozen nodes
    removals: list[Ready] = []  # that nothing earlier holds back
    owing: list[Job] = []  # what replaces a name
    anything_pending = False
    for job in jobs:
        node = nodes.find(job.inode)
        if node is None or job.stuck:
            continue
        under_way = job.inode in busy or node.drive_id in busy_ids
        ready = job.ready_ns <= now_ns and not under_way
        if removes(job, node):
            if ready and not anything_pending and node.drive_id not in emptying:
                removals.append(Ready(job, node, False, False, frozenset()))
            if node.remote_parent is not None:
                emptying.add(node.remote_parent)
            continue
        if not has_something(job, node):
            continue
        parent = folder_on_drive(node, nodes)
        if parent is None:
            continue
        if parent.confirmed_ns is None:
            above = find_job(parent.inode)
            if above is None or above.stuck:
                continue
            ready = False
        if parent.inode not in chains:
            chains[parent.inode] = frozenset((parent.inode, *nodes.ancestors(parent.inode)))
            restoring[parent.inode] = any(_is_restored(nodes.get(each), find_job) for each in chains[parent.inode])
        ready = ready and not restoring[parent.inode]
        chain = chains[parent.inode]
        large = _is_large(job, node)
        each = Ready(job, node, large, any(job.seq <= at.seq and at.folder in chain for at in points), chain)
        if under_way:
            found.busy.append(each)
        if (parent.inode, node.name) in taken or node.inode in heirs:
            ready = False
        if ready:
            held = (job.barrier is not Barrier.NONE and parent.inode in pending) or (
                _waits_for_large(node, large) and parent.inode in pending_large
            )
            (found.pointers if held else found.ready).append(each)
        if node.frozen:
            taken.add((parent.inode, node.name))
            heirs.add(node.heir)
        if job.barrier is not Barrier.NONE:
            owing.append(job)
        pending |= chain
        anything_pending = True
        if large:
            pending_large |= chain
    owed_since = min((owed_later, *(each.since_seq for each in owing)))
    found.ready += [each for each in removals if each.job.seq < owed_since]
    return found


def earlier(
    job: Job, node: Node, jobs: Iterable[Job], nodes: Nodes, find_job: Callable[[Inode], Job | None]
) -> Iterator[Job]:
    """Of `jobs`, which come in publish order from its very beginning, those that `job` waits for: what `look`
    holds it back for, but for its own folder's."""
    removal = removes(job, node)
    folder = folder_on_drive(node, nodes)
    folders = frozenset(nodes.ancestors(node.inode))
    for_large = _waits_for_large(node, _is_large(job, node))
    for other in jobs:
        if other.seq >= job.seq and not removal:
            return
        if other.seq >= job.seq and (other.barrier is not Barrier.FOLDER or other.since_seq > job.seq):
            continue
        there = nodes.find(other.inode)
        if there is None or other.stuck:
            continue
        if removes(other, there):
            if removal and node.drive_id is not None and there.remote_parent == node.drive_id:
                yield other
            continue
        parent = folder_on_drive(there, nodes)
        if parent is None or not has_something(other, there):
            continue
        if parent.confirmed_ns is None:
            above = find_job(parent.inode)
            if above is None or above.stuck:
                continue
        if (
            removal
            or (there.remote_trashed and there.inode in folders)
            or (there.frozen and (there.heir == node.inode or (there.parent, there.name) == (node.parent, node.name)))
            or (
                (job.barrier is not Barrier.NONE or (for_large and _is_large(other, there)))
                and folder is not None
                and folder.inode in (parent.inode, *nodes.ancestors(parent.inode))
            )
        ):
            yield other


def removes(job: Job, node: Node) -> bool:
    """Whether the job takes a name away on Drive."""
    in_turn = node.trash is Trash.PUT and node.confirmed_ns is not None and job.generation is None
    return node.unnamed or in_turn


def _is_restored(folder: Node, find_job: Callable[[Inode], Job | None]) -> bool:
    """Whether a folder was moved out of the trash, of which Drive has yet to hear."""
    if not folder.remote_trashed or folder.trash is Trash.PUT:
        return False
    job = find_job(folder.inode)
    return job is not None and not job.stuck


def folder_on_drive(node: Node, nodes: Nodes) -> Node | None:
    """The folder that Drive has a node in, or is to have; None for one that has lost its name."""
    if node.trash is Trash.PUT:
        known = nodes.find_by_drive_id(node.remote_parent) if node.remote_parent is not None else None
        return known if known is not None and not known.gone else root_of(nodes)
    return nodes.find(node.parent) if node.parent is not None else None


def _waits_for_large(node: Node, large: bool) -> bool:
    return node.confirmed_ns is None and node.kind is Kind.FILE and not large


def _is_large(job: Job, node: Node) -> bool:
    return node.kind is Kind.FILE and node.size_bytes > SMALL_LIMIT_BYTES and job.generation is not None


def parked_above(job: Job, nodes: Nodes, find_job: Callable[[Inode], Job | None]) -> Job | None:
    """The parked job without which `job` cannot go: itself, or that of a folder it lies in."""
    if job.stuck:
        return job
    above = (find_job(folder) for folder in nodes.ancestors(job.inode))
    return next((each for each in above if each is not None and each.stuck), None)


def has_something(job: Job, node: Node) -> bool:
    """Whether there is anything to tell Drive yet: a new file has nothing until it is closed."""
    return node.kind is not Kind.FILE or job.generation is not None or node.confirmed_ns is not None
