"""drivefs.drive.google: what each call does when the server answers oddly, late, twice or not at all."""

from __future__ import annotations

import gc
import json
import logging
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import google.oauth2.credentials
import pytest

from drivefs.drive.api import Drive
from drivefs.drive.google import GoogleDrive
from drivefs.errors import (
    BadRange,
    BadReply,
    CacheDamaged,
    DriveError,
    IdInUse,
    QueueBlocked,
    RateLimited,
    Refused,
    RemoteNotFound,
    ServerFault,
    SessionGone,
    SignInNeeded,
    Superseded,
    Unreachable,
)
from drivefs.model import CreateTarget, DriveId, Metadata, Priority, RevisionId, SessionUri, UpdateTarget
from tests.unit.fake_clock import FakeClock
from tests.unit.scripted_server import Exchange, ScriptedServer, Step, answer, failing

MIB = 1 << 20
FILE, PARENT = DriveId("F"), DriveId("P")
SAID = {"id": "F", "name": "n", "size": "10"}
CREATE = CreateTarget(FILE, PARENT, Metadata(name="n"))
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


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def opened(clock: FakeClock) -> Iterator[Opener]:
    drives: list[GoogleDrive] = []

    def open_drive(server: ScriptedServer, **options: Any) -> GoogleDrive:
        settings: dict[str, Any] = {"stall_timeout_s": 5, "clock": clock, "random": lambda: 0.5, **options}
        credentials = settings.pop("credentials", None) or google.oauth2.credentials.Credentials("token")
        drives.append(GoogleDrive(credentials, endpoint=server.url, patience_s=PATIENCE_S, **settings))
        return drives[-1]

    yield open_drive
    for drive in drives:
        drive.close()


def media(data: bytes, offset: int = 0, total: int | None = None, **headers: str) -> Step:
    end = offset + len(data) - 1
    content_range = f"bytes {offset}-{end}/{len(data) + offset if total is None else total}"
    return answer(206, data, {"content-range": content_range, **headers})


def session_of(server: ScriptedServer) -> SessionUri:
    return SessionUri(f"{server.url}/upload?upload_id=SECRET")


# --- which calls are repeated ---

READING: dict[str, Callable[[Drive], object]] = {
    "get": lambda d: d.get(FILE),
    "about": lambda d: d.about(),
    "root_id": lambda d: d.root_id(),
    "list_children": lambda d: d.list_children([PARENT]),
    "list_all": lambda d: d.list_all(),
    "start_page_token": lambda d: d.start_page_token(),
    "changes": lambda d: d.changes("1"),
    "download": lambda d: b"".join(d.download(FILE, 0, 10)),
}
WRITING: dict[str, Callable[[Drive], object]] = {
    "create": lambda d: d.create(CREATE),
    "update": lambda d: d.update(UPDATE),
    "trash": lambda d: d.trash(FILE),
    "delete": lambda d: d.delete(FILE),
    "upload_small": lambda d: d.upload_small(CREATE, Bytes(b"0123456789")),
    "start_session": lambda d: d.start_session(CREATE, 10),
}
GOOD = {
    "download": media(b"0123456789"),
    "start_session": answer(200, b"", {"location": "/session"}),
    "delete": answer(204),
}
ANY = answer(200, {**SAID, "startPageToken": "7", "newStartPageToken": "8"})


@pytest.mark.parametrize("name", READING)
@pytest.mark.parametrize("trouble", [failing(503, "backendError"), failing(500, ""), Exchange.reset, Exchange.close])
def test_reading_calls_are_repeated_after_trouble(name: str, trouble: Step, opened: Opener, clock: FakeClock) -> None:
    with ScriptedServer(trouble, trouble, GOOD.get(name, ANY)) as server:
        READING[name](opened(server))
        assert len(server.requests) == 3
    assert clock.now_s == 1000 + 1.5 + 2.5


