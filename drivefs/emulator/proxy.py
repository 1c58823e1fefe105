"""HTTPS proxy: `CONNECT` to Google's hosts ends here, under a certificate of our own authority. No other host is
reached, so nothing leaves the machine."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import os
import ssl
from collections.abc import Callable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

HOSTS = (
    "www.googleapis.com",
    "oauth2.googleapis.com",
    "accounts.google.com",
    "content.googleapis.com",
    "drive.google.com",
    "drive.usercontent.google.com",
)
_HEAD_BYTES = 16_384
_LIFE = datetime.timedelta(days=3650)


def ensure_authority(directory: Path) -> tuple[Path, ssl.SSLContext]:
    """The authority's certificate file, and a context that serves `HOSTS`. Both are made once a directory."""
    authority, served = directory / "ca.pem", directory / "server.pem"
    if not served.exists():
        _make(authority, served)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(served)
    context.set_alpn_protocols(["http/1.1"])
    return authority, context


def _make(authority: Path, served: Path) -> None:
    now = datetime.datetime.now(datetime.UTC)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "drivefs emulator authority")])

    def builder(name: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(ca_name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + _LIFE)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        )

    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    ca = (
        builder(ca_name, ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    names: list[x509.GeneralName] = [x509.DNSName(host) for host in HOSTS]
    names.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
    certificate = (
        builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOSTS[0])]), key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    authority.write_bytes(ca.public_bytes(pem))
    descriptor = os.open(served, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(
            key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
            + certificate.public_bytes(pem)
        )


class ConnectProtocol(asyncio.Protocol):
    """One connection to the proxy: after CONNECT it becomes a connection of the server's."""

    def __init__(self, context: ssl.SSLContext, make_handler: Callable[[], asyncio.BaseProtocol]) -> None:
        self._context = context
        self._make_handler = make_handler
        self._head = b""
        self._transport: asyncio.Transport | None = None
        self._upgrade: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        transport = self._transport
        if transport is None or self._upgrade is not None:
            return
        self._head += data
        end = self._head.find(b"\r\n\r\n")
        if end < 0:
            if len(self._head) > _HEAD_BYTES:
                transport.close()
            return
        words = self._head.partition(b"\r\n")[0].decode("latin-1").split()
        host = words[1].rpartition(":")[0] if len(words) == 3 and words[0] == "CONNECT" else ""
        if host not in HOSTS:
            transport.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            transport.close()
            return
        transport.pause_reading()
        transport.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        self._upgrade = asyncio.get_running_loop().create_task(self._start_tls(transport))

    async def _start_tls(self, transport: asyncio.Transport) -> None:
        handler = self._make_handler()
        try:
            secure = await asyncio.get_running_loop().start_tls(transport, handler, self._context, server_side=True)
        except (OSError, ssl.SSLError):
            # A client that does not trust the authority hangs up here.
            transport.close()
            return
        if secure is not None:
            handler.connection_made(secure)
