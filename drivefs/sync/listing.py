"""Which folders are known: what a user asks for first, what lies around it, and all the rest behind his back.

`run` is the body of one thread, `assist` of some more, `ensure_listed` may be called from any. A folder that somebody
waits for goes alone, and all else rests meanwhile.

Somebody who goes through folder after folder is served by whichever way needs the fewer requests. The flat listing
of everything has a head start: a Drive of some thousand entries is here before folders could be asked for. Then it
rests, and the walker asks, for as many folders as fill a page. Where those bring about as much a page as the flat
listing, they take its place: the rest of Drive comes like that, several queries at once and the walker's next folders
first, and nothing comes twice. Where they bring little, the flat listing goes on between them.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial

from drivefs.drive.api import Drive
from drivefs.errors import DriveError, Refused, SignInNeeded
from drivefs.model import DriveId, Inode, Place, Priority
from drivefs.paging import pages
from drivefs.store.node import Node
from drivefs.store.store import Store
from drivefs.sync.exports import FORMATS
from drivefs.sync.flat import FlatListing
from drivefs.sync.items import Items
from drivefs.sync.pages import Pages
from drivefs.sync.walks import QUERY_FOLDERS, Walks

log = logging.getLogger(__name__)

HEAD_START_PAGES = 16
"""Who walks through folder after folder waits for so much of the flat listing: it may know all of them at once;"""

BETWEEN_PAGES = 4
"""and for so much more of it before each query that brings less than it would;"""

HEAD_START_S = 5.0
"""but no longer than this."""

ASSISTANTS = 3
"""Threads that ask for folders beside the one of `run`, when that is the way: at 80 ms a request more than the
database takes in."""

RETRY_S = 15.0
"""Before the next try, when Drive did not answer."""


class Listings:
    """Asks Drive for what lies in folders."""

    def __init__(
        self,
        store: Store,
        drive: Drive,
        tree: Items,
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
        self.trash = tree.trash
        self._walks = Walks(store, monotonic=monotonic)
        self.flat = FlatListing(
            store, self._background, self.pages, self._walks.saw_page, monotonic=monotonic, clock=clock
        )
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        # Guarded by _lock:
        self._asking: dict[Inode, Future[None]] = {}
        self._waited_for = 0  # folders that are asked for because somebody waits who does not go through all
        self._walkers = 0  # queries of those who do
        self._patience_pages = HEAD_START_PAGES  # a walker waits until the flat listing has so many,
        self._patience_s = 0.0  # or this long after this moment
        self._one_by_one: set[Inode] = set()  # a query for several was refused, because of one of these
        self._refused: set[Inode] = set()
        self._wakes = 0
        self._wake = threading.Event()  # for the thread of `run`

    # --- what nobody waits for ---

    def start_over(self) -> None:
        """Changes were missed: every folder is asked for again. Part of the caller's transaction."""
        self._store.nodes.set_none_listed()
        shared = self._store.nodes.find_place(Place.SHARED_WITH_ME)
        if shared is not None:
            self._store.nodes.update(shared.inode, listed=False)
        self.trash.start_over()
        self.flat.give_up()

    def wake(self) -> None:
        """There may be something to list, or the end has come."""
        self._wake.set()
        with self._lock:
            self._wakes += 1
            self._changed.notify_all()

    def run(self, stop: threading.Event) -> None:
        """List whatever is not listed until `stop` is set and `wake` called."""
        while not stop.is_set():
            try:
                busy = self.step()
            except (DriveError, SignInNeeded) as error:
                log.info("Drive cannot be listed for now: %s", error)
                self.flat.end_wait()  # who waits for it asks by himself, and hears why
                self._wake.wait(RETRY_S)
                self._wake.clear()
                continue
            if not busy:
                self._wake.wait(self.flat.again_in_s())
                self._wake.clear()

    def assist(self, stop: threading.Event) -> None:
        """Ask for folders beside `run`, while that is the way to list everything, until `stop` is set and `wake`
        called."""
        while True:
            with self._lock:
                seen = self._wakes
            if stop.is_set():
                return
            try:
                busy = self._walks.is_dense() and self._ask_next()
            except (DriveError, SignInNeeded) as error:
                log.info("Drive cannot be listed for now: %s", error)
                busy = False  # the thread of `run` tries again
            if not busy:
                with self._lock:
                    while self._wakes == seen:
                        self._changed.wait()

    def step(self) -> bool:
        """The next piece of work, a request or so; whether there was any. Raises DriveError, SignInNeeded."""
        if self._walks.is_dense():
            if self._ask_next():
                return True
            with self._lock:
                if self._asking:
                    self._changed.wait()
                    return True
        else:
            with self._lock:
                self._changed.wait_for(lambda: not self._waited_for and not self._walkers)
            if self._walks.is_dense():
                return True  # a walker has found out
        if self.flat.step() or self._ask_next():
            return True
        if self.flat.again_in_s() == 0:
            self.flat.look_again()
            return True
        return False

    # --- one folder, and those around it ---

    def ensure_listed(self, inode: Inode, *, to_read: bool = False) -> None:
        """Make sure that all that Drive has in a folder is in the store. `to_read`: somebody will go through its
        entries. Raises DriveError, SignInNeeded."""
        self._ensure(inode, to_read)
        if to_read and not self.flat.is_over():
            self._walks.read(inode)

    def _ensure(self, inode: Inode, to_read: bool) -> None:
        walking: bool | None = None
        while True:
            folder = self._store.nodes.get(inode)
            if folder.place is Place.SHARED_WITH_ME and not folder.listed:
                self._list_shared(folder)
            elif folder.place is Place.TRASH and not folder.listed:
                self.trash.list_all(folder, self._reader)
            if folder.listed or folder.drive_id is None:
                return
            if walking is None:
                walking = self._walks.is_walk(folder, to_read=to_read)
                if walking and self._wait_for_flat():
                    continue
            future = self._ask_for(folder, walking)
            # Whoever asks has perhaps asked for more than this folder: its failure is not ours.
            if future is None or future.exception() is None:
                return
            walking = False

    def _wait_for_flat(self) -> bool:
        """Let the flat listing go on as far as a walker has patience; whether it has come to its end meanwhile."""
        if self._walks.is_dense():
            return False
        with self._lock:
            page_count, since_s = self._patience_pages, self._patience_s
        return self.flat.wait(page_count, since_s, HEAD_START_S)

    def _ask_for(self, folder: Node, walking: bool) -> Future[None] | None:
        """List a folder that somebody waits for, with others when he goes through all of them. Returns a future when
        somebody else asks for it already, or when it has to be asked for without the others."""
        count = self._walks.query_folders() - 1 if walking else 0
        near = self._walks.after(folder, count + self._taken()) if count else []
        with self._lock:
            future = self._asking.get(folder.inode)
            if future is not None:
                return future
            future = self._asking[folder.inode] = Future()
            claimed = [folder, *self._claim(near, count)]
            if walking:
                self._walkers += 1
            else:
                self._waited_for += 1
        if walking:
            self._walks.stands_at(folder)
        try:
            folders = self._still_unlisted(claimed)
            if folder in folders:
                self._ask(folders, self._reader, learn=walking)
            else:
                self._release(folders)
        except Refused:
            if len(folders) == 1:
                raise
            with self._lock:
                self._one_by_one.update(node.inode for node in folders if node != folder)
            return future
        finally:
            with self._lock:
                if walking:
                    self._walkers -= 1
                    self._patience_pages = self.flat.page_count + BETWEEN_PAGES
                    self._patience_s = self._monotonic()
                else:
                    self._waited_for -= 1
                self._changed.notify_all()
            self.wake()
        return None

    def _list_shared(self, place: Node) -> None:
        """What others share with the account, and lies in no folder that it sees."""
        for page in pages(self._reader.list_shared_with_me):
            with self._store.db.transaction():
                self.pages.apply(page.files, self.pages.moment())
        with self._store.db.transaction():
            self._store.nodes.update(place.inode, listed=True)

    def _claim(self, folders: list[Node], limit: int) -> list[Node]:
        """The first of those that nobody asks for yet, and that Drive may like in one query; from now on we do. Under
        the lock."""
        taken = self._asking.keys() | self._refused | self._one_by_one
        claimed = [folder for folder in folders if folder.inode not in taken][:limit]
        for folder in claimed:
            self._asking[folder.inode] = Future()
        return claimed

    def _taken(self) -> int:
        """How many unlisted folders cannot be claimed."""
        with self._lock:
            return len(self._asking) + len(self._refused) + len(self._one_by_one)

    def _ask_next(self) -> bool:
        """One query for folders that nobody waits for, what a walker will come to first; whether there were any.
        Raises DriveError, SignInNeeded."""
        with self._lock:
            self._changed.wait_for(lambda: not self._waited_for)
        folders = self._next_alone() or self._next()
        if not folders:
            return False
        try:
            self._ask(folders, self._background, learn=len(folders) > 1)
        except Refused as error:
            with self._lock:
                if len(folders) > 1:
                    self._one_by_one.update(folder.inode for folder in folders)
                else:
                    log.info("Drive does not list the folder %s: %s", folders[0].drive_id, error)
                    self._refused.add(folders[0].inode)
        return True

    def _next_alone(self) -> list[Node]:
        """One of the folders that Drive may not list, claimed."""
        while True:
            with self._lock:
                if not self._one_by_one:
                    return []
                inode = self._one_by_one.pop()
            node = self._store.nodes.find(inode)
            if node is not None and not node.listed:
                with self._lock:
                    claimed = self._claim([node], 1)
                if claimed:
                    return claimed

    def _next(self) -> list[Node]:
        """As many folders as fill a page, claimed."""
        count = self._walks.query_folders() if self._walks.is_dense() else QUERY_FOLDERS
        while True:
            limit = count + self._taken()
            found = self._walks.ahead(limit) if self._walks.is_dense() else []
            if len(found) < limit:
                found = list({node.inode: node for node in (*found, *self._store.nodes.unlisted(limit))}.values())
            with self._lock:
                claimed = self._claim(found, count)
            folders = self._still_unlisted(claimed)
            if folders or (len(found) < limit and not claimed):
                return folders

    def _still_unlisted(self, claimed: list[Node]) -> list[Node]:
        """Those that nobody has listed between a look at them and their claim; the others are no longer claimed."""
        now = {folder.inode: self._store.nodes.find(folder.inode) for folder in claimed}
        unlisted = {inode for inode, node in now.items() if node is not None and not node.listed}
        self._release([folder for folder in claimed if folder.inode not in unlisted])
        return [folder for folder in claimed if folder.inode in unlisted]

    def _ask(self, folders: Sequence[Node], drive: Drive, *, learn: bool) -> None:
        """List folders that were claimed, and tell those who wait for them. `learn` how much is in such folders."""
        error: BaseException | None = None
        try:
            page_sizes = self._list(folders, drive)
            if learn:
                self._walks.learn(len(folders), page_sizes)
        except BaseException as caught:
            error = caught
            raise
        finally:
            self._release(folders, error)

    def _release(self, folders: Sequence[Node], error: BaseException | None = None) -> None:
        """Claimed folders are asked for, or have failed."""
        with self._lock:
            futures = [self._asking.pop(folder.inode) for folder in folders]
            self._changed.notify_all()
        for future in futures:
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

    def _list(self, folders: Sequence[Node], drive: Drive) -> list[int]:
        """List folders; how many entries each page had."""
        nodes, db = self._store.nodes, self._store.db
        wanted = {folder.inode for folder in folders}
        ids = [folder.drive_id for folder in folders if folder.drive_id is not None]
        with db.transaction_lock():
            since = self.pages.moment()
            # Only what was here before Drive was asked can be missing in its answer.
            unseen = {drive_id: inode for folder in folders for drive_id, inode in nodes.confirmed_in(folder.inode)}
        incomplete, page_sizes = self._read(ids, drive, since, unseen)
        if unseen and len(page_sizes) > 1 and not incomplete:
            # What changes between two pages may move another entry from the one not read yet to the one read already.
            incomplete, _ = self._read(ids, drive, since, unseen)
        with db.transaction():
            for inode in () if incomplete else unseen.values():
                node = nodes.find(inode)
                if node is not None and node.parent in wanted and self._store.journal.find(inode) is None:
                    self._tree.forget(node)
            for inode in wanted:
                if nodes.find(inode) is not None:
                    nodes.update(inode, listed=True)
        return page_sizes

    def _is_trashed(self, drive_id: DriveId) -> bool:
        """Whether what lies in a folder may be trashed with it."""
        folder = self._store.nodes.find_by_drive_id(drive_id)
        return folder is not None and self.trash.holds(folder)

    def _read(
        self, ids: list[DriveId], drive: Drive, since: int, unseen: dict[DriveId, Inode]
    ) -> tuple[bool, list[int]]:
        """Take in all that is in folders, which is then no longer `unseen`: whether Drive has not searched all, and
        how many entries each page had."""
        incomplete, page_sizes = False, []
        trashed = {drive_id for drive_id in ids if self._is_trashed(drive_id)}
        ask = partial(drive.list_children, ids, trashed=True) if trashed else partial(drive.list_children, ids)
        for page in pages(ask):
            with self._store.db.transaction():
                self.pages.apply([file for file in page.files if file.parent not in trashed], since)
                for file in page.files:
                    if file.parent in trashed:
                        self._tree.take(file)
            for file in page.files:
                unseen.pop(file.id, None)
            incomplete = incomplete or page.incomplete
            page_sizes.append(page.entries)
            self._store.relieve()
        return incomplete, page_sizes
