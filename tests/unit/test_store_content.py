"""Content files: what is read is what was written, and what is recorded is never more than what is there."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from drivefs.errors import CacheDamaged, CacheFull, Superseded
from drivefs.model import ROOT_INODE, DriveId, Inode, RevisionId
from drivefs.store import copies, disk
from drivefs.store.content_file import ContentFile
from drivefs.store.generations import Base, State
from drivefs.store.ranges import Ranges
from drivefs.store.store import Store

BASE = Base(DriveId("id"), RevisionId("revision"))
A_TIME_NS = 1_577_840_523_123_456_789


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "cache")
    yield store
    store.close()


def reopened(store: Store, file: ContentFile) -> ContentFile:
    """As the next process finds it."""
    generation = file.generation
    file.close()
    return store.content.open(generation)


def partly_local(store: Store, size_bytes: int) -> ContentFile:
    file = store.content.create_clean(ROOT_INODE, size_bytes, BASE)
    return store.content.reopen(file, A_TIME_NS)


def test_content_is_one_object_for_all_who_open_it(store: Store) -> None:
    file = store.content.create(ROOT_INODE)
    other = store.content.open(file.generation)
    assert other is file
    other.close()
    file.write(0, b"still open")
    file.close()


def test_content_use_ends_with_the_last_close(store: Store) -> None:
    file = store.content.create(ROOT_INODE)
    assert file.use()
    file.close()
    assert file.read(0, 1) == b""
    file.close()
    assert not file.use()


def test_content_that_is_closed_has_nothing_to_send_ahead(store: Store) -> None:
    file = store.content.create(ROOT_INODE)
    file.write(0, b"0123456789")
    file.was_direct = True
    assert file.written_ahead_bytes == 10
    file.close()
    assert file.written_ahead_bytes == 0


def test_content_read_into_fills_the_callers_memory(store: Store) -> None:
    file = store.content.create(ROOT_INODE)
    file.write(0, b"0123456789")
    memory = bytearray(8)
    assert file.read_into(4, memoryview(memory)) == 6
    assert bytes(memory) == b"456789\0\0"
    file.close()


def test_content_clean_file_lacks_everything_until_filled(store: Store) -> None:
    file = store.content.create_clean(ROOT_INODE, 10, BASE)
    assert file.gaps(0, 100) == [(0, 10)]
    file.fill(2, b"23")
    assert file.gaps(0, 100) == [(0, 2), (4, 10)]
    file = reopened(store, file)
    assert file.gaps(0, 100) == [(0, 2), (4, 10)]
    file.fill(0, b"0123456789")
    assert file.gaps(0, 100) == []
    assert file.read(0, 100) == b"0123456789"
    assert store.content.is_whole(file.generation)
    file.close()


def test_content_empty_clean_file_is_whole(store: Store) -> None:
    file = store.content.create_clean(ROOT_INODE, 0, BASE)
    assert store.content.is_whole(file.generation)
    file.close()


def test_content_fill_never_overwrites_what_was_written(store: Store) -> None:
    file = partly_local(store, 10)
    file.write(3, b"XYZ")
    mtime_ns = file.mtime_ns
    file.fill(0, b"0123456789")
    assert file.read(0, 100) == b"012XYZ6789"
    assert file.mtime_ns == mtime_ns
    file.close()


def test_content_fill_goes_on_after_a_short_write(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    file = partly_local(store, 10)
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: real(fd, data[:3], offset))
    file.fill(0, b"0123456789")
    assert file.read(0, 100) == b"0123456789"
    file.close()


def test_content_reopen_sets_the_time_back_to_what_was_shown(store: Store) -> None:
    file = partly_local(store, 10)
    assert file.mtime_ns == A_TIME_NS
    file.close()


def test_content_write_keeps_what_fitted_on_a_full_disk(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    file = partly_local(store, 10)
    real = os.pwrite
    room = [4]

    def pwrite(fd: int, data: memoryview, offset: int) -> int:
        if not room:
            raise OSError(errno.ENOSPC, "full")
        return real(fd, data[: room.pop()], offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    with pytest.raises(CacheFull):
        file.write(8, b"abcdef")
    assert file.read(8, 100) == b"abcd"
    assert file.gaps(0, 100) == [(0, 8)]
    file.close()


class Crash(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("call", ["pwrite", "ftruncate"])
@pytest.mark.parametrize("after", [False, True])
def test_content_crash_at_the_end_of_a_partly_local_file_asks_drive_for_nothing_it_lacks(
    store: Store, monkeypatch: pytest.MonkeyPatch, call: str, after: bool
) -> None:
    """Bytes beyond the end are never taken for bytes of the base, wherever a process dies on the way to them."""
    file = partly_local(store, 100)
    file.truncate(10)
    real = getattr(os, call)

    def dies(*arguments: object) -> None:
        if after:
            real(*arguments)
        raise Crash

    monkeypatch.setattr(os, call, dies)
    with pytest.raises(Crash):
        if call == "pwrite":
            file.write(8, b"abcdef")
        else:
            file.truncate(20)
    monkeypatch.undo()
    # What memory knew is lost; the rows and the file are what the next process finds.
    rows = store.db.rows("SELECT start, stop FROM ranges WHERE generation = ?", (file.generation,))
    recorded = Ranges((row[0], row[1]) for row in rows)
    assert recorded.covers(10, file.size_bytes)
    file.close()


def test_content_claim_reads_what_was_sealed(store: Store) -> None:
    file = store.content.create(ROOT_INODE)
    file.write(0, b"sealed")
    store.content.seal(file)
    claim = store.content.claim(file.generation)
    assert (claim.size_bytes, claim.read_at(2, 100)) == (6, b"aled")
    claim.close()
    file.close()


def test_content_claim_of_an_open_file_is_refused(store: Store) -> None:
    file = store.content.create(ROOT_INODE)
    with pytest.raises(Superseded):
        store.content.claim(file.generation)
    file.close()


def test_content_claimed_small_file_is_copied_when_it_is_written_again(store: Store) -> None:
    file = store.content.create(ROOT_INODE)
    file.write(0, b"sealed")
    store.content.seal(file)
    claim = store.content.claim(file.generation)
    copy = store.content.reopen(file, A_TIME_NS)
    assert copy.generation != claim.generation
    copy.write(0, b"NEWER")
    assert claim.read_at(0, 100) == b"sealed"
    assert copy.read(0, 100) == b"NEWERd"
    claim.close()
    copy.close()


def test_content_claimed_large_file_is_taken_back_when_it_is_written_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_reflink(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "no")

    monkeypatch.setattr(disk.fcntl, "ioctl", no_reflink)
    file = store.content.create(ROOT_INODE)
    file.truncate(copies.COPY_LIMIT_BYTES + 1)
    store.content.seal(file)
    claim = store.content.claim(file.generation)
    assert store.content.reopen(file, A_TIME_NS) is file
    assert claim.superseded
    with pytest.raises(Superseded):
        claim.read_at(0, 1)
    claim.close()
    file.close()


def test_content_snapshot_is_a_sealed_copy_of_one_instant(store: Store) -> None:
    file = store.content.create(ROOT_INODE)
    file.write(0, b"now")
    copy = store.content.snapshot(file)
    file.write(0, b"new")
    assert copy.read(0, 10) == b"now"
    assert copy.state is State.SEALED
    assert file.state is State.OPEN
    copy.close()
    file.close()


def test_content_discarded_file_is_read_by_those_who_have_it_open(store: Store) -> None:
    file = store.content.create(ROOT_INODE)
    file.write(0, b"gone")
    store.content.discard(file.generation)
    store.sync()
    assert list((store.folder / "content").iterdir()) == []
    assert file.read(0, 10) == b"gone"
    file.close()


def test_content_discarded_clean_file_leaves_no_rows(store: Store) -> None:
    file = store.content.create_clean(ROOT_INODE, 10, BASE)
    file.fill(0, b"ab")
    store.content.discard(file.generation)
    file.close()
    assert store.db.rows("SELECT * FROM ranges") == []
    assert store.db.rows("SELECT * FROM generations") == []


def test_content_discard_that_is_undone_keeps_the_file(store: Store) -> None:
    file = store.content.create(ROOT_INODE)
    file.write(0, b"kept")
    with pytest.raises(Crash), store.db.transaction():
        store.content.discard(file.generation)
        raise Crash
    file = reopened(store, file)
    assert file.read(0, 10) == b"kept"
    file.close()


def test_content_lost_file_is_damage_not_emptiness(store: Store) -> None:
    file = store.content.create(ROOT_INODE)
    generation = file.generation
    file.close()
    (store.folder / "content" / str(generation)).unlink()
    with pytest.raises(CacheDamaged):
        store.content.open(generation)


def test_content_eviction_takes_the_least_recently_used_and_only_clean(store: Store) -> None:
    generations = []
    for _ in range(3):
        file = store.content.create_clean(ROOT_INODE, 10, BASE)
        file.fill(0, b"0123456789")
        generations.append(file.generation)
        file.close()
    used = store.content.open(generations[0])
    used.close()
    dirty = store.content.create(ROOT_INODE)
    dirty.write(0, b"dirty")
    assert store.evict(1) == 10
    left = [row[0] for row in store.db.rows("SELECT generation FROM generations ORDER BY generation")]
    assert left == [generations[0], generations[2], dirty.generation]
    assert store.evict(1 << 40) == 20
    assert dirty.read(0, 10) == b"dirty"
    dirty.close()


REMOTE = bytes(range(1, 41))

actions = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, 50), st.integers(0, 12)),
        st.tuples(st.just("truncate"), st.integers(0, 60), st.just(0)),
        st.tuples(st.just("fill"), st.integers(0, 39), st.integers(0, 39)),
        st.tuples(st.just("reopen"), st.just(0), st.just(0)),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example([("fill", 0, 1), ("write", 0, 1), ("reopen", 0, 0)])  # written over what was fetched, and not noted
@given(actions)
def test_content_partly_local_file_behaves_as_a_whole_one(store: Store, steps: list[tuple[str, int, int]]) -> None:
    file = partly_local(store, len(REMOTE))
    model = bytearray(REMOTE)
    for action, first, second in steps:
        match action:
            case "write":
                data = b"w" * second
                file.write(first, data)
                if data:
                    model.extend(bytes(max(0, first + second - len(model))))
                    model[first : first + second] = data
            case "truncate":
                file.truncate(first)
                model = model[:first] + bytes(max(0, first - len(model)))
            case "fill":
                file.fill(first, REMOTE[first:second])
            case "reopen":
                file = reopened(store, file)
    assert file.size_bytes == len(model)
    for start, stop in file.gaps(0, len(model)):
        assert stop <= len(REMOTE), "Drive has nothing there"
        file.fill(start, REMOTE[start:stop])
    assert file.read(0, 1000) == bytes(model)
    file.close()


def test_content_flush_of_everything_outlives_a_close_under_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    file = store.content.create(Inode(5))
    file.write(0, b"x")
    flush = os.fsync

    def close_first(fd: int) -> None:
        monkeypatch.setattr(os, "fsync", flush)
        file.close()  # the last user goes between the look at the file and its flush
        flush(fd)

    monkeypatch.setattr(os, "fsync", close_first)
    store.sync()
    assert not file.use()
