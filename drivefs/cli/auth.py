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
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import platformdirs

from drivefs.cli.progress import size_text
from drivefs.config import Settings, config_file, load_settings
from drivefs.drive.auth import SCOPES, Info, read_info
from drivefs.drive.http import Transport
from drivefs.errors import DriveError, SignInNeeded, UsageError, UserError
from drivefs.mounts import running
from drivefs.signin.accounts import Accounts, config_folder, login_command, write_private
from drivefs.signin.check import Checked, check, revoke
from drivefs.signin.consent import (
    HEADLESS_REDIRECT,
    HOW_TO_GET_A_CLIENT,
    Client,
    Consent,
    Granted,
    Loopback,
    find_client,
    pasted_query,
    read_client,
)
from drivefs.signin.find import Found, find_sign_in, gcloud_file
from drivefs.signin.foreign import read_foreign, usual_places
from drivefs.signin.trial import info_of, try_and_keep


@click.group()
def auth() -> None:
    """Sign in to Google Drive, and out."""


_endpoint = click.option("--endpoint", metavar="URL", help="Another server of the Drive API than Google's.")
_keyring = click.option(
    "--keyring", is_flag=True, help="Keep the secrets in the desktop's keyring (needs drivefs[keyring])."
)


def _settings(account: str | None, endpoint: str | None) -> Settings:
    """Account and endpoint as `mount` would find them."""
    return load_settings(Path("/"), {"account": account, "endpoint": endpoint}, os.environ, config_file())


# --- login ---


@auth.command()
@click.argument("account", required=False)
@click.option(
    "--client-secrets",
    type=click.Path(path_type=Path),
    envvar="DRIVEFS_CLIENT_SECRETS",
    help="The OAuth client's JSON; needed the first time only.",
)
@click.option("--scope", type=click.Choice(list(SCOPES)), default="full", show_default=True, help="What may be done.")
@click.option("--headless", is_flag=True, help="Without a browser here: open a link anywhere, paste what comes back.")
@click.option("--login-hint", metavar="EMAIL", help="Whom the sign-in page is to offer.")
@click.option("--service-account", type=click.Path(path_type=Path), help="Take this key, and ask nobody.")
@click.option("--subject", metavar="EMAIL", help="Whom the service account stands in for.")
@click.option(
    "--timeout", type=click.FloatRange(min=0), default=600.0, show_default=True, help="Seconds for the browser."
)
@_keyring
@_endpoint
def login(
    account: str | None,
    client_secrets: Path | None,
    scope: str,
    headless: bool,
    login_hint: str | None,
    service_account: Path | None,
    subject: str | None,
    timeout: float,
    keyring: bool,
    endpoint: str | None,
) -> None:
    """Sign in in the browser, as ACCOUNT (default: default).

    The sign-in is kept for this user alone, and `drivefs mount --account ACCOUNT` uses it. A mount whose sign-in has
    ended goes on by itself.
    """
    settings = _settings(account, endpoint)
    name = settings.account
    accounts = Accounts()
    if service_account is not None:
        info: Info = {**read_info(service_account), "granted_scopes": [SCOPES[scope]]}
        if info.get("type") != "service_account":
            raise UsageError(f"{service_account} is not the JSON key of a service account.")
        if subject is not None:
            info = {**info, "subject": subject}
        source = f"The key {service_account}"
    else:
        if subject is not None:
            raise UsageError("--subject goes with --service-account.")
        former = _former(accounts, name)
        client = _client(client_secrets, former)
        hint = login_hint or former.get("account")
        ask = _ask_by_paste if headless else _ask_in_browser
        info, source = info_of(client, ask(client, SCOPES[scope], hint, timeout)), "The new sign-in"
        if client_secrets is not None:
            _keep_client(client)
    about = try_and_keep(accounts, name, info, source, endpoint=settings.endpoint, keyring=keyring)
    _say_signed_in(name, about.email)


def _former(accounts: Accounts, name: str) -> Info:
    """The account's sign-in before; empty when there is none that can be read."""
    try:
        return accounts.find(name) or {}
    except SignInNeeded:
        return {}


def _client_file() -> Path:
    return config_folder() / "client_secrets.json"


def _client(file: Path | None, former: Info) -> Client:
    if file is not None:
        return read_client(file)
    # What another program has signed in with need not be a client of the person's own: then it has no auth_uri.
    known = find_client(former) if former.get("auth_uri") else None
    if known is not None:
        return known
    if _client_file().exists():
        return read_client(_client_file())
    raise SignInNeeded(f"{HOW_TO_GET_A_CLIENT}.")


def _keep_client(client: Client) -> None:
    """For the next sign-in."""
    config_folder().mkdir(parents=True, exist_ok=True, mode=0o700)
    words = {name: getattr(client, name) for name in ("client_id", "client_secret", "auth_uri", "token_uri")}
    write_private(_client_file(), {"installed": words})


