"""Credentials: where they are found, and an access token that is fresh.

Entered by every thread that calls Drive; a lock makes one refresh serve all who wait for it. Tokens and keys
are in no message, repr or log line of this module. Nothing is written to the disk.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

import google.auth.credentials
import google.auth.exceptions
import google.auth.transport
import google.oauth2.credentials
import google.oauth2.service_account
import platformdirs
from google.auth.credentials import TokenState

from drivefs.drive.http import Transport
from drivefs.errors import BadReply, DriveError, SignInNeeded, Unreachable

DRIVE_SCOPE = "https://www.googleapis.com/auth/drive"
_TOKEN = re.compile(r"[!-~]+")
_HOW = "run 'drivefs auth login', or give a credentials file with --credentials FILE"


def find_credentials_file(
    explicit: Path | None, account: str = "default", environ: Mapping[str, str] = os.environ
) -> Path:
    """Where the credentials are: `explicit`, DRIVEFS_CREDENTIALS, the account's own file, then
    GOOGLE_APPLICATION_CREDENTIALS. Raises `SignInNeeded` when there are none."""
    if explicit is not None:
        return explicit
    if ours := environ.get("DRIVEFS_CREDENTIALS"):
        return Path(ours)
    stored = account_file(account)
    if stored.exists():
        return stored
    if theirs := environ.get("GOOGLE_APPLICATION_CREDENTIALS"):
        return Path(theirs)
    raise SignInNeeded(f"Not signed in to Google Drive: {_HOW}.")


def account_file(account: str) -> Path:
    """Where a named account's credentials are kept."""
    return Path(platformdirs.user_config_dir("drivefs")) / "accounts" / f"{account}.json"


def load_credentials(path: Path) -> google.auth.credentials.Credentials:
    """Credentials of an authorized-user or service-account file, whose `token_uri` is honoured.

    Raises `SignInNeeded` with one sentence for whatever is wrong with the file.
    """
    info = _read(path)
    kind = info.get("type")
    keys = {
        "authorized_user": ("client_id", "client_secret", "refresh_token"),
        "service_account": ("client_email", "private_key", "token_uri"),
    }.get(kind if isinstance(kind, str) else "")
    if keys is None:
        raise _bad(path, "is neither an authorized-user nor a service-account file")
    missing = [key for key in keys if not isinstance(info.get(key), str) or not info[key]]
    if missing:
        raise _bad(path, f"lacks {' and '.join(missing)}")
    try:
        if kind == "service_account":
            service: google.auth.credentials.Credentials = (
                google.oauth2.service_account.Credentials.from_service_account_info(  # type: ignore[no-untyped-call]
                    info, scopes=[DRIVE_SCOPE]
                )
            )
            return service
        user = google.oauth2.credentials.Credentials.from_authorized_user_info(info)  # type: ignore[no-untyped-call]
        token_uri = info.get("token_uri")
        result: google.auth.credentials.Credentials = (
            user.with_token_uri(token_uri) if isinstance(token_uri, str) and token_uri else user
        )
        result.token, result.expiry = user.token, user.expiry
        return result
    except (ValueError, TypeError, AttributeError, google.auth.exceptions.GoogleAuthError):
        raise _bad(path, "holds values that make no sense") from None  # the cause may show a key


def _read(path: Path) -> dict[str, Any]:
    try:
        info = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise _bad(path, "does not exist") from None
    except OSError as e:
        raise _bad(path, f"cannot be read ({e.strerror})") from e
    except (ValueError, RecursionError):
        raise _bad(path, "is not JSON") from None  # the cause holds the text
    if not isinstance(info, dict):
        raise _bad(path, "is not a JSON object")
    return info


def _bad(path: Path, what: str) -> SignInNeeded:
    return SignInNeeded(f"The credentials file {path} {what}: {_HOW}.")


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


class _Requests(google.auth.transport.Request):
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
        return _Reply(*self._transport.exchange(method, url, headers or {}, body))


class Authorizer:
    """Signs requests with a token that is fresh. Safe for any number of threads."""

    def __init__(self, credentials: google.auth.credentials.Credentials, transport: Transport) -> None:
        self._credentials = credentials
        self._requests = _Requests(transport)
        self._refreshing = threading.Lock()  # guards the refresh: one for all

    def sign(self, headers: MutableMapping[str, str]) -> str:
        """Put the token into `headers`, refreshed first when it is about to expire; returns the token.

        Raises `SignInNeeded` when the sign-in is over, `Unreachable` when that cannot be found out.
        """
        state = self._credentials.token_state
        if state is TokenState.INVALID:
            with self._refreshing:
                if self._credentials.token_state is TokenState.INVALID:
                    self._refresh()
        elif state is TokenState.STALE and self._refreshing.acquire(blocking=False):
            # The others go on with the old token meanwhile, and so do we when there is no new one yet.
            try:
                if self._credentials.token_state is TokenState.STALE:
                    self._refresh()
            except DriveError:
                if self._credentials.token_state is TokenState.INVALID:
                    raise
            finally:
                self._refreshing.release()
        token = self._credentials.token
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):
            raise BadReply("The sign-in server's token cannot be sent.")  # whoever tried would show it
        self._credentials.apply(headers, token)  # type: ignore[no-untyped-call]
        return token

    def renew(self, rejected: str) -> None:
        """Drive does not take the token `rejected`: get another, unless somebody has meanwhile."""
        with self._refreshing:
            if self._credentials.token == rejected:
                self._refresh()

    def _refresh(self) -> None:
        try:
            self._credentials.refresh(self._requests)  # type: ignore[no-untyped-call]
        except google.auth.exceptions.RefreshError as e:
            if e.retryable:
                raise Unreachable("The sign-in server does not work now.") from None
            raise SignInNeeded(f"Google Drive no longer takes the sign-in ({_oauth_error(e)}): {_HOW}.") from None
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
