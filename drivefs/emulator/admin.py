"""The admin endpoint, `/_admin/…`: settings, faults, the log, and a direct way to the files. Not part of Drive.

It is not charged, not logged, has no latency and knows no accounts; it listens on loopback only, as all of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from aiohttp import web

from drivefs.emulator.accounts import FOLDER_MIME, FULL_SCOPE, Caller
from drivefs.emulator.bulk import fill
from drivefs.emulator.errors import ApiError
from drivefs.emulator.fields import compile_mask
from drivefs.emulator.oauth import CLIENT_ID, OAuth
from drivefs.emulator.render import View
from drivefs.emulator.schema import api
from drivefs.emulator.state import Emulator, dump
from drivefs.emulator.uploads import Uploads

_TREE_FIELDS = compile_mask(
    api("v3"),
    "File",
    "id,name,mimeType,parents,size,md5Checksum,sha1Checksum,sha256Checksum,headRevisionId,version,modifiedTime,"
    "createdTime,trashed,explicitlyTrashed,properties,shortcutDetails,driveId",
)


class Admin:
    """Answers what `client.Admin` asks."""

    def __init__(self, emulator: Emulator, oauth: OAuth, uploads: Uploads) -> None:
        self.emulator = emulator
        self.oauth = oauth
        self.uploads = uploads
        self._routes: dict[tuple[str, str], Callable[[dict[str, str], Any], Any]] = {
            ("GET", "network"): lambda query, body: self.emulator.network.settings(),
            ("PUT", "network"): self._set_network,
            ("GET", "quota"): lambda query, body: self._quota(),
            ("PUT", "quota"): self._set_quota,
            ("POST", "faults"): self._add_fault,
            ("GET", "faults"): lambda query, body: self.emulator.faults.listing(),
            ("DELETE", "faults"): self._clear_faults,
            ("GET", "requests"): self._requests,
            ("GET", "counters"): lambda query, body: self.emulator.log.counters(),
            ("POST", "reset"): self._reset,
            ("GET", "tree"): self._tree,
            ("GET", "files"): self._find,
            ("DELETE", "files"): self._delete,
            ("POST", "folders"): self._folder,
            ("POST", "fill"): self._fill,
            ("POST", "expire-tokens"): lambda query, body: {"expired": self.oauth.expire_access()},
            ("POST", "revoke-tokens"): self._revoke,
            ("POST", "expire-sessions"): lambda query, body: {"expired": self.uploads.expire_all()},
            ("GET", "sessions"): self._sessions,
            ("POST", "token"): self._token,
            ("POST", "accounts"): self._account,
            ("POST", "service-account"): lambda query, body: {
                "path": str(self.oauth.write_service_account(self.emulator.endpoint))
            },
            ("GET", "client-secrets"): lambda query, body: self.oauth.client_secrets(self.emulator.endpoint),
        }

    async def serve(self, request: web.BaseRequest, action: str) -> web.StreamResponse:
        query = dict(request.rel_url.query)
        try:
            if (request.method, action) == ("PUT", "files"):
                return _json(await self._put(query, request))
            if (request.method, action) == ("GET", "content"):
                return self._content(query)
            route = self._routes.get((request.method, action))
            if route is None:
                return _json({"error": f"no such action: {request.method} {action}"}, 404)
            data = await request.read()
            return _json(route(query, json.loads(data) if data else {}))
        except ApiError as error:
            return _json(error.body(), error.status)
        except (ValueError, KeyError, TypeError) as error:
            return _json({"error": str(error)}, 400)

    # --- settings ---

    def _set_network(self, query: dict[str, str], body: Any) -> Any:
        self.emulator.network.change(body)
        return self.emulator.network.settings()

    def _quota(self) -> dict[str, Any]:
        quota = self.emulator.quota
        return {
            "units_per_minute": quota.units_per_minute,
            "creates_per_s": quota.creates_per_s,
            "storage_bytes": self.emulator.tree.storage_bytes,
        }

    def _set_quota(self, query: dict[str, str], body: Any) -> Any:
        quota = self.emulator.quota
        quota.units_per_minute = int(body.get("units_per_minute", quota.units_per_minute))
        quota.creates_per_s = body.get("creates_per_s", quota.creates_per_s)
        self.emulator.tree.storage_bytes = body.get("storage_bytes", self.emulator.tree.storage_bytes)
        quota.reset()
        return self._quota()

    def _add_fault(self, query: dict[str, str], body: Any) -> Any:
        return {"id": self.emulator.faults.add(body)}

    def _clear_faults(self, query: dict[str, str], body: Any) -> Any:
        self.emulator.faults.clear(int(query["id"]) if "id" in query else None)
        return {}

    def _requests(self, query: dict[str, str], body: Any) -> Any:
        return self.emulator.log.entries(int(query.get("after", 0)), query.get("method", ""))

    def _reset(self, query: dict[str, str], body: Any) -> Any:
        self.emulator.log.reset()
        self.emulator.quota.reset()
        return {}

    # --- accounts ---

    def _caller(self, query: dict[str, str]) -> Caller:
        email = query.get("account") or self.emulator.options.accounts[0]
        user = self.emulator.accounts.find(email)
        if user is None:
            raise ValueError(f"no such account: {email}")
        return Caller(user, query.get("client") or CLIENT_ID, frozenset({"drive"}))

    def _token(self, query: dict[str, str], body: Any) -> Any:
        user = self._caller(body).user
        return self.oauth.issue(user, body.get("client") or CLIENT_ID, body.get("scopes") or FULL_SCOPE)

    def _revoke(self, query: dict[str, str], body: Any) -> Any:
        count = self.emulator.db.run("DELETE FROM tokens WHERE kind = 'refresh'").rowcount
        self.oauth.expire_access()
        return {"revoked": count}

    def _account(self, query: dict[str, str], body: Any) -> Any:
        user = self.emulator.accounts.ensure(body["email"])
        return {"email": user.email, "root": user.root_id, "permissionId": user.permission_id}

    def _sessions(self, query: dict[str, str], body: Any) -> Any:
        rows = self.emulator.db.rows("SELECT * FROM sessions")
        return [
            {
                "file": row["file"],
                "total": row["total"],
                "received": self.uploads.received_bytes(row),
                "done": row["done"],
                "started_s": row["started_s"],
                "body": json.loads(row["body"]),
            }
            for row in rows
        ]

    # --- files ---

    def _at(self, path: str, caller: Caller) -> Any:
        """The one item that is not trashed at a path below My Drive; None when there is none."""
        row = self.emulator.tree.get("root", caller)
        for name in filter(None, path.split("/")):
            found = self.emulator.db.row(
                "SELECT * FROM files WHERE parent = ? AND name = ? AND trashed = 0 ORDER BY n", (row["n"], name)
            )
            if found is None:
                return None
            row = found
        return row

    def _folder(self, query: dict[str, str], body: Any) -> Any:
        caller = self._caller(query)
        return {"id": self._ensure_folder(query["path"], caller)["id"]}

    def _fill(self, query: dict[str, str], body: Any) -> Any:
        caller = self._caller(query)
        fill(self.emulator, caller, self._ensure_folder(query["path"], caller), int(query["files"]))
        return {}

    def _ensure_folder(self, path: str, caller: Caller) -> Any:
        row = self.emulator.tree.get("root", caller)
        for name in filter(None, path.split("/")):
            found = self.emulator.db.row(
                "SELECT * FROM files WHERE parent = ? AND name = ? AND trashed = 0 AND mime = ? ORDER BY n",
                (row["n"], name, FOLDER_MIME),
            )
            row = found or self.emulator.items.create(
                caller, {"name": name, "mimeType": FOLDER_MIME, "parents": [row["id"]]}, None, None, all_drives=True
            )
        return row

    async def _put(self, query: dict[str, str], request: web.BaseRequest) -> Any:
        """Create, or give new content to, the file at a path; folders on the way are made."""
        caller = self._caller(query)
        stored = await self.emulator.contents.store(await request.content.read())
        folder, _, name = query["path"].strip("/").rpartition("/")
        found = None if query.get("new") else self._at(query["path"], caller)
        body: dict[str, Any] = {"modifiedTime": query["modifiedTime"]} if "modifiedTime" in query else {}
        kind = query.get("mimeType")
        if found is not None:
            row = self.emulator.items.update(caller, found["id"], body, stored, kind, all_drives=True)
        else:
            parent = self._ensure_folder(folder, caller)
            body.update(name=name, parents=[parent["id"]])
            row = self.emulator.items.create(caller, body, stored, kind, all_drives=True)
        return View(self.emulator.tree, caller, self.emulator.endpoint).file(row, _TREE_FIELDS)

    def _row(self, query: dict[str, str], caller: Caller) -> Any:
        row = self.emulator.tree.find(query["id"]) if "id" in query else self._at(query["path"], caller)
        if row is None:
            raise ApiError(404, "notFound", f"File not found: {query.get('id') or query.get('path')}.")
        return row

    def _find(self, query: dict[str, str], body: Any) -> Any:
        caller = self._caller(query)
        row = self._row(query, caller)
        view = View(self.emulator.tree, caller, self.emulator.endpoint)
        return {**view.file(row, {}), "allAppProperties": json.loads(row["app_properties"] or "{}")}

    def _delete(self, query: dict[str, str], body: Any) -> Any:
        caller = self._caller(query)
        self.emulator.items.removal.delete(caller, self._row(query, caller)["id"], all_drives=True)
        return {}

    def _content(self, query: dict[str, str]) -> web.StreamResponse:
        row = self._row(query, self._caller(query))
        blob = self.emulator.db.value("SELECT blob FROM revisions WHERE id = ?", (row["head"],))
        if blob is None:
            raise ApiError(404, "notFound", "The item has no content.")
        response: Any = web.FileResponse(self.emulator.contents.path(blob))
        return response  # type: ignore[no-any-return]

    def _tree(self, query: dict[str, str], body: Any) -> Any:
        """All items of an account with `path`, as a flat list; trashed ones too when `trashed=1`."""
        caller = self._caller(query)
        view = View(self.emulator.tree, caller, self.emulator.endpoint)
        where = "" if query.get("trashed") else " AND trashed = 0"
        rows = self.emulator.db.rows(
            f"SELECT * FROM files WHERE owner = ? AND is_root = 0{where} ORDER BY n", (caller.user.n,)
        )
        known = {row["n"]: row for row in rows}
        result = []
        for row in rows:
            parts, at = [row["name"]], row["parent"]
            while at in known:
                parts.append(known[at]["name"])
                at = known[at]["parent"]
            apps = json.loads(row["app_properties"] or "{}")
            result.append(
                {"path": "/".join(reversed(parts)), **view.file(row, _TREE_FIELDS), "allAppProperties": apps}
            )
        return result


def _json(value: Any, status: int = 200) -> web.Response:
    return web.Response(status=status, body=dump(value), content_type="application/json")
