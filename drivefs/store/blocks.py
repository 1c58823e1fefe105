"""Checksums of a content's blocks: whether the disk still has what came from Drive. No locks, no input or output.

A block is a MiB of the file. Its checksum is of what of it is here, in order; it has one only if all of that is a
copy of what Drive has. It is one against accidents (the disk's, or a program's that writes into the cache by
mistake), and takes 0.1 s for a GiB: md5, which Drive vouches for, takes 1.3 s.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from xxhash import xxh3_64, xxh3_64_digest

from drivefs.store.generations import Base

BLOCK_BYTES = 1 << 20

DIGEST_BYTES = 8
"""Of XXH3-64."""

_UNKNOWN = bytes(DIGEST_BYTES)

RUNNING = 16
"""Blocks of one file that come in pieces at the same time; of more, each piece reads again what was there."""


def blocks_of(start: int, stop: int) -> range:
    """The blocks that [start, stop) touches."""
    return range(start // BLOCK_BYTES, -(-stop // BLOCK_BYTES))


def split(start: int, data: bytes | memoryview) -> Iterator[tuple[int, int, memoryview]]:
    """The pieces of what lies at `start`, by block: its number, where the piece begins, and its bytes."""
    view = memoryview(data)
    for block in blocks_of(start, start + len(view)):
        begin = max(start, block * BLOCK_BYTES)
        end = min(start + len(view), (block + 1) * BLOCK_BYTES)
        yield block, begin, view[begin - start : end - start]


def digest_of(parts: Iterable[bytes]) -> bytes:
    """Of parts of one block, in order."""
    digest = xxh3_64()
    for part in parts:
        digest.update(part)
    return digest.digest()


class Blocks:
    """The checksums of one content."""

    def __init__(self, source: Base | None = None, digests: bytes = b"") -> None:
        """`source` is the revision on Drive that all of them are copies of; `digests` what `to_bytes` gave."""
        self.source = source
        self._digests = bytearray(digests)
        self._running: dict[int, tuple[xxh3_64, int]] = {}  # of what comes in order, and how far it has come

    def __bool__(self) -> bool:
        """Whether there may be any."""
        return bool(self._digests)

    def to_bytes(self) -> bytes:
        return bytes(self._digests)

    def copy(self) -> Blocks:
        return Blocks(self.source, self.to_bytes())

    def find(self, block: int) -> bytes | None:
        """The checksum of a block; None where it has none."""
        digest = bytes(self._digests[block * DIGEST_BYTES : (block + 1) * DIGEST_BYTES])
        return digest if digest and digest != _UNKNOWN else None

    def set(self, block: int, digest: bytes) -> None:
        start = block * DIGEST_BYTES
        if len(self._digests) < start:
            self._digests.extend(bytes(start - len(self._digests)))
        self._digests[start : start + DIGEST_BYTES] = digest
        self._running.pop(block, None)

    def forget(self, start: int, stop: int) -> None:
        """What lies in [start, stop) is no copy any more, or not here."""
        for block in blocks_of(start, min(stop, len(self._digests) // DIGEST_BYTES * BLOCK_BYTES)):
            self.set(block, _UNKNOWN)

    def are_known(self, size_bytes: int) -> bool:
        """Whether all blocks of a content of that size have one."""
        return all(self.find(block) is not None for block in blocks_of(0, size_bytes))

    def begin(self, block: int, at: int, data: memoryview) -> None:
        """The first bytes of a block are here."""
        digest = xxh3_64(data)
        self._run(block, digest, at + len(data))

    def go_on(self, block: int, at: int, data: memoryview) -> bool:
        """More of a block is here; whether its checksum could be carried on to that: it must follow all the rest."""
        digest, end = self._running.get(block, (None, -1))
        if digest is None or end != at:
            return False
        digest.update(data)
        self._run(block, digest, at + len(data))
        return True

    def _run(self, block: int, digest: xxh3_64, end: int) -> None:
        self.set(block, digest.digest())
        if end < (block + 1) * BLOCK_BYTES:
            self._running[block] = digest, end
            if len(self._running) > RUNNING:
                del self._running[next(iter(self._running))]


class Digester:
    """The checksums of a content that is read from front to back, in pieces of any size."""

    def __init__(self) -> None:
        self.size_bytes = 0
        self._blocks = Blocks()

    def add(self, offset: int, data: bytes) -> None:
        """What was read at `offset`; only what follows all that was added counts."""
        if not offset <= self.size_bytes < offset + len(data):
            return
        for block, begin, piece in split(self.size_bytes, memoryview(data)[self.size_bytes - offset :]):
            if len(piece) == BLOCK_BYTES:
                self._blocks.set(block, xxh3_64_digest(piece))
            elif not self._blocks.go_on(block, begin, piece):
                self._blocks.begin(block, begin, piece)
        self.size_bytes = offset + len(data)

    def digests(self) -> bytes:
        return self._blocks.to_bytes()
