"""Who goes through a folder finds its small files here already."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from drivefs.errors import Unreachable
from drivefs.model import DriveId, Inode, RevisionId
from drivefs.store.node import Node
from drivefs.sync import neighbours
from drivefs.sync.downloader import Downloader
from drivefs.sync.neighbours import FIRST_OPENS, PER_MINUTE, PER_OPEN, SMALL_BYTES
from tests.fake_drive import FakeDrive, HereAndNow
from tests.house import House


def house_with(tmp_path: Path, count: int, size: int = 10, free_bytes: Callable[[], int] | None = None) -> House:
    drive = FakeDrive()
    folder = drive.put("d")
    for number in range(count):
        drive.put(f"{number:05d}", bytes([number % 251]) * size, parent=folder)
    house = House(tmp_path / "cache", drive)
    house.mirror.ensure_listed(house.node("d").inode)
    house.downloader = Downloader(house.store, drive, HereAndNow(), free_bytes=free_bytes)
    drive.calls.clear()
    return house


def read(house: House, number: int) -> bytes:
    """open, read and close, as the vfs does."""
    node = house.node(f"d/{number:05d}")
    house.downloader.opened(node)
    node = house.store.nodes.get(node.inode)
    file = house.store.content.open(node.generation) if node.generation else house.store.remote_content(node)
    house.downloader.ensure(file, 0, node.size_bytes)
    data = file.read(0, node.size_bytes)
    file.close()
    return data


def here(house: House) -> int:
    (row,) = house.store.db.rows("SELECT COUNT(*) FROM generations WHERE whole")
    return int(row[0])


def test_neighbours_come_in_any_order_each_once_and_right(tmp_path: Path) -> None:
    house = house_with(tmp_path, 500)
    numbers = list(range(500))
    random.Random(1).shuffle(numbers)
    for number in numbers:
        assert read(house, number) == bytes([number % 251]) * 10
    assert house.drive.calls.count("download") == 500


def test_neighbours_of_a_whole_folder_are_here_after_a_few_files(tmp_path: Path) -> None:
    house = house_with(tmp_path, 500)
    for number in range(0, 500, 30):
        read(house, number)
    assert here(house) == 500


def test_neighbours_stay_away_from_who_opens_a_file_or_two(tmp_path: Path) -> None:
    house = house_with(tmp_path, 100)
    for _ in range(5):
        for number in range(FIRST_OPENS - 1):
            read(house, number)
    assert here(house) == FIRST_OPENS - 1


def test_neighbours_are_as_many_as_the_files_that_were_opened_allow(tmp_path: Path) -> None:
    house = house_with(tmp_path, 500)
    for number in range(FIRST_OPENS):
        read(house, 100 * number)
    assert here(house) <= FIRST_OPENS + FIRST_OPENS * PER_OPEN


def test_neighbours_that_are_large_are_left_alone(tmp_path: Path) -> None:
    house = house_with(tmp_path, 10, SMALL_BYTES + 1)
    for number in range(5):
        read(house, number)
    assert here(house) == 5


def test_neighbours_take_no_more_than_a_quarter_of_what_is_free(tmp_path: Path) -> None:
    house = house_with(tmp_path, 100, 1_000, free_bytes=lambda: 40_000)
    for number in range(FIRST_OPENS):
        read(house, number)
    assert here(house) <= FIRST_OPENS + 10


def test_neighbours_leave_most_of_the_quota_to_others(tmp_path: Path) -> None:
    house = house_with(tmp_path, PER_MINUTE + 300)
    for number in range(0, PER_MINUTE, 20):
        read(house, number)
    assert here(house) <= PER_MINUTE + PER_MINUTE // 20 + PER_OPEN


def test_neighbours_are_given_up_when_drive_does_not_answer(tmp_path: Path) -> None:
    house = house_with(tmp_path, 200)
    for number in range(FIRST_OPENS - 1):
        read(house, number)
    house.drive.fail("download", ("before", Unreachable("cut")))
    for number in range(FIRST_OPENS - 1, 10):
        assert read(house, number)
    assert here(house) == 10


def test_neighbours_that_change_meanwhile_are_not_overwritten(tmp_path: Path) -> None:
    house = house_with(tmp_path, 20)
    for number in range(FIRST_OPENS - 1):
        read(house, number)
    house.write("d/00010", b"mine")
    read(house, 5)
    generation = house.node("d/00010").generation
    assert generation is not None
    file = house.store.content.open(generation)
    assert file.read(0, 10) == b"mine"
    file.close()


def test_neighbours_and_their_readers_share_one_download(tmp_path: Path) -> None:
    house = house_with(tmp_path, 40)
    gate, download = threading.Event(), house.drive.download
    coming = threading.Semaphore(0)

    def wait(file_id: DriveId, offset: int, length: int, revision: RevisionId | None = None) -> Iterator[bytes]:
        coming.release()
        gate.wait(10)
        return download(file_id, offset, length, revision)

    with ThreadPoolExecutor(64) as transfers, ThreadPoolExecutor(8) as readers:
        house.downloader = Downloader(house.store, house.drive, transfers)
        for number in range(FIRST_OPENS - 1):
            read(house, number)
        house.drive.calls.clear()
        house.drive.download = wait  # type: ignore[method-assign]
        reads = [readers.submit(read, house, FIRST_OPENS - 1)]
        for _ in range(10):
            assert coming.acquire(timeout=10)
        busy = [
            Inode(row[0])
            for row in house.store.db.rows(
                "SELECT inode FROM generations WHERE NOT whole ORDER BY generation LIMIT 5"
            )
        ]
        names = [int(house.store.nodes.get(inode).name or "") for inode in busy]
        reads += [readers.submit(read, house, number) for number in names]
        gate.set()
        assert [each.result(10) for each in reads[1:]] == [bytes([number % 251]) * 10 for number in names]
    assert house.drive.calls.count("download") == 40 - FIRST_OPENS + 1


def test_neighbours_looked_for_by_several_at_once_are_paid_for_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 4 * FIRST_OPENS * PER_OPEN
    monkeypatch.setattr(neighbours, "PER_MINUTE", count)
    house = house_with(tmp_path, count)
    files_after, looking, gate = house.store.nodes.remote_files_after, threading.Event(), threading.Event()

    def held(parent: Inode, after: str, limit_bytes: int, limit: int) -> list[Node]:
        found = files_after(parent, after, limit_bytes, limit)
        if not looking.is_set():
            looking.set()
            assert gate.wait(10)
        return found

    monkeypatch.setattr(house.store.nodes, "remote_files_after", held)
    opened = [house.node(f"d/{number:05d}") for number in range(count // PER_OPEN + FIRST_OPENS)]
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(lambda: [house.downloader.opened(node) for node in opened[:FIRST_OPENS]])
        assert looking.wait(10)
        for node in opened[FIRST_OPENS:-2]:
            house.downloader.opened(node)
        gate.set()
        first.result(10)
    for node in opened[-2:]:  # those after the first file opened, and those before it
        house.downloader.opened(node)
    assert here(house) == count
