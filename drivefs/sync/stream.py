"""One content that is on its way to Drive before it is closed, or before its turn: what of it was sent, and how far.

Entered by one thread at a time; which one, `sync.streaming` decides. What leaves is noted before it does.
"""

from __future__ import annotations

from drivefs.errors import Superseded
from drivefs.model import DriveId, Generation, SessionUri
from drivefs.store.content_file import ContentFile
from drivefs.store.generations import State
from drivefs.store.store import Store
from drivefs.sync.sending import ALIGN_BYTES, Digest


class Stream:
    """One content on its way (a `drive.api.Content`). Entered by one thread at a time."""

    def __init__(self, store: Store, file: ContentFile, drive_id: DriveId, *, fresh: bool) -> None:
        self.file = file
        self.drive_id = drive_id
        self.fresh = fresh
        self.session: SessionUri | None = None
        self.digest = Digest()
        self.unsure = False  # how much Drive has is to be asked
        self.busy = False  # guarded by Streaming's lock
        self.taken = False  # guarded by Streaming's lock: the uploader goes on with it
        self._store = store

    @property
    def generation(self) -> Generation:
        return self.file.generation

    @property
    def size_bytes(self) -> int:
        return self.file.size_bytes

    def read_at(self, offset: int, length: int) -> bytes:
        """The next bytes, noted before they leave; or some that were sent already once more. Raises Superseded."""
        if offset < self.digest.size_bytes:
            self.digest.go_back(offset)
        data = self.file.read_ahead(offset, length)
        self.digest.add(data)
        if not self._store.content.sent_ahead.note(self.generation, self.digest.base_bytes, self.digest.marks()):
            raise Superseded(f"What was sent of content file {self.generation} was given up.")
        return data

    def waiting_bytes(self) -> int:
        """What could be sent now: whole grains, and never the last byte of what may be all."""
        written = self.file.size_bytes if self.file.state is State.SEALED else self.file.written_ahead_bytes
        return max(0, written - 1) // ALIGN_BYTES * ALIGN_BYTES - self.digest.base_bytes
