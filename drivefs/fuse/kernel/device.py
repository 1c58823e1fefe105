"""/dev/fuse: how a mount is made, by mount(2) as root and by fusermount3 for all others. Entered by one thread.

The descriptor is all that there is of a mount: who holds it serves it.
"""

from __future__ import annotations

import array
import ctypes
import os
import shutil
import socket
import stat
import subprocess
from pathlib import Path

from drivefs.errors import UserError
from drivefs.fuse.options import MountOptions

DEVICE = Path("/dev/fuse")
SUBTYPE = "drivefs"

_MS_FLAGS = {
    "ro": 1,
    "nosuid": 2,
    "nodev": 4,
    "noexec": 8,
    "sync": 16,
    "dirsync": 128,
    "noatime": 1024,
    "nodiratime": 2048,
}
"""mount(2), linux/mount.h."""

_DEFAULTS = {"exec", "async", "atime", "diratime", "rw", "default_permissions"}
"""Options that say what holds anyway."""

_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8  # umount2(2)


def check_options(options: MountOptions) -> None:
    """Raises UserError for what only libfuse knows, or nobody."""
    for option in options.extra:
        name, _, value = option.partition("=")
        known = (name == "fsname" and value) or (not value and name in {*_MS_FLAGS, *_DEFAULTS})
        if not known:
            raise UserError(f"The kernel has no mount option {option!r} for FUSE: leave it out.")


def open_mount(mountpoint: Path, options: MountOptions) -> int:
    """Mount, and return the descriptor that requests are read from. Raises UserError."""
    check_options(options)
    return _mount_directly(mountpoint, options) if os.geteuid() == 0 else _ask_fusermount(mountpoint, options)


def _source(options: MountOptions) -> str:
    chosen = [option.partition("=")[2] for option in options.extra if option.startswith("fsname=")]
    return chosen[-1] if chosen else options.fsname


def _flag_names(options: MountOptions) -> list[str]:
    names = [option for option in options.extra if option in _MS_FLAGS]
    return [*(["ro"] if options.read_only else []), "nosuid", "nodev", *names]


def _mount_directly(mountpoint: Path, options: MountOptions) -> int:
    try:
        fd = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise UserError(f"{DEVICE} cannot be opened: {error.strerror}.") from error
    data = [f"fd={fd}", f"rootmode={stat.S_IFDIR:o}", f"user_id={os.geteuid()}", f"group_id={os.getegid()}"]
    data += ["default_permissions", *(["allow_other"] if options.allow_other else [])]
    flags = 0
    for name in _flag_names(options):
        flags |= _MS_FLAGS[name]
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.mount(
        os.fsencode(_source(options)),
        os.fsencode(mountpoint),
        f"fuse.{SUBTYPE}".encode(),
        ctypes.c_ulong(flags),
        ",".join(data).encode(),
    )
    if result != 0:
        os.close(fd)
        raise UserError(f"{mountpoint} cannot be mounted: {os.strerror(ctypes.get_errno())}.")
    return fd


def _ask_fusermount(mountpoint: Path, options: MountOptions) -> int:
    tool = shutil.which("fusermount3") or shutil.which("fusermount")
    if tool is None:
        raise UserError("fusermount3 is missing, and without it only root can mount: install the package fuse3.")
    words = [f"fsname={_source(options)}", f"subtype={SUBTYPE}", "default_permissions", *_flag_names(options)]
    if options.allow_other:
        words.append("allow_other")
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            process = subprocess.Popen(
                [tool, "-o", ",".join(words), "--", mountpoint],
                env={**os.environ, "_FUSE_COMMFD": str(theirs.fileno())},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
        fd = _received(ours)
        _, said = process.communicate()
    if fd is None:
        why = said.strip().rstrip(".") or "fusermount3 does not say why"
        raise UserError(f"{mountpoint} cannot be mounted: {why}.")
    os.set_inheritable(fd, False)
    return fd


def _received(connection: socket.socket) -> int | None:
    """The descriptor that comes over the socket; None when the other side closes it."""
    numbers = array.array("i")
    _, ancillary, _, _ = connection.recvmsg(1, socket.CMSG_SPACE(numbers.itemsize))
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            numbers.frombytes(data[: numbers.itemsize])
            return numbers[0]
    return None


def take_away(mountpoint: Path) -> None:
    """Undo a mount that never answered."""
    if os.geteuid() == 0:
        ctypes.CDLL(None).umount2(os.fsencode(mountpoint), _UMOUNT_NOFOLLOW | _MNT_DETACH)
    else:
        tool = shutil.which("fusermount3") or "fusermount"
        subprocess.run([tool, "-uz", "--", mountpoint], stdin=subprocess.DEVNULL, capture_output=True, check=False)
