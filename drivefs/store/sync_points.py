"""Sync points: the instants of the cache that outlive a power cut.

The kernel writes files back in any order, so after a power cut the database's log may speak of content that never
reached the disk. A sync point is one instant of names, journal and content together that did: the content is flushed
first, then the log, and then the file `sync-points` says how far the log goes. When the machine has been started anew
since (the boot ID differs), the log is cut off there, and the cache is as it was at that instant.

Content that changes in place after a point no longer is what it was then. That is noted here before the first byte
changes, once a file and point; what is appended needs no note, for the point knows the sizes of open files.

Durable when: `note_change` and `end` have returned. Any thread may enter.
"""

from __future__ import annotations

import json
import os
import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from drivefs.model import Generation

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")  # proc_sys_kernel(5): another one after each start of the machine

RESERVE_BYTES = 1 << 18
"""Of the file, from the start: a sync point needs no room on a full disk."""

REWRITE_BYTES = RESERVE_BYTES // 2
"""Beyond this size the file is written anew with what still counts."""

WAL_HEADER_BYTES = 32  # sqlite.org/fileformat2.html#walformat, for all three
WAL_FRAME_HEADER_BYTES = 24
WAL_SALT = slice(16, 24)


def read_boot_id() -> str:
    """Of the running system."""
    return BOOT_ID.read_text().strip()


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the database's log: so many frames of the log that has this salt."""

    salt: str
    frames: int


@dataclass(frozen=True, slots=True)
class SyncPoint:
    """One instant of the cache that is on the disk."""

    number: int
    boot_id: str
    position: Position
    sizes: dict[Generation, int] = field(default_factory=dict)
    """Of the generations that were OPEN."""
    written_unseen: frozenset[Generation] = frozenset()
    """Generations that the kernel writes itself: they may have changed at any time since."""


