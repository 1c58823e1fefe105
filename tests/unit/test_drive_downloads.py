"""drivefs.drive.google: a download is exactly the range, or an error."""

from __future__ import annotations

import gc
import threading
import weakref
from contextlib import closing

import pytest

from drivefs.errors import (
    BadRange,
    BadReply,
    DriveError,
    Refused,
    RemoteNotFound,
    Unreachable,
)
from drivefs.model import RevisionId
from tests.unit.drive_calls import (
    ANY,
    FILE,
    MIB,
    Opener,
    media,
    raw,
)
from tests.unit.scripted_server import Exchange, ScriptedServer, Step, answer, failing

# --- downloads ---


def test_download_gives_exactly_the_range(opened: Opener) -> None:
    data = bytes(range(256)) * 4096
    with ScriptedServer(media(data, 77), media(b"x", 0), ANY) as server:
        drive = opened(server)
        pieces = list(drive.download(FILE, 77, len(data)))
        assert b"".join(pieces) == data
        assert max(map(len, pieces)) <= MIB
        assert server.requests[0].headers["range"] == f"bytes=77-{77 + len(data) - 1}"
        assert list(drive.download(FILE, 0, 1, RevisionId("R"))) == [b"x"]
        assert server.requests[1].path.startswith("/drive/v3/files/F/revisions/R?")
        drive.get(FILE)
        assert server.connections == 1


def test_download_of_a_revision_that_drive_did_not_name_is_refused_unasked(opened: Opener) -> None:
    with ScriptedServer() as server:
        for revision in (RevisionId("md5:" + "a" * 32), RevisionId("")):
            with pytest.raises(Refused):
                list(opened(server).download(FILE, 0, 10, revision))
        assert not server.requests


def test_download_of_nothing_asks_for_nothing(opened: Opener) -> None:
    with ScriptedServer() as server:
        assert list(opened(server).download(FILE, 5, 0)) == []
        assert not server.requests


def test_download_from_the_beginning_bears_a_server_without_ranges(opened: Opener) -> None:
    with ScriptedServer(answer(200, b"0123456789"), answer(200, b"ok"), ANY) as server:
        drive = opened(server)
        assert b"".join(drive.download(FILE, 0, 4)) == b"0123"
        assert b"".join(drive.download(FILE, 0, 2)) == b"ok"
        drive.get(FILE)


@pytest.mark.parametrize(
    "step",
    [
        answer(200, b"0123456789" * 2),
        media(b"0123456789", 6),
        media(b"01234567890", 5),
        media(b"012345678", 5),
        answer(206, b"0123456789"),
        answer(206, b"0123456789", {"content-range": "bytes 5-14"}),
        answer(206, b"0123456789", {"content-range": "items 5-14/20"}),
        media(b"0123456789", 5, **{"content-encoding": "gzip"}),
        answer(204),
        answer(302, b"", {"location": "/elsewhere"}),
    ],
)
def test_download_that_does_not_fit_the_range_is_a_bad_reply(step: Step, opened: Opener) -> None:
    with ScriptedServer(step) as server:
        pieces = opened(server).download(FILE, 5, 10)
        with pytest.raises(BadReply):
            next(pieces)


def test_download_that_ends_early_hands_out_what_is_right(opened: Opener) -> None:
    head = b"HTTP/1.1 206 OK\r\ncontent-range: bytes 0-599999/600000\r\ncontent-length: "
    for length in (600_000, 300_000):
        with ScriptedServer(raw(head + b"%d\r\n\r\n" % length + bytes(300_000))) as server:
            pieces, received = opened(server).download(FILE, 0, 600_000), 0
            with pytest.raises(BadReply):
                for piece in pieces:
                    received += len(piece)
            assert received == 300_000
            assert len(server.requests) == 1


def test_download_of_a_longer_body_stops_at_the_range(opened: Opener) -> None:
    longer = answer(206, b"x" * 20, {"content-range": "bytes 0-9/10"})
    with ScriptedServer(longer, ANY) as server:
        drive = opened(server)
        assert b"".join(drive.download(FILE, 0, 10)) == b"x" * 10
        drive.get(FILE)
        assert server.connections == 2


def test_download_cut_by_a_reset_is_unreachable_and_not_begun_again(opened: Opener) -> None:
    def step(exchange: Exchange) -> None:
        exchange.raw(b"HTTP/1.1 206 OK\r\ncontent-range: bytes 0-999999/1000000\r\ncontent-length: 1000000\r\n\r\n")
        exchange.raw(bytes(300_000))
        read.wait(10)
        exchange.reset()

    read = threading.Event()
    with ScriptedServer(step) as server:
        pieces = opened(server).download(FILE, 0, 1_000_000)
        assert len(next(pieces)) > 0
        read.set()
        with pytest.raises((Unreachable, BadReply)):
            list(pieces)
        assert len(server.requests) == 1


def test_download_that_stalls_is_unreachable(opened: Opener) -> None:
    def step(exchange: Exchange) -> None:
        exchange.raw(b"HTTP/1.1 206 OK\r\ncontent-range: bytes 0-999999/1000000\r\ncontent-length: 1000000\r\n\r\n")
        exchange.raw(bytes(300_000))
        exchange.stall()

    with ScriptedServer(step) as server:
        pieces = opened(server, stall_timeout_s=0.3).download(FILE, 0, 1_000_000)
        assert len(next(pieces)) > 0
        with pytest.raises(Unreachable):
            list(pieces)
        assert len(server.requests) == 1


def test_download_outside_of_the_file_is_a_bad_range(opened: Opener) -> None:
    with ScriptedServer(failing(416, "requestedRangeNotSatisfiable")) as server, pytest.raises(BadRange):
        list(opened(server).download(FILE, 100, 10))


@pytest.mark.parametrize(
    ("status", "reason", "kind"), [(404, "notFound", RemoteNotFound), (403, "insufficientFilePermissions", Refused)]
)
def test_download_of_a_revision_never_falls_back_to_another(
    status: int, reason: str, kind: type[DriveError], opened: Opener
) -> None:
    with ScriptedServer(failing(status, reason)) as server:
        with pytest.raises(kind) as caught:
            list(opened(server).download(FILE, 0, 10, RevisionId("R")))
        assert caught.value.reason == reason
        assert len(server.requests) == 1


def test_download_that_is_closed_or_forgotten_gives_its_slot_and_connection_back(opened: Opener) -> None:
    def endless(exchange: Exchange) -> None:
        exchange.raw(b"HTTP/1.1 206 OK\r\ncontent-range: bytes 0-1048575/1048576\r\ncontent-length: 1048576\r\n\r\n")
        exchange.raw(bytes(MIB // 2))
        try:
            exchange.read_body(1)  # until the client is gone
        finally:
            gone.release()

    gone = threading.Semaphore(0)
    with ScriptedServer(endless, endless, media(b"ok")) as server:
        drive = opened(server, max_connections=1)
        with closing(drive.download(FILE, 0, MIB)) as pieces:  # type: ignore[type-var]
            next(pieces)
        assert gone.acquire(timeout=10)
        pieces = drive.download(FILE, 0, MIB)
        next(pieces)
        forgotten = weakref.ref(pieces)
        del pieces
        gc.collect()
        assert forgotten() is None
        assert gone.acquire(timeout=10)
        drive.download(FILE, 0, MIB)  # never begun: holds nothing
        assert list(drive.download(FILE, 0, 2)) == [b"ok"]
