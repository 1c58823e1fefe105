"""`drivefs auth` against the emulator's sign-in: the real command, and a browser that follows the redirects."""

from __future__ import annotations

import io
import json
import os
import re
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import keyring
import keyring.backend
import keyring.backends.fail
import pytest
import urllib3

from drivefs.emulator import Options, Running, running
from tests.browser import come_back
from tests.signing_in import ANNE, BEN, LIMIT_S, Person, read_link

CARL, DORA = "carl@example.com", "dora@example.com"
"""Nobody signs these out: their credentials files stay good."""
BROWSER = Path(__file__).parent.parent / "browser.py"
SCOPE = "https://www.googleapis.com/auth/drive"


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(Options(accounts=(ANNE, BEN, CARL, DORA))) as server:
        yield server


@pytest.fixture
def person(server: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Person:
    return Person(server, tmp_path, monkeypatch)


# --- the browser here ---


def test_login_goes_through_the_browser_and_keeps_the_sign_in_private(person: Person) -> None:
    browser = f"{sys.executable} {BROWSER} %s"
    login = ("auth", "login", "--client-secrets", person.client, "--endpoint", person.server.endpoint)
    with person.start(*login, BROWSER=browser, SIGN_IN_AS=BEN) as process:
        told, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, err
    assert f"Signed in as {BEN} (account default)" in told
    file = person.account_file()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    kept = person.account()
    assert (kept["type"], kept["account"], kept["granted_scopes"]) == ("authorized_user", BEN, [SCOPE])
    assert not [name for name in os.listdir(file.parent) if name not in ("default.json", ".lock")]
    assert person.run("ls", "drive:", "--json") is not None  # the account names its endpoint


def test_login_asks_with_pkce_and_a_state_of_its_own(person: Person) -> None:
    links = []
    for _ in range(2):
        told = person.run("auth", "login", "--client-secrets", person.client, "--timeout", "0", code=4)
        assert "--headless" in told
        link = next(line.strip() for line in told.splitlines() if line.strip().startswith("http"))
        links.append({name: values[0] for name, values in parse_qs(urlsplit(link).query).items()})
    assert [link["code_challenge_method"] for link in links] == ["S256", "S256"]
    assert all(len(link["code_challenge"]) == 43 and len(link["state"]) >= 32 for link in links)
    assert links[0]["state"] != links[1]["state"] and links[0]["code_challenge"] != links[1]["code_challenge"]
    assert all(re.fullmatch(r"http://127\.0\.0\.1:\d+/", link["redirect_uri"]) for link in links)


def test_login_takes_no_answer_but_its_own(person: Person) -> None:
    with person.start(
        "auth", "login", "--client-secrets", person.client, "--endpoint", person.server.endpoint
    ) as process:
        link, _ = read_link(process)
        back = parse_qs(urlsplit(link).query)["redirect_uri"][0]
        forged = {"code": "4/forged", "state": "guessed"}
        assert urllib3.request("GET", f"{back}?{urlencode(forged)}", retries=False).status == 404
        assert urllib3.request("GET", f"{back}favicon.ico", retries=False).status == 404
        assert urllib3.request("GET", come_back(link, ANNE), retries=False).status == 200
        told, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, err
    assert ANNE in told


# --- the browser elsewhere ---


def test_headless_login_takes_the_pasted_address(person: Person) -> None:
    told = person.login("--client-secrets", person.client)
    assert f"Signed in as {ANNE}" in told
    (found,) = person.status()
    assert (found["email"], found["kind"], found["scopes"]) == (ANNE, "user", [SCOPE])
    assert found["quota"]["limit_bytes"] > 0
    assert (found["warnings"], found["error"], found["mountpoints"]) == ([], None, [])
    assert found["token_expires"] > time.time()


@pytest.mark.parametrize(
    ("pasted", "words", "code"),
    [
        ("\n", "Nothing was pasted", 4),
        ("http://127.0.0.1:8085/?code=4/0A&state=other\n", "not of this sign-in", 1),
        ("nonsense\n", "not of this sign-in", 1),
        ("http://127.0.0.1:8085/?%\udcff&&&=\n", "not of this sign-in", 1),
        ("http://[/?state=x\n", "not of this sign-in", 1),
    ],
)
def test_headless_login_refuses_another_address(person: Person, pasted: str, words: str, code: int) -> None:
    arguments = ("auth", "login", "--headless", "--client-secrets", person.client)
    told = person.run(*arguments, code=code, stdin=io.StringIO(pasted))
    assert words in told
    assert not person.account_file().exists()


def test_login_that_is_declined_is_told(person: Person) -> None:
    told = person.login("--client-secrets", person.client, as_=None, code=4)
    assert "declined" in told
    assert not person.account_file().exists()


def test_login_whose_box_was_not_ticked_is_told(person: Person) -> None:
    told = person.login("--client-secrets", person.client, scope=f"{SCOPE}.metadata.readonly", code=4)
    assert "tick the box" in told
    assert not person.account_file().exists()


def test_login_with_a_client_that_the_server_does_not_know_is_told(person: Person) -> None:
    value = json.loads(person.client.read_text())
    value["installed"]["client_secret"] = "another-s3cret"
    person.client.write_text(json.dumps(value))
    told = person.login("--client-secrets", person.client, code=4)
    assert "invalid_client" in told and "another-s3cret" not in told


# --- the OAuth client ---


def test_login_without_a_client_says_how_to_get_one(person: Person) -> None:
    told = person.run("auth", "login", code=4)
    assert told.count("\n") == 1
    assert "console.cloud.google.com" in told and "--client-secrets" in told and "Desktop app" in told


def test_login_remembers_the_client(person: Person) -> None:
    person.login("--client-secrets", person.client)
    person.client.unlink()
    assert ANNE in person.login()
    assert BEN in person.login("work", as_=BEN)
    assert stat.S_IMODE((person.home / ".config/drivefs/client_secrets.json").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "not the JSON of an OAuth client"),
        ('{"web": {"client_id": "x"}}', "Desktop app"),
        ('{"type": "service_account"}', "--service-account"),
        ('{"installed": {"client_id": "x", "token_uri": "http://example.com/"}}', "not the JSON of an OAuth client"),
        ('{"installed": []}', "not the JSON of an OAuth client"),
    ],
)
def test_login_with_a_file_that_is_no_client_is_told(person: Person, content: str, words: str) -> None:
    person.client.write_text(content)
    assert words in person.run("auth", "login", "--client-secrets", person.client, code=2)


