"""The line between client and server: latency a request, bandwidth a connection, all of them changeable at run time.

Bytes pass in quanta of at most 64 KiB, each at the moment when a line of that rate would have carried it. The
reading side takes nothing from the socket ahead of that, so the client's own writes are slowed from the first
byte on (up to the kernel's two small buffers).
"""

from __future__ import annotations

import asyncio
from typing import Any

QUANTUM_BYTES = 65_536
# How far a line may catch up after the event loop was late; more would be a burst that no line allows.
_CATCH_UP_S = 0.03
# A wait for the client beyond this is the client's own: the line stood still, and gives nothing back.
_IDLE_S = 0.01
# How long our own work (hashing, a busy disk) may hold a body up without costing the client anything.
_WORK_S = 0.5
# The shared line has no owner who could say when it rests.
_SHARED_CATCH_UP_S = 0.005


class Pacer:
    """One direction of one line."""

    __slots__ = ("_due_s", "rate")

    def __init__(self, rate: float | None) -> None:
        self.rate = rate
        self._due_s = 0.0

    def rest(self) -> None:
        """Nothing was on the line until now: what it could have carried is gone."""
        self._due_s = max(self._due_s, asyncio.get_running_loop().time())

    async def carry(self, length: int, catch_up_s: float = _CATCH_UP_S) -> None:
        """Wait until the line has carried `length` bytes more."""
        if self.rate is None:
            return
        now_s = asyncio.get_running_loop().time()
        self._due_s = max(self._due_s, now_s - catch_up_s) + length / self.rate
        if self._due_s > now_s:
            await asyncio.sleep(self._due_s - now_s)


class Line:
    """Both directions of one connection, over the shared line of all."""

    __slots__ = ("_network", "down", "up")

    def __init__(self, network: Network) -> None:
        self._network = network
        self.up = Pacer(network.bandwidth_bytes_s)
        self.down = Pacer(network.bandwidth_bytes_s)

    @property
    def paced(self) -> bool:
        return self.up.rate is not None or self._network.shared_up.rate is not None

    async def received(self, length: int, waited_s: float) -> None:
        """Wait as long as `length` bytes take from the client, for which we had to wait so long before."""
        if waited_s > _IDLE_S:
            self.up.rest()
        await self.up.carry(length, _WORK_S)
        await self._network.shared_up.carry(length, _SHARED_CATCH_UP_S)

    async def sending(self, length: int) -> None:
        """Wait as long as `length` bytes take to the client."""
        await self.down.carry(length)
        await self._network.shared_down.carry(length, _SHARED_CATCH_UP_S)


class Network:
    """Settings of the line, and the lines of the connections that are open."""

    def __init__(
        self, latency_s: float, bandwidth_bytes_s: float | None, shared_bandwidth_bytes_s: float | None
    ) -> None:
        self.latency_s = latency_s
        self.bandwidth_bytes_s = bandwidth_bytes_s
        self.shared_up = Pacer(shared_bandwidth_bytes_s)
        self.shared_down = Pacer(shared_bandwidth_bytes_s)
        self._lines: dict[int, tuple[asyncio.BaseTransport, Line]] = {}

    def line(self, transport: asyncio.BaseTransport) -> Line:
        """The line of a connection; the same one for all its requests."""
        found = self._lines.get(id(transport))
        if found is not None and found[0] is transport:
            return found[1]
        if len(self._lines) > 256:
            self._lines = {key: entry for key, entry in self._lines.items() if not entry[0].is_closing()}
        line = Line(self)
        self._lines[id(transport)] = (transport, line)
        return line

    def change(self, settings: dict[str, Any]) -> None:
        """Set `latency_s`, `bandwidth_bytes_s`, `shared_bandwidth_bytes_s`; open connections follow at once."""
        if "latency_s" in settings:
            self.latency_s = float(settings["latency_s"] or 0.0)
        if "bandwidth_bytes_s" in settings:
            self.bandwidth_bytes_s = settings["bandwidth_bytes_s"] or None
            for _, line in self._lines.values():
                line.up.rate = line.down.rate = self.bandwidth_bytes_s
        if "shared_bandwidth_bytes_s" in settings:
            self.shared_up.rate = self.shared_down.rate = settings["shared_bandwidth_bytes_s"] or None

    def settings(self) -> dict[str, Any]:
        return {
            "latency_s": self.latency_s,
            "bandwidth_bytes_s": self.bandwidth_bytes_s,
            "shared_bandwidth_bytes_s": self.shared_up.rate,
        }
