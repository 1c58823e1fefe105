"""drivefs.drive: --upload-limit and --download-limit, in bytes a second of all contents together."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from drivefs.drive.pacing import Lane, Pacer, SystemClock
from drivefs.errors import Unreachable
from drivefs.model import Priority
from tests.unit.drive_calls import ANY, CREATE, FILE, MIB, Bytes, Opener, media, session_of
from tests.unit.fake_clock import FakeClock
from tests.unit.scripted_server import ScriptedServer, answer


def test_upload_limit_holds_for_small_files_and_sessions_together(opened: Opener, clock: FakeClock) -> None:
    with ScriptedServer(ANY, answer(308, b"", {"range": f"bytes=0-{MIB - 1}"}), ANY) as server:
        drive = opened(server, upload_bytes_s=MIB)
        began_s = clock.now_s
        drive.upload_small(CREATE, Bytes(bytes(range(256)) * 8192))
        drive.send(session_of(server), Bytes(bytes(2 * MIB)), 0, MIB, None)
        drive.upload_small(CREATE, Bytes(b"last"))
        # All but the last pieces have passed when the last request ends.
        assert clock.now_s - began_s == pytest.approx(3.0, abs=0.2)
        assert len(server.requests[1].body) == MIB
        assert bytes(range(256)) * 8192 in server.requests[0].body


def test_download_limit_holds(opened: Opener, clock: FakeClock) -> None:
    data = bytes(range(256)) * 8192
    with ScriptedServer(media(data), media(data)) as server:
        drive = opened(server, download_bytes_s=MIB)
        began_s = clock.now_s
        for _ in range(2):
            assert b"".join(drive.download(FILE, 0, len(data))) == data
        assert clock.now_s - began_s == pytest.approx(4.0, abs=0.2)


def test_limit_of_one_direction_leaves_the_other_and_plain_calls_alone(opened: Opener, clock: FakeClock) -> None:
    with ScriptedServer(media(bytes(2 * MIB)), ANY, ANY) as server:
        drive = opened(server, upload_bytes_s=1)
        began_s = clock.now_s
        assert len(b"".join(drive.download(FILE, 0, 2 * MIB))) == 2 * MIB
        drive.get(FILE)
        drive.update(CREATE)  # type: ignore[arg-type]  # a call with a body that is no content
        assert clock.now_s == began_s


def test_limit_saves_nothing_up_while_nobody_sends() -> None:
    clock = FakeClock()
    pacer = Pacer(clock, upload_bytes_s=1000)
    pacer.pass_bytes(Lane.UPLOAD, Priority.PUBLISH, 100)
    clock.now_s += 60
    began_s = clock.now_s
    for _ in range(11):
        pacer.pass_bytes(Lane.UPLOAD, Priority.PUBLISH, 100)
    assert clock.now_s - began_s == pytest.approx(1.0)


@pytest.mark.parametrize("limit", [1, 100, 1 << 40])
def test_limit_lets_little_go_at_once(limit: int) -> None:
    """So that a connection among many does not rest for so long that the server gives it up."""
    slice_bytes = Pacer(FakeClock(), upload_bytes_s=limit).slice_bytes(Lane.UPLOAD)
    assert slice_bytes is not None and 1 <= slice_bytes <= max(1, min(limit / 10, MIB))


def test_limit_lets_a_reader_go_before_a_listing() -> None:
    clock = FakeClock()
    pacer = Pacer(clock, download_bytes_s=1000)
    flow = pacer._flows[Lane.DOWNLOAD]
    order: list[str] = []

    def wait(name: str, priority: Priority) -> None:
        pacer.pass_bytes(Lane.DOWNLOAD, priority, 100)
        order.append(name)

    held = threading.Event()
    real = clock.wait

    def hold(condition: threading.Condition, timeout_s: float | None) -> None:
        """The first who waits does so until the others have come."""
        if timeout_s is not None and not held.is_set():
            condition.wait_for(held.is_set)
            return
        real(condition, timeout_s)

    clock.wait = hold  # type: ignore[method-assign]
    pacer.pass_bytes(Lane.DOWNLOAD, Priority.WARM, 100)
    with ThreadPoolExecutor(3) as threads:
        first = threads.submit(wait, "first", Priority.WARM)
        while not flow._waiting:
            pass
        rest = [threads.submit(wait, "warm", Priority.WARM), threads.submit(wait, "reader", Priority.READER)]
        while len(flow._waiting) < 3:
            pass
        held.set()
        with pacer._lock:
            for _, _, turn in flow._waiting:
                turn.notify()
        for each in (first, *rest):
            each.result(10)
    assert order.index("reader") < order.index("warm")


def test_closing_ends_the_wait_for_a_limit() -> None:
    pacer = Pacer(SystemClock(), upload_bytes_s=1)
    pacer.pass_bytes(Lane.UPLOAD, Priority.PUBLISH, 1000)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(pacer.pass_bytes, Lane.UPLOAD, Priority.PUBLISH, 1)
        pacer.close()
        with pytest.raises(Unreachable):
            waiting.result(10)
