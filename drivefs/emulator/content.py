"""Content files on disk, hashed while they are written. Blocks are written and hashed in threads.

A blob appears under `content/` whole or not at all; what is in the making lies under `uploads/`.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

GRAIN_BYTES = 262_144
"""Resumable uploads keep whole grains only, so the hashes never have to go back (drive-api: Uploads)."""
BLOCK_BYTES = 4 * GRAIN_BYTES
_INLINE_BYTES = 131_072


@dataclass(frozen=True, slots=True)
class Stored:
    """A blob and what is known of it."""

    blob: str
    size: int
    md5: str
    sha1: str
    sha256: str


class Hashes:
    """The three checksums of Drive, fed together."""

    def __init__(self) -> None:
        self._all = (
            hashlib.md5(usedforsecurity=False),
            hashlib.sha1(usedforsecurity=False),
            hashlib.sha256(),
        )

    def update(self, data: bytes | bytearray | memoryview) -> None:
        for each in self._all:
            each.update(data)

    def hex(self) -> tuple[str, str, str]:
        md5, sha1, sha256 = self._all
        return md5.hexdigest(), sha1.hexdigest(), sha256.hexdigest()


class Contents:
    """All blobs of one emulator."""

    def __init__(self, directory: Path) -> None:
        self._content = directory / "content"
        self._uploads = directory / "uploads"
        self._content.mkdir(parents=True, exist_ok=True)
        self._uploads.mkdir(parents=True, exist_ok=True)
        self._folders: set[str] = set()
        self.pool = ThreadPoolExecutor(4, thread_name_prefix="content")

    def close(self) -> None:
        self.pool.shutdown(wait=True)

    def path(self, blob: str) -> Path:
        return self._content / blob[:2] / blob

    def upload_path(self, name: str) -> Path:
        return self._uploads / name

    def remove(self, blob: str) -> None:
        self.path(blob).unlink(missing_ok=True)

    def remove_uploads_but(self, names: set[str]) -> None:
        """Clear away what an earlier run left unfinished."""
        for path in self._uploads.iterdir():
            if path.name not in names:
                path.unlink()

    def remove_upload(self, name: str) -> None:
        self.upload_path(name).unlink(missing_ok=True)

    def store_small(self, data: bytes) -> Stored:
        """Write `data` at once, in the calling thread."""
        hashes = Hashes()
        hashes.update(data)
        blob = secrets.token_hex(16)
        path = self._room_for(blob)
        path.write_bytes(data)
        return Stored(blob, len(data), *hashes.hex())

    async def store(self, data: bytes) -> Stored:
        """Write `data`; large ones do not hold the event loop up."""
        if len(data) <= _INLINE_BYTES:
            return self.store_small(data)
        return await asyncio.get_running_loop().run_in_executor(self.pool, self.store_small, data)

    def adopt(self, name: str, size: int, hashes: Hashes) -> Stored:
        """Turn a finished upload into a blob."""
        blob = secrets.token_hex(16)
        os.replace(self.upload_path(name), self._room_for(blob))
        return Stored(blob, size, *hashes.hex())

    def _room_for(self, blob: str) -> Path:
        path = self.path(blob)
        if blob[:2] not in self._folders:
            path.parent.mkdir(exist_ok=True)
            self._folders.add(blob[:2])
        return path


class UploadFile:
    """One upload as it arrives: appended in whole grains, hashed in the same pass, by one task at a time.

    `stored` counts what is on the disk and hashed; the tail that does not fill a grain waits in memory until
    more comes or `finish` is called.
    """

    def __init__(self, contents: Contents, name: str, stored: int) -> None:
        self._contents = contents
        self.name = name
        self.stored = stored
        self._hashes: Hashes | None = Hashes() if stored == 0 else None
        self._descriptor = -1
        self._open()
        if os.fstat(self._descriptor).st_size != stored:
            # Never for nothing: ext4 writes a file that was truncated to the disk when it is closed.
            os.ftruncate(self._descriptor, stored)
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._writing: asyncio.Future[None] | None = None

    @property
    def received(self) -> int:
        """Bytes taken in, stored or not."""
        return self.stored + self._waiting_bytes

    async def write(self, data: bytes) -> None:
        """Take `data` in; waits only while the block before is still being written."""
        self._waiting.append(data)
        self._waiting_bytes += len(data)
        if self._waiting_bytes >= BLOCK_BYTES:
            await self._settle()
            self._start(self._waiting_bytes // GRAIN_BYTES * GRAIN_BYTES)

    async def flush(self, *, tail: bool = False) -> None:
        """Store all whole grains, and with `tail` the rest too."""
        await self._settle()
        length = self._waiting_bytes if tail else self._waiting_bytes // GRAIN_BYTES * GRAIN_BYTES
        if length:
            self._start(length)
            await self._settle()

    async def cut(self) -> None:
        """Store the whole grains and forget the rest, as when the connection was lost."""
        await self.flush()
        self._waiting.clear()
        self._waiting_bytes = 0

    async def finish(self) -> Stored:
        """The blob with all that was written."""
        await self.flush(tail=True)
        if self._hashes is None:
            await asyncio.get_running_loop().run_in_executor(self._contents.pool, self._rehash)
        assert self._hashes is not None
        self.close()
        return self._contents.adopt(self.name, self.stored, self._hashes)

    def close(self) -> None:
        """Give the descriptor back; writing opens it again, so thousands of sessions may wait."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _open(self) -> None:
        if self._descriptor < 0:
            path = self._contents.upload_path(self.name)
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _start(self, length: int) -> None:
        joined = b"".join(self._waiting)
        block, rest = (joined, b"") if length == len(joined) else (joined[:length], joined[length:])
        self._waiting = [rest] if rest else []
        self._waiting_bytes = len(rest)
        offset = self.stored
        self.stored += length
        self._writing = asyncio.get_running_loop().run_in_executor(self._contents.pool, self._append, block, offset)

    async def _settle(self) -> None:
        if self._writing is not None:
            writing, self._writing = self._writing, None
            await writing

    def _append(self, block: bytes, offset: int) -> None:
        self._open()
        if self._hashes is None:
            self._rehash()
        assert self._hashes is not None
        written = 0
        while written < len(block):
            written += os.pwrite(self._descriptor, memoryview(block)[written:], offset + written)
        self._hashes.update(block)

    def _rehash(self) -> None:
        self._open()
        # After a restart the hashes are made anew from what is on the disk.
        size = os.fstat(self._descriptor).st_size
        hashes = Hashes()
        offset = 0
        while offset < size:
            piece = os.pread(self._descriptor, BLOCK_BYTES, offset)
            if not piece:
                break
            hashes.update(piece)
            offset += len(piece)
        self._hashes = hashes
