"""Files that the kernel writes itself, unseen: dirty before the first byte, never sent torn, never lost."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivefs.errors import Changing
from drivefs.store.generations import State
from drivefs.vfs import files
from tests.filesystem import read_file, write_file
from tests.unit.vfs_house import VfsHouse

A_TIME_NS = 1_577_840_523_123_456_789


def direct_house(tmp_path: Path) -> VfsHouse:
    house = VfsHouse(tmp_path / "cache")
    house.fs.direct = True
    house.fs.delayed = []
    return house


@pytest.fixture
def house(tmp_path: Path) -> Iterator[VfsHouse]:
    house = direct_house(tmp_path)
    yield house
    release_all(house)
    house.close()


def release_all(house: VfsHouse) -> None:
    """The kernel lets go of what is closed."""
    assert house.fs.delayed is not None
    for release in house.fs.delayed:
        release()
    house.fs.delayed.clear()


def published(house: VfsHouse, path: str, data: bytes) -> None:
    write_file(house.fs, path, data)
    release_all(house)
    house.publish(path)


def is_direct(house: VfsHouse, fd: int) -> bool:
    return house.vfs.files.handle(house.fs.handle_number(fd)).direct


def state(house: VfsHouse, path: str) -> State:
    generation = house.node(path).generation
    assert generation is not None
    return house.store.content.state(generation)


# --- when it is allowed ---


def test_files_hand_out_what_is_wholly_here(house: VfsHouse) -> None:
    published(house, "a", b"content")
    for flags in (os.O_RDONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC, os.O_WRONLY | os.O_CREAT):
        fd = house.fs.open("a", flags)
        assert is_direct(house, fd)
        house.fs.close(fd)
        release_all(house)


def test_files_hand_out_nothing_of_which_bytes_are_on_drive_only(house: VfsHouse) -> None:
    house.remote_file("a", b"on Drive")
    fd = house.fs.open("a", os.O_RDWR)
    assert not is_direct(house, fd)
    assert house.fs.pread(fd, 10, 0) == b"on Drive"
    # Whole by now: but the kernel allows one way at a time.
    second = house.fs.open("a", os.O_RDONLY)
    assert not is_direct(house, second)
    house.fs.close(fd)
    house.fs.close(second)
    release_all(house)
    third = house.fs.open("a", os.O_RDONLY)
    assert is_direct(house, third)
    house.fs.close(third)


def test_files_keep_an_upload_going_when_its_file_is_only_opened(house: VfsHouse) -> None:
    write_file(house.fs, "a", b"content")
    release_all(house)
    generation = house.node("a").generation
    assert generation is not None
    claim = house.store.content.claim(generation)
    fd = house.fs.open("a", os.O_RDWR)
    assert not is_direct(house, fd)
    assert not claim.superseded
    assert state(house, "a") is State.SEALED
    house.fs.close(fd)
    claim.close()


def test_files_take_an_upload_back_when_readers_have_its_file(house: VfsHouse) -> None:
    write_file(house.fs, "a", b"content")
    release_all(house)
    generation = house.node("a").generation
    assert generation is not None
    claim = house.store.content.claim(generation)
    reader = house.fs.open("a", os.O_RDONLY)
    writer = house.fs.open("a", os.O_RDWR)
    assert claim.superseded
    house.fs.pwrite(writer, b"C", 0)
    assert house.fs.pread(reader, 10, 0) == b"Content"
    for fd in (reader, writer):
        house.fs.close(fd)
    claim.close()


def test_files_hand_out_a_file_that_the_kernel_has_on_a_disk_that_is_low_too(
    house: VfsHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    published(house, "a", b"content")
    published(house, "b", b"content")
    reader = house.fs.open("a", os.O_RDONLY)
    monkeypatch.setattr(house.room, "is_low", lambda: True)
    writers = [house.fs.open(name, os.O_RDWR) for name in ("a", "b")]
    assert [is_direct(house, fd) for fd in writers] == [True, False], "the kernel allows one way at a time"
    for fd in (reader, *writers):
        house.fs.close(fd)


# --- dirty and sealed ---


def test_direct_file_is_dirty_when_open_returns(tmp_path: Path) -> None:
    house = direct_house(tmp_path)
    published(house, "a", b"content")
    fd = house.fs.open("a", os.O_WRONLY)
    assert state(house, "a") is State.OPEN
    house.fs.pwrite(fd, b"CON", 0)
    again = house.crash()
    assert again.sealed_bytes("a") == b"CONtent"
    again.close()


def test_direct_file_that_was_not_changed_publishes_nothing(house: VfsHouse) -> None:
    published(house, "a", b"content")
    before = house.node("a")
    fd = house.fs.open("a", os.O_RDWR)
    assert house.fs.pread(fd, 10, 0) == b"content"
    house.fs.close(fd)
    assert not house.has_job("a")
    assert state(house, "a") is State.CLEAN
    assert house.node("a").mtime_ns == before.mtime_ns
    release_all(house)
    assert not house.has_job("a")


def test_direct_file_whose_time_alone_was_set_publishes_no_content(house: VfsHouse) -> None:
    published(house, "a", b"content")
    fd = house.fs.open("a", os.O_WRONLY)
    house.fs.set_mtime("a", A_TIME_NS)
    house.fs.close(fd)
    release_all(house)
    assert state(house, "a") is State.CLEAN
    assert house.has_job("a")
    assert house.sealed_bytes("a") is None
    assert house.fs.status("a").mtime_ns == A_TIME_NS


def test_direct_file_changed_within_its_size_is_published(house: VfsHouse) -> None:
    published(house, "a", b"content")
    fd = house.fs.open("a", os.O_RDWR)
    house.fs.pwrite(fd, b"C", 0)
    house.fs.close(fd)
    release_all(house)
    assert house.sealed_bytes("a") == b"Content"


def test_direct_file_is_not_sent_before_the_kernel_lets_go_of_it(house: VfsHouse) -> None:
    fd = house.fs.open("a", os.O_WRONLY | os.O_CREAT)
    copy = house.fs.duplicate(fd)
    house.fs.write(fd, b"one")
    house.fs.close(copy)
    generation = house.node("a").generation
    assert generation is not None
    assert house.has_job("a")  # its place in the order is taken
    assert house.store.content.may_be_written(generation)
    house.fs.write(fd, b"two")
    assert house.fs.status("a").size_bytes == 6
    house.fs.close(fd)
    release_all(house)
    assert not house.store.content.may_be_written(generation)
    assert house.node("a").size_bytes == 6
    assert house.sealed_bytes("a") == b"onetwo"


def test_direct_file_written_after_its_seal_has_its_size_after_a_crash(tmp_path: Path) -> None:
    house = direct_house(tmp_path)
    fd = house.fs.open("a", os.O_WRONLY | os.O_CREAT)
    copy = house.fs.duplicate(fd)
    house.fs.write(fd, b"one")
    house.fs.close(copy)
    house.fs.write(fd, b"two")
    again = house.crash()
    assert again.fs.status("a").size_bytes == 6
    assert again.sealed_bytes("a") == b"onetwo"
    again.close()


def test_direct_file_that_is_never_let_go_of_keeps_nothing_waiting(house: VfsHouse) -> None:
    fd = house.fs.open("a", os.O_WRONLY | os.O_CREAT)
    copy = house.fs.duplicate(fd)
    house.fs.write(fd, b"one")
    house.fs.close(copy)
    house.vfs.writeback.snapshot_all(lambda _inode: True)
    assert state(house, "a") is State.OPEN
    assert house.sealed_bytes("a") == b"one"
    house.fs.write(fd, b"two")
    house.fs.close(fd)
    release_all(house)
    assert house.sealed_bytes("a") == b"onetwo"


def test_flush_does_not_copy_what_is_let_go_of_in_time(house: VfsHouse) -> None:
    write_file(house.fs, "a", b"content")
    generation = house.node("a").generation
    timer = threading.Timer(0.1, release_all, [house])
    timer.start()
    house.vfs.writeback.snapshot_all(lambda _inode: True)
    timer.join()
    job = house.store.journal.find(house.node("a").inode)
    assert job is not None
    assert job.generation == generation


def test_snapshot_of_a_direct_file_is_never_torn(house: VfsHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    fd = house.fs.open("a", os.O_RDWR | os.O_CREAT)
    house.fs.write(fd, b"0" * 100_000)
    copy = house.store.content._copy

    def copy_while_written(*arguments: object, **options: object) -> object:
        made = copy(*arguments, **options)  # type: ignore[arg-type]
        house.fs.pwrite(fd, b"1" * 100_000, 0)
        return made

    monkeypatch.setattr(house.store.content, "_copy", copy_while_written)
    with pytest.raises(Changing):
        house.vfs.writeback.snapshot_all(lambda _inode: True)
    monkeypatch.undo()
    assert house.sealed_bytes("a") is None
    house.vfs.writeback.snapshot_all(lambda _inode: True)
    assert house.sealed_bytes("a") == b"1" * 100_000
    house.fs.close(fd)


def test_readers_and_writers_of_a_direct_file_share_it_through_a_truncation(house: VfsHouse) -> None:
    published(house, "a", b"long content")
    reader = house.fs.open("a", os.O_RDONLY)
    writer = house.fs.open("a", os.O_WRONLY | os.O_TRUNC)
    assert is_direct(house, writer)
    assert house.fs.pread(reader, 10, 0) == b""
    house.fs.write(writer, b"new")
    assert house.fs.pread(reader, 10, 0) == b"new"
    house.fs.close(reader)
    house.fs.close(writer)
    release_all(house)
    assert read_file(house.fs, "a") == b"new"


# --- what was compared ---


def opened_anew(house: VfsHouse) -> VfsHouse:
    """As the next mount finds it."""
    release_all(house)
    remote = house.downloader.remote
    house.vfs.close()
    house = house.crash()
    house.fs.direct, house.fs.delayed, house.downloader.remote = True, [], remote
    return house


def test_files_hand_out_what_was_compared_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "COMPARED_AT_ONCE_BYTES", 1 << 20)
    house = direct_house(tmp_path)
    small, large = b"s" * 1000, bytes(5 << 20)
    published(house, "small", small)
    published(house, "large", large)
    house = opened_anew(house)
    for path, data, at_once in (("small", small, True), ("large", large, False)):
        fd = house.fs.open(path, os.O_RDONLY)
        assert is_direct(house, fd) is at_once
        if not at_once:
            assert house.fs.pread(fd, len(data), 0) == data
        house.fs.close(fd)
        release_all(house)
        fd = house.fs.open(path, os.O_RDONLY)
        assert is_direct(house, fd)
        house.fs.close(fd)
    release_all(house)
    house.close()


def test_files_hand_out_nothing_that_is_damaged(tmp_path: Path) -> None:
    house = direct_house(tmp_path)
    published(house, "a", b"content")
    (house.store.folder / "content" / str(house.node("a").generation)).write_bytes(b"cONTENT")
    fd = house.fs.open("a", os.O_RDONLY)
    assert not is_direct(house, fd)
    assert house.fs.pread(fd, 10, 0) == b"content"
    house.fs.close(fd)
    release_all(house)
    house.close()


def test_files_compare_what_an_older_cache_kept_as_a_whole(tmp_path: Path) -> None:
    house = direct_house(tmp_path)
    for path in ("right", "wrong"):
        node = house.remote_file(path, path.encode())
        assert read_file(house.fs, path) == path.encode()
    house.store.db.run("DELETE FROM checksums")
    (house.store.folder / "content" / str(house.node("wrong").generation)).write_bytes(b"WRONG")
    house = opened_anew(house)
    house.downloader.fetched.clear()
    assert read_file(house.fs, "right") == b"right"
    assert house.downloader.fetched == []
    assert read_file(house.fs, "wrong") == b"wrong"
    release_all(house)
    fd = house.fs.open("right", os.O_RDONLY)
    assert is_direct(house, fd)
    house.fs.close(fd)
    release_all(house)
    assert house.store.content.damaged_blocks == 1
    assert node.md5 is not None
    house.close()


def test_files_are_fetched_anew_when_their_content_file_is_missing(tmp_path: Path) -> None:
    house = direct_house(tmp_path)
    house.remote_file("a", b"on Drive")
    assert read_file(house.fs, "a") == b"on Drive"
    release_all(house)
    (house.store.folder / "content" / str(house.node("a").generation)).unlink()
    assert read_file(house.fs, "a") == b"on Drive"
    release_all(house)
    house.close()


def test_files_keep_what_is_known_of_one_that_was_opened_and_not_written(tmp_path: Path) -> None:
    house = direct_house(tmp_path)
    published(house, "a", b"content")
    house.fs.close(house.fs.open("a", os.O_RDWR))
    release_all(house)
    assert state(house, "a") is State.CLEAN
    house = opened_anew(house)
    (house.store.folder / "content" / str(house.node("a").generation)).write_bytes(b"cONTENT")
    assert read_file(house.fs, "a") == b"content"
    release_all(house)
    house.close()
