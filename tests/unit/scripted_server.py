"""An HTTP server on loopback that answers each request as a test's script says, misbehaviour included."""

from __future__ import annotations

import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any


class Exchange:
    """One request, and the connection to answer it on."""

    def __init__(self, server: ScriptedServer, sock: socket.socket, head: bytes, rest: bytes) -> None:
        lines = head.decode("latin-1").split("\r\n")
        self.server = server
        self.method, self.path, _ = lines[0].split(" ", 2)
        self.headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:])}
        self.body = b""
        self.ended = False
        self._sock = sock
        self._rest = rest

    def read_body(self, length: int | None = None) -> bytes:
        """The body, or its first `length` bytes; fewer when the client stops."""
        wanted = int(self.headers.get("content-length", "0")) if length is None else length
        while len(self._rest) < wanted and (data := self._sock.recv(1 << 16)):
            self._rest += data
        self.body, self._rest = self._rest[:wanted], self._rest[wanted:]
        return self.body

    def reply(self, status: int, body: object = b"", headers: dict[str, str] | None = None) -> None:
        """A whole reply with its length; what is not bytes goes as JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        fields = {"content-length": str(len(data)), **(headers or {})}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self.raw(f"HTTP/1.1 {status} Said\r\n{head}\r\n".encode() + data)

    def error(self, status: int, reason: str, headers: dict[str, str] | None = None) -> None:
        self.reply(status, error_body(status, reason), headers)

    def raw(self, data: bytes) -> None:
        self._sock.sendall(data)

    def close(self) -> None:
        self.ended = True

    def reset(self) -> None:
        """End the connection with a TCP reset."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.ended = True

    def stall(self) -> None:
        """Say nothing for the rest of the test."""
        self.server.ending.wait()
        self.ended = True


Step = Callable[[Exchange], None]


def error_body(status: int, reason: str) -> dict[str, Any]:
    """An error as Drive words it."""
    return {
        "error": {
            "code": status,
            "message": f"said {reason}",
            "errors": [{"domain": "global", "reason": reason, "message": f"said {reason}"}],
        }
    }


def answer(status: int, body: object = b"", headers: dict[str, str] | None = None) -> Step:
    """A step that reads the request to its end and answers it."""

    def step(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.reply(status, body, headers)

    return step


def failing(status: int, reason: str, headers: dict[str, str] | None = None) -> Step:
    """A step that reads the request to its end and answers with Drive's error."""
    return answer(status, error_body(status, reason), headers)


class ScriptedServer:
    """Takes its steps one a request, in the order of arrival. A request beyond the script gets a 418."""

    def __init__(self, *steps: Step, tls: ssl.SSLContext | None = None) -> None:
        self._steps = list(steps)
        self._tls = tls
        self._lock = threading.Lock()  # guards the steps and the lists below
        self.requests: list[Exchange] = []
        self.connections = 0
        self.ending = threading.Event()
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        # Small, so that bytes which a step does not read stay with the client.
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 18)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{self.port}"

    def script(self, steps: Iterable[Step]) -> None:
        with self._lock:
            self._steps.extend(steps)

    def __enter__(self) -> ScriptedServer:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ending.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            sockets = list(self._sockets)
        for sock in sockets:
            try:
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
            except OSError:
                continue
        for thread in self._threads:
            thread.join(10)

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self.ending.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self.connections += 1
            self._start(self._serve, sock)

    def _serve(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_side=True)
            with self._lock:
                self._sockets.append(sock)
            with sock:
                self._converse(sock)
        except OSError:
            return  # the client went away; tests look at what the client says
        finally:
            sock.close()

    def _converse(self, sock: socket.socket) -> None:
        rest = b""
        while True:
            while b"\r\n\r\n" not in rest:
                data = sock.recv(1 << 16)
                if not data:
                    return
                rest += data
            head, _, rest = rest.partition(b"\r\n\r\n")
            exchange = Exchange(self, sock, head, rest)
            with self._lock:
                self.requests.append(exchange)
                step = self._steps.pop(0) if self._steps else answer(418)
            step(exchange)
            if exchange.ended:
                return
            rest = exchange._rest
