"""A generation's use by an upload. Any thread may enter."""

from __future__ import annotations

from drivefs.errors import Superseded
from drivefs.model import Generation
from drivefs.store.content_file import ContentFile, OpenFiles


class Claim:
    """A sealed generation in the hands of an upload (a `drive.api.Content`). Close it when done."""

    def __init__(self, opened: OpenFiles, file: ContentFile) -> None:
        self._opened = opened
        self.file = file
        self._epoch = file.claim_epoch
        self.size_bytes = file.size_bytes

    @property
    def generation(self) -> Generation:
        return self.file.generation

    @property
    def superseded(self) -> bool:
        return self._epoch != self.file.claim_epoch

    def read_at(self, offset: int, length: int) -> bytes:
        """Bytes of the content as it was claimed. Raises Superseded."""
        data = self.file.read(offset, length)
        self._opened.sent_bytes += len(data)
        # Looked at after the read: nobody writes before the claim was taken back, so these bytes are the old ones.
        if self.superseded:
            raise Superseded(f"Content file {self.file.generation} was taken back.")
        return data

    def begin_sync(self) -> None:
        """Let the disk begin to write what the next sync point will wait for."""
        self.file.start_writeback()

    def close(self) -> None:
        self._opened.release_claim(self.file)
