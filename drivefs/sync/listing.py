"""Which folders are known: what a user asks for first, what lies around it, and all the rest behind his back.

`run` is the body of one thread, `ensure_listed` may be called from any. A folder that somebody waits for goes alone,
and the flat listing of everything rests meanwhile; those around it go many to a query.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from cachetools import LRUCache, TTLCache

from drivefs.drive.api import Drive
from drivefs.errors import DriveError, Refused, SignInNeeded
from drivefs.model import Inode, Place, Priority
from drivefs.store.node import Node
from drivefs.store.store import Store
from drivefs.sync.exports import FORMATS
from drivefs.sync.flat import FlatListing
from drivefs.sync.pages import Pages, Tree, pages

log = logging.getLogger(__name__)

QUERY_FOLDERS = 50
"""Folders asked for in one query (drive-api: files.list)."""

NEAR_FOLDERS = 8
"""Folders around a walker in the first query; from then on as many as came in one page."""

HEAD_START_S = 5.0
"""Who walks through folder after folder waits this long for the flat listing: it may know all of them at once."""

WALK_S = 1.0
"""Who reads a folder's entries, and those of a folder in it this soon after, is a program that goes through all."""

RETRY_S = 15.0
"""Before the next try, when Drive did not answer."""


class Listings:
    """Asks Drive for what lies in folders."""

    def __init__(
        self,
        store: Store,
        drive: Drive,
        tree: Tree,
        formats: Sequence[str] = FORMATS,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._reader = drive.at(Priority.READER)
        self._background = drive.at(Priority.MIRROR)
        self._tree = tree
        self.pages = Pages(store, tree, formats)
        self.flat = FlatListing(store, self._background, self.pages, monotonic=monotonic, clock=clock)
        self._lock = threading.Lock()
        self._quiet = threading.Condition(self._lock)
        # Guarded by _lock:
        self._asking: dict[Inode, Future[None]] = {}
        self._waited_for = 0  # folders that are asked for because somebody waits who does not go through all
        self._walked: LRUCache[Inode, int] = LRUCache(1_000)  # how many folders in a folder were asked for
        self._read: TTLCache[Inode, bool] = TTLCache(1_000, WALK_S, timer=monotonic)  # listed for a reader of entries
        self._near: deque[Node] = deque(maxlen=4)  # asked for by a walker: what is around them comes next
        self._refused: set[Inode] = set()  # of the thread of `run`
        self._near_folders = NEAR_FOLDERS  # of the thread of `run`
        self._wake = threading.Event()

    # --- what nobody waits for ---

    def start_over(self) -> None:
        """Changes were missed: every folder is asked for again. Part of the caller's transaction."""
        self._store.nodes.set_none_listed()
        shared = self._store.nodes.find_place(Place.SHARED_WITH_ME)
        if shared is not None:
            self._store.nodes.update(shared.inode, listed=False)
        self.flat.give_up()

    def wake(self) -> None:
        """There may be something to list, or the end has come."""
        self._wake.set()

    def run(self, stop: threading.Event) -> None:
        """List whatever is not listed until `stop` is set and `wake` called."""
        while not stop.is_set():
            try:
                busy = self.step()
            except (DriveError, SignInNeeded) as error:
                log.info("Drive cannot be listed for now: %s", error)
                self.flat.over.set()  # who waits for it asks by himself, and hears why
                self._wake.wait(RETRY_S)
                self._wake.clear()
                continue
            if not busy:
                self._wake.wait(self.flat.again_in_s())
                self._wake.clear()

    def step(self) -> bool:
        """The next piece of work, a request or so; whether there was any. Raises DriveError, SignInNeeded."""
        near = self._take_near()
        if near:
            page_count = self._ask_many(near)
            self._near_folders = QUERY_FOLDERS if page_count == 1 else max(1, len(near) // page_count)
            return True
        with self._lock:
            self._quiet.wait_for(lambda: not self._waited_for or self._near)
        if self._near or self.flat.step():
            return True
        rest = self._store.nodes.unlisted(QUERY_FOLDERS + len(self._refused))
        rest = self._claim([node for node in rest if node.inode not in self._refused][:QUERY_FOLDERS])
        if rest:
            self._ask_many(rest)
        elif self.flat.again_in_s() == 0:
            self.flat.look_again()
        else:
            return False
        return True

    # --- one folder, and those around it ---

    def ensure_listed(self, inode: Inode, *, to_read: bool = False) -> None:
        """Make sure that all that Drive has in a folder is in the store. `to_read`: somebody will go through its
        entries. Raises DriveError, SignInNeeded."""
        self._ensure(inode, to_read)
        if to_read and not self.flat.over.is_set():
            with self._lock:
                self._read[inode] = True

    def _ensure(self, inode: Inode, to_read: bool) -> None:
        walking: bool | None = None
        while True:
            folder = self._store.nodes.get(inode)
            if folder.place is Place.SHARED_WITH_ME and not folder.listed:
                self._list_shared(folder)
            if folder.listed or folder.drive_id is None:
                return
            if walking is None:
                walking = self._is_walk(folder, to_read)
                if walking and self.flat.wait(HEAD_START_S):
                    continue
            with self._lock:
                future = self._asking.get(inode)
                mine = future is None
                if future is None:
                    future = self._asking[inode] = Future()
                    if walking:
                        self._near.append(folder)
                        self._quiet.notify_all()
                    else:
                        self._waited_for += 1
            if mine:
                self._wake.set()
                try:
                    self._ask([folder], self._reader)
                finally:
                    if not walking:
                        with self._lock:
                            self._waited_for -= 1
                            self._quiet.notify_all()
                return
            # Whoever asks has perhaps asked for more than this folder: its failure is not ours.
            if future.exception() is None:
                return

    def _list_shared(self, place: Node) -> None:
        """What others share with the account, and lies in no folder that it sees."""
        for page in pages(self._reader.list_shared_with_me):
            with self._store.db.transaction():
                self.pages.apply(page.files, self.pages.moment())
        with self._store.db.transaction():
            self._store.nodes.update(place.inode, listed=True)

    def _is_walk(self, folder: Node, to_read: bool) -> bool:
        """Whether folders beside this one were asked for, or the entries of the one above just before its own:
        somebody goes through all of them. Who only descends to a file has no time to wait."""
        if folder.parent is None:
            return False
        with self._lock:
            count = self._walked.get(folder.parent, 0)
            self._walked[folder.parent] = count + 1
            return count > 0 or (to_read and folder.parent in self._read)

    def _take_near(self) -> list[Node]:
        """What lies around the folder that a walker asked for last: its own folders, and those after it."""
        with self._lock:
            asked = self._near.pop() if self._near else None
            self._near.clear()
        if asked is None or asked.parent is None:
            return []
        nodes = self._store.nodes
        below = nodes.unlisted_after(asked.inode, "", self._near_folders // 2)
        beside = nodes.unlisted_after(asked.parent, asked.name or "", self._near_folders - len(below))
        return self._claim([*below, *beside])

    def _claim(self, folders: list[Node]) -> list[Node]:
        """Those that nobody asks for yet; from now on we do."""
        with self._lock:
            claimed = [folder for folder in folders if folder.inode not in self._asking]
            for folder in claimed:
                self._asking[folder.inode] = Future()
        return claimed

    def _ask_many(self, folders: list[Node]) -> int:
        """One query for all; where Drive does not like it, one each. The number of pages. Raises DriveError."""
        try:
            return self._ask(folders, self._background)
        except Refused as error:
            if len(folders) == 1:
                log.info("Drive does not list the folder %s: %s", folders[0].drive_id, error)
                self._refused.add(folders[0].inode)
                return 1
            return sum(self._ask_many([folder]) for folder in self._claim(folders))

    def _ask(self, folders: Sequence[Node], drive: Drive) -> int:
        """List folders that were claimed, and tell those who wait for them. The number of pages."""
        error: BaseException | None = None
        try:
            return self._list(folders, drive)
        except BaseException as caught:
            error = caught
            raise
        finally:
            with self._lock:
                futures = [self._asking.pop(folder.inode) for folder in folders]
            for future in futures:
                if error is None:
                    future.set_result(None)
                else:
                    future.set_exception(error)

    def _list(self, folders: Sequence[Node], drive: Drive) -> int:
        nodes, db = self._store.nodes, self._store.db
        wanted = {folder.inode for folder in folders}
        ids = [folder.drive_id for folder in folders if folder.drive_id is not None]
        with db.transaction_lock():
            since = self.pages.moment()
            # Only what was here before Drive was asked can be missing in its answer.
            unseen = {drive_id: inode for folder in folders for drive_id, inode in nodes.confirmed_in(folder.inode)}
        incomplete, page_count = False, 0
        for page in pages(lambda token: drive.list_children(ids, token)):
            with db.transaction():
                self.pages.apply(page.files, since)
            for file in page.files:
                unseen.pop(file.id, None)
            incomplete = incomplete or page.incomplete
            page_count += 1
            self._store.relieve()
        with db.transaction():
            for inode in () if incomplete else unseen.values():
                node = nodes.find(inode)
                if node is not None and node.parent in wanted and self._store.journal.find(inode) is None:
                    self._tree.forget(node)
            for inode in wanted:
                if nodes.find(inode) is not None:
                    nodes.update(inode, listed=True)
        return page_count
