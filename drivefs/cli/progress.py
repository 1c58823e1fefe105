"""How a flush is shown: a bar on a terminal, a plain line every few seconds elsewhere (a notebook's `!`, a log)."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from drivefs.control import Json

LINE_EVERY_S = 3.0


def size_text(size_bytes: float) -> str:
    """`1.5 GiB`."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size_bytes < 1024:
            return f"{size_bytes:.0f} {unit}" if unit == "bytes" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.1f} TiB"


def damage_text(cache: Json) -> str:
    """What the disk was found to have damaged, of a mount's answer."""
    damaged, mended = cache["damaged_blocks"], cache["mended_blocks"]
    return (
        f"{damaged} MiB of what Drive has too were damaged by the cache's disk since the mount began, {mended} are "
        "right again: have the disk checked"
    )


def files_text(count: int, size_bytes: int) -> str:
    """`3 files (1.5 GiB)`."""
    return f"{count} file{'' if count == 1 else 's'} ({size_text(size_bytes)})"


def time_text(seconds: float) -> str:
    """`12 s`, `3 min`, `2 h 5 min`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


class _Files(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.fields['done']}/{task.fields['files']} files", style="progress.download")


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        rate = task.finished_speed or task.speed
        return Text(f"{size_text(rate)}/s" if rate else "", style="progress.data.speed")


class Shown(Protocol):
    """Where the progress objects of `Answers.flush` go. Used as a context."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def update(self, progress: Json) -> None:
        """Show a progress object."""


class FlushProgress:
    """Shows the progress objects of `Answers.flush` or `Answers.warm` on standard error. Use as a context; `quiet`
    shows nothing."""

    def __init__(self, title: str = "To Drive", *, quiet: bool = False, console: Console | None = None) -> None:
        self._title = title
        self._console = console or Console(file=sys.stderr)
        self._quiet = quiet
        self._bar: Progress | None = None
        self._started_s = self._line_s = time.monotonic()
        self._first_bytes: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        if self._bar is not None:
            if kind is None:
                task = self._bar.tasks[0]
                self._bar.update(task.id, completed=task.total, done=task.fields["files"])
            self._bar.stop()

    def update(self, progress: Json) -> None:
        """Show a progress object."""
        if self._quiet:
            return
        done_bytes = progress["bytes"] - progress["bytes_left"]
        done_files = progress["files"] - progress["files_left"]
        if self._first_bytes is None:
            self._first_bytes = done_bytes
        what = f"paused: {progress['pause']}" if progress["pause"] else progress["current"] or "Drive"
        if self._console.is_terminal:
            self._draw(progress, done_bytes, done_files, what)
        elif time.monotonic() - self._line_s >= LINE_EVERY_S:
            self._line_s = time.monotonic()
            self._print_line(progress, done_bytes - self._first_bytes, done_bytes, done_files, what)

    def _draw(self, progress: Json, done_bytes: int, done_files: int, what: str) -> None:
        if self._bar is None:
            self._bar = Progress(
                SpinnerColumn(),
                TextColumn(self._title),
                BarColumn(),
                DownloadColumn(binary_units=True),
                _Files(),
                _Rate(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[what]}", markup=False),
                console=self._console,
            )
            self._bar.add_task("flush", total=progress["bytes"], done=0, files=progress["files"], what="")
            self._bar.start()
        shown = what if len(what) <= 60 else f"…{what[-59:]}"
        self._bar.update(
            self._bar.tasks[0].id,
            completed=done_bytes,
            total=max(progress["bytes"], 1),
            done=done_files,
            files=progress["files"],
            what=shown,
        )

    def _print_line(self, progress: Json, moved: int, done_bytes: int, done_files: int, what: str) -> None:
        rate = moved / (time.monotonic() - self._started_s)
        text = (
            f"{self._title}: {size_text(done_bytes)} of {size_text(progress['bytes'])}, "
            f"{done_files} of {progress['files']} files"
        )
        if rate > 0:
            text += f", {size_text(rate)}/s, {time_text(progress['bytes_left'] / rate)} left"
        self._console.print(f"{text} ({what})", markup=False, highlight=False, soft_wrap=True)
