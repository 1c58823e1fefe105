"""What bench/run says of its measurements: medians, ranges, ratios, limits; and files that runs add to."""

from __future__ import annotations

import math
import threading
import time
from pathlib import Path

import pytest

from bench import report
from bench.measured import Case, Limit, Measured, MiB, Network
from bench.results import Results, Run, summarized
from bench.runner import Bench, Chosen, TooLate, bounded


def results(*runs: tuple[str, str, float]) -> Results:
    made = [Run(case, system, "seconds", {"seconds": seconds}) for case, system, seconds in runs]
    return Results("a machine", "a network", made)


def test_summary_is_median_and_range() -> None:
    found = summarized([3.0, 1.0, 100.0])
    assert found is not None
    assert (found.median, found.least, found.most, found.runs) == (3.0, 1.0, 100.0, 3)
    assert summarized([]) is None
    assert report.cell(found) == "3 (1 to 100)"
    assert report.cell(summarized([0.1234])) == "0.123"


def test_summary_says_ahead_and_behind_as_plainly() -> None:
    found = results(
        ("read", "drivefs", 1.0),
        ("read", "rclone best flags", 2.5),
        ("write", "drivefs", 3.0),
        ("write", "rclone", 1.0),
    )
    found.limits["read"] = Limit({"seconds": 0.5}, "the bytes")
    lines = list(report.summary_table(found))
    assert lines[2] == "| read | seconds | 0.5 | 1 | 2.5 |  | 2.5 times |  |  |"
    assert lines[3] == "| write | seconds |  | 3 |  | 1 | behind: 3.0 times |  |  |"


def test_summary_says_what_the_work_cost_both() -> None:
    found = Results("a machine", "a network")
    found.runs.append(Run("find", "drivefs", "seconds", {"seconds": 1.0, "requests": 15, "memory_MB": 70.4}))
    found.runs.append(Run("find", "rclone", "seconds", {"seconds": 2.0, "requests": 202}))
    assert list(report.summary_table(found))[2] == "| find | seconds |  | 1 | 2 | 2.0 times | 15; 202 | 70.4 |"


def test_summary_shows_what_was_wrong_instead_of_figures() -> None:
    found = results(("read", "drivefs", 1.0))
    found.runs.append(Run("read", "rclone", "seconds", {}, failure="AssertionError: wrong bytes"))
    assert "| read | seconds |  | 1 | wrong |  |  |  |" in list(report.summary_table(found))
    assert "rclone: AssertionError: wrong bytes" in report.whole(found)


def test_summary_says_what_was_not_done_in_time() -> None:
    found = results(("kill", "drivefs", 1.0))
    found.runs.append(Run("kill", "rclone", "seconds", {"seconds": 0.9}))
    found.runs.append(Run("kill", "rclone", "seconds", {}, failure="not within 60 s", within_s=60.0))
    assert "| kill | seconds |  | 1 | not within 60 s |  |  |  |" in list(report.summary_table(found))


def test_summary_shows_the_wait_of_a_program_beside_the_disk() -> None:
    found = Results("a machine", "a network")
    found.runs.append(Run("write", "disk", "durable_s", {"close_s": 0.5}))
    found.runs.append(Run("write", "drivefs", "durable_s", {"close_s": 0.6, "durable_s": 7.0}))
    lines = list(report.summary_table(found))
    assert lines[2] == "| write | close_s | the disk: 0.5 | 0.5 | 0.6 |  |  |  |"
    assert lines[3] == "| write | durable_s |  |  | 7 |  |  |  |"


def test_results_are_kept_whole_and_measured_anew_by_case(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    found = results(("a", "drivefs", 1.0), ("b", "drivefs", 2.0))
    found.limits["a"] = Limit({"seconds": 0.5}, "the bytes")
    found.write(file)
    again = Results.from_json(file.read_text())
    assert again == found
    again.forget({"b"})
    assert again.cases() == ["a"]


def test_runs_go_on_round_by_round_from_what_is_there(tmp_path: Path) -> None:
    done: list[tuple[str, str]] = []
    made = Results("a machine", "a network", [Run("one", "x", "s", {"s": 1.0}, took_s=5.0)])

    class Counted(Bench):
        def _run(self, chosen: Chosen, place: int, name: str) -> Run:
            done.append((chosen.title, name))
            return Run(chosen.title, name, "s", {"s": 1.0}, took_s=5.0)

    case = Case(lambda system, emulator: Measured(), "s", usual_s=5.0)
    chosen = [Chosen("one", case, ["x", "y"]), Chosen("two", case, ["x"])]
    bench = Counted(tmp_path, {}, Network(), made, lambda: None)
    assert not bench.run(chosen, 2, until_s=time.monotonic() + 1)
    assert done == [("one", "y")]
    assert bench.run(chosen, 2, until_s=math.inf)
    assert done == [("one", "y"), ("two", "x"), ("one", "x"), ("one", "y"), ("two", "x")]
    assert bench.run(chosen, 2, until_s=math.inf)
    assert len(done) == 5


def test_bounded_ends_what_takes_too_long() -> None:
    ended = threading.Event()
    with pytest.raises(TooLate), bounded(0.05, ended.set):
        threading.Event().wait()
    assert ended.is_set()


def test_bounded_leaves_alone_what_is_done_in_time() -> None:
    with bounded(1000, lambda: pytest.fail("it was in time")):
        pass


def test_limit_of_the_quota_begins_with_a_minute_of_it() -> None:
    assert Network(quota_units_per_minute=6_000).units_s(5_000) == 0
    assert Network(quota_units_per_minute=6_000).units_s(12_000) == 60


def test_series_are_no_cases_of_their_own() -> None:
    found = Results("m", "n")
    for x in (10.0, 100.0):
        found.runs.append(Run(f"find, {x}", "drivefs", "seconds", {"seconds": x / 10}, "find", x, "entries"))
    assert found.cases() == []
    assert "| 10 | 1 |  |" in list(report.series_tables(found))
    assert "| 100 | 10 |  |" in list(report.series_tables(found))


@pytest.mark.parametrize(
    ("network", "connections", "seconds"),
    [(Network(bandwidth_bytes_s=MiB), 1, 64.0), (Network(bandwidth_bytes_s=MiB), 64, 1.0),
     (Network(bandwidth_bytes_s=MiB, shared_bandwidth_bytes_s=2 * MiB), 64, 32.0)],
)  # fmt: skip
def test_limit_of_bytes_is_the_line_that_they_share(network: Network, connections: int, seconds: float) -> None:
    assert network.transfer_s(64 * MiB, connections) == seconds
