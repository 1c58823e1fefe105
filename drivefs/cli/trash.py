"""trash: what lies in Drive's trash: looked into, restored from, emptied.

`trash list --json` prints one object: items, each with id, name, kind, size_bytes, modified; a folder stands for all
that is in it.
"""

from __future__ import annotations

import json
from typing import Any

import click

from drivefs.cli.account import drive_options, opened
from drivefs.cli.ls import kind_of
from drivefs.cli.progress import size_text
from drivefs.drive.google import GoogleDrive
from drivefs.drive.replies import write_time
from drivefs.errors import UsageError, UserError
from drivefs.model import RemoteFile
from drivefs.paging import pages
from drivefs.remote import paths
from drivefs.sync.names import shown_name

QUERY = "trashed = true and 'me' in owners"


@click.group()
def trash() -> None:
    """Look into Drive's trash, take out of it, and empty it; needs no mount."""


@trash.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one object.")
@drive_options
def list_(as_json: bool, **flags: Any) -> None:
    """List what is in the trash; a folder stands for all that is in it."""
    with opened(flags) as drive:
        found = _found(drive)
    if as_json:
        items = [
            {
                "id": file.id,
                "name": file.name,
                "kind": kind_of(file.mime_type),
                "size_bytes": file.size_bytes,
                "modified": write_time(file.modified_ns),
            }
            for file in found
        ]
        click.echo(json.dumps({"items": items}))
        return
    for file in found:
        size = kind_of(file.mime_type) if file.size_bytes is None else size_text(file.size_bytes)
        click.echo(f"{file.id:44}  {size:>11}  {shown_name(file.name)}")


@trash.command()
@click.argument("names", nargs=-1, required=True)
@drive_options
def restore(names: tuple[str, ...], **flags: Any) -> None:
    """Put NAMES, which may be IDs or links too, back where they came from."""
    with opened(flags) as drive:
        for file in _chosen(_found(drive), names):
            drive.explorer().restore(file.id)
            click.echo(f"{shown_name(file.name)} is back where it was.")


@trash.command()
@click.argument("names", nargs=-1)
@click.option("--yes", is_flag=True, help="Without asking.")
@drive_options
def empty(names: tuple[str, ...], yes: bool, **flags: Any) -> None:
    """Delete NAMES (or IDs, or links) in the trash for good; without any, all that is in it."""
    with opened(flags) as drive:
        found = _found(drive)
        chosen = _chosen(found, names) if names else found
        if not chosen:
            click.echo("The trash is empty.")
            return
        what = shown_name(chosen[0].name) if len(chosen) == 1 else f"{len(chosen)} items"
        if not yes and not click.confirm(f"Delete {what} for good?"):
            raise UserError("Nothing was deleted.")
        for file in chosen:
            drive.delete(file.id)
        click.echo(f"Deleted {what} for good.")


def _found(drive: GoogleDrive) -> list[RemoteFile]:
    """What was put into the trash, without what lies in a folder that is there too."""
    explorer = drive.explorer()
    found = [
        details.file
        for page in pages(lambda token: explorer.search(QUERY, token))
        for details in page.found
        if details.file.trashed
    ]
    ids = {file.id for file in found}
    return sorted((file for file in found if file.parent not in ids), key=lambda file: (file.name, file.id))


def _chosen(found: list[RemoteFile], names: tuple[str, ...]) -> list[RemoteFile]:
    """Raises UsageError for a name that nothing in the trash has, or more than one."""
    chosen: dict[str, RemoteFile] = {}
    for name in names:
        by_id = [file for file in found if file.id in (name, paths.id_of(name))]
        fitting = by_id or [file for file in found if name in (file.name, shown_name(file.name))]
        if not fitting:
            raise UsageError(f"There is no {name} in the trash: 'drivefs trash list' tells what is.")
        if len(fitting) > 1:
            ids = ", ".join(file.id for file in fitting)
            raise UsageError(f"{len(fitting)} items in the trash are called {name}: name one by its ID ({ids}).")
        chosen[fitting[0].id] = fitting[0]
    return list(chosen.values())
