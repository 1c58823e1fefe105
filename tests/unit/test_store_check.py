"""The cache's copies are compared with Drive's checksums."""

from __future__ import annotations

from pathlib import Path

from drivefs.model import ROOT_INODE
from drivefs.store.check import Checked, Kept, check, kept
from tests.fake_drive import FakeDrive
from tests.house import House


def house_with(tmp_path: Path) -> House:
    drive = FakeDrive()
    for number in range(5):
        drive.put(f"f{number}", b"x" * 1_000)
    house = House(tmp_path / "cache", drive)
    for _ in house.warmer.warm([ROOT_INODE], 2):
        pass
    return house


def run(house: House) -> Checked:
    return list(check(house.store))[-1]


def damage(house: House, name: str) -> None:
    generation = house.node(name).generation
    (house.folder / "content" / str(generation)).write_bytes(b"y" * 1_000)


def test_check_finds_nothing_wrong_with_what_is_right(tmp_path: Path) -> None:
    house = house_with(tmp_path)
    assert run(house) == Checked(files=5, size_bytes=5_000, files_done=5, bytes_done=5_000)
    assert kept(house.store) == Kept(whole_files=5, partial_files=0, size_bytes=5_000, pins=0)


def test_check_drops_what_is_damaged_or_missing_and_it_is_fetched_again(tmp_path: Path) -> None:
    house = house_with(tmp_path)
    damage(house, "f1")
    (house.folder / "content" / str(house.node("f2").generation)).unlink()
    assert run(house).dropped == 2
    assert [house.node(f"f{number}").generation is None for number in range(5)] == [False, True, True, False, False]
    for _ in house.warmer.warm([ROOT_INODE], 2):
        pass
    assert run(house) == Checked(files=5, size_bytes=5_000, files_done=5, bytes_done=5_000)


def test_check_leaves_what_somebody_has_open_and_says_so(tmp_path: Path) -> None:
    house = house_with(tmp_path)
    generation = house.node("f1").generation
    assert generation is not None
    file = house.store.content.open(generation)
    damage(house, "f1")
    result = run(house)
    assert (result.dropped, result.in_use) == (0, 1)
    file.close()
    assert run(house).dropped == 1


def test_check_never_touches_what_drive_does_not_have(tmp_path: Path) -> None:
    house = house_with(tmp_path)
    house.write("f1", b"mine")
    damage(house, "f1")
    assert run(house).files == 4
    assert house.node("f1").generation is not None