# --- scopes, accounts ---


@pytest.mark.parametrize(("scope", "warned"), [("readonly", "only be read"), ("file", "--scope full")])
def test_login_asks_for_the_scope_and_status_warns_of_a_small_one(person: Person, scope: str, warned: str) -> None:
    person.login("--client-secrets", person.client, "--scope", scope)
    (found,) = person.status()
    assert found["scopes"] == [f"{SCOPE}.{scope}"]
    (warning,) = found["warnings"]
    assert warned in warning


def test_mount_that_could_never_write_is_refused(person: Person) -> None:
    person.login("--client-secrets", person.client, "--scope", "readonly")
    told = person.run("mount", person.home / "mnt", code=1)
    assert "--read-only" in told and "drivefs auth login --scope full" in told


def test_accounts_are_kept_apart(person: Person) -> None:
    person.login("--client-secrets", person.client)
    person.login("work", as_=BEN)
    assert [(each["account"], each["email"]) for each in person.status()] == [("default", ANNE), ("work", BEN)]
    assert [each["email"] for each in person.status("work")] == [BEN]
    assert "no account play" in person.run("auth", "status", "play", code=4)
    assert "no account play" in person.run("ls", "--account", "play", "drive:", code=4)


def test_an_account_does_not_become_that_of_another_person(person: Person) -> None:
    person.login("--client-secrets", person.client)
    before = person.account_file().read_bytes()
    told = person.login("--login-hint", BEN, code=1)
    assert ANNE in told and BEN in told and "drivefs auth logout default" in told
    assert person.account_file().read_bytes() == before


