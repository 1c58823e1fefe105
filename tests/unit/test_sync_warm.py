"""A tree of files comes into the cache, and stays there if asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from drivefs.errors import BadReply, CacheFull, DrivefsError, Unreachable
from drivefs.model import ROOT_INODE, Inode
from drivefs.sync.transfers import BLOCK_BYTES
from drivefs.sync.warm import Warmed
from tests.fake_drive import FakeDrive
from tests.house import House

LARGE = bytes(3 * BLOCK_BYTES)


def house_with(tmp_path: Path) -> House:
    drive = FakeDrive()
    for name in ("one", "two"):
        folder = drive.put(name)
        drive.put("small", b"small", parent=folder)
        drive.put("large", LARGE, parent=drive.put("deep", parent=folder))
        drive.put("empty", b"", parent=folder)
    return House(tmp_path / "cache", drive)


def warm(house: House, *roots: Inode) -> Warmed:
    steps = house.warmer.warm(list(roots), 4)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            assert isinstance(end.value, Warmed)
            return end.value


def is_here(house: House, path: str) -> bool:
    generation = house.node(path).generation
    return generation is not None and house.store.content.is_whole(generation)


def test_warm_brings_all_that_lies_below_and_nothing_else(tmp_path: Path) -> None:
    house = house_with(tmp_path)
    warmed = warm(house, house.node("one").inode)
    assert (warmed.files, warmed.files_done, warmed.bytes_done) == (3, 3, 5 + len(LARGE))
    assert all(is_here(house, f"one/{name}") for name in ("small", "empty", "deep/large"))
    assert house.store.nodes.find_child(house.node("two").inode, "small") is None


def test_warm_fetches_nothing_twice(tmp_path: Path) -> None:
    house = house_with(tmp_path)
    warm(house, ROOT_INODE)
    house.drive.calls.clear()
    assert warm(house, ROOT_INODE).files_done == 6
    assert house.drive.calls == []


def test_warm_names_what_it_could_not_bring_and_brings_the_rest(tmp_path: Path) -> None:
    house = house_with(tmp_path)
    small = house.drive.names(house.drive.names()["one"])["small"]
    revision = house.drive.files[small].revision
    assert revision is not None
    house.drive.contents[small, revision] = b"wrong"
    warmed = warm(house, ROOT_INODE)
    assert (warmed.files, warmed.files_done, warmed.failed) == (6, 5, 1)
    assert [path for path, _ in warmed.failures] == ["one/small"]


def test_warm_ends_when_the_cache_is_full(tmp_path: Path) -> None:
    house = house_with(tmp_path)

    def no_room(*_: object, **__: object) -> None:
        raise CacheFull("No room.")

    house.downloader.ensure = no_room  # type: ignore[method-assign]
    warmed = warm(house, ROOT_INODE)
    assert warmed.full
    assert 0 < warmed.files <= 4


def test_warm_goes_on_after_a_failed_request(tmp_path: Path) -> None:
    house = house_with(tmp_path)
    house.drive.fail("download", ("before", Unreachable("cut")))
    assert warm(house, ROOT_INODE).failed == 1
    assert warm(house, ROOT_INODE).files_done == 6


@pytest.mark.parametrize("error", [Unreachable("cut"), BadReply("odd")])
def test_warm_says_so_when_a_folder_cannot_be_listed(tmp_path: Path, error: DrivefsError) -> None:
    house = house_with(tmp_path)
    house.drive.fail("list_children", ("before", error))
    with pytest.raises(type(error)):
        warm(house, house.node("one").inode)


def test_warm_pinned_files_are_not_evicted_until_the_pin_goes(tmp_path: Path) -> None:
    house = house_with(tmp_path)
    warm(house, ROOT_INODE)
    house.store.pin(house.node("one/deep").inode)
    house.reopen()
    house.store.evict(1 << 40)
    assert is_here(house, "one/deep/large")
    assert not is_here(house, "two/deep/large")
    house.store.unpin(house.node("one").inode)
    house.store.evict(1 << 40)
    assert not is_here(house, "one/deep/large")
