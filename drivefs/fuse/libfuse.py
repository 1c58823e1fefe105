"""The mount through libfuse: `serve` makes it, and answers until it is unmounted."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path

from drivefs.errors import UserError
from drivefs.fuse import binding
from drivefs.fuse.operations import KEPT_S, Operations
from drivefs.fuse.options import MountOptions
from drivefs.vfs.vfs import Vfs

log = logging.getLogger(__name__)

DEVICE = Path("/dev/fuse")

THREADS = 64
"""libfuse has 10 by default; readers that wait for Drive must not keep others from what is local."""

IDLE_THREADS = 8
"""Each has a buffer of 1 MiB."""


def serve(vfs: Vfs, mountpoint: Path, options: MountOptions, on_ready: Callable[[], None]) -> None:
    """Mount, call `on_ready` in one of libfuse's threads once the mount answers, and block until it is unmounted.

    SIGTERM, SIGINT and SIGHUP unmount it, where Python has no handler of its own for them; the caller is the main
    thread then. Files that were open at the end are sealed by `Vfs.close`. Raises UserError.
    """
    _check_device()
    loaded = binding.load()
    log.info("libfuse %d.%d through %s", *loaded.library_version, loaded.module)
    operations = Operations(vfs, on_ready)
    operations.interrupted, operations.pid = loaded.interrupted, loaded.pid
    try:
        loaded.run(
            operations,
            str(mountpoint),
            raw_fi=True,
            foreground=True,
            **_libfuse_options(options, loaded.library_version),
        )
    except RuntimeError as error:
        if not operations.answered:
            raise UserError(
                f"{mountpoint} could not be mounted (libfuse's code {error}). "
                "Is it a folder of yours, and is fusermount3 installed (apt install fuse3)? With allow_other, "
                "/etc/fuse.conf must have user_allow_other."
            ) from error
        # Ended by a signal; or the kernel took the mount away.
        log.info("The mount ended with libfuse's code %s.", error)
    finally:
        # libfuse leaves it at its default, with which a connection that Drive drops ends the process.
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)


def _check_device() -> None:
    if not DEVICE.exists():
        raise UserError(
            f"There is no {DEVICE}: load the kernel's module (modprobe fuse), or give the container the device "
            "(docker run --device /dev/fuse --cap-add SYS_ADMIN)."
        )
    # fusermount3 opens it with the person's rights.
    if not os.access(DEVICE, os.R_OK | os.W_OK):
        raise UserError(f"{DEVICE} may not be opened by this user: as root, chmod 666 {DEVICE}.")


def _libfuse_options(options: MountOptions, version: tuple[int, int]) -> dict[str, str | int | bool]:
    chosen: dict[str, str | int | bool] = {
        "fsname": options.fsname,
        "subtype": "drivefs",
        "default_permissions": True,
        "allow_other": options.allow_other,
        "ro": options.read_only,
        "auto_cache": True,
        "entry_timeout": KEPT_S,
        "attr_timeout": KEPT_S,
        "negative_timeout": 0,
        "hard_remove": True,
        "use_ino": True,
    }
    if version[0] == 2:
        chosen |= {"big_writes": True, "atomic_o_trunc": True}
    elif version >= (3, 12):
        chosen |= {"max_threads": THREADS, "max_idle_threads": IDLE_THREADS}
    for extra in options.extra:
        name, has_value, value = extra.partition("=")
        chosen[name] = value if has_value else True
    return chosen
