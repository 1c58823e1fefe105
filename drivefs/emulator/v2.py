"""The part of Drive API v2 that clients still use (PyDrive2): v2's names over the same items."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

from drivefs.emulator import v3_changes, v3_files, v3_sharing
from drivefs.emulator.content import Stored
from drivefs.emulator.database import Row, now_ms
from drivefs.emulator.errors import ApiError, not_found
from drivefs.emulator.fields import ALL, Mask, apply_mask
from drivefs.emulator.listing import list_files
from drivefs.emulator.render import View
from drivefs.emulator.schema import api
from drivefs.emulator.state import Call
from drivefs.emulator.times import format_ms
from drivefs.emulator.v3_files import Handler

_SAME = (
    "id", "mimeType", "description", "webContentLink", "webViewLink", "iconLink", "hasThumbnail", "version",
    "md5Checksum", "sha1Checksum", "sha256Checksum", "headRevisionId", "originalFilename", "fileExtension",
    "fullFileExtension", "exportLinks", "quotaBytesUsed", "shared", "explicitlyTrashed", "spaces", "driveId",
    "teamDriveId", "shortcutDetails", "capabilities", "permissionIds", "folderColorRgb", "writersCanShare",
    "copyRequiresWriterPermission", "isAppAuthorized", "ownedByMe",
)  # fmt: skip
_RENAMED = {
    "name": "title",
    "createdTime": "createdDate",
    "modifiedTime": "modifiedDate",
    "modifiedByMeTime": "modifiedByMeDate",
    "viewedByMeTime": "lastViewedByMeDate",
    "sharedWithMeTime": "sharedWithMeDate",
    "size": "fileSize",
}
_WRITABLE = {
    "title": "name",
    "modifiedDate": "modifiedTime",
    "createdDate": "createdTime",
    "lastViewedByMeDate": "viewedByMeTime",
    "description": "description",
    "mimeType": "mimeType",
    "originalFilename": "originalFilename",
    "folderColorRgb": "folderColorRgb",
    "writersCanShare": "writersCanShare",
    "copyRequiresWriterPermission": "copyRequiresWriterPermission",
    "contentRestrictions": "contentRestrictions",
}
_CREATE_ONLY = ("id", "shortcutDetails")


def etag(row: Row) -> str:
    """Changes with every version of the item."""
    return '"' + base64.urlsafe_b64encode(f"{row['id']}:{row['version']}".encode()).decode().rstrip("=") + '"'


def _base(link_base: str) -> str:
    """Where the API's own links lead; not to the host of links for people, where that is Google's."""
    return link_base.replace("https://drive.google.com", "https://www.googleapis.com") + "/drive/v2/files"


def file(view: View, row: Row, mask: Mask) -> dict[str, Any]:
    """The v2 resource File."""
    found = view.file(row, ALL)
    root = f"{_base(view.link_base)}/{row['id']}"
    result: dict[str, Any] = {"kind": "drive#file", "etag": etag(row), "selfLink": root}
    result.update({name: found[name] for name in _SAME if name in found})
    result.update({new: found[old] for old, new in _RENAMED.items() if old in found})
    result["labels"] = {
        "starred": found["starred"],
        "hidden": False,
        "trashed": found["trashed"],
        "restricted": found["copyRequiresWriterPermission"],
        "viewed": found["viewedByMe"],
        "modified": found["modifiedByMe"],
    }
    result["parents"] = [_parent(view, row, parent) for parent in found.get("parents", ())]
    result["properties"] = [
        {"kind": "drive#property", "key": key, "value": value, "visibility": visibility}
        for visibility, name in (("PUBLIC", "properties"), ("PRIVATE", "appProperties"))
        for key, value in found.get(name, {}).items()
    ]
    owners = found.get("owners", [])
    result["owners"] = owners
    result["ownerNames"] = [owner["displayName"] for owner in owners]
    result["lastModifyingUser"] = found.get("lastModifyingUser")
    result["editable"] = found["capabilities"]["canEdit"]
    result["copyable"] = found["capabilities"]["canCopy"]
    result["shareable"] = found["capabilities"]["canShare"]
    result["canComment"] = found["capabilities"]["canComment"]
    result["canReadRevisions"] = found["capabilities"]["canReadRevisions"]
    result["alternateLink"] = found["webViewLink"]
    result["userPermission"] = {"kind": "drive#permission", "id": "me", "type": "user", "role": view.role(row)}
    if "permissions" in found:
        result["permissions"] = [_permission(entry) for entry in found["permissions"]]
    if row["size"] is not None:
        result["downloadUrl"] = f"{root}?alt=media&source=downloadUrl"
    return apply_mask({name: value for name, value in result.items() if value is not None}, mask)  # type: ignore[no-any-return]


def _parent(view: View, row: Row, parent_id: str) -> dict[str, Any]:
    base = _base(view.link_base)
    return {
        "kind": "drive#parentReference",
        "id": parent_id,
        "selfLink": f"{base}/{row['id']}/parents/{parent_id}",
        "parentLink": f"{base}/{parent_id}",
        "isRoot": parent_id == view.caller.user.root_id,
    }


def _permission(found: dict[str, Any]) -> dict[str, Any]:
    role = found["role"]
    result = {**found, "name": found.get("displayName", ""), "withLink": not found.get("allowFileDiscovery", True)}
    for name in ("displayName", "allowFileDiscovery", "permissionDetails"):
        result.pop(name, None)
    result["etag"] = f'"{found["id"]}-{role}"'
    if role == "commenter":
        result.update(role="reader", additionalRoles=["commenter"])
    return result


def body_of(call: Call, *, create: bool) -> dict[str, Any]:
    """The v3 body that says the same; v2 ignores what cannot be written."""
    old = call.body
    result = {new: old[name] for name, new in _WRITABLE.items() if old.get(name) is not None}
    if not create:
        result.pop("createdTime", None)
        behaviour = call.query.get("modifiedDateBehavior", "")
        if not (call.query.get("setModifiedDate") or behaviour.startswith("fromBody")):
            result.pop("modifiedTime", None)
            if not behaviour.startswith("noChange") and result:
                result["modifiedTime"] = format_ms(now_ms())
    labels = old.get("labels") or {}
    if "starred" in labels:
        result["starred"] = labels["starred"]
    if "trashed" in labels and not create:
        result["trashed"] = labels["trashed"]
    for entry in old.get("properties") or ():
        name = "properties" if str(entry.get("visibility", "PRIVATE")).upper() == "PUBLIC" else "appProperties"
        result.setdefault(name, {})[entry.get("key")] = entry.get("value")
    if create:
        result.update({name: old[name] for name in _CREATE_ONLY if old.get(name)})
        if old.get("parents"):
            result["parents"] = [entry["id"] for entry in old["parents"] if entry.get("id")]
    return result


def _check_etag(call: Call) -> None:
    """412 `conditionNotMet` unless the item is as the caller last saw it."""
    wanted = call.headers.get("If-Match")
    if wanted in (None, "*"):
        return
    row = call.emulator.tree.get(call.path["fileId"], call.caller)
    if etag(row) not in [part.strip() for part in wanted.split(",")]:
        raise ApiError(412, "conditionNotMet", "Precondition Failed", location="If-Match", location_type="header")


def _moves(call: Call) -> tuple[str, str]:
    """Parents to add and to remove; v2 moves by the body's parents too."""
    add, remove = call.query.get("addParents", ""), call.query.get("removeParents", "")
    parents = [entry["id"] for entry in call.body.get("parents") or () if entry.get("id")]
    return add or ",".join(parents), remove


