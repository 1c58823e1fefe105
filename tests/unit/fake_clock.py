"""Time for tests of the Drive client."""

from __future__ import annotations

import threading


class FakeClock:
    """Time that passes only while somebody waits for it; `queued` counts those who wait to be woken."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.queued = threading.Semaphore(0)

    def monotonic(self) -> float:
        return self.now_s

    def wait(self, condition: threading.Condition, timeout_s: float | None) -> None:
        if timeout_s is not None:
            self.now_s += timeout_s
            return
        self.queued.release()
        condition.wait()
