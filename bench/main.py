"""`bench/run`: the same work on drivefs, on rclone mount and on the disk beneath, in turn, in one run.

Every case checks the bytes, in the mount and on Drive: a fast wrong answer fails. Prints medians, ranges and ratios;
nothing here passes or fails by its time. `bench/run report FILE` shows and draws what `--json FILE` has kept.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from bench import (
    cases_life,
    cases_programs,
    cases_reading,
    cases_scale,
    cases_stream,
    cases_writing,
    growth,
    report,
    systems,
)
from bench.measured import Case, Network
from bench.results import OURS, Results, Run, merge_into
from bench.systems import System
from drivefs.emulator.client import Running, running
from drivefs.emulator.options import Options

SYSTEMS = ["disk", "drivefs", "drivefs libfuse", "rclone", "rclone best flags"]
"""In this order each round, so that what drifts drifts for all."""
GROWTH_SYSTEMS = ["drivefs", "rclone best flags"]


class Maker(Protocol):
    """Makes a system ready to be measured, with an empty cache, in the folder `work`."""

    def __call__(self, emulator: Running, work: Path) -> AbstractContextManager[System]: ...


def makers(peer: str | None, command: str | None) -> dict[str, Maker]:
    """All systems by name, and the one that the person has brought."""
    found: dict[str, Maker] = {
        "disk": systems.disk,
        "drivefs": lambda emulator, work: systems.drivefs(emulator, work, []),
        "drivefs no passthrough": lambda emulator, work: systems.drivefs(emulator, work, ["-o", "nopassthrough"]),
        "drivefs libfuse": lambda emulator, work: systems.drivefs(emulator, work, ["--transport", "libfuse"]),
        "rclone": lambda emulator, work: systems.rclone(emulator, work, []),
        "rclone best flags": lambda emulator, work: systems.rclone(emulator, work, systems.RCLONE_BEST),
    }
    if peer is not None and command is not None:
        found[peer] = lambda emulator, work: systems.peer(emulator, work, command)
    return found


def all_cases(quick: bool) -> dict[str, Case]:
    """Every case that stands for itself, by its name."""
    found: dict[str, Case] = {}
    for room in (cases_writing, cases_reading, cases_life, cases_stream, cases_scale, cases_programs):
        found |= room.cases(quick)
    return found


class Bench:
    """Runs cases on systems, and keeps what was measured."""

    def __init__(self, folder: Path, made: dict[str, Maker], network: Network) -> None:
        self._folder, self._makers, self._network = folder, made, network
        self._count = 0
        self.results = Results(network=described(network))

    def run(
        self, title: str, case: Case, names: list[str], rounds: int, series: tuple[str, str, float] | None
    ) -> None:
        """Measure one case, on each system in turn, `rounds` times."""
        self._count += 1
        network = case.network or self._network
        chosen = [name for name in names if name != "disk" or (case.on_disk and series is None)]
        break_off: set[str] = set()
        for number in range(rounds):
            for name in chosen:
                if name in break_off:
                    continue
                work = self._folder / f"{self._count}-{number}-{name.replace(' ', '-')}"
                work.mkdir()
                where = (None, None, None) if series is None else (series[0], series[2], series[1])
                try:
                    figures, failure = self._measure(case, name, work, network), None
                except (AssertionError, TimeoutError, OSError, subprocess.SubprocessError) as error:
                    # What is wrong with one system must not take the others' figures with it.
                    figures, failure = {}, f"{type(error).__name__}: {error}".splitlines()[0]
                self.results.runs.append(Run(title, name, case.main, figures, *where, failure))
                print(f"{title}, {name}: {failure or json.dumps(figures)}", file=sys.stderr, flush=True)
                if failure is not None:
                    break_off.add(name)
        if case.limit is not None:
            self.results.limits[title] = case.limit(network)

    def _measure(self, case: Case, name: str, work: Path, network: Network) -> dict[str, float]:
        shared = case.prepare is not None
        directory = self._folder / f"drive-{self._count}" if shared else work / "drive"
        quota = {} if network.quota_units_per_minute is None else {
            "quota_units_per_minute": network.quota_units_per_minute
        }  # fmt: skip
        options = Options(
            directory=directory,
            latency_s=network.latency_s,
            bandwidth_bytes_s=network.bandwidth_bytes_s,
            shared_bandwidth_bytes_s=network.shared_bandwidth_bytes_s,
            proxy_port=0,
            **quota,
        )
        filled = shared and directory.exists()
        # What an earlier run left for the disk to write must not slow this one down.
        os.sync()
        with running(options) as emulator:
            if case.prepare is not None and not filled:
                case.prepare(emulator)
            emulator.admin.reset_counters()
            with self._makers[name](emulator, work) as made:
                return case.work(made, emulator).figures


def described(network: Network) -> str:
    """The network in words."""
    text = f"{network.latency_s * 1e3:.0f} ms a request, {network.bandwidth_bytes_s / 1e6:.0f} MB/s a connection"
    if network.shared_bandwidth_bytes_s is not None:
        text += f", {network.shared_bandwidth_bytes_s / 1e6:.0f} MB/s of all"
    return text


def chosen(arguments: argparse.Namespace) -> Iterator[tuple[str, Case, tuple[str, str, float] | None]]:
    """What is to be run: (name, case, its place in a series)."""
    if arguments.growth:
        for series in growth.series(arguments.quick):
            if arguments.only in series.title:
                for x, case in series.cases.items():
                    yield f"{series.title}, {x:g} {series.x_name}", case, (series.title, series.x_name, x)
        return
    for title, case in all_cases(arguments.quick).items():
        if arguments.only in title and (arguments.only or not case.asked_for):
            yield title, case, None


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/run", description=__doc__)
    parser.add_argument("report", nargs="*", help="'report FILE': show and draw what FILE has, and measure nothing")
    parser.add_argument("--runs", type=int, default=3, help="of each case on each system (default 3)")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--growth", action="store_true", help="the cases at several sizes and latencies instead")
    parser.add_argument("--systems", help=f"which, by commas (default: {','.join(SYSTEMS)}; for --growth fewer)")
    parser.add_argument("--quick", action="store_true", help="small sizes and one round, to see that it works")
    parser.add_argument("--latency", type=float, default=0.08, help="seconds a request (default 0.08)")
    parser.add_argument("--bandwidth", type=float, default=40e6, help="bytes a second and connection (default 40e6)")
    parser.add_argument(
        "--shared-bandwidth", type=float, help="bytes a second of all connections (default: no limit)"
    )
    parser.add_argument("--quota", type=int, metavar="UNITS", help="units a minute of one user (default: Google's)")
    parser.add_argument("--peer", metavar="NAME", help="another mount to measure; --mount-command makes it")
    parser.add_argument(
        "--mount-command",
        metavar="COMMAND",
        help="runs in the foreground; {mountpoint}, {cache}, {endpoint}, {credentials}, {proxy}, {ca} are filled in",
    )
    parser.add_argument("--list", action="store_true", help="name the cases, and measure nothing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep all figures in FILE, beside what it has")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="draw there, as PNG and SVG")
    found = parser.parse_args()
    if (found.peer is None) != (found.mount_command is None):
        parser.error("--peer and --mount-command go together")
    if found.report and (found.report[0] != "report" or len(found.report) != 2):
        parser.error("the only other words are 'report FILE'")
    return found


def measure(arguments: argparse.Namespace) -> Results:
    """Run what was chosen; Ctrl-C keeps what there is."""
    network = Network(arguments.latency, arguments.bandwidth, arguments.shared_bandwidth, arguments.quota)
    made = makers(arguments.peer, arguments.mount_command)
    names = arguments.systems.split(",") if arguments.systems else GROWTH_SYSTEMS if arguments.growth else SYSTEMS
    if arguments.peer is not None and not arguments.systems:
        names = [*names, arguments.peer]
    unknown = set(names) - set(made)
    if unknown:
        sys.exit(f"bench/run: there is no system {', '.join(sorted(unknown))}: choose from {', '.join(made)}.")
    with tempfile.TemporaryDirectory(prefix="drivefs-bench-") as folder:
        bench = Bench(Path(folder), made, network)
        try:
            for title, case, series in chosen(arguments):
                bench.run(title, case, names, 1 if arguments.quick else arguments.runs, series)
        except KeyboardInterrupt:
            print("stopped; what was measured so far:", file=sys.stderr)
        return bench.results


def main() -> int:
    arguments = parsed()
    if arguments.list:
        print("\n".join(title for title, _, _ in chosen(arguments)))
        return 0
    if arguments.report:
        results = Results.from_json(Path(arguments.report[1]).read_text())
    else:
        results = measure(arguments)
        if arguments.json is not None:
            results = merge_into(arguments.json, results)
    print(report.whole(results))
    if arguments.plots is not None:
        from bench import plots  # noqa: PLC0415 - matplotlib takes a second

        for file in plots.draw(results, arguments.plots):
            print(file, file=sys.stderr)
    return 1 if any(run.failure for run in results.runs if run.system.startswith(OURS)) else 0


if __name__ == "__main__":
    sys.exit(main())
