"""Who may call Drive now: slots, a rate that follows what the server bears, and one order of precedence.

Entered by every thread that calls Drive. Holds no network and nothing durable; all sleeping of the Drive
client happens here, so that `close` can end it.

A call passes two gates: the rate of its kind (reading or writing: Drive limits them apart), then a slot of its
lane (plain calls, uploads, downloads: a body that is long on its way must not hold up a plain call). At each
gate the smallest `Priority` goes first, then whoever came first. A share of the slots is kept for readers.
"""

from __future__ import annotations

import heapq
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from drivefs.errors import RateLimited, Unreachable
from drivefs.model import Priority

MAX_BACKOFF_S = 64.0
"""drive-api: Quota."""
_FLOOR_PER_S = 0.5
"""Slower than this the rate never gets: other clients report 2 to 3 creates a second as sustained."""
_FIRST_PER_S = 20.0
"""A first refusal while less than this was going on tells nothing of the rate that the server bears: half of this is
tried next."""
_RECOVERY_PER_S2 = 0.5
"""The rate grows by this much a second while the server bears it,"""
_RECOVERY_SHARE_PER_S = 0.1
"""or by this share of what the last refusal has left of it,"""
_RECOVERY_S = 10.0
"""so that it is back after 10 s. From then on, nothing being refused, it doubles"""
_DOUBLING_S = 5.0
"""every 5 s: what made the server refuse is over."""
_FREE_PER_S = 400.0
"""Beyond what Drive's quota can ever allow one user (325,000 units a minute, 5 a get: 1,083 a second; 108
edits a second): a rate that has grown past it is no limit any more."""
_SLICE_BYTES = 256 << 10
_SLICE_S = 0.1
"""Under a limit of bytes a second, what goes at once: little enough that all who share it move on."""
_OBSERVED_S = 2.0
"""The rate at which the server began to refuse is measured over this span."""


class Lane(Enum):
    """What a call occupies while it is under way."""

    CALL = "call"
    UPLOAD = "upload"
    DOWNLOAD = "download"


class Effort(Enum):
    """What a call costs on Drive's side."""

    READ = "read"
    EDIT = "edit"


class Clock(Protocol):
    """Time, and waiting in it."""

    def monotonic(self) -> float: ...

    def wait(self, condition: threading.Condition, timeout_s: float | None) -> None:
        """Wait on the condition, whose lock the caller holds, until it is notified or the time is over."""
        ...


class SystemClock:
    """The real one."""

    def monotonic(self) -> float:
        return time.monotonic()

    def wait(self, condition: threading.Condition, timeout_s: float | None) -> None:
        condition.wait(timeout_s)


def backoff_s(attempt: int, random: Callable[[], float]) -> float:
    """The pause after the `attempt`-th failure, counted from 0: min(2^n s + up to 1 s, 64 s)."""
    return min(2.0 ** min(attempt, 6) + random(), MAX_BACKOFF_S)


_Ticket = tuple[int, int, threading.Condition]
"""Priority, then the order of arrival; the condition is notified when its holder is at the head."""


class _Gate:
    """A queue by precedence. Subclasses say when its head may pass; all of it is guarded by `lock`."""

    def __init__(self, lock: threading.Lock, clock: Clock) -> None:
        self._lock = lock
        self._clock = clock
        self._waiting: list[_Ticket] = []
        self._count = 0
        self.closed = False

    def _wait_s(self, now_s: float, priority: int) -> float | None:
        """0 when the head may pass, the time it has to wait, or None: until it is woken."""
        raise NotImplementedError

    def _take(self, now_s: float) -> None:
        raise NotImplementedError

    def enter(self, priority: Priority) -> None:
        """Wait for the turn, and take it. Called with the lock held. Raises `Unreachable` once closed."""
        turn = threading.Condition(self._lock)
        ticket = (int(priority), self._count, turn)
        self._count += 1
        heapq.heappush(self._waiting, ticket)
        try:
            while True:
                if self.closed:
                    raise Unreachable("The connection to Drive is closed.")
                now_s = self._clock.monotonic()
                wait_s = self._wait_s(now_s, priority) if self._waiting[0] is ticket else None
                if wait_s is not None and wait_s <= 0:
                    self._take(now_s)
                    return
                self._clock.wait(turn, wait_s)
        finally:
            self._waiting.remove(ticket)
            heapq.heapify(self._waiting)
            self.wake()

    def wake(self) -> None:
        """Let the head look again. Called with the lock held."""
        if self._waiting:
            self._waiting[0][2].notify()

    def close(self) -> None:
        self.closed = True
        for _, _, turn in self._waiting:
            turn.notify()


