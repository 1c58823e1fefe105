"""Sign-ins of other programs, read from their own files: rclone, PyDrive, google-drive-ocamlfuse, gcloud.

Their files are only read. What comes out is a sign-in as `signin.accounts` keeps it, not yet tried.
"""

from __future__ import annotations

import configparser
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drivefs.drive.auth import Info
from drivefs.errors import UsageError, UserError
from drivefs.signin.consent import find_client, read_client

_ENCRYPTED = b"RCLONE_ENCRYPT_V"
"""What an encrypted rclone.conf holds in its first lines."""
_LIMIT_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Imported:
    """A sign-in found."""

    info: Info
    source: str
    """Which program's it is, and where."""
    root: str | None = None
    """ID of the folder or shared drive that the other program was set to."""


def usual_places(home: Path, gcloud: Path, rclone: Path) -> Iterator[Path]:
    """Where the programs keep theirs, as far as there is something."""
    candidates = [rclone, Path("mycreds.txt"), Path("settings.yaml"), gcloud]
    yield from (path.absolute() for path in candidates if path.is_file())
    folders = sorted((home / ".gdfuse").glob("*"))
    yield from (folder for folder in folders if (folder / "state").is_file())


def read_foreign(path: Path, remote: str | None = None) -> Imported:
    """The sign-in in a file or folder of another program's. `remote` chooses one of rclone's.

    Raises UsageError when it is none that is known, UserError when it cannot be used, with a way out.
    """
    if path.is_dir():
        return _gdfuse(path)
    try:
        with path.open("rb") as file:
            data = file.read(_LIMIT_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from None
    if _ENCRYPTED in data[:1000]:
        raise UserError(
            f"{path} is encrypted: 'rclone config show REMOTE > FILE' asks for its password and writes one remote in "
            "plain; import FILE, and remove it."
        )
    if len(data) > _LIMIT_BYTES:
        raise _unknown(path)
    text = data.decode("utf-8", "replace")
    value = _json(text)
    if isinstance(value, dict):
        return _of_json(path, value)
    if path.suffix in (".yaml", ".yml"):
        return _pydrive_settings(path, text)
    return _rclone(path, text, remote)


def _unknown(path: Path) -> UsageError:
    return UsageError(
        f"{path} is no sign-in that drivefs knows: rclone.conf, PyDrive's mycreds.txt or settings.yaml, a folder in "
        "~/.gdfuse, and gcloud's application_default_credentials.json are."
    )


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _words(value: Mapping[str, Any], *names: str) -> list[str]:
    """Texts by name; "" for what is missing or no text."""
    return [found.strip() if isinstance(found := value.get(name), str) else "" for name in names]


def _user(client_id: str, client_secret: str, refresh_token: str, **more: Any) -> dict[str, Any]:
    info = {
        "type": "authorized_user",
        "client_id": client_id,
        "client_secret": client_secret,
        "refresh_token": refresh_token,
        "token_uri": "https://oauth2.googleapis.com/token",
        "auth_uri": "https://accounts.google.com/o/oauth2/v2/auth",
    }
    return {**info, **{name: value for name, value in more.items() if value}}


def _service_account(path: Path, subject: str) -> dict[str, Any]:
    try:
        key = _json(path.expanduser().read_text("utf-8", "replace"))
    except OSError as error:
        raise UserError(f"The service account's key {path} cannot be read: {error.strerror}.") from None
    return _key(key, subject, str(path))


def _key(key: object, subject: str, source: str) -> dict[str, Any]:
    if not isinstance(key, dict) or key.get("type") != "service_account":
        raise UserError(f"{source} is not the JSON key of a service account: download the key as JSON.")
    return {**key, **({"subject": subject} if subject else {})}


# --- gcloud, oauth2client ---


def _of_json(path: Path, value: dict[str, Any]) -> Imported:
    kind = value.get("type")
    if kind == "authorized_user":
        return Imported(value, f"gcloud's {path}")
    if kind == "service_account":
        return Imported(value, f"the key {path}")
    if "refresh_token" in value and str(value.get("_module", "")).startswith("oauth2client"):
        return Imported(_oauth2client(path, value), f"PyDrive's {path}")
    if "installed" in value or "web" in value:
        raise UsageError(f"{path} is an OAuth client and no sign-in: 'drivefs auth login --client-secrets {path}'.")
    raise _unknown(path)


def _oauth2client(path: Path, value: Mapping[str, Any]) -> dict[str, Any]:
    client_id, client_secret, refresh_token, token_uri = _words(
        value, "client_id", "client_secret", "refresh_token", "token_uri"
    )
    if not refresh_token:
        raise UserError(
            f"{path} holds no refresh token, so it works for an hour at most: set get_refresh_token in PyDrive's "
            "settings.yaml and sign in there again, or here with 'drivefs auth login'."
        )
    return _user(client_id, client_secret, refresh_token, token_uri=token_uri)


# --- PyDrive's settings ---


def _pydrive_settings(path: Path, text: str) -> Imported:
    import yaml  # noqa: PLC0415 - for this alone

    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError):
        raise UsageError(f"{path} is not YAML.") from None
    if not isinstance(value, dict) or not {"client_config_backend", "save_credentials"} & set(value):
        raise _unknown(path)
    service = value.get("service_config")
    if value.get("client_config_backend") == "service" and isinstance(service, dict):
        (file, key, subject) = _words(service, "client_json_file_path", "client_json", "client_user_email")
        inline = service.get("client_json_dict") or (_json(key) if key else None)
        if inline:
            return Imported(_key(inline, subject, str(path)), f"PyDrive's {path}")
        if not file:
            raise UserError(f"{path} names a service account's key that is not JSON: download the key as JSON.")
        return Imported(_service_account(path.parent / file, subject), f"PyDrive's {path}")
    (file,) = _words(value, "save_credentials_file")
    if value.get("save_credentials_backend") != "file" or not file:
        raise UserError(
            f"{path} keeps no sign-in in a file: set save_credentials, save_credentials_backend: file and "
            "save_credentials_file in it and sign in there, or here with 'drivefs auth login'."
        )
    stored = read_foreign(path.parent / file)
    # The settings' client has the address of its server, where it is not Google's.
    if value.get("client_config_backend") == "settings":
        client = find_client(value.get("client_config"))
    else:
        named = path.parent / (_words(value, "client_config_file")[0] or "client_secrets.json")
        client = read_client(named) if named.exists() else None
    more = {} if client is None else {"auth_uri": client.auth_uri}
    return Imported({**stored.info, **more}, f"PyDrive's {path}")


