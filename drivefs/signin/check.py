"""What a sign-in is worth: asked of Drive and of the token server, with what will break, in words."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC
from pathlib import Path
from urllib.parse import urlencode, urlsplit

from drivefs.drive.auth import DRIVE_SCOPE, Renewable
from drivefs.drive.google import GoogleDrive
from drivefs.drive.http import Transport
from drivefs.errors import DriveError, Refused, SignInNeeded
from drivefs.model import About
from drivefs.signin.find import GCLOUD_LOGIN, Found

_GCLOUD_CLIENT = "764086051850-"
"""The project of the OAuth client that gcloud uses when it is given none."""
_PATIENCE_S = 10.0
_SOON_S = 30 * 86_400.0
_FULL = 0.98
"""Of the quota: beyond it the next checkpoint may not fit."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found out about a sign-in."""

    label: str
    kind: str
    """user, service-account or machine."""
    email: str | None
    subject: str | None
    scopes: tuple[str, ...]
    """As granted; empty when nobody tells."""
    token_expires_s: float | None
    sign_in_ends_s: float | None
    """When the person has to sign in again, where that is known."""
    about: About | None
    warnings: tuple[str, ...]
    error: str | None
    """Why it does not work, in one sentence with a way out; None when it does."""
    sign_in_needed: bool


def ask_about(found: Found, endpoint: str | None) -> About:
    """Whose Drive it is and how full. Raises SignInNeeded, and DriveError when Drive does not answer."""
    drive = GoogleDrive(
        found.credentials,
        endpoint=endpoint or found.endpoint,
        connect_timeout_s=_PATIENCE_S,
        stall_timeout_s=_PATIENCE_S,
        patience_s=_PATIENCE_S / 2,
    )
    try:
        return drive.about()
    finally:
        drive.close()


def not_enabled(error: DriveError) -> str | None:
    """The sentence for a project in which the Drive API is switched off; None when it is something else."""
    if isinstance(error, Refused) and error.reason in ("accessNotConfigured", "SERVICE_DISABLED"):
        return (
            "The Google Drive API is not enabled in the project of the OAuth client: enable it at "
            "https://console.cloud.google.com/apis/library/drive.googleapis.com, and try again after a minute."
        )
    return None


def check(found: Found, endpoint: str | None) -> Checked:
    """Use the sign-in once, and tell. Nothing is raised for a sign-in that does not work."""
    about, error, needed = None, None, False
    scopes: tuple[str, ...] = ()
    try:
        about = ask_about(found, endpoint)
        scopes = granted_scopes(found)
    except SignInNeeded as refused:
        error, needed = str(refused), True
    except DriveError as failed:
        error = not_enabled(failed) or f"Drive could not be asked ({str(failed).rstrip('.')}): try again."
    info = found.info
    ends_s = info.get("sign_in_ends_s")
    expiry = found.credentials.expiry
    kind = {"authorized_user": "user", "service_account": "service-account"}.get(str(info.get("type")), "machine")
    result = Checked(
        label=found.label,
        kind=kind,
        email=(about.email if about is not None else None) or info.get("account") or info.get("client_email"),
        subject=info.get("subject"),
        scopes=scopes or found.granted_scopes,
        token_expires_s=None if expiry is None else expiry.replace(tzinfo=UTC).timestamp(),
        sign_in_ends_s=float(ends_s) if isinstance(ends_s, int | float) else None,
        about=about,
        warnings=(),
        error=error,
        sign_in_needed=needed,
    )
    return replace(result, warnings=tuple(_warnings(found, result)))


def granted_scopes(found: Found) -> tuple[str, ...]:
    """As the token server knows them: google-auth ignores what was asked for (drive-api: Sign-in)."""
    transport = Transport(connect_timeout_s=_PATIENCE_S, stall_timeout_s=_PATIENCE_S)
    try:
        query = urlencode({"access_token": found.credentials.token})
        status, _, body = transport.exchange("GET", f"{_beside(found, 'tokeninfo')}?{query}", {})
        told = json.loads(body)["scope"] if status == 200 else None
    except (DriveError, ValueError, KeyError, TypeError):
        told = None  # not every server has it
    finally:
        transport.close()
    if isinstance(told, str):
        return tuple(told.split())
    credentials = found.credentials
    return (credentials.granted_scopes or ()) if isinstance(credentials, Renewable) else ()


def _beside(found: Found, name: str) -> str:
    """The address of another endpoint of the sign-in's token server."""
    token_uri = found.info.get("token_uri")
    token_uri = token_uri if isinstance(token_uri, str) else ""
    host = urlsplit(token_uri).hostname or "googleapis.com"
    if f".{host}".endswith((".googleapis.com", ".google.com")):
        return f"https://oauth2.googleapis.com/{name}"
    return f"{token_uri.rpartition('/')[0]}/{name}"


def revoke(found: Found) -> None:
    """Take the sign-in back at the token server; one that is over already is no error. Raises DriveError."""
    token = found.info.get("refresh_token")
    if not isinstance(token, str):
        return  # a service account's key is taken back in the console only
    transport = Transport(connect_timeout_s=_PATIENCE_S, stall_timeout_s=_PATIENCE_S)
    headers = {"content-type": "application/x-www-form-urlencoded"}
    try:
        status, _, body = transport.exchange(
            "POST", _beside(found, "revoke"), headers, urlencode({"token": token}).encode()
        )
    finally:
        transport.close()
    if status != 200 and b"invalid_token" not in body:
        raise Refused(f"The sign-in server does not take the sign-in back (status {status}).", status=status)


def _warnings(found: Found, checked: Checked) -> Iterator[str]:
    again = f": {found.credentials.way_out}" if isinstance(found.credentials, Renewable) else ""
    ends_s = checked.sign_in_ends_s
    if ends_s is not None and ends_s - time.time() < _SOON_S:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(ends_s))
        yield (
            f"This sign-in ends on {when}, for its OAuth app is in 'Testing': publish the app on its consent screen "
            f"in the Google Cloud console, then sign in again{again}."
        )
    names = {scope.rpartition("/")[2] for scope in checked.scopes if scope.startswith(DRIVE_SCOPE)}
    if checked.scopes and not names:
        way = f"'{GCLOUD_LOGIN}'" if "application_default" in found.label else "sign in anew"
        yield f"Drive is not among the granted scopes: {way}."
    elif names and "drive" not in names:
        if "drive.file" in names:
            yield "Only files that this OAuth client has made can be seen: --scope full at the sign-in shows all."
        else:
            yield "Drive can only be read: mount with --read-only, or sign in with --scope full."
    if checked.kind != "user" and not checked.subject and checked.about and checked.about.limit_bytes == 0:
        yield (
            "A service account owns no storage, so nothing new can be written to its My Drive: let it stand in for a "
            "person with --subject EMAIL, or mount a folder of a shared drive with --root."
        )
    if str(found.info.get("client_id", "")).startswith(_GCLOUD_CLIENT):
        yield (
            "This is gcloud's own OAuth client, to which Google gives no or little access to Drive: "
            f"'{GCLOUD_LOGIN}' uses one of your own."
        )
    about = checked.about
    if about is not None and about.limit_bytes and about.usage_bytes >= _FULL * about.limit_bytes:
        yield "Drive is as good as full: make room, or uploads will wait."
    file = Path(found.label)
    if file.is_absolute() and file.exists() and file.stat().st_mode & 0o077:
        yield f"Other users may read {file}: 'chmod 600 {file}' keeps it to yourself."
