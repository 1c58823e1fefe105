"""The handles that the kernel holds, in memory that outlives the process: a mount's next process takes them over.

Any thread may enter. Nothing here is durable: the memory (memfd_create(2)) ends with the last process that has it,
and so does the kernel's end of the mount, which is all that the handles are good for. What is written here is there
when the process is killed at the next instruction: each record counts from the one byte on that is stored last.
"""

from __future__ import annotations

import mmap
import os
import threading
from dataclasses import dataclass
from enum import IntFlag
from struct import Struct

from cachetools import LRUCache

from drivefs.model import Inode, RequestId

SLOTS = 80
"""Requests of one process that may be under way at a time."""

EPOCHS = 16
"""Processes whose last requests are kept apart: one that has died over a request, and the next one over the same."""

_EPOCH = Struct("=Q")  # how often the handles were taken over
_NUMBER = Struct("=Q")
_APPEND = Struct("=QQQQ")  # request, inode, where it begins, length
_APPEND_BYTES = _APPEND.size + 8  # and the byte that makes it count
_APPENDS_AT = 64
_RECORD = Struct("=QQQIi")  # number, inode, request that opened it, flags of open(2), backing
_RECORD_BYTES = _RECORD.size + 8  # and its state
_RECORDS_AT = 50 << 12
_BACKING_AT = 28  # in a record
_GROW_RECORDS = 1 << 10
_PLACES_AT = 1 << 16
_PLACES = 256  # folders that are being read; what more there are of them share
_PLACE = Struct("=QB255s")  # how many entries were read, the last one's name; 0 entries: nothing is noted
_PLACE_BYTES = 8 + 2 * _PLACE.size  # the folder's number, and two places: the last two
_BEGUN, _DONE = 1, 2  # of an append; 0: there is none
_EPOCH_SHIFT = 40
assert _APPENDS_AT + EPOCHS * SLOTS * _APPEND_BYTES <= _PLACES_AT
assert _PLACES_AT + _PLACES * _PLACE_BYTES <= _RECORDS_AT


class HandleState(IntFlag):
    """One byte of a record. 0: there is no such handle."""

    USED = 1
    DIRECT = 2
    """The kernel reads and writes the content file itself."""
    CLOSED = 4
    """Closed since it last wrote."""


@dataclass(frozen=True, slots=True)
class HandleRecord:
    """A handle as it was noted."""

    place: int
    number: int
    inode: Inode
    request: int
    flags: int
    backing: int
    state: HandleState


@dataclass(frozen=True, slots=True)
class AppendRecord:
    """An append that had begun, and may have happened."""

    request: RequestId
    inode: Inode
    offset: int
    length: int


