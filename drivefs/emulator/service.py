"""Requests to the API: found in the discovery document, checked, charged, carried out, logged."""

from __future__ import annotations

import json
import logging
from typing import Any
from urllib.parse import parse_qsl, unquote

from aiohttp import web

from drivefs.emulator import quota, v2, v3_changes, v3_drives, v3_files, v3_sharing
from drivefs.emulator.accounts import Caller
from drivefs.emulator.downloads import export_bytes, media_row, send_media
from drivefs.emulator.errors import ApiError, Malformed, bad_request, invalid, login_required
from drivefs.emulator.exchange import Dropped, Exchange
from drivefs.emulator.oauth import OAuth
from drivefs.emulator.schema import Api, Method, api
from drivefs.emulator.state import Call, Emulator
from drivefs.emulator.trace import Trace
from drivefs.emulator.uploads import Uploads, V3Upload
from drivefs.emulator.v3_files import Handler

log = logging.getLogger(__name__)

BODY_LIMIT_BYTES = 8 << 20

BASES = (
    ("/drive/v3/", "v3", False),
    ("/upload/drive/v3/", "v3", True),
    ("/resumable/upload/drive/v3/", "v3", True),
    ("/drive/v2/", "v2", False),
    ("/upload/drive/v2/", "v2", True),
    ("/resumable/upload/drive/v2/", "v2", True),
)
"""Where the API lies: path prefix, version, and whether it takes content there."""


