"""Content on its way out: alt=media, links for people, exports."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

from aiohttp import web

from drivefs.emulator.database import Row
from drivefs.emulator.documents import export
from drivefs.emulator.errors import ApiError
from drivefs.emulator.exchange import Exchange
from drivefs.emulator.faults import Fault
from drivefs.emulator.state import Call

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_BLOCK_BYTES = 1 << 20


def media_row(call: Call) -> Row:
    """The revision whose bytes `alt=media` gives; 403 `fileNotDownloadable` where there are none."""
    row = call.emulator.tree.get(call.path["fileId"], call.caller, all_drives=call.all_drives)
    revision: Row | None
    if "revisionId" in call.path:
        revision = call.emulator.db.row(
            "SELECT * FROM revisions WHERE file = ? AND id = ?", (row["n"], call.path["revisionId"])
        )
        if revision is None:
            raise ApiError(404, "notFound", f"Revision not found: {call.path['revisionId']}.", location="revisionId")
    else:
        revision = call.emulator.db.row("SELECT * FROM revisions WHERE id = ?", (row["head"],))
    if row["size"] is None or revision is None or revision["blob"] is None:
        raise ApiError(
            403,
            "fileNotDownloadable",
            "Only files with binary content can be downloaded. Use Export with Docs Editors files.",
            location="alt",
        )
    return revision


async def send_media(exchange: Exchange, call: Call, revision: Row, name: str) -> web.StreamResponse:
    """The bytes, or the range of them that was asked for."""
    headers = {
        "Content-Type": revision["mime"],
        "Accept-Ranges": "bytes",
        "Content-Disposition": f"attachment;filename*=UTF-8''{quote(name)}",
        "Cache-Control": "private, max-age=0, must-revalidate",
        "ETag": f'"{revision["id"]}"',
        "X-Goog-Hash": f"md5={revision['md5']}",
    }
    path = call.emulator.contents.path(revision["blob"])
    return await send_file(exchange, path, revision["size"], headers, call.fault)


async def send_file(
    exchange: Exchange, path: Path, size: int, headers: dict[str, str], fault: Fault | None
) -> web.StreamResponse:
    """A file's bytes over the line; 206 and 416 as the Range header asks."""
    first, last = 0, size - 1
    status = 200
    asked = exchange.headers.get("Range")
    match = None if asked is None else _RANGE.fullmatch(asked.replace(" ", ""))
    if match is not None and match.group(0) != "bytes=-":
        if match.group(1):
            first = int(match.group(1))
            last = min(size - 1, int(match.group(2))) if match.group(2) else size - 1
        else:
            first = max(0, size - int(match.group(2)))
        if first >= size or (match.group(2) and match.group(1) and int(match.group(2)) < first):
            raise ApiError(
                416,
                "requestedRangeNotSatisfiable",
                "Request range not satisfiable",
                location="Range",
                location_type="header",
                headers={"Content-Range": f"bytes */{size}"},
            )
        status = 206
        headers["Content-Range"] = f"bytes {first}-{last}/{size}"
    response = web.StreamResponse(status=status, headers=headers)
    length = last - first + 1
    extra = _over(fault)
    if extra:
        # Without a Content-Length the client has to notice by itself.
        response.enable_chunked_encoding()
    else:
        response.content_length = length
    stop = last + 1
    if fault is not None and fault.action == "truncate":
        stop = max(first, stop - int(fault.rule.get("bytes") or 1))
    await exchange.wait_latency()
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        await exchange.begin(response)
        at = first
        while at < stop:
            data = await _read(exchange, descriptor, at, min(_BLOCK_BYTES, stop - at))
            if not data:
                break
            at += len(data)
            await exchange.send(response, _spoiled(data, at - len(data), fault))
            exchange.bytes_out += len(data)
        if extra:
            await exchange.send(response, b"\0" * extra)
    finally:
        os.close(descriptor)
    if at < last + 1:
        raise exchange.cut()
    return response


async def _read(exchange: Exchange, descriptor: int, offset: int, length: int) -> bytes:
    if length <= 131_072:
        return os.pread(descriptor, length, offset)
    pool = exchange.emulator.contents.pool
    return await asyncio.get_running_loop().run_in_executor(pool, os.pread, descriptor, length, offset)


def _over(fault: Fault | None) -> int:
    return int(fault.rule.get("bytes") or 1) if fault is not None and fault.action == "overlong" else 0


def _spoiled(data: bytes, offset: int, fault: Fault | None) -> bytes:
    if fault is None or fault.action != "corrupt":
        return data
    at = int(fault.rule.get("offset") or 0) - offset
    if not 0 <= at < len(data):
        return data
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


def export_bytes(call: Call) -> tuple[bytes, str]:
    """files.export: the bytes and their type."""
    row = call.emulator.tree.get(call.path["fileId"], call.caller)
    wanted = call.query["mimeType"]
    text: Any = row["name"]
    blob = call.emulator.db.value("SELECT blob FROM revisions WHERE id = ?", (row["head"],))
    if blob is not None and row["size"] is None:
        text = call.emulator.contents.path(blob).read_bytes().decode("utf-8", "replace")
    return export(row["mime"], wanted, row["name"], text), wanted