class V2Upload:
    """files.insert and files.update of v2, with content."""

    def check(self, call: Call, size_bytes: int) -> None:
        items = call.emulator.items
        if "fileId" in call.path:
            body = body_of(call, create=False)
            items.check_update(call.caller, call.path["fileId"], body, size_bytes, all_drives=call.all_drives)
            _check_etag(call)
        else:
            items.check_create(call.caller, body_of(call, create=True), size_bytes, all_drives=call.all_drives)

    def complete(self, call: Call, stored: Stored | None, media_type: str | None) -> Any:
        items, everywhere = call.emulator.items, call.all_drives
        if "fileId" in call.path:
            add, remove = _moves(call)
            row = items.update(
                call.caller,
                call.path["fileId"],
                body_of(call, create=False),
                stored,
                media_type,
                all_drives=everywhere,
                add_parents=add,
                remove_parents=remove,
            )
        else:
            body = body_of(call, create=True)
            row = items.create(call.caller, body, stored, media_type, all_drives=everywhere)
            call.path["made"] = row["id"]
        return file(call.view(), row, call.mask)


UPLOAD = V2Upload()


def get(call: Call) -> Any:
    row = call.emulator.tree.get(call.path["fileId"], call.caller, all_drives=call.all_drives)
    return file(call.view(), row, call.mask)


