"""The journal: what waits for Drive, in which order, and in whose place."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivefs.model import ROOT_INODE, DriveId, Inode, Kind, RemoteFile, RevisionId, SessionUri
from drivefs.store import confirmed, identity, points, queue
from drivefs.store.generations import State
from drivefs.store.identity import FRESH_NS
from drivefs.store.node import Node
from drivefs.store.queue import Barrier, Job, JobState
from drivefs.store.store import Store


class Clock:
    """Stands still between the calls of a test."""

    def __init__(self) -> None:
        self.now_ns = 1_800_000_000_000_000_000

    def time_ns(self) -> int:
        return self.now_ns


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (confirmed, identity, points, queue):
        monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[Store]:
    store = Store(tmp_path / "cache")
    yield store
    store.close()


def add(store: Store, name: str, kind: Kind = Kind.FILE, **values: object) -> Node:
    shown = {"parent": ROOT_INODE, "name": name, "kind": kind, "mode": 0o644, "size_bytes": 0, "ours": True}
    return store.nodes.add(**(shown | {"mtime_ns": 1, "ctime_ns": 1} | values))


def write(store: Store, node: Node, data: bytes) -> Node:
    file = store.journal.start_anew(store.nodes.get(node.inode))
    file.write(0, data)
    store.journal.seal(file)
    file.close()
    return store.nodes.get(node.inode)


def job_of(store: Store, inode: Inode) -> Job:
    job = store.journal.find(inode)
    assert job is not None
    return job


_revisions = itertools.count()


def remote(node: Node, drive_id: str, name: str | None = None) -> RemoteFile:
    return RemoteFile(
        id=DriveId(drive_id),
        name=name or node.name or "",
        mime_type="",
        parent=DriveId("root"),
        trashed=False,
        version=1,
        modified_ns=1,
        created_ns=1,
        size_bytes=node.size_bytes,
        md5="md5",
        revision=RevisionId(f"revision {next(_revisions)}"),
    )


def publish(store: Store, node: Node, drive_id: str) -> Node:
    """The uploader's whole way with a file."""
    job = job_of(store, node.inode)
    assert job.generation is not None
    node = store.journal.reserve_id(node.inode, DriveId(drive_id))
    claim = store.content.claim(job.generation)
    store.journal.published(node, remote(node, drive_id), "{}", claim, sent=True)
    claim.close()
    return store.nodes.get(node.inode)


def removed(store: Store, node: Node) -> Node:
    node = store.nodes.update(node.inode, parent=None, name=None)
    store.journal.removed(node)
    return node


def renamed_over(store: Store, source: Node, target: Node) -> None:
    name = target.name
    with store.db.transaction():
        target = store.nodes.update(target.inode, parent=None, name=None)
        source = store.nodes.update(source.inode, name=name)
        store.journal.replaced(source, target)


def test_journal_new_file_waits_for_nobody_and_an_overwrite_for_its_folder(store: Store) -> None:
    node = write(store, add(store, "a"), b"one")
    assert job_of(store, node.inode).barrier is Barrier.NONE
    node = publish(store, node, "id")
    assert store.journal.find(node.inode) is None
    write(store, node, b"two")
    assert job_of(store, node.inode).barrier is Barrier.FOLDER


def test_journal_published_content_is_clean_and_knows_its_revision(store: Store) -> None:
    node = publish(store, write(store, add(store, "a"), b"one"), "id")
    assert node.generation is not None
    assert store.content.state(node.generation) is State.CLEAN
    assert (node.drive_id, node.md5, node.remote_name) == ("id", "md5", "a")
    assert node.confirmed_ns is not None


def test_journal_order_is_that_of_the_last_close(store: Store) -> None:
    first, second = add(store, "a"), add(store, "b")
    write(store, first, b"1")
    write(store, second, b"1")
    write(store, first, b"2")
    store.journal.changed_metadata(store.nodes.get(second.inode))
    assert [job.inode for job in store.journal.in_order(10)] == [second.inode, first.inode]


