"""The emulator's OAuth endpoints."""

from __future__ import annotations

import base64
import hashlib
import json
import stat
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import google.auth.transport.requests
import pytest
import urllib3
from google.oauth2 import service_account

from drivefs.emulator import Running
from tests.emulator_support import Api

SCOPE = "https://www.googleapis.com/auth/drive"
REDIRECT = "http://127.0.0.1:1234/"


def _post(emulator: Running, path: str, **form: str) -> tuple[int, Any]:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    reply = urllib3.request("POST", emulator.endpoint + path, body=urlencode(form), headers=headers)
    return reply.status, reply.json()


def _refresh(emulator: Running, **changes: str) -> tuple[int, Any]:
    saved = json.loads(emulator.credentials_file.read_text())
    form = {name: saved[name] for name in ("client_id", "client_secret", "refresh_token")}
    return _post(emulator, "/token", **{"grant_type": "refresh_token", **form, **changes})


def test_the_credentials_file_is_private_and_points_here(emulator: Running) -> None:
    saved = json.loads(emulator.credentials_file.read_text())
    assert stat.S_IMODE(emulator.credentials_file.stat().st_mode) == 0o600
    assert (saved["type"], saved["token_uri"]) == ("authorized_user", f"{emulator.endpoint}/token")


def test_a_refresh_token_gives_access_until_it_expires(emulator: Running, api: Api) -> None:
    status, reply = _refresh(emulator)
    assert (status, reply["token_type"], reply["scope"]) == (200, "Bearer", SCOPE)
    api.token = reply["access_token"]
    assert api.get("files/root").status == 200
    emulator.admin.expire_tokens()
    expired = api.get("files/root")
    assert (expired.status, expired.reason, expired.location) == (401, "authError", "Authorization")


@pytest.mark.parametrize("token", ["", "nonsense"])
def test_without_a_token_nothing_is_answered(api: Api, token: str) -> None:
    api.token = token
    reply = api.get("files/root")
    assert (reply.status, reply.reason) == (401, "authError")
    assert reply.headers["WWW-Authenticate"].startswith("Bearer")


def test_wrong_refreshes_are_refused(emulator: Running) -> None:
    assert _refresh(emulator, refresh_token="x") == (
        400,
        {"error": "invalid_grant", "error_description": "Token has been expired or revoked."},
    )
    assert _refresh(emulator, client_secret="x")[0] == 401
    assert _refresh(emulator, client_id="x")[0] == 401
    assert _refresh(emulator, grant_type="password")[1]["error"] == "unsupported_grant_type"


def test_a_client_may_name_itself_by_http_basic(emulator: Running) -> None:
    saved = json.loads(emulator.credentials_file.read_text())
    form = {"grant_type": "refresh_token", "refresh_token": saved["refresh_token"]}
    for secret, status in ((saved["client_secret"], 200), ("x", 401)):
        headers = urllib3.make_headers(basic_auth=f"{saved['client_id']}:{secret}")
        headers["Content-Type"] = "application/x-www-form-urlencoded"
        reply = urllib3.request("POST", f"{emulator.endpoint}/token", body=urlencode(form), headers=headers)
        assert reply.status == status


def _consent(emulator: Running, **query: str) -> urllib3.BaseHTTPResponse:
    asked = {"client_id": "app", "redirect_uri": REDIRECT, "response_type": "code", "scope": SCOPE, **query}
    return urllib3.request("GET", f"{emulator.endpoint}/o/oauth2/v2/auth?{urlencode(asked)}", redirect=False)


def test_consent_with_pkce_gives_a_code_for_one_exchange(emulator: Running, api: Api) -> None:
    verifier = "v" * 64
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
    reply = _consent(
        emulator,
        state="s t",
        login_hint="user@example.com",
        code_challenge=challenge,
        code_challenge_method="S256",
    )
    assert reply.status == 302
    assert reply.headers["Location"].startswith(REDIRECT)
    answer = parse_qs(urlsplit(reply.headers["Location"]).query)
    assert answer["state"] == ["s t"]
    form = {"grant_type": "authorization_code", "client_id": "app", "redirect_uri": REDIRECT,
            "code": answer["code"][0], "code_verifier": verifier}  # fmt: skip
    status, tokens = _post(emulator, "/token", **form)
    assert status == 200
    assert _post(emulator, "/token", **form)[1]["error"] == "invalid_grant"
    api.token = tokens["access_token"]
    assert api.get("files/root").status == 200
    renewed = {"grant_type": "refresh_token", "client_id": "app", "refresh_token": tokens["refresh_token"]}
    assert _post(emulator, "/token", **renewed)[0] == 200
    info = urllib3.request("GET", f"{emulator.endpoint}/tokeninfo?access_token={api.token}").json()
    assert (info["email"], info["aud"], info["scope"]) == ("user@example.com", "app", SCOPE)
    assert _post(emulator, "/revoke", token=tokens["refresh_token"]) == (200, {})
    assert api.get("files/root").status == 401
    assert _post(emulator, "/token", **renewed)[1]["error"] == "invalid_grant"


def test_a_wrong_verifier_or_redirect_is_refused(emulator: Running) -> None:
    for wrong in ({"code_verifier": "wrong"}, {"redirect_uri": "http://127.0.0.1:9/"}):
        reply = _consent(emulator, login_hint="user@example.com", code_challenge="c", code_challenge_method="S256")
        code = parse_qs(urlsplit(reply.headers["Location"]).query)["code"][0]
        form = {"grant_type": "authorization_code", "client_id": "app", "redirect_uri": REDIRECT, "code": code}
        assert _post(emulator, "/token", **{**form, **wrong})[0] == 400


def test_the_consent_page_asks_and_can_be_declined(emulator: Running) -> None:
    page = _consent(emulator, state="x")
    assert page.status == 200
    assert b"Allow as user@example.com" in page.data
    declined = _consent(emulator, state="x", decision="deny")
    assert parse_qs(urlsplit(declined.headers["Location"]).query) == {"state": ["x"], "error": ["access_denied"]}
    assert _consent(emulator, redirect_uri="https://example.com/").status == 400


def test_scopes_are_held(emulator: Running) -> None:
    reader = Api(emulator, scopes=SCOPE + ".readonly")
    own = Api(emulator, scopes=SCOPE + ".file", client="small app")
    everything = Api(emulator)
    try:
        assert reader.get("files/root").status == 200
        assert reader.call("POST", "files", {"name": "n"}).reason == "insufficientPermissions"
        foreign = everything.file("foreign")["id"]
        mine = own.file("mine")["id"]
        assert own.get(f"files/{foreign}").status == 404
        assert own.get(f"files/{mine}").status == 200
        assert own.names("trashed = false") == ["mine"]
    finally:
        for each in (reader, own, everything):
            each.close()


def test_a_service_account_signs_in_and_owns_no_storage(emulator: Running, api: Api) -> None:
    path = emulator.admin.service_account()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    robot = service_account.Credentials.from_service_account_file(str(path), scopes=[SCOPE])
    with google.auth.transport.requests.requests.Session() as session:
        request = google.auth.transport.requests.Request(session)
        robot.refresh(request)
        api.token = robot.token
        assert api.get("files/root").status == 404
        assert api.call("POST", "files", {"name": "n"}).status in (403, 404)
        assert api.ok("GET", "about", fields="storageQuota/limit")["storageQuota"]["limit"] == "0"
        person = robot.with_subject("other@example.com")
        person.refresh(request)
    api.token = person.token
    assert api.ok("GET", "about", fields="user/emailAddress")["user"] == {"emailAddress": "other@example.com"}
