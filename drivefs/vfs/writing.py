"""Writing through handles: a file is dirty before its first byte changes, and waits for room hold no lock.

Any thread may enter; calls on one inode go one after another.
"""

from __future__ import annotations

from collections.abc import Callable

from drivefs.errors import BadHandle
from drivefs.model import RequestId
from drivefs.store.content_file import ContentFile
from drivefs.store.room import Room
from drivefs.store.write_buffers import WriteBuffer
from drivefs.vfs.appends import Appends
from drivefs.vfs.handles import Handle, Handles
from drivefs.vfs.reading import Reading
from drivefs.vfs.writeback import WriteBack

BEHIND_LEAST_BYTES = 64 << 10
"""Fewer are in place sooner than another thread could take the next write; but they wait for none before them."""


class Writing:
    """The writes of one mount."""

    def __init__(
        self, handles: Handles, reading: Reading, writeback: WriteBack, appends: Appends, room: Room
    ) -> None:
        self._handles = handles
        self._reading = reading
        self._writeback = writeback
        self._appends = appends
        self._room = room

    def write(self, handle: Handle, offset: int, data: bytes | memoryview, request: RequestId | None) -> int:
        """What Files.write does."""

        def write(file: ContentFile) -> int | None:
            if handle.append:
                return self._appends.write(file, data, request)
            return None if file.must_note(offset) else file.write(offset, data)

        if not handle.writable:
            raise BadHandle("The file is open for reading only.")
        return self._change(handle, write)

    def write_behind(
        self, handle: Handle, offset: int, data: memoryview, buffer: WriteBuffer, start: int
    ) -> Callable[[], None] | None:
        """What Files.write_behind does."""
        opened, file = handle.opened, handle.opened.file
        if not handle.writable or handle.append or file is None:
            return None
        if len(data) < BEHIND_LEAST_BYTES and not file.is_behind:
            return None
        if self._room.is_low():
            return None  # it may have to wait for room
        with opened.lock:
            if handle.closed or opened.direct or not opened.dirty or opened.file is None:
                return None
            return opened.file.write_behind(offset, data, buffer, start)

    def copy(self, source: Handle, offset: int, target: Handle, to_offset: int, length: int) -> int:
        """What Files.copy_range does."""

        def copy(to: ContentFile) -> int | None:
            return None if to.must_note(to_offset) else to.copy_from(file, offset, to_offset, length)

        if not target.writable or target.append:
            raise BadHandle("The file is not open for writing at any place.")
        file = self._reading.whole(source)
        try:
            return self._change(target, copy)
        finally:
            file.close()

    def _change(self, handle: Handle, change: Callable[[ContentFile], int | None]) -> int:
        """Let `change` write to the content that the handle has; None of it where a change in place is to be noted
        first."""
        while True:
            # Without the lock while it waits for room: a flush has to get at the file.
            done = self._room.retry(lambda: self._changed(handle, change))
            if done is not None:
                return done
            # Once a file and sync point, and outside of the lock too: it waits for the disk.
            file = handle.opened.file
            if file is not None:
                file.note_change()

    def _changed(self, handle: Handle, change: Callable[[ContentFile], int | None]) -> int | None:
        with handle.opened.lock:
            self.go_on(handle)
            return change(self._writeback.writable(handle.opened))

    def go_on(self, handle: Handle) -> None:
        """A handle that was closed writes again; the caller holds the lock of its file."""
        if handle.closed:
            self._handles.set_closed(handle, False)
            handle.opened.busy += 1
