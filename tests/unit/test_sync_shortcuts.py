"""Shortcuts: symlinks to what they stand for, where the mount shows it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from drivefs.model import SHORTCUT_MIME, DriveId, Kind
from drivefs.vfs.vfs import Vfs
from tests.fake_drive import ROOT, FakeDrive
from tests.filesystem import VfsFilesystem
from tests.house import House

PAGE = "https://drive/page"


def put(drive: FakeDrive, name: str, target: DriveId, parent: DriveId = ROOT) -> DriveId:
    return drive.put(
        name, None, parent, mime_type=SHORTCUT_MIME, shortcut_target=target, web_view_link=PAGE, revision="md5:1"
    )


@pytest.fixture
def drive() -> FakeDrive:
    return FakeDrive()


@pytest.fixture
def house(tmp_path: Path, drive: FakeDrive) -> House:
    return House(tmp_path / "cache", drive)


@pytest.fixture
def fs(house: House) -> VfsFilesystem:
    return VfsFilesystem(Vfs(house.store, house.mirror, house.downloader, uid=1000, gid=1000))


def test_shortcut_leads_by_a_relative_path_to_what_nobody_has_looked_into(
    house: House, fs: VfsFilesystem, drive: FakeDrive
) -> None:
    a, b = drive.put("a"), drive.put("b")
    deep = drive.put("deep", parent=a)
    put(drive, "to file", drive.put("file", b"x", parent=deep), b)
    put(drive, "to folder", deep, b)
    house.mirror.poll()
    assert fs.readlink("b/to file") == "../a/deep/file"
    assert fs.readlink("b/to folder") == "../a/deep"
    assert house.node("b/to folder").kind is Kind.SYMLINK
    assert fs.status("b/to folder").size_bytes == len("../a/deep")


def test_shortcut_follows_what_it_stands_for(house: House, fs: VfsFilesystem, drive: FakeDrive) -> None:
    file = drive.put("file", b"x")
    put(drive, "link", file)
    house.mirror.poll()
    assert fs.readlink("link") == "file"
    fs.mkdir("d")
    fs.rename("file", "d/renamed")
    assert fs.readlink("link") == "d/renamed"
    assert fs.status("link").size_bytes == len("d/renamed")


def test_shortcut_to_what_the_mount_does_not_show_leads_to_its_page(
    house: House, fs: VfsFilesystem, drive: FakeDrive
) -> None:
    gone = drive.put("gone", b"x")
    put(drive, "to nothing", DriveId("nowhere"))
    put(drive, "to gone", gone)
    house.mirror.poll()
    assert fs.readlink("to gone") == "gone"
    fs.unlink("gone")
    asked = len(drive.calls)
    for _ in range(3):
        assert fs.readlink("to nothing") == PAGE
    assert fs.readlink("to gone") == PAGE
    assert len(drive.calls) - asked == 1


def test_shortcut_to_the_folder_it_lies_in_ends_no_walk_in_a_circle(
    house: House, fs: VfsFilesystem, drive: FakeDrive
) -> None:
    folder = drive.put("d")
    put(drive, "self", folder, folder)
    house.mirror.poll()
    assert fs.readlink("d/self") == "."
    assert fs.names("d") == ["self"]


def test_shortcut_removed_leaves_what_it_stands_for(house: House, fs: VfsFilesystem, drive: FakeDrive) -> None:
    file = drive.put("file", b"x")
    link = put(drive, "link", file)
    house.mirror.poll()
    fs.unlink("link")
    house.drain()
    assert drive.files[link].trashed
    assert not drive.files[file].trashed


def test_shortcut_replaced_by_a_symlink_is_not_written_to(house: House, fs: VfsFilesystem, drive: FakeDrive) -> None:
    link = put(drive, "link", drive.put("file", b"x"))
    house.mirror.poll()
    fs.symlink("elsewhere", "new")
    fs.rename("new", "link")
    house.drain()
    assert fs.readlink("link") == "elsewhere"
    assert drive.files[link].trashed
    assert drive.content(drive.names()["link"]) == b"elsewhere"


def test_shortcut_renamed_is_renamed_on_drive(house: House, fs: VfsFilesystem, drive: FakeDrive) -> None:
    link = put(drive, "link", drive.put("file", b"x"))
    house.mirror.poll()
    fs.rename("link", "other")
    house.drain()
    assert (drive.files[link].name, drive.files[link].mime_type) == ("other", SHORTCUT_MIME)


def test_permanent_delete_passes_the_trash_by_but_not_for_what_others_changed(
    tmp_path: Path, drive: FakeDrive
) -> None:
    drive.put("file", b"x")
    changed, folder = drive.put("changed", b"x"), drive.put("folder")
    house = House(tmp_path / "cache", drive, delete=True)
    fs = VfsFilesystem(Vfs(house.store, house.mirror, house.downloader, uid=1000, gid=1000))
    house.drive.change(changed, b"theirs")
    for name in ("file", "changed"):
        fs.unlink(name)
    fs.rmdir("folder")
    house.drain()
    assert {file.name: file.trashed for file in drive.files.values() if file.id != ROOT} == {
        "changed": True,
        "folder": True,
    }
    assert drive.files[folder].trashed


def test_umask_takes_bits_from_all_that_shows(house: House) -> None:
    fs = VfsFilesystem(Vfs(house.store, house.mirror, house.downloader, uid=1000, gid=1000, umask=0o027))
    fs.close(fs.open("a", os.O_CREAT | os.O_WRONLY))
    fs.chmod("a", 0o777)
    assert fs.status("a").mode == 0o750
    assert house.node("a").mode == 0o777
