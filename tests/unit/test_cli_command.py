"""The command's frame: usage, exit codes, and no traceback for anybody who has not asked for one."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from drivefs import cli
from drivefs.errors import CacheInUse, SignInNeeded, TimedOut, UsageError, UserError


@pytest.fixture(autouse=True)
def _no_debugging(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DRIVEFS_DEBUG", raising=False)


ERRORS = {
    "failing": UserError("It failed."),
    "misused": UsageError("Not so."),
    "late": TimedOut("Later."),
    "strange": SignInNeeded("Who?"),
    "inner": CacheInUse("Taken."),
    "unforeseen": ValueError("x is 5"),
}


def raising(name: str) -> click.Command:
    @click.command(name)
    def command() -> None:
        raise ERRORS[name]

    return command


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli.Commands, "get_command", lambda self, ctx, name: raising(name))


@pytest.mark.usefixtures("commands")
@pytest.mark.parametrize(
    ("name", "exit_code", "text"),
    [
        ("failing", 1, "drivefs: It failed.\n"),
        ("misused", 2, "drivefs: Not so.\n"),
        ("late", 3, "drivefs: Later.\n"),
        ("strange", 4, "drivefs: Who?\n"),
        ("inner", 1, "drivefs: Taken.\n"),
    ],
)
def test_command_turns_errors_into_a_sentence_and_an_exit_code(name: str, exit_code: int, text: str) -> None:
    result = CliRunner().invoke(cli.main, [name])
    assert (result.exit_code, result.stderr, result.stdout) == (exit_code, text, "")


@pytest.mark.usefixtures("commands")
def test_command_shows_no_traceback_of_what_was_not_foreseen() -> None:
    result = CliRunner().invoke(cli.main, ["unforeseen"])
    assert result.exit_code == 1
    assert "x is 5" in result.stderr and "Traceback" not in result.stderr


@pytest.mark.usefixtures("commands")
def test_command_shows_the_traceback_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRIVEFS_DEBUG", "1")
    assert isinstance(CliRunner().invoke(cli.main, ["unforeseen"]).exception, ValueError)


@pytest.mark.parametrize(
    "arguments",
    [
        ["fly"],
        ["mount"],
        ["mount", "a", "b"],
        ["mount", "--read-only=5", "a"],
        ["mount", "--transport", "pigeon", "a"],
        ["umount"],
        ["umount", "a", "--timeout", "-1"],
        ["flush", "--timeout", "soon"],
        ["status", "a", "b"],
        ["why"],
        ["mount", "a", "--fsync", "never"],
        ["emulator", "--port", "x"],
        ["demo", "--size", "big"],
        ["mount", "a", "--cache-size", "big"],
        ["mount", "a", "--endpoint", "nowhere"],
    ],
)
def test_command_ends_with_2_when_it_is_misused(arguments: list[str]) -> None:
    result = CliRunner().invoke(cli.main, arguments)
    assert result.exit_code == 2
    assert result.stderr != ""


@pytest.mark.parametrize("name", ["mount", "umount", "flush", "status", "why", "emulator", "demo"])
def test_command_explains_itself(name: str) -> None:
    assert name in CliRunner().invoke(cli.main, ["--help"]).stdout
    result = CliRunner().invoke(cli.main, [name, "-h"])
    assert (result.exit_code, result.stdout[:6]) == (0, "Usage:")
