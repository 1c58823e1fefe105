"""Writes that are answered before they are in their content file: nobody sees the difference, whatever ends."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from drivefs.errors import CacheFull, NoSpace
from drivefs.model import ROOT_INODE, Inode, RequestId
from drivefs.store.content_file import ContentFile
from drivefs.store.store import Store
from drivefs.store.write_buffers import WriteBuffers
from tests.filesystem import read_file
from tests.promises import fails_with
from tests.unit.test_store_recovery import add
from tests.unit.vfs_house import VfsHouse
from tests.whole import copy_cache

BUFFER_BYTES = 4096
LEAST_BYTES = 4
LIMIT_S = 60.0


class Cache:
    """A store with one file that is being written, and three buffers."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(folder)
        self.store.recover()
        self.store.write_buffers.make(3, BUFFER_BYTES)
        self.inode = add(self.store, "a").inode
        self.file = self.store.journal.start_anew(self.store.nodes.get(self.inode))

    def write(self, offset: int, data: bytes, number: int = 0) -> Callable[[], None]:
        """One that is answered, and no more; what puts it in place."""
        buffer = self.store.write_buffers.find(number)
        assert buffer is not None
        buffer.data[7 : 7 + len(data)] = data
        finish = self.file.write_behind(offset, buffer.data[7 : 7 + len(data)], buffer, 7)
        assert finish is not None
        return finish

    @property
    def waiting(self) -> int:
        """How many were answered, and no more."""
        return len(self.store.write_buffers.left())

    def killed(self, name: str = "killed", boot_id: str | None = None) -> tuple[Store, bytes]:
        """The cache as the next process finds it, and what the file holds then."""
        folder = self.store.folder.with_name(name)
        copy_cache(self.store.folder, folder)
        store = Store(folder) if boot_id is None else Store(folder, lambda: boot_id)
        store.recover()
        return store, content(store, self.inode)


def content(store: Store, inode: Inode) -> bytes:
    node = store.nodes.get(inode)
    if node.generation is None:
        return b""
    file = store.content.open(node.generation)
    try:
        return file.read(0, 1 << 20)
    finally:
        file.close()


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drivefs.vfs.writing.BEHIND_LEAST_BYTES", LEAST_BYTES)


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    cache = Cache(tmp_path / "cache")
    yield cache
    cache.file.close()
    cache.store.close()


@pytest.mark.parametrize(
    ("look", "found"),
    [
        (lambda file: file.size_bytes, 6),
        (lambda file: file.read(0, 9), b"behind"),
        (lambda file: os.pread(file.fd, 9, 0), b"behind"),
        (lambda file: file.append(b"!") and file.read(0, 9), b"behind!"),
        (lambda file: file.truncate(2) or file.read(0, 9), b"be"),
    ],
)
def test_write_buffers_whoever_looks_at_the_file_sees_what_was_answered(
    cache: Cache, look: Callable[[ContentFile], object], found: object
) -> None:
    cache.write(0, b"behind")
    assert cache.waiting == 1
    assert look(cache.file) == found
    assert cache.waiting == 0


def test_write_buffers_keep_the_order_of_the_writes_to_a_file(cache: Cache) -> None:
    finishes = [cache.write(at, data, at) for at, data in enumerate((b"aaaa", b"bbbb", b"cccc"))]
    assert cache.waiting == 3
    finishes[2]()
    assert cache.waiting == 0
    for finish in finishes:
        finish()
    assert cache.file.read(0, 9) == b"abcccc"


def test_write_buffers_keep_the_order_over_a_kill(cache: Cache) -> None:
    for number, offset, data in ((2, 0, b"aaaa"), (0, 2, b"bbbb"), (1, 1, b"cc!!")):
        cache.write(offset, data, number)
    store, found = cache.killed()
    assert found == b"acc!!b"
    store.close()


def test_write_buffers_outlive_a_kill(cache: Cache) -> None:
    cache.file.write(0, b"before")
    cache.write(6, b" and behind")
    store, found = cache.killed()
    assert cache.waiting == 1
    assert found == b"before and behind"
    store.close()


def test_write_buffers_bring_nothing_back_that_was_in_place_before_a_kill(cache: Cache) -> None:
    cache.write(0, b"behind")()
    cache.file.truncate(2)
    store, found = cache.killed()
    assert found == b"be"
    store.close()


