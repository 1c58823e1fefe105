"""A cache folder after a power cut: another boot ID. What a disk may leave of it: tests/crash/test_power.py."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from drivefs.model import ROOT_INODE, Inode, Kind
from drivefs.store.content import ContentStore
from drivefs.store.content_points import ContentPoints
from drivefs.store.node import Node
from drivefs.store.queue import JobState
from drivefs.store.store import Store
from tests.house import House
from tests.unit.test_why import facts_of, told
from tests.whole import copy_cache


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "cache", lambda: "first")
    store.recover()
    yield store
    store.close()


def add(store: Store, name: str) -> Node:
    shown = {"parent": ROOT_INODE, "name": name, "kind": Kind.FILE, "mode": 0o644, "size_bytes": 0, "ours": True}
    return store.nodes.add(**shown, mtime_ns=1, ctime_ns=1)


def write(store: Store, node: Node, data: bytes, offset: int = 0) -> None:
    """In place where there is content, or as new."""
    now = store.nodes.get(node.inode)
    if now.generation is None:
        file = store.journal.start_anew(now)
    else:
        file = store.journal.start_writing(store.content.open(now.generation))
    file.write(offset, data)
    store.journal.seal(file)
    file.close()


def after_the_cut(store: Store) -> Store:
    """The cache as the disk would have it if it had everything, mounted by a machine that was started anew."""
    folder = store.folder.with_name("found")
    copy_cache(store.folder, folder)
    found = Store(folder, lambda: "second")
    found.recovered = found.recover()  # type: ignore[attr-defined]
    return found


def content_of(store: Store, name: str) -> bytes | None:
    node = store.nodes.find_child(ROOT_INODE, name)
    if node is None or node.generation is None:
        return None
    file = store.content.open(node.generation)
    try:
        return file.read(0, 1 << 20)
    finally:
        file.close()


def test_cut_brings_back_the_last_sync_point(store: Store) -> None:
    old, gone = add(store, "old"), add(store, "gone")
    write(store, old, b"kept")
    write(store, gone, b"not on Drive yet")
    store.sync()
    # A new file, and the removal of the one that it replaces.
    write(store, add(store, "new"), b"may be torn")
    store.journal.removed(store.nodes.update(gone.inode, parent=None, name=None))
    store.journal.forget_unnamed(gone.inode)
    found = after_the_cut(store)
    names = [node.name for node in found.nodes.children(ROOT_INODE)]
    assert names == ["gone", "old"]
    assert content_of(found, "gone") == b"not on Drive yet"
    assert content_of(found, "old") == b"kept"
    (kept,) = found.quarantine.all()
    assert (kept.path, kept.file.read_bytes()) == ("new", b"may be torn")
    assert list(found.folder.glob("ahead*")) == []
    found.close()


def test_cut_takes_what_was_appended_and_nothing_else(store: Store) -> None:
    node = add(store, "log")
    write(store, node, b"0123456789")
    store.sync()
    write(store, node, b"more", 10)
    found = after_the_cut(store)
    assert content_of(found, "log") == b"0123456789"
    job = found.journal.find(node.inode)
    assert job is not None
    assert job.state is JobState.WAITING
    found.close()


def test_open_file_after_a_cut_is_as_of_the_last_sync_point(store: Store) -> None:
    node = add(store, "log")
    file = store.journal.start_anew(node)
    file.write(0, b"01234")
    store.sync()
    file.write(5, b"56789")
    found = after_the_cut(store)
    assert content_of(found, "log") == b"01234"
    assert found.nodes.get(node.inode).size_bytes == 5
    file.close()
    found.close()


def test_change_in_place_is_held_back_until_the_file_is_changed_again(store: Store) -> None:
    node = add(store, "data")
    write(store, node, b"0123456789")
    store.sync()
    write(store, node, b"X", 3)
    found = after_the_cut(store)
    for _ in range(2):  # the next mount does not send it either
        job = found.journal.find(node.inode)
        assert job is not None
        assert job.state is JobState.HELD
        assert "touch" in job.reason
        assert found.journal.left().parked == 1
        found.recover()
    found.journal.changed_metadata(found.nodes.get(node.inode))
    assert found.journal.left().parked == 0
    found.close()


def test_change_in_place_is_noted_once_a_sync_point(store: Store) -> None:
    node = add(store, "data")
    write(store, node, b"0" * 100)
    store.sync()
    file = store.journal.start_writing(store.content.open(store.nodes.get(node.inode).generation))  # type: ignore[arg-type]
    with mock.patch("drivefs.store.sync_points.os.fdatasync") as flush:
        file.write(100, b"appended")
        assert flush.call_count == 0
        for offset in range(50):
            file.write(offset, b"1")
        assert flush.call_count == 1
    store.sync()
    with mock.patch("drivefs.store.sync_points.os.fdatasync") as flush:
        file.truncate(10)
        assert flush.call_count == 1
    file.close()


def test_kernel_writing_a_new_file_costs_no_flush_and_is_noted(store: Store) -> None:
    store.sync()
    file = store.journal.start_anew(add(store, "new"))
    with mock.patch("drivefs.store.sync_points.os.fdatasync") as flush:
        store.content.add_direct_writer(file)
        assert flush.call_count == 0
    assert file.generation in store.db.points.changed
    folder = store.folder.with_name("found")
    copy_cache(store.folder, folder)
    found = Store(folder, lambda: "first")  # after a kill: what the kernel wrote unseen is looked at
    assert file.generation in found.db.points.changed
    found.close()
    store.content.add_direct_writer(file, -1)
    os.write(file.fd, b"unseen")
    store.sync()
    with mock.patch("drivefs.store.sync_points.os.fdatasync") as flush:
        store.content.add_direct_writer(file)
        assert flush.call_count == 1, "the last point has it"
    store.content.add_direct_writer(file, -1)
    file.close()


def test_content_that_was_only_fetched_is_fetched_again(tmp_path: Path) -> None:
    house = House(tmp_path / "cache")
    house.drive.put("a", b"from Drive")
    house.mirror.poll()
    node = house.node("a")
    file = house.store.remote_content(node)
    file.fill(0, b"from Drive")
    file.close()
    house.store.sync()
    found = after_the_cut(house.store)
    assert found.nodes.get(node.inode).generation is None
    assert list((found.folder / "content").iterdir()) == []
    found.close()
    house.store.close()


def test_restart_of_the_process_alone_keeps_everything(store: Store) -> None:
    store.sync()
    write(store, add(store, "new"), b"whole")
    folder = store.folder.with_name("found")
    copy_cache(store.folder, folder)
    found = Store(folder, lambda: "first")
    assert found.recover().orphans == 0
    assert content_of(found, "new") == b"whole"
    found.close()


def test_sync_point_is_made_only_when_something_has_happened(store: Store) -> None:
    store.sync()
    with mock.patch.object(ContentPoints, "flush") as flush:
        store.sync()
        store.checkpoint()
    assert flush.call_count == 0


def test_those_who_sync_at_once_share_a_sync_point(store: Store) -> None:
    before = store.db.points.current
    store.db.set_setting("a", "1")
    store.sync()
    assert store.db.points.current == before + 1


def test_sync_points_are_read_after_a_torn_line(store: Store) -> None:
    node = add(store, "a")
    write(store, node, b"kept")
    store.sync()
    write(store, add(store, "b"), b"lost")
    folder = store.folder.with_name("found")
    copy_cache(store.folder, folder)
    data = (folder / "sync-points").read_bytes().rstrip(b"\0")
    (folder / "sync-points").write_bytes(data + b'deadbeef ["point",99,"x"')
    found = Store(folder, lambda: "second")
    found.recover()
    assert [each.name for each in found.nodes.children(ROOT_INODE)] == ["a"]
    found.close()


def test_sync_points_stay_small(store: Store) -> None:
    with mock.patch("drivefs.store.sync_points.REWRITE_BYTES", 500):
        store.db.points._rewrite_bytes = 500
        for number in range(100):
            store.db.set_setting("n", str(number))
            store.sync()
    write(store, add(store, "after"), b"lost")
    data = (store.folder / "sync-points").read_bytes().rstrip(b"\0")
    assert len(data) < 2_000
    found = after_the_cut(store)
    assert found.db.setting("n") == "99"
    assert found.nodes.find_child(ROOT_INODE, "after") is None
    found.close()


def test_recovery_asks_little_for_each_of_many_files(store: Store) -> None:
    """What is done for a file that waits does not grow with their number."""
    work: list[int] = []
    for number in range(300):
        write(store, add(store, f"f{number}"), b"x")
        if number not in (99, 299):
            continue
        asked = 0

        def count(_: str) -> None:
            nonlocal asked
            asked += 1

        folder = store.folder.with_name(f"found-{number}")
        copy_cache(store.folder, folder)
        found = Store(folder, lambda: "first")
        steps = 0

        def step() -> int:
            nonlocal steps
            steps += 1
            return 0

        found.db._connection.set_trace_callback(count)
        found.db._connection.set_progress_handler(step, 100)
        with mock.patch.object(ContentStore, "find_status") as look:
            found.recover()
        assert look.call_count == 0, "a look at each file"
        found.db._connection.set_progress_handler(None, 0)
        found.db._connection.set_trace_callback(None)
        found.close()
        assert asked < 50, "a statement for each file"
        work.append(steps)
    assert work[1] < 5 * work[0] + 50, "it grows faster than the number of files"


def test_why_and_status_name_what_is_held_and_what_is_kept_aside(tmp_path: Path) -> None:
    house = House(tmp_path / "cache")
    house.write("data", b"0123456789")
    inode: Inode = house.node("data").inode
    house.store.journal.hold(inode, "It was being changed in place.")
    assert facts_of(house, "data")["cause"] == "held"
    assert told(house, "data").endswith("it is held back. It was being changed in place.")
    (house.folder / "content" / "777").write_bytes(b"torn")
    house.store.quarantine.take(house.folder / "content" / "777", "data", "It may be torn.")
    assert "It may be torn." in told(house, "data")
    house.store.close()