class _Slots(_Gate):
    """At most `limit` at once; whoever is no reader leaves `reserve` of them free."""

    def __init__(self, lock: threading.Lock, clock: Clock, limit: int) -> None:
        super().__init__(lock, clock)
        self._free = limit
        self._reserve = limit // 4

    def _wait_s(self, now_s: float, priority: int) -> float | None:
        reserved = 0 if priority == Priority.READER else self._reserve
        return 0.0 if self._free > reserved else None

    def _take(self, now_s: float) -> None:
        self._free -= 1

    def leave(self) -> None:
        self._free += 1
        self.wake()


class _Rate(_Gate):
    """Calls a second: unlimited, until the server refuses one for its rate.

    Then half of what was going on, halved again at the next refusal of a call that began after that, and
    growing by a constant otherwise (additive increase, multiplicative decrease), and faster when that has gone well.
    """

    def __init__(self, lock: threading.Lock, clock: Clock) -> None:
        super().__init__(lock, clock)
        self._per_s: float | None = None
        self._changed_s = 0.0
        self._next_s = 0.0
        self._hold_until_s = 0.0
        self._recent_s: list[float] = []

    def per_s(self, now_s: float) -> float | None:
        """The limit now, or None when there is none."""
        if self._per_s is None:
            return None
        growth_per_s2 = max(_RECOVERY_PER_S2, _RECOVERY_SHARE_PER_S * self._per_s)
        since_s = now_s - self._changed_s
        grown = self._per_s + min(since_s, _RECOVERY_S) * growth_per_s2
        doublings = max(0.0, since_s - _RECOVERY_S) / _DOUBLING_S
        if doublings > math.log2(_FREE_PER_S / grown):
            self._per_s = None
            return None
        return float(grown * 2.0**doublings)

    def hold_s(self, now_s: float) -> float:
        """How long the server wants us to stay away."""
        return max(0.0, self._hold_until_s - now_s)

    def _wait_s(self, now_s: float, priority: int) -> float | None:
        limited_until_s = self._next_s if self.per_s(now_s) is not None else 0.0
        return max(limited_until_s, self._hold_until_s) - now_s

    def _take(self, now_s: float) -> None:
        per_s = self.per_s(now_s)
        if per_s is not None:
            self._next_s = max(self._next_s, now_s) + 1.0 / per_s
        self._recent_s.append(now_s)
        if self._recent_s[0] < now_s - 2 * _OBSERVED_S:
            self._recent_s = [s for s in self._recent_s if s >= now_s - _OBSERVED_S]

    def refused(self, began_s: float, retry_after_s: float | None) -> None:
        """A call that began at `began_s` was refused for its rate. Called with the lock held."""
        now_s = self._clock.monotonic()
        if retry_after_s is not None:
            self._hold_until_s = max(self._hold_until_s, now_s + retry_after_s)
        if began_s < self._changed_s:
            return  # it was under way before the last decrease, which already answers it
        per_s = self.per_s(now_s)
        if per_s is None:
            going_on = sum(1 for s in self._recent_s if s >= now_s - _OBSERVED_S) / _OBSERVED_S
            per_s = max(going_on, _FIRST_PER_S)
        self._per_s = max(per_s / 2, _FLOOR_PER_S)
        self._changed_s = now_s
        self._next_s = now_s + 1.0 / self._per_s


