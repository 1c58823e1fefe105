"""The local content files: one file a generation, written by the mount, read by the uploader.

A generation is OPEN while it may change, SEALED while Drive does not have it and it no longer changes, and CLEAN
when it is a copy of a revision on Drive. Only CLEAN ones may be evicted. Size and modification time of an open
generation are those of its file, so they are right after a crash too, and where the kernel writes past us.

Any thread may enter. Locks are taken in one order: a file's lock, the database's, the store's. Durable
when: the record (a row of `generations`) is committed before the first byte; the
bytes outlive the process as soon as write(2) returns, and a power cut after `ContentFile.sync`.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import threading
import time
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from drivefs.errors import CacheDamaged, CacheFull, Changing, Superseded
from drivefs.model import DriveId, Generation, Inode, RevisionId
from drivefs.store.db import Database
from drivefs.store.ranges import Ranges

COPY_LIMIT_BYTES = 64 << 20
"""Up to this size a generation that is on its way to Drive is copied when it is changed in place; above it the
upload is given up for the newer content. The copy costs a system call some 50 ms at this size."""

COPY_TRIES = 3
"""For a copy of a file that the kernel writes at the same time."""

TICK_S = 0.02
"""File times move in steps; the longest is 10 ms (a kernel with CONFIG_HZ_100)."""

SYNC_ALL_ABOVE = 32
"""More files than this are flushed by one syncfs(2) of the cache's disk: 1,000 small files must not cost 1,000
flushes."""

_SYNC_FILE_RANGE_WRITE = 2  # sync_file_range(2)
_FICLONE = 0x40049409  # ioctl_ficlone(2)


_HELD_BYTES = (
    "CASE WHEN whole THEN size_bytes ELSE"
    " (SELECT TOTAL(stop - start) FROM ranges r WHERE r.generation = g.generation) END"
)
"""What a row of `generations` has on the disk."""


class State(Enum):
    """Of a generation. The values are stored."""

    OPEN = "open"
    SEALED = "sealed"
    CLEAN = "clean"


@dataclass(frozen=True, slots=True)
class Base:
    """The revision on Drive that a generation's missing bytes come from."""

    drive_id: DriveId
    revision: RevisionId


