"""cache: what a mount keeps of Drive's files on this machine's disk.

`--json` prints one object a command:
  show      whole_files, partial_files, bytes, limit_bytes, keep_free_bytes (of the disk), pins, and
            waiting_files, waiting_bytes: not on Drive yet; damaged_blocks, mended_blocks: see `status`
  verify    files, bytes (compared), dropped (damaged, or parts of them), in_use (damaged, and open just now)
  clear     freed_bytes
"""

from __future__ import annotations

import json
from pathlib import Path

import click

from drivefs.cli.progress import FlushProgress, damage_text, files_text, size_text
from drivefs.control import Json
from drivefs.errors import UserError
from drivefs.mounts import get_running


@click.group()
def cache() -> None:
    """Show, verify or clear what a mount keeps on this machine's disk."""


_mount = click.argument("path", required=False, type=click.Path(path_type=Path))
_json = click.option("--json", "as_json", is_flag=True, help="Print one object instead of a sentence.")


def _ask(path: Path | None, action: str, as_json: bool) -> Json:
    with FlushProgress("Checked", quiet=as_json) as progress:
        result = get_running(path).client.ask("cache", progress.update, action=action)
    if as_json:
        click.echo(json.dumps(result))
    return result


@cache.command()
@_mount
@_json
def show(path: Path | None, as_json: bool) -> None:
    """How much is there, and how much of it could go."""
    result = _ask(path, "show", as_json)
    if as_json:
        return
    click.echo(
        f"Kept       {files_text(result['whole_files'], result['bytes'])}, parts of {result['partial_files']} more"
    )
    kept_free = size_text(result["keep_free_bytes"])
    click.echo(f"Limit      {size_text(result['limit_bytes'])}, and {kept_free} of the disk stay free")
    click.echo(f"Pinned     {result['pins']} files and folders")
    click.echo(f"Waiting    {files_text(result['waiting_files'], result['waiting_bytes'])} not on Drive yet")
    if result["damaged_blocks"]:
        click.echo(f"Damaged    {damage_text(result)}")


@cache.command()
@_mount
@_json
def verify(path: Path | None, as_json: bool) -> None:
    """Compare every complete file with Drive's checksum, and parts of others with those of what came; what is damaged
    is dropped, and fetched when it is read."""
    result = _ask(path, "verify", as_json)
    if result["in_use"]:
        raise UserError(f"{result['in_use']} damaged files are open: close them, and verify again.")
    if not as_json:
        what = f"{result['dropped']} were damaged, and are fetched again" if result["dropped"] else "all are right"
        click.echo(f"Compared {files_text(result['files'], result['bytes'])}: {what}.")


@cache.command()
@_mount
@_json
def clear(path: Path | None, as_json: bool) -> None:
    """Drop what Drive has too, but for what is pinned or open."""
    result = _ask(path, "clear", as_json)
    if not as_json:
        click.echo(f"Freed {size_text(result['freed_bytes'])}.")
