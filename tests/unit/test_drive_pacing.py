"""drivefs.drive.pacing: the rate follows the server, and the order of precedence holds."""

from __future__ import annotations

import threading

import pytest

from drivefs.drive.pacing import Effort, Lane, Pacer, SystemClock, backoff_s
from drivefs.errors import RateLimited, Unreachable
from drivefs.model import Priority
from tests.unit.fake_clock import FakeClock

PATIENCE_S = 30.0


def call(
    pacer: Pacer, effort: Effort = Effort.EDIT, *, refused: bool = False, retry_after_s: float | None = None
) -> None:
    with pacer.turn(Lane.CALL, effort, Priority.PUBLISH, PATIENCE_S) as turn:
        if refused:
            pacer.refused(turn, retry_after_s)


def seconds_of(clock: FakeClock, pacer: Pacer, calls: int, effort: Effort = Effort.EDIT) -> float:
    began_s = clock.now_s
    for _ in range(calls):
        call(pacer, effort)
    return clock.now_s - began_s


@pytest.mark.parametrize(
    ("attempt", "expected_s"), [(0, 1.5), (1, 2.5), (3, 8.5), (5, 32.5), (6, 64.0), (10**9, 64.0)]
)
def test_backoff_doubles_up_to_64_seconds(attempt: int, expected_s: float) -> None:
    assert backoff_s(attempt, lambda: 0.5) == expected_s


def test_rate_begins_without_a_limit() -> None:
    clock = FakeClock()
    assert seconds_of(clock, Pacer(clock), 1000) == 0


def test_rate_halves_what_was_going_on_when_refused() -> None:
    clock = FakeClock()
    pacer = Pacer(clock)
    for _ in range(40):  # 20 a second
        call(pacer)
        clock.now_s += 0.05
    call(pacer, refused=True)
    rate = pacer.rate_per_s(Effort.EDIT)
    assert rate is not None and 9 < rate < 12
    assert seconds_of(clock, pacer, 10) == pytest.approx(1.0, rel=0.2)


def test_rate_counts_a_burst_of_refusals_once() -> None:
    clock = FakeClock()
    pacer = Pacer(clock)
    for _ in range(200):
        call(pacer)
    with (
        pacer.turn(Lane.CALL, Effort.EDIT, Priority.PUBLISH, PATIENCE_S) as first,
        pacer.turn(Lane.CALL, Effort.EDIT, Priority.PUBLISH, PATIENCE_S) as second,
    ):
        clock.now_s += 0.1
        pacer.refused(first, None)
        once = pacer.rate_per_s(Effort.EDIT)
        pacer.refused(second, None)
        assert pacer.rate_per_s(Effort.EDIT) == once


def test_rate_halves_again_for_a_later_refusal_and_has_a_floor() -> None:
    clock = FakeClock()
    pacer = Pacer(clock)
    for _ in range(200):
        call(pacer)
    rates = []
    for _ in range(30):
        call(pacer, refused=True)
        rates.append(pacer.rate_per_s(Effort.EDIT) or 0.0)
    assert rates[0] == pytest.approx(50, rel=0.05)
    assert rates[1] == pytest.approx(25, rel=0.1)
    assert 0.5 <= min(rates) <= max(rates[-5:]) < 1


def test_rate_recovers_until_it_is_free_again() -> None:
    clock = FakeClock()
    pacer = Pacer(clock)
    call(pacer, refused=True)
    slow = pacer.rate_per_s(Effort.EDIT)
    clock.now_s += 10
    faster = pacer.rate_per_s(Effort.EDIT)
    assert slow is not None and faster is not None and faster == pytest.approx(2 * slow)
    clock.now_s += 10
    assert pacer.rate_per_s(Effort.EDIT) == pytest.approx(4 * faster)
    clock.now_s += 1e6
    assert pacer.rate_per_s(Effort.EDIT) is None
    assert seconds_of(clock, pacer, 100) == 0


def test_rate_after_a_single_refusal_delays_a_thousand_files_by_less_than_half_a_minute() -> None:
    clock = FakeClock()
    pacer = Pacer(clock)
    call(pacer, refused=True)
    assert seconds_of(clock, pacer, 1_000) < 30


def test_rate_finds_what_a_slow_server_bears() -> None:
    """Three edits a second, as other clients report of Drive (drive-api: Quota)."""
    clock = FakeClock()
    pacer = Pacer(clock)
    bucket, filled_s, refused = 10.0, clock.now_s, 0
    began_s, done = clock.now_s, 0
    while clock.now_s - began_s < 600:
        with pacer.turn(Lane.CALL, Effort.EDIT, Priority.PUBLISH, PATIENCE_S) as turn:
            bucket, filled_s = min(10.0, bucket + 3 * (clock.now_s - filled_s)), clock.now_s
            if bucket < 1:
                refused += 1
                pacer.refused(turn, None)
            else:
                bucket -= 1
                done += 1
                clock.now_s += 0.01
    assert done > 0.7 * 3 * 600
    assert refused < 0.15 * done


