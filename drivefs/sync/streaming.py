"""Sends the beginning of large files while they are written, and while they wait for their turn.

`run` is the body of one thread; each request goes on a thread of the executor given. No lock is held meanwhile, and
nothing here makes anything show on Drive: the last byte is the uploader's, which takes a stream over by `take`.

What is sent is the content from its first byte to where it is written without a gap. When a byte of that is changed
afterwards, the stream is given up before the change (ContentFile.lose_ahead); changes that the kernel makes unseen,
and those before a crash, show in the digest of what was sent, which is compared in `take`. Durable when: a session
is flushed to the disk before its first byte leaves.
"""

from __future__ import annotations

import hashlib
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass

from drivefs.drive.api import Drive
from drivefs.errors import (
    CacheDamaged,
    DriveError,
    DrivefsError,
    IdInUse,
    QueueBlocked,
    RateLimited,
    RemoteNotFound,
    ServerFault,
    SessionGone,
    SignInNeeded,
    Superseded,
    Unreachable,
)
from drivefs.model import (
    DriveId,
    Generation,
    Inode,
    Metadata,
    Priority,
    SessionUri,
    UpdateTarget,
    UploadTarget,
)
from drivefs.store.claim import Claim
from drivefs.store.content_file import ContentFile
from drivefs.store.generations import State
from drivefs.store.node import Node
from drivefs.store.store import Store
from drivefs.sync.destinations import Destinations
from drivefs.sync.order import SMALL_LIMIT_BYTES
from drivefs.sync.sending import ALIGN_BYTES, Head
from drivefs.sync.stream import Stream

log = logging.getLogger(__name__)

FILE_BYTES = 32 << 20
"""A smaller file is not worth a session before it is closed."""

LEAST_BYTES = 16 << 20
MOST_BYTES = 64 << 20
"""What one request carries: some 32 MiB. Less when the line is faster than the writer, so that little is left to send
at the close; more when it is slower, so that fewer round trips are."""

GROWING_S = 1.0
"""What is still written this long after its first LEAST_BYTES is being written for long. What is written at the speed
of the disk is closed by then, and goes in fewer requests."""

STREAMS = 8
"""Files at a time; of them as many are sent at once as the executor has threads."""

AT_ONCE = 2
"""Requests at a time."""

BETWEEN_S = 0.25

IDS_AT_ONCE = 10
PIECE_BYTES = 1 << 20

REST_LIMIT_S = 64.0
BLOCKED_S = 60.0
"""After an error of Drive nothing is sent ahead for a while: what is closed is tried more often."""


@dataclass(frozen=True, slots=True)
class Sending:
    """A file of which a part is on Drive's side, and may still be written."""

    inode: Inode
    size_bytes: int
    done_bytes: int


