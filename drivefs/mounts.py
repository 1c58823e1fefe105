"""What is mounted where: the kernel's mount table, and this user's mounts whose processes answer.

Any process of the user may enter. A mount point is never looked into here when a FUSE mount may be on it: with its
process dead, every look fails or hangs.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from drivefs.control import Client, connect
from drivefs.errors import UserError
from drivefs.records import Record, find_record, read_records

FUSE_TYPE = "fuse.drivefs"
_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8  # umount2(2)
_PROBE_S = 3.0
_LOOK_S = 0.05

RESTART_S = 10.0
"""A mount that is brought back answers again within a second; this long it is waited for."""

END_S = 75.0
"""Longer than a mount that was told to end goes on uploading (config.Settings.stop_timeout)."""

# Not stat, which the kernel may answer from what it remembers.
_PROBE = "import os, sys\ntry: os.statvfs(sys.argv[1])\nexcept OSError as error: sys.exit(error.errno)"


# --- the kernel's table ---


@dataclass(frozen=True, slots=True)
class TableEntry:
    """A line of /proc/self/mountinfo."""

    mountpoint: Path
    fs_type: str
    device: str
    """major:minor; a FUSE connection's number is the minor one."""

    @property
    def is_fuse(self) -> bool:
        return self.fs_type.split(".")[0] in ("fuse", "fuseblk")


def read_table(text: str | None = None) -> list[TableEntry]:
    """The mounts of this process's namespace, oldest first (proc_pid_mountinfo(5))."""
    if text is None:
        text = Path("/proc/self/mountinfo").read_text(errors="surrogateescape")
    entries = []
    for line in text.splitlines():
        mounted, _, rest = line.partition(" - ")
        words = mounted.split(" ")
        entries.append(TableEntry(Path(_unescaped(words[4])), rest.split(" ")[0], words[2]))
    return entries


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def find_mount_at(mountpoint: Path) -> TableEntry | None:
    """The uppermost mount on exactly this path; symbolic links in it are not followed."""
    return next((entry for entry in reversed(read_table()) if entry.mountpoint == mountpoint), None)


def find_mount_over(path: Path) -> TableEntry | None:
    """The mount that an absolute path lies in, by its name alone."""
    above = {path, *path.parents}
    holding = [entry for entry in read_table() if entry.mountpoint in above]
    return max(reversed(holding), key=lambda entry: len(entry.mountpoint.parts), default=None)


def resolve(path: Path) -> Path:
    """An absolute path without symbolic links, found without looking at FUSE mounts."""
    path = Path(os.path.abspath(path))
    entry = find_mount_over(path)
    return path if entry is not None and entry.is_fuse else Path(os.path.realpath(path))


# --- those that answer ---


@dataclass(frozen=True, slots=True)
class Running:
    """A mount whose process answers."""

    record: Record
    client: Client


def running() -> Iterator[Running]:
    """All mounts of this user whose process answers, or is being brought back and answers soon."""
    for record in read_records():
        client = reach(record)
        if client is not None:
            yield Running(record, client)


def reach(record: Record) -> Client | None:
    """The process of a mount; one that has died is waited for while its supervisor brings it back."""
    deadline_s = time.monotonic() + RESTART_S
    while (client := connect(record.cache_dir)) is None:
        if not is_supervised(record) or time.monotonic() > deadline_s:
            return None
        time.sleep(_LOOK_S)
    return client


