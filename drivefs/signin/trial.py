"""A sign-in that is new here: tried on Drive once, then kept."""

from __future__ import annotations

import time
from typing import Any

from drivefs.drive.auth import Info, Renewable
from drivefs.errors import DriveError, SignInNeeded, UserError
from drivefs.model import About
from drivefs.signin.accounts import Accounts, login_command
from drivefs.signin.check import ask_about, granted_scopes, not_enabled
from drivefs.signin.consent import Client, Granted
from drivefs.signin.find import Found


class _Unkept:
    """A sign-in in memory (`drive.auth.Origin`)."""

    def __init__(self, info: Info, source: str, way_out: str) -> None:
        self.info, self._source, self.way_out = info, source, way_out

    def read(self) -> Info:
        return self.info

    def keep(self, info: Info, changes: Info) -> Info:
        self.info = {**self.info, **changes}
        return self.info

    def __str__(self) -> str:
        return self._source


def info_of(client: Client, granted: Granted) -> dict[str, Any]:
    """The sign-in of a person who has consented."""
    return {
        "type": "authorized_user",
        "client_id": client.client_id,
        "client_secret": client.client_secret,
        "auth_uri": client.auth_uri,
        "token_uri": client.token_uri,
        "refresh_token": granted.refresh_token,
        "token": granted.access_token,
        "expiry": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(granted.expires_s)),
        "granted_scopes": list(granted.scopes),
        **({"sign_in_ends_s": granted.sign_in_ends_s} if granted.sign_in_ends_s is not None else {}),
    }


def try_and_keep(
    accounts: Accounts, name: str, info: Info, source: str, *, endpoint: str | None = None, keyring: bool = False
) -> About:
    """Ask Drive whose sign-in it is, and keep it as the account's; `source` is what a sentence about it begins with.

    Raises SignInNeeded when it does not work, UserError when Drive cannot be asked or the account is someone else's.
    Then the account is as it was.
    """
    way_out = "sign in there again, or here with 'drivefs auth login'"
    if info.get("type") == "service_account":
        way_out = "make a new key for it in the Google Cloud console"
        if info.get("subject"):
            way_out += f", and let the domain's administrator allow it to stand in for {info['subject']}"
    origin = _Unkept(info, source, way_out)
    found = Found(Renewable(origin), name, name, endpoint)
    try:
        about = ask_about(found, endpoint)
    except DriveError as error:
        raise UserError(
            not_enabled(error)
            or f"Signed in, but Drive could not be asked whose it is ({str(error).rstrip('.')}): try again."
        ) from error
    if not about.email.isprintable():
        raise UserError("Drive's answer to the question whose it is makes no sense: check --endpoint.")
    before = _email(accounts, name)
    if before is not None and before != about.email:
        raise UserError(
            f"The account {name} is that of {before}, and this sign-in of {about.email}: keep it under another name "
            f"('{login_command('NAME')}'), or end the other one first with 'drivefs auth logout {name}'."
        )
    kept = {**origin.info, "account": about.email}
    if kept["type"] == "authorized_user" and (scopes := granted_scopes(found)):
        kept["granted_scopes"] = list(scopes)
    # An endpoint or keyring of the former sign-in is not taken over.
    for key, value in (("endpoint", endpoint), ("keyring", keyring)):
        kept.pop(key, None)
        if value:
            kept[key] = value
    accounts.put(name, kept)
    return about


def _email(accounts: Accounts, name: str) -> str | None:
    """Whose the account is; None when there is none, or none that can be read."""
    try:
        former = accounts.find(name)
    except SignInNeeded:
        return None
    email = former.get("account") if former is not None else None
    return email if isinstance(email, str) and email else None
