"""Publish points: one that has begun is finished, whatever becomes of it here; and what goes first."""

from __future__ import annotations

from pathlib import Path

import pytest

from drivefs.drive.api import Content
from drivefs.errors import Refused, Unreachable
from drivefs.model import ROOT_INODE, RemoteFile, UploadTarget
from drivefs.store.identity import FRESH_NS
from drivefs.store.scope import Scope
from tests.fake_drive import FakeDrive
from tests.house import House

BIG = b"w" * 6_000_000
OTHER = b"v" * 6_000_000
CUT = ("before", Unreachable("cut"))


@pytest.fixture
def house(tmp_path: Path) -> House:
    """With `latest` on Drive, and its next version waiting for a large file that could not be sent yet."""
    house = House(tmp_path / "cache")
    house.mkdir("run")
    house.write("run/latest", b"0")
    house.drain()
    house.mkdir("run/1")
    house.drain()
    house.write("run/1/weights", BIG)
    house.write("run/latest", b"1")
    house.drive.fail("start_session", CUT)
    house.dispatch()
    return house


def on_drive(house: House, path: str) -> bytes | None:
    folder, _, name = path.rpartition("/")
    parent = house.drive.names()["run"]
    for each in folder.split("/")[1:]:
        found = house.drive.names(parent).get(each)
        if found is None:
            return None
        parent = found
    drive_id = house.drive.names(parent).get(name)
    return None if drive_id is None else house.drive.content(drive_id)


def versions(house: House, path: str) -> list[bytes]:
    """All contents that a file on Drive has had, oldest first."""
    drive_id = house.drive.names(house.drive.names()["run"])[path]
    return [house.drive.contents[drive_id, each.id] for each in house.drive.revisions(drive_id)]


def test_points_overtaken_pointer_gets_to_drive_before_the_newer_one(house: House) -> None:
    before = house.node("run/latest").drive_id
    house.write("run/2", OTHER)
    house.write("run/latest", b"2")
    assert house.node("run/latest").drive_id is None
    house.drain()
    assert versions(house, "latest") == [b"0", b"1", b"2"]
    assert house.node("run/latest").drive_id == before


def test_points_pointer_without_anything_before_it_is_superseded_as_ever(house: House) -> None:
    house.drain()
    for number in range(5):
        house.write("run/latest", b"%d" % number)
    house.drain()
    assert versions(house, "latest") == [b"0", b"1", b"4"]


def test_points_pointer_that_was_renamed_over_keeps_its_file_on_drive(house: House) -> None:
    before = house.node("run/latest").drive_id
    for number in (b"2", b"3"):
        house.write("run/tmp", number)
        house.rename("run/tmp", "run/latest")
    house.drain()
    assert versions(house, "latest") == [b"0", b"1", b"3"]
    assert house.node("run/latest").drive_id == before
    assert not [file.name for file in house.drive.files.values() if file.trashed]


def test_points_member_that_is_removed_stays_until_the_pointer_is_there(house: House) -> None:
    house.write("run/latest", b"2")
    house.remove("run/1/weights")
    house.remove("run/1")
    assert house.store.nodes.find_child(house.node("run").inode, "1") is None
    seen: list[tuple[bytes | None, bytes | None]] = []
    while house.store.journal.left().jobs:
        house.dispatch()
        house.now += 3
        seen.append((on_drive(house, "run/latest"), on_drive(house, "run/1/weights")))
    assert (b"1", BIG) in seen
    assert seen[-1] == (b"2", None)
    assert not [file.name for file in house.drive.files.values() if file.trashed and file.name == "weights"]


def test_points_flush_waits_for_the_removal_of_what_a_point_needed(house: House) -> None:
    house.write("run/latest", b"2")
    house.remove("run/1/weights")
    before = house.store.journal.last_seq
    while house.store.journal.left(before).jobs:
        house.dispatch()
        house.now += 3
    assert on_drive(house, "run/latest") == b"2"
    assert on_drive(house, "run/1/weights") is None


def test_points_flush_waits_for_the_removal_of_folders_that_a_point_needed(tmp_path: Path) -> None:
    house = House(tmp_path / "cache")
    house.write("latest", b"0")
    house.drain()
    house.mkdir("outer")
    house.mkdir("outer/inner")
    house.write("outer/inner/file", b"x")
    house.write("latest", b"1")
    house.dispatch()
    for path in ("outer/inner/file", "outer/inner", "outer"):
        house.remove(path)
    before = house.store.journal.last_seq
    while house.store.journal.left(before).jobs:
        house.dispatch()
        house.now += 3
    assert list(house.drive.names()) == ["latest"]


def test_points_member_that_is_rewritten_gets_there_in_both_versions(house: House) -> None:
    house.write("run/latest", b"2")
    house.write("run/1/weights", OTHER)
    house.write("run/latest", b"3")
    house.drain()
    assert versions(house, "latest") == [b"0", b"1", b"3"]
    drive_id = house.node("run/1/weights").drive_id
    assert [len(data) for (owner, _), data in house.drive.contents.items() if owner == drive_id] == [len(BIG)] * 2
    assert on_drive(house, "run/1/weights") == OTHER


