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
from dataclasses import dataclass, field
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
from drivefs.sync.readahead import Pattern
from drivefs.sync.revisions import Revisions

log = logging.getLogger(__name__)

BLOCK_BYTES = 4 << 20
"""Up to this size a file comes whole, in one request, and is checked before it is seen."""

REQUEST_BYTES = 8 << 20
LONG_REQUEST_BYTES = 16 << 20
"""One request of those that run side by side: at 80 ms a request and 40 MB/s a connection, 72 % is transfer; and of
those ahead of a reader who has read much in order, 84 %."""

UNIT_BYTES = 64 << 10
"""What a reader at random asks for is rounded to this, for he may come back;"""

PAGE_BYTES = 4 << 10
"""but only to this where the rest comes anyway, and brings the same bytes once more."""

AT_ONCE = 8
"""Longer transfers of one file: 230 to 270 MB/s under the same conditions."""

NEAR_BYTES = 2 << 20
"""What a transfer will have brought within a round trip is worth waiting for; further on, a request of one's own is
faster."""

FREE_SHARE = 4
"""Nothing that nobody has asked for takes more than this part of what is free in the cache."""

CHECKS = 2
"""A file whose checksum is wrong so many times over is not fetched again for those who have it open."""

STEP_S = 0.1
"""Between two looks whether who waits is to end."""

TARGET_LIMIT_BYTES = 4096
"""PATH_MAX: a longer content is no symlink's target."""


@dataclass(slots=True, eq=False)
class _Transfer:
    """[start, stop) of a file on its way, come as far as `at`. Guarded by the downloader's lock."""

    start: int
    stop: int
    at: int
    asked: bool  # somebody has waited for it, and hears of its failure
    drive: Drive
    between: bool = False  # a reader's at random, of little: the others need not go round it
    error: BaseException | None = None


