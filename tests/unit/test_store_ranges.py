"""Ranges against a plain set of numbers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from drivefs.store.ranges import Ranges

LIMIT = 60
points = st.integers(0, LIMIT)
steps = st.lists(st.one_of(st.tuples(st.just("add"), points, points), st.tuples(st.just("cut"), points, points)))


def built(actions: list[tuple[str, int, int]]) -> tuple[Ranges, set[int]]:
    ranges, model = Ranges(), set[int]()
    for action, start, stop in actions:
        if action == "add":
            ranges.add(start, stop)
            model |= set(range(start, stop))
        else:
            ranges.cut(start)
            model = {number for number in model if number < start}
    return ranges, model


@given(steps)
def test_ranges_hold_what_was_added_and_not_cut(actions: list[tuple[str, int, int]]) -> None:
    ranges, model = built(actions)
    assert {number for start, stop in ranges for number in range(start, stop)} == model
    assert ranges.total_bytes == len(model)


@given(steps)
def test_ranges_stay_sorted_and_apart(actions: list[tuple[str, int, int]]) -> None:
    ranges, _ = built(actions)
    edges = [edge for pair in ranges for edge in pair]
    assert edges == sorted(set(edges))


@given(steps, points, points)
def test_ranges_gaps_are_exactly_what_is_missing(actions: list[tuple[str, int, int]], start: int, stop: int) -> None:
    ranges, model = built(actions)
    gaps = ranges.gaps(start, stop)
    assert [number for gap in gaps for number in range(*gap)] == sorted(set(range(start, stop)) - model)
    assert ranges.covers(start, stop) == (not gaps)


@given(steps)
def test_ranges_copy_is_equal_and_its_own(actions: list[tuple[str, int, int]]) -> None:
    ranges, _ = built(actions)
    copy = Ranges(ranges)
    assert copy == ranges
    copy.add(LIMIT + 1, LIMIT + 2)
    assert copy != ranges
