"""Credentials of a sign-in, and an access token that is fresh.

Entered by every thread that calls Drive; a lock makes one refresh serve all who wait for it. Tokens and keys
are in no message, repr or log line of this module. Nothing is written to the disk here: whoever keeps the sign-in is
told of new tokens (`Origin.keep`).
"""

from __future__ import annotations

import json
import logging
import re
import threading
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import google.auth.credentials
import google.auth.exceptions
import google.auth.transport
import google.oauth2.credentials
import google.oauth2.service_account
from google.auth.credentials import TokenState

from drivefs.drive.http import Transport, is_loopback
from drivefs.errors import BadReply, DriveError, SignInNeeded, Unreachable

log = logging.getLogger(__name__)

DRIVE_SCOPE = "https://www.googleapis.com/auth/drive"
SCOPES: Mapping[str, str] = {
    "full": DRIVE_SCOPE,
    "readonly": f"{DRIVE_SCOPE}.readonly",
    "file": f"{DRIVE_SCOPE}.file",
}
"""What may be asked for: all of Drive, reading alone, or only the files that this OAuth client has made."""

TOKEN = re.compile(r"[!-~]+")
"""What can be sent as a token."""
_KEYS: Mapping[str, tuple[str, ...]] = {
    "authorized_user": ("client_id", "client_secret", "refresh_token"),
    "service_account": ("client_email", "private_key", "token_uri"),
}
HOW = "run 'drivefs auth login', or give a credentials file with --credentials FILE"

Info = Mapping[str, Any]
"""A sign-in as Google's tools write it: `type` is authorized_user or service_account. Holds secrets."""


class Origin(Protocol):
    """Where one sign-in is kept, and may be renewed by the person or another process meanwhile."""

    @property
    def way_out(self) -> str:
        """What the person can do when the sign-in is over: the end of a sentence."""

    def read(self) -> Info:
        """The sign-in as it is now. Raises `SignInNeeded`."""

    def keep(self, info: Info, changes: Info) -> Info:
        """Note new tokens, `changes`, if `info` is still what is kept; returns what is kept now."""


class FileOrigin:
    """A credentials file of another tool's, which is read and never written."""

    def __init__(self, path: Path, way_out: str | None = None, *, subject: str | None = None) -> None:
        """`subject` is the person whom a service account stands in for."""
        self._path, self._subject = path, subject
        self._last: Info | None = None
        self.way_out = way_out or f"make {path} anew, or run 'drivefs auth login' and mount without --credentials"

    def read(self) -> Info:
        try:
            info = read_info(self._path)
        except SignInNeeded as error:
            if self._last is None:
                raise
            # Just being written, or no longer there: what was read from it may well work on.
            log.info("%s", error)
            return self._last
        if self._subject is not None and info.get("type") != "service_account":
            raise _bad(f"The credentials file {self._path}", "is of no service account, so --subject does not fit")
        self._last = info if self._subject is None else {**info, "subject": self._subject}
        return self._last

    def keep(self, info: Info, changes: Info) -> Info:
        return info

    def __str__(self) -> str:
        return f"The credentials file {self._path}"


def load_credentials(path: Path) -> google.auth.credentials.Credentials:
    """Credentials of an authorized-user or service-account file, whose `token_uri` is honoured.

    Raises `SignInNeeded` with one sentence for whatever is wrong with the file.
    """
    return Renewable(FileOrigin(path, HOW))


def scopes_to_ask(granted: object, *, read_only: bool) -> list[str]:
    """What a sign-in that names its scopes with each token asks for: all of Drive, where nothing else was `granted`;
    to read alone with `read_only`."""
    scopes = [str(scope) for scope in granted] if isinstance(granted, list) and granted else [DRIVE_SCOPE]
    return [SCOPES["readonly"] if read_only and scope == DRIVE_SCOPE else scope for scope in scopes]


