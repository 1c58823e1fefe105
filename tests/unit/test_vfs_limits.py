"""A full disk, many threads, calls that nobody should make."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from drivefs.errors import BadHandle, CacheFull, InvalidArgument, NotPermitted, NotSupported
from drivefs.model import ROOT_INODE, DriveId
from tests.filesystem import VfsFilesystem, read_file, write_file
from tests.promises import fails_with
from tests.unit.vfs_house import VfsHouse


@pytest.fixture
def house(tmp_path: Path) -> Iterator[VfsHouse]:
    house = VfsHouse(tmp_path / "cache")
    yield house
    house.close()


class FullDisk:
    """A disk with room for so many bytes, in place of os.pwrite."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room_bytes: int) -> None:
        self.room_bytes = room_bytes
        self._pwrite = os.pwrite
        monkeypatch.setattr(os, "pwrite", self.pwrite)

    def pwrite(self, fd: int, data: memoryview, offset: int) -> int:
        if not self.room_bytes:
            raise OSError(errno.ENOSPC, "No space left on device")
        done = self._pwrite(fd, data[: self.room_bytes], offset)
        self.room_bytes -= done
        return done


def test_vfs_full_disk_drops_clean_content_and_goes_on(house: VfsHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    house.remote_file("clean", b"c" * 1000)
    read_file(house.fs, "clean")
    disk = FullDisk(monkeypatch, 5)
    evict = house.store.evict

    def make_room(room_bytes: int) -> int:
        freed = evict(room_bytes)
        disk.room_bytes += freed
        return freed

    monkeypatch.setattr(house.store, "evict", make_room)
    fd = house.fs.open("a", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    house.fs.write(fd, b"0123456789")
    house.fs.close(fd)
    assert read_file(house.fs, "a") == b"0123456789"
    assert house.node("clean").generation is None


def test_vfs_full_disk_refuses_and_keeps_what_was_written(house: VfsHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    write_file(house.fs, "dirty", b"d" * 100)
    fd = house.fs.open("a", os.O_RDWR | os.O_CREAT)
    house.fs.pwrite(fd, b"before", 0)
    disk = FullDisk(monkeypatch, 0)
    with fails_with(errno.ENOSPC):
        house.fs.pwrite(fd, b"more", 6)
    assert house.fs.pread(fd, 100, 0) == b"before"
    disk.room_bytes = 1000
    house.fs.pwrite(fd, b"after", 6)
    house.fs.close(fd)
    assert house.sealed_bytes("a") == b"beforeafter"
    assert read_file(house.fs, "dirty") == b"d" * 100


def test_vfs_create_that_cannot_be_committed_leaves_nothing(house: VfsHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: object) -> None:
        raise CacheFull("no room")

    monkeypatch.setattr(house.store.journal, "start_anew", full)
    with fails_with(errno.ENOSPC):
        house.fs.open("a", os.O_WRONLY | os.O_CREAT)
    monkeypatch.undo()
    assert house.fs.names() == []
    write_file(house.fs, "a", b"x")
    assert read_file(house.fs, "a") == b"x"


def test_vfs_seal_that_failed_at_close_is_tried_again_at_release(
    house: VfsHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.fs.delayed = []
    fd = house.fs.open("a", os.O_WRONLY | os.O_CREAT)
    house.fs.write(fd, b"x")
    handle = house.fs.handle_number(fd)

    def full(_: object) -> None:
        raise CacheFull("no room")

    monkeypatch.setattr(house.store.journal, "seal", full)
    with fails_with(errno.ENOSPC):
        house.fs.close(fd)
    monkeypatch.undo()
    house.vfs.files.release(handle)
    assert house.sealed_bytes("a") == b"x"


def test_vfs_handles_answer_only_for_what_they_were_opened(house: VfsHouse) -> None:
    files = house.vfs.files
    writer = files.create(ROOT_INODE, "a", 0o644, os.O_WRONLY)
    reader = files.open(house.node("a").inode, os.O_RDONLY)
    with pytest.raises(BadHandle):
        files.read(writer.number, 0, 1)
    with pytest.raises(BadHandle):
        files.write(reader.number, 0, b"x")
    with pytest.raises(InvalidArgument):
        files.truncate(house.node("a").inode, 0, reader.number)
    files.release(reader.number)
    with pytest.raises(BadHandle):
        files.read(reader.number, 0, 1)


def test_vfs_allocate_makes_a_file_long_enough(house: VfsHouse) -> None:
    files = house.vfs.files
    handle = files.create(ROOT_INODE, "a", 0o644, os.O_RDWR)
    files.write(handle.number, 0, b"abc")
    files.allocate(handle.number, 0, 2, 8)
    assert house.fs.status("a").size_bytes == 10
    files.allocate(handle.number, 0, 0, 1)
    assert files.read(handle.number, 0, 20) == b"abc" + bytes(7)
    with pytest.raises(NotSupported):
        files.allocate(handle.number, 1, 0, 20)


def test_vfs_owner_is_the_mounts_and_stays_so(house: VfsHouse) -> None:
    write_file(house.fs, "a", b"")
    inode = house.node("a").inode
    house.vfs.tree.set_owner(inode, 1000, -1)
    house.vfs.tree.set_owner(inode, -1, 1000)
    for uid, gid in ((0, -1), (-1, 0)):
        with pytest.raises(NotPermitted):
            house.vfs.tree.set_owner(inode, uid, gid)


def test_vfs_names_are_not_exchanged(house: VfsHouse) -> None:
    write_file(house.fs, "a", b"a")
    write_file(house.fs, "b", b"b")
    with pytest.raises(InvalidArgument):
        house.vfs.tree.rename(ROOT_INODE, "a", ROOT_INODE, "b", 2)


def test_vfs_rename_without_replacing_spares_what_is_there(house: VfsHouse) -> None:
    write_file(house.fs, "a", b"a")
    write_file(house.fs, "b", b"b")
    tree = house.vfs.tree
    with pytest.raises(OSError), house.fs._errors():
        tree.rename(ROOT_INODE, "a", ROOT_INODE, "b", 1)
    tree.rename(ROOT_INODE, "a", ROOT_INODE, "c", 1)
    assert house.fs.names() == ["b", "c"]


def test_vfs_removed_folder_takes_no_new_entries(house: VfsHouse) -> None:
    house.fs.mkdir("d")
    write_file(house.fs, "a", b"")
    house.publish("d")
    folder = house.node("d").inode
    house.fs.rmdir("d")
    for call in (
        lambda: house.vfs.tree.make_folder(folder, "e", 0o755),
        lambda: house.vfs.files.create(folder, "f", 0o644, os.O_WRONLY),
        lambda: house.vfs.tree.rename(ROOT_INODE, "a", folder, "a"),
    ):
        with fails_with(errno.ENOENT), house.fs._errors():
            call()


@pytest.mark.parametrize("published", [True, False])
def test_vfs_what_has_lost_its_name_since_it_was_looked_up_is_looked_up_again(
    house: VfsHouse, published: bool
) -> None:
    write_file(house.fs, "a", b"old")
    inode = house.node("a").inode
    if published:
        house.publish("a")
    else:
        house.store.journal.reserve_id(inode, DriveId("on its way"))
    house.fs.unlink("a")
    write_file(house.fs, "a", b"new")
    with fails_with(errno.ESTALE), house.fs._errors():
        house.vfs.files.open(inode, os.O_RDONLY)
    assert read_file(house.fs, "a") == b"new"


def test_vfs_exclusive_create_has_one_winner(house: VfsHouse) -> None:
    together = threading.Barrier(8)

    def attempt(_: int) -> bool:
        together.wait()
        try:
            VfsFilesystem(house.vfs).open("lock", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        except FileExistsError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(attempt, range(8))) == 1


def test_vfs_appends_of_many_threads_lose_nothing(house: VfsHouse) -> None:
    write_file(house.fs, "log", b"")

    def append(writer: int) -> None:
        fs = VfsFilesystem(house.vfs)
        for number in range(40):
            fd = fs.open("log", os.O_WRONLY | os.O_APPEND)
            fs.write(fd, b"%d %02d\n" % (writer, number))
            fs.close(fd)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(append, range(4)))
    lines = read_file(house.fs, "log").splitlines()
    assert sorted(lines) == sorted(b"%d %02d" % (writer, number) for writer in range(4) for number in range(40))
    assert house.sealed_bytes("log") is not None


def test_vfs_size_never_goes_back_while_others_look(house: VfsHouse) -> None:
    done = threading.Event()

    def write() -> None:
        fs = VfsFilesystem(house.vfs)
        for number in range(300):
            fd = fs.open("a", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            fs.write(fd, b"x" * (number % 7 + 1))
            fs.close(fd)
        done.set()

    write_file(house.fs, "a", b"")
    with ThreadPoolExecutor(1) as threads:
        writing = threads.submit(write)
        last = 0
        while not done.is_set():
            by_name = house.fs.status("a").size_bytes
            listed = dict(house.vfs.tree.entries(ROOT_INODE))["a"].size_bytes
            assert last <= by_name <= listed
            last = listed
        writing.result()


def test_vfs_rename_back_and_forth_is_never_seen_half_done(house: VfsHouse) -> None:
    write_file(house.fs, "a", b"x")
    done = threading.Event()

    def rename() -> None:
        fs = VfsFilesystem(house.vfs)
        for _ in range(200):
            write_file(fs, "tmp", b"y")
            fs.rename("tmp", "a")
        done.set()

    with ThreadPoolExecutor(1) as threads:
        renaming = threads.submit(rename)
        while not done.is_set():
            assert house.fs.status("a").size_bytes == 1
        renaming.result()
    assert house.store.journal.left().jobs == 1
