"""signin.accounts: sign-ins are kept whole, private, and never brought back."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import keyring
import keyring.backend
import keyring.errors
import pytest

from drivefs.errors import SignInNeeded, UserError
from drivefs.signin.accounts import AccountOrigin, Accounts

INFO = {
    "type": "authorized_user",
    "client_id": "i",
    "client_secret": "cl1ent",
    "refresh_token": "r3fresh",
    "token": "t0ken",
    "account": "a@x",
}


@pytest.fixture
def accounts(tmp_path: Path) -> Accounts:
    return Accounts(tmp_path / "config" / "accounts")


def test_accounts_are_private_and_whole(accounts: Accounts) -> None:
    before = os.umask(0)
    try:
        accounts.put("work", INFO)
    finally:
        os.umask(before)
    file = accounts.file("work")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert accounts.find("work") == INFO
    assert accounts.find("play") is None
    with pytest.raises(SignInNeeded, match="drivefs auth login play"):
        accounts.get("play")


def test_accounts_folder_that_others_could_read_is_closed(accounts: Accounts) -> None:
    accounts.file("x").parent.mkdir(parents=True, mode=0o755)
    accounts.put("x", INFO)
    assert stat.S_IMODE(accounts.file("x").parent.stat().st_mode) == 0o700


def test_accounts_are_listed_with_the_default_one_first(accounts: Accounts) -> None:
    assert accounts.names() == []
    for name in ("b", "default", "a"):
        accounts.put(name, INFO)
    assert accounts.names() == ["default", "a", "b"]
    accounts.remove("a")
    accounts.remove("a")
    assert accounts.names() == ["default", "b"]


def test_accounts_put_that_fails_leaves_what_was(accounts: Accounts, monkeypatch: pytest.MonkeyPatch) -> None:
    accounts.put("x", INFO)

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left") as caught:
        accounts.put("x", {**INFO, "refresh_token": "n3w"})
    assert "n3w" not in str(caught.value)
    assert accounts.find("x") == INFO
    assert sorted(os.listdir(accounts.file("x").parent)) == [".lock", "x.json"]


def test_accounts_keep_new_tokens_of_the_same_sign_in(accounts: Accounts) -> None:
    accounts.put("x", INFO)
    kept = accounts.keep("x", INFO, {"token": "n3w"})
    assert kept == accounts.find("x") == {**INFO, "token": "n3w"}


def test_accounts_do_not_bring_back_what_the_person_has_replaced_or_ended(accounts: Accounts) -> None:
    accounts.put("x", {**INFO, "refresh_token": "the person's"})
    accounts.keep("x", INFO, {"token": "n3w"})
    assert accounts.get("x")["refresh_token"] == "the person's"
    assert accounts.get("x")["token"] == "t0ken"
    accounts.remove("x")
    accounts.keep("x", INFO, {"token": "n3w"})
    assert accounts.find("x") is None


@pytest.mark.parametrize("content", ["", "{", "[]", "\0"])
def test_accounts_file_that_is_damaged_asks_for_a_sign_in(accounts: Accounts, content: str) -> None:
    accounts.put("x", INFO)
    accounts.file("x").write_text(content)
    with pytest.raises(SignInNeeded, match="drivefs auth login"):
        accounts.find("x")
    accounts.put("x", INFO)
    assert accounts.find("x") == INFO


# --- the keyring ---


class FakeKeyring(keyring.backend.KeyringBackend):
    """A desktop's keyring in memory, which can be locked."""

    priority = 1.0  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.entries: dict[tuple[str, str], str] = {}
        self.locked = False

    def _check(self) -> None:
        if self.locked:
            raise keyring.errors.KeyringLocked("r3fresh")

    def get_password(self, service: str, username: str) -> str | None:
        self._check()
        return self.entries.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self._check()
        self.entries[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        self._check()
        if self.entries.pop((service, username), None) is None:
            raise keyring.errors.PasswordDeleteError("none")


@pytest.fixture
def desktop() -> Iterator[FakeKeyring]:
    before, fake = keyring.get_keyring(), FakeKeyring()
    keyring.set_keyring(fake)
    yield fake
    keyring.set_keyring(before)


def test_keyring_has_the_secrets_and_the_file_has_none(accounts: Accounts, desktop: FakeKeyring) -> None:
    info = {**INFO, "keyring": True}
    accounts.put("work", info)
    text = accounts.file("work").read_text()
    assert not [secret for secret in ("r3fresh", "cl1ent", "t0ken") if secret in text]
    assert json.loads(desktop.entries["drivefs", "work"])["refresh_token"] == "r3fresh"
    assert accounts.find("work") == info
    assert accounts.keep("work", info, {"token": "n3w"})["token"] == "n3w"
    assert "n3w" not in accounts.file("work").read_text()
    assert accounts.get("work")["token"] == "n3w"


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_keyring_is_cleared_with_the_account(accounts: Accounts, desktop: FakeKeyring, how: str) -> None:
    accounts.put("work", {**INFO, "keyring": True})
    if how == "removed":
        accounts.remove("work")
    else:
        accounts.put("work", INFO)
        assert accounts.find("work") == INFO
    assert desktop.entries == {}


def test_keyring_that_is_locked_or_empty_is_told(accounts: Accounts, desktop: FakeKeyring) -> None:
    accounts.put("work", {**INFO, "keyring": True})
    desktop.locked = True
    for call in (lambda: accounts.get("work"), lambda: accounts.put("work", {**INFO, "keyring": True})):
        with pytest.raises(SignInNeeded, match="unlock it") as caught:
            call()
        assert "r3fresh" not in repr([caught.value, caught.value.__cause__])
    desktop.locked = False
    desktop.entries.clear()
    with pytest.raises(SignInNeeded, match="drivefs auth login work"):
        accounts.get("work")


def test_keyring_whose_library_is_missing_is_told(accounts: Accounts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(SignInNeeded, match=r"pip install 'drivefs\[keyring\]'"):
        accounts.put("work", {**INFO, "keyring": True})
    assert accounts.find("work") is None


def test_account_is_named_with_its_way_out(accounts: Accounts) -> None:
    origin = AccountOrigin(accounts, "work")
    assert (str(origin), origin.way_out) == ("The account work", "run 'drivefs auth login work'")
    assert AccountOrigin(accounts, "default").way_out == "run 'drivefs auth login'"
