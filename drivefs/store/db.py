"""The cache's database: one SQLite file with the tree, the content files' records and the journal.

Any thread may enter. One connection serves them all under one lock, held for the few microseconds that a
transaction takes: no network and no disk flush happens under it.

What is durable when: a committed transaction outlives the process (write-ahead log, `synchronous=NORMAL`). It
outlives a power cut with the next sync point (store.sync_points): for that `sync()` flushes the log without the lock.
What came after the last point is cut off the log here, before SQLite reads it. So no checkpoint may take it into the
database: each is bounded by a reader that `begin_checkpoint` puts where the point is. Checkpoints are made by the
housekeeping thread and never by a system call, for they flush too.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import sqlite3
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

from drivefs.errors import CacheDamaged, CacheFull, CacheInUse, DatabaseDamaged, StoreError
from drivefs.store.schema import SCHEMA, SCHEMA_VERSION, upgrade
from drivefs.store.sync_points import Position, SyncPoints, read_boot_id

RESERVE_BYTES = 8 << 20
"""Size of the log from the start: on a full disk there is still room for the records of what is removed, and of what
Drive has got, which is what makes room again. It is used anew after each checkpoint."""

LONG_LOG_BYTES = 64 << 20
"""A log of this size is moved into the database by who fills it; reading it takes a mount 0.2 s after a crash."""
CHECKED_BYTES = 64 << 20
"""A database up to this size is looked through whenever it is opened, which takes some 0.2 s; a larger one after a
power cut."""

_INDEX_FRAMES = slice(16, 20)  # sqlite.org/walformat.html, "The WAL-Index Header": mxFrame, in native byte order …
_INDEX_SALT = slice(32, 40)  # … and aSalt, as it stands in the log


class _Transaction(AbstractContextManager[None]):
    """There are dozens for a file that is made: no generator for each."""

    __slots__ = ("_begin", "_end")

    def __init__(self, begin: Callable[[], None], end: Callable[[BaseException | None], None]) -> None:
        self._begin = begin
        self._end = end

    def __enter__(self) -> None:
        self._begin()

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        self._end(error)


class Database:
    """One cache folder's database, and the lock that keeps other processes out of the folder."""

    def __init__(self, folder: Path, boot_id: Callable[[], str] = read_boot_id) -> None:
        """Open or create it, as of the last sync point if the machine was started anew since. Raises CacheInUse,
        CacheDamaged, CacheFull, or StoreError when the folder cannot be used."""
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock_fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError(f"The cache folder {folder} cannot be used: {error.strerror}.") from error
        try:
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(lock_fd)
            raise CacheInUse(f"The cache folder {folder} is in use by another mount.") from error
        self._resources = ExitStack()
        self._resources.callback(os.close, lock_fd)
        self._lock = threading.RLock()
        self._depth = 0  # guarded by _lock
        self._transaction = _Transaction(self._begin, self._end)
        self._after_rollback: list[Callable[[], None]] = []
        self._after_commit: list[Callable[[], None]] = []  # guarded by _lock
        self._if_undone: list[Callable[[], None]] = []  # guarded by _lock
        path = folder / "drivefs.db"
        self.ahead: Path | None = None
        """After a power cut: the database as it was found, with what is not trusted."""
        try:
            self.points = SyncPoints(folder, boot_id)
            self._resources.callback(self.points.close)
            self.was_cut = self.points.was_cut
            if self.was_cut:
                self._cut(path)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._connection = sqlite3.connect(
                path, isolation_level=None, check_same_thread=False, cached_statements=256
            )
            closed_last = self._resources.enter_context(ExitStack())
            self._resources.callback(self._connection.close)
            self._prepare()
            self._wal_fd = os.open(f"{path}-wal", os.O_RDWR | os.O_CLOEXEC)
            self._resources.callback(os.close, self._wal_fd)
            self._connection.execute(f"PRAGMA journal_size_limit = {RESERVE_BYTES}")
            # To close it gives back all locks on it that this process has, SQLite's too: fcntl_locking(2).
            self._index_fd = os.open(f"{path}-shm", os.O_RDONLY | os.O_CLOEXEC)
            closed_last.callback(os.close, self._index_fd)
            os.posix_fallocate(self._wal_fd, 0, RESERVE_BYTES)
            self._reader = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._resources.callback(self._reader.close)
        except BaseException as error:
            self._resources.close()
            raise _cannot_open(folder, path, error) from error
        self._path = path

    def _cut(self, path: Path) -> None:
        """Keep a copy for those who look for what was lost, and cut the log off at the last sync point."""
        log = path.with_name(f"{path.name}-wal")
        ahead = path.with_name("ahead.db")
        if log.exists():
            for source, target in ((path, ahead), (log, ahead.with_name("ahead.db-wal"))):
                shutil.copy(source, target)
        if self.points.cut_log(log):
            self.ahead = ahead

    def forget_ahead(self) -> None:
        """Remove the copy of the database as it was found after a power cut."""
        for path in self.folder.glob("ahead.db*"):
            path.unlink()
        self.ahead = None

    def _prepare(self) -> None:
        self._connection.row_factory = sqlite3.Row
        for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "wal_autocheckpoint = 0", "cache_size = -8192"):
            self._connection.execute(f"PRAGMA {pragma}")
        version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        path = self.folder / "drivefs.db"
        if self.was_cut or path.stat().st_size <= CHECKED_BYTES:
            self._check()
        if version == 0:
            self._connection.executescript(f"BEGIN; {SCHEMA}; PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
        elif version != SCHEMA_VERSION:
            upgrade(self._connection, version)
        # The log must exist before anyone flushes it.
        with self.transaction():
            self._connection.execute("INSERT OR REPLACE INTO settings VALUES ('opened', datetime('now'))")

    def transaction(self) -> AbstractContextManager[None]:
        """All or nothing, for the calls made in it by this thread; may be nested. Other threads wait.

        Raises CacheFull when the disk has no room for it; then nothing of it has happened.
        """
        return self._transaction

    def _begin(self) -> None:
        self._lock.acquire()
        if not self._depth:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
            except BaseException:
                self._lock.release()
                raise
        self._depth += 1

    def _end(self, error: BaseException | None) -> None:
        actions: list[Callable[[], None]] = []
        try:
            if self._depth > 1:
                return
            if error is None:
                try:
                    self._connection.execute("COMMIT")
                except BaseException as caught:
                    self._undo(caught)
                    raise
                actions, self._after_commit = self._after_commit, []
            else:
                self._undo(error)
        finally:
            self._depth -= 1
            if not self._depth:
                self._if_undone.clear()
            self._lock.release()
        for action in actions:
            action()

    def _undo(self, error: BaseException) -> None:
        # On a full disk SQLite may have rolled back by itself.
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
        self._after_commit.clear()
        for forget in self._after_rollback:
            forget()
        for undo in reversed(self._if_undone):
            undo()
        if isinstance(error, sqlite3.OperationalError):
            raise CacheFull(f"The cache's database could not be written: {error}.") from error

    def _check(self) -> None:
        """A disk that loses what it was told to keep leaves pages that do not fit together."""
        (found,) = self._connection.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            error = sqlite3.DatabaseError(found)
            error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
            raise error

    def transaction_lock(self) -> threading.RLock:
        """The lock that transactions hold: for what must be consistent with the rows."""
        return self._lock

    def after_rollback(self, forget: Callable[[], None]) -> None:
        """Call `forget` whenever a transaction was undone: what was kept in memory of it is wrong."""
        self._after_rollback.append(forget)

    def if_undone(self, undo: Callable[[], None]) -> None:
        """Do `undo`, under the lock, should the transaction under way be undone. Called within one."""
        self._if_undone.append(undo)

    def after_commit(self, action: Callable[[], None]) -> None:
        """Do `action` once the transaction under way is committed, outside of the lock; never if it is undone."""
        with self.transaction():
            self._after_commit.append(action)

    def run(self, sql: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        """One statement that changes something. Outside of a transaction it is one of its own."""
        with self.transaction():
            return self._connection.execute(sql, values)

    def run_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """One statement for each of `rows`, in one transaction."""
        with self.transaction():
            self._connection.executemany(sql, rows)

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """All rows of a query."""
        with self._lock:
            return self._connection.execute(sql, values).fetchall()

    def row(self, sql: str, values: Sequence[Any] = ()) -> sqlite3.Row | None:
        """The first row of a query, or None."""
        with self._lock:
            found: sqlite3.Row | None = self._connection.execute(sql, values).fetchone()
            return found

    def setting(self, key: str) -> str | None:
        """A value kept under `key`, or None."""
        row = self.row("SELECT value FROM settings WHERE key = ?", (key,))
        return None if row is None else row[0]

    def set_setting(self, key: str, value: str) -> None:
        self.run("INSERT OR REPLACE INTO settings VALUES (?, ?)", (key, value))

    def position(self) -> Position:
        """How far the log goes. The caller holds the lock, and no transaction is under way."""
        assert not self._depth
        header = os.pread(self._index_fd, _INDEX_SALT.stop, 0)
        return Position(header[_INDEX_SALT].hex(), int.from_bytes(header[_INDEX_FRAMES], sys.byteorder))

    def sync(self) -> None:
        """Flush the log. Takes no lock. For a sync point: alone it does not make anything outlive a power cut."""
        os.fdatasync(self._wal_fd)

    def is_long(self) -> bool:
        """Whether the log has come to a size at which whoever fills it should have it moved (`Store.relieve`)."""
        return os.fstat(self._wal_fd).st_size > LONG_LOG_BYTES

    def begin_checkpoint(self) -> None:
        """The next checkpoint goes as far as the log goes now. The caller holds the lock."""
        self._reader.execute("BEGIN")
        self._reader.execute("SELECT COUNT(*) FROM settings").fetchone()

    def end_checkpoint(self, *, move: bool) -> bool:
        """Move the log, as far as it went at `begin_checkpoint`, into the database, or do not. On a connection of
        its own, so that writers need not wait for it. Returns whether all of it is moved, so that it begins anew.

        Raises CacheFull when the database has no room to grow.
        """
        connection = sqlite3.connect(self._path, isolation_level=None)
        try:
            if not move:
                return False
            _, frames, moved = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            return bool(frames == moved)
        except sqlite3.OperationalError as error:
            raise CacheFull(f"The cache's database has no room: {error}.") from error
        finally:
            connection.close()
            self._reader.execute("COMMIT")

    def begin_anew(self) -> bool:
        """Write a little, with which a log begins anew of which all is moved; whether it has. A transaction that was
        under way when the last of it was moved has made it longer instead."""
        with self._lock:
            before = self.position()
            self.set_setting("log", before.salt)
            return self.position().salt != before.salt

    def close(self) -> None:
        """Close it; a database that was closed needs no recovery."""
        with self._lock:
            self._resources.close()


def _cannot_open(folder: Path, path: Path, error: BaseException) -> BaseException:
    """What an error means that came while the database was opened."""
    code = getattr(error, "sqlite_errorcode", None)
    no_room = f"The cache folder {folder} has no room for its database."
    if code == sqlite3.SQLITE_FULL or (isinstance(error, OSError) and error.errno == errno.ENOSPC):
        return CacheFull(no_room)
    if isinstance(error, OSError):
        return StoreError(f"The cache folder {folder} cannot be used: {error.strerror}.")
    if isinstance(error, sqlite3.DatabaseError):
        # An I/O error on a disk without room is that (SQLite cannot make its shared memory file).
        if os.statvfs(folder).f_bavail == 0:
            return CacheFull(no_room)
        kind = DatabaseDamaged if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) else CacheDamaged
        return kind(
            f"The cache's database {path} cannot be read ({error}). Nothing was changed; "
            f"move {folder} aside to start with an empty cache."
        )
    return error
