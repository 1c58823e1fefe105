"""Requests about open files, in terms of the filesystem. No policy.

Any number of threads may enter. A file handle of the kernel's is the number of ours.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from cachetools import LRUCache

from drivefs.fuse.direct import past_the_page_cache
from drivefs.fuse.kernel import wire
from drivefs.fuse.kernel.names import Names
from drivefs.fuse.kernel.passthrough import Passthrough
from drivefs.fuse.kernel.request import Malformed, Reply, Request
from drivefs.fuse.kernel.wire import Opcode
from drivefs.model import Inode
from drivefs.vfs.handles import Handle
from drivefs.vfs.vfs import Vfs

CACHED_FILES = 20_000
"""Of so many files it is known what the kernel keeps of them: some 5 MB."""


class Contents:
    """What the kernel may ask about open files."""

    def __init__(self, vfs: Vfs, names: Names, passthrough: Passthrough) -> None:
        self._vfs = vfs
        self._files = vfs.files
        self._names = names
        self._passthrough = passthrough
        self._lock = threading.Lock()
        # What the kernel's own cache of a file was filled from, at the last open; guarded by _lock.
        self._cached: LRUCache[Inode, object] = LRUCache(CACHED_FILES)

    def table(self) -> dict[int, Callable[[Request], Reply]]:
        return {
            Opcode.OPEN: self.open,
            Opcode.CREATE: self.create,
            Opcode.READ: self.read,
            Opcode.WRITE: self.write,
            Opcode.FLUSH: self.flush,
            Opcode.FSYNC: self.fsync,
            Opcode.RELEASE: self.release,
            Opcode.FALLOCATE: self.fallocate,
            Opcode.COPY_FILE_RANGE: self.copy_range,
            Opcode.COPY_FILE_RANGE_64: self.copy_range_64,
        }

    def open(self, request: Request) -> Reply:
        flags, open_flags = wire.OPEN_IN.unpack_from(request.body)
        handle = self._opened_before(request)
        if handle is None:
            handle = self._files.open(
                Inode(request.nodeid),
                flags,
                direct=self._passthrough.enabled,
                request=request.id,
                pid=request.pid,
            )
        reply = self._opened(handle, flags)
        request.undo = lambda: self._release(handle)
        if open_flags & wire.OPEN_KILL_SUIDGID:
            self._names.drop_privileges(Inode(request.nodeid))
        return reply

    def _opened_before(self, request: Request) -> Handle | None:
        """What the process before opened, and died before it said so."""
        return self._files.find_opened(request.id) if request.resent else None

    def _opened(self, handle: Handle, flags: int) -> bytes:
        """struct fuse_open_out."""
        if handle.direct:
            backing = self._passthrough.acquire(handle)
            if backing is not None:
                self._files.note_backing(handle, backing)
                with self._lock:  # the kernel's cache does not see what is written to the backing file
                    self._cached.pop(handle.opened.inode, None)
                return wire.OPEN_OUT.pack(handle.number, wire.FOPEN_PASSTHROUGH, backing)
            self._files.go_indirect(handle)
        if past_the_page_cache(flags):
            return wire.OPEN_OUT.pack(handle.number, wire.FOPEN_DIRECT_IO, 0)
        return wire.OPEN_OUT.pack(handle.number, self._keep_cache(handle), 0)

    def _keep_cache(self, handle: Handle) -> int:
        """FOPEN_KEEP_CACHE where the kernel still has the content that the handle reads."""
        inode, version = handle.opened.inode, self._files.version(handle)
        with self._lock:
            before = self._cached.get(inode)
            self._cached[inode] = version
        return wire.FOPEN_KEEP_CACHE if before == version else 0

    def create(self, request: Request) -> Reply:
        mark = self._vfs.news.mark
        flags, mode, _, _ = wire.CREATE_IN.unpack_from(request.body)
        name = request.name(wire.CREATE_IN.size)
        direct = self._passthrough.enabled
        handle = self._opened_before(request)
        made = self._vfs.find_done(request.id) if request.resent else None
        if handle is None and made is not None:
            handle = self._files.open(made, flags & ~os.O_TRUNC, direct=direct, request=request.id)
        if handle is None:
            handle = self._files.create(
                Inode(request.nodeid), name, mode & 0o7777, flags, direct=direct, request=request.id
            )
        reply = self._opened(handle, flags)
        entry = self._names.tell(request, self._vfs.tree.attributes(handle.opened.inode), mark)
        forget = request.undo

        def undo() -> None:
            self._release(handle)
            if forget is not None:
                forget()

        request.undo = undo
        return entry + reply

    def read(self, request: Request) -> Reply:
        number, offset, size, *_ = wire.READ_IN.unpack_from(request.body)
        room = request.room[:size]
        return room[: self._files.read_into(number, offset, room, request.interrupted)]

    def write(self, request: Request) -> Reply:
        number, offset, size, flags, *_ = wire.WRITE_IN.unpack_from(request.body)
        data = request.body[wire.WRITE_IN.size :]
        if len(data) != size:
            raise Malformed("with more or fewer bytes than it says")
        if flags & wire.WRITE_KILL_SUIDGID:
            self._names.drop_privileges(Inode(request.nodeid))
        start = wire.IN_HEADER.size + wire.WRITE_IN.size
        request.finish = self._files.write_behind(number, offset, data, request.id, start)
        if request.finish is not None:
            return wire.WRITE_OUT.pack(size, 0)
        return wire.WRITE_OUT.pack(self._files.write(number, offset, data, request.id), 0)

    def fallocate(self, request: Request) -> Reply:
        number, offset, length, mode, _ = wire.FALLOCATE_IN.unpack_from(request.body)
        self._files.allocate(number, mode, offset, length)
        return b""

    def copy_range(self, request: Request) -> Reply:
        return wire.WRITE_OUT.pack(self._copied_bytes(request), 0)

    def copy_range_64(self, request: Request) -> Reply:
        return wire.COPY_FILE_RANGE_OUT.pack(self._copied_bytes(request))

    def _copied_bytes(self, request: Request) -> int:
        number, offset, _, to_number, to_offset, length, _ = wire.COPY_FILE_RANGE_IN.unpack_from(request.body)
        return self._files.copy_range(number, offset, to_number, to_offset, length)

    def flush(self, request: Request) -> Reply:
        self._files.flush(wire.HANDLE_IN.unpack_from(request.body)[0])
        return b""

    def fsync(self, request: Request) -> Reply:
        self._files.sync(wire.HANDLE_IN.unpack_from(request.body)[0], request.interrupted)
        return b""

    def release(self, request: Request) -> Reply:
        self._release(self._files.handle(wire.HANDLE_IN.unpack_from(request.body)[0]))
        return b""

    def _release(self, handle: Handle) -> None:
        try:
            self._files.release(handle.number)
        finally:
            if handle.backing:
                self._passthrough.release(handle.backing)
