"""Who goes through folder after folder, what comes next for him, and how many folders fill a page.

Any thread may enter. Nothing here is durable, and nothing here asks Drive.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from cachetools import LRUCache, TTLCache

from drivefs.model import Inode
from drivefs.store.node import Node
from drivefs.store.store import Store

QUERY_FOLDERS = 50
"""Folders asked for in one query at most (drive-api: files.list)."""

FIRST_FOLDERS = 8
"""Folders in a walker's first query, when nobody knows yet how much is in them."""

FULL_SHARE = 0.95
"""Of a page that folders are chosen for: one entry more than a page has costs another request."""

WALK_S = 1.0
"""Who reads a folder's entries, and those of a folder in it this soon after, is a program that goes through all."""


class Walks:
    """What is known of those who go through all folders."""

    def __init__(self, store: Store, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._lock = threading.Lock()
        # Guarded by _lock:
        self._asked: LRUCache[Inode, int] = LRUCache(1_000)  # how many folders in a folder were asked for
        self._read: TTLCache[Inode, bool] = TTLCache(1_000, WALK_S, timer=monotonic)  # listed for a reader of entries
        self._at: Node | None = None  # where the last one stood
        self._page_entries: int | None = None  # of a page that another one follows; None: there was none
        self._folder_entries: float | None = None  # of a folder, in the last query for several

    def is_walk(self, folder: Node, *, to_read: bool) -> bool:
        """Whether folders beside this one were asked for, or the entries of the one above just before its own:
        somebody goes through all of them. Who only descends to a file has no time to wait."""
        if folder.parent is None:
            return False
        with self._lock:
            count = self._asked.get(folder.parent, 0)
            self._asked[folder.parent] = count + 1
            return count > 0 or (to_read and folder.parent in self._read)

    def read(self, inode: Inode) -> None:
        """Somebody reads the entries of a folder."""
        with self._lock:
            self._read[inode] = True

    def learn(self, folder_count: int, page_sizes: Sequence[int]) -> None:
        """A query for folders has brought pages of so many entries."""
        with self._lock:
            self._folder_entries = sum(page_sizes) / folder_count
            self._page_entries = max([self._page_entries or 0, *page_sizes[:-1]]) or None

    def saw_page(self, entries: int) -> None:
        """A page of so many entries was followed by another one."""
        with self._lock:
            self._page_entries = max(self._page_entries or 0, entries)

    def is_dense(self) -> bool:
        """Whether queries for folders bring at least half as much a page as any other listing: then nothing is to be
        listed twice for the sake of a few requests."""
        with self._lock:
            if self._folder_entries is None or self._page_entries is None:
                return False
            return self._folder_entries * QUERY_FOLDERS >= self._page_entries / 2

    def query_folders(self) -> int:
        """How many folders the next query asks for: as many as fill a page."""
        with self._lock:
            if self._folder_entries is None:
                return FIRST_FOLDERS
            if self._page_entries is None or not self._folder_entries:
                return QUERY_FOLDERS
            return min(max(1, int(FULL_SHARE * self._page_entries / self._folder_entries)), QUERY_FOLDERS)

    def after(self, folder: Node, limit: int) -> list[Node]:
        """The next unlisted folders for one who stands at `folder`: its own, those after it, and those after the ones
        above it."""
        nodes = self._store.nodes
        found = nodes.unlisted_after(folder.inode, "", limit)
        at: Node | None = folder
        while at is not None and at.parent is not None and len(found) < limit:
            found += nodes.unlisted_after(at.parent, at.name or "", limit - len(found))
            at = nodes.find(at.parent)
        return found

    def stands_at(self, folder: Node) -> None:
        """Somebody who goes through all of them has come to this folder."""
        with self._lock:
            self._at = folder

    def ahead(self, limit: int) -> list[Node]:
        """The next unlisted folders for the last of those who go through all."""
        with self._lock:
            at = self._at
        return self.after(at, limit) if at is not None else []
