"""The kernel's protocol without the kernel: what comes in any form is answered, once, and takes nothing down."""

from __future__ import annotations

import errno
import mmap
import os
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drivefs.fuse.kernel import wire
from drivefs.fuse.kernel.notify import Notifier
from drivefs.fuse.kernel.wire import Notification, Opcode
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


WORDS = st.sampled_from([0, 1, 2, 3, 4096, 1 << 20, 1 << 31, 1 << 32, 1 << 40, 1 << 62, 1 << 63, (1 << 64) - 1])
NAMES = st.sampled_from(
    [b"", b"\0", b"file\0", b"other\0", b"file\0other\0", b"user.x\0", b"..\0", b"/\0", b"\xff\0"]
)


@FUZZ
@given(
    requests=st.lists(
        st.tuples(
            st.sampled_from([opcode for opcode in Opcode if opcode is not Opcode.INTERRUPT]),
            NODEIDS,
            st.lists(WORDS, max_size=11),
            NAMES,
            st.booleans(),
            st.booleans(),
        ),
        max_size=8,
    )
)
def test_session_answers_requests_of_any_values_in_any_order(
    peer: Peer, requests: list[tuple[Opcode, int, list[int], bytes, bool, bool]]
) -> None:
    for number, (opcode, nodeid, words, names, resent, interrupted) in enumerate(requests):
        unique = 2 * number + 100 | (wire.UNIQUE_RESENT if resent else 0)
        if interrupted:
            peer.send(peer.request(Opcode.INTERRUPT, 0, wire.INTERRUPT_IN.pack(unique), unique=unique | 1))
        body = b"".join(word.to_bytes(8, "little") for word in words) + names
        peer.send(peer.request(opcode, nodeid, body, unique=unique))
        silent = opcode in (Opcode.FORGET, Opcode.BATCH_FORGET)
        assert [reply[0] for reply in peer.replies()] == ([] if silent else [unique])
    assert_alive(peer)


def test_session_says_of_an_unknown_request_that_it_is_unknown(peer: Peer) -> None:
    assert peer.ask(4000, 1, b"")[0] == errno.ENOSYS


@pytest.mark.parametrize(("opcode", "reply"), [(Opcode.COPY_FILE_RANGE, "II"), (Opcode.COPY_FILE_RANGE_64, "Q")])
def test_session_copies_a_range_in_the_content_files_themselves(peer: Peer, opcode: Opcode, reply: str) -> None:
    numbers = []
    for name in (b"source", b"target"):
        body = wire.CREATE_IN.pack(os.O_CREAT | os.O_RDWR, 0o100644, 0, 0) + name + b"\0"
        _, rest = peer.ask(Opcode.CREATE, ROOT_INODE, body)
        numbers.append(wire.OPEN_OUT.unpack_from(rest, wire.ENTRY_OUT_BYTES)[0])
    files = peer.house.vfs.files
    files.write(numbers[0], 0, b"0123456789")
    body = wire.COPY_FILE_RANGE_IN.pack(numbers[0], 4, 3, numbers[1], 2, 1 << 40, 0)
    number, rest = peer.ask(opcode, 2, body)
    assert (number, struct.unpack("=" + reply, rest)[0]) == (0, 6)
    assert files.read(numbers[1], 0, 100) == b"\0\0" + b"456789"


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


def test_buffer_holds_the_longest_requests_that_the_kernel_is_allowed() -> None:
    assert wire.IN_HEADER.size + wire.WRITE_IN.size + wire.WRITE_LIMIT_BYTES <= wire.BUFFER_BYTES
    # A read is cut to the buffer, and a short one means the end of the file.
    assert wire.BUFFER_BYTES >= wire.PAGES_LIMIT * mmap.PAGESIZE
    # A write of 1 MiB that begins anywhere in a page can come in one.
    assert wire.PAGES_LIMIT * mmap.PAGESIZE >= wire.WRITE_LIMIT_BYTES + mmap.PAGESIZE - 1


# --- what the kernel is told ---


def notified(peer: Peer) -> list[tuple[int, bytes]]:
    """Codes and bodies of all notifications until now."""
    peer.house.store.news.attributes(ROOT_INODE)  # so that there is some
    changes = peer.house.store.news.take()
    assert changes is not None
    Notifier(peer.theirs.fileno(), peer.house.vfs, peer.known).tell(changes)
    found = [(number, body) for unique, number, body in peer.replies() if unique == 0]
    found.remove((-Notification.INVAL_INODE, wire.NOTIFY_INVAL_INODE_OUT.pack(ROOT_INODE, -1, 0)))
    return found


def test_kernel_is_told_of_what_it_knows_only(peer: Peer) -> None:
    known, unknown = (peer.house.remote_file(name, b"content") for name in ("known", "unknown"))
    notified(peer)
    peer.ask(Opcode.LOOKUP, ROOT_INODE, b"known\0")
    for node in (known, unknown):
        peer.house.store.nodes.update(node.inode, mtime_ns=5)
    assert notified(peer) == [(-Notification.INVAL_INODE, wire.NOTIFY_INVAL_INODE_OUT.pack(known.inode, -1, 0))]
    peer.send(peer.request(Opcode.FORGET, known.inode, wire.FORGET_IN.pack(1)))
    peer.house.store.nodes.update(known.inode, mtime_ns=6)
    assert notified(peer) == []


def test_kernel_is_told_of_names_and_then_of_their_folder(peer: Peer) -> None:
    node = peer.house.remote_file("new", b"content")
    folder = (-Notification.INVAL_INODE, wire.NOTIFY_INVAL_INODE_OUT.pack(ROOT_INODE, 0, 0))
    entry = wire.NOTIFY_INVAL_ENTRY_OUT.pack(ROOT_INODE, 3, 0) + b"new\0"
    assert notified(peer) == [(-Notification.INVAL_ENTRY, entry), folder]
    peer.house.store.nodes.remove(node.inode)
    gone = wire.NOTIFY_DELETE_OUT.pack(ROOT_INODE, node.inode, 3, 0) + b"new\0"
    assert notified(peer) == [(-Notification.DELETE, gone), folder]


def test_kernel_may_keep_that_a_name_is_missing(peer: Peer) -> None:
    number, body = peer.ask(Opcode.LOOKUP, ROOT_INODE, b"missing\0")
    assert number == 0
    assert int.from_bytes(body[:8], "little") == 0
    assert int.from_bytes(body[16:24], "little") > 0


def test_listing_is_of_now_when_something_changed_since_it_was_begun(peer: Peer) -> None:
    nodes = [peer.house.remote_file(f"file {number}", b"content") for number in range(9)]
    _, body = peer.ask(Opcode.OPENDIR, ROOT_INODE, bytes(8))
    (handle, *_) = wire.OPEN_OUT.unpack_from(body)

    def read(offset: int) -> bytes:
        return peer.ask(Opcode.READDIRPLUS, ROOT_INODE, wire.READ_IN.pack(handle, offset, 700, 0, 0, 0, 0))[1]

    first = read(0)
    assert b"file 0" in first
    assert b"file 8" not in first
    peer.house.store.nodes.update(nodes[8].inode, name="file 8, renamed", size_bytes=12345)
    found = first
    offset = 3
    while rest := read(offset):
        found += rest
        offset += rest.count(b"file ")
    assert b"file 8, renamed" in found
    assert (12345).to_bytes(8, "little") in found
