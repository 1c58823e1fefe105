"""The publish order seen from outside (promise 4): what Drive shows whenever a content replaces another there.

Watches what is closed, replaced and removed in a mount, and knows nothing of jobs but whether a point has begun. A
version of a file needs what was closed before it in its folder and below and had not been superseded when it was
superseded itself, or when its publish point began.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from drivefs.model import DriveId, Generation, Inode
from drivefs.store.journal import Journal
from drivefs.store.node import Node
from drivefs.store.nodes import Nodes
from drivefs.store.points import Points
from tests.whole import Whole

LIMIT_BYTES = 1 << 20


@dataclass(eq=False)
class Version:
    """One closed content of one file."""

    number: int
    inode: Inode
    data: bytes | None
    """None: not all of it is here."""
    needed: dict[Inode, Version] = field(default_factory=dict)
    current: bool = True


class OrderWatch:
    """What was closed in one mount, over all its lives, and the check of each replacement on Drive."""

    def __init__(self, whole: Whole) -> None:
        self._whole = whole
        self._numbers = itertools.count(1)
        self._versions: dict[Inode, list[Version]] = {}
        self._became: dict[Inode, Inode] = {}
        """The node that goes on with a file on Drive: what replaced another, and of a frozen one its origin."""
        self.checked = 0

    # --- what happens in the mount ---

    def closed(self, inode: Inode, data: bytes | None) -> None:
        self.superseded(inode)
        nodes = self._whole.store.nodes
        node = nodes.get(inode)
        needed = {
            other: versions[-1]
            for other, versions in self._versions.items()
            if other != inode and versions[-1].current and node.parent in nodes.ancestors(other)
        }
        self._versions.setdefault(inode, []).append(Version(next(self._numbers), inode, data, needed))

    def superseded(self, inode: Inode) -> None:
        version = self._versions.get(inode, [None])[-1]
        if version is None or not version.current:
            return
        version.current = False
        self._release(lambda pointer: pointer.current and not self._has_begun(pointer.inode), {inode})

    def broken(self, inode: Inode) -> None:
        """What a point needs could not be kept: whatever is current goes without it."""
        self._release(lambda pointer: pointer.current, {inode})

    def replaced(self, source: Inode, target: Inode) -> None:
        self.superseded(target)
        self._became[target] = source
        versions = self._versions.get(source)
        self.moved(source)
        if versions is not None and versions[-1].current:
            self.closed(source, versions[-1].data)

    def moved(self, inode: Inode) -> None:
        """What goes elsewhere is needed no more where it was."""
        nodes = self._whole.store.nodes
        self._release(
            lambda pointer: True, {each for each in self._versions if each == inode or inode in nodes.ancestors(each)}
        )

    def _release(self, of: Callable[[Version], bool], inodes: set[Inode]) -> None:
        for version in itertools.chain(*self._versions.values()):
            if of(version):
                for inode in inodes:
                    version.needed.pop(inode, None)

    def _has_begun(self, inode: Inode) -> bool:
        job = self._whole.store.journal.find(inode)
        return job is not None and job.begun

    def left_behind(self, frozen: Inode, node: Inode) -> None:
        last = self._last(frozen)
        if self._last(node) != last:
            self._became[last] = node

    # --- what happens on Drive ---

    def shows(self, drive_id: DriveId, data: bytes) -> None:
        """A content has replaced another on Drive."""
        owner = self._whole.store.nodes.find_by_drive_id(drive_id)
        if owner is None:
            return
        last = self._last(owner.inode)
        versions = [
            version
            for inode, versions in self._versions.items()
            if self._last(inode) == last
            for version in versions
            if version.data == data
        ]
        if not versions:
            return
        self.checked += 1
        # Of twins nobody can tell which it is.
        missing = [next(filter(None, map(self._missing, version.needed.values())), None) for version in versions]
        assert None in missing, f"{owner.name} is replaced too early on Drive: {missing[-1]}"

    def _last(self, inode: Inode) -> Inode:
        while inode in self._became:
            inode = self._became[inode]
        return inode

    def _missing(self, member: Version) -> str | None:
        """What Drive lacks of a member, in words."""
        drive, nodes = self._whole.drive, self._whole.store.nodes
        ids = {
            node.drive_id
            for node in map(nodes.find, {*self._became, *self._became.values(), *self._versions})
            if node is not None and node.drive_id is not None and self._last(node.inode) == self._last(member.inode)
        }
        there = [
            drive.content(each) for each in ids if each in drive.files and drive.files[each].revision is not None
        ]
        later = [
            version.data
            for inode, versions in self._versions.items()
            if self._last(inode) == self._last(member.inode)
            for version in versions
            if version.number >= member.number
        ]
        if there and (None in later or any(data in later for data in there)):
            return None
        return f"inode {member.inode} is not there, or older"


@contextmanager
def watched_order(whole: Whole) -> Iterator[OrderWatch]:
    """A watch of one mount for the length of a block."""
    watch = OrderWatch(whole)

    def data_of(generation: Generation) -> bytes | None:
        content = whole.store.content
        if not content.is_whole(generation):
            return None
        file = content.open(generation)
        try:
            return file.read(0, LIMIT_BYTES)
        finally:
            file.close()

    with ExitStack() as stack:

        def around(cls: type, name: str, event: Callable[..., None]) -> None:
            real = getattr(cls, name)

            def call(journal: Journal, *arguments: Any, **keywords: Any) -> Any:
                if journal is whole.store.journal:
                    event(*arguments)
                return real(journal, *arguments, **keywords)

            stack.enter_context(mock.patch.object(cls, name, call))

        around(Journal, "_send", lambda node, generation: watch.closed(node.inode, data_of(generation)))
        around(Journal, "_live", lambda node, generation: watch.superseded(node.inode))
        around(Journal, "removed", lambda node: watch.superseded(node.inode))
        around(Journal, "replaced", lambda source, target: watch.replaced(source.inode, target.inode))
        around(Points, "_break", lambda node, job: watch.broken(node.inode))
        around(Points, "_hand_over", lambda frozen, heir: watch.left_behind(frozen.inode, heir.inode))
        update = Nodes.update

        def update_watched(nodes: Nodes, inode: Inode, **values: Any) -> Node:
            node = update(nodes, inode, **values)
            if nodes is whole.store.nodes and values.get("parent") is not None and not node.frozen:
                watch.moved(inode)
            return node

        stack.enter_context(mock.patch.object(Nodes, "update", update_watched))
        real = Points._leave_behind

        def leave_behind(journal: Points, node: Node, job: Any) -> None:
            before = {each.inode for each in journal._nodes.frozen_in(node.parent or Inode(0), node.name)}
            real(journal, node, job)
            if journal is whole.store.journal:
                after = {each.inode for each in journal._nodes.frozen_in(node.parent or Inode(0), node.name)}
                for frozen in after - before - {node.inode}:
                    watch.left_behind(frozen, node.inode)

        stack.enter_context(mock.patch.object(Points, "_leave_behind", leave_behind))
        yield watch
