"""What is there when the process ended without another word, and its cache is opened again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.filesystem import read_file, write_file
from tests.unit.vfs_house import VfsHouse

A_TIME_NS = 1_577_840_523_123_456_789


@pytest.fixture
def house(tmp_path: Path) -> VfsHouse:
    return VfsHouse(tmp_path / "cache")


def test_vfs_closed_file_survives_the_process(house: VfsHouse) -> None:
    write_file(house.fs, "a", b"content")
    house.fs.set_mtime("a", A_TIME_NS)
    house.fs.set_xattr("a", "user.x", b"1")
    again = house.crash()
    assert read_file(again.fs, "a") == b"content"
    assert again.fs.status("a").mtime_ns == A_TIME_NS
    assert again.fs.xattr("a", "user.x") == b"1"
    assert again.sealed_bytes("a") == b"content"
    again.close()


def test_vfs_open_file_survives_with_every_byte_that_was_written(house: VfsHouse) -> None:
    fd = house.fs.open("a", os.O_WRONLY | os.O_CREAT)
    house.fs.write(fd, b"so far")
    house.fs.set_mtime("a", A_TIME_NS)
    again = house.crash()
    assert read_file(again.fs, "a") == b"so far"
    assert again.fs.status("a").mtime_ns == A_TIME_NS
    assert again.sealed_bytes("a") == b"so far"
    again.close()


def test_vfs_unlinked_open_file_leaves_nothing_behind(house: VfsHouse) -> None:
    fd = house.fs.open("a", os.O_WRONLY | os.O_CREAT)
    house.fs.write(fd, b"x")
    house.fs.unlink("a")
    again = house.crash()
    assert again.fs.names() == []
    assert again.store.journal.left().jobs == 0
    assert list((again.store.folder / "content").iterdir()) == []
    again.close()


def test_vfs_change_in_place_of_a_partly_local_file_survives(house: VfsHouse) -> None:
    house.remote_file("a", b"0123456789")
    fd = house.fs.open("a", os.O_RDWR)
    house.fs.pwrite(fd, b"XY", 4)
    remote = house.downloader.remote
    again = house.crash()
    again.downloader.remote = remote
    assert read_file(again.fs, "a") == b"0123XY6789"
    again.close()


@pytest.mark.parametrize("change", ["mkdir", "rename", "unlink", "symlink"])
def test_vfs_names_survive_as_they_were_when_the_call_returned(house: VfsHouse, change: str) -> None:
    write_file(house.fs, "a", b"x")
    match change:
        case "mkdir":
            house.fs.mkdir("d")
        case "rename":
            house.fs.rename("a", "b")
        case "unlink":
            house.fs.unlink("a")
        case "symlink":
            house.fs.symlink("a", "l")
    names = house.fs.names()
    again = house.crash()
    assert again.fs.names() == names
    again.close()