class Streaming:
    """The streams of one mount."""

    def __init__(
        self,
        store: Store,
        drive: Drive,
        executor: Executor,
        *,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`executor` has AT_ONCE threads."""
        self._store = store
        self._drive = drive.at(Priority.AHEAD)
        self._executor = executor
        self._clock = clock
        self._chance = chance
        self._destinations = Destinations(store)
        self._changed = threading.Condition()
        # Guarded by _changed's lock:
        self._streams: dict[Generation, Stream] = {}
        self._under_way = 0
        self._failures = 0
        self._rest_until_s = 0.0
        # The ticking thread's own:
        self._growing_since_s: dict[Generation, float] = {}
        # Guarded by _changed's lock:
        self._ids: list[DriveId] = []

    def active(self) -> list[Sending]:
        """For status: what is sent ahead."""
        with self._changed:
            streams = [stream for stream in self._streams.values() if stream.session is not None]
        return [Sending(each.file.inode, each.file.size_bytes, each.digest.base_bytes) for each in streams]

    def run(self, stop: threading.Event) -> None:
        """Send ahead until `stop` is set; then wait for what is under way."""
        while not stop.wait(BETWEEN_S):
            try:
                self.tick()
            except DrivefsError as error:
                log.warning("Nothing can be sent ahead for now: %s", error)
        with self._changed:
            self._changed.wait_for(lambda: not self._under_way)
            streams, self._streams = self._streams, {}
        for stream in streams.values():
            stream.file.close()

    def tick(self) -> None:
        """Take what is growing, let go of what has lost its use, and send what there is."""
        self._drop_useless()
        self._find_growing()
        with self._changed:
            if self._clock() < self._rest_until_s:
                return
            ready: list[Stream] = []
            for stream in self._streams.values():
                if self._under_way + len(ready) >= AT_ONCE:
                    break
                if not stream.busy and not stream.taken and self._length(stream):
                    stream.busy = True
                    ready.append(stream)
            self._under_way += len(ready)
        for stream in ready:
            self._executor.submit(self._advance, stream)

    # --- which ---

    def _find_growing(self) -> None:
        now_s = self._clock()
        since_s = self._growing_since_s
        growing = {file.generation: file for file in self._store.content.growing(LEAST_BYTES)}
        self._growing_since_s = {generation: since_s.get(generation, now_s) for generation in growing}
        for generation, file in growing.items():
            with self._changed:
                if generation in self._streams or len(self._streams) >= STREAMS:
                    continue
            if now_s - self._growing_since_s[generation] >= GROWING_S and file.written_ahead_bytes >= FILE_BYTES:
                self._open(file)

    def _open(self, file: ContentFile) -> None:
        node = self._store.nodes.find(file.inode)
        if node is None or node.unnamed or node.generation != file.generation or not file.use():
            return
        stream = self._destinations.find_stream(node, file)
        if stream is None:
            file.close()
            return
        with self._changed:
            self._streams[file.generation] = stream

    def _drop_useless(self) -> None:
        """What was removed, replaced or changed in its beginning, or is bound to what it no longer becomes."""
        with self._changed:
            idle = [stream for stream in self._streams.values() if not (stream.busy or stream.taken)]
        for stream in idle:
            if not self._destinations.is_useful(stream):
                self._give_up(stream)

    # --- one request after another, on a thread of the executor ---

    def _length(self, stream: Stream) -> int:
        """What its next request carries; 0 when it is to wait."""
        waiting = stream.waiting_bytes()
        if waiting < LEAST_BYTES or self._clock() < self._rest_until_s:
            return 0
        if stream.file.state is State.OPEN and self._store.content.sent_ahead.others_wait(SMALL_LIMIT_BYTES):
            return 0  # what is closed goes first
        if self._store.journal.makes_room(stream.file.inode):
            return 0
        return min(waiting, MOST_BYTES)

    def _advance(self, stream: Stream) -> None:
        lost = False
        try:
            while not stream.taken and (length := self._length(stream)):
                self._send(stream, length)
            self._failures = 0
        except (Unreachable, ServerFault, RateLimited, QueueBlocked, SignInNeeded) as error:
            stream.unsure = True
            self._rest(error)
        except (Superseded, SessionGone, RemoteNotFound, IdInUse) as error:
            log.info("What was sent ahead is given up: %s", error)
            lost = True
        except (DriveError, CacheDamaged) as error:
            log.warning("A file is not sent before it is closed: %s", error)
            lost = True
            self._rest(error)
        except BaseException:
            log.exception("Sending ahead failed unexpectedly.")
            lost = True
        finally:
            if lost:
                self._give_up(stream)
            with self._changed:
                stream.busy = False
                self._under_way -= 1
                self._changed.notify_all()

    def _send(self, stream: Stream, length: int) -> None:
        if stream.session is None:
            self._begin(stream)
            assert stream.session is not None
        elif stream.unsure:
            state = self._drive.session_state(stream.session, None)
            self._confirm(stream, state.offset)
            stream.unsure = False
            return
        stream.file.start_writeback()  # so that little is left to flush at the end
        offset = stream.digest.base_bytes
        self._confirm(stream, self._drive.send(stream.session, stream, offset, length, None).offset)

    @staticmethod
    def _confirm(stream: Stream, offset: int) -> None:
        if not stream.digest.has_mark(offset):
            raise Superseded(f"Drive has {offset} bytes, of which nothing is known here.")
        stream.digest.go_back(offset)
        stream.digest.confirm(offset)

    def _begin(self, stream: Stream) -> None:
        """A session, kept before the first byte goes. Raises Superseded when there is nothing to send any more."""
        node = self._store.nodes.find(stream.file.inode)
        if node is None or node.parent is None:
            raise Superseded("The file was removed.")
        if stream.fresh:
            stream.drive_id = self._take_id()
            target: UploadTarget = self._destinations.create_target(node, stream.drive_id)
        else:
            target = UpdateTarget(stream.drive_id, Metadata())
        stream.session = session = self._drive.start_session(target, None)
        stream.file.begin_ahead()
        if not self._store.content.sent_ahead.begin(
            stream.generation, stream.drive_id, session, fresh=stream.fresh, grain_bytes=ALIGN_BYTES
        ):
            raise Superseded("The content was replaced.")

    def _take_id(self) -> DriveId:
        """One that nobody else has: those of the uploader lie ready for the same reason."""
        with self._changed:
            if self._ids:
                return self._ids.pop()
        ids = self._drive.generate_ids(IDS_AT_ONCE)
        with self._changed:
            self._ids += ids
            return self._ids.pop()

    def _rest(self, error: DrivefsError) -> None:
        with self._changed:
            self._failures += 1
            delay_s = min(2.0 ** min(self._failures, 6) + self._chance(), REST_LIMIT_S)
            if isinstance(error, (QueueBlocked, SignInNeeded)):
                delay_s = BLOCKED_S
            elif isinstance(error, RateLimited) and error.retry_after_s is not None:
                delay_s = max(delay_s, error.retry_after_s)
            self._rest_until_s = self._clock() + delay_s
        log.info("Nothing is sent ahead for %.0f s: %s", delay_s, error)

    def _give_up(self, stream: Stream) -> None:
        """Forget what was sent. Nothing of it shows on Drive."""
        with self._changed:
            if self._streams.pop(stream.generation, None) is None:
                return
        if stream.digest.size_bytes and not stream.file.is_ahead:
            node = self._store.nodes.find(stream.file.inode)
            if node is not None and node.name is not None:
                self._store.habits.in_vain(node.name)
        stream.file.lose_ahead()
        stream.file.close()
        if stream.session is not None:
            self._end_session(stream.session)

    def _end_session(self, session: SessionUri) -> None:
        try:
            self._drive.end_session(session)
        except (DriveError, SignInNeeded) as error:
            log.debug("A session is left to its end in a week: %s", error)

    # --- what the uploader does ---

    def take(self, claim: Claim, node: Node) -> Head | None:
        """What Drive has of a sealed content already, when that is its beginning and bound to the node's ID; from
        then on it is the caller's. Waits for the request under way. Raises DriveError, SignInNeeded, Superseded."""
        with self._changed:
            stream = self._streams.pop(claim.generation, None)
            if stream is not None:
                stream.taken = True
                self._changed.wait_for(lambda: not stream.busy)
        rows = self._store.content.sent_ahead
        try:
            row = rows.find(claim.generation)
            if row is None:
                return None
            head = self._verified(claim, node, stream)
            if head is None:
                log.info("What was sent ahead of a file is not what it became, and is sent anew.")
                rows.forget(claim.generation)
                self._end_session(row.session)
            return head
        finally:
            if stream is not None:
                stream.file.close()

    def _verified(self, claim: Claim, node: Node, stream: Stream | None) -> Head | None:
        row = self._store.content.sent_ahead.find(claim.generation)
        if row is None or row.drive_id != node.drive_id or claim.size_bytes <= SMALL_LIMIT_BYTES:
            return None
        if stream is not None and not stream.unsure:
            done, md5 = stream.digest.base_bytes, stream.digest.md5()
            unseen = claim.file.was_direct
            right = claim.file.is_ahead and (not unseen or stream.digest.agrees(_pieces(claim, done)))
        else:
            try:
                done = self._drive.session_state(row.session, None).offset
            except SessionGone:
                return None
            md5 = hashlib.md5(usedforsecurity=False)
            for piece in _pieces(claim, done):
                md5.update(piece)
            right = md5.digest() == row.digest_at(done)
        if not right:
            self._store.habits.in_vain(node.name or "")
            return None
        # The request that completes it carries bytes: those that are flushed, and looked at, before.
        return Head(row.session, done, md5) if 0 < done < claim.size_bytes else None


def _pieces(claim: Claim, size_bytes: int) -> Iterator[bytes]:
    """The first bytes of a content."""
    for offset in range(0, size_bytes, PIECE_BYTES):
        yield claim.read_at(offset, min(PIECE_BYTES, size_bytes - offset))
