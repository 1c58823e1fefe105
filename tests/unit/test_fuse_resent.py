"""What the kernel sends again after the process's death: done once, whether it was done before or not."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from drivefs.fuse.kernel import wire
from drivefs.fuse.kernel.wire import Opcode
from drivefs.model import ROOT_INODE
from tests.filesystem import read_file, write_file
from tests.unit.fuse_peer import Peer
from tests.unit.vfs_house import VfsHouse

RESENT = 1 << 63
CREATE = wire.CREATE_IN.pack(os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o100644, 0, 0)
SETXATTR = wire.SETXATTR_IN.pack(1, 1)  # with XATTR_CREATE


class Kernel:
    """Asks, and asks again when the process has died."""

    def __init__(self, folder: Path) -> None:
        self.peer = Peer(VfsHouse(folder))
        self._unique = 100

    @property
    def house(self) -> VfsHouse:
        return self.peer.house

    def ask(self, opcode: int, nodeid: int, body: bytes) -> tuple[int, bytes]:
        self._unique += 2
        return self.peer.ask(opcode, nodeid, body, self._unique)

    def ask_again(self, opcode: int, nodeid: int, body: bytes) -> tuple[int, bytes]:
        """The last request once more."""
        return self.peer.ask(opcode, nodeid, body, self._unique | RESENT)

    def hand_over(self) -> None:
        self.peer = self.peer.hand_over()

    def inode(self, path: str) -> int:
        return self.house.vfs.tree.resolve(path)

    def seen(self) -> dict[str, tuple[int, bytes | None, list[str]]]:
        """All names with inode, content and attributes."""
        fs = self.house.fs
        found = {}
        for name in fs.names():
            status = fs.status(name)
            data = read_file(fs, name) if not status.is_folder and name != "link" else None
            found[name] = (status.inode, data, fs.xattrs(name))
        return found

    def create(self, name: bytes, flags: int = os.O_CREAT | os.O_RDWR) -> tuple[int, int]:
        """Inode and number of the handle."""
        number, rest = self.ask(Opcode.CREATE, ROOT_INODE, wire.CREATE_IN.pack(flags, 0o100644, 0, 0) + name + b"\0")
        assert number == 0
        return self._created(rest)

    @staticmethod
    def _created(rest: bytes) -> tuple[int, int]:
        handle, *_ = wire.OPEN_OUT.unpack_from(rest, wire.ENTRY_OUT_BYTES)
        return int.from_bytes(rest[:8], "little"), handle

    def write(self, inode: int, handle: int, offset: int, data: bytes) -> tuple[int, bytes]:
        return self.ask(Opcode.WRITE, inode, write_body(handle, offset, data))

    def read(self, inode: int, handle: int) -> bytes:
        number, rest = self.ask(Opcode.READ, inode, wire.READ_IN.pack(handle, 0, 4096, 0, 0, 0, 0))
        assert number == 0
        return rest

    def release(self, inode: int, handle: int) -> int:
        self.ask(Opcode.FLUSH, inode, wire.HANDLE_IN.pack(handle) + bytes(16))
        return self.ask(Opcode.RELEASE, inode, wire.HANDLE_IN.pack(handle) + bytes(16))[0]


def write_body(handle: int, offset: int, data: bytes) -> bytes:
    return wire.WRITE_IN.pack(handle, offset, len(data), 0, 0, 0, 0) + data


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    kernel = Kernel(tmp_path / "cache")
    write_file(kernel.house.fs, "file", b"content")
    write_file(kernel.house.fs, "other", b"replaced")
    kernel.house.fs.set_xattr("other", "user.known", b"1")
    kernel.house.fs.mkdir("folder")
    yield kernel
    kernel.peer.close()


Ask = Callable[[Kernel], tuple[Opcode, int, bytes]]

CHANGES: dict[str, tuple[Ask, int]] = {
    "create": (lambda kernel: (Opcode.CREATE, ROOT_INODE, CREATE + b"new\0"), errno.EEXIST),
    "mkdir": (lambda kernel: (Opcode.MKDIR, ROOT_INODE, wire.MKDIR_IN.pack(0o755, 0) + b"new\0"), errno.EEXIST),
    "mknod": (
        lambda kernel: (Opcode.MKNOD, ROOT_INODE, wire.MKNOD_IN.pack(0o100644, 0, 0, 0) + b"new\0"),
        errno.EEXIST,
    ),
    "symlink": (lambda kernel: (Opcode.SYMLINK, ROOT_INODE, b"link\0target\0"), errno.EEXIST),
    "unlink": (lambda kernel: (Opcode.UNLINK, ROOT_INODE, b"file\0"), errno.ENOENT),
    "rmdir": (lambda kernel: (Opcode.RMDIR, ROOT_INODE, b"folder\0"), errno.ENOENT),
    "rename": (
        lambda kernel: (Opcode.RENAME2, ROOT_INODE, wire.RENAME2_IN.pack(ROOT_INODE, 0, 0) + b"file\0other\0"),
        errno.ENOENT,
    ),
    "setxattr": (lambda kernel: (Opcode.SETXATTR, kernel.inode("file"), SETXATTR + b"user.x\0v"), errno.EEXIST),
    "removexattr": (lambda kernel: (Opcode.REMOVEXATTR, kernel.inode("other"), b"user.known\0"), errno.ENODATA),
}


@pytest.mark.parametrize("change", CHANGES)
def test_change_that_comes_again_is_done_once(kernel: Kernel, change: str) -> None:
    make, refusal = CHANGES[change]
    request = make(kernel)
    number, first = kernel.ask(*request)
    assert number == 0
    seen = kernel.seen()
    for _ in range(2):  # the second process dies over it too
        kernel.hand_over()
        number, rest = kernel.ask_again(*request)
        assert number == 0
        assert rest[:8] == first[:8]  # the inode, where there is one
        assert kernel.seen() == seen
    # The same from somebody else is another matter.
    assert kernel.ask(*request)[0] == refusal


@pytest.mark.parametrize("change", CHANGES)
def test_change_that_was_not_done_is_done_when_it_comes_again(kernel: Kernel, change: str) -> None:
    make, refusal = CHANGES[change]
    request = make(kernel)
    before = kernel.seen()
    kernel.hand_over()
    assert kernel.ask_again(*request)[0] == 0
    assert kernel.seen() != before
    assert kernel.ask(*request)[0] == refusal


def test_open_that_comes_again_has_one_handle(kernel: Kernel) -> None:
    request = (Opcode.CREATE, ROOT_INODE, CREATE + b"new\0")
    _, first = kernel.ask(*request)
    kernel.hand_over()
    _, again = kernel.ask_again(*request)
    assert kernel._created(again) == kernel._created(first)
    inode, handle = kernel._created(again)
    kernel.write(inode, handle, 0, b"x")
    assert kernel.release(inode, handle) == 0
    assert kernel.house.sealed_bytes("new") == b"x"
    request = (Opcode.OPEN, inode, wire.OPEN_IN.pack(os.O_RDONLY, 0))
    _, first = kernel.ask(*request)
    kernel.hand_over()
    assert kernel.ask_again(*request)[1][:8] == first[:8]


@pytest.mark.parametrize("done_bytes", [0, 2, 4])
def test_append_that_comes_again_is_written_once(kernel: Kernel, done_bytes: int) -> None:
    inode, handle = kernel.create(b"log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    kernel.write(inode, handle, 0, b"one ")
    file = kernel.house.vfs.files.handle(handle).opened.file
    assert file is not None
    # Killed in the middle of the second one: so much of it is in the file.
    kernel.house.handles.begin_append(kernel.peer.request_id(kernel._unique + 2), file.inode, 4, 4)
    file.write(4, b"two "[:done_bytes])
    kernel.hand_over()
    # Another writer's comes in between.
    kernel.peer.ask(Opcode.WRITE, inode, write_body(handle, 0, b"three "), 500)
    kernel._unique += 2
    assert kernel.ask_again(Opcode.WRITE, inode, write_body(handle, 0, b"two "))[0] == 0
    kernel.release(inode, handle)
    expected = b"one two three " if done_bytes == 4 else b"one three two "
    assert read_file(kernel.house.fs, "log") == expected


def test_append_that_was_done_is_not_done_again(kernel: Kernel) -> None:
    inode, handle = kernel.create(b"log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    kernel.write(inode, handle, 0, b"one ")
    for _ in range(2):
        kernel.hand_over()
        number, rest = kernel.ask_again(Opcode.WRITE, inode, write_body(handle, 0, b"one "))
        assert (number, wire.WRITE_OUT.unpack(rest)[0]) == (0, 4)
    kernel.release(inode, handle)
    assert read_file(kernel.house.fs, "log") == b"one "


def test_file_that_is_open_goes_on_in_the_next_process(kernel: Kernel) -> None:
    inode, handle = kernel.create(b"new")
    kernel.write(inode, handle, 0, b"before ")
    kernel.hand_over()
    assert not kernel.house.has_job("new")  # it is still being written
    kernel.write(inode, handle, 7, b"after")
    assert kernel.read(inode, handle) == b"before after"
    assert kernel.release(inode, handle) == 0
    assert kernel.house.sealed_bytes("new") == b"before after"
    assert kernel.house.vfs.dirty_open() == 0


def test_file_that_was_closed_and_not_released_is_sealed_by_the_next_process(kernel: Kernel) -> None:
    inode, handle = kernel.create(b"new")
    kernel.write(inode, handle, 0, b"content")
    kernel.ask(Opcode.FLUSH, inode, wire.HANDLE_IN.pack(handle) + bytes(16))
    kernel.hand_over()
    assert kernel.house.sealed_bytes("new") == b"content"
    kernel.write(inode, handle, 7, b" late")  # through another copy of the descriptor
    kernel.release(inode, handle)
    assert kernel.house.sealed_bytes("new") == b"content late"


def test_unlinked_file_keeps_its_content_until_it_is_released(kernel: Kernel) -> None:
    inode, handle = kernel.create(b"new")
    kernel.write(inode, handle, 0, b"content")
    kernel.ask(Opcode.UNLINK, ROOT_INODE, b"new\0")
    kernel.hand_over()
    kernel.hand_over()
    assert kernel.read(inode, handle) == b"content"
    kernel.write(inode, handle, 7, b"s")
    assert kernel.read(inode, handle) == b"contents"
    kernel.release(inode, handle)
    kernel.house.store.sync()  # before that a power cut would bring it back
    folder = kernel.house.store.folder / "content"
    assert len(list(folder.iterdir())) == 2  # of the two that were there from the beginning


def test_reader_of_an_old_revision_reads_it_to_the_end(kernel: Kernel) -> None:
    house = kernel.house
    node = house.remote_file("remote", b"old revision")
    _, rest = kernel.ask(Opcode.OPEN, node.inode, wire.OPEN_IN.pack(os.O_RDONLY, 0))
    handle, *_ = wire.OPEN_OUT.unpack_from(rest)
    assert kernel.read(node.inode, handle) == b"old revision"
    # It changes on Drive: the mirror leaves the content to who has it open.
    house.store.nodes.update(node.inode, generation=None, size_bytes=3)
    for _ in range(2):
        kernel.hand_over()
        assert kernel.read(node.inode, handle) == b"old revision"
    kernel.release(node.inode, handle)


def test_handles_are_never_given_the_number_of_an_older_one(kernel: Kernel) -> None:
    inode, handle = kernel.create(b"new")
    kernel.release(inode, handle)
    kernel.hand_over()
    _, other = kernel.create(b"other new")
    assert other != handle
    assert kernel.ask_again(Opcode.RELEASE, inode, wire.HANDLE_IN.pack(handle) + bytes(16))[0] == errno.EBADF
    assert kernel.house.vfs.files.handle(other)


def test_more_handles_than_the_memory_began_with_are_taken_over(kernel: Kernel) -> None:
    (inode, first), count = kernel.create(b"new"), 1500
    body = wire.OPEN_IN.pack(os.O_RDWR, 0)
    handles = [wire.OPEN_OUT.unpack_from(kernel.ask(Opcode.OPEN, inode, body)[1])[0] for _ in range(count)]
    kernel.hand_over()
    assert len(kernel.house.taken_over) == count + 1
    for handle in (first, *handles):
        assert kernel.release(inode, handle) == 0
    kernel.hand_over()
    assert kernel.house.taken_over == []