# --- google-drive-ocamlfuse ---


def _pairs(file: Path) -> dict[str, str]:
    """`name=value` lines; sections, as newer versions write them, and quotes are passed over."""
    try:
        lines = file.read_text("utf-8", "replace").splitlines()
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}.") from None
    pairs = (line.partition("=") for line in lines if "=" in line)
    return {name.strip(): value.strip().strip('"') for name, _, value in pairs}


def _gdfuse(folder: Path) -> Imported:
    if not (folder / "config").is_file():
        raise _unknown(folder)
    config = _pairs(folder / "config")
    source = f"google-drive-ocamlfuse's {folder}"
    team, below = _words(config, "team_drive_id", "root_folder")
    root = below if below and "/" not in below else team
    key, subject = _words(config, "service_account_credentials_path", "service_account_user_to_impersonate")
    if key:
        return Imported(_service_account(Path(key), subject), source, root or None)
    client_id, client_secret = _words(config, "client_id", "client_secret")
    (refresh_token,) = _words(_pairs(folder / "state") if (folder / "state").exists() else {}, "refresh_token")
    if not refresh_token:
        raise UserError(f"{folder} holds no sign-in: sign in there first, or here with 'drivefs auth login'.")
    if not client_id or not client_secret:
        raise UserError(
            f"{folder} was signed in with google-drive-ocamlfuse's own OAuth client, whose secret only its author "
            "has: sign in here with 'drivefs auth login'."
        )
    return Imported(_user(client_id, client_secret, refresh_token), source, root or None)


# --- rclone ---


def _rclone(path: Path, text: str, remote: str | None) -> Imported:
    parser = configparser.ConfigParser(interpolation=None, strict=False, delimiters=("=",))
    try:
        parser.read_string(text)
    except configparser.Error:
        raise _unknown(path) from None  # the cause holds the line
    drives = [name for name in parser.sections() if parser[name].get("type") == "drive"]
    if not parser.sections():
        raise _unknown(path)
    if remote is not None and remote not in drives:
        raise UsageError(f"{path} has no remote {remote} of type drive: it has {', '.join(drives) or 'none'}.")
    if not drives:
        raise UserError(f"{path} has no remote of type drive: sign in with 'drivefs auth login'.")
    if remote is None and len(drives) > 1:
        raise UsageError(f"{path} has several remotes of type drive, choose by --remote: {', '.join(drives)}.")
    name = remote or drives[0]
    values = dict(parser[name])
    source = f"rclone's {name} in {path}"
    team, below = _words(values, "team_drive", "root_folder_id")
    root = below or team or None
    subject, key, inline = _words(values, "impersonate", "service_account_file", "service_account_credentials")
    if inline:
        return Imported(_key(_json(inline), subject, f"{name} in {path}"), source, root)
    if key:
        return Imported(_service_account(Path(key), subject), source, root)
    token = _json(values.get("token", ""))
    (refresh_token,) = _words(token if isinstance(token, dict) else {}, "refresh_token")
    if not refresh_token:
        raise UserError(
            f"The remote {name} in {path} is not signed in: 'rclone config reconnect {name}:' does it there, "
            "'drivefs auth login' here."
        )
    client_id, client_secret, token_uri, auth_uri = _words(
        values, "client_id", "client_secret", "token_url", "auth_url"
    )
    if not client_id:
        raise UserError(
            f"The remote {name} in {path} was signed in with rclone's own OAuth client, which is for rclone alone: "
            "sign in here with 'drivefs auth login'."
        )
    more = {"token_uri": token_uri, "auth_uri": auth_uri}
    return Imported(_user(client_id, client_secret, refresh_token, **more), source, root)
