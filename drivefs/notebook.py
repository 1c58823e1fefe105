"""mount(), flush(), status() and unmount() for Colab and Jupyter, and for any Python program.

They do what the commands of their names do, in the process that calls them, and show it as a notebook does: a bar
that is updated in place, a table of what waits. The mount itself is served by processes of its own, which outlive the
kernel; after it `!drivefs …` works in any cell. Errors are those of the command: one sentence, with a way out.
"""

from __future__ import annotations

import html
import importlib.util
import os
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import click

from drivefs.cli.account import signed_in
from drivefs.cli.mounting import begin, end
from drivefs.cli.progress import FlushProgress, Shown, files_text, size_text, time_text
from drivefs.cli.queue import NOTHING, flush_all, raise_worst, states
from drivefs.config import Settings, config_file, load_settings
from drivefs.control import Json
from drivefs.errors import SignInNeeded
from drivefs.mounts import get_running, resolve, running

MOUNTPOINT = "/content/drive"
"""Where Colab's own mount is, too."""
_SHOW_S = 0.2


def mount(mountpoint: str | Path = MOUNTPOINT, **settings: Any) -> None:
    """Mount Google Drive on a folder, laid out as Colab's own mount (MyDrive, Shareddrives); `settings` are the
    options of `drivefs mount`, such as cache_size="20G" or layout="flat".

    Where nobody is signed in and this is Colab, it asks Colab for it first. Mounted there already, it is left so.
    Raises SignInNeeded and other UserErrors with a sentence.
    """
    where = resolve(Path(mountpoint))
    if any(one.record.mountpoint == where for one in running()):
        click.echo(f"{where} is mounted already.")
        return
    wanted = {"layout": "colab", **settings} if settings.get("root") is None else settings
    chosen = load_settings(where, wanted, os.environ, config_file())
    _sign_in(chosen)
    where.parent.mkdir(parents=True, exist_ok=True)
    begin(chosen)


def flush(*paths: str | Path, timeout: float | None = None) -> None:
    """Wait until everything written so far (or what lies at or below `paths`) is on Drive, `timeout` seconds at most.

    Returns only when Drive has confirmed every checksum. Raises TimedOut, SignInNeeded, UserError.
    """
    raise_worst(flush_all(tuple(map(Path, paths)), timeout, _progress, quiet=False))


def status(mountpoint: str | Path | None = None) -> Status:
    """The mounts and what is on its way to Drive: a table in a notebook, text elsewhere."""
    return Status(states(None if mountpoint is None else Path(mountpoint)))


def unmount(mountpoint: str | Path | None = None, *, wait: bool = True, timeout: float | None = None) -> None:
    """Send everything to Drive, then unmount. Not to `wait` leaves what is left for the next mount.

    Raises TimedOut and UserError; then it stays mounted.
    """
    where = get_running(None).record.mountpoint if mountpoint is None else resolve(Path(mountpoint))
    end(where, _progress(), wait=wait, timeout_s=timeout)


# --- signing in ---


def _sign_in(settings: Settings) -> None:
    """Make sure that there is a sign-in. Raises SignInNeeded with the line to run first."""
    try:
        signed_in(settings)
    except SignInNeeded:
        if not _is_colab():
            raise
        import_module("google.colab.auth").authenticate_user()
        signed_in(settings)


def _is_colab() -> bool:
    try:
        return importlib.util.find_spec("google.colab") is not None
    except ModuleNotFoundError:  # not even google
        return False


# --- what a notebook shows ---


def _display() -> Any:
    """IPython's display module where this is a notebook's kernel; None in a terminal or a plain program."""
    try:
        from IPython import display, get_ipython  # noqa: PLC0415 - only a notebook needs it
    except ImportError:
        return None
    shell = get_ipython()
    return display if shell is not None and hasattr(shell, "kernel") else None


def _progress() -> Shown:
    display = _display()
    return FlushProgress() if display is None else Bar(display)


