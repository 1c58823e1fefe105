"""drivefs.drive.http: bodies on their way, in the plain and through TLS."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from drivefs.drive.http import Transport
from drivefs.errors import Superseded, Unreachable
from tests.unit.drive_calls import MIB, sized, zeros
from tests.unit.scripted_server import Exchange, ScriptedServer, answer

# --- bodies ---


def test_body_in_pieces_arrives_whole(transport: Transport) -> None:
    with ScriptedServer(answer(200, b"ok")) as server:
        transport.exchange("PUT", server.url, sized(3 * MIB), zeros(3))
        assert server.requests[0].body == bytes(3 * MIB)
        assert "transfer-encoding" not in server.requests[0].headers


def test_early_reply_is_read_and_the_rest_not_sent(transport: Transport) -> None:
    sent = 0

    def pieces() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(1000):
            sent += 1
            yield bytes(MIB)

    def refuse(exchange: Exchange) -> None:
        exchange.read_body(MIB)
        exchange.reply(403, b"no")
        assert len(exchange.read_body(1000 * MIB)) < 50 * MIB
        dropped.set()
        exchange.close()

    dropped = threading.Event()
    with ScriptedServer(refuse, answer(200, b"next")) as server:
        status, _, body = transport.exchange("PUT", server.url, sized(1000 * MIB), pieces)
        assert (status, body) == (403, b"no")
        assert sent < 50
        assert dropped.wait(10)
        # What was left of the body must not be taken for the next request, nor that for the body.
        assert transport.exchange("POST", server.url, {}, b"{}")[2] == b"next"
        assert server.connections == 2


def test_early_reply_before_a_reset_is_read(transport: Transport) -> None:
    def refuse(exchange: Exchange) -> None:
        exchange.read_body(MIB)
        exchange.reply(410, b"gone")
        exchange.close()  # with bytes unread: the kernel sends a reset

    with ScriptedServer(refuse) as server:
        assert transport.exchange("PUT", server.url, sized(100 * MIB), zeros(100))[0] == 410


def test_reset_in_the_middle_of_a_body_is_unreachable(transport: Transport) -> None:
    def step(exchange: Exchange) -> None:
        exchange.read_body(MIB)
        exchange.reset()

    with ScriptedServer(step) as server, pytest.raises(Unreachable):
        transport.exchange("PUT", server.url, sized(100 * MIB), zeros(100))


def test_body_that_is_taken_back_never_completes_its_request(transport: Transport) -> None:
    received = threading.Event()

    def pieces() -> Iterator[bytes]:
        yield bytes(MIB)
        raise Superseded

    def step(exchange: Exchange) -> None:
        assert len(exchange.read_body()) == MIB
        received.set()

    with ScriptedServer(step, answer(200, b"next")) as server:
        with pytest.raises(Superseded):
            transport.exchange("PUT", server.url, sized(2 * MIB), pieces)
        assert received.wait(10)
        assert transport.exchange("GET", server.url, {})[2] == b"next"


# --- TLS ---


@pytest.fixture
def tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A server's context, whose certificate this process trusts."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = tmp_path / "server.pem"
    pem.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    return context


def test_tls_carries_bodies_both_ways_on_one_connection(transport: Transport, tls: ssl.SSLContext) -> None:
    with ScriptedServer(*[answer(200, bytes(MIB))] * 3, tls=tls) as server:
        for _ in range(3):
            reply = transport.exchange("PUT", server.url, sized(3 * MIB), zeros(3))
            assert (reply[0], len(reply[2])) == (200, MIB)
        assert [len(r.body) for r in server.requests] == [3 * MIB] * 3
        assert server.connections == 1


def test_tls_reads_an_early_reply_when_the_server_stops_taking_bytes(
    impatient: Transport, tls: ssl.SSLContext
) -> None:
    def refuse(exchange: Exchange) -> None:
        exchange.read_body(MIB)
        exchange.reply(410, b"gone")
        exchange.stall()

    with ScriptedServer(refuse, answer(200, b"next"), tls=tls) as server:
        assert impatient.exchange("PUT", server.url, sized(100 * MIB), zeros(100))[0] == 410
        assert impatient.exchange("GET", server.url, {})[2] == b"next"


def test_tls_certificate_of_a_stranger_is_unreachable(
    transport: Transport, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with ScriptedServer(answer(200), tls=tls) as server, pytest.raises(Unreachable, match="certificate"):
        transport.exchange("GET", server.url, {})