def test_points_what_was_removed_and_made_anew_waits_for_what_is_frozen(house: House) -> None:
    house.remove("run/latest")
    house.write("run/latest", b"anew")
    house.drain()
    assert versions(house, "latest") == [b"0", b"1", b"anew"]


def test_points_are_finished_after_a_crash(house: House) -> None:
    house.write("run/latest", b"2")
    house.remove("run/1/weights")
    house.reopen()
    house.drain()
    assert versions(house, "latest") == [b"0", b"1", b"2"]
    house.reopen()
    rows = house.store.db.rows("SELECT 1 FROM nodes WHERE frozen_ns IS NOT NULL OR (parent IS NULL AND inode != 1)")
    assert rows == []
    assert len(list((house.folder / "content").iterdir())) == 1


def test_points_flush_of_a_file_waits_for_what_is_frozen_of_it(house: House) -> None:
    scope = Scope(house.store.nodes, house.store.journal, [house.node("run/latest").inode])
    scope.begin()
    house.write("run/latest", b"2")
    assert scope.left().jobs == 1
    while on_drive(house, "run/latest") != b"1":
        assert scope.left().jobs == 1
        house.dispatch()
        house.now += 3
    assert scope.left().jobs == 0


def test_points_frozen_file_that_drive_refuses_gives_way_to_the_newer_one(house: House) -> None:
    house.write("run/latest", b"2")
    house.drive.fail("upload_small", ("before", Refused("No.", reason="insufficientFilePermissions")))
    house.drain()
    assert versions(house, "latest") == [b"0", b"2"]


def test_points_pointer_that_is_renamed_goes_on_with_its_file_and_leaves_its_name(house: House) -> None:
    before = house.node("run/latest").drive_id
    house.write("run/latest", b"2")
    house.rename("run/latest", "run/newest")
    house.write("run/latest", b"anew")
    assert house.store.journal.origin(house.node("run/newest")).drive_id == before
    house.drain()
    assert house.node("run/newest").drive_id == before
    assert versions(house, "newest") == [b"0", b"1", b"2"]
    assert versions(house, "latest") == [b"anew"]
    assert not [file.name for file in house.drive.files.values() if file.trashed]


def rename_over_another(house: House, *, age_ns: int) -> None:
    """Its next version is there when the pointer is renamed over `other`; `age_ns`: for so long Drive has had it."""
    house.write("other", b"old")
    house.drain()
    pointer = house.node("run/latest")
    house.store.nodes.update(pointer.inode, confirmed_ns=(pointer.confirmed_ns or 0) - age_ns)
    house.write("run/1/weights", OTHER)
    house.write("run/latest", b"1")
    house.drive.fail("start_session", CUT)
    house.dispatch()
    house.write("run/latest", b"2")
    assert house.node("run/latest").drive_id is None
    house.rename("run/latest", "other")


def test_points_temporary_pointer_renamed_over_another_file_takes_that_and_leaves_no_trace(house: House) -> None:
    rename_over_another(house, age_ns=0)
    house.drain()
    names = house.drive.names()
    assert [house.drive.contents[names["other"], each.id] for each in house.drive.revisions(names["other"])] == [
        b"old",
        b"2",
    ]
    assert "latest" not in house.drive.names(names["run"])
    assert not [file.name for file in house.drive.files.values() if file.trashed]


def test_points_pointer_with_a_life_of_its_own_keeps_its_file_when_it_is_renamed_over_another(house: House) -> None:
    before = house.node("run/latest").drive_id
    rename_over_another(house, age_ns=2 * FRESH_NS)
    house.drain()
    assert house.drive.names()["other"] == before == house.node("other").drive_id
    assert house.drive.content(house.drive.names()["other"]) == b"2"
    assert [file.name for file in house.drive.files.values() if file.trashed] == ["other"]


def test_points_conflict_is_found_by_the_newer_version(house: House) -> None:
    house.write("run/latest", b"2")
    drive_id = house.drive.names(house.drive.names()["run"])["latest"]
    house.drive.change(drive_id, b"theirs")
    house.drain()
    assert house.drive.content(drive_id) == b"theirs"
    (copy,) = [name for name in house.drive.names(house.drive.names()["run"]) if "conflict" in name]
    assert on_drive(house, f"run/{copy}") == b"2"


def test_points_rename_on_drive_of_what_is_frozen_renames_what_is_shown(house: House) -> None:
    house.write("run/latest", b"2")
    house.drive.change(house.drive.names(house.drive.names()["run"])["latest"], name="newest")
    house.mirror.poll()
    assert house.node("run/newest").drive_id is None
    house.drain()
    assert versions(house, "newest") == [b"0", b"1", b"2"]


def test_points_file_deleted_on_drive_is_made_anew_from_the_newer_version(house: House) -> None:
    house.write("run/latest", b"2")
    house.drive.delete(house.drive.names(house.drive.names()["run"])["latest"])
    house.mirror.poll()
    house.drain()
    assert versions(house, "latest") == [b"2"]


