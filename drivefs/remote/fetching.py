"""One file of Drive to this machine: in ranges, several at once, beside its name until its checksum was compared.

A download that is cut off leaves what it has beside the target, and a note of the ranges that are there; the next one
goes on with them, as long as Drive has the same content. Entered by one thread a file; `ranges` are fetched by any.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from drivefs.drive.api import Drive
from drivefs.errors import BadReply, CacheFull, ServerFault, Unreachable, UserError
from drivefs.model import RemoteFile
from drivefs.remote.sending import Patience, Stopped
from drivefs.remote.unfinished import Unfinished

RANGE_BYTES = 16 << 20
_READ_BYTES = 4 << 20


def new_file_mode() -> int:
    """Permission bits of a new file. umask(2) would change the mask for other threads to read it; this does not."""
    status = Path("/proc/self/status").read_text()
    (mask,) = [line.split()[1] for line in status.splitlines() if line.startswith("Umask:")]
    return 0o666 & ~int(mask, 8)


class Fetch:
    """A download in ranges. `ranges` says what is left; when all were fetched, `finish` makes it the file."""

    def __init__(
        self, drive: Drive, file: RemoteFile, target: Path, unfinished: Unfinished, on_bytes: Callable[[int], None]
    ) -> None:
        """Raises UserError when `target` cannot be written beside."""
        self._drive, self._file, self._target, self._unfinished = drive, file, target, unfinished
        self._on_bytes = on_bytes
        self.size_bytes = file.size_bytes or 0
        self._key = Unfinished.key("download", file.id, str(target.absolute()))
        self._partial = target.absolute().parent / f".{self._key[:12]}.drivefs-part"
        self._noting = threading.Lock()  # guards what is noted
        noted = self._unfinished.find(self._key) if self._partial.exists() else None
        fits = noted is not None and noted.get("content") == self._content()
        self._done: set[int] = set(noted["done"]) if fits and noted is not None else set()
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | (0 if fits else os.O_TRUNC)
            self._handle = os.open(self._partial, flags, 0o600)
            os.ftruncate(self._handle, self.size_bytes)
        except OSError as error:
            raise UserError(f"{target} cannot be written: {error.strerror}.") from error

    def _content(self) -> list[Any]:
        return [self._file.revision, self._file.md5, self.size_bytes]

    def ranges(self) -> list[int]:
        """Offsets of the ranges that are left, of `RANGE_BYTES` each but for the last."""
        return [offset for offset in range(0, self.size_bytes, RANGE_BYTES) if offset not in self._done]

    @property
    def done_bytes(self) -> int:
        """How much was there from last time."""
        return sum(min(RANGE_BYTES, self.size_bytes - offset) for offset in self._done)

    def fetch(self, start: int, patience: Patience) -> None:
        """The range that begins at `start`. Raises DriveError, `Stopped`, UserError."""
        end = min(start + RANGE_BYTES, self.size_bytes)
        offset = start
        while offset < end:
            try:
                for piece in self._drive.download(self._file.id, offset, end - offset):
                    self._write(piece, offset)
                    offset += len(piece)
                    self._on_bytes(len(piece))
                    if patience.stop.is_set():
                        raise Stopped("Stopped; the same command goes on from here.")
                patience.went_on()
            except (Unreachable, ServerFault, BadReply) as error:
                patience.again(error)
        with self._noting:
            self._done.add(start)
            if self.size_bytes > RANGE_BYTES:
                self._unfinished.note(self._key, {"content": self._content(), "done": sorted(self._done)})

    def _write(self, piece: bytes, offset: int) -> None:
        view = memoryview(piece)
        try:
            while view:
                written = os.pwrite(self._handle, view, offset)
                view, offset = view[written:], offset + written
        except OSError as error:
            raise CacheFull(f"{self._target} cannot be written: {error.strerror}.") from error

    def finish(self) -> None:
        """Compare the checksum, and give the file its name and time. Raises `BadReply`, UserError."""
        digest = hashlib.md5(usedforsecurity=False)
        offset = 0
        while piece := os.pread(self._handle, _READ_BYTES, offset):
            digest.update(piece)
            offset += len(piece)
        if self._file.md5 is not None and digest.hexdigest() != self._file.md5:
            self.abandon()
            raise BadReply(f"What Drive sent of {self._file.name} does not fit its checksum: copy it again.")
        try:
            os.fchmod(self._handle, new_file_mode())
            os.utime(self._handle, ns=(self._file.modified_ns, self._file.modified_ns))
            self._partial.replace(self._target)
        except OSError as error:
            raise UserError(f"{self._target} cannot be written: {error.strerror}.") from error
        self._unfinished.forget(self._key)

    def abandon(self) -> None:
        """Leave nothing behind."""
        with suppress(FileNotFoundError):
            self._partial.unlink()
        self._unfinished.forget(self._key)

    def close(self) -> None:
        """What is not finished stays for next time."""
        os.close(self._handle)
