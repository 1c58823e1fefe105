"""A large Drive: a tenth of it lies in one folder, the rest in folders of 1,000."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from bench.cases_reading import PAGE
from bench.measured import Case, Limit, Measured, Network
from bench.systems import System
from drivefs.emulator.client import Running
from drivefs.emulator.quota import LIST

BIG = "big"
PART = 10
FOLDER_FILES = 1_000


def large_drive(entries: int) -> Callable[[Running], None]:
    def prepare(emulator: Running) -> None:
        emulator.admin.fill_folder(BIG, entries // PART)
        for number in range((entries - entries // PART) // FOLDER_FILES):
            emulator.admin.fill_folder(f"many/g{number // 100:02d}/d{number:05d}", FOLDER_FILES)

    return prepare


def _count(top: str) -> int:
    """Files below a folder, as `find` sees them."""
    found, waiting = 0, [top]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                else:
                    found += 1
    return found


def large_tree(entries: int) -> Callable[[System, Running], Measured]:
    """To the first `ls` of the large folder, all names, all names again, and mounted anew."""
    files = entries // PART + (entries - entries // PART) // FOLDER_FILES * FOLDER_FILES

    def work(system: System, emulator: Running) -> Measured:
        assert system.pid is not None
        found = {"ready_s": system.ready_s}
        began = time.perf_counter()
        assert len(os.listdir(system.folder / BIG)) == entries // PART
        found["big_s"] = time.perf_counter() - began
        assert _count(str(system.folder)) == files
        found["all_s"] = time.perf_counter() - began
        counted = emulator.admin.counters()
        found |= {"requests": counted["requests"], "units": counted["units"]}
        began = time.perf_counter()
        assert _count(str(system.folder)) == files
        found["again_s"] = time.perf_counter() - began
        system.remount()
        found["ready_again_s"] = system.ready_s
        return Measured(found)

    return work


def _limit(entries: int) -> Callable[[Network], Limit]:
    pages = -(-entries // PAGE)

    def limit(network: Network) -> Limit:
        return Limit(
            {
                "all_s": max(pages * network.latency_s, network.units_s(LIST * pages)),
                "requests": pages,
                "units": LIST * pages,
            },
            f"{PAGE} entries a page, each of which names the next",
        )

    return limit


def cases(quick: bool) -> dict[str, Case]:
    """Smallest first; the larger ones take minutes, so they are run when they are named."""
    return {
        f"a Drive of {entries} entries": Case(
            large_tree(entries),
            "all_s",
            large_drive(entries),
            on_disk=False,
            asked_for=entries > 10_000,
            limit=_limit(entries),
            within_s=600.0 if entries > 100_000 else Case.within_s,
        )
        for entries in (10_000, 100_000, 1_000_000)
    }
