"""One generation's bytes, opened once for all who use it.

Size and modification time of an open generation are those of its file, so they are right after a crash too, and
where the kernel writes past us. Any thread may enter. Locks are taken in one order: a file's lock, the database's,
that of the table of open files.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable

from drivefs.errors import CacheDamaged, CacheFull, NoSpace, Superseded
from drivefs.model import Generation, Inode
from drivefs.store.checked_file import CheckedFile
from drivefs.store.disk import data_from_start, punch_hole, start_writeback, write_all
from drivefs.store.generations import Base, State
from drivefs.store.open_files import Fingerprint, OpenFiles
from drivefs.store.parts import Parts
from drivefs.store.ranges import Ranges
from drivefs.store.write_buffers import WriteBuffer
from drivefs.store.writes_behind import WritesBehind

log = logging.getLogger(__name__)

COPIED_AT_ONCE_BYTES = 64 << 20
"""Where the disk has to copy them, that takes some 50 ms, and others who use the file wait for it."""


class ContentFile(CheckedFile):
    """One generation, opened once for all who use it: what is written to it, and what is filled in from Drive."""

    def __init__(
        self,
        opened: OpenFiles[ContentFile],
        generation: Generation,
        inode: Inode,
        state: State,
        base: Base | None,
    ) -> None:
        super().__init__(opened, generation, inode, state, base)
        # Guarded by lock:
        self._parts = Parts()  # what of an incomplete one was used last
        self.front_bytes: int | None = None  # written from the beginning on; None: it did not begin empty
        self._ahead_bytes: int | None = None  # of these, how many have left for Drive; None: no session has any
        self._point = -1  # the sync point that `_point_bytes` belongs to
        self._point_bytes = 0  # its size then: what lies below changes in place
        self._noted = -1  # the sync point after which its change in place is noted
        self._was_clean_as: Fingerprint | None = None  # what `fingerprint` was when CLEAN became OPEN
        # Guarded by the database's lock:
        self.direct_writers = 0  # through whom the kernel may write it, unseen
        self.was_direct = False  # there was one
        self.claim_epoch = 0  # grows when the content is taken back from uploads

    def set_mtime(self, mtime_ns: int) -> None:
        """Not a change of the content: what was untouched before is so afterwards."""
        untouched = self.untouched
        super().set_mtime(mtime_ns)
        if untouched:
            self.watch()

    def watch(self) -> None:
        """From now on tell by `untouched` whether the content was changed."""
        self._was_clean_as = self.fingerprint()

    @property
    def untouched(self) -> bool:
        """Whether it is OPEN, was CLEAN before, and has not been changed."""
        return self._was_clean_as is not None and self._was_clean_as == self.fingerprint()

    def forget_fingerprint(self) -> None:
        self._was_clean_as = None

    def read(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes. The caller has filled the gaps, and reads again when `punched` has changed since
        before that. Raises CacheDamaged."""
        if self.base is not None:
            self._parts.use(offset, offset + length)
        try:
            return os.pread(self.fd, length, offset)
        except OSError as error:
            raise CacheDamaged(f"Content file {self.generation} cannot be read: {error.strerror}.") from error

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Like `read`, into the caller's memory; returns how many bytes there were. Raises CacheDamaged."""
        if self.base is not None:
            self._parts.use(offset, offset + len(buffer))
        try:
            return os.preadv(self.fd, [buffer], offset)
        except OSError as error:
            raise CacheDamaged(f"Content file {self.generation} cannot be read: {error.strerror}.") from error

    def write(self, offset: int, data: bytes | memoryview) -> int:
        """Write all of `data` into an OPEN generation. Raises CacheFull; what fitted then stays."""
        view = memoryview(data)
        return self._put(offset, len(view), lambda done: os.pwrite(self.fd, view[done:], offset + done))

    def write_behind(
        self, offset: int, data: memoryview, buffer: WriteBuffer, start: int
    ) -> Callable[[], None] | None:
        """Take over a write to an OPEN generation, of `data`, which lies in `buffer` from `start` on: it counts as
        done, and the caller soon calls what this returns, for the buffer may be used again after that only. None: it
        is to be written by `write`."""
        with self.lock:
            behind = self._behind
            if self.base is not None or self.must_note(offset) or self._known():
                return None
            if behind is None:
                behind = self._behind = WritesBehind(self.fd, self.generation)
            if behind.error is not None:
                return None
            self._about_to_write(offset)
            self.unsynced = True
            if self.front_bytes is not None and offset <= self.front_bytes:
                self.front_bytes = max(self.front_bytes, offset + len(data))
            write = behind.add(offset, data, buffer, start)
            return lambda: behind.finish(write)

    def tell_failure(self) -> None:
        """Raise NoSpace or CacheDamaged, once, when a write that was answered could not be put in place."""
        behind = self._behind
        if behind is None:
            return
        behind.settle()
        error, behind.error = behind.error, None
        if error is not None:
            why = f"A write to content file {self.generation} that was answered already failed: {error.strerror}."
            raise (NoSpace if error.errno in (errno.ENOSPC, errno.EDQUOT) else CacheDamaged)(why) from error

    def copy_from(self, source: ContentFile, source_offset: int, offset: int, length: int) -> int:
        """Write what another generation has, which is all here, into this one, which is OPEN; by sharing blocks where
        the disk does that. At most COPIED_AT_ONCE_BYTES, and no more than there are; how many. Raises CacheFull."""
        length = min(length, COPIED_AT_ONCE_BYTES, source.size_bytes - source_offset)
        if length <= 0:
            return 0
        with self.lock:
            # Drive may have it already: it does not leave before it is known what it became.
            self.front_bytes = None
            return self._put(
                offset,
                length,
                lambda done: os.copy_file_range(
                    source.fd, self.fd, length - done, source_offset + done, offset + done
                ),
            )

    def _put(self, offset: int, length: int, put: Callable[[int], int]) -> int:
        """Let `put` write what comes after the first so many bytes until there are `length`, or no more; how many."""
        with self.lock:
            self.tell_failure()
            if self.must_note(offset):
                self.note_change()
            self._about_to_write(offset)
            size = self.size_bytes
            done = 0
            self._begin_change(min(offset, size), offset + length)
            if self.base is not None and offset + length > size:
                # The base has nothing to say of what lies beyond the end: recorded before it comes to be, or a crash
                # between would have it asked for.
                self._record(size, offset + length)
            try:
                while done < length and (count := put(done)):
                    done += count
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise CacheFull("The disk of the cache is full.") from error
                raise CacheDamaged(f"Content file {self.generation} cannot be written: {error}.") from error
            finally:
                self._end_change()
                self.unsynced = True
                if self.front_bytes is not None and offset <= self.front_bytes:
                    self.front_bytes = max(self.front_bytes, offset + done)
                if self.base is not None and done:
                    # The bytes come before their record: a crash between leaves the old content, not a hole.
                    self._record(offset, min(offset + done, size))
            return done

    def _about_to_write(self, offset: int) -> None:
        self.forget_fingerprint()
        if self._ahead_bytes is not None and offset < self._ahead_bytes:
            self.lose_ahead()

    def append(self, data: bytes | memoryview) -> int:
        """Write at the end, wherever that is by now."""
        with self.lock:
            return self.write(self.size_bytes, data)

    def truncate(self, size: int) -> None:
        """Cut an OPEN generation, or grow it by zeros. Raises CacheFull."""
        with self.lock:
            old = self.size_bytes
            if size == old:
                return
            if self.must_note(size):
                self.note_change()
            self.forget_fingerprint()
            if self._ahead_bytes is not None and size <= self._ahead_bytes:
                self.lose_ahead()
            if size == 0:
                self.front_bytes = 0
            elif self.front_bytes is not None:
                self.front_bytes = min(self.front_bytes, size)
            if self.base is not None and size < old:
                self.ranges.cut(size)
                self.save_ranges()
            elif self.base is not None:
                self._record(old, size)  # before it grows, as in write
            self._begin_change(min(old, size), max(old, size))
            try:
                os.ftruncate(self.fd, size)
            except OSError as error:
                why = f"The cache cannot hold a file of {size} bytes: {error.strerror}."
                # No room that is made would help a file that is too large for the disk's format.
                raise (CacheFull(why) if error.errno in (errno.ENOSPC, errno.EDQUOT) else NoSpace(why)) from error
            finally:
                self._end_change()
            self.unsynced = True

    def reach_point(self, *, empty: bool = False) -> int:
        """What of it the current sync point has, if anything changed it since, or else has now: bytes from its
        beginning. `empty`: it came to be after that point."""
        with self.lock:
            current = self._opened.points.current
            if self._point != current:
                self._point, self._point_bytes = current, 0 if empty else self.size_bytes
            return self._point_bytes

    def must_note(self, offset: int) -> bool:
        """Whether a change from `offset` on is to be noted first (`note_change`): after a power cut nobody could tell
        the old bytes from the new ones."""
        with self.lock:
            return offset < self.reach_point() and self._noted < self._point

    def note_change(self, *, flush: bool = True) -> None:
        """Note that it changes in place. Waits for the disk if it is to `flush`: callers that hold a lock look at
        `must_note` first, and let go of it. Raises CacheDamaged."""
        try:
            noted = self._opened.points.note_change(self.generation, flush=flush)
        except OSError as error:
            raise CacheDamaged(f"The cache's sync points cannot be written: {error.strerror}.") from error
        with self.lock:
            self._noted = max(self._noted, noted)

    def _record(self, start: int, stop: int) -> None:
        if self.ranges.covers(start, stop) and not self.fetched_bytes:
            return
        self.ranges.add(start, stop)
        self.save_ranges()

    def empty(self) -> None:
        """What was fetched of a CLEAN generation is wrong: nothing of it is here any more."""
        with self.lock:
            self.ranges = Ranges()
            self.forget_checksums()
            self.save_ranges()

    def fill(self, offset: int, data: bytes, *, settle: bool = True) -> None:
        """Put bytes fetched from the base where none are yet; local writes are never overwritten.

        `settle`: mark the file whole when nothing is missing; otherwise the caller does, once it has checked it.
        """
        with self.lock:
            if self.base is None:
                return
            mtime_ns = self.mtime_ns
            self.damaged(offset, offset + len(data))  # or its checksum would be made right for what lies beside
            self._look()
            for start, stop in self.gaps(offset, offset + len(data)):
                piece = memoryview(data)[start - offset : stop - offset]
                try:
                    write_all(self.fd, piece, start)
                except OSError as error:
                    raise CacheFull(f"The cache has no room for what is read: {error.strerror}.") from error
                self._filled(start, piece)
                self.ranges.add(start, stop)
                self.fetched_bytes += stop - start
                self._opened.filled_bytes += stop - start
                self._parts.use(start, stop)
            if self.state is not State.CLEAN:
                self.unsynced = True
            self._changed()
            if self.state is State.OPEN:
                self.set_mtime(mtime_ns)
            if settle and self.ranges.covers(0, self.size_bytes):
                self.mark_whole()

    def drop_parts(self, room_bytes: int) -> int:
        """Give parts of an incomplete CLEAN one back to the disk while it is open, least recently used first, until
        `room_bytes` are free; the bytes freed. What was used last stays: a reader may be about to read it."""
        with self.lock:
            if self.base is None or self.state is not State.CLEAN:
                return 0
            freed = 0
            dropped: list[tuple[int, int]] = []
            for start, stop in self._parts.oldest(self.ranges):
                if freed >= room_bytes:
                    break
                freed += self.ranges.remove(start, stop)
                dropped.append((start, stop))
            if not dropped:
                return 0
            # First the record, then the bytes: whoever has read zeros sees that it has changed.
            self.punched += 1
            for start, stop in dropped:
                self._begin_change(start, stop)
            self.save_ranges()
            try:
                for start, stop in dropped:
                    punch_hole(self.fd, start, stop - start)
            except OSError:
                log.info("The disk of the cache cannot take parts of a file back.", exc_info=True)
                return 0
            finally:
                self._end_change()
            return freed

    # --- what leaves for Drive while it is written ---

    @property
    def written_ahead_bytes(self) -> int:
        """How much is written from the beginning on, of a generation that began empty and is all here."""
        front = self.front_bytes
        if front is None or self.base is not None:
            return 0
        if not self.was_direct:
            return front
        if not self.use():
            return 0  # closed meanwhile
        try:
            return data_from_start(self.fd)
        finally:
            self.close()

    def begin_ahead(self) -> None:
        """From now on a change of what `read_ahead` gave is noticed, unless the kernel makes it."""
        with self.lock:
            self._ahead_bytes = 0

    def lose_ahead(self) -> None:
        """What has left for Drive is not the beginning of the content any more: nobody goes on with it. Commits."""
        with self.lock:
            self._ahead_bytes = None
            # Of a session of an earlier process too.
            self._opened.rows.sent_ahead.forget(self.generation)

    @property
    def is_ahead(self) -> bool:
        """Whether what `read_ahead` gave is still the content's beginning, as far as is known."""
        return self._ahead_bytes is not None

    def read_ahead(self, offset: int, length: int) -> bytes:
        """Bytes that leave for Drive while others may be written. Raises Superseded when one that did has changed."""
        with self.lock:
            if self._ahead_bytes is not None:
                self._ahead_bytes = max(self._ahead_bytes, offset + length)
        data = self.read(offset, length)
        if not self.is_ahead:
            raise Superseded(f"The beginning of content file {self.generation} has changed.")
        return data

    def start_writeback(self) -> None:
        """Let the disk begin to write what the next sync point will wait for."""
        start_writeback(self.fd)

    def begin_sync(self) -> bool:
        """Whether it must be flushed. What is written from now on is for the next flush."""
        with self.lock:
            self.settle()
            unsynced, self.unsynced = self.unsynced, self.direct_writers > 0
            return unsynced
