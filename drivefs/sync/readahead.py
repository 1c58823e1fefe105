"""What a file's reads so far say of those to come. Pure: the caller's lock guards it.

A read that begins where another one ended goes on with its stream; several streams in one file are told apart.
What is fetched ahead grows with what the stream has read, and the next stream starts small again. Reads that belong
to no stream count towards the whole file: when it is read all over, all of it is worth having.
"""

from __future__ import annotations

from dataclasses import dataclass

MiB = 1 << 20

FIRST_BYTES = 8 * MiB
"""Ahead of a reader that began at the beginning of the file: mostly he wants it all."""

WINDOW_BYTES = 192 * MiB
"""Ahead of any reader at most: half a second of twelve connections at 40 MB/s, a round trip of 80 ms among it."""

PROOF_BYTES = MiB // 2
"""Read in order before a stream that began elsewhere is taken for one; the kernel itself reads 128 KiB at once."""

SLACK_BYTES = MiB
"""The kernel's own reads ahead come out of order by as much."""

STREAMS = 8
"""Told apart in one file."""

ALL_OVER_READS = 4
"""Reads in different places after which a file of up to 512 MiB is taken to be read all over;"""

ALL_OVER_BYTES = 64 * MiB
"""a larger one has to have one for each so many bytes: 500 reads in 50 GB are no reason to fetch 50 GB."""


@dataclass(slots=True)
class _Stream:
    position: int
    read_bytes: int
    first_bytes: int

    @property
    def window_bytes(self) -> int:
        grown = 2 * self.read_bytes if self.read_bytes >= PROOF_BYTES else 0
        return min(self.first_bytes + grown, WINDOW_BYTES)


class Pattern:
    """How one file is being read."""

    def __init__(self) -> None:
        self._streams: list[_Stream] = []  # the one read last is the last
        self._elsewhere = 0

    def note(self, start: int, stop: int) -> int:
        """[start, stop) is read: how many bytes beyond it are worth fetching now."""
        for number, stream in enumerate(self._streams):
            if abs(stream.position - start) <= SLACK_BYTES:
                self._streams.append(self._streams.pop(number))
                stream.read_bytes += max(0, stop - stream.position)
                stream.position = max(stream.position, stop)
                return stream.window_bytes
        if start > SLACK_BYTES:
            self._elsewhere += 1
        stream = _Stream(stop, stop - start, 0 if start > SLACK_BYTES else FIRST_BYTES)
        self._streams = [*self._streams[1 - STREAMS :], stream]
        return stream.window_bytes

    def is_all_over(self, size_bytes: int) -> bool:
        """Whether the file is being read in so many places that the rest of it is worth having."""
        return self._elsewhere >= max(ALL_OVER_READS, size_bytes // ALL_OVER_BYTES - ALL_OVER_READS)
