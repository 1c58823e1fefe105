"""Which folder of Drive a mount shows: by its ID, or by its path from the root of My Drive. Asks Drive only."""

from __future__ import annotations

import re

from drivefs.drive.api import Drive
from drivefs.errors import Refused, RemoteNotFound
from drivefs.model import FOLDER_MIME, DriveId
from drivefs.paging import pages

_ID = re.compile(r"[A-Za-z0-9_-]{15,}")


def resolve_root(drive: Drive, text: str) -> DriveId:
    """The folder's ID. Where `text` could be both, an ID that exists wins. Raises Refused with a sentence when there
    is no such folder, other DriveErrors, SignInNeeded."""
    if _ID.fullmatch(text):
        try:
            file = drive.get(DriveId(text))
        except RemoteNotFound:
            pass  # a name then
        else:
            if file.mime_type != FOLDER_MIME:
                raise Refused(f"The item {text} on Drive is not a folder.", reason="notAFolder")
            return file.id
    folder = drive.root_id()
    for name in filter(None, text.split("/")):
        folder = _child(drive, folder, name, text)
    return folder


def _child(drive: Drive, parent: DriveId, name: str, text: str) -> DriveId:
    found = [
        file
        for page in pages(lambda token: drive.list_children([parent], token))
        for file in page.files
        if file.name == name and file.mime_type == FOLDER_MIME
    ]
    if not found:
        raise Refused(f"There is no folder {text!r} on Drive, neither by path nor by ID.", reason="notFound")
    return min(found, key=lambda file: (file.created_ns, file.id)).id
