"""HTTP to Drive: pooled connections that many threads share, and one way out for every foreign error.

Entered by every thread that calls Drive; starts none. Nothing here knows what the requests mean, and nothing
here repeats one, except a reading request on a kept-alive connection that turns out to be closed.

URLs may be secrets (upload sessions), so no message or log line of this module carries one.
"""

from __future__ import annotations

import fcntl
import http.client
import logging
import select
import socket
import ssl
import sys
import termios
import threading
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakSet

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import (
    DecodeError,
    HeaderParsingError,
    HTTPError,
    LocationValueError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
)
from urllib3.exceptions import TimeoutError as HttpTimeout
from urllib3.response import BaseHTTPResponse

from drivefs.errors import BadReply, Refused, Unreachable

MAX_REPLY_BYTES = 64 << 20
"""No reply that is not a download is as long as this: 1,000 files of a listing take about 1 MB."""
_TLS_SLICE_BYTES = 64 << 10
"""One write to a TLS socket; each may take as long as a stall, so it bounds the slowest line that works."""
_SLOWEST_BYTES_PER_S = 16 << 10
"""A connection that delivers less than this is as good as none."""

Body = bytes | Callable[[], Iterable[bytes]]
"""What a request carries: bytes, or a function that yields the pieces (again for each try)."""


