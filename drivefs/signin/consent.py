"""Asking the person: OAuth's flow for installed apps (RFC 8252), with PKCE (RFC 7636, S256) and state.

The browser comes back to a loopback address: to `Loopback`, which listens there, or to nobody, and the person pastes
the address. One thread, which waits; no secret is in a message, repr or log line, nor in the browser's own pages.
"""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode

from drivefs.drive.auth import TOKEN, is_private
from drivefs.drive.http import Transport
from drivefs.errors import SignInNeeded, UsageError, UserError

HEADLESS_REDIRECT = "http://127.0.0.1:8085/"
"""Where a browser elsewhere ends: on a page that cannot be loaded, whose address is what we want."""

_FORM = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
_PATIENCE_S = 3.0
"""For one request to the loopback address; browsers also open connections that they never use."""

HOW_TO_GET_A_CLIENT = (
    "drivefs needs an OAuth client of your own, once: at https://console.cloud.google.com make a project, enable the "
    "Google Drive API in it, publish its consent screen, create credentials of type 'OAuth client ID' for a 'Desktop "
    "app', download their JSON, and run 'drivefs auth login --client-secrets FILE'"
)


@dataclass(frozen=True, slots=True)
class Client:
    """An OAuth client: the app on whose behalf the person is asked."""

    client_id: str
    client_secret: str = field(repr=False)
    auth_uri: str
    token_uri: str


@dataclass(frozen=True, slots=True)
class Granted:
    """What the token server gave for the code."""

    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    scopes: tuple[str, ...]
    expires_s: float
    """When the access token ends, seconds since the epoch."""
    sign_in_ends_s: float | None
    """When the refresh token ends, where it does: in a Testing app after 7 days."""


def read_client(file: Path) -> Client:
    """The client of a client_secrets.json. Raises UsageError with one sentence."""
    try:
        value = json.loads(file.read_bytes())
    except OSError as error:
        raise UsageError(f"The client file {file} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict) and value.get("type") == "service_account":
        raise UsageError(f"{file} is the key of a service account: give it with --service-account.")
    if isinstance(value, dict) and isinstance(value.get("web"), dict):
        raise UsageError(f"{file} is of a 'Web application': create an OAuth client ID for a 'Desktop app' instead.")
    client = find_client(value.get("installed")) if isinstance(value, dict) else None
    if client is None:
        raise UsageError(f"{file} is not the JSON of an OAuth client: download that of a 'Desktop app'.")
    return client


def find_client(value: object) -> Client | None:
    """The client that an object names, with Google's addresses where it names none; None when it is none."""
    if not isinstance(value, dict):
        return None
    words = {
        "client_id": value.get("client_id"),
        "client_secret": value.get("client_secret", ""),
        "auth_uri": value.get("auth_uri") or "https://accounts.google.com/o/oauth2/v2/auth",
        "token_uri": value.get("token_uri") or "https://oauth2.googleapis.com/token",
    }
    if not all(isinstance(word, str) for word in words.values()) or not words["client_id"]:
        return None
    if not is_private(words["auth_uri"]) or not is_private(words["token_uri"]):
        return None
    return Client(**words)


class Consent:
    """One try to sign in: its link, and what comes back."""

    def __init__(self, client: Client, scope: str, redirect_uri: str, login_hint: str | None = None) -> None:
        self._client, self._scope, self._redirect_uri = client, scope, redirect_uri
        self._state = secrets.token_urlsafe(32)
        self._verifier = secrets.token_urlsafe(64)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(self._verifier.encode()).digest()).decode().rstrip("=")
        query = {
            "client_id": client.client_id,
            "redirect_uri": redirect_uri,
            "response_type": "code",
            "scope": scope,
            "state": self._state,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            # Without these two Google gives a refresh token the first time only.
            "access_type": "offline",
            "prompt": "consent",
            **({"login_hint": login_hint} if login_hint else {}),
        }
        joint = "&" if "?" in client.auth_uri else "?"
        self.link = client.auth_uri + joint + urlencode(query)
        """Where the person is to go."""

    def is_ours(self, query: str) -> bool:
        """Whether the query of an address that was come back to belongs to this try."""
        return secrets.compare_digest(_first(query, "state").encode(), self._state.encode())

    def code(self, query: str) -> str:
        """The code in the query that was come back with. Raises UserError when there is none."""
        if not self.is_ours(query):
            raise UserError("That address is not of this sign-in: run it again, and use the link that it shows.")
        if word := _first(query, "error"):
            if word == "access_denied":
                raise SignInNeeded("The sign-in was declined in the browser: run it again, and allow it there.")
            raise SignInNeeded(f"The sign-in was refused ({_word(word)}): check the OAuth client, and run it again.")
        code = _first(query, "code")
        if not code:
            raise UserError("That address holds no code: copy all of what the browser's address bar shows.")
        return code

    def exchange(self, code: str, transport: Transport) -> Granted:
        """Tokens for the code. Raises SignInNeeded when they are refused, DriveError when nobody answers."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "client_id": self._client.client_id,
            "client_secret": self._client.client_secret,
            "redirect_uri": self._redirect_uri,
            "code_verifier": self._verifier,
        }
        now_s = time.time()
        status, _, body = transport.exchange("POST", self._client.token_uri, _FORM, urlencode(form).encode())
        reply = _object(body)
        if status != 200:
            word = _word(reply.get("error"))
            raise SignInNeeded(
                f"The sign-in server refused ({word}): "
                + (
                    "the OAuth client is not known there, or its secret has changed: download its file again."
                    if word in ("invalid_client", "unauthorized_client")
                    else "run the sign-in again."
                )
            )
        access, refresh = reply.get("access_token"), reply.get("refresh_token")
        if not all(isinstance(token, str) and TOKEN.fullmatch(token) for token in (access, refresh)):
            raise SignInNeeded("The sign-in server gave no token to keep: run the sign-in again.")
        scopes = reply.get("scope")
        granted = tuple(scopes.split()) if isinstance(scopes, str) else (self._scope,)
        if self._scope not in granted:
            raise SignInNeeded(
                f"The sign-in does not include what was asked for ({self._scope}): run it again, and tick the box "
                "for Google Drive."
            )
        ends_s = reply.get("refresh_token_expires_in")
        return Granted(
            access_token=str(access),
            refresh_token=str(refresh),
            scopes=granted,
            expires_s=now_s + _seconds(reply.get("expires_in")),
            sign_in_ends_s=now_s + _seconds(ends_s) if ends_s else None,
        )


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _seconds(value: object) -> float:
    return float(value) if isinstance(value, int) and 0 <= value < 1 << 40 else 0.0


def _first(query: str, name: str) -> str:
    try:
        return parse_qs(query, max_num_fields=50).get(name, [""])[0]
    except ValueError:
        return ""


def _word(value: object) -> str:
    """OAuth's word for it, if it is one."""
    return value if isinstance(value, str) and value.isidentifier() and len(value) < 60 else "no reason given"


