"""A set of half-open byte ranges: which parts of a file are here. Pure arithmetic, no locks, no input or output."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator


class Ranges:
    """Sorted, disjoint, non-touching ranges [start, stop)."""

    __slots__ = ("_starts", "_stops")

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []
        for start, stop in ranges:
            self.add(start, stop)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._starts, self._stops, strict=True)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ranges) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        return f"Ranges({list(self)})"

    @property
    def total_bytes(self) -> int:
        return sum(self._stops) - sum(self._starts)

    def add(self, start: int, stop: int) -> None:
        """Join [start, stop) with what it touches."""
        if start >= stop:
            return
        first = bisect_left(self._stops, start)
        last = bisect_right(self._starts, stop)
        if first < last:
            start = min(start, self._starts[first])
            stop = max(stop, self._stops[last - 1])
        self._starts[first:last] = [start]
        self._stops[first:last] = [stop]

    def cut(self, size: int) -> None:
        """Forget everything from `size` on."""
        keep = bisect_left(self._starts, size)
        del self._starts[keep:], self._stops[keep:]
        if keep and self._stops[keep - 1] > size:
            self._stops[keep - 1] = size

    def remove(self, start: int, stop: int) -> int:
        """Forget [start, stop); how many bytes of it were here."""
        if start >= stop:
            return 0
        first = bisect_right(self._stops, start)
        last = bisect_left(self._starts, stop)
        if first >= last:
            return 0
        met = list(zip(self._starts[first:last], self._stops[first:last], strict=True))
        left = [(a, min(b, start)) for a, b in met[:1] if a < start]
        left += [(max(a, stop), b) for a, b in met[-1:] if b > stop]
        self._starts[first:last] = [a for a, _ in left]
        self._stops[first:last] = [b for _, b in left]
        return sum(b - a for a, b in met) - sum(b - a for a, b in left)

    def covers(self, start: int, stop: int) -> bool:
        """Whether every byte of [start, stop) is here."""
        if start >= stop:
            return True
        at = bisect_right(self._starts, start) - 1
        return at >= 0 and self._stops[at] >= stop

    def within(self, start: int, stop: int) -> list[tuple[int, int]]:
        """What of [start, stop) is here."""
        first = bisect_right(self._stops, start)
        last = bisect_left(self._starts, stop)
        met = zip(self._starts[first:last], self._stops[first:last], strict=True)
        return [(max(a, start), min(b, stop)) for a, b in met] if start < stop else []

    def gaps(self, start: int, stop: int) -> list[tuple[int, int]]:
        """What of [start, stop) is not here."""
        found: list[tuple[int, int]] = []
        at = bisect_right(self._stops, start)
        while start < stop:
            if at == len(self._starts) or self._starts[at] >= stop:
                found.append((start, stop))
                break
            if self._starts[at] > start:
                found.append((start, self._starts[at]))
            start = self._stops[at]
            at += 1
        return found
