"""How much of its disk a cache may take: clean content goes first, then writers wait for uploads, then it is ENOSPC.

Any thread may enter; nobody who waits here holds the database's lock or a content file's. Nothing here is durable:
what is evicted was Drive's copy.
"""

from __future__ import annotations

import logging
import math
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from drivefs.errors import CacheFull
from drivefs.store.store import Store

T = TypeVar("T")

log = logging.getLogger(__name__)

EVICT_BYTES = 256 << 20
"""Dropped at least when the disk is full, so that not every write has to."""

ROOM_TRIES = 20
"""Others may be faster than who made room; but a disk that stays full after so much is not full of this cache."""

STALLED_S = 30.0
"""A writer without room waits while uploads make headway, and this long without any."""

STEP_S = 0.5
"""Between two looks at what the uploads have come to."""

KEPT_FREE_BYTES = 4 << 30
KEPT_FREE_PARTS = 20
"""By default a twentieth of the disk stays free of clean content, up to 4 GiB: other programs have to write too."""


DIRECT_FREE_BYTES = 1 << 30
"""With less free than this the kernel writes nothing by itself: it would not wait for room, but say ENOSPC."""

RELEASE_S = 2.0
"""A file that was closed is released by the kernel soon after, and can go only then."""


def _free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


class Room:
    """The limits of one cache."""

    def __init__(
        self,
        store: Store,
        *,
        limit_bytes: int | None = None,
        keep_free_bytes: int | None = None,
        disk_free_bytes: Callable[[Path], int] = _free_bytes,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`limit_bytes` is for clean content, by default half of the room that there is for it now; `keep_free_bytes`
        stay free of it on the disk. What Drive does not have yet is never limited by either."""
        self._store = store
        self._disk_free_bytes = disk_free_bytes
        self._monotonic = monotonic
        usage = shutil.disk_usage(store.folder)
        if keep_free_bytes is None:
            keep_free_bytes = min(KEPT_FREE_BYTES, usage.total // KEPT_FREE_PARTS)
        if limit_bytes is None:
            limit_bytes = (usage.free + store.content.clean_bytes()) // 2
        self.limit_bytes = limit_bytes
        self.keep_free_bytes = keep_free_bytes
        self._looked_at_bytes = 0  # of what was filled; of the thread that calls `tidy`
        self._ended = threading.Event()
        # Of all who wait for uploads, so that room which comes and goes makes nobody wait for ever:
        self._waited_s = self._moved_s = -math.inf
        self._sent_bytes = 0

    def free_bytes(self) -> int:
        """What clean content may still take."""
        own = self.limit_bytes - self._store.content.clean_bytes()
        return max(0, min(own, self._disk_free_bytes(self._store.folder) - self.keep_free_bytes))

    def is_low(self) -> bool:
        """Whether whoever writes now may have to wait."""
        return self._disk_free_bytes(self._store.folder) < max(self.keep_free_bytes, DIRECT_FREE_BYTES)

    def tidy(self, *, soon: bool = False) -> int:
        """Evict what is beyond the limits; the bytes freed. `soon`: only when much has come since the last time."""
        content = self._store.content
        low_bytes = self.keep_free_bytes - self._disk_free_bytes(self._store.folder)
        if soon and low_bytes <= 0 and content.filled_bytes - self._looked_at_bytes < self.limit_bytes // 16:
            return 0
        self._looked_at_bytes = content.filled_bytes
        too_much = max(content.clean_bytes() - self.limit_bytes, low_bytes)
        if too_much <= 0:
            return 0
        freed = self._store.evict(too_much)
        if freed:
            log.debug("Evicted %d bytes", freed)
        return freed

    def retry(self, action: Callable[[], T], *, wait: bool = True) -> T:
        """Do `action`; on a full disk again, as long as room can be made for it. With `wait` by uploads too, as long
        as they make headway: writers wait for those, readers do not. Raises CacheFull."""
        for _ in range(ROOM_TRIES):
            try:
                return action()
            except CacheFull:
                if not (self.make() if wait else self.make_soon()):
                    raise
        return action()

    def make(self) -> bool:
        """Somebody found the disk full: whether it may go better now. Drops clean content; where there is none, waits
        for uploads as long as they make headway."""
        if self._store.make_room(EVICT_BYTES):
            return True
        log.info("The disk of the cache is full of what Drive does not have yet: writers wait for the uploads.")
        return self._wait_for_uploads()

    def make_soon(self) -> bool:
        """Like `make`, for a reader: it does not wait for uploads."""
        end_s = self._monotonic() + RELEASE_S
        while not self._store.evict(EVICT_BYTES):
            if self._monotonic() >= end_s or self._ended.wait(STEP_S / 10):
                return False
        return True

    def _wait_for_uploads(self) -> bool:
        journal, content = self._store.journal, self._store.content
        free_bytes = self._disk_free_bytes(self._store.folder)
        now_s = self._monotonic()
        if now_s - self._waited_s > STALLED_S:
            self._moved_s = now_s  # the last time that anybody waited is long over
        while not self._ended.is_set():
            left = journal.left()
            if left.jobs == left.parked:
                return self.make_soon()
            with journal.progress:
                journal.progress.wait(STEP_S)
            self._waited_s = now_s = self._monotonic()
            if self._store.make_room(EVICT_BYTES):
                return True
            if content.sent_bytes != self._sent_bytes:
                self._sent_bytes, self._moved_s = content.sent_bytes, now_s
            elif now_s - self._moved_s >= STALLED_S:
                return False
            if self._disk_free_bytes(self._store.folder) > free_bytes:
                return True
        return False

    def end_waits(self) -> None:
        """Let nobody wait any longer."""
        self._ended.set()