def make_credentials(info: Info, source: object, *, read_only: bool = False) -> google.auth.credentials.Credentials:
    """Credentials of a sign-in. With `read_only` a service account's cannot write; what a person has granted to an
    OAuth client cannot be narrowed. Raises `SignInNeeded` with one sentence that begins with `source`."""
    kind = info.get("type")
    keys = _KEYS.get(kind if isinstance(kind, str) else "")
    if keys is None:
        raise _bad(source, "is neither an authorized-user nor a service-account file")
    missing = [key for key in keys if not isinstance(info.get(key), str) or not info[key]]
    if missing:
        raise _bad(source, f"lacks {' and '.join(missing)}")
    token_uri = info.get("token_uri")
    try:
        if kind == "service_account":
            service: google.auth.credentials.Credentials = (
                google.oauth2.service_account.Credentials.from_service_account_info(  # type: ignore[no-untyped-call]
                    info,
                    scopes=scopes_to_ask(info.get("granted_scopes"), read_only=read_only),
                    subject=info.get("subject"),
                )
            )
            return _private(service, token_uri, source)
        user = google.oauth2.credentials.Credentials.from_authorized_user_info(info)  # type: ignore[no-untyped-call]
        result: google.auth.credentials.Credentials = user.with_token_uri(token_uri) if token_uri else user
        result.token, result.expiry = user.token, user.expiry
        return _private(result, token_uri, source)
    except (ValueError, TypeError, AttributeError, google.auth.exceptions.GoogleAuthError):
        raise _bad(source, "holds values that make no sense") from None  # the cause may show a key


def _private(
    credentials: google.auth.credentials.Credentials, token_uri: object, source: object
) -> google.auth.credentials.Credentials:
    if token_uri and not is_private(token_uri):
        raise _bad(source, "would send its secrets to a token_uri that is not https")
    return credentials


def is_private(url: object) -> bool:
    """Whether secrets may be sent there: by https, or within this machine."""
    try:
        parts = urlsplit(url if isinstance(url, str) else "")
        return bool(parts.hostname) and (parts.scheme == "https" or is_loopback(parts.hostname))
    except ValueError:
        return False


def read_info(path: Path) -> Info:
    """A JSON object from a file, unchecked. Raises `SignInNeeded` with one sentence."""
    source = f"The credentials file {path}"
    try:
        info = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise _bad(source, "does not exist") from None
    except OSError as e:
        raise _bad(source, f"cannot be read ({e.strerror})") from e
    except (ValueError, RecursionError):
        raise _bad(source, "is not JSON") from None  # the cause holds the text
    if not isinstance(info, dict):
        raise _bad(source, "is not a JSON object")
    return info


def _bad(source: object, what: str) -> SignInNeeded:
    return SignInNeeded(f"{source} {what}: {HOW}.")


class Renewable(google.auth.credentials.Credentials):
    """Credentials that are read again where they are kept before they are given up: the person may have signed in
    again. What is kept in between by another process is used, and what is new is kept.

    Only one thread at a time refreshes them (`Authorizer`).
    """

    def __init__(self, origin: Origin, *, read_only: bool = False) -> None:
        """`read_only` as in `make_credentials`. Raises `SignInNeeded` with one sentence for whatever is wrong with
        the sign-in."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._origin, self._read_only = origin, read_only
        self._take(origin.read())

    def _take(self, info: Info) -> None:
        self._inner = make_credentials(info, self._origin, read_only=self._read_only)
        self._info = info
        self.token, self.expiry = self._inner.token, self._inner.expiry

    def __repr__(self) -> str:
        return "<Renewable>"

    @property
    def way_out(self) -> str:
        return self._origin.way_out

    @property
    def info(self) -> Info:
        """The sign-in as it was last read or kept. Holds secrets."""
        return self._info

    @property
    def granted_scopes(self) -> tuple[str, ...] | None:
        """As the token server told them with the last token; None when it has not."""
        granted = getattr(self._inner, "granted_scopes", None)
        return tuple(granted) if granted else None

    def refresh(self, request: google.auth.transport.Request) -> None:
        """A token other than the present one. Raises `SignInNeeded`, and what google-auth raises."""
        rejected, now = self.token, self._origin.read()
        if now != self._info:
            whose, before = now.get("account"), self._info.get("account")
            if whose and before and whose != before:
                raise SignInNeeded(
                    f"{self._origin} is now that of {whose}, and here it is used for the Drive of {before}: "
                    f"{self.way_out}."
                )
            self._take(now)
            if self.token_state is TokenState.FRESH and self.token != rejected:
                return
        self._inner.refresh(request)  # type: ignore[no-untyped-call]
        self.token, self.expiry = self._inner.token, self._inner.expiry
        self._info = self._origin.keep(self._info, self._changes())

    def _changes(self) -> Info:
        if self._info.get("type") != "authorized_user":
            return {}  # a service account makes its next token without the last one
        if not isinstance(self.token, str) or not TOKEN.fullmatch(self.token):
            return {}
        expiry = None if self.expiry is None else self.expiry.strftime("%Y-%m-%dT%H:%M:%SZ")
        refresh_token = getattr(self._inner, "refresh_token", None)  # some servers give a new one each time
        return {"token": self.token, "expiry": expiry, "refresh_token": refresh_token}

    def apply(self, headers: MutableMapping[str, str], token: str | None = None) -> None:
        """With the project that pays, where the sign-in names one."""
        self._inner.apply(headers, token)  # type: ignore[no-untyped-call]


class _Reply(google.auth.transport.Response):
    """A token endpoint's reply, in google-auth's shape."""

    def __init__(self, status: int, headers: Mapping[str, str], data: bytes) -> None:
        self._status, self._headers, self._data = status, headers, data

    @property
    def status(self) -> int:
        return self._status

    @property
    def headers(self) -> Mapping[str, str]:
        return self._headers

    @property
    def data(self) -> bytes:
        return self._data


class Requests(google.auth.transport.Request):
    """google-auth's requests, on our transport."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **kwargs: Any,
    ) -> _Reply:
        return _Reply(*self._transport.exchange(method, url, headers or {}, body, brief=True))


