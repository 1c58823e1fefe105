"""The local content files: one file a generation, written by the mount, read by the uploader.

Only CLEAN generations may be evicted. Any thread may enter. Locks are taken in one order: a file's lock, the
database's, that of the table of open files. Durable when: the record (a row of `generations`) is committed before
the first byte; the bytes outlive the process as soon as write(2) returns, and a power cut after `ContentFile.sync`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from drivefs.errors import CacheDamaged, CacheFull, Changing, Superseded
from drivefs.model import Generation, Inode
from drivefs.store.claim import Claim
from drivefs.store.content_file import ContentFile
from drivefs.store.content_points import ContentPoints
from drivefs.store.copies import COPY_LIMIT_BYTES, copy_bytes_of, is_written_elsewhere, settled_fingerprint
from drivefs.store.db import Database
from drivefs.store.generations import Base, Generations, State
from drivefs.store.leftovers import Leftovers
from drivefs.store.open_files import OpenFiles
from drivefs.store.ranges import Ranges

COPY_TRIES = 3
"""For a copy of a file that the kernel writes at the same time."""


class ContentStore:
    """The folder of content files."""

    def __init__(self, db: Database, folder: Path) -> None:
        self._db = db
        self._folder = folder
        folder.mkdir(mode=0o700, exist_ok=True)
        self._rows = Generations(db)
        self.sent_ahead = self._rows.sent_ahead
        self._opened: OpenFiles[ContentFile] = OpenFiles(db, self._rows)
        self.points = ContentPoints(db, self._rows, self._opened, folder)
        self.leftovers = Leftovers(db, self._rows, self.points, folder)

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
                file.kept_bytes = size_bytes if state is State.CLEAN else None
                file.is_new()
            except OSError as error:
                raise CacheFull(f"The cache cannot hold a new file: {error.strerror}.") from error
            file.unsynced = state is not State.CLEAN
            return file

    def _take_back(self, file: ContentFile) -> None:
        """The transaction that made a generation is undone: its number will be given again."""
        if self._opened.take_back(file):
            self.points.unlink(file.generation)

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
            file.kept_bytes = row["size_bytes"] if file.state is not State.OPEN else None
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
        return self._rows.is_in(generation, State.OPEN)

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
                before = settled_fingerprint(file) if file.direct_writers else None
                copy = self._copy(file, limit_bytes=None)
                assert copy is not None
                if before is None or before == file.fingerprint():
                    copy.set_mtime(file.mtime_ns)
                    self._set_state(copy, State.SEALED)
                    return copy
            self.discard(copy.generation)
            copy.close()
        raise Changing(f"Content file {file.generation} is written without a pause.")

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
            if count > 0:
                file.suspend_checks()
            elif not file.direct_writers and file.state is State.CLEAN:
                self._resume_checks(file)
            file.was_direct = True
            file.unsynced = True

    def _copy(self, file: ContentFile, limit_bytes: int | None = COPY_LIMIT_BYTES) -> ContentFile | None:
        copy = self._add(file.inode, State.OPEN, 0, file.base)
        copy.ranges = Ranges(file.ranges)
        copy.copy_checksums(file)
        copied = False
        try:
            copied = copy_bytes_of(file, copy, limit_bytes)
        finally:
            if not copied:
                self.discard(copy.generation)
                copy.close()
        if not copied:
            return None
        if copy.base is not None:
            copy.save_ranges()
        return copy

    def is_written_elsewhere(self, generation: Generation) -> bool:
        """Whether somebody writes a generation that is not open here: a program that had it open by passthrough when
        the processes of its mount died. What the kernel has only not let go of yet is waited for."""
        return is_written_elsewhere(self._path(generation))

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
                self.points.became_clean(generation)

    def leave_unchanged(self, file: ContentFile) -> None:
        """OPEN → CLEAN: nothing was written to it after all."""
        with self._db.transaction():
            file.forget_fingerprint()
            self.mark(file.generation, State.CLEAN)
            file.kept_bytes = file.size_bytes
            if not file.direct_writers:
                self._resume_checks(file)

    def _resume_checks(self, file: ContentFile) -> None:
        """It was opened for writing, and is a copy of Drive's again."""
        with self._db.transaction():
            file.resume_checks()
            file.save_checksums()

    def published(self, claim: Claim, source: Base) -> None:
        """SEALED → CLEAN: Drive has it, as this revision."""
        with self._db.transaction():
            self.mark(claim.generation, State.CLEAN)
            claim.keep_checksums(source)

    def supersede(self, generation: Generation) -> None:
        """Take a generation back from its upload, if there is one under way."""
        with self._db.transaction_lock():
            file = self._opened.find(generation)
            if file is not None:
                file.claim_epoch += 1

    def is_copy(self, generation: Generation) -> bool:
        """Whether it is CLEAN: Drive has all of it."""
        return self._rows.is_in(generation, State.CLEAN)

    def state(self, generation: Generation) -> State:
        """Raises CacheDamaged when there is no such generation."""
        return State(self._rows.get(generation)["state"])

    def is_whole(self, generation: Generation) -> bool:
        """Whether every byte of it is here."""
        return self._rows.is_whole(generation)

    def _set_state(self, file: ContentFile, state: State) -> None:
        with self._db.transaction():
            size_bytes = file.size_bytes
            self._rows.set_state(file.generation, state, size_bytes)
            before, file.state = file.state, state
            self._db.if_undone(lambda: setattr(file, "state", before))
            file.kept_bytes = None if state is State.OPEN else size_bytes
            if state is State.SEALED:
                file.drop_suspended()
            if file.base is None or state is State.OPEN:
                file.save_checksums()

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
        """Forget a generation; whoever has it open may still read it. Its bytes go after the next sync point: until
        then a power cut brings it back."""
        with self._db.transaction():
            self._rows.drop(generation)
            self.supersede(generation)
            self.points.drop(generation)

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
    def damaged_blocks(self) -> int:
        """How many blocks of what Drive has the disk was found to have damaged, since this process began."""
        return self._opened.damaged_blocks

    @property
    def mended_blocks(self) -> int:
        """How many of them are right again, or not here any more."""
        return self._opened.mended_blocks

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
            if file.base is not None and not self.points.is_needed(file.generation) and file.use()
        )

    def growing(self, size_bytes: int) -> list[ContentFile]:
        """The OPEN generations of which at least that much is written from the beginning on."""
        return [
            file for file in self._opened.all() if file.state is State.OPEN and file.written_ahead_bytes >= size_bytes
        ]

    def drop_unused(self, generation: Generation) -> bool:
        """Forget a CLEAN generation and its bytes unless somebody has it open; whether it is gone. What became CLEAN
        after the last sync point stays: a power cut would have it sent again."""
        with self._db.transaction(), self._opened.lock:
            if self._opened.find(generation) is not None or self.points.is_needed(generation):
                return False
            self._rows.remove(generation)
            self._db.after_commit(lambda: self.points.unlink(generation))
            return True

    def least_recently_used(self) -> list[tuple[Generation, Inode, int]]:
        """Clean generations as (generation, inode, bytes here), the one not used for longest first."""
        return self._rows.least_recently_used()
