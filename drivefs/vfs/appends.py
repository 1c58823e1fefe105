"""Writes at the end of a file, each of them once, though the kernel may send it again after the process's death.

The caller holds the lock of the open file: a file has one append at a time.
"""

from __future__ import annotations

from collections.abc import Mapping

from drivefs.errors import CacheFull
from drivefs.model import Inode, RequestId
from drivefs.store.content_file import ContentFile
from drivefs.vfs.handle_memory import HandleMemory
from drivefs.vfs.opened import OpenFile


class Appends:
    """The appends of one mount."""

    def __init__(self, memory: HandleMemory) -> None:
        self._memory = memory
        self._done: dict[int, int] = {}  # by the processes before: number of the request → length; not changed

    def take_over(self, files: Mapping[Inode, OpenFile]) -> None:
        """An append that had begun is done, or has not happened: at most one of a file had, and nobody wrote after
        it. Before any other append."""
        for record in self._memory.appends(done=False):
            opened = files.get(record.inode)
            file = opened.file if opened is not None else None
            done = file is not None and file.size_bytes >= record.offset + record.length
            if file is not None and not done and file.size_bytes > record.offset:
                file.truncate(record.offset)
            self._memory.end_append(record.request, done=done)
        self._done = {record.request.number: record.length for record in self._memory.appends(done=True)}

    def write(self, file: ContentFile, data: bytes | memoryview, request: RequestId | None) -> int:
        """Append all of `data`, or nothing, unless the `request` was done already; how many bytes were written.

        Raises CacheFull, CacheDamaged.
        """
        if request is None:
            return self._write_whole(file, file.size_bytes, data)
        if request.number in self._done:
            return self._done[request.number]
        end = file.size_bytes
        self._memory.begin_append(request, file.inode, end, len(data))
        done = 0
        try:
            done = self._write_whole(file, end, data)
        finally:
            self._memory.end_append(request, done=done == len(data))
        return done

    @staticmethod
    def _write_whole(file: ContentFile, end: int, data: bytes | memoryview) -> int:
        """It is tried again at what is the end then."""
        try:
            return file.write(end, data)
        except CacheFull:
            file.truncate(end)
            raise
