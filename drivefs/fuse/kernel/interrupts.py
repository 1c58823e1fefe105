"""Requests that may wait for the network, and are given up when whoever waits for them is to end.

Any thread may enter. Whoever takes a request out of the table answers it: so it is answered once.
"""

from __future__ import annotations

import signal
import threading
from collections import deque
from contextlib import suppress
from pathlib import Path

from drivefs.fuse.kernel.request import Request

_ENDING = sum(
    1 << (number - 1) for number in (signal.SIGKILL, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
)
"""Signals that are meant to end a program. The kernel interrupts for any: a read must not fail for a timer's."""

EARLY_KEPT = 64


class Interrupts:
    """The requests under way that can be interrupted."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[int, Request] = {}  # guarded by _lock
        self._early: deque[int] = deque(maxlen=EARLY_KEPT)  # interrupted before they were seen; guarded by _lock

    def begin(self, request: Request) -> bool:
        """False when it was interrupted before: the caller answers EINTR at once."""
        with self._lock:
            if request.unique in self._early:
                self._early.remove(request.unique)
                return False
            self._waiting[request.unique] = request
            return True

    def end(self, request: Request) -> bool:
        """Whether it is still the caller who answers."""
        with self._lock:
            return self._waiting.pop(request.unique, None) is not None

    def interrupt(self, unique: int) -> bool:
        """A signal came for whoever waits; whether the caller is to answer EINTR in the request's place."""
        with self._lock:
            request = self._waiting.get(unique)
            if request is None:
                self._early.append(unique)
                return False
        if not is_ending(request.pid):
            return False
        with self._lock:
            return self._waiting.pop(unique, None) is not None


def is_ending(pid: int) -> bool:
    """Whether a signal that ends programs is pending for a thread (proc_pid_status(5)); yes where nobody can tell."""
    with suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in ("SigPnd", "ShdPnd") and int(value, 16) & _ENDING:
                return True
        return False
    return True