class HandleMemory:
    """Which handles there are, and which appends are under way."""

    def __init__(self, fd: int | None = None) -> None:
        """`fd`: the memory of the process before, whose handles are taken over; None: a mount begins."""
        self.fd = os.memfd_create("handles") if fd is None else fd
        self._lock = threading.Lock()
        if fd is None:
            os.ftruncate(self.fd, _RECORDS_AT + _GROW_RECORDS * _RECORD_BYTES)
        self._memory = mmap.mmap(self.fd, 0)
        self._free: list[int] = []  # places of records; guarded by _lock
        self._count = 0  # of handles that were given numbers by this process; guarded by _lock
        self._last_places: LRUCache[int, int] = LRUCache(_PLACES)  # which of the two it was; guarded by _lock
        self.found: list[HandleRecord] = []
        """The handles of the process before."""
        for place in range(_RECORDS_AT, len(self._memory), _RECORD_BYTES):
            state = self._memory[place + _RECORD.size]
            if state:
                number, inode, request, flags, backing = _RECORD.unpack_from(self._memory, place)
                self.found.append(
                    HandleRecord(place, number, Inode(inode), request, flags, backing, HandleState(state))
                )
            else:
                self._free.append(place)
        self._free.reverse()
        # A number is never given twice: a release that is sent again must not hit another handle.
        self._epoch = 0
        if fd is not None:
            self._epoch = _EPOCH.unpack_from(self._memory)[0] + 1
            _EPOCH.pack_into(self._memory, 0, self._epoch)

    @property
    def first_slot(self) -> int:
        """From here on up to SLOTS: RequestId.slot of this process's requests."""
        return self._epoch % EPOCHS * SLOTS

    @property
    def first_number(self) -> int:
        """No handle of a process before has this number or a higher one."""
        return (self._epoch << _EPOCH_SHIFT) + 1

    def close(self) -> None:
        """Nothing more is noted by this process."""
        self._memory.close()
        os.close(self.fd)

    # --- handles ---

    def add(self, inode: Inode, request: int, flags: int, state: HandleState) -> tuple[int, int]:
        """Note a handle; its place, and its number."""
        with self._lock:
            self._count += 1
            number = self.first_number + self._count
            if not self._free:
                self._grow()
            place = self._free.pop()
            _RECORD.pack_into(self._memory, place, number, inode, request, flags, 0)
            self._memory[place + _RECORD.size] = state
            return place, number

    def _grow(self) -> None:
        size = len(self._memory)
        self._memory.resize(size + _GROW_RECORDS * _RECORD_BYTES)
        self._free.extend(range(len(self._memory) - _RECORD_BYTES, size - 1, -_RECORD_BYTES))

    def set_state(self, place: int, state: HandleState) -> None:
        with self._lock:
            self._memory[place + _RECORD.size] = state

    def set_backing(self, place: int, backing: int) -> None:
        """Note the kernel's number for the file that it reads and writes itself."""
        with self._lock:
            self._memory[place + _BACKING_AT : place + _BACKING_AT + 4] = backing.to_bytes(4, "little")

    def remove(self, place: int) -> None:
        with self._lock:
            self._memory[place + _RECORD.size] = 0
            self._free.append(place)

    # --- folders ---

    def note_place(self, number: int, entries: int, name: bytes) -> None:
        """The reader of an open folder has got so many entries, and `name` was the last."""
        at = _PLACES_AT + number % _PLACES * _PLACE_BYTES
        with self._lock:
            if _NUMBER.unpack_from(self._memory, at)[0] != number:
                self._memory[at : at + _PLACE_BYTES] = bytes(_PLACE_BYTES)
                _NUMBER.pack_into(self._memory, at, number)
            # In place of the one before the last: a reply that gets lost is asked for again from the last.
            first, second = at + _NUMBER.size, at + _NUMBER.size + _PLACE.size
            newer = self._last_places.get(number)
            where = second if newer == first else first
            self._last_places[number] = where
            _NUMBER.pack_into(self._memory, where, 0)
            self._memory[where + 8 : where + _PLACE.size] = bytes([len(name)]) + name.ljust(255, b"\0")
            _NUMBER.pack_into(self._memory, where, entries)

    def find_place(self, number: int, entries: int) -> bytes | None:
        """The name of the last of so many entries of an open folder, of this process or the one before."""
        at = _PLACES_AT + number % _PLACES * _PLACE_BYTES
        with self._lock:
            if _NUMBER.unpack_from(self._memory, at)[0] != number:
                return None
            for where in (at + _NUMBER.size, at + _NUMBER.size + _PLACE.size):
                noted, length, name = _PLACE.unpack_from(self._memory, where)
                if noted == entries:
                    return bytes(name[:length])
        return None

    # --- appends ---

    def begin_append(self, request: RequestId, inode: Inode, offset: int, length: int) -> None:
        """An append is about to be written at `offset`, which is the file's end; nobody else writes the file until
        `end_append`."""
        place = _APPENDS_AT + request.slot * _APPEND_BYTES
        with self._lock:
            self._memory[place + _APPEND.size] = 0
            _APPEND.pack_into(self._memory, place, request.number, inode, offset, length)
            self._memory[place + _APPEND.size] = _BEGUN

    def end_append(self, request: RequestId, *, done: bool) -> None:
        """It was written as a whole, or failed."""
        place = _APPENDS_AT + request.slot * _APPEND_BYTES
        with self._lock:
            self._memory[place + _APPEND.size] = _DONE if done else 0

    def appends(self, *, done: bool) -> list[AppendRecord]:
        """The last appends of each thread, in all processes up to now: those that were done, or had only begun."""
        found: list[AppendRecord] = []
        for slot in range(EPOCHS * SLOTS):
            place = _APPENDS_AT + slot * _APPEND_BYTES
            if self._memory[place + _APPEND.size] == (_DONE if done else _BEGUN):
                request, inode, offset, length = _APPEND.unpack_from(self._memory, place)
                found.append(AppendRecord(RequestId(slot, request), Inode(inode), offset, length))
        return found
