"""What becomes of one request: the fault that befalls it, and its entry in the log."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Set

from drivefs.emulator.exchange import Dropped, Exchange
from drivefs.emulator.faults import Fault
from drivefs.emulator.requestlog import Entry


class Trace:
    """Filled in as the request is understood."""

    __slots__ = ("exchange", "fault", "method", "path", "reason", "started", "started_s", "units", "user")

    def __init__(self, exchange: Exchange, path: str) -> None:
        self.exchange = exchange
        self.path = path
        self.method = "unknown"
        self.user = ""
        self.units = 0
        self.reason = ""
        self.fault = ""
        self.started_s = time.time()
        self.started = time.monotonic()

    async def befall(self, kinds: Set[str]) -> Fault | None:
        """Let the fault that strikes happen, as far as it happens before the effect."""
        verb = self.exchange.request.method
        fault = self.exchange.emulator.faults.strike(verb, self.path, self.method, self.user, kinds)
        if fault is None:
            return None
        self.fault = fault.action
        if fault.action == "error":
            raise fault.error()
        if fault.action == "reset_before":
            raise self.exchange.reset()
        if fault.action == "stall" and fault.rule.get("when", "before") == "before":
            await self._stall(fault)
        return fault

    async def aftermath(self, fault: Fault | None) -> None:
        """What happens between the effect and the reply."""
        if fault is None:
            return
        if fault.action == "reset_after":
            raise self.exchange.reset()
        if fault.action == "error_after":
            raise fault.error()
        if fault.action == "stall" and fault.rule.get("when") == "after":
            await self._stall(fault)

    async def _stall(self, fault: Fault) -> None:
        seconds = fault.rule.get("seconds")
        end_s = None if seconds is None else time.monotonic() + float(seconds)
        # In steps, so that a client that goes away ends it.
        while end_s is None or time.monotonic() < end_s:
            if self.exchange.transport.is_closing():
                raise Dropped
            await asyncio.sleep(0.1 if end_s is None else min(0.1, max(0.0, end_s - time.monotonic())))

    def log(self) -> None:
        """Enter it, at its end."""
        exchange = self.exchange
        exchange.emulator.log.add(
            Entry(
                number=0,
                started_s=self.started_s,
                seconds=time.monotonic() - self.started,
                verb=exchange.request.method,
                path=self.path,
                method=self.method,
                user=self.user,
                status=exchange.status,
                reason=self.reason,
                units=self.units,
                bytes_in=exchange.bytes_in,
                bytes_out=exchange.bytes_out,
                connection=id(exchange.transport) & 0xFFFFFF,
                fault=self.fault,
            )
        )
