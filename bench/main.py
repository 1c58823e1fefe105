"""`bench/run`: the same work on drivefs, on rclone mount and on the disk beneath, in turn, in one run.

Every case checks the bytes, in the mount and on Drive: a fast wrong answer fails. Prints medians, ranges and ratios;
nothing here passes or fails by its time. `bench/run report FILE` shows and draws what `--json FILE` has kept.
"""

from __future__ import annotations

import argparse
import math
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench import (
    cases_copy,
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
from bench.results import OURS, Results
from bench.runner import Bench, Chosen, Maker
from drivefs.emulator.options import UNITS_PER_MINUTE

SYSTEMS = ["disk", "drivefs", "drivefs libfuse", "rclone", "rclone best flags"]
"""In this order each round, so that what drifts drifts for all."""
GROWTH_SYSTEMS = ["drivefs", "rclone best flags"]


def makers(peer: str | None, command: str | None) -> dict[str, Maker]:
    """All systems by name, and the one that the person has brought."""
    found: dict[str, Maker] = {
        "disk": systems.disk,
        "drivefs": lambda emulator, work: systems.drivefs(emulator, work, []),
        "drivefs no passthrough": lambda emulator, work: systems.drivefs(emulator, work, ["-o", "nopassthrough"]),
        "drivefs libfuse": lambda emulator, work: systems.drivefs(emulator, work, ["--transport", "libfuse"]),
        "rclone": lambda emulator, work: systems.rclone(emulator, work, []),
        "rclone best flags": lambda emulator, work: systems.rclone(emulator, work, systems.RCLONE_BEST),
        "drivefs cp": systems.drivefs_cp,
        "rclone copy": lambda emulator, work: systems.rclone_copy(emulator, work, []),
        "rclone copy best flags": lambda emulator, work: systems.rclone_copy(
            emulator, work, systems.RCLONE_COPY_BEST
        ),
    }
    if peer is not None and command is not None:
        found[peer] = lambda emulator, work: systems.peer(emulator, work, command)
    return found


def all_cases(quick: bool) -> dict[str, Case]:
    """Every case that stands for itself, by its name."""
    found: dict[str, Case] = {}
    for room in (cases_writing, cases_reading, cases_life, cases_stream, cases_scale, cases_programs, cases_copy):
        found |= room.cases(quick)
    return found


def described(network: Network) -> str:
    """The network in words."""
    text = f"{network.latency_s * 1e3:.0f} ms a request, {network.bandwidth_bytes_s / 1e6:.0f} MB/s a connection"
    if network.shared_bandwidth_bytes_s is not None:
        text += f", {network.shared_bandwidth_bytes_s / 1e6:.0f} MB/s of all"
    if network.quota_units_per_minute != UNITS_PER_MINUTE:
        text += f", {network.quota_units_per_minute:,} units a minute"
    return text


def chosen(arguments: argparse.Namespace, names: list[str]) -> Iterator[Chosen]:
    """What is to be run."""
    if arguments.growth:
        for series in growth.series(arguments.quick):
            if arguments.only in series.title:
                for x, case in series.cases.items():
                    place = (series.title, series.x_name, x)
                    yield Chosen(f"{series.title}, {x:g} {series.x_name}", case, names, place)
        return
    for title, case in all_cases(arguments.quick).items():
        if arguments.only in title and (arguments.only or not case.asked_for):
            yield Chosen(title, case, able(case, names, chosen_by_hand=arguments.systems is not None))


def able(case: Case, names: list[str], *, chosen_by_hand: bool) -> list[str]:
    """Those of the systems that can do a case; where none was chosen, all that a case has of its own."""
    if case.systems is None:
        return [name for name in names if name not in systems.COPIERS and (name != "disk" or case.on_disk)]
    return [name for name in case.systems if name in names or not chosen_by_hand]


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
    parser.add_argument(
        "--quota",
        type=int,
        metavar="UNITS",
        default=UNITS_PER_MINUTE,
        help="units a minute of one user (default: Google's)",
    )
    parser.add_argument("--peer", metavar="NAME", help="another mount to measure; --mount-command makes it")
    parser.add_argument(
        "--mount-command",
        metavar="COMMAND",
        help="runs in the foreground; {mountpoint}, {cache}, {endpoint}, {credentials}, {proxy}, {ca} are filled in",
    )
    parser.add_argument("--list", action="store_true", help="name the cases, and measure nothing")
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="keep all figures in FILE after each run; what is in it of these cases is measured anew",
    )
    parser.add_argument(
        "--continue", dest="go_on", action="store_true", help="measure only what FILE lacks of so many runs of each"
    )
    parser.add_argument(
        "--for",
        dest="for_s",
        type=float,
        metavar="SECONDS",
        default=math.inf,
        help="begin no run but the first that may take longer than that; the exit code is 3 when some are left",
    )
    parser.add_argument(
        "--profile", type=Path, metavar="FOLDER", help="sample what our process does, and keep no figures"
    )
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="draw there, as PNG and SVG")
    found = parser.parse_args()
    if (found.peer is None) != (found.mount_command is None):
        parser.error("--peer and --mount-command go together")
    if found.go_on and found.json is None:
        parser.error("--continue needs --json FILE")
    if found.profile is not None and found.json is not None:
        parser.error("--profile slows down what it looks at: such figures are not kept")
    if found.report and (found.report[0] != "report" or len(found.report) != 2):
        parser.error("the only other words are 'report FILE'")
    return found


