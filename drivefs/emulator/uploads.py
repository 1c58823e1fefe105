"""Uploads: media, multipart and resumable (drive-api: Uploads).

A resumable session lives in the database and its bytes on the disk, so it outlives the process; whole grains of
256 KiB are kept when a connection is lost. The file appears when the last byte is there, not before.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import time
from dataclasses import replace
from typing import Any, Protocol

from aiohttp import web

from drivefs.emulator.content import GRAIN_BYTES, Contents, Stored, UploadFile
from drivefs.emulator.database import Row
from drivefs.emulator.errors import ApiError, Malformed, bad_request, invalid
from drivefs.emulator.exchange import Dropped, Exchange
from drivefs.emulator.state import Call, Emulator
from drivefs.emulator.v3_files import Handler

SESSION_LIFE_S = 7 * 86_400.0
_IN_MEMORY_BYTES = 1 << 20
_HEAD_BYTES = 4 << 20
_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")


class Completer(Protocol):
    """What makes an item of an upload that is complete, in one API version."""

    def check(self, call: Call, size_bytes: int) -> None: ...

    def complete(self, call: Call, stored: Stored, media_type: str | None) -> Any: ...


class Uploads:
    """All uploads under way."""

    def __init__(self, emulator: Emulator, completers: dict[str, Completer], readers: dict[str, Handler]) -> None:
        self.emulator = emulator
        self._completers = completers
        self._readers = readers
        self._open: dict[str, UploadFile] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        waiting = emulator.db.rows("SELECT id FROM sessions WHERE done IS NULL")
        emulator.contents.remove_uploads_but({_file_name(row["id"]) for row in waiting})

    # --- media and multipart ---

    async def simple(self, exchange: Exchange, call: Call) -> Any:
        """The reply's JSON after a `media` upload."""
        self._check_size(exchange)
        media_type = _media_type(exchange.headers.get("Content-Type"))
        self._completer(call).check(call, exchange.length or 0)
        sink = self._sink(exchange.length)
        async for piece in exchange.chunks():
            await sink.write(piece)
        return self._create(call, await sink.finish(), media_type)

    async def multipart(self, exchange: Exchange, call: Call, parse: Any) -> Any:
        """The reply's JSON after a `multipart` upload: metadata first, then the content."""
        self._check_size(exchange)
        match = re.search(r'boundary="?([^";]+)"?', exchange.headers.get("Content-Type", ""))
        if match is None or not exchange.headers.get("Content-Type", "").startswith("multipart/"):
            raise bad_request("Missing multipart boundary.")
        mark = b"--" + match.group(1).encode()
        chunks = exchange.chunks()
        head = b""
        split = None
        async for piece in chunks:
            head += piece
            split = _split_head(head, mark)
            if split is not None or len(head) > _HEAD_BYTES:
                break
        if split is None:
            raise bad_request("Malformed multipart body.")
        metadata, part_headers, start = split
        call.body = parse(metadata)
        self._completer(call).check(call, 0)
        sink = self._sink(exchange.length)
        closing = b"\r\n" + mark
        tail = head[start:]
        while True:
            at = tail.find(closing, max(0, len(tail) - len(closing) - 64)) if len(tail) < 256 else tail.rfind(closing)
            keep = len(closing) + 64
            if at < 0 and len(tail) > keep:
                await sink.write(tail[:-keep])
                tail = tail[-keep:]
            try:
                tail += await anext(chunks)
            except StopAsyncIteration:
                break
        at = tail.rfind(closing)
        if at < 0:
            raise bad_request("Malformed multipart body.")
        await sink.write(tail[:at])
        return self._create(call, await sink.finish(), _media_type(part_headers.get("content-type")))

    def _create(self, call: Call, stored: Stored, media_type: str | None) -> Any:
        """Make the item; the blob does not outlive a refusal."""
        try:
            return self._completer(call).complete(call, stored, media_type)
        except ApiError:
            self.emulator.contents.remove(stored.blob)
            raise

    def _check_size(self, exchange: Exchange) -> None:
        if (exchange.length or 0) > self.emulator.options.simple_upload_limit_bytes:
            raise ApiError(413, "uploadTooLarge", "Request is too large.")

    def _sink(self, length: int | None) -> Sink | UploadFile:
        contents = self.emulator.contents
        if length is not None and length <= _IN_MEMORY_BYTES:
            return Sink(contents)
        return UploadFile(contents, secrets.token_hex(16), 0)

    def _completer(self, call: Call) -> Completer:
        return self._completers[call.api.version]

    # --- resumable ---

    async def start(self, exchange: Exchange, call: Call) -> web.StreamResponse:
        """Begin a session: its address is in the reply's `Location`."""
        announced = exchange.headers.get("X-Upload-Content-Length")
        if announced is not None and not announced.isdecimal():
            raise invalid("Invalid X-Upload-Content-Length", "X-Upload-Content-Length")
        total = None if announced is None else int(announced)
        self._completer(call).check(call, total or 0)
        upload_id = "A" + secrets.token_urlsafe(120)
        query = {key: value for key, value in call.query.items() if key not in ("access_token", "oauth_token")}
        db = self.emulator.db
        db.insert(
            "sessions",
            id=upload_id,
            user=call.caller.user.n,
            client=call.caller.client,
            method=call.method.id,
            file=call.path.get("fileId"),
            version=call.api.version,
            params=json.dumps({"query": query, "scopes": sorted(call.caller.scopes), "base": call.link_base}),
            body=json.dumps(call.body),
            content_type=_media_type(exchange.headers.get("X-Upload-Content-Type")),
            total=total,
            started_s=time.time(),
        )
        self._expire()
        base = exchange.base_url()
        path = exchange.request.rel_url.raw_path
        location = f"{base}{path}?uploadType=resumable&upload_id={upload_id}"
        return await exchange.reply(
            200, headers={"Location": location, "X-GUploader-UploadID": upload_id}, content_type="text/html"
        )

    def received_bytes(self, session: Row) -> int:
        """How much has come so far, that of a request under way included."""
        upload = self._open.get(session["id"])
        return int(session["stored"]) if upload is None else upload.received

    def find_session(self, upload_id: str) -> Row | None:
        """None when it is unknown, or older than a week."""
        row = self.emulator.db.row("SELECT * FROM sessions WHERE id = ?", (upload_id,))
        return None if row is None or row["started_s"] < time.time() - SESSION_LIFE_S else row

    def session(self, upload_id: str) -> Row:
        """404 when it is unknown, or older than a week."""
        row = self.find_session(upload_id)
        if row is None:
            raise ApiError(404, "notFound", "Upload session not found.")
        return row

    def forget(self, upload_id: str) -> None:
        """Drop a session and what it has stored."""
        upload = self._open.pop(upload_id, None)
        self._locks.pop(upload_id, None)
        if upload is not None:
            upload.close()
        self.emulator.contents.remove_upload(_file_name(upload_id))
        self.emulator.db.run("DELETE FROM sessions WHERE id = ?", (upload_id,))

    def expire_all(self) -> int:
        """Drop all sessions that are not complete; how many there were."""
        rows = self.emulator.db.rows("SELECT id FROM sessions WHERE done IS NULL")
        for row in rows:
            self.forget(row["id"])
        return len(rows)

    def _expire(self) -> None:
        for row in self.emulator.db.rows(
            "SELECT id FROM sessions WHERE started_s < ?", (time.time() - SESSION_LIFE_S,)
        ):
            self.forget(row["id"])

    async def proceed(self, exchange: Exchange, row: Row, call: Call) -> web.StreamResponse:
        """One PUT to a session: bytes, a status query, or both."""
        upload_id = row["id"]
        # A client that gave a request up and sends the next must not write beside its ghost.
        async with self._locks.setdefault(upload_id, asyncio.Lock()):
            row = self.session(upload_id)
            if row["done"] is not None:
                async for _ in exchange.chunks():
                    pass
                return await exchange.reply(200, call.answer(self._finished(row, call)))
            upload = self._open.get(upload_id)
            if upload is None:
                upload = UploadFile(self.emulator.contents, _file_name(upload_id), row["stored"])
                self._open[upload_id] = upload
            try:
                return await self._receive(exchange, row, upload, call)
            finally:
                upload.close()

    async def _receive(self, exchange: Exchange, row: Row, upload: UploadFile, call: Call) -> web.StreamResponse:
        first, last, total = self._announced(exchange, row, upload)
        partial = call.fault if call.fault is not None and call.fault.action == "partial" else None
        most = None if partial is None else int(partial.rule.get("bytes") or 0)
        if first is not None:
            got = await self._take(exchange, upload, upload.stored - first, most)
            if most is not None and got >= most and partial is not None:
                await self._keep(row, upload, cut=True)
                if partial.rule.get("then") == "reset":
                    raise exchange.reset()
                return await self._incomplete(exchange, upload)
            if last is not None and got != last - first + 1:
                await self._keep(row, upload, cut=True)
                raise bad_request("The request body is shorter than its Content-Range says.")
        if total is not None and upload.received > total:
            self.forget(row["id"])
            raise bad_request("More bytes than the total says.")
        if total is None or upload.received < total:
            await self._keep(row, upload, cut=first is None or upload.received % GRAIN_BYTES != 0)
            return await self._incomplete(exchange, upload)
        return await self._complete(exchange, row, upload, call)

    def _announced(
        self, exchange: Exchange, row: Row, upload: UploadFile
    ) -> tuple[int | None, int | None, int | None]:
        """First and last byte sent (None for a status query; no last without a length), and the total."""
        header = exchange.headers.get("Content-Range")
        length = exchange.length
        if header is None:
            if upload.stored:
                raise invalid("Content-Range is required to go on with an upload.", "Content-Range")
            return 0, None if length is None else length - 1, length if length is not None else row["total"]
        match = _RANGE.fullmatch(header.strip())
        if match is None:
            raise bad_request("Failed to parse Content-Range header.")
        total = None if match.group(3) == "*" else int(match.group(3))
        if total is not None and row["total"] is not None and total != row["total"]:
            raise bad_request("The total does not agree with X-Upload-Content-Length.")
        if match.group(1) is None:
            if length:
                raise bad_request("A status query has no body.")
            # Without a total it only asks, and completes nothing, even when all is there.
            return None, None, total
        first, last = int(match.group(1)), int(match.group(2))
        size = last - first + 1
        if size <= 0 or (total is not None and last >= total) or (length is not None and length != size):
            raise bad_request("Content-Range and Content-Length do not agree.")
        if (total is None or last + 1 < total) and size % GRAIN_BYTES:
            raise bad_request("The size of a chunk must be a multiple of 262144 bytes, except for the last one.")
        if first > upload.stored:
            raise ApiError(
                503, "backendError", "Invalid request. The number of bytes uploaded is less than the start."
            )
        return first, last, total

    async def _take(self, exchange: Exchange, upload: UploadFile, known: int, most: int | None) -> int:
        """Store what comes, less the first `known` bytes, which are there already; how many bytes came."""
        got = 0
        try:
            async for piece in exchange.chunks():
                data = piece
                if most is not None and got + len(data) > most:
                    data = data[: most - got]
                got += len(data)
                if known >= len(data):
                    known -= len(data)
                else:
                    await upload.write(data[known:] if known else data)
                    known = 0
                if most is not None and got >= most:
                    break
        except (Dropped, asyncio.CancelledError):
            await upload.cut()
            self._save(exchange.upload_id, upload)
            raise
        return got

    async def _keep(self, row: Row, upload: UploadFile, *, cut: bool) -> None:
        await (upload.cut() if cut else upload.flush())
        self._save(row["id"], upload)

    def _save(self, upload_id: str, upload: UploadFile) -> None:
        self.emulator.db.run("UPDATE sessions SET stored = ? WHERE id = ?", (upload.stored, upload_id))

    async def _incomplete(self, exchange: Exchange, upload: UploadFile) -> web.StreamResponse:
        headers = {"X-GUploader-UploadID": exchange.upload_id}
        if upload.stored:
            headers["Range"] = f"bytes=0-{upload.stored - 1}"
        return await exchange.reply(308, headers=headers, reason="Resume Incomplete")

    async def _complete(self, exchange: Exchange, row: Row, upload: UploadFile, call: Call) -> web.StreamResponse:
        self._open.pop(row["id"], None)
        self._save(row["id"], upload)
        stored = await upload.finish()
        db = self.emulator.db
        try:
            with db.transaction():
                result = self._completer(call).complete(call, stored, row["content_type"])
                made = call.path.get("made", row["file"])
                db.run("UPDATE sessions SET done = ?, stored = ? WHERE id = ?", (made, upload.stored, row["id"]))
        except ApiError:
            self.emulator.contents.remove(stored.blob)
            db.run("DELETE FROM sessions WHERE id = ?", (row["id"],))
            raise
        return await exchange.reply(200, call.answer(result))

    def _finished(self, row: Row, call: Call) -> Any:
        done = replace(call, path={**call.path, "fileId": row["done"]})
        return self._readers[call.api.version](done)


