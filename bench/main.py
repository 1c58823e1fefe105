"""`bench/run`: the same work on drivefs, on rclone mount and on the disk beneath, in turn, in one run.

Every case checks the bytes on Drive: a fast wrong answer fails. Prints medians and ratios; nothing here passes or
fails by its time.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from bench import systems
from bench.systems import System, wait_until
from drivefs.emulator.client import Running, running
from drivefs.emulator.options import Options

MiB = 1 << 20


@dataclass
class Measured:
    """One run of one case on one system."""

    figures: dict[str, float] = field(default_factory=dict)


def _durable(emulator: Running, size_bytes: int, checksums: dict[str, str], timeout_s: float) -> None:
    """Wait until Drive holds exactly these files (path → md5)."""
    wait_until(lambda: emulator.admin.counters()["bytes_in"] >= size_bytes, timeout_s, "the upload")

    def complete() -> bool:
        held = {item["path"]: item.get("md5Checksum") for item in emulator.admin.tree()}
        return all(held.get(path) == md5 for path, md5 in checksums.items())

    wait_until(complete, timeout_s, "the last checksum")


def large_write(system: System, emulator: Running, name: str, size_bytes: int) -> Measured:
    """One file in 1 MiB writes: to close, and to durable, from its first write."""
    blocks = [os.urandom(MiB) for _ in range(16)]
    digest = hashlib.md5(usedforsecurity=False)
    for number in range(size_bytes // MiB):
        digest.update(blocks[number % 16])
    emulator.admin.reset_counters()
    began = time.perf_counter()
    with open(system.folder / name, "wb", buffering=0) as file:
        for number in range(size_bytes // MiB):
            file.write(blocks[number % 16])
    closed_s = time.perf_counter() - began
    found = {"close_s": closed_s, "close_MB_s": size_bytes / closed_s / 1e6}
    if system.pid is not None:
        _durable(emulator, size_bytes, {name: digest.hexdigest()}, 600)
        found["durable_s"] = time.perf_counter() - began
        found["requests"] = emulator.admin.counters()["requests"]
        found["memory_MB"] = systems.peak_memory_mb(system.pid)
    return Measured(found)


def small_files(system: System, emulator: Running, name: str, count: int) -> Measured:
    """Files of 100 KB, one after another: to the last close, and to durable."""
    contents = [os.urandom(100_000) for _ in range(16)]
    digests = [hashlib.md5(each, usedforsecurity=False).hexdigest() for each in contents]
    folder = system.folder / name
    folder.mkdir()
    emulator.admin.reset_counters()
    began = time.perf_counter()
    for number in range(count):
        (folder / f"{number:05d}.bin").write_bytes(contents[number % 16])
    closed_s = time.perf_counter() - began
    found = {"close_s": closed_s, "files_s": count / closed_s}
    if system.pid is not None:
        checksums = {f"{name}/{number:05d}.bin": digests[number % 16] for number in range(count)}
        _durable(emulator, count * 100_000, checksums, 600)
        found["durable_s"] = time.perf_counter() - began
        counted = emulator.admin.counters()
        found["requests"], found["units"] = counted["requests"], counted["units"]
        found["memory_MB"] = systems.peak_memory_mb(system.pid)
    return Measured(found)


Case = Callable[[System, Running, str], Measured]
Maker = Callable[[Running, Path], AbstractContextManager[System]]


def cases(quick: bool) -> dict[str, Case]:
    large, small = (128 * MiB, 200) if quick else (1024 * MiB, 1_000)
    return {
        f"write {large // MiB} MiB": lambda s, e, n: large_write(s, e, n, large),
        f"write {small} x 100 KB": lambda s, e, n: small_files(s, e, n, small),
    }


MAKERS: dict[str, Maker] = {
    "disk": systems.disk,
    "drivefs": systems.drivefs,
    "rclone": lambda emulator, work: systems.rclone(emulator, work, []),
    "rclone best flags": lambda emulator, work: systems.rclone(emulator, work, systems.RCLONE_BEST),
}


def _median(found: list[Measured]) -> dict[str, float]:
    return {key: statistics.median(each.figures[key] for each in found) for key in found[0].figures}


def _report(results: dict[str, dict[str, list[Measured]]]) -> Iterator[str]:
    for case, by_system in results.items():
        yield f"\n## {case}\n"
        keys = list(dict.fromkeys(key for found in by_system.values() for key in found[0].figures))
        yield "| system | " + " | ".join(keys) + " |"
        yield "|---|" + "---|" * len(keys)
        for name, found in by_system.items():
            median = _median(found)
            cells = []
            for key in keys:
                values = [each.figures[key] for each in found if key in each.figures]
                cells.append(f"{median[key]:.4g} ({min(values):.4g} to {max(values):.4g})" if values else "")
            yield f"| {name} | " + " | ".join(cells) + " |"
        ours = _median(by_system["drivefs"]) if "drivefs" in by_system else {}
        for name, found in by_system.items():
            median = _median(found)
            ratios = [f"{key} {median[key] / ours[key]:.2f}" for key in keys if ours.get(key) and key in median]
            if name != "drivefs" and ratios:
                yield f"\n{name} over drivefs: {', '.join(ratios)}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench/run", description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="of each case on each system (default 3)")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--systems", default=",".join(MAKERS), help="which, by commas (default: all)")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it works")
    parser.add_argument("--latency", type=float, default=0.08, help="seconds a request (default 0.08)")
    parser.add_argument("--bandwidth", type=float, default=40e6, help="bytes a second and connection (default 40e6)")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    arguments = parser.parse_args()
    results: dict[str, dict[str, list[Measured]]] = {}
    with tempfile.TemporaryDirectory(prefix="drivefs-bench-") as name:
        for case, work_on in cases(arguments.quick).items():
            if arguments.only not in case:
                continue
            for run in range(arguments.runs):
                for system in arguments.systems.split(","):
                    work = Path(name) / f"{len(results)}-{run}-{system.replace(' ', '-')}"
                    work.mkdir()
                    options = Options(
                        directory=work / "drive",
                        latency_s=arguments.latency,
                        bandwidth_bytes_s=arguments.bandwidth,
                        proxy_port=0,
                    )
                    # What an earlier run left for the disk to write must not slow this one down.
                    os.sync()
                    with running(options) as emulator, MAKERS[system](emulator, work) as made:
                        found = work_on(made, emulator, "bench")
                    results.setdefault(case, {}).setdefault(system, []).append(found)
                    print(f"{case}, {system}: {json.dumps(found.figures)}", file=sys.stderr, flush=True)
    print(f"{platform.system()} {platform.release()}, {os.cpu_count()} cores, {arguments.runs} runs, medians (range)")
    print(f"{arguments.latency * 1e3:.0f} ms a request, {arguments.bandwidth / 1e6:.0f} MB/s a connection")
    for line in _report(results):
        print(line)
    if arguments.json:
        figures = {
            case: {system: [each.figures for each in found] for system, found in by_system.items()}
            for case, by_system in results.items()
        }
        arguments.json.write_text(json.dumps(figures, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
