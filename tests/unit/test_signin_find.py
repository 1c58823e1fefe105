"""signin.find: which sign-in a command uses."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import platformdirs
import pytest

from drivefs.config import Settings
from drivefs.errors import SignInNeeded
from drivefs.first_contact import default_cache_folder
from drivefs.signin.accounts import Accounts
from drivefs.signin.find import find_sign_in

NOWHERE = {"NO_GCE_CHECK": "true", "CLOUDSDK_CONFIG": "/nowhere"}


def info(email: str) -> dict[str, object]:
    user = {"type": "authorized_user", "client_id": "i", "client_secret": "s", "refresh_token": "r"}
    return {**user, "account": email}


def written(path: Path, email: str) -> Path:
    path.write_text(json.dumps(info(email)))
    return path


def test_sign_in_is_found_in_order(tmp_path: Path) -> None:
    accounts = Accounts(tmp_path / "accounts")
    explicit, theirs = written(tmp_path / "explicit", "explicit@x"), written(tmp_path / "theirs", "theirs@x")
    gcloud = written(tmp_path / "application_default_credentials.json", "gcloud@x")
    environ = {**NOWHERE, "GOOGLE_APPLICATION_CREDENTIALS": str(theirs), "CLOUDSDK_CONFIG": str(tmp_path)}
    assert find_sign_in(explicit, accounts=accounts, environ=environ).who == "explicit@x"
    assert find_sign_in(accounts=accounts, environ=environ).label == str(theirs)
    del environ["GOOGLE_APPLICATION_CREDENTIALS"]
    assert find_sign_in(accounts=accounts, environ=environ).label == str(gcloud)
    accounts.put("default", {**info("stored@x"), "endpoint": "http://127.0.0.1:1/"})
    found = find_sign_in(accounts=accounts, environ=environ)
    assert (found.label, found.who, found.endpoint) == ("default", "default:stored@x", "http://127.0.0.1:1/")


def test_sign_in_of_a_named_account_is_never_another(tmp_path: Path) -> None:
    theirs = written(tmp_path / "theirs", "theirs@x")
    environ = {**NOWHERE, "GOOGLE_APPLICATION_CREDENTIALS": str(theirs)}
    with pytest.raises(SignInNeeded, match="drivefs auth login work"):
        find_sign_in(None, "work", accounts=Accounts(tmp_path / "accounts"), environ=environ)


def test_sign_in_that_is_nowhere_asks_for_one(tmp_path: Path) -> None:
    with pytest.raises(SignInNeeded, match="drivefs auth login"):
        find_sign_in(accounts=Accounts(tmp_path), environ=NOWHERE)


@pytest.mark.parametrize(
    ("scopes", "reads_only"),
    [(["drive"], False), (["drive.file"], False), (["drive.readonly"], True), (None, False), (5, False)],
)
def test_sign_in_knows_that_it_may_only_read(tmp_path: Path, scopes: object, reads_only: bool) -> None:
    accounts = Accounts(tmp_path / "accounts")
    if isinstance(scopes, list):
        scopes = [f"https://www.googleapis.com/auth/{scope}" for scope in scopes]
    accounts.put("default", {**info("a@x"), "granted_scopes": scopes})
    assert find_sign_in(accounts=accounts, environ=NOWHERE).reads_only is reads_only


@pytest.mark.parametrize("who", ["..", ".", "a/..", "default:../../x", "x\n", "é/" + "y" * 300, ""])
def test_cache_folder_of_any_sign_in_is_one_below_the_users_own(who: str) -> None:
    settings = Settings(mountpoint=Path("/mnt"))
    folder = default_cache_folder(settings, who)
    top = Path(platformdirs.user_cache_dir("drivefs"))
    assert folder.parent == top and folder.name not in ("", ".", "..") and len(folder.name) < 200
    assert folder != default_cache_folder(settings, f"{who}2")


# --- a virtual machine of Google's ---


class _Metadata(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        has_account = self.headers["Metadata-Flavor"] == "Google" and self.server.server_name != "none"
        path = self.path.partition("?")[0].rstrip("/")
        if path.endswith("/token"):
            body = {"access_token": "machine-t0ken", "expires_in": 3600, "token_type": "Bearer"}
        elif path.endswith(("/default", "robot@x")):
            body = {"email": "robot@x", "scopes": ["https://www.googleapis.com/auth/drive"], "aliases": ["default"]}
        else:
            has_account = False
            body = {}
        data = json.dumps(body).encode()
        self.send_response(200 if has_account else 404)
        self.send_header("Metadata-Flavor", "Google")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Not on the terminal."""


@pytest.fixture
def metadata_server() -> Iterator[http.server.HTTPServer]:
    with http.server.HTTPServer(("127.0.0.1", 0), _Metadata) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


_ASK = """
from drivefs.signin.find import find_sign_in
found = find_sign_in()
print(found.label, found.who, found.credentials.token)
"""


def _ask(home: Path, host: str) -> subprocess.CompletedProcess[str]:
    """google-auth reads the server's address once a process."""
    plain = {name: value for name, value in os.environ.items() if name not in ("NO_GCE_CHECK", "CLOUDSDK_CONFIG")}
    return subprocess.run(
        [sys.executable, "-c", _ASK],
        env={**plain, "HOME": str(home), "GCE_METADATA_HOST": host, "GCE_METADATA_IP": host},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_sign_in_of_a_virtual_machine_is_used(tmp_path: Path, metadata_server: http.server.HTTPServer) -> None:
    done = _ask(tmp_path, f"127.0.0.1:{metadata_server.server_port}")
    assert done.stdout == "this machine's service account machine:robot@x machine-t0ken\n", done.stderr


def test_virtual_machine_without_a_sign_in_asks_for_one(
    tmp_path: Path, metadata_server: http.server.HTTPServer
) -> None:
    metadata_server.server_name = "none"
    done = _ask(tmp_path, f"127.0.0.1:{metadata_server.server_port}")
    assert "SignInNeeded: Not signed in" in done.stderr
