"""Brings bytes of Drive into content files: what a reader waits for, what he will read next, and at last the rest.

Any thread may call `ensure`; the transfers run on the executor given. A transfer fills the file as its bytes come,
and wakes whoever waits for them: so requests are long, and waits are short. All who wait for a range share one
transfer. What nobody waits for ends when nobody has the file open any more.

Bytes are checked: a small file against its md5 before anyone sees it, a large one when it is complete. A file whose
checksum is wrong is dropped and fetched again.
"""

from __future__ import annotations

import logging
import shutil
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from weakref import WeakKeyDictionary

from drivefs.drive.api import Drive
from drivefs.errors import BadReply, CacheDamaged, Interrupted
from drivefs.model import Inode, Priority
from drivefs.store.check import checksums_of
from drivefs.store.content_file import ContentFile
from drivefs.store.generations import State
from drivefs.store.node import Node
from drivefs.store.store import Store
from drivefs.sync.documents import Documents
from drivefs.sync.neighbours import Neighbours
from drivefs.sync.revisions import Revisions
from drivefs.sync.transfers import Reading, Transfer, comes_whole, joined

log = logging.getLogger(__name__)

CHECKS = 2
"""A file whose checksum is wrong so many times over is not fetched again for those who have it open."""

STEP_S = 0.1
"""Between two looks whether who waits is to end."""

TARGET_LIMIT_BYTES = 4096
"""PATH_MAX: a longer content is no symlink's target."""


