"""What shortcuts stand for: brought into the tree when somebody asks where one leads. Any thread may enter."""

from __future__ import annotations

import threading
from typing import Protocol

from cachetools import TTLCache

from drivefs.drive.api import Drive
from drivefs.errors import RemoteNotFound
from drivefs.model import DriveId, Inode
from drivefs.store.node import Node
from drivefs.store.store import Store

DEPTH_LIMIT = 100
"""Drive has no more levels of folders (drive-api: Limits)."""

OUTSIDE_S = 60.0
OUTSIDE_KEPT = 10_000
"""What is not in the mount is not asked for again so soon."""


class Listings(Protocol):
    """Brings folders into the tree."""

    def ensure_listed(self, inode: Inode) -> None: ...


class Shortcuts:
    """Finds the items of Drive that shortcuts name."""

    def __init__(self, store: Store, drive: Drive, listings: Listings) -> None:
        self._store = store
        self._drive = drive
        self._listings = listings
        self._lock = threading.Lock()
        self._outside: TTLCache[DriveId, bool] = TTLCache(OUTSIDE_KEPT, OUTSIDE_S)  # guarded by _lock

    def ensure_known(self, drive_id: DriveId) -> None:
        """Have an item in the tree, with the folders that lead to it, if the mount shows it. Raises DriveError,
        SignInNeeded."""
        with self._lock:
            if drive_id in self._outside:
                return
        if not self._find(drive_id):
            with self._lock:
                self._outside[drive_id] = True

    def _find(self, drive_id: DriveId) -> bool:
        below: list[DriveId] = []
        node = self._store.nodes.find_by_drive_id(drive_id)
        while node is None:
            try:
                file = self._drive.get(drive_id)
            except RemoteNotFound:
                return False
            if file.trashed or file.parent is None or len(below) >= DEPTH_LIMIT:
                return False
            below.append(drive_id)
            drive_id = file.parent
            node = self._store.nodes.find_by_drive_id(drive_id)
        found: Node | None = node
        for each in reversed(below):
            if found is None or found.gone:
                return False
            self._listings.ensure_listed(found.inode)
            found = self._store.nodes.find_by_drive_id(each)
        return found is not None and not found.gone
