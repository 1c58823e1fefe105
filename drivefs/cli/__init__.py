"""The drivefs command. One module a group of subcommands, loaded when one of them is called.

A `UserError` is printed to standard error as it is, and its exit code is the command's: 0 done, 1 failed, 2 usage,
3 timed out with work left, 4 sign-in needed. Tracebacks are shown only where DRIVEFS_DEBUG is set.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

import click

from drivefs.errors import DrivefsError, UserError

_COMMANDS = {
    "mount": "drivefs.cli.mounting:mount",
    "umount": "drivefs.cli.mounting:umount",
    "flush": "drivefs.cli.queue:flush",
    "status": "drivefs.cli.queue:status",
    "why": "drivefs.cli.why:why",
    "auth": "drivefs.cli.auth:auth",
    "refresh": "drivefs.cli.remote:refresh",
    "warm": "drivefs.cli.warm:warm",
    "cache": "drivefs.cli.cache:cache",
    "ls": "drivefs.cli.ls:ls",
    "link": "drivefs.cli.link:link",
    "find-id": "drivefs.cli.link:find_id",
    "trash": "drivefs.cli.trash:trash",
    "revisions": "drivefs.cli.revisions:revisions",
    "cp": "drivefs.cli.cp:cp",
    "doctor": "drivefs.cli.doctor:doctor",
    "emulator": "drivefs.emulator.command:main",
    "demo": "drivefs.cli.demo:demo",
}


class Commands(click.Group):
    """Loads a subcommand when it is called, and turns errors into sentences and exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            if os.environ.get("DRIVEFS_DEBUG"):
                raise
            known = isinstance(error, DrivefsError)
            text = str(error) if known else f"It failed unexpectedly ({type(error).__name__}: {error})."
            click.echo(f"drivefs: {text}", err=True)
            if not known:
                click.echo("drivefs: With DRIVEFS_DEBUG=1 in the environment it says where.", err=True)
            ctx.exit(error.exit_code if isinstance(error, UserError) else 1)


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="drivefs")
def main() -> None:
    """Google Drive as a folder: writes at the speed of the disk, and nothing is lost on the way to Drive."""
