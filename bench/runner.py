"""Runs cases on systems, one run after another, each bounded in time; keeps what was measured after each."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench.measured import Case, Network
from bench.profiles import profiled
from bench.results import OURS, Results, Run
from bench.systems import System, cpu_s, peak_memory_mb
from drivefs.emulator.client import Running, running
from drivefs.emulator.options import Options


class Maker(Protocol):
    """Makes a system ready to be measured, with an empty cache, in the folder `work`."""

    def __call__(self, emulator: Running, work: Path) -> AbstractContextManager[System]: ...


@dataclass(frozen=True)
class Chosen:
    """A case that is to be run, on which systems, and its place in a series: (its title, name of the size, size)."""

    title: str
    case: Case
    systems: Sequence[str]
    series: tuple[str, str, float] | None = None


class TooLate(BaseException):
    """A case has used up its time. No Exception: no part of a case may take it for one of its own errors."""


@contextmanager
def bounded(limit_s: float, end: Callable[[], None]) -> Iterator[None]:
    """Raise TooLate in the main thread after so long; `end` ends what a system call of it may wait for."""

    def late(_number: int, _frame: object) -> None:
        raise TooLate

    def ring() -> None:
        end()
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGALRM)

    before = signal.signal(signal.SIGALRM, late)
    timer = threading.Timer(limit_s, ring)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        signal.signal(signal.SIGALRM, before)


class Bench:
    """`keep` is called after each run with all that was measured. `profiles`: where to write what the process that
    serves a system of ours does; it is slower then."""

    def __init__(
        self,
        folder: Path,
        made: dict[str, Maker],
        network: Network,
        results: Results,
        keep: Callable[[], None],
        profiles: Path | None = None,
    ) -> None:
        self._folder, self._makers, self._network = folder, made, network
        self._results, self._keep, self._profiles = results, keep, profiles
        self._count = 0

    def run(self, chosen: Sequence[Chosen], rounds: int, until_s: float) -> bool:
        """Do what the results lack of so many runs of each, a round of all after another, so that what drifts drifts
        for all. But for the first, begins none that may not be over at `until_s` (monotonic). Returns whether all is
        done."""
        all_done, begun = True, False
        for number in range(rounds):
            for place, each in enumerate(chosen):
                for name in each.systems:
                    so_far = [run for run in self._results.runs if (run.case, run.system) == (each.title, name)]
                    if len(so_far) > number or any(run.failure for run in so_far):
                        continue
                    needed_s = max((run.took_s for run in so_far), default=each.case.usual_s)
                    if begun and time.monotonic() + needed_s > until_s:
                        all_done = False
                        continue
                    begun = True
                    self._results.runs.append(self._run(each, place, name))
                    if each.case.limit is not None:
                        self._results.limits[each.title] = each.case.limit(each.case.network or self._network)
                    self._keep()
        return all_done

    def _run(self, chosen: Chosen, place: int, name: str) -> Run:
        self._count += 1
        case = chosen.case
        work = self._folder / f"{self._count}-{name.replace(' ', '-')}"
        work.mkdir()
        directory = work / "drive" if case.prepare is None else self._folder / f"drive-{place}"
        began = time.monotonic()
        figures: dict[str, float] = {}
        failure, within_s = None, None
        try:
            figures = self._measure(chosen, name, work, directory)
        except TooLate:
            failure, within_s = f"not within {case.within_s:g} s", case.within_s
        except (AssertionError, TimeoutError, OSError, subprocess.SubprocessError) as error:
            # What is wrong with one system must not take the others' figures with it.
            failure = f"{type(error).__name__}: {error}".splitlines()[0]
        print(f"{chosen.title}, {name}: {failure or json.dumps(figures)}", file=sys.stderr, flush=True)
        series, x_name, x = chosen.series or (None, None, None)
        return Run(
            chosen.title, name, case.main, figures, series, x, x_name, failure, within_s, time.monotonic() - began
        )

    def _measure(self, chosen: Chosen, name: str, work: Path, directory: Path) -> dict[str, float]:
        case, network = chosen.case, chosen.case.network or self._network
        options = Options(
            directory=directory,
            latency_s=network.latency_s,
            bandwidth_bytes_s=network.bandwidth_bytes_s,
            shared_bandwidth_bytes_s=network.shared_bandwidth_bytes_s,
            proxy_port=0,
            quota_units_per_minute=network.quota_units_per_minute,
        )
        filled = directory.exists()
        # What an earlier run left for the disk to write must not slow this one down.
        os.sync()
        with running(options) as emulator:
            if case.prepare is not None and not filled:
                case.prepare(emulator)
            emulator.admin.reset_counters()
            with self._makers[name](emulator, work) as made, bounded(case.within_s, lambda: _end(made)):
                pid = made.pid
                before = _processors([emulator.process.pid, pid])
                began = time.perf_counter()
                with self._profile(chosen.title, name, made):
                    figures = case.work(made, emulator).figures
                took_s = time.perf_counter() - began
                if made.pid is not None:
                    figures["memory_MB"] = peak_memory_mb(made.pid)
                if made.pid == pid:
                    # Of one core, with what the case checks: whether the emulator is what is measured.
                    after = _processors([emulator.process.pid, pid])
                    names = ("emulator_cpu", "cpu")
                    figures |= {
                        each: (now - then) / took_s for each, now, then in zip(names, after, before, strict=False)
                    }
                return figures

    def _profile(self, title: str, name: str, made: System) -> AbstractContextManager[None]:
        if self._profiles is None or not name.startswith(OURS) or made.pid is None:
            return nullcontext()
        return profiled(made.pid, self._profiles / f"{title}, {name}.txt")


def _processors(pids: Sequence[int | None]) -> list[float]:
    return [cpu_s(pid) for pid in pids if pid is not None]


def _end(made: System) -> None:
    """Whoever waits for a file of it is told that there is nobody any more."""
    if made.pid is not None:
        os.kill(made.pid, signal.SIGKILL)
