"""`serve` makes the mount, or goes on with that of a process that has died, and answers until it is unmounted."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from drivefs.fuse.kernel import wire
from drivefs.fuse.kernel.contents import Contents
from drivefs.fuse.kernel.device import open_mount, take_away
from drivefs.fuse.kernel.known import KnownInodes
from drivefs.fuse.kernel.names import Names
from drivefs.fuse.kernel.notify import Notifier
from drivefs.fuse.kernel.passthrough import Passthrough
from drivefs.fuse.kernel.session import IDLE_THREADS, Agreed, Session, StartThread
from drivefs.fuse.kernel.wire import Encoder
from drivefs.fuse.options import MountOptions
from drivefs.vfs.handles import Handle
from drivefs.vfs.vfs import Vfs

log = logging.getLogger(__name__)

VALID_S = 12 * 3600
"""How long the kernel may keep names, also that there are none, and attributes: it is told when they change."""


class Keeper(Protocol):
    """Whoever keeps the kernel's end of a mount when the mount's process dies."""

    def kept(self) -> tuple[int, str] | None:
        """The descriptor, and what was agreed, of the process before; None: the mount is to be made."""
        ...

    def keep(self, fd: int, agreed: str) -> None:
        """Keep a descriptor for the process after this one."""
        ...


def make_session(
    fd: int, vfs: Vfs, known: KnownInodes, passthrough: Passthrough, start_thread: StartThread
) -> Session:
    """The conversation over `fd`, about `vfs`."""
    vfs.news.keep(known)
    names = Names(vfs, Encoder(vfs.uid, vfs.gid, VALID_S), known)
    table = names.table() | Contents(vfs, names, passthrough).table()
    return Session(fd, table, start_thread, vfs.first_slot, vfs.files.receive_buffer)


def serve(
    vfs: Vfs,
    mountpoint: Path,
    options: MountOptions,
    on_ready: Callable[[], None],
    start_thread: StartThread,
    keeper: Keeper,
    handles: list[Handle],
) -> None:
    """Mount, call `on_ready` once the mount answers, and block until it is unmounted.

    Where `keeper` has a mount whose process died, it goes on with `handles` open, and nobody notices but by a pause.
    Further threads are started by `start_thread`, and have ended when this returns. Files that were open at the end
    are sealed by `Vfs.close`. Raises UserError, and then nothing is mounted.
    """
    kept = keeper.kept()
    if kept is not None:
        _go_on(vfs, *kept, handles, on_ready, start_thread)
        return
    fd = open_mount(mountpoint, options)
    try:
        passthrough = Passthrough(fd)
        known = KnownInodes()
        session = make_session(fd, vfs, known, passthrough, start_thread)
        try:
            agreed = session.agree(passthrough=options.passthrough)
            passthrough.enabled = agreed.passthrough
            log.info(
                "The kernel speaks version 7.%d of FUSE, %s passthrough",
                agreed.minor,
                "with" if agreed.passthrough else "without",
            )
            if agreed.resends:
                keeper.keep(fd, agreed.to_text())
            _make_buffers(vfs, passthrough)
            on_ready()
        except BaseException:
            take_away(mountpoint)
            raise
        _run(session, Notifier(fd, vfs, known), vfs, start_thread)
    finally:
        os.close(fd)


def _go_on(
    vfs: Vfs, fd: int, agreed: str, handles: list[Handle], on_ready: Callable[[], None], start_thread: StartThread
) -> None:
    try:
        passthrough = Passthrough(fd)
        passthrough.enabled = Agreed.from_text(agreed).passthrough
        for handle in handles:
            if handle.backing:
                passthrough.restore(handle)
        known = KnownInodes(all_of_them=True)
        session = make_session(fd, vfs, known, passthrough, start_thread)
        session.resume()
        log.info("The mount of the process before goes on, with %d files open", len(handles))
        _make_buffers(vfs, passthrough)
        on_ready()
        _run(session, Notifier(fd, vfs, known), vfs, start_thread)
    finally:
        os.close(fd)


def _make_buffers(vfs: Vfs, passthrough: Passthrough) -> None:
    """With passthrough the kernel writes by itself."""
    if not passthrough.enabled:
        vfs.files.make_receive_buffers(IDLE_THREADS + 1, wire.BUFFER_BYTES)


def _run(session: Session, notifier: Notifier, vfs: Vfs, start_thread: StartThread) -> None:
    notifying = start_thread(notifier.run, "notifier")
    try:
        session.run()
    finally:
        vfs.news.close()
        notifying.join()
