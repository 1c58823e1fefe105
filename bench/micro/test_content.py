"""Arithmetic on what is here of a file, and what it costs to know its bytes again."""

from __future__ import annotations

import hashlib
import itertools
import os
import random

import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from xxhash import xxh3_128

from drivefs.model import ROOT_INODE
from drivefs.store.check import checksums_of
from drivefs.store.ranges import Ranges
from drivefs.store.store import Store

MiB = 1 << 20
BLOCK = 64 << 10
PIECES = 8_192


def scattered() -> list[tuple[int, int]]:
    """Every second block of 1 GiB, in any order."""
    blocks = [(at * 2 * BLOCK, (at * 2 + 1) * BLOCK) for at in range(PIECES)]
    random.Random(1).shuffle(blocks)
    return blocks


def test_ranges_add_8192_scattered_pieces(benchmark: BenchmarkFixture) -> None:
    blocks = scattered()
    assert benchmark(lambda: Ranges(blocks)).total_bytes == PIECES * BLOCK


def test_ranges_covers(benchmark: BenchmarkFixture) -> None:
    ranges, blocks = Ranges(scattered()), itertools.cycle(scattered())
    assert benchmark(lambda: ranges.covers(*next(blocks)))


def test_ranges_gaps_of_1_MiB(benchmark: BenchmarkFixture) -> None:
    ranges, offsets = Ranges(scattered()), itertools.cycle(range(0, 1 << 30, MiB))

    def gaps() -> int:
        offset = next(offsets)
        return len(ranges.gaps(offset, offset + MiB))

    assert benchmark(gaps) == MiB // (2 * BLOCK)


@pytest.mark.parametrize("name", ["md5", "xxh3"])
def test_hashing_of_64_MiB(benchmark: BenchmarkFixture, name: str) -> None:
    """md5 is what Drive confirms; xxh3 tells whether what was sent ahead is still the same."""
    data = os.urandom(64 * MiB)
    if name == "md5":
        found = benchmark(lambda: hashlib.md5(data, usedforsecurity=False).hexdigest())
    else:
        found = benchmark(lambda: xxh3_128(data).hexdigest())
    assert len(found) == 32


def test_hashing_of_a_content_of_64_MiB(benchmark: BenchmarkFixture, store: Store) -> None:
    """As `cache verify` does, and a download that is complete: read from the disk's page cache, too."""
    file = store.content.create(ROOT_INODE)
    data = os.urandom(64 * MiB)
    file.write(0, data)
    assert benchmark(lambda: checksums_of(file))[0] == hashlib.md5(data, usedforsecurity=False).hexdigest()
    file.close()
