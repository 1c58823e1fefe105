"""Listing and reading what Drive has. `prepare` puts it there, past the API; every byte read is compared."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

from bench.measured import CONNECTIONS, Case, Limit, Measured, MiB, Network
from bench.systems import System
from drivefs.emulator.client import Running
from drivefs.emulator.quota import DOWNLOAD, LIST

SMALL_BYTES = 100_000
READ_BYTES = 64 << 10
PAGE = 1000
"""Entries that Drive gives in one reply (files.list)."""


def pattern(size_bytes: int) -> bytes:
    """Bytes that are the same in each run, and differ in each place."""
    return b"".join(random.Random(offset).randbytes(MiB) for offset in range(0, size_bytes, MiB))


def _on_drive(system: System, emulator: Running, began: float, found: dict[str, float]) -> Measured:
    found["seconds"] = time.perf_counter() - began
    if system.pid is not None:
        counted = emulator.admin.counters()
        found |= {"requests": counted["requests"], "units": counted["units"], "sent_MB": counted["bytes_out"] / 1e6}
    return Measured(found)


# --- listings ---


def tree(folders: int, files: int) -> Callable[[Running], None]:
    def prepare(emulator: Running) -> None:
        for number in range(folders):
            emulator.admin.fill_folder(f"tree/d{number:04d}", files // folders)

    return prepare


def _walk(folder: Path, command: list[str], lines: int) -> None:
    done = subprocess.run([*command, str(folder)], check=True, capture_output=True, text=True)
    assert done.stdout.count("/f0" if command[0] == "find" else " f0") == lines, "files are missing"


def walk_cold(command: list[str], files: int) -> Callable[[System, Running], Measured]:
    def work(system: System, emulator: Running) -> Measured:
        began = time.perf_counter()
        _walk(system.folder, command, files)
        found = _on_drive(system, emulator, began, {})
        found.figures["with_mount_s"] = system.ready_s + found.figures["seconds"]
        return found

    return work


def walk_again(command: list[str], files: int, *, remount: bool) -> Callable[[System, Running], Measured]:
    def work(system: System, emulator: Running) -> Measured:
        _walk(system.folder, command, files)
        if remount:
            system.remount()
        emulator.admin.reset_counters()
        began = time.perf_counter()
        _walk(system.folder, command, files)
        return _on_drive(system, emulator, began, {})

    return work


# --- one large file ---


def large(size_bytes: int) -> Callable[[Running], None]:
    def put(emulator: Running) -> None:
        emulator.admin.put_file("large.bin", pattern(size_bytes))

    return put


def _read_all(path: Path) -> tuple[str, float]:
    digest = hashlib.md5(usedforsecurity=False)
    first_s = 0.0
    began = time.perf_counter()
    with open(path, "rb", buffering=0) as file:
        while data := file.read(MiB):
            first_s = first_s or time.perf_counter() - began
            digest.update(data)
    return digest.hexdigest(), first_s


def in_order(size_bytes: int, *, warm: bool) -> Callable[[System, Running], Measured]:
    def work(system: System, emulator: Running) -> Measured:
        path = system.folder / "large.bin"
        if system.pid is None:
            path.write_bytes(pattern(size_bytes))
        if warm:
            _read_all(path)
            drop_caches()
        emulator.admin.reset_counters()
        began = time.perf_counter()
        checksum, first_s = _read_all(path)
        found = _on_drive(system, emulator, began, {"first_s": first_s})
        found.figures["MB_s"] = size_bytes / found.figures["seconds"] / 1e6
        assert checksum == hashlib.md5(pattern(size_bytes), usedforsecurity=False).hexdigest(), "wrong bytes"
        return found

    return work


def drop_caches() -> None:
    """Pages that are clean leave the memory, so that a warm read comes from the cache's disk."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("1")


def at_random(size_bytes: int, reads: int) -> Callable[[System, Running], Measured]:
    def work(system: System, emulator: Running) -> Measured:
        expected = pattern(size_bytes)
        path = system.folder / "large.bin"
        if system.pid is None:
            path.write_bytes(expected)
        places = random.Random(7)
        emulator.admin.reset_counters()
        began = time.perf_counter()
        with open(path, "rb", buffering=0) as file:
            for _ in range(reads):
                offset = places.randrange(size_bytes - READ_BYTES)
                assert os.pread(file.fileno(), READ_BYTES, offset) == expected[offset : offset + READ_BYTES]
        return _on_drive(system, emulator, began, {})

    return work


# --- many small files ---


def small(count: int) -> Callable[[Running], None]:
    def prepare(emulator: Running) -> None:
        for number in range(count):
            emulator.admin.put_file(f"small/{number:05d}.bin", _small(number))

    return prepare


def _small(number: int) -> bytes:
    return random.Random(number).randbytes(SMALL_BYTES)


def _read_some(folder: Path, numbers: list[int]) -> None:
    for number in numbers:
        assert (folder / f"{number:05d}.bin").read_bytes() == _small(number), "wrong bytes"


