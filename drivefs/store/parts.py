"""Which parts of an incomplete file were used last, so that the others can go first. Pure; any thread may enter."""

from __future__ import annotations

from drivefs.store.ranges import Ranges

PART_BYTES = 4 << 20
"""What is given back to the disk at a time."""

RECENT_PARTS = 16
"""As much as is fetched ahead of one reader: what was used last is never given back."""


class Parts:
    """Of one file."""

    __slots__ = ("_used",)

    def __init__(self) -> None:
        self._used: dict[int, None] = {}  # in the order of their last use; single operations only

    def use(self, start: int, stop: int) -> None:
        """[start, stop) is read, or comes in."""
        for part in range(start // PART_BYTES, -(-stop // PART_BYTES)):
            self._used.pop(part, None)
            self._used[part] = None

    def oldest(self, ranges: Ranges) -> list[tuple[int, int]]:
        """The parts that hold anything of `ranges`, the one not used for longest first, without the recent ones."""
        here = {part for start, stop in ranges for part in range(start // PART_BYTES, -(-stop // PART_BYTES))}
        used = [part for part in list(self._used) if part in here]
        order = [*sorted(here.difference(used)), *used]
        return [(part * PART_BYTES, (part + 1) * PART_BYTES) for part in order[: max(0, len(order) - RECENT_PARTS)]]
