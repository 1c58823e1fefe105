"""What the contract tests of the Drive client share."""

from __future__ import annotations

import hashlib
from typing import Any

from drivefs.drive.google import GoogleDrive
from drivefs.errors import (
    Superseded,
)
from drivefs.model import (
    FOLDER_MIME,
    CreateTarget,
    DriveId,
    Metadata,
    RemoteFile,
    RevisionId,
)

KIB = 1 << 10
MIB = 1 << 20
CHUNK = 262_144


class Bytes:
    """Content in memory; reading beyond `superseded_at` takes it back."""

    def __init__(self, data: bytes, superseded_at: int | None = None) -> None:
        self.data, self.superseded_at = data, superseded_at

    @property
    def size_bytes(self) -> int:
        return len(self.data)

    def read_at(self, offset: int, length: int) -> bytes:
        if self.superseded_at is not None and offset + length > self.superseded_at:
            raise Superseded("newer content is coming")
        return self.data[offset : offset + length]


def blob(size_bytes: int, seed: int = 1) -> bytes:
    return hashlib.shake_128(seed.to_bytes(8, "big")).digest(size_bytes)


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def target(drive: GoogleDrive, name: str = "file", **metadata: Any) -> CreateTarget:
    return CreateTarget(drive.generate_ids(1)[0], drive.root_id(), Metadata(name=name, **metadata))


def uploaded(drive: GoogleDrive, data: bytes, name: str = "file") -> RemoteFile:
    return drive.upload_small(target(drive, name), Bytes(data))


def read(drive: GoogleDrive, file: RemoteFile, revision: RevisionId | None = None) -> bytes:
    return b"".join(drive.download(file.id, 0, file.size_bytes or 0, revision))


def folder(drive: GoogleDrive, name: str = "folder") -> DriveId:
    return drive.create(target(drive, name, mime_type=FOLDER_MIME)).id
