"""The bytes of an upload on their way: pieces of a `Content`, multipart bodies, one request of a session.

Pure but for reading the content. Nothing here holds more than one piece (1 MiB) of a file in memory.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field

from drivefs.drive.api import Content
from drivefs.errors import CacheDamaged
from drivefs.model import Metadata

PIECE_BYTES = 1 << 20
DEFAULT_MIME = "application/octet-stream"
_MIME = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,127}/[A-Za-z0-9!#$&^_.+-]{1,127}")


def media_type(metadata: Metadata) -> str:
    """The type that the content is declared with."""
    mime_type = metadata.mime_type
    return mime_type if mime_type is not None and _MIME.fullmatch(mime_type) else DEFAULT_MIME


def pieces(content: Content, offset: int, length: int) -> Iterator[bytes]:
    """[offset, offset + length) of the content. Raises `Superseded`, or `CacheDamaged` when it is not there."""
    end = offset + length
    while offset < end:
        wanted = min(PIECE_BYTES, end - offset)
        try:
            piece = content.read_at(offset, wanted)
        except OSError as e:
            # Not to be taken for a fault of the connection that the piece was meant for.
            raise CacheDamaged("The local content of a file cannot be read.") from e
        if len(piece) != wanted:
            raise CacheDamaged("The local content of a file is shorter than it was.")
        yield piece
        offset += wanted


@dataclass(frozen=True, slots=True)
class Multipart:
    """Metadata and content in one body (drive-api: Uploads). It can be sent again."""

    metadata_json: bytes
    mime_type: str
    content: Content
    _boundary: str = field(default_factory=lambda: secrets.token_hex(16), init=False)

    @property
    def content_type(self) -> str:
        return f'multipart/related; boundary="{self._boundary}"'

    @property
    def size_bytes(self) -> int:
        return len(self._head()) + self.content.size_bytes + len(self._tail())

    def pieces(self) -> Iterator[bytes]:
        head, tail = self._head(), self._tail()
        if self.content.size_bytes <= PIECE_BYTES:  # one write for what is small
            yield b"".join((head, *pieces(self.content, 0, self.content.size_bytes), tail))
            return
        yield head
        yield from pieces(self.content, 0, self.content.size_bytes)
        yield tail

    def _head(self) -> bytes:
        return (
            f"--{self._boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n".encode()
            + self.metadata_json
            + f"\r\n--{self._boundary}\r\nContent-Type: {self.mime_type}\r\n"
            "Content-Transfer-Encoding: binary\r\n\r\n".encode()
        )

    def _tail(self) -> bytes:
        return f"\r\n--{self._boundary}--\r\n".encode()


def content_range(offset: int, length: int, total_bytes: int | None) -> str:
    """The header of a request that carries [offset, offset + length); without bytes it asks for the state."""
    total = "*" if total_bytes is None else str(total_bytes)
    return f"bytes {offset}-{offset + length - 1}/{total}" if length else f"bytes */{total}"
