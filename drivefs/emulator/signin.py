"""The OAuth endpoints as a browser and a client see them, and the links that people open without the API."""

from __future__ import annotations

import base64
import html
import json
from typing import Any
from urllib.parse import parse_qsl, unquote_plus, urlencode, urlsplit

from aiohttp import web

from drivefs.emulator.accounts import Caller, User
from drivefs.emulator.downloads import send_media
from drivefs.emulator.errors import ApiError
from drivefs.emulator.exchange import Exchange
from drivefs.emulator.oauth import OAuth, OAuthError
from drivefs.emulator.schema import api
from drivefs.emulator.state import Call, Emulator
from drivefs.emulator.trace import Trace

_TOKEN_PATHS = ("/token", "/o/oauth2/token", "/oauth2/v4/token", "/oauth2/v3/token")
_AUTH_PATHS = ("/o/oauth2/v2/auth", "/o/oauth2/auth")
_INFO_PATHS = ("/tokeninfo", "/oauth2/v1/tokeninfo", "/oauth2/v3/tokeninfo")
_BODY_LIMIT_BYTES = 1 << 20
_HTML = "text/html; charset=UTF-8"


class SignIn:
    """Everything that is neither the API nor the admin endpoint."""

    def __init__(self, emulator: Emulator, oauth: OAuth) -> None:
        self.emulator = emulator
        self.oauth = oauth

    async def serve(self, exchange: Exchange, path: str) -> web.StreamResponse:
        query = dict(parse_qsl(exchange.request.rel_url.raw_query_string, keep_blank_values=True))
        try:
            if path in _AUTH_PATHS:
                return await self._consent(exchange, query)
            if path in ("/uc", "/download", "/u/0/uc"):
                return await self._link(exchange, query.get("id", ""))
            if path.startswith("/discovery/v1/apis/drive/"):
                return await self._document(exchange, path.split("/")[5])
            form = dict(query)
            form.update(parse_qsl((await exchange.body(_BODY_LIMIT_BYTES)).decode("utf-8", "replace")))
            if path in _TOKEN_PATHS:
                return await self._token(exchange, path, form)
            if path in ("/revoke", "/o/oauth2/revoke"):
                self.oauth.revoke(form.get("token", ""))
                return await exchange.reply_json(200, {})
            if path in _INFO_PATHS:
                return await exchange.reply_json(200, self.oauth.info(form.get("access_token", "")))
            if path in ("/oauth2/v2/userinfo", "/oauth2/v1/userinfo", "/oauth2/v3/userinfo", "/userinfo"):
                token = exchange.headers.get("Authorization", "").partition(" ")[2]
                return await exchange.reply_json(200, _userinfo(self.oauth.caller(token).user))
        except OAuthError as refusal:
            return await exchange.reply_json(refusal.status, refusal.body())
        except ApiError as error:
            return await exchange.reply_json(error.status, error.body(), error.headers)
        return await exchange.reply_json(404, ApiError(404, "notFound", "Not Found").body())

    async def _token(self, exchange: Exchange, path: str, form: dict[str, str]) -> web.StreamResponse:
        trace = Trace(exchange, path)
        trace.method = "oauth.token"
        try:
            fault = await trace.befall(frozenset())
            response = await exchange.reply_json(200, self.oauth.token({**_basic(exchange), **form}))
            await trace.aftermath(fault)
            return response
        except OAuthError as refusal:
            trace.reason = refusal.error
            return await exchange.reply_json(refusal.status, refusal.body())
        finally:
            trace.log()

    # --- consent ---

    async def _consent(self, exchange: Exchange, query: dict[str, str]) -> web.StreamResponse:
        """The consent page. With `login_hint` it grants at once; a POST of its form says who, or no."""
        if exchange.request.method == "POST":
            query.update(parse_qsl((await exchange.body(_BODY_LIMIT_BYTES)).decode("utf-8", "replace")))
        redirect = query.get("redirect_uri", "")
        target = urlsplit(redirect)
        if target.scheme != "http" or target.hostname not in ("127.0.0.1", "localhost", "::1"):
            raise OAuthError("redirect_uri_mismatch", "Only loopback redirects are allowed.")
        if not query.get("client_id"):
            raise OAuthError("invalid_request", "Missing required parameter: client_id")
        if query.get("response_type") != "code":
            raise OAuthError("unsupported_response_type", "Only response_type=code is served.")
        if not query.get("scope"):
            raise OAuthError("invalid_scope", "Missing required parameter: scope")
        account = query.get("account") or query.get("login_hint")
        if query.get("decision") == "deny":
            return await self._back(exchange, redirect, query, {"error": "access_denied"})
        if not account:
            return await exchange.reply(200, self._page(query).encode(), content_type=_HTML)
        user = self.emulator.accounts.find(account)
        if user is None:
            return await self._back(exchange, redirect, query, {"error": "access_denied"})
        kept = ("redirect_uri", "code_challenge", "code_challenge_method")
        code = self.oauth.issue_code(
            user, query["client_id"], query["scope"], {name: query[name] for name in kept if name in query}
        )
        return await self._back(exchange, redirect, query, {"code": code, "scope": query["scope"]})

    async def _back(
        self, exchange: Exchange, redirect: str, query: dict[str, str], answer: dict[str, str]
    ) -> web.StreamResponse:
        if "state" in query:
            answer = {"state": query["state"], **answer}
        joint = "&" if "?" in redirect else "?"
        return await exchange.reply(302, headers={"Location": redirect + joint + urlencode(answer)})

    def _page(self, query: dict[str, str]) -> str:
        hidden = "".join(
            f'<input type="hidden" name="{html.escape(name)}" value="{html.escape(value)}">'
            for name, value in query.items()
        )
        buttons = "".join(
            f'<button name="account" value="{html.escape(email)}">Allow as {html.escape(email)}</button>'
            for email in self.emulator.options.accounts
        )
        scopes = "".join(f"<li>{html.escape(scope)}</li>" for scope in query["scope"].split())
        return (
            "<!doctype html><title>Sign in to the emulator</title><h1>An app wants to use your Drive</h1>"
            f'<ul>{scopes}</ul><form method="post">{hidden}{buttons}'
            '<button name="decision" value="deny">Cancel</button></form>'
        )

    # --- links and documents ---

    async def _link(self, exchange: Exchange, file_id: str) -> web.StreamResponse:
        """webContentLink: bytes for anyone who has the link, if anyone may."""
        row = self.emulator.tree.find(file_id)
        if row is None or row["size"] is None or not self.emulator.tree.public(row):
            return await exchange.reply(404 if row is None else 403, b"<!doctype html><p>No.", content_type=_HTML)
        revision = self.emulator.db.row("SELECT * FROM revisions WHERE id = ?", (row["head"],))
        assert revision is not None
        nobody = User(0, "", "", "", None, None)
        law = api("v3")
        call = Call(
            self.emulator, law, law.methods["drive.files.get"], {"fileId": file_id}, {}, {},
            Caller(nobody, "", frozenset({"drive"})), exchange.link_base(),
        )  # fmt: skip
        return await send_media(exchange, call, revision, row["name"])

    async def _document(self, exchange: Exchange, version: str) -> web.StreamResponse:
        """The discovery document, pointing here."""
        if version not in ("v2", "v3"):
            raise ApiError(404, "notFound", "Not Found")
        base = exchange.base_url()
        document: dict[str, Any] = json.loads(json.dumps(api(version).document))
        document["rootUrl"] = f"{base}/"
        document["baseUrl"] = base + "/" + document["servicePath"]
        document.pop("mtlsRootUrl", None)
        return await exchange.reply_json(200, document)


def _basic(exchange: Exchange) -> dict[str, str]:
    """The client as HTTP Basic names it, which Google takes as well as the form (RFC 6749, 2.3.1)."""
    kind, _, encoded = exchange.headers.get("Authorization", "").partition(" ")
    if kind.lower() != "basic":
        return {}
    try:
        client, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except ValueError:
        raise OAuthError("invalid_client", "The client's name cannot be read.", 401) from None
    return {"client_id": unquote_plus(client), "client_secret": unquote_plus(secret)}


def _userinfo(user: User) -> dict[str, Any]:
    return {"id": user.permission_id, "sub": user.permission_id, "email": user.email, "verified_email": True,
            "name": user.name}  # fmt: skip
