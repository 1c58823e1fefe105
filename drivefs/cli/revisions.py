"""revisions: earlier contents of a file that Drive still has.

`revisions --json` prints one object: id, name, revisions: [{number, id, modified, size_bytes, md5, kept}], the
current one first, whose number is 1.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from drivefs.cli.account import drive_options, named, opened
from drivefs.cli.progress import size_text
from drivefs.drive.google import GoogleDrive
from drivefs.drive.replies import write_time
from drivefs.errors import BadReply, Refused, UsageError, UserError
from drivefs.model import Metadata, RemoteFile, Revision, RevisionId, UpdateTarget
from drivefs.remote.fetching import new_file_mode
from drivefs.remote.sending import FileContent, Patience, send


@click.command()
@click.argument("path")
@click.option("--restore", metavar="N", help="Make this content the current one again; the others stay.")
@click.option("--get", metavar="N FILE", nargs=2, help="Write this content to FILE on this machine.")
@click.option("--keep", metavar="N", help="Have Drive keep this content for ever, and not for 30 days (200 at most).")
@click.option("--json", "as_json", is_flag=True, help="Print one object.")
@drive_options
def revisions(
    path: str, restore: str | None, get: tuple[str, str] | None, keep: str | None, as_json: bool, **flags: Any
) -> None:
    """List what Drive still has of PATH's earlier contents, the current one first as number 1.

    N is a number of that list, or a revision's ID, which stays when newer contents come.
    """
    if sum(choice is not None for choice in (restore, get, keep)) > 1:
        raise UsageError("--restore, --get and --keep are done one at a time.")
    with opened(flags, path) as drive:
        item = named(drive, path).item
        if item.size_bytes is None:
            raise UserError(f"{path} has no revisions here: only files with bytes of their own have.")
        found = drive.revisions(item.id)[::-1]
        if restore is not None:
            _restore(drive, item, _chosen(found, restore, path), path)
        elif get is not None:
            chosen = _chosen(found, get[0], path)
            _fetch(drive, item, chosen, Path(get[1]))
            click.echo(f"Wrote {get[1]}: {size_text(chosen.size_bytes)} of {_when(chosen)}.")
        elif keep is not None:
            chosen = _chosen(found, keep, path)
            drive.explorer().keep_revision(item.id, chosen.id, keep=True)
            click.echo(f"Drive keeps the content of {_when(chosen)} for ever.")
        else:
            _print(item, found, as_json)


def _print(item: RemoteFile, found: list[Revision], as_json: bool) -> None:
    if as_json:
        rows = [
            {
                "number": number,
                "id": each.id,
                "modified": write_time(each.modified_ns),
                "size_bytes": each.size_bytes,
                "md5": each.md5,
                "kept": each.kept,
            }
            for number, each in enumerate(found, 1)
        ]
        click.echo(json.dumps({"id": item.id, "name": item.name, "revisions": rows}))
        return
    for number, each in enumerate(found, 1):
        size, note = size_text(each.size_bytes), "  kept for ever" if each.kept else ""
        click.echo(f"{number:4}  {_when(each)}  {size:>11}  {each.md5 or '-':32}  {each.id}{note}")


def _when(revision: Revision) -> str:
    return datetime.fromtimestamp(revision.modified_ns / 1e9).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _chosen(found: list[Revision], which: str, path: str) -> Revision:
    for each in found:
        if each.id == RevisionId(which):
            return each
    if which.isdecimal() and 1 <= int(which) <= len(found):
        return found[int(which) - 1]
    raise UsageError(
        f"Drive has no revision {which} of {path}: it has {len(found)}, which 'drivefs revisions {path}' lists."
    )


def _pieces(drive: GoogleDrive, item: RemoteFile, revision: Revision) -> Iterator[bytes]:
    try:
        yield from drive.download(item.id, 0, revision.size_bytes, revision.id)
    except Refused as error:
        raise UserError(
            f"Drive does not give the content of {_when(revision)} ({str(error).rstrip('.')}): it may have been "
            "purged, which happens 30 days after a newer one came."
        ) from error


def _fetch(drive: GoogleDrive, item: RemoteFile, revision: Revision, target: Path) -> None:
    """Write a revision beside `target`, compare its checksum, and rename it over."""
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name[:100]}.", dir=target.absolute().parent)
    except OSError as error:
        raise UserError(f"{target} cannot be written: {error.strerror}.") from error
    partial = Path(name)
    try:
        digest = hashlib.md5(usedforsecurity=False)
        with open(handle, "wb") as file:
            for piece in _pieces(drive, item, revision):
                digest.update(piece)
                file.write(piece)
        if revision.md5 is not None and digest.hexdigest() != revision.md5:
            raise BadReply(f"What Drive sent of {item.name} does not fit its checksum: try again.")
        partial.chmod(new_file_mode())
        os.utime(partial, ns=(revision.modified_ns, revision.modified_ns))
        partial.replace(target)
    except OSError as error:
        raise UserError(f"{target} cannot be written: {error.strerror}.") from error
    finally:
        with suppress(FileNotFoundError):
            partial.unlink()


def _restore(drive: GoogleDrive, item: RemoteFile, revision: Revision, path: str) -> None:
    """Send an earlier content as the newest one: Drive has no call that restores."""
    if revision.md5 is not None and revision.md5 == item.md5:
        click.echo(f"The current content of {path} is that of {_when(revision)} already.")
        return
    with tempfile.TemporaryDirectory(prefix="drivefs-") as folder:
        local = Path(folder) / "content"
        _fetch(drive, item, revision, local)
        with FileContent(local) as content:
            target = UpdateTarget(item.id, Metadata(modified_ns=revision.modified_ns))
            send(drive, target, content, Patience())
    click.echo(f"{path} has its content of {_when(revision)} again; what it had before is revision 2 now.")
