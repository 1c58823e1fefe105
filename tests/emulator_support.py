"""A plain client of the emulator's API, which shows each reply as it is."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import urllib3

from drivefs.emulator import Running

FOLDER = "application/vnd.google-apps.folder"
SHORTCUT = "application/vnd.google-apps.shortcut"
DOCUMENT = "application/vnd.google-apps.document"
GRAIN = 262_144


@dataclass
class Reply:
    """A reply with its JSON, when it has any."""

    status: int
    headers: Any
    data: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.data)

    @property
    def reason(self) -> str:
        """Google's reason, "" when it was no error."""
        return str(self.json["error"]["errors"][0]["reason"]) if self.status >= 400 else ""

    @property
    def location(self) -> str | None:
        return self.json["error"]["errors"][0].get("location")


class Api:
    """Calls on behalf of one account and OAuth client."""

    def __init__(self, emulator: Running, **token: str) -> None:
        self.emulator = emulator
        self.http = urllib3.PoolManager(retries=False)
        self.token = emulator.admin.token(**token)

    def close(self) -> None:
        self.http.clear()

    def call(
        self,
        verb: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
        base: str = "/drive/v3/",
        **query: Any,
    ) -> Reply:
        sent = {"Authorization": f"Bearer {self.token}", **(headers or {})}
        if isinstance(body, (dict, list)):
            body = json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        url = self.emulator.endpoint + base + path
        if query:
            url += "?" + urlencode({name: _text(value) for name, value in query.items()}, quote_via=quote)
        reply = self.http.request(verb, url, body=body, headers=sent, redirect=False)
        return Reply(reply.status, reply.headers, reply.data)

    def get(self, path: str, **query: Any) -> Reply:
        return self.call("GET", path, **query)

    def ok(self, verb: str, path: str, body: Any = None, **query: Any) -> Any:
        """The JSON of a call that must work."""
        reply = self.call(verb, path, body, **query)
        assert reply.status in (200, 204), reply.data
        return reply.json if reply.data else None

    def ids(self, count: int = 1, **query: Any) -> list[str]:
        return list(self.ok("GET", "files/generateIds", count=count, **query)["ids"])

    def folder(self, name: str = "folder", parent: str = "root") -> str:
        return str(self.ok("POST", "files", {"name": name, "mimeType": FOLDER, "parents": [parent]})["id"])

    def multipart(
        self, metadata: dict[str, Any], content: bytes, kind: str = "application/octet-stream", **query: Any
    ) -> Reply:
        body = (
            b"--mark\r\nContent-Type: application/json\r\n\r\n"
            + json.dumps(metadata).encode()
            + f"\r\n--mark\r\nContent-Type: {kind}\r\n\r\n".encode()
            + content
            + b"\r\n--mark--\r\n"
        )
        verb, path = ("PATCH", f"files/{query.pop('file_id')}") if "file_id" in query else ("POST", "files")
        return self.call(
            verb,
            path,
            body,
            {"Content-Type": "multipart/related; boundary=mark"},
            "/upload/drive/v3/",
            uploadType="multipart",
            **query,
        )

    def file(self, name: str, content: bytes = b"", parent: str = "root", **metadata: Any) -> dict[str, Any]:
        """A new file with all its fields."""
        reply = self.multipart({"name": name, "parents": [parent], **metadata}, content, fields="*")
        assert reply.status == 200, reply.data
        return dict(reply.json)

    def start(self, metadata: dict[str, Any], size: int | None = None, **query: Any) -> Reply:
        """A resumable session."""
        headers = {} if size is None else {"X-Upload-Content-Length": str(size)}
        verb, path = ("PATCH", f"files/{query.pop('file_id')}") if "file_id" in query else ("POST", "files")
        return self.call(verb, path, metadata, headers, "/upload/drive/v3/", uploadType="resumable", **query)

    def put(self, session: str, content: bytes, content_range: str | None) -> Reply:
        """A request to a session, without credentials: its address is enough."""
        headers = {} if content_range is None else {"Content-Range": content_range}
        reply = self.http.request("PUT", session, body=content, headers=headers, redirect=False)
        return Reply(reply.status, reply.headers, reply.data)

    def names(self, q: str, **query: Any) -> list[str]:
        """Names of what a query finds."""
        return [item["name"] for item in self.ok("GET", "files", q=q, pageSize=1000, **query)["files"]]


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
