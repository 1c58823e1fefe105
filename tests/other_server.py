"""A second Drive v3, for tests: written from the API's public facts alone, so that it shares no habit with ours.

It does what the API allows and a client may not have thought of: odd IDs, header names in any case, connections that
close, chunked and gzip'd replies, pages shorter than asked for, uploads that keep less than was sent, a feed of
changes that lags, repeats itself and speaks of changes nobody can see. `Habits` says which, and a seed how often.
All is in memory, under one lock; a thread a connection. What there is, and what others do to it, is in `Items`.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.other_server_items import Items, stamp
from tests.other_server_wire import Habits, Refusal, Reply, apply_mask, parse_mask, parse_query, serve

SHORTCUT = "application/vnd.google-apps.shortcut"
UNIT = 262_144  # bytes: an upload is kept in multiples of it


@dataclass(slots=True)
class Session:
    item_id: str | None  # None for a new file
    query: dict[str, str]
    facts: dict[str, Any]
    mime: str
    kept: bytearray = field(default_factory=bytearray)
    done: dict[str, Any] | None = None


class OtherServer(Items):
    """A Drive with one account. Start it with `with`; `endpoint` and `credentials` are what a client needs."""

    def __init__(self, habits: Habits | None = None) -> None:
        super().__init__(habits or Habits())
        self.sessions: dict[str, Session] = {}
        self.requests: list[tuple[str, str]] = []
        self._planned: list[tuple[str, str, Refusal | Callable[[], None], bool]] = []
        self._tokens: dict[str, float] = {}
        self._pages: dict[str, list[str]] = {}
        self._given: set[str] = set()
        self._http = serve(self.habits, self.answer)
        self.endpoint = f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> OtherServer:
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    # --- for tests ---

    @property
    def credentials(self) -> dict[str, str]:
        token_uri = f"{self.endpoint}/signin/renew"
        return {
            "type": "authorized_user",
            "client_id": "c-1",
            "client_secret": "s e&c=r+t",
            "refresh_token": "1//0refresh/+=",
            "token_uri": token_uri,
        }

    def fail_next(self, method: str, path: str, refusal: Refusal, *, after: bool = False) -> None:
        """The next request whose path begins so is refused; with `after`, once it has worked."""
        self._planned.append((method, path, refusal, after))

    def meanwhile(self, method: str, path: str, action: Callable[[], None]) -> None:
        """Before the next request whose path begins so has its effect, something happens."""
        self._planned.append((method, path, action, False))

    def expire_tokens(self) -> None:
        self._tokens.clear()

    # --- requests ---

    def answer(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Reply:
        """`headers` by lower-case name. Raises Refusal."""
        parts = urlsplit(target)
        query = {key: values[-1] for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
        with self.lock:
            self.requests.append((method, parts.path))
            if parts.path == "/signin/renew":
                return self._renew(body)
            token = headers.get("authorization", "").removeprefix("Bearer ")
            if "upload_id" not in query and self._tokens.get(token, 0.0) < time.time():
                challenge = 'Bearer realm="https://accounts.google.com/", error="invalid_token"'
                raise Refusal(401, "authError", **{"WWW-Authenticate": challenge})
            after = self._misfortune(method, parts.path)
            for moved in [entry for entry in self._late if entry[0] <= time.time()]:
                self._late.remove(moved)
                self._moved(moved[1])
            reply = self._route(method, parts.path, query, headers, body)
            if after is not None:
                raise after
            return reply

    def _misfortune(self, method: str, path: str) -> Refusal | None:
        """Raises what goes wrong before the request is looked at; returns what does after it."""
        for plan in self._planned:
            if plan[0] == method and path.startswith(plan[1]):
                self._planned.remove(plan)
                if not isinstance(plan[2], Refusal):
                    plan[2]()
                    return None
                if plan[3]:
                    return plan[2]
                raise plan[2]
        luck = self.random.random()
        for share, refusal, after in (
            (self.habits.fault_share, Refusal(self.random.choice((500, 503)), "backendError"), False),
            (self.habits.rate_limit_share, self._too_fast(), False),
            (self.habits.lost_reply_share, Refusal(500, "internalError"), True),
        ):
            if luck < share:
                if after:
                    return refusal
                raise refusal
            luck -= share
        return None

    def _too_fast(self) -> Refusal:
        wait = self.random.choice(({}, {"Retry-After": "1"}))
        return Refusal(self.random.choice((403, 403, 429)), "userRateLimitExceeded", **wait)

    def _renew(self, body: bytes) -> Reply:
        form = {key: values[0] for key, values in parse_qs(body.decode()).items()}
        wanted = {key: self.credentials[key] for key in ("client_id", "client_secret", "refresh_token")}
        if form.get("grant_type") != "refresh_token" or any(form.get(key) != value for key, value in wanted.items()):
            return Reply(400, {"error": "invalid_grant", "error_description": "Bad Request"})
        token = "ya29." + self._word(40)
        self._tokens[token] = time.time() + self.habits.token_life_s
        scope = "https://www.googleapis.com/auth/drive"
        return Reply(200, {"access_token": token, "expires_in": 3599, "scope": scope, "token_type": "Bearer"})

    def _route(self, method: str, path: str, query: dict[str, str], headers: dict[str, str], body: bytes) -> Reply:
        if "upload_id" in query and method == "DELETE":
            if self.sessions.pop(query["upload_id"], None) is None:
                raise Refusal(404, "notFound")
            return Reply(499, b"")
        if "upload_id" in query:
            return self._continue(query["upload_id"], headers, body)
        upload = re.fullmatch(r"(?:/resumable)?/upload/drive/v3/files(?:/([^/]+))?", path)
        if upload and (method, upload[1] is None) in (("POST", True), ("PATCH", False)):
            return self._upload(upload[1], query, headers, body)
        sent = json.loads(body) if body and headers.get("content-type", "").startswith("application/json") else {}
        routes: tuple[tuple[str, str, Callable[..., Reply]], ...] = (
            ("GET", r"about", lambda: self._about(query)),
            ("GET", r"files", lambda: self._list(query)),
            ("POST", r"files", lambda: self._created(query, sent, None)),
            ("GET", r"files/generateIds", lambda: self._generate(query)),
            ("DELETE", r"files/trash", self._empty_trash),
            ("GET", r"files/([^/]+)", lambda item_id: self._get(item_id, query, headers)),
            ("PATCH", r"files/([^/]+)", lambda item_id: self._updated(item_id, query, sent, None)),
            ("DELETE", r"files/([^/]+)", self._delete),
            ("POST", r"files/([^/]+)/copy", lambda item_id: self._copied(item_id, query, sent)),
            ("GET", r"files/([^/]+)/revisions", lambda item_id: self._revisions(item_id, query)),
            ("GET", r"files/([^/]+)/revisions/([^/]+)", lambda i, r: self._revision(i, r, query, headers)),
            ("GET", r"changes/startPageToken", lambda: Reply(200, {"startPageToken": str(self._seen())})),
            ("GET", r"changes", lambda: self._changes(query)),
        )
        for verb, pattern, handler in routes:
            matched = re.fullmatch("/drive/v3/" + pattern, path)
            if matched and verb == method:
                return handler(*map(unquote, matched.groups()))
        raise Refusal(404, "notFound")

    def _told(self, value: dict[str, Any], query: dict[str, str], default: str, status: int = 200) -> Reply:
        mask = query.get("fields", default)
        return Reply(status, value if self.random.random() < 0.2 else apply_mask(parse_mask(mask), value))

    def _told_file(self, item_id: str, query: dict[str, str], status: int = 200) -> Reply:
        return self._told(self._file(item_id), query, "kind,id,name,mimeType", status)

    def _about(self, query: dict[str, str]) -> Reply:
        if "fields" not in query:
            raise Refusal(400, "required")
        used = str(sum(int(revision["size"]) for item in self.items.values() for revision in item.revisions[-1:]))
        user = {"kind": "drive#user", "emailAddress": "someone@example.org", "displayName": "Some One", "me": True}
        return self._told({"user": user, "storageQuota": {"usage": used, "usageInDrive": used}}, query, "*")

    def _generate(self, query: dict[str, str]) -> Reply:
        count = int(query.get("count", 10))
        if not 1 <= count <= 1000:
            raise Refusal(400, "invalid")
        ids = [self._word(self.random.randint(33, 44)) for _ in range(count)]
        self._given.update(ids)
        return Reply(200, {"kind": "drive#generatedIds", "space": "drive", "ids": ids})

    def _empty_trash(self) -> Reply:
        for item_id in [each for each, item in self.items.items() if item.trashed]:
            if item_id in self.items:
                self._remove(item_id)
        return Reply(204)

    def _delete(self, item_id: str) -> Reply:
        self._item(item_id)
        self._remove(item_id)
        return Reply(204)

    def _page(self, found: list[str], query: dict[str, str], most: int) -> tuple[list[str], dict[str, str]]:
        token = query.get("pageToken")
        if token is not None:
            if token not in self._pages:
                raise Refusal(400, "invalid")
            found = self._pages[token]
        size = int(query.get("pageSize", 100))
        if not 1 <= size <= most:
            raise Refusal(400, "invalid")
        size = min(size, self.habits.page_limit)
        if len(found) <= size:
            return found, {}
        following = "~!!~" + self._word(60) + "="
        self._pages[following] = found[size:]
        return found[:size], {"nextPageToken": following}

    def _list(self, query: dict[str, str]) -> Reply:
        q = query.get("q", "")
        lag_s = (
            self.habits.search_lag_s if re.search(r"\b(name|fullText)\b", re.sub(r"'(\\.|[^'\\])*'", "", q)) else 0.0
        )
        if "in parents" not in q:
            lag_s = max(lag_s, self.habits.feed_lag_s)
        test = parse_query(q, self.root)
        known_by_s = time.time() - lag_s
        found = [
            item_id
            for item_id, item in self.items.items()
            if item_id != self.root and (item.created_s <= known_by_s or not lag_s) and test(self._file(item_id))
        ]
        ids, following = self._page(sorted(found, key=lambda i: i[::-1]), query, 1000)
        files = [self._file(item_id) for item_id in ids if item_id in self.items]
        default = "kind,incompleteSearch,nextPageToken,files(kind,id,name,mimeType)"
        return self._told(
            {"kind": "drive#fileList", "incompleteSearch": False, **following, "files": files}, query, default
        )

    def _seen(self) -> int:
        now_s = time.time()
        return 7000 + sum(1 for seen_s, _ in self._feed if seen_s <= now_s)

    def _changes(self, query: dict[str, str]) -> Reply:
        token, end = query.get("pageToken", ""), self._seen()
        if not token.isdigit() or not 7000 <= int(token) <= end:
            raise Refusal(400, "invalid")
        start, last = int(token), min(end, int(token) + min(int(query.get("pageSize", 100)), self.habits.page_limit))
        changes: list[dict[str, Any]] = []
        for seen_s, item_id in self._feed[start - 7000 : last - 7000]:
            change = {"kind": "drive#change", "changeType": "file", "time": stamp(seen_s), "fileId": item_id}
            there = item_id in self.items
            changes.append({**change, "removed": not there, **({"file": self._file(item_id)} if there else {})})
        following = {"newStartPageToken": str(last)} if last == end else {"nextPageToken": str(last)}
        default = "kind,nextPageToken,newStartPageToken,changes(kind,changeType,time,removed,fileId,file(id,name))"
        return self._told({"kind": "drive#changeList", **following, "changes": changes}, query, default)

    def _get(self, item_id: str, query: dict[str, str], headers: dict[str, str]) -> Reply:
        item = self._item(item_id)
        if query.get("alt") == "media":
            if not item.revisions:
                raise Refusal(403, "fileNotDownloadable")
            return self._content(item.revisions[-1], headers)
        return self._told_file(self._resolve(item_id), query)

    def _revisions(self, item_id: str, query: dict[str, str]) -> Reply:
        known = {revision["id"]: revision for revision in self._item(item_id).revisions}
        ids, following = self._page(list(known), {"pageSize": "200", **query}, 1000)
        shown = [{key: value for key, value in known[each].items() if key != "bytes"} for each in ids]
        default = "kind,nextPageToken,revisions(kind,id,mimeType,modifiedTime)"
        return self._told({"kind": "drive#revisionList", **following, "revisions": shown}, query, default)

    def _revision(self, item_id: str, revision_id: str, query: dict[str, str], headers: dict[str, str]) -> Reply:
        for revision in self._item(item_id).revisions:
            if revision["id"] == revision_id:
                if query.get("alt") == "media":
                    return self._content(revision, headers)
                shown = {key: value for key, value in revision.items() if key != "bytes"}
                return self._told(shown, query, "kind,id,mimeType,modifiedTime")
        raise Refusal(404, "notFound")

    def _content(self, revision: dict[str, Any], headers: dict[str, str]) -> Reply:
        data: bytes = revision["bytes"]
        wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", headers.get("range", ""))
        if wanted is None:
            return Reply(200, data)
        first = int(wanted[1]) if wanted[1] else max(0, len(data) - int(wanted[2]))
        last = min(len(data) - 1, int(wanted[2])) if wanted[1] and wanted[2] else len(data) - 1
        if first >= len(data):
            raise Refusal(416, "requestedRangeNotSatisfiable", **{"Content-Range": f"bytes */{len(data)}"})
        return Reply(206, data[first : last + 1], {"Content-Range": f"bytes {first}-{last}/{len(data)}"})

    # --- requests that change something ---

    def _check_new(self, sent: dict[str, Any]) -> None:
        item_id = sent.get("id")
        if item_id in self.items:
            raise Refusal(409, "fileIdInUse")
        if item_id is not None and item_id not in self._given:
            raise Refusal(400, "invalid")
        parents = sent.get("parents", ["root"])
        if len(parents) != 1:
            raise Refusal(400, "invalid")
        self._item(parents[0])

    def _created(self, query: dict[str, str], sent: dict[str, Any], data: bytes | None, status: int = 200) -> Reply:
        self._check_new(sent)
        item_id = sent.get("id") or self._word(33)
        facts = {"name": "Untitled", "mimeType": "application/octet-stream", **sent}
        if facts["mimeType"] == SHORTCUT:
            target = facts["shortcutDetails"]["targetId"]
            facts["shortcutDetails"] = {"targetId": target, "targetMimeType": self._item(target).facts["mimeType"]}
        self._add(item_id, facts, self._resolve(sent.get("parents", ["root"])[0]))
        if not facts["mimeType"].startswith("application/vnd.google-apps."):
            self._set_content(item_id, data or b"", sent)
        return self._told_file(item_id, query, status)

    def _copied(self, item_id: str, query: dict[str, str], sent: dict[str, Any]) -> Reply:
        """A new file of now, with no properties but those that it is given."""
        item = self._item(item_id)
        if not item.revisions:
            raise Refusal(403, "cannotCopyFile")
        facts = {key: value for key, value in {**item.facts, **sent}.items() if key in sent or key == "mimeType"}
        facts.pop("modifiedTime", None)
        return self._created(query, facts, item.revisions[-1]["bytes"])

    def _updated(self, item_id: str, query: dict[str, str], sent: dict[str, Any], data: bytes | None) -> Reply:
        item, item_id = self._item(item_id), self._resolve(item_id)
        if "id" in sent or "parents" in sent:
            raise Refusal(403, "fieldNotWritable")
        if "addParents" in query:
            if query.get("removeParents") != item.parent:
                raise Refusal(403, "cannotAddParent")
            self._item(query["addParents"])
            item.parent = self._resolve(query["addParents"])
        if data is not None:
            self._set_content(item_id, data, sent)
        else:
            self._set_facts(item_id, sent)
        return self._told_file(item_id, query)

    def _upload(self, item_id: str | None, query: dict[str, str], headers: dict[str, str], body: bytes) -> Reply:
        kind, content_type = query.get("uploadType"), headers.get("content-type", "application/octet-stream")
        if kind == "resumable":
            sent = json.loads(body) if body else {}
            _ = self._item(item_id) if item_id else self._check_new(sent)
            upload_id = "ABg5-" + self._word(90)
            mime = headers.get("x-upload-content-type", "application/octet-stream")
            self.sessions[upload_id] = Session(item_id, query, sent, mime)
            where = (
                f"{self.endpoint}/push/v3/blob?upload_id={upload_id}&upload_protocol=resumable&uploadType=resumable"
            )
            return Reply(200, b"", {"Location": where, "X-GUploader-UploadID": upload_id})
        if kind == "multipart":
            boundary = re.search(r'boundary="?([^";]+)', content_type)
            if not content_type.startswith("multipart/related") or boundary is None:
                raise Refusal(400, "badContent")
            parts = (b"\r\n" + body).split(b"\r\n--" + boundary[1].encode())[1:-1]
            (_, first), (kind_of, data) = (
                re.split(rb"\r?\n\r?\n", part.lstrip(b"\r\n"), maxsplit=1) for part in parts
            )
            sent = json.loads(first)
            named = re.search(rb"(?i)content-type: *([^\r\n;]+)", kind_of)
            sent.setdefault("mimeType", named[1].decode() if named else "application/octet-stream")
        else:
            data, sent = body, {"mimeType": content_type}
        return self._created(query, sent, data) if item_id is None else self._updated(item_id, query, sent, data)

    def _continue(self, upload_id: str, headers: dict[str, str], body: bytes) -> Reply:
        session = self.sessions.get(upload_id)
        if session is None:
            raise Refusal(404, "notFound")
        if session.done is not None:
            return Reply(200, session.done)
        ask = re.fullmatch(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)", headers.get("content-range", ""))
        start, total = 0, len(body)
        if ask is not None:
            start = int(ask[1]) if ask[1] else len(session.kept)
            total = -1 if ask[3] == "*" else int(ask[3])
            if ask[1] and len(body) != int(ask[2]) - start + 1:
                raise Refusal(400, "badRequest")
        if start > len(session.kept):
            raise Refusal(503, "backendError")
        complete = start + len(body) == total
        if not complete and len(body) % UNIT and body:
            raise Refusal(400, "badRequest")
        if len(body) > UNIT and self.random.random() < self.habits.kept_short_share:
            body, complete = body[: self.random.randrange(len(body) // UNIT + (len(body) % UNIT > 0)) * UNIT], False
        session.kept[start:] = max(bytes(session.kept[start:]), body, key=len)
        if not complete and len(session.kept) != total:
            stored = {"Range": f"bytes=0-{len(session.kept) - 1}"} if session.kept else {}
            return Reply(308, b"", stored)
        sent, data = {"mimeType": session.mime, **session.facts}, bytes(session.kept)
        if session.item_id is None:
            reply = self._created(session.query, sent, data, self.random.choice((200, 201)))
        else:
            reply = self._updated(session.item_id, session.query, sent, data)
        session.done = reply.value
        return reply
