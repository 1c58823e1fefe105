"""auth: sign in, take over another program's sign-in, look at what there is, sign out.

`auth status --json` prints one object:
  accounts     a list:
    account           its name, or where the sign-in is from
    kind              user, service-account, machine (a virtual machine's own)
    email, subject    whose it is, and whom a service account stands in for
    scopes            as granted
    token_expires     of the access token, which is renewed by itself (seconds since the epoch)
    sign_in_ends      when the person has to sign in again, where that is known (seconds since the epoch)
    quota             {limit_bytes, usage_bytes}; limit_bytes is null where there is none
    mountpoints       running mounts that use it
    warnings          what will break, in sentences
    error             why it does not work; null when it does
"""

from __future__ import annotations

import json
import time
from typing import Any

import click

from drivefs.cli.login import endpoint_option, former_sign_in, import_, login, settings_of
from drivefs.cli.progress import size_text
from drivefs.drive.auth import SCOPES
from drivefs.errors import DriveError, SignInNeeded, UserError
from drivefs.mounts import running
from drivefs.signin.accounts import Accounts, login_command
from drivefs.signin.check import Checked, check, revoke
from drivefs.signin.find import Found, find_sign_in


@click.group()
def auth() -> None:
    """Sign in to Google Drive, and out."""


auth.add_command(login)
auth.add_command(import_)


# --- status ---


@auth.command()
@click.argument("account", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one object.")
@endpoint_option
def status(account: str | None, as_json: bool, endpoint: str | None) -> None:
    """Try the sign-ins, and tell whose they are, what they may, and what will break.

    Ends with 4 when one of them is over, with 1 when one could not be tried.
    """
    settings = settings_of(account, endpoint)
    names = Accounts().names() if account is None else [settings.account]
    results = [_checked(name, settings.endpoint) for name in names or [settings.account]]
    mounts = [(one.record.account, str(one.record.mountpoint)) for one in running()]
    if as_json:
        click.echo(json.dumps({"accounts": [_as_json(result, mounts) for result in results]}))
    else:
        for result in results:
            _show(result, [path for label, path in mounts if label == result.label])
    if any(result.sign_in_needed for result in results):
        raise click.exceptions.Exit(SignInNeeded.exit_code)
    if any(result.error for result in results):
        raise click.exceptions.Exit(UserError.exit_code)


def _checked(name: str, endpoint: str | None) -> Checked:
    try:
        found = find_sign_in(None, name)
    except SignInNeeded as error:
        if not Accounts().file(name).exists():
            raise
        # One that cannot be read, among others that can.
        return Checked(name, "user", None, None, (), None, None, None, (), str(error), True)
    return check(found, endpoint)


def _as_json(result: Checked, mounts: list[tuple[str, str]]) -> dict[str, Any]:
    about = result.about
    return {
        "account": result.label,
        "kind": result.kind,
        "email": result.email,
        "subject": result.subject,
        "scopes": list(result.scopes),
        "token_expires": result.token_expires_s,
        "sign_in_ends": result.sign_in_ends_s,
        "quota": {"limit_bytes": about.limit_bytes, "usage_bytes": about.usage_bytes} if about else None,
        "mountpoints": [path for label, path in mounts if label == result.label],
        "warnings": list(result.warnings),
        "error": result.error,
    }


def _show(result: Checked, mountpoints: list[str]) -> None:
    kind = {"service-account": ", a service account", "machine": ", this machine's own"}.get(result.kind, "")
    subject = f" for {result.subject}" if result.subject and result.subject != result.email else ""
    click.echo(f"{result.label}: {result.email or 'unknown'}{subject}{kind}")
    names = {scope: name for name, scope in SCOPES.items()}
    if result.scopes:
        click.echo(f"  Scopes     {', '.join(names.get(scope, scope) for scope in result.scopes)}")
    if result.sign_in_ends_s is not None:
        click.echo(f"  Ends       {_when(result.sign_in_ends_s)}")
    if result.token_expires_s is not None and result.error is None:
        click.echo(f"  Token      until {_when(result.token_expires_s)}, then renewed by itself")
    if result.about is not None:
        limit = result.about.limit_bytes
        of = "without a limit" if limit is None else f"of {size_text(limit)}"
        click.echo(f"  Drive      {size_text(result.about.usage_bytes)} {of} used")
    for path in mountpoints:
        click.echo(f"  Mounted    {path}")
    for warning in result.warnings:
        click.echo(f"  Warning    {warning}")
    if result.error is not None:
        click.echo(f"  Error      {result.error}")


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


# --- logout ---


@auth.command()
@click.argument("account", required=False)
@click.option("--local", is_flag=True, help="Only forget it here; it stays good where it has been copied to.")
def logout(account: str | None, local: bool) -> None:
    """Take the sign-in back, so that it is good for nothing any more, and forget it.

    What waits for Drive stays in the cache, and goes on after the next sign-in of the same person.
    """
    name = settings_of(account, None).account
    accounts = Accounts()
    if not accounts.file(name).exists():
        raise UserError(f"There is no account {name}: 'drivefs auth status' lists what there is.")
    ended = []
    if not local:
        ended = _sharing(accounts, name)
        _take_back(name)
    accounts.remove(name)
    mounts = [str(one.record.mountpoint) for one in running() if one.record.account == name]
    if ended:
        click.echo(f"With it has ended what is of the same person and OAuth client: {', '.join(ended)}.")
    waits = f" What is written in {', '.join(mounts)} waits until '{login_command(name)}'." if mounts else ""
    click.echo(f"Signed out: the account {name} is {'forgotten' if local else 'taken back and forgotten'}.{waits}")


def _sharing(accounts: Accounts, name: str) -> list[str]:
    """Other accounts of the same person by the same OAuth client: these are taken back together."""

    def grant(account: str) -> tuple[Any, Any]:
        info = former_sign_in(accounts, account)
        return info.get("account"), info.get("client_id")

    mine = grant(name)
    return [other for other in accounts.names() if other != name and None not in mine and grant(other) == mine]


def _take_back(name: str) -> None:
    try:
        found: Found = find_sign_in(None, name)
        revoke(found)
    except (DriveError, SignInNeeded) as error:
        raise UserError(
            f"The sign-in could not be taken back ({str(error).rstrip('.')}): try again, or forget it here alone "
            "with --local."
        ) from error
