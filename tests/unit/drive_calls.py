"""What the tests of the Drive client's calls share: targets, contents, answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from drivefs.drive.google import GoogleDrive
from drivefs.model import CreateTarget, DriveId, Metadata, SessionUri, UpdateTarget
from tests.unit.scripted_server import Exchange, ScriptedServer, Step, answer

MIB = 1 << 20
FILE, PARENT = DriveId("F"), DriveId("P")
SAID = {"id": "F", "name": "n", "size": "10"}
CREATE = CreateTarget(FILE, PARENT, Metadata(name="n"))
ANY = answer(200, {**SAID, "startPageToken": "7", "newStartPageToken": "8"})
UPDATE = UpdateTarget(FILE, Metadata(name="n"))
PATIENCE_S = 30.0

Opener = Callable[..., GoogleDrive]


class Bytes:
    """Content that knows how often it was read, and may be taken back or fail."""

    def __init__(self, data: bytes, fail_at: int | None = None, error: Exception | None = None) -> None:
        self.data, self.fail_at, self.error = data, fail_at, error
        self.longest_read = 0

    @property
    def size_bytes(self) -> int:
        return len(self.data)

    def read_at(self, offset: int, length: int) -> bytes:
        self.longest_read = max(self.longest_read, length)
        if self.fail_at is not None and offset + length > self.fail_at and self.error is not None:
            raise self.error
        return self.data[offset : offset + length]


def media(data: bytes, offset: int = 0, total: int | None = None, **headers: str) -> Step:
    end = offset + len(data) - 1
    content_range = f"bytes {offset}-{end}/{len(data) + offset if total is None else total}"
    return answer(206, data, {"content-range": content_range, **headers})


def session_of(server: ScriptedServer) -> SessionUri:
    return SessionUri(f"{server.url}/upload?upload_id=SECRET")


def raw(data: bytes) -> Step:
    def step(exchange: Exchange) -> None:
        exchange.raw(data)
        exchange.close()

    return step


def sized(length: int) -> dict[str, str]:
    return {"content-length": str(length)}


def zeros(count: int) -> Callable[[], Iterator[bytes]]:
    return lambda: iter([bytes(MIB)] * count)
