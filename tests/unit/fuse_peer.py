"""The kernel's end of a conversation in its own protocol, over a socket."""

from __future__ import annotations

import os
import socket
import threading

from drivefs.fuse.kernel import wire
from drivefs.fuse.kernel.known import KnownInodes
from drivefs.fuse.kernel.passthrough import Passthrough
from drivefs.fuse.kernel.serve import make_session
from drivefs.fuse.kernel.session import Session
from drivefs.model import RequestId
from tests.unit.vfs_house import VfsHouse


class Peer:
    """The kernel's end of a conversation."""

    def __init__(self, house: VfsHouse) -> None:
        self.house = house
        self.ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.ours.settimeout(10)
        self.theirs = theirs
        self.known = KnownInodes()
        self.session: Session = make_session(
            theirs.fileno(), self.house.vfs, self.known, Passthrough(theirs.fileno()), self._no_thread
        )
        self._room = memoryview(bytearray(wire.BUFFER_BYTES))

    @staticmethod
    def _no_thread(_body: object, _name: str) -> threading.Thread:
        raise AssertionError("nothing here needs another thread")

    def send(self, raw: bytes) -> None:
        self.session.answer(memoryview(raw), self._room, self.house.vfs.first_slot)

    def request(self, opcode: int, nodeid: int, body: bytes, unique: int = 2) -> bytes:
        header = wire.IN_HEADER.pack(wire.IN_HEADER.size + len(body), opcode, unique, nodeid, 0, 0, os.getpid(), 0, 0)
        return header + body

    def request_id(self, unique: int) -> RequestId:
        return RequestId(self.house.vfs.first_slot, unique)

    def replies(self) -> list[tuple[int, int, bytes]]:
        """Of all that has been answered: unique, errno, and what follows."""
        self.ours.setblocking(False)
        found = []
        while True:
            try:
                raw = self.ours.recv(wire.BUFFER_BYTES)
            except BlockingIOError:
                return found
            length, number, unique = wire.OUT_HEADER.unpack_from(raw)
            assert length == len(raw)
            found.append((unique, -number, raw[wire.OUT_HEADER.size :]))

    def ask(self, opcode: int, nodeid: int, body: bytes, unique: int = 2) -> tuple[int, bytes]:
        self.send(self.request(opcode, nodeid, body, unique))
        ((_, number, rest),) = self.replies()
        return number, rest

    def hand_over(self) -> Peer:
        """The process dies, and the next one goes on with the conversation."""
        self.replies()
        self.ours.close()
        self.theirs.close()
        return Peer(self.house.hand_over())

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()
        self.house.close()
