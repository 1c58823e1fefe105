"""drive.changes: one linear feed, in which each item stands once, at its latest change."""

from __future__ import annotations

from typing import Any

from drivefs.emulator.errors import ApiError, invalid, invalid_parameter
from drivefs.emulator.fields import ALL, apply_mask
from drivefs.emulator.search import Clause, visible, visible_in_drives
from drivefs.emulator.state import Call
from drivefs.emulator.times import format_ms
from drivefs.emulator.v3_files import Handler


def start_token(call: Call) -> Any:
    _drive(call)
    return call.masked({"kind": "drive#startPageToken", "startPageToken": str(call.emulator.db.seq + 1)})


def _drive(call: Call) -> str | None:
    drive: str | None = call.query.get("driveId") or call.query.get("teamDriveId")
    if drive is None:
        return None
    if not call.all_drives:
        raise ApiError(403, "teamDrivesNotSupported", "The attempted operation requires shared drive support.")
    root = call.emulator.tree.find(drive)
    if root is None or not root["is_root"] or call.emulator.tree.role(root, call.caller) is None:
        raise ApiError(404, "notFound", f"Shared drive not found: {drive}", location="driveId")
    return drive


def listing(call: Call) -> Any:
    size = call.query.get("pageSize", 100)
    if not 1 <= size <= 1000:
        raise invalid_parameter("pageSize", f"Invalid value '{size}'. Values must be within the range: [1, 1000]")
    db, after = call.emulator.db, read_token(call)
    found, following = page(call, after, size)
    mask = call.mask
    result: dict[str, Any] = {"kind": "drive#changeList"}
    if following is None:
        result["newStartPageToken"] = str(db.seq + 1)
    else:
        result["nextPageToken"] = str(following)
    result = apply_mask(result, mask)
    if not mask or "changes" in mask:
        below = mask.get("changes", ALL)
        view = call.view()
        rows = [entry["row"] for entry in found if entry["row"] is not None]
        file_mask = below.get("file", ALL)
        if not below or "file" in below:
            view.preload(rows, file_mask)
        result["changes"] = []
        for entry in found:
            change = {
                "kind": "drive#change",
                "type": "file",
                "changeType": "file",
                "time": format_ms(entry["changed_ms"]),
                "removed": entry["row"] is None,
                "fileId": entry["id"],
            }
            change = apply_mask(change, below)
            if entry["row"] is not None and (not below or "file" in below):
                change["file"] = view.file(entry["row"], file_mask)
            result["changes"].append(change)
    return result


def read_token(call: Call) -> int:
    """Sequence number of the first change wanted."""
    text = call.query["pageToken"]
    if not text.isdecimal() or len(text) > 18 or int(text) > call.emulator.db.seq + 1:
        raise invalid(location="pageToken")
    return int(text)


def page(call: Call, first: int, size: int) -> tuple[list[dict[str, Any]], int | None]:
    """Up to `size` changes from `first` on, and where the next page begins, None after the last one."""
    db, tree, query = call.emulator.db, call.emulator.tree, call.query
    drive = _drive(call)
    if drive is not None:
        scope: Clause = ("f.drive = ?", [drive])
        gone: Clause = ("drive = ?", [drive])
    else:
        scope = visible(tree, call.caller)
        gone = ("user = ?", [call.caller.user.n])
        if query.get("includeItemsFromAllDrives") or query.get("includeTeamDriveItems"):
            theirs, arguments = visible_in_drives(tree, call.caller)
            scope = (f"({scope[0]} OR {theirs})", scope[1] + arguments)
            gone = ("(user = ? OR drive IS NOT NULL)", gone[1])
        if query.get("restrictToMyDrive"):
            scope = (scope[0] + " AND f.owner = ? AND f.parent IS NOT NULL", [*scope[1], call.caller.user.n])
    rows = db.rows(
        f"SELECT f.* FROM files f WHERE f.seq >= ? AND f.is_root = 0 AND {scope[0]} ORDER BY f.seq LIMIT ?",
        (first, *scope[1], size + 1),
    )
    found = [{"seq": row["seq"], "id": row["id"], "row": row, "changed_ms": row["changed_ms"]} for row in rows]
    if query.get("includeRemoved", query.get("includeDeleted", True)):
        removals = db.rows(
            f"SELECT * FROM removals WHERE seq >= ? AND {gone[0]} ORDER BY seq LIMIT ?",
            (first, *gone[1], size + 1),
        )
        found += [
            {"seq": row["seq"], "id": row["file"], "row": None, "changed_ms": row["changed_ms"]} for row in removals
        ]
        found.sort(key=lambda entry: entry["seq"])
    if len(found) <= size:
        return found, None
    return found[:size], found[size]["seq"]


HANDLERS: dict[str, Handler] = {
    "drive.changes.getStartPageToken": start_token,
    "drive.changes.list": listing,
}
