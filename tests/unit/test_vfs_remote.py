"""What Drive has and the cache does not: listed when looked into, fetched when read, never for a write."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivefs.errors import Unreachable
from drivefs.model import ROOT_INODE, DriveId, Inode, Kind
from drivefs.store.generations import State
from tests.filesystem import read_file, write_file
from tests.promises import fails_with
from tests.unit.vfs_house import FakeSpace, VfsHouse

DATA = bytes(range(256)) * 100


@pytest.fixture
def house(tmp_path: Path) -> Iterator[VfsHouse]:
    house = VfsHouse(tmp_path / "cache")
    yield house
    house.close()


def remote_folder(house: VfsHouse, name: str) -> Inode:
    node = house.store.nodes.add(
        parent=ROOT_INODE,
        name=name,
        kind=Kind.FOLDER,
        mode=0o755,
        size_bytes=0,
        mtime_ns=1,
        ctime_ns=1,
        drive_id=DriveId(f"id of {name}"),
        confirmed_ns=1,
    )
    return node.inode


def test_vfs_read_fetches_what_is_not_here_and_only_once(house: VfsHouse) -> None:
    house.remote_file("a", DATA)
    fd = house.fs.open("a", os.O_RDONLY)
    assert house.fs.pread(fd, 100, 1000) == DATA[1000:1100]
    assert house.fs.pread(fd, 200, 1000) == DATA[1000:1200]
    house.fs.close(fd)
    assert house.downloader.fetched == [(1000, 1100), (1100, 1200)]
    assert read_file(house.fs, "a") == DATA
    assert read_file(house.fs, "a") == DATA
    assert house.downloader.fetched[2:] == [(0, 1000), (1200, len(DATA))]
    assert not house.has_job("a")


def test_vfs_reading_leaves_size_and_time_as_drive_says(house: VfsHouse) -> None:
    house.remote_file("a", DATA)
    before = house.fs.status("a")
    read_file(house.fs, "a")
    assert house.fs.status("a") == before


def test_vfs_write_in_place_needs_no_network(house: VfsHouse) -> None:
    house.remote_file("a", DATA)
    house.downloader.online = False
    fd = house.fs.open("a", os.O_RDWR)
    house.fs.pwrite(fd, b"here", 500)
    assert house.fs.pread(fd, 4, 500) == b"here"
    house.fs.close(fd)
    assert house.downloader.fetched == []
    house.downloader.online = True
    assert read_file(house.fs, "a") == DATA[:500] + b"here" + DATA[504:]


def test_vfs_overwrite_needs_nothing_of_the_old_content(house: VfsHouse) -> None:
    house.remote_file("a", DATA)
    house.downloader.online = False
    write_file(house.fs, "a", b"new")
    assert read_file(house.fs, "a") == b"new"
    assert house.sealed_bytes("a") == b"new"
    assert house.node("a").drive_id == "id of a"


def test_vfs_truncate_and_append_need_no_network(house: VfsHouse) -> None:
    house.remote_file("a", DATA)
    house.downloader.online = False
    house.fs.truncate("a", 1000)
    fd = house.fs.open("a", os.O_WRONLY | os.O_APPEND)
    house.fs.write(fd, b"tail")
    house.fs.close(fd)
    assert house.fs.status("a").size_bytes == 1004
    house.downloader.online = True
    assert read_file(house.fs, "a") == DATA[:1000] + b"tail"


def test_vfs_growth_after_a_cut_reads_as_zeros_not_as_the_old_bytes(house: VfsHouse) -> None:
    house.remote_file("a", DATA)
    house.fs.truncate("a", 10)
    house.fs.truncate("a", 20)
    assert read_file(house.fs, "a") == DATA[:10] + bytes(10)


def test_vfs_read_without_network_fails_and_works_again_later(house: VfsHouse) -> None:
    house.remote_file("a", DATA)
    fd = house.fs.open("a", os.O_RDONLY)
    house.downloader.online = False
    with fails_with(errno.EIO):
        house.fs.pread(fd, 10, 0)
    house.downloader.online = True
    assert house.fs.pread(fd, 10, 0) == DATA[:10]
    house.fs.close(fd)


def test_vfs_failed_read_leaves_the_content_to_be_evicted(house: VfsHouse) -> None:
    house.remote_file("a", DATA)
    house.downloader.online = False
    with fails_with(errno.EIO):
        read_file(house.fs, "a")
    assert house.store.evict(1) == 0
    assert house.node("a").generation is None


def test_vfs_open_content_is_not_evicted(house: VfsHouse) -> None:
    house.remote_file("a", DATA)
    fd = house.fs.open("a", os.O_RDONLY)
    assert house.fs.pread(fd, 10, 0) == DATA[:10]
    assert house.store.evict(1 << 40) == 0
    house.fs.close(fd)
    assert house.store.evict(1 << 40) == 10
    assert read_file(house.fs, "a") == DATA


def test_vfs_lookup_lists_a_folder_once(house: VfsHouse) -> None:
    folder = remote_folder(house, "d")
    house.mirror.on_listing[folder] = lambda: house.remote_file("f", b"x", parent=folder) and None
    assert house.fs.status("d/f").size_bytes == 1
    assert house.fs.names("d") == ["f"]
    with fails_with(errno.ENOENT):
        house.fs.status("d/nothing")
    assert house.mirror.asked == [folder]


def test_vfs_create_sees_what_drive_has_under_that_name(house: VfsHouse) -> None:
    folder = remote_folder(house, "d")
    house.mirror.on_listing[folder] = lambda: house.remote_file("f", b"x", parent=folder) and None
    with fails_with(errno.EEXIST):
        house.fs.open("d/f", os.O_CREAT | os.O_EXCL | os.O_WRONLY)


def test_vfs_folder_made_here_needs_no_listing(house: VfsHouse) -> None:
    house.mirror.online = False
    house.fs.mkdir("d")
    write_file(house.fs, "d/f", b"x")
    house.fs.rename("d/f", "d/g")
    house.fs.unlink("d/g")
    house.fs.rmdir("d")
    assert house.mirror.asked == []


def test_vfs_unlisted_folder_is_not_taken_for_empty(house: VfsHouse) -> None:
    folder = remote_folder(house, "d")
    house.mirror.on_listing[folder] = lambda: house.remote_file("f", b"x", parent=folder) and None
    house.fs.mkdir("e")
    with fails_with(errno.ENOTEMPTY):
        house.fs.rename("e", "d")
    with fails_with(errno.ENOTEMPTY):
        house.fs.rmdir("d")


def test_vfs_unlisted_folder_offline_fails_and_changes_nothing(house: VfsHouse) -> None:
    remote_folder(house, "d")
    house.mirror.online = False
    for call in (
        lambda: house.fs.names("d"),
        lambda: house.fs.mkdir("d/e"),
        lambda: house.fs.rmdir("d"),
        lambda: house.fs.status("d/f"),
    ):
        with fails_with(errno.EIO):
            call()
    house.mirror.online = True
    assert house.fs.names("d") == []


def test_vfs_errors_of_drive_pass_through(house: VfsHouse) -> None:
    remote_folder(house, "d")
    house.mirror.online = False
    with pytest.raises(Unreachable):
        house.vfs.tree.resolve("d/f")


def test_vfs_target_that_the_listing_did_not_hold_is_fetched(house: VfsHouse) -> None:
    node = house.remote_file("l", b"there", kind=Kind.SYMLINK)
    house.downloader.targets[node.inode] = "there"
    assert house.fs.readlink("l") == "there"


def test_vfs_file_the_account_may_not_write_shows_and_refuses(house: VfsHouse) -> None:
    house.remote_file("a", DATA, writable=False)
    assert house.fs.status("a").mode == 0o444
    for call in (
        lambda: house.fs.open("a", os.O_WRONLY),
        lambda: house.fs.open("a", os.O_RDONLY | os.O_TRUNC),
        lambda: house.fs.truncate("a", 0),
        lambda: house.fs.chmod("a", 0o600),
        lambda: house.fs.set_mtime("a", 1),
        lambda: house.fs.set_xattr("a", "user.x", b""),
        lambda: house.fs.unlink("a"),
        lambda: house.fs.rename("a", "b"),
    ):
        with fails_with(errno.EACCES):
            call()
    assert read_file(house.fs, "a") == DATA
    assert not house.has_job("a")


def test_vfs_what_may_not_be_removed_is_replaced_only_where_its_file_on_drive_stays(house: VfsHouse) -> None:
    kept = house.remote_file("kept", DATA, kept=1)
    house.remote_file("old", b"with a life of its own")
    house.fs.symlink("kept", "link")
    for source in ("old", "link"):
        with fails_with(errno.EACCES):
            house.fs.rename(source, "kept")
    with fails_with(errno.EACCES):
        house.fs.unlink("kept")
    assert read_file(house.fs, "kept") == DATA
    assert not house.has_job("kept") and not house.has_job("old")
    write_file(house.fs, "temporary", b"new")
    house.fs.rename("temporary", "kept")
    assert house.node("kept").drive_id == kept.drive_id
    house.fs.rename("old", "elsewhere")


def test_vfs_read_only_mount_changes_nothing(tmp_path: Path) -> None:
    house = VfsHouse(tmp_path / "cache", read_only=True)
    house.remote_file("a", DATA)
    for call in (
        lambda: house.fs.open("a", os.O_WRONLY),
        lambda: house.fs.open("a", os.O_RDONLY | os.O_TRUNC),
        lambda: house.fs.open("b", os.O_WRONLY | os.O_CREAT),
        lambda: house.fs.mkdir("d"),
        lambda: house.fs.symlink("a", "l"),
        lambda: house.fs.unlink("a"),
        lambda: house.fs.rmdir("a"),
        lambda: house.fs.rename("a", "b"),
        lambda: house.fs.truncate("a", 0),
        lambda: house.fs.chmod("a", 0o600),
        lambda: house.fs.set_mtime("a", 1),
        lambda: house.fs.set_xattr("a", "user.x", b""),
        lambda: house.fs.remove_xattr("a", "user.x"),
    ):
        with fails_with(errno.EROFS):
            call()
    assert read_file(house.fs, "a") == DATA
    assert house.store.journal.left().jobs == 0
    house.close()


def test_vfs_clean_file_becomes_whole_when_all_of_it_was_read(house: VfsHouse) -> None:
    house.remote_file("a", DATA)
    read_file(house.fs, "a")
    generation = house.node("a").generation
    assert generation is not None
    assert house.store.content.is_whole(generation)
    assert house.store.content.state(generation) is State.CLEAN


def test_vfs_volume_is_drives_and_large_while_it_is_not_known(house: VfsHouse) -> None:
    assert house.vfs.volume().free_bytes == 1 << 50
    house.mirror.known_space = FakeSpace()
    assert house.vfs.volume() == (1000 << 12, 400 << 12)


def test_vfs_what_the_account_may_not_remove_refuses_that_alone(house: VfsHouse) -> None:
    house.remote_file("a", DATA, kept=1)
    house.remote_file("d", b"", kind=Kind.FOLDER, listed=True, kept=1)
    for call in (lambda: house.fs.unlink("a"), lambda: house.fs.rmdir("d")):
        with fails_with(errno.EACCES):
            call()
    house.fs.rename("a", "d/a")
    write_file(house.fs, "d/a", b"new")
    assert read_file(house.fs, "d/a") == b"new"
