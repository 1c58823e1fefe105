"""A cache folder after an unclean end."""

from __future__ import annotations

from pathlib import Path

import pytest

from drivefs.errors import StoreError
from drivefs.model import ROOT_INODE, DriveId, Kind
from drivefs.store.generations import State
from drivefs.store.node import Node
from drivefs.store.store import Store


def add(store: Store, name: str, **values: object) -> Node:
    shown = {"parent": ROOT_INODE, "name": name, "kind": Kind.FILE, "mode": 0o644, "size_bytes": 0, "ours": True}
    return store.nodes.add(**(shown | {"mtime_ns": 1, "ctime_ns": 1} | values))


def reopened(store: Store) -> Store:
    store.close()
    return Store(store.folder)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


def test_recovery_of_a_clean_end_finds_nothing(store: Store) -> None:
    node = add(store, "a")
    file = store.journal.start_anew(node)
    store.journal.seal(file)
    file.close()
    store = reopened(store)
    found = store.recover()
    assert (found.interrupted, found.lost, found.orphans) == (0, 0, 0)
    store.close()


def test_recovery_seals_what_was_being_written(store: Store) -> None:
    node = add(store, "a")
    file = store.journal.start_anew(node)
    file.write(0, b"so far")
    mtime_ns = file.mtime_ns
    store = reopened(store)
    assert store.recover().interrupted == 1
    now = store.nodes.get(node.inode)
    assert (now.size_bytes, now.mtime_ns) == (6, mtime_ns)
    job = store.journal.find(node.inode)
    assert job is not None
    assert job.generation is not None
    assert store.content.state(job.generation) is State.SEALED
    assert store.recover().interrupted == 0
    store.close()


def test_recovery_keeps_files_that_no_record_knows(store: Store) -> None:
    (store.folder / "content" / "12345").write_bytes(b"whose?")
    store = reopened(store)
    assert store.recover().orphans == 1
    (kept,) = store.quarantine.all()
    assert kept.file.read_bytes() == b"whose?"
    assert store.recover().orphans == 0
    store.close()


def test_recovery_survives_a_record_without_a_file(store: Store) -> None:
    node = add(store, "a")
    file = store.journal.start_anew(node)
    (store.folder / "content" / str(file.generation)).unlink()
    store = reopened(store)
    assert store.recover().lost == 1
    assert store.nodes.get(node.inode).generation is None
    assert store.db.rows("SELECT * FROM generations") == []
    store.close()


def test_recovery_drops_content_that_nothing_names(store: Store) -> None:
    file = store.content.create(ROOT_INODE)
    file.close()
    store = reopened(store)
    found = store.recover()
    assert (found.interrupted, found.orphans) == (0, 0)
    assert list((store.folder / "content").iterdir()) == []
    store.close()


def test_recovery_forgets_unlinked_files_but_not_their_removal_from_drive(store: Store) -> None:
    new, old = add(store, "new"), add(store, "old", drive_id=DriveId("id"), confirmed_ns=1)
    for node in (new, old):
        file = store.journal.start_anew(node)
        file.write(0, b"x")
        store.journal.removed(store.nodes.update(node.inode, parent=None, name=None))
    store = reopened(store)
    store.recover()
    assert store.nodes.find(new.inode) is None
    (job,) = store.journal.in_order(10)
    assert job.inode == old.inode
    assert store.db.rows("SELECT * FROM generations") == []
    store.close()


def test_recovery_tries_parked_jobs_again(store: Store) -> None:
    node = add(store, "a")
    store.journal.changed_metadata(node)
    store.journal.park(node.inode, "no rights")
    store = reopened(store)
    store.recover()
    assert store.journal.left().parked == 0
    store.close()


def test_store_in_a_place_that_is_no_folder_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="cannot be used"):
        Store(tmp_path / "file" / "cache")
