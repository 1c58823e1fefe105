"""The supervisor with real, tiny processes in place of the mount's: what is brought back, and what ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from drivefs import supervisor
from drivefs.supervisor import ENDING, KEEP, READY, Kept, Link, Supervisor, pause_s

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
    """Starts the shell scripts given, one after the other; fd 3 is its end of the socket, 4 what was kept."""

    def __init__(self, *scripts: str, on_start: Callable[[int], None] = lambda pid: None) -> None:
        self.scripts = list(scripts)
        self.restarts: list[int] = []
        self.kept: list[Kept] = []
        self.said: list[str] = []
        self._on_start = on_start

    def start(self, restarts: int, end: int, kept: Kept) -> int:
        self.restarts.append(restarts)
        self.kept.append(kept)
        self.end = end
        script = self.scripts.pop(0)
        pid = os.posix_spawn(
            "/bin/sh",
            ["sh", "-c", script],
            os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, fd, at) for at, fd in enumerate((end, *kept[0]), 3)],
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


def test_supervisor_hands_what_was_kept_to_each_that_comes_after(no_pause: list[int], tmp_path: Path) -> None:
    said = tmp_path / "said"
    memory = os.memfd_create("kept")
    os.write(memory, b"of the first\n")

    def keep(pid: int) -> None:
        if len(lives.restarts) == 1:
            link = Link.from_arguments([str(os.dup(lives.end)), "0", ""])
            link.keep([memory], "and this")
            link.close()

    again = f"cat /dev/fd/4 >> {said}; {says(READY)}"
    lives = Lives(f"{says(READY)}; {KILL}", f"{again}; {KILL}", f"{again}; {says(ENDING)}", on_start=keep)
    assert lives.run() == 0
    assert [text for _, text in lives.kept] == ["", "and this", "and this"]
    assert said.read_text() == "of the first\n" * 2
    os.close(memory)


def test_link_outlives_the_supervisor() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    link = Link.from_arguments([str(theirs.detach()), "3", "text"])
    assert link.kept == ([], "text")
    link.tell(READY)
    assert ours.recv(9) == READY
    link.keep([0], "text")
    assert ours.recv(9) == KEEP + b"text"
    ours.close()
    link.tell(ENDING)
    link.close()


def test_supervisor_is_small(tmp_path: Path) -> None:
    code = "import drivefs.supervisor, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"threading", "subprocess", "logging", "ctypes", "json", "drivefs.errors"} & set(loaded)
