"""Into which file of Drive a content may be sent before it is closed, or before its turn.

Any thread may enter. Nothing here asks Drive.
"""

from __future__ import annotations

from dataclasses import replace

from drivefs.errors import Superseded
from drivefs.model import CreateTarget, DriveId, Kind
from drivefs.store.content_file import ContentFile
from drivefs.store.habits import is_temporary
from drivefs.store.node import Node
from drivefs.store.store import Store
from drivefs.sync.metadata import to_create
from drivefs.sync.stream import Stream


class Destinations:
    """Knows what a name will become, by what its like became."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def find_stream(self, node: Node, file: ContentFile) -> Stream | None:
        """Where the content may be sent: into the ID that the file has, or that of the file which it will replace, if
        those of its name did so; or else a new one. None when a stream would be in vain."""
        assert node.parent is not None
        name, habits = node.name or "", self._store.habits
        if not habits.is_worth_it(name):
            return None
        if node.drive_id is not None:
            # An ID without confirmation is one whose create may be under way.
            return None if node.confirmed_ns is None else Stream(self._store, file, node.drive_id, fresh=False)
        place = habits.target_of(node.parent, name)
        target = self._store.nodes.find_child(*place) if place is not None else None
        if target is not None and target.drive_id is not None:
            known = target.kind is Kind.FILE and target.confirmed_ns is not None
            return Stream(self._store, file, target.drive_id, fresh=False) if known else None
        if place is None and is_temporary(name):
            return None
        parent = self._store.nodes.find(node.parent)
        if parent is None or parent.drive_id is None or parent.confirmed_ns is None:
            return None
        return Stream(self._store, file, DriveId(""), fresh=True)  # an ID is asked for when the session begins

    def is_useful(self, stream: Stream) -> bool:
        """Whether the content may still become what its stream is bound to."""
        node = self._store.nodes.find(stream.file.inode)
        if node is None or node.unnamed:
            return False
        if stream.session is None:
            if node.generation != stream.generation:
                return False
        elif self._store.content.sent_ahead.find(stream.generation) is None:
            return False
        if node.drive_id is not None:
            return node.drive_id == stream.drive_id
        return stream.fresh or self._store.nodes.find_by_drive_id(stream.drive_id) is not None

    def create_target(self, node: Node, drive_id: DriveId) -> CreateTarget:
        """Under the name that it will have, as far as can be guessed; the uploader puts right what is not."""
        assert node.parent is not None
        place = self._store.habits.target_of(node.parent, node.name or "")
        parent = self._store.nodes.find(node.parent)
        if parent is None or parent.drive_id is None:
            raise Superseded("The folder was removed.")
        if place is not None:
            node = replace(node, name=place[1])
        return CreateTarget(drive_id, parent.drive_id, to_create(node, self._store.nodes.xattrs(node.inode)))
