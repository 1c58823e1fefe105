"""drive.permissions of v3."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from drivefs.emulator.database import Row, now_ms
from drivefs.emulator.errors import ApiError, invalid, no_permission, not_writable, required
from drivefs.emulator.state import Call
from drivefs.emulator.tree import RANKS
from drivefs.emulator.v3_files import Handler

_TYPES = ("user", "group", "domain", "anyone")
_NO_SHARING = ApiError(
    403, "insufficientFilePermissions", "The user does not have sufficient permissions for this file."
)


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


HANDLERS: dict[str, Handler] = {
    "drive.permissions.list": list_permissions,
    "drive.permissions.get": get_permission,
    "drive.permissions.create": create_permission,
    "drive.permissions.update": update_permission,
    "drive.permissions.delete": delete_permission,
}
