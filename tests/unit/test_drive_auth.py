"""drivefs.drive.auth: credentials are found, read, and refreshed once for all."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import google.oauth2.credentials
import google.oauth2.service_account
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from drivefs.drive.auth import Authorizer, Info, Renewable, load_credentials
from drivefs.drive.http import Transport
from drivefs.errors import BadReply, DriveError, SignInNeeded, Unreachable
from tests.unit.scripted_server import Exchange, ScriptedServer, answer

USER = {"type": "authorized_user", "client_id": "i", "client_secret": "s3cret", "refresh_token": "r3fresh"}
FRESH = {"access_token": "new", "expires_in": 3600, "token_type": "Bearer"}


def written(folder: Path, info: object) -> Path:
    path = folder / "credentials.json"
    path.write_text(info if isinstance(info, str) else json.dumps(info))
    return path


def user_credentials(token_uri: str, token: str | None = None, expires_in_s: float = -60) -> Any:
    expiry = (datetime.now(UTC) + timedelta(seconds=expires_in_s)).replace(tzinfo=None)
    return google.oauth2.credentials.Credentials(
        token, refresh_token="r3fresh", token_uri=token_uri, client_id="i", client_secret="s3cret", expiry=expiry
    )


def private_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


# --- what they say ---


def test_load_credentials_honours_the_token_uri_of_a_user_file(tmp_path: Path, transport: Transport) -> None:
    with ScriptedServer(answer(200, FRESH)) as server:
        credentials = load_credentials(written(tmp_path, {**USER, "token_uri": f"{server.url}/token"}))
        assert not credentials.valid
        headers: dict[str, str] = {}
        Authorizer(credentials, transport).sign(headers)
        assert headers["authorization"] == "Bearer new"
        assert b"refresh_token=r3fresh" in server.requests[0].body


def test_load_credentials_keeps_a_token_that_is_still_good(tmp_path: Path) -> None:
    later = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    info = {**USER, "token_uri": "http://127.0.0.1:1/token", "token": "old", "expiry": later}
    credentials: Any = load_credentials(written(tmp_path, info))
    assert credentials.valid
    assert credentials.token == "old"


def test_load_credentials_honours_the_token_uri_of_a_service_account(tmp_path: Path, transport: Transport) -> None:
    with ScriptedServer(answer(200, FRESH)) as server:
        info = {
            "type": "service_account",
            "client_email": "robot@example.com",
            "private_key": private_key(),
            "token_uri": f"{server.url}/token",
        }
        headers: dict[str, str] = {}
        Authorizer(load_credentials(written(tmp_path, info)), transport).sign(headers)
        assert headers["authorization"] == "Bearer new"
        assert b"assertion=" in server.requests[0].body


@pytest.mark.parametrize(
    ("info", "words"),
    [
        ("not json", "is not JSON"),
        ("[1]", "is not a JSON object"),
        ({}, "neither"),
        ({"type": "external_account"}, "neither"),
        ({"type": ["x"]}, "neither"),
        ({"type": "authorized_user", "client_id": "i"}, "lacks client_secret and refresh_token"),
        ({**USER, "refresh_token": 5}, "lacks refresh_token"),
        ({**USER, "expiry": "tomorrow"}, "make no sense"),
        ({**USER, "expiry": 5}, "make no sense"),
        ({"type": "service_account", "client_email": "e", "private_key": "s3cret", "token_uri": "u"}, "no sense"),
        ({"type": "service_account", "client_email": "e"}, "lacks private_key and token_uri"),
        ({**USER, "token_uri": "http://example.com/token"}, "not https"),
    ],
)
def test_load_credentials_says_in_one_sentence_what_is_wrong(tmp_path: Path, info: object, words: str) -> None:
    path = written(tmp_path, info)
    with pytest.raises(SignInNeeded, match=words) as caught:
        load_credentials(path)
    message = str(caught.value)
    assert str(path) in message
    assert "drivefs auth login" in message
    assert "\n" not in message
    assert "s3cret" not in repr([caught.value, caught.value.__cause__])


def test_load_credentials_tells_a_missing_from_an_unreadable_file(tmp_path: Path) -> None:
    with pytest.raises(SignInNeeded, match="does not exist"):
        load_credentials(tmp_path / "nowhere.json")
    with pytest.raises(SignInNeeded, match="cannot be read"):
        load_credentials(tmp_path)


# --- tokens ---


def test_many_threads_with_an_expired_token_make_one_refresh(transport: Transport) -> None:
    with ScriptedServer(answer(200, FRESH)) as server:
        authorizer = Authorizer(user_credentials(f"{server.url}/token"), transport)
        together = threading.Barrier(16)
        signed: list[str] = []

        def sign() -> None:
            together.wait(10)
            signed.append(authorizer.sign({}))

        threads = [threading.Thread(target=sign) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert signed == ["new"] * 16
        assert len(server.requests) == 1
        assert b"refresh_token=r3fresh" in server.requests[0].body


class Counted:
    """A lock; `asked` counts those who have come to it."""

    def __init__(self) -> None:
        self.asked = threading.Semaphore(0)
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self.asked.release()
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()


def test_many_threads_wait_once_for_a_sign_in_server_that_fails(transport: Transport) -> None:
    go_on = threading.Event()

    def fail(exchange: Exchange) -> None:
        assert go_on.wait(10)
        exchange.close()

    with ScriptedServer(fail, answer(200, FRESH)) as server:
        authorizer = Authorizer(user_credentials(f"{server.url}/token"), transport)
        lock = authorizer._refreshing = Counted()  # type: ignore[assignment]
        errors: list[DriveError] = []

        def sign() -> None:
            with pytest.raises(DriveError) as caught:
                authorizer.sign({})
            errors.append(caught.value)

        threads = [threading.Thread(target=sign) for _ in range(8)]
        for thread in threads:
            thread.start()
            assert lock.asked.acquire(timeout=10)
        go_on.set()
        for thread in threads:
            thread.join(10)
        assert len(errors) == 8
        assert len(server.requests) == 1
        assert authorizer.sign({}) == "new"


def test_a_rejected_token_is_renewed_once_for_all_who_used_it(transport: Transport) -> None:
    with ScriptedServer(answer(200, FRESH)) as server:
        credentials = user_credentials(f"{server.url}/token", "old", expires_in_s=3600)
        authorizer = Authorizer(credentials, transport)
        used = [authorizer.sign({}) for _ in range(3)]
        for token in used:
            authorizer.renew(token)
        assert authorizer.sign({}) == "new"
        assert len(server.requests) == 1


def test_a_token_about_to_expire_is_refreshed_while_the_others_go_on_with_it(transport: Transport) -> None:
    asked, let_go = threading.Event(), threading.Event()

    def slowly(exchange: Exchange) -> None:
        exchange.read_body()
        asked.set()
        let_go.wait(10)
        exchange.reply(200, FRESH)

    with ScriptedServer(slowly) as server:
        authorizer = Authorizer(user_credentials(f"{server.url}/token", "old", expires_in_s=60), transport)
        first = threading.Thread(target=authorizer.sign, args=({},))
        first.start()
        assert asked.wait(10)
        assert authorizer.sign({}) == "old"
        let_go.set()
        first.join(10)
        assert authorizer.sign({}) == "new"


def test_a_token_about_to_expire_serves_when_there_is_no_new_one(transport: Transport) -> None:
    with ScriptedServer(lambda e: e.reset()) as server:
        authorizer = Authorizer(user_credentials(f"{server.url}/token", "old", expires_in_s=60), transport)
        assert authorizer.sign({}) == "old"


@pytest.mark.parametrize("word", ["invalid_grant", "invalid_client"])
def test_a_sign_in_that_is_over_says_so(transport: Transport, word: str) -> None:
    with ScriptedServer(answer(400, {"error": word, "error_description": "r3fresh was revoked"})) as server:
        with pytest.raises(SignInNeeded, match=word) as caught:
            Authorizer(user_credentials(f"{server.url}/token"), transport).sign({})
        assert "r3fresh" not in str(caught.value)
        assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"[]",
        b"5",
        b"{}",
        b"\xff",
        b'{"access_token": 5}',
        b'{"access_token": "a\\nb"}',
        b'{"access_token": "t", "expires_in": "soon"}',
    ],
)
def test_a_sign_in_server_that_talks_nonsense_is_a_drive_error(transport: Transport, body: bytes) -> None:
    with (
        ScriptedServer(answer(200, body)) as server,
        pytest.raises((BadReply, SignInNeeded)),
    ):
        Authorizer(user_credentials(f"{server.url}/token"), transport).sign({})


def test_a_sign_in_server_that_is_not_there_is_unreachable(transport: Transport) -> None:
    with ScriptedServer() as server:
        url = server.url
    with pytest.raises(Unreachable):
        Authorizer(user_credentials(f"{url}/token"), transport).sign({})


# --- sign-ins that are renewed by others ---


class Kept:
    """Where a sign-in is kept, in memory."""

    way_out = "run 'drivefs auth login work'"

    def __init__(self, **info: object) -> None:
        self.info: dict[str, Any] = {**USER, "account": "a@x", **info}

    def read(self) -> Info:
        return dict(self.info)

    def keep(self, info: Info, changes: Info) -> Info:
        if info == self.info:
            self.info.update(changes)
        return dict(self.info)

    def __str__(self) -> str:
        return "The account work"


def in_an_hour() -> str:
    return (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_renewable_keeps_new_tokens(transport: Transport) -> None:
    with ScriptedServer(answer(200, {**FRESH, "refresh_token": "rotated"})) as server:
        kept = Kept(token_uri=f"{server.url}/token")
        Authorizer(Renewable(kept), transport).sign({})
        assert (kept.info["token"], kept.info["refresh_token"]) == ("new", "rotated")
        assert kept.info["expiry"] > datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_renewable_uses_the_token_that_another_process_has_got(transport: Transport) -> None:
    with ScriptedServer() as server:
        kept = Kept(token_uri=f"{server.url}/token", token="old", expiry="2020-01-01T00:00:00Z")
        authorizer = Authorizer(Renewable(kept), transport)
        kept.info.update(token="theirs", expiry=in_an_hour())
        assert authorizer.sign({}) == "theirs"
        assert server.requests == []


def test_renewable_does_not_come_back_to_a_token_that_drive_has_refused(transport: Transport) -> None:
    with ScriptedServer(answer(200, FRESH)) as server:
        kept = Kept(token_uri=f"{server.url}/token", token="refused", expiry=in_an_hour())
        authorizer = Authorizer(Renewable(kept), transport)
        assert authorizer.sign({}) == "refused"
        authorizer.renew("refused")
        assert authorizer.sign({}) == "new"


def test_renewable_goes_on_after_a_new_sign_in(transport: Transport) -> None:
    with ScriptedServer(answer(400, {"error": "invalid_grant"}), answer(200, FRESH)) as server:
        kept = Kept(token_uri=f"{server.url}/token")
        authorizer = Authorizer(Renewable(kept), transport)
        with pytest.raises(SignInNeeded, match="run 'drivefs auth login work'"):
            authorizer.sign({})
        kept.info["refresh_token"] = "second"
        assert authorizer.sign({}) == "new"
        assert b"refresh_token=second" in server.requests[1].body


def test_renewable_never_changes_to_another_persons_drive(transport: Transport) -> None:
    with ScriptedServer(answer(200, FRESH)) as server:
        kept = Kept(token_uri=f"{server.url}/token")
        authorizer = Authorizer(Renewable(kept), transport)
        kept.info.update(account="b@x", refresh_token="theirs", token="theirs", expiry=in_an_hour())
        with pytest.raises(SignInNeeded, match="now that of b@x, and here it is used for the Drive of a@x"):
            authorizer.sign({})
        assert server.requests == []


def test_credentials_file_that_is_being_replaced_is_read_again_later(tmp_path: Path, transport: Transport) -> None:
    with ScriptedServer(*[answer(200, {**FRESH, "expires_in": 0})] * 3) as server:
        info = {**USER, "token_uri": f"{server.url}/token"}
        path = written(tmp_path, info)
        authorizer = Authorizer(load_credentials(path), transport)
        path.write_text('{"type": "auth')
        authorizer.sign({})
        path.unlink()
        authorizer.sign({})
        written(tmp_path, {**info, "refresh_token": "second"})
        authorizer.sign({})
        assert [b"refresh_token=second" in request.body for request in server.requests] == [False, False, True]


def test_a_token_about_to_expire_serves_when_the_sign_in_is_over(transport: Transport) -> None:
    with ScriptedServer(answer(400, {"error": "invalid_grant"})) as server:
        authorizer = Authorizer(user_credentials(f"{server.url}/token", "old", expires_in_s=60), transport)
        assert authorizer.sign({}) == "old"
