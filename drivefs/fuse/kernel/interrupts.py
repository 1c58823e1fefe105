"""Requests that may wait for the network, and are given up when whoever waits for them is to end.

Any thread may enter. Whoever takes a request out of the table answers it: so it is answered once.
"""

from __future__ import annotations

import threading
from collections import deque

from drivefs.fuse.kernel.request import Request

EARLY_KEPT = 64


class Interrupts:
    """The requests under way that can be interrupted."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[int, Request] = {}  # guarded by _lock
        self._early: deque[int] = deque(maxlen=EARLY_KEPT)  # interrupted before they were seen; guarded by _lock

    def begin(self, request: Request) -> bool:
        """False when who waits is to end already: the caller answers EINTR at once."""
        with self._lock:
            if request.unique in self._early:
                self._early.remove(request.unique)
                request.signalled = True
            self._waiting[request.unique] = request
        if not request.interrupted():
            return True
        return not self.end(request)  # it may have been answered just now

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
        request.signalled = True
        if not request.interrupted():
            return False
        with self._lock:
            return self._waiting.pop(unique, None) is not None
