"""What bench/run says of its measurements: medians, ranges, ratios, limits; and files that runs add to."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import report
from bench.measured import Limit, MiB, Network
from bench.results import Results, Run, merge_into, summarized


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
    assert lines[2] == "| read | seconds | 0.5 | 1 | 2.5 |  | 2.5 times |"
    assert lines[3] == "| write | seconds |  | 3 |  | 1 | behind: 3.0 times |"


def test_summary_shows_what_was_wrong_instead_of_figures() -> None:
    found = results(("read", "drivefs", 1.0))
    found.runs.append(Run("read", "rclone", "seconds", {}, failure="AssertionError: wrong bytes"))
    assert "| read | seconds |  | 1 | wrong |  |" in list(report.summary_table(found))
    assert "rclone was wrong: AssertionError: wrong bytes" in report.whole(found)


def test_results_add_up_and_measure_anew_what_was_measured(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    merge_into(file, results(("a", "drivefs", 1.0), ("b", "drivefs", 2.0)))
    whole = merge_into(file, results(("b", "drivefs", 5.0), ("b", "drivefs", 7.0)))
    assert whole.cases() == ["a", "b"]
    assert Results.from_json(file.read_text()) == whole
    found = whole.summary("b", "drivefs", "seconds")
    assert found is not None and (found.median, found.runs) == (6.0, 2)


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
