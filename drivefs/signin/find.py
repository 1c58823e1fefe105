"""Which sign-in a command uses: a file that was named, an account, or application default credentials."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import google.auth.credentials
import google.auth.exceptions

from drivefs.drive.auth import DRIVE_SCOPE, FileOrigin, Info, Renewable, Requests, scopes_to_ask
from drivefs.drive.http import Transport
from drivefs.errors import DriveError, SignInNeeded
from drivefs.signin.accounts import DEFAULT, AccountOrigin, Accounts, login_command

log = logging.getLogger(__name__)

_PRODUCT_NAME = Path("/sys/class/dmi/id/product_name")
_METADATA_S = 2.0
"""The metadata server of a virtual machine answers within milliseconds, or there is none."""

GCLOUD_LOGIN = (
    "gcloud auth application-default login "
    f"--scopes={DRIVE_SCOPE},https://www.googleapis.com/auth/cloud-platform --client-id-file=FILE"
)
"""Without the Drive scope, and a client of one's own, Google refuses what is asked of Drive."""


@dataclass(frozen=True, slots=True)
class Found:
    """A sign-in that can be used."""

    credentials: google.auth.credentials.Credentials
    label: str
    """The account's name, or where else it is from."""
    who: str
    """Whose Drive it is, as far as can be told without asking: stable when the sign-in is renewed."""
    endpoint: str | None = None
    """Root URL of the API that it is for; None: Google's."""

    @property
    def info(self) -> Info:
        """What is kept of it, secrets included; empty for a virtual machine's own."""
        return self.credentials.info if isinstance(self.credentials, Renewable) else {}

    @property
    def granted_scopes(self) -> tuple[str, ...]:
        """As they were when it was kept; empty when nobody knows."""
        scopes = self.info.get("granted_scopes")
        return tuple(str(scope) for scope in scopes) if isinstance(scopes, list) else ()

    @property
    def reads_only(self) -> bool:
        """Whether it is known that nothing can be written with it."""
        known = set(self.granted_scopes)
        return bool(known) and not {DRIVE_SCOPE, f"{DRIVE_SCOPE}.file"} & known


_COLAB = "COLAB_RELEASE_TAG"
"""Environment variable that Colab sets for the kernel and all below it."""


def find_sign_in(
    credentials: Path | None = None,
    account: str = DEFAULT,
    *,
    subject: str | None = None,
    read_only: bool = False,
    accounts: Accounts | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Found:
    """The file `credentials`, the account, or for the default account application default credentials: the file of
    GOOGLE_APPLICATION_CREDENTIALS, gcloud's, or the virtual machine's own. `subject` is the person whom a service
    account stands in for. With `read_only` nothing more is asked for than to read, where that is asked for now: what
    a person has granted before stays as it is. Raises `SignInNeeded`."""
    accounts = accounts or Accounts()
    if credentials is not None:
        return _of_file(credentials, None, subject, read_only)
    if accounts.file(account).exists():
        found = Renewable(AccountOrigin(accounts, account), read_only=read_only)
        email = found.info.get("account")
        endpoint = found.info.get("endpoint")
        who = f"{account}:{email}" if email else account
        return Found(found, account, who, endpoint if isinstance(endpoint, str) else None)
    if account != DEFAULT:
        raise SignInNeeded(f"There is no account {account}: '{login_command(account)}' signs in.")
    if theirs := environ.get("GOOGLE_APPLICATION_CREDENTIALS"):
        return _of_file(Path(theirs), None, subject, read_only)
    if (theirs_too := gcloud_file(environ)).exists():
        return _of_file(theirs_too, f"run 'drivefs auth login', or '{GCLOUD_LOGIN}'", subject, read_only)
    if _may_be_on_google(environ) and (machine := _of_this_machine(read_only)) is not None:
        return machine
    if environ.get(_COLAB):
        raise SignInNeeded(
            "Not signed in to Google Drive: run 'from google.colab import auth; auth.authenticate_user()' in a cell "
            "first, then this again; or 'import drivefs; drivefs.mount()', which does both."
        )
    raise SignInNeeded(
        "Not signed in to Google Drive: run 'drivefs auth login', or give a credentials file with --credentials FILE."
    )


def gcloud_file(environ: Mapping[str, str] = os.environ) -> Path:
    """Where gcloud keeps application default credentials, whether they are there or not."""
    folder = environ.get("CLOUDSDK_CONFIG")
    return (Path(folder) if folder else Path.home() / ".config" / "gcloud") / "application_default_credentials.json"


def _of_file(path: Path, way_out: str | None, subject: str | None, read_only: bool) -> Found:
    found = Renewable(FileOrigin(path, way_out, subject=subject), read_only=read_only)
    info = found.info
    # A service account's own address says whose Drive it is only where it stands in for nobody.
    email = info.get("subject") or info.get("client_email") or info.get("account")
    return Found(found, str(path), str(email) if email else str(path))


def _may_be_on_google(environ: Mapping[str, str]) -> bool:
    """Whether to ask for the metadata server at all: elsewhere the question takes seconds to go unanswered."""
    if environ.get("NO_GCE_CHECK", "").lower() == "true":
        return False
    if environ.get("GCE_METADATA_HOST") or environ.get("K_SERVICE"):
        return True
    try:
        return _PRODUCT_NAME.read_text().startswith("Google")
    except OSError:
        return False


def _of_this_machine(read_only: bool) -> Found | None:
    """What the metadata server gives to all that runs here; None when it gives nothing."""
    import google.auth.compute_engine  # noqa: PLC0415 - seldom needed

    transport = Transport(connect_timeout_s=_METADATA_S, stall_timeout_s=_METADATA_S)
    found = google.auth.compute_engine.Credentials(  # type: ignore[no-untyped-call]
        scopes=scopes_to_ask(None, read_only=read_only)
    )
    try:
        found.refresh(Requests(transport))  # type: ignore[no-untyped-call]
    except (google.auth.exceptions.GoogleAuthError, DriveError) as error:
        log.info("This machine has no sign-in of its own: %s", type(error).__name__)
        return None
    finally:
        transport.close()
    return Found(found, "this machine's service account", f"machine:{found.service_account_email}")
