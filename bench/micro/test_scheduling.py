"""What the uploader does with 100,000 new files waiting, each time that an upload ends or a file is closed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.micro.rows import waiting_jobs
from drivefs.store.queue import BURST_NS, Barrier
from drivefs.store.store import Store
from drivefs.sync import order
from drivefs.sync.plan import WINDOW_JOBS, Planner
from drivefs.sync.uploader import LARGE_AT_ONCE, SMALL_AT_ONCE
from tests.house import House

JOBS = 100_000
SIZE_BYTES = 100_000


@pytest.fixture(scope="module")
def busy_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """With its queue as a burst left it a while ago."""
    made = House(tmp_path_factory.mktemp("queue") / "cache")
    waiting_jobs(made.store, JOBS, SIZE_BYTES)
    made.now += 2 * BURST_NS / 1e9
    yield made
    made.store.close()


@pytest.fixture
def full(busy_house: House) -> Store:
    return busy_house.store


class Clock:
    """Each look at it is a second later, so that no plan is still good."""

    def __init__(self, at_s: float, step_s: float) -> None:
        self._at_s, self._step_s = at_s, step_s

    def __call__(self) -> float:
        self._at_s += self._step_s
        return self._at_s


def test_scheduling_picks_with_a_plan_made_anew(benchmark: BenchmarkFixture, busy_house: House) -> None:
    planner = Planner(busy_house.store, Clock(busy_house.now, 1.0))
    batch, _ = benchmark(lambda: planner.choose(set(), set(), SMALL_AT_ONCE, LARGE_AT_ONCE, [], 60.0))
    assert len(batch) == SMALL_AT_ONCE


def test_scheduling_picks_from_a_plan_at_hand(benchmark: BenchmarkFixture, busy_house: House) -> None:
    planner = Planner(busy_house.store, Clock(busy_house.now, 0.0))
    planner.choose(set(), set(), 1, 0, [], 60.0)
    batch, _ = benchmark.pedantic(lambda: planner.choose(set(), set(), 1, 0, [], 60.0), rounds=500)
    assert len(batch) == 1


def test_scheduling_looks_at_the_order(benchmark: BenchmarkFixture, full: Store) -> None:
    """`order.look` over as many jobs as the planner gives it."""
    jobs = list(full.journal.in_order(WINDOW_JOBS))
    found = benchmark(lambda: order.look(jobs, full.nodes, full.journal.find, set(), jobs[0].ready_ns + 1))
    assert len(found.ready) == WINDOW_JOBS


def test_scheduling_asks_for_larger_content(benchmark: BenchmarkFixture, full: Store) -> None:
    """Each dispatch does, and there is none."""
    assert benchmark(lambda: full.journal.has_larger(order.SMALL_LIMIT_BYTES)) is False


def test_scheduling_asks_what_was_not_sent_ahead(benchmark: BenchmarkFixture, full: Store) -> None:
    assert benchmark(lambda: full.content.sent_ahead.others_wait(order.SMALL_LIMIT_BYTES)) is False


def test_scheduling_asks_for_points(benchmark: BenchmarkFixture, full: Store) -> None:
    assert benchmark(full.journal.points) == []


def test_scheduling_asks_what_is_owed_later(benchmark: BenchmarkFixture, full: Store) -> None:
    assert benchmark(lambda: full.journal.owed_since(WINDOW_JOBS)) == float("inf")


def test_scheduling_tells_what_is_left(benchmark: BenchmarkFixture, full: Store) -> None:
    """For `status`, and for a flush now and then."""
    assert benchmark(lambda: full.journal.left(JOBS)).jobs == JOBS


def test_scheduling_says_why_the_last_one_waits(benchmark: BenchmarkFixture, full: Store) -> None:
    """`order.earlier`, of a pointer that waits for all of them."""
    job = full.journal.find_at(JOBS)
    assert job is not None
    node = full.nodes.get(job.inode)
    large = dataclasses.replace(job, barrier=Barrier.FOLDER)
    found = benchmark(
        lambda: next(
            order.earlier(large, node, full.journal.in_order(WINDOW_JOBS), full.nodes, full.journal.find), None
        )
    )
    assert found is not None
