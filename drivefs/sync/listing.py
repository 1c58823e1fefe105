"""Which folders are known: all of Drive in one flat listing behind the mount's back, and what a user asks for first.

`run` is the body of one thread, `ensure_listed` may be called from any. How far the flat listing has come stands in
the database, in the transaction of each page: it goes on after a restart where it was cut. It names the folders
first and then everything else, so that an item's folder is known when the item comes; folders that come before
their own folder are parked until all are here. What changes meanwhile is in the changes feed, which began before.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import asdict
from typing import Any, Protocol

from cachetools import LRUCache, TTLCache

from drivefs.drive.api import Drive
from drivefs.errors import BadReply, DriveError, Refused, SignInNeeded
from drivefs.model import ROOT_INODE, DriveId, Inode, ListPage, Priority, RemoteFile
from drivefs.store.nodes import Node
from drivefs.store.store import Store
from drivefs.sync.metadata import attributes, node_values
from drivefs.sync.names import NAME_LIMIT_BYTES, shown_name

log = logging.getLogger(__name__)

QUERY_FOLDERS = 50
"""Folders asked for in one query (drive-api: files.list)."""

HEAD_START_S = 5.0
"""Who walks through folder after folder waits this long for the flat listing: it may know all of them at once."""

UNPARK_FOLDERS = 1_000
"""Parked folders put into the tree in one transaction."""

WALK_S = 1.0
"""Who reads a folder's entries, and those of a folder in it this soon after, is a program that goes through all."""

RETRY_S = 15.0
"""Before the next try, when Drive did not answer."""

GONE_S = 600.0
"""No page of a listing is applied later than this after it was asked for."""

_FLAT = "listing"
"""Setting: what the flat listing does next."""
_TOKEN = "listing_token"
_LAST = "listing_last_inode"
_FOLDERS, _PARKED, _FILES, _DONE = "folders", "parked", "files", "done"


class Tree(Protocol):
    """What one item of Drive means for the rows; in the caller's transaction."""

    def take(self, file: RemoteFile) -> None: ...

    def forget(self, node: Node) -> bool: ...


