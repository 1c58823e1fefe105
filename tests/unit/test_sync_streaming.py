"""A large file is sent while it is written; nothing of it shows before its turn, and nothing wrong ever."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from drivefs.errors import QueueBlocked, RateLimited, ServerFault, SessionGone, Unreachable
from drivefs.model import ROOT_INODE
from drivefs.store.habits import Habits, is_temporary
from drivefs.sync import streaming
from tests.filesystem import write_file
from tests.whole import GRAIN_BYTES, Clock, Whole, scratch_folder, small_scale

NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC


@pytest.fixture
def whole() -> Iterator[Whole]:
    clock = Clock()
    with scratch_folder() as folder, small_scale(clock):
        made = Whole(folder / "cache", clock)
        yield made
        made.abandon()


def data(first: int, length: int) -> bytes:
    return bytes((first + at * 7) % 251 for at in range(length))


def begin(whole: Whole, name: str, content: bytes, flags: int = NEW) -> int:
    """A file that is open, and of which as much is sent as may be."""
    fd = whole.fs.open(name, flags)
    whole.fs.pwrite(fd, content, 0)
    whole.clock.advance(1)
    whole.streaming.tick()
    return fd


def finish(whole: Whole, fd: int) -> None:
    whole.fs.close(fd)
    whole.drain()


def sent_bytes(whole: Whole) -> int:
    """What was sent of the one session that there is."""
    (session,) = (each for each in whole.drive.sessions.values() if each.done is None)
    return len(session.data)


def content(whole: Whole, name: str) -> bytes:
    return whole.drive.content(whole.drive.names()[name])


def test_streaming_sends_all_but_the_end_of_what_is_written_before_it_is_closed(whole: Whole) -> None:
    fd = begin(whole, "large", data(1, 1000))
    assert sent_bytes(whole) == 1000 // GRAIN_BYTES * GRAIN_BYTES
    assert whole.drive.names() == {}
    whole.fs.pwrite(fd, data(2, 500), 1000)
    whole.streaming.tick()
    whole.drive.calls.clear()
    finish(whole, fd)
    assert content(whole, "large") == data(1, 1000) + data(2, 500)
    # The tail, and the time of the last write, which was not known when the session began.
    assert whole.drive.calls == ["generate_ids", "send", "update"]


def test_streaming_keeps_times_modes_and_attributes(whole: Whole) -> None:
    fd = begin(whole, "large", data(1, 1000))
    whole.fs.chmod("large", 0o600)
    whole.fs.set_xattr("large", "user.note", b"hello")
    whole.fs.close(fd)
    whole.fs.set_mtime("large", 1_700_000_000_123_456_789)
    whole.drain()
    file = whole.drive.files[whole.drive.names()["large"]]
    assert file.modified_ns == 1_700_000_000_123_000_000
    assert file.app_properties == {"mode": "600", "mtime_ns": "1700000000123456789", "x:user.note": "uhello"}


def test_streaming_into_a_file_that_is_written_anew_keeps_its_id(whole: Whole) -> None:
    """As torch.save does: O_TRUNC over what is there."""
    write_file(whole.fs, "model.pt", data(1, 900))
    whole.drain()
    before = whole.drive.names()
    fd = begin(whole, "model.pt", data(2, 1000))
    assert sent_bytes(whole) >= 900
    assert content(whole, "model.pt") == data(1, 900)
    whole.drive.calls.clear()
    finish(whole, fd)
    assert whole.drive.names() == before
    assert content(whole, "model.pt") == data(2, 1000)
    assert whole.drive.calls == ["get", "send", "update"]
    assert not any(file.trashed for file in whole.drive.files.values())


@pytest.mark.parametrize("offset", [0, 500, 959])
def test_streaming_is_given_up_when_what_was_sent_is_changed(whole: Whole, offset: int) -> None:
    """As HDF5 does: its header is written last."""
    fd = begin(whole, "model.h5", data(1, 1000))
    assert sent_bytes(whole) == 960
    whole.fs.pwrite(fd, b"header", offset)
    expected = bytearray(data(1, 1000))
    expected[offset : offset + 6] = b"header"
    finish(whole, fd)
    assert content(whole, "model.h5") == bytes(expected)
    assert whole.drive.log == [("create", "model.h5")]
    assert not [each for each in whole.drive.sessions.values() if each.done is None], "a session is left open"


def test_streaming_learns_which_files_are_changed_at_their_beginning(whole: Whole) -> None:
    fd = begin(whole, "model-1.h5", data(1, 1000))
    whole.fs.pwrite(fd, b"header", 0)
    finish(whole, fd)
    whole.drive.calls.clear()
    fd = begin(whole, "model-2.h5", data(1, 1000))
    assert "start_session" not in whole.drive.calls
    finish(whole, fd)
    assert content(whole, "model-2.h5") == data(1, 1000)


def test_streaming_goes_on_when_what_was_not_sent_is_changed(whole: Whole) -> None:
    fd = begin(whole, "large", data(1, 1000))
    whole.fs.pwrite(fd, b"end", 970)
    whole.drive.calls.clear()
    finish(whole, fd)
    assert content(whole, "large") == data(1, 970) + b"end" + data(1, 1000)[973:]
    assert "start_session" not in whole.drive.calls


@pytest.mark.parametrize("size", [0, 100, 960, 970, 2000])
def test_streaming_of_a_file_that_is_truncated_sends_what_it_became(whole: Whole, size: int) -> None:
    fd = begin(whole, "large", data(1, 1000))
    whole.fs.set_size(fd, size)
    finish(whole, fd)
    assert content(whole, "large") == data(1, 1000)[:size].ljust(size, b"\0")


def test_streaming_sends_nothing_behind_a_gap(whole: Whole) -> None:
    fd = whole.fs.open("large", NEW)
    whole.fs.pwrite(fd, data(1, 300), 0)
    whole.fs.pwrite(fd, data(3, 300), 600)
    whole.clock.advance(1)
    whole.streaming.tick()
    assert sent_bytes(whole) == 256
    whole.fs.pwrite(fd, data(2, 300), 300)
    finish(whole, fd)
    assert content(whole, "large") == data(1, 300) + data(2, 300) + data(3, 300)


def test_streaming_leaves_small_files_alone(whole: Whole) -> None:
    fd = begin(whole, "small", data(1, 150))
    assert whole.drive.sessions == {}
    finish(whole, fd)
    assert content(whole, "small") == data(1, 150)


def test_streaming_leaves_what_is_written_quickly_to_its_close(whole: Whole, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "GROWING_S", 3.0)
    fd = begin(whole, "quick", data(1, 1000))
    begun = begin(whole, "slow", data(2, 1000))
    assert whole.drive.sessions == {}
    whole.fs.close(fd)
    whole.drain()
    whole.clock.advance(3)
    whole.streaming.tick()
    assert sent_bytes(whole) == 960
    finish(whole, begun)
    assert (content(whole, "quick"), content(whole, "slow")) == (data(1, 1000), data(2, 1000))


def test_streaming_ends_the_session_of_a_file_that_is_removed(whole: Whole) -> None:
    fd = begin(whole, "large", data(1, 1000))
    whole.fs.unlink("large")
    whole.streaming.tick()
    assert whole.drive.sessions == {}
    finish(whole, fd)
    assert whole.drive.names() == {}
    assert whole.drive.log == []


def test_streaming_lets_what_is_closed_go_first(whole: Whole) -> None:
    fd = begin(whole, "open", data(1, 1000))
    whole.fs.pwrite(fd, data(2, 1000), 1000)
    write_file(whole.fs, "closed", data(3, 1000))
    whole.streaming.tick()
    assert sent_bytes(whole) == 960
    whole.dispatch()
    assert content(whole, "closed") == data(3, 1000)
    whole.streaming.tick()
    assert sent_bytes(whole) == 1984
    finish(whole, fd)


def test_streaming_goes_on_with_what_is_closed_and_waits_for_its_turn(whole: Whole) -> None:
    whole.fs.mkdir("d", 0o755)
    write_file(whole.fs, "d/latest", b"0")
    write_file(whole.fs, "d/model", data(1, 900))
    whole.drain()
    whole.drive.fail("send", *[("before", ServerFault("500"))] * 100)
    whole.drive.fail("session_state", *[("before", ServerFault("500"))] * 100)
    write_file(whole.fs, "d/first", data(2, 900))
    whole.dispatch()  # it is tried, and later again
    whole.drive.faults.clear()
    fd = begin(whole, "d/model", data(3, 1000))
    whole.fs.close(fd)
    seen = len(whole.drive.log)
    whole.streaming.tick()
    whole.drain()
    names = [name for _, name in whole.drive.log[seen:]]
    assert names.index("first") < names.index("model")
    assert whole.drive.content(whole.drive.names(whole.drive.names()["d"])["model"]) == data(3, 1000)


# --- temporary files ---


def save(whole: Whole, temporary: str, name: str, content: bytes) -> None:
    """Write a temporary file, let it be sent ahead, and rename it over its target at once."""
    fd = begin(whole, temporary, content)
    whole.fs.close(fd)
    whole.fs.rename(temporary, name)
    whole.drain()


@pytest.mark.parametrize(
    ("temporary", "name"),
    [
        (("checkpoint.tmpab1", "checkpoint.tmp77c", "checkpoint.tmp0"), "checkpoint"),
        ((".model.pt.aB3xYz", ".model.pt.Zz9_kq", ".model.pt.q"), "model.pt"),
        (("tmp", "tmp", "tmp"), "model.ckpt"),
        (("tmpx7f_3a", "tmp0aq1zz", "tmp9"), "model.safetensors"),
        (("model.pt.part", "model.pt.part", "model.pt.part"), "model.pt"),
    ],
)
def test_streaming_of_a_temporary_file_goes_into_the_file_that_it_replaces(
    whole: Whole, temporary: tuple[str, str, str], name: str
) -> None:
    write_file(whole.fs, name, data(1, 900))
    whole.drain()
    before = whole.drive.names()
    save(whole, temporary[0], name, data(2, 1000))
    for number, each in enumerate(temporary[1:]):
        whole.drive.calls.clear()
        save(whole, each, name, data(3 + number, 1000))
        assert whole.drive.calls.count("start_session") == 1
        assert whole.drive.calls[-3:] == ["get", "send", "update"], "the tail only, at the end"
        assert whole.drive.names() == before
        assert content(whole, name) == data(3 + number, 1000)
    assert {action for action, _ in whole.drive.log} == {"create", "update"}


def test_streaming_of_a_saver_creates_each_checkpoint_under_its_name(whole: Whole) -> None:
    """As tf.train.Saver does: the target is new each time."""
    for step in range(3):
        save(
            whole,
            f"m-{step}.data-00000-of-00001.tempstate{step * 77}",
            f"m-{step}.data-00000-of-00001",
            data(step, 900),
        )
        whole.drive.calls.clear()
    assert [entry for entry in whole.drive.log if entry[0] == "create"] == [
        ("create", f"m-{step}.data-00000-of-00001") for step in range(3)
    ]
    for step in range(3):
        assert content(whole, f"m-{step}.data-00000-of-00001") == data(step, 900)


def test_streaming_into_the_wrong_file_is_given_up_without_harm(whole: Whole) -> None:
    write_file(whole.fs, "model", data(1, 900))
    write_file(whole.fs, "other", data(2, 900))
    whole.drain()
    before = whole.drive.names()
    save(whole, "tmp", "model", data(3, 900))
    save(whole, "tmp", "other", data(4, 900))  # guessed: model
    assert whole.drive.names() == before
    assert (content(whole, "model"), content(whole, "other")) == (data(3, 900), data(4, 900))
    fd = begin(whole, "tmp", data(5, 900))  # guessed: other
    finish(whole, fd)
    assert content(whole, "other") == data(4, 900)
    assert content(whole, "tmp") == data(5, 900)
    assert not any(file.trashed for file in whole.drive.files.values())


def test_habits_know_a_temporary_name_when_they_see_one() -> None:
    for name in (".x", "a.tmp", "tmp", "tmp1a", "X.tempstate1", "a~", "a.part", "new", "a.part-1"[:6]):
        assert is_temporary(name), name
    for name in ("model.ckpt", "part-00000-of-00001", "newest", "temperature.csv", "partition", "events.out.123"):
        assert not is_temporary(name), name


def test_habits_forget_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drivefs.store.habits.REMEMBERED", 2)
    habits = Habits()
    for name in ("a", "b", "c"):
        habits.in_vain(name)
        habits.renamed(ROOT_INODE, f"{name}.tmp-", ROOT_INODE, f"{name}{name}")
    assert [habits.is_worth_it(name) for name in ("a", "b", "c")] == [True, False, False]


# --- others, faults, ends ---


def test_streaming_never_overwrites_what_somebody_else_wrote_meanwhile(whole: Whole) -> None:
    write_file(whole.fs, "model.pt", data(1, 900))
    whole.drain()
    drive_id = whole.drive.names()["model.pt"]
    fd = begin(whole, "model.pt", data(2, 1000))
    whole.drive.change(drive_id, b"theirs")
    finish(whole, fd)
    names = whole.drive.names()
    assert names["model.pt"] == drive_id and content(whole, "model.pt") == b"theirs"
    (copy,) = (name for name in names if "conflict" in name)
    assert content(whole, copy) == data(2, 1000)


def test_streaming_starts_anew_where_a_snapshot_has_made_the_file(whole: Whole) -> None:
    fd = begin(whole, "large", data(1, 1000))
    whole.vfs.snapshot_open()
    whole.dispatch()
    drive_id = whole.drive.names()["large"]
    whole.fs.pwrite(fd, data(2, 1000), 1000)
    whole.streaming.tick()
    whole.streaming.tick()
    whole.drive.calls.clear()
    finish(whole, fd)
    assert whole.drive.names() == {"large": drive_id}
    assert content(whole, "large") == data(1, 1000) + data(2, 1000)
    assert whole.drive.calls == ["get", "send", "update"]


@pytest.mark.parametrize(
    ("method", "fault"),
    [
        ("start_session", ("before", Unreachable("cut"))),
        ("start_session", ("after", Unreachable("lost"))),
        ("start_session", ("before", QueueBlocked("Full.", reason="storageQuotaExceeded"))),
        ("send", ("before", Unreachable("cut"))),
        ("send", ("after", Unreachable("lost"))),
        ("send", ("after", ServerFault("503"))),
        ("send", ("before", RateLimited("Slow down.", retry_after_s=3))),
        ("send", ("before", SessionGone("404"))),
        ("session_state", ("before", SessionGone("410"))),
        ("generate_ids", ("before", Unreachable("cut"))),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{value[0]}-{type(value[1]).__name__}",
)
@pytest.mark.parametrize("kept", [None, 64, 10])
def test_streaming_creates_exactly_one_whole_file_whatever_fails(
    whole: Whole, method: str, fault: tuple[str, Exception], kept: int | None
) -> None:
    if method == "session_state":
        whole.drive.fail("send", ("after", Unreachable("lost")))
    whole.drive.fail(method, fault)
    whole.drive.keep_bytes = kept
    fd = whole.fs.open("large", NEW)
    for number in range(8):
        whole.fs.pwrite(fd, data(number, 200), number * 200)
        whole.clock.advance(5)
        whole.streaming.tick()
    finish(whole, fd)
    assert content(whole, "large") == b"".join(data(number, 200) for number in range(8))
    assert [entry for entry in whole.drive.log if entry[0] == "create"] == [("create", "large")]
    assert len(whole.drive.files) == 2


def test_streaming_goes_on_after_a_kill_with_the_bytes_that_drive_has(whole: Whole) -> None:
    begin(whole, "large", data(1, 1000))
    whole.crash()
    whole.drive.calls.clear()
    whole.drain()
    assert content(whole, "large") == data(1, 1000)
    assert whole.drive.calls == ["generate_ids", "session_state", "send", "update"]


def test_streaming_after_a_kill_trusts_only_what_its_digest_proves(whole: Whole) -> None:
    """The kernel, or a disk that lost its power, may have changed the content unseen."""
    fd = begin(whole, "large", data(1, 1000))
    file = whole.vfs.files.handle(whole.fs.handle_number(fd)).opened.file
    assert file is not None
    path = whole.folder / "content" / str(file.generation)
    with path.open("r+b") as content_file:
        content_file.seek(300)
        content_file.write(b"torn")
    expected = path.read_bytes()
    whole.crash()
    whole.drain()
    assert content(whole, "large") == expected
    assert whole.drive.log == [("create", "large")]


def test_streaming_of_what_the_kernel_writes_itself_compares_it_at_the_close(whole: Whole) -> None:
    whole.fs.direct = True
    for name, change in (("same", b""), ("changed", b"unseen")):
        fd = begin(whole, name, data(1, 1000))
        handle = whole.vfs.files.handle(whole.fs.handle_number(fd))
        assert handle.direct and handle.opened.file is not None
        assert sent_bytes(whole) == 960
        os.pwrite(handle.opened.file.fd, change, 100)
        whole.drive.calls.clear()
        finish(whole, fd)
        assert content(whole, name) == data(1, 100) + change + data(1, 1000)[100 + len(change) :]
        assert ("start_session" in whole.drive.calls) is bool(change)
    assert len(whole.drive.names()) == 2


def test_streaming_waits_with_the_close_for_the_request_under_way(whole: Whole) -> None:
    with ThreadPoolExecutor(1) as requests, ThreadPoolExecutor(1) as uploads:
        whole.streaming._executor = requests
        whole.uploader._executor = uploads
        fd = begin(whole, "large", data(1, 20_000))
        finish(whole, fd)
        assert content(whole, "large") == data(1, 20_000)


def test_streaming_sends_again_what_arrived_with_another_checksum(whole: Whole) -> None:
    write_file(whole.fs, "model.pt", data(1, 900))
    whole.drain()
    fd = begin(whole, "model.pt", data(2, 1000))
    (session,) = (each for each in whole.drive.sessions.values() if each.done is None)
    session.data[5] ^= 1
    finish(whole, fd)
    assert content(whole, "model.pt") == data(2, 1000)
    assert len(whole.drive.names()) == 1, "it was taken for somebody else's"


def test_streaming_sends_a_few_files_at_a_time_only(whole: Whole, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "STREAMS", 2)
    fds = [begin(whole, f"f{number}", data(number, 1000)) for number in range(4)]
    assert len(whole.streaming.active()) == 2
    for fd in fds:
        whole.fs.close(fd)
    whole.drain()
    for number in range(4):
        assert content(whole, f"f{number}") == data(number, 1000)
