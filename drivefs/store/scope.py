"""What somebody waits for: all that Drive was owed at one moment, anywhere or at and below some places.

Used by one thread at a time. Reads only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from drivefs.model import Inode
from drivefs.store.node import Node
from drivefs.store.nodes import Nodes
from drivefs.store.queue import Job, Left, Queue


class Scope:
    """The jobs of nodes that owed Drive something when `begin` was called.

    With places, it is those of nodes that lay there at any look since: one that is moved out is waited for all the
    same, and one that takes the place of another in it is waited for from then on. What was removed counts where
    Drive still has it.
    """

    def __init__(self, nodes: Nodes, queue: Queue, places: Iterable[Inode] | None = None) -> None:
        """None: everywhere."""
        self._nodes = nodes
        self._queue = queue
        self._places = None if places is None else frozenset(places)
        self._members: set[Inode] = set()
        self._seq = 0

    def begin(self) -> None:
        """What is owed now is what counts."""
        self._seq = self._queue.last_seq
        self._look()

    def covers(self, inode: Inode) -> bool:
        """Whether a node lies in one of the places now."""
        return self._is_within(inode, {})

    def jobs(self) -> list[Job]:
        """What of it is still waiting, in publish order."""
        return list(self._queue.waiting_up_to(self._seq) if self._places is None else self._look())

    def left(self) -> Left:
        """How much that is."""
        if self._places is None:
            return self._queue.left(self._seq)
        self._look()
        return self._queue.left_among(self._members, self._seq)

    def _look(self) -> list[Job]:
        if self._places is None:
            return []
        known: dict[Inode, bool] = {}
        found = [
            job
            for job in self._queue.waiting_up_to(self._seq)
            if job.inode in self._members or self._is_within(job.inode, known)
        ]
        self._members.update(job.inode for job in found)
        return found

    def _is_within(self, inode: Inode, known: dict[Inode, bool]) -> bool:
        """`known` keeps the answer for each folder on the way."""
        if self._places is None:
            return True
        way: list[Inode] = []
        answer = False
        for above in self._upward(inode):
            way.append(above)
            answer = above in self._places or known.get(above, False)
            if answer or above in known:
                break
        known.update(dict.fromkeys(way, answer))
        return answer

    def _upward(self, inode: Inode) -> Iterator[Inode]:
        """A node and the folders above it, to the root."""
        node = self._nodes.find(inode)
        while node is not None:
            yield node.inode
            if node.frozen:
                yield self._nodes.last_heir(node).inode
            node = self._above(node)

    def _above(self, node: Node) -> Node | None:
        if node.parent is not None:
            return self._nodes.find(node.parent)
        if node.unnamed and node.remote_parent is not None:
            return self._nodes.find_by_drive_id(node.remote_parent)
        return None
