"""link and find-id: from a path to a link, and from a link or an ID to its paths.

`link --json` prints one object: id, name, link. `find-id --json` prints one object: id, name, drive (the path on
Drive, or null where it does not lie in My Drive), paths (in the mounts that run).
"""

from __future__ import annotations

import json
from typing import Any

import click

from drivefs.cli.account import drive_options, named, opened
from drivefs.errors import Refused, UsageError, UserError
from drivefs.model import DriveId
from drivefs.mounts import running
from drivefs.remote import paths

ROLES = ("reader", "writer")


@click.command()
@click.argument("path")
@click.option("--anyone", is_flag=True, help="Let in whoever has the link.")
@click.option("--with", "email", metavar="EMAIL", help="Let in this account; Drive sends it no message.")
@click.option("--role", type=click.Choice(ROLES), help="What those who are let in may do (default: reader).")
@click.option("--download", is_flag=True, help="The link that downloads the file, and not the one to look at it.")
@click.option("--json", "as_json", is_flag=True, help="Print one object.")
@drive_options
def link(
    path: str, anyone: bool, email: str | None, role: str | None, download: bool, as_json: bool, **flags: Any
) -> None:
    """Print the link of PATH, which may be in a mount, on Drive (drive:models/a.ckpt), or an ID.

    Without --anyone or --with nothing is shared that is not shared yet.
    """
    if anyone and email is not None:
        raise UsageError("--anyone and --with are two things: name one of them.")
    if role is not None and not anyone and email is None:
        raise UsageError("--role says what those who are let in may do: name them by --anyone or --with EMAIL.")
    if email is not None and "@" not in email:
        raise UsageError(f"--with is {email!r}, and should be an e-mail address.")
    with opened(flags, path) as drive:
        item = named(drive, path).item
        if anyone or email is not None:
            try:
                drive.explorer().share(item.id, role or ROLES[0], email)
            except Refused as error:
                raise UserError(
                    f"Drive does not let this account share {path} ({str(error).rstrip('.')}): ask its owner."
                ) from error
        details = drive.explorer().details(item.id)
    url = details.content_link if download else details.file.web_view_link
    if url is None:
        raise UserError(
            f"Drive has no download link for {path}: a folder or a Google document has a link to look at only."
            if download
            else f"Drive gives no link for {path}."
        )
    click.echo(json.dumps({"id": item.id, "name": item.name, "link": url}) if as_json else url)


@click.command("find-id")
@click.argument("what", metavar="ID|URL")
@click.option("--json", "as_json", is_flag=True, help="Print one object.")
@drive_options
def find_id(what: str, as_json: bool, **flags: Any) -> None:
    """Print the path of what an ID or a link of Google Drive names: on Drive, and in the mounts that have it."""
    if paths.id_of(what) is None:
        raise UsageError(f"{what!r} is neither an ID nor a link of Google Drive.")
    with opened(flags) as drive:
        item = paths.get(drive, what)
        where = paths.path_of(drive, item)
    local = _in_mounts(item.id)
    if as_json:
        click.echo(json.dumps({"id": item.id, "name": item.name, "drive": where, "paths": local}))
        return
    for path in [*([where] if where is not None else []), *local]:
        click.echo(path)
    if where is None and not local:
        raise UserError(f"{item.name} ({item.id}) is there, and lies in no folder of My Drive or of a mount.")


def _in_mounts(drive_id: DriveId) -> list[str]:
    found = []
    for one in running():
        path = one.client.ask("find", id=drive_id)["path"]
        if path is not None:
            found.append(str(one.record.mountpoint / path))
    return found