class SyncPoints:
    """The file `sync-points` of one cache folder."""

    def __init__(self, folder: Path, boot_id: Callable[[], str] = read_boot_id) -> None:
        """Raises OSError."""
        self._folder = folder
        self._path = folder / "sync-points"
        self.boot_id = boot_id()
        self._lock = threading.Lock()
        # Guarded by _lock, which is held for a flush of this one file:
        self.last: SyncPoint | None = None
        self._changed: dict[Generation, int] = {}  # the last point that had begun when it changed in place
        self._size_bytes = 0
        self._rewrite_bytes = REWRITE_BYTES
        self.current = 0
        """The point that began last; set under the database's lock."""
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._read()
        except BaseException:
            os.close(self._fd)
            raise

    def _read(self) -> None:
        """What a cut left behind the last whole line is dropped."""
        data = os.pread(self._fd, os.fstat(self._fd).st_size, 0)
        for line in data.splitlines(keepends=True):
            record = _record(line)
            if record is None:
                break
            self._take(record)
            self._size_bytes += len(line)
        os.ftruncate(self._fd, self._size_bytes)
        os.posix_fallocate(self._fd, 0, RESERVE_BYTES)

    def _take(self, record: list[object]) -> None:
        match record:
            case ["point", int(number), str(boot_id), str(salt), int(frames), list(sizes), list(unseen)]:
                known = {Generation(generation): size_bytes for generation, size_bytes in sizes}
                self.last = SyncPoint(number, boot_id, Position(salt, frames), known, frozenset(unseen))
                self._changed = {each: at for each, at in self._changed.items() if at >= number}
            case ["changed", int(number), int(generation)]:
                self._changed[Generation(generation)] = number
            case _:
                return
        self.current = max(self.current, number)

    # --- after a power cut ---

    @property
    def was_cut(self) -> bool:
        """Whether the machine has been started anew since the last point."""
        return self.last is not None and self.last.boot_id != self.boot_id

    @property
    def changed(self) -> frozenset[Generation]:
        """The generations that may have changed in place since the last point."""
        unseen = self.last.written_unseen if self.last is not None else frozenset()
        return frozenset(self._changed) | unseen

    def cut_log(self, log: Path) -> int:
        """Cut the database's log off at the last point; returns how many bytes of records that takes away. Nobody has
        the database open."""
        assert self.last is not None
        try:
            with log.open("r+b") as file:
                header = file.read(WAL_HEADER_BYTES)
                size_bytes = os.fstat(file.fileno()).st_size
                # Another log than the point's: it began when all of that one was in the database.
                keep_bytes = 0
                if len(header) == WAL_HEADER_BYTES and header[WAL_SALT].hex() == self.last.position.salt:
                    frame_bytes = WAL_FRAME_HEADER_BYTES + int.from_bytes(header[8:12], "big")
                    keep_bytes = WAL_HEADER_BYTES + self.last.position.frames * frame_bytes
                if size_bytes > keep_bytes:
                    file.truncate(keep_bytes)
                    os.fsync(file.fileno())
                return max(0, size_bytes - keep_bytes)
        except FileNotFoundError:
            return 0

    # --- while it runs ---

    def begin(self) -> int:
        """What changes in place from now on is no longer what this new point knows; its number. Under the database's
        lock, like the look at the log's position."""
        self.current += 1
        return self.current

    def end(self, point: SyncPoint) -> None:
        """All of the point is on the disk: note it. Raises OSError."""
        record = ["point", point.number, point.boot_id, point.position.salt, point.position.frames]
        with self._lock:
            self._append([*record, sorted(point.sizes.items()), sorted(point.written_unseen)])
            if self._size_bytes > self._rewrite_bytes:
                self._rewrite()

    def note_change(self, generation: Generation, *, flush: bool = True) -> int:
        """Note on the disk that it may change in place from now on; returns the point for which that counts. Without
        `flush` the note outlives the process, and a power cut from the next flush on: enough for what the last point
        does not have. Raises OSError."""
        with self._lock:
            number = self.current
            if self._changed.get(generation, -1) < number:
                self._append(["changed", number, generation], flush=flush)
            return number

    def _append(self, record: list[object], *, flush: bool = True) -> None:
        line = _line(record)
        _write(self._fd, line, self._size_bytes)
        if flush:
            os.fdatasync(self._fd)
        self._size_bytes += len(line)
        self._take(record)

    def _rewrite(self) -> None:
        assert self.last is not None
        point = self.last
        head = ["point", point.number, point.boot_id, point.position.salt, point.position.frames]
        records: list[list[object]] = [[*head, sorted(point.sizes.items()), sorted(point.written_unseen)]]
        records += [["changed", number, generation] for generation, number in self._changed.items()]
        data = b"".join(map(_line, records))
        new = self._path.with_name("sync-points.new")
        fd = os.open(new, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, max(RESERVE_BYTES, 2 * len(data)))
            _write(fd, data, 0)
            os.fsync(fd)
            os.replace(new, self._path)
            sync_folder(self._folder)
        except BaseException:
            os.close(fd)
            raise
        self._fd, old = fd, self._fd
        os.close(old)
        self._size_bytes = len(data)
        self._rewrite_bytes = max(REWRITE_BYTES, 2 * len(data))

    def close(self) -> None:
        os.close(self._fd)


def _line(record: list[object]) -> bytes:
    data = json.dumps(record, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(data), data)


def _record(line: bytes) -> list[object] | None:
    """None for what is not a whole line of ours."""
    checksum, _, data = line.partition(b" ")
    if not line.endswith(b"\n") or checksum != b"%08x" % zlib.crc32(data[:-1]):
        return None
    record = json.loads(data)
    return record if isinstance(record, list) else None


def _write(fd: int, data: bytes, offset: int) -> None:
    done = 0
    while done < len(data):
        done += os.pwrite(fd, data[done:], offset + done)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder outlive a power cut. Raises OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