def test_points_removal_waits_for_a_pointer_newer_than_the_one_that_was_superseded(house: House) -> None:
    """Until then Drive's own pointer may name what is removed."""
    house.drain()
    house.write("run/2", OTHER)
    house.write("run/latest", b"2")
    house.remove("run/1/weights")
    house.remove("run/2")
    house.write("run/3", OTHER)
    house.write("run/latest", b"3")
    house.drain()
    log = [(what, name) for what, name in house.drive.log if name in ("weights", "latest")]
    assert log[-2:] == [("update", "latest"), ("trash", "weights")]


def test_points_newest_large_file_goes_before_an_old_backlog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drivefs.sync.uploader.LARGE_AT_ONCE", 2)
    house = House(tmp_path / "cache")
    for number in range(6):
        house.write(f"backlog-{number}", BIG)
    house.write("newest", BIG)
    house.dispatch()
    # One goes on with the oldest, so that it is not passed over for ever.
    assert sorted(house.drive.names()) == ["backlog-0", "newest"]
    house.drain()


@pytest.mark.parametrize(("line_bytes", "started"), [(0, 6), (8 * len(BIG), 8), (1 << 40, 16)])
def test_points_more_large_files_go_at_once_while_the_line_carries_all_of_them_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line_bytes: int, started: int
) -> None:
    monkeypatch.setattr("drivefs.sync.plan.FILLING_BYTES", line_bytes)
    house = House(tmp_path / "cache")
    for number in range(20):
        house.write(f"{number}", BIG)
    house.dispatch()
    assert len(house.drive.names()) == started


def test_points_small_files_of_a_newer_folder_go_before_an_old_backlog_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drivefs.sync.uploader.SMALL_AT_ONCE", 4)
    house = House(tmp_path / "cache")
    house.mkdir("old")
    house.mkdir("new")
    house.drain()
    for number in range(9):
        house.write(f"old/{number}", b"x")
    for name in ("data", "index", "checkpoint"):
        house.write(f"new/{name}", b"x")
    house.drive.log.clear()
    house.dispatch()
    assert [name for _, name in house.drive.log] == ["data", "index", "checkpoint", "0"]


class LateDrive(FakeDrive):
    """A create whose reply is lost before it has worked, and which works when `land` is called."""

    late: tuple[UploadTarget, bytes] | None = None
    is_slow = False

    def upload_small(self, target: UploadTarget, content: Content) -> RemoteFile:
        if self.is_slow:
            self.late = target, content.read_at(0, content.size_bytes)
            raise Unreachable("cut")
        return super().upload_small(target, content)

    def land(self) -> None:
        assert self.late is not None
        self._perform(*self.late)


def test_points_create_that_works_after_its_file_was_removed_leaves_nothing(tmp_path: Path) -> None:
    drive = LateDrive()
    house = House(tmp_path / "cache", drive)
    house.write("tmp", b"x")
    drive.is_slow = True
    house.dispatch()
    drive.is_slow = False
    house.remove("tmp")
    house.drain()
    assert drive.names() == {}
    house.reopen()
    drive.land()
    house.mirror.poll()
    house.drain()
    assert drive.names() == {}
    assert house.store.nodes.find_child(ROOT_INODE, "tmp") is None


def test_points_create_that_works_after_its_file_was_removed_does_not_keep_its_folder(tmp_path: Path) -> None:
    drive = LateDrive()
    house = House(tmp_path / "cache", drive)
    house.mkdir("run")
    house.drain()
    house.write("run/tmp", b"x")
    drive.is_slow = True
    house.dispatch()
    drive.is_slow = False
    house.remove("run/tmp")
    house.drain()
    drive.land()
    house.remove("run")
    house.drain()
    house.mirror.poll()
    assert drive.names() == {}
    assert house.store.nodes.find_child(ROOT_INODE, "run") is None


def test_points_superseded_snapshot_whose_upload_fails_is_not_kept(tmp_path: Path) -> None:
    class Busy(FakeDrive):
        def upload_small(self, target: UploadTarget, content: Content) -> RemoteFile:
            if house.drive.faults:
                house.drive.faults.clear()
                log.write(4, b"more")
                house.store.journal.seal_snapshot(log)
                raise Unreachable("cut")
            return super().upload_small(target, content)

    house = House(tmp_path / "cache", Busy())
    house.write("log", b"")
    house.drain()
    log = house.store.journal.start_anew(house.node("log"))
    log.write(0, b"line")
    house.store.journal.seal_snapshot(log)
    house.drive.fail("upload_small", CUT)
    house.dispatch()
    generations = [row[0] for row in house.store.db.rows("SELECT generation FROM generations ORDER BY 1")]
    assert len(generations) == 2  # the open file, and its newer snapshot
    house.store.journal.seal(log)
    log.close()
    house.drain()
    assert house.drive.content(house.drive.names()["log"]) == b"linemore"