def insert(call: Call) -> Any:
    return UPLOAD.complete(call, None, None)


def update(call: Call) -> Any:
    _check_etag(call)
    return UPLOAD.complete(call, None, None)


def _set(call: Call, **body: Any) -> Any:
    _check_etag(call)
    row = call.emulator.items.update(call.caller, call.path["fileId"], body, None, None, all_drives=call.all_drives)
    return file(call.view(), row, call.mask)


def delete(call: Call) -> None:
    _check_etag(call)
    v3_files.delete(call)


def copy(call: Call) -> Any:
    body = body_of(call, create=True)
    row = call.emulator.items.copy(call.caller, call.path["fileId"], body, all_drives=call.all_drives)
    return file(call.view(), row, call.mask)


def listing(call: Call) -> Any:
    rows, token = list_files(call.emulator.tree, call.caller, call.query, v2=True)
    view, mask = call.view(), call.mask
    view.preload(rows, ALL)
    base = _base(call.link_base)
    result: dict[str, Any] = {"kind": "drive#fileList", "etag": '"list"', "selfLink": base, "incompleteSearch": False}
    if token is not None:
        result.update(nextPageToken=token, nextLink=f"{base}?pageToken={token}")
    if not mask or "items" in mask:
        result["items"] = [file(view, row, mask.get("items", ALL)) for row in rows]
    return apply_mask(result, mask)


def about(call: Call) -> Any:
    query = {**call.query, "fields": "*"}
    law = api("v3")
    found = v3_files.about(replace(call, api=law, method=law.methods["drive.about.get"], query=query))
    user, quota = call.caller.user, found["storageQuota"]
    return call.masked(
        {
            "kind": "drive#about",
            "etag": '"about"',
            "name": user.name,
            "user": found["user"],
            "quotaBytesTotal": quota.get("limit", "0"),
            "quotaBytesUsed": quota["usageInDrive"],
            "quotaBytesUsedAggregate": quota["usage"],
            "quotaBytesUsedInTrash": quota["usageInDriveTrash"],
            "quotaType": "LIMITED" if "limit" in quota else "UNLIMITED",
            "largestChangeId": str(call.emulator.db.seq),
            "rootFolderId": user.root_id,
            "permissionId": user.permission_id,
            "domainSharingPolicy": "allowed",
            "isCurrentAppInstalled": False,
        }
    )


def changes(call: Call) -> Any:
    db = call.emulator.db
    query = {**call.query, "pageToken": str(call.query.get("pageToken") or call.query.get("startChangeId") or 1)}
    call = replace(call, query=query)
    first, size = v3_changes.read_token(call), call.query.get("maxResults", 100)
    found, following = v3_changes.page(call, first, size)
    view = call.view()
    items = []
    for entry in found:
        item: dict[str, Any] = {
            "kind": "drive#change",
            "id": str(entry["seq"]),
            "type": "file",
            "changeType": "file",
            "fileId": entry["id"],
            "deleted": entry["row"] is None,
            "modificationDate": format_ms(entry["changed_ms"]),
        }
        if entry["row"] is not None:
            item["file"] = file(view, entry["row"], ALL)
        items.append(item)
    result: dict[str, Any] = {"kind": "drive#changeList", "largestChangeId": str(db.seq), "items": items}
    if following is None:
        result["newStartPageToken"] = str(db.seq + 1)
    else:
        result["nextPageToken"] = str(following)
    return call.masked(result)


# --- permissions ---


def _whole(call: Call) -> Call:
    """The same call without a mask, for the v3 handler that does the work."""
    query = {name: value for name, value in call.query.items() if name != "fields"}
    return replace(call, query=query)


