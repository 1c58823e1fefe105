"""refresh: what has changed on Drive.

`refresh --json` prints one object: mounts, a list of {mountpoint, changes}.
"""

from __future__ import annotations

import json
from pathlib import Path

import click

from drivefs.errors import UserError
from drivefs.mounts import get_running, running


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one object instead of a sentence.")
def refresh(paths: tuple[Path, ...], as_json: bool) -> None:
    """Show now what others have changed on Drive, instead of within seconds.

    PATHs choose the mounts they lie in; without any, all are refreshed.
    """
    mounts = {one.record.cache_dir: one for one in (get_running(path) for path in paths)}
    chosen = list(mounts.values()) or list(running())
    if not chosen:
        raise UserError("Nothing is mounted by drivefs: 'drivefs mount FOLDER' mounts Google Drive there.")
    found = []
    for one in chosen:
        result = one.client.ask("refresh")
        found.append({"mountpoint": str(one.record.mountpoint), "changes": result["changes"]})
    if as_json:
        click.echo(json.dumps({"mounts": found}))
        return
    for each in found:
        count = each["changes"]
        what = "nothing has changed" if not count else f"{count} change{'s' if count > 1 else ''} taken over"
        click.echo(f"{each['mountpoint']} shows what Drive has ({what}).")
