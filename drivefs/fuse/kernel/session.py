"""The conversation with the kernel: INIT, then requests, read by several threads; who reads one answers it.

Threads enter `run` and leave it when the mount is gone. There is always one more that reads, up to a limit, so that
those who wait for Drive keep nobody from what is local. No lock is held while a request is read, handled or answered.

Requests are read, not spliced: what comes past the page cache (fuse/direct.py) is copied on its way into a pipe too
(fuse_copy_folio in fs/fuse/dev.c, since CVE-2022-1011), so a pipe would save nothing.
"""

from __future__ import annotations

import errno
import logging
import os
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from drivefs.errors import DriveError, DrivefsError, StoreError, UserError
from drivefs.fuse.errno_map import errno_of
from drivefs.fuse.kernel import wire
from drivefs.fuse.kernel.interrupts import Interrupts
from drivefs.fuse.kernel.request import Malformed, Reply, Request
from drivefs.fuse.kernel.wire import Opcode
from drivefs.vfs.handle_memory import SLOTS

log = logging.getLogger(__name__)

THREADS = 64
"""Requests handled at a time; most of them wait for Drive then."""
assert THREADS < SLOTS

IDLE_THREADS = 8
"""More than these end when they have nothing to do: each has a buffer of 1 MiB."""

BACKGROUND = 64
"""Read-ahead and other requests that nobody waits for, at a time."""

_GONE = {errno.ENODEV, errno.ECONNABORTED, errno.EBADF}
_AGAIN = {errno.EINTR, errno.EAGAIN, errno.ENOENT}
_MAY_WAIT = {Opcode.LOOKUP, Opcode.READ, Opcode.READLINK, Opcode.READDIR, Opcode.READDIRPLUS, Opcode.FSYNC}
"""What may wait for Drive, and changes nothing: to give it up costs nothing."""

_WANTED = (
    wire.ASYNC_READ
    | wire.ATOMIC_O_TRUNC
    | wire.BIG_WRITES
    | wire.DO_READDIRPLUS
    | wire.READDIRPLUS_AUTO
    | wire.PARALLEL_DIROPS
    | wire.ABORT_ERROR
    | wire.MAX_PAGES
    | wire.HANDLE_KILLPRIV_V2
    | wire.INIT_EXT
    | wire.HAS_RESEND
)


class Joinable(Protocol):
    """A thread that was started."""

    def join(self) -> None: ...


StartThread = Callable[[Callable[[], None], str], Joinable]
"""Starts a thread with a body and a name."""


@dataclass(frozen=True, slots=True)
class Agreed:
    """What kernel and we have agreed upon."""

    minor: int
    flags: int

    @property
    def passthrough(self) -> bool:
        return bool(self.flags & wire.PASSTHROUGH)

    @property
    def resends(self) -> bool:
        """Whether another process can go on with the conversation."""
        return bool(self.flags & wire.HAS_RESEND)

    def to_text(self) -> str:
        """For the process that goes on with it."""
        return f"{self.minor} {self.flags}"

    @classmethod
    def from_text(cls, text: str) -> Agreed:
        """What `to_text` gave."""
        minor, flags = map(int, text.split())
        return cls(minor, flags)


