"""Open files: reading and writing through handles.

Any thread may enter; calls on one inode that change it go one after another. A file is dirty (vfs/writeback.py)
before its first byte changes, and sealed at the close(2) of the last writing handle, before that call returns. A
handle that was closed and writes again (a copy of the descriptor in another process, a map) marks the file dirty
again.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

from drivefs.errors import AccessDenied, BadHandle, Exists, InvalidArgument, IsDirectory, NoEntry, NotSupported
from drivefs.model import Generation, Inode, Kind, RequestId, RevisionId
from drivefs.store.content_file import ContentFile
from drivefs.store.node import Node
from drivefs.store.room import Room
from drivefs.store.store import Store
from drivefs.vfs.appends import Appends
from drivefs.vfs.durable import Durability
from drivefs.vfs.handle_memory import SLOTS, HandleMemory
from drivefs.vfs.handles import Handle, Handles
from drivefs.vfs.opened import OpenFile, OpenFiles
from drivefs.vfs.ports import Downloader
from drivefs.vfs.reading import COMPARED_AT_ONCE_BYTES, Reading
from drivefs.vfs.rights import Rights
from drivefs.vfs.takeover import take_over
from drivefs.vfs.thumbnailers import find_thumbnailer
from drivefs.vfs.tree import Tree
from drivefs.vfs.writeback import WriteBack
from drivefs.vfs.writing import Writing

log = logging.getLogger(__name__)

FILE_LIMIT_BYTES = (1 << 63) - 1


class Files:
    """The open files of one mount."""

    def __init__(
        self,
        store: Store,
        downloader: Downloader,
        opened: OpenFiles,
        tree: Tree,
        rights: Rights,
        writeback: WriteBack,
        durability: Durability | None,
        memory: HandleMemory,
        room: Room,
    ) -> None:
        """With `durability`, fsync(2) waits for Drive."""
        self._store = store
        self._writeback = writeback
        self._durability = durability
        self._downloader = downloader
        self._opened = opened
        self._tree = tree
        self._rights = rights
        self._memory = memory
        self._room = room
        self._reading = Reading(store, downloader, opened, room)
        self._handles = Handles(memory)
        self._appends = Appends(memory)
        self._writing = Writing(self._handles, self._reading, writeback, self._appends, room)

    def take_over(self) -> list[Handle]:
        """The handles of the process before are open again, before any other call; which they are."""
        take_over(self._store, self._memory, self._handles, self._opened, self._appends, self._writeback)
        return self._handles.all()

    # --- opening and closing ---

    def create(
        self,
        parent: Inode,
        name: str,
        mode: int,
        flags: int,
        *,
        direct: bool = False,
        request: RequestId | None = None,
    ) -> Handle:
        """open(2) with O_CREAT. Raises Exists under O_EXCL, and what `Tree.make_folder` and `open` raise."""
        self._tree.prepare_new(parent, name)
        known = False  # whether the name is taken: seldom, or the kernel would not ask for this
        while True:
            found = self._store.nodes.find_child(parent, name) if known else None
            if found is None:
                try:
                    return self._room.retry(lambda: self._create(parent, name, mode, flags, direct, request))
                except Exists:
                    if flags & os.O_EXCL:
                        raise
                    known = True
                    continue
            try:
                return self.open(found.inode, flags, direct=direct, request=request)
            except NoEntry:
                continue  # unlinked meanwhile

    def _create(
        self, parent: Inode, name: str, mode: int, flags: int, direct: bool, request: RequestId | None
    ) -> Handle:
        opened: OpenFile | None = None
        try:
            with self._store.request():
                node = self._tree.add(parent, name, Kind.FILE, mode)
                self._store.requests.note(request, node.inode)
                opened = self._opened.acquire(node.inode)
                opened.file = self._store.journal.start_anew(node)
        except BaseException:
            if opened is not None:
                self._opened.release(opened)
            raise
        with opened.lock:
            return self._handle(opened, flags, direct, request)

    def make(self, parent: Inode, name: str, mode: int, request: RequestId | None = None) -> Inode:
        """mknod(2) of a regular file. Raises Exists, and what `create` raises."""
        self._tree.prepare_new(parent, name)
        with self._store.request():
            node = self._tree.add(parent, name, Kind.FILE, mode)
            self._store.requests.note(request, node.inode)
            file = self._store.journal.start_anew(node)
            self._store.journal.seal(file)
        file.close()
        return node.inode

    def open(
        self,
        inode: Inode,
        flags: int,
        *,
        direct: bool = False,
        request: RequestId | None = None,
        pid: int = 0,
    ) -> Handle:
        """open(2) of a file that is there. Raises Stale, IsDirectory, ReadOnly, AccessDenied; and what
        `Reading.load` raises, of a Google document.

        `direct`: the caller can have the kernel read and write the content file itself. The handle says whether it
        may; a file that is opened so for writing is dirty when this returns. `pid`: the thread that opens it, 0 where
        nobody knows.
        """
        writable = flags & os.O_ACCMODE != os.O_RDONLY
        if writable or flags & os.O_TRUNC:
            self._rights.check_mount()
        opened = self._opened.acquire_named(inode)
        try:
            node = self._store.nodes.get(inode)
            if node.kind is Kind.FOLDER:
                raise IsDirectory("A folder cannot be opened as a file.")
            if writable or flags & os.O_TRUNC:
                self._rights.check_content(node)
            else:
                self._open_to_read(opened, node, pid)
            with opened.lock:
                if flags & os.O_TRUNC:
                    self._truncate(opened, 0)
                    if not writable:
                        self._writeback.settle(opened)
                return self._handle(opened, flags, direct, request)
        except BaseException:
            self._opened.release(opened)
            raise

    def _open_to_read(self, opened: OpenFile, node: Node, pid: int) -> None:
        """Have what a reader will need of Drive begin to come. Raises what `open` raises."""
        thumbnailer = find_thumbnailer(pid) if pid and node.drive_id is not None else None
        if thumbnailer is not None:
            if not self._reading.is_here(opened):
                log.info("%s may not read %r, which would have to be downloaded", thumbnailer, node.name)
                raise AccessDenied("Nothing is downloaded to draw a thumbnail: drivefs warm brings it first.")
        elif node.export is not None:
            self._reading.load(opened)
        else:
            self._downloader.opened(node)

    def _handle(self, opened: OpenFile, flags: int, direct: bool, request: RequestId | None) -> Handle:
        writable = flags & os.O_ACCMODE != os.O_RDONLY
        file = self._direct_file(opened, writable=writable) if direct else None
        if file is None:
            opened.indirect += 1
        else:
            opened.direct += 1
            if writable:
                self._store.content.add_direct_writer(file)
        if writable:
            opened.busy += 1
        return self._handles.add(opened, flags, request, direct=file is not None)

    def find_opened(self, request: RequestId) -> Handle | None:
        """The handle that the process before opened for a request which comes again."""
        return self._handles.find_opened_by(request.number)

    def note_backing(self, handle: Handle, backing: int) -> None:
        """The kernel reads and writes the content file itself, under this number of its own."""
        self._handles.set_backing(handle, backing)

    def _direct_file(self, opened: OpenFile, *, writable: bool) -> ContentFile | None:
        """The content that the kernel may read and write itself, marked dirty if `writable`; None where it may not:
        not all of it is here, or is known to be what Drive has, other handles do without, or an upload of it goes on
        until the first byte changes."""
        if opened.indirect:
            return None
        if opened.file is None and self._store.nodes.get(opened.inode).generation is None:
            return None
        file = self._opened.load(opened)
        if file.base is not None or not (opened.direct or file.compare(COMPARED_AT_ONCE_BYTES)):
            return None
        if writable and not opened.direct and self._room.is_low():
            return None  # the kernel would not wait for room
        if writable and not opened.dirty:
            if file.claims and not opened.direct:
                return None
            file = self._room.retry(lambda: self._writeback.writable(opened))
        return file

    def go_indirect(self, handle: Handle) -> None:
        """The kernel cannot read and write it itself after all."""
        with handle.opened.lock:
            self._end_direct(handle)
            handle.opened.indirect += 1

    def _end_direct(self, handle: Handle) -> None:
        self._handles.set_indirect(handle)
        handle.opened.direct -= 1
        file = handle.opened.file
        if handle.writable and file is not None:
            self._store.content.add_direct_writer(file, -1)
            self._writeback.released()

    def handle(self, number: int) -> Handle:
        """Raises BadHandle."""
        return self._handles.get(number)

    def version(self, handle: Handle) -> tuple[RevisionId | None, Generation | None]:
        """Of what the handle reads: stays what it is while that changes by writes through this mount only."""
        node = self._store.nodes.get(handle.opened.inode)
        file = handle.opened.file
        if file is not None and file.generation != node.generation:
            return None, file.generation  # as it was before it changed on Drive: others have it open
        return node.revision, node.generation

    def flush(self, number: int) -> None:
        """close(2) of one descriptor of the handle; there may be others, and it may write again."""
        handle = self.handle(number)
        if handle.writable:
            with handle.opened.lock:
                self._stop_writing(handle)
                self._tell_failure(handle)

    def release(self, number: int) -> None:
        """The last descriptor of the handle is closed."""
        handle = self.handle(number)
        try:
            with handle.opened.lock:
                if handle.writable:
                    self._stop_writing(handle)
                if handle.direct:
                    self._end_direct(handle)
                else:
                    handle.opened.indirect -= 1
        finally:
            # Last: whoever takes over sees a handle that is half released as one that is open.
            self._handles.remove(handle)
            self._opened.release(handle.opened)

    @staticmethod
    def _tell_failure(handle: Handle) -> None:
        if handle.opened.file is not None:
            handle.opened.file.tell_failure()

    def _stop_writing(self, handle: Handle) -> None:
        if not handle.closed:
            self._handles.set_closed(handle, True)
            handle.opened.busy -= 1
        self._writeback.settle(handle.opened)
        if handle.direct:
            self._writeback.seal_again(handle.opened)
            if handle.readable:
                # It may have been mapped, and stores into a map leave the times that the kernel keeps as they are.
                self._store.news.attributes(handle.opened.inode)

    # --- reading ---

    def read(self, number: int, offset: int, length: int) -> bytes:
        """Up to `length` bytes, fewer only at the end. Raises BadHandle, DriveError, CacheDamaged, CacheFull."""
        return self._reading.read(self.handle(number), offset, length, lambda: False)

    def read_into(
        self, number: int, offset: int, buffer: memoryview, interrupted: Callable[[], bool] = lambda: False
    ) -> int:
        """Like `read`, into the caller's memory; returns how many bytes there were. A wait for Drive is given up when
        `interrupted` says so: raises Interrupted."""
        return self._reading.read_into(self.handle(number), offset, buffer, interrupted)

    # --- writing ---

    def write(self, number: int, offset: int, data: bytes | memoryview, request: RequestId | None = None) -> int:
        """Write all of `data`; at the end under O_APPEND, once for a `request`, though it may come again.

        Raises BadHandle, CacheFull, CacheDamaged.
        """
        return self._writing.write(self.handle(number), offset, data, request)

    def write_behind(
        self, number: int, offset: int, data: memoryview, request: RequestId, start: int
    ) -> Callable[[], None] | None:
        """Take over a write whose data lies in the thread's own `receive_buffer` from `start` on: its program may be
        told that it is done, and goes on while the caller puts it in place by what this returns. None: it is to be
        written by `write`, for it may have to wait. Raises BadHandle."""
        buffer = self._store.write_buffers.find(request.slot % SLOTS)
        if buffer is None:
            return None
        return self._writing.write_behind(self.handle(number), offset, data, buffer, start)

    def make_receive_buffers(self, count: int, size_bytes: int) -> None:
        """Buffers for the first `count` slots, for writes to be taken over from there. Once."""
        self._store.write_buffers.make(count, size_bytes)

    def receive_buffer(self, slot: int) -> memoryview | None:
        """Where the thread that has this slot is to read its requests into, if there is such a place."""
        buffer = self._store.write_buffers.find(slot % SLOTS)
        return buffer.data if buffer is not None else None

    def copy_range(self, number: int, offset: int, to_number: int, to_offset: int, length: int) -> int:
        """copy_file_range(2): how many bytes were copied, which may be fewer than `length`; 0 at the source's end.

        Raises NotSupported where the caller is to read and write them instead; InvalidArgument, BadHandle, CacheFull,
        CacheDamaged.
        """
        if max(offset, to_offset) > FILE_LIMIT_BYTES:
            raise InvalidArgument("A file has 0 to 2^63 - 1 bytes.")
        return self._writing.copy(self.handle(number), offset, self.handle(to_number), to_offset, length)

    def truncate(self, inode: Inode, size_bytes: int, number: int | None = None) -> None:
        """truncate(2), or ftruncate(2) with a handle. Raises NoEntry, IsDirectory, BadHandle, CacheFull."""
        self._rights.check_mount()
        if not 0 <= size_bytes <= FILE_LIMIT_BYTES:
            raise InvalidArgument("A file has 0 to 2^63 - 1 bytes.")
        if number is not None and not self.handle(number).writable:
            raise InvalidArgument("The file is open for reading only.")
        with self._opened.used(inode) as opened:
            node = self._file_node(inode)
            if number is None:
                self._rights.check_content(node)
            self._truncate(opened, size_bytes)
            self._writeback.settle(opened)

    def _file_node(self, inode: Inode) -> Node:
        node = self._store.nodes.get(inode)
        if node.kind is not Kind.FILE:
            raise IsDirectory("Only a file has a size to set.")
        return node

    def _truncate(self, opened: OpenFile, size_bytes: int) -> None:
        """Set the size; a file that has it already is not changed."""
        if size_bytes == self._opened.attributes(opened.inode).size_bytes:
            return
        if size_bytes or opened.direct:
            self._room.retry(lambda: self._writeback.writable(opened).truncate(size_bytes))
        else:
            # Needs nothing of the old content, not even from Drive; and an upload of it can go on.
            file = self._room.retry(lambda: self._store.journal.start_anew(self._store.nodes.get(opened.inode)))
            old, opened.file = opened.file, file
            if old is not None:
                old.close()

    def allocate(self, number: int, mode: int, offset: int, length: int) -> None:
        """fallocate(2): mode 0 makes the file long enough. Raises NotSupported for other modes."""
        handle = self.handle(number)
        if mode:
            raise NotSupported("Holes cannot be punched.")
        if not handle.writable:
            raise BadHandle("The file is open for reading only.")
        end = offset + length
        with handle.opened.lock:
            self._writing.go_on(handle)
            if end > self._opened.attributes(handle.opened.inode).size_bytes:
                self._truncate(handle.opened, end)

    def sync(self, number: int, interrupted: Callable[[], bool] = lambda: False) -> None:
        """fsync(2): the content is on the disk, then the journal's record of it; on Drive too, if that was asked for.

        Only the wait for Drive is given up when `interrupted` says so. Raises NotPublished, Interrupted, NoSpace,
        CacheDamaged.
        """
        handle = self.handle(number)
        opened = handle.opened
        self._store.sync()
        if handle.writable:
            self._tell_failure(handle)
        if self._durability is not None:
            with opened.lock:
                self._writeback.snapshot_if_dirty(opened)
                seq = self._store.journal.last_seq
            self._durability.wait(opened.inode, seq, interrupted)

    def sync_names(self) -> None:
        """fsync(2) of a folder: every change of names that returned is on the disk, with the content they name."""
        self._store.sync()

    def release_all(self) -> None:
        """Close all handles: the kernel is gone and will close none of them."""
        for handle in self._handles.all():
            self.release(handle.number)
