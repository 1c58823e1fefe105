"""drivefs.drive.http: connections, replies and logs, against a server that misbehaves."""

from __future__ import annotations

import gzip
import http.client
import json
import logging
import socket
import ssl
import threading

import pytest
import urllib3.exceptions as foreign

from drivefs.drive.http import Transport, foreign_errors, is_loopback, read_all
from drivefs.errors import BadReply, DriveError, Refused, Superseded, Unreachable
from tests.unit.drive_calls import MIB, sized, zeros
from tests.unit.scripted_server import Exchange, ScriptedServer, answer

# --- every foreign error has its place ---


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (foreign.HTTPError("x"), Unreachable),
        (foreign.ProtocolError("x", ConnectionResetError()), Unreachable),
        (foreign.ProtocolError("x", http.client.RemoteDisconnected()), Unreachable),
        (foreign.IncompleteRead(1, 2), Unreachable),
        (foreign.ReadTimeoutError(None, "http://h/?upload_id=SECRET", "slow"), Unreachable),  # type: ignore[arg-type]
        (foreign.ConnectTimeoutError(), Unreachable),
        (foreign.SSLError("bad certificate"), Unreachable),
        (foreign.ProxyError("proxy", OSError()), Unreachable),
        (foreign.MaxRetryError(None, "http://h/?upload_id=SECRET"), Unreachable),  # type: ignore[arg-type]
        (foreign.ClosedPoolError(None, "closed"), Unreachable),  # type: ignore[arg-type]
        (foreign.DecodeError("gzip"), BadReply),
        (foreign.HeaderParsingError([], b"x"), BadReply),
        (foreign.LocationParseError("http://h:x/?upload_id=SECRET"), Refused),
        (foreign.URLSchemeUnknown("gopher"), Refused),
        (http.client.InvalidURL("http://h/?upload_id=SECRET"), Refused),
        (http.client.BadStatusLine("?"), Unreachable),
        (http.client.LineTooLong("header"), Unreachable),
        (ssl.SSLCertVerificationError("certificate"), Unreachable),
        (ssl.SSLEOFError(), Unreachable),
        (socket.gaierror(-2, "no such host"), Unreachable),
        (TimeoutError("slow"), Unreachable),
        (ConnectionRefusedError(), Unreachable),
        (BrokenPipeError(), Unreachable),
        (OSError(113, "no route"), Unreachable),
        (UnicodeError("idna"), Refused),
    ],
)
def test_foreign_errors_come_out_as_drive_errors(error: Exception, kind: type[DriveError]) -> None:
    with pytest.raises(kind) as caught, foreign_errors():
        raise error
    assert type(caught.value) is kind


def test_foreign_errors_show_no_session_address() -> None:
    for error in (
        foreign.LocationParseError("http://h:x/?upload_id=SECRET"),
        foreign.ReadTimeoutError(None, "http://h/?upload_id=SECRET", "slow"),  # type: ignore[arg-type]
        http.client.InvalidURL("http://h/?upload_id=SECRET"),
    ):
        with pytest.raises(DriveError) as caught, foreign_errors():
            raise error
        assert "SECRET" not in f"{caught.value} {caught.value.__cause__}"


def test_foreign_errors_leave_ours_alone() -> None:
    with pytest.raises(Superseded), foreign_errors():
        raise Superseded


# --- connections ---


def test_transport_reuses_a_connection(transport: Transport) -> None:
    with ScriptedServer(*[answer(200, b"ok")] * 5) as server:
        for _ in range(5):
            assert transport.exchange("GET", server.url, {})[2] == b"ok"
        assert server.connections == 1


