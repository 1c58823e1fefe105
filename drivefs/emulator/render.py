"""Rows of `files` as the v3 resource File: one function a field, called only for what the mask asks."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from drivefs.emulator.accounts import FOLDER_MIME, Caller, User
from drivefs.emulator.database import Row
from drivefs.emulator.documents import export_links
from drivefs.emulator.fields import Mask, apply_mask
from drivefs.emulator.times import format_ms

if TYPE_CHECKING:
    from drivefs.emulator.tree import Tree

GOOGLE_MIME_PREFIX = "application/vnd.google-apps."
SHORTCUT_MIME = "application/vnd.google-apps.shortcut"


class View:
    """The tree as one caller sees it; `link_base` begins the links for people."""

    def __init__(self, tree: Tree, caller: Caller, link_base: str) -> None:
        self.tree = tree
        self.caller = caller
        self.user = caller.user.n
        self.link_base = link_base
        self._parents: dict[int, str | None] = {}
        self._people: dict[int, dict[str, Any]] = {}
        self._states: dict[int, Row | None] = {}

    def file(self, row: Row, mask: Mask) -> dict[str, Any]:
        """The File resource with the fields of `mask` that this file has."""
        result: dict[str, Any] = {}
        for name in mask or FIELDS:
            make = FIELDS.get(name)
            if make is None:
                continue
            value = make(row, self)
            if value is not None:
                below = mask.get(name)
                result[name] = apply_mask(value, below) if below else value
        return result

    def preload(self, rows: list[Row], mask: Mask) -> None:
        """Fetch for a whole page what would else cost a query a row."""
        if (not mask or "parents" in mask) and len(rows) > 1:
            wanted = list({row["parent"] for row in rows if row["parent"] is not None})
            marks = ",".join("?" * len(wanted))
            for found in self.tree.db.rows(f"SELECT * FROM files WHERE n IN ({marks})", wanted):
                self._parents[found["n"]] = found["id"] if self.tree.role(found, self.caller) else None
        if not mask or mask.keys() & {"starred", "viewedByMe", "viewedByMeTime", "modifiedByMe", "modifiedByMeTime"}:
            self._states.update((row["n"], None) for row in rows)
            marks = ",".join("?" * len(rows))
            for found in self.tree.db.rows(
                f"SELECT * FROM user_state WHERE user = ? AND file IN ({marks})",
                (self.user, *(row["n"] for row in rows)),
            ):
                self._states[found["file"]] = found

    def parent_id(self, n: int) -> str | None:
        if n not in self._parents:
            row = self.tree.db.row("SELECT * FROM files WHERE n = ?", (n,))
            self._parents[n] = None if row is None or not self.tree.role(row, self.caller) else row["id"]
        return self._parents[n]

    def person(self, n: int | None) -> dict[str, Any] | None:
        if n is None:
            return None
        if n not in self._people:
            self._people[n] = person(self.tree.accounts.by_n(n), self.user)
        return self._people[n]

    def state(self, row: Row) -> Row | None:
        n = row["n"]
        if n not in self._states:
            self._states[n] = self.tree.db.row("SELECT * FROM user_state WHERE user = ? AND file = ?", (self.user, n))
        return self._states[n]

    def role(self, row: Row) -> str:
        return self.tree.role(row, self.caller) or "reader"


def person(user: User, viewer: int) -> dict[str, Any]:
    """The resource User."""
    return {
        "kind": "drive#user",
        "displayName": user.name,
        "me": user.n == viewer,
        "permissionId": user.permission_id,
        "emailAddress": user.email,
    }


def more(row: Row) -> dict[str, Any]:
    """The fields that nothing is searched by."""
    return json.loads(row["more"]) if row["more"] else {}


def is_google(mime: str) -> bool:
    """Whether items of this kind have no bytes of their own."""
    return mime.startswith(GOOGLE_MIME_PREFIX)


def extension(name: str, *, full: bool) -> str:
    """As in `fileExtension`, and `fullFileExtension` ("tar.gz"); "" where there is none."""
    parts = name.split(".")
    if len(parts) < 2 or not parts[-1]:
        return ""
    if full and len(parts) > 2 and parts[-2] in ("tar", "ser", "js", "min"):
        return ".".join(parts[-2:])
    return parts[-1]


def _parents(row: Row, view: View) -> list[str] | None:
    found = None if row["parent"] is None else view.parent_id(row["parent"])
    return None if found is None else [found]


def _owned(row: Row, view: View) -> bool | None:
    return None if row["drive"] else row["owner"] == view.user


def _owners(row: Row, view: View) -> list[Any] | None:
    return None if row["owner"] is None else [view.person(row["owner"])]


def _app_properties(row: Row, view: View) -> dict[str, str] | None:
    if not row["app_properties"]:
        return None
    found: dict[str, str] | None = json.loads(row["app_properties"]).get(view.caller.client)
    return found or None


def _time(column: str) -> Callable[[Row, View], str | None]:
    def field(row: Row, _view: View) -> str | None:
        return None if row[column] is None else format_ms(row[column])

    return field


def _state_time(column: str, row: Row, view: View) -> str | None:
    state = view.state(row)
    return None if state is None or state[column] is None else format_ms(state[column])


def _state_flag(column: str, row: Row, view: View) -> bool:
    state = view.state(row)
    return bool(state is not None and state[column])


def _web_view(row: Row, view: View) -> str:
    kind = row["mime"].removeprefix(GOOGLE_MIME_PREFIX)
    if row["mime"] == FOLDER_MIME:
        return f"{view.link_base}/drive/folders/{row['id']}"
    if kind in ("document", "spreadsheet", "presentation", "drawing", "form"):
        place = {"spreadsheet": "spreadsheets", "drawing": "drawings", "form": "forms"}.get(kind, kind)
        return f"https://docs.google.com/{place}/d/{row['id']}/edit?usp=drivesdk"
    return f"{view.link_base}/file/d/{row['id']}/view?usp=drivesdk"


def _web_content(row: Row, view: View) -> str | None:
    if row["size"] is None:
        return None
    return f"{view.link_base}/uc?id={row['id']}&export=download"


def _shared(row: Row, view: View) -> bool:
    return view.tree.is_shared(row)


def _permissions(row: Row, view: View) -> list[dict[str, Any]] | None:
    if row["drive"] or view.role(row) in ("reader", "commenter"):
        return None
    return view.tree.permissions(row, view.user)


def _permission_ids(row: Row, view: View) -> list[str] | None:
    found = _permissions(row, view)
    return None if found is None else [entry["id"] for entry in found]


def _shared_with_me(row: Row, view: View) -> str | None:
    if row["owner"] == view.user or row["drive"]:
        return None
    found = view.tree.db.value(
        "SELECT granted_ms FROM permissions WHERE file = ? AND user = ?", (row["n"], view.user)
    )
    return None if found is None else format_ms(found)


def _shortcut(row: Row, view: View) -> dict[str, Any] | None:
    if row["target"] is None:
        return None
    details = {"targetId": row["target"]}
    mime = view.tree.db.value("SELECT mime FROM files WHERE id = ?", (row["target"],))
    return details if mime is None else {**details, "targetMimeType": mime}


def _binary(make: Callable[[Row], Any], row: Row, _view: View) -> Any:
    return None if row["size"] is None else make(row)


def _more(name: str, default: Any, row: Row, _view: View) -> Any:
    return more(row).get(name, default)


def may_copy(row: Row, role: str | None) -> bool:
    """Whether somebody of that role may copy the item."""
    limited = more(row).get("copyRequiresWriterPermission", False) and role in (None, "reader", "commenter")
    return row["mime"] != FOLDER_MIME and not limited


def capabilities(row: Row, view: View) -> dict[str, bool]:
    """What this caller may do with the item."""
    role = view.role(row)
    folder, in_drive, root = row["mime"] == FOLDER_MIME, bool(row["drive"]), bool(row["is_root"])
    owner, organizer = role == "owner", role in ("fileOrganizer", "organizer")
    edit = owner or organizer or role == "writer"
    locked = any(entry.get("readOnly") for entry in more(row).get("contentRestrictions", ()))
    remove = (owner or organizer) and not root
    result = {
        "canAcceptOwnership": False,
        "canAddChildren": edit and folder,
        "canAddMyDriveParent": False,
        "canChangeCopyRequiresWriterPermission": edit,
        "canChangeViewersCanCopyContent": edit,
        "canComment": edit or role == "commenter",
        "canCopy": may_copy(row, role),
        "canDelete": (owner or role == "organizer") and not root,
        "canDownload": not folder,
        "canEdit": edit,
        "canListChildren": folder,
        "canModifyContent": edit and not locked,
        "canModifyContentRestriction": edit,
        "canModifyLabels": False,
        "canMoveChildrenWithinDrive": edit and folder,
        "canMoveItemOutOfDrive": remove,
        "canMoveItemWithinDrive": edit and not root,
        "canReadLabels": False,
        "canReadRevisions": edit and not folder,
        "canRemoveChildren": edit and folder,
        "canRemoveMyDriveParent": owner and not root,
        "canRename": edit and not root,
        "canShare": edit and not root,
        "canTrash": remove,
        "canUntrash": remove,
    }
    if in_drive:
        result.update(
            canReadDrive=True,
            canAddFolderFromAnotherDrive=False,
            canDeleteChildren=role == "organizer" and folder,
            canTrashChildren=organizer and folder,
            canMoveChildrenOutOfDrive=role == "organizer" and folder,
        )
    return result


def _icon(row: Row, _view: View) -> str:
    return f"https://drive-thirdparty.googleusercontent.com/16/type/{row['mime']}"


def _spaces(_row: Row, _view: View) -> list[str]:
    return ["drive"]


FIELDS: dict[str, Callable[[Row, View], Any]] = {
    "kind": lambda row, view: "drive#file",
    "id": lambda row, view: row["id"],
    "name": lambda row, view: row["name"],
    "mimeType": lambda row, view: row["mime"],
    "description": partial(_more, "description", None),
    "starred": partial(_state_flag, "starred"),
    "trashed": lambda row, view: bool(row["trashed"]),
    "explicitlyTrashed": lambda row, view: bool(row["explicitly_trashed"]),
    "trashedTime": lambda row, view: format_ms(row["trashed_ms"]) if row["drive"] and row["trashed_ms"] else None,
    "parents": _parents,
    "properties": lambda row, view: json.loads(row["properties"]) if row["properties"] else None,
    "appProperties": _app_properties,
    "spaces": _spaces,
    "version": lambda row, view: str(row["version"]),
    "webContentLink": _web_content,
    "webViewLink": _web_view,
    "iconLink": _icon,
    "hasThumbnail": lambda row, view: False,
    "thumbnailVersion": lambda row, view: "0",
    "viewedByMe": partial(_state_flag, "viewed_ms"),
    "viewedByMeTime": partial(_state_time, "viewed_ms"),
    "createdTime": _time("created_ms"),
    "modifiedTime": _time("modified_ms"),
    "modifiedByMeTime": partial(_state_time, "modified_ms"),
    "modifiedByMe": partial(_state_flag, "modified_ms"),
    "sharedWithMeTime": _shared_with_me,
    "owners": _owners,
    "driveId": lambda row, view: row["drive"],
    "teamDriveId": lambda row, view: row["drive"],
    "lastModifyingUser": lambda row, view: view.person(row["modifier"]),
    "shared": _shared,
    "ownedByMe": _owned,
    "capabilities": capabilities,
    "viewersCanCopyContent": lambda row, view: not more(row).get("copyRequiresWriterPermission", False),
    "copyRequiresWriterPermission": partial(_more, "copyRequiresWriterPermission", False),
    "writersCanShare": lambda row, view: None if row["drive"] else more(row).get("writersCanShare", True),
    "permissions": _permissions,
    "permissionIds": _permission_ids,
    "folderColorRgb": lambda row, view: (
        more(row).get("folderColorRgb", "#8f8f8f") if row["mime"] == FOLDER_MIME else None
    ),
    "originalFilename": partial(_binary, lambda row: more(row).get("originalFilename", row["name"])),
    "fullFileExtension": partial(_binary, lambda row: extension(row["name"], full=True)),
    "fileExtension": partial(_binary, lambda row: extension(row["name"], full=False)),
    "md5Checksum": partial(_binary, lambda row: row["md5"]),
    "sha1Checksum": partial(_binary, lambda row: row["sha1"]),
    "sha256Checksum": partial(_binary, lambda row: row["sha256"]),
    "size": partial(_binary, lambda row: str(row["size"])),
    "quotaBytesUsed": lambda row, view: str(view.tree.quota_bytes(row)),
    "headRevisionId": partial(_binary, lambda row: row["head"]),
    "isAppAuthorized": lambda row, view: row["creator_app"] == view.caller.client,
    "exportLinks": lambda row, view: export_links(row["mime"], row["id"]),
    "shortcutDetails": _shortcut,
    "contentRestrictions": partial(_more, "contentRestrictions", None),
    "linkShareMetadata": lambda row, view: {"securityUpdateEligible": False, "securityUpdateEnabled": True},
    "inheritedPermissionsDisabled": partial(_more, "inheritedPermissionsDisabled", False),
    "downloadRestrictions": partial(_more, "downloadRestrictions", None),
    "resourceKey": partial(_more, "resourceKey", None),
    "hasAugmentedPermissions": lambda row, view: False if row["drive"] else None,
}
