"""The cache's copies are compared with Drive's checksums."""

from __future__ import annotations

from pathlib import Path

from drivefs.model import ROOT_INODE
from drivefs.store.check import Checked, Kept, check, kept
from tests.fake_drive import FakeDrive
from tests.house import House

MiB = 1 << 20
LARGE = bytes(range(251)) * (9 * MiB // 251)


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


def test_check_compares_parts_and_drops_the_damaged_ones(tmp_path: Path) -> None:
    house = house_with(tmp_path)
    house.drive.put("large", LARGE)
    house.mirror.poll()
    node = house.node("large")
    with house.store.db.transaction():
        file = house.store.content_of(node)
    house.downloader.ensure(file, 6 * MiB, 6 * MiB + 10)
    here = file.here(0, len(LARGE))
    file.close()
    assert run(house) == Checked(6, 5_000 + here[0][1] - here[0][0], 6, 5_000 + here[0][1] - here[0][0])
    place = house.folder / "content" / str(house.node("large").generation)
    with place.open("r+b") as raw:
        raw.seek(6 * MiB + 3)
        raw.write(b"!")
    assert run(house).dropped == 1
    assert run(house).dropped == 0
    with house.store.db.transaction():
        file = house.store.content_of(house.node("large"))
    assert file.here(0, len(LARGE)) == []
    house.downloader.ensure(file, 6 * MiB, 6 * MiB + 10)
    assert file.read(6 * MiB, 10) == LARGE[6 * MiB : 6 * MiB + 10]
    file.close()


def test_check_gives_what_an_older_cache_kept_its_checksums(tmp_path: Path) -> None:
    house = house_with(tmp_path)
    house.store.db.run("DELETE FROM checksums")
    house.reopen()
    assert run(house).dropped == 0
    found = house.store.db.row("SELECT COUNT(*) FROM checksums")
    assert found is not None and found[0] == 5
