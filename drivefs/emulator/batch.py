"""`POST /batch/drive/v3`: up to 100 calls in one multipart/mixed request, none with content."""

from __future__ import annotations

import json
import re
import secrets
import time
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from aiohttp import web

from drivefs.emulator import quota
from drivefs.emulator.errors import ApiError, bad_request
from drivefs.emulator.exchange import Exchange
from drivefs.emulator.requestlog import Entry
from drivefs.emulator.schema import api
from drivefs.emulator.state import dump

if TYPE_CHECKING:
    from drivefs.emulator.service import Service

MAX_CALLS = 100
_BODY_LIMIT_BYTES = 16 << 20


async def serve(service: Service, exchange: Exchange) -> web.StreamResponse:
    """The replies, in the order of the calls."""
    try:
        match = re.search(r'boundary="?([^";]+)"?', exchange.headers.get("Content-Type", ""))
        if match is None:
            raise bad_request("Failed to parse batch request, error: missing boundary.")
        body = await exchange.body(_BODY_LIMIT_BYTES)
        parts = _parts(body, match.group(1).encode())
        if len(parts) > MAX_CALLS:
            raise bad_request(f"The batch request exceeds the limit of {MAX_CALLS} calls.")
    except ApiError as error:
        return await exchange.reply_json(error.status, error.body(), error.headers)
    mark = "batch_" + secrets.token_urlsafe(24)
    result = b""
    for part in parts:
        result += f"--{mark}\r\nContent-Type: application/http\r\n".encode() + _answer(service, exchange, part)
    result += f"--{mark}--\r\n".encode()
    return await exchange.reply(200, result, content_type=f"multipart/mixed; boundary={mark}")


def _parts(body: bytes, mark: bytes) -> list[bytes]:
    pieces = re.split(rb"(?:^|\r?\n)--" + re.escape(mark) + rb"(?:--)?[ \t]*(?:\r?\n|$)", body)
    return [piece for piece in pieces[1:] if piece.strip()]


def _headers(text: bytes) -> dict[str, str]:
    result = {}
    for line in text.decode("latin-1").splitlines():
        name, colon, value = line.partition(":")
        if colon:
            result[name.strip().lower()] = value.strip()
    return result


def _answer(service: Service, exchange: Exchange, part: bytes) -> bytes:
    """One call's part of the reply, its Content-ID and HTTP status line included."""
    outer, inner = _split(part)
    content_id = _headers(outer).get("content-id", "")
    head, body = _split(inner)
    line, _, rest = head.partition(b"\n")
    words = line.decode("latin-1").split()
    status, reply = 400, dump(bad_request("Failed to parse batch part.").body())
    headers: dict[str, str] = {}
    if len(words) >= 2:
        status, reply, headers = _call(service, exchange, words[0], words[1], headers=_headers(rest), body=body)
    extra = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    named = f"Content-ID: <response-{content_id.strip('<>')}>\r\n" if content_id else ""
    reason = {200: "OK", 204: "No Content", 404: "Not Found", 403: "Forbidden"}.get(status, "Status")
    return (
        (
            f"{named}\r\nHTTP/1.1 {status} {reason}\r\nContent-Type: application/json; charset=UTF-8\r\n"
            f"{extra}Content-Length: {len(reply)}\r\n\r\n"
        ).encode()
        + reply
        + b"\r\n"
    )


def _split(data: bytes) -> tuple[bytes, bytes]:
    match = re.search(rb"\r?\n\r?\n", data)
    return (data, b"") if match is None else (data[: match.start()], data[match.end() :])


def _call(
    service: Service, exchange: Exchange, verb: str, url: str, *, headers: dict[str, str], body: bytes
) -> tuple[int, bytes, dict[str, str]]:
    started, target = time.monotonic(), urlsplit(url)
    method_id, user, reason, units, status = "unknown", "", "", 0, 200
    extra: dict[str, str] = {}
    try:
        version = "v2" if target.path.startswith("/drive/v2/") else "v3"
        law = api(version)
        found = law.find_method(verb, target.path.removeprefix(f"/drive/{version}/"))
        if found is None:
            raise ApiError(404, "notFound", "Not Found")
        method, variables = found
        method_id, units = method.id, quota.cost(method.id)
        query = parse_qsl(target.query, keep_blank_values=True)
        if dict(query).get("alt") == "media" or method.id == "drive.files.export":
            raise bad_request("Media is not supported in batch requests.")
        fault = service.emulator.faults.strike(verb, target.path, method.id, "", {method_id.rpartition(".")[2]})
        if fault is not None and fault.action == "error":
            raise fault.error()
        token = headers.get("authorization", exchange.headers.get("Authorization", ""))
        caller = service.oauth.caller(token.partition(" ")[2].strip())
        user = caller.user.email
        service.emulator.quota.spend(caller.user.n, units)
        call = service.prepare(exchange, law, method, variables, query=query, caller=caller)
        call.fault = fault
        call.body = service.read_body(law, method, body.strip())
        value = service.run(call)
        status, reply = (204, b"") if value is None else (200, dump(value))
    except ApiError as error:
        status, reason, reply, extra = error.status, error.reason, json.dumps(error.body()).encode(), error.headers
    service.emulator.log.add(
        Entry(
            number=0, started_s=time.time(), seconds=time.monotonic() - started, verb=verb, path=target.path,
            method=method_id, user=user, status=status, reason=reason, units=units, bytes_in=len(body),
            bytes_out=len(reply), connection=id(exchange.transport) & 0xFFFFFF, fault="",
        )
    )  # fmt: skip
    return status, reply, extra
