"""Copies of a content file as it is at one instant, while others may write it. Any thread may enter."""

from __future__ import annotations

import os
import time
from pathlib import Path

from drivefs.errors import CacheFull
from drivefs.store.content_file import ContentFile
from drivefs.store.disk import copy_bytes, is_open_for_writing, share_blocks
from drivefs.store.open_files import Fingerprint

COPY_LIMIT_BYTES = 64 << 20
"""Up to this size a generation that is on its way to Drive is copied when it is changed in place; above it the
upload is given up for the newer content. The copy costs a system call some 50 ms at this size."""

TICK_S = 0.02
"""File times move in steps; the longest is 10 ms (a kernel with CONFIG_HZ_100)."""

LET_GO_S = 1.0
"""The kernel lets go of a mount's files within some milliseconds after it was taken away."""


def copy_bytes_of(source: ContentFile, target: ContentFile, limit_bytes: int | None) -> bool:
    """Give an empty file the bytes of another, shared where the disk can do that; False, and nothing is done, where
    it cannot and there are more than the limit. Raises CacheFull."""
    size_bytes = source.size_bytes
    try:
        share_blocks(source.fd, target.fd)
    except OSError:
        # This filesystem does not share blocks between files.
        if limit_bytes is not None and size_bytes > limit_bytes:
            return False
        try:
            copy_bytes(source.fd, target.fd, size_bytes)
        except OSError as error:
            raise CacheFull(f"The cache has no room for a copy: {error.strerror}.") from error
    return True


def settled_fingerprint(file: ContentFile) -> Fingerprint:
    """One that any later change shows in: maps are flushed, so that the next store into one is seen, and the clock
    has moved on since the last change."""
    os.fdatasync(file.fd)
    time.sleep(max(0.0, min(TICK_S, TICK_S - (time.time() - file.fingerprint().ctime_ns / 1e9))))
    return file.fingerprint()


def is_written_elsewhere(path: Path) -> bool:
    """Whether somebody writes a file that is not open here; what the kernel has only not let go of yet is waited
    for."""
    end_s = time.monotonic() + LET_GO_S
    while is_open_for_writing(path):
        if time.monotonic() > end_s:
            return True
        time.sleep(TICK_S)
    return False
