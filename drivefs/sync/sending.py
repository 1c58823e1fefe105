"""Content on its way to Drive: read once, checked, and sent on from the byte that Drive has.

Stateless but for the line's rate; entered by the uploader's threads. A session is in the journal before its first
byte goes.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from xxhash import xxh3_128

from drivefs.drive.api import Drive
from drivefs.errors import BadReply, ServerFault, SessionGone, Unreachable
from drivefs.model import DriveId, RemoteFile, SessionState, SessionUri, UploadTarget
from drivefs.store.claim import Claim
from drivefs.store.queue import Job
from drivefs.store.store import Store
from drivefs.sync.order import SMALL_LIMIT_BYTES

if TYPE_CHECKING:
    from hashlib import _Hash as _Md5

log = logging.getLogger(__name__)

REQUEST_S = 60.0
"""A resumable upload's request carries about a minute's worth: fewer round trips, and not too much to repeat."""

FIRST_REQUEST_BYTES = 64 << 20
"""While the line's rate is not known."""

ALIGN_BYTES = 262_144
"""All requests of a session but the last are multiples of this (drive-api: Uploads)."""

TROUBLE_LIMIT = 5
"""Failures in a row, without a byte of headway, before an upload makes room for others and is tried later."""


@dataclass(slots=True)
class Progress:
    """How far one upload has come; written by its thread, read by any."""

    size_bytes: int
    done_bytes: int = 0
    drive_id: DriveId | None = None


