"""A generation's use by an upload. Any thread may enter."""

from __future__ import annotations

from drivefs.errors import Superseded
from drivefs.model import Generation
from drivefs.store.blocks import BLOCK_BYTES, Digester
from drivefs.store.content_file import ContentFile
from drivefs.store.generations import Base, State
from drivefs.store.open_files import OpenFiles


class Claim:
    """A sealed generation in the hands of an upload (a `drive.api.Content`). Close it when done."""

    def __init__(self, opened: OpenFiles[ContentFile], file: ContentFile) -> None:
        self._opened = opened
        self.file = file
        self._epoch = file.claim_epoch
        self.size_bytes = file.size_bytes
        self._looked = file.fingerprint()
        self._source: Base | None = None  # once it is published
        self._read = Digester()  # of one thread: an upload reads by itself

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
        self._read.add(offset, data)
        return data

    def keep_checksums(self, source: Base) -> None:
        """Drive has confirmed what was read, as this revision. Part of the caller's transaction."""
        self._opened.rows.set_size(self.generation, self.size_bytes)
        self.file.kept_bytes = self.size_bytes
        self._source = source
        if self._read.size_bytes == self.size_bytes:
            self.file.adopt(source, self._read.digests(), self._looked)

    def complete_checksums(self) -> None:
        """Read what was published without being read, for it had been sent ahead. Raises CacheDamaged."""
        if self._source is None or self._read.size_bytes == self.size_bytes:
            return
        try:
            while self.read_at(self._read.size_bytes, BLOCK_BYTES):
                pass
        except Superseded:
            return  # it is written again
        with self._opened.db.transaction():
            if self.file.state is State.CLEAN and self._looked == self.file.fingerprint():
                self.keep_checksums(self._source)

    def begin_sync(self) -> None:
        """Let the disk begin to write what the next sync point will wait for."""
        self.file.start_writeback()

    def close(self) -> None:
        self._opened.release_claim(self.file)
