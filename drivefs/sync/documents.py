"""Google documents in the cache: exported when they are opened, and when somebody looks at one closely.

Any thread may enter; who waits holds no lock. An export is a clean content like any other, complete before it is
seen, and it goes with the others when room is needed or the document changes. Its size is known for as long as it is
here. So that a listing of a thousand documents does not export them all, no more than a few are exported for stat(2)
alone in a short time; the others show 0 bytes until they are opened.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from cachetools import TTLCache

from drivefs.drive.api import Drive
from drivefs.errors import CacheFull, DrivefsError, ExportTooLarge, Refused
from drivefs.model import LINK_EXPORTS, Inode, Priority, RevisionId
from drivefs.store.content_file import ContentFile
from drivefs.store.generations import Base
from drivefs.store.node import Node
from drivefs.store.room import EVICT_BYTES
from drivefs.store.store import Store
from drivefs.sync.exports import EXPORTS, link_file

log = logging.getLogger(__name__)

LOOKS = 3
LOOKS_S = 10.0
"""So many documents that nobody has opened are exported for their size in that time: `stat` of one waits for its
export, and `ls -l` of a folder of them does not wait for long."""

FAILED_S = 30.0
"""A look does not try again so soon; an open always does."""

FAILURES = 1_000


class Documents:
    """The exports of one mount."""

    def __init__(self, store: Store, drive: Drive, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._drive = drive.at(Priority.READER)
        self._lock = threading.Lock()
        # Guarded by _lock:
        self._exporting: dict[Inode, threading.Event] = {}
        self._looks: TTLCache[Inode, bool] = TTLCache(LOOKS, LOOKS_S, timer=monotonic)
        self._failures: TTLCache[Inode, str] = TTLCache(FAILURES, FAILED_S, timer=monotonic)

    def ensure(self, inode: Inode) -> None:
        """Wait until a document's export is here; it may be evicted again unless somebody has the inode in use.
        Raises ExportTooLarge, DriveError, CacheFull, SignInNeeded, NoEntry."""
        with self._lock:
            self._looks.pop(inode, None)
        self._ensure(inode)

    def look(self, inode: Inode) -> None:
        """Somebody asks for the size of a document that is not here: export it, unless many were asked for lately.
        Without it, the size stays unknown."""
        with self._lock:
            if inode in self._failures or (inode not in self._looks and len(self._looks) >= LOOKS):
                return
            self._looks[inode] = True
        try:
            self._ensure(inode)
        except DrivefsError as error:
            log.info("The size of the document with inode %d is not known: %s", inode, error)

    def forget(self, node: Node) -> None:
        """What is here of a document is damaged: it is exported anew when it is next opened."""
        with self._store.db.transaction():
            now = self._store.nodes.find(node.inode)
            if now is not None and now.generation is not None and now.generation == node.generation:
                self._store.nodes.update(node.inode, generation=None)
                self._store.content.discard(now.generation)
                self._store.news.contents(node.inode)

    def failure(self, inode: Inode) -> str | None:
        """Why the last export of a document failed, in words; None when it did not, or a while ago."""
        with self._lock:
            return self._failures.get(inode)

    def _ensure(self, inode: Inode) -> None:
        while self._store.nodes.get(inode).generation is None:
            with self._lock:
                other = self._exporting.get(inode)
                if other is None:
                    mine = self._exporting[inode] = threading.Event()
            if other is not None:
                other.wait()
                with self._lock:
                    failed = inode in self._failures
                if not failed:
                    continue
                mine = threading.Event()  # what failed for another fails for this one by itself, with its own error
            try:
                self._export(inode)
            except DrivefsError as error:
                with self._lock:
                    self._failures[inode] = str(error)
                raise
            else:
                with self._lock:
                    self._failures.pop(inode, None)
            finally:
                with self._lock:
                    if self._exporting.get(inode) is mine:
                        del self._exporting[inode]
                mine.set()

    def _export(self, inode: Inode) -> None:
        node = self._store.nodes.get(inode)
        data = self._content(node)
        assert node.drive_id is not None
        file = self._store.content.create_clean(
            inode, len(data), Base(node.drive_id, node.revision or RevisionId(""))
        )
        try:
            self._fill(file, data)
            with self._store.db.transaction():
                now = self._store.nodes.find(inode)
                if now is not None and now.generation is None and now.export == node.export:
                    self._store.nodes.update(inode, generation=file.generation, size_bytes=len(data))
                else:
                    self._store.content.discard(file.generation)
        except BaseException:
            self._store.content.discard(file.generation)
            raise
        finally:
            file.close()

    def _fill(self, file: ContentFile, data: bytes) -> None:
        try:
            file.fill(0, data)
        except CacheFull:
            if not self._store.evict(EVICT_BYTES):
                raise
            file.fill(0, data)

    def _content(self, node: Node) -> bytes:
        assert node.export is not None and node.drive_id is not None
        if node.export in LINK_EXPORTS:
            return link_file(node.export, node.remote_name or "", node.target or "")
        try:
            return self._drive.export(node.drive_id, EXPORTS[node.export][0])
        except Refused as error:
            if error.reason != "exportSizeLimitExceeded":
                raise
            raise ExportTooLarge(
                f"Drive does not export a document of this size (10 MB) as {node.export}: open it in the browser "
                f"({node.target}), or mount with --export-formats and another format or url.",
                reason=error.reason,
                status=error.status,
            ) from error