def shuffled(count: int, processes: int) -> Callable[[System, Running], Measured]:
    def work(system: System, emulator: Running) -> Measured:
        folder = system.folder / "small"
        if system.pid is None:
            folder.mkdir()
            for number in range(count):
                (folder / f"{number:05d}.bin").write_bytes(_small(number))
        numbers = list(range(count))
        random.Random(count).shuffle(numbers)
        emulator.admin.reset_counters()
        if processes == 1:
            began = time.perf_counter()
            _read_some(folder, numbers)
            return _on_drive(system, emulator, began, {})
        with ProcessPoolExecutor(processes) as pool:
            began = time.perf_counter()
            list(pool.map(_read_some, [folder] * processes, [numbers[n::processes] for n in range(processes)]))
            return _on_drive(system, emulator, began, {})

    return work


def walk_case(
    command: list[str],
    files: int,
    *,
    folders: int | None = None,
    remount: bool = False,
    warm: bool = False,
    asked_for: bool = False,
) -> Case:
    """A listing of all, cold, of what a remount has kept, or again; 50 files a folder unless `folders` says."""
    again = remount or warm
    work = walk_again(command, files, remount=remount) if again else walk_cold(command, files)

    def limit(network: Network) -> Limit:
        if warm:
            return Limit({"requests": 0, "units": 0}, "no request; the kernel's own caches")
        if remount:
            return Limit(
                {"seconds": network.latency_s, "requests": 1, "units": LIST}, "one call for what has changed"
            )
        pages = -(-files // PAGE)
        return Limit(
            {
                "with_mount_s": max(pages * network.latency_s, network.units_s(LIST * pages)),
                "requests": pages,
                "units": LIST * pages,
            },
            f"{PAGE} entries a page, each of which names the next; a mount may ask for them before the first look",
        )

    return Case(
        work, "seconds", tree(folders or max(1, files // 50), files), on_disk=False, asked_for=asked_for, limit=limit
    )


def in_order_case(size_bytes: int, *, warm: bool = False) -> Case:
    """A large file from front to back."""

    def limit(network: Network) -> Limit:
        if warm:
            return Limit({"requests": 0}, "the disk's own cache")
        seconds = network.transfer_s(size_bytes, CONNECTIONS) + network.latency_s
        return Limit({"seconds": seconds}, f"the bytes over {CONNECTIONS} connections, and one round trip")

    return Case(in_order(size_bytes, warm=warm), "seconds", large(size_bytes), limit=limit)


def at_random_case(size_bytes: int, reads: int) -> Case:
    """Reads here and there in a large file, one after another."""

    def limit(network: Network) -> Limit:
        one_by_one_s = reads * (network.latency_s + network.transfer_s(READ_BYTES))
        whole_s = network.transfer_s(size_bytes, CONNECTIONS) + network.latency_s
        sent_MB = min(reads * READ_BYTES, size_bytes) / 1e6
        return Limit(
            {"seconds": min(one_by_one_s, whole_s), "sent_MB": sent_MB},
            "whichever is less: a round trip for each read, or the whole file over all connections",
        )

    return Case(at_random(size_bytes, reads), "seconds", large(size_bytes), limit=limit)


def shuffled_case(count: int, processes: int) -> Case:
    """Small files in a random order, as data loaders read them."""

    def limit(network: Network) -> Limit:
        transfer_s = network.transfer_s(count * SMALL_BYTES, CONNECTIONS)
        fetched_s = network.requests_s(count) + transfer_s + network.latency_s
        return Limit(
            {
                "seconds": max(fetched_s, network.units_s(DOWNLOAD * count)),
                "requests": count,
                "units": DOWNLOAD * count,
            },
            f"a download for each file, {CONNECTIONS} at once, after the listing; or the quota",
        )

    return Case(shuffled(count, processes), "seconds", small(count), limit=limit)


_LOOKS: dict[str, dict[str, bool]] = {" cold": {}, " after a remount": {"remount": True}, " warm": {"warm": True}}


def cases(quick: bool) -> dict[str, Case]:
    files, size, reads, count = (1_000, 64 * MiB, 100, 200) if quick else (10_000, 512 * MiB, 500, 1_000)
    ls, find = ["ls", "-lR"], ["find"]
    shared = Network(shared_bandwidth_bytes_s=100e6)
    random_reads = at_random_case(size, reads)
    return {
        **{
            f"{name} {count}{when}": walk_case(command, count, **how)
            for name, command, counts in (("find", find, (files, 10 * files)), ("ls -lR", ls, (files,)))
            for count in counts
            for when, how in _LOOKS.items()
        },
        f"find {10 * files} in one folder cold": walk_case(find, 10 * files, folders=1, asked_for=True),
        f"read {size // MiB} MiB in order cold": in_order_case(size),
        f"read {size // MiB} MiB in order warm": in_order_case(size, warm=True),
        f"read {reads} x 64 KiB of {size // MiB} MiB at random cold": random_reads,
        f"read {reads} x 64 KiB of {size // MiB} MiB at random cold, 100 MB/s in all": replace(
            random_reads, network=shared
        ),
        f"read {count} x 100 KB shuffled cold": shuffled_case(count, 1),
        f"read {count} x 100 KB shuffled cold, 8 processes": shuffled_case(count, 8),
    }
