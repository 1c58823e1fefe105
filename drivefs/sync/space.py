"""How full Drive is, as last heard. Asked by the thread that follows the changes; any thread may look."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from drivefs.drive.api import Drive

EVERY_S = 60.0
"""Drive's quota is asked for once a minute,"""

FIRST_S = 5.0
"""and not in the first moments, which are for who waits for a listing, unless somebody wants to know."""

UNLIMITED_BYTES = 1 << 50
"""Shown as the size of a Drive without a limit."""


@dataclass(frozen=True, slots=True)
class Space:
    """How full Drive is."""

    total_bytes: int
    free_bytes: int


class SpaceWatch:
    """Drive's quota."""

    def __init__(self, drive: Drive, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._drive = drive
        self._monotonic = monotonic
        self._due_s = monotonic() + FIRST_S
        self._wanted = threading.Event()
        self.known: Space | None = None
        """None while Drive has not said; one assignment."""

    def want(self) -> None:
        """Somebody asks who should not wait for the next time."""
        self._wanted.set()

    def is_due(self) -> bool:
        return self._wanted.is_set() or self._monotonic() >= self._due_s

    def ask(self) -> None:
        """Raises DriveError, SignInNeeded."""
        self._wanted.clear()
        about = self._drive.about()
        if about.limit_bytes is None:
            self.known = Space(UNLIMITED_BYTES, UNLIMITED_BYTES - about.usage_bytes)
        else:
            self.known = Space(about.limit_bytes, max(0, about.limit_bytes - about.usage_bytes))
        self._due_s = self._monotonic() + EVERY_S