class _Live:
    """The open connections of one transport, so that closing it reaches the ones in use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards both
        self._connections: WeakSet[HTTPConnection] = WeakSet()
        self.closed = False

    def add(self, connection: HTTPConnection) -> None:
        with self._lock:
            if self.closed:
                raise ConnectionAbortedError("the transport is closed")
            self._connections.add(connection)

    def close(self) -> None:
        with self._lock:
            self.closed = True
            connections = list(self._connections)
        for connection in connections:
            sock = connection.sock
            if sock is None:
                continue
            try:
                # The plain method, for TLS sockets too: it only wakes the thread that reads or writes.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
            except OSError:
                logging.getLogger(__name__).debug("a connection was closed already", exc_info=True)


class _StaleConnection(http.client.RemoteDisconnected):
    """A kept-alive connection ended before any byte of the reply."""


class _Watching(HTTPConnection):
    """Sends a body piece by piece, as long as it moves, and stops when the server has answered already."""

    _stall_s: float
    _live: _Live
    _replies = 0
    _began = False
    unfinished = False
    """The request was not sent to its end: whatever follows on this connection would be taken for its body."""

    def connect(self) -> None:
        super().connect()
        self._replies = 0
        self.unfinished = False
        try:
            self._live.add(self)
        except ConnectionAbortedError:
            self.close()
            raise

    def request(self, *args: Any, **kwargs: Any) -> None:
        self._began = False
        super().request(*args, **kwargs)

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()
        view = memoryview(data).cast("B")
        secure = isinstance(self.sock, ssl.SSLSocket)
        self.sock.settimeout(self._stall_s)
        may_be_answered, self._began = self._began, True
        poll = select.poll()
        poll.register(self.sock, select.POLLOUT | (select.POLLIN if may_be_answered and not secure else 0))
        while view:
            if secure:
                # Readable alone says nothing of a reply here: it may be a session ticket.
                try:
                    sent = self.sock.send(view[:_TLS_SLICE_BYTES])
                except TimeoutError:
                    poll.modify(self.sock, select.POLLIN)
                    self._stop_if_answered(poll.poll(0))
                    raise
            else:
                events = poll.poll(self._stall_s * 1000)
                if not events:
                    raise TimeoutError("the server takes no more bytes")
                self._stop_if_answered(events)
                sent = self.sock.send(view)
            view = view[sent:]

    def _stop_if_answered(self, events: list[tuple[int, int]]) -> None:
        if events and events[0][1] & select.POLLIN:
            self.unfinished = True
            raise BrokenPipeError("answered before the end of the body")  # urllib3 goes on to read the reply

    def getresponse(self) -> Any:
        # What the kernel has taken and not delivered yet gets its time, or slow lines would never finish.
        queued_bytes = int.from_bytes(fcntl.ioctl(self.sock, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
        self.timeout = (self.timeout or 0.0) + queued_bytes / _SLOWEST_BYTES_PER_S
        try:
            response = super().getresponse()
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError) as e:
            if self._replies:
                raise _StaleConnection("the kept-alive connection was closed") from e
            raise
        self._replies += 1
        return response


class _PlainConnection(_Watching, HTTPConnection):
    def __init__(self, *args: Any, stall_s: float, live: _Live, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._stall_s, self._live = stall_s, live


class _SecureConnection(_Watching, HTTPSConnection):
    def __init__(self, *args: Any, stall_s: float, live: _Live, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._stall_s, self._live = stall_s, live


class _Tidy(HTTPConnectionPool):
    """Closes connections that cannot be used again as soon as they come back."""

    def _put_conn(self, conn: Any) -> None:
        if isinstance(conn, _Watching) and conn.unfinished:
            conn.close()
        super()._put_conn(conn)


class _PlainPool(_Tidy, HTTPConnectionPool):
    ConnectionCls = _PlainConnection


class _SecurePool(_Tidy, HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


def is_loopback(host: str | None) -> bool:
    """Whether the host of a URL is this machine, by its name or number alone."""
    if host == "localhost":
        return True
    try:
        return ip_address(host or "").is_loopback
    except ValueError:
        return False


@contextmanager
def foreign_errors() -> Iterator[None]:
    """Whatever urllib3, ssl, http.client and sockets raise comes out as a `DriveError`."""
    try:
        yield
    except (DecodeError, HeaderParsingError) as e:
        raise BadReply("The server's reply cannot be decoded.") from e
    except (LocationValueError, http.client.InvalidURL, UnicodeError):
        raise Refused(
            "The address of the request, or of the proxy, is not a valid URL."
        ) from None  # the cause would show it
    except (HTTPError, http.client.HTTPException, OSError) as e:
        raise Unreachable(f"No reply from Drive: {_short(e)}.") from e


def _short(error: BaseException) -> str:
    """The innermost cause in a few words, without a URL."""
    if isinstance(error, ProtocolError) and len(error.args) > 1 and isinstance(error.args[1], BaseException):
        error = error.args[1]
    if isinstance(error, NameResolutionError):
        return "its name is not found"
    if isinstance(error, NewConnectionError) and isinstance(error.__cause__, OSError):
        error = error.__cause__
    if isinstance(error, TimeoutError | HttpTimeout):
        return "it stays silent"
    if isinstance(error, OSError) and error.strerror and not isinstance(error, ssl.SSLError):
        return error.strerror[:200]
    return f"{type(error).__name__}: {error}".rstrip(".")[:200]


class Transport:
    """Connections to any number of hosts, each reused. Safe for any number of threads."""

    def __init__(
        self,
        *,
        connect_timeout_s: float = 10.0,
        stall_timeout_s: float = 60.0,
        reply_timeout_s: float = 15.0,
        max_connections: int = 64,
    ) -> None:
        """`stall_timeout_s` is the longest time without a byte moving, in either direction; `reply_timeout_s` that of
        a reply to a GET: somebody waits for it, and what was written may take the server longer, a large upload's end
        above all."""
        # Its lines carry whole URLs, and among them upload sessions.
        logging.getLogger("urllib3").setLevel(logging.ERROR)
        self._live = _Live()
        self._stall_s = stall_timeout_s
        self._reading = urllib3.Timeout(connect=connect_timeout_s, read=min(stall_timeout_s, reply_timeout_s))
        self._options: dict[str, Any] = {
            "timeout": urllib3.Timeout(connect=connect_timeout_s, read=stall_timeout_s),
            "maxsize": max_connections,
            "retries": False,
        }
        self._lock = threading.Lock()  # guards the two below
        self._managers: dict[str | None, urllib3.PoolManager] = {}
        self._tls: ssl.SSLContext | None = None

    def open(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Body | None = None,
        *,
        enforce_length: bool = True,
        brief: bool = False,
    ) -> BaseHTTPResponse:
        """Send the request, and return the reply at its first byte; the caller reads it and lets go of it. What is
        `brief` gets its reply as soon as a GET does.

        Raises `Unreachable` when there is no reply, and whatever the body's pieces raise: then the
        connection is closed, and the request never complete. `headers` say the length of a body in pieces.
        With `enforce_length`, reading a reply that is shorter than it says fails.
        """
        try:
            return self._open(method, url, headers, body, enforce_length, brief)
        except Unreachable as e:
            cause = e.__cause__
            stale = isinstance(cause, ProtocolError) and isinstance(cause.args[-1], _StaleConnection)
            if method != "GET" or not stale:
                raise
            return self._open(method, url, headers, body, enforce_length, brief)

    def _open(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Body | None,
        enforce_length: bool,
        brief: bool,
    ) -> BaseHTTPResponse:
        with foreign_errors():
            return self._manager(url).urlopen(
                method,
                url,
                headers=dict(headers),
                body=body() if callable(body) else body,
                redirect=False,
                preload_content=False,
                **({"timeout": self._reading} if brief or method == "GET" else {}),
                enforce_content_length=enforce_length,
            )

    def exchange(
        self, method: str, url: str, headers: Mapping[str, str], body: Body | None = None, *, brief: bool = False
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and the whole body of the reply. Raises `BadReply` beyond 64 MiB."""
        response = self.open(method, url, headers, body, brief=brief)
        return response.status, response.headers, read_all(response)

    def _manager(self, url: str) -> urllib3.PoolManager:
        try:
            parts = urlsplit(url)
        except ValueError:
            raise LocationValueError from None
        proxy = None
        if not is_loopback(parts.hostname) and not urllib.request.proxy_bypass(parts.hostname or ""):
            proxy = urllib.request.getproxies().get(parts.scheme)
        with self._lock:
            if self._live.closed:
                raise ConnectionAbortedError("the connection to Drive is closed")
            manager = self._managers.get(proxy)
            if manager is None:
                options = dict(self._options)
                if parts.scheme == "https" or proxy is not None:
                    # One for all pools: the system's certificates take time and memory to load.
                    self._tls = self._tls or ssl.create_default_context()
                    options["ssl_context"] = self._tls
                manager = urllib3.ProxyManager(proxy, **options) if proxy else urllib3.PoolManager(**options)
                ours: dict[str, Any] = {"stall_s": self._stall_s, "live": self._live}
                classes: dict[str, Any] = {
                    "http": partial(_PlainPool, **ours),
                    "https": partial(_SecurePool, **ours),
                }
                manager.pool_classes_by_scheme = classes
                self._managers[proxy] = manager
            return manager

    def close(self) -> None:
        """Drop all connections; requests under way end with `Unreachable`."""
        self._live.close()
        with self._lock:
            managers = list(self._managers.values())
        for manager in managers:
            manager.clear()


def read_all(response: BaseHTTPResponse) -> bytes:
    """The rest of the reply; its connection goes back to the pool. `Unreachable` when it ends early."""
    try:
        with foreign_errors():
            data = response.read(MAX_REPLY_BYTES + 1, decode_content=True)
            if len(data) > MAX_REPLY_BYTES:
                raise BadReply("The server's reply has no end.")
    except BaseException:
        response.close()
        raise
    response.release_conn()
    return data
