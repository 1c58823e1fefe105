"""What is done to items: create, update, move, copy. Each is one transaction."""

from __future__ import annotations

import json
import mimetypes
from typing import Any

from drivefs.emulator import body as bodies
from drivefs.emulator.accounts import FOLDER_MIME, Caller
from drivefs.emulator.content import Stored
from drivefs.emulator.database import Row, now_ms
from drivefs.emulator.errors import ApiError, invalid, no_permission, not_found, storage_full
from drivefs.emulator.heads import Heads
from drivefs.emulator.removal import Removal
from drivefs.emulator.render import SHORTCUT_MIME, is_google, may_copy, more
from drivefs.emulator.tree import MAX_CHILDREN, MAX_DEPTH, MAX_DRIVE_ITEMS, Tree

EMPTY_TYPE = "application/octet-stream"


class Items:
    """Changes to the tree, checked as Google checks them."""

    def __init__(self, tree: Tree, revisions_kept: int) -> None:
        self.tree = tree
        self.db = tree.db
        self.heads = Heads(tree, revisions_kept)
        self.removal = Removal(tree, self.heads)

    # --- create ---

    def check_create(self, caller: Caller, body: dict[str, Any], size_bytes: int, *, all_drives: bool) -> Row:
        """Refuse what `create` would refuse; the parent otherwise."""
        bodies.check_writable(body, create=True)
        self._check_new_id(body)
        if len(body.get("parents") or ()) > 1:
            raise ApiError(403, "multipleParentsNotSupported", "A file cannot be created in multiple folders.")
        parent = self.tree.get((body.get("parents") or ["root"])[0], caller, all_drives=all_drives)
        self._check_parent(parent, caller, levels=1 if body.get("mimeType") == FOLDER_MIME else 0)
        if not parent["drive"]:
            if caller.user.root is None:
                raise ApiError(
                    403,
                    "storageQuotaExceeded",
                    "Service Accounts do not have storage quota. Leverage shared drives, or use OAuth delegation "
                    "instead.",
                    domain="usageLimits",
                )
            if not self.tree.has_room(caller.user.n, size_bytes):
                raise storage_full()
        return parent

    def _check_new_id(self, body: dict[str, Any]) -> None:
        wanted = body.get("id")
        if wanted is None:
            return
        kind = "shortcuts" if body.get("mimeType") == SHORTCUT_MIME else "files"
        if not self.db.issued(wanted, kind):
            raise ApiError(
                400, "invalid", "The provided file ID is not usable.", location="file.id", location_type="other"
            )
        if (
            self.tree.find(wanted) is not None
            or self.db.value("SELECT 1 FROM removals WHERE file = ?", (wanted,)) is not None
        ):
            raise ApiError(409, "fileIdInUse", "A file already exists with the provided ID.")

    def _check_parent(self, parent: Row, caller: Caller, *, levels: int) -> None:
        if parent["mime"] != FOLDER_MIME:
            raise ApiError(403, "parentNotAFolder", "The specified parent is not a folder.")
        self.tree.need(
            parent,
            caller,
            "writer",
            ApiError(403, "insufficientParentPermissions", "Insufficient permissions for the specified parent."),
        )
        if not parent["is_root"] and self.tree.children(parent["n"]) >= MAX_CHILDREN:
            raise ApiError(
                403,
                "numChildrenInNonRootLimitExceeded",
                "The limit for this folder's number of children (files and folders) has been exceeded.",
            )
        if levels and len(self.tree.ancestors(parent)) + levels > MAX_DEPTH:
            if parent["drive"]:
                raise ApiError(
                    403, "teamDriveHierarchyTooDeep", "The shared drive hierarchy depth will exceed the limit."
                )
            raise ApiError(
                403,
                "myDriveHierarchyDepthLimitExceeded",
                "Your My Drive can't contain more than 100 levels of folders. For details, see "
                "https://developers.google.com/drive/api/guides/handle-errors#nested-folder-levels.",
            )
        if parent["drive"]:
            count = self.db.value("SELECT count(*) FROM files WHERE drive = ?", (parent["drive"],))
            if count > MAX_DRIVE_ITEMS:
                raise ApiError(
                    403, "teamDriveFileLimitExceeded", "The file limit for this shared drive has been exceeded."
                )

    def create(
        self,
        caller: Caller,
        body: dict[str, Any],
        stored: Stored | None,
        media_type: str | None,
        *,
        all_drives: bool,
        keep: bool = False,
    ) -> Row:
        """A new item; its content is `stored`, or empty where the type has bytes."""
        with self.db.transaction():
            parent = self.check_create(caller, body, stored.size if stored else 0, all_drives=all_drives)
            mime = body.get("mimeType") or media_type or _guessed(body.get("name", ""))
            if stored is None and not is_google(mime):
                stored = self.tree.contents.store_small(b"")
            now = now_ms()
            name = body.get("name")
            if name is None:
                name = "Untitled"
            modified = bodies.moment(body, "modifiedTime")
            created = bodies.moment(body, "createdTime")
            n = self.db.insert(
                "files",
                id=body.get("id") or self.db.new_id(),
                parent=parent["n"],
                owner=None if parent["drive"] else caller.user.n,
                drive=parent["drive"],
                name=name,
                name_fold=name.casefold(),
                mime=mime,
                created_ms=now if created is None else created,
                modified_ms=now if modified is None else modified,
                modifier=caller.user.n,
                trashed=parent["trashed"],
                version=1,
                seq=self.db.next_seq(),
                changed_ms=now,
                target=self._shortcut_target(caller, body, mime),
                creator_app=caller.client,
                more=bodies.more_columns(None, body),
                **bodies.property_columns(None, body, caller.client),
            )
            self.tree.count_child(parent["n"], 1)
            self._set_state(caller, n, body, now)
            if stored is not None:
                self.heads.add(n, caller, stored, mime, now if modified is None else modified, keep=keep)
            if body.get("trashed"):
                self.removal.set_trashed(self.tree.by_n(n), True)
            return self.tree.by_n(n)

    def _shortcut_target(self, caller: Caller, body: dict[str, Any], mime: str) -> str | None:
        target = (body.get("shortcutDetails") or {}).get("targetId")
        if mime != SHORTCUT_MIME:
            return None
        if not target:
            raise ApiError(403, "shortcutTargetInvalid", "The shortcut target is invalid.")
        found = self.tree.get(target, caller)
        if found["mime"] == SHORTCUT_MIME:
            raise ApiError(403, "shortcutTargetInvalid", "The shortcut target is invalid.")
        return str(found["id"])

    def _set_state(self, caller: Caller, n: int, body: dict[str, Any], modified_ms: int | None) -> None:
        viewed = bodies.moment(body, "viewedByMeTime")
        if modified_ms is None and viewed is None and "starred" not in body:
            return
        self.db.run(
            "INSERT INTO user_state (user, file, starred, viewed_ms, modified_ms) VALUES (?1, ?2, ?3, ?4, ?5)"
            " ON CONFLICT DO UPDATE SET starred = coalesce(?6, starred), viewed_ms = coalesce(?7, viewed_ms),"
            " modified_ms = coalesce(?5, modified_ms)",
            (
                caller.user.n, n, int(bool(body.get("starred"))), viewed or modified_ms, modified_ms,
                int(body["starred"]) if body.get("starred") is not None else None, viewed,
            ),
        )  # fmt: skip

    # --- update ---

    def check_update(
        self, caller: Caller, file_id: str, body: dict[str, Any], size_bytes: int | None, *, all_drives: bool
    ) -> Row:
        """Refuse what `update` would refuse; the item otherwise. `size_bytes` is that of new content, if any."""
        bodies.check_writable(body, create=False)
        row = self.tree.get(file_id, caller, all_drives=all_drives)
        personal = set(body) <= {"starred", "viewedByMeTime", "kind"}
        if not personal or size_bytes is not None:
            self.tree.need(row, caller, "writer")
        if size_bytes is not None:
            if row["mime"] in (FOLDER_MIME, SHORTCUT_MIME):
                raise ApiError(403, "fileNotDownloadable", "Content cannot be uploaded to this type of file.")
            if any(entry.get("readOnly") for entry in json.loads(row["more"] or "{}").get("contentRestrictions", ())):
                raise ApiError(403, "contentRestricted", "The content of this file is read-only.")
            if not self.tree.has_room(row["owner"], size_bytes - (row["size"] or 0)):
                raise storage_full()
        return row

    def update(
        self,
        caller: Caller,
        file_id: str,
        body: dict[str, Any],
        stored: Stored | None,
        media_type: str | None,
        *,
        all_drives: bool,
        add_parents: str = "",
        remove_parents: str = "",
        keep: bool = False,
    ) -> Row:
        """Change metadata, parent and content together."""
        with self.db.transaction():
            row = self.check_update(caller, file_id, body, stored.size if stored else None, all_drives=all_drives)
            n = row["n"]
            columns = self._metadata_columns(row, body, caller)
            modified = bodies.moment(body, "modifiedTime")
            if stored is not None and modified is None:
                modified = now_ms()
            if modified is not None:
                columns.update(modified_ms=modified, modifier=caller.user.n)
            self._set_state(caller, n, body, now_ms() if columns else None)
            # Every update moves the version, also one that sets what was set.
            self.tree.touch(n, **columns)
            if stored is not None:
                mime = body.get("mimeType") or (row["mime"] if is_google(row["mime"]) else media_type or row["mime"])
                self.heads.add(n, caller, stored, mime, modified or now_ms(), keep=keep)
            if add_parents or remove_parents:
                self._move(self.tree.by_n(n), caller, add_parents, remove_parents, all_drives=all_drives)
            if body.get("trashed") is not None:
                self.tree.need(row, caller, "fileOrganizer" if row["drive"] else "owner")
                self.removal.set_trashed(self.tree.by_n(n), body["trashed"])
            return self.tree.by_n(n)

    def _metadata_columns(self, row: Row, body: dict[str, Any], caller: Caller) -> dict[str, Any]:
        columns: dict[str, Any] = {}
        if body.get("name") is not None:
            if row["is_root"]:
                raise no_permission()
            columns.update(name=body["name"], name_fold=body["name"].casefold())
        mime = body.get("mimeType")
        if mime is not None and mime != row["mime"]:
            if is_google(row["mime"]) or is_google(mime):
                raise invalid("Invalid MIME type provided for the uploaded content.", "mimeType")
            columns["mime"] = mime
        after = bodies.more_columns(row, body)
        if after != row["more"]:
            columns["more"] = after
        columns.update(bodies.property_columns(row, body, caller.client))
        return columns

    # --- move ---

    def _move(self, row: Row, caller: Caller, add: str, remove: str, *, all_drives: bool) -> None:
        adds = [part.strip() for part in add.split(",") if part.strip()]
        removes = [part.strip() for part in remove.split(",") if part.strip()]
        if row["is_root"]:
            raise no_permission()
        for each in removes:
            old = self.tree.get(each, caller, all_drives=all_drives)
            if old["n"] != row["parent"] and each not in adds:
                raise not_found(each)
        if not adds:
            if removes:
                raise ApiError(403, "cannotRemoveLastParent", "The last parent of an item cannot be removed.")
            return
        if len(adds) > 1:
            raise ApiError(403, "cannotAddParent", "Increasing the number of parents is not allowed")
        parent = self.tree.get(adds[0], caller, all_drives=all_drives)
        if parent["n"] == row["parent"]:
            return
        # One parent a file: adding one without removing the other moves it too (drive-api: Fields).
        folder = row["mime"] == FOLDER_MIME
        self._check_parent(parent, caller, levels=1 + self.tree.height(row["n"]) if folder else 0)
        if folder and (parent["n"] == row["n"] or row["n"] in self.tree.ancestors(parent)):
            raise ApiError(403, "cannotAddParent", "A folder cannot be moved into itself or one of its descendants.")
        if parent["drive"] != row["drive"]:
            self._change_drive(row, parent, caller)
        self.tree.count_child(row["parent"], -1)
        self.tree.count_child(parent["n"], 1)
        self.tree.touch(row["n"], parent=parent["n"])
        if parent["trashed"] != row["trashed"] and not row["explicitly_trashed"]:
            self.removal.spread_trash(row["n"], bool(parent["trashed"]))

    def _change_drive(self, row: Row, parent: Row, caller: Caller) -> None:
        if row["mime"] == FOLDER_MIME and row["drive"] is None:
            raise ApiError(
                403,
                "teamDrivesFolderMoveInNotSupported",
                "Moving folders into shared drives is not supported.",
            )
        if row["drive"] is None and row["owner"] != caller.user.n:
            raise no_permission()
        owner = None if parent["drive"] else caller.user.n
        for each in self.tree.below(row["n"]):
            used = self.tree.quota_bytes(each)
            self.tree.charge(each["owner"], -used)
            self.db.set("files", each["n"], drive=parent["drive"], owner=owner, seq=self.db.next_seq())
            self.tree.charge(owner, self.tree.quota_bytes(self.tree.by_n(each["n"])))

    # --- copy ---

    def copy(
        self, caller: Caller, file_id: str, body: dict[str, Any], *, all_drives: bool, keep: bool = False
    ) -> Row:
        """A new item with the same content, beside the original unless the body says otherwise."""
        with self.db.transaction():
            source = self.tree.get(file_id, caller, all_drives=all_drives)
            if not may_copy(source, self.tree.role(source, caller)):
                raise ApiError(403, "cannotCopyFile", "This file cannot be copied by the user.")
            new = dict(body)
            # Google names it "Copy of …" unless told.
            new.setdefault("name", f"Copy of {source['name']}")
            new.setdefault("mimeType", source["mime"])
            if "parents" not in new:
                parent = None if source["parent"] is None else self.tree.by_n(source["parent"])
                mine = parent is not None and self.tree.role(parent, caller) not in (None, "reader", "commenter")
                new["parents"] = [parent["id"]] if parent is not None and mine else ["root"]
            if source["target"]:
                new["shortcutDetails"] = {"targetId": source["target"]}
            if source["properties"]:
                new["properties"] = {**json.loads(source["properties"]), **(new.get("properties") or {})}
            inherited = json.loads(source["app_properties"] or "{}").get(caller.client, {})
            if inherited:
                new["appProperties"] = {**inherited, **(new.get("appProperties") or {})}
            if "description" in more(source):
                new.setdefault("description", more(source)["description"])
            binary = source["size"] is not None
            stored_ms = source["modified_ms"] if binary and "modifiedTime" not in new else None
            stored = None
            head = self.db.row("SELECT * FROM revisions WHERE id = ?", (source["head"],))
            if head is not None and head["blob"] is not None:
                stored = Stored(head["blob"], head["size"], head["md5"], head["sha1"], head["sha256"])
            made = self.create(caller, new, stored, new["mimeType"], all_drives=all_drives, keep=keep)
            if stored_ms is not None:
                self.db.set("files", made["n"], modified_ms=stored_ms)
            return self.tree.by_n(made["n"])


def _guessed(name: str) -> str:
    return mimetypes.guess_type(name)[0] or EMPTY_TYPE
