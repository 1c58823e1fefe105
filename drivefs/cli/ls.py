"""ls: what is on Drive, with IDs, checksums and links; without a mount too.

`ls --json` prints one object, {items: [...]}, each with
  path           its names from the folder that was asked for
  id, kind       kind: file, folder, shortcut, document (Google's own)
  mime_type, size_bytes (null where it has no bytes), modified (RFC 3339), md5, sha1, sha256
  web_view_link, web_content_link, description, starred, target (of a shortcut)
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import click

from drivefs.cli.account import drive_options, named, opened
from drivefs.cli.progress import size_text
from drivefs.control import Json
from drivefs.drive.google import GoogleDrive
from drivefs.drive.replies import write_time
from drivefs.drive.service import quoted
from drivefs.errors import Refused, UsageError
from drivefs.model import FOLDER_MIME, GOOGLE_MIME_PREFIX, SHORTCUT_MIME, Details, DriveId
from drivefs.paging import pages
from drivefs.remote.paths import PREFIX
from drivefs.sync.names import shown_name
from drivefs.sync.walks import QUERY_FOLDERS


@click.command()
@click.argument("path", required=False)
@click.option("--query", metavar="Q", help="Only what fits, in Drive's own query language (name contains 'ckpt').")
@click.option("-l", "--long", is_flag=True, help="Checksum and link too.")
@click.option("-R", "--recursive", is_flag=True, help="Everything below PATH.")
@click.option("--json", "as_json", is_flag=True, help="Print one object.")
@drive_options
def ls(path: str | None, query: str | None, long: bool, recursive: bool, as_json: bool, **flags: Any) -> None:
    """List PATH, which may be in a mount, on Drive (drive:models), an ID or a link; default: My Drive.

    With --query and without PATH, all of Drive is searched.
    """
    if query is not None and recursive:
        raise UsageError("--query looks into one folder, or all of Drive without PATH: leave -R out.")
    with opened(flags, path) as drive:
        found = _found(drive, path, query, recursive)
        if as_json:
            click.echo(json.dumps({"items": [_object(*each) for each in found]}))
            return
        for where, details in found:
            click.echo(_line(where, details, long))


def _found(drive: GoogleDrive, path: str | None, query: str | None, recursive: bool) -> Iterator[tuple[str, Details]]:
    if query is not None and path is None:
        yield from _searched(drive, query)
        return
    item = named(drive, path if path is not None else PREFIX).item
    if item.mime_type != FOLDER_MIME:
        yield shown_name(item.name), drive.explorer().details(item.id)
    elif query is not None:
        yield from _searched(drive, f"'{quoted(item.id)}' in parents and ({query})")
    else:
        yield from _below(drive, item.id, recursive)


def _searched(drive: GoogleDrive, query: str) -> Iterator[tuple[str, Details]]:
    explorer = drive.explorer()
    incomplete = False
    try:
        for page in pages(lambda token: explorer.search(query, token)):
            incomplete |= page.incomplete
            for details in page.found:
                yield shown_name(details.file.name), details
    except Refused as error:
        if error.status != 400:
            raise
        raise UsageError(f"Drive does not understand the query {query!r}: {error}") from error
    if incomplete:
        click.echo("drivefs: Drive says that it has not searched everything: narrow the query.", err=True)


def _below(drive: GoogleDrive, top: DriveId, recursive: bool) -> Iterator[tuple[str, Details]]:
    """What lies in a folder, level by level, many folders to a query."""
    level: dict[DriveId, str] = {top: ""}
    seen = {top}
    while level:
        below: dict[DriveId, str] = {}
        parents = list(level)
        for start in range(0, len(parents), QUERY_FOLDERS):
            either = " or ".join(f"'{quoted(each)}' in parents" for each in parents[start : start + QUERY_FOLDERS])
            for name, details in _searched(drive, f"({either}) and trashed = false"):
                file = details.file
                where = level.get(file.parent, "") + name if file.parent is not None else name
                yield where, details
                if file.mime_type == FOLDER_MIME and file.id not in seen:
                    seen.add(file.id)
                    below[file.id] = where + "/"
        level = below if recursive else {}


def kind_of(mime_type: str) -> str:
    if mime_type == FOLDER_MIME:
        return "folder"
    if mime_type == SHORTCUT_MIME:
        return "shortcut"
    return "document" if mime_type.startswith(GOOGLE_MIME_PREFIX) else "file"


def _object(where: str, details: Details) -> Json:
    file = details.file
    return {
        "path": where,
        "id": file.id,
        "kind": kind_of(file.mime_type),
        "mime_type": file.mime_type,
        "size_bytes": file.size_bytes,
        "modified": write_time(file.modified_ns),
        "md5": file.md5,
        "sha1": details.sha1,
        "sha256": details.sha256,
        "web_view_link": file.web_view_link,
        "web_content_link": details.content_link,
        "description": details.file.description,
        "starred": details.file.starred,
        "target": file.shortcut_target,
    }


def _line(where: str, details: Details, long: bool) -> str:
    file = details.file
    size = size_text(file.size_bytes) if file.size_bytes is not None else kind_of(file.mime_type)
    when = datetime.fromtimestamp(file.modified_ns / 1e9).astimezone().strftime("%Y-%m-%d %H:%M")
    slash = "/" if file.mime_type == FOLDER_MIME else ""
    more = f"  {file.md5 or '-':32}  {file.web_view_link or '-'}" if long else ""
    # What Drive calls a name may hold what moves a terminal's cursor.
    shown = "".join(letter if letter.isprintable() else "�" for letter in where)
    return f"{size:>11}  {when}  {file.id:33}{more}  {shown}{slash}"
