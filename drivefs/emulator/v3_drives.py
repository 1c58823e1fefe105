"""drive.drives and drive.revisions of v3."""

from __future__ import annotations

import json
from typing import Any

from drivefs.emulator.accounts import FOLDER_MIME
from drivefs.emulator.database import Row, new_root_id, now_ms
from drivefs.emulator.errors import ApiError, invalid, no_permission, not_writable, required
from drivefs.emulator.state import Call
from drivefs.emulator.times import format_ms
from drivefs.emulator.tree import RANKS
from drivefs.emulator.v3_files import Handler

_MAX_KEPT_REVISIONS = 200


# --- shared drives ---


def _drive(call: Call, drive_id: str) -> tuple[Row, Row]:
    emulator = call.emulator
    drive = emulator.db.row("SELECT * FROM drives WHERE id = ?", (drive_id,))
    root = None if drive is None else emulator.tree.find(drive_id)
    if drive is None or root is None or emulator.tree.role(root, call.caller) is None:
        raise ApiError(404, "notFound", f"Shared drive not found: {drive_id}", location="driveId")
    return drive, root


def _drive_resource(call: Call, drive: Row) -> dict[str, Any]:
    root = call.emulator.tree.find(drive["id"])
    role = (call.emulator.tree.role(root, call.caller) if root is not None else None) or "reader"
    manage = role == "organizer"
    edit = RANKS[role] >= RANKS["writer"]
    hidden = call.emulator.db.value(
        "SELECT 1 FROM hidden_drives WHERE user = ? AND drive = ?", (call.caller.user.n, drive["id"])
    )
    return {
        "kind": "drive#drive",
        "id": drive["id"],
        "name": drive["name"],
        "createdTime": format_ms(drive["created_ms"]),
        "hidden": bool(hidden),
        "colorRgb": "#000000",
        "capabilities": {
            "canAddChildren": edit, "canComment": edit, "canCopy": True, "canDeleteDrive": manage,
            "canDownload": True, "canEdit": edit, "canListChildren": True, "canManageMembers": manage,
            "canReadRevisions": True, "canRename": edit, "canRenameDrive": manage, "canShare": manage,
            "canTrashChildren": RANKS[role] >= RANKS["fileOrganizer"], "canDeleteChildren": manage,
        },
        "restrictions": {
            "adminManagedRestrictions": False, "copyRequiresWriterPermission": False,
            "domainUsersOnly": False, "driveMembersOnly": False,
        },
        **json.loads(drive["more"]),
    }  # fmt: skip


def create_drive(call: Call) -> Any:
    emulator, user = call.emulator, call.caller.user
    name, request_id = call.body.get("name"), call.query["requestId"]
    if not name:
        raise required("drive.name")
    if emulator.db.value("SELECT 1 FROM drives WHERE request_id = ?", (request_id,)) is not None:
        raise ApiError(409, "conflict", "A shared drive was already created with this request ID.")
    if user.root is None:
        raise no_permission()
    drive_id, now = new_root_id(), now_ms()
    with emulator.db.transaction():
        emulator.tree.any_sharing = True
        n = emulator.db.insert(
            "files", id=drive_id, is_root=1, drive=drive_id, name=name, name_fold=name.casefold(), mime=FOLDER_MIME,
            created_ms=now, modified_ms=now, version=1, seq=emulator.db.next_seq(), changed_ms=now,
        )  # fmt: skip
        emulator.db.insert(
            "drives", id=drive_id, name=name, created_ms=now, request_id=request_id, seq=emulator.db.next_seq()
        )
        emulator.db.insert(
            "permissions", file=n, id=user.permission_id, type="user", role="organizer", email=user.email,
            user=user.n, granted_ms=now, granted_by=user.n,
        )  # fmt: skip
    return call.masked(_drive_resource(call, _drive(call, drive_id)[0]))


def list_drives(call: Call) -> Any:
    rows = call.emulator.db.rows(
        "SELECT d.* FROM drives d JOIN files f ON f.id = d.id JOIN permissions p ON p.file = f.n"
        " WHERE p.user = ? ORDER BY d.name",
        (call.caller.user.n,),
    )
    size = call.query.get("pageSize", 10)
    try:
        start = int(call.query.get("pageToken") or 0)
    except ValueError:
        raise invalid(location="pageToken") from None
    result: dict[str, Any] = {
        "kind": "drive#driveList",
        "drives": [_drive_resource(call, row) for row in rows[start : start + size]],
    }
    if start + size < len(rows):
        result["nextPageToken"] = str(start + size)
    return call.masked(result)


def get_drive(call: Call) -> Any:
    return call.masked(_drive_resource(call, _drive(call, call.path["driveId"])[0]))


def update_drive(call: Call) -> Any:
    drive, root = _drive(call, call.path["driveId"])
    call.emulator.tree.need(root, call.caller, "organizer")
    name = call.body.get("name")
    with call.emulator.db.transaction():
        if name:
            call.emulator.db.run("UPDATE drives SET name = ? WHERE id = ?", (name, drive["id"]))
            call.emulator.tree.touch(root["n"], name=name, name_fold=name.casefold())
        more = {key: call.body[key] for key in ("colorRgb", "themeId", "restrictions") if key in call.body}
        merged = json.dumps({**json.loads(drive["more"]), **more})
        call.emulator.db.run("UPDATE drives SET more = ? WHERE id = ?", (merged, drive["id"]))
    return get_drive(call)


def delete_drive(call: Call) -> None:
    drive, root = _drive(call, call.path["driveId"])
    call.emulator.tree.need(root, call.caller, "organizer")
    inside = call.emulator.tree.children(root["n"])
    if inside and not call.query.get("allowItemDeletion"):
        raise ApiError(403, "cannotDeleteNonEmptyDrive", "The shared drive is not empty.")
    with call.emulator.db.transaction():
        call.emulator.items.removal.remove(root)
        call.emulator.db.run("DELETE FROM drives WHERE id = ?", (drive["id"],))


