"""Bytes of Drive come once, whole, and of one revision."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from drivefs.errors import BadReply, DriveError, Interrupted, RemoteNotFound, Unreachable
from drivefs.model import Inode
from drivefs.store.content_file import ContentFile
from drivefs.store.generations import Base
from drivefs.sync import downloader
from drivefs.sync.downloader import CHECKS, Downloader
from drivefs.sync.readahead import ALL_OVER_READS
from drivefs.sync.transfers import BLOCK_BYTES, UNIT_BYTES
from tests.fake_drive import FakeDrive, HereAndNow
from tests.house import House

MiB = 1 << 20
READ_BYTES = 128 << 10
BIG = bytes(range(251)) * (5 * BLOCK_BYTES // 251)


def house_with(tmp_path: Path, data: bytes) -> House:
    drive = FakeDrive()
    drive.put("f", data)
    return House(tmp_path / "cache", drive)


def content_of(house: House) -> ContentFile:
    node = house.node("f")
    assert node.drive_id is not None and node.revision is not None
    file = house.store.content.create_clean(node.inode, node.size_bytes, Base(node.drive_id, node.revision))
    house.store.nodes.update(node.inode, generation=file.generation)
    return file


@pytest.mark.parametrize("size", [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, len(BIG)])
def test_downloader_brings_what_drive_has(tmp_path: Path, size: int) -> None:
    house = house_with(tmp_path, BIG[:size])
    file = content_of(house)
    house.downloader.ensure(file, 0, size)
    assert file.read(0, size + 10) == BIG[:size]
    assert file.gaps(0, size) == []


def test_downloader_asks_for_a_small_file_once(tmp_path: Path) -> None:
    house = house_with(tmp_path, b"small")
    file = content_of(house)
    house.drive.calls.clear()
    house.downloader.ensure(file, 2, 3)
    house.downloader.ensure(file, 0, 5)
    assert house.drive.calls.count("download") == 1


def test_downloader_fetches_ahead_of_a_reader_in_order_only(tmp_path: Path) -> None:
    house = house_with(tmp_path, BIG)
    file = content_of(house)
    start = 3 * BLOCK_BYTES
    house.downloader.ensure(file, start + 5, start + 6)
    assert file.gaps(0, len(BIG)) == [(0, start), (start + UNIT_BYTES, len(BIG))]
    for offset in range(start, start + 2 * MiB, READ_BYTES):
        house.downloader.ensure(file, offset, offset + READ_BYTES)
    assert file.gaps(start, start + 3 * MiB) == []
    house.downloader.ensure(file, 0, 1)
    assert file.gaps(0, 2 * BLOCK_BYTES) == []


def test_downloader_brings_the_rest_of_a_file_that_is_read_all_over(tmp_path: Path) -> None:
    house = house_with(tmp_path, BIG)
    house.downloader = Downloader(house.store, house.drive, HereAndNow(), free_bytes=lambda: 4 * len(BIG))
    file = content_of(house)
    for number in range(1, ALL_OVER_READS):
        house.downloader.ensure(file, number * BLOCK_BYTES + 1, number * BLOCK_BYTES + 2)
    assert len(BIG) - sum(stop - start for start, stop in file.gaps(0, len(BIG))) == 3 * UNIT_BYTES
    house.downloader.ensure(file, 2 * MiB, 2 * MiB + 1)
    assert file.base is None
    assert file.read(0, len(BIG)) == BIG


def test_downloader_brings_no_more_than_a_quarter_of_what_is_free(tmp_path: Path) -> None:
    house = house_with(tmp_path, BIG)
    house.downloader = Downloader(house.store, house.drive, HereAndNow(), free_bytes=lambda: 2 * len(BIG))
    file = content_of(house)
    for number in range(1, 10):
        house.downloader.ensure(file, number * 2 * MiB, number * 2 * MiB + 1)
    assert len(BIG) - sum(stop - start for start, stop in file.gaps(0, len(BIG))) == 9 * UNIT_BYTES


def test_downloader_stops_when_its_reader_has_gone(tmp_path: Path) -> None:
    house = house_with(tmp_path, BIG)
    file = content_of(house)
    begun, gone, download = threading.Semaphore(0), threading.Event(), house.drive.download

    def wait(*arguments):  # type: ignore[no-untyped-def]
        for number, piece in enumerate(download(*arguments)):
            yield piece
            if number == 0:
                begun.release()
                gone.wait(10)

    house.drive.download = wait  # type: ignore[method-assign]
    with ThreadPoolExecutor(4) as transfers:
        Downloader(house.store, house.drive, transfers).ensure(file, 0, 1)
        assert begun.acquire(timeout=10)
        generation = file.generation
        file.close()
        gone.set()
    again = house.store.content.open(generation)
    # Of each of three requests the first piece, and the one that showed that nobody is there; not their 12 MiB.
    assert len(BIG) - sum(stop - start for start, stop in again.gaps(0, len(BIG))) < 9 * MiB
    again.close()


def test_downloader_fetches_a_large_file_with_a_wrong_checksum_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = house_with(tmp_path, BIG)
    file = content_of(house)
    key, right = next(iter(house.drive.contents.items()))
    house.drive.contents[key] = BIG[:-1] + b"!"
    empty = ContentFile.empty

    def found_out(wrong: ContentFile) -> None:
        house.drive.contents[key] = right
        empty(wrong)
        assert wrong.gaps(0, len(BIG)) == [(0, len(BIG))]

    monkeypatch.setattr(ContentFile, "empty", found_out)
    for _ in range(2):
        house.downloader.ensure(file, 0, len(BIG))
    assert house.drive.contents[key] == right
    assert file.base is None
    assert file.read(0, len(BIG)) == BIG


def test_downloader_gives_a_large_file_up_whose_checksum_stays_wrong(tmp_path: Path) -> None:
    house = house_with(tmp_path, BIG)
    file = content_of(house)
    for key in house.drive.contents:
        house.drive.contents[key] = BIG[:-1] + b"!"
    with pytest.raises(BadReply):
        for _ in range(CHECKS + 1):
            for offset in range(0, len(BIG), BLOCK_BYTES):
                house.downloader.ensure(file, offset, offset + BLOCK_BYTES)


@pytest.mark.parametrize("size", [5, len(BIG)])
def test_downloader_goes_on_where_a_download_ended_early(tmp_path: Path, size: int) -> None:
    house = house_with(tmp_path, BIG[:size])
    file = content_of(house)
    download = house.drive.download

    def cut(file_id, offset, length, revision=None):  # type: ignore[no-untyped-def]
        yield next(download(file_id, offset, (length + 1) // 2, revision))
        if length > 1:
            raise BadReply("It ended early.")

    house.drive.download = cut  # type: ignore[method-assign]
    house.downloader.ensure(file, 0, size)
    assert file.read(0, size) == BIG[:size]


def test_downloader_tells_the_reader_of_a_file_that_is_deleted_meanwhile(tmp_path: Path) -> None:
    house = house_with(tmp_path, BIG)
    file = content_of(house)
    house.downloader.ensure(file, 3 * BLOCK_BYTES, 3 * BLOCK_BYTES + 1)
    house.drive.delete(house.drive.names()["f"])
    house.mirror.poll()
    with pytest.raises(RemoteNotFound):
        house.downloader.ensure(file, 0, 1)
    assert file.read(3 * BLOCK_BYTES, 1) == BIG[3 * BLOCK_BYTES : 3 * BLOCK_BYTES + 1]


def test_downloader_never_overwrites_what_was_written_here(tmp_path: Path) -> None:
    house = house_with(tmp_path, BIG)
    file = house.store.journal.start_writing(content_of(house))
    file.write(10, b"mine")
    house.downloader.ensure(file, 0, len(BIG))
    assert file.read(0, 20) == BIG[:10] + b"mine" + BIG[14:20]


@pytest.mark.parametrize("size_bytes", [1_000, 2_000])
def test_downloader_completes_a_small_file_that_was_cut_or_grown_here(tmp_path: Path, size_bytes: int) -> None:
    house = house_with(tmp_path, BIG[:1_500])
    file = house.store.journal.start_writing(content_of(house))
    file.truncate(size_bytes)
    house.store.journal.seal(file)
    house.downloader.ensure(file, 0, size_bytes)
    assert file.read(0, size_bytes) == BIG[: min(size_bytes, 1_500)] + bytes(max(0, size_bytes - 1_500))


def test_downloader_reads_the_revision_it_was_opened_with(tmp_path: Path) -> None:
    house = house_with(tmp_path, BIG)
    file = content_of(house)
    house.drive.change(house.drive.names()["f"], b"x" * len(BIG))
    house.downloader.ensure(file, 0, len(BIG))
    assert file.read(0, len(BIG)) == BIG


@pytest.mark.parametrize("theirs", [b"", b"new", b"other"])
def test_downloader_reads_the_revision_of_a_small_file_that_drive_has_replaced_since(
    tmp_path: Path, theirs: bytes
) -> None:
    house = house_with(tmp_path, b"small")
    file = content_of(house)
    house.drive.change(house.drive.names()["f"], theirs)
    house.downloader.ensure(file, 0, 5)
    assert file.read(0, 5) == b"small"


def test_downloader_reads_the_head_where_revisions_are_not_for_it(tmp_path: Path) -> None:
    house = house_with(tmp_path, BIG)
    file = content_of(house)
    download = house.drive.download

    def refuse_revisions(file_id, offset, length, revision=None):  # type: ignore[no-untyped-def]
        if revision is not None:
            raise RemoteNotFound("Not for viewers.", status=404)
        return download(file_id, offset, length)

    house.drive.download = refuse_revisions  # type: ignore[method-assign]
    house.downloader.ensure(file, 0, len(BIG))
    assert file.read(0, len(BIG)) == BIG


def test_downloader_serves_no_mixture_when_the_revision_is_gone(tmp_path: Path) -> None:
    house = house_with(tmp_path, BIG)
    file = content_of(house)
    drive_id = house.drive.names()["f"]
    house.drive.contents.clear()
    house.drive.change(drive_id, b"x" * len(BIG))
    with pytest.raises(BadReply):
        house.downloader.ensure(file, 0, len(BIG))


def test_downloader_serves_nothing_whose_checksum_is_wrong(tmp_path: Path) -> None:
    house = house_with(tmp_path, b"small")
    file = content_of(house)
    for key in house.drive.contents:
        house.drive.contents[key] = b"wrong"
    with pytest.raises(BadReply):
        house.downloader.ensure(file, 0, 5)
    assert file.gaps(0, 5) == [(0, 5)]


def test_downloader_tells_the_reader_and_works_at_the_next_try(tmp_path: Path) -> None:
    house = house_with(tmp_path, b"small")
    file = content_of(house)
    house.drive.fail("download", ("before", Unreachable("cut")))
    with pytest.raises(Unreachable):
        house.downloader.ensure(file, 0, 5)
    house.downloader.ensure(file, 0, 5)
    assert file.read(0, 5) == b"small"


def test_downloader_fetches_once_for_all_who_wait(tmp_path: Path) -> None:
    house = house_with(tmp_path, b"small")
    file = content_of(house)
    gate, download = threading.Event(), house.drive.download

    def wait(*arguments):  # type: ignore[no-untyped-def]
        gate.wait(10)
        return download(*arguments)

    house.drive.download = wait  # type: ignore[method-assign]
    house.drive.calls.clear()
    with ThreadPoolExecutor(8) as transfers, ThreadPoolExecutor(8) as readers:
        downloader = Downloader(house.store, house.drive, transfers)
        reads = [readers.submit(downloader.ensure, file, 0, 5) for _ in range(8)]
        gate.set()
        for read in reads:
            read.result(10)
    assert house.drive.calls.count("download") == 1


def test_downloader_completes_a_partly_local_file_before_it_is_published(tmp_path: Path) -> None:
    house = house_with(tmp_path, BIG)
    file = house.store.journal.start_writing(content_of(house))
    file.write(5, b"mine")
    house.store.journal.seal(file)
    file.close()
    house.drain()
    assert house.drive.content(house.drive.names()["f"]) == BIG[:5] + b"mine" + BIG[9:]
    assert Inode(1) != house.node("f").inode


@pytest.mark.parametrize("size", [1_000, len(BIG)])
@pytest.mark.parametrize("said", [-7, 7])
def test_downloader_serves_nothing_of_a_file_whose_size_is_a_lie(tmp_path: Path, size: int, said: int) -> None:
    drive = FakeDrive()
    drive.put("f", BIG[:size])
    drive.change(drive.names()["f"], size_bytes=size + said)
    house = House(tmp_path / "cache", drive)
    file = content_of(house)
    with pytest.raises(DriveError):
        for _ in range(CHECKS + 1):
            house.downloader.ensure(file, 0, size + said)
    assert not house.store.content.is_whole(file.generation)


def test_downloader_reads_on_when_its_executor_has_one_thread(tmp_path: Path) -> None:
    house = house_with(tmp_path, BIG)
    file = content_of(house)
    with ThreadPoolExecutor(1) as transfers, ThreadPoolExecutor(4) as readers:
        downloader = Downloader(house.store, house.drive, transfers)
        offsets = range(0, len(BIG), MiB)
        for each in [readers.submit(downloader.ensure, file, offset, offset + MiB) for offset in offsets]:
            each.result(20)
        assert file.read(0, len(BIG)) == BIG


def test_downloader_lets_go_who_is_to_end(tmp_path: Path) -> None:
    house = house_with(tmp_path, BIG)
    file = content_of(house)
    with ThreadPoolExecutor(1) as transfers:
        held = threading.Event()
        transfers.submit(held.wait, 30.0)  # so that nothing comes
        try:
            told = iter([False, False, True])
            with pytest.raises(Interrupted):
                Downloader(house.store, house.drive, transfers).ensure(file, 0, 1, interrupted=lambda: next(told))
        finally:
            held.set()


# --- what the disk has damaged ---


def damaged_file(house: House, *places: int) -> ContentFile:
    """`f`, all here, that the disk has damaged since."""
    file = content_of(house)
    house.downloader.ensure(file, 0, file.size_bytes)
    generation = file.generation
    file.close()
    with (house.folder / "content" / str(generation)).open("r+b") as raw:
        for place in places:
            raw.seek(place)
            raw.write(b"\xff")
    return house.store.content.open(generation)


def test_downloader_fetches_damaged_blocks_again_and_nothing_else(tmp_path: Path) -> None:
    house = house_with(tmp_path, BIG)
    file = damaged_file(house, MiB + 5, len(BIG) - 1)
    house.drive.calls.clear()
    house.downloader.mend(file, 0, MiB)
    assert house.drive.calls == []
    house.downloader.mend(file, 0, len(BIG))
    assert house.drive.calls.count("download") == 2
    assert file.read(0, len(BIG)) == BIG
    file.close()


def test_downloader_takes_nothing_else_for_a_damaged_block(tmp_path: Path) -> None:
    house = house_with(tmp_path, BIG)
    file = damaged_file(house, MiB + 5)
    for key in house.drive.contents:
        house.drive.contents[key] = b"x" * len(BIG)
    with pytest.raises(BadReply, match="something else"):
        house.downloader.mend(file, 0, len(BIG))
    file.close()


def test_downloader_tells_who_reads_what_is_damaged_that_drive_does_not_answer(tmp_path: Path) -> None:
    house = house_with(tmp_path, BIG)
    file = damaged_file(house, MiB + 5)
    house.drive.fail("download", ("before", Unreachable("no network")))
    with pytest.raises(Unreachable):
        house.downloader.mend(file, 0, len(BIG))
    house.downloader.mend(file, 0, len(BIG))
    assert file.read(0, len(BIG)) == BIG
    file.close()


def test_uploader_sends_nothing_that_the_disk_has_damaged_beside_a_change(tmp_path: Path) -> None:
    house = house_with(tmp_path, BIG)
    file = damaged_file(house, MiB + 5)
    file = house.store.journal.start_writing(file)
    file.write(0, b"changed")
    house.store.journal.seal(file)
    file.close()
    house.drain()
    (drive_id,) = house.drive.names().values()
    assert house.drive.content(drive_id) == b"changed" + BIG[7:]


def test_downloader_does_not_take_what_the_disk_has_damaged_for_drives_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    house = house_with(tmp_path, BIG)
    file = content_of(house)
    real = downloader.checksums_of

    def cut_before(read: ContentFile) -> tuple[str, bytes]:
        monkeypatch.setattr(downloader, "checksums_of", real)
        os.truncate(house.folder / "content" / str(read.generation), MiB + 5)
        return real(read)

    monkeypatch.setattr(downloader, "checksums_of", cut_before)
    house.downloader.ensure(file, 0, len(BIG))
    house.downloader.ensure(file, 0, len(BIG))
    assert (file.base, file.read(0, len(BIG))) == (None, BIG)
    assert "wrong checksum" not in caplog.text
    file.close()
