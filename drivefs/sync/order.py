"""Which jobs may go to Drive now: the publish order (design, promise 4). Pure; reads the tree only.

- What replaces a name waits for everything that was closed before it in its folder and below.
- What removes a name waits for everything that was closed before it anywhere.
- A small new file waits for the large new ones that were closed before it in its folder and below: the first
  `checkpoint` or `latest` must not be there before the weights that it names. Small ones travel side by side.
- A child waits for its folder, and the removal of a folder for those of its children.
- A parked job, and what lies in a folder whose own job is parked, blocks nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Set

from drivefs.model import DriveId, Inode, Kind
from drivefs.store.nodes import Node, Nodes
from drivefs.store.queue import Barrier, Job, JobState

SMALL_LIMIT_BYTES = 5_000_000
"""What fits into one multipart request (drive-api: Uploads)."""


def publishable(
    jobs: Iterable[Job],
    nodes: Nodes,
    find_job: Callable[[Inode], Job | None],
    busy: Set[Inode],
    now_ns: int,
    busy_ids: Set[DriveId] = frozenset(),
) -> Iterator[tuple[Job, Node]]:
    """The jobs that may start at `now_ns`, in order. `jobs` come in publish order from its very beginning;
    `busy` are the inodes that are being published, which still count as not there, and `busy_ids` the IDs under
    which they are: another node that has such an ID by now waits for it, or an older content, or a file that was to
    be removed, would come last."""
    pending: set[Inode] = set()  # folders with something earlier in or below them
    pending_large: set[Inode] = set()
    chains: dict[Inode, frozenset[Inode]] = {}  # folder: itself and all above it
    emptying: set[DriveId] = set()  # folders from which something is still being removed
    anything_pending = False
    for job in jobs:
        node = nodes.find(job.inode)
        if node is None or job.state is JobState.PARKED:
            continue
        ready = job.ready_ns <= now_ns and job.inode not in busy and node.drive_id not in busy_ids
        if node.unnamed:
            if ready and not anything_pending and node.drive_id not in emptying:
                yield job, node
            if node.remote_parent is not None:
                emptying.add(node.remote_parent)
            continue
        if not has_something(job, node):
            continue
        parent = nodes.find(node.parent) if node.parent is not None else None
        if parent is None:
            continue
        if parent.confirmed_ns is None:
            above = find_job(parent.inode)
            if above is None or above.state is JobState.PARKED:
                continue
            ready = False
        new = node.confirmed_ns is None
        large = _is_large(job, node)
        if ready and not (
            (job.barrier is not Barrier.NONE and parent.inode in pending)
            or (new and not large and node.kind is Kind.FILE and parent.inode in pending_large)
        ):
            yield job, node
        if parent.inode not in chains:
            chains[parent.inode] = frozenset((parent.inode, *nodes.ancestors(parent.inode)))
        pending |= chains[parent.inode]
        anything_pending = True
        if large:
            pending_large |= chains[parent.inode]


def earlier(
    job: Job, node: Node, jobs: Iterable[Job], nodes: Nodes, find_job: Callable[[Inode], Job | None]
) -> Iterator[Job]:
    """Of `jobs`, which come in publish order from its very beginning, those that `job` waits for: what `publishable`
    holds it back for, but for its own folder's."""
    for_large = node.confirmed_ns is None and node.kind is Kind.FILE and not _is_large(job, node)
    for other in jobs:
        if other.seq >= job.seq:
            return
        there = nodes.find(other.inode)
        if there is None or other.state is JobState.PARKED:
            continue
        if there.unnamed:
            if node.unnamed and node.drive_id is not None and there.remote_parent == node.drive_id:
                yield other
            continue
        parent = nodes.find(there.parent) if there.parent is not None else None
        if parent is None or not has_something(other, there):
            continue
        if parent.confirmed_ns is None:
            above = find_job(parent.inode)
            if above is None or above.state is JobState.PARKED:
                continue
        if node.unnamed or (
            (job.barrier is not Barrier.NONE or (for_large and _is_large(other, there)))
            and node.parent in (parent.inode, *nodes.ancestors(parent.inode))
        ):
            yield other


def _is_large(job: Job, node: Node) -> bool:
    return node.kind is Kind.FILE and node.size_bytes > SMALL_LIMIT_BYTES and job.generation is not None


def parked_above(job: Job, nodes: Nodes, find_job: Callable[[Inode], Job | None]) -> Job | None:
    """The parked job without which `job` cannot go: itself, or that of a folder it lies in."""
    if job.state is JobState.PARKED:
        return job
    above = (find_job(folder) for folder in nodes.ancestors(job.inode))
    return next((each for each in above if each is not None and each.state is JobState.PARKED), None)


def has_something(job: Job, node: Node) -> bool:
    """Whether there is anything to tell Drive yet: a new file has nothing until it is closed."""
    return node.kind is not Kind.FILE or job.generation is not None or node.confirmed_ns is not None
