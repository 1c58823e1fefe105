"""doctor: whether this machine can mount, and this account be mounted; each line OK, or what to do.

`doctor --json` prints one object: ok, checks: [{name, ok, text}]. A check that only warns is ok.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import platformdirs

from drivefs.cli.account import drive_options
from drivefs.cli.progress import size_text
from drivefs.config import Settings, config_file, load_settings
from drivefs.drive.auth import DRIVE_SCOPE, SCOPES
from drivefs.drive.google import GoogleDrive
from drivefs.errors import DrivefsError, UserError
from drivefs.fuse import binding
from drivefs.mounts import FUSE_TYPE, check_fuse, is_dead, read_table
from drivefs.records import read_records, state_folder
from drivefs.signin.accounts import login_command
from drivefs.signin.check import granted_scopes
from drivefs.signin.find import Found, find_sign_in

PASSTHROUGH_LINUX = (6, 9)
"""From here on the kernel has passthrough, and sends again what a dead process did not answer."""
CLOCK_OFF_S = 60.0
ROOM_BYTES = 1 << 30
QUOTA_SHARE = 0.95
_CAP_SYS_ADMIN = 21


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found."""

    name: str
    ok: bool
    text: str


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one object.")
@drive_options
def doctor(as_json: bool, **flags: Any) -> None:
    """Check what a mount needs: FUSE, the disk, the clock, the sign-in, Drive. Exit code 1: something is wrong."""
    findings = []
    for finding in examine(load_settings(Path("/"), flags, os.environ, config_file())):
        findings.append(finding)
        if not as_json:
            click.echo(f"{'OK ' if finding.ok else 'NOT'}  {finding.name:12} {finding.text}")
    ok = all(finding.ok for finding in findings)
    if as_json:
        click.echo(json.dumps({"ok": ok, "checks": [asdict(finding) for finding in findings]}))
    if not ok:
        raise click.exceptions.Exit(1)


def examine(settings: Settings) -> Iterator[Finding]:
    """All checks, one after another; none ends those behind it."""
    local: tuple[tuple[str, Callable[[], str]], ...] = (
        ("/dev/fuse", _device),
        ("fusermount3", _fusermount),
        ("kernel", lambda: _kernel(os.uname().release, _may_pass_through())),
        ("libfuse", _libfuse),
        ("other users", _other_users),
        ("cache", lambda: _cache(settings)),
        ("state", lambda: f"{state_folder()} holds logs and records."),
        ("mounts", _mounts),
    )
    for name, check in local:
        yield _found(name, check)
    try:
        found = find_sign_in(settings.credentials, settings.account, subject=settings.subject)
        drive = GoogleDrive(found.credentials, endpoint=settings.endpoint or found.endpoint)
    except DrivefsError as error:
        yield Finding("sign-in", False, str(error))
        return
    try:
        yield from _remote(drive, found, settings)
    finally:
        drive.close()