@pytest.mark.parametrize("name", ["../x", ".x", "a/b", "-"])
def test_account_that_is_no_file_name_is_refused(person: Person, name: str) -> None:
    assert "letters" in person.run("auth", "status", "--", name, code=2)
    assert "letters" in person.run("auth", "import", "--account", name, code=2)


# --- the keyring ---


class _Keyring(keyring.backend.KeyringBackend):
    """A desktop's, in memory."""

    priority = 1.0  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.entries: dict[str, str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.entries.get(username)

    def set_password(self, service: str, username: str, password: str) -> None:
        self.entries[username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.entries[username]


def test_login_with_the_keyring_leaves_no_secret_in_the_file(person: Person) -> None:
    before, desktop = keyring.get_keyring(), _Keyring()
    keyring.set_keyring(desktop)
    try:
        person.login("--client-secrets", person.client, "--keyring")
        (found,) = person.status()
        assert (found["email"], found["error"]) == (ANNE, None)
        hidden = json.loads(desktop.entries["default"])
        assert {"refresh_token", "client_secret", "token"} <= set(hidden)
        text = person.account_file().read_text()
        assert not [secret for secret in hidden.values() if secret in text]
        person.run("auth", "logout")
        assert desktop.entries == {}
    finally:
        keyring.set_keyring(before)


def test_login_with_a_keyring_where_there_is_none_is_told(person: Person) -> None:
    before = keyring.get_keyring()
    keyring.set_keyring(keyring.backends.fail.Keyring())
    try:
        told = person.login("--client-secrets", person.client, "--keyring", code=4)
    finally:
        keyring.set_keyring(before)
    assert "keyring cannot be used (NoKeyringError)" in told
    assert not person.account_file().exists()


# --- an app in Testing ---


def test_sign_in_that_will_end_is_told_beforehand_and_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(Options(accounts=(ANNE,), refresh_token_lifetime_s=7 * 86_400)) as server:
        person = Person(server, tmp_path, monkeypatch)
        person.login("--client-secrets", person.client)
        (found,) = person.status()
        assert 6.9 < (found["sign_in_ends"] - time.time()) / 86_400 <= 7
        (warning,) = found["warnings"]
        assert "'Testing'" in warning and "publish" in warning and "drivefs auth login" in warning
    with running(Options(accounts=(ANNE,), refresh_token_lifetime_s=0, token_lifetime_s=0.001)) as server:
        person.server = server
        person.client.write_text(json.dumps(server.admin.client_secrets()))
        person.account_file().unlink()
        told = person.login("--client-secrets", person.client, code=4)
        assert "no longer takes the sign-in" in told


# --- service accounts ---


def test_service_account_without_storage_is_warned_of_and_stands_in_for_a_person(person: Person) -> None:
    key = person.server.admin.service_account()
    login = ("auth", "login", "--service-account", key, "--endpoint", person.server.endpoint)
    person.run(*login, "robot")
    person.run(*login, "forben", "--subject", BEN)
    forben, robot = person.status()
    assert (robot["kind"], robot["subject"]) == ("service-account", None)
    assert any("owns no storage" in warning for warning in robot["warnings"])
    assert (forben["kind"], forben["subject"], forben["email"], forben["warnings"]) == (
        "service-account",
        BEN,
        BEN,
        [],
    )
    refused = person.run(*login, "forno", "--subject", "nobody@example.com", code=4)
    assert "invalid_grant" in refused and "administrator allow it to stand in for nobody@example.com" in refused
    no_key = ("auth", "login", "--service-account", person.home / "none")
    assert "name the JSON key" in person.run(*no_key, code=2)
    told = person.run("ls", "--credentials", key, "--subject", BEN, "--endpoint", person.server.endpoint, "drive:")
    assert "Traceback" not in told


def test_subject_without_a_service_account_is_refused(person: Person) -> None:
    assert "--service-account" in person.run("auth", "login", "--subject", BEN, code=2)
    user = person.server.credentials_file
    told = person.run("ls", "--credentials", user, "--subject", BEN, "drive:", code=4)
    assert "no service account" in told


# --- application default credentials ---


def test_application_default_credentials_are_used_where_nobody_has_signed_in(person: Person) -> None:
    place = person.home / ".config" / "gcloud" / "application_default_credentials.json"
    place.parent.mkdir(parents=True)
    place.write_bytes(person.server.credentials_of(CARL).read_bytes())
    place.chmod(0o644)
    (found,) = person.status("--endpoint", person.server.endpoint)
    assert (found["account"], found["email"]) == (str(place), CARL)
    assert any("chmod 600" in warning for warning in found["warnings"])
    elsewhere = person.home / "adc.json"
    elsewhere.write_bytes(person.server.credentials_of(DORA).read_bytes())
    variable = {"GOOGLE_APPLICATION_CREDENTIALS": str(elsewhere)}
    told = person.run("auth", "status", "--endpoint", person.server.endpoint, **variable)
    assert DORA in told
    key = person.server.admin.service_account()
    told = person.run(
        *("auth", "status", "--endpoint", person.server.endpoint), GOOGLE_APPLICATION_CREDENTIALS=str(key)
    )
    assert "service account" in told


# --- the end ---


def test_logout_takes_the_sign_in_back(person: Person) -> None:
    person.login("--client-secrets", person.client)
    kept = person.account()
    assert "taken back" in person.run("auth", "logout")
    assert not person.account_file().exists()
    form = {name: kept[name] for name in ("client_id", "client_secret", "refresh_token")}
    body = urlencode({"grant_type": "refresh_token", **form})
    headers = {"content-type": "application/x-www-form-urlencoded"}
    reply = urllib3.request("POST", kept["token_uri"], body=body, headers=headers)
    assert (reply.status, reply.json()["error"]) == (400, "invalid_grant")
    assert "no account default" in person.run("auth", "logout", code=1)


def test_logout_tells_which_other_accounts_end_with_it(person: Person) -> None:
    for name in ("one", "two"):
        person.login("--client-secrets", person.client, name)
    person.login("three", as_=BEN)
    assert "the same person and OAuth client: two." in person.run("auth", "logout", "one")
    three, two = person.status(code=4)
    assert three["error"] is None and "drivefs auth login two" in two["error"]


def test_logout_of_what_is_over_already_works(person: Person) -> None:
    person.login("--client-secrets", person.client)
    urllib3.request("POST", f"{person.server.endpoint}/revoke", fields={"token": "x"})
    person.run("auth", "logout")
    person.login("--client-secrets", person.client)
    body = urlencode({"token": person.account()["refresh_token"]})
    headers = {"content-type": "application/x-www-form-urlencoded"}
    urllib3.request("POST", f"{person.server.endpoint}/revoke", body=body, headers=headers)
    (found,) = person.status(code=4)
    assert "invalid_grant" in found["error"] and "drivefs auth login" in found["error"]
    person.run("auth", "logout")
    assert not person.account_file().exists()


def test_logout_without_a_network_keeps_the_sign_in_unless_told(person: Person) -> None:
    person.login("--client-secrets", person.client)
    kept = person.account()
    person.account_file().write_text(json.dumps({**kept, "token_uri": "http://127.0.0.1:9/token"}))
    assert "--local" in person.run("auth", "logout", code=1)
    assert person.account_file().exists()
    person.run("auth", "logout", "--local")
    assert not person.account_file().exists()


def test_two_renewals_at_once_leave_one_whole_file(person: Person) -> None:
    person.login("--client-secrets", person.client)
    kept = person.account()
    person.account_file().write_text(json.dumps({**kept, "expiry": "2020-01-01T00:00:00Z"}))
    with ExitStack() as stack:
        others = [stack.enter_context(person.start("auth", "status", "--json")) for _ in range(3)]
        told = [json.loads(each.communicate(timeout=LIMIT_S)[0])["accounts"] for each in others]
    assert [each[0]["error"] for each in told] == [None] * 3
    after = person.account()
    assert after["token"] != kept["token"] and after["expiry"] > kept["expiry"][:4]
    assert {name: after[name] for name in after if name not in ("token", "expiry")} == {
        name: kept[name] for name in kept if name not in ("token", "expiry")
    }