def test_journal_order_goes_on_after_a_restart(tmp_path: Path) -> None:
    store = Store(tmp_path / "other")
    first, second = add(store, "a"), add(store, "b")
    write(store, first, b"1")
    store.close()
    store = Store(tmp_path / "other")
    write(store, second, b"1")
    assert [job.inode for job in store.journal.in_order(10)] == [first.inode, second.inode]
    store.close()


def test_journal_rewritten_content_is_sent_once(store: Store) -> None:
    node = write(store, write(store, add(store, "a"), b"one"), b"two")
    job = job_of(store, node.inode)
    assert job.generation == node.generation
    assert [row[0] for row in store.db.rows("SELECT generation FROM generations")] == [job.generation]


def test_journal_content_being_written_again_is_not_sent(store: Store) -> None:
    node = write(store, add(store, "a"), b"one")
    assert node.generation is not None
    file = store.journal.start_writing(store.content.open(node.generation))
    assert job_of(store, node.inode).generation is None
    file.write(0, b"two")
    store.journal.seal(file)
    assert job_of(store, node.inode).generation == file.generation
    file.close()


def test_journal_upload_that_has_begun_goes_on_when_the_file_is_written_anew(store: Store) -> None:
    node = write(store, add(store, "a"), b"old")
    old = job_of(store, node.inode).generation
    assert old is not None
    claim = store.content.claim(old)
    before = store.journal.reserve_id(node.inode, DriveId("id"))
    node = write(store, node, b"new")
    assert claim.read_at(0, 10) == b"old"
    store.journal.published(before, remote(before, "id"), "{}", claim, sent=True)
    claim.close()
    job = job_of(store, node.inode)
    assert job.generation == store.nodes.get(node.inode).generation
    assert store.db.row("SELECT 1 FROM generations WHERE generation = ?", (old,)) is None


def test_journal_change_during_a_publish_stays_in_the_journal(store: Store) -> None:
    node = write(store, add(store, "a"), b"one")
    taken = store.journal.reserve_id(node.inode, DriveId("id"))
    job = job_of(store, node.inode)
    assert job.generation is not None
    claim = store.content.claim(job.generation)
    store.journal.changed_metadata(store.nodes.update(node.inode, mode=0o600))
    store.journal.published(taken, remote(taken, "id"), "{}", claim, sent=True)
    claim.close()
    assert job_of(store, node.inode).generation is None


def test_journal_waits_for_quiet_but_not_for_ever(store: Store, clock: Clock) -> None:
    node = write(store, add(store, "a"), b"x")
    began_ns = clock.now_ns
    assert job_of(store, node.inode).ready_ns == began_ns + queue.QUIET_NS
    for _ in range(100):
        clock.now_ns += queue.QUIET_NS // 2
        node = write(store, node, b"x")
    assert job_of(store, node.inode).ready_ns == began_ns + queue.QUIET_LIMIT_NS


def test_journal_hastens_what_waits_for_quiet_only(store: Store) -> None:
    quiet, failed = write(store, add(store, "a"), b"x"), write(store, add(store, "b"), b"x")
    store.journal.postpone(failed.inode, "no network", 1 << 62)
    store.journal.hasten()
    assert job_of(store, quiet.inode).ready_ns == 0
    assert job_of(store, failed.inode).ready_ns == 1 << 62
    assert (job_of(store, failed.inode).attempts, job_of(store, failed.inode).reason) == (1, "no network")


def test_journal_parked_job_stays_shown_until_something_changes(store: Store) -> None:
    node = write(store, add(store, "a"), b"x")
    store.journal.park(node.inode, "no rights")
    assert job_of(store, node.inode).state is JobState.PARKED
    assert [job.inode for job in store.journal.parked(10)] == [node.inode]
    assert store.journal.left().parked == 1
    write(store, node, b"y")
    assert job_of(store, node.inode).state is JobState.WAITING
    store.journal.park(node.inode, "no rights")
    store.journal.unpark_all()
    assert job_of(store, node.inode).state is JobState.WAITING