def test_write_buffers_bring_nothing_back_after_a_second_kill(cache: Cache) -> None:
    cache.write(0, b"behind")
    store, _ = cache.killed()
    node = store.nodes.get(cache.inode)
    assert node.generation is not None
    file = store.journal.start_writing(store.content.open(node.generation))
    file.truncate(2)
    again = store.folder.with_name("again")
    copy_cache(store.folder, again)
    file.close()
    store.close()
    store = Store(again)
    store.recover()
    assert content(store, cache.inode) == b"be"
    store.close()


def test_write_buffers_are_kept_while_a_full_disk_has_no_room_for_them(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.write(0, b"behind")
    folder = cache.store.folder.with_name("killed")
    copy_cache(cache.store.folder, folder)
    store = Store(folder)

    def write_all(fd: int, data: memoryview, offset: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full, pytest.raises(CacheFull, match=r"make room"):
        full.setattr("drivefs.store.leftovers.write_all", write_all)
        store.recover()
    store.db.close()
    store = Store(folder)
    store.recover()
    assert content(store, cache.inode) == b"behind"
    store.close()


def test_write_buffers_do_not_outlive_a_power_cut(cache: Cache) -> None:
    cache.file.write(0, b"flushed")
    cache.store.sync()
    cache.write(7, b" behind")
    store, found = cache.killed(boot_id="after the power cut")
    assert found == b"flushed"
    store.close()


@pytest.mark.parametrize("one_by_one", [True, False])
def test_write_buffers_are_part_of_the_sync_point_after_them(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, one_by_one: bool
) -> None:
    monkeypatch.setattr("drivefs.store.content_points.SYNC_ALL_ABOVE", 32 if one_by_one else 0)
    cache.file.write(0, b"before")
    cache.write(6, b" and behind")
    cache.store.sync()
    assert cache.waiting == 0
    store, found = cache.killed(boot_id="after the power cut")
    assert found == b"before and behind"
    store.close()


def test_write_buffers_are_in_place_before_a_flush_begins(cache: Cache) -> None:
    cache.file.reach_point()
    cache.write(0, b"behind")
    assert cache.file.begin_sync()
    assert cache.waiting == 0


def test_write_buffers_of_a_file_that_was_removed_are_passed_over(cache: Cache) -> None:
    cache.write(0, b"behind")
    folder = cache.store.folder.with_name("killed")
    copy_cache(cache.store.folder, folder)
    shutil.rmtree(folder / "content")
    store = Store(folder)
    assert store.recover().lost == 1
    store.close()


def test_write_buffers_leave_no_file_behind(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    assert (tmp_path / "cache" / "write-buffers").stat().st_mode & 0o777 == 0o600
    cache.write(0, b"behind")()
    cache.file.close()
    cache.store.close()
    assert not (tmp_path / "cache" / "write-buffers").exists()


def test_write_buffers_are_not_there_on_a_disk_without_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def posix_fallocate(fd: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", posix_fallocate)
    buffers = WriteBuffers(tmp_path / "write-buffers")
    buffers.make(2, BUFFER_BYTES)
    assert buffers.find(0) is None
    assert not (tmp_path / "write-buffers").exists()


def test_write_buffers_take_no_write_to_a_file_that_is_partly_on_drive(tmp_path: Path) -> None:
    house = VfsHouse(tmp_path / "cache")
    house.vfs.files.make_receive_buffers(1, BUFFER_BYTES)
    house.remote_file("a", b"r" * BUFFER_BYTES * 2)
    fd = house.fs.open("a", os.O_RDWR)
    assert house.fs.pwrite(fd, b"w" * LEAST_BYTES, 10) == LEAST_BYTES
    assert house.store.write_buffers.left() == []
    house.fs.close(fd)
    assert read_file(house.fs, "a")[:12] == b"r" * 10 + b"ww"
    house.close()


# --- through handles ---


THREADS = 3


class Writer:
    """A program that writes through a mount whose threads take writes over."""

    def __init__(self, folder: Path) -> None:
        self.house = VfsHouse(folder)
        self.files = self.house.vfs.files
        self.files.make_receive_buffers(THREADS, BUFFER_BYTES)
        self.handle = self.files.create(ROOT_INODE, "a", 0o644, os.O_RDWR)

    def write(
        self, offset: int, fill: bytes, length: int = LEAST_BYTES, thread: int = 0
    ) -> Callable[[], None] | None:
        slot = self.house.vfs.first_slot + thread
        room = self.files.receive_buffer(slot)
        assert room is not None
        room[:length] = fill * length
        return self.files.write_behind(self.handle.number, offset, room[:length], RequestId(slot, 2), 0)


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    writer = Writer(tmp_path / "cache")
    yield writer
    writer.house.close()


def test_write_buffers_take_writes_over_from_their_thread_only(writer: Writer) -> None:
    assert writer.write(0, b"a") is not None
    other = RequestId(writer.house.vfs.first_slot + THREADS, 2)
    assert writer.files.write_behind(writer.handle.number, 0, memoryview(bytes(LEAST_BYTES)), other, 0) is None
    assert writer.files.receive_buffer(writer.house.vfs.first_slot + THREADS) is None


def test_write_buffers_take_small_writes_over_behind_others_only(writer: Writer) -> None:
    assert writer.write(0, b"a", LEAST_BYTES - 1) is None
    finish = writer.write(0, b"a")
    assert finish is not None
    assert writer.write(LEAST_BYTES, b"b", 1, thread=1) is not None
    finish()
    assert read_file(writer.house.fs, "a") == b"a" * LEAST_BYTES + b"b"


def test_write_buffers_leave_appends_to_others(writer: Writer) -> None:
    writer.files.release(writer.handle.number)
    writer.handle = writer.files.open(writer.handle.opened.inode, os.O_WRONLY | os.O_APPEND)
    assert writer.write(0, b"a") is None


def test_write_buffers_take_nothing_over_while_room_is_low(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer.house.room, "is_low", lambda: True)
    assert writer.write(0, b"a") is None


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_write_buffers_tell_once_of_a_write_that_failed_after_its_answer(
    writer: Writer, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    finish = writer.write(0, b"a")
    assert finish is not None

    def pwrite(fd: int, data: memoryview, offset: int) -> int:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as full:
        full.setattr(os, "pwrite", pwrite)
        finish()
    assert writer.write(0, b"b") is None  # so that the next write tells
    house = writer.house
    fd = house.fs.open("a", os.O_WRONLY)
    with fails_with(number):
        house.fs.pwrite(fd, b"more", 0)
    assert house.fs.pwrite(fd, b"more", 0) == 4
    house.fs.close(fd)
    assert read_file(house.fs, "a") == b"more"


@pytest.mark.parametrize("call", ["flush", "sync"])
def test_write_buffers_tell_at_close_and_fsync_of_a_write_that_failed_after_its_answer(
    writer: Writer, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def pwrite(fd: int, data: memoryview, offset: int) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    finish = writer.write(0, b"a")
    assert finish is not None
    with monkeypatch.context() as full:
        full.setattr(os, "pwrite", pwrite)
        finish()
    with pytest.raises(NoSpace, match=r"answered already failed"):
        getattr(writer.files, call)(writer.handle.number)
    getattr(writer.files, call)(writer.handle.number)
    writer.files.release(writer.handle.number)


def test_write_buffers_under_readers_and_sync_points_give_what_was_written(writer: Writer) -> None:
    """Others look at the file all the time, from threads of their own."""
    house, inode = writer.house, writer.handle.opened.inode
    ended = False

    def look() -> int:
        seen = 0
        while not ended:
            size = house.vfs.tree.attributes(inode).size_bytes
            assert size >= seen
            seen = size
            assert len(writer.files.read(writer.handle.number, 0, 1 << 20)) >= seen
        return seen

    def sync() -> int:
        count = 0
        while not ended:
            house.store.sync()
            count += 1
        return count

    with ThreadPoolExecutor(3) as others, ThreadPoolExecutor(THREADS) as threads:
        looking = [others.submit(look), others.submit(look), others.submit(sync)]
        finishing: list[Future[None] | None] = [None] * THREADS
        try:
            for number in range(3000):
                thread = number % THREADS
                before = finishing[thread]
                if before is not None:
                    before.result(LIMIT_S)
                finish = writer.write(number * LEAST_BYTES, bytes([number % 256]), thread=thread)
                assert finish is not None
                finishing[thread] = threads.submit(finish)
                if number % 7 == 0:
                    assert house.vfs.tree.attributes(inode).size_bytes == (number + 1) * LEAST_BYTES
        finally:
            ended = True
        assert all(each.result(LIMIT_S) for each in looking)
    assert read_file(house.fs, "a") == b"".join(bytes([number % 256]) * LEAST_BYTES for number in range(3000))
    assert house.store.write_buffers.left() == []
