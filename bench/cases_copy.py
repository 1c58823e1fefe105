"""Copies to Drive and back without a mount: `drivefs cp` beside `rclone copy`, to the end of the command."""

from __future__ import annotations

import os
import time
from pathlib import Path

from bench.measured import CONNECTIONS, Case, Limit, Measured, MiB, Network
from bench.systems import COPIERS, System
from bench.verified import check_here, md5_of, md5_of_file, until_durable
from drivefs.emulator.client import Running
from drivefs.emulator.quota import EDIT

SMALL_BYTES = 100_000
_WITHIN_S = 240.0


def _timed(system: System, emulator: Running, name: str, source: str, target: str) -> dict[str, float]:
    """One command: its seconds, and what it asked of Drive."""
    assert system.copy is not None
    emulator.admin.reset_counters()
    began = time.perf_counter()
    system.copy(source, target)
    seconds = time.perf_counter() - began
    counted = emulator.admin.counters()
    return {f"{name}_s": seconds, f"{name}_requests": counted["requests"], f"{name}_units": counted["units"]}


def _filled(folder: Path, count: int, size_bytes: int) -> dict[str, str]:
    """Files of random bytes in a folder; their checksums by name."""
    folder.mkdir()
    wanted = {}
    for number in range(count):
        path = folder / f"{number:05d}.bin"
        with path.open("wb") as file:
            left = size_bytes
            while left:
                left -= file.write(os.urandom(min(left, 16 * MiB)))
        wanted[path.name] = md5_of(path.read_bytes()) if size_bytes < MiB else md5_of_file(path)
    return wanted


def both_ways(system: System, emulator: Running, count: int, size_bytes: int) -> Measured:
    """A folder up, once more with nothing to do, and down."""
    here, back = system.folder / "here", system.folder / "back"
    wanted = _filled(here, count, size_bytes)
    found = _timed(system, emulator, "up", f"{here}/", "drive:copied/")
    until_durable(emulator, {f"copied/{name}": md5 for name, md5 in wanted.items()})
    found |= _timed(system, emulator, "again", f"{here}/", "drive:copied/")
    back.mkdir()
    found |= _timed(system, emulator, "down", "drive:copied/", f"{back}/")
    check_here(back, wanted)
    return Measured(found)


def case(count: int, size_bytes: int) -> Case:
    def limit(network: Network) -> Limit:
        whole_s = network.transfer_s(count * size_bytes, min(count, CONNECTIONS))
        up_s = max(network.requests_s(count) + whole_s + network.latency_s, network.units_s(EDIT * count))
        return Limit({"up_s": up_s}, f"a request for each file, {CONNECTIONS} at once, with its bytes; or the quota")

    return Case(
        lambda system, emulator: both_ways(system, emulator, count, size_bytes),
        "up_s",
        on_disk=False,
        limit=limit,
        within_s=_WITHIN_S,
        systems=COPIERS,
    )


def cases(quick: bool) -> dict[str, Case]:
    count, large = (100, 64 * MiB) if quick else (1_000, 1024 * MiB)
    return {
        f"copy {count} x 100 KB both ways": case(count, SMALL_BYTES),
        f"copy {large // MiB} MiB both ways": case(1, large),
    }