def test_journal_session_belongs_to_one_content(store: Store) -> None:
    node = write(store, add(store, "a", drive_id=DriveId("id")), b"x")
    store.journal.set_session(job_of(store, node.inode), DriveId("id"), SessionUri("uri"))
    assert job_of(store, node.inode).session == "uri"
    store.journal.changed_metadata(store.nodes.get(node.inode))
    assert job_of(store, node.inode).session == "uri"
    write(store, node, b"y")
    assert job_of(store, node.inode).session is None


def test_journal_session_ends_when_its_content_is_changed_in_place(store: Store) -> None:
    node = write(store, add(store, "a", drive_id=DriveId("id")), b"x")
    before = job_of(store, node.inode)
    store.journal.set_session(before, DriveId("id"), SessionUri("uri"))
    assert node.generation is not None
    file = store.journal.start_writing(store.content.open(node.generation))
    file.append(b"y")
    store.journal.seal(file)
    file.close()
    assert job_of(store, node.inode).generation == before.generation
    assert job_of(store, node.inode).session is None
    store.journal.set_session(before, DriveId("id"), SessionUri("uri"))  # by an upload that has not noticed yet
    assert job_of(store, node.inode).session is None


def test_journal_session_for_an_id_that_the_node_has_no_longer_is_not_kept(store: Store) -> None:
    node = write(store, add(store, "a", drive_id=DriveId("new")), b"x")
    store.journal.set_session(job_of(store, node.inode), DriveId("old"), SessionUri("uri"))
    assert job_of(store, node.inode).session is None


# --- one file taking the place of another ---


def test_journal_temporary_file_takes_over_the_file_on_drive(store: Store) -> None:
    target = publish(store, write(store, add(store, "a"), b"old"), "id")
    source = write(store, add(store, "tmp"), b"new")
    renamed_over(store, source, target)
    now = store.nodes.get(source.inode)
    assert (now.drive_id, now.revision, now.remote_name) == ("id", target.revision, "a")
    assert store.journal.find(target.inode) is None
    (job,) = store.journal.in_order(10)
    assert (job.inode, job.generation, job.barrier) == (source.inode, now.generation, Barrier.FOLDER)


def test_journal_published_temporary_file_is_sent_again_and_its_own_trace_deleted(store: Store) -> None:
    target = publish(store, write(store, add(store, "a"), b"old"), "id")
    source = publish(store, write(store, add(store, "tmp"), b"new"), "temporary id")
    renamed_over(store, source, target)
    now = store.nodes.get(source.inode)
    assert now.drive_id == "id"
    assert now.generation is not None
    assert store.content.state(now.generation) is State.SEALED
    sent, gone = store.journal.in_order(10)
    assert {sent.inode, gone.inode} >= {source.inode}
    left = store.nodes.get(gone.inode if sent.inode == source.inode else sent.inode)
    assert left.unnamed
    assert (left.drive_id, left.ours, left.confirmed_ns) == ("temporary id", True, None)


def test_journal_old_file_keeps_its_own_life_when_it_is_renamed_over_another(store: Store, clock: Clock) -> None:
    target = publish(store, write(store, add(store, "a"), b"old"), "id")
    source = publish(store, write(store, add(store, "b"), b"new"), "own id")
    clock.now_ns += FRESH_NS + 1
    renamed_over(store, source, target)
    first, second = store.journal.in_order(10)
    assert (first.inode, first.barrier) == (source.inode, Barrier.FOLDER)
    assert (second.inode, second.barrier) == (target.inode, Barrier.MOUNT)
    assert store.nodes.get(source.inode).drive_id == "own id"


def test_journal_rename_over_what_drive_never_had_replaces_nothing(store: Store) -> None:
    target = write(store, add(store, "a"), b"old")
    source = write(store, add(store, "tmp"), b"new")
    renamed_over(store, source, target)
    store.journal.forget_unnamed(target.inode)
    (job,) = store.journal.in_order(10)
    assert (job.inode, job.barrier) == (source.inode, Barrier.NONE)
    assert store.nodes.find(target.inode) is None


