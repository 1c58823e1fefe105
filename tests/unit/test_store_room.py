"""A cache keeps its limits while it is in use, and gives only what Drive has too; who writes waits for uploads."""

from __future__ import annotations

import errno
import itertools
import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivefs.store.generations import State
from drivefs.store.parts import PART_BYTES, RECENT_PARTS
from drivefs.store.ranges import Ranges
from drivefs.store.room import Room
from tests.filesystem import read_file, write_file
from tests.unit.vfs_house import VfsHouse

LARGE_BYTES = (RECENT_PARTS + 8) * PART_BYTES


@pytest.fixture
def house(tmp_path: Path) -> Iterator[VfsHouse]:
    house = VfsHouse(tmp_path / "cache")
    yield house
    house.close()


def held_bytes(house: VfsHouse) -> int:
    """What the content files take of the disk."""
    return sum(path.stat().st_blocks * 512 for path in (house.store.folder / "content").iterdir())


bounds = st.tuples(st.integers(0, 60), st.integers(0, 60)).map(sorted)


@given(st.lists(bounds, max_size=8), bounds)
def test_ranges_forget_what_is_removed(added: list[list[int]], removed: list[int]) -> None:
    ranges = Ranges((start, stop) for start, stop in added)
    before = {at for start, stop in ranges for at in range(start, stop)}
    freed = ranges.remove(*removed)
    after = {at for start, stop in ranges for at in range(start, stop)}
    assert after == before - set(range(*removed))
    assert freed == len(before) - len(after)
    assert list(ranges) == sorted(ranges)
    assert all(start < stop for start, stop in ranges)


def test_room_gives_parts_of_a_file_back_while_it_is_read(house: VfsHouse) -> None:
    data = random.Random(1).randbytes(LARGE_BYTES)
    house.remote_file("large", data)
    fd = house.fs.open("large", os.O_RDONLY)
    room = Room(house.store, limit_bytes=RECENT_PARTS * PART_BYTES, keep_free_bytes=0)
    for at in range(0, LARGE_BYTES - PART_BYTES, PART_BYTES):
        assert house.fs.pread(fd, PART_BYTES, at) == data[at : at + PART_BYTES]
        room.tidy()
        assert held_bytes(house) <= room.limit_bytes + PART_BYTES
    assert house.fs.pread(fd, 100, 0) == data[:100], "what went comes again"
    house.fs.close(fd)
    fd = house.fs.open("large", os.O_RDONLY)
    assert house.fs.pread(fd, LARGE_BYTES, 0) == data
    house.fs.close(fd)


def test_room_is_kept_under_a_reader_who_never_sees_a_hole(house: VfsHouse) -> None:
    data = random.Random(2).randbytes(LARGE_BYTES)
    house.remote_file("large", data + b"end")
    fd = house.fs.open("large", os.O_RDONLY)
    stop = threading.Event()

    def evict() -> None:
        while not stop.is_set():
            house.store.evict(1 << 40)

    evicting = threading.Thread(target=evict)
    evicting.start()
    try:
        dice = random.Random(3)
        for _ in range(400):
            at = dice.randrange(0, LARGE_BYTES - 5_000)
            assert house.fs.pread(fd, 5_000, at) == data[at : at + 5_000]
    finally:
        stop.set()
        evicting.join()
    house.fs.close(fd)


def test_room_is_made_of_what_is_clean_and_not_pinned(house: VfsHouse) -> None:
    for name in ("clean", "pinned"):
        house.remote_file(name, name.encode() * 1000)
        read_file(house.fs, name)
    write_file(house.fs, "dirty", b"d" * 1000)
    writing = house.fs.open("writing", os.O_WRONLY | os.O_CREAT)
    house.fs.write(writing, b"w" * 1000)
    house.store.pin(house.node("pinned").inode)
    assert house.store.evict(1 << 40) == 5000
    house.downloader.online = False
    for name, data in (("pinned", b"pinned" * 1000), ("dirty", b"d" * 1000), ("writing", b"w" * 1000)):
        assert read_file(house.fs, name) == data
    house.fs.close(writing)


def test_room_that_is_made_holds_no_file_open(house: VfsHouse) -> None:
    for name in ("a", "b"):
        house.remote_file(name, name.encode() * 1000)
    read_file(house.fs, "a")
    fd = house.fs.open("b", os.O_RDONLY)
    house.fs.pread(fd, 10, 0)
    assert house.store.evict(1) == 1000
    house.fs.close(fd)
    assert house.store.evict(1 << 40) > 0
    assert house.node("b").generation is None


