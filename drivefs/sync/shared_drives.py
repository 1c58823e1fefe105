"""Shared drives as places of the mount: which there are, and the changes feed that each has of its own.

Entered by whoever polls, one at a time. A feed's place is kept as the setting `changes_token:ID`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Protocol

from drivefs.drive.api import Drive
from drivefs.errors import Refused
from drivefs.model import ChangesPage, DriveId, Place, SharedDrive
from drivefs.store.node import Node
from drivefs.store.store import Store
from drivefs.sync.layout import add_shared_drive

log = logging.getLogger(__name__)

LIST_EVERY_S = 600.0
"""Between two looks at which shared drives there are."""

Follow = Callable[[str, Callable[[str], ChangesPage]], int]
"""Applies a feed: the setting that keeps its place, and how to ask for a page; how many changes there were."""


class Tree(Protocol):
    """Who drops a node that Drive no longer shows."""

    def forget(self, node: Node) -> bool: ...


class SharedDrives:
    """The shared drives of a mount whose layout has a place for them; of others nothing."""

    def __init__(self, store: Store, drive: Drive, tree: Tree, *, monotonic: Callable[[], float] = time.monotonic):
        self._store, self._drive, self._tree, self._monotonic = store, drive, tree, monotonic
        self._listed_s: float | None = None

    def look(self) -> None:
        """Find out which there are. Raises DriveError."""
        above = self._store.nodes.find_place(Place.SHARED_DRIVES)
        if above is not None:
            self._take(above, self._drive.shared_drives())
            self._listed_s = self._monotonic()

    def poll(self, follow: Follow) -> int:
        """Take over what has changed in each, and from time to time which there are. Raises DriveError."""
        above = self._store.nodes.find_place(Place.SHARED_DRIVES)
        if above is None:
            return 0
        if self._listed_s is None or self._monotonic() - self._listed_s >= LIST_EVERY_S:
            self.look()
        count = 0
        for node in list(self._store.nodes.children(above.inode)):
            assert node.drive_id is not None
            count += self._follow(node, node.drive_id, follow)
        return count

    def _take(self, above: Node, drives: list[SharedDrive]) -> None:
        """Make places of those that are new, and drop those that the account is no longer a member of."""
        known = {node.drive_id: node for node in self._store.nodes.children(above.inode)}
        for drive in drives:
            if drive.id not in known:
                # The token comes before the first listing, so that no change falls between the two.
                token = self._drive.start_page_token(drive.id)
                with self._store.db.transaction():
                    add_shared_drive(self._store.nodes, above, drive)
                    self._store.db.set_setting(_setting(drive.id), token)
        for drive_id in known.keys() - {drive.id for drive in drives}:
            log.info("The account is no longer a member of the shared drive %s.", known[drive_id].name)
            with self._store.db.transaction():
                self._tree.forget(known[drive_id])

    def _follow(self, node: Node, drive_id: DriveId, follow: Follow) -> int:
        try:
            return follow(_setting(drive_id), lambda token: self._drive.changes(token, drive_id))
        except Refused as error:
            log.warning("The changes of the shared drive %s cannot be followed (%s): listing anew.", node.name, error)
            token = self._drive.start_page_token(drive_id)
            with self._store.db.transaction():
                self._store.db.set_setting(_setting(drive_id), token)
                self._store.nodes.set_none_listed()
            return 0


def _setting(drive_id: DriveId) -> str:
    return f"changes_token:{drive_id}"