@dataclass(slots=True, eq=False)
class _Reading:
    """One content file while it is open and incomplete. Guarded by the downloader's lock."""

    pattern: Pattern = field(default_factory=Pattern)
    under_way: list[_Transfer] = field(default_factory=list)
    uses: int = 0  # of the file, by transfers
    rest_from: int | None = None  # the whole file comes, and has come up to here; None: nobody wants it all
    checking: bool = False
    wrong: int = 0  # how often its checksum was

    def covering(self, offset: int) -> _Transfer | None:
        """The transfer that will bring the byte."""
        return next((each for each in self.under_way if each.at <= offset < each.stop), None)


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
        self._readings: WeakKeyDictionary[ContentFile, _Reading] = WeakKeyDictionary()  # guarded by _lock

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
        relied: set[_Transfer] = set()
        own: set[_Transfer] = set()
        first = priority is Priority.READER
        borne = False  # somebody else's transfer has failed, perhaps of what is over by now
        while True:
            with self._lock:
                reading = self._readings.setdefault(file, _Reading())
                begun = self._ahead(reading, file, start, stop) if first else []
                gaps = file.gaps(start, stop)
                begun += self._asked(reading, file, gaps, relied, drive)
                begun += self._rest(reading, file)
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

    def _ahead(self, reading: _Reading, file: ContentFile, start: int, stop: int) -> list[_Transfer]:
        """Begin what a reader in order will want next. Under the lock."""
        window_bytes = reading.pattern.note(start, stop)
        if not window_bytes:
            return []
        if window_bytes >= AT_ONCE * LONG_REQUEST_BYTES:
            length = LONG_REQUEST_BYTES
        else:
            length = BLOCK_BYTES if window_bytes < 4 * BLOCK_BYTES else REQUEST_BYTES
        return self._begin(reading, file, start, stop + window_bytes, length, self._drive)

    def _rest(self, reading: _Reading, file: ContentFile) -> list[_Transfer]:
        """Begin to fetch all of a file that is being read all over. Under the lock."""
        size_bytes = file.size_bytes
        if reading.rest_from is None:
            if not reading.pattern.is_all_over(size_bytes):
                return []
            if sum(b - a for a, b in file.gaps(0, size_bytes)) > self._free_bytes() // FREE_SHARE:
                return []
            reading.rest_from = 0
        begun = self._begin(reading, file, reading.rest_from, size_bytes, REQUEST_BYTES, self._spare)
        if begun:
            reading.rest_from = begun[-1].stop
        return begun

    def _begin(
        self, reading: _Reading, file: ContentFile, start: int, stop: int, length: int, drive: Drive
    ) -> list[_Transfer]:
        """Begin transfers of what is missing between `start` and `stop`, as many as may run at once."""
        begun: list[_Transfer] = []
        running = [each for each in reading.under_way if not each.between]
        size_bytes = file.size_bytes
        offset = start
        for gap_start, gap_stop in file.gaps(start, stop):
            offset = max(offset, gap_start)
            while offset < gap_stop and len(running) < AT_ONCE:
                coming = next((each.stop for each in running if each.start <= offset < each.stop), None)
                if coming is None:
                    # Up to a multiple of `length`, so that a window that moves on by little makes no little requests.
                    later = (each.start for each in running if each.start > offset)
                    coming = min((offset // length + 1) * length, size_bytes, *later)
                    transfer = _Transfer(offset, coming, offset, False, drive)
                    self._count_in(file, reading, transfer)
                    running.append(transfer)
                    begun.append(transfer)
                offset = coming
        return begun

    def _asked(
        self,
        reading: _Reading,
        file: ContentFile,
        gaps: list[tuple[int, int]],
        relied: set[_Transfer],
        drive: Drive,
    ) -> list[_Transfer]:
        """Begin what somebody waits for and does not come soon by itself. Under the lock."""
        begun: list[_Transfer] = []
        if gaps and reading.wrong >= CHECKS:
            raise BadReply("What Drive sends of the file does not have the checksum that it says.")
        size_bytes = file.size_bytes
        unit = UNIT_BYTES if reading.rest_from is None else PAGE_BYTES
        for gap_start, gap_stop in gaps:
            offset = gap_start
            while offset < gap_stop:
                running = reading.covering(offset)
                if running is not None and (running.asked or offset - running.at < NEAR_BYTES):
                    running.asked = True
                    relied.add(running)
                    offset = running.stop
                    continue
                if len(begun) >= AT_ONCE:
                    return begun
                start = offset // unit * unit
                stop = min(-(-gap_stop // unit) * unit, start + REQUEST_BYTES, size_bytes)
                transfer = _Transfer(start, stop, start, True, drive, between=True)
                self._count_in(file, reading, transfer)
                begun.append(transfer)
                relied.add(transfer)
                offset = stop
        return begun

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
            reading = self._readings.setdefault(file, _Reading())
            if reading.under_way:
                return  # a reader was faster
            transfer = _Transfer(0, file.size_bytes, 0, False, self._spare)
            self._count_in(file, reading, transfer)
        self._run(file, reading, transfer)
        if transfer.error is not None:
            raise transfer.error

    @staticmethod
    def _count_in(file: ContentFile, reading: _Reading, transfer: _Transfer) -> None:
        # It has a use of the file of its own, for the reader may go before it ends.
        file.use()
        reading.uses += 1
        reading.under_way.append(transfer)

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

    def _run(self, file: ContentFile, reading: _Reading, transfer: _Transfer) -> None:
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
            wanted = error is None and reading.rest_from is not None and self._has_reader(file, reading)
            begun = self._rest(reading, file) if wanted else []
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

    @staticmethod
    def _has_reader(file: ContentFile, reading: _Reading) -> bool:
        """Whether anyone but transfers has the file open."""
        return file.users > reading.uses

    def _moved(self, file: ContentFile, reading: _Reading, transfer: _Transfer, at: int) -> bool:
        """Tell those who wait how far it has come; whether it is still worth going on."""
        with self._lock:
            transfer.at = at
            self._progress.notify_all()
            return self._has_reader(file, reading)

    def _fetch(self, file: ContentFile, reading: _Reading, transfer: _Transfer) -> None:
        with file.lock:
            base = file.base
            gaps = file.gaps(transfer.start, transfer.stop)
        if base is None or not gaps:
            return
        node = self._revisions.unchanged(file, base)
        if node is not None and node.md5 and node.size_bytes <= BLOCK_BYTES:
            file.fill(0, self._revisions.whole(base, node.size_bytes, node.md5, transfer.drive))
            return
        for gap_start, gap_stop in _joined(gaps):
            offset = gap_start
            for piece in self._revisions.pieces(base, gap_start, gap_stop, transfer.drive):
                file.fill(offset, piece, settle=node is None)
                offset += len(piece)
                if not self._moved(file, reading, transfer, offset):
                    return

    # --- a file that is complete ---

    def _finish(self, file: ContentFile, reading: _Reading) -> None:
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

    def _check(self, file: ContentFile, reading: _Reading) -> None:
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


def _joined(gaps: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Gaps that are better fetched in one request than each by itself."""
    found = gaps[:1]
    for start, stop in gaps[1:]:
        if start - found[-1][1] < NEAR_BYTES:
            found[-1] = (found[-1][0], stop)
        else:
            found.append((start, stop))
    return found
