"""fsync under `--fsync drive`: it returns when Drive has confirmed the content as it was, and not before."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from drivefs.errors import Interrupted, NotPublished
from drivefs.model import ROOT_INODE
from drivefs.vfs.files import Handle
from tests.unit.vfs_house import VfsHouse

LIMIT_S = 10.0
SHORT_S = 0.3
"""Long enough for a wait that does not wait to be seen."""


@pytest.fixture
def house(tmp_path: Path) -> Iterator[VfsHouse]:
    house = VfsHouse(tmp_path / "cache", fsync_drive=True)
    yield house
    house.close()


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


def create(house: VfsHouse, name: str, data: bytes) -> Handle:
    handle = house.vfs.files.create(ROOT_INODE, name, 0o644, os.O_WRONLY)
    house.vfs.files.write(handle.number, 0, data)
    return handle


def waits(future: Future[None]) -> bool:
    try:
        future.result(SHORT_S)
    except TimeoutError:
        return True
    return False


def test_fsync_waits_until_drive_has_what_was_there_at_the_call(
    house: VfsHouse, executor: ThreadPoolExecutor
) -> None:
    handle = create(house, "a", b"at the call")
    done = executor.submit(house.vfs.files.sync, handle.number)
    assert waits(done)
    house.vfs.files.write(handle.number, 0, b"AFTER")
    assert house.sealed_bytes("a") == b"at the call"
    house.publish_job("a")
    done.result(LIMIT_S)


def test_fsync_of_a_closed_file_waits_for_it(house: VfsHouse, executor: ThreadPoolExecutor) -> None:
    house.vfs.files.release(create(house, "a", b"x").number)
    handle = house.vfs.files.open(house.node("a").inode, os.O_RDONLY)
    done = executor.submit(house.vfs.files.sync, handle.number)
    assert waits(done)
    house.publish_job("a")
    done.result(LIMIT_S)
    house.vfs.files.sync(handle.number)  # and now at once


def test_fsync_does_not_wait_for_other_files(house: VfsHouse) -> None:
    house.vfs.files.release(create(house, "other", b"x").number)
    handle = create(house, "a", b"x")
    timer = threading.Timer(SHORT_S, house.publish_job, ("a",))
    timer.start()
    house.vfs.files.sync(handle.number)
    timer.join()
    assert house.has_job("other")


def test_fsync_of_what_was_unlinked_does_not_wait(house: VfsHouse, executor: ThreadPoolExecutor) -> None:
    handle = create(house, "a", b"x")
    done = executor.submit(house.vfs.files.sync, handle.number)
    assert waits(done)
    house.vfs.tree.unlink(ROOT_INODE, "a")
    done.result(LIMIT_S)
    house.vfs.files.sync(handle.number)


def test_fsync_follows_a_file_that_is_renamed(house: VfsHouse, executor: ThreadPoolExecutor) -> None:
    handle = create(house, "a", b"x")
    done = executor.submit(house.vfs.files.sync, handle.number)
    assert waits(done)
    house.vfs.tree.rename(ROOT_INODE, "a", ROOT_INODE, "b")
    assert waits(done)
    house.publish_job("b")
    done.result(LIMIT_S)


def test_fsync_fails_when_drive_does_not_take_the_file(house: VfsHouse, caplog: pytest.LogCaptureFixture) -> None:
    handle = create(house, "a", b"x")
    timer = threading.Timer(SHORT_S, lambda: house.store.journal.park(house.node("a").inode, "No rights."))
    timer.start()
    with pytest.raises(NotPublished, match="No rights"):
        house.vfs.files.sync(handle.number)
    timer.join()
    assert "fsync of a fails" in caplog.text


def test_fsync_is_given_up_by_a_signal_and_by_the_end(house: VfsHouse) -> None:
    handle = create(house, "a", b"x")
    with pytest.raises(Interrupted):
        house.vfs.files.sync(handle.number, lambda: True)
    house.vfs.end_waits()
    with pytest.raises(NotPublished):
        house.vfs.files.sync(handle.number)


def test_fsync_twice_in_one_tick_sends_both(house: VfsHouse) -> None:
    handle = create(house, "a", b"1")
    mtime_ns = handle.opened.file.mtime_ns  # type: ignore[union-attr]
    for data in (b"1", b"2"):
        house.vfs.files.write(handle.number, 0, data)
        handle.opened.file.set_mtime(mtime_ns)  # type: ignore[union-attr]
        house.vfs.snapshot_open()
        assert house.sealed_bytes("a") == data