def terminated(_number: int, _frame: object) -> None:
    """What is mounted is unmounted all the same."""
    raise KeyboardInterrupt


def measure(arguments: argparse.Namespace) -> tuple[Results, bool]:
    """Run what was chosen, and whether that is all; Ctrl-C keeps what there is."""
    until_s = time.monotonic() + arguments.for_s
    network = Network(arguments.latency, arguments.bandwidth, arguments.shared_bandwidth, arguments.quota)
    made = makers(arguments.peer, arguments.mount_command)
    names = arguments.systems.split(",") if arguments.systems else GROWTH_SYSTEMS if arguments.growth else SYSTEMS
    if arguments.peer is not None and arguments.peer not in names:
        names = [*names, arguments.peer]
    unknown = set(names) - set(made)
    if unknown:
        sys.exit(f"bench/run: there is no system {', '.join(sorted(unknown))}: choose from {', '.join(made)}.")
    cases = list(chosen(arguments, names))
    file: Path | None = arguments.json
    results = Results.from_json(file.read_text()) if file is not None and file.exists() else Results()
    results.network = described(network)
    if not arguments.go_on:
        results.forget({each.title for each in cases})

    def keep() -> None:
        if file is not None:
            results.write(file)

    signal.signal(signal.SIGTERM, terminated)
    with tempfile.TemporaryDirectory(prefix="drivefs-bench-") as folder:
        bench = Bench(Path(folder), made, network, results, keep, arguments.profile)
        try:
            return results, bench.run(cases, 1 if arguments.quick else arguments.runs, until_s)
        except KeyboardInterrupt:
            print("stopped; what was measured so far:", file=sys.stderr)
            return results, False


def main() -> int:
    arguments = parsed()
    if arguments.list:
        print("\n".join(each.title for each in chosen(arguments, [])))
        return 0
    if arguments.report:
        results, all_done = Results.from_json(Path(arguments.report[1]).read_text()), True
    else:
        results, all_done = measure(arguments)
    print(report.whole(results))
    if arguments.plots is not None:
        from bench import plots  # noqa: PLC0415 - matplotlib takes a second

        for file in plots.draw(results, arguments.plots):
            print(file, file=sys.stderr)
    if not all_done:
        return 3
    return 1 if any(run.failure for run in results.runs if run.system.startswith(OURS)) else 0


if __name__ == "__main__":
    sys.exit(main())
