"""The store on a disk without room: what did not happen leaves nothing behind, and room can be made again."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivefs.errors import CacheFull
from drivefs.model import ROOT_INODE
from drivefs.store.generations import State
from drivefs.store.store import Store
from tests.house import House


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "cache")
    yield store
    store.close()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a small disk")
    path = tmp_path / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", path], check=True)
    yield path
    subprocess.run(["umount", "-l", path], check=True)


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file, pytest.raises(OSError):
        while True:
            file.write(b"x" * 65536)


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_store_takes_back_the_content_of_a_transaction_that_was_undone(store: Store) -> None:
    before = open_files()
    for _ in range(3):
        with pytest.raises(CacheFull), store.db.transaction():
            store.content.create(ROOT_INODE)
            raise CacheFull("No room for the rest.")
    assert open_files() == before
    assert list((store.folder / "content").iterdir()) == []
    file = store.content.create(ROOT_INODE)
    file.write(0, b"works again")
    assert file.read(0, 100) == b"works again"
    file.close()


def test_content_that_was_taken_back_may_still_be_closed(store: Store) -> None:
    with pytest.raises(CacheFull), store.db.transaction():
        file = store.content.create(ROOT_INODE)
        raise CacheFull("No room for the rest.")
    other = os.open(store.folder, os.O_RDONLY)  # takes the number of the descriptor that was closed
    file.close()
    os.fstat(other)
    os.close(other)


def test_state_of_content_goes_back_with_its_transaction(store: Store) -> None:
    file = store.content.create(ROOT_INODE)
    with pytest.raises(CacheFull), store.db.transaction():
        store.content.seal(file)
        raise CacheFull("No room for the rest.")
    assert file.state is State.OPEN is store.content.state(file.generation)
    file.close()


def test_store_needs_room_for_its_reserve(disk: Path) -> None:
    fill(disk / "filler")
    before = open_files()
    with pytest.raises(CacheFull, match="room"):
        Store(disk / "cache")
    assert open_files() == before
    (disk / "filler").unlink()
    Store(disk / "cache").close()


def test_store_on_a_full_disk_can_still_publish_remove_and_evict(disk: Path) -> None:
    house = House(disk / "cache")
    house.write("sent", b"1" * 1_000_000)
    house.drain()
    for number in range(20):
        house.write(f"waiting-{number}", b"2")
    house.store.checkpoint()
    fill(disk / "filler")
    with pytest.raises(OSError, match="No space"):
        (disk / "more").write_bytes(b"3")
    house.remove("waiting-0")
    house.drain()
    assert len(house.drive.names()) == 20
    assert house.store.journal.left().jobs == 0
    assert house.store.evict(1) == 1_000_000
    house.write("more", b"3" * 900_000)
    house.drain()
    assert house.store.journal.left().jobs == 0
    house.store.close()
