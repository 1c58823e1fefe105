"""What Drive has already in another file is copied there: right, once, and without sending it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from drivefs.errors import QueueBlocked, Refused, Unreachable
from drivefs.model import DriveId, RemoteFile
from drivefs.store.nodes import _TWIN, COPIED_LEAST_BYTES
from drivefs.sync.sending import Outgoing
from tests.fake_drive import FakeDrive
from tests.house import House

T = TypeVar("T")

SMALL = bytes(range(256)) * 4096  # 1 MiB: one request takes it
LARGE = SMALL * 6
SENDING = {"upload_small", "start_session", "send"}


class Meanwhile(FakeDrive):
    """Something happens right before the next copy has its effect."""

    action: Callable[[], object] | None = None

    def _call(self, method: str, effect: Callable[[], T]) -> T:
        if method == "copy" and self.action is not None:
            action, self.action = self.action, None
            action()
        return super()._call(method, effect)


@pytest.fixture
def drive() -> Meanwhile:
    return Meanwhile()


@pytest.fixture
def house(tmp_path: Path, drive: Meanwhile) -> Iterator[House]:
    made = House(tmp_path / "cache", drive)
    yield made
    made.store.close()


def copied(house: House, name: str = "copy") -> RemoteFile:
    return house.drive.files[house.drive.names()[name]]


@pytest.mark.parametrize("data", [SMALL, LARGE])
def test_copies_sends_no_byte_of_what_drive_has(house: House, data: bytes) -> None:
    house.write("model.ckpt", data)
    house.drain()
    house.mkdir("best")
    house.drain()
    house.drive.calls.clear()
    house.write("best/model.ckpt", data)
    house.drain()
    assert house.drive.calls == ["get", "copy"]
    node = house.node("best/model.ckpt")
    assert node.drive_id is not None
    remote = house.drive.files[node.drive_id]
    assert house.drive.content(remote.id) == data
    assert (remote.name, remote.parent) == ("model.ckpt", house.node("best").drive_id)
    assert remote.modified_ns == node.mtime_ns // 1_000_000 * 1_000_000
    assert (node.revision, node.md5) == (remote.revision, remote.md5)
    house.drive.calls.clear()
    house.write("best/model.ckpt", data + b"more")
    house.drain()
    assert house.drive.content(remote.id) == data + b"more"
    assert house.drive.content(house.drive.names()["model.ckpt"]) == data


def test_copies_what_others_have_put_on_drive(house: House) -> None:
    house.drive.put("theirs", LARGE)
    house.mirror.poll()
    house.write("copy", LARGE)
    house.drain()
    assert SENDING.isdisjoint(house.drive.calls)
    assert house.drive.content(copied(house).id) == LARGE


def test_copies_have_their_own_attributes_and_none_of_the_other_file(house: House) -> None:
    properties = {"mode": "755", "x:user.note": "utheirs", "foreign": "1"}
    house.drive.put("theirs", LARGE, app_properties=properties, description="Theirs.", starred=True)
    house.mirror.poll()
    house.write("copy", LARGE)
    node = house.node("copy")
    house.store.nodes.set_xattr(node.inode, "user.mine", b"1")
    house.drain()
    found = dict(copied(house).app_properties)
    del found["foreign"], found["mtime_ns"]
    assert found == {"x:user.mine": "u1"}
    assert (copied(house).description, copied(house).starred) == ("", False)
    assert house.node("copy").mode == 0o644


@pytest.mark.parametrize(
    ("data", "changed"), [(SMALL[:-1], {}), (LARGE, {"can_copy": False}), (LARGE, {"trashed": True})]
)
def test_copies_nothing_that_is_small_or_may_not_be_copied(
    house: House, data: bytes, changed: dict[str, object]
) -> None:
    theirs = house.drive.put("theirs", data)
    house.mirror.poll()
    house.drive.change(theirs, **changed)
    house.write("copy", data)
    house.drain()
    assert "copy" not in house.drive.calls
    assert house.drive.content(copied(house).id) == data


def test_copies_nothing_that_was_changed_before_it_was_heard_of(house: House) -> None:
    theirs = house.drive.put("theirs", LARGE)
    house.mirror.poll()
    house.drive.change(theirs, SMALL * 7)
    house.write("copy", LARGE)
    house.drain()
    assert "copy" not in house.drive.calls
    assert house.drive.content(copied(house).id) == LARGE


@pytest.mark.parametrize("lost", [False, True])
def test_copies_of_what_changes_at_that_moment_get_the_right_bytes(
    house: House, drive: Meanwhile, lost: bool
) -> None:
    theirs = drive.put("theirs", LARGE)
    house.mirror.poll()
    drive.action = lambda: drive.change(theirs, SMALL * 6 + b"theirs")
    if lost:
        drive.fail("copy", ("after", Unreachable("The reply was lost.")))
    house.write("copy", LARGE)
    house.drain()
    assert drive.content(copied(house).id) == LARGE
    assert drive.log == [("create", "copy"), ("update", "copy")]
    assert sorted(drive.names()) == ["copy", "theirs"]


def test_copies_whose_reply_is_lost_are_there_once(house: House, drive: Meanwhile) -> None:
    drive.put("theirs", LARGE)
    house.mirror.poll()
    drive.fail("copy", ("before", Unreachable("Not connected.")), ("after", Unreachable("The reply was lost.")))
    house.write("copy", LARGE)
    house.drain()
    assert drive.content(copied(house).id) == LARGE
    assert drive.log == [("create", "copy")]
    assert SENDING.isdisjoint(drive.calls)


@pytest.mark.parametrize(
    "error", [Refused("No.", reason="cannotCopyFile"), QueueBlocked("No.", reason="downloadQuotaExceeded")]
)
def test_copies_that_drive_refuses_are_sent(house: House, drive: Meanwhile, error: Exception) -> None:
    drive.put("theirs", LARGE)
    house.mirror.poll()
    drive.fail("copy", ("before", error))
    house.write("copy", LARGE)
    house.drain()
    assert drive.content(copied(house).id) == LARGE
    assert house.uploader.paused is None


def test_copies_another_file_of_the_same_content_where_the_first_is_gone(house: House, drive: Meanwhile) -> None:
    first = drive.put("first", LARGE)
    drive.put("second", LARGE)
    house.mirror.poll()
    del drive.files[DriveId(first)]
    house.write("copy", LARGE)
    house.drain()
    assert SENDING.isdisjoint(drive.calls)
    assert drive.content(copied(house).id) == LARGE


def test_copies_go_on_where_an_upload_had_begun(house: House, drive: Meanwhile) -> None:
    drive.keep_bytes = 1 << 20
    drive.fail("send", None, *[("before", Unreachable("Cut off."))] * 6)
    house.write("copy", LARGE)
    house.dispatch()
    assert drive.sessions
    drive.put("theirs", LARGE)
    house.mirror.poll()
    drive.calls.clear()
    house.drain()
    assert SENDING.isdisjoint(drive.calls)
    assert drive.content(copied(house).id) == LARGE


def test_upload_is_not_hashed_before_it_where_no_other_file_has_its_size(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.drive.put("theirs", LARGE + b"longer")
    house.mirror.poll()
    hashed: list[str] = []
    md5 = Outgoing.md5
    monkeypatch.setattr(Outgoing, "md5", lambda self: hashed.append(house.drive.calls[-1]) or md5(self))
    house.write("new", LARGE)
    house.drain()
    assert hashed and set(hashed) <= {"start_session", "send"}


def test_copies_are_looked_for_by_an_index(house: House) -> None:
    plans = house.store.db.rows(
        f"EXPLAIN QUERY PLAN SELECT drive_id FROM nodes WHERE {_TWIN} AND md5 = ?", (COPIED_LEAST_BYTES, "")
    )
    assert [row["detail"] for row in plans] == ["SEARCH nodes USING INDEX nodes_copied (size_bytes=? AND md5=?)"]


@pytest.mark.parametrize("data", [b"small", LARGE])
def test_overwrite_that_changes_nothing_sends_nothing(house: House, data: bytes) -> None:
    house.write("model.ckpt", data)
    house.drain()
    house.drive.calls.clear()
    house.write("model.ckpt", data)
    house.drain()
    assert SENDING.isdisjoint(house.drive.calls)
    assert len(house.drive.revisions(house.drive.names()["model.ckpt"])) == 1
