"""The local content files: one file a generation, written by the mount, read by the uploader.

Only CLEAN generations may be evicted. Any thread may enter. Locks are taken in one order: a file's lock, the
database's, that of the table of open files. Durable when: the record (a row of `generations`) is committed before
the first byte; the bytes outlive the process as soon as write(2) returns, and a power cut after `ContentFile.sync`.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from drivefs.errors import CacheDamaged, CacheFull, Changing, Superseded
from drivefs.model import Generation, Inode
from drivefs.store.claim import Claim
from drivefs.store.content_file import ContentFile, OpenFiles
from drivefs.store.db import Database
from drivefs.store.disk import copy_bytes, is_open_for_writing, share_blocks, sync_disk
from drivefs.store.generations import Base, Generations, State
from drivefs.store.ranges import Ranges

COPY_LIMIT_BYTES = 64 << 20
"""Up to this size a generation that is on its way to Drive is copied when it is changed in place; above it the
upload is given up for the newer content. The copy costs a system call some 50 ms at this size."""

COPY_TRIES = 3
"""For a copy of a file that the kernel writes at the same time."""

TICK_S = 0.02
"""File times move in steps; the longest is 10 ms (a kernel with CONFIG_HZ_100)."""

LET_GO_S = 1.0
"""The kernel lets go of a mount's files within some milliseconds after it was taken away."""

SYNC_ALL_ABOVE = 32
"""More files than this are flushed by one syncfs(2) of the cache's disk: 1,000 small files must not cost 1,000
flushes."""