def test_journal_upload_into_a_file_taken_over_meanwhile_tells_its_new_owner(store: Store) -> None:
    target = publish(store, write(store, add(store, "a"), b"1"), "id")
    target = write(store, target, b"2")
    job = job_of(store, target.inode)
    assert job.generation is not None
    claim = store.content.claim(job.generation)
    source = write(store, add(store, "tmp"), b"3")
    renamed_over(store, source, store.nodes.get(target.inode))
    answer = remote(target, "id")
    store.journal.published(target, answer, "{}", claim, sent=True)
    claim.close()
    now = store.nodes.get(source.inode)
    assert now.revision == answer.revision
    assert job_of(store, source.inode).generation == now.generation


# --- removal ---


def test_journal_removal_of_what_drive_never_had_leaves_nothing(store: Store) -> None:
    node = removed(store, write(store, add(store, "a"), b"x"))
    store.journal.forget_unnamed(node.inode)
    assert store.journal.left().jobs == 0
    assert store.nodes.find(node.inode) is None
    assert store.db.rows("SELECT * FROM generations") == []


def test_journal_removal_waits_for_everything_before_it(store: Store) -> None:
    node = publish(store, write(store, add(store, "a"), b"x"), "id")
    other = write(store, add(store, "b"), b"x")
    node = removed(store, node)
    store.journal.forget_unnamed(node.inode)
    first, last = store.journal.in_order(10)
    assert (first.inode, last.inode, last.barrier) == (other.inode, node.inode, Barrier.MOUNT)
    store.journal.removal_published(node.inode)
    assert store.nodes.find(node.inode) is None
    assert store.journal.find(node.inode) is None


def test_journal_removed_open_file_lives_until_it_is_forgotten(store: Store) -> None:
    node = publish(store, write(store, add(store, "a"), b"x"), "id")
    node = removed(store, node)
    store.journal.removal_published(node.inode)
    assert store.nodes.find(node.inode) is not None
    store.journal.forget_unnamed(node.inode)
    assert store.nodes.find(node.inode) is None


def test_journal_folder_lost_on_drive_is_made_again(store: Store) -> None:
    folder = add(store, "d", Kind.FOLDER, drive_id=DriveId("gone"), confirmed_ns=1)
    store.journal.lost_on_drive(folder)
    assert store.nodes.get(folder.inode).drive_id is None
    assert job_of(store, folder.inode).barrier is Barrier.NONE


def test_journal_file_lost_on_drive_is_not_sent_into_the_session_of_the_old_one(store: Store) -> None:
    node = add(store, "a", drive_id=DriveId("gone"), confirmed_ns=1)
    write(store, node, b"xx")
    store.journal.set_session(job_of(store, node.inode), DriveId("gone"), SessionUri("session"))
    store.journal.lost_on_drive(store.nodes.get(node.inode))
    assert job_of(store, node.inode).session is None
    assert job_of(store, node.inode).generation is not None


def test_journal_counts_what_is_left_up_to_a_place(store: Store) -> None:
    write(store, add(store, "a"), b"xx")
    place = store.journal.last_seq
    write(store, add(store, "b"), b"yyy")
    assert (store.journal.left(place).jobs, store.journal.left(place).size_bytes) == (1, 2)
    assert (store.journal.left().jobs, store.journal.left().size_bytes) == (2, 5)
    assert [job.seq for job in store.journal.waiting_up_to(place)] == [place]


def test_journal_spare_ids_are_used_once(store: Store) -> None:
    store.journal.add_spare_ids([DriveId("one"), DriveId("two")])
    assert len(store.journal.spare_ids(10)) == 2
    store.journal.reserve_id(add(store, "a").inode, DriveId("one"))
    assert store.journal.spare_ids(10) == ["two"]
