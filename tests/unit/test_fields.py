"""Drive's own fields as extended attributes: the description, the star and the type of a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from drivefs.errors import NotPermitted, Unreachable
from drivefs.model import ROOT_INODE, Metadata, RemoteFile, UpdateTarget
from drivefs.sync.layout import make_places
from drivefs.sync.metadata import FIELD_LIMIT_BYTES, remote_meta
from tests.fake_drive import ROOT
from tests.filesystem import write_file
from tests.unit.vfs_house import VfsHouse
from tests.whole import Clock, Image, Whole, small_scale

DESCRIPTION, STARRED, TYPE = (f"user.drivefs.{name}" for name in ("description", "starred", "mime_type"))


@pytest.fixture
def whole(tmp_path: Path) -> Iterator[Whole]:
    clock = Clock()
    with small_scale(clock):
        yield Whole(tmp_path / "cache", clock)


def on_drive(whole: Whole, name: str = "a") -> RemoteFile:
    return whole.drive.files[whole.drive.names()[name]]


def told(whole: Whole, name: str = "a") -> tuple[str, bool]:
    remote = on_drive(whole, name)
    return remote.description, remote.starred


def test_fields_of_a_new_file_go_with_its_create(whole: Whole) -> None:
    write_file(whole.fs, "a", b"content")
    whole.fs.set_xattr("a", DESCRIPTION, b"the best one")
    whole.fs.set_xattr("a", STARRED, b"1")
    whole.drain()
    assert told(whole) == ("the best one", True)
    assert [entry for entry in whole.drive.log if entry[0] != "ids"] == [("create", "a")]
    assert whole.store.nodes.xattrs(whole.vfs.tree.resolve("a")) == {}, "Drive's word counts now"
    assert whole.fs.xattrs("a") == [DESCRIPTION, STARRED]


def test_fields_of_drive_show_and_follow_what_others_set(whole: Whole) -> None:
    theirs = whole.drive.put("a", b"content", description="theirs", starred=True, mime_type="text/x-theirs")
    whole.mirror.poll()
    assert (whole.fs.xattr("a", DESCRIPTION), whole.fs.xattr("a", TYPE)) == (b"theirs", b"text/x-theirs")
    whole.drive.change(theirs, description="", starred=False)
    whole.mirror.poll()
    assert whole.fs.xattrs("a") == []


def test_fields_that_are_taken_away_go_on_drive_too(whole: Whole) -> None:
    whole.drive.put("a", b"content", description="theirs", starred=True)
    whole.mirror.poll()
    whole.fs.remove_xattr("a", DESCRIPTION)
    whole.fs.set_xattr("a", STARRED, b"0")
    assert whole.fs.xattrs("a") == []
    whole.drain()
    assert told(whole) == ("", False)


def test_fields_stay_with_the_file_on_drive_when_a_temporary_file_replaces_it(whole: Whole) -> None:
    write_file(whole.fs, "a", b"content")
    whole.drain()
    file_id = whole.drive.names()["a"]
    whole.drive.change(file_id, description="theirs", starred=True)
    whole.mirror.poll()
    write_file(whole.fs, "tmp", b"more")
    whole.fs.rename("tmp", "a")
    assert whole.fs.xattrs("a") == [DESCRIPTION, STARRED]
    whole.drain()
    assert whole.drive.names() == {"a": file_id}
    assert told(whole) == ("theirs", True)


def test_fields_that_others_set_meanwhile_are_not_taken_back(whole: Whole) -> None:
    write_file(whole.fs, "a", b"content")
    whole.drain()
    write_file(whole.fs, "a", b"changed")
    whole.fs.set_xattr("a", DESCRIPTION, b"mine")
    whole.drive.change(on_drive(whole).id, starred=True)
    whole.mirror.poll()
    whole.drain()
    assert told(whole) == ("mine", True)
    assert whole.fs.xattrs("a") == [DESCRIPTION, STARRED]
    whole.fs.chmod("a", 0o600)
    whole.drain()
    assert told(whole) == ("mine", True)


def test_fields_set_on_both_sides_are_as_set_here(whole: Whole) -> None:
    write_file(whole.fs, "a", b"content")
    whole.drain()
    whole.fs.set_xattr("a", DESCRIPTION, b"mine")
    whole.drive.change(on_drive(whole).id, description="theirs")
    whole.mirror.poll()
    assert whole.fs.xattr("a", DESCRIPTION) == b"mine"
    whole.drain()
    assert told(whole)[0] == "mine"


def test_fields_set_back_while_they_are_sent_are_set_back_on_drive(whole: Whole) -> None:
    write_file(whole.fs, "a", b"content")
    whole.drain()
    whole.fs.set_xattr("a", STARRED, b"1")

    def watch(when: str, method: str) -> None:
        if (when, method) == ("after", "update"):
            whole.drive.watch = lambda when, method: None
            whole.fs.set_xattr("a", STARRED, b"0")

    whole.drive.watch = watch
    while told(whole) != ("", True):
        whole.dispatch()
    assert whole.fs.xattr("a", STARRED) == b"0"
    whole.drain()
    assert told(whole) == ("", False)
    assert whole.fs.xattrs("a") == []


def test_fields_set_back_after_a_lost_reply_are_set_back_on_drive(whole: Whole) -> None:
    write_file(whole.fs, "a", b"content")
    whole.drain()
    whole.fs.set_xattr("a", STARRED, b"1")
    whole.drive.fail("update", ("after", Unreachable("lost")))
    while told(whole) != ("", True):
        whole.dispatch()
    whole.fs.set_xattr("a", STARRED, b"0")
    whole.crash()
    whole.drain()
    assert told(whole) == ("", False)


def test_fields_outlive_a_kill_at_every_call_of_drive(whole: Whole) -> None:
    images: list[Image] = []
    whole.drive.watch = lambda when, method: images.append(whole.image())
    write_file(whole.fs, "a", b"content")
    whole.fs.set_xattr("a", DESCRIPTION, b"mine")
    images.append(whole.image())
    while whole.store.journal.left().jobs:
        whole.dispatch()
    whole.fs.set_xattr("a", STARRED, b"1")
    images.append(whole.image())
    starred_from = len(images) - 1
    while whole.store.journal.left().jobs:
        whole.dispatch()
    assert len(images) > 5
    for number, image in enumerate(images):
        whole.crash(image)
        whole.drain()
        assert told(whole) == ("mine", number >= starred_from)
        assert whole.fs.xattr("a", DESCRIPTION) == b"mine"


def test_fields_are_told_of_changes_alone(whole: Whole) -> None:
    whole.drive.put("a", b"content", description="theirs", starred=True)
    whole.mirror.poll()
    updates: list[Metadata] = []
    update = whole.drive.update

    def noted(target: UpdateTarget) -> RemoteFile:
        updates.append(target.metadata)
        return update(target)

    whole.drive.update = noted  # type: ignore[method-assign]
    whole.fs.set_xattr("a", STARRED, b"1")
    assert whole.store.journal.left().jobs == 0
    whole.fs.chmod("a", 0o600)
    whole.drain()
    assert [(each.description, each.starred) for each in updates] == [(None, None)]


def test_fields_are_not_of_the_tops_of_drives(tmp_path: Path) -> None:
    house = VfsHouse(tmp_path)
    with pytest.raises(NotPermitted):
        house.vfs.xattrs.set(ROOT_INODE, STARRED, b"1")
    make_places(house.store.nodes, ROOT)
    with pytest.raises(NotPermitted):
        house.vfs.xattrs.set(house.node("MyDrive").inode, STARRED, b"1")
    house.close()


def test_fields_take_no_place_of_own_attributes(whole: Whole) -> None:
    write_file(whole.fs, "a", b"content")
    for number in range(20):
        whole.fs.set_xattr("a", f"user.{number}", b"")
    whole.fs.set_xattr("a", DESCRIPTION, b"x" * 5_000)
    whole.drain()
    assert told(whole)[0] == "x" * 5_000
    assert len(on_drive(whole).app_properties) <= 30


def test_fields_that_no_attribute_can_hold_are_left_alone(whole: Whole) -> None:
    file_id = whole.drive.put("a", b"content", description="x" * (FIELD_LIMIT_BYTES + 1))
    whole.mirror.poll()
    assert whole.fs.xattrs("a") == []
    assert len(remote_meta(whole.drive.files[file_id])) < 1_000
    whole.fs.chmod("a", 0o600)
    whole.drain()
    assert len(told(whole)[0]) == FIELD_LIMIT_BYTES + 1
