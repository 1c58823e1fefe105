"""One file of this machine to Drive: exactly once whatever fails, and from the byte that Drive has.

Entered by any thread; a `FileContent` belongs to one.
"""

from __future__ import annotations

import hashlib
import os
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from drivefs.drive.api import Drive
from drivefs.errors import BadReply, IdInUse, ServerFault, SessionGone, Transient, Unreachable, UserError
from drivefs.model import CreateTarget, RemoteFile, SessionUri, UpdateTarget, UploadTarget
from drivefs.remote.unfinished import Unfinished

SMALL_BYTES = 5_000_000
"""Up to here one request carries the file (drive-api: Uploads)."""
_PIECE_BYTES = 1 << 20


class Stopped(UserError):
    """The person has asked to end."""


class Patience:
    """How long the same thing is tried again: `limit_s` after its last success, until `stop` is set."""

    def __init__(self, stop: threading.Event | None = None, limit_s: float = 300.0) -> None:
        self.stop = stop or threading.Event()
        self._limit_s = limit_s
        self._failures = 0
        self._since_s = time.monotonic()

    def again(self, error: Exception) -> None:
        """Wait before the next try; raises `error` when it has lasted too long, `Stopped` when it is to end."""
        now_s = time.monotonic()
        if self._failures == 0:
            self._since_s = now_s
        if now_s - self._since_s > self._limit_s:
            raise error
        pause_s = min(2.0**self._failures, 32.0) * (0.5 + random.random() / 2)
        self._failures += 1
        if self.stop.wait(pause_s):
            raise Stopped("Stopped; the same command goes on from here.")

    def went_on(self) -> None:
        """It works again."""
        self._failures = 0


class FileContent:
    """The bytes of a local file on their way, with their checksum. Use as a context."""

    def __init__(self, path: Path, on_bytes: Callable[[int], None] = lambda count: None) -> None:
        """Raises UserError when it cannot be opened. `on_bytes` is told what was read to be sent."""
        self._path, self._on_bytes = path, on_bytes
        try:
            self._file = path.open("rb", buffering=0)
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}.") from error
        before = os.fstat(self._file.fileno())
        self._before = (before.st_size, before.st_mtime_ns)
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._hashed_bytes = 0

    @property
    def size_bytes(self) -> int:
        return self._before[0]

    @property
    def mtime_ns(self) -> int:
        return self._before[1]

    def read_at(self, offset: int, length: int) -> bytes:
        piece = os.pread(self._file.fileno(), length, offset)
        if offset == self._hashed_bytes:
            self._md5.update(piece)
            self._hashed_bytes += len(piece)
        self._on_bytes(len(piece))
        return piece

    def md5(self) -> str:
        """Of the whole content. Raises UserError when the file was changed since it was opened."""
        while self._hashed_bytes < self.size_bytes:
            length = min(_PIECE_BYTES, self.size_bytes - self._hashed_bytes)
            piece = os.pread(self._file.fileno(), length, self._hashed_bytes)
            if not piece:
                break
            self._md5.update(piece)
            self._hashed_bytes += len(piece)
        now = os.fstat(self._file.fileno())
        if (now.st_size, now.st_mtime_ns) != self._before:
            raise UserError(f"{self._path} was changed while it was copied: copy it again.")
        return self._md5.hexdigest()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._file.close()


@dataclass(frozen=True, slots=True)
class Resumable:
    """Where an upload is noted, so that a later one goes on with it."""

    unfinished: Unfinished
    key: str

    def find(self, target: UploadTarget, content: FileContent) -> tuple[UploadTarget, SessionUri] | None:
        """The session of an upload of the same bytes to the same place, and the target that it is bound to."""
        entry = self.unfinished.find(self.key)
        if entry is None or entry.get("content") != [content.size_bytes, content.mtime_ns]:
            return None
        if isinstance(target, CreateTarget):
            target = CreateTarget(entry["id"], target.parent, target.metadata)
        elif entry["id"] != target.id:
            return None
        return target, SessionUri(entry["session"])

    def note(self, target: UploadTarget, session: SessionUri, content: FileContent) -> None:
        entry = {"id": target.id, "session": session, "content": [content.size_bytes, content.mtime_ns]}
        self.unfinished.note(self.key, entry)

    def forget(self) -> None:
        self.unfinished.forget(self.key)


def send(
    drive: Drive, target: UploadTarget, content: FileContent, patience: Patience, resumable: Resumable | None = None
) -> RemoteFile:
    """The file on Drive, whose checksum was compared. Raises DriveError, `Stopped`, UserError."""
    session: SessionUri | None = None
    if content.size_bytes > SMALL_BYTES and resumable is not None:
        found = resumable.find(target, content)
        if found is not None:
            target, session = found
    while True:
        try:
            if content.size_bytes <= SMALL_BYTES:
                file = drive.upload_small(target, content)
            else:
                file, session = _through_session(drive, target, content, session, patience, resumable)
        except IdInUse:
            # An earlier try had worked, or it had worked with what the file was then.
            file = drive.get(target.id)
            if file.md5 != content.md5():
                target, session = UpdateTarget(target.id, target.metadata), None
                continue
        except (Unreachable, ServerFault) as error:
            patience.again(error)
            continue
        except SessionGone as error:
            session = None
            patience.again(error)
            continue
        if resumable is not None:
            resumable.forget()
        if file.md5 is not None and file.md5 != content.md5():
            raise BadReply(f"What arrived on Drive as {file.name} does not fit its checksum: copy it again.")
        return file


def _through_session(
    drive: Drive,
    target: UploadTarget,
    content: FileContent,
    session: SessionUri | None,
    patience: Patience,
    resumable: Resumable | None,
) -> tuple[RemoteFile, SessionUri]:
    """Send what the session does not have yet; a new one is noted before the bytes go."""
    total = content.size_bytes
    if session is None:
        session = drive.start_session(target, total)
        if resumable is not None:
            resumable.note(target, session, content)
        state_offset = 0
    else:
        state = drive.session_state(session, total)
        if state.file is not None:
            return state.file, session
        state_offset = state.offset
    while True:
        try:
            state = drive.send(session, content, state_offset, total - state_offset, total)
        except Transient as error:
            patience.again(error)
            state = drive.session_state(session, total)
        if state.file is not None:
            return state.file, session
        if state.offset > state_offset:
            patience.went_on()
        state_offset = state.offset
