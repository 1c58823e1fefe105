"""The methods of drive.files in v3 that carry no content; those that do are in `uploads` and `downloads`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from drivefs.emulator.errors import ApiError, invalid
from drivefs.emulator.fields import apply_mask
from drivefs.emulator.listing import list_files
from drivefs.emulator.state import Call

Handler = Callable[[Call], Any]
"""Gives the reply's JSON, already masked; None answers 204."""


def get(call: Call) -> Any:
    row = call.emulator.tree.get(call.path["fileId"], call.caller, all_drives=call.all_drives)
    return call.file(row)


def listing(call: Call) -> Any:
    rows, token = list_files(call.emulator.tree, call.caller, call.query)
    mask = call.mask
    result: dict[str, Any] = {
        "kind": "drive#fileList",
        "incompleteSearch": call.fault is not None and call.fault.action == "incomplete",
    }
    if token is not None:
        result["nextPageToken"] = token
    result = apply_mask(result, mask)
    if not mask or "files" in mask:
        view, below = call.view(), mask.get("files", {})
        view.preload(rows, below)
        result["files"] = [view.file(row, below) for row in rows]
    return result


def create(call: Call) -> Any:
    row = call.emulator.items.create(
        call.caller,
        call.body,
        None,
        None,
        all_drives=call.all_drives,
        keep=call.query.get("keepRevisionForever", False),
    )
    return call.file(row)


def update(call: Call) -> Any:
    row = call.emulator.items.update(
        call.caller,
        call.path["fileId"],
        call.body,
        None,
        None,
        all_drives=call.all_drives,
        add_parents=call.query.get("addParents", ""),
        remove_parents=call.query.get("removeParents", ""),
    )
    return call.file(row)


def copy(call: Call) -> Any:
    row = call.emulator.items.copy(
        call.caller,
        call.path["fileId"],
        call.body,
        all_drives=call.all_drives,
        keep=call.query.get("keepRevisionForever", False),
    )
    return call.file(row)


def delete(call: Call) -> None:
    call.emulator.items.removal.delete(call.caller, call.path["fileId"], all_drives=call.all_drives)


def empty_trash(call: Call) -> None:
    call.emulator.items.removal.empty_trash(call.caller, call.query.get("driveId"))


def generate_ids(call: Call) -> Any:
    count = call.query.get("count", call.query.get("maxResults", 10))
    space = call.query.get("space", "drive")
    kind = call.query.get("type", "files")
    if space not in ("drive", "appDataFolder"):
        raise invalid(location="space")
    if kind not in ("files", "shortcuts"):
        raise invalid(location="type")
    ids = [call.emulator.db.new_id(kind) for _ in range(count)]
    return call.masked({"kind": "drive#generatedIds", "space": space, "ids": ids})


def about(call: Call) -> Any:
    if not call.query.get("fields"):
        raise ApiError(400, "required", "The 'fields' parameter is required for this method.", location="fields")
    from drivefs.emulator.documents import EXPORTS, IMPORTS  # noqa: PLC0415 - only here

    tree, user = call.emulator.tree, call.caller.user
    used = tree.used_bytes(user.n)
    trash = (
        tree.db.value("SELECT coalesce(sum(size), 0) FROM files WHERE owner = ? AND trashed = 1", (user.n,))
        if "storageQuota" in call.mask or not call.mask
        else 0
    )
    quota = {"usage": str(used), "usageInDrive": str(used), "usageInDriveTrash": str(trash)}
    if user.root is None:
        quota["limit"] = "0"
    elif tree.storage_bytes is not None:
        quota["limit"] = str(tree.storage_bytes)
    return call.masked(
        {
            "kind": "drive#about",
            "user": call.view().person(user.n),
            "storageQuota": quota,
            "importFormats": {kind: list(made) for kind, made in IMPORTS.items()},
            "exportFormats": {kind: list(made) for kind, made in EXPORTS.items()},
            "maxImportSizes": dict.fromkeys(EXPORTS, "10485760"),
            "maxUploadSize": "5242880000000",
            "appInstalled": False,
            "folderColorPalette": ["#ac725e", "#d06b64", "#f83a22", "#fa573c"],
            "driveThemes": [],
            "teamDriveThemes": [],
            "canCreateDrives": user.root is not None,
            "canCreateTeamDrives": user.root is not None,
        }
    )


HANDLERS: dict[str, Handler] = {
    "drive.about.get": about,
    "drive.files.get": get,
    "drive.files.list": listing,
    "drive.files.create": create,
    "drive.files.update": update,
    "drive.files.copy": copy,
    "drive.files.delete": delete,
    "drive.files.emptyTrash": empty_trash,
    "drive.files.generateIds": generate_ids,
}
