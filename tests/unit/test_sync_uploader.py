"""What is closed here is on Drive: once, whole, under the same ID, whatever fails."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from drivefs.drive.error_replies import ERROR_OF_REASON
from drivefs.errors import (
    BadReply,
    CacheFull,
    DrivefsError,
    QueueBlocked,
    RateLimited,
    Refused,
    RemoteNotFound,
    ServerFault,
    SessionGone,
    SignInNeeded,
    Superseded,
    Unreachable,
)
from drivefs.model import DriveId, Generation, RemoteFile
from drivefs.store import queue
from drivefs.store.claim import Claim
from drivefs.store.queue import JobState
from drivefs.sync.uploader import BETWEEN_S
from tests.fake_drive import ROOT, FakeDrive
from tests.house import House

LOST = ("after", Unreachable("The reply was lost."))
CUT = ("before", Unreachable("Not connected."))
LARGE = bytes(range(256)) * 4096 * 6  # 6 MiB: more than one multipart request takes


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path / "cache")
    yield made
    made.store.close()


def test_uploader_publishes_a_new_file_in_one_request_beside_the_ids(house: House) -> None:
    house.write("model.ckpt", b"weights")
    house.drive.calls.clear()
    house.drain()
    assert house.drive.content(house.drive.names()["model.ckpt"]) == b"weights"
    assert house.drive.calls == ["generate_ids", "upload_small"]


def test_uploader_asks_for_ids_when_there_is_something_to_publish(house: House) -> None:
    stop, asked = threading.Event(), threading.Event()
    generate_ids = house.drive.generate_ids

    def note(count: int) -> list[DriveId]:
        asked.set()
        return generate_ids(count)

    house.drive.generate_ids = note  # type: ignore[method-assign]
    thread = threading.Thread(target=house.uploader.run, args=(stop,))
    thread.start()
    try:
        assert not asked.wait(2 * BETWEEN_S)
        house.write("model.ckpt", b"weights")
        assert asked.wait(10)
    finally:
        stop.set()
        house.store.journal.changed.set()
        thread.join(10)
    assert not thread.is_alive()


def test_uploader_leaves_the_machine_to_a_burst_of_new_files_for_a_second(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    began_ns = time.time_ns()
    for number in range(20):  # for 1.2 s
        now_ns = began_ns + number * 60_000_000
        monkeypatch.setattr(queue, "time", SimpleNamespace(time_ns=lambda now_ns=now_ns: now_ns))
        house.write(f"{number}.jpg", b"pixels")
        house.now = now_ns / 1e9
        house.dispatch()
        assert bool(house.drive.names()) == (number * 60 > 1_000)
    last_s = house.now
    monkeypatch.setattr(queue, "time", SimpleNamespace(time_ns=lambda: int((last_s + 5) * 1e9)))
    house.write("alone.jpg", b"pixels")
    house.now = last_s + 5.05
    assert house.dispatch() == pytest.approx(0.05, abs=1e-3)
    house.store.journal.hasten()
    house.dispatch()
    assert len(house.drive.names()) == 21


def test_uploader_publishes_a_thousand_small_files_in_1001_requests(house: House) -> None:
    for number in range(1_000):
        house.write(f"{number}.jpg", b"%d" % number)
    house.drive.calls.clear()
    house.drain()
    assert len(house.drive.names()) == 1_000
    assert len(house.drive.calls) == 1_001


def test_uploader_publishes_nothing_before_the_quiet_time(house: House) -> None:
    house.write("a", b"1")
    house.now -= 1  # back to the moment of the write
    house.dispatch()
    assert house.drive.names() == {}


def test_uploader_sends_a_large_file_by_a_session(house: House) -> None:
    house.write("large", LARGE)
    house.drain()
    assert house.drive.content(house.drive.names()["large"]) == LARGE
    assert house.drive.calls.count("start_session") == 1


def test_uploader_goes_on_where_the_server_kept_less_than_was_sent(house: House) -> None:
    house.drive.keep_bytes = 1 << 20
    house.write("large", LARGE)
    house.drain()
    assert house.drive.content(house.drive.names()["large"]) == LARGE
    assert house.drive.calls.count("start_session") == 1
    assert house.drive.calls.count("send") == 6


def test_uploader_resumes_a_session_after_a_restart(house: House) -> None:
    house.drive.keep_bytes = 2 << 20
    house.write("large", LARGE)
    house.drive.fail("send", None, *[CUT] * 20)
    house.drive.fail("session_state", *[CUT] * 20)
    house.dispatch()
    assert "large" not in house.drive.names()
    house.drive.faults.clear()
    house.drive.keep_bytes = None
    house.reopen()
    house.drain()
    assert house.drive.calls.count("start_session") == 1
    assert house.drive.content(house.drive.names()["large"]) == LARGE


@pytest.mark.parametrize("data", [b"small", LARGE], ids=["small", "large"])
@pytest.mark.parametrize("method", ["upload_small", "start_session", "send", "session_state"])
@pytest.mark.parametrize(
    "fault",
    [
        CUT,
        LOST,
        ("before", ServerFault("500")),
        ("after", ServerFault("503")),
        ("before", RateLimited("Slow down.", retry_after_s=3)),
        ("before", SessionGone("404")),
        ("before", BadReply("Not JSON.")),
        ("after", BadReply("Not JSON.")),
        ("before", QueueBlocked("Full.", reason="storageQuotaExceeded")),
        ("before", SignInNeeded("Sign in.")),
    ],
    ids=lambda fault: f"{fault[0]}-{type(fault[1]).__name__}",
)
@pytest.mark.parametrize("times", [1, 3])
def test_uploader_creates_exactly_one_whole_file_whatever_fails(
    house: House, data: bytes, method: str, fault: tuple[str, Exception], times: int
) -> None:
    if method == "session_state":
        house.drive.fail("send", *[CUT] * times)
    house.drive.fail(method, *[fault] * times)
    house.write("f", data)
    house.drain()
    assert house.drive.content(house.drive.names()["f"]) == data
    assert len([entry for entry in house.drive.log if entry[0] == "create"]) == 1


@pytest.mark.parametrize("fault", [CUT, LOST], ids=["cut", "lost"])
def test_uploader_updates_the_same_file_whatever_fails(house: House, fault: tuple[str, Exception]) -> None:
    house.write("f", b"one")
    house.drain()
    first = house.drive.names()["f"]
    house.write("f", b"two")
    house.drive.fail("upload_small", fault)
    house.drain()
    assert house.drive.names()["f"] == first
    assert house.drive.content(first) == b"two"
    revisions = [key for key in house.drive.contents if key[0] == first]
    assert len(revisions) == 2  # a lost reply does not make a second revision of the same content


def test_uploader_sends_again_what_arrived_with_another_checksum(house: House) -> None:
    house.write("f", b"good")
    house.drive.fail("upload_small", LOST)
    house.dispatch()
    created = next(iter(set(house.drive.files) - {ROOT}))
    house.drive.change(created, b"bad!")
    house.drain()
    assert house.drive.content(house.drive.names()["f"]) == b"good"


def test_uploader_sends_only_the_last_of_many_contents(house: House) -> None:
    for number in range(50):
        house.write("tmp", b"%d" % number)
        if number:
            house.rename("tmp", "model.ckpt")
        else:
            house.rename("tmp", "model.ckpt")
    house.drain()
    assert house.drive.log == [("create", "model.ckpt")]
    assert house.drive.content(house.drive.names()["model.ckpt"]) == b"49"


def test_uploader_keeps_the_id_when_a_temporary_file_is_renamed_over(house: House) -> None:
    house.write("model.ckpt", b"one")
    house.drain()
    first = house.drive.names()["model.ckpt"]
    house.write("tmp", b"two")
    house.rename("tmp", "model.ckpt")
    house.drain()
    assert house.drive.names() == {"model.ckpt": first}
    assert house.drive.content(first) == b"two"
    assert not any(file.trashed for file in house.drive.files.values())


def test_uploader_leaves_no_trace_of_a_temporary_file_that_was_published_before_its_rename(house: House) -> None:
    house.write("model.ckpt", b"one")
    house.drain()
    first = house.drive.names()["model.ckpt"]
    house.write("tmp", b"two")
    house.drain()
    house.rename("tmp", "model.ckpt")
    house.drain()
    assert house.drive.names() == {"model.ckpt": first}
    assert house.drive.content(first) == b"two"
    assert set(house.drive.files) == {ROOT, first}


def test_uploader_leaves_a_source_with_a_life_of_its_own_its_id(house: House) -> None:
    theirs = house.drive.put("theirs", b"theirs")
    house.mirror.poll()
    house.write("mine", b"mine")
    house.drain()
    mine = house.drive.names()["mine"]
    house.rename("theirs", "mine")
    house.drain()
    assert house.drive.names() == {"mine": theirs}
    assert house.drive.files[mine].trashed
    assert house.drive.log.index(("update", "theirs")) < house.drive.log.index(("trash", "mine"))


def test_uploader_never_sends_what_was_removed_before(house: House) -> None:
    house.write("a", b"1")
    house.remove("a")
    house.drain()
    assert house.drive.log == []


def test_uploader_trashes_what_was_removed_after(house: House) -> None:
    house.write("a", b"1")
    house.drain()
    gone = house.drive.names()["a"]
    house.remove("a")
    house.drain()
    assert house.drive.files[gone].trashed
    assert house.store.nodes.find_by_drive_id(gone) is None


def test_uploader_has_done_with_a_folder_that_was_removed_before_its_create_arrived(house: House) -> None:
    house.mkdir("run")
    house.drive.fail("create", ("before", Unreachable("no network")))
    house.dispatch()
    house.remove("run")
    house.drain()
    assert house.store.journal.left().jobs == 0
    assert house.drive.names() == {}


def test_uploader_has_done_with_a_folder_that_somebody_deletes_while_it_is_looked_into(house: House) -> None:
    house.mkdir("run")
    house.drain()
    run = house.drive.names()["run"]
    house.drive.put("theirs", b"t", parent=run)
    get = house.drive.get

    def find_nothing(file_id: DriveId) -> RemoteFile:
        if file_id == run:
            house.drive.files.pop(run, None)
        return get(file_id)

    house.drive.get = find_nothing  # type: ignore[method-assign]
    house.remove("run")
    house.drain()
    assert house.store.journal.left().parked == 0


def test_uploader_sends_the_others_while_one_is_being_written_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        house.write(name, b"weights")
    job = house.store.journal.find(house.node("b").inode)
    claim = house.store.content.claim

    def refuse(generation: Generation) -> Claim:
        if job is not None and generation == job.generation:
            raise Superseded("It is being written again.")
        return claim(generation)

    monkeypatch.setattr(house.store.content, "claim", refuse)
    house.dispatch()
    assert set(house.drive.names()) == {"a"}
    monkeypatch.undo()
    house.drain()
    assert set(house.drive.names()) == {"a", "b"}


def test_uploader_gives_back_what_it_could_not_start(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.write("a", b"weights")
    house.mkdir("d")

    def fail() -> None:
        raise CacheFull("no room for the records")

    monkeypatch.setattr(house.store, "sync", fail)
    with pytest.raises(CacheFull):
        house.dispatch()
    job = house.store.journal.find(house.node("a").inode)
    assert job is not None and job.generation is not None
    assert not house.store.content.is_claimed(job.generation)
    monkeypatch.undo()
    house.drain()
    assert set(house.drive.names()) == {"a", "d"}


def test_uploader_renames_and_moves_without_sending_bytes(house: House) -> None:
    house.mkdir("d")
    house.write("a", b"1")
    house.drain()
    moved = house.drive.names()["a"]
    house.drive.calls.clear()
    house.rename("a", "d/b")
    house.drain()
    assert house.drive.calls == ["update"]
    assert house.drive.names(house.drive.names()["d"]) == {"b": moved}


def test_uploader_keeps_times_modes_and_attributes(house: House) -> None:
    house.write("a", b"1")
    node = house.node("a")
    house.store.nodes.update(node.inode, mode=0o600, mtime_ns=1_700_000_000_123_456_789)
    house.store.nodes.set_xattr(node.inode, "user.note", b"hello")
    house.store.journal.changed_metadata(house.node("a"))
    house.drain()
    file = house.drive.files[house.drive.names()["a"]]
    assert file.modified_ns == 1_700_000_000_123_000_000
    assert file.app_properties == {"mode": "600", "mtime_ns": "1700000000123456789", "x:user.note": "uhello"}


def test_uploader_writes_a_symlink_as_a_marked_small_file(house: House) -> None:
    house.symlink("link", "some/where")
    house.drain()
    file = house.drive.files[house.drive.names()["link"]]
    assert (file.mime_type, file.app_properties["symlink"]) == ("inode/symlink", "1")
    assert house.drive.content(file.id) == b"some/where"


def test_uploader_makes_anew_what_was_deleted_on_drive_while_it_was_changed_here(house: House) -> None:
    house.write("a", b"1")
    house.drain()
    first = house.drive.names()["a"]
    house.write("a", b"2")
    del house.drive.files[first]
    house.drain()
    assert house.drive.content(house.drive.names()["a"]) == b"2"


def test_uploader_parks_what_drive_refuses_and_goes_on(house: House) -> None:
    house.drive.fail("upload_small", ("before", Refused("No rights.", reason="insufficientFilePermissions")))
    house.write("a", b"1")
    house.write("b", b"2")
    for _ in range(5):
        house.dispatch()
        house.now += 1
    assert list(house.drive.names()) == ["b"]
    parked = house.store.journal.find(house.node("a").inode)
    assert parked is not None and parked.state is JobState.PARKED and "No rights" in parked.reason


def test_uploader_pauses_the_queue_on_a_full_drive_and_goes_on_by_itself(house: House) -> None:
    house.drive.fail("upload_small", ("before", QueueBlocked("Drive is full.", reason="storageQuotaExceeded")))
    house.write("a", b"1")
    house.dispatch()
    assert house.uploader.paused is not None and "full" in house.uploader.paused.reason
    house.write("b", b"2")
    house.dispatch()
    assert house.drive.names() == {}
    house.drain()
    assert set(house.drive.names()) == {"a", "b"}
    assert house.uploader.paused is None


BLOCKS = [
    *(
        QueueBlocked("Drive takes no more.", reason=reason)
        for reason, kind in ERROR_OF_REASON.items()
        if kind is QueueBlocked
    ),
    RateLimited("Too much for a day.", reason="userRateLimitExceeded"),
    SignInNeeded("The sign-in is over."),
]


@pytest.mark.parametrize("error", BLOCKS, ids=lambda error: getattr(error, "reason", "") or "sign-in")
def test_uploader_pauses_as_long_as_drive_takes_nothing_and_goes_on_by_itself(
    house: House, error: DrivefsError, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    began_s = house.now
    house.drive.fail("upload_small", *[("before", error)] * 20)
    house.write("a", b"1")
    tries = 0
    while house.now - began_s < 600:
        wait_s = house.dispatch()
        pause = house.uploader.paused
        assert pause is not None and str(error).rstrip(".") in pause.reason
        assert house.now < pause.until_s <= house.now + 70
        assert pause.sign_in == isinstance(error, SignInNeeded)
        house.write("b", b"%d" % tries)  # work goes on here
        house.now += wait_s + 0.1
        tries += 1
    assert 8 <= len(house.drive.calls) <= 25, "it is tried about once a minute"
    assert any("a has to wait" in record.getMessage() for record in caplog.records)
    house.drive.faults.clear()
    house.drain()
    assert {name: house.drive.content(each) for name, each in house.drive.names().items()} == {
        "a": b"1",
        "b": b"%d" % (tries - 1),
    }
    assert house.uploader.paused is None


def test_uploader_tries_at_once_when_the_person_asks(house: House) -> None:
    house.drive.fail("upload_small", *[("before", Unreachable("No network."))] * 6)
    house.write("a", b"1")
    for _ in range(6):
        house.now += house.dispatch() + 0.1
    house.uploader.resume()
    house.dispatch()
    assert set(house.drive.names()) == {"a"}


def test_uploader_waits_as_long_as_drive_asks_for(house: House) -> None:
    house.drive.fail("upload_small", ("before", RateLimited("Slowly.", retry_after_s=1800)))
    house.write("a", b"1")
    house.dispatch()
    pause = house.uploader.paused
    assert pause is not None and pause.until_s == pytest.approx(house.now + 1800)
    house.now += 1700
    house.dispatch()
    assert house.drive.names() == {}
    house.now += 200
    house.dispatch()
    assert set(house.drive.names()) == {"a"}


def test_uploader_gives_up_an_upload_whose_content_is_written_again(house: House) -> None:
    house.write("large", LARGE)
    inode = house.node("large").inode
    send = house.drive.send

    def write_meanwhile(*arguments: object) -> object:
        house.drive.send = send  # type: ignore[method-assign]
        file = house.store.content.open(house.node("large").generation)  # type: ignore[arg-type]
        big = house.store.journal.start_writing(file)
        big.write(0, b"changed")
        house.store.journal.seal(big)
        big.close()
        return send(*arguments)  # type: ignore[arg-type]

    house.drive.send = write_meanwhile  # type: ignore[assignment, method-assign]
    house.drain()
    assert house.store.nodes.get(inode).inode == inode
    assert house.drive.content(house.drive.names()["large"]) == b"changed" + LARGE[7:]


def test_uploader_records_what_drive_has_for_the_next_change(house: House) -> None:
    house.write("a", b"one")
    house.drain()
    node = house.node("a")
    file = house.drive.files[house.drive.names()["a"]]
    assert (node.drive_id, node.revision) == (file.id, file.revision)
    assert node.md5 == hashlib.md5(b"one").hexdigest()
    assert node.generation is not None and house.store.content.state(node.generation).value == "clean"


def test_uploader_survives_a_restart_between_reserving_and_creating(house: House) -> None:
    house.write("a", b"1")
    house.drive.fail("upload_small", LOST)
    house.dispatch()
    house.reopen()
    house.drain()
    assert house.drive.content(house.drive.names()["a"]) == b"1"


def test_uploader_of_a_full_fake_drive_is_not_fooled(tmp_path: Path) -> None:
    """The fake itself: twins are noticed."""
    drive = FakeDrive()
    drive.put("twin", b"1")
    drive.put("twin", b"2")
    with pytest.raises(AssertionError, match="two files"):
        drive.names()
    assert DriveId("nobody") not in drive.files


def test_uploader_keeps_the_file_whose_update_lacked_something_else(house: House) -> None:
    house.write("a", b"1")
    house.drain()
    drive_id = house.drive.names()["a"]
    house.write("a", b"2")
    house.drive.fail("upload_small", ("before", RemoteNotFound("No such revision.")))
    house.drain()
    assert house.drive.names() == {"a": drive_id}
    assert house.drive.content(drive_id) == b"2"