class Downloader:
    """Fetches what readers, and uploads of partly local files, need."""

    def __init__(
        self, store: Store, drive: Drive, executor: Executor, *, free_bytes: Callable[[], int] | None = None
    ) -> None:
        """`free_bytes` tells how much the cache may still take; by default what the disk has."""
        self._store = store
        self._drive = drive.at(Priority.READER)
        self._spare = drive.at(Priority.SPECULATION)
        self._drives = {Priority.READER: self._drive, Priority.WARM: drive.at(Priority.WARM)}
        self.documents = Documents(store, drive)
        self._revisions = Revisions(store, self._drive)
        self._executor = executor
        self._free_bytes = free_bytes or (lambda: shutil.disk_usage(store.folder).free)
        self._neighbours = Neighbours(store, executor, self._bring, self._free_bytes)
        self._lock = threading.Lock()
        self._progress = threading.Condition(self._lock)
        self._readings: WeakKeyDictionary[ContentFile, Reading] = WeakKeyDictionary()  # guarded by _lock

    # --- what readers ask for ---

    def ensure(
        self,
        file: ContentFile,
        start: int,
        stop: int,
        *,
        priority: Priority = Priority.READER,
        interrupted: Callable[[], bool] = lambda: False,
    ) -> None:
        """Wait until [start, stop), as far as the file goes, is here. Raises DriveError, CacheFull, SignInNeeded;
        Interrupted when `interrupted` says so meanwhile."""
        drive = self._drives[priority]
        stop = min(stop, file.size_bytes)
        relied: set[Transfer] = set()
        own: set[Transfer] = set()
        first = priority is Priority.READER
        borne = False  # somebody else's transfer has failed, perhaps of what is over by now
        while True:
            with self._lock:
                reading = self._readings.setdefault(file, Reading())
                gaps = file.gaps(start, stop)
                if gaps and reading.wrong >= CHECKS:
                    raise BadReply("What Drive sends of the file does not have the checksum that it says.")
                begun = reading.ahead(file, start, stop, self._drive) if first else []
                begun += reading.asked(file, gaps, relied, drive)
                begun += reading.rest(file, self._spare, self._free_bytes)
            first = False
            own.update(begun)
            # Outside of the lock: an executor may do it here and now.
            for transfer in begun:
                self._executor.submit(self._run, file, reading, transfer)
            if not gaps:
                return
            if interrupted():
                raise Interrupted("Whoever waited for Drive is to end.")
            with self._lock:
                for transfer in relied:
                    if transfer.error is not None and transfer.asked:
                        if borne or transfer in own:
                            raise transfer.error
                        borne = True
                relied.intersection_update(reading.under_way)
                if relied and not begun and file.gaps(start, stop):
                    self._progress.wait(STEP_S)  # what interrupts does not wake it

    def fetch(self, file: ContentFile, start: int, stop: int) -> bytes:
        """[start, stop), as far as the file goes, of a clean file: from Drive, and kept nowhere. Raises DriveError,
        SignInNeeded."""
        with file.lock:
            base, stop = file.base, min(stop, file.size_bytes)
        if base is None:
            return file.read(start, stop - start)  # all of it is here by now
        return b"".join(self._revisions.pieces(base, start, stop, self._drive)) if start < stop else b""

    def mend(self, file: ContentFile, start: int, stop: int) -> None:
        """Compare what of [start, stop) is here and was not compared yet; put what the disk has damaged right with
        what Drive has, or, of an incomplete file, have it wait for that. Raises DriveError, CacheFull, CacheDamaged,
        SignInNeeded."""
        for block_start, block_stop in file.damaged(start, stop):
            source = file.source
            for part_start, part_stop in file.here(block_start, block_stop):
                node = self._store.nodes.find(file.inode)
                if node is not None and node.export is not None:
                    self.documents.forget(node)
                    raise CacheDamaged(f"The export of {node.name} was damaged on the cache's disk: open it again.")
                if source is None:
                    break  # written to meanwhile
                data = b"".join(self._revisions.pieces(source, part_start, part_stop, self._drive))
                if not file.mend(part_start, data):
                    raise BadReply(
                        f"The cache's copy of {source.drive_id} is damaged, and Drive sends something else for it."
                    )

    def opened(self, node: Node) -> None:
        """A file is opened for reading: others beside it may be wanted soon. Returns at once."""
        self._neighbours.opened(node)

    def _bring(self, file: ContentFile) -> None:
        """Fetch a whole small file that nobody has asked for, in this thread. Raises DriveError, CacheFull."""
        with self._lock:
            reading = self._readings.setdefault(file, Reading())
            if reading.under_way:
                return  # a reader was faster
            transfer = reading.all_of(file, self._spare)
        self._run(file, reading, transfer)
        if transfer.error is not None:
            raise transfer.error

    def ensure_target(self, inode: Inode) -> str:
        """The target of a symlink; fetched when Drive's listing did not hold it."""
        node = self._store.nodes.get(inode)
        if node.target is None:
            if node.drive_id is None or node.size_bytes > TARGET_LIMIT_BYTES:
                raise BadReply(f"The item {node.drive_id} on Drive is marked as a symlink, but is none.")
            data = b"".join(self._drive.download(node.drive_id, 0, node.size_bytes)) if node.size_bytes else b""
            node = self._store.nodes.update(inode, target=data.decode(errors="surrogateescape"))
        return node.target or ""

    # --- one transfer, on a thread of the executor ---

    def _run(self, file: ContentFile, reading: Reading, transfer: Transfer) -> None:
        error: BaseException | None = None
        try:
            self._fetch(file, reading, transfer)
        except BaseException as caught:  # noqa: BLE001 - handed to whoever waits
            error = caught
            if not transfer.asked:
                log.info("Nothing comes ahead of the readers of inode %d: %s", file.inode, caught)
        with self._lock:
            transfer.error = error
            reading.under_way.remove(transfer)
            if error is not None and not transfer.asked:
                reading.rest_from = None
            wanted = error is None and reading.rest_from is not None and reading.has_reader(file)
            begun = reading.rest(file, self._spare, self._free_bytes) if wanted else []
            self._progress.notify_all()
        for following in begun:
            self._executor.submit(self._run, file, reading, following)
        try:
            if error is None and file.base is not None and not file.gaps(0, file.size_bytes):
                self._finish(file, reading)
        finally:
            with self._lock:
                reading.uses -= 1
            file.close()

    def _moved(self, file: ContentFile, reading: Reading, transfer: Transfer, at: int) -> bool:
        """Tell those who wait how far it has come; whether it is still worth going on."""
        with self._lock:
            transfer.at = at
            self._progress.notify_all()
            return reading.has_reader(file)

    def _fetch(self, file: ContentFile, reading: Reading, transfer: Transfer) -> None:
        with file.lock:
            base = file.base
            gaps = file.gaps(transfer.start, transfer.stop)
        if base is None or not gaps:
            return
        node = self._revisions.unchanged(file, base)
        if node is not None and node.md5 and comes_whole(node.size_bytes):
            file.fill(0, self._revisions.whole(base, node.size_bytes, node.md5, transfer.drive))
            return
        for gap_start, gap_stop in joined(gaps):
            offset = gap_start
            for piece in self._revisions.pieces(base, gap_start, gap_stop, transfer.drive):
                file.fill(offset, piece, settle=node is None)
                offset += len(piece)
                if not self._moved(file, reading, transfer, offset):
                    return

    # --- a file that is complete ---

    def _finish(self, file: ContentFile, reading: Reading) -> None:
        """Check a complete file, unless somebody does already; then it needs Drive no more."""
        with self._lock:
            if reading.checking or file.base is None:
                return
            reading.checking = True
        try:
            self._check(file, reading)
        finally:
            with self._lock:
                reading.checking = False

    def _check(self, file: ContentFile, reading: Reading) -> None:
        base = file.base
        node = self._revisions.unchanged(file, base) if base is not None else None
        if _is_damaged(file):
            return
        looked = file.fingerprint()
        md5, digests = checksums_of(file) if node is not None and node.md5 is not None else (None, b"")
        right = node is None or md5 == node.md5
        if not right:
            file.forget_compared()
            if _is_damaged(file):
                return
        with file.lock:
            if base is None or file.gaps(0, file.size_bytes):
                return
            if (
                right or self._revisions.unchanged(file, base) is None
            ):  # written to meanwhile: it has no checksum any more
                file.mark_whole()
                if md5 is not None and file.state is State.CLEAN and looked == file.fingerprint():
                    with self._store.db.transaction():
                        file.adopt(base, digests, looked)
                return
            log.error("What Drive has sent of %s has a wrong checksum: it is fetched again.", base.drive_id)
            file.empty()
        with self._lock:
            reading.wrong += 1
            reading.rest_from = None


def _is_damaged(file: ContentFile) -> bool:
    """Whether the disk has damaged what came of a file: that is not Drive's fault, and is not here any more."""
    file.damaged(0, sys.maxsize)
    return bool(file.gaps(0, sys.maxsize))
