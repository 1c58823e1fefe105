"""signin.foreign: other programs' files in the forms that their documentation and sources give, and damaged ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from drivefs.errors import UsageError, UserError
from drivefs.signin.foreign import read_foreign, usual_places

TOKEN = json.dumps({"access_token": "a", "token_type": "Bearer", "refresh_token": "r3fresh", "expiry": "2020"})
KEY = {"type": "service_account", "client_email": "robot@x", "private_key": "k3y", "token_uri": "https://x/token"}
MINE = "client_id = i\nclient_secret = s3cret\n"


def written(folder: Path, text: str, name: str = "file") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def key_file(folder: Path) -> Path:
    return written(folder, json.dumps(KEY), "key.json")


# --- rclone ---


def test_rclone_remote_is_read(tmp_path: Path) -> None:
    text = f"[other]\ntype = s3\n\n[mine]\ntype = drive\nroot_folder_id = F1\n{MINE}token = {TOKEN}\n"
    found = read_foreign(written(tmp_path, text, "rclone.conf"))
    assert found.info["refresh_token"] == "r3fresh"
    assert (found.info["client_id"], found.info["client_secret"]) == ("i", "s3cret")
    assert found.info["token_uri"] == "https://oauth2.googleapis.com/token"
    assert found.root == "F1"


def test_rclone_remotes_are_chosen_by_name(tmp_path: Path) -> None:
    text = "".join(f"[{name}]\ntype = drive\nteam_drive = T{name}\n{MINE}token = {TOKEN}\n" for name in "ab")
    path = written(tmp_path, text)
    with pytest.raises(UsageError, match="--remote: a, b"):
        read_foreign(path)
    assert read_foreign(path, "b").root == "Tb"
    with pytest.raises(UsageError, match="no remote c"):
        read_foreign(path, "c")


@pytest.mark.parametrize("inline", [True, False])
def test_rclone_service_account_is_read_with_whom_it_stands_in_for(tmp_path: Path, inline: bool) -> None:
    key = (
        f"service_account_credentials = {json.dumps(KEY)}"
        if inline
        else f"service_account_file = {key_file(tmp_path)}"
    )
    found = read_foreign(written(tmp_path, f"[x]\ntype = drive\n{key}\nimpersonate = anne@example.com\n"))
    assert found.info == {**KEY, "subject": "anne@example.com"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("# Encrypted rclone configuration File\n\nRCLONE_ENCRYPT_V0:\nAAAA", "rclone config show"),
        (f"[x]\ntype = drive\ntoken = {TOKEN}\n", "rclone's own OAuth client"),
        (f"[x]\ntype = drive\n{MINE}", "not signed in"),
        (f"[x]\ntype = drive\n{MINE}token = {{broken r3fresh\n", "not signed in"),
        ("[x]\ntype = s3\n", "no remote of type drive"),
        ("[x]\ntype = drive\nservice_account_file = /nowhere/key.json\n", "/nowhere/key.json cannot be read"),
        ("[x]\ntype = drive\nservice_account_credentials = r3fresh\n", "not the JSON key"),
        ("", "is no sign-in that drivefs knows"),
        ("r3fresh\n", "is no sign-in that drivefs knows"),
        ("[[[", "is no sign-in that drivefs knows"),
    ],
)
def test_rclone_config_that_cannot_be_used_is_told(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        read_foreign(written(tmp_path, text))
    assert "r3fresh" not in repr([caught.value, caught.value.__cause__])
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


# --- gcloud, PyDrive ---


def test_gclouds_credentials_are_taken_as_they_are(tmp_path: Path) -> None:
    info = {
        "account": "",
        "client_id": "764086051850-x.apps.googleusercontent.com",
        "client_secret": "s3cret",
        "quota_project_id": "p",
        "refresh_token": "r3fresh",
        "type": "authorized_user",
        "universe_domain": "googleapis.com",
    }
    assert read_foreign(written(tmp_path, json.dumps(info))).info == info


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"_module": "oauth2client.client", "refresh_token": None, "client_id": "i"}, "no refresh token"),
        ({"installed": {}}, "--client-secrets"),
        ({"type": "external_account"}, "is no sign-in that drivefs knows"),
        ({}, "is no sign-in that drivefs knows"),
    ],
)
def test_json_that_cannot_be_used_is_told(tmp_path: Path, value: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        read_foreign(written(tmp_path, json.dumps(value)))


@pytest.mark.parametrize("form", ["client_json_file_path", "client_json", "client_json_dict"])
def test_pydrive_settings_of_a_service_account_are_read(tmp_path: Path, form: str) -> None:
    key_file(tmp_path)
    value = {"client_json_file_path": "key.json", "client_json": json.dumps(json.dumps(KEY))}.get(form)
    value = value or json.dumps(KEY)
    text = (
        f"client_config_backend: service\nservice_config:\n  {form}: {value}\n  client_user_email: anne@example.com\n"
    )
    assert read_foreign(written(tmp_path, text, "settings.yaml")).info == {**KEY, "subject": "anne@example.com"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("client_config_backend: file\n", "keeps no sign-in in a file"),
        ("client_config_backend: service\nservice_config:\n  client_pkcs12_file_path: x.p12\n", "not JSON"),
        ("a: [", "not YAML"),
        ("- a\n", "is no sign-in that drivefs knows"),
        ("!!python/object/apply:os.system ['true']\n", "not YAML"),
    ],
)
def test_pydrive_settings_that_cannot_be_used_are_told(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        read_foreign(written(tmp_path, text, "settings.yaml"))


# --- google-drive-ocamlfuse ---

CONFIG = "apps_script_format=json\nclient_id={id}\nclient_secret={secret}\nroot_folder=\nteam_drive_id={team}\n"
STATE = "auth_request_id=\nlast_access_token=ya29\nrefresh_token={token}\nsaved_version=0.7.32\n"


def gdfuse(folder: Path, config: str, token: str = "r3fresh") -> Path:
    written(folder, config, "label/config")
    written(folder, STATE.format(token=token), "label/state")
    return folder / "label"


def test_ocamlfuse_folder_is_read(tmp_path: Path) -> None:
    found = read_foreign(gdfuse(tmp_path, CONFIG.format(id="i", secret="s3cret", team="T1")))
    assert (found.info["client_id"], found.info["refresh_token"], found.root) == ("i", "r3fresh", "T1")


def test_ocamlfuse_folder_of_newer_versions_is_read(tmp_path: Path) -> None:
    config = '[auth]\n  client_id = "i"\n  client_secret = "s3cret"\n[drive]\nroot_folder="F1"\n'
    found = read_foreign(gdfuse(tmp_path, config))
    assert (found.info["client_id"], found.info["client_secret"], found.root) == ("i", "s3cret", "F1")


def test_ocamlfuse_service_account_is_read(tmp_path: Path) -> None:
    config = f"service_account_credentials_path={key_file(tmp_path)}\nservice_account_user_to_impersonate=a@b\n"
    assert read_foreign(gdfuse(tmp_path, config)).info == {**KEY, "subject": "a@b"}


@pytest.mark.parametrize(
    ("config", "token", "words"),
    [
        (CONFIG.format(id="", secret="", team=""), "r3fresh", "own OAuth client"),
        (CONFIG.format(id="i", secret="s", team=""), "", "holds no sign-in"),
    ],
)
def test_ocamlfuse_folder_that_cannot_be_used_is_told(tmp_path: Path, config: str, token: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        read_foreign(gdfuse(tmp_path, config, token))


def test_what_is_no_sign_in_at_all_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="knows"):
        read_foreign(tmp_path)
    with pytest.raises(UsageError, match="cannot be read"):
        read_foreign(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="knows"):
        read_foreign(written(tmp_path, "x" * (2 << 20)))


def test_usual_places_are_those_where_something_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert list(usual_places(tmp_path, tmp_path / "adc", tmp_path / "rclone.conf")) == []
    expected = [
        written(tmp_path, "", "rclone.conf"),
        written(tmp_path, "", "mycreds.txt"),
        written(tmp_path, "", "adc"),
    ]
    expected.append(written(tmp_path, "", ".gdfuse/default/state").parent)
    assert list(usual_places(tmp_path, tmp_path / "adc", tmp_path / "rclone.conf")) == expected
