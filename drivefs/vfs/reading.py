"""Reading through handles: what is not here is fetched first. Any thread may enter; who waits holds no lock."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from drivefs.errors import BadHandle, CacheDamaged, CacheFull, NotSupported
from drivefs.store.check import is_copy
from drivefs.store.content_file import ContentFile
from drivefs.store.generations import State
from drivefs.store.room import Room
from drivefs.store.store import Store
from drivefs.vfs.handles import Handle
from drivefs.vfs.opened import OpenFile, OpenFiles
from drivefs.vfs.ports import Downloader

T = TypeVar("T")

COMPARED_AT_ONCE_BYTES = 16 << 20
"""So much of a file is compared with its checksums before the kernel reads it itself, or it is copied, in some 5 ms
where it is in memory. A larger one, of which more was not read since the mount began, is compared as it is read."""


class Reading:
    """The reads of one mount."""

    def __init__(self, store: Store, downloader: Downloader, opened: OpenFiles, room: Room) -> None:
        self._store = store
        self._room = room
        self._downloader = downloader
        self._opened = opened

    def read(self, handle: Handle, offset: int, length: int, interrupted: Callable[[], bool]) -> bytes:
        """What Files.read does."""
        return self._read(
            handle, offset, length, interrupted, lambda file: file.read(offset, length), lambda data: data
        )

    def read_into(self, handle: Handle, offset: int, buffer: memoryview, interrupted: Callable[[], bool]) -> int:
        """What Files.read_into does."""

        def put(data: bytes) -> int:
            buffer[: len(data)] = data
            return len(data)

        return self._read(handle, offset, len(buffer), interrupted, lambda file: file.read_into(offset, buffer), put)

    def _read(
        self,
        handle: Handle,
        offset: int,
        length: int,
        interrupted: Callable[[], bool],
        read: Callable[[ContentFile], T],
        put: Callable[[bytes], T],
    ) -> T:
        """`read` takes what is here, `put` what was fetched and cannot be kept."""
        file = self._use(handle)
        try:
            while True:
                punched = file.punched
                if file.base is not None:
                    # The lock is free meanwhile: others may write while this one waits for Drive.
                    try:
                        self._ensure(file, offset, offset + length, interrupted)
                    except CacheFull:
                        if file.state is not State.CLEAN:
                            raise
                        return put(self._downloader.fetch(file, offset, offset + length))
                if not file.is_sound:
                    self._mend(file, offset, offset + length)
                result = read(file)
                if file.punched == punched:
                    return result
        finally:
            file.close()

    def _use(self, handle: Handle) -> ContentFile:
        if not handle.readable:
            raise BadHandle("The file is open for writing only.")
        opened = handle.opened
        while (file := opened.file) is None or not file.use():
            self.load(opened)
        return file

    def whole(self, handle: Handle) -> ContentFile:
        """The content that the handle reads, with a use of it. Raises NotSupported where not all of it is here, or
        known to be what Drive has (`ContentFile.compare`)."""
        file = self._use(handle)
        try:
            right = file.compare(COMPARED_AT_ONCE_BYTES)
        except CacheDamaged:
            right = False
        if file.base is not None or not right:
            file.close()
            raise NotSupported("Not all of the file is here.")
        return file

    def is_here(self, opened: OpenFile) -> bool:
        """Whether nothing has to be fetched to read it. Raises CacheDamaged."""
        with opened.lock:
            if opened.file is None and self._store.nodes.get(opened.inode).generation is None:
                return False
            return self._opened.load(opened).base is None

    def load(self, opened: OpenFile) -> None:
        """Have the live content of an open file at hand; a Google document is exported first. Raises DriveError,
        CacheDamaged, CacheFull."""
        while True:
            with opened.lock:
                if self._opened.load_if_exported(opened):
                    return
            self._downloader.documents.ensure(opened.inode)

    def _mend(self, file: ContentFile, start: int, stop: int) -> None:
        """Raises what `Downloader.mend` raises."""
        if file.lacks_checksums and not is_copy(self._store, file):
            self._store.lose_content(file)
        self._room.retry(lambda: self._downloader.mend(file, start, stop), wait=False)

    def _ensure(self, file: ContentFile, start: int, stop: int, interrupted: Callable[[], bool]) -> None:
        self._room.retry(lambda: self._downloader.ensure(file, start, stop, interrupted=interrupted), wait=False)