class Session:
    """One mount's conversation."""

    def __init__(
        self,
        fd: int,
        table: dict[int, Callable[[Request], Reply]],
        start_thread: StartThread,
        first_slot: int,
        receive_buffer: Callable[[int], memoryview | None],
    ) -> None:
        """`table` has a function for each opcode that is known; it raises DrivefsError or OSError. Requests are told
        apart by SLOTS slots from `first_slot` on, and read into what `receive_buffer` has for the slot."""
        self._fd = fd
        self._table = table
        self._start_thread = start_thread
        self._interrupts = Interrupts()
        self._lock = threading.Lock()
        self._idle = 0  # threads that read; guarded by _lock
        self._threads: dict[int, Joinable] = {}  # those that were started here; guarded by _lock
        self._first_slot = first_slot
        self._receive_buffer = receive_buffer

    # --- the beginning ---

    def agree(self, *, passthrough: bool) -> Agreed:
        """Answer INIT, which is always the first request. Raises UserError when the kernel is too old, or gone."""
        buffer = bytearray(wire.BUFFER_BYTES)
        while True:
            try:
                length = os.readv(self._fd, [buffer])
            except OSError as error:
                if error.errno in _AGAIN:
                    continue
                raise UserError(f"The mount was gone before it answered: {error.strerror}.") from error
            request = Request(memoryview(buffer)[:length], memoryview(buffer))
            if request.opcode != Opcode.INIT:
                self._reply(request, b"", errno.EIO)
                continue
            major, minor, readahead, flags = wire.INIT_IN.unpack_from(request.body)
            if major != wire.VERSION[0] or minor < wire.OLDEST_MINOR:
                self._reply(request, b"", errno.EPROTO)
                raise UserError(f"The kernel speaks version {major}.{minor} of FUSE, which is too old.")
            if flags & wire.INIT_EXT:
                (more,) = wire.INIT_FLAGS2.unpack_from(request.body, wire.INIT_IN.size)
                flags |= more << 32
            agreed = Agreed(min(minor, wire.VERSION[1]), flags & (_WANTED | (wire.PASSTHROUGH if passthrough else 0)))
            self._reply(request, self._init_out(agreed, readahead))
            return agreed

    @staticmethod
    def _init_out(agreed: Agreed, readahead: int) -> bytes:
        return wire.INIT_OUT.pack(
            *(wire.VERSION[0], wire.VERSION[1], readahead, agreed.flags & 0xFFFFFFFF),
            *(BACKGROUND, BACKGROUND * 3 // 4, wire.WRITE_LIMIT_BYTES, 1, wire.PAGES_LIMIT, 0),
            agreed.flags >> 32,
            # 2, for the cache may itself lie on a filesystem over another (overlayfs).
            2 if agreed.passthrough else 0,
            0,
        )

    def resume(self) -> None:
        """Have the kernel send again what the process before has not answered."""
        os.write(self._fd, wire.OUT_HEADER.pack(wire.OUT_HEADER.size, wire.NOTIFY_RESEND, 0))

    # --- the loop ---

    def run(self) -> None:
        """Read and answer until the mount is gone; the other threads have ended then too."""
        self._read_until_gone(0, stay=True)
        while True:
            with self._lock:
                if not self._threads:
                    return
                thread = next(iter(self._threads.values()))
            thread.join()

    def _start_reader(self) -> None:
        with self._lock:
            if len(self._threads) >= THREADS:
                return
            number = next(number for number in range(1, THREADS + 1) if number not in self._threads)
            # Held until it is in the table, so that a thread which ends at once finds itself there.
            self._threads[number] = self._start_thread(lambda: self._reader(number), f"fuse-{number}")

    def _reader(self, number: int) -> None:
        try:
            self._read_until_gone(number, stay=False)
        finally:
            with self._lock:
                del self._threads[number]

    def _read_until_gone(self, number: int, *, stay: bool) -> None:
        slot = self._first_slot + number
        buffer = self._receive_buffer(slot) or memoryview(bytearray(wire.BUFFER_BYTES))
        buffers = [buffer]
        while True:
            with self._lock:
                if self._idle >= IDLE_THREADS and not stay:
                    return
                self._idle += 1
            failure = 0
            try:
                length = os.readv(self._fd, buffers)
            except OSError as error:
                failure = error.errno or errno.EIO
            with self._lock:
                self._idle -= 1
                last = self._idle == 0
            if failure in _GONE:
                return
            if failure:
                if failure not in _AGAIN:
                    log.error("Requests can no longer be read: %s", os.strerror(failure))
                    return
                continue
            if last:
                self._start_reader()
            self.answer(buffer[:length], buffer, slot)

    # --- one request ---

    def answer(self, received: memoryview, room: memoryview, slot: int = 0) -> None:
        """Handle a request and write its reply. Never raises, whatever was received."""
        try:
            request = Request(received, room, slot)
        except Malformed as error:
            log.error("The kernel sent a request that is %s", error)
            return
        if request.opcode == Opcode.INTERRUPT:
            self._interrupt(request)
            return
        may_wait = request.opcode in _MAY_WAIT
        if may_wait and not self._interrupts.begin(request):
            self._reply(request, b"", errno.EINTR)
            return
        reply, number = self._handled(request)
        if number and request.undo is not None:
            request.undo()
            request.undo = None
        if may_wait and not self._interrupts.end(request):
            if request.undo is not None:
                request.undo()
            return
        try:
            if reply is not None:
                self._reply(request, reply, number)
        finally:
            if request.finish is not None:
                request.finish()

    def _handled(self, request: Request) -> tuple[Reply, int]:
        """The reply and its errno."""
        function = self._table.get(request.opcode)
        if function is None:
            return b"", 0 if request.opcode == Opcode.DESTROY else errno.ENOSYS
        try:
            return function(request), 0
        except DrivefsError as error:
            if isinstance(error, (DriveError, StoreError, UserError)):
                log.warning("%s: %s", function.__name__, error)
            return b"", errno_of(error)
        except OSError as error:
            if not error.strerror:  # raised on purpose
                return b"", error.errno or errno.EIO
            log.exception("%s failed", function.__name__)
            return b"", error.errno or errno.EIO
        except (Malformed, struct.error) as error:
            log.error("The kernel sent a request (%s) that is malformed: %s", function.__name__, error)
            return None if request.opcode in (Opcode.FORGET, Opcode.BATCH_FORGET) else b"", errno.EINVAL
        except Exception:  # one request must not take the mount down
            log.exception("%s failed", function.__name__)
            return b"", errno.EIO

    def _reply(self, request: Request, reply: bytes | memoryview, number: int = 0) -> None:
        size = wire.OUT_HEADER.size + len(reply)
        header = wire.OUT_HEADER.pack(size, -number, request.unique)
        try:
            if isinstance(reply, bytes):
                os.write(self._fd, header + reply)
            else:
                os.writev(self._fd, (header, reply))
        except OSError as error:
            # ENOENT: whoever asked is gone. The rest: the mount is.
            if error.errno not in {errno.ENOENT, *_GONE}:
                log.error("The kernel refuses a reply to opcode %d: %s", request.opcode, error.strerror)
            if request.undo is not None:
                request.undo()

    def _interrupt(self, request: Request) -> None:
        if len(request.body) < wire.INTERRUPT_IN.size:
            log.error("The kernel sent an interrupt that is malformed")
            return
        (unique,) = wire.INTERRUPT_IN.unpack_from(request.body)
        if self._interrupts.interrupt(unique):
            request.unique = unique
            self._reply(request, b"", errno.EINTR)
