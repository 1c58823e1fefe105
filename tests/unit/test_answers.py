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
from drivefs.cli import queue as cli_queue
from drivefs.control import Json
from drivefs.errors import Changing, NoEntry, QueueBlocked, UserError
from drivefs.mounts import MountBusy
from drivefs.records import Record
from drivefs.store.room import Room
from drivefs.sync.streaming import Sending
from tests.house import House


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path / "cache")
    yield house
    house.store.close()


def answers_of(house: House, snapshot: Any = lambda *chosen: None, *, read_only: bool = False) -> Answers:
    record = Record(Path("/mnt/drive"), house.folder, None, "default", None, None, read_only, 5.0)
    return Answers(
        record,
        room=Room(house.store, limit_bytes=1000),
        store=house.store,
        mirror=house.mirror,
        uploader=house.uploader,
        streaming=house.streaming,
        upload_bytes_s=2 << 20,
        warmer=house.warmer,
        documents=house.downloader.documents,
        snapshot_open=snapshot,
        resolve=lambda path: house.node(path).inode,
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


def test_flush_waits_for_an_instant_of_what_is_written_without_a_pause(house: House) -> None:
    tries = 0

    def snapshot(*_: object) -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise Changing("log is written without a pause.")
        house.write("log", b"an instant of it")

    flush = answers_of(house, snapshot).flush({})
    assert [next(flush)["pause"], next(flush)["pause"]] == ["log is written without a pause."] * 2
    assert next(flush)["files_left"] == 1
    house.drain()
    assert finish(flush)["state"] == "done"


def test_flush_says_what_was_written_without_a_pause_when_its_time_is_up(house: House) -> None:
    def snapshot(*_: object) -> None:
        raise Changing("log is written without a pause.")

    result = finish(answers_of(house, snapshot).flush({"timeout_s": 0}))
    assert (result["state"], result["files_left"], result["pause"]) == (
        "timed-out",
        1,
        "log is written without a pause.",
    )


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


def test_flush_of_a_read_only_mount_ends_at_once_and_says_what_waits(house: House) -> None:
    assert finish(answers_of(house, read_only=True).flush({}))["state"] == "done"
    house.write("a", b"1234")
    result = finish(answers_of(house, read_only=True).flush({}))
    assert (result["state"], result["files_left"], result["bytes_left"]) == ("read-only", 1, 4)
    with pytest.raises(UserError, match="read-only; left in its cache: 1 file"):
        cli_queue.raise_worst([result])


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


# --- a flush of some paths ---


def two_folders(house: House) -> None:
    house.mkdir("run")
    house.mkdir("other")
    house.drain()
    house.write("run/a", b"1")
    house.write("other/b", b"22")


def steps_of(house: House, *paths: str) -> Generator[Json, None, Json]:
    """A flush of paths that has begun to wait."""
    steps = answers_of(house).flush({"paths": list(paths)})
    next(steps)
    return steps


def publish_only(house: House, path: str) -> None:
    house.store.db.run("DELETE FROM jobs WHERE inode = ?", (house.node(path).inode,))


def test_flush_of_a_path_waits_for_what_lies_there_alone(house: House) -> None:
    two_folders(house)
    steps = steps_of(house, "run")
    assert next(steps)["files_left"] == 1
    publish_only(house, "run/a")
    assert finish(steps)["state"] == "done"
    assert house.store.journal.left().jobs == 1


def test_flush_of_a_path_covers_files_folders_and_several(house: House) -> None:
    two_folders(house)
    house.write("top", b"333")
    result = finish(answers_of(house).flush({"paths": ["other", "top"], "timeout_s": 0}))
    assert (result["files_left"], result["bytes_left"]) == (2, 5)


def test_flush_of_a_path_waits_for_what_is_moved_out_meanwhile(house: House) -> None:
    two_folders(house)
    steps = steps_of(house, "run")
    house.rename("run/a", "other/a")
    assert next(steps)["files_left"] == 1
    publish_only(house, "other/a")
    assert finish(steps)["state"] == "done"


def test_flush_of_a_path_waits_for_what_takes_a_place_in_it_meanwhile(house: House) -> None:
    two_folders(house)
    house.drain()
    house.write("run/a", b"new")
    house.write("other/b", b"newer")
    steps = steps_of(house, "run/a", "run")
    house.rename("other/b", "run/a")
    assert next(steps)["files_left"] == 1
    house.drain()
    assert finish(steps)["state"] == "done"
    drive_id = house.node("run/a").drive_id
    assert drive_id is not None and house.drive.content(drive_id) == b"newer"


def test_flush_of_a_path_waits_for_removals_in_it(house: House) -> None:
    two_folders(house)
    house.drain()
    house.remove("run/a")
    house.remove("other/b")
    steps = steps_of(house, "run")
    assert next(steps)["files_left"] == 1
    house.drain()
    assert finish(steps)["state"] == "done"


def test_flush_of_a_path_sends_only_what_is_open_there(house: House) -> None:
    two_folders(house)
    asked: list[bool] = []

    def snapshot(chosen: Any) -> None:
        asked.extend(chosen(house.node(path).inode) for path in ("run/a", "other/b"))

    finish(answers_of(house, snapshot).flush({"paths": ["run"], "timeout_s": 0}))
    assert asked == [True, False]


def test_flush_of_what_is_not_there_is_refused(house: House) -> None:
    def missing(_: str) -> Any:
        raise NoEntry("There is no such file or folder.")

    answers = answers_of(house)
    answers._resolve = missing
    with pytest.raises(UserError, match="There is no /mnt/drive/nowhere"):
        finish(answers.flush({"paths": ["nowhere"]}))


# --- status ---


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


def test_status_tells_of_limits_and_of_what_is_sent_ahead(
    house: House, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    house.write("large", b"123")
    monkeypatch.setattr(house.streaming, "active", lambda: [Sending(house.node("large").inode, 5 << 20, 3 << 20)])
    state = finish(answers_of(house).status({}))
    assert state["ahead"] == [{"path": "large", "bytes": 5 << 20, "done_bytes": 3 << 20}]
    assert state["limits"] == {"upload_bytes_s": 2 << 20, "download_bytes_s": None}
    cli_queue._show(state)
    shown = capsys.readouterr().out
    assert "  Ahead      large: 3.0 MiB of 5.0 MiB so far\n" in shown
    assert "  Limited    2.0 MiB/s to Drive\n" in shown


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


# --- warm, cache ---


def test_warm_brings_a_path_and_pins_it(house: House) -> None:
    house.drive.put("f", b"12345", parent=house.drive.put("d"))
    house.mirror.poll()
    answers = answers_of(house)
    result = finish(answers.warm({"paths": ["d"], "jobs": 2, "pin": True}))
    assert (result["files_done"], result["bytes_done"], result["failed"]) == (1, 5, 0)
    assert finish(answers.cache({"action": "show"}))["pins"] == 1
    assert finish(answers.cache({"action": "clear"})) == {"freed_bytes": 0}
    assert finish(answers.warm({"paths": ["d"], "off": True}))["files"] == 0
    assert finish(answers.cache({"action": "clear"})) == {"freed_bytes": 5}


def test_warm_ends_with_the_mount(house: House) -> None:
    house.drive.put("f", b"12345")
    house.mirror.poll()
    answers = answers_of(house)
    answers.ended.set()
    with pytest.raises(UserError):
        finish(answers.warm({"paths": ["f"], "jobs": 1}))


def test_cache_verify_counts_what_it_compared(house: House) -> None:
    house.write("f", b"12345")
    house.drain()
    result = finish(answers_of(house).cache({"action": "verify"}))
    assert result == {"files": 1, "bytes": 5, "dropped": 0, "in_use": 0}
