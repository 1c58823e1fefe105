"""The bytes of one revision of a file, however Drive lets this account read them.

Any thread may enter. Nothing here is durable, and nothing is kept but which files have no revisions to read.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator

from cachetools import TTLCache

from drivefs.drive.api import Drive
from drivefs.errors import BadRange, BadReply, Refused, ServerFault, Unreachable
from drivefs.model import DriveId, RevisionId
from drivefs.store.content_file import ContentFile
from drivefs.store.generations import Base, State
from drivefs.store.node import Node
from drivefs.store.store import Store

UNPINNED_S = 600
"""How long a file is taken for one whose revisions this account may not read."""


class Revisions:
    """Reads of files that stay as they were when the reader came."""

    def __init__(self, store: Store, drive: Drive) -> None:
        """`drive` is asked, for whoever reads, what the head of a file is."""
        self._store = store
        self._drive = drive
        self._lock = threading.Lock()
        self._unpinned: TTLCache[DriveId, bool] = TTLCache(1_000, UNPINNED_S)  # guarded by _lock

    def unchanged(self, file: ContentFile, base: Base) -> Node | None:
        """The node of a file that is as Drive has it, and whose size and md5 are those of the base."""
        with self._store.db.transaction_lock():
            node = self._store.nodes.find(file.inode)
            if file.state is not State.CLEAN or node is None or node.revision != base.revision:
                return None
            return node

    def whole(self, base: Base, size_bytes: int, md5: str, drive: Drive) -> bytes:
        """A small file in one request: its checksum says whether it is the revision wanted. Raises DriveError."""
        for revision in (None, base.revision):
            try:
                data = b"".join(_pieces(drive, base.drive_id, 0, size_bytes, revision))
            except BadRange:
                continue  # another revision by now, and shorter
            if hashlib.md5(data, usedforsecurity=False).hexdigest() == md5:
                return data
        raise BadReply(f"What Drive sends of {base.drive_id} does not have the checksum that it says.")

    def pieces(self, base: Base, start: int, stop: int, drive: Drive) -> Iterator[bytes]:
        """[start, stop) of the base, as it comes. Raises DriveError; what came before an error is right."""
        with self._lock:
            unpinned = base.drive_id in self._unpinned
        if unpinned:
            yield self._of_head(base, start, stop)
            return
        offset = start
        try:
            for piece in _pieces(drive, base.drive_id, start, stop, base.revision):
                offset += len(piece)
                yield piece
        except Refused:
            # Reading a revision takes more rights than reading the file (drive-api: a viewer has them not).
            data = self._of_head(base, offset, stop)
            with self._lock:
                self._unpinned[base.drive_id] = True
            yield data

    def _of_head(self, base: Base, start: int, stop: int) -> bytes:
        """A range of whatever is the head, which was the revision wanted before and after."""
        self._check_head(base)
        data = b"".join(_pieces(self._drive, base.drive_id, start, stop, None))
        self._check_head(base)
        return data

    def _check_head(self, base: Base) -> None:
        if self._drive.get(base.drive_id).revision != base.revision:
            raise BadReply(f"The file {base.drive_id} was changed on Drive while it was read: open it again.")


def _pieces(drive: Drive, file_id: DriveId, start: int, stop: int, revision: RevisionId | None) -> Iterator[bytes]:
    """[start, stop) in pieces; where a reply ends early the next one goes on, if each brings something."""
    offset = start
    while offset < stop:
        before = offset
        try:
            for piece in drive.download(file_id, offset, stop - offset, revision):
                offset += len(piece)
                yield piece
        except (Unreachable, ServerFault, BadReply):
            if offset == before:
                raise
