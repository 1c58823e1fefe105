"""Google's quota: units a minute of each user, by kind of call (drive-api: Quota)."""

from __future__ import annotations

import time
from collections.abc import Callable

from drivefs.emulator.errors import rate_limited

GET, LIST, DOWNLOAD, EDIT, OTHER = 5, 100, 200, 50, 5
_EDITS = ("create", "insert", "update", "patch", "delete", "copy", "emptyTrash", "trash", "untrash", "touch")


def cost(method_id: str, *, media: bool = False) -> int:
    """Units of one call."""
    name = method_id.rpartition(".")[2]
    if media or name in ("export", "download"):
        return DOWNLOAD
    if name == "list":
        return LIST
    if name in _EDITS:
        return EDIT
    return GET if name == "get" else OTHER


class _Bucket:
    __slots__ = ("at_s", "level")

    def __init__(self, level: float, at_s: float) -> None:
        self.level = level
        self.at_s = at_s


class Quota:
    """One bucket of units a user, full after a minute of rest; and one of creates, when they are limited."""

    def __init__(
        self,
        units_per_minute: int,
        creates_per_s: float | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.units_per_minute = units_per_minute
        self.creates_per_s = creates_per_s
        self._clock = clock
        self._units: dict[int, _Bucket] = {}
        self._creates: dict[int, _Bucket] = {}

    def reset(self) -> None:
        """Fill all buckets."""
        self._units.clear()
        self._creates.clear()

    def spend(self, user: int, units: int) -> None:
        """Take units; 403 `userRateLimitExceeded` when there are not enough, and nothing is taken."""
        per_s = self.units_per_minute / 60
        if not self._take(self._units, user, units, float(self.units_per_minute), per_s):
            raise rate_limited()
        if (
            units == EDIT
            and self.creates_per_s is not None
            and not self._take(self._creates, user, 1, max(1.0, self.creates_per_s), self.creates_per_s)
        ):
            raise rate_limited()

    def _take(self, buckets: dict[int, _Bucket], user: int, amount: float, most: float, per_s: float) -> bool:
        now_s = self._clock()
        bucket = buckets.setdefault(user, _Bucket(most, now_s))
        bucket.level = min(most, bucket.level + (now_s - bucket.at_s) * per_s)
        bucket.at_s = now_s
        if bucket.level < amount:
            return False
        bucket.level -= amount
        return True
