"""What the reads of a file say of those to come."""

from __future__ import annotations

import random

from drivefs.sync.readahead import ALL_OVER_READS, FIRST_BYTES, PROOF_BYTES, WINDOW_BYTES, MiB, Pattern

READ = 128 << 10


def stream(pattern: Pattern, start: int, length: int) -> int:
    """The window after reading so much in order."""
    window = 0
    for offset in range(start, start + length, READ):
        window = pattern.note(offset, offset + READ)
    return window


def test_readahead_grows_with_the_stream_up_to_its_limit() -> None:
    pattern = Pattern()
    windows = [stream(pattern, megabyte * MiB, MiB) for megabyte in range(WINDOW_BYTES // MiB)]
    assert windows[0] >= FIRST_BYTES
    assert windows == sorted(windows)
    assert windows[-1] == WINDOW_BYTES


def test_readahead_of_a_reader_elsewhere_waits_for_proof() -> None:
    pattern = Pattern()
    assert stream(pattern, 100 * MiB, PROOF_BYTES - READ) == 0
    assert stream(pattern, 100 * MiB + PROOF_BYTES - READ, 2 * READ) > 0


def test_readahead_bears_reads_that_come_out_of_order() -> None:
    pattern = Pattern()
    offsets = list(range(0, 8 * MiB, READ))
    for at in range(0, len(offsets), 2):
        offsets[at : at + 2] = reversed(offsets[at : at + 2])
    windows = [pattern.note(offset, offset + READ) for offset in offsets]
    assert windows[-1] >= FIRST_BYTES + 15 * MiB
    assert not pattern.is_all_over(512 * MiB)


def test_readahead_tells_several_streams_apart() -> None:
    pattern = Pattern()
    for step in range(16):
        for reader in range(4):
            window = pattern.note(reader * 100 * MiB + step * READ, reader * 100 * MiB + (step + 1) * READ)
            assert (window > 0) == (reader == 0 or (step + 1) * READ >= PROOF_BYTES)


def test_readahead_fetches_nothing_ahead_of_reads_at_random() -> None:
    pattern, places = Pattern(), random.Random(1)
    windows = {pattern.note(offset, offset + READ) for offset in (places.randrange(1, 1 << 40) for _ in range(1_000))}
    assert windows == {0}


def test_readahead_wants_the_rest_of_a_file_read_all_over_and_not_of_a_huge_one() -> None:
    pattern, places = Pattern(), random.Random(1)
    for number in range(500):
        assert pattern.is_all_over(512 * MiB) == (number >= ALL_OVER_READS)
        assert not pattern.is_all_over(50_000 * MiB)
        offset = places.randrange(1, 50_000) * 10 * MiB
        pattern.note(offset, offset + READ)
