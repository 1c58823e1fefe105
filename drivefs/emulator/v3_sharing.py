"""drive.permissions, drive.drives and drive.revisions of v3."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from drivefs.emulator.accounts import FOLDER_MIME
from drivefs.emulator.database import Row, new_root_id, now_ms
from drivefs.emulator.errors import ApiError, invalid, no_permission, not_writable, required
from drivefs.emulator.state import Call
from drivefs.emulator.times import format_ms
from drivefs.emulator.tree import RANKS
from drivefs.emulator.v3_files import Handler

_TYPES = ("user", "group", "domain", "anyone")
_NO_SHARING = ApiError(
    403, "insufficientFilePermissions", "The user does not have sufficient permissions for this file."
)
_MAX_KEPT_REVISIONS = 200


# --- permissions ---


def _item(call: Call, role: str) -> Row:
    tree = call.emulator.tree
    row = tree.get(call.path["fileId"], call.caller, all_drives=call.all_drives)
    if row["drive"] and row["is_root"] and RANKS[role] > RANKS["reader"]:
        role = "organizer"
    tree.need(row, call.caller, role, _NO_SHARING)
    return row


def _permission(call: Call, row: Row, permission_id: str) -> dict[str, Any]:
    for found in call.emulator.tree.permissions(row, call.caller.user.n):
        if found["id"] == permission_id:
            return found
    raise ApiError(404, "notFound", f"Permission not found: {permission_id}.", location="permissionId")


def list_permissions(call: Call) -> Any:
    row = _item(call, "reader" if call.api.version == "v2" else "writer")
    found = call.emulator.tree.permissions(row, call.caller.user.n)
    return call.masked({"kind": "drive#permissionList", "permissions": found})


def get_permission(call: Call) -> Any:
    return call.masked(_permission(call, _item(call, "reader"), call.path["permissionId"]))


def create_permission(call: Call) -> Any:
    body, emulator = call.body, call.emulator
    kind, role = body.get("type"), body.get("role")
    if not kind:
        raise required("permission.type")
    if not role:
        raise required("permission.role")
    if kind not in _TYPES:
        raise invalid("The permission type field is required.", "permission.type")
    if role not in RANKS:
        raise invalid("The specified role is invalid.", "permission.role")
    row = _item(call, "writer")
    if role in ("organizer", "fileOrganizer") and not row["drive"]:
        raise ApiError(403, "invalidSharingRequest", "This role is for shared drives only.")
    if kind == "anyone" and role not in ("reader", "commenter", "writer"):
        raise invalid("The specified role is invalid for this type.", "permission.role")
    if role == "owner":
        return _hand_over(call, row)
    email = (body.get("emailAddress") or "").lower()
    if kind in ("user", "group") and not email:
        raise required("permission.emailAddress")
    user = emulator.accounts.find(email) if kind == "user" else None
    if user is not None:
        permission_id = user.permission_id
    else:
        permission_id = {"anyone": "anyoneWithLink"}.get(kind) or str(
            int(hashlib.sha256((email or body.get("domain", "")).encode()).hexdigest()[:16], 16)
        ).zfill(20)
        if kind == "anyone" and body.get("allowFileDiscovery"):
            permission_id = "anyone"
    with emulator.db.transaction():
        emulator.tree.any_sharing = True
        emulator.db.run(
            "INSERT OR REPLACE INTO permissions (file, id, type, role, email, domain, user, discoverable, granted_ms,"
            " granted_by, more) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                row["n"], permission_id, kind, role, email or None, body.get("domain"),
                None if user is None else user.n, int(bool(body.get("allowFileDiscovery"))), now_ms(),
                call.caller.user.n, _more_of(body),
            ),
        )  # fmt: skip
        for each in emulator.tree.below(row["n"]):
            emulator.tree.touch(each["n"])
    return call.masked(_permission(call, row, permission_id))


def _more_of(body: dict[str, Any]) -> str:
    return json.dumps({name: body[name] for name in ("expirationTime", "view") if body.get(name)})


def _hand_over(call: Call, row: Row) -> Any:
    """Make somebody else the owner."""
    emulator = call.emulator
    if not call.query.get("transferOwnership"):
        raise ApiError(
            403,
            "forbidden",
            "The transferOwnership parameter must be enabled when the permission role is 'owner'.",
            location="transferOwnership",
        )
    user = emulator.accounts.find((call.body.get("emailAddress") or "").lower())
    if user is None or user.root is None or row["drive"]:
        raise ApiError(403, "invalidSharingRequest", "The owner of a file cannot be changed to this user.")
    emulator.tree.need(row, call.caller, "owner")
    with emulator.db.transaction():
        emulator.tree.any_sharing = True
        emulator.tree.charge(row["owner"], -emulator.tree.quota_bytes(row))
        emulator.tree.charge(user.n, emulator.tree.quota_bytes(row))
        emulator.tree.touch(row["n"], owner=user.n)
        old = call.caller.user
        emulator.db.run("DELETE FROM permissions WHERE file = ? AND id = ?", (row["n"], user.permission_id))
        emulator.db.run(
            "INSERT OR REPLACE INTO permissions (file, id, type, role, email, user, granted_ms, granted_by)"
            " VALUES (?, ?, 'user', 'writer', ?, ?, ?, ?)",
            (row["n"], old.permission_id, old.email, old.n, now_ms(), old.n),
        )
    return call.masked(_permission(call, emulator.tree.by_n(row["n"]), user.permission_id))


def update_permission(call: Call) -> Any:
    row = _item(call, "writer")
    known = _permission(call, row, call.path["permissionId"])
    role = call.body.get("role", known["role"])
    if set(call.body) - {"role", "expirationTime", "pendingOwner", "kind", "view"}:
        raise not_writable()
    if role not in RANKS:
        raise invalid("The specified role is invalid.", "permission.role")
    if role == "owner" and known["role"] != "owner":
        call.body["emailAddress"] = known.get("emailAddress")
        return _hand_over(call, row)
    if known["role"] == "owner":
        raise no_permission()
    with call.emulator.db.transaction():
        changed = call.emulator.db.run(
            "UPDATE permissions SET role = ? WHERE file = ? AND id = ?", (role, row["n"], known["id"])
        )
        if not changed.rowcount:
            raise ApiError(403, "cannotUpdatePermission", "Inherited permissions cannot be updated here.")
        for each in call.emulator.tree.below(row["n"]):
            call.emulator.tree.touch(each["n"])
    return call.masked(_permission(call, row, known["id"]))


def delete_permission(call: Call) -> None:
    emulator = call.emulator
    row = _item(call, "reader")
    known = _permission(call, row, call.path["permissionId"])
    if known["id"] != call.caller.user.permission_id:
        _item(call, "writer")
    if known["role"] == "owner":
        raise no_permission()
    with emulator.db.transaction():
        user = emulator.accounts.find_by_permission(known["id"])
        gone = emulator.db.run("DELETE FROM permissions WHERE file = ? AND id = ?", (row["n"], known["id"]))
        if not gone.rowcount:
            raise ApiError(403, "cannotDeletePermission", "Inherited permissions cannot be removed here.")
        for each in emulator.tree.below(row["n"]):
            emulator.tree.touch(each["n"])
            if user is not None and each["owner"] != user.n:
                emulator.db.run(
                    "INSERT INTO removals VALUES (?, ?, ?, ?, ?)",
                    (emulator.db.next_seq(), each["id"], user.n, each["drive"], now_ms()),
                )


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
        call.emulator.items.remove(root)
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
        call.emulator.items.drop_revision(revision["n"])
        columns: dict[str, Any] = {}
        if revision["id"] == row["head"]:
            columns = {name: rest[name] for name in ("size", "md5", "sha1", "sha256", "mime")}
            columns["head"] = rest["id"]
        tree.touch(row["n"], **columns)
        tree.charge(row["owner"], tree.quota_bytes(tree.by_n(row["n"])) - before)


HANDLERS: dict[str, Handler] = {
    "drive.permissions.list": list_permissions,
    "drive.permissions.get": get_permission,
    "drive.permissions.create": create_permission,
    "drive.permissions.update": update_permission,
    "drive.permissions.delete": delete_permission,
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