class Digest:
    """The md5 of a content's beginning, and what it was at each grain behind the last byte that Drive confirmed.

    Beside it goes one that is ten times as fast to compute anew, and enough for a change that nobody made on purpose.
    """

    def __init__(self) -> None:
        self.base_bytes = 0
        self.size_bytes = 0
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._quick = xxh3_128()
        self._marks = [(self._md5.copy(), self._quick.copy())]

    def add(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            room = ALIGN_BYTES - self.size_bytes % ALIGN_BYTES
            self._md5.update(view[:room])
            self._quick.update(view[:room])
            self.size_bytes += len(view[:room])
            view = view[room:]
            if self.size_bytes % ALIGN_BYTES == 0:
                self._marks.append((self._md5.copy(), self._quick.copy()))

    def go_back(self, offset: int) -> None:
        """What lies behind `offset`, which is a mark, is to be added again."""
        del self._marks[(offset - self.base_bytes) // ALIGN_BYTES + 1 :]
        md5, quick = self._marks[-1]
        self._md5, self._quick, self.size_bytes = md5.copy(), quick.copy(), offset

    def has_mark(self, offset: int) -> bool:
        return self.base_bytes <= offset <= self.size_bytes and offset % ALIGN_BYTES == 0

    def confirm(self, offset: int) -> None:
        """Nobody will go back behind `offset`, which is a mark."""
        del self._marks[: (offset - self.base_bytes) // ALIGN_BYTES]
        self.base_bytes = offset

    def marks(self) -> bytes:
        """The md5 at `base_bytes` and at each grain from there on, one after the other."""
        return b"".join(md5.digest() for md5, _ in self._marks)

    def md5(self) -> _Md5:
        """Of all that was added, to go on with."""
        return self._md5.copy()

    def agrees(self, pieces: Iterable[bytes]) -> bool:
        """Whether all that was added is the same as `pieces`."""
        quick = xxh3_128()
        for piece in pieces:
            quick.update(piece)
        return quick.digest() == self._quick.digest()


@dataclass(frozen=True, slots=True)
class Head:
    """The beginning of a content that a session holds already, and is known to be right."""

    session: SessionUri
    size_bytes: int
    md5: _Md5
    """Of that beginning."""


class Outgoing:
    """A claim as the upload reads it: counts, and computes the checksum of what is read in order.

    The last byte of a large one leaves only when a sync point has all of it: so its flush goes on beside its upload,
    and still Drive shows nothing that a power cut could take from here.
    """

    def __init__(self, claim: Claim, progress: Progress, sync: Callable[[], None], head: Head | None = None) -> None:
        """`sync` makes a sync point."""
        self._claim = claim
        self._sync = sync
        self._progress = progress
        self.head = head
        self._md5 = head.md5 if head is not None else hashlib.md5(usedforsecurity=False)
        self._hashed_bytes = head.size_bytes if head is not None else 0
        self.before_last: Callable[[], None] | None = None
        """Called before the last byte of a large one leaves."""
        self.size_bytes = claim.size_bytes
        if self.size_bytes > SMALL_LIMIT_BYTES:
            claim.begin_sync()

    def read_at(self, offset: int, length: int) -> bytes:
        data = self._claim.read_at(offset, length)
        if offset <= self._hashed_bytes < offset + len(data):
            self._md5.update(memoryview(data)[self._hashed_bytes - offset :])
            self._hashed_bytes = offset + len(data)
        self._progress.done_bytes = offset + len(data)
        if offset + len(data) == self.size_bytes > SMALL_LIMIT_BYTES:
            if self.before_last is not None:
                self.before_last()
            self._sync()
        return data

    def md5(self) -> str:
        """Of the whole content; what was not read for the upload is read now."""
        while self._hashed_bytes < self.size_bytes:
            data = self._claim.read_at(self._hashed_bytes, min(1 << 20, self.size_bytes - self._hashed_bytes))
            if not data:
                raise BadReply("The content file is shorter than it was when it was claimed.")
            self._md5.update(data)
            self._hashed_bytes += len(data)
        return self._md5.hexdigest()


class LinkTarget:
    """A symlink's content."""

    def __init__(self, target: str) -> None:
        self._data = target.encode(errors="surrogateescape")
        self.size_bytes = len(self._data)

    def read_at(self, offset: int, length: int) -> bytes:
        return self._data[offset : offset + length]

    def md5(self) -> str:
        return hashlib.md5(self._data, usedforsecurity=False).hexdigest()


Content = Outgoing | LinkTarget
"""What a file on Drive is to hold."""


class Sender:
    """Carries contents to Drive."""

    def __init__(self, store: Store, drive: Drive) -> None:
        self._store = store
        self._drive = drive
        self._lock = threading.Lock()
        self._rate_bytes_s: float | None = None  # of one upload; guarded by _lock

    def send(self, job: Job, target: UploadTarget, content: Content) -> RemoteFile:
        """Create or update a file with content; what Drive has of it then. Raises DriveError, Superseded."""
        if content.size_bytes <= SMALL_LIMIT_BYTES:
            remote = self._drive.upload_small(target, content)
        else:
            remote = self._send_large(job, target, content)
        if remote.md5 != content.md5():
            with self._store.db.transaction():
                # Damaged on its way, and ours all the same: the next try replaces it, by a session of its own.
                self._store.journal.set_session(job, target.id, None)
                if remote.md5 is not None:
                    self._store.journal.set_tried(target.id, remote.md5)
            raise BadReply(f"Drive's checksum of {target.id} is not that of what was sent: it is sent again.")
        return remote

    def _send_large(self, job: Job, target: UploadTarget, content: Content) -> RemoteFile:
        total = content.size_bytes
        session, offset = job.session, 0
        if isinstance(content, Outgoing) and content.head is not None:
            session, offset = content.head.session, content.head.size_bytes
        elif session is not None:
            try:
                state = self._drive.session_state(session, total)
                if state.file is not None:
                    return state.file
                offset = state.offset
            except SessionGone:
                session = None
        trouble = 0
        while True:
            if session is None:
                session, offset = self._start_session(job, target, total), 0
            before = offset
            try:
                state = self._send_piece(session, content, offset, total)
            except (Unreachable, ServerFault) as error:
                if trouble >= TROUBLE_LIMIT:
                    raise
                log.info("An upload was cut off at %s, asking how far it came: %s", target.id, error)
                try:
                    state = self._drive.session_state(session, total)
                except SessionGone:
                    session = None
                    trouble += 1
                    continue
            except SessionGone:
                if trouble >= TROUBLE_LIMIT:
                    raise
                self._store.journal.set_session(job, target.id, None)
                session = None
                trouble += 1
                continue
            if state.file is not None:
                return state.file
            offset = state.offset
            trouble = 0 if offset > before else trouble + 1
            if trouble > TROUBLE_LIMIT:
                raise BadReply(f"An upload to {target.id} makes no headway at byte {offset}.")

    def _start_session(self, job: Job, target: UploadTarget, total: int) -> SessionUri:
        session = self._drive.start_session(target, total)
        # Kept before the first byte goes, so that a crash does not send them twice.
        self._store.journal.set_session(job, target.id, session)
        return session

    def _send_piece(self, session: SessionUri, content: Content, offset: int, total: int) -> SessionState:
        with self._lock:
            rate = self._rate_bytes_s
        length = FIRST_REQUEST_BYTES if rate is None else int(rate * REQUEST_S)
        length = max(ALIGN_BYTES, length - length % ALIGN_BYTES)
        length = min(length, total - offset)
        began = time.monotonic()
        state = self._drive.send(session, content, offset, length, total)
        took_s = time.monotonic() - began
        with self._lock:
            self._rate_bytes_s = length / took_s if took_s > 0 else self._rate_bytes_s
        return state