@pytest.mark.parametrize("name", WRITING)
@pytest.mark.parametrize(
    ("trouble", "kind"),
    [(failing(503, "backendError"), ServerFault), (Exchange.reset, Unreachable), (Exchange.close, Unreachable)],
)
def test_writing_calls_are_not_repeated_when_they_may_have_worked(
    name: str, trouble: Step, kind: type[DriveError], opened: Opener
) -> None:
    with ScriptedServer(trouble, GOOD.get(name, ANY)) as server:
        with pytest.raises(kind):
            WRITING[name](opened(server))
        assert len(server.requests) == 1


@pytest.mark.parametrize("name", [*READING, *WRITING])
def test_all_calls_are_repeated_after_a_rate_limit(name: str, opened: Opener) -> None:
    limits = [failing(403, "userRateLimitExceeded"), failing(429, "rateLimitExceeded")]
    with ScriptedServer(*limits, GOOD.get(name, ANY)) as server:
        {**READING, **WRITING}[name](opened(server))
        assert len(server.requests) == 3
        if name == "upload_small":
            assert server.requests[0].body == server.requests[2].body


def test_calls_come_back_when_the_server_says(opened: Opener, clock: FakeClock) -> None:
    with ScriptedServer(failing(429, "rateLimitExceeded", {"retry-after": "11"}), ANY) as server:
        opened(server).create(CREATE)
    assert clock.now_s == pytest.approx(1011, abs=2.5)


def test_calls_give_up_when_the_patience_is_over(opened: Opener, clock: FakeClock) -> None:
    for step, kind, call in (
        (failing(403, "userRateLimitExceeded"), RateLimited, WRITING["create"]),
        (failing(503, "backendError"), ServerFault, READING["get"]),
    ):
        began_s = clock.now_s
        with ScriptedServer(*[step] * 20) as server:
            with pytest.raises(kind):
                call(opened(server))
            assert 3 <= len(server.requests) <= 6
        assert clock.now_s - began_s <= PATIENCE_S


def test_calls_give_up_at_once_when_asked_to_wait_beyond_the_patience(opened: Opener, clock: FakeClock) -> None:
    with ScriptedServer(failing(429, "rateLimitExceeded", {"retry-after": "3600"})) as server:
        drive = opened(server)
        with pytest.raises(RateLimited) as caught:
            drive.get(FILE)
        assert caught.value.retry_after_s == 3600
        with pytest.raises(RateLimited):
            drive.at(Priority.PUBLISH).list_all()
        assert len(server.requests) == 1
    assert clock.now_s == 1000


@pytest.mark.parametrize(
    ("status", "reason", "kind"),
    [
        (404, "notFound", RemoteNotFound),
        (403, "storageQuotaExceeded", QueueBlocked),
        (403, "insufficientFilePermissions", Refused),
        (409, "fileIdInUse", IdInUse),
    ],
)
def test_permanent_errors_come_out_at_once(status: int, reason: str, kind: type[DriveError], opened: Opener) -> None:
    with ScriptedServer(*[failing(status, reason)] * 2) as server:
        drive = opened(server)
        for call in (READING["get"], WRITING["create"]):
            with pytest.raises(kind) as caught:
                call(drive)
            assert caught.value.reason == reason
        assert len(server.requests) == 2


def test_removing_what_is_gone_is_no_error(opened: Opener) -> None:
    with ScriptedServer(*[failing(404, "notFound")] * 2) as server:
        opened(server).trash(FILE)
        opened(server).delete(FILE)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"name": "no id"}', b"\xff"])
def test_nonsense_is_a_bad_reply(body: bytes, opened: Opener) -> None:
    with ScriptedServer(*[answer(200, body)] * 2) as server:
        for call in (READING["get"], WRITING["create"]):
            with pytest.raises(BadReply):
                call(opened(server))


def test_root_id_is_asked_once_for_all_views(opened: Opener) -> None:
    with ScriptedServer(answer(200, {"id": "ROOT"})) as server:
        drive = opened(server)
        assert drive.root_id() == drive.at(Priority.MIRROR).root_id() == drive.at(Priority.WARM).root_id() == "ROOT"


# --- the token ---


