"""The server: routes, listening sockets, start and end."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

from aiohttp import web

from drivefs.emulator import batch
from drivefs.emulator.admin import Admin
from drivefs.emulator.exchange import Dropped, Exchange
from drivefs.emulator.oauth import OAuth
from drivefs.emulator.options import Options
from drivefs.emulator.service import BASES, Service
from drivefs.emulator.signin import SignIn
from drivefs.emulator.state import Emulator

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
# Small, so that a client is slowed by the line's pace and not by what the kernel has swallowed before.
_SOCKET_BUFFER_BYTES = 131_072
_BACKLOG = 512
_BATCH_PATHS = ("/batch/drive/v3", "/batch/drive/v2", "/batch")


class PortTaken(Exception):
    """Somebody else listens there, or we may not; the message is a sentence."""


class Server:
    """Takes each request to the part that answers it."""

    def __init__(self, emulator: Emulator) -> None:
        self.emulator = emulator
        self.oauth = OAuth(emulator)
        self.service = Service(emulator, self.oauth)
        self.sign_in = SignIn(emulator, self.oauth)
        self.admin = Admin(emulator, self.oauth, self.service.uploads)
        self._prefixes = tuple(base for base, _, _ in BASES)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """aiohttp's entry for each request."""
        path = request.rel_url.raw_path
        if path.startswith("/_admin/"):
            return await self.admin.serve(request, path[len("/_admin/") :])
        if request.transport is None:
            return web.Response(status=499)
        exchange = Exchange(self.emulator, request, request.transport)
        try:
            if path.startswith(self._prefixes):
                return await self.service.serve(exchange, path)
            if path in _BATCH_PATHS:
                return await batch.serve(self.service, exchange)
            return await self.sign_in.serve(exchange, path)
        except Dropped:
            # Nobody is there any more; aiohttp wants a reply nevertheless, and drops it.
            exchange.transport.close()
            return web.Response(status=499)


def listening(port: int) -> socket.socket:
    """A socket on loopback whose connections have small buffers."""
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SOCKET_BUFFER_BYTES)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER_BYTES)
    try:
        found.bind((HOST, port))
    except OSError as error:
        found.close()
        raise PortTaken(f"The emulator cannot listen on port {port}: {error.strerror}.") from error
    found.listen(_BACKLOG)
    return found


def run(options: Options) -> None:
    """Serve until SIGTERM or SIGINT. Prints one line of JSON when it answers. Raises `PortTaken`."""
    # Tokens and session addresses lie in the database: all that is written is for this user alone.
    os.umask(0o077)
    temporary = None if options.directory is not None else tempfile.mkdtemp(prefix="drivefs-emulator-")
    directory = Path(temporary) if temporary is not None else options.directory
    assert directory is not None
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        asyncio.run(_serve(directory, options))
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


async def _serve(directory: Path, options: Options) -> None:
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    emulator = Emulator(directory, options)
    try:
        server = Server(emulator)
        serving = web.Server(
            server.handle, access_log=None, keepalive_timeout=240.0, lingering_time=1.0, max_line_size=65_536
        )
        runner = web.ServerRunner(serving, shutdown_timeout=0.2)
        await runner.setup()
        listener = listening(options.port)
        emulator.endpoint = f"http://{HOST}:{listener.getsockname()[1]}"
        await web.SockSite(runner, listener).start()
        ready = _ready(server, options)
        proxy = None
        if options.proxy_port is not None:
            # Only here: making certificates is slow to import.
            from drivefs.emulator.proxy import ConnectProtocol, ensure_authority  # noqa: PLC0415

            authority, context = ensure_authority(directory)
            proxy_listener = listening(options.proxy_port)
            proxy = await loop.create_server(lambda: ConnectProtocol(context, serving), sock=proxy_listener)
            ready.update(proxy=f"http://{HOST}:{proxy_listener.getsockname()[1]}", ca=str(authority))
        sys.stdout.write(json.dumps(ready) + "\n")
        sys.stdout.flush()
        await stopping.wait()
        if proxy is not None:
            proxy.close()
        await runner.cleanup()
    finally:
        emulator.close()


def _ready(server: Server, options: Options) -> dict[str, Any]:
    """What the one line says by which a caller knows that, and where, it answers."""
    endpoint = server.emulator.endpoint
    files = server.oauth.write_credentials(endpoint)
    return {
        "endpoint": endpoint,
        "credentials": str(files[options.accounts[0]]),
        "admin": f"{endpoint}/_admin/",
        "accounts": {email: str(path) for email, path in files.items()},
    }


__all__ = ["PortTaken", "Server", "run"]