def _set_hidden(call: Call, *, hidden: bool) -> Any:
    drive, _ = _drive(call, call.path["driveId"])
    arguments = (call.caller.user.n, drive["id"])
    if hidden:
        call.emulator.db.run("INSERT OR IGNORE INTO hidden_drives VALUES (?, ?)", arguments)
    else:
        call.emulator.db.run("DELETE FROM hidden_drives WHERE user = ? AND drive = ?", arguments)
    return get_drive(call)


# --- revisions ---


def _revision(call: Call) -> tuple[Row, Row]:
    row = call.emulator.tree.get(call.path["fileId"], call.caller)
    call.emulator.tree.need(row, call.caller, "writer")
    found = call.emulator.db.row(
        "SELECT * FROM revisions WHERE file = ? AND id = ?",
        (row["n"], row["head"] if call.path["revisionId"] == "head" else call.path["revisionId"]),
    )
    if found is None:
        raise ApiError(404, "notFound", f"Revision not found: {call.path['revisionId']}.", location="revisionId")
    return row, found


def _revision_resource(call: Call, revision: Row) -> dict[str, Any]:
    return {
        "kind": "drive#revision",
        "id": revision["id"],
        "mimeType": revision["mime"],
        "modifiedTime": format_ms(revision["modified_ms"]),
        "lastModifyingUser": call.view().person(revision["modifier"]),
        "keepForever": bool(revision["keep"]),
        "published": False,
        "originalFilename": revision["original_name"],
        "md5Checksum": revision["md5"],
        "size": str(revision["size"]),
        **json.loads(revision["more"] or "{}"),
    }


def list_revisions(call: Call) -> Any:
    row = call.emulator.tree.get(call.path["fileId"], call.caller)
    call.emulator.tree.need(row, call.caller, "writer")
    if row["mime"] == FOLDER_MIME or row["target"]:
        raise ApiError(403, "revisionsNotSupported", "The file does not support revisions.")
    size = call.query.get("pageSize", 200)
    token = call.query.get("pageToken") or "0"
    if not token.isdecimal():
        raise invalid(location="pageToken")
    rows = call.emulator.db.rows(
        "SELECT * FROM revisions WHERE file = ? AND n > ? ORDER BY n LIMIT ?", (row["n"], int(token), size + 1)
    )
    result: dict[str, Any] = {
        "kind": "drive#revisionList",
        "revisions": [_revision_resource(call, each) for each in rows[:size]],
    }
    if len(rows) > size:
        result["nextPageToken"] = str(rows[size - 1]["n"])
    return call.masked(result)


def get_revision(call: Call) -> Any:
    return call.masked(_revision_resource(call, _revision(call)[1]))


def update_revision(call: Call) -> Any:
    row, revision = _revision(call)
    settable = {"keepForever", "published", "publishAuto", "publishedOutsideDomain", "kind"}
    if set(call.body) - settable:
        raise not_writable()
    db, tree = call.emulator.db, call.emulator.tree
    with db.transaction():
        if "keepForever" in call.body:
            keep = bool(call.body["keepForever"])
            kept = db.value("SELECT count(*) FROM revisions WHERE file = ? AND keep = 1", (row["n"],))
            if keep and not revision["keep"] and kept >= _MAX_KEPT_REVISIONS:
                raise ApiError(403, "revisionsLimitExceeded", "Only 200 revisions can be kept forever.")
            before = tree.quota_bytes(row)
            db.set("revisions", revision["n"], keep=int(keep))
            more = {**json.loads(row["more"] or "{}"), "kept": True}
            tree.touch(row["n"], more=json.dumps(more))
            tree.charge(row["owner"], tree.quota_bytes(tree.by_n(row["n"])) - before)
        publish = {key: call.body[key] for key in settable - {"keepForever", "kind"} if key in call.body}
        if publish:
            db.set("revisions", revision["n"], more=json.dumps({**json.loads(revision["more"] or "{}"), **publish}))
    return get_revision(call)


def delete_revision(call: Call) -> None:
    row, revision = _revision(call)
    db, tree = call.emulator.db, call.emulator.tree
    rest = db.row(
        "SELECT * FROM revisions WHERE file = ? AND n != ? ORDER BY n DESC LIMIT 1", (row["n"], revision["n"])
    )
    if rest is None:
        raise ApiError(403, "cannotDeleteOnlyRevision", "A file's only revision cannot be deleted.")
    with db.transaction():
        before = tree.quota_bytes(row)
        call.emulator.items.heads.drop(revision["n"])
        columns: dict[str, Any] = {}
        if revision["id"] == row["head"]:
            columns = {name: rest[name] for name in ("size", "md5", "sha1", "sha256", "mime")}
            columns["head"] = rest["id"]
        tree.touch(row["n"], **columns)
        tree.charge(row["owner"], tree.quota_bytes(tree.by_n(row["n"])) - before)


HANDLERS: dict[str, Handler] = {
    "drive.drives.create": create_drive,
    "drive.drives.list": list_drives,
    "drive.drives.get": get_drive,
    "drive.drives.update": update_drive,
    "drive.drives.delete": delete_drive,
    "drive.drives.hide": lambda call: _set_hidden(call, hidden=True),
    "drive.drives.unhide": lambda call: _set_hidden(call, hidden=False),
    "drive.revisions.list": list_revisions,
    "drive.revisions.get": get_revision,
    "drive.revisions.update": update_revision,
    "drive.revisions.delete": delete_revision,
}
