"""The named accounts: where their sign-ins are kept.

One JSON file an account, 0600 in a folder 0700, replaced as a whole and flushed to the disk. With `keyring` in it the
secrets are not in the file but in the desktop's keyring, by the library of that name, which is optional.

Any process of the user may enter, a running mount among them; a lock on the folder keeps two writers apart. No secret
is in a message, repr or log line.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import platformdirs

from drivefs.drive.auth import Info, read_info
from drivefs.errors import SignInNeeded, UserError

DEFAULT = "default"
_SECRETS = ("refresh_token", "client_secret", "token", "private_key")
_SERVICE = "drivefs"
"""Under which name the keyring has them."""


def config_folder() -> Path:
    return Path(platformdirs.user_config_dir("drivefs"))


class Accounts:
    """The accounts of one user."""

    def __init__(self, folder: Path | None = None) -> None:
        """Makes nothing; `folder` is for the accounts alone."""
        self._folder = folder or config_folder() / "accounts"

    def file(self, name: str) -> Path:
        """Where an account is, or would be."""
        return self._folder / f"{name}.json"

    def names(self) -> list[str]:
        """All accounts, in order; the default one first."""
        found = sorted(path.stem for path in self._folder.glob("*.json") if not path.name.startswith("."))
        return sorted(found, key=lambda name: name != DEFAULT)

    def find(self, name: str) -> Info | None:
        """The sign-in of an account. Raises SignInNeeded when it cannot be read."""
        if not self.file(name).exists():
            return None
        return self._read(name)

    def get(self, name: str) -> Info:
        """The sign-in of an account. Raises SignInNeeded."""
        info = self.find(name)
        if info is None:
            raise SignInNeeded(f"There is no account {name}: '{login_command(name)}' signs in.")
        return info

    def put(self, name: str, info: Info) -> None:
        """Keep a sign-in, in place of the account's former one; with `keyring` true in it, there.

        Raises UserError."""
        with self._locked():
            if not info.get("keyring"):
                self._clear_keyring(name)
            self._write(name, info)

    def keep(self, name: str, info: Info, changes: Info) -> Info:
        """Add `changes`, unless the account is no longer as in `info`; what is kept now."""
        with self._locked():
            now = self.find(name)
            if now is None or now != info:
                return info  # signed out, or in again, meanwhile: what we have is not to come back
            changed = {**now, **changes}
            if changed != now:
                self._write(name, changed)
            return changed

    def remove(self, name: str) -> None:
        """Forget an account; it need not be there."""
        with self._locked():
            self._clear_keyring(name)
            self.file(name).unlink(missing_ok=True)

    # --- the files ---

    def _read(self, name: str) -> Info:
        info = read_info(self.file(name))
        return {**info, **_Keyring(name).read()} if info.get("keyring") else info

    def _write(self, name: str, info: Info) -> None:
        kept = dict(info)
        if kept.get("keyring"):
            _Keyring(name).write({key: kept.pop(key) for key in _SECRETS if key in kept})
        write_private(self.file(name), kept)

    def _clear_keyring(self, name: str) -> None:
        try:
            in_keyring = self.file(name).exists() and read_info(self.file(name)).get("keyring")
        except SignInNeeded:
            return  # a damaged file is replaced or removed whatever it held
        if in_keyring:
            _Keyring(name).remove()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        make_private_folder(self._folder)
        fd = os.open(self._folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)


class AccountOrigin:
    """An account as the origin of credentials (`drive.auth.Origin`)."""

    def __init__(self, accounts: Accounts, name: str) -> None:
        self._accounts, self._name = accounts, name
        self.way_out = f"run '{login_command(name)}'"

    def read(self) -> Info:
        return self._accounts.get(self._name)

    def keep(self, info: Info, changes: Info) -> Info:
        return self._accounts.keep(self._name, info, changes)

    def __str__(self) -> str:
        return f"The account {self._name}"


def login_command(name: str) -> str:
    """What to type to sign in."""
    return "drivefs auth login" if name == DEFAULT else f"drivefs auth login {name}"


# --- private files ---


def make_private_folder(folder: Path) -> None:
    """A folder that is this user's alone. Raises UserError."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_mode & 0o077:
            folder.chmod(0o700)
    except OSError as error:
        raise UserError(
            f"The folder {folder} for sign-ins cannot be made ({error.strerror}): set XDG_CONFIG_HOME to another."
        ) from error


def write_private(file: Path, value: Mapping[str, Any]) -> None:
    """Replace a file, 0600 and on the disk when it returns. Raises UserError."""
    new = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(fd, "w") as stream:
                json.dump(value, stream, indent=2)
                stream.flush()
                os.fsync(stream.fileno())
            new.replace(file)
        except BaseException:
            new.unlink(missing_ok=True)
            raise
        above = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(above)
        finally:
            os.close(above)
    except OSError as error:
        raise UserError(
            f"The sign-in cannot be kept in {file} ({error.strerror}): make room, or rights, there."
        ) from error


# --- the keyring ---


class _Keyring:
    """The desktop's keyring, one entry an account."""

    def __init__(self, name: str) -> None:
        """Raises SignInNeeded where the library is missing."""
        try:
            import keyring  # noqa: PLC0415 - optional
            from keyring.errors import KeyringError, PasswordDeleteError  # noqa: PLC0415
        except ImportError:
            raise SignInNeeded(
                "The library for the desktop's keyring is missing: install it with \"pip install "
                f"'drivefs[keyring]'\", or sign in without it by '{login_command(name)}'."
            ) from None
        self._name, self._keyring = name, keyring
        self._error, self._no_entry = KeyringError, PasswordDeleteError

    def read(self) -> dict[str, Any]:
        with self._told():
            text = self._keyring.get_password(_SERVICE, self._name)
        try:
            found = json.loads(text or "null")
        except ValueError:
            found = None  # the cause would hold the text
        if not isinstance(found, dict):
            raise SignInNeeded(
                f"The sign-in of the account {self._name} is not in the desktop's keyring: run "
                f"'{login_command(self._name)}'."
            )
        return found

    def write(self, values: Mapping[str, Any]) -> None:
        with self._told():
            self._keyring.set_password(_SERVICE, self._name, json.dumps(values))

    def remove(self) -> None:
        with self._told(), suppress(self._no_entry):
            self._keyring.delete_password(_SERVICE, self._name)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except self._error as error:
            if isinstance(error, self._no_entry):
                raise
            raise SignInNeeded(
                f"The desktop's keyring cannot be used ({type(error).__name__}): unlock it, or sign in without it by "
                f"'{login_command(self._name)}'."
            ) from None