def is_supervised(record: Record) -> bool:
    """Whether the mount's supervisor lives. Its ID may belong to another process since."""
    if record.supervisor is None:
        return False
    try:
        words = Path(f"/proc/{record.supervisor}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return b"drivefs.supervisor" in words and os.fsencode(str(record.log)) in words


def has_ended(process: int, limit_s: float) -> bool:
    """Whether the process of a descriptor (pidfd_open(2)) ends within a time."""
    waiting = select.poll()  # select(2) knows no descriptors from 1,024 on, and a notebook may have as many
    waiting.register(process, select.POLLIN)
    return bool(waiting.poll(limit_s * 1000))


def end_supervisor(record: Record) -> bool:
    """Let nobody bring the mount back any more, and end its process; whether there was anybody.

    Raises UserError when it takes too long.
    """
    if not is_supervised(record) or record.supervisor is None:
        return False
    try:
        process = os.pidfd_open(record.supervisor)
        try:
            signal.pidfd_send_signal(process, signal.SIGTERM)
            gone = has_ended(process, END_S)
        finally:
            os.close(process)
    except ProcessLookupError:
        return True
    if not gone:
        raise UserError(f"The process {record.supervisor} has not ended: 'kill -9 {record.supervisor}' ends it.")
    return True


def get_running(path: Path | None) -> Running:
    """The mount that `path` lies in, or the only one there is. Raises UserError, with a way out."""
    found = list(running())
    if path is None:
        if len(found) == 1:
            return found[0]
        if not found:
            raise UserError("Nothing is mounted by drivefs: 'drivefs mount FOLDER' mounts Google Drive there.")
        folders = ", ".join(str(one.record.mountpoint) for one in found)
        raise UserError(f"There are several mounts, say which one: {folders}.")
    path = resolve(path)
    entry = find_mount_over(path)
    for one in found:
        if entry is not None and one.record.mountpoint == entry.mountpoint:
            return one
    for one in found:  # unmounted by hand, but still at work
        if one.record.mountpoint in (path, *path.parents):
            return one
    raise UserError(f"{path} is not in a mount of drivefs whose process runs: 'drivefs status' lists what there is.")


# --- making room for a mount, and ending one ---


def clear_stale(mountpoint: Path) -> bool:
    """Take a mount whose process has died off an absolute path; whether there was one.

    Raises UserError when something that lives is mounted there.
    """
    found = False
    while (entry := find_mount_at(mountpoint)) is not None and entry.is_fuse:
        record = find_record(mountpoint) if entry.fs_type == FUSE_TYPE else None
        client = reach(record) if record is not None else None
        if client is not None:
            raise UserError(
                f"{mountpoint} is mounted by drivefs already (process {client.pid}): use it, or end it first "
                f"with 'drivefs umount {mountpoint}'."
            )
        if not is_dead(mountpoint):
            raise UserError(
                f"Something is mounted on {mountpoint} already ({entry.fs_type}): unmount it, or name another folder."
            )
        unmount(mountpoint, lazy=True)
        found = True
    return found


def clear_dead(mountpoint: Path) -> None:
    """Take the mount of a process of ours that has died off its path. Raises UserError when something lives there."""
    while (entry := find_mount_at(mountpoint)) is not None and entry.fs_type == FUSE_TYPE:
        if not is_dead(mountpoint):
            raise UserError(f"{mountpoint} is mounted again already.")
        unmount(mountpoint, lazy=True)


def ensure_mountpoint(mountpoint: Path) -> bool:
    """Make sure that an absolute path is an empty folder; whether it had to be made. Raises UserError."""
    try:
        with os.scandir(mountpoint) as entries:
            first = next(entries, None)
    except FileNotFoundError:
        _make(mountpoint)
        return True
    except NotADirectoryError:
        raise UserError(f"The mount point {mountpoint} is a file: name a folder.") from None
    except OSError as error:
        raise UserError(
            f"The mount point {mountpoint} cannot be looked into ({error.strerror}): choose a folder of your own."
        ) from error
    if first is not None:
        raise UserError(
            f"The mount point {mountpoint} is not empty, and would be hidden: empty it, or name another folder."
        )
    return False


def _make(mountpoint: Path) -> None:
    try:
        mountpoint.mkdir()
    except FileNotFoundError:
        raise UserError(
            f"The mount point {mountpoint} does not exist, nor does the folder above it: make them with "
            f"'mkdir -p {mountpoint}'."
        ) from None
    except OSError as error:
        raise UserError(
            f"The mount point {mountpoint} does not exist and cannot be made ({error.strerror}): choose a folder of "
            "your own."
        ) from error


def is_dead(mountpoint: Path) -> bool:
    """Whether a FUSE mount answers ENOTCONN; asked in a process of its own, for it may hang."""
    try:
        code = subprocess.run(
            [sys.executable, "-S", "-c", _PROBE, mountpoint], timeout=_PROBE_S, check=False
        ).returncode
    except subprocess.TimeoutExpired:
        return False
    return code == errno.ENOTCONN


class MountBusy(UserError):
    """Something on the mount is in use."""


def unmount(mountpoint: Path, *, lazy: bool = False) -> None:
    """Take the mount off its path. Raises MountBusy when it is in use and not `lazy`, UserError else."""
    libc = ctypes.CDLL(None, use_errno=True)
    flags = _UMOUNT_NOFOLLOW | (_MNT_DETACH if lazy else 0)
    if libc.umount2(os.fsencode(mountpoint), flags) == 0:
        return
    code = ctypes.get_errno()
    if code == errno.EBUSY:
        raise MountBusy(_busy(mountpoint))
    if code == errno.EINVAL:
        raise UserError(f"Nothing is mounted on {mountpoint}.")
    if code != errno.EPERM:
        raise UserError(f"{mountpoint} cannot be unmounted: {os.strerror(code)}.")
    tool = shutil.which("fusermount3") or shutil.which("fusermount")
    if tool is None:
        raise UserError(f"fusermount3 is missing, so only root can unmount {mountpoint}: install the package fuse3.")
    done = subprocess.run(
        [tool, "-uz" if lazy else "-u", "--", mountpoint], capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        return
    if "busy" in done.stderr:  # fusermount3 has no exit code of its own for it
        raise MountBusy(_busy(mountpoint))
    raise UserError(f"{mountpoint} cannot be unmounted: {done.stderr.strip()}.")


def _busy(mountpoint: Path) -> str:
    return (
        f"{mountpoint} is in use: close the files and leave the folders in it ('fuser -vm {mountpoint}' says who has "
        "them), then unmount again."
    )


def check_fuse() -> None:
    """Whether this user can mount at all. Raises UserError with what to do."""
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENODEV, errno.ENXIO):
            raise UserError(
                "There is no /dev/fuse: load the kernel's module ('sudo modprobe fuse'), or start the container with "
                "'--device /dev/fuse --cap-add SYS_ADMIN'."
            ) from None
        raise UserError(
            f"/dev/fuse cannot be opened ({error.strerror}): 'sudo chmod 666 /dev/fuse' opens it to all users; "
            "in a container start it with '--device /dev/fuse --cap-add SYS_ADMIN'."
        ) from error
    if os.geteuid() != 0 and not (shutil.which("fusermount3") or shutil.which("fusermount")):
        raise UserError(
            "fusermount3 is missing, and without it only root can mount: install it with 'sudo apt install fuse3'."
        )