def _found(name: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(name, True, check())
    except DrivefsError as error:
        return Finding(name, False, str(error))


# --- this machine ---


def _device() -> str:
    check_fuse()
    return "can be opened."


def _fusermount() -> str:
    tool = shutil.which("fusermount3") or shutil.which("fusermount")
    if tool is not None:
        return f"{tool}."
    return "is missing, and root does without it; other users need the package fuse3."  # else check_fuse has said so


def _may_pass_through() -> bool:
    status = Path("/proc/self/status").read_text()
    (rights,) = [int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff:")]
    return bool(rights >> _CAP_SYS_ADMIN & 1)


def _kernel(release: str, may_pass_through: bool) -> str:
    found = re.match(r"(\d+)\.(\d+)", release)
    version = (int(found[1]), int(found[2])) if found else (0, 0)
    if version < PASSTHROUGH_LINUX:
        return (
            f"Linux {release}: no passthrough (6.9 and newer have it), so all bytes go through the mount's process."
        )
    if not may_pass_through:
        return (
            f"Linux {release}: has passthrough, which takes CAP_SYS_ADMIN; this user's bytes go through the process."
        )
    return f"Linux {release}: passthrough, and a crash of the mount's process is a pause."


def _libfuse() -> str:
    try:
        found = binding.load()
    except UserError as error:
        return f"is not there, and needed by --transport libfuse only ({str(error).split(':')[0]})."
    return f"{found.module} with libfuse {found.library_version[0]}.{found.library_version[1]}."


def _other_users() -> str:
    if os.geteuid() == 0:
        return "may be let in with --allow-other."
    try:
        lines = Path("/etc/fuse.conf").read_text().split("\n")
    except OSError:
        lines = []
    if "user_allow_other" in (line.strip() for line in lines):
        return "may be let in with --allow-other."
    return "cannot be let in: --allow-other needs the line user_allow_other in /etc/fuse.conf."


def _cache(settings: Settings) -> str:
    folder = settings.cache_dir or Path(platformdirs.user_cache_dir("drivefs"))
    there = next(each for each in (folder, *folder.parents) if each.exists())
    if not os.access(there, os.W_OK):
        raise UserError(f"{there} cannot be written: choose another folder with --cache-dir DIR.")
    free = shutil.disk_usage(there).free
    kind = max(
        (entry for entry in read_table() if entry.mountpoint in (there, *there.parents)),
        key=lambda entry: len(entry.mountpoint.parts),
    ).fs_type
    if free < ROOM_BYTES:
        raise UserError(
            f"{folder} has {size_text(free)} free: make room, or choose another disk with --cache-dir DIR."
        )
    if kind in ("tmpfs", "ramfs"):
        return f"{folder}: {size_text(free)} free, in memory: what waits for Drive is lost when the machine stops."
    return f"{folder}: {size_text(free)} free ({kind})."


def _mounts() -> str:
    known = {record.mountpoint for record in read_records()}  # and not those of other users
    ours = [entry.mountpoint for entry in read_table() if entry.fs_type == FUSE_TYPE and entry.mountpoint in known]
    dead = [str(mountpoint) for mountpoint in ours if is_dead(mountpoint)]
    if dead:
        raise UserError(f"The process of {', '.join(dead)} has died: 'drivefs umount {dead[0]}' clears it away.")
    return f"{len(ours)} mounted, none of them dead." if ours else "none."


# --- Drive ---


def _remote(drive: GoogleDrive, found: Found, settings: Settings) -> Iterator[Finding]:
    try:
        about = drive.about()
        sent = datetime.now(UTC)
        server = drive.explorer().server_time()
    except UserError as error:
        yield Finding("sign-in", False, str(error))
        return
    except DrivefsError as error:
        yield Finding("Drive", False, f"{error} Look at the network, and at --endpoint if you gave one.")
        return
    yield Finding("Drive", True, "answers.")
    yield Finding("sign-in", True, f"{about.email or 'an account without an address'}.")
    scopes = granted_scopes(found) or found.granted_scopes
    yield _found("scopes", lambda: _scopes(scopes, login_command(settings.account), read_only=settings.read_only))
    yield _found("quota", lambda: _quota(about.limit_bytes, about.usage_bytes))
    yield _found("clock", lambda: _clock(sent, server))


def _scopes(granted: Sequence[str], login: str, *, read_only: bool) -> str:
    if not granted:
        return "the sign-in server does not tell."
    if DRIVE_SCOPE in granted:
        return "all of Drive may be read and written."
    if SCOPES["file"] in granted:
        return f"only what this OAuth client has made is seen and written; '{login} --scope full' shows all."
    if SCOPES["readonly"] not in granted:
        raise UserError(f"Drive is not among what the sign-in grants: '{login}' signs in anew.")
    if not read_only:
        raise UserError(f"Drive may only be read: mount with --read-only, or sign in with '{login} --scope full'.")
    return "Drive may be read."


def _quota(limit_bytes: int | None, usage_bytes: int) -> str:
    if limit_bytes is None:
        return f"{size_text(usage_bytes)} used, without a limit."
    if limit_bytes == 0:
        raise UserError(
            "This account owns no storage, as a service account: use a shared drive, or impersonate a user."
        )
    text = f"{size_text(usage_bytes)} of {size_text(limit_bytes)} used"
    if usage_bytes >= QUOTA_SHARE * limit_bytes:
        raise UserError(f"{text}: uploads will stop soon; empty Drive's trash, or buy storage.")
    return f"{text}."


def _clock(local: datetime, server: datetime | None) -> str:
    if server is None:
        return "Drive does not say what time it is."
    off_s = (local - server).total_seconds()
    if abs(off_s) > CLOCK_OFF_S:
        which = "ahead of" if off_s > 0 else "behind"
        raise UserError(
            f"is {abs(off_s):.0f} s {which} Drive's, so tokens are refused: 'sudo timedatectl set-ntp true' sets it."
        )
    return "agrees with Drive's."