class Service:
    """The API of one emulator."""

    def __init__(self, emulator: Emulator, oauth: OAuth) -> None:
        self.emulator = emulator
        self.oauth = oauth
        self.handlers: dict[str, dict[str, Handler]] = {
            "v3": {**v3_files.HANDLERS, **v3_changes.HANDLERS, **v3_sharing.HANDLERS, **v3_drives.HANDLERS},
            "v2": v2.HANDLERS,
        }
        self.uploads = Uploads(
            emulator,
            {"v3": V3Upload(), "v2": v2.UPLOAD},
            {version: handlers["drive.files.get"] for version, handlers in self.handlers.items()},
        )

    # --- one request ---

    async def serve(self, exchange: Exchange, path: str) -> web.StreamResponse:
        """The reply to a request whose path lies below one of `BASES`."""
        trace = Trace(exchange, path)
        try:
            return await self._serve(exchange, path, trace)
        except ApiError as error:
            trace.reason = error.reason
            return await exchange.reply_json(error.status, error.body(), error.headers)
        except Malformed as error:
            trace.reason = "badRequest"
            return await exchange.reply_json(400, bad_request(str(error)).body())
        except (Dropped, ConnectionError):
            raise
        except Exception:
            # Our own mistake: told on standard error, and to the client as Google tells its own.
            log.exception("%s %s failed", exchange.request.method, path)
            trace.reason = "internalError"
            return await exchange.reply_json(500, ApiError(500, "internalError", "Internal Error").body())
        finally:
            trace.log()

    async def _serve(self, exchange: Exchange, path: str, trace: Trace) -> web.StreamResponse:
        base, version, with_media = next(entry for entry in BASES if path.startswith(entry[0]))
        law = api(version)
        verb = exchange.headers.get("X-HTTP-Method-Override", exchange.request.method)
        query = parse_qsl(exchange.request.rel_url.raw_query_string, keep_blank_values=True)
        if verb == "GET" and exchange.request.method == "POST":
            # How Google's clients send a query that is too long for a URL.
            form = (await exchange.body(BODY_LIMIT_BYTES)).decode("utf-8", "replace")
            query += parse_qsl(form, keep_blank_values=True)
        upload_id = next((value for name, value in query if name == "upload_id"), None)
        if with_media and upload_id is not None:
            return await self._session(exchange, upload_id, path, trace)
        found = law.find_method(verb, path[len(base) :])
        if found is None or (with_media and not found[0].takes_media):
            raise ApiError(404, "notFound", "Not Found")
        method, variables = found
        media = dict(query).get("alt") == "media" and method.gives_media
        trace.method = method.id
        caller, refusal = self._caller(exchange, query)
        trace.user = "" if caller is None else caller.user.email
        kinds = {"upload"} if with_media else {"media"} if media else {method.id.rpartition(".")[2]}
        fault = await trace.befall(kinds)
        if caller is None:
            raise refusal
        units = quota.cost(method.id, media=media)
        self.emulator.quota.spend(caller.user.n, units)
        trace.units = units
        call = self.prepare(exchange, law, method, variables, query=query, caller=caller)
        call.fault = fault
        if with_media:
            response = await self._upload(exchange, call)
        elif media or method.id == "drive.files.export":
            response = await self._download(exchange, call)
        else:
            body = await exchange.body(BODY_LIMIT_BYTES)
            call.body = self.read_body(law, method, body)
            response = await self._reply(exchange, call, self.run(call))
        await trace.aftermath(fault)
        return response

    def prepare(
        self,
        exchange: Exchange,
        law: Api,
        method: Method,
        variables: dict[str, str],
        *,
        query: list[tuple[str, str]],
        caller: Caller,
    ) -> Call:
        """The call, its query checked and its scope granted; still without a body."""
        values = law.check_query(method, query)
        if method.scopes and not method.scopes & caller.scopes:
            raise ApiError(
                403,
                "insufficientPermissions",
                "Insufficient Permission: Request had insufficient authentication scopes.",
            )
        call = Call(
            emulator=self.emulator,
            api=law,
            method=method,
            path={name: unquote(value) for name, value in variables.items()},
            query=values,
            body={},
            caller=caller,
            link_base=exchange.link_base(),
            headers=exchange.headers,
        )
        # A mask that is wrong is refused before anything is done.
        _ = call.mask
        return call

    def read_body(self, law: Api, method: Method, data: bytes) -> dict[str, Any]:
        """The JSON body, checked."""
        if not data.strip():
            return {}
        try:
            value = json.loads(data)
        except ValueError:
            raise ApiError(400, "parseError", "Parse Error") from None
        return law.check_body(method, value)

    def run(self, call: Call) -> Any:
        """Carry a call out; the reply's JSON."""
        handler = self.handlers[call.api.version].get(call.method.id)
        if handler is None:
            raise ApiError(501, "notImplemented", f"The emulator does not have {call.method.id}.")
        return handler(call)

    def _caller(self, exchange: Exchange, query: list[tuple[str, str]]) -> tuple[Caller | None, ApiError]:
        """Who asks, or why we do not believe it."""
        scheme, _, token = exchange.headers.get("Authorization", "").partition(" ")
        if scheme.lower() not in ("bearer", "oauth") or not token:
            token = next((value for name, value in query if name in ("access_token", "oauth_token")), "")
        try:
            return self.oauth.caller(token.strip()), login_required()
        except ApiError as refusal:
            return None, refusal

    async def _reply(self, exchange: Exchange, call: Call, value: Any) -> web.StreamResponse:
        if value is None:
            return await exchange.reply(204)
        return await exchange.reply(200, call.answer(value))

    # --- content ---

    async def _upload(self, exchange: Exchange, call: Call) -> web.StreamResponse:
        kind = call.query.get("uploadType") or call.query.get("upload_protocol")
        if call.fault is not None and call.fault.action == "partial":
            async for piece in exchange.chunks():
                if exchange.bytes_in >= int(call.fault.rule.get("bytes") or 0) and piece:
                    break
            raise exchange.reset()

        def parse(data: bytes) -> dict[str, Any]:
            return self.read_body(call.api, call.method, data)

        if kind == "media":
            return await self._reply(exchange, call, await self.uploads.simple(exchange, call))
        if kind == "multipart":
            return await self._reply(exchange, call, await self.uploads.multipart(exchange, call, parse))
        if kind == "resumable":
            call.body = parse(await exchange.body(BODY_LIMIT_BYTES))
            return await self.uploads.start(exchange, call)
        raise bad_request("Invalid upload request: uploadType must be media, multipart or resumable.")

    async def _session(self, exchange: Exchange, upload_id: str, path: str, trace: Trace) -> web.StreamResponse:
        asked = exchange.headers.get("Content-Range", "").replace(" ", "").startswith("bytes*/")
        trace.method = "upload.status" if asked else "upload.chunk"
        if exchange.request.method not in ("PUT", "POST"):
            if exchange.request.method == "DELETE":
                self.uploads.forget(self.uploads.session(upload_id)["id"])
                return await exchange.reply(499, reason="Client Closed Request")
            raise ApiError(405, "methodNotAllowed", "Method Not Allowed")
        row = self.uploads.find_session(upload_id)
        trace.user = "" if row is None else self.emulator.accounts.by_n(row["user"]).email
        fault = await trace.befall({"session"} if asked else {"session", "upload"})
        if fault is not None and fault.action == "expire_session":
            self.uploads.forget(upload_id)
            raise ApiError(int(fault.rule.get("status", 404)), "notFound", "Upload session not found.")
        row = self.uploads.session(upload_id)
        exchange.upload_id = upload_id
        user = self.emulator.accounts.by_n(row["user"])
        self.emulator.quota.spend(user.n, quota.OTHER)
        trace.units = quota.OTHER
        law, saved = api(row["version"]), json.loads(row["params"])
        call = Call(
            emulator=self.emulator,
            api=law,
            method=law.methods[row["method"]],
            path={} if row["file"] is None else {"fileId": row["file"]},
            query=saved["query"],
            body=json.loads(row["body"]),
            caller=Caller(user, row["client"], frozenset(saved["scopes"])),
            link_base=saved["base"],
            fault=fault,
        )
        response = await self.uploads.proceed(exchange, row, call)
        await trace.aftermath(fault)
        return response

    async def _download(self, exchange: Exchange, call: Call) -> web.StreamResponse:
        if call.method.id == "drive.files.export":
            data, kind = export_bytes(call)
            return await exchange.reply(200, data, content_type=kind)
        if call.method.id.endswith("files.get") or call.method.id.endswith("revisions.get"):
            row = call.emulator.tree.get(call.path["fileId"], call.caller, all_drives=call.all_drives)
            revision = media_row(call)
            return await send_media(exchange, call, revision, row["name"])
        raise invalid(location="alt")


__all__ = ["BASES", "Service"]
