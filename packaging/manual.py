"""The manual page drivefs(1) in roff, on standard output, from the commands' own help."""

from __future__ import annotations

import re
from importlib.metadata import version

import click

from drivefs.cli import main

NAME = "drivefs"
ABOUT = "Google Drive as a folder, made so that nobody loses a trained model again"


def roff(text: str) -> str:
    """Plain text as roff shows it."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^([.'])", r"\\&\1", text, flags=re.MULTILINE)


def _page() -> list[str]:
    context = click.Context(main, info_name=NAME)
    lines = [f'.TH DRIVEFS 1 "" "{NAME} {version(NAME)}"', ".SH NAME", f"{NAME} \\- {roff(ABOUT)}"]
    lines += [".SH SYNOPSIS", f".B {NAME}", ".I COMMAND", "[\\fIOPTIONS\\fR]"]
    lines += [".SH DESCRIPTION", *_paragraphs(main), ".SH COMMANDS"]
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        assert command is not None
        lines += _command(command, f"{NAME} {name}", context)
    lines += [".SH EXIT STATUS", "0 done, 1 failed, 2 usage, 3 time is up with work left, 4 sign\\-in needed."]
    lines += [".SH ENVIRONMENT", "Each option of \\fBdrivefs mount\\fR can be given as \\fBDRIVEFS_\\fINAME\\fR."]
    lines += [".SH FILES", ".TP", "~/.config/drivefs/config.toml", "Settings: the options' names with _ for \\-."]
    return lines


def _command(command: click.Command, path: str, parent: click.Context) -> list[str]:
    context = click.Context(command, info_name=path.rpartition(" ")[2], parent=parent)
    lines = [f".SS {path} {roff(' '.join(command.collect_usage_pieces(context)))}", *_paragraphs(command)]
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and parameter.name != "help":
            lines += [".TP", f".B {roff(record[0])}", roff(record[1])]
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            lines += _command(below, f"{path} {name}", context)
    return lines


def _paragraphs(command: click.Command) -> list[str]:
    lines: list[str] = []
    for paragraph in (command.help or "").split("\n\n"):
        lines += [".PP", roff(" ".join(paragraph.replace("\b", "").split()))]
    return lines


print("\n".join(_page()))
