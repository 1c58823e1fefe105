"""Write-back: when content becomes dirty, and when it is sealed, so that it waits for Drive.

Any thread may enter; the caller holds the lock of the open file, unless a method says that it takes it itself. A
file is marked dirty in the journal before its first byte changes. It is sealed when nobody is writing any more; a
file that is held open gets to Drive by snapshots.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from drivefs.errors import Changing
from drivefs.model import Inode
from drivefs.store.content_file import ContentFile
from drivefs.store.generations import State
from drivefs.store.store import Store
from drivefs.vfs.opened import OpenFile, OpenFiles

log = logging.getLogger(__name__)

SNAPSHOT_QUIET_NS = 10_000_000_000
"""A file that is held open gets to Drive when nothing was written to it for 10 s …"""

SNAPSHOT_EVERY_NS = 60_000_000_000
"""… or a minute after the last time, if it never rests …"""

SNAPSHOT_BUSY_BYTES = 256 << 20
"""… unless it is so large that its writer would notice the copy: then only when it rests …"""

SNAPSHOT_NS_A_BYTE = 100
"""… and no more often than its size allows: 10 MB/s of copying and sending for one file."""

TICK_NS = 20_000_000
"""Disks date changes by a clock that ticks every 1 to 10 ms."""

UNRELEASED_NS = 2_000_000_000
"""The kernel releases a file within milliseconds after its last close, unless it is still in use somewhere."""


def _unreleased(opened: OpenFile) -> bool:
    """Whether it is closed, and the kernel may write it still."""
    file = opened.file
    return file is not None and file.state is State.SEALED and file.direct_writers > 0


class WriteBack:
    """What is written in one mount, on its way to the journal."""

    def __init__(self, store: Store, opened: OpenFiles) -> None:
        self._store = store
        self._opened = opened
        self._released = threading.Condition()  # notified when the kernel has let go of a file that it wrote

    def writable(self, opened: OpenFile) -> ContentFile:
        """The live content, marked dirty."""
        file = self._opened.load(opened)
        if not opened.dirty:
            file = opened.file = self._store.journal.start_writing(file, in_place=opened.direct > 0)
        return file

    # --- sealed when nobody writes ---

    def seal_again(self, opened: OpenFile) -> None:
        """What the kernel wrote after the seal, through another copy of the descriptor or a map, counts too. No
        upload has seen it: none begins before the last writer is released."""
        file = opened.file
        if file is None or file.state is not State.SEALED or file.fingerprint() == opened.sealed:
            return
        if not self._is_unnamed(opened):
            self._seal(opened, file)

    def _seal(self, opened: OpenFile, file: ContentFile) -> None:
        opened.sealed = file.fingerprint()  # before: what is written meanwhile is to be noticed
        opened.sealed_ns = time.time_ns()
        with self._store.request():
            self._store.journal.seal(file)
        opened.sent = opened.sent_ns = None

    def settle(self, opened: OpenFile) -> None:
        """Seal what nobody writes any more. What has no name is not for Drive."""
        if opened.busy or opened.file is None or not opened.dirty:
            return
        with self._store.db.transaction():
            if self._is_unnamed(opened):
                return
            if opened.file.untouched:
                self._store.journal.leave_unchanged(opened.file)
            else:
                self._seal(opened, opened.file)

    def _is_unnamed(self, opened: OpenFile) -> bool:
        node = self._store.nodes.find(opened.inode)
        return node is None or node.gone

    def released(self) -> None:
        """The kernel has let go of a file that it wrote."""
        self._store.journal.changed.set()
        with self._released:
            self._released.notify_all()

    # --- snapshots of what is held open ---

    def snapshot_all(self, chosen: Callable[[Inode], bool]) -> None:
        """Send a copy of every open file that is chosen as it is now, so that a flush covers it. Takes the locks
        itself. Raises Changing, after all others were sent."""
        with self._released:
            self._released.wait_for(lambda: not any(map(_unreleased, self._opened.all())), UNRELEASED_NS / 1e9)
        changing: Changing | None = None
        for opened in self._opened.all():
            if not (opened.dirty or _unreleased(opened)) or not chosen(opened.inode):
                continue
            try:
                with opened.lock:
                    self.snapshot_if_dirty(opened)
            except Changing as error:
                path = self._store.nodes.path(opened.inode)
                changing = Changing(f"{path} is written without a pause: let its program rest, or close it.")
                changing.__cause__ = error
        if changing is not None:
            raise changing

    def snapshot_if_dirty(self, opened: OpenFile) -> None:
        self._go_on_unreleased(opened)
        file = opened.file
        if file is not None and opened.dirty and not file.untouched and not self._is_unnamed(opened):
            self._snapshot(opened, file)

    def _snapshot(self, opened: OpenFile, file: ContentFile) -> None:
        """Send a copy, unless this very state was sent before; the caller holds the lock."""
        state = (file.size_bytes, file.mtime_ns)
        if state != opened.sent:
            settled = time.time_ns() - file.mtime_ns > TICK_NS
            self._store.journal.seal_snapshot(file)
            # Another write within the same tick of the disk's clock would look like this one.
            opened.sent = state if settled else None

    def snapshot_due(self, now_ns: int) -> None:
        """Send open files that rest for a while, or have been written for long, as they are now: logs and event
        files get to Drive without being closed, at a bounded rate. Takes the locks itself."""
        for opened in self._opened.all():
            with opened.lock:
                if now_ns - opened.sealed_ns > UNRELEASED_NS:
                    self._go_on_unreleased(opened)
                file = opened.file
                if file is None or not opened.dirty or file.untouched or self._is_unnamed(opened):
                    continue
                if opened.sent_ns is None:
                    opened.sent_ns = now_ns
                waited_ns = now_ns - opened.sent_ns
                quiet = now_ns - file.mtime_ns >= SNAPSHOT_QUIET_NS
                if not quiet and (waited_ns < SNAPSHOT_EVERY_NS or file.size_bytes > SNAPSHOT_BUSY_BYTES):
                    continue
                if waited_ns >= file.size_bytes * SNAPSHOT_NS_A_BYTE:
                    try:
                        self._snapshot(opened, file)
                    except Changing as error:
                        log.info("It is tried again soon: %s", error)
                    else:
                        opened.sent_ns = now_ns

    def _go_on_unreleased(self, opened: OpenFile) -> None:
        """Take a file that is closed and not released for open: another process has a copy of the descriptor, or
        there is a map of it. It gets to Drive by snapshots until then, and keeps nothing waiting."""
        file = opened.file
        if file is not None and _unreleased(opened):
            mtime_ns = file.mtime_ns
            self.writable(opened)
            file.set_mtime(mtime_ns)

    def count_dirty(self) -> int:
        """Open files that are being written."""
        return sum(opened.dirty for opened in self._opened.all())