class ContentFile:
    """One generation, opened once for all who use it.

    `lock` guards `base` and `ranges` and orders writes against fills; it is held for one disk access at most.
    """

    def __init__(
        self, store: ContentStore, generation: Generation, inode: Inode, state: State, base: Base | None
    ) -> None:
        self.generation = generation
        self.inode = inode
        self.lock = threading.RLock()
        self._store = store
        self._fd = -1
        self._users = 0  # guarded by the store's lock
        # Guarded by lock:
        self.base = base  # None: every byte that the file has is right
        self.ranges = Ranges()  # meaningful while base is set
        self.fetched_bytes = 0  # of `ranges`, from Drive since they were saved
        self.unsynced = False
        self._was_clean_as: tuple[int, int, int] | None = None  # what `fingerprint` was when CLEAN became OPEN
        # Guarded by the database's lock:
        self.direct_writers = 0  # through whom the kernel may write it, unseen
        self.state = state
        self.claims = 0
        self.claim_epoch = 0  # grows when the content is taken back from uploads

    @property
    def fd(self) -> int:
        """The open file, for those who hand it to the kernel."""
        return self._fd

    @property
    def users(self) -> int:
        """How many uses of it there are at this moment."""
        return self._users

    @property
    def size_bytes(self) -> int:
        return os.fstat(self._fd).st_size

    @property
    def mtime_ns(self) -> int:
        return os.fstat(self._fd).st_mtime_ns

    def set_mtime(self, mtime_ns: int) -> None:
        """Not a change of the content: what was untouched before is so afterwards."""
        untouched = self.untouched
        os.utime(self._fd, ns=(mtime_ns, mtime_ns))
        if untouched:
            self.watch()

    def fingerprint(self) -> tuple[int, int, int]:
        """Differs after any write that came after an earlier call: the kernel gives those a later time (since Linux
        6.13 always, before if they are a tick of some 4 ms apart). Stores into a map count once they are flushed."""
        status = os.fstat(self._fd)
        return status.st_size, status.st_mtime_ns, status.st_ctime_ns

    def watch(self) -> None:
        """From now on tell by `untouched` whether the content was changed."""
        self._was_clean_as = self.fingerprint()

    @property
    def untouched(self) -> bool:
        """Whether it is OPEN, was CLEAN before, and has not been changed."""
        return self._was_clean_as is not None and self._was_clean_as == self.fingerprint()

    def forget_fingerprint(self) -> None:
        self._was_clean_as = None

    def gaps(self, start: int, stop: int) -> list[tuple[int, int]]:
        """What of [start, stop) must be fetched before it can be read."""
        with self.lock:
            if self.base is None:
                return []
            return self.ranges.gaps(start, min(stop, self.size_bytes))

    def read(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes; the caller has filled the gaps. Raises CacheDamaged."""
        try:
            return os.pread(self._fd, length, offset)
        except OSError as error:
            raise CacheDamaged(f"Content file {self.generation} cannot be read: {error.strerror}.") from error

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Like `read`, into the caller's memory; returns how many bytes there were. Raises CacheDamaged."""
        try:
            return os.preadv(self._fd, [buffer], offset)
        except OSError as error:
            raise CacheDamaged(f"Content file {self.generation} cannot be read: {error.strerror}.") from error

    def write(self, offset: int, data: bytes | memoryview) -> int:
        """Write all of `data` into an OPEN generation. Raises CacheFull; what fitted then stays."""
        with self.lock:
            self.forget_fingerprint()
            size = self.size_bytes
            done = 0
            view = memoryview(data)
            if self.base is not None and offset + len(view) > size:
                # The base has nothing to say of what lies beyond the end: recorded before it comes to be, or a crash
                # between would have it asked for.
                self._record(size, offset + len(view))
            try:
                while done < len(view):
                    done += os.pwrite(self._fd, view[done:], offset + done)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise CacheFull("The disk of the cache is full.") from error
                raise CacheDamaged(f"Content file {self.generation} cannot be written: {error}.") from error
            finally:
                self.unsynced = True
                if self.base is not None and done:
                    # The bytes come before their record: a crash between leaves the old content, not a hole.
                    self._record(offset, min(offset + done, size))
            return done

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
            self.forget_fingerprint()
            if self.base is not None and size < old:
                self.ranges.cut(size)
                self._store.save_ranges(self)
            elif self.base is not None:
                self._record(old, size)  # before it grows, as in write
            try:
                os.ftruncate(self._fd, size)
            except OSError as error:
                raise CacheFull(f"The cache cannot hold a file of {size} bytes: {error.strerror}.") from error
            self.unsynced = True

    def _record(self, start: int, stop: int) -> None:
        if self.ranges.covers(start, stop) and not self.fetched_bytes:
            return
        self.ranges.add(start, stop)
        self._store.save_ranges(self)

    def fill(self, offset: int, data: bytes, *, settle: bool = True) -> None:
        """Put bytes fetched from the base where none are yet; local writes are never overwritten.

        `settle`: mark the file whole when nothing is missing; otherwise the caller does, once it has checked it.
        """
        with self.lock:
            if self.base is None:
                return
            mtime_ns = self.mtime_ns
            for start, stop in self.gaps(offset, offset + len(data)):
                try:
                    _write_all(self._fd, memoryview(data)[start - offset : stop - offset], start)
                except OSError as error:
                    raise CacheFull(f"The cache has no room for what is read: {error.strerror}.") from error
                self.ranges.add(start, stop)
                self.fetched_bytes += stop - start
            if self.state is State.OPEN:
                self.set_mtime(mtime_ns)
            if settle and self.ranges.covers(0, self.size_bytes):
                self._store.mark_whole(self)

    def sync(self) -> None:
        """Flush the bytes to the disk. Holds no lock meanwhile."""
        with self.lock:
            if not self.unsynced:
                return
            self.unsynced = self.direct_writers > 0
        try:
            os.fsync(self._fd)
        except OSError as error:
            with self.lock:
                self.unsynced = True
            raise CacheDamaged(f"Content file {self.generation} could not be flushed: {error}.") from error

    def use(self) -> bool:
        """Take one more use of it, given back by `close`; False when the last one was given back already."""
        return self._store.use(self)

    def close(self) -> None:
        """Give back one use of it."""
        self._store.release(self)


class Claim:
    """A sealed generation in the hands of an upload (a `drive.api.Content`). Close it when done."""

    def __init__(self, store: ContentStore, file: ContentFile) -> None:
        self._store = store
        self.file = file
        self._epoch = file.claim_epoch
        self.size_bytes = file.size_bytes

    @property
    def generation(self) -> Generation:
        return self.file.generation

    @property
    def superseded(self) -> bool:
        return self._epoch != self.file.claim_epoch

    def read_at(self, offset: int, length: int) -> bytes:
        """Bytes of the content as it was claimed. Raises Superseded."""
        data = self.file.read(offset, length)
        # Looked at after the read: nobody writes before the claim was taken back, so these bytes are the old ones.
        if self.superseded:
            raise Superseded(f"Content file {self.file.generation} was taken back.")
        return data

    def begin_sync(self) -> None:
        """Let the disk begin to write what `sync` will wait for."""
        _libc.sync_file_range(self.file.fd, 0, 0, _SYNC_FILE_RANGE_WRITE)

    def sync(self) -> None:
        self.file.sync()

    def close(self) -> None:
        self._store.release_claim(self.file)


class ContentStore:
    """The folder of content files."""

    def __init__(self, db: Database, folder: Path) -> None:
        self._db = db
        self._folder = folder
        folder.mkdir(mode=0o700, exist_ok=True)
        self._lock = threading.RLock()
        self._open: dict[Generation, ContentFile] = {}  # guarded by _lock
        self._closed_unsynced: set[Generation] = set()  # guarded by _lock
        self._folder_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def _path(self, generation: Generation) -> Path:
        return self._folder / str(generation)

    # --- opening ---

    def create(self, inode: Inode) -> ContentFile:
        """A new, empty, OPEN generation; the caller closes it."""
        return self._add(inode, State.OPEN, 0, None)

    def create_clean(self, inode: Inode, size_bytes: int, base: Base) -> ContentFile:
        """A CLEAN generation of which nothing is here yet; the caller fills and closes it."""
        file = self._add(inode, State.CLEAN, size_bytes, base)
        if size_bytes == 0:
            self.mark_whole(file)
        return file

    def _add(self, inode: Inode, state: State, size_bytes: int, base: Base | None) -> ContentFile:
        with self._db.transaction():
            cursor = self._db.run(
                "INSERT INTO generations (inode, state, size_bytes, whole, base_id, base_revision, used_ns)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    inode,
                    state.value,
                    size_bytes,
                    base is None,
                    base and base.drive_id,
                    base and base.revision,
                    time.time_ns(),
                ),
            )
            file = ContentFile(self, Generation(cursor.lastrowid or 0), inode, state, base)
            self._db.if_undone(lambda: self._take_back(file))
            try:
                file._fd = os.open(
                    self._path(file.generation), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600
                )
                if size_bytes:
                    os.ftruncate(file._fd, size_bytes)
            except OSError as error:
                raise CacheFull(f"The cache cannot hold a new file: {error.strerror}.") from error
            file.unsynced = True
            with self._lock:
                file._users = 1
                self._open[file.generation] = file
            return file

    def _take_back(self, file: ContentFile) -> None:
        """The transaction that made a generation is undone: its number will be given again."""
        with self._lock:
            self._open.pop(file.generation, None)
            file._users = 0
            fd, file._fd = file._fd, -1
        if fd >= 0:
            os.close(fd)
            self._unlink(file.generation)

    def open(self, generation: Generation) -> ContentFile:
        """A generation that exists; the caller closes it. Raises CacheDamaged."""
        with self._lock:
            file = self._open.get(generation)
            if file is not None:
                file._users += 1
                return file
        # Under the database's lock, so that nobody evicts it between its record and its file.
        with self._db.transaction_lock():
            return self._open_file(generation)

    def _open_file(self, generation: Generation) -> ContentFile:
        row = self._db.row("SELECT * FROM generations WHERE generation = ?", (generation,))
        if row is None:
            raise CacheDamaged(f"The cache has no record of content file {generation}.")
        base = None if row["whole"] else Base(DriveId(row["base_id"]), RevisionId(row["base_revision"]))
        file = ContentFile(self, generation, Inode(row["inode"]), State(row["state"]), base)
        # Nothing tells what the last user flushed; to flush once more costs little.
        file.unsynced = file.state is not State.CLEAN
        if base is not None:
            for start, stop in self._db.rows("SELECT start, stop FROM ranges WHERE generation = ?", (generation,)):
                file.ranges.add(start, stop)
        try:
            file._fd = os.open(self._path(generation), os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise CacheDamaged(f"Content file {generation} cannot be opened: {error.strerror}.") from error
        with self._lock:
            first = self._open.setdefault(generation, file)
            first._users += 1
        if first is not file:
            os.close(file._fd)
        return first

    def use(self, file: ContentFile) -> bool:
        """What ContentFile.use does."""
        with self._lock:
            if not file._users:
                return False
            file._users += 1
            return True

    def release(self, file: ContentFile) -> None:
        """What ContentFile.close does."""
        # The database's lock keeps those who open it anew from reading its ranges before they are saved.
        with self._db.transaction_lock():
            with self._lock:
                file._users -= 1
                if file._users or file._fd < 0:
                    return
                self._open.pop(file.generation, None)
            if file.state is State.CLEAN:
                with self._db.transaction():
                    used = self._db.run(
                        "UPDATE generations SET used_ns = ? WHERE generation = ?", (time.time_ns(), file.generation)
                    )
                    if used.rowcount and file.base is not None:
                        self.save_ranges(file)
        os.close(file._fd)

    def claim(self, generation: Generation) -> Claim:
        """A SEALED generation for an upload. Raises CacheDamaged, or Superseded when it is no longer sealed."""
        file = self.open(generation)
        with self._db.transaction_lock():
            if file.state is State.SEALED:
                file.claims += 1
                return Claim(self, file)
        file.close()
        raise Superseded(f"Content file {generation} is being written again.")

    def is_dirty(self, generation: Generation) -> bool:
        """Whether it is OPEN: written, or about to be."""
        row = self._db.row("SELECT state FROM generations WHERE generation = ?", (generation,))
        return row is not None and State(row[0]) is State.OPEN

    def is_claimed(self, generation: Generation) -> bool:
        """Whether an upload of it has begun. True only within the caller's transaction."""
        file = self._find_open(generation)
        return file is not None and file.claims > 0

    def release_claim(self, file: ContentFile) -> None:
        """What Claim.close does."""
        with self._db.transaction_lock():
            file.claims -= 1
        file.close()

    # --- states ---

    def reopen(self, file: ContentFile, mtime_ns: int, *, in_place: bool = False) -> ContentFile:
        """Make a generation writable: itself, or a copy where an upload still reads it. Returns the OPEN one.

        `in_place`: always itself, for the kernel has it; the upload is given up then.

        The caller holds a use of `file`, which is given back when another is returned, and the only right to call
        this for its inode. Commits before the first byte can change, so that a crash finds it dirty.
        """
        with self._db.transaction():
            if file.state is State.OPEN:
                return file
            claimed = file.claims > 0
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
        file = self._find_open(generation)
        return file is not None and file.direct_writers > 0

    def add_direct_writer(self, file: ContentFile, count: int = 1) -> None:
        """The kernel writes it from now on (or, with -1, one writer less does so)."""
        with self._db.transaction_lock():
            file.direct_writers += count
            file.unsynced = True

    def _copy(self, file: ContentFile, limit_bytes: int | None = COPY_LIMIT_BYTES) -> ContentFile | None:
        size = file.size_bytes
        copy = self._add(file.inode, State.OPEN, 0, file.base)
        copy.ranges = Ranges(file.ranges)
        try:
            fcntl.ioctl(copy.fd, _FICLONE, file.fd)
        except OSError:
            # This filesystem does not share blocks between files.
            if limit_bytes is not None and size > limit_bytes:
                self.discard(copy.generation)
                copy.close()
                return None
            try:
                _copy_bytes(file.fd, copy.fd, size)
            except OSError as error:
                self.discard(copy.generation)
                copy.close()
                raise CacheFull(f"The cache has no room for a copy: {error.strerror}.") from error
        if copy.base is not None:
            self.save_ranges(copy)
        return copy

    def seal(self, file: ContentFile) -> None:
        """OPEN → SEALED: it no longer changes."""
        self._set_state(file, State.SEALED)

    def mark(self, generation: Generation, state: State) -> None:
        """SEALED → CLEAN when Drive has it; CLEAN → SEALED when it must be sent once more, to another file."""
        with self._db.transaction():
            file = self._find_open(generation)
            if file is not None:
                before, file.state = file.state, state
                self._db.if_undone(lambda: setattr(file, "state", before))
            self._db.run(
                "UPDATE generations SET state = ?, used_ns = ? WHERE generation = ?",
                (state.value, time.time_ns(), generation),
            )

    def supersede(self, generation: Generation) -> None:
        """Take a generation back from its upload, if there is one under way."""
        with self._db.transaction_lock():
            file = self._find_open(generation)
            if file is not None:
                file.claim_epoch += 1

    def _find_open(self, generation: Generation) -> ContentFile | None:
        with self._lock:
            return self._open.get(generation)

    def state(self, generation: Generation) -> State:
        """Raises CacheDamaged when there is no such generation."""
        row = self._db.row("SELECT state FROM generations WHERE generation = ?", (generation,))
        if row is None:
            raise CacheDamaged(f"The cache has no record of content file {generation}.")
        return State(row[0])

    def is_whole(self, generation: Generation) -> bool:
        """Whether every byte of it is here."""
        row = self._db.row("SELECT whole FROM generations WHERE generation = ?", (generation,))
        return row is not None and bool(row[0])

    def _set_state(self, file: ContentFile, state: State) -> None:
        with self._db.transaction():
            self._db.run(
                "UPDATE generations SET state = ?, size_bytes = ? WHERE generation = ?",
                (state.value, file.size_bytes, file.generation),
            )
            before, file.state = file.state, state
            self._db.if_undone(lambda: setattr(file, "state", before))

    def mark_whole(self, file: ContentFile) -> None:
        """Every byte is here: nothing of it needs the base any more."""
        with file.lock, self._db.transaction():
            file.base = None
            self._db.run("UPDATE generations SET whole = 1 WHERE generation = ?", (file.generation,))
            self._db.run("DELETE FROM ranges WHERE generation = ?", (file.generation,))

    def empty(self, file: ContentFile) -> None:
        """What was fetched of a CLEAN generation is wrong: nothing of it is here any more."""
        with file.lock:
            file.ranges = Ranges()
            self.save_ranges(file)

    def save_ranges(self, file: ContentFile) -> None:
        with self._db.transaction():
            self._db.run("DELETE FROM ranges WHERE generation = ?", (file.generation,))
            for start, stop in file.ranges:
                self._db.run("INSERT INTO ranges VALUES (?, ?, ?)", (file.generation, start, stop))
        file.fetched_bytes = 0

    def find_status(self, generation: Generation) -> os.stat_result | None:
        """Of a content file, open or not; None when it is missing."""
        try:
            return os.stat(self._path(generation))
        except FileNotFoundError:
            return None

    def set_size(self, generation: Generation, size_bytes: int) -> None:
        self._db.run("UPDATE generations SET size_bytes = ? WHERE generation = ?", (size_bytes, generation))

    # --- room ---

    def discard(self, generation: Generation) -> None:
        """Forget a generation and its bytes; whoever has it open may still read it."""
        with self._db.transaction():
            self._db.run("DELETE FROM generations WHERE generation = ?", (generation,))
            self._db.run("DELETE FROM ranges WHERE generation = ?", (generation,))
            self.supersede(generation)
            self._db.after_commit(lambda: self._unlink(generation))

    def clean_bytes(self) -> int:
        """How much of the disk the clean generations take."""
        row = self._db.row(
            f"SELECT TOTAL({_HELD_BYTES}) FROM generations g WHERE state = ?",
            (State.CLEAN.value,),
        )
        assert row is not None
        with self._lock:
            opened = [file for file in self._open.values() if file.base is not None and file.state is State.CLEAN]
        # What is fetched into an open file is noted when it is closed.
        return int(row[0]) + sum(file.fetched_bytes for file in opened)

    def being_written(self) -> tuple[int, int]:
        """How many generations are open and changed, and their bytes."""
        with self._lock:
            sizes = [file.size_bytes for file in self._open.values() if file.state is State.OPEN]
        return len(sizes), sum(sizes)

    def drop_unused(self, generation: Generation) -> bool:
        """Forget a CLEAN generation and its bytes unless somebody has it open; whether it is gone."""
        with self._db.transaction(), self._lock:
            if generation in self._open:
                return False
            self.discard(generation)
            return True

    def _unlink(self, generation: Generation) -> None:
        self._path(generation).unlink(missing_ok=True)

    def least_recently_used(self) -> list[tuple[Generation, Inode, int]]:
        """Clean generations as (generation, inode, bytes here), the one not used for longest first."""
        return [
            (Generation(row[0]), Inode(row[1]), int(row[2]))
            for row in self._db.rows(
                f"SELECT generation, inode, {_HELD_BYTES} FROM generations g WHERE state = ? ORDER BY used_ns",
                (State.CLEAN.value,),
            )
        ]

    def sync(self) -> None:
        """Flush everything that was written before the call. Holds no lock meanwhile."""
        with self._lock:
            closed, self._closed_unsynced = self._closed_unsynced, set()
            # With a use of each, so that none is closed under the flush.
            opened = [file for file in self._open.values() if file.unsynced and file.use()]
        try:
            if len(closed) + len(opened) > SYNC_ALL_ABOVE:
                _libc.syncfs(self._folder_fd)
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


def _load_libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)

    def check(result: int, _function: object, _arguments: object) -> int:
        if result != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return result

    libc.sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    for function in (libc.syncfs, libc.sync_file_range):
        function.errcheck = check  # type: ignore[assignment]  # ctypes' own type for it is narrower than its manual
    return libc


_libc = _load_libc()


def _write_all(fd: int, data: memoryview, offset: int) -> None:
    """pwrite(2) until all of it is written: on a disk that is getting full it may stop halfway."""
    done = 0
    while done < len(data):
        done += os.pwrite(fd, data[done:], offset + done)


def _copy_bytes(source_fd: int, target_fd: int, size: int) -> None:
    done = 0
    while done < size:
        copied = os.copy_file_range(source_fd, target_fd, size - done, done, done)
        if copied == 0:
            raise OSError(errno.EIO, "The content file is shorter than it was")
        done += copied
