"""drivefs.drive.google: what is uploaded is whole, and sessions tell how far they came."""

from __future__ import annotations

import json
import logging
import threading

import pytest

from drivefs.errors import (
    BadReply,
    CacheDamaged,
    DriveError,
    QueueBlocked,
    ServerFault,
    SessionGone,
    Superseded,
    Unreachable,
)
from drivefs.model import CreateTarget, Metadata, SessionUri
from tests.unit.drive_calls import (
    ANY,
    CREATE,
    FILE,
    MIB,
    PARENT,
    SAID,
    UPDATE,
    Bytes,
    Opener,
    session_of,
)
from tests.unit.scripted_server import Exchange, ScriptedServer, Step, answer, failing

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


@pytest.mark.parametrize("status", [200, 204, 404, 410, 499])
def test_session_that_is_given_up_is_ended(status: int, opened: Opener) -> None:
    with ScriptedServer(answer(status)) as server:
        opened(server).end_session(session_of(server))
        assert (server.requests[0].method, server.requests[0].body) == ("DELETE", b"")


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