def expired_credentials(server: ScriptedServer) -> Any:
    later = (datetime.now(UTC) + timedelta(hours=1)).replace(tzinfo=None)
    return google.oauth2.credentials.Credentials(
        "old", refresh_token="r", token_uri=f"{server.url}/token", client_id="i", client_secret="s", expiry=later
    )


def test_rejected_token_is_renewed_and_the_call_repeated(opened: Opener) -> None:
    fresh = answer(200, {"access_token": "new", "expires_in": 3600})
    with ScriptedServer(failing(401, "authError"), fresh, ANY) as server:
        drive = opened(server, credentials=expired_credentials(server))
        drive.upload_small(CREATE, Bytes(b"0123456789"))
        first, _, again = server.requests
        assert (first.headers["authorization"], again.headers["authorization"]) == ("Bearer old", "Bearer new")
        assert first.body == again.body


def test_token_rejected_twice_needs_a_sign_in(opened: Opener) -> None:
    fresh = answer(200, {"access_token": "new", "expires_in": 3600})
    with ScriptedServer(failing(401, "authError"), fresh, failing(401, "authError")) as server:
        drive = opened(server, credentials=expired_credentials(server))
        with pytest.raises(SignInNeeded):
            drive.get(FILE)


def test_revoked_sign_in_needs_another(opened: Opener) -> None:
    revoked = answer(400, {"error": "invalid_grant"})
    with ScriptedServer(failing(401, "authError"), revoked) as server:
        drive = opened(server, credentials=expired_credentials(server))
        with pytest.raises(SignInNeeded, match="invalid_grant"):
            drive.create(CREATE)


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


def raw(data: bytes) -> Step:
    def step(exchange: Exchange) -> None:
        exchange.raw(data)
        exchange.close()

    return step


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


# --- small uploads ---


def test_small_upload_carries_metadata_and_content(opened: Opener) -> None:
    content = Bytes(bytes(range(256)) * 16_000)
    with ScriptedServer(answer(200, SAID), answer(201, SAID)) as server:
        drive = opened(server)
        assert drive.upload_small(CREATE, content).id == "F"
        drive.upload_small(UPDATE, Bytes(b""))
        first, second = server.requests
        kind, _, boundary = first.headers["content-type"].partition("; boundary=")
        assert kind == "multipart/related"
        before, metadata, media_part, after = first.body.split(b"--" + boundary.strip('"').encode())
        assert before == b""
        assert json.loads(metadata.partition(b"\r\n\r\n")[2]) == {"id": "F", "parents": ["P"], "name": "n"}
        head, _, rest = media_part.partition(b"\r\n\r\n")
        assert b"application/octet-stream" in head
        assert rest == content.data + b"\r\n"
        assert after == b"--\r\n"
        assert len(first.body) == int(first.headers["content-length"])
        assert (second.method, len(second.body)) == ("PATCH", int(second.headers["content-length"]))
    assert content.longest_read <= MIB


def test_small_upload_declares_no_type_that_breaks_the_body(opened: Opener) -> None:
    target = CreateTarget(FILE, PARENT, Metadata(name="n", mime_type="text/x\r\nContent-Length: 0"))
    with ScriptedServer(ANY) as server:
        opened(server).upload_small(target, Bytes(b"x"))
        assert b"Content-Length: 0" not in server.requests[0].body.partition(b"name")[0]
        assert server.requests[0].body.count(b"\r\n\r\n") == 2


# --- sessions ---


def test_session_has_the_address_that_the_server_gave(opened: Opener) -> None:
    steps = [answer(200, b"", {"location": place}) for place in ("http://127.0.0.1:9/a?upload_id=1", "/b?x=1")]
    with ScriptedServer(*steps) as server:
        drive = opened(server)
        assert drive.start_session(CREATE, 10) == "http://127.0.0.1:9/a?upload_id=1"
        assert drive.start_session(CREATE, None) == f"{server.url}/b?x=1"


@pytest.mark.parametrize(
    "headers", [{}, {"location": ""}, {"location": "file:///etc/passwd"}, {"location": "http://["}]
)
def test_session_without_a_safe_address_is_a_bad_reply(headers: dict[str, str], opened: Opener) -> None:
    with ScriptedServer(answer(200, b"", headers)) as server, pytest.raises(BadReply):
        opened(server).start_session(CREATE, 10)


