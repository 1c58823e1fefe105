"""Writing: to the last close, and until Drive has it."""

from __future__ import annotations

import hashlib
import os
import time

from bench import systems
from bench.measured import Case, Measured, MiB
from bench.systems import System, wait_until
from drivefs.emulator.client import Running

NAME = "bench"
QUIET_S = 0.5


def _durable(emulator: Running, size_bytes: int, checksums: dict[str, str], timeout_s: float) -> None:
    """Wait until Drive holds exactly these files (path → md5)."""
    wait_until(lambda: emulator.admin.counters()["bytes_in"] >= size_bytes, timeout_s, "the upload")

    def complete() -> bool:
        held = {item["path"]: item.get("md5Checksum") for item in emulator.admin.tree()}
        return all(held.get(path) == md5 for path, md5 in checksums.items())

    wait_until(complete, timeout_s, "the last checksum")


def _counters(emulator: Running) -> dict[str, float]:
    """The emulator's counters once no request has come or ended for a moment: files show before replies are out."""
    last, since = emulator.admin.counters(), time.monotonic()

    def still() -> bool:
        nonlocal last, since
        now = emulator.admin.counters()
        if now["requests"] != last["requests"]:
            last, since = now, time.monotonic()
        return time.monotonic() - since > QUIET_S

    wait_until(still, 60, "the last reply")
    return last


def large_write(system: System, emulator: Running, size_bytes: int, rate_bytes_s: float | None = None) -> Measured:
    """One file in 1 MiB writes, at the speed of the disk or at `rate_bytes_s`: to close, and to durable, from its
    first write, and from the one to the other."""
    blocks = [os.urandom(MiB) for _ in range(16)]
    digest = hashlib.md5(usedforsecurity=False)
    for number in range(size_bytes // MiB):
        digest.update(blocks[number % 16])
    emulator.admin.reset_counters()
    began = time.perf_counter()
    with open(system.folder / NAME, "wb", buffering=0) as file:
        for number in range(size_bytes // MiB):
            if rate_bytes_s is not None:
                time.sleep(max(0.0, began + number * MiB / rate_bytes_s - time.perf_counter()))
            file.write(blocks[number % 16])
    closed_s = time.perf_counter() - began
    found = {"close_s": closed_s, "close_MB_s": size_bytes / closed_s / 1e6}
    if system.pid is not None:
        _durable(emulator, size_bytes, {NAME: digest.hexdigest()}, 600)
        found["durable_s"] = time.perf_counter() - began
        found["close_to_durable_s"] = found["durable_s"] - closed_s
        found["requests"] = _counters(emulator)["requests"]
        found["memory_MB"] = systems.peak_memory_mb(system.pid)
    return Measured(found)


def small_files(system: System, emulator: Running, count: int) -> Measured:
    """Files of 100 KB, one after another: to the last close, and to durable."""
    contents = [os.urandom(100_000) for _ in range(16)]
    digests = [hashlib.md5(each, usedforsecurity=False).hexdigest() for each in contents]
    folder = system.folder / NAME
    folder.mkdir()
    emulator.admin.reset_counters()
    began = time.perf_counter()
    for number in range(count):
        (folder / f"{number:05d}.bin").write_bytes(contents[number % 16])
    closed_s = time.perf_counter() - began
    found = {"close_s": closed_s, "files_s": count / closed_s}
    if system.pid is not None:
        checksums = {f"{NAME}/{number:05d}.bin": digests[number % 16] for number in range(count)}
        _durable(emulator, count * 100_000, checksums, 600)
        found["durable_s"] = time.perf_counter() - began
        counted = _counters(emulator)
        found["requests"], found["units"] = counted["requests"], counted["units"]
        found["memory_MB"] = systems.peak_memory_mb(system.pid)
    return Measured(found)


def cases(quick: bool) -> dict[str, Case]:
    large, small = (128 * MiB, 200) if quick else (1024 * MiB, 1_000)
    return {
        f"write {large // MiB} MiB": Case(lambda system, emulator: large_write(system, emulator, large)),
        f"train {large // MiB} MiB at 40 MB/s": Case(
            lambda system, emulator: large_write(system, emulator, large, 40e6)
        ),
        f"train {large // MiB} MiB at 20 MB/s": Case(
            lambda system, emulator: large_write(system, emulator, large, 20e6)
        ),
        f"write {small} x 100 KB": Case(lambda system, emulator: small_files(system, emulator, small)),
    }