class Bar:
    """A flush's progress as one output that is updated in place. Use as a context."""

    def __init__(self, display: Any) -> None:
        """`display` is IPython.display."""
        self._display = display
        self._handle: Any = None
        self._began_s = self._shown_s = time.monotonic()
        self._first_bytes: int | None = None
        self._last: Json | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        if self._last is not None:
            done = {"bytes_left": 0, "files_left": 0, "pause": None, "current": ""} if kind is None else {}
            self._show({**self._last, **done})

    def update(self, progress: Json) -> None:
        """Show a progress object, five times a second at most."""
        self._last = progress
        now_s = time.monotonic()
        if self._handle is None or now_s - self._shown_s >= _SHOW_S:
            self._shown_s = now_s
            self._show(progress)

    def _show(self, progress: Json) -> None:
        shown = self._display.HTML(self._markup(progress))
        if self._handle is None:
            self._handle = self._display.display(shown, display_id=True)
        else:
            self._handle.update(shown)

    def _markup(self, progress: Json) -> str:
        done_bytes = progress["bytes"] - progress["bytes_left"]
        if self._first_bytes is None:
            self._first_bytes = done_bytes
        text = f"{size_text(done_bytes)} of {size_text(progress['bytes'])}"
        text += f", {progress['files'] - progress['files_left']} of {progress['files']} files"
        rate = (done_bytes - self._first_bytes) / max(time.monotonic() - self._began_s, 1e-3)
        if rate > 0 and progress["bytes_left"]:
            text += f", {size_text(rate)}/s, {time_text(progress['bytes_left'] / rate)} left"
        what = f"paused: {progress['pause']}" if progress["pause"] else progress["current"] or ""
        bar = f'<progress value="{done_bytes}" max="{max(progress["bytes"], 1)}" style="width:20em"></progress>'
        return f"<div>{bar} {html.escape(text)}<br><small>{html.escape(what)}</small></div>"


class Status:
    """What `drivefs status` tells: `mounts` has its objects."""

    def __init__(self, mounts: Sequence[Json]) -> None:
        self.mounts = list(mounts)

    def __repr__(self) -> str:
        return "\n".join(f"{mount['mountpoint']}: {'; '.join(_facts(mount))}" for mount in self.mounts) or NOTHING

    def _repr_html_(self) -> str:
        if not self.mounts:
            return f"<p>{NOTHING}</p>"
        return "".join(_table(mount) for mount in self.mounts)


def _facts(mount: Json) -> list[str]:
    """One mount in a few words each."""
    queue = mount["queue"]
    facts = ["mounted" if mount["running"] else "not mounted"]
    if mount.get("error"):
        return [*facts, mount["error"]]
    waiting = queue["files"] or queue["writing_files"]
    facts.append(f"{files_text(queue['files'], queue['bytes'])} waiting" if waiting else "everything is on Drive")
    if queue["oldest_s"] is not None and queue["files"]:
        facts.append(f"the oldest for {time_text(queue['oldest_s'])}")
    if mount["pause"]:
        facts.append(f"paused: {mount['pause']['reason']}")
    elif mount["offline"]:
        facts.append(f"offline: {mount['offline']}")
    if queue["parked"]:
        facts.append(f"{queue['parked']} that Drive does not take")
    return facts


def _table(mount: Json) -> str:
    rows = [(html.escape(fact), "") for fact in _facts(mount)]
    for upload in mount["uploads"]:
        bar = f'<progress value="{upload["done_bytes"]}" max="{max(upload["bytes"], 1)}"></progress>'
        rate = f" {size_text(upload['rate_bytes_s'])}/s" if upload["rate_bytes_s"] else ""
        rows.append((html.escape(upload["path"]), f"{bar} of {size_text(upload['bytes'])}{rate}"))
    rows += [(html.escape(each["path"]), html.escape(each["reason"])) for each in mount["parked"]]
    body = "".join(f"<tr><td>{left}</td><td>{right}</td></tr>" for left, right in rows)
    return f"<table><tr><th colspan=2>{html.escape(mount['mountpoint'])}</th></tr>{body}</table>"
