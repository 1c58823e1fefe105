"""Drive's tree as rows of the store: `listings` brings it in, and the changes feed keeps it right from then on.

`run` is the body of one thread; the rest may be called from any. The network is never called under a lock of the
store. A page and the token after it are one transaction, so a crash repeats a page at most.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from drivefs.drive.api import Drive
from drivefs.errors import DriveError, Refused, SignInNeeded
from drivefs.model import (
    ROOT_ALIAS,
    ROOT_INODE,
    ChangesPage,
    DriveId,
    Inode,
    ListPage,
    Priority,
    RemoteFile,
)
from drivefs.paging import Course
from drivefs.store.node import Node
from drivefs.store.store import Store
from drivefs.sync.exports import FORMATS
from drivefs.sync.items import Items
from drivefs.sync.layout import COLAB, FLAT, make_places, root_of
from drivefs.sync.listing import Listings
from drivefs.sync.shared_drives import SharedDrives
from drivefs.sync.shortcuts import Shortcuts
from drivefs.sync.space import Space, SpaceWatch

log = logging.getLogger(__name__)

POLL_S = 5.0
"""Between two polls while the mount is in use: what is changed elsewhere is seen within 10 s."""

IDLE_POLL_S = 60.0
IDLE_PARTS = 10.0
"""Nobody looks: a tenth of the idle time, up to a minute. Whoever comes back lets it poll at once."""

ANEW_EVERY_S = 600.0
"""Everything is listed anew no more often than this, whatever a server says of its own tokens."""


class Mirror:
    """The changes feed, with the listings and the items that it brings up to date."""

    def __init__(
        self,
        store: Store,
        drive: Drive,
        *,
        formats: Sequence[str] = FORMATS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`formats`: as what Google documents show (sync.exports)."""
        self._store = store
        self._formats = formats
        self._drive = drive.at(Priority.CHANGES)
        self.items = Items(store, formats)
        self.listings = Listings(store, drive, self.items, formats, monotonic=monotonic)
        self.trash = self.items.trash
        self._shortcuts = Shortcuts(store, self._drive, self.listings)
        self._monotonic = monotonic
        self._polling = threading.Lock()  # one poll at a time; held while Drive is asked
        self._used_s = monotonic()
        self._hasten = threading.Event()
        self._shared = SharedDrives(store, self._drive, self.items, monotonic=monotonic)
        self._space = SpaceWatch(self._drive, monotonic)
        self._anew_s: float | None = None  # when everything was last listed anew; guarded by _polling
        self.offline: str | None = None
        """Why Drive could not be asked at the last try, in words; None when it answered."""

    # --- start ---

    def start(self, root: DriveId | None = None, *, layout: str = FLAT) -> None:
        """Get to know the root folder; with a cache from before, nothing is asked. A `root` of one's own is flat.

        Raises DriveError or SignInNeeded at first contact; Refused when `root` is not a folder.
        """
        nodes = self._store.nodes
        if root_of(nodes).drive_id is not None:
            return
        # The token comes before the first listing, so that no change falls between the two.
        token = self._drive.start_page_token()
        page: ListPage | None = None
        if root is None:
            page = self._drive.list_children([ROOT_ALIAS])
            root = self._root_of(page)
        elif not self._drive.get(root).mime_type.endswith(".folder"):
            raise Refused(f"The item {root} is not a folder.", reason="notAFolder")
        with self._store.db.transaction():
            self._store.db.set_setting("changes_token", token)
            if layout == COLAB:
                make_places(nodes, root)
            else:
                nodes.update(ROOT_INODE, drive_id=root, confirmed_ns=1)
            if page is not None:
                self.listings.flat.plan(page)
        self._shared.look()

    def _root_of(self, page: ListPage) -> DriveId:
        """My Drive's root: its children name it, which saves a request."""
        parents = {file.parent for file in page.files}
        named = parents.pop() if len(parents) == 1 else None
        return named or self._drive.root_id()

    def adopt_formats(self) -> None:
        """Documents that show in other formats than this mount's are listed anew; before anybody looks."""
        chosen = ",".join(self._formats)
        with self._store.db.transaction():
            if self._store.db.setting("export_formats") == chosen:
                return
            for node in self._store.nodes.documents():
                if node.parent is None or self._store.journal.find(node.inode) is not None:
                    continue  # with a change that waits, it keeps the name that it has
                if node.generation is None or self._store.content.drop_unused(node.generation):
                    self._store.nodes.remove(node.inode)
                    self._store.nodes.update(node.parent, listed=False)
            self._store.db.set_setting("export_formats", chosen)

    # --- the changes feed ---

    def run(self, stop: threading.Event) -> None:
        """Follow the changes feed until `stop` is set and `wake` called."""
        polled_s = self._monotonic()
        poll = not self.listings.flat.is_new()  # otherwise the feed's place was asked for a moment ago
        while not stop.is_set():
            try:
                if poll:
                    polled_s = self._monotonic()
                    self.poll()
                if self._space.is_due():
                    self.ask_space()
            except (DriveError, SignInNeeded) as error:
                if self.offline is None:
                    log.warning("Drive's changes cannot be followed for now: %s", error)
                self.offline = str(error)
            else:
                if self.offline is not None:
                    log.info("Drive answers again.")
                self.offline = None
            hastened = self._hasten.wait(polled_s + self.interval_s() - self._monotonic())
            self._hasten.clear()
            poll = not hastened or self._monotonic() - polled_s >= self.interval_s()

    def interval_s(self) -> float:
        """Until the next poll: short while the mount is in use."""
        return min(max(POLL_S, (self._monotonic() - self._used_s) / IDLE_PARTS), IDLE_POLL_S)

    def in_use(self) -> None:
        """Somebody looks at the mount; costs next to nothing."""
        now_s = self._monotonic()
        idle_s, self._used_s = now_s - self._used_s, now_s
        if idle_s > POLL_S * IDLE_PARTS:
            self._hasten.set()

    def wake(self) -> None:
        """Let both threads look whether the end has come."""
        self._hasten.set()
        self.listings.wake()

    def poll(self) -> int:
        """Apply everything that has changed on Drive until now; how many changes there were. Raises DriveError."""
        with self._polling:
            count = self._poll()
        if count:
            self.listings.wake()
        return count

    def _poll(self) -> int:
        self.items.catch_up()
        try:
            count = self._follow("changes_token", self._drive.changes)
        except Refused as error:
            if self._anew_s is not None and self._monotonic() - self._anew_s < ANEW_EVERY_S:
                raise
            log.warning("Drive no longer knows the place in its changes feed (%s): listing anew.", error)
            self._start_over()
            return 0
        return count + self._shared.poll(self._follow)

    def _follow(self, setting: str, ask: Callable[[str], ChangesPage]) -> int:
        """Apply a feed from the place that `setting` keeps to its end; how many changes there were. Raises
        DriveError."""
        token = self._store.db.setting(setting)
        gone = self.listings.pages
        course = Course()
        count = 0
        while token is not None:
            since = gone.moment()
            page = ask(token)
            with self._store.db.transaction():
                for change in page.changes:
                    if change.file is not None and gone.went_after(since, change.id):
                        continue
                    if change.file is None or change.file.trashed:
                        gone.is_gone(change.id)
                        self.items.gone(change.id, change.file)
                    else:
                        self.items.take(change.file)
                self._store.db.set_setting(setting, page.next_token or page.new_start_token or token)
            count += len(page.changes)
            token = course.follow(page.next_token, page.entries)
        return count

    def _start_over(self) -> None:
        token = self._drive.start_page_token()
        self._anew_s = self._monotonic()
        with self._store.db.transaction():
            self._store.db.set_setting("changes_token", token)
            self.listings.start_over()
        self.listings.wake()

    # --- listings ---

    def ensure_listed(self, inode: Inode, *, to_read: bool = False) -> None:
        """Make sure that all that Drive has in a folder is in the store. `to_read`: somebody will go through its
        entries. Raises DriveError, SignInNeeded."""
        self.listings.ensure_listed(inode, to_read=to_read)

    def ensure_known(self, drive_id: DriveId) -> None:
        """Have an item in the tree, with the folders that lead to it, if the mount shows it. Raises DriveError,
        SignInNeeded."""
        self._shortcuts.ensure_known(drive_id)

    # --- what one item of Drive means; in the caller's transaction ---

    def take(self, file: RemoteFile) -> None:
        """Drive said this of an item, in answer to another call."""
        self.items.take(file)

    def is_gone(self, drive_id: DriveId) -> None:
        """Drive has taken an item away because it was asked to from here."""
        self.listings.pages.is_gone(drive_id)

    def has_newer(self, file: RemoteFile) -> bool:
        """Whether the changes feed has told of a later state of an item."""
        return self.items.has_newer(file)

    def take_again(self, file: RemoteFile) -> None:
        """Like `take`, where the feed told of this state while the item's content was on its way from here."""
        self.items.take_again(file)

    def forget(self, node: Node) -> bool:
        """Drop a node that Drive no longer shows, and what lies below it: sync.items."""
        return self.items.forget(node)

    # --- how full Drive is ---

    def ask_space(self) -> None:
        """Ask Drive for its quota. Raises DriveError."""
        self._space.ask()

    def space(self) -> Space | None:
        """As last heard; None when Drive has not said yet."""
        return self._space.known

    def want_space(self) -> None:
        """Somebody asks, and does not know it yet: Drive is asked soon. Returns at once."""
        self._space.want()
        self._hasten.set()
