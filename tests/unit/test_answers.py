"""What a running mount answers: a flush is true, bounded, and ends when it cannot go on."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from drivefs import answers
from drivefs.answers import Answers
from drivefs.control import Json
from drivefs.errors import QueueBlocked, UserError
from drivefs.mounts import MountBusy, Record
from tests.house import House


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path / "cache")
    yield house
    house.store.close()


def answers_of(house: House, snapshot: Any = lambda: None) -> Answers:
    record = Record(Path("/mnt/drive"), house.folder, None, "default", None, None, False, 5.0)
    return Answers(
        record,
        cache_limit_bytes=1000,
        store=house.store,
        mirror=house.mirror,
        uploader=house.uploader,
        snapshot_open=snapshot,
    )


def finish(steps: Generator[Json, None, Json]) -> Json:
    """Run a handler to its end."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: Json = end.value
            return result


@contextmanager
def publishing(house: House) -> Iterator[None]:
    """Time passes in another thread."""
    stop = threading.Event()

    def pass_time() -> None:
        while not stop.wait(0.001):
            house.now += min(house.dispatch(), 61)

    thread = threading.Thread(target=pass_time)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_flush_of_nothing_is_done_at_once(house: House) -> None:
    result = finish(answers_of(house).flush({}))
    assert (result["state"], result["files"], result["files_left"]) == ("done", 0, 0)


def test_flush_waits_until_drive_has_everything(house: House) -> None:
    house.mkdir("run")
    house.write("run/a", b"x" * 1000)
    with publishing(house):
        result = finish(answers_of(house).flush({}))
    assert (result["state"], result["files"], result["bytes"], result["files_left"]) == ("done", 2, 1000, 0)
    assert house.store.journal.left().jobs == 0


def test_flush_covers_what_is_open(house: House) -> None:
    with publishing(house):
        result = finish(answers_of(house, lambda: house.write("open", b"half")).flush({}))
    assert (result["state"], result["files"], result["bytes"]) == ("done", 1, 4)


def test_flush_does_not_wait_for_what_is_written_later(house: House) -> None:
    house.write("before", b"1")
    steps = answers_of(house).flush({})
    next(steps)
    house.drain()
    house.write("after", b"2")
    assert finish(steps)["state"] == "done"
    assert house.store.journal.left().jobs == 1


def test_flush_says_how_much_is_left_when_its_time_is_up(house: House) -> None:
    house.write("a", b"12345")
    result = finish(answers_of(house).flush({"timeout_s": 0}))
    assert (result["state"], result["files_left"], result["bytes_left"]) == ("timed-out", 1, 5)


def test_flush_tries_again_at_once_what_a_full_drive_has_paused(house: House) -> None:
    house.drive.fail("upload_small", ("before", QueueBlocked("Drive is full.", reason="storageQuotaExceeded")))
    house.write("a", b"1")
    house.dispatch()
    assert house.uploader.paused is not None
    steps = answers_of(house).flush({})
    assert next(steps)["pause"] is None
    house.drain()
    assert finish(steps)["state"] == "done"


def test_flush_fails_with_the_reason_once_only_refused_files_are_left(house: House) -> None:
    house.write("good", b"1")
    house.write("bad", b"22")
    house.store.journal.park(house.node("bad").inode, "No rights.")
    with publishing(house):
        result = finish(answers_of(house).flush({}))
    assert (result["state"], result["files_left"], result["bytes_left"]) == ("failed", 1, 2)
    assert result["parked"] == [{"path": "bad", "reason": "No rights."}]


def test_flush_fails_when_the_rest_waits_for_a_refused_folder(house: House) -> None:
    house.mkdir("folder")
    house.write("folder/file", b"1")
    house.store.journal.park(house.node("folder").inode, "No rights.")
    with publishing(house):
        result = finish(answers_of(house).flush({"timeout_s": 30}))
    assert (result["state"], result["files_left"]) == ("failed", 2)


def test_flush_ends_when_the_mount_does(house: House) -> None:
    house.write("a", b"1")
    mount = answers_of(house)
    steps = mount.flush({})
    next(steps)
    mount.ended.set()
    assert finish(steps)["state"] == "ended"


def test_flush_tells_why_nothing_moves(house: House) -> None:
    house.write("a", b"1")
    house.mirror.offline = "No reply."
    progress = next(answers_of(house).flush({}))
    assert progress == {
        "files": 1,
        "bytes": 1,
        "files_left": 1,
        "bytes_left": 1,
        "current": None,
        "pause": "No reply.",
    }


def test_status_tells_what_waits(house: House) -> None:
    house.write("a", b"123")
    house.write("b", b"4")
    house.store.journal.park(house.node("b").inode, "No rights.")
    state = finish(answers_of(house).status({}))
    assert state["running"] and state["mountpoint"] == "/mnt/drive" and state["since"] == 5.0
    queue = state["queue"]
    assert (queue["files"], queue["bytes"], queue["parked"], queue["oldest_path"]) == (2, 4, 1, "a")
    assert 0 <= queue["oldest_s"] < 60
    assert state["parked"] == [{"path": "b", "reason": "No rights."}]
    assert state["cache"]["limit_bytes"] == 1000


def test_status_names_a_deleted_file_as_one(house: House) -> None:
    house.write("a", b"123")
    house.drain()
    house.remove("a")
    assert finish(answers_of(house).status({}))["queue"]["oldest_path"] == "(a deleted file)"


def test_stop_unmounts_and_tells_what_is_left_at_the_end(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "STEP_S", 0.001)
    gone: list[Path] = []
    monkeypatch.setattr(answers, "find_mount_at", lambda path: path)
    monkeypatch.setattr(answers, "unmount", gone.append)
    house.write("a", b"123")
    mount = answers_of(house)
    steps = mount.stop({"timeout_s": 7})
    assert next(steps) == {}
    assert (gone, mount.stopping_s) == ([Path("/mnt/drive")], 7.0)
    mount.ended.set()
    assert finish(steps) == {"files_left": 1, "bytes_left": 3}


def test_stop_of_a_mount_in_use_leaves_all_as_it_was(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(_: Path) -> None:
        raise MountBusy("In use.")

    monkeypatch.setattr(answers, "find_mount_at", lambda path: path)
    monkeypatch.setattr(answers, "unmount", busy)
    mount = answers_of(house)
    with pytest.raises(UserError, match="In use"):
        next(mount.stop({}))
    assert mount.stopping_s is None