def test_rate_of_readers_is_not_slowed_by_refused_writers() -> None:
    clock = FakeClock()
    pacer = Pacer(clock)
    call(pacer, Effort.EDIT, refused=True, retry_after_s=20)
    assert seconds_of(clock, pacer, 100, Effort.READ) == 0


def test_pacer_stays_away_for_as_long_as_the_server_asked() -> None:
    clock = FakeClock()
    pacer = Pacer(clock)
    call(pacer, refused=True, retry_after_s=7)
    assert seconds_of(clock, pacer, 1) == pytest.approx(7)


def test_pacer_says_so_at_once_when_the_server_asked_for_more_than_the_patience() -> None:
    clock = FakeClock()
    pacer = Pacer(clock)
    call(pacer, refused=True, retry_after_s=120)
    with pytest.raises(RateLimited) as caught:
        call(pacer)
    assert caught.value.retry_after_s == pytest.approx(120)
    assert clock.now_s == 1000.0


def test_slots_go_to_the_most_urgent_first_then_in_order_of_arrival() -> None:
    clock = FakeClock()
    pacer = Pacer(clock, uploads=1)
    order: list[str] = []
    threads = []

    def upload(name: str, priority: Priority) -> None:
        with pacer.turn(Lane.UPLOAD, Effort.EDIT, priority, PATIENCE_S):
            order.append(name)

    with pacer.turn(Lane.UPLOAD, Effort.EDIT, Priority.PUBLISH, PATIENCE_S):
        for name, priority in [
            ("mirror", Priority.MIRROR),
            ("publish 1", Priority.PUBLISH),
            ("speculation", Priority.SPECULATION),
            ("publish 2", Priority.PUBLISH),
            ("reader", Priority.READER),
        ]:
            threads.append(threading.Thread(target=upload, args=(name, priority)))
            threads[-1].start()
            assert clock.queued.acquire(timeout=10)
    for thread in threads:
        thread.join(10)
    assert order == ["reader", "publish 1", "publish 2", "mirror", "speculation"]


def test_slots_keep_a_share_for_readers() -> None:
    clock = FakeClock()
    pacer = Pacer(clock, downloads=4)
    held = [pacer.turn(Lane.DOWNLOAD, Effort.READ, Priority.WARM, PATIENCE_S) for _ in range(3)]
    for turn in held:
        turn.__enter__()
    done = threading.Event()

    def warm() -> None:
        with pacer.turn(Lane.DOWNLOAD, Effort.READ, Priority.WARM, PATIENCE_S):
            done.set()

    waiting = threading.Thread(target=warm)
    waiting.start()
    assert clock.queued.acquire(timeout=10)
    with pacer.turn(Lane.DOWNLOAD, Effort.READ, Priority.READER, PATIENCE_S):
        assert not done.is_set()
    assert not done.is_set()
    held[0].__exit__(None, None, None)
    waiting.join(10)
    assert done.is_set()
    for turn in held[1:]:
        turn.__exit__(None, None, None)


def test_lanes_do_not_wait_for_each_other() -> None:
    pacer = Pacer(FakeClock(), calls=1, uploads=1, downloads=1)
    with (
        pacer.turn(Lane.UPLOAD, Effort.EDIT, Priority.PUBLISH, PATIENCE_S),
        pacer.turn(Lane.DOWNLOAD, Effort.READ, Priority.READER, PATIENCE_S),
        pacer.turn(Lane.CALL, Effort.EDIT, Priority.PUBLISH, PATIENCE_S),
    ):
        pass


def test_turn_is_given_back_after_an_error() -> None:
    pacer = Pacer(FakeClock(), uploads=1)
    for _ in range(3):
        with (
            pytest.raises(ZeroDivisionError),
            pacer.turn(Lane.UPLOAD, Effort.EDIT, Priority.PUBLISH, PATIENCE_S),
        ):
            raise ZeroDivisionError


def test_closing_ends_every_wait() -> None:
    pacer = Pacer(SystemClock(), uploads=1)
    ended = threading.Semaphore(0)
    started = threading.Barrier(3)

    def wait_for_slot() -> None:
        started.wait(10)
        with (
            pytest.raises(Unreachable),
            pacer.turn(Lane.UPLOAD, Effort.EDIT, Priority.PUBLISH, PATIENCE_S),
        ):
            pass
        ended.release()

    def pause() -> None:
        started.wait(10)
        with pytest.raises(Unreachable):
            pacer.pause(3600)
        ended.release()

    threads = [threading.Thread(target=target) for target in (wait_for_slot, pause)]
    with pacer.turn(Lane.UPLOAD, Effort.EDIT, Priority.PUBLISH, PATIENCE_S):
        for thread in threads:
            thread.start()
        started.wait(10)
        pacer.close()
        for thread in threads:
            assert ended.acquire(timeout=10)
            thread.join(10)
