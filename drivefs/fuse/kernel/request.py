"""One request of the kernel's, as it is handed to what answers it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from drivefs.fuse.ending import is_ending
from drivefs.fuse.kernel import wire
from drivefs.model import RequestId

Reply: TypeAlias = bytes | memoryview | None
"""What follows the header of a reply; None where the kernel expects none."""


class Malformed(Exception):
    """The bytes are not what the protocol says."""


class Request:
    """A request in the memory of the thread that read it: `body` is good until it is answered."""

    __slots__ = ("body", "finish", "nodeid", "opcode", "pid", "room", "signalled", "slot", "undo", "unique")

    def __init__(self, received: memoryview, room: memoryview, slot: int = 0) -> None:
        """`room` is memory for a reply; it may be the same as that of the request. `slot` is the thread's own.
        Raises Malformed."""
        if len(received) < wire.IN_HEADER.size:
            raise Malformed("shorter than a header")
        length, self.opcode, self.unique, self.nodeid, _, _, self.pid, extensions, _ = wire.IN_HEADER.unpack_from(
            received
        )
        end = length - 8 * extensions
        if length != len(received) or end < wire.IN_HEADER.size:
            raise Malformed("of another length than it says")
        self.body = received[wire.IN_HEADER.size : end]
        self.room = room
        self.slot = slot
        self.signalled = False
        """Whether a signal came for whoever waits; set by any thread."""
        self.undo: Callable[[], None] | None = None
        """What to do should the kernel no longer want the reply."""
        self.finish: Callable[[], None] | None = None
        """What to do after the reply."""

    def interrupted(self) -> bool:
        """Whether whoever waits is to end. The kernel tells of the first signal only: a later one may be the one."""
        return self.signalled and is_ending(self.pid)

    @property
    def id(self) -> RequestId:
        return RequestId(self.slot, self.unique & ~wire.UNIQUE_RESENT)

    @property
    def resent(self) -> bool:
        """Whether a process before may have handled it, and died before it answered."""
        return bool(self.unique & wire.UNIQUE_RESENT)

    def names(self, offset: int, count: int) -> list[str]:
        """`count` strings, each ended by a zero, from `offset` of the body on. Raises Malformed."""
        parts = bytes(self.body[offset:]).split(b"\0")
        if len(parts) <= count:
            raise Malformed("without its names")
        return [wire.name_of(part) for part in parts[:count]]

    def name(self, offset: int = 0) -> str:
        """The one string. Raises Malformed."""
        return self.names(offset, 1)[0]
