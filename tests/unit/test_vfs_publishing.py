"""What the VFS gives to the journal, and when: the dirty mark before the byte, the seal before close returns."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivefs.store.generations import State
from drivefs.store.queue import Barrier
from tests.filesystem import read_file, write_file
from tests.unit.vfs_house import VfsHouse

A_TIME_NS = 1_577_840_523_123_456_789


@pytest.fixture
def house(tmp_path: Path) -> Iterator[VfsHouse]:
    house = VfsHouse(tmp_path / "cache")
    house.fs.delayed = []  # the kernel may release as late as it likes
    yield house
    for release in house.fs.delayed:
        release()
    house.close()


def state(house: VfsHouse, path: str) -> State:
    generation = house.node(path).generation
    assert generation is not None
    return house.store.content.state(generation)


def test_vfs_close_has_journaled_when_it_returns(house: VfsHouse) -> None:
    write_file(house.fs, "a", b"content")
    assert state(house, "a") is State.SEALED
    assert house.sealed_bytes("a") == b"content"


def test_vfs_empty_new_file_is_published(house: VfsHouse) -> None:
    write_file(house.fs, "a", b"")
    assert house.sealed_bytes("a") == b""


def test_vfs_file_opened_for_writing_and_not_changed_publishes_nothing(house: VfsHouse) -> None:
    write_file(house.fs, "a", b"content")
    house.publish("a")
    fd = house.fs.open("a", os.O_RDWR)
    assert house.fs.pread(fd, 10, 0) == b"content"
    house.fs.close(fd)
    assert not house.has_job("a")
    assert state(house, "a") is State.CLEAN


def test_vfs_truncation_of_an_empty_file_publishes_nothing(house: VfsHouse) -> None:
    write_file(house.fs, "a", b"")
    house.publish("a")
    house.fs.close(house.fs.open("a", os.O_WRONLY | os.O_TRUNC))
    assert not house.has_job("a")


def test_vfs_truncation_alone_is_a_change(house: VfsHouse) -> None:
    write_file(house.fs, "a", b"content")
    house.publish("a")
    house.fs.close(house.fs.open("a", os.O_WRONLY | os.O_TRUNC))
    assert house.sealed_bytes("a") == b""


@pytest.mark.parametrize("size_bytes", [0, 3, 10])
def test_vfs_truncate_without_a_handle_is_published_at_once(house: VfsHouse, size_bytes: int) -> None:
    write_file(house.fs, "a", b"content")
    house.publish("a")
    house.fs.truncate("a", size_bytes)
    assert house.sealed_bytes("a") == b"content"[:size_bytes].ljust(size_bytes, b"\0")


def test_vfs_truncate_to_the_size_it_has_publishes_nothing(house: VfsHouse) -> None:
    write_file(house.fs, "a", b"content")
    house.publish("a")
    house.fs.truncate("a", 7)
    assert not house.has_job("a")


def test_vfs_truncate_waits_for_another_writer(house: VfsHouse) -> None:
    fd = house.fs.open("a", os.O_WRONLY | os.O_CREAT)
    house.fs.write(fd, b"content")
    house.fs.truncate("a", 3)
    assert state(house, "a") is State.OPEN
    house.fs.close(fd)
    assert house.sealed_bytes("a") == b"con"


def test_vfs_file_is_marked_dirty_before_its_first_byte_changes(
    house: VfsHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_file(house.fs, "a", b"content")
    house.publish("a")
    fd = house.fs.open("a", os.O_WRONLY)
    real = os.pwrite

    def pwrite(file: int, data: memoryview, offset: int) -> int:
        row = house.store.db.row("SELECT state FROM generations WHERE generation = ?", (house.node("a").generation,))
        assert row is not None
        assert row[0] == State.OPEN.value
        return real(file, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    house.fs.write(fd, b"X")
    monkeypatch.undo()
    house.fs.close(fd)
    assert house.sealed_bytes("a") == b"Xontent"


def test_vfs_close_of_a_copy_seals_and_a_later_write_reopens(house: VfsHouse) -> None:
    fd = house.fs.open("a", os.O_WRONLY | os.O_CREAT)
    copy = house.fs.duplicate(fd)
    house.fs.write(fd, b"one")
    house.fs.close(copy)
    assert house.sealed_bytes("a") == b"one"
    house.fs.write(fd, b"two")
    assert state(house, "a") is State.OPEN
    assert house.sealed_bytes("a") is None
    house.fs.close(fd)
    assert house.sealed_bytes("a") == b"onetwo"


def test_vfs_write_after_a_copy_was_closed_counts_as_writing_for_others(house: VfsHouse) -> None:
    one = house.fs.open("a", os.O_WRONLY | os.O_CREAT)
    copy = house.fs.duplicate(one)
    house.fs.close(copy)
    house.fs.write(one, b"one")
    two = house.fs.open("a", os.O_WRONLY)
    house.fs.close(two)
    assert state(house, "a") is State.OPEN
    house.fs.close(one)
    assert state(house, "a") is State.SEALED


def test_vfs_file_is_sealed_when_the_last_of_two_writers_closes(house: VfsHouse) -> None:
    one = house.fs.open("a", os.O_WRONLY | os.O_CREAT)
    two = house.fs.open("a", os.O_WRONLY)
    house.fs.pwrite(one, b"one", 0)
    house.fs.close(one)
    assert state(house, "a") is State.OPEN
    house.fs.pwrite(two, b"two", 3)
    house.fs.close(two)
    # Not even the release of the first has come by now.
    assert house.sealed_bytes("a") == b"onetwo"


def test_vfs_writing_handle_that_was_never_closed_is_sealed_by_its_release(house: VfsHouse) -> None:
    handle = house.vfs.files.create(house.node("").inode, "a", 0o644, os.O_WRONLY)
    house.vfs.files.write(handle.number, 0, b"mapped")
    house.vfs.files.release(handle.number)
    assert house.sealed_bytes("a") == b"mapped"


def test_vfs_reader_does_not_hold_up_the_seal(house: VfsHouse) -> None:
    fd = house.fs.open("a", os.O_WRONLY | os.O_CREAT)
    reader = house.fs.open("a", os.O_RDONLY)
    house.fs.write(fd, b"x")
    house.fs.close(fd)
    assert house.sealed_bytes("a") == b"x"
    house.fs.close(reader)


def test_vfs_what_is_closed_first_is_first_in_the_publish_order(house: VfsHouse) -> None:
    write_file(house.fs, "pointer", b"old")
    house.publish("pointer")
    write_file(house.fs, "data", b"data")
    write_file(house.fs, "tmp", b"new")
    house.fs.rename("tmp", "pointer")
    jobs = [house.store.nodes.get(job.inode).name for job in house.store.journal.in_order(10)]
    assert jobs == ["data", "pointer"]


def test_vfs_rename_over_takes_the_place_of_the_file_on_drive(house: VfsHouse) -> None:
    write_file(house.fs, "a", b"old")
    house.publish("a")
    drive_id = house.node("a").drive_id
    write_file(house.fs, "tmp", b"new")
    house.fs.rename("tmp", "a")
    assert house.node("a").drive_id == drive_id
    assert house.sealed_bytes("a") == b"new"
    assert house.store.journal.left().jobs == 1


def test_vfs_unlink_before_publishing_leaves_nothing(house: VfsHouse) -> None:
    fd = house.fs.open("a", os.O_RDWR | os.O_CREAT)
    house.fs.write(fd, b"x")
    house.fs.unlink("a")
    house.fs.write(fd, b"y")
    house.fs.close(fd)
    assert house.fs.delayed is not None
    house.fs.delayed.pop()()
    for table in ("jobs", "generations", "ranges"):
        assert house.store.db.rows(f"SELECT * FROM {table}") == []
    assert [row[0] for row in house.store.db.rows("SELECT inode FROM nodes")] == [1]
    house.store.sync()
    assert list((house.store.folder / "content").iterdir()) == []


def test_vfs_unlink_of_a_published_file_is_journaled_behind_everything(house: VfsHouse) -> None:
    write_file(house.fs, "a", b"x")
    house.publish("a")
    drive_id = house.node("a").drive_id
    write_file(house.fs, "b", b"x")
    house.fs.unlink("a")
    (first, last) = house.store.journal.in_order(10)
    assert last.barrier is Barrier.MOUNT
    assert house.store.nodes.get(last.inode).drive_id == drive_id
    assert first.inode == house.node("b").inode


def test_vfs_rmdir_of_a_folder_drive_never_had_leaves_nothing(house: VfsHouse) -> None:
    house.fs.mkdir("d")
    house.fs.rmdir("d")
    assert house.store.journal.left().jobs == 0
    assert [row[0] for row in house.store.db.rows("SELECT inode FROM nodes")] == [1]


def test_vfs_attributes_that_do_not_change_publish_nothing(house: VfsHouse) -> None:
    write_file(house.fs, "a", b"x")
    house.fs.set_mtime("a", A_TIME_NS)
    house.fs.set_xattr("a", "user.x", b"1")
    house.publish("a")
    house.fs.set_mtime("a", A_TIME_NS)
    house.fs.chmod("a", 0o644)
    house.fs.set_xattr("a", "user.x", b"1")
    assert not house.has_job("a")


@pytest.mark.parametrize("change", ["chmod", "mtime", "xattr", "rename"])
def test_vfs_attributes_of_a_clean_file_are_published(house: VfsHouse, change: str) -> None:
    write_file(house.fs, "a", b"x")
    house.publish("a")
    match change:
        case "chmod":
            house.fs.chmod("a", 0o600)
        case "mtime":
            house.fs.set_mtime("a", A_TIME_NS)
        case "xattr":
            house.fs.set_xattr("a", "user.x", b"1")
        case "rename":
            house.fs.rename("a", "b")
            house.fs.rename("b", "a")
    assert house.has_job("a")
    assert state(house, "a") is State.CLEAN


def test_vfs_time_set_on_an_open_file_is_sealed_with_it(house: VfsHouse) -> None:
    fd = house.fs.open("a", os.O_WRONLY | os.O_CREAT)
    house.fs.write(fd, b"x")
    house.fs.set_mtime("a", A_TIME_NS)
    house.fs.close(fd)
    assert house.node("a").mtime_ns == A_TIME_NS


def test_vfs_snapshot_sends_open_files_as_they_are(house: VfsHouse) -> None:
    fd = house.fs.open("log", os.O_WRONLY | os.O_CREAT)
    house.fs.write(fd, b"one")
    assert house.vfs.dirty_open() == 1
    house.vfs.snapshot_open()
    assert house.sealed_bytes("log") == b"one"
    house.fs.write(fd, b"two")
    assert house.sealed_bytes("log") == b"one"
    house.vfs.snapshot_open()
    assert house.sealed_bytes("log") == b"onetwo"
    house.fs.close(fd)
    assert house.vfs.dirty_open() == 0
    assert read_file(house.fs, "log") == b"onetwo"


SECOND_NS = 1_000_000_000


def test_vfs_open_file_that_rests_gets_to_drive_without_a_close(house: VfsHouse) -> None:
    fd = house.fs.open("log", os.O_WRONLY | os.O_CREAT)
    house.fs.write(fd, b"one")
    began_ns = house.fs.status("log").mtime_ns
    house.vfs.writeback.snapshot_due(began_ns + SECOND_NS)
    assert not house.has_job("log")
    house.vfs.writeback.snapshot_due(began_ns + 11 * SECOND_NS)
    assert house.sealed_bytes("log") == b"one"
    house.fs.write(fd, b"two")
    assert house.sealed_bytes("log") == b"one"
    house.fs.close(fd)
    assert house.sealed_bytes("log") == b"onetwo"


def test_vfs_open_file_that_never_rests_gets_to_drive_every_minute(house: VfsHouse) -> None:
    fd = house.fs.open("log", os.O_WRONLY | os.O_CREAT)
    sent = []
    for second in range(0, 130, 5):
        house.fs.write(fd, b"x")
        house.fs.set_mtime("log", second * SECOND_NS)
        house.vfs.writeback.snapshot_due((second + 1) * SECOND_NS)
        if house.has_job("log"):
            sent.append(len(house.sealed_bytes("log")))
    house.fs.close(fd)
    assert sent[0] > 10
    assert len(set(sent)) == 2


def test_vfs_snapshots_that_were_not_sent_leave_no_content_behind(house: VfsHouse) -> None:
    fd = house.fs.open("log", os.O_WRONLY | os.O_CREAT)
    for _ in range(5):
        house.fs.write(fd, b"x")
        house.vfs.snapshot_open()
    house.fs.close(fd)
    assert len(house.store.db.rows("SELECT * FROM generations")) == 1


def test_vfs_snapshot_of_what_has_not_changed_sends_nothing(house: VfsHouse) -> None:
    fd = house.fs.open("log", os.O_WRONLY | os.O_CREAT)
    house.fs.write(fd, b"one")
    house.vfs.tree.set_mtime(house.node("log").inode, 1_000_000_000)  # too old for another write to have its time
    house.vfs.snapshot_open()
    job = house.store.journal.find(house.node("log").inode)
    house.vfs.snapshot_open()
    assert house.store.journal.find(house.node("log").inode) == job
    house.fs.close(fd)


def test_vfs_end_of_the_mount_seals_what_is_open(house: VfsHouse) -> None:
    fd = house.fs.open("a", os.O_WRONLY | os.O_CREAT)
    house.fs.write(fd, b"x")
    house.vfs.files.release_all()
    assert house.sealed_bytes("a") == b"x"


def test_vfs_write_to_what_is_being_uploaded_leaves_the_upload_its_bytes(house: VfsHouse) -> None:
    write_file(house.fs, "a", b"old content")
    job = house.store.journal.find(house.node("a").inode)
    assert job is not None
    assert job.generation is not None
    claim = house.store.content.claim(job.generation)
    fd = house.fs.open("a", os.O_RDWR)
    house.fs.write(fd, b"new")
    assert claim.read_at(0, 100) == b"old content"
    assert house.fs.pread(fd, 100, 0) == b"new content"
    house.fs.close(fd)
    assert house.sealed_bytes("a") == b"new content"
    claim.close()


def test_vfs_states_follow_the_way_to_drive(house: VfsHouse) -> None:
    def told() -> bytes:
        return house.fs.xattr("a", "user.drivefs.state")

    fd = house.fs.open("a", os.O_WRONLY | os.O_CREAT)
    house.fs.write(fd, b"x")
    assert told() == b"local"
    house.fs.close(fd)
    assert told() == b"local"
    job = house.store.journal.find(house.node("a").inode)
    assert job is not None
    assert job.generation is not None
    claim = house.store.content.claim(job.generation)
    assert told() == b"uploading"
    claim.close()
    house.store.journal.park(job.inode, "no rights")
    assert told() == b"failed"
    house.publish("a")
    assert told() == b"durable"
    assert house.fs.xattr("a", "user.drivefs.id") == b"id of a"
    assert house.fs.xattr("a", "user.drivefs.link") == b"https://drive.google.com/open?id=id of a"
    assert house.fs.xattr("a", "user.drivefs.revision").startswith(b"published")
