"""A disk whose power can be cut: a small FUSE filesystem that writes down everything that is asked of it, and what a
cut at any place of that trace may leave.

    python -m tests.crash.disk MOUNTPOINT BACKING TRACE     serves BACKING on MOUNTPOINT until it is unmounted

What was not flushed by fsync(2) of the file itself, or of the folder for a name, may be there or not, each sector and
each name for itself: dropped, kept, out of order, and torn. That is more than any real disk does.
"""

from __future__ import annotations

import errno
import os
import pickle
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SECTOR_BYTES = 64
"""What is written whole or not at all. Smaller than any disk's, as the files of these tests are."""

Record = tuple[Any, ...]


def serve(mountpoint: str, backing: str, trace: str) -> None:
    import mfusepy

    class Recorder(mfusepy.Operations):  # type: ignore[misc]
        use_ns = True

        def __init__(self) -> None:
            self._trace_fd = os.open(trace, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

        def _note(self, *record: Any) -> None:
            data = pickle.dumps(record)
            assert os.write(self._trace_fd, data) == len(data)

        def _at(self, path: str) -> str:
            return backing + path

        def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
            try:
                status = os.lstat(self._at(path))
            except FileNotFoundError:
                raise mfusepy.FuseOSError(errno.ENOENT) from None
            shown = {key: getattr(status, key) for key in ("st_mode", "st_size", "st_nlink", "st_uid", "st_gid")}
            return shown | {f"st_{each}": getattr(status, f"st_{each}_ns") for each in ("atime", "mtime", "ctime")}

        def readdir(self, path: str, fh: int) -> list[str]:
            return [".", "..", *os.listdir(self._at(path))]

        def mkdir(self, path: str, mode: int) -> int:
            os.mkdir(self._at(path), mode)
            self._note("mkdir", path)
            return 0

        def create(self, path: str, mode: int, fi: Any = None) -> int:
            fd = os.open(self._at(path), os.O_RDWR | os.O_CREAT, mode)
            self._note("create", path, os.fstat(fd).st_ino)
            return fd

        def open(self, path: str, flags: int) -> int:
            return os.open(self._at(path), flags & ~(os.O_CREAT | os.O_EXCL | os.O_TRUNC | os.O_APPEND))

        def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
            return os.pread(fh, size, offset)

        def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
            done = os.pwrite(fh, data, offset)
            self._note("write", os.fstat(fh).st_ino, offset, bytes(data[:done]))
            return done

        def truncate(self, path: str, length: int, fh: int | None = None) -> int:
            if fh is not None:
                os.ftruncate(fh, length)
                number = os.fstat(fh).st_ino
            else:
                os.truncate(self._at(path), length)
                number = os.stat(self._at(path)).st_ino
            self._note("truncate", number, length)
            return 0

        def rmdir(self, path: str) -> int:
            os.rmdir(self._at(path))
            self._note("unlink", path)
            return 0

        def unlink(self, path: str) -> int:
            os.unlink(self._at(path))
            self._note("unlink", path)
            return 0

        def rename(self, old: str, new: str, flags: int = 0) -> int:
            os.rename(self._at(old), self._at(new))
            self._note("rename", old, new)
            return 0

        def fsync(self, path: str, datasync: int, fh: int) -> int:
            self._note("fsync", os.fstat(fh).st_ino)
            return 0

        def fsyncdir(self, path: str, datasync: int, fh: int) -> int:
            self._note("fsyncdir", path)
            return 0

        def utimens(self, path: str, times: Any = None) -> int:
            os.utime(self._at(path), ns=times)
            return 0

        def chmod(self, path: str, mode: int) -> int:
            os.chmod(self._at(path), mode)
            return 0

        def statfs(self, path: str) -> dict[str, Any]:
            status = os.statvfs(backing)
            return {key: getattr(status, key) for key in ("f_bavail", "f_bfree", "f_blocks", "f_bsize", "f_frsize")}

        def release(self, path: str, fh: int) -> int:
            os.close(fh)
            return 0

    mfusepy.FUSE(Recorder(), mountpoint, foreground=True, nothreads=True, fsname="cut")


# --- what is left of it ---


@dataclass
class File:
    """One file: what is surely there, and what came since, in order."""

    flushed: bytes = b""
    now: bytearray = field(default_factory=bytearray)
    since: list[Record] = field(default_factory=list)

    def left(self, chance: random.Random) -> bytes:
        """What a cut may leave."""
        whim = chance.random()
        if not self.since or whim < 0.2:
            return self.flushed
        if whim < 0.4:
            return bytes(self.now)
        data = bytearray(self.flushed)
        for record in self.since:
            if record[0] == "truncate":
                if chance.random() < 0.5:
                    _resize(data, record[1])
                continue
            _, offset, written = record
            for at in range(0, len(written), SECTOR_BYTES):
                if chance.random() < 0.5:
                    _put(data, offset + at, written[at : at + SECTOR_BYTES])
            if chance.random() < 0.5 and len(data) < offset + len(written):
                _resize(data, offset + len(written))  # the size is there, the bytes are not
        return bytes(data)


def _resize(data: bytearray, size: int) -> None:
    del data[size:]
    data.extend(bytes(size - len(data)))


def _put(data: bytearray, offset: int, written: bytes) -> None:
    if len(data) < offset:
        _resize(data, offset)
    data[offset : offset + len(written)] = written


@dataclass
class Folder:
    """Names and what they stand for, as they surely are, and every change since."""

    flushed: dict[str, File | Folder] = field(default_factory=dict)
    now: dict[str, File | Folder] = field(default_factory=dict)
    since: dict[str, list[File | Folder | None]] = field(default_factory=dict)

    def bind(self, name: str, item: File | Folder | None) -> None:
        if item is None:
            del self.now[name]
        else:
            self.now[name] = item
        self.since.setdefault(name, []).append(item)

    def leave(self, target: Path, chance: random.Random) -> None:
        """Make in `target` what a cut may leave."""
        target.mkdir()
        for name in sorted({*self.flushed, *self.since}):
            item = chance.choice([self.flushed.get(name), *self.since.get(name, ())])
            if isinstance(item, Folder):
                item.leave(target / name, chance)
            elif item is not None:
                (target / name).write_bytes(item.left(chance))


class Disk:
    """A disk as the trace says, up to the place that it was read to."""

    def __init__(self) -> None:
        self._root = Folder()
        self._files: dict[int, File] = {}

    def _place(self, path: str) -> tuple[Folder, str]:
        *folders, name = path.strip("/").split("/")
        folder = self._root
        for each in folders:
            found = folder.now[each]
            assert isinstance(found, Folder)
            folder = found
        return folder, name

    def take(self, record: Record) -> None:
        """One more call."""
        match record:
            case ("mkdir", path):
                folder, name = self._place(path)
                folder.bind(name, Folder())
            case ("create", path, number):
                folder, name = self._place(path)
                if name not in folder.now:
                    self._files[number] = File()
                    folder.bind(name, self._files[number])
            case ("write", number, offset, data):
                file = self._files[number]
                _put(file.now, offset, data)
                file.since.append(("write", offset, data))
            case ("truncate", number, size):
                file = self._files[number]
                _resize(file.now, size)
                file.since.append(("truncate", size))
            case ("unlink", path):
                folder, name = self._place(path)
                folder.bind(name, None)
            case ("rename", old, new):
                folder, name = self._place(old)
                item = folder.now[name]
                folder.bind(name, None)
                folder, name = self._place(new)
                folder.bind(name, item)
            case ("fsync", number):
                file = self._files[number]
                file.flushed, file.since = bytes(file.now), []
            case ("fsyncdir", path):
                folder = self._root
                for each in filter(None, path.split("/")):
                    found = folder.now[each]
                    assert isinstance(found, Folder)
                    folder = found
                folder.flushed, folder.since = dict(folder.now), {}

    def leave(self, target: Path, seed: int) -> None:
        """Make in `target`, which does not exist, what a cut now may leave."""
        self._root.leave(target, random.Random(seed))


def records(trace: Path) -> Iterator[tuple[int, Record]]:
    """All calls, each with the trace's length after it."""
    with trace.open("rb") as file:
        while True:
            try:
                record = pickle.load(file)
            except EOFError:
                return
            yield file.tell(), record


if __name__ == "__main__":
    serve(*sys.argv[1:4])
