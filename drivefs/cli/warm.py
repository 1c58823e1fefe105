"""warm: bring files into the cache before they are needed, and keep them there.

`warm --json` prints one object: files, bytes (what there is), files_done, bytes_done (what is in the cache now),
failed, failures (up to 20 of them: [{path, reason}]), full (the cache has no room for the rest).
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from drivefs.cli.progress import FlushProgress, files_text
from drivefs.errors import UserError
from drivefs.mounts import Running, get_running


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--jobs", type=click.IntRange(1, 32), default=16, show_default=True, help="Files at once.")
@click.option("--pin", is_flag=True, help="Keep them in the cache when room is needed.")
@click.option("--off", is_flag=True, help="Fetch nothing; let go of what --pin has kept.")
@click.option("--json", "as_json", is_flag=True, help="Print one object instead of a sentence.")
def warm(paths: tuple[Path, ...], jobs: int, pin: bool, off: bool, as_json: bool) -> None:
    """Fetch files and whole folders of a mount into its cache.

    Whoever reads or writes goes first. It may be interrupted, and repeated: what is there is not fetched again.
    """
    by_mount: dict[Path, tuple[Running, list[str]]] = {}
    for path in paths:
        one = get_running(path)
        inside = os.path.relpath(os.path.realpath(path), os.path.realpath(one.record.mountpoint))
        by_mount.setdefault(one.record.cache_dir, (one, []))[1].append("" if inside == "." else inside)
    for one, inside_paths in by_mount.values():
        with FlushProgress("From Drive", quiet=as_json) as progress:
            result = one.client.ask("warm", progress.update, paths=inside_paths, jobs=jobs, pin=pin, off=off)
        if as_json:
            click.echo(json.dumps(result))
        elif off:
            click.echo("Nothing of it is kept in the cache any longer than its use.")
        elif not result["failed"]:
            click.echo(f"In the cache: {files_text(result['files_done'], result['bytes_done'])}.")
        if result["failed"]:
            named = "; ".join(f"{each['path']}: {each['reason'].rstrip('.')}" for each in result["failures"][:3])
            raise UserError(f"Not in the cache: {result['failed']} of {result['files']} files ({named}).")
