"""Which Drive a command speaks to that needs no mount, and what on it its arguments name."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from drivefs.config import Settings, config_file, load_settings
from drivefs.drive.google import GoogleDrive
from drivefs.errors import SignInNeeded, UserError
from drivefs.model import DriveId, RemoteFile
from drivefs.mounts import find_mount_over, resolve, running
from drivefs.records import Record, read_records
from drivefs.remote import paths
from drivefs.signin.accounts import Accounts
from drivefs.signin.find import find_sign_in

Command = TypeVar("Command", bound=Callable[..., Any])


def drive_options(command: Command) -> Command:
    """The options that say whose Drive it is; a command takes them as `**flags`, for `opened`."""
    for option in (
        click.option("--endpoint", metavar="URL", help="Another server of the Drive API than Google's."),
        click.option("--subject", metavar="EMAIL", help="Whom a service account stands in for."),
        click.option("--credentials", metavar="FILE", help="An authorized-user or service-account file."),
        click.option("--account", metavar="NAME", help="Whose Drive, of those signed in (default: default)."),
    ):
        command = option(command)
    return command


@contextmanager
def opened(flags: dict[str, Any], path: str | None = None) -> Iterator[GoogleDrive]:
    """The Drive that the options name, or else the one of the mount that `path` lies in, for the block's time; where
    nobody has signed in by default, the one of the only mount.

    Raises SignInNeeded, UsageError for options that make no sense.
    """
    record = None if path is None or is_remote(path) else _record_over(Path(path))
    if record is not None and not any(flags.values()):
        flags = _flags_of(record)
    try:
        drive = open_drive(load_settings(Path("/"), flags, os.environ, config_file()))
    except SignInNeeded:
        mounts = list(running())
        if any(flags.values()) or len(mounts) != 1:
            raise
        drive = open_drive(load_settings(Path("/"), _flags_of(mounts[0].record), os.environ, config_file()))
    try:
        yield drive
    finally:
        drive.close()


def open_drive(settings: Settings) -> GoogleDrive:
    """The account's Drive; nothing is asked of it yet. Raises SignInNeeded."""
    found = find_sign_in(settings.credentials, settings.account, subject=settings.subject)
    return GoogleDrive(found.credentials, endpoint=settings.endpoint or found.endpoint)


def signed_in(settings: Settings) -> None:
    """Whether there is a sign-in, which may be over all the same. Raises SignInNeeded."""
    find_sign_in(settings.credentials, settings.account, subject=settings.subject)


def _flags_of(record: Record) -> dict[str, Any]:
    flags: dict[str, Any] = {"endpoint": record.endpoint}
    if "/" in record.account:
        return {**flags, "credentials": record.account, "subject": record.subject}
    return {**flags, **({"account": record.account} if Accounts().file(record.account).exists() else {})}


def _record_over(path: Path) -> Record | None:
    path = resolve(path)
    entry = find_mount_over(path)
    if entry is None or not entry.is_fuse:
        return None
    return next((record for record in read_records() if record.mountpoint == entry.mountpoint), None)


def is_remote(text: str) -> bool:
    """Whether an argument names something on Drive by itself, and not by a path of this machine."""
    if text.startswith(paths.PREFIX):
        return True
    return not os.path.lexists(text) and paths.id_of(text) is not None


@dataclass(frozen=True, slots=True)
class Named:
    """An item of Drive, and how the person called it."""

    text: str
    item: RemoteFile


def named(drive: GoogleDrive, text: str) -> Named:
    """The item that an argument names: a path in a mount, a `drive:` path, an ID, or a link. Raises UserError."""
    if is_remote(text):
        return Named(text, paths.get(drive, text))
    path = Path(text)
    if _record_over(path) is None:
        if os.path.lexists(text):
            raise UserError(
                f"{text} is on this machine, and not in a mount of drivefs: name a path in one, or on Drive, such as "
                "drive:models/a.ckpt."
            )
        return Named(text, paths.get(drive, text))
    try:
        found = os.getxattr(path, "user.drivefs.id", follow_symlinks=False)
    except FileNotFoundError:
        raise UserError(f"There is no {text}.") from None
    except OSError as error:
        raise UserError(
            f"Drive has nothing of {text} yet ({error.strerror}): 'drivefs flush {text}' sends it."
        ) from error
    return Named(text, drive.get(DriveId(found.decode())))
