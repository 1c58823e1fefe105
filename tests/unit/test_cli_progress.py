"""How a flush is shown: a bar on a terminal, plain lines elsewhere, nothing for a program."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from drivefs.cli import progress
from drivefs.cli.progress import FlushProgress, files_text, size_text, time_text
from drivefs.control import Json


def step(files_left: int, bytes_left: int, pause: str | None = None) -> Json:
    return {
        "files": 3,
        "bytes": 3 << 20,
        "files_left": files_left,
        "bytes_left": bytes_left,
        "current": "run/[red]model",
        "pause": pause,
    }


def shown(*steps: Json, terminal: bool, quiet: bool = False) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=200, color_system=None)
    with FlushProgress(console=console, quiet=quiet) as bar:
        for each in steps:
            bar.update(each)
    return out.getvalue()


def test_progress_on_a_terminal_is_a_bar_with_bytes_files_rate_and_time_left() -> None:
    text = shown(step(3, 3 << 20), step(2, 1 << 20), terminal=True)
    assert "3.0/3.0 MiB" in text and "3/3 files" in text
    assert "run/[red]model" in text


def test_progress_elsewhere_is_a_plain_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = iter(range(0, 1000, 2))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(now_s)))
    text = shown(step(3, 3 << 20), step(2, 2 << 20), step(1, 1 << 20, pause="No reply."), terminal=False)
    assert "\r" not in text and "\x1b" not in text
    lines = text.splitlines()
    assert 1 <= len(lines) <= 3
    assert "of 3.0 MiB" in lines[-1] and "files" in lines[-1]


def test_progress_says_why_nothing_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.0)
    assert "paused: No reply." in shown(step(3, 3 << 20, pause="No reply."), terminal=False)


def test_progress_for_a_program_is_silent() -> None:
    assert shown(step(3, 3 << 20), step(0, 0), terminal=True, quiet=True) == ""


def test_progress_of_a_flush_with_nothing_to_do_is_silent() -> None:
    assert shown(terminal=True) == shown(terminal=False) == ""


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1 << 20, "1.0 MiB"),
        (1.5 * (1 << 40), "1.5 TiB"),
        (1 << 52, "4096.0 TiB"),
    ],
)
def test_size_is_told_in_a_fitting_unit(size_bytes: float, text: str) -> None:
    assert size_text(size_bytes) == text


def test_counts_and_times_read_well() -> None:
    assert files_text(1, 5) == "1 file (5 bytes)"
    assert files_text(0, 0) == "0 files (0 bytes)"
    assert [time_text(seconds) for seconds in (0.4, 99, 100, 3600, 7500)] == [
        "0 s",
        "99 s",
        "2 min",
        "60 min",
        "2 h 5 min",
    ]