def test_transport_serves_many_threads_at_once(transport: Transport) -> None:
    together = threading.Barrier(32)

    def step(exchange: Exchange) -> None:
        together.wait(10)
        exchange.reply(200, b"ok")

    replies: list[bytes] = []
    with ScriptedServer(*[step] * 64) as server:
        for _ in range(2):
            threads = [
                threading.Thread(target=lambda: replies.append(transport.exchange("GET", server.url, {})[2]))
                for _ in range(32)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(10)
        assert replies == [b"ok"] * 64
        assert server.connections == 32


def test_transport_notices_a_connection_that_was_closed_while_idle(transport: Transport) -> None:
    closed = threading.Event()

    def then_close(exchange: Exchange) -> None:
        exchange.reply(200, b"one")
        exchange.close()

    with ScriptedServer(then_close, answer(200, b"two")) as server:
        transport.exchange("POST", server.url, {})
        server._threads[-1].join(10)
        closed.set()
        assert transport.exchange("POST", server.url, {})[2] == b"two"


def test_transport_repeats_a_reading_request_that_met_a_closing_connection(transport: Transport) -> None:
    def close_unanswered(exchange: Exchange) -> None:
        exchange.close()

    with ScriptedServer(answer(200, b"one"), close_unanswered, answer(200, b"two")) as server:
        transport.exchange("GET", server.url, {})
        assert transport.exchange("GET", server.url, {})[2] == b"two"
        assert len(server.requests) == 3


def test_transport_never_repeats_a_writing_request(transport: Transport) -> None:
    for ending in (Exchange.close, Exchange.reset):
        with ScriptedServer(answer(200, b"one"), ending, answer(200, b"two")) as server:
            transport.exchange("POST", server.url, {})
            with pytest.raises(Unreachable):
                transport.exchange("POST", server.url, {}, b"x")
            assert len(server.requests) == 2


def test_transport_does_not_repeat_on_a_fresh_connection(transport: Transport) -> None:
    with ScriptedServer(Exchange.close, answer(200)) as server:
        with pytest.raises(Unreachable):
            transport.exchange("GET", server.url, {})
        assert len(server.requests) == 1


def test_transport_says_when_nobody_listens(transport: Transport) -> None:
    with ScriptedServer() as server:
        url = server.url
    with pytest.raises(Unreachable):
        transport.exchange("GET", url, {})


def test_transport_gives_up_on_a_server_that_stalls(impatient: Transport) -> None:
    def half(exchange: Exchange) -> None:
        exchange.raw(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
        exchange.stall()

    for step in (Exchange.stall, half):
        with ScriptedServer(step) as server, pytest.raises(Unreachable):
            impatient.exchange("GET", server.url, {})


def test_transport_gives_up_on_a_server_that_takes_no_bytes(impatient: Transport) -> None:
    with ScriptedServer(Exchange.stall) as server, pytest.raises(Unreachable):
        impatient.exchange("PUT", server.url, sized(64 * MIB), zeros(64))


def test_transport_bears_a_server_that_is_slow_but_moves() -> None:
    """What is in the kernel's hands when the last byte is written takes longer than the stall timeout."""
    tick = threading.Event()
    transport = Transport(connect_timeout_s=5, stall_timeout_s=0.6)

    def slowly(exchange: Exchange) -> None:
        exchange.read_body(20 * MIB)
        for _ in range(16):
            tick.wait(0.1)
            exchange.read_body(MIB // 4)
        exchange.reply(200, b"ok")

    with ScriptedServer(slowly) as server:
        assert transport.exchange("PUT", server.url, sized(24 * MIB), zeros(24))[2] == b"ok"
    transport.close()


def test_closing_ends_requests_under_way(transport: Transport) -> None:
    arrived = threading.Semaphore(0)
    errors: list[DriveError] = []

    def stall(exchange: Exchange) -> None:
        arrived.release()
        exchange.stall()

    def get(url: str) -> None:
        try:
            transport.exchange("GET", url, {})
        except DriveError as e:
            errors.append(e)

    with ScriptedServer(stall, stall) as server:
        threads = [threading.Thread(target=get, args=(server.url,)) for _ in range(2)]
        for thread in threads:
            thread.start()
            assert arrived.acquire(timeout=10)
        transport.close()
        for thread in threads:
            thread.join(3)
            assert not thread.is_alive()
        assert [type(e) for e in errors] == [Unreachable] * 2
        with pytest.raises(Unreachable):
            transport.exchange("GET", server.url, {})


# --- replies ---


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 70_000,
    ],
)
def test_reply_that_is_not_whole_is_unreachable(transport: Transport, garbage: bytes) -> None:
    def step(exchange: Exchange) -> None:
        exchange.raw(garbage)
        exchange.close()

    with ScriptedServer(step) as server, pytest.raises(Unreachable):
        transport.exchange("GET", server.url, {})


def test_reply_is_decompressed(transport: Transport) -> None:
    packed = gzip.compress(b'{"a": 1}')
    with ScriptedServer(answer(200, packed, {"content-encoding": "gzip"})) as server:
        assert json.loads(transport.exchange("GET", server.url, {})[2]) == {"a": 1}


def test_reply_that_cannot_be_decompressed_is_a_bad_reply(transport: Transport) -> None:
    with (
        ScriptedServer(answer(200, b"not gzip", {"content-encoding": "gzip"})) as server,
        pytest.raises(BadReply),
    ):
        transport.exchange("GET", server.url, {})


def test_reply_without_end_is_a_bad_reply(transport: Transport) -> None:
    bomb = gzip.compress(bytes(65 * MIB))
    with (
        ScriptedServer(answer(200, bomb, {"content-encoding": "gzip"})) as server,
        pytest.raises(BadReply, match="no end"),
    ):
        transport.exchange("GET", server.url, {})


def test_redirects_are_not_followed(transport: Transport) -> None:
    with ScriptedServer(answer(302, b"", {"location": "http://127.0.0.1:1/"})) as server:
        assert transport.exchange("GET", server.url, {})[0] == 302
        assert len(server.requests) == 1


# --- proxies and logs ---


def test_proxy_of_the_environment_is_not_used_for_loopback(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedServer() as proxy, ScriptedServer(answer(200, b"direct")) as server:
        monkeypatch.setenv("http_proxy", proxy.url)
        assert transport.exchange("GET", server.url, {})[2] == b"direct"
        assert proxy.connections == 0


def test_proxy_of_the_environment_is_used_for_all_else(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedServer(answer(200, b"through the proxy")) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        assert transport.exchange("GET", "http://drive.invalid/x", {})[2] == b"through the proxy"
        assert proxy.requests[0].path == "http://drive.invalid/x"


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("localhost", True),
        ("::1", True),
        ("127.0.0.1.example.com", False),
        ("10.0.0.1", False),
        ("", False),
        (None, False),
    ],
)
def test_loopback_is_told_by_the_name_alone(host: str | None, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_logs_never_carry_an_address(transport: Transport, caplog: pytest.LogCaptureFixture) -> None:
    def odd(exchange: Exchange) -> None:
        exchange.raw(b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\n")
        exchange.close()

    with caplog.at_level(logging.DEBUG), ScriptedServer(odd, answer(500), Exchange.reset) as server:
        for _ in range(2):
            response = transport.open("PUT", f"{server.url}/?upload_id=SECRET", {}, b"")
            read_all(response)
        with pytest.raises(Unreachable):
            transport.exchange("PUT", f"{server.url}/?upload_id=SECRET", {}, b"")
    assert "SECRET" not in caplog.text
