"""The trash holds no more of ours than the limit, and nothing of others is ever deleted."""

from __future__ import annotations

from pathlib import Path

import pytest

from drivefs.errors import QueueBlocked
from drivefs.model import RemoteFile, TrashLimit, UploadTarget
from drivefs.sync.trash import REGRET_S
from tests.fake_drive import ROOT, FakeDrive
from tests.house import House


@pytest.fixture
def house(tmp_path: Path) -> House:
    house = House(tmp_path / "cache")
    for name in ("old", "new"):
        house.write(name, b"12345")
        house.drain()
        house.remove(name)
        house.drain()
    return house


def trashed(house: House) -> list[str]:
    return [file.name for file in house.drive.files.values() if file.trashed]


def sweep(house: House, limit: TrashLimit) -> int:
    house.trash._limit = limit
    return house.trash.sweep()


def test_trash_keeps_what_is_within_the_limit(house: House) -> None:
    house.now += 2 * REGRET_S
    assert sweep(house, TrashLimit(size_bytes=10)) == 0
    assert sweep(house, TrashLimit()) == 0
    assert trashed(house) == ["old", "new"]


def test_trash_beyond_the_limit_goes_oldest_first(house: House) -> None:
    house.now += 2 * REGRET_S
    assert sweep(house, TrashLimit(size_bytes=9)) == 5
    assert trashed(house) == ["new"]


def test_trash_beyond_the_age_goes(house: House) -> None:
    house.now += 2 * REGRET_S
    assert sweep(house, TrashLimit(age_s=3 * REGRET_S)) == 0
    assert sweep(house, TrashLimit(age_s=1.5 * REGRET_S)) == 10
    assert trashed(house) == []


def test_trash_can_be_restored_for_an_hour(house: House) -> None:
    assert sweep(house, TrashLimit(size_bytes=0)) == 0
    assert trashed(house) == ["old", "new"]


def test_trash_that_was_restored_or_changed_is_left_alone(house: House) -> None:
    restored, changed = (file.id for file in house.drive.files.values() if file.trashed)
    house.drive.change(restored, trashed=False)
    house.drive.change(changed, b"theirs")
    house.now += 2 * REGRET_S
    assert sweep(house, TrashLimit(size_bytes=0)) == 0
    assert {restored, changed} <= set(house.drive.files)
    assert sweep(house, TrashLimit(size_bytes=0)) == 0


def test_trash_of_others_is_never_deleted(house: House) -> None:
    theirs = house.drive.put("theirs", b"t")
    house.mirror.poll()
    house.remove("theirs")
    house.drain()
    house.now += 2 * REGRET_S
    sweep(house, TrashLimit(size_bytes=0))
    assert trashed(house) == ["theirs"]
    assert theirs in house.drive.files


def test_trash_makes_room_for_what_waits_on_a_full_drive(house: House) -> None:
    house.drive.fail("upload_small", ("before", QueueBlocked("Full.", reason="storageQuotaExceeded", status=403)))
    house.write("checkpoint", b"1234567")
    house.dispatch()
    assert trashed(house) == []
    assert house.uploader.paused is None
    house.drain()
    assert house.drive.content(house.drive.names()["checkpoint"]) == b"1234567"
    assert set(house.drive.files) == {ROOT, house.drive.names()["checkpoint"]}


def test_trash_on_a_full_drive_without_anything_of_ours_lets_the_queue_wait(tmp_path: Path) -> None:
    house = House(tmp_path / "cache")
    house.drive.fail("upload_small", ("before", QueueBlocked("Full.", reason="storageQuotaExceeded", status=403)))
    house.write("checkpoint", b"1234567")
    house.dispatch()
    assert house.uploader.paused is not None


class FullDrive(FakeDrive):
    """Has room for `limit_bytes`; what lies in the trash counts."""

    def _perform(self, target: UploadTarget, data: bytes | None) -> RemoteFile:
        used = sum(len(self.content(file.id)) for file in self.files.values() if file.revision is not None)
        if data is not None and self.limit_bytes is not None and used + len(data) > self.limit_bytes:
            raise QueueBlocked("Drive is full.", reason="storageQuotaExceeded")
        return super()._perform(target, data)


def test_trash_gets_what_was_removed_before_its_turn_where_a_full_drive_has_no_room_for_what_it_waits_for(
    tmp_path: Path,
) -> None:
    house = House(tmp_path / "cache", FullDrive(limit_bytes=100))
    for name in ("oldest", "older", "old"):
        house.write(name, b"x" * 30)
        house.drain()
    house.write("new", b"y" * 30)
    house.remove("oldest")
    house.remove("older")
    for _ in range(10):
        if "new" in house.drive.names():
            break
        assert "older" in house.drive.names(), "more was removed than the new one takes"
        house.dispatch()
        house.now += 20
    assert "new" in house.drive.names()
    house.drain()
    assert sorted(house.drive.names()) == ["new", "old"]


def test_trash_gets_nothing_of_others_for_room(tmp_path: Path) -> None:
    house = House(tmp_path / "cache", FullDrive(limit_bytes=100))
    theirs = house.drive.put("theirs", b"x" * 90)
    house.mirror.poll()
    house.write("new", b"y" * 30)
    house.remove("theirs")
    for _ in range(10):
        house.dispatch()
        house.now += 30
    assert not house.drive.files[theirs].trashed
    assert list(house.drive.names()) == ["theirs"]