class _Flow(_Gate):
    """Bytes a second of all who send, or of all who receive. Nothing is saved up while nobody does."""

    def __init__(self, lock: threading.Lock, clock: Clock, bytes_s: int) -> None:
        super().__init__(lock, clock)
        self._bytes_s = bytes_s
        self._next_s = 0.0
        self.slice_bytes = min(_SLICE_BYTES, max(1, int(bytes_s * _SLICE_S)))

    def _wait_s(self, now_s: float, priority: int) -> float | None:
        return self._next_s - now_s

    def _take(self, now_s: float) -> None:
        self._next_s = max(self._next_s, now_s)

    def charge(self, size_bytes: int) -> None:
        """That much goes now. Called with the lock held, by who has just entered."""
        self._next_s += size_bytes / self._bytes_s


@dataclass(frozen=True, slots=True)
class Turn:
    """A call's permission to go."""

    effort: Effort
    began_s: float


class Pacer:
    """Gates for all calls of one account. Safe for any number of threads."""

    def __init__(
        self,
        clock: Clock,
        *,
        calls: int = 32,
        uploads: int = 64,
        downloads: int = 64,
        upload_bytes_s: int | None = None,
        download_bytes_s: int | None = None,
    ) -> None:
        """The first numbers are calls under way at once; three quarters of them for whoever is not a reader. The
        last two limit the contents of files, all together."""
        self._clock = clock
        self._lock = threading.Lock()  # guards all gates
        self._pause = threading.Condition(self._lock)
        self._closed = False
        self._rates = {effort: _Rate(self._lock, clock) for effort in Effort}
        limits = {Lane.CALL: calls, Lane.UPLOAD: uploads, Lane.DOWNLOAD: downloads}
        self._slots = {lane: _Slots(self._lock, clock, limit) for lane, limit in limits.items()}

        flows = {Lane.UPLOAD: upload_bytes_s, Lane.DOWNLOAD: download_bytes_s}
        self._flows = {lane: _Flow(self._lock, clock, limit) for lane, limit in flows.items() if limit is not None}

    def monotonic(self) -> float:
        return self._clock.monotonic()

    def slice_bytes(self, lane: Lane) -> int | None:
        """How much may go at once under the limit of a lane; None where there is no limit."""
        flow = self._flows.get(lane)
        return None if flow is None else flow.slice_bytes

    def pass_bytes(self, lane: Lane, priority: Priority, size_bytes: int) -> None:
        """Wait until so many bytes, one slice at most, may go. Raises `Unreachable` when closed."""
        flow = self._flows.get(lane)
        if flow is not None:
            with self._lock:
                flow.enter(priority)
                flow.charge(size_bytes)

    @contextmanager
    def turn(self, lane: Lane, effort: Effort, priority: Priority, patience_s: float) -> Iterator[Turn]:
        """Wait until the call may go; hold its slot meanwhile.

        Raises `RateLimited` at once when the server wants us to stay away for longer than `patience_s`, and
        `Unreachable` once closed.
        """
        slots, rate = self._slots[lane], self._rates[effort]
        with self._lock:
            hold_s = rate.hold_s(self._clock.monotonic())
            if hold_s > patience_s:
                raise RateLimited("Drive asked to slow down.", retry_after_s=hold_s)
            rate.enter(priority)
            slots.enter(priority)
        try:
            yield Turn(effort, self._clock.monotonic())
        finally:
            with self._lock:
                slots.leave()

    def refused(self, turn: Turn, retry_after_s: float | None) -> None:
        """The call of this turn was refused for its rate: slow down."""
        with self._lock:
            self._rates[turn.effort].refused(turn.began_s, retry_after_s)

    def rate_per_s(self, effort: Effort) -> float | None:
        """The limit now, or None when there is none."""
        with self._lock:
            return self._rates[effort].per_s(self._clock.monotonic())

    def pause(self, delay_s: float) -> None:
        """Sleep. Raises `Unreachable` when closed meanwhile."""
        with self._lock:
            end_s = self._clock.monotonic() + delay_s
            while not self._closed and (left_s := end_s - self._clock.monotonic()) > 0:
                self._clock.wait(self._pause, left_s)
            if self._closed:
                raise Unreachable("The connection to Drive is closed.")

    def close(self) -> None:
        """Nobody passes any more; whoever waits gets `Unreachable`."""
        with self._lock:
            self._closed = True
            self._pause.notify_all()
            for gate in (*self._rates.values(), *self._slots.values(), *self._flows.values()):
                gate.close()
