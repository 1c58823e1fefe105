"""The kernel's protocol without the kernel: what comes in any form is answered, once, and takes nothing down."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drivefs.fuse.kernel import wire
from drivefs.fuse.kernel.wire import Opcode
from drivefs.model import ROOT_INODE
from tests.unit.fuse_peer import Peer
from tests.unit.vfs_house import VfsHouse


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[Peer]:
    peer = Peer(VfsHouse(tmp_path / "cache"))
    yield peer
    peer.close()


FUZZ = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
NODEIDS = st.sampled_from([0, 1, 2, 3, 1 << 40, (1 << 64) - 1])


def assert_alive(peer: Peer) -> None:
    peer.replies()
    number, rest = peer.ask(Opcode.GETATTR, ROOT_INODE, bytes(16))
    assert number == 0
    assert len(rest) == 104  # struct fuse_attr_out


@FUZZ
@given(raw=st.binary(max_size=300))
def test_session_outlives_bytes_that_are_no_request(peer: Peer, raw: bytes) -> None:
    peer.send(raw)
    assert_alive(peer)


@FUZZ
@given(
    opcode=st.one_of(st.sampled_from(list(Opcode)), st.integers(0, (1 << 32) - 1)),
    nodeid=NODEIDS,
    body=st.one_of(st.binary(max_size=200), st.integers(0, 130).map(bytes)),
)
def test_session_answers_each_request_at_most_once_whatever_is_in_it(
    peer: Peer, opcode: int, nodeid: int, body: bytes
) -> None:
    peer.send(peer.request(opcode, nodeid, body))
    replies = peer.replies()
    silent = opcode in (Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT)
    assert len(replies) == (0 if silent else 1)
    assert_alive(peer)


def test_session_says_of_an_unknown_request_that_it_is_unknown(peer: Peer) -> None:
    assert peer.ask(4000, 1, b"")[0] == errno.ENOSYS


def test_session_takes_back_an_open_whose_reply_nobody_wants(peer: Peer) -> None:
    body = wire.CREATE_IN.pack(os.O_CREAT | os.O_WRONLY, 0o100644, 0, 0) + b"file\0"
    peer.ours.close()
    peer.send(peer.request(Opcode.CREATE, ROOT_INODE, body))
    assert peer.house.vfs.dirty_open() == 0


def test_session_gives_a_waiting_read_up_when_the_reader_is_ended(peer: Peer) -> None:
    body = wire.CREATE_IN.pack(os.O_CREAT | os.O_RDWR, 0o100644, 0, 0) + b"file\0"
    _, rest = peer.ask(Opcode.CREATE, ROOT_INODE, body)
    number, *_ = wire.OPEN_OUT.unpack_from(rest, wire.ENTRY_OUT_BYTES)
    begun, released = threading.Event(), threading.Event()

    def read_into(*_: object) -> int:
        begun.set()
        assert released.wait(10)
        return 0

    peer.house.vfs.files.read_into = read_into  # type: ignore[method-assign]
    read = peer.request(Opcode.READ, 2, wire.READ_IN.pack(number, 0, 100, 0, 0, 0, 0), unique=20)
    # A process ID that no process has: nobody can tell what signal it was.
    read = read[:32] + (0x7FFFFFFF).to_bytes(4, "little") + read[36:]
    room = memoryview(bytearray(wire.BUFFER_BYTES))
    reader = threading.Thread(target=lambda: peer.session.answer(memoryview(read), room))
    reader.start()
    assert begun.wait(10)
    peer.send(peer.request(Opcode.INTERRUPT, 0, wire.INTERRUPT_IN.pack(20), unique=21))
    assert peer.replies() == [(20, errno.EINTR, b"")]
    released.set()
    reader.join()
    assert peer.replies() == []