class ContentStore:
    """The folder of content files."""

    def __init__(self, db: Database, folder: Path) -> None:
        self._db = db
        self._folder = folder
        folder.mkdir(mode=0o700, exist_ok=True)
        self._rows = Generations(db)
        self.sent_ahead = self._rows.sent_ahead
        self._opened = OpenFiles(db, self._rows)
        self._lock = threading.Lock()
        self._closed_unsynced: set[Generation] = set()  # guarded by _lock
        self._folder_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def _path(self, generation: Generation) -> Path:
        return self._folder / str(generation)

    # --- opening ---

    def create(self, inode: Inode) -> ContentFile:
        """A new, empty, OPEN generation; the caller closes it."""
        file = self._add(inode, State.OPEN, 0, None)
        file.front_bytes = 0
        return file

    def create_clean(self, inode: Inode, size_bytes: int, base: Base) -> ContentFile:
        """A CLEAN generation of which nothing is here yet; the caller fills and closes it."""
        file = self._add(inode, State.CLEAN, size_bytes, base)
        if size_bytes == 0:
            file.mark_whole()
        return file

    def _add(self, inode: Inode, state: State, size_bytes: int, base: Base | None) -> ContentFile:
        with self._db.transaction():
            file = ContentFile(self._opened, self._rows.add(inode, state, size_bytes, base), inode, state, base)
            self._db.if_undone(lambda: self._take_back(file))
            try:
                fd = os.open(self._path(file.generation), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                self._opened.add(file, fd)
                if size_bytes:
                    os.ftruncate(fd, size_bytes)
            except OSError as error:
                raise CacheFull(f"The cache cannot hold a new file: {error.strerror}.") from error
            file.unsynced = True
            return file

    def _take_back(self, file: ContentFile) -> None:
        """The transaction that made a generation is undone: its number will be given again."""
        if self._opened.take_back(file):
            self._unlink(file.generation)

    def open(self, generation: Generation) -> ContentFile:
        """A generation that exists; the caller closes it. Raises CacheDamaged."""
        file = self._opened.find_used(generation)
        if file is not None:
            return file
        # Under the database's lock, so that nobody evicts it between its record and its file.
        with self._db.transaction_lock():
            row = self._rows.get(generation)
            base = self._rows.base(row)
            file = ContentFile(self._opened, generation, Inode(row["inode"]), State(row["state"]), base)
            # Nothing tells what the last user flushed; to flush once more costs little.
            file.unsynced = file.state is not State.CLEAN
            if base is not None:
                file.ranges = self._rows.ranges(generation)
            try:
                fd = os.open(self._path(generation), os.O_RDWR | os.O_CLOEXEC)
            except OSError as error:
                raise CacheDamaged(f"Content file {generation} cannot be opened: {error.strerror}.") from error
            return self._opened.add(file, fd)

    def claim(self, generation: Generation) -> Claim:
        """A SEALED generation for an upload. Raises CacheDamaged, or Superseded when it is no longer sealed."""
        file = self.open(generation)
        with self._db.transaction_lock():
            if file.state is State.SEALED:
                file.claims += 1
                return Claim(self._opened, file)
        file.close()
        raise Superseded(f"Content file {generation} is being written again.")

    def is_dirty(self, generation: Generation) -> bool:
        """Whether it is OPEN: written, or about to be."""
        return self._rows.is_dirty(generation)

    def is_claimed(self, generation: Generation) -> bool:
        """Whether an upload of it has begun. True only within the caller's transaction."""
        file = self._opened.find(generation)
        return file is not None and file.claims > 0

    # --- states ---

    def reopen(
        self, file: ContentFile, mtime_ns: int, *, in_place: bool = False, needed: bool = False
    ) -> ContentFile:
        """Make a generation writable: itself, or a copy where an upload still reads it, or it is `needed` as it is.
        Returns the OPEN one.

        `in_place`: always itself, for the kernel has it; the upload is given up then.

        The caller holds a use of `file`, which is given back when another is returned, and the only right to call
        this for its inode. Commits before the first byte can change, so that a crash finds it dirty.
        """
        if file.state is not State.OPEN:
            file.lose_ahead()
        with self._db.transaction():
            if file.state is State.OPEN:
                return file
            claimed = file.claims > 0 or needed
            if in_place and claimed:
                file.claim_epoch += 1
                claimed = False
            if not claimed:
                self._set_state(file, State.OPEN)
        if claimed:
            # A sealed file does not change, so the copy needs no lock.
            copy = self._copy(file)
            if copy is not None:
                copy.set_mtime(mtime_ns)
                file.close()
                return copy
            with self._db.transaction():
                file.claim_epoch += 1
                self._set_state(file, State.OPEN)
        file.set_mtime(mtime_ns)
        return file

    def snapshot(self, file: ContentFile) -> ContentFile:
        """A SEALED copy of an OPEN generation, as it is at this instant; writers wait meanwhile.

        Where the kernel writes it, nobody can be made to wait: a copy counts when nothing changed while it was made.
        Raises Changing when that does not come true.
        """
        for _ in range(COPY_TRIES if file.direct_writers else 1):
            with file.lock:
                before = self._settled_fingerprint(file) if file.direct_writers else None
                copy = self._copy(file, limit_bytes=None)
                assert copy is not None
                if before is None or before == file.fingerprint():
                    copy.set_mtime(file.mtime_ns)
                    self._set_state(copy, State.SEALED)
                    return copy
            self.discard(copy.generation)
            copy.close()
        raise Changing(f"Content file {file.generation} is written without a pause.")

    @staticmethod
    def _settled_fingerprint(file: ContentFile) -> tuple[int, int, int]:
        """One that any later change shows in: maps are flushed, so that the next store into one is seen, and the
        clock has moved on since the last change."""
        os.fdatasync(file.fd)
        time.sleep(max(0.0, min(TICK_S, TICK_S - (time.time() - file.fingerprint()[2] / 1e9))))
        return file.fingerprint()

    def may_be_written(self, generation: Generation) -> bool:
        """Whether the kernel may still write it, though it is sealed."""
        file = self._opened.find(generation)
        return file is not None and file.direct_writers > 0

    def add_direct_writer(self, file: ContentFile, count: int = 1) -> None:
        """The kernel writes it from now on (or, with -1, one writer less does so)."""
        with self._db.transaction_lock():
            file.direct_writers += count
            file.was_direct = True
            file.unsynced = True

    def _copy(self, file: ContentFile, limit_bytes: int | None = COPY_LIMIT_BYTES) -> ContentFile | None:
        size = file.size_bytes
        copy = self._add(file.inode, State.OPEN, 0, file.base)
        copy.ranges = Ranges(file.ranges)
        try:
            share_blocks(file.fd, copy.fd)
        except OSError:
            # This filesystem does not share blocks between files.
            if limit_bytes is not None and size > limit_bytes:
                self.discard(copy.generation)
                copy.close()
                return None
            try:
                copy_bytes(file.fd, copy.fd, size)
            except OSError as error:
                self.discard(copy.generation)
                copy.close()
                raise CacheFull(f"The cache has no room for a copy: {error.strerror}.") from error
        if copy.base is not None:
            copy.save_ranges()
        return copy

    def is_written_elsewhere(self, generation: Generation) -> bool:
        """Whether somebody writes a generation that is not open here: a program that had it open by passthrough when
        the processes of its mount died. What the kernel has only not let go of yet is waited for."""
        end_s = time.monotonic() + LET_GO_S
        while is_open_for_writing(self._path(generation)):
            if time.monotonic() > end_s:
                return True
            time.sleep(TICK_S)
        return False

    def detach(self, file: ContentFile) -> ContentFile:
        """A copy that only we write, in place of a generation that others write too; the caller's use goes over to
        it. Theirs stays in the folder, without a record."""
        with self._db.transaction():
            copy = self._copy(file, limit_bytes=None)
            assert copy is not None
            copy.set_mtime(file.mtime_ns)
            self._rows.remove(file.generation)
        file.close()
        return copy

    def seal(self, file: ContentFile) -> None:
        """OPEN → SEALED: it no longer changes."""
        self._set_state(file, State.SEALED)

    def mark(self, generation: Generation, state: State) -> None:
        """SEALED → CLEAN when Drive has it; CLEAN → SEALED when it must be sent once more, to another file."""
        with self._db.transaction():
            file = self._opened.find(generation)
            if file is not None:
                before, file.state = file.state, state
                self._db.if_undone(lambda: setattr(file, "state", before))
            self._rows.mark(generation, state)

    def supersede(self, generation: Generation) -> None:
        """Take a generation back from its upload, if there is one under way."""
        with self._db.transaction_lock():
            file = self._opened.find(generation)
            if file is not None:
                file.claim_epoch += 1

    def state(self, generation: Generation) -> State:
        """Raises CacheDamaged when there is no such generation."""
        return State(self._rows.get(generation)["state"])

    def is_whole(self, generation: Generation) -> bool:
        """Whether every byte of it is here."""
        return self._rows.is_whole(generation)

    def _set_state(self, file: ContentFile, state: State) -> None:
        with self._db.transaction():
            self._rows.set_state(file.generation, state, file.size_bytes)
            before, file.state = file.state, state
            self._db.if_undone(lambda: setattr(file, "state", before))

    def sealed_bytes(self, generation: Generation) -> int:
        """The size that it had when it was sealed. Raises CacheDamaged when there is no such generation."""
        size_bytes: int = self._rows.get(generation)["size_bytes"]
        return size_bytes

    def belongs_to(self, generation: Generation, inode: Inode) -> None:
        """Another node has it from now on."""
        with self._db.transaction():
            self._rows.set_inode(generation, inode)
            file = self._opened.find(generation)
            if file is not None:
                before, file.inode = file.inode, inode
                self._db.if_undone(lambda: setattr(file, "inode", before))

    def find_status(self, generation: Generation) -> os.stat_result | None:
        """Of a content file, open or not; None when it is missing."""
        try:
            return os.stat(self._path(generation))
        except FileNotFoundError:
            return None

    def set_size(self, generation: Generation, size_bytes: int) -> None:
        self._rows.set_size(generation, size_bytes)

    # --- room ---

    def discard(self, generation: Generation) -> None:
        """Forget a generation and its bytes; whoever has it open may still read it."""
        with self._db.transaction():
            self._rows.remove(generation)
            self.supersede(generation)
            self._db.after_commit(lambda: self._unlink(generation))

    def clean_bytes(self) -> int:
        """How much of the disk the clean generations take."""
        held = self._rows.clean_bytes()
        opened = [file for file in self._opened.all() if file.base is not None and file.state is State.CLEAN]
        # What is fetched into an open file is noted when it is closed.
        return held + sum(file.fetched_bytes for file in opened)

    def being_written(self) -> tuple[int, int]:
        """How many generations are open and changed, and their bytes."""
        sizes = [file.size_bytes for file in self._opened.all() if file.state is State.OPEN]
        return len(sizes), sum(sizes)

    @property
    def filled_bytes(self) -> int:
        """How much has been fetched from Drive since this process began."""
        return self._opened.filled_bytes

    @property
    def sent_bytes(self) -> int:
        """How much uploads have read since this process began; more or less, for whoever looks for headway."""
        return self._opened.sent_bytes

    def in_use(self) -> Iterator[ContentFile]:
        """The files that are open and not all here, each with a use of it that the caller gives back."""
        return (file for file in self._opened.all() if file.base is not None and file.use())

    def growing(self, size_bytes: int) -> list[ContentFile]:
        """The OPEN generations of which at least that much is written from the beginning on."""
        return [
            file for file in self._opened.all() if file.state is State.OPEN and file.written_ahead_bytes >= size_bytes
        ]

    def drop_unused(self, generation: Generation) -> bool:
        """Forget a CLEAN generation and its bytes unless somebody has it open; whether it is gone."""
        with self._db.transaction(), self._opened.lock:
            if self._opened.find(generation) is not None:
                return False
            self.discard(generation)
            return True

    def _unlink(self, generation: Generation) -> None:
        self._path(generation).unlink(missing_ok=True)

    def least_recently_used(self) -> list[tuple[Generation, Inode, int]]:
        """Clean generations as (generation, inode, bytes here), the one not used for longest first."""
        return self._rows.least_recently_used()

    def sync(self) -> None:
        """Flush everything that was written before the call. Holds no lock meanwhile."""
        with self._lock:
            closed, self._closed_unsynced = self._closed_unsynced, set()
        # With a use of each, so that none is closed under the flush.
        opened = [file for file in self._opened.all() if file.unsynced and file.use()]
        try:
            if len(closed) + len(opened) > SYNC_ALL_ABOVE:
                sync_disk(self._folder_fd)
                return
            for file in opened:
                file.sync()
            for generation in closed:
                self._sync_closed(generation)
            os.fsync(self._folder_fd)
        except (OSError, CacheDamaged) as error:
            with self._lock:
                self._closed_unsynced |= closed
            raise CacheDamaged(f"The cache could not be flushed to the disk: {error}") from error
        finally:
            for file in opened:
                file.close()

    def _sync_closed(self, generation: Generation) -> None:
        try:
            fd = os.open(self._path(generation), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return  # discarded meanwhile
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def close(self) -> None:
        os.close(self._folder_fd)
