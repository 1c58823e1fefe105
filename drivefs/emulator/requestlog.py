"""The log of requests: the last ones in full, all of them in counters. In memory only."""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass
from typing import Any

KEPT = 200_000


@dataclass(slots=True)
class Entry:
    """One request; `path` is without query, so without secrets."""

    number: int
    started_s: float
    seconds: float
    verb: str
    path: str
    method: str
    user: str
    status: int
    reason: str
    """Google's reason when it was refused."""
    units: int
    bytes_in: int
    bytes_out: int
    connection: int
    fault: str
    """Action of the fault that befell it, or ""."""


class RequestLog:
    """Entries in the order in which the requests ended."""

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque(maxlen=KEPT)
        self._number = 0
        self._methods: dict[str, dict[str, int]] = {}

    def add(self, entry: Entry) -> None:
        self._number += 1
        entry.number = self._number
        self._entries.append(entry)
        counts = self._methods.setdefault(
            entry.method, {"requests": 0, "errors": 0, "units": 0, "bytes_in": 0, "bytes_out": 0}
        )
        counts["requests"] += 1
        counts["errors"] += entry.status >= 400 or entry.status == 0
        counts["units"] += entry.units
        counts["bytes_in"] += entry.bytes_in
        counts["bytes_out"] += entry.bytes_out

    def reset(self) -> None:
        self._entries.clear()
        self._methods.clear()

    def entries(self, after: int = 0, method: str = "") -> list[dict[str, Any]]:
        return [
            asdict(entry)
            for entry in self._entries
            if entry.number > after and (not method or entry.method == method)
        ]

    def counters(self) -> dict[str, Any]:
        """Totals, and the same by method."""
        totals = {
            key: sum(counts[key] for counts in self._methods.values())
            for key in ("requests", "errors", "units", "bytes_in", "bytes_out")
        }
        return {**totals, "last": self._number, "methods": self._methods}
