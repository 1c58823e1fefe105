"""auth login and auth import: the two ways to a sign-in that is kept."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import platformdirs

from drivefs.config import Settings, config_file, load_settings
from drivefs.drive.auth import SCOPES, Info, read_info
from drivefs.drive.http import Transport
from drivefs.errors import DriveError, SignInNeeded, UsageError, UserError
from drivefs.mounts import running
from drivefs.signin.accounts import DEFAULT, Accounts, config_folder, write_private
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
from drivefs.signin.find import find_sign_in, gcloud_file
from drivefs.signin.foreign import read_foreign, usual_places
from drivefs.signin.trial import info_of, try_and_keep

endpoint_option = click.option("--endpoint", metavar="URL", help="Another server of the Drive API than Google's.")
keyring_option = click.option(
    "--keyring", is_flag=True, help="Keep the secrets in the desktop's keyring (needs drivefs[keyring])."
)


def settings_of(account: str | None, endpoint: str | None) -> Settings:
    """Account and endpoint as `mount` would find them."""
    return load_settings(Path("/"), {"account": account, "endpoint": endpoint}, os.environ, config_file())


# --- login ---


@click.command()
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
@keyring_option
@endpoint_option
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
    settings = settings_of(account, endpoint)
    name = settings.account
    accounts = Accounts()
    if service_account is not None:
        if not service_account.is_file():
            raise UsageError(f"There is no file {service_account}: name the JSON key of a service account.")
        info: Info = {**read_info(service_account), "granted_scopes": [SCOPES[scope]]}
        if info.get("type") != "service_account":
            raise UsageError(f"{service_account} is not the JSON key of a service account.")
        if subject is not None:
            info = {**info, "subject": subject}
        source = f"The key {service_account}"
    else:
        if subject is not None:
            raise UsageError("--subject goes with --service-account.")
        former = former_sign_in(accounts, name)
        client = _client(client_secrets, former)
        hint = login_hint or former.get("account")
        ask = _ask_by_paste if headless else _ask_in_browser
        info, source = info_of(client, ask(client, SCOPES[scope], hint, timeout)), "The new sign-in"
        if client_secrets is not None:
            _keep_client(client)
    about = try_and_keep(accounts, name, info, source, endpoint=settings.endpoint, keyring=keyring)
    _say_signed_in(name, about.email)


def former_sign_in(accounts: Accounts, name: str) -> Info:
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
    option = "" if name == DEFAULT else f" --account {name}"
    option += " --read-only" if find_sign_in(account=name).reads_only else ""
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


@click.command("import")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--account", metavar="NAME", help="Under which name to keep it (default: default).")
@click.option("--remote", metavar="NAME", help="Which of rclone's remotes.")
@keyring_option
@endpoint_option
def import_(file: Path | None, account: str | None, remote: str | None, keyring: bool, endpoint: str | None) -> None:
    """Take over the sign-in of another program, whose FILE is not changed.

    FILE is rclone.conf, PyDrive's mycreds.txt or settings.yaml, a folder of google-drive-ocamlfuse (~/.gdfuse/LABEL),
    or gcloud's application_default_credentials.json. Without it the usual places are looked through.
    """
    settings = settings_of(account, endpoint)
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