class Listings:
    """Asks Drive for what lies in folders."""

    def __init__(
        self, store: Store, drive: Drive, tree: Tree, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._reader = drive.at(Priority.READER)
        self._background = drive.at(Priority.MIRROR)
        self._tree = tree
        self._monotonic = monotonic
        self._lock = threading.Lock()
        # Guarded by _lock:
        self._asking: dict[Inode, Future[None]] = {}
        self._walked: LRUCache[Inode, int] = LRUCache(1_000)  # how many folders in a folder were asked for
        self._read: TTLCache[Inode, bool] = TTLCache(1_000, WALK_S, timer=monotonic)  # listed for a reader of entries
        self._near: deque[Node] = deque(maxlen=4)  # asked for by a walker: what is around them comes next
        # Guarded by the database's lock:
        self._moment = 0
        self._gone: TTLCache[DriveId, int] = TTLCache(100_000, GONE_S)
        self._refused: set[Inode] = set()  # of the thread of `run`
        self._began_s: float | None = None  # the flat listing, by this process; written by the thread of `run`
        self._flat_over = threading.Event()
        self._wake = threading.Event()

    # --- the whole Drive ---

    def plan(self, root: ListPage) -> None:
        """A new cache: begin with what the root has, and the flat listing. Part of the caller's transaction."""
        self.apply_page(root.files, self.moment())
        if root.next_token is None and not root.incomplete:
            self._store.nodes.update(ROOT_INODE, listed=True)
        self._store.db.set_setting(_FLAT, _FOLDERS)

    def is_new(self) -> bool:
        """Whether the flat listing has yet to begin."""
        return self._store.db.setting(_FLAT) == _FOLDERS and not self._store.db.setting(_TOKEN)

    def start_over(self) -> None:
        """Changes were missed: every folder is asked for again. Part of the caller's transaction."""
        self._store.nodes.set_none_listed()
        self._store.db.set_setting(_FLAT, _DONE)

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
                self._flat_over.set()  # who waits for it asks by himself, and hears why
                self._wake.wait(RETRY_S)
                self._wake.clear()
                continue
            if not busy:
                self._wake.wait()
                self._wake.clear()

    def step(self) -> bool:
        """The next piece of work, a request or so; whether there was any. Raises DriveError, SignInNeeded."""
        near = self._take_near()
        if near:
            self._ask_many(near)
            return True
        if self._flat_step():
            return True
        self._flat_over.set()
        rest = self._store.nodes.unlisted(QUERY_FOLDERS + len(self._refused))
        rest = self._claim([node for node in rest if node.inode not in self._refused][:QUERY_FOLDERS])
        if rest:
            self._ask_many(rest)
        return bool(rest)

    def _flat_step(self) -> bool:
        db = self._store.db
        phase = db.setting(_FLAT)
        if phase == _PARKED:
            return self._unpark()
        if phase not in (_FOLDERS, _FILES):
            return False
        if self._began_s is None:
            self._began_s = self._monotonic()
        token = db.setting(_TOKEN) or None
        since = self.moment()
        try:
            page = self._background.list_all(token, folders=phase == _FOLDERS)
        except Refused:
            if token is None:
                log.warning("Drive refuses a listing of everything: its folders are listed one by one.")
                db.set_setting(_FLAT, _DONE)
            db.set_setting(_TOKEN, "")  # too old: this part from its beginning
            return True
        following = page.next_token if page.next_token != token else None
        with db.transaction():
            self.apply_page(page.files, since, park=phase == _FOLDERS)
            db.set_setting(_TOKEN, following or "")
            if page.incomplete or (page.next_token is not None and following is None):
                db.set_setting(_FLAT, _DONE)  # not to be trusted: the folders are listed one by one
            elif following is None and phase == _FOLDERS:
                db.set_setting(_FLAT, _PARKED)
            elif following is None:
                db.set_setting(_FLAT, _DONE)
                self._store.nodes.set_all_listed(Inode(int(db.setting(_LAST) or 0)))
        return True

    def _unpark(self) -> bool:
        """Put folders into the tree whose own folder has come; when none is left, go on to the files."""
        db = self._store.db
        with db.transaction():
            rows = db.rows(
                "SELECT p.drive_id, p.item FROM parked_folders p JOIN nodes n ON n.drive_id = p.parent LIMIT ?",
                (UNPARK_FOLDERS,),
            )
            for drive_id, item in rows:
                self._tree.take(RemoteFile(**json.loads(item)))
                db.run("DELETE FROM parked_folders WHERE drive_id = ?", (drive_id,))
            if not rows:
                # What is left hangs in nothing that this account sees.
                db.run("DELETE FROM parked_folders")
                db.set_setting(_FLAT, _FILES)
                # Of folders that come later by the changes feed, earlier pages may have had files.
                db.set_setting(_LAST, str(self._store.nodes.last_inode()))
        return True

    # --- one folder, and those around it ---

    def ensure_listed(self, inode: Inode, *, to_read: bool = False) -> None:
        """Make sure that all that Drive has in a folder is in the store. `to_read`: somebody will go through its
        entries. Raises DriveError, SignInNeeded."""
        self._ensure(inode, to_read)
        if to_read and not self._flat_over.is_set():
            with self._lock:
                self._read[inode] = True

    def _ensure(self, inode: Inode, to_read: bool) -> None:
        walking: bool | None = None
        while True:
            folder = self._store.nodes.get(inode)
            if folder.listed or folder.drive_id is None:
                return
            if walking is None:
                walking = self._is_walk(folder, to_read)
                if walking and self._wait_for_flat():
                    continue
            with self._lock:
                future = self._asking.get(inode)
                mine = future is None
                if future is None:
                    future = self._asking[inode] = Future()
                    if walking:
                        self._near.append(folder)
            if mine:
                self._wake.set()
                self._ask([folder], self._reader)
                return
            # Whoever asks has perhaps asked for more than this folder: its failure is not ours.
            if future.exception() is None:
                return

    def _is_walk(self, folder: Node, to_read: bool) -> bool:
        """Whether folders beside this one were asked for, or the entries of the one above just before its own:
        somebody goes through all of them. Who only descends to a file has no time to wait."""
        if folder.parent is None:
            return False
        with self._lock:
            count = self._walked.get(folder.parent, 0)
            self._walked[folder.parent] = count + 1
            return count > 0 or (to_read and folder.parent in self._read)

    def _wait_for_flat(self) -> bool:
        """Give a young flat listing its time; whether there was one."""
        began_s = self._began_s
        if began_s is None or self._flat_over.is_set():
            return False
        left_s = began_s + HEAD_START_S - self._monotonic()
        return left_s > 0 and self._flat_over.wait(left_s)

    def _take_near(self) -> list[Node]:
        """What lies around the folder that a walker asked for last: its own folders, and those after it."""
        with self._lock:
            asked = self._near.pop() if self._near else None
            self._near.clear()
        if asked is None or asked.parent is None:
            return []
        nodes = self._store.nodes
        below = nodes.unlisted_after(asked.inode, "", QUERY_FOLDERS // 2)
        beside = nodes.unlisted_after(asked.parent, asked.name or "", QUERY_FOLDERS - len(below))
        return self._claim([*below, *beside])

    def _claim(self, folders: list[Node]) -> list[Node]:
        """Those that nobody asks for yet; from now on we do."""
        with self._lock:
            claimed = [folder for folder in folders if folder.inode not in self._asking]
            for folder in claimed:
                self._asking[folder.inode] = Future()
        return claimed

    def _ask_many(self, folders: list[Node]) -> None:
        """One query for all; where Drive does not like it, one each. Raises DriveError."""
        try:
            self._ask(folders, self._background)
        except Refused as error:
            if len(folders) == 1:
                log.info("Drive does not list the folder %s: %s", folders[0].drive_id, error)
                self._refused.add(folders[0].inode)
                return
            for folder in self._claim(folders):
                self._ask_many([folder])

    def _ask(self, folders: Sequence[Node], drive: Drive) -> None:
        """List folders that were claimed, and tell those who wait for them."""
        error: BaseException | None = None
        try:
            self._list(folders, drive)
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

    def _list(self, folders: Sequence[Node], drive: Drive) -> None:
        nodes, db = self._store.nodes, self._store.db
        wanted = {folder.inode for folder in folders}
        ids = [folder.drive_id for folder in folders if folder.drive_id is not None]
        with db.transaction_lock():
            since = self.moment()
            # Only what was here before Drive was asked can be missing in its answer.
            unseen = {drive_id: inode for folder in folders for drive_id, inode in nodes.confirmed_in(folder.inode)}
        incomplete = False
        for page in pages(lambda token: drive.list_children(ids, token)):
            with db.transaction():
                self.apply_page(page.files, since)
            for file in page.files:
                unseen.pop(file.id, None)
            incomplete = incomplete or page.incomplete
        with db.transaction():
            for inode in () if incomplete else unseen.values():
                node = nodes.find(inode)
                if node is not None and node.parent in wanted and self._store.journal.find(inode) is None:
                    self._tree.forget(node)
            for inode in wanted:
                if nodes.find(inode) is not None:
                    nodes.update(inode, listed=True)

    # --- pages ---

    def moment(self) -> int:
        """Now, in the order of what the changes feed has said; for `apply_page`."""
        with self._store.db.transaction_lock():
            return self._moment

    def is_gone(self, drive_id: DriveId) -> None:
        """The feed says that an item is gone: a page asked for before must not bring it back. In the caller's
        transaction."""
        self._moment += 1
        self._gone[drive_id] = self._moment
        self._store.db.run("DELETE FROM parked_folders WHERE drive_id = ?", (drive_id,))

    def apply_page(self, files: Sequence[RemoteFile], since: int, *, park: bool = False) -> None:
        """Take over what a listing asked for at moment `since` says; in the caller's transaction.

        New files, which is nearly all of it, go in at once; the others one by one. `park`: keep folders whose own
        folder is not here.
        """
        nodes = self._store.nodes
        # Of twins the older one keeps the plain name, whatever the order of the listing.
        items = sorted(
            (file for file in files if not file.trashed and self._gone.get(file.id, 0) <= since),
            key=lambda file: (file.created_ns, file.id),
        )
        known = nodes.inodes_of(list({file.id for file in items} | {file.parent for file in items if file.parent}))
        rows: dict[DriveId, list[Any]] = {}
        single: list[RemoteFile] = []
        for file in items:
            parent = known.get(file.parent) if file.parent is not None else None
            if file.id in known:
                single.append(file)
            elif parent is not None and parent[1]:
                row = self._row(file, parent[0])
                if row is None:
                    single.append(file)
                else:
                    rows[file.id] = row
            elif park and file.parent is not None:
                item = json.dumps({**asdict(file), "app_properties": dict(file.app_properties)})
                self._store.db.run(
                    "INSERT OR REPLACE INTO parked_folders VALUES (?, ?, ?)", (file.id, file.parent, item)
                )
        if rows:
            nodes.add_missing(list(rows.values()), _COLUMNS)
            added = nodes.inodes_of(list(rows))
            # The others have a twin.
            single += [file for file in items if file.id in rows and file.id not in added]
        for file in single:
            self._tree.take(file)

    @staticmethod
    def _row(file: RemoteFile, parent: Inode) -> list[Any] | None:
        """A new item as a row, where nothing about it is special."""
        shown = attributes(file)
        name = shown_name(file.name)
        if shown.xattrs or len(name) > NAME_LIMIT_BYTES or len(name.encode()) > NAME_LIMIT_BYTES:
            return None
        values = node_values(file, shown)
        return [parent, name, *(values[column] for column in _COLUMNS[2:])]


_COLUMNS = (
    "parent", "name", "kind", "mode", "size_bytes", "mtime_ns", "ctime_ns", "target", "listed", "writable", "ours",
    "change", "drive_id", "confirmed_ns", "revision", "md5", "remote_name", "remote_parent", "remote_meta",
    "remote_version",
)  # fmt: skip


def pages(ask: Callable[[str | None], ListPage]) -> Any:
    """The pages of a listing, one after another. Raises BadReply when it turns in a circle."""
    tokens: set[str] = set()
    token: str | None = None
    while True:
        page = ask(token)
        yield page
        token = page.next_token
        if token is None:
            return
        if token in tokens:
            raise BadReply("Drive's listing does not come to an end.")
        tokens.add(token)