class Sink:
    """A small content, kept in memory until it is whole."""

    def __init__(self, contents: Contents) -> None:
        self._contents = contents
        self._pieces: list[bytes] = []

    async def write(self, data: bytes) -> None:
        self._pieces.append(data)

    async def finish(self) -> Stored:
        return await self._contents.store(b"".join(self._pieces))


def _file_name(upload_id: str) -> str:
    return upload_id[:64]


def _media_type(header: str | None) -> str | None:
    if not header:
        return None
    found = header.partition(";")[0].strip().lower()
    return None if found in ("", "*/*") else found


def _split_head(data: bytes, mark: bytes) -> tuple[bytes, dict[str, str], int] | None:
    """Metadata, headers of the content's part, and where its bytes begin; None when more is needed."""
    first = data.find(mark)
    if first < 0:
        return None
    second = data.find(b"\n" + mark, first + len(mark))
    if second < 0:
        return None
    head = re.search(rb"\r?\n\r?\n", data[first:second])
    if head is None:
        raise bad_request("Malformed multipart body.")
    end = re.compile(rb"\r?\n\r?\n").search(data, second + 1 + len(mark))
    bare = re.compile(rb"\r?\n").match(data, second + 1 + len(mark))
    if bare is not None and data[bare.end() : bare.end() + 1] in (b"\r", b"\n"):
        # A part without headers: an empty line follows the boundary's.
        end = re.compile(rb"\r?\n").match(data, bare.end())
    if end is None:
        return None
    headers = {}
    for line in data[second + 1 + len(mark) : end.start()].splitlines():
        name, colon, value = line.decode("latin-1").partition(":")
        if colon:
            headers[name.strip().lower()] = value.strip()
    metadata = data[first + head.end() : second].rstrip(b"\r")
    return metadata, headers, end.end()


class V3Upload:
    """files.create and files.update of v3."""

    def check(self, call: Call, size_bytes: int) -> None:
        items = call.emulator.items
        if "fileId" in call.path:
            items.check_update(call.caller, call.path["fileId"], call.body, size_bytes, all_drives=call.all_drives)
        else:
            items.check_create(call.caller, call.body, size_bytes, all_drives=call.all_drives)

    def complete(self, call: Call, stored: Stored, media_type: str | None) -> Any:
        items, keep = call.emulator.items, call.query.get("keepRevisionForever", False)
        if "fileId" in call.path:
            row = items.update(
                call.caller,
                call.path["fileId"],
                call.body,
                stored,
                media_type,
                all_drives=call.all_drives,
                add_parents=call.query.get("addParents", ""),
                remove_parents=call.query.get("removeParents", ""),
                keep=keep,
            )
        else:
            row = items.create(call.caller, call.body, stored, media_type, all_drives=call.all_drives, keep=keep)
            call.path["made"] = row["id"]
        return call.file(row)


__all__ = ["Completer", "Malformed", "Uploads", "V3Upload"]
