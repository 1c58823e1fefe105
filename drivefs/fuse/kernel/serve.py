"""`serve` makes the mount, and answers until it is unmounted."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

from drivefs.fuse.kernel.contents import Contents
from drivefs.fuse.kernel.device import open_mount, take_away
from drivefs.fuse.kernel.known import KnownInodes
from drivefs.fuse.kernel.names import Names
from drivefs.fuse.kernel.passthrough import Passthrough
from drivefs.fuse.kernel.session import Session, StartThread
from drivefs.fuse.kernel.wire import Encoder
from drivefs.fuse.options import MountOptions
from drivefs.vfs.vfs import Vfs

log = logging.getLogger(__name__)

VALID_S = 1
"""How long the kernel may keep names and attributes."""


def make_session(fd: int, vfs: Vfs, passthrough: Passthrough, start_thread: StartThread) -> Session:
    """The conversation over `fd`, about `vfs`."""
    names = Names(vfs, Encoder(vfs.uid, vfs.gid, VALID_S), KnownInodes())
    return Session(fd, names.table() | Contents(vfs, names, passthrough).table(), start_thread)


def serve(
    vfs: Vfs, mountpoint: Path, options: MountOptions, on_ready: Callable[[], None], start_thread: StartThread
) -> None:
    """Mount, call `on_ready` once the mount answers, and block until it is unmounted.

    Further threads are started by `start_thread`, and have ended when this returns. Files that were open at the end
    are sealed by `Vfs.close`. Raises UserError, and then nothing is mounted.
    """
    fd = open_mount(mountpoint, options)
    try:
        passthrough = Passthrough(fd)
        session = make_session(fd, vfs, passthrough, start_thread)
        try:
            agreed = session.agree(passthrough=options.passthrough)
            passthrough.enabled = agreed.passthrough
            log.info(
                "The kernel speaks version 7.%d of FUSE, %s passthrough",
                agreed.minor,
                "with" if agreed.passthrough else "without",
            )
            on_ready()
        except BaseException:
            take_away(mountpoint)
            raise
        session.run()
    finally:
        os.close(fd)