# --- the way back ---


class Loopback:
    """Listens on a free port of this machine alone, for the browser to come back to. Use as a context."""

    def __init__(self) -> None:
        answers: list[str] = []
        self._answers = answers
        self._consent: Consent | None = None
        loopback = self

        class Handler(http.server.BaseHTTPRequestHandler):
            timeout = _PATIENCE_S

            def do_GET(self) -> None:
                loopback._take(self)

            def log_message(self, format: str, *args: object) -> None:
                """The request line holds the code."""

        class Listener(http.server.HTTPServer):
            def handle_error(self, request: object, client_address: object) -> None:
                """Somebody hung up; a traceback would end on the terminal."""

        self._server = Listener(("127.0.0.1", 0), Handler)
        self.redirect_uri = f"http://127.0.0.1:{self._server.server_port}/"

    def __enter__(self) -> Loopback:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.server_close()

    def wait(self, consent: Consent, timeout_s: float) -> str:
        """The query that the browser comes back with to this try. Raises SignInNeeded when the time is up."""
        self._consent = consent
        end_s = time.monotonic() + timeout_s
        while not self._answers:
            left_s = end_s - time.monotonic()
            if left_s <= 0:
                raise SignInNeeded(
                    "Nobody has signed in within the time: run it again, or with --headless where the browser is on "
                    "another machine."
                )
            self._server.timeout = left_s
            self._server.handle_request()
        return self._answers[0]

    def _take(self, request: http.server.BaseHTTPRequestHandler) -> None:
        path, _, query = request.path.partition("?")
        ours = self._consent is not None and path == "/" and self._consent.is_ours(query)
        if ours:
            self._answers.append(query)
        declined = ours and bool(_first(query, "error"))
        text = "Not signed in." if declined else "Signed in." if ours else "Nothing here."
        page = f"<!doctype html><title>drivefs</title><p>{text} Go back to the terminal; this page can be closed."
        request.send_response(200 if ours else 404)
        headers: Mapping[str, str] = {
            "Content-Type": "text/html; charset=utf-8",
            "Content-Length": str(len(page)),
            "Cache-Control": "no-store",
            "Referrer-Policy": "no-referrer",
        }
        for name, value in headers.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(page.encode())


def pasted_query(text: str) -> str:
    """The query of the address that the person has pasted."""
    text = "".join(text.split()).strip("'\"<>")  # terminals and mails break long lines
    return text.partition("?")[2].partition("#")[0] if "?" in text else text