class Authorizer:
    """Signs requests with a token that is fresh. Safe for any number of threads."""

    def __init__(self, credentials: google.auth.credentials.Credentials, transport: Transport) -> None:
        self._credentials = credentials
        self._requests = Requests(transport)
        self._refreshing = threading.Lock()  # guards the refresh: one for all
        # Guarded by _refreshing:
        self._refreshes = 0
        self._failure: DriveError | SignInNeeded | None = None  # of the last one

    def sign(self, headers: MutableMapping[str, str]) -> str:
        """Put the token into `headers`, refreshed first when it is about to expire; returns the token.

        Raises `SignInNeeded` when the sign-in is over, `Unreachable` when that cannot be found out.
        """
        state = self._credentials.token_state
        if state is TokenState.INVALID:
            seen = self._refreshes
            with self._refreshing:
                if self._credentials.token_state is TokenState.INVALID:
                    self._refresh(seen)
        elif state is TokenState.STALE and self._refreshing.acquire(blocking=False):
            # The others go on with the old token meanwhile, and so do we when there is no new one yet.
            try:
                if self._credentials.token_state is TokenState.STALE:
                    self._refresh()
            except (DriveError, SignInNeeded):
                if self._credentials.token_state is TokenState.INVALID:
                    raise
            finally:
                self._refreshing.release()
        token = self._credentials.token
        if not isinstance(token, str) or not TOKEN.fullmatch(token):
            raise BadReply("The sign-in server's token cannot be sent.")  # whoever tried would show it
        self._credentials.apply(headers, token)  # type: ignore[no-untyped-call]
        return token

    @property
    def _way_out(self) -> str:
        return self._credentials.way_out if isinstance(self._credentials, Renewable) else HOW

    def not_taken(self) -> SignInNeeded:
        """What to raise when Drive takes a fresh token neither."""
        return SignInNeeded(f"Google Drive does not take the sign-in: {self._way_out}.")

    def renew(self, rejected: str) -> None:
        """Drive does not take the token `rejected`: get another, unless somebody has meanwhile."""
        seen = self._refreshes
        with self._refreshing:
            if self._credentials.token == rejected:
                self._refresh(seen)

    def _refresh(self, seen: int | None = None) -> None:
        """`seen`: how many there had been when the caller began to wait. One that failed meanwhile has failed for him
        too: where the sign-in server does not answer, each of many waits once and not in turn."""
        if seen is not None and seen != self._refreshes and self._failure is not None:
            raise self._failure
        self._failure = None
        try:
            self._ask()
        except (DriveError, SignInNeeded) as e:
            self._failure = e
            raise
        finally:
            self._refreshes += 1

    def _ask(self) -> None:
        try:
            self._credentials.refresh(self._requests)  # type: ignore[no-untyped-call]
        except google.auth.exceptions.RefreshError as e:
            if e.retryable:
                raise Unreachable("The sign-in server does not work now.") from None
            raise SignInNeeded(
                f"Google Drive no longer takes the sign-in ({_oauth_error(e)}): {self._way_out}."
            ) from None
        except google.auth.exceptions.GoogleAuthError as e:
            raise Unreachable(f"The sign-in server was not reached: {type(e).__name__}.") from None
        except (KeyError, ValueError, TypeError, AttributeError, OverflowError):
            # google-auth trusts the reply's form; what it stumbled over may hold a token.
            raise BadReply("The sign-in server's reply makes no sense.") from None


def _oauth_error(error: google.auth.exceptions.RefreshError) -> str:
    """OAuth's word for it, such as invalid_grant: expired or revoked."""
    for arg in error.args:
        word = arg.get("error") if isinstance(arg, dict) else None
        if isinstance(word, str) and word.isidentifier():
            return word
    return "no reason given"