def list_permissions(call: Call) -> Any:
    found = v3_sharing.list_permissions(_whole(call))["permissions"]
    return call.masked(
        {"kind": "drive#permissionList", "etag": '"list"', "items": [_permission(entry) for entry in found]}
    )


def get_permission(call: Call) -> Any:
    return call.masked(_permission(v3_sharing.get_permission(_whole(call))))


def insert_permission(call: Call) -> Any:
    role = call.body.get("role")
    if role == "reader" and "commenter" in (call.body.get("additionalRoles") or ()):
        role = "commenter"
    body = {"type": call.body.get("type"), "role": role}
    # v2 names the person or domain by `value`.
    value = call.body.get("emailAddress") or call.body.get("value")
    body.update({"domain": value} if body["type"] == "domain" else {"emailAddress": value})
    if body["type"] == "anyone":
        body["allowFileDiscovery"] = not call.body.get("withLink", True)
    return call.masked(_permission(v3_sharing.create_permission(replace(_whole(call), body=body))))


def update_permission(call: Call) -> Any:
    body = {"role": call.body["role"]} if "role" in call.body else {}
    return call.masked(_permission(v3_sharing.update_permission(replace(_whole(call), body=body))))


# --- parents ---


def list_parents(call: Call) -> Any:
    found = file(call.view(), call.emulator.tree.get(call.path["fileId"], call.caller), ALL)
    return call.masked({"kind": "drive#parentList", "etag": '"list"', "items": found["parents"]})


def get_parent(call: Call) -> Any:
    for entry in list_parents(_whole(call))["items"]:
        if entry["id"] == call.path["parentId"] or (call.path["parentId"] == "root" and entry["isRoot"]):
            return call.masked(entry)
    raise not_found(call.path["parentId"])


def insert_parent(call: Call) -> Any:
    parent = call.body.get("id", "")
    items = call.emulator.items
    items.update(call.caller, call.path["fileId"], {}, None, None, all_drives=call.all_drives, add_parents=parent)
    return get_parent(replace(call, path={**call.path, "parentId": parent}))


def delete_parent(call: Call) -> None:
    items = call.emulator.items
    items.update(
        call.caller,
        call.path["fileId"],
        {},
        None,
        None,
        all_drives=call.all_drives,
        remove_parents=call.path["parentId"],
    )


def children(call: Call) -> Any:
    clause = f"'{json.dumps(call.path['folderId'])[1:-1]}' in parents"
    text = f"{clause} and ({call.query['q']})" if call.query.get("q") else clause
    rows, token = list_files(call.emulator.tree, call.caller, {**call.query, "q": text}, v2=True)
    items = [{"kind": "drive#childReference", "id": row["id"]} for row in rows]
    result: dict[str, Any] = {"kind": "drive#childList", "items": items}
    if token is not None:
        result["nextPageToken"] = token
    return call.masked(result)


HANDLERS: dict[str, Handler] = {
    "drive.about.get": about,
    "drive.changes.getStartPageToken": v3_changes.start_token,
    "drive.changes.list": changes,
    "drive.children.list": children,
    "drive.files.copy": copy,
    "drive.files.delete": delete,
    "drive.files.emptyTrash": v3_files.empty_trash,
    "drive.files.generateIds": v3_files.generate_ids,
    "drive.files.get": get,
    "drive.files.insert": insert,
    "drive.files.list": listing,
    "drive.files.patch": update,
    "drive.files.touch": lambda call: _set(call, modifiedTime=format_ms(now_ms())),
    "drive.files.trash": lambda call: _set(call, trashed=True),
    "drive.files.untrash": lambda call: _set(call, trashed=False),
    "drive.files.update": update,
    "drive.parents.delete": delete_parent,
    "drive.parents.get": get_parent,
    "drive.parents.insert": insert_parent,
    "drive.parents.list": list_parents,
    "drive.permissions.delete": v3_sharing.delete_permission,
    "drive.permissions.get": get_permission,
    "drive.permissions.insert": insert_permission,
    "drive.permissions.list": list_permissions,
    "drive.permissions.patch": update_permission,
    "drive.permissions.update": update_permission,
}
