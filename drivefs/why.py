"""What keeps one file or folder from Drive: the facts behind `drivefs why`.

Entered by the threads that serve the socket. Reads only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from itertools import islice

from drivefs.control import Json
from drivefs.errors import UserError
from drivefs.model import Inode, Kind
from drivefs.store.node import Node
from drivefs.store.quarantine import Quarantined
from drivefs.store.queue import Job, JobState
from drivefs.store.scope import Scope
from drivefs.store.store import Store
from drivefs.sync.documents import Documents
from drivefs.sync.mirror import Mirror
from drivefs.sync.order import earlier, has_something, parked_above
from drivefs.sync.plan import WINDOW_JOBS
from drivefs.sync.uploader import Uploader

SHOWN_JOBS = 5
"""Earlier files named in an answer; their number is always told, up to `plan.WINDOW_JOBS`."""


def quarantined(kept: Quarantined) -> Json:
    """As `status` and `why` show it."""
    return {"path": kept.path or None, "file": str(kept.file), "bytes": kept.size_bytes, "reason": kept.reason}


class Why:
    """The handler of `control.Server` for one mount."""

    def __init__(
        self, store: Store, mirror: Mirror, uploader: Uploader, documents: Documents, inode_at: Callable[[str], Inode]
    ) -> None:
        """`inode_at` finds what is at a path from the mount's root, or raises UserError."""
        self._store = store
        self._mirror = mirror
        self._uploader = uploader
        self._documents = documents
        self._inode_at = inode_at

    def answer(self, request: Json) -> Generator[Json, None, Json]:
        """The keys are those of `cli.why`. Raises UserError, DriveError."""
        yield from ()  # a handler is a generator, whether it has progress to tell or not
        path = str(request.get("path", ""))
        kept = [quarantined(each) for each in self._store.quarantine.all(path)]
        try:
            inode = self._inode_at(path)
        except UserError as error:
            if not kept:
                raise
            raise UserError(f"{error} What is left of it is {kept[0]['file']}: {kept[0]['reason']}") from error
        node, job = self._store.nodes.get(inode), self._store.journal.find(inode)
        there = self._store.journal.origin(node)
        writing = node.generation is not None and self._store.content.is_dirty(node.generation)
        facts: Json = {"cause": None, "reason": None, "until": None, "earlier": [], "earlier_files": 0}
        if job is not None:
            facts |= self._cause(job, node)
        elif writing:
            facts["cause"] = "writing"
        pause = self._uploader.paused
        return {
            "kind": node.kind.value,
            "drive": {"id": there.drive_id, "revision": there.revision, "md5": there.md5}
            if there.confirmed_ns is not None
            else None,
            "writing": writing,
            "quarantined": kept,
            "export": self._documents.failure(inode) if node.export is not None else None,
            **facts,
            "pause": {"reason": pause.reason, "until": pause.until_s} if pause is not None else None,
            "offline": self._mirror.offline,
            "below": self._below(inode) if node.kind is Kind.FOLDER else None,
        }

    def _cause(self, job: Job, node: Node) -> Json:
        """What a job waits for, the most lasting first."""
        journal, nodes = self._store.journal, self._store.nodes
        if any(transfer.inode == job.inode for transfer in self._uploader.active()):
            return {"cause": "sending"}
        parked = parked_above(job, nodes, journal.find)
        if parked is not None:
            if parked.state is JobState.HELD and parked == job:
                return {"cause": "held", "reason": job.reason}
            path = nodes.path(parked.inode)
            return {"cause": "refused", "reason": parked.reason, "earlier": [path] if parked != job else []}
        if not has_something(job, node):
            return {"cause": "writing"}
        before = list(earlier(job, node, journal.in_order(WINDOW_JOBS), nodes, journal.find))
        if before:
            paths = [nodes.path(each.inode) for each in islice(before, SHOWN_JOBS)]
            return {"cause": "order", "earlier": paths, "earlier_files": len(before)}
        if job.ready_ns > time.time_ns():
            cause = "retry" if job.attempts else "quiet"
            return {"cause": cause, "reason": job.reason or None, "until": job.ready_ns / 1e9}
        parent = nodes.find(node.parent) if node.parent is not None else None
        if parent is not None and parent.confirmed_ns is None:
            return {"cause": "folder", "earlier": [nodes.path(parent.inode)]}
        return {"cause": "turn"}

    def _below(self, inode: Inode) -> Json:
        scope = Scope(self._store.nodes, self._store.journal, [inode])
        scope.begin()
        left = scope.left()
        return {"files": left.jobs, "bytes": left.size_bytes, "parked": left.parked}
