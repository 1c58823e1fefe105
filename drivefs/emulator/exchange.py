"""One HTTP request and its reply, over the line's model of latency and bandwidth."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Mapping
from typing import Any

from aiohttp import ClientError, web

from drivefs.emulator.errors import Malformed
from drivefs.emulator.network import QUANTUM_BYTES, Line
from drivefs.emulator.state import Emulator, dump


class Dropped(Exception):
    """The connection is gone, or was cut on purpose: there is nobody to answer."""


class Exchange:
    """Reads the body at the line's pace, and sends the reply after the latency."""

    def __init__(self, emulator: Emulator, request: web.BaseRequest, transport: asyncio.Transport) -> None:
        self.emulator = emulator
        self.request = request
        self.transport = transport
        self.line: Line = emulator.network.line(transport)
        self.headers: Mapping[str, str] = request.headers
        self.bytes_in = 0
        self.bytes_out = 0
        self.status = 0
        self.reason = ""
        self._arrived_s = asyncio.get_running_loop().time()
        self._greeted = False
        self.upload_id = ""

    def base_url(self) -> str:
        """Where the client believes the server to be: ours, or Google's when it came through the proxy."""
        if self.transport.get_extra_info("sslcontext") is not None:
            return f"https://{self.request.host}"
        return self.emulator.endpoint

    def link_base(self) -> str:
        """What links for people begin with."""
        base = self.base_url()
        return "https://drive.google.com" if base.startswith("https://") else base

    # --- the body ---

    @property
    def length(self) -> int | None:
        """What Content-Length says."""
        return self.request.content_length

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives; `Dropped` when the connection ends before it."""
        await self._greet()
        content, loop = self.request.content, asyncio.get_running_loop()
        self.line.up.rest()
        try:
            while True:
                asked_s = loop.time()
                data = await (content.read(QUANTUM_BYTES) if self.line.paced else content.readany())
                if not data:
                    break
                await self.line.received(len(data), loop.time() - asked_s)
                self.bytes_in += len(data)
                yield data
        except (ConnectionError, ClientError, web.RequestPayloadError) as error:
            raise Dropped from error
        self._arrived_s = loop.time()

    async def body(self, limit_bytes: int) -> bytes:
        """The whole body; `Malformed` when it is larger."""
        pieces, total = [], 0
        async for piece in self.chunks():
            total += len(piece)
            if total > limit_bytes:
                raise Malformed("The request body is too large.")
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def _greet(self) -> None:
        if not self._greeted and self.headers.get("Expect", "").lower() == "100-continue":
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._greeted = True

    # --- the reply ---

    async def wait_latency(self) -> None:
        """Until the moment at which the reply may begin."""
        wait_s = self._arrived_s + self.emulator.network.latency_s - asyncio.get_running_loop().time()
        if wait_s > 0:
            await asyncio.sleep(wait_s)

    async def reply(
        self,
        status: int,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        content_type: str = "application/json; charset=UTF-8",
        reason: str | None = None,
    ) -> web.StreamResponse:
        """Send it all; large ones go at the line's pace."""
        await self.wait_latency()
        self.status = status
        self.bytes_out += len(body)
        sent = {"Cache-Control": "no-cache, no-store, max-age=0, must-revalidate", **(headers or {})}
        if body:
            sent["Content-Type"] = content_type
        if len(body) <= QUANTUM_BYTES:
            self.line.down.rest()
            await self.line.sending(len(body))
            return web.Response(status=status, body=body, headers=sent, reason=reason)
        response = web.StreamResponse(status=status, headers=sent, reason=reason)
        response.content_length = len(body)
        await self.begin(response)
        await self.send(response, body)
        return response

    async def reply_json(
        self, status: int, value: Any, headers: Mapping[str, str] | None = None, *, pretty: bool = False
    ) -> web.StreamResponse:
        return await self.reply(status, dump(value, pretty=pretty), headers)

    async def begin(self, response: web.StreamResponse) -> None:
        """Send the headers."""
        self.line.down.rest()
        self.status = response.status
        await response.prepare(self.request)

    async def send(self, response: web.StreamResponse, data: bytes) -> None:
        """Send a piece of the body at the line's pace."""
        view = memoryview(data)
        try:
            for at in range(0, len(data), QUANTUM_BYTES):
                piece = view[at : at + QUANTUM_BYTES]
                await self.line.sending(len(piece))
                await response.write(piece)
        except (ConnectionError, ClientError) as error:
            raise Dropped from error

    # --- the end of it ---

    def cut(self) -> Dropped:
        """End the connection in the ordinary way, in the middle of a reply. To be raised."""
        self.transport.close()
        return Dropped()

    def reset(self) -> Dropped:
        """Cut the connection at once; the client sees a reset. To be raised."""
        raw = self.transport.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()
        return Dropped()
