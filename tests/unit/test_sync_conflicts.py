"""Changed here and elsewhere: what the table in the README says, row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from drivefs.errors import Unreachable
from drivefs.model import ROOT_INODE, DriveId, ListPage, RemoteFile
from drivefs.sync import publish
from tests.fake_drive import FakeDrive
from tests.house import House


@pytest.fixture
def house(tmp_path: Path) -> House:
    house = House(tmp_path / "cache")
    house.write("model.ckpt", b"base")
    house.mkdir("d")
    house.drain()
    return house


def on_drive(house: House) -> dict[str, bytes]:
    files = {name: file_id for name, file_id in house.drive.names().items() if name != "d"}
    return {name: house.drive.content(file_id) for name, file_id in files.items()}


def copies(house: House) -> list[str]:
    return [name for name in house.drive.names() if name.startswith("model (conflict ") and name.endswith(").ckpt")]


def test_conflict_keeps_both_contents(house: House) -> None:
    theirs = house.drive.names()["model.ckpt"]
    house.write("model.ckpt", b"mine")
    house.drive.change(theirs, b"theirs")
    house.drain()
    (copy,) = copies(house)
    assert house.drive.names()["model.ckpt"] == theirs
    assert on_drive(house) == {"model.ckpt": b"theirs", copy: b"mine"}
    assert house.node("model.ckpt").drive_id == theirs
    assert house.node(copy).md5 != house.node("model.ckpt").md5


def test_conflict_is_seen_by_a_temporary_file_renamed_over(house: House) -> None:
    theirs = house.drive.names()["model.ckpt"]
    house.drive.change(theirs, b"theirs")
    house.write("tmp", b"mine")
    house.rename("tmp", "model.ckpt")
    house.drain()
    (copy,) = copies(house)
    assert on_drive(house) == {"model.ckpt": b"theirs", copy: b"mine"}


def test_conflict_is_none_where_both_wrote_the_same(house: House) -> None:
    house.write("model.ckpt", b"same")
    house.drive.change(house.drive.names()["model.ckpt"], b"same")
    house.drain()
    assert on_drive(house) == {"model.ckpt": b"same"}


def test_conflict_is_none_where_the_other_content_was_ours_with_a_lost_reply(house: House) -> None:
    house.write("model.ckpt", b"two")
    house.drive.fail("upload_small", ("after", Unreachable("lost")))
    house.dispatch()
    house.write("model.ckpt", b"three")
    house.drain()
    assert on_drive(house) == {"model.ckpt": b"three"}


def test_conflict_is_none_where_a_temporary_file_replaces_what_was_sent_with_a_lost_reply(house: House) -> None:
    house.write("model.ckpt", b"two")
    house.drive.fail("upload_small", ("after", Unreachable("lost")))
    house.dispatch()
    house.write("tmp", b"three")
    house.rename("tmp", "model.ckpt")
    house.drain()
    assert on_drive(house) == {"model.ckpt": b"three"}


def test_conflict_during_an_upload_keeps_the_version_beneath(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish, "UNSEEN_S", -1.0)
    drive_id = house.drive.names()["model.ckpt"]
    upload = house.drive.upload_small

    def race(target, content):  # type: ignore[no-untyped-def]
        house.drive.upload_small = upload  # type: ignore[method-assign]
        house.drive.change(drive_id, b"theirs, in between")
        return upload(target, content)

    house.drive.upload_small = race  # type: ignore[method-assign]
    house.write("model.ckpt", b"mine")
    house.drain()
    (copy,) = copies(house)
    assert on_drive(house) == {"model.ckpt": b"mine", copy: b"theirs, in between"}


def test_conflict_written_here_trashed_there_is_made_anew(house: House) -> None:
    house.write("model.ckpt", b"mine")
    house.drive.change(house.drive.names()["model.ckpt"], trashed=True)
    house.drain()
    assert on_drive(house) == {"model.ckpt": b"mine"}


def test_conflict_written_here_deleted_there_is_made_anew(house: House) -> None:
    house.write("model.ckpt", b"mine")
    del house.drive.files[house.drive.names()["model.ckpt"]]
    house.drain()
    assert on_drive(house) == {"model.ckpt": b"mine"}


@pytest.mark.parametrize("polled", [True, False])
def test_conflict_written_here_renamed_there_does_both(house: House, polled: bool) -> None:
    drive_id = house.drive.names()["model.ckpt"]
    house.write("model.ckpt", b"mine")
    house.drive.change(drive_id, name="theirs.ckpt")
    if polled:
        house.mirror.poll()
        assert house.node("theirs.ckpt").drive_id == drive_id
    house.drain()
    house.mirror.poll()
    assert on_drive(house) == {"theirs.ckpt": b"mine"}
    assert house.node("theirs.ckpt").drive_id == drive_id


def test_conflict_written_here_moved_there_does_both(house: House) -> None:
    drive_id = house.drive.names()["model.ckpt"]
    house.mirror.ensure_listed(house.node("d").inode)
    house.write("model.ckpt", b"mine")
    house.drive.change(drive_id, parent=house.drive.names()["d"])
    house.mirror.poll()
    house.drain()
    assert house.node("d/model.ckpt").drive_id == drive_id
    assert house.drive.content(drive_id) == b"mine"


def test_conflict_renamed_on_both_sides_takes_the_name_of_here(house: House) -> None:
    drive_id = house.drive.names()["model.ckpt"]
    house.rename("model.ckpt", "mine.ckpt")
    house.drive.change(drive_id, name="theirs.ckpt")
    house.mirror.poll()
    house.drain()
    assert house.drive.names()["mine.ckpt"] == drive_id
    assert house.node("mine.ckpt").drive_id == drive_id


def test_conflict_renamed_here_written_there_does_both(house: House) -> None:
    drive_id = house.drive.names()["model.ckpt"]
    house.rename("model.ckpt", "mine.ckpt")
    house.drive.change(drive_id, b"theirs")
    house.mirror.poll()
    house.drain()
    assert on_drive(house) == {"mine.ckpt": b"theirs"}
    assert house.node("mine.ckpt").size_bytes == len(b"theirs")


def test_conflict_renamed_here_trashed_there_goes(house: House) -> None:
    house.rename("model.ckpt", "mine.ckpt")
    house.drive.change(house.drive.names()["model.ckpt"], trashed=True)
    house.mirror.poll()
    house.drain()
    assert on_drive(house) == {}


def test_conflict_removed_here_written_there_comes_back(house: House) -> None:
    drive_id = house.drive.names()["model.ckpt"]
    house.remove("model.ckpt")
    house.drive.change(drive_id, b"theirs")
    house.mirror.poll()
    house.drain()
    assert on_drive(house) == {"model.ckpt": b"theirs"}
    assert house.node("model.ckpt").drive_id == drive_id


def test_conflict_removed_here_renamed_there_goes(house: House) -> None:
    house.remove("model.ckpt")
    house.drive.change(house.drive.names()["model.ckpt"], name="theirs.ckpt")
    house.mirror.poll()
    house.drain()
    assert on_drive(house) == {}


def test_conflict_removed_folder_with_something_new_of_others_stays(house: House) -> None:
    folder = house.drive.names()["d"]
    house.remove("d")
    house.drive.put("theirs", b"t", parent=folder)
    house.drain()
    house.mirror.poll()
    assert not house.drive.files[folder].trashed
    house.mirror.ensure_listed(house.node("d").inode)
    assert house.node("d/theirs").size_bytes == 1


def test_conflict_is_none_where_drive_lists_a_removed_file_for_a_while(tmp_path: Path) -> None:
    class Lagging(FakeDrive):
        def list_children(
            self, parents: Sequence[DriveId], page_token: str | None = None, *, trashed: bool = False
        ) -> ListPage:
            page = super().list_children(parents, page_token, trashed=trashed)
            return replace(page, files=(*page.files, *(file for file in listed if file.parent in parents)))

    listed: list[RemoteFile] = []
    house = House(tmp_path / "cache", Lagging())
    house.mkdir("run")
    house.write("run/log", b"line")
    house.drain()
    listed.append(house.drive.files[house.drive.names(house.drive.names()["run"])["log"]])
    house.remove("run/log")
    house.remove("run")
    house.drain()
    assert house.drive.names() == {}
    assert house.store.nodes.find_child(ROOT_INODE, "run") is None


def test_conflict_is_none_where_a_removed_file_holds_what_was_sent_from_here(house: House) -> None:
    house.write("model.ckpt", b"mine")
    house.drive.fail("upload_small", ("after", Unreachable("The reply was lost.")))
    house.dispatch()
    house.remove("model.ckpt")
    house.mirror.poll()
    house.drain()
    assert on_drive(house) == {}


def test_conflict_is_none_where_a_crash_hid_that_a_large_content_had_arrived(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = b"large" * 1_200_000
    house.write("model.ckpt", large)
    monkeypatch.setattr(house.store.journal, "published", lambda *arguments, **keywords: 1 / 0)  # dies before that
    house.dispatch()
    assert on_drive(house) == {"model.ckpt": large}
    house.reopen()
    house.write("model.ckpt", b"newer")
    house.drain()
    assert on_drive(house) == {"model.ckpt": b"newer"}


THEIRS_NS = 2_000_000_000 * 10**9


@pytest.mark.parametrize("polled", [True, False])
def test_conflict_renamed_here_while_content_time_and_attributes_changed_there_does_all(
    house: House, polled: bool
) -> None:
    drive_id = house.drive.names()["model.ckpt"]
    house.rename("model.ckpt", "renamed.ckpt")
    theirs = {"x:user.theirs": "utheirs", "mode": "600"}
    house.drive.change(drive_id, b"theirs", modified_ns=THEIRS_NS, app_properties=theirs)
    if polled:
        house.mirror.poll()
    house.drain()
    house.mirror.poll()
    node = house.node("renamed.ckpt")
    assert (node.mtime_ns, node.mode, node.size_bytes) == (THEIRS_NS, 0o600, 6)
    assert house.store.nodes.xattrs(node.inode) == {"user.theirs": b"theirs"}
    house.store.journal.changed_metadata(house.store.nodes.update(node.inode, mode=0o640))
    house.drain()
    remote = house.drive.files[drive_id]
    assert (remote.name, remote.modified_ns) == ("renamed.ckpt", THEIRS_NS)
    assert remote.app_properties == {"x:user.theirs": "utheirs", "mode": "640"}


@pytest.mark.parametrize("polled", [True, False])
def test_conflict_of_attributes_keeps_each_that_one_side_alone_changed(house: House, polled: bool) -> None:
    inode = house.node("model.ckpt").inode
    for name in ("user.both", "user.theirs", "user.gone"):
        house.store.nodes.set_xattr(inode, name, b"old")
    house.store.journal.changed_metadata(house.node("model.ckpt"))
    house.drain()
    house.mirror.poll()
    drive_id = house.drive.names()["model.ckpt"]
    for name in ("user.both", "user.mine"):
        house.store.nodes.set_xattr(inode, name, b"mine")
    house.store.journal.changed_metadata(house.store.nodes.update(inode, mode=0o600))
    house.drive.change(drive_id, app_properties={"x:user.both": "utheirs", "x:user.theirs": "utheirs"})
    if polled:
        house.mirror.poll()
    house.drain()
    house.mirror.poll()
    wanted = {"user.both": b"mine", "user.theirs": b"theirs", "user.mine": b"mine"}
    assert house.store.nodes.xattrs(inode) == wanted
    assert house.node("model.ckpt").mode == 0o600
    kept = {f"x:{name}": f"u{value.decode()}" for name, value in wanted.items()}
    remote = dict(house.drive.files[drive_id].app_properties)
    remote.pop("mtime_ns", None)
    assert remote == {**kept, "mode": "600"}


def test_conflict_takes_nothing_back_that_was_set_back_here_while_it_was_sent(house: House) -> None:
    inode = house.node("model.ckpt").inode
    house.store.journal.changed_metadata(house.store.nodes.update(inode, mode=0o600))
    house.drive.fail("update", ("after", Unreachable("lost")))
    house.dispatch()
    house.store.journal.changed_metadata(house.store.nodes.update(inode, mode=0o644))
    house.mirror.poll()
    house.drain()
    house.mirror.poll()
    assert house.node("model.ckpt").mode == 0o644
    assert "mode" not in house.drive.files[house.drive.names()["model.ckpt"]].app_properties
