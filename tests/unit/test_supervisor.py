"""The supervisor with real, tiny processes in place of the mount's: what is brought back, and what ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from drivefs import supervisor
from drivefs.supervisor import ENDING, READY, Link, Supervisor, pause_s

KILL = "kill -9 $$"


@pytest.fixture(autouse=True)
def _blocked() -> Iterator[None]:
    signals = {signal.SIGCHLD, *supervisor.SIGNALS}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    yield
    while signal.sigtimedwait(signals, 0) is not None:
        pass  # of a child that ended meanwhile: the next test must not see it
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    asked: list[int] = []

    def pause_s(quick_deaths: int) -> float:
        asked.append(quick_deaths)
        return 0.0

    monkeypatch.setattr(supervisor, "pause_s", pause_s)
    return asked


class Lives:
    """Starts the shell scripts given, one after the other; each may write to the pipe as fd 3."""

    def __init__(self, *scripts: str, on_start: Callable[[int], None] = lambda pid: None) -> None:
        self.scripts = list(scripts)
        self.restarts: list[int] = []
        self.said: list[str] = []
        self._on_start = on_start

    def start(self, restarts: int, pipe: int) -> int:
        self.restarts.append(restarts)
        script = self.scripts.pop(0)
        pid = os.posix_spawn(
            "/bin/sh",
            ["sh", "-c", script],
            os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, pipe, 3)],
            setsigmask=(),
        )
        self._on_start(pid)
        return pid

    def run(self) -> int:
        return Supervisor(self.start, self.said.append).run()


def says(word: bytes) -> str:
    return f"printf {word.decode()} >&3"


def test_supervisor_brings_back_what_was_killed(no_pause: list[int]) -> None:
    lives = Lives(f"{says(READY)}; {KILL}", f"{says(READY)}; exit 7", f"{says(READY)}; {says(ENDING)}")
    assert lives.run() == 0
    assert lives.restarts == [0, 1, 2]
    assert [line.split(":")[0] for line in lives.said] == [
        "WARNING The mount's process was killed by signal 9",
        "WARNING The mount's process ended with code 7",
    ]


@pytest.mark.parametrize(
    ("script", "code"),
    [("exit 4", 4), (KILL, 128 + 9), (f"{says(READY)}; {says(ENDING)}; exit 1", 1), ("kill -TERM $$", 128 + 15)],
)
def test_supervisor_ends_with_a_mount_that_never_was_or_ended_on_purpose(script: str, code: int) -> None:
    lives = Lives(script)
    assert lives.run() == code
    assert (lives.restarts, lives.said) == ([0], [])


def test_supervisor_goes_on_when_the_second_start_fails(no_pause: list[int]) -> None:
    lives = Lives(f"{says(READY)}; {KILL}", "exit 1", f"{says(READY)}; {says(ENDING)}")
    assert lives.run() == 0
    assert no_pause == [1, 2]


def test_supervisor_gives_up_what_dies_again_and_again(no_pause: list[int]) -> None:
    lives = Lives(*[f"{says(READY)}; {KILL}"] * 9)
    assert lives.run() == 1
    assert len(lives.restarts) == supervisor.QUICK_DEATHS
    assert lives.said[-1].startswith("ERROR") and "given up" in lives.said[-1]


def test_supervisor_has_patience_with_what_lived_for_a_while(
    no_pause: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "QUICK_S", 0.0)
    lives = Lives(*[f"{says(READY)}; {KILL}"] * 9, f"{says(READY)}; {says(ENDING)}")
    assert lives.run() == 0
    assert set(no_pause) == {1}


def test_supervisor_waits_longer_each_time() -> None:
    assert [pause_s(deaths) for deaths in range(1, 5)] == [0.0, 1.0, 2.0, 4.0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_supervisor_passes_signals_on_and_ends(number: signal.Signals) -> None:
    name = number.name.removeprefix("SIG")
    lives = Lives(
        # Not told to the supervisor in time, and yet it does not bring it back.
        f"trap 'exit 5' {name}; {says(READY)}; while :; do sleep 0.01; done",
        on_start=lambda pid: signal.pthread_kill(threading.get_ident(), number),
    )
    assert lives.run() in (5, 128 + number)
    assert lives.restarts == [0]


def test_supervisor_that_is_told_to_end_in_a_pause_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "pause_s", lambda quick_deaths: 60.0)
    lives = Lives(f"{says(READY)}; {KILL}")

    def say(text: str) -> None:
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

    assert Supervisor(lives.start, say).run() == 1
    assert lives.restarts == [0]


def test_link_outlives_the_supervisor() -> None:
    reading, writing = os.pipe()
    link = Link(writing, 3)
    link.tell(READY)
    assert os.read(reading, 9) == READY
    os.close(reading)
    link.tell(ENDING)
    os.close(writing)


def test_supervisor_is_small(tmp_path: Path) -> None:
    code = "import drivefs.supervisor, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"threading", "subprocess", "logging", "ctypes", "json", "drivefs.errors"} & set(loaded)
