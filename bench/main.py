"""`bench/run`: the same work on drivefs, on rclone mount and on the disk beneath, in turn, in one run.

Every case checks the bytes on Drive: a fast wrong answer fails. Prints medians and ratios; nothing here passes or
fails by its time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from bench import cases_reading, cases_scale, cases_writing, systems
from bench.measured import Measured
from bench.systems import System
from drivefs.emulator.client import Running, running
from drivefs.emulator.options import Options

Maker = Callable[[Running, Path], AbstractContextManager[System]]

MAKERS: dict[str, Maker] = {
    "disk": systems.disk,
    "drivefs": lambda emulator, work: systems.drivefs(emulator, work, []),
    "drivefs libfuse": lambda emulator, work: systems.drivefs(emulator, work, ["--transport", "libfuse"]),
    "drivefs no passthrough": lambda emulator, work: systems.drivefs(emulator, work, ["-o", "nopassthrough"]),
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
    parser.add_argument(
        "--shared-bandwidth", type=float, help="bytes a second of all connections (default: no limit)"
    )
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    arguments = parser.parse_args()
    results: dict[str, dict[str, list[Measured]]] = {}
    with tempfile.TemporaryDirectory(prefix="drivefs-bench-") as name:
        cases = cases_writing.cases(arguments.quick) | cases_reading.cases(arguments.quick)
        cases |= cases_scale.cases(arguments.quick)
        for number, (title, case) in enumerate(cases.items()):
            if arguments.only not in title or (case.asked_for and not arguments.only):
                continue
            for run in range(arguments.runs):
                for system in arguments.systems.split(","):
                    if system == "disk" and not case.on_disk:
                        continue
                    work = Path(name) / f"{number}-{run}-{system.replace(' ', '-')}"
                    work.mkdir()
                    shared = case.prepare is not None
                    options = Options(
                        directory=Path(name) / f"drive-{number}" if shared else work / "drive",
                        latency_s=arguments.latency,
                        bandwidth_bytes_s=arguments.bandwidth,
                        shared_bandwidth_bytes_s=arguments.shared_bandwidth,
                        proxy_port=0,
                    )
                    filled = shared and options.directory is not None and options.directory.exists()
                    # What an earlier run left for the disk to write must not slow this one down.
                    os.sync()
                    with running(options) as emulator:
                        if case.prepare is not None and not filled:
                            case.prepare(emulator)
                        emulator.admin.reset_counters()
                        with MAKERS[system](emulator, work) as made:
                            found = case.work(made, emulator)
                    results.setdefault(title, {}).setdefault(system, []).append(found)
                    print(f"{title}, {system}: {json.dumps(found.figures)}", file=sys.stderr, flush=True)
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
