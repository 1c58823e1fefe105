"""Which bytes of one file are fetched next: what a reader waits for, what he will read after it, at last all of it.

Pure planning: the caller has the downloader's lock, and runs the transfers that come out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from drivefs.drive.api import Drive
from drivefs.store.content_file import ContentFile
from drivefs.sync.readahead import Pattern

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

AT_ONCE = 12
"""Longer transfers of one file: 340 to 400 MB/s under the same conditions, more than it is read at."""

NEAR_BYTES = 2 << 20
"""What a transfer will have brought within a round trip is worth waiting for; further on, a request of one's own is
faster."""

FREE_SHARE = 4
"""Nothing that nobody has asked for takes more than this part of what is free in the cache."""


@dataclass(slots=True, eq=False)
class Transfer:
    """[start, stop) of a file on its way, come as far as `at`."""

    start: int
    stop: int
    at: int
    asked: bool  # somebody has waited for it, and hears of its failure
    drive: Drive
    between: bool = False  # a reader's at random, of little: the others need not go round it
    error: BaseException | None = None


@dataclass(slots=True, eq=False)
class Reading:
    """One content file while it is open and incomplete."""

    pattern: Pattern = field(default_factory=Pattern)
    under_way: list[Transfer] = field(default_factory=list)
    uses: int = 0  # of the file, by transfers
    rest_from: int | None = None  # the whole file comes, and has come up to here; None: nobody wants it all
    checking: bool = False
    wrong: int = 0  # how often its checksum was

    def covering(self, offset: int) -> Transfer | None:
        """The transfer that will bring the byte."""
        return next((each for each in self.under_way if each.at <= offset < each.stop), None)

    def has_reader(self, file: ContentFile) -> bool:
        """Whether anyone but transfers has the file open."""
        return file.users > self.uses

    def ahead(self, file: ContentFile, start: int, stop: int, drive: Drive) -> list[Transfer]:
        """Begin what a reader in order will want next."""
        window_bytes = self.pattern.note(start, stop)
        if not window_bytes:
            return []
        if window_bytes >= AT_ONCE * LONG_REQUEST_BYTES:
            length = LONG_REQUEST_BYTES
        else:
            length = BLOCK_BYTES if window_bytes < 4 * BLOCK_BYTES else REQUEST_BYTES
        return self._begin(file, start, stop + window_bytes, length, drive)

    def rest(self, file: ContentFile, drive: Drive, free_bytes: Callable[[], int]) -> list[Transfer]:
        """Begin to fetch all of a file that is being read all over."""
        size_bytes = file.size_bytes
        if self.rest_from is None:
            if not self.pattern.is_all_over(size_bytes):
                return []
            if sum(b - a for a, b in file.gaps(0, size_bytes)) > free_bytes() // FREE_SHARE:
                return []
            self.rest_from = 0
        begun = self._begin(file, self.rest_from, size_bytes, REQUEST_BYTES, drive)
        if begun:
            self.rest_from = begun[-1].stop
        return begun

    def _begin(self, file: ContentFile, start: int, stop: int, length: int, drive: Drive) -> list[Transfer]:
        """Begin transfers of what is missing between `start` and `stop`, as many as may run at once."""
        begun: list[Transfer] = []
        running = [each for each in self.under_way if not each.between]
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
                    transfer = Transfer(offset, coming, offset, False, drive)
                    self._count_in(file, transfer)
                    running.append(transfer)
                    begun.append(transfer)
                offset = coming
        return begun

    def asked(
        self, file: ContentFile, gaps: list[tuple[int, int]], relied: set[Transfer], drive: Drive
    ) -> list[Transfer]:
        """Begin what somebody waits for and does not come soon by itself."""
        begun: list[Transfer] = []
        size_bytes = file.size_bytes
        unit = UNIT_BYTES if self.rest_from is None else PAGE_BYTES
        for gap_start, gap_stop in gaps:
            offset = gap_start
            while offset < gap_stop:
                running = self.covering(offset)
                if running is not None and (running.asked or offset - running.at < NEAR_BYTES):
                    running.asked = True
                    relied.add(running)
                    offset = running.stop
                    continue
                if len(begun) >= AT_ONCE:
                    return begun
                start = offset // unit * unit
                stop = min(-(-gap_stop // unit) * unit, start + REQUEST_BYTES, size_bytes)
                transfer = Transfer(start, stop, start, True, drive, between=True)
                self._count_in(file, transfer)
                begun.append(transfer)
                relied.add(transfer)
                offset = stop
        return begun

    def all_of(self, file: ContentFile, drive: Drive) -> Transfer:
        """Begin to fetch a whole small file that nobody has asked for."""
        transfer = Transfer(0, file.size_bytes, 0, False, drive)
        self._count_in(file, transfer)
        return transfer

    def _count_in(self, file: ContentFile, transfer: Transfer) -> None:
        # It has a use of the file of its own, for the reader may go before it ends.
        file.use()
        self.uses += 1
        self.under_way.append(transfer)


def comes_whole(size_bytes: int) -> bool:
    """Whether a file is fetched in one request."""
    return size_bytes <= BLOCK_BYTES


def joined(gaps: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Gaps that are better fetched in one request than each by itself."""
    found = gaps[:1]
    for start, stop in gaps[1:]:
        if start - found[-1][1] < NEAR_BYTES:
            found[-1] = (found[-1][0], stop)
        else:
            found.append((start, stop))
    return found
