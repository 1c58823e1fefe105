"""fsync(2) that returns when Drive has confirmed: waits for one file's content, as it was at the call.

Any number of threads may wait, each without a lock. Nothing here is durable by itself: it is the journal that tells.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from drivefs.errors import Interrupted, NotPublished
from drivefs.model import Inode
from drivefs.store.store import Store
from drivefs.sync.order import parked_above

log = logging.getLogger(__name__)

STEP_S = 0.1
"""Between two looks at the journal: a notice that comes just before a wait is not heard, nor is an interrupt."""


class Durability:
    """Who waits for Drive in one mount."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._ended = threading.Event()

    def wait(self, inode: Inode, seq: int, interrupted: Callable[[], bool]) -> None:
        """Return when Drive has all that the file owed it at `seq` of the journal, or something newer in its place.

        A file that has lost its name owes nothing. Raises NotPublished when Drive does not take it, or the mount
        ends first; Interrupted.
        """
        journal, nodes = self._store.journal, self._store.nodes
        journal.hasten(inode)
        while True:
            node = nodes.find(inode)
            job = journal.find_oldest(node) if node is not None else None
            if job is None or job.since_seq > seq or node is None or node.gone:
                return
            parked = parked_above(job, nodes, journal.find)
            if parked is not None:
                path = nodes.path(inode)
                log.error("fsync of %s fails, for Drive does not take it: %s", path, parked.reason)
                raise NotPublished(f"Drive does not take {path}: {parked.reason}")
            if self._ended.is_set():
                raise NotPublished("The mount ends, and Drive does not have the file yet.")
            if interrupted():
                raise Interrupted("Whoever waited for Drive is to end.")
            with journal.progress:
                journal.progress.wait(STEP_S)

    def end(self) -> None:
        """Let nobody wait any longer."""
        self._ended.set()
