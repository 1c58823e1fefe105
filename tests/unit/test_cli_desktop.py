"""How a desktop starts a mount: mount(8) and fstab, systemd, the manual page, doctor."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from drivefs import cli
from drivefs.cli import doctor
from drivefs.cli.mount_helper import arguments
from drivefs.cli.notify import notify
from drivefs.drive.auth import SCOPES
from drivefs.errors import UsageError, UserError

TOP = Path(__file__).parents[2]


# --- mount(8) ---


@pytest.mark.parametrize(
    ("words", "meant", "settings"),
    [
        (["drivefs", "/mnt"], ["mount", "/mnt"], {}),
        (["work", "/mnt", "-o", "rw,noatime"], ["mount", "/mnt", "--account", "work", "-o", "rw,noatime"], {}),
        (["work:models/run 1", "/mnt"], ["mount", "/mnt", "--account", "work", "--root", "models/run 1"], {}),
        (["none", "/m", "-t", "fuse.drivefs", "-v"], ["mount", "/m"], {}),
        (
            ["drivefs", "/m", "-o", "cache_size=20G,_netdev,x-systemd.automount,nofail,fsync=drive"],
            ["mount", "/m", "-o", "fsync=drive"],
            {"DRIVEFS_CACHE_SIZE": "20G"},
        ),
    ],
)
def test_mount_helper_understands_mount(words: list[str], meant: list[str], settings: dict[str, str]) -> None:
    environ: dict[str, str] = {}
    assert arguments(words, environ) == (meant, None, False)
    assert environ == settings


def test_mount_helper_finds_the_owner() -> None:
    _, owner, fake = arguments(["-f", "drivefs", "/m", "-o", "setuid=root"], {})
    assert owner is not None and owner.pw_uid == 0 and fake
    with pytest.raises(UsageError, match="no user 'nobody at all'"):
        arguments(["drivefs", "/m", "-o", "setuid=nobody at all"], {})
    with pytest.raises(UsageError, match="mount -t drivefs"):
        arguments(["drivefs"], {})


# --- systemd ---


def test_notify_tells_systemd_what_to_watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        notify(READY=1, MAINPID=42)
        assert manager.recv(1000) == b"READY=1\nMAINPID=42"


def test_notify_says_nothing_where_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify(READY=1)


def test_unit_runs_commands_that_there_are() -> None:
    unit = (TOP / "packaging" / "systemd" / "drivefs.service").read_text()
    commands = [line.partition("=")[2] for line in unit.splitlines() if line.startswith(("ExecStart=", "ExecStop="))]
    assert len(commands) == 2
    for command in commands:
        name, *words = command.replace("%h", "/nowhere/at/all").split()
        assert name == "drivefs"
        result = CliRunner().invoke(cli.main, [*words, "--help"])
        assert result.exit_code == 0


# --- the manual page ---


def test_manual_names_every_command_and_option() -> None:
    page = subprocess.run(
        [sys.executable, TOP / "packaging" / "manual.py"], capture_output=True, text=True, check=True
    ).stdout.replace("\\-", "-")
    context = click.Context(cli.main)
    for name in cli.main.list_commands(context):
        assert f".SS drivefs {name}" in page
        command = cli.main.get_command(context, name)
        assert command is not None
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                assert parameter.opts[-1] in page, f"{name} {parameter.opts}"


# --- doctor ---


def test_doctor_says_what_to_do_without_a_sign_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("DRIVEFS_", "GOOGLE_"))]:
        monkeypatch.delenv(name)
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    result = CliRunner().invoke(cli.main, ["doctor", "--json"])
    assert result.exit_code == 1
    checks = {each["name"]: each for each in json.loads(result.stdout)["checks"]}
    assert not checks["sign-in"]["ok"] and "drivefs auth login" in checks["sign-in"]["text"]
    assert checks["/dev/fuse"]["ok"] and checks["cache"]["ok"]
    plain = CliRunner().invoke(cli.main, ["doctor"]).stdout
    assert "NOT  sign-in" in plain and "OK   /dev/fuse" in plain


@pytest.mark.parametrize(
    ("release", "rights", "said"),
    [
        ("6.18.0-1", True, "a pause"),
        ("6.9.0", False, "takes CAP_SYS_ADMIN"),
        ("6.8.12-generic", True, "no passthrough"),
        ("5.15", True, "no passthrough"),
    ],
)
def test_doctor_knows_what_the_kernel_can(release: str, rights: bool, said: str) -> None:
    assert said in doctor._kernel(release, rights)


def test_doctor_warns_of_what_will_break() -> None:
    now = datetime.now(UTC)
    assert "agrees" in doctor._clock(now, now - timedelta(seconds=20))
    with pytest.raises(UserError, match="ahead of Drive's"):
        doctor._clock(now, now - timedelta(minutes=10))
    with pytest.raises(UserError, match="behind Drive's"):
        doctor._clock(now, now + timedelta(minutes=10))
    with pytest.raises(UserError, match="owns no storage"):
        doctor._quota(0, 0)
    with pytest.raises(UserError, match="uploads will stop soon"):
        doctor._quota(100, 96)


def test_doctor_tells_what_the_sign_in_may() -> None:
    def said(name: str, *, read_only: bool = False) -> str:
        return doctor._scopes([SCOPES[name]], "drivefs auth login", read_only=read_only)

    assert "read and written" in said("full")
    assert "--scope full" in said("file")
    assert said("readonly", read_only=True) == "Drive may be read."
    with pytest.raises(UserError, match="mount with --read-only, or sign in with 'drivefs auth login --scope full'"):
        said("readonly")
    with pytest.raises(UserError, match="not among"):
        doctor._scopes(["openid"], "drivefs auth login", read_only=False)
