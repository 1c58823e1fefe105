"""The real command line in this process, against the emulator."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from drivefs import cli
from drivefs.emulator import Running

Run = Callable[..., Result]


def runner(emulator: Running, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `drivefs ARGUMENTS` as the emulator's first account, with settings and state of its own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(folder / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
    monkeypatch.setenv("DRIVEFS_ENDPOINT", emulator.endpoint)
    monkeypatch.setenv("DRIVEFS_CREDENTIALS", str(emulator.credentials_file))

    def invoke(*arguments: str, code: int = 0) -> Result:
        result = CliRunner().invoke(cli.main, arguments)
        assert result.exit_code == code, result.output
        return result

    return invoke
