"""Measurements on disk: one JSON file that several runs add to, and what the figures in it come to.

{"machine": text, "runs": [{case, system, series, x, x_name, main, figures: {name: value}, failure, within_s,
                            took_s}, …],
 "limits": {case: {figures: {name: value}, why}}, "network": text}
"""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.measured import Limit

OURS = "drivefs"


def machine() -> str:
    return f"{platform.system()} {platform.release()}, {os.cpu_count()} cores, Python {platform.python_version()}"


@dataclass(frozen=True)
class Run:
    """One run of one case on one system."""

    case: str
    system: str
    main: str
    figures: dict[str, float]
    series: str | None = None
    x: float | None = None
    x_name: str | None = None
    failure: str | None = None
    """What was wrong with what the system did; then there are no figures."""
    within_s: float | None = None
    """Nothing was wrong, but it was not done within so many seconds."""
    took_s: float = 0.0
    """The run as a whole, with all that is not measured."""


@dataclass(frozen=True)
class Summary:
    """What several runs of one figure came to."""

    median: float
    least: float
    most: float
    runs: int


@dataclass
class Results:
    """All that was measured, in the order in which it was."""

    machine: str = field(default_factory=machine)
    network: str = ""
    runs: list[Run] = field(default_factory=list)
    limits: dict[str, Limit] = field(default_factory=dict)

    def cases(self) -> list[str]:
        """Names of the cases that stand for themselves, and not for a series."""
        return list(dict.fromkeys(run.case for run in self.runs if run.series is None))

    def series(self) -> list[str]:
        return list(dict.fromkeys(run.series for run in self.runs if run.series is not None))

    def systems(self, case: str) -> list[str]:
        return list(dict.fromkeys(run.system for run in self.runs if run.case == case))

    def main(self, case: str) -> str:
        return next(run.main for run in self.runs if run.case == case)

    def figures(self, case: str) -> list[str]:
        """Names of what was measured, each once."""
        return list(dict.fromkeys(name for run in self.runs if run.case == case for name in run.figures))

    def summary(self, case: str, system: str, figure: str) -> Summary | None:
        """None where it was not measured."""
        return summarized(
            run.figures[figure]
            for run in self.runs
            if (run.case, run.system) == (case, system) and figure in run.figures
        )

    def failure(self, case: str, system: str) -> str | None:
        """What went wrong in a run of it, if anything did."""
        return next(
            (run.failure for run in self.runs if (run.case, run.system) == (case, system) and run.failure), None
        )

    def not_within(self, case: str, system: str) -> float | None:
        """The time that a run of it was given, if that was too short for one."""
        runs = [run for run in self.runs if (run.case, run.system) == (case, system)]
        return next((run.within_s for run in runs if run.within_s is not None), None)

    def ratio(self, case: str, system: str, figure: str) -> float | None:
        """How many times ours a system's median is; None where a run of either failed."""
        if self.failure(case, system) is not None or self.failure(case, OURS) is not None:
            return None
        theirs, ours = self.summary(case, system, figure), self.summary(case, OURS, figure)
        return theirs.median / ours.median if theirs is not None and ours is not None and ours.median else None

    def forget(self, cases: set[str]) -> None:
        """They are measured anew."""
        self.runs = [run for run in self.runs if run.case not in cases]

    def to_json(self) -> str:
        limits = {case: {"figures": dict(limit.figures), "why": limit.why} for case, limit in self.limits.items()}
        runs = [asdict(run) for run in self.runs]
        return json.dumps(
            {"machine": self.machine, "network": self.network, "limits": limits, "runs": runs}, indent=1
        )

    def write(self, file: Path) -> None:
        """Whole or not at all: the end may come at any time."""
        beside = file.with_suffix(".new")
        beside.write_text(self.to_json() + "\n")
        beside.replace(file)

    @classmethod
    def from_json(cls, text: str) -> Results:
        found: dict[str, Any] = json.loads(text)
        limits = {case: Limit(each["figures"], each["why"]) for case, each in found["limits"].items()}
        return cls(found["machine"], found["network"], [Run(**run) for run in found["runs"]], limits)


def summarized(values: Iterable[float]) -> Summary | None:
    """Median and range; None of nothing."""
    found = sorted(values)
    return Summary(statistics.median(found), found[0], found[-1], len(found)) if found else None
