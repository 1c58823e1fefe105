"""Where something is on Drive: by path, ID or URL, and back from an ID to its path. Asks Drive only.

A path begins with `drive:` and leads down from the root of My Drive; its names are as a mount shows them
(`sync.names`). Where a folder has a name twice, the oldest item has it, as in a mount.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

from drivefs.drive.api import Drive
from drivefs.errors import RemoteNotFound, UserError
from drivefs.model import FOLDER_MIME, ROOT_ALIAS, DriveId, RemoteFile
from drivefs.paging import pages
from drivefs.sync.names import local_name, shown_name, told_apart

PREFIX = "drive:"
_ID = re.compile(r"[A-Za-z0-9_-]{10,}")
_IN_PATH = re.compile(r"/(?:d|folders|drive)/([A-Za-z0-9_-]{10,})(?:/|$)")
_MAX_DEPTH = 200
"""Drive allows 100 levels (drive-api: Limits); more is a cycle."""


def id_of(text: str) -> DriveId | None:
    """The ID that `text` is, or that a URL of Drive, Docs or Colab holds; None where it is neither."""
    if _ID.fullmatch(text):
        return DriveId(text)
    try:
        parts = urlsplit(text)
        asked = parse_qs(parts.query).get("id", [""])[0]
    except ValueError:
        return None
    if parts.scheme not in ("http", "https"):
        return None
    found = _IN_PATH.search(parts.path)
    candidate = found[1] if found else asked
    return DriveId(candidate) if _ID.fullmatch(candidate) else None


def children(drive: Drive, parents: list[DriveId]) -> Iterator[RemoteFile]:
    """All that lies in `parents` (1 to 50)."""
    for page in pages(lambda token: drive.list_children(parents, token)):
        yield from page.files


def oldest_first(file: RemoteFile) -> tuple[int, str]:
    """Who has a name that several items of a folder share: the smallest."""
    return (file.created_ns, file.id)


def find(drive: Drive, path: str) -> RemoteFile | None:
    """The item at a path (without `drive:`); "" is the root of My Drive. None where there is none."""
    item = drive.get(ROOT_ALIAS)
    for name in filter(None, path.split("/")):
        if item.mime_type != FOLDER_MIME:
            return None
        found = [
            file
            for file in children(drive, [item.id])
            if name in (shown_name(file.name), file.name) or name == told_apart(shown_name(file.name), file.id)
        ]
        if not found:
            return None
        item = min(found, key=oldest_first)
    return item


def get(drive: Drive, text: str) -> RemoteFile:
    """The item that `text` names: a `drive:` path, an ID or a URL. Raises UserError with a sentence."""
    if text.startswith(PREFIX):
        item = find(drive, text.removeprefix(PREFIX))
        if item is None:
            raise UserError(f"There is no {text} on Drive: 'drivefs ls drive:' lists what there is.")
        return item
    file_id = id_of(text)
    if file_id is None:
        raise UserError(
            f"{text} is neither a path in a mount, nor a path on Drive such as drive:models/a.ckpt, nor an ID, nor a "
            "link of Google Drive."
        )
    try:
        return drive.get(file_id)
    except RemoteNotFound:
        raise UserError(
            f"Drive has no item {file_id}, or this account may not see it: ask its owner to share it."
        ) from None


def path_of(drive: Drive, item: RemoteFile) -> str | None:
    """The `drive:` path of an item; None where it does not lie in My Drive, as what others share does not."""
    root = drive.root_id()
    names: list[str] = []
    while item.id != root:
        if item.parent is None or len(names) >= _MAX_DEPTH:
            return None
        names.append(local_name(item.name, item.id, taken=False))
        try:
            item = drive.get(item.parent)
        except RemoteNotFound:
            return None
    return PREFIX + "/".join(reversed(names))
