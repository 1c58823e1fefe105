"""All of Drive in one flat listing, behind the mount's back.

One thread does it, step by step. How far it has come stands in the database, in the transaction of each page: it goes
on after a restart where it was cut. It names the folders first and then everything else, so that an item's folder is
known when the item comes; folders that come before their own folder are parked until all are here. What changes
meanwhile is in the changes feed, which began before.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from drivefs.drive.api import Drive
from drivefs.errors import BadReply, Refused
from drivefs.model import Inode, ListPage
from drivefs.paging import Course, pages
from drivefs.store.store import Store
from drivefs.sync.layout import root_of
from drivefs.sync.pages import Pages

log = logging.getLogger(__name__)

AGAIN_S = 60.0
"""A search without a folder lags behind (drive-api: Consistency): what was made just before the feed began may be in
neither. So it is asked for once more a minute later …"""

AROUND_NS = 600 * 1_000_000_000
"""… as far as it was made or changed within ten minutes before the listing began; clocks differ too."""

_PHASE = "listing"
"""Setting: what comes next."""
_TOKEN = "listing_token"
_LAST = "listing_last_inode"
_BEGAN = "listing_began"
"""Setting: seconds since the epoch, until what lagged behind was asked for."""
_FOLDERS, _PARKED, _FILES, _DONE = "folders", "parked", "files", "done"


class FlatListing:
    """One listing of the whole Drive, over any number of processes."""

    def __init__(
        self,
        store: Store,
        drive: Drive,
        pages: Pages,
        saw_page: Callable[[int], None],
        *,
        monotonic: Callable[[], float] = time.monotonic,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`saw_page` hears how many entries a page had that another one follows."""
        self._store = store
        self._drive = drive
        self._pages = pages
        self._saw_page = saw_page
        self._monotonic = monotonic
        self._clock = clock
        self._course = Course()  # of the thread that steps
        self._progress = threading.Condition()
        # By this process; guarded by _progress:
        self._began_s: float | None = None
        self._page_count = 0
        self._over = False  # done, or cannot go on for now

    def plan(self, root: ListPage) -> None:
        """A new cache: begin with what the root has. Part of the caller's transaction."""
        self._pages.apply(root.files, self._pages.moment())
        if root.next_token is None and not root.incomplete:
            self._store.nodes.update(root_of(self._store.nodes).inode, listed=True)
        self._store.db.set_setting(_PHASE, _FOLDERS)
        self._store.db.set_setting(_BEGAN, str(self._clock()))

    def is_new(self) -> bool:
        """Whether it has yet to begin."""
        return self._store.db.setting(_PHASE) == _FOLDERS and not self._store.db.setting(_TOKEN)

    def give_up(self) -> None:
        """Folders are listed one by one instead. Part of the caller's transaction."""
        self._store.db.set_setting(_PHASE, _DONE)

    @property
    def page_count(self) -> int:
        """How many pages have come in this process."""
        with self._progress:
            return self._page_count

    def is_over(self) -> bool:
        """Whether it is done, or cannot go on for now: nobody needs to wait for it."""
        with self._progress:
            return self._over

    def end_wait(self) -> None:
        """It cannot go on for now."""
        with self._progress:
            self._over = True
            self._progress.notify_all()

    def wait(self, page_count: int, since_s: float, patience_s: float) -> bool:
        """Wait until it is over, or has come to so many pages, but no longer than `patience_s` after it began and
        after `since_s`; whether it was under way, and is over now."""
        with self._progress:
            if self._began_s is None or self._over:
                return False
            left_s = max(self._began_s, since_s) + patience_s - self._monotonic()
            self._progress.wait_for(lambda: self._over or self._page_count >= page_count, max(0.0, left_s))
            return self._over

    def step(self) -> bool:
        """The next page; whether there was anything to do. Raises DriveError, SignInNeeded."""
        phase = self._store.db.setting(_PHASE)
        if phase == _PARKED:
            self._unpark()
        elif phase == _FOLDERS or (phase == _FILES and self._store.nodes.unlisted(1)):
            self._page(phase)
        else:
            if phase == _FILES:
                self.give_up()  # every folder was asked for by itself meanwhile
            self.end_wait()
            return False
        return True

    def _page(self, phase: str) -> None:
        db = self._store.db
        with self._progress:
            if self._began_s is None:
                self._began_s = self._monotonic()
        token = db.setting(_TOKEN) or None
        since = self._pages.moment()
        try:
            page = self._drive.list_all(token, folders=phase == _FOLDERS)
        except Refused:
            if token is None:
                log.warning("Drive refuses a listing of everything: its folders are listed one by one.")
                db.set_setting(_PHASE, _DONE)
            db.set_setting(_TOKEN, "")  # too old: this part from its beginning
            self._course = Course()
            return
        endless = False
        try:
            following = self._course.follow(page.next_token, page.entries)
        except BadReply:
            endless, following = True, None
        with db.transaction():
            self._pages.apply(page.files, since, park=phase == _FOLDERS)
            db.set_setting(_TOKEN, following or "")
            if page.incomplete or endless:
                db.set_setting(_PHASE, _DONE)  # not to be trusted: the folders are listed one by one
            elif following is None and phase == _FOLDERS:
                db.set_setting(_PHASE, _PARKED)
                self._course = Course()
            elif following is None:
                db.set_setting(_PHASE, _DONE)
                self._store.nodes.set_all_listed(Inode(int(db.setting(_LAST) or 0)))
        if following is not None:
            self._saw_page(len(page.files))
        with self._progress:
            self._page_count += 1
            self._progress.notify_all()
        self._store.relieve()

    def _unpark(self) -> None:
        """Put folders into the tree whose own folder has come; when none is left, go on to the files."""
        db = self._store.db
        with db.transaction():
            if not self._pages.unpark():
                db.set_setting(_PHASE, _FILES)
                # Of folders that come later by the changes feed, earlier pages may have had files.
                db.set_setting(_LAST, str(self._store.nodes.last_inode()))

    # --- what lagged behind ---

    def again_in_s(self) -> float | None:
        """Until `look_again` is due; None: it is not."""
        began = self._store.db.setting(_BEGAN)
        return min(max(0.0, float(began) + AGAIN_S - self._clock()), AGAIN_S) if began else None

    def look_again(self) -> None:
        """Ask for what the listing may have been too early for. Raises DriveError, SignInNeeded."""
        db = self._store.db
        since_ns = int(float(db.setting(_BEGAN) or 0) * 1e9) - AROUND_NS
        moment = self._pages.moment()
        try:
            for page in pages(lambda token: self._drive.list_since(since_ns, token)):
                with db.transaction():
                    self._pages.apply(page.files, moment)
        except Refused as error:
            log.info("Drive does not list what is new: %s", error)
        db.set_setting(_BEGAN, "")