def test_send_streams_a_range_and_says_what_is_stored(opened: Opener) -> None:
    content = Bytes(bytes(range(256)) * (MIB * 3 // 256))
    steps = [answer(308, b"", {"range": "bytes=0-1572863"}), answer(200, {**SAID, "size": str(3 * MIB)})]
    with ScriptedServer(*steps) as server:
        drive = opened(server)
        state = drive.send(session_of(server), content, 0, 2 * MIB, 3 * MIB)
        assert (state.offset, state.file) == (1572864, None)
        state = drive.send(session_of(server), content, 1572864, 3 * MIB - 1572864, 3 * MIB)
        assert state.offset == 3 * MIB
        assert state.file is not None
        first, second = server.requests
        assert first.headers["content-range"] == f"bytes 0-{2 * MIB - 1}/{3 * MIB}"
        assert first.body + second.body == content.data[: 2 * MIB] + content.data[1572864:]
        assert first.headers["content-length"] == str(2 * MIB)
    assert content.longest_read <= MIB


def test_send_of_an_unknown_total_says_so(opened: Opener) -> None:
    with ScriptedServer(answer(308, b"", {"range": "bytes=0-262143"}), answer(201, SAID)) as server:
        drive = opened(server)
        drive.send(session_of(server), Bytes(bytes(MIB)), 0, 262_144, None)
        assert server.requests[0].headers["content-range"] == "bytes 0-262143/*"
        state = drive.send(session_of(server), Bytes(bytes(MIB)), 262_144, 0, 262_144)
        assert server.requests[1].headers["content-range"] == "bytes */262144"
        assert state.offset == 262_144
        assert state.file is not None


def test_session_state_tells_how_far_it_has_come(opened: Opener) -> None:
    steps = [answer(308), answer(308, b"", {"range": "bytes=0-99"}), answer(200, SAID)]
    with ScriptedServer(*steps) as server:
        drive = opened(server)
        states = [drive.session_state(session_of(server), 10_000) for _ in range(3)]
        assert [(s.offset, s.file is None) for s in states] == [(0, True), (100, True), (10_000, False)]
        assert all(r.headers["content-range"] == "bytes */10000" and r.body == b"" for r in server.requests)
        assert all(r.headers["content-length"] == "0" for r in server.requests)


@pytest.mark.parametrize(
    ("step", "kind"),
    [
        (failing(404, "notFound"), SessionGone),
        (answer(410), SessionGone),
        (answer(400, b"bad"), SessionGone),
        (failing(403, "storageQuotaExceeded"), QueueBlocked),
        (failing(503, "backendError"), ServerFault),
        (answer(200, b"<html>"), BadReply),
        (answer(308, b"", {"range": "bytes=7-9"}), BadReply),
        (Exchange.reset, Unreachable),
    ],
)
def test_send_tells_what_became_of_the_session(step: Step, kind: type[DriveError], opened: Opener) -> None:
    with ScriptedServer(step) as server:
        with pytest.raises(kind):
            opened(server).send(session_of(server), Bytes(bytes(MIB)), 0, MIB, MIB)
        assert len(server.requests) == 1


def test_send_waits_and_repeats_on_the_same_session_when_limited(opened: Opener) -> None:
    with ScriptedServer(failing(403, "userRateLimitExceeded"), answer(200, SAID)) as server:
        opened(server).send(session_of(server), Bytes(bytes(10)), 0, 10, 10)
        assert [r.path for r in server.requests] == ["/upload?upload_id=SECRET"] * 2


def test_send_reads_an_early_308(opened: Opener) -> None:
    def keeps_some(exchange: Exchange) -> None:
        exchange.read_body(MIB)
        exchange.reply(308, b"", {"range": "bytes=0-524287"})
        exchange.stall()

    with ScriptedServer(keeps_some) as server:
        state = opened(server).send(session_of(server), Bytes(bytes(64 * MIB)), 0, 64 * MIB, 64 * MIB)
        assert state.offset == 524_288


@pytest.mark.parametrize("error", [Superseded("newer"), OSError(5, "I/O error"), BrokenPipeError()])
def test_send_of_content_that_cannot_be_read_never_completes(error: Exception, opened: Opener) -> None:
    ended = threading.Event()

    def step(exchange: Exchange) -> None:
        assert len(exchange.read_body()) < 3 * MIB
        ended.set()
        exchange.close()

    with ScriptedServer(step) as server:
        with pytest.raises(Superseded if isinstance(error, Superseded) else CacheDamaged):
            opened(server).send(session_of(server), Bytes(bytes(3 * MIB), 2 * MIB, error), 0, 3 * MIB, 3 * MIB)
        assert ended.wait(10)


def test_send_of_content_that_has_become_shorter_never_completes(opened: Opener) -> None:
    with ScriptedServer(lambda e: e.read_body() and e.close()) as server, pytest.raises(CacheDamaged):
        opened(server).send(session_of(server), Bytes(bytes(MIB)), 0, 3 * MIB, 3 * MIB)


def test_session_address_is_in_no_error_and_no_log(opened: Opener, caplog: pytest.LogCaptureFixture) -> None:
    steps = [failing(404, "upload_id=SECRET"), answer(400, b"SECRET"), Exchange.reset, answer(200, b"SECRET")]
    with caplog.at_level(logging.DEBUG), ScriptedServer(*steps) as server:
        drive = opened(server)
        for _ in range(4):
            with pytest.raises(DriveError) as caught:
                drive.send(session_of(server), Bytes(bytes(10)), 0, 10, 10)
            error: BaseException | None = caught.value
            while error is not None:
                assert "SECRET" not in str(error)
                error = error.__cause__
        with pytest.raises(DriveError) as odd:
            drive.session_state(SessionUri("http://[SECRET/"), 10)
        assert "SECRET" not in f"{odd.value} {odd.value.__cause__}"
    assert "SECRET" not in caplog.text


# --- many at once ---


def test_views_share_slots_and_the_reader_goes_first(opened: Opener, clock: FakeClock) -> None:
    order: list[str] = []
    let_go = threading.Event()

    def first(exchange: Exchange) -> None:
        let_go.wait(10)
        exchange.reply(200, SAID)

    with ScriptedServer(first, ANY, ANY, ANY) as server:
        drive = opened(server, max_connections=2)

        def get(priority: Priority) -> None:
            drive.at(priority).get(FILE)
            order.append(priority.name)

        threads = []
        for priority in (Priority.WARM, Priority.SPECULATION, Priority.PUBLISH, Priority.READER):
            threads.append(threading.Thread(target=get, args=(priority,)))
            threads[-1].start()
            if len(threads) > 1:
                assert clock.queued.acquire(timeout=10)
            else:
                while not server.requests:
                    let_go.wait(0.01)
        let_go.set()
        for thread in threads:
            thread.join(10)
        assert len(order) == 4
        assert order.index("READER") < order.index("PUBLISH") < order.index("SPECULATION")


def test_closing_ends_calls_under_way_and_waiting(opened: Opener) -> None:
    arrived = threading.Event()
    errors: list[BaseException] = []

    def stall(exchange: Exchange) -> None:
        arrived.set()
        exchange.stall()

    with ScriptedServer(stall) as server:
        drive = opened(server, max_connections=1)

        def create() -> None:
            try:
                drive.create(CREATE)
            except DriveError as e:
                errors.append(e)

        threads = [threading.Thread(target=create) for _ in range(3)]
        for thread in threads:
            thread.start()
        assert arrived.wait(10)
        drive.close()
        for thread in threads:
            thread.join(3)
            assert not thread.is_alive()
        assert [type(e) for e in errors] == [Unreachable] * 3


def test_google_drive_is_a_drive() -> None:
    drive: Drive = GoogleDrive(google.oauth2.credentials.Credentials("t"), endpoint="http://127.0.0.1:1")
    drive.close()
