"""One call to Drive, carried through: its turn, its token, its repeats, its error.

Entered by every thread that calls Drive. Shared by all views of one `GoogleDrive`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TypeVar

from urllib3.response import BaseHTTPResponse

from drivefs.drive.auth import Authorizer
from drivefs.drive.error_replies import Asked, error_of
from drivefs.drive.http import Body, Transport, read_all
from drivefs.drive.pacing import Effort, Lane, Pacer, backoff_s
from drivefs.drive.service import Call
from drivefs.errors import QueueBlocked, RateLimited, ServerFault, Transient, Unreachable
from drivefs.model import Priority

T = TypeVar("T")

_USER_AGENT = "drivefs (gzip)"
"""Google compresses its replies only for clients whose name says so."""


FEED_PATIENCE_S = 3.0
"""The changes feed is asked again every few seconds anyway, and that it fails is how one learns of being offline."""


@dataclass(frozen=True, slots=True)
class Way:
    """How a call goes: what it occupies, what it costs, how urgent it is, and whether it only reads.

    A reading call may be repeated when nobody knows what became of it.
    """

    lane: Lane
    effort: Effort
    priority: Priority
    reading: bool


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes


class Caller:
    """Carries calls through. Safe for any number of threads."""

    def __init__(
        self,
        transport: Transport,
        authorizer: Authorizer,
        pacer: Pacer,
        *,
        random: Callable[[], float],
        patience_s: float,
        read_only: bool = False,
    ) -> None:
        """`read_only`: nothing but GET ever goes out, and of that nothing that takes the right to write."""
        self._read_only = read_only
        self._transport = transport
        self._authorizer = authorizer
        self._pacer = pacer
        self._random = random
        self._patience_s = patience_s

    def check_writing(self) -> None:
        """Raises QueueBlocked."""
        if self._read_only:
            raise QueueBlocked(
                "The mount is read-only: what waits for Drive goes with the next mount that may write.",
                reason="readOnlyMount",
            )

    def exchange(
        self,
        call: Call,
        way: Way,
        *,
        body: Body | None = None,
        expected: tuple[int, ...] = (200,),
        asked: Asked = Asked.CALL,
    ) -> Reply:
        """The whole reply, if its status is one of `expected`; otherwise its error is raised.

        `body` replaces the call's own.
        """

        if call.method != "GET":
            self.check_writing()

        def attempt(patience_s: float) -> Reply:
            with self._turn(way, patience_s):
                response = self._opened(call, self._limited(body, way) if body is not None else call.body)
                reply = Reply(response.status, response.headers, read_all(response))
                if reply.status not in expected:
                    raise error_of(reply.status, reply.headers, reply.body, asked)
                return reply

        return self._repeated(attempt, way)

    @contextmanager
    def streaming(self, call: Call, way: Way, expected: tuple[int, ...]) -> Iterator[BaseHTTPResponse]:
        """The reply at its first byte, in its turn until the block ends; then its connection is dropped, unless
        the reply was read to its end."""

        def attempt(patience_s: float) -> tuple[ExitStack, BaseHTTPResponse]:
            with ExitStack() as stack:
                stack.enter_context(self._turn(way, patience_s))
                response = self._opened(call, call.body, enforce_length=False)
                if response.status not in expected:
                    raise error_of(response.status, response.headers, read_all(response))
                stack.callback(response.close)
                return stack.pop_all(), response
            raise AssertionError("unreachable")

        stack, response = self._repeated(attempt, way)
        with stack:
            yield response

    def _limited(self, body: Body, way: Way) -> Body:
        """A body in pieces, at the pace that the limit of its lane allows."""
        slice_bytes = self._pacer.slice_bytes(way.lane)
        if slice_bytes is None or isinstance(body, bytes):
            return body

        def pieces() -> Iterator[bytes]:
            for piece in body():
                for at in range(0, len(piece), slice_bytes):
                    part = piece[at : at + slice_bytes]
                    self._pacer.pass_bytes(way.lane, way.priority, len(part))
                    yield part

        return pieces

    def read_bytes(self, way: Way, most_bytes: int) -> int:
        """How much of a reply may be read now, when that much is wanted: waits for its turn under a limit."""
        wanted = min(most_bytes, self._pacer.slice_bytes(way.lane) or most_bytes)
        self._pacer.pass_bytes(way.lane, way.priority, wanted)
        return wanted

    def _opened(self, call: Call, body: Body | None, *, enforce_length: bool = True) -> BaseHTTPResponse:
        """The reply to the signed call; a token that Drive does not take is renewed once."""
        headers = {**call.headers, "user-agent": _USER_AGENT}
        token = self._authorizer.sign(headers)
        response = self._transport.open(call.method, call.uri, headers, body, enforce_length=enforce_length)
        if response.status != 401:
            return response
        read_all(response)
        self._authorizer.renew(token)
        self._authorizer.sign(headers)
        response = self._transport.open(call.method, call.uri, headers, body, enforce_length=enforce_length)
        if response.status == 401:
            read_all(response)
            raise self._authorizer.not_taken()
        return response

    @contextmanager
    def _turn(self, way: Way, patience_s: float) -> Iterator[None]:
        with self._pacer.turn(way.lane, way.effort, way.priority, patience_s) as turn:
            try:
                yield
            except RateLimited as e:
                self._pacer.refused(turn, e.retry_after_s)
                raise

    def _repeated(self, attempt: Callable[[float], T], way: Way) -> T:
        """Repeat what may be repeated, until the patience is over; `attempt` is told what is left of it."""
        patience_s = min(self._patience_s, FEED_PATIENCE_S) if way.priority is Priority.CHANGES else self._patience_s
        end_s: float | None = None
        failures = 0
        while True:
            left_s = patience_s if end_s is None else end_s - self._pacer.monotonic()
            try:
                return attempt(left_s)
            except Transient as e:
                limited = isinstance(e, RateLimited)
                if not limited and not (way.reading and isinstance(e, (Unreachable, ServerFault))):
                    raise
                if end_s is None:
                    # From the first failure on: what came before may have been a long wait in the queue.
                    end_s = self._pacer.monotonic() + patience_s
                asked_s = e.retry_after_s if isinstance(e, RateLimited) else None
                delay_s = backoff_s(failures, self._random) if asked_s is None else asked_s
                if self._pacer.monotonic() + delay_s > end_s:
                    raise
            self._pacer.pause(delay_s)
            failures += 1

    def close(self) -> None:
        """Drop all connections; calls under way and waiting end with `Unreachable`."""
        self._pacer.close()
        self._transport.close()
