"""How cost grows: cases at three sizes at least, and at latencies of 20, 80 and 300 ms."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from bench.cases_reading import at_random_case, in_order_case, shuffled_case, walk_case
from bench.cases_writing import large_case, small_case
from bench.measured import Case, MiB, Network, Series
from bench.report import number

LATENCIES_MS = (20, 80, 300)


def series(quick: bool) -> Iterator[Series]:
    """All of them; `quick` makes each size a tenth."""
    part = 10 if quick else 1
    entries = [each // part for each in (1_000, 10_000, 100_000)]
    files = [each // part for each in (100, 300, 1_000)]
    sizes = [each * MiB // part for each in (64, 256, 1_024)]
    yield Series("find, cold", "entries", {each: _find(each) for each in entries})
    yield Series("ls -lR after a remount", "entries", {
        each: walk_case(["ls", "-lR"], each, remount=True) for each in entries
    })  # fmt: skip
    yield Series("write small files to Drive", "files of 100 KB", {each: small_case(each) for each in files})
    yield Series("read small files, cold", "files of 100 KB", {each: shuffled_case(each, 1) for each in files})
    yield Series("write one file to Drive", "MiB", {each // MiB: large_case(each) for each in sizes})
    yield Series("read one file in order, cold", "MiB", {each // MiB: in_order_case(each) for each in sizes})
    yield Series("500 random reads, cold", "MiB", {each // MiB: at_random_case(each, 500 // part) for each in sizes})
    yield from _by_latency(entries[1], files[1])


def _by_latency(entries: int, files: int) -> Iterator[Series]:
    def at_each(case: Case) -> dict[float, Case]:
        return {each: replace(case, network=Network(latency_s=each / 1000)) for each in LATENCIES_MS}

    yield Series(f"find of {number(entries)}, cold, by latency", "ms a request", at_each(_find(entries)))
    yield Series(f"write {number(files)} small files, by latency", "ms a request", at_each(small_case(files)))
    yield Series(f"read {number(files)} small files, by latency", "ms a request", at_each(shuffled_case(files, 1)))


def _find(entries: int) -> Case:
    """From the mount on, for which a mount may list ahead."""
    return replace(walk_case(["find"], entries), main="with_mount_s")
