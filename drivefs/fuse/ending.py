"""Which signals end whoever waits for an answer. Any thread may enter."""

from __future__ import annotations

import signal
from contextlib import suppress
from pathlib import Path

_ENDING = sum(
    1 << (number - 1) for number in (signal.SIGKILL, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
)
"""Signals that are meant to end a program. The kernel interrupts for any: a read must not fail for a timer's."""


def is_ending(pid: int) -> bool:
    """Whether a signal that ends programs is pending for a thread (proc_pid_status(5)); yes where nobody can tell."""
    with suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in ("SigPnd", "ShdPnd") and int(value, 16) & _ENDING:
                return True
        return False
    return True
