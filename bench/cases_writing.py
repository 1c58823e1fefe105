"""Writing: to the last close, and until Drive has it."""

from __future__ import annotations

import hashlib
import os
import random
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from bench.measured import CONNECTIONS, Case, Limit, Measured, MiB, Network
from bench.systems import System, wait_until
from bench.verified import check_here, md5_of, on_drive, until_durable
from drivefs.emulator.client import Running
from drivefs.emulator.quota import EDIT, OTHER

NAME = "bench"
QUIET_S = 0.5
SMALL_BYTES = 100_000
STILL_S = 100.0
"""So long a request takes while nothing is to leave for Drive: longer than what is measured."""


def _counters(emulator: Running) -> dict[str, float]:
    """The emulator's counters once no request has come or ended for a moment: files show before replies are out."""
    last, since = emulator.admin.counters(), time.monotonic()

    def still() -> bool:
        nonlocal last, since
        now = emulator.admin.counters()
        if now["requests"] != last["requests"]:
            last, since = now, time.monotonic()
        return time.monotonic() - since > QUIET_S

    wait_until(still)
    return last


def _blocks(size_bytes: int) -> tuple[list[bytes], str]:
    """What a file is written of, in turn, and its MD5."""
    blocks = [os.urandom(MiB) for _ in range(16)]
    digest = hashlib.md5(usedforsecurity=False)
    for number in range(size_bytes // MiB):
        digest.update(blocks[number % 16])
    return blocks, digest.hexdigest()


def large_write(system: System, emulator: Running, size_bytes: int, rate_bytes_s: float | None = None) -> Measured:
    """One file in 1 MiB writes, at the speed of the disk or at `rate_bytes_s`: to close, and to durable, from its
    first write, and from the one to the other."""
    blocks, md5 = _blocks(size_bytes)
    emulator.admin.reset_counters()
    began = time.perf_counter()
    _write_blocks(system.folder / NAME, blocks, size_bytes, rate_bytes_s)
    closed_s = time.perf_counter() - began
    found = {"close_s": closed_s, "close_MB_s": size_bytes / closed_s / 1e6}
    wanted = {NAME: md5}
    if system.pid is not None:
        until_durable(emulator, wanted, size_bytes)
        found["durable_s"] = time.perf_counter() - began
        found["close_to_durable_s"] = found["durable_s"] - closed_s
        found["requests"] = _counters(emulator)["requests"]
    check_here(system.folder, wanted)
    return Measured(found)


def _write_blocks(path: Path, blocks: list[bytes], size_bytes: int, rate_bytes_s: float | None = None) -> None:
    began = time.perf_counter()
    with open(path, "wb", buffering=0) as file:
        for number in range(size_bytes // MiB):
            if rate_bytes_s is not None:
                time.sleep(max(0.0, began + number * MiB / rate_bytes_s - time.perf_counter()))
            file.write(blocks[number % 16])


def write_alone(system: System, emulator: Running, size_bytes: int) -> Measured:
    """One file in 1 MiB writes, to its close, while nothing leaves for Drive: what the way to the disk costs."""
    blocks, md5 = _blocks(size_bytes)
    path = system.folder / NAME
    os.listdir(system.folder)  # or the first open may ask Drive
    emulator.admin.set_network(latency_s=STILL_S)
    try:
        began = time.perf_counter()
        _write_blocks(path, blocks, size_bytes)
        closed_s = time.perf_counter() - began
        check_here(system.folder, {NAME: md5})
        path.unlink()
    finally:
        emulator.admin.set_network(latency_s=0.0)
    return Measured({"close_s": closed_s, "close_MB_s": size_bytes / closed_s / 1e6})


def small_files(system: System, emulator: Running, count: int) -> Measured:
    """Files of 100 KB, one after another: to the last close, and to durable."""
    contents = [os.urandom(SMALL_BYTES) for _ in range(16)]
    digests = [md5_of(each) for each in contents]
    folder = system.folder / NAME
    folder.mkdir()
    emulator.admin.reset_counters()
    began = time.perf_counter()
    for number in range(count):
        (folder / f"{number:05d}.bin").write_bytes(contents[number % 16])
    closed_s = time.perf_counter() - began
    found = {"close_s": closed_s, "files_s": count / closed_s}
    wanted = {f"{NAME}/{number:05d}.bin": digests[number % 16] for number in range(count)}
    if system.pid is not None:
        until_durable(emulator, wanted, count * SMALL_BYTES)
        found["durable_s"] = time.perf_counter() - began
        counted = _counters(emulator)
        found["requests"], found["units"] = counted["requests"], counted["units"]
    check_here(system.folder, wanted)
    return Measured(found)


def large_case(size_bytes: int, pace_bytes_s: float | None = None) -> Case:
    """One file, to Drive; written as fast as it goes, or at a pace, as a training writes."""

    def limit(network: Network) -> Limit:
        # A session is opened, then the bytes go over its one connection, then the last reply comes.
        sent_s = max(network.transfer_s(size_bytes), paced_s) + 2 * network.latency_s
        return Limit(
            {"durable_s": sent_s, "close_to_durable_s": sent_s - paced_s, "requests": 2},
            "the bytes over a session's one connection, a request to open it and one that carries them",
        )

    paced_s = size_bytes / pace_bytes_s if pace_bytes_s else 0.0
    main = "durable_s" if pace_bytes_s is None else "close_to_durable_s"
    return Case(lambda system, emulator: large_write(system, emulator, size_bytes, pace_bytes_s), main, limit=limit)


def small_case(count: int) -> Case:
    """Many small files, to Drive."""

    def limit(network: Network) -> Limit:
        transfer_s = network.transfer_s(count * SMALL_BYTES, CONNECTIONS)
        sent_s = network.requests_s(count) + transfer_s + network.latency_s
        units = EDIT * count + OTHER
        return Limit(
            {"durable_s": max(sent_s, network.units_s(units)), "requests": count + 1, "units": units},
            f"a request for each file, {CONNECTIONS} at once, with its bytes, and one for their IDs; or the quota",
        )

    return Case(lambda system, emulator: small_files(system, emulator, count), "durable_s", limit=limit)


def rotation(system: System, emulator: Running, rounds: int, size_bytes: int) -> Measured:
    """A checkpoint written beside and renamed over its name, again and again: to the last rename, and to durable."""
    contents = [os.urandom(size_bytes) for _ in range(4)]
    path = system.folder / "model.ckpt"
    emulator.admin.reset_counters()
    began = time.perf_counter()
    for number in range(rounds):
        temporary = path.with_suffix(".tmp")
        temporary.write_bytes(contents[number % 4])
        temporary.rename(path)
    found = {"rename_s": time.perf_counter() - began}
    if system.pid is not None:
        last = md5_of(contents[(rounds - 1) % 4])
        wait_until(lambda: on_drive(emulator).get("model.ckpt") == last)
        found["durable_s"] = time.perf_counter() - began
        counted = _counters(emulator)
        found["requests"], found["sent_MB"] = counted["requests"], counted["bytes_in"] / 1e6
        items = emulator.admin.tree(trashed=True)
        found["left_in_trash"] = sum(item.get("trashed") is True for item in items)
    assert path.read_bytes() == contents[(rounds - 1) % 4], "wrong bytes"
    return Measured(found)


def _write_one(path: Path, number: int, size_bytes: int) -> str:
    data = random.Random(number).randbytes(size_bytes)
    path.write_bytes(data)
    return md5_of(data)


def many_writers(system: System, emulator: Running, writers: int, size_bytes: int) -> Measured:
    """Processes that each write a file of their own at once: to the last close, and to durable."""
    with ProcessPoolExecutor(writers) as pool:
        list(pool.map(abs, range(writers)))  # all are there before the clock starts
        began = time.perf_counter()
        paths = [system.folder / f"writer-{number:02d}.bin" for number in range(writers)]
        checksums = list(pool.map(_write_one, paths, range(writers), [size_bytes] * writers))
        found = {"close_s": time.perf_counter() - began}
    wanted = {path.name: checksum for path, checksum in zip(paths, checksums, strict=True)}
    if system.pid is not None:
        until_durable(emulator, wanted, writers * size_bytes)
        found["durable_s"] = time.perf_counter() - began
        found["requests"] = _counters(emulator)["requests"]
    check_here(system.folder, wanted)
    return Measured(found)


def cases(quick: bool) -> dict[str, Case]:
    large, small, rounds, writers = (128 * MiB, 200, 10, 16) if quick else (1024 * MiB, 1_000, 50, 16)
    each = large // 64

    def writers_limit(network: Network) -> Limit:
        seconds = network.transfer_s(writers * each, writers) + 2 * network.latency_s
        return Limit({"durable_s": seconds}, "the bytes over a connection for each file, and two requests")

    return {
        f"write {large // MiB} MiB": large_case(large),
        f"{large // MiB} MiB to close, nothing sent": Case(
            lambda system, emulator: write_alone(system, emulator, large), "close_s"
        ),
        f"train {large // MiB} MiB at 40 MB/s": large_case(large, 40e6),
        f"train {large // MiB} MiB at 20 MB/s": large_case(large, 20e6),
        f"write {small} x 100 KB": small_case(small),
        f"{rounds} rotations of 4 MiB by rename": Case(
            lambda system, emulator: rotation(system, emulator, rounds, 4 * MiB),
            "durable_s",
            limit=lambda network: Limit(
                {"durable_s": network.transfer_s(4 * MiB) + 2 * network.latency_s, "sent_MB": 4 * MiB / 1e6},
                "the last content once",
            ),
            within_s=60.0,
        ),
        f"{writers} writers of {each // MiB} MiB at once": Case(
            lambda system, emulator: many_writers(system, emulator, writers, each), "durable_s", limit=writers_limit
        ),
    }
