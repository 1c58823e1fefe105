"""An open content file that knows what of it came from Drive, and notices when the disk gives something else.

Each block (store.blocks) that is a copy of Drive's has a checksum, made of the bytes as they came, or as they were
sent. It is compared when the block is first read from the disk since the process began, and again once the file
looks as if another program had written into it: size, mtime or ctime have changed by something that was not done
here. In between, the kernel's page cache stands for it: what a disk damages later shows when the cache is next
opened.
What Drive does not have has no checksums, for there is no second copy that could take its place.

Durable when: with the ranges of what is here, and with the state of the generation; never while it is OPEN.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any

from drivefs.errors import CacheDamaged, CacheFull
from drivefs.model import Generation, Inode
from drivefs.store.blocks import BLOCK_BYTES, Blocks, blocks_of, digest_of, split
from drivefs.store.disk import write_all
from drivefs.store.generations import Base, State
from drivefs.store.open_files import Compared, Fingerprint, Opened, OpenFiles
from drivefs.store.ranges import Ranges

log = logging.getLogger(__name__)


class CheckedFile(Opened):
    """The checksums of one open generation. Guarded by `lock`, unless said otherwise."""

    def __init__(
        self, opened: OpenFiles[Any], generation: Generation, inode: Inode, state: State, base: Base | None
    ) -> None:
        super().__init__(opened, generation, inode, state, base)
        self.kept_bytes: int | None = None
        """Its size as it is recorded; None while it may change."""
        self.punched = 0
        """How often parts of it were given back to the disk, or found to be damaged."""
        self._blocks: Blocks | None = None  # None: not looked up yet
        self._lacks = False  # whether some block has no checksum, of what is all here
        self._suspended = False  # the kernel may have changed any of it
        self._compared = Ranges()  # numbers of the blocks that are known to be right, while it looks like `_seen`
        self._seen: Fingerprint | None = None
        self._sound: Fingerprint | None = None  # how it looked when all of it was
        self._damaged: set[int] = set()  # blocks, told of once

    # --- what is known of it ---

    def _known(self) -> Blocks:
        if self._blocks is None:
            found = self._opened.rows.checksums(self.generation)
            self._blocks = Blocks(*found) if found is not None else Blocks()
            self._lacks = not self._blocks.are_known(self.kept_bytes or 0)
        return self._blocks

    @property
    def source(self) -> Base | None:
        """The revision on Drive that all blocks with a checksum are copies of."""
        with self.lock:
            return self._known().source

    @property
    def is_sound(self) -> bool:
        """Whether all of it was compared, and nothing has changed it since. Takes no lock."""
        return self._sound is not None and self._sound == self.fingerprint()

    @property
    def lacks_checksums(self) -> bool:
        """Whether it is a copy of Drive's that can only be compared as a whole: a cache of an older format has it."""
        with self.lock:
            if self.state is not State.CLEAN or self.base is not None or self._suspended or self.is_sound:
                return False
            self._look()
            self._note_if_sound()
            if self._sound is not None:
                return False
            self._known()
            return self._lacks

    def _look(self) -> None:
        """Whoever has changed the file since the last look, it was not done here: all of it is to be compared."""
        seen = self.fingerprint()
        if seen == self._seen:
            return
        if self.state is State.CLEAN and self.kept_bytes is not None and seen.size_bytes != self.kept_bytes:
            os.ftruncate(self.fd, self.kept_bytes)
            seen = self.fingerprint()
        self._compared = self._opened.compared(self.generation, seen)
        self._seen, self._sound = seen, None

    def _changed(self) -> None:
        """What was done to the file since the last look was done here."""
        self._seen, self._sound = self.fingerprint(), None

    def is_new(self) -> None:
        """It was made just now."""
        self._blocks = Blocks()
        self._changed()

    def set_mtime(self, mtime_ns: int) -> None:
        """Set the time of the last change; the content stays what it is."""
        with self.lock:
            sound, known = self.is_sound, self._seen is not None and self._seen == self.fingerprint()
            os.utime(self.fd, ns=(mtime_ns, mtime_ns))
            if known:
                self._changed()
            if sound:
                self._sound = self._seen

    def compared(self) -> Compared | None:
        """Called by the last user, who need not lock it."""
        if self.state is State.OPEN or self._seen is None or self._seen != self.fingerprint():
            return None
        return Compared(self._seen, tuple(self._compared))

    # --- comparing ---

    def damaged(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Compare what of [start, stop) was not yet; the blocks of a whole content that the disk has damaged, which
        `mend` mends. Of an incomplete one they are not here any more. Raises CacheDamaged."""
        if self.is_sound:
            return []
        with self.lock:
            if not self._known() or self._suspended:
                return []
            self._look()
        found = []
        for block in blocks_of(start, min(stop, self.size_bytes)):
            with self.lock:
                if not self._is_right(block):
                    self._tell(block)
                    if self.base is None:
                        found.append((block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES))
                    else:
                        self._lose(block)
        with self.lock:
            self._note_if_sound()
        return found

    def compare(self, limit_bytes: int) -> bool:
        """Whether all that has a checksum is right, of a content that is all here; compares what was not yet, if that
        is no more than `limit_bytes`, and says no otherwise. Raises CacheDamaged."""
        if self.is_sound:
            return True
        with self.lock:
            if self.state is State.CLEAN and not self._suspended:
                self._look()
                self._note_if_sound()
                if self._sound is not None:
                    return True
            if self.base is not None or self.lacks_checksums:
                return False
            blocks = self._known()
            if not blocks or self._suspended:
                return True
            self._look()
            left = [each for each in blocks_of(0, self.size_bytes) if not self._compared.covers(each, each + 1)]
            if sum(blocks.find(each) is not None for each in left) * BLOCK_BYTES > limit_bytes:
                return False
        return not self.damaged(0, self.size_bytes)

    def _is_right(self, block: int) -> bool:
        """Whether a block has no checksum, or that of the bytes that are here."""
        digest = None if self._suspended else self._known().find(block)
        if digest is None:
            return True
        self._look()
        if self._compared.covers(block, block + 1):
            return True
        here = self._here(block)
        if here and digest_of(self._read(*each) for each in here) != digest:
            return False
        self._compared.add(block, block + 1)
        return True

    def _here(self, block: int) -> list[tuple[int, int]]:
        return self.here(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES)

    def _read(self, start: int, stop: int) -> bytes:
        try:
            return os.pread(self.fd, stop - start, start)
        except OSError as error:
            if self.source is not None:
                log.warning("Content file %d cannot be read: %s", self.generation, error.strerror)
                return b""  # as good as damaged: Drive has it
            raise CacheDamaged(f"Content file {self.generation} cannot be read: {error.strerror}.") from error

    def _note_if_sound(self) -> None:
        if self.base is None and self._seen is not None:
            count = len(blocks_of(0, self._seen.size_bytes))
            if count and self._compared.covers(0, count):
                self._sound = self._seen

    def _tell(self, block: int) -> None:
        if block not in self._damaged:
            self._damaged.add(block)
            self._opened.damaged_blocks += 1
            log.warning(
                "The cache's disk has damaged content file %d of inode %d at byte %d: it is fetched again.",
                self.generation,
                self.inode,
                block * BLOCK_BYTES,
            )

    def _mended(self, block: int) -> None:
        if block in self._damaged:
            self._damaged.discard(block)
            self._opened.mended_blocks += 1

    def _lose(self, block: int) -> None:
        """A block of an incomplete content is on Drive only."""
        self.punched += 1
        self._mended(block)
        self.ranges.remove(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES)
        self._known().forget(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES)
        self._compared.remove(block, block + 1)

    def forget_compared(self) -> None:
        """Compare all of it again."""
        with self.lock:
            self._look()
            self._compared, self._sound = Ranges(), None

    # --- what takes the place of the damaged ---

    def mend(self, start: int, data: bytes) -> bool:
        """Put a damaged block of a whole content right with what Drive has of it; whether it was that. Raises
        CacheFull."""
        with self.lock:
            block = start // BLOCK_BYTES
            digest = self._known().find(block)
            if digest is None or self._suspended or self.base is not None:
                return True  # written to meanwhile, or gone: nobody needs it
            if digest_of([data]) != digest:
                return False
            self._look()
            mtime_ns = self.mtime_ns
            try:
                write_all(self.fd, memoryview(data), start)
            except OSError as error:
                raise CacheFull(f"The cache cannot hold what is fetched again: {error.strerror}.") from error
            os.utime(self.fd, ns=(mtime_ns, mtime_ns))
            self._changed()
            self._compared.add(block, block + 1)
            if self.state is not State.CLEAN:
                self.unsynced = True
            self._mended(block)
            self._note_if_sound()
            return True

    def lose_all(self, base: Base) -> None:
        """A CLEAN content that is wrong as a whole: nothing of it is here any more, it comes from `base`."""
        with self.lock:
            self._opened.damaged_blocks += 1
            self._opened.mended_blocks += 1
            self.punched += 1
            self._blocks, self._compared, self._sound = Blocks(), Ranges(), None
            self.base, self.ranges = base, Ranges()
            self._opened.rows.lose(self.generation, base)

    # --- what is new ---

    def _filled(self, start: int, data: memoryview) -> None:
        """Bytes of the base were put where none were, and `ranges` does not have them yet."""
        blocks = self._known()
        blocks.source = blocks.source or self.base
        for block, begin, piece in split(start, data):
            here = self._here(block)
            if not here:
                blocks.begin(block, begin, piece)
            elif blocks.find(block) is None:
                continue  # some of it was written here
            elif here[-1][1] != begin or not blocks.go_on(block, begin, piece):
                parts = sorted([*((a, self._read(a, b)) for a, b in here), (begin, bytes(piece))])
                blocks.set(block, digest_of(part for _, part in parts))
            self._compared.add(block, block + 1)

    def _begin_change(self, start: int, stop: int) -> None:
        """[start, stop) is about to be written here, or to go: no copy of Drive's any more."""
        if self._known():
            self._look()
            self._known().forget(start, stop)
            self._compared.remove(start // BLOCK_BYTES, -(-stop // BLOCK_BYTES))

    def _end_change(self) -> None:
        if self._known():
            self._changed()

    def forget_checksums(self) -> None:
        """Nothing of it is a copy of Drive's."""
        with self.lock:
            self._blocks, self._compared, self._sound = Blocks(), Ranges(), None

    def adopt(self, source: Base | None, digests: bytes, looked: Fingerprint) -> None:
        """All of it was found right while it looked so: these are its checksums. Without `source` they are not known
        to be Drive's, and are not kept. Part of the caller's transaction."""
        self._suspended = self._lacks = False
        if source is not None:
            self._blocks = Blocks(source, digests)
            self._opened.rows.save_checksums(self.generation, source, digests)
        self._seen = self._sound = looked
        self._compared = Ranges([(0, len(blocks_of(0, looked.size_bytes)))])

    def suspend_checks(self) -> None:
        """From now on the kernel may write it, unseen."""
        self._known()
        self._suspended = True
        self._sound = None

    # --- on the disk ---

    def mark_whole(self) -> None:
        """Every byte is here: nothing of it needs the base any more."""
        with self.lock, self._opened.db.transaction():
            self.base = None
            self._opened.rows.mark_whole(self.generation)
            self.save_checksums()
            self._lacks = not self._known().are_known(self.kept_bytes or 0)
            self._note_if_sound()

    def save_ranges(self) -> None:
        with self._opened.db.transaction():
            super().save_ranges()
            self.save_checksums()

    def save_checksums(self) -> None:
        """Keep them as they are now, or not at all while it is OPEN: what is written comes before any record of it.
        Part of the caller's transaction."""
        blocks = self._known()
        if blocks and blocks.source is not None and self.state is not State.OPEN and not self._suspended:
            self._opened.rows.save_checksums(self.generation, blocks.source, blocks.to_bytes())
        elif self.state is State.OPEN or self.base is not None:
            self._opened.rows.forget_checksums(self.generation)

    def drop_suspended(self) -> None:
        """It is sealed: what the kernel may have written has no checksums."""
        if self._suspended:
            self._blocks, self._suspended = Blocks(), False

    def resume_checks(self) -> None:
        """Nobody writes it any more: if nothing was written to it after all, what is known of it holds."""
        if self._suspended and self._seen != self.fingerprint():
            self.drop_suspended()
            self._lacks = True
        self._suspended = False

    def copy_checksums(self, other: CheckedFile) -> None:
        """Its bytes are a copy of the other's."""
        if not other._suspended:
            self._blocks = other._known().copy()
        self._compared, self._sound = Ranges(), None

    def check_parts(self) -> Sequence[int]:
        """Compare all of an incomplete content anew; the blocks that were damaged, and are not here any more."""
        self.forget_compared()
        with self.lock:
            blocks = list(blocks_of(0, self.size_bytes))
        lost = []
        for block in blocks:
            with self.lock:
                if not self._is_right(block) and self.base is not None:
                    self._tell(block)
                    self._lose(block)
                    lost.append(block)
        if lost:
            with self.lock:
                self.save_ranges()
        return lost
