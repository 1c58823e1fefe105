"""What came from Drive is compared with its checksums when it comes from the disk, and only that."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivefs.model import ROOT_INODE, DriveId, RevisionId
from drivefs.store.blocks import BLOCK_BYTES, Blocks, Digester, digest_of, split
from drivefs.store.content_file import ContentFile
from drivefs.store.generations import Base, State
from drivefs.store.ranges import Ranges
from drivefs.store.store import Store

BASE = Base(DriveId("id"), RevisionId("revision"))
A_TIME_NS = 1_577_840_523_123_456_789
MiB = 1 << 20
DATA = bytes(range(251)) * (3 * MiB // 251 + 1)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "cache")
    yield store
    store.close()


def fetched(store: Store, data: bytes = DATA) -> ContentFile:
    file = store.content.create_clean(ROOT_INODE, len(data), BASE)
    file.fill(0, data)
    return file


def reopened(store: Store, file: ContentFile) -> ContentFile:
    generation = file.generation
    file.close()
    return store.content.open(generation)


def damage(store: Store, file: ContentFile, place: int) -> None:
    path = store.folder / "content" / str(file.generation)
    with path.open("r+b") as raw:
        raw.seek(place)
        (byte,) = raw.read(1)
        raw.seek(place)
        raw.write(bytes([byte ^ 1]))


def blocks(*numbers: int) -> list[tuple[int, int]]:
    return [(each * BLOCK_BYTES, (each + 1) * BLOCK_BYTES) for each in numbers]


# --- the checksums themselves ---


@given(st.lists(st.integers(1, 3 * MiB // 2), min_size=1, max_size=6))
def test_digester_gives_the_same_in_pieces_of_any_size(sizes: list[int]) -> None:
    digester, at = Digester(), 0
    for size in sizes:
        digester.add(at, DATA[at : at + size])
        digester.add(at, DATA[at : at + size // 2])  # what is sent once more counts once
        at = min(at + size, len(DATA))
    whole = Blocks(None, digester.digests())
    for block, _, piece in split(0, DATA[:at]):
        assert whole.find(block) == digest_of([bytes(piece)])


@given(
    st.permutations(range(12)),
    st.lists(st.booleans(), min_size=12, max_size=12),
)
def test_content_has_right_checksums_in_whatever_order_it_comes(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], left_out: list[bool]
) -> None:
    store = Store(tmp_path_factory.mktemp("any") / "cache")
    file = store.content.create_clean(ROOT_INODE, len(DATA), BASE)
    piece = len(DATA) // 12 + 1
    for number in order:
        if not left_out[number]:
            file.fill(number * piece, DATA[number * piece : (number + 1) * piece])
    file = reopened(store, file)
    file.forget_compared()
    assert file.damaged(0, len(DATA)) == []
    assert store.content.damaged_blocks == 0
    assert all(file.read(start, stop - start) == DATA[start:stop] for start, stop in file.here(0, len(DATA)))
    file.close()
    store.close()


# --- comparing ---


def test_content_knows_its_damaged_blocks_when_it_is_opened_again(store: Store) -> None:
    file = fetched(store)
    damage(store, file, 2 * MiB + 5)
    file = reopened(store, file)
    assert not file.is_sound
    assert file.damaged(0, 2 * MiB) == []
    assert file.damaged(2 * MiB + 9, 2 * MiB + 10) == blocks(2)
    assert not file.compare(len(DATA))
    assert store.content.damaged_blocks == 1
    file.close()


def test_content_that_was_compared_is_so_until_somebody_else_writes_into_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = reopened(store, fetched(store))
    assert file.compare(0) and file.is_sound  # it came a moment ago
    read: list[int] = []
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, length, at: (read.append(at), real(fd, length, at))[1])
    file = reopened(store, file)
    assert file.damaged(0, len(DATA)) == [] and read == []
    damage(store, file, 1)
    assert file.damaged(0, len(DATA)) == blocks(0)
    file.close()


def test_content_of_another_process_is_compared_once(tmp_path: Path) -> None:
    store = Store(tmp_path / "cache")
    generation = fetched(store).generation
    store.close()
    again = Store(tmp_path / "cache")
    file = again.content.open(generation)
    assert not file.compare(2 * MiB)  # four blocks
    assert file.compare(4 * MiB)
    assert file.is_sound
    file.close()
    assert again.content.open(generation).compare(0)
    again.close()


def test_content_mends_a_block_with_the_same_bytes_only(store: Store) -> None:
    file = fetched(store)
    damage(store, file, MiB)
    assert file.damaged(0, len(DATA)) == blocks(1)
    assert not file.mend(MiB, b"x" * MiB)
    assert file.mend(MiB, DATA[MiB : 2 * MiB])
    assert file.damaged(0, len(DATA)) == [] and file.is_sound
    assert file.read(0, len(DATA)) == DATA
    assert (store.content.damaged_blocks, store.content.mended_blocks) == (1, 1)
    file.close()


@pytest.mark.parametrize("size", [0, 1, 2 * MiB, len(DATA) + 5])
def test_content_that_was_cut_or_grew_gets_its_size_back(store: Store, size: int) -> None:
    file = fetched(store)
    os.truncate(store.folder / "content" / str(file.generation), size)
    for start, stop in file.damaged(0, len(DATA)):
        assert file.mend(start, DATA[start:stop])
    assert file.read(0, len(DATA) + 10) == DATA
    file.close()


def test_content_loses_the_damaged_blocks_of_an_incomplete_one(store: Store) -> None:
    file = store.content.create_clean(ROOT_INODE, len(DATA), BASE)
    file.fill(MiB, DATA[MiB : 2 * MiB + 100])
    damage(store, file, MiB + 3)
    file = reopened(store, file)
    punched = file.punched
    assert file.damaged(0, len(DATA)) == []
    assert file.here(0, len(DATA)) == [(2 * MiB, 2 * MiB + 100)]
    assert file.punched > punched
    file.close()


def test_content_is_compared_before_more_of_its_block_comes(store: Store) -> None:
    file = store.content.create_clean(ROOT_INODE, len(DATA), BASE)
    file.fill(0, DATA[:100])
    damage(store, file, 50)
    file = reopened(store, file)
    file.fill(100, DATA[100:200])
    assert file.here(0, MiB) == [(100, 200)]
    file.close()


# --- what is written here ---


def test_content_written_here_is_never_taken_for_damaged(store: Store) -> None:
    file = store.content.reopen(fetched(store), A_TIME_NS)
    file.write(MiB + 5, b"mine")
    file.truncate(2 * MiB + 7)
    file.append(b"more")
    assert file.damaged(0, len(DATA)) == []
    store.content.seal(file)
    assert file.damaged(0, len(DATA)) == []
    damage(store, file, MiB + 5)
    damage(store, file, 2 * MiB + 9)
    assert file.damaged(0, len(DATA)) == []
    damage(store, file, 5)
    file = reopened(store, file)
    assert file.damaged(0, len(DATA)) == blocks(0)
    assert file.mend(0, DATA[:MiB])
    file.close()


def test_content_has_no_checksums_on_the_disk_while_it_may_be_written(tmp_path: Path) -> None:
    store = Store(tmp_path / "cache")
    file = store.content.reopen(fetched(store), A_TIME_NS)
    file.write(5, b"mine")
    generation = file.generation
    store.close()  # without a close of the file: as after a kill
    again = Store(tmp_path / "cache")
    file = again.content.open(generation)
    assert file.damaged(0, len(DATA)) == []
    file.close()
    again.close()


def test_content_the_kernel_writes_has_none_but_where_it_wrote_nothing(store: Store) -> None:
    file = store.content.reopen(fetched(store), A_TIME_NS, in_place=True)
    assert file.compare(0)
    store.content.add_direct_writer(file)
    store.content.leave_unchanged(file)
    store.content.add_direct_writer(file, -1)
    assert not file.lacks_checksums
    damage(store, file, 5)
    assert file.damaged(0, MiB) == blocks(0)
    assert file.mend(0, DATA[:MiB])
    file = store.content.reopen(file, A_TIME_NS, in_place=True)
    store.content.add_direct_writer(file)
    os.pwrite(file.fd, b"!", 5)
    store.content.seal(file)
    store.content.add_direct_writer(file, -1)
    assert file.damaged(0, len(DATA)) == []
    file.close()


def test_content_that_was_sent_has_the_checksums_of_what_was_sent(store: Store) -> None:
    file = store.content.create(ROOT_INODE)
    file.write(0, DATA)
    store.content.seal(file)
    claim = store.content.claim(file.generation)
    for offset in range(0, len(DATA), 300_000):
        claim.read_at(offset, 300_000)
    store.content.published(claim, BASE)
    claim.close()
    assert file.is_sound
    damage(store, file, 7)
    file = reopened(store, file)
    assert file.damaged(0, len(DATA)) == blocks(0)
    assert file.source == BASE
    file.close()


def test_content_that_was_sent_ahead_gets_its_checksums_afterwards(store: Store) -> None:
    file = store.content.create(ROOT_INODE)
    file.write(0, DATA)
    store.content.seal(file)
    claim = store.content.claim(file.generation)
    claim.read_at(2 * MiB, MiB)
    store.content.published(claim, BASE)
    assert file.damaged(0, len(DATA)) == [] and not file.is_sound
    claim.complete_checksums()
    assert file.is_sound
    damage(store, file, 7)
    assert file.damaged(0, len(DATA)) == blocks(0)
    claim.close()
    file.close()


def test_copy_of_a_content_has_the_checksums_of_what_is_drives_in_it(store: Store) -> None:
    file = store.content.reopen(fetched(store), A_TIME_NS)
    file.write(0, b"mine")
    copy = store.content.snapshot(file)
    assert copy.state is State.SEALED
    damage(store, copy, MiB)
    damage(store, copy, 0)
    assert copy.damaged(0, len(DATA)) == blocks(1)
    copy.close()
    file.close()


def test_ranges_within_is_what_is_here(store: Store) -> None:
    ranges = Ranges([(0, 10), (20, 30), (40, 50)])
    assert ranges.within(5, 45) == [(5, 10), (20, 30), (40, 45)]
    assert ranges.within(10, 20) == ranges.within(30, 30) == []
