"""Somebody at a shell who signs in, with a home of their own."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import click
import pytest

from drivefs import cli
from drivefs.emulator import Running
from tests.browser import come_back

LIMIT_S = 60.0
ANNE, BEN = "anne@example.com", "ben@example.com"


class _Paster(io.StringIO):
    """A terminal's input: whoever reads a line gets the address that the link shown so far leads back to."""

    def __init__(self, shown: io.StringIO, as_: str | None, changes: dict[str, str]) -> None:
        super().__init__()
        self._shown, self._as, self._changes = shown, as_, changes

    def readline(self, size: int = -1, /) -> str:
        link = next(line.strip() for line in self._shown.getvalue().splitlines() if line.strip().startswith("http"))
        return come_back(link, self._as, **self._changes) + "\n"


class Person:
    """Somebody at a shell, with a home of their own."""

    def __init__(self, server: Running, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.server, self.home = server, home
        self.client = home / "client.json"
        self.client.write_text(json.dumps(server.admin.client_secrets()))
        for name in (*os.environ, "CLOUDSDK_CONFIG"):
            if name.startswith(("DRIVEFS_", "XDG_")) or name in ("DISPLAY", "WAYLAND_DISPLAY", "CLOUDSDK_CONFIG"):
                monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HOME", str(home))
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        monkeypatch.chdir(home)
        self._patch = monkeypatch

    def start(self, *arguments: str | Path, **environment: str) -> subprocess.Popen[str]:
        """The command as a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "drivefs", *map(str, arguments)],
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str | Path, code: int = 0, stdin: io.StringIO | None = None, **environment: str) -> str:
        """Both outputs of the command, run in this process, which ends with `code`."""
        return self._run(io.StringIO(), arguments, code, stdin or io.StringIO(), environment)

    def _run(
        self,
        shown: io.StringIO,
        arguments: tuple[str | Path, ...],
        code: int,
        stdin: io.StringIO,
        environment: dict[str, str],
    ) -> str:
        with self._patch.context() as patch, redirect_stdout(shown), redirect_stderr(shown):
            patch.setattr(sys, "stdin", stdin)
            for name, value in environment.items():
                patch.setenv(name, value)
            try:
                ended = cli.main.main(list(map(str, arguments)), "drivefs", standalone_mode=False)
            except click.ClickException as error:
                error.show()
                ended = error.exit_code
        assert (ended or 0) == code, shown.getvalue()
        return shown.getvalue()

    def login(self, *arguments: str | Path, as_: str | None = ANNE, code: int = 0, **changes: str) -> str:
        """Signs in by pasting the address."""
        shown = io.StringIO()
        stdin = _Paster(shown, as_, changes)
        words = ("auth", "login", "--headless", "--endpoint", self.server.endpoint, *arguments)
        return self._run(shown, words, code, stdin, {})

    def account(self, name: str = "default") -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.account_file(name).read_text())
        return found

    def account_file(self, name: str = "default") -> Path:
        return self.home / ".config" / "drivefs" / "accounts" / f"{name}.json"

    def status(self, *arguments: str, code: int = 0) -> list[dict[str, Any]]:
        """What `auth status --json` prints of the accounts."""
        found: list[dict[str, Any]] = json.loads(self.run("auth", "status", "--json", *arguments, code=code))[
            "accounts"
        ]
        return found


def read_link(process: subprocess.Popen[str]) -> tuple[str, str]:
    """The link that a sign-in shows, and all that it has shown until then."""
    assert process.stderr is not None
    shown = ""
    for line in process.stderr:
        shown += line
        if line.strip().startswith("http"):
            return line.strip(), shown
    raise AssertionError(shown)
