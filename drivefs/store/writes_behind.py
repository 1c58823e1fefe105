"""Writes that were answered, and are on their way from their buffers into one content file.

Their program goes on to its next write meanwhile. They are put in place in their order, by one thread at a time:
whoever is at it goes on with those that come, for to hand that over between threads costs as much as half a write.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections import deque

from drivefs.model import Generation
from drivefs.store.disk import write_all
from drivefs.store.write_buffers import WriteBuffer

log = logging.getLogger(__name__)

_numbers = itertools.count()


class WriteBehind:
    """One of them."""

    __slots__ = ("buffer", "data", "done", "offset", "on_its_way")

    def __init__(self, offset: int, data: memoryview, buffer: WriteBuffer) -> None:
        self.offset = offset
        self.data = data
        self.buffer = buffer
        self.done = False
        self.on_its_way = threading.Lock()
        """Held until it is done."""
        self.on_its_way.acquire()


class WritesBehind:
    """The queue of one content file. Takes no locks but its own: those who call it may hold any."""

    def __init__(self, fd: int, generation: Generation) -> None:
        self._fd = fd
        self._generation = generation
        self._placing = threading.Lock()  # held by who puts them in place
        self._lock = threading.Lock()  # guards nothing that waits for the disk
        self._waiting: deque[WriteBehind] = deque()  # guarded by _lock
        self._stays = False  # whether somebody will not end before the queue does; guarded by _lock
        self.error: OSError | None = None
        """Why one could not be put in place, until somebody has been told."""

    @property
    def any(self) -> bool:
        """Whether any is not in place."""
        return bool(self._waiting)

    def add(self, offset: int, data: memoryview, buffer: WriteBuffer, start: int) -> WriteBehind:
        """From now on it counts as done. `data` lies in `buffer` from `start` on, until it is done. Calls for one
        file come one after another."""
        write = WriteBehind(offset, data, buffer)
        buffer.keep(next(_numbers), self._generation, offset, start, len(data))
        with self._lock:
            self._waiting.append(write)
        return write

    def finish(self, write: WriteBehind) -> None:
        """Returns when it is in place: called by the thread whose buffer it is. What comes meanwhile is put in place
        too, unless another thread is at it."""
        with self._lock:
            if write.done:
                return
            other_stays, self._stays = self._stays, True
        if other_stays:
            with write.on_its_way:
                return
        with self._placing:
            while self._place_next():
                pass

    def settle(self) -> None:
        """Returns when all that were added before are in place; what comes meanwhile is left to others, for the
        caller may hold what many wait for."""
        with self._lock:
            if not self._waiting:
                return
            last, other_stays = self._waiting[-1], self._stays
        if other_stays:
            with last.on_its_way:
                return
        with self._placing:
            while not last.done:
                self._place_next()

    def _place_next(self) -> bool:
        """Put the first one in place; whether there are more. The caller holds _placing."""
        with self._lock:
            if not self._waiting:
                self._stays = False
                return False
            write = self._waiting[0]
        try:
            write_all(self._fd, write.data, write.offset)
        except OSError as error:
            log.error("A write to content file %d failed after it was answered: %s", self._generation, error)
            self.error = error
        write.buffer.forget()
        del write.data, write.buffer  # its thread may use them again
        with self._lock:
            self._waiting.popleft()
            write.done = True
        write.on_its_way.release()
        return True
