"""The local content files: one file a generation, written by the mount, read by the uploader.

Only CLEAN generations may be evicted. Any thread may enter. Locks are taken in one order: a file's lock, the
database's, that of the table of open files. Durable when: the record (a row of `generations`) is committed before
the first byte; the bytes outlive the process as soon as write(2) returns, and a power cut after `ContentFile.sync`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Held:
    """What a sync point takes hold of when it begins."""

    opened: list[ContentFile]
    """With a use of each, so that none is closed under the flush."""
    open: list[ContentFile]
    """Those that were OPEN."""
    written_unseen: frozenset[Generation]
    closed: set[Generation]
    """Closed, and not flushed since they were written."""
    dropped: list[Generation]
    all: bool
    """Nobody knows what is flushed."""

    @property
    def any(self) -> bool:
        """Whether there is anything to flush or to remove."""
        return bool(self.all or self.closed or self.dropped or any(file.unsynced for file in self.opened))

    def close(self) -> None:
        for file in self.opened:
            file.close()


class ContentStore:
    """The folder of content files."""

    def __init__(self, db: Database, folder: Path) -> None:
        self._db = db
        self._folder = folder
        folder.mkdir(mode=0o700, exist_ok=True)
        self._rows = Generations(db)
        self.sent_ahead = self._rows.sent_ahead
        self._opened = OpenFiles(db, self._rows)
        self._points = db.points
        # Guarded by the database's lock:
        self._dropped: list[Generation] = []  # since the last sync point began
        self._unlinked: list[Generation] = []  # with their rows in `dropped` still there
        self._clean_since: dict[Generation, int] = {}  # the sync point that was current when it became CLEAN
        # What a process before this one has flushed is not known.
        self._all_unsynced = self._rows.any_dirty()
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
                file.reach_point(empty=True)
                if size_bytes:
                    os.ftruncate(fd, size_bytes)
            except OSError as error:
                raise CacheFull(f"The cache cannot hold a new file: {error.strerror}.") from error
            file.unsynced = state is not State.CLEAN
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
                file.unsynced = True
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
        """The kernel writes it from now on (or, with -1, one writer less does so). Waits for the disk at first, but
        not where the file is new."""
        if count > 0:
            file.note_change(flush=file.must_note(0))
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
            if state is State.CLEAN:
                self._clean_since[generation] = self._points.current

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

    # --- recovery: nobody else has entered yet ---

    def cut(self, generation: Generation, size_bytes: int) -> None:
        """Drop what lies behind `size_bytes`, if anything does."""
        status = self.find_status(generation)
        if status is not None and status.st_size > size_bytes:
            os.truncate(self._path(generation), size_bytes)
            os.utime(self._path(generation), ns=(status.st_atime_ns, status.st_mtime_ns))

    def remove_fetched(self, changed: frozenset[Generation]) -> None:
        """After a power cut: forget the CLEAN content that was only fetched, which nobody has flushed; what is in
        `changed` becomes an orphan, for it may have something new too."""
        for generation in self._rows.fetched():
            with self._db.transaction():
                self._rows.forget(generation)
                if generation not in changed:
                    self._db.after_commit(lambda generation=generation: self._unlink(generation))  # type: ignore[misc]
        for generation in self._rows.clean():
            if generation in changed or self.find_status(generation) is None:
                self._rows.forget(generation)

    def unlink_dropped(self) -> None:
        """Remove the files that no sync point has seen to."""
        for generation in self._rows.dropped():
            self._dropped = [each for each in self._dropped if each != generation]
            self._unlink(generation)
            self._unlinked.append(generation)

    def orphans(self) -> list[Path]:
        """Files that no record knows."""
        known = self._rows.all()
        return [Path(entry.path) for entry in os.scandir(self._folder) if entry.name not in known]

    # --- room ---

    def discard(self, generation: Generation) -> None:
        """Forget a generation; whoever has it open may still read it. Its bytes go after the next sync point: until
        then a power cut brings it back."""
        with self._db.transaction():
            self._rows.drop(generation)
            self.supersede(generation)
            self._dropped.append(generation)
            self._db.if_undone(lambda: self._dropped.remove(generation))

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
        """The files that are open and not all here, each with a use of it that the caller gives back; but for those
        that a power cut would have sent once more."""
        return (
            file
            for file in self._opened.all()
            if file.base is not None and not self._is_needed(file.generation) and file.use()
        )

    def _is_needed(self, generation: Generation) -> bool:
        """Whether it became CLEAN after the last sync point: for that one it still waits for Drive."""
        last = self._points.last
        return self._clean_since.get(generation, -1) >= (last.number if last is not None else 0)

    def growing(self, size_bytes: int) -> list[ContentFile]:
        """The OPEN generations of which at least that much is written from the beginning on."""
        return [
            file for file in self._opened.all() if file.state is State.OPEN and file.written_ahead_bytes >= size_bytes
        ]

    def drop_unused(self, generation: Generation) -> bool:
        """Forget a CLEAN generation and its bytes unless somebody has it open; whether it is gone. What became CLEAN
        after the last sync point stays: a power cut would have it sent again."""
        with self._db.transaction(), self._opened.lock:
            if self._opened.find(generation) is not None or self._is_needed(generation):
                return False
            self._rows.remove(generation)
            self._db.after_commit(lambda: self._unlink(generation))
            return True

    def _unlink(self, generation: Generation) -> None:
        self._path(generation).unlink(missing_ok=True)

    def least_recently_used(self) -> list[tuple[Generation, Inode, int]]:
        """Clean generations as (generation, inode, bytes here), the one not used for longest first."""
        return self._rows.least_recently_used()

    # --- sync points ---

    def begin_point(self) -> Held:
        """Take hold of what a sync point must flush; the caller holds the database's lock, gives it to `flush`, and
        closes it."""
        opened = [file for file in self._opened.all() if file.use()]
        with self._opened.lock:
            closed, self._opened.closed_unsynced = self._opened.closed_unsynced, set()
        dropped, self._dropped = self._dropped, []
        return Held(
            opened,
            [file for file in opened if file.state is State.OPEN],
            frozenset(file.generation for file in opened if file.direct_writers),
            closed,
            dropped,
            self._all_unsynced,
        )

    def forget_unlinked(self) -> None:
        """What the last sync point unlinked is no longer noted: this one makes that durable too."""
        if self._unlinked:
            self._rows.forget_dropped(self._unlinked)
            self._db.after_commit(self._unlinked.clear)

    def flush(self, held: Held) -> dict[Generation, int]:
        """Flush what was written before the point; returns the sizes of the OPEN ones as of then. Holds no lock while
        it waits. Raises CacheDamaged; the next one flushes it all again."""
        # Who was writing when the point began is done when its lock can be had, so that is flushed too.
        sizes = {file.generation: file.reach_point() for file in held.open}
        unsynced = [file for file in held.opened if file.begin_sync()]
        try:
            if held.all or len(held.closed) + len(unsynced) > SYNC_ALL_ABOVE:
                sync_disk(self._folder_fd)
            else:
                for file in unsynced:
                    os.fsync(file.fd)
                for generation in held.closed:
                    self._sync_closed(generation)
                os.fsync(self._folder_fd)
        except OSError as error:
            for file in unsynced:
                file.unsynced = True
            raise CacheDamaged(f"The cache could not be flushed to the disk: {error.strerror}.") from error
        return sizes

    def end_point(self, held: Held) -> None:
        """The point is on the disk: what was dropped before it goes."""
        if held.all:
            self._all_unsynced = False
        for generation in held.dropped:
            self._unlink(generation)
        last = self._points.last
        with self._db.transaction_lock():
            self._unlinked += held.dropped
            if last is not None:
                self._clean_since = {each: at for each, at in self._clean_since.items() if at >= last.number}

    def give_back(self, held: Held) -> None:
        """The point has failed: the next one sees to all of it."""
        with self._db.transaction_lock():
            self._dropped = held.dropped + self._dropped
            with self._opened.lock:
                self._opened.closed_unsynced |= held.closed

    @property
    def has_room_coming(self) -> bool:
        """Whether the next sync point makes room."""
        return bool(self._dropped or self._clean_since)

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
