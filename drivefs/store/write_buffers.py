"""Memory that writes are read into: what was answered from there, and is not in its content file yet, outlives the
process.

It is a file of the cache that is mapped, so a process killed at any instruction leaves it as it is; the next one puts
what it finds in place (`left`) before anybody else enters. A power cut takes it, like all that was not flushed. A
buffer is in the hands of one thread.
"""

from __future__ import annotations

import logging
import mmap
import os
from pathlib import Path
from struct import Struct
from typing import NamedTuple

from drivefs.model import Generation

log = logging.getLogger(__name__)

_RECORD = Struct("=QQQQQ")  # number, generation, offset in its file, where the data lies in this one, length
_RECORD_BYTES = _RECORD.size + 8  # and the byte that makes it count, which is stored last
_RECORDS_BYTES = mmap.PAGESIZE


class LeftWrite(NamedTuple):
    """A write that was answered, and may not be in its content file yet."""

    number: int
    generation: Generation
    offset: int
    data: bytes


class WriteBuffer:
    """One buffer, and the record of the write that lies in it."""

    def __init__(self, memory: mmap.mmap, record_at: int, begin: int, size_bytes: int) -> None:
        self._memory = memory
        self._record_at = record_at
        self._begin = begin
        self.data = memoryview(memory)[begin : begin + size_bytes]

    def keep(self, number: int, generation: Generation, offset: int, start: int, length: int) -> None:
        """From now on [start, start + length) of the buffer is a write to a content file, at `offset`. One of a
        higher `number` comes after it."""
        at = self._record_at
        _RECORD.pack_into(self._memory, at, number, generation, offset, self._begin + start, length)
        self._memory[at + _RECORD.size] = 1

    def forget(self) -> None:
        """The content file has it."""
        self._memory[self._record_at + _RECORD.size] = 0


class WriteBuffers:
    """The buffers of one cache."""

    def __init__(self, path: Path) -> None:
        """`path`: the file, which need not be there."""
        self._path = path
        self._buffers: list[WriteBuffer] = []

    def left(self) -> list[LeftWrite]:
        """What the process before has not put in place, in the order in which that is to be done."""
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return []
        found = []
        for at in range(0, min(len(data), _RECORDS_BYTES) - _RECORD_BYTES + 1, _RECORD_BYTES):
            number, generation, offset, begin, length = _RECORD.unpack_from(data, at)
            if data[at + _RECORD.size]:
                found.append(LeftWrite(number, Generation(generation), offset, data[begin : begin + length]))
        return sorted(found)

    def discard(self) -> None:
        """What was left is in place, or is not to be."""
        self._path.unlink(missing_ok=True)

    def make(self, count: int, size_bytes: int) -> None:
        """`count` buffers of `size_bytes`; none where the disk has no room for them. Once, after `discard`."""
        assert count * _RECORD_BYTES <= _RECORDS_BYTES
        total_bytes = _RECORDS_BYTES + count * size_bytes
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(fd, 0, total_bytes)  # or a full disk would end the process where it stores
                memory = mmap.mmap(fd, total_bytes)
            finally:
                os.close(fd)
        except OSError as error:
            log.info("The cache has no room for write buffers: %s", error.strerror)
            self.discard()  # what of it there was room for
            return
        places = [(at * _RECORD_BYTES, _RECORDS_BYTES + at * size_bytes) for at in range(count)]
        self._buffers = [WriteBuffer(memory, *place, size_bytes) for place in places]

    def find(self, number: int) -> WriteBuffer | None:
        """The buffer of this number, from 0 on, if there are so many."""
        return self._buffers[number] if number < len(self._buffers) else None

    def close(self) -> None:
        """All that was answered is in place."""
        self._buffers.clear()
        self.discard()