def _ask_in_browser(client: Client, scope: str, hint: str | None, timeout_s: float) -> Granted:
    with Loopback() as loopback:
        consent = Consent(client, scope, loopback.redirect_uri, hint)
        click.echo(f"Sign in in the browser; if none opens, with this link:\n\n  {consent.link}\n", err=True)
        _open_browser(consent.link)
        query = loopback.wait(consent, timeout_s)
    return _exchanged(consent, query)


def _open_browser(link: str) -> None:
    """Best effort, beside us: some browsers do not return before they are closed."""
    if not any(os.environ.get(name) for name in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY")):
        click.echo("There is no desktop here: where that is another machine's browser, use --headless.", err=True)
        return
    process = subprocess.Popen(
        # The link goes by the pipe, so that no list of processes shows it on our behalf.
        [sys.executable, "-P", "-c", "import sys, webbrowser; webbrowser.open(sys.stdin.read())"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdin is not None
    with process.stdin as stdin:
        stdin.write(link.encode())


def _ask_by_paste(client: Client, scope: str, hint: str | None, timeout_s: float) -> Granted:
    consent = Consent(client, scope, HEADLESS_REDIRECT, hint)
    click.echo(
        f"Open this link in any browser, and sign in:\n\n  {consent.link}\n\nThe browser ends on a page that it "
        "cannot load. Paste the address of that page here, all of it:",
        err=True,
    )
    text = sys.stdin.readline()
    if not text.strip():
        raise SignInNeeded("Nothing was pasted: run it again, and paste the address that the browser ends on.")
    return _exchanged(consent, pasted_query(text))


def _exchanged(consent: Consent, query: str) -> Granted:
    code = consent.code(query)
    transport = Transport()
    try:
        return consent.exchange(code, transport)
    except DriveError as error:
        raise UserError(f"The sign-in server does not answer ({str(error).rstrip('.')}): try again.") from error
    finally:
        transport.close()


def _say_signed_in(name: str, email: str) -> None:
    option = "" if name == "default" else f" --account {name}"
    told = _tell_mounts(name)
    then = f"{', '.join(told)} goes on" if told else f"'drivefs mount{option} FOLDER' mounts its Drive"
    click.echo(f"Signed in as {email} (account {name}): {then}.")


def _tell_mounts(name: str) -> list[str]:
    """Let running mounts of the account try again now; which they are."""
    told = []
    for one in running():
        if one.record.account == name:
            try:
                one.client.ask("signed-in")
            except UserError:
                continue  # it is ending; else it looks again by itself, within a minute
            told.append(str(one.record.mountpoint))
    return told


# --- import ---


@auth.command("import")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--account", metavar="NAME", help="Under which name to keep it (default: default).")
@click.option("--remote", metavar="NAME", help="Which of rclone's remotes.")
@_keyring
@_endpoint
def import_(file: Path | None, account: str | None, remote: str | None, keyring: bool, endpoint: str | None) -> None:
    """Take over the sign-in of another program, whose FILE is not changed.

    FILE is rclone.conf, PyDrive's mycreds.txt or settings.yaml, a folder of google-drive-ocamlfuse (~/.gdfuse/LABEL),
    or gcloud's application_default_credentials.json. Without it the usual places are looked through.
    """
    settings = _settings(account, endpoint)
    imported = read_foreign(file.expanduser() if file is not None else _only_usual_place(), remote)
    about = try_and_keep(
        Accounts(),
        settings.account,
        imported.info,
        f"The sign-in in {imported.source}",
        endpoint=settings.endpoint,
        keyring=keyring,
    )
    _say_signed_in(settings.account, about.email)
    if imported.root is not None:
        click.echo(f"It was set to one folder there: 'drivefs mount --root {imported.root}' mounts that alone.")


def _only_usual_place() -> Path:
    named = os.environ.get("RCLONE_CONFIG")
    rclone = Path(named) if named else Path(platformdirs.user_config_dir("rclone")) / "rclone.conf"
    found = list(usual_places(Path.home(), gcloud_file(), rclone))
    if not found:
        raise UserError(
            "No other program's sign-in was found in the usual places: name its file, or run 'drivefs auth login'."
        )
    if len(found) > 1:
        raise UsageError(f"There are several, name one: {', '.join(map(str, found))}.")
    return found[0]


# --- status ---


@auth.command()
@click.argument("account", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one object.")
@_endpoint
def status(account: str | None, as_json: bool, endpoint: str | None) -> None:
    """Try the sign-ins, and tell whose they are, what they may, and what will break.

    Ends with 4 when one of them is over, with 1 when one could not be tried.
    """
    settings = _settings(account, endpoint)
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
    name = _settings(account, None).account
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
        info = _former(accounts, account)
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