@pytest.mark.parametrize("how", ["replaced", "removed"])
def test_room_is_not_made_of_what_has_lost_its_name_and_is_open(house: VfsHouse, how: str) -> None:
    house.remote_file("a", b"old" * 1000)
    read_file(house.fs, "a")
    fd = house.fs.open("a", os.O_RDONLY)  # nothing of it is read yet
    if how == "replaced":
        write_file(house.fs, "b", b"new" * 1000)
        house.fs.rename("b", "a")
    else:
        house.fs.unlink("a")
    house.store.evict(1 << 40)
    house.downloader.online = False
    assert house.fs.pread(fd, 5000, 0) == b"old" * 1000
    house.fs.close(fd)
    assert house.store.content.clean_bytes() == 0


def test_room_keeps_some_of_the_disk_free(house: VfsHouse) -> None:
    for number in range(4):
        house.remote_file(f"f{number}", bytes([number]) * 1000)
        read_file(house.fs, f"f{number}")
    free_bytes = 500
    room = Room(house.store, limit_bytes=1 << 40, keep_free_bytes=2000, disk_free_bytes=lambda folder: free_bytes)
    assert room.free_bytes() == 0
    assert room.is_low()
    assert room.tidy(soon=True) == 2000
    assert [house.node(f"f{number}").generation is None for number in range(4)] == [True, True, False, False]


def full_of_dirt(house: VfsHouse, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """A disk that takes nothing until the event."""
    room = threading.Event()
    pwrite = os.pwrite

    def write(fd: int, data: bytes | memoryview, offset: int) -> int:
        if not room.is_set():
            raise OSError(errno.ENOSPC, "No space left on device")
        return pwrite(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", write)
    return room


def test_room_that_an_upload_makes_is_waited_for(house: VfsHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    write_file(house.fs, "dirty", b"d" * 1000)
    fd = house.fs.open("a", os.O_WRONLY | os.O_CREAT)
    room = full_of_dirt(house, monkeypatch)
    waiting = threading.Event()
    left = house.store.journal.left

    def watched() -> object:
        waiting.set()
        return left()

    monkeypatch.setattr(house.store.journal, "left", watched)
    written: list[int] = []
    writer = threading.Thread(target=lambda: written.append(house.fs.pwrite(fd, b"x" * 100, 0)))
    writer.start()
    assert waiting.wait(10)
    # The uploader has brought it to Drive: so it can go, and does.
    room.set()
    house.publish("dirty")
    generation = house.node("dirty").generation
    assert generation is not None
    house.store.content.mark(generation, State.CLEAN)
    writer.join(10)
    assert written == [100]
    assert house.node("dirty").generation is None
    house.fs.close(fd)
    assert house.sealed_bytes("a") == b"x" * 100


def test_room_that_comes_and_goes_keeps_nobody_waiting_for_ever(house: VfsHouse) -> None:
    write_file(house.fs, "dirty", b"d" * 1000)
    seconds, free = itertools.count(step=5.0), itertools.count(1000)
    room = Room(
        house.store,
        limit_bytes=0,
        keep_free_bytes=0,
        disk_free_bytes=lambda _: next(free),
        monotonic=seconds.__next__,
    )
    tries = 0
    while room.make():
        tries += 1
        assert tries < 20
    assert tries > 1


def test_room_that_nobody_makes_is_enospc_and_nothing_is_half_appended(
    house: VfsHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    fd = house.fs.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    house.fs.write(fd, b"line 1\n")
    pwrite = os.pwrite
    takes = [3, 0]

    def write(fd: int, data: bytes | memoryview, offset: int) -> int:
        if not takes:
            return pwrite(fd, data, offset)
        if not (length := takes.pop(0)):
            raise OSError(errno.ENOSPC, "No space left on device")
        return pwrite(fd, data[:length], offset)

    monkeypatch.setattr(os, "pwrite", write)
    with pytest.raises(OSError, check=lambda error: error.errno == errno.ENOSPC):
        house.fs.write(fd, b"line 2\n")
    house.fs.write(fd, b"line 3\n")
    house.fs.close(fd)
    assert house.sealed_bytes("log") == b"line 1\nline 3\n"
