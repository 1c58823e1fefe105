"""Small files that will be read next: who goes through a folder, in any order, finds them here already.

Entered by the threads that open files; the work runs on the executor given. Nothing here is durable: what was brought
is clean content like any other, and is evicted like it.

The more files of a folder were opened, the more of it is brought, so that a few files cost little, and a whole folder
comes in a few round trips. Each file costs a request: a budget a minute keeps most of the quota for those who wait.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field

from cachetools import TTLCache

from drivefs.errors import DrivefsError
from drivefs.model import Inode, Kind
from drivefs.store.content_file import ContentFile
from drivefs.store.node import Node
from drivefs.store.store import Store

log = logging.getLogger(__name__)

FIRST_OPENS = 3
"""Files of one folder opened before its others are brought,"""

PER_OPEN = 32
"""and so many for each."""

SMALL_BYTES = 1 << 20
"""Larger files are read in parts, and have read-ahead of their own."""

AT_ONCE = 40
"""At 80 ms a request some 400 files a second, more than one interpreter can serve to readers."""

PER_MINUTE = 1_000
"""Files brought: 200,000 of a user's 325,000 quota units (drive-api: Quota)."""

FREE_SHARE = 4
"""What is brought takes no more than this part of what is free in the cache."""

FORGET_S = 300.0
"""A folder in which nothing was opened for so long begins anew."""


@dataclass(slots=True)
class _Folder:
    """A folder that somebody reads in. Guarded by the lock of Neighbours."""

    first: str  # the name of the first file opened: what comes after it is looked at first
    after: str  # what comes after this name has not been looked at,
    wrapped: bool = False  # or, where the end was met once, what lies between it and `first`
    opened: set[Inode] = field(default_factory=set)
    planned: int = 0
    planning: bool = False  # somebody looks for more: what two find at once would be the same
    done: bool = False


class Neighbours:
    """Decides which files come before they are asked for, and has them brought."""

    def __init__(
        self,
        store: Store,
        executor: Executor,
        bring: Callable[[ContentFile], None],
        free_bytes: Callable[[], int],
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`bring` fills a content file from Drive, and raises DrivefsError."""
        self._store = store
        self._executor = executor
        self._bring = bring
        self._free_bytes = free_bytes
        self._monotonic = monotonic
        self._lock = threading.Lock()
        # Guarded by _lock:
        self._folders: TTLCache[Inode, _Folder] = TTLCache(1_000, FORGET_S, timer=monotonic)
        self._waiting: deque[tuple[Inode, Inode]] = deque()  # folder, file
        self._workers = 0
        self._budget = float(PER_MINUTE)
        self._budget_s = monotonic()

    def opened(self, node: Node) -> None:
        """A file is opened for reading; may begin to bring others of its folder."""
        if node.parent is None or node.kind is not Kind.FILE or node.size_bytes > SMALL_BYTES:
            return
        with self._lock:
            folder = self._folders.get(node.parent)
            if folder is None:
                folder = _Folder(node.name or "", node.name or "")
            self._folders[node.parent] = folder  # counts its time from now
            if folder.done or node.inode in folder.opened:
                return
            folder.opened.add(node.inode)
            wanted = PER_OPEN * len(folder.opened) - folder.planned
            if len(folder.opened) < FIRST_OPENS or wanted < PER_OPEN or folder.planning:
                return
            wanted = self._take_budget(wanted)
            if not wanted:
                return
            folder.planning = True
        try:
            self._plan(node.parent, folder, wanted)
        finally:
            with self._lock:
                folder.planning = False

    def _take_budget(self, count: int) -> int:
        now_s = self._monotonic()
        self._budget = min(PER_MINUTE, self._budget + (now_s - self._budget_s) * PER_MINUTE / 60)
        self._budget_s = now_s
        taken = min(count, int(self._budget))
        self._budget -= taken
        return taken

    def _plan(self, parent: Inode, folder: _Folder, wanted: int) -> None:
        found = self._store.nodes.remote_files_after(parent, folder.after, SMALL_BYTES, wanted)
        ended = len(found) < wanted
        if folder.wrapped:
            left = [node for node in found if (node.name or "") <= folder.first]
            found, ended = left, ended or len(left) < len(found)
        spare_bytes = self._free_bytes() // FREE_SHARE
        with self._lock:
            for node in found:
                spare_bytes -= node.size_bytes
                if spare_bytes < 0:
                    folder.done = True
                    break
                self._waiting.append((parent, node.inode))
            if not ended:
                folder.after = found[-1].name or ""
            elif folder.wrapped:
                folder.done = True
                folder.opened.clear()
            else:
                folder.wrapped, folder.after = True, ""
            self._budget += wanted - len(found)
            folder.planned += len(found)
            starting = min(AT_ONCE - self._workers, len(self._waiting))
            self._workers += starting
        for _ in range(starting):
            self._executor.submit(self._work)

    def _work(self) -> None:
        """Bring files until none waits."""
        while True:
            with self._lock:
                if not self._waiting:
                    self._workers -= 1
                    return
                parent, inode = self._waiting.popleft()
            try:
                if not self._fetch(inode):
                    with self._lock:
                        self._budget += 1
            except DrivefsError as error:
                log.info("The files beside inode %d do not come ahead: %s", inode, error)
                self._give_up(parent)
            except BaseException:
                with self._lock:
                    self._workers -= 1
                raise

    def _give_up(self, parent: Inode) -> None:
        with self._lock:
            self._waiting = deque(each for each in self._waiting if each[0] != parent)
            folder = self._folders.get(parent)
            if folder is not None:
                folder.done = True

    def _fetch(self, inode: Inode) -> bool:
        """Bring a file, unless it was opened, changed or removed meanwhile; whether it was brought."""
        with self._store.db.transaction():
            node = self._store.nodes.find(inode)
            if node is None or node.generation is not None or node.unnamed:
                return False
            file = self._store.remote_content(node)
        try:
            self._bring(file)
        finally:
            file.close()
        return True
