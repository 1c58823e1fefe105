"""Drive's tree as the mount shows it."""

from __future__ import annotations

import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from drivefs.errors import BadReply, Refused, RemoteNotFound
from drivefs.model import ROOT_INODE, About, ChangesPage, Kind, RemoteFile, RevisionId, UpdateTarget
from drivefs.sync.mirror import ANEW_EVERY_S, IDLE_POLL_S, POLL_S, Mirror
from tests.fake_drive import ROOT, FakeDrive
from tests.house import House


@pytest.fixture
def house(tmp_path: Path) -> House:
    drive = FakeDrive()
    drive.put("a", b"a")
    drive.put("d")
    return House(tmp_path / "cache", drive)


def shown(house: House, path: str = "") -> set[str]:
    inode = house.node(path).inode if path else ROOT_INODE
    house.mirror.ensure_listed(inode)
    return {node.name or "" for node in house.store.nodes.children(inode)}


def test_mirror_lists_a_folder_once(house: House) -> None:
    assert shown(house) == {"a", "d"}
    house.drive.calls.clear()
    assert shown(house) == {"a", "d"}
    assert house.drive.calls == []


def test_mirror_lists_more_than_one_page(tmp_path: Path) -> None:
    drive = FakeDrive()
    drive.page_files = 7
    for number in range(50):
        drive.put(str(number), b"")
    assert len(shown(House(tmp_path / "cache", drive))) == 50


def test_mirror_needs_no_listing_after_a_remount(house: House) -> None:
    shown(house)
    house.drive.calls.clear()
    house.reopen()
    assert shown(house) == {"a", "d"}
    assert house.drive.calls == []


def test_mirror_sees_what_others_add_rename_move_change_and_remove(house: House) -> None:
    folder, file = house.drive.names()["d"], house.drive.names()["a"]
    shown(house, "d")
    house.drive.put("new", b"n")
    house.drive.change(file, b"longer", name="b", parent=folder)
    house.mirror.poll()
    assert shown(house) == {"d", "new"}
    assert shown(house, "d") == {"b"}
    assert house.node("d/b").size_bytes == 6
    house.drive.change(file, trashed=True)
    house.mirror.poll()
    assert shown(house, "d") == set()


def test_mirror_takes_its_own_changes_in_the_feed_for_no_news(house: House) -> None:
    house.write("mine", b"m")
    house.drain()
    before = house.node("mine")
    house.mirror.poll()
    assert house.node("mine") == before


def test_mirror_does_not_go_back_to_older_news(house: House) -> None:
    house.write("mine", b"one")
    house.drain()
    old = house.drive.files[house.drive.names()["mine"]]
    house.write("mine", b"two two")
    house.drain()
    before = house.node("mine")
    house.mirror.take(old)
    assert house.node("mine") == before


def test_mirror_does_not_bring_back_what_was_removed_while_news_of_it_were_on_their_way(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.write("mine", b"one")
    house.drain()
    changes = house.drive.changes

    def remove(page_token: str) -> ChangesPage:
        page = changes(page_token)
        assert [change.file.name for change in page.changes if change.file is not None] == ["mine"]
        house.remove("mine")
        house.drain()
        return page

    monkeypatch.setattr(house.drive, "changes", remove)
    house.mirror.poll()
    assert "mine" not in shown(house)


def test_mirror_does_not_go_back_to_a_name_that_drive_was_told_before(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown(house)
    folder = house.drive.names()["d"]
    update = house.drive.update

    def rename_back(target: UpdateTarget) -> RemoteFile:
        reply = update(target)
        house.rename("e", "d")
        return replace(reply, revision=RevisionId("other"))  # news beside the name, which are left to the feed

    monkeypatch.setattr(house.drive, "update", rename_back)
    house.rename("d", "e")
    house.dispatch()
    monkeypatch.undo()
    house.mirror.poll()
    assert "d" in shown(house)
    house.drain()
    assert house.drive.names()["d"] == folder


def test_mirror_leaves_alone_what_is_changed_here(house: House) -> None:
    house.write("a", b"mine")
    house.drive.change(house.drive.names()["a"], b"theirs")
    house.mirror.poll()
    generation = house.node("a").generation
    assert generation is not None
    file = house.store.content.open(generation)
    assert file.read(0, 10) == b"mine"
    file.close()


def test_mirror_keeps_what_drive_does_not_have_when_its_folder_goes(house: House) -> None:
    shown(house, "d")
    house.write("d/precious", b"p")
    house.drive.change(house.drive.names()["d"], trashed=True)
    house.mirror.poll()
    assert shown(house, "d") == {"precious"}
    house.drain()
    assert house.drive.content(house.drive.names(house.drive.names()["d"])["precious"]) == b"p"


@pytest.mark.parametrize("refusal", [Refused("Invalid token.", status=400), RemoteNotFound("Gone.", status=410)])
def test_mirror_lists_anew_when_the_token_is_refused(house: House, refusal: Exception) -> None:
    shown(house)
    house.drive.change(house.drive.names()["a"], trashed=True)
    house.drive.put("new", b"n")
    house.drive.fail("changes", ("before", refusal))
    house.mirror.poll()
    assert shown(house) == {"d", "new"}
    house.drive.put("newer", b"n")
    house.mirror.poll()
    assert shown(house) == {"d", "new", "newer"}


def test_mirror_lists_anew_no_more_than_now_and_then(house: House) -> None:
    refusal = ("before", Refused("Invalid token.", status=400))
    now = [0.0]
    mirror = Mirror(house.store, house.drive, monotonic=lambda: now[0])
    house.drive.fail("changes", refusal, refusal, refusal)
    mirror.poll()
    with pytest.raises(Refused):
        mirror.poll()
    house.drive.calls.clear()
    now[0] += ANEW_EVERY_S
    mirror.poll()
    assert house.drive.calls == ["changes", "start_page_token"]


def test_mirror_tells_twins_apart_the_same_way_each_time(tmp_path: Path) -> None:
    drive = FakeDrive()
    drive.put("twin.txt", b"2", id="younger", created_ns=2)
    drive.put("twin.txt", b"1", id="older", created_ns=1)
    for cache in ("one", "two"):
        house = House(tmp_path / cache, drive)
        assert shown(house) == {"twin.txt", "twin~younger.txt"}
        assert house.node("twin.txt").drive_id == "older"


@pytest.mark.parametrize("name", ["a/b", "..", ".", "nul\0nul", "x" * 300, "é" * 200, "", "\uff0f", "\u201b\uff0f"])
def test_mirror_shows_every_name_and_publishes_it_unchanged(tmp_path: Path, name: str) -> None:
    drive = FakeDrive()
    drive.put(name, b"1")
    house = House(tmp_path / "cache", drive)
    (local,) = shown(house)
    assert "/" not in local and "\0" not in local and local not in (".", "..", "")
    assert len(local.encode()) <= 255
    house.write(local, b"22")
    house.drain()
    assert set(drive.names()) == {name}


def test_mirror_forgets_folders_of_any_depth(house: House) -> None:
    depth = sys.getrecursionlimit() + 100
    top = parent = house.drive.put("top")
    for _ in range(depth):
        parent = house.drive.put("deep", parent=parent)
    house.drive.put("leaf", b"x", parent=parent)
    house.mirror.poll()
    assert house.store.db.row("SELECT COUNT(*) FROM nodes WHERE name = 'deep'")[0] == depth
    house.drive.change(top, trashed=True)
    house.mirror.poll()
    assert house.store.db.row("SELECT COUNT(*) FROM nodes WHERE name IN ('top', 'deep', 'leaf')")[0] == 0


def test_mirror_is_not_kept_in_a_changes_feed_without_an_end(house: House) -> None:
    changes = house.drive.changes
    house.drive.changes = lambda token: ChangesPage((), token, None)  # type: ignore[method-assign]
    with pytest.raises(BadReply):
        house.mirror.poll()
    house.drive.changes = changes  # type: ignore[method-assign]
    house.drive.put("new", b"x")
    house.mirror.poll()
    assert house.node("new").size_bytes == 1


def test_mirror_refuses_a_circle_of_folders(house: House) -> None:
    folder = house.drive.names()["d"]
    below = house.drive.put("below", parent=folder)
    shown(house, "d")
    house.drive.change(folder, parent=below)
    house.drive.change(below, parent=folder)
    house.mirror.poll()
    assert list(house.store.nodes.ancestors(ROOT_INODE)) == []
    assert "d" not in shown(house)


def test_mirror_shows_google_documents_as_files_with_the_extension_of_their_export(tmp_path: Path) -> None:
    drive = FakeDrive()
    prefix = "application/vnd.google-apps."
    for name in ("document", "spreadsheet", "presentation", "drawing", "form"):
        drive.put(f"My {name}", None, mime_type=prefix + name, web_view_link="https://docs/x")
    drive.put("a shortcut", None, mime_type=prefix + "shortcut", web_view_link="https://docs/y")
    house = House(tmp_path / "cache", drive)
    names = shown(house)
    assert {"My document.docx", "My spreadsheet.xlsx", "My presentation.pptx", "My drawing.svg"} < set(names)
    form = house.node("My form.desktop")
    assert (form.kind, form.target, form.measured) == (Kind.FILE, "https://docs/x", True)
    assert house.node("a shortcut").kind is Kind.SYMLINK
    assert "export" not in drive.calls


def test_mirror_reads_back_what_the_uploader_wrote(tmp_path: Path) -> None:
    one = House(tmp_path / "one")
    one.write("f", b"1")
    inode = one.node("f").inode
    one.store.nodes.update(inode, mode=0o640, mtime_ns=1_700_000_000_123_456_789)
    one.store.nodes.set_xattr(inode, "user.a", b"\xff\x00")
    one.store.nodes.set_xattr(inode, "user.b", "ü".encode())
    one.store.journal.changed_metadata(one.node("f"))
    one.symlink("link", "x" * 200)
    one.mkdir("d")
    one.drain()
    two = House(tmp_path / "two", one.drive)
    node = two.node("f")
    assert (node.mode, node.mtime_ns, node.size_bytes) == (0o640, 1_700_000_000_123_456_789, 1)
    assert two.store.nodes.xattrs(node.inode) == {"user.a": b"\xff\x00", "user.b": "ü".encode()}
    assert two.node("link").size_bytes == 200
    assert two.downloader.ensure_target(two.node("link").inode) == "x" * 200
    assert two.node("d").kind is Kind.FOLDER


def test_mirror_knows_how_full_drive_is(tmp_path: Path) -> None:
    house = House(tmp_path / "cache", FakeDrive(limit_bytes=100))
    assert house.mirror.space() is None
    house.drive.put("x", b"1234")
    house.mirror.ask_space()
    space = house.mirror.space()
    assert space is not None and (space.total_bytes, space.free_bytes) == (100, 96)
    assert ROOT in house.drive.files


def test_mirror_of_a_new_drive_knows_its_root_by_two_requests(tmp_path: Path) -> None:
    drive = FakeDrive()
    drive.put("a", b"a")
    drive.put("d")
    house = House(tmp_path / "cache", drive)
    assert drive.calls == ["start_page_token", "list_children"]
    assert house.store.nodes.get(ROOT_INODE).drive_id == ROOT
    assert shown(house) == {"a", "d"}


@pytest.mark.parametrize("files", [0, 20])
def test_mirror_starts_with_a_root_that_is_empty_or_longer_than_a_page(tmp_path: Path, files: int) -> None:
    drive = FakeDrive()
    drive.page_files = 7
    for number in range(files):
        drive.put(f"f{number}", b"")
    house = House(tmp_path / "cache", drive)
    assert house.store.nodes.get(ROOT_INODE).drive_id == ROOT
    assert len(shown(house)) == files


def test_mirror_asks_how_full_drive_is_when_somebody_wants_to_know(tmp_path: Path) -> None:
    drive = FakeDrive(limit_bytes=100)
    house = House(tmp_path / "cache", drive)
    asked = threading.Event()
    about = drive.about

    def note() -> About:
        asked.set()
        return about()

    drive.about = note  # type: ignore[method-assign]
    mirror = Mirror(house.store, drive, monotonic=lambda: 0.0)
    stop = threading.Event()
    thread = threading.Thread(target=mirror.run, args=(stop,))
    thread.start()
    try:
        assert not asked.is_set()
        mirror.want_space()
        assert asked.wait(10)
    finally:
        stop.set()
        mirror.wake()
        thread.join(10)
    assert not thread.is_alive()
    assert "changes" not in drive.calls


def test_mirror_polls_less_often_when_nobody_looks(tmp_path: Path) -> None:
    house = House(tmp_path / "cache", FakeDrive())
    now = [0.0]
    mirror = Mirror(house.store, house.drive, monotonic=lambda: now[0])
    assert mirror.interval_s() == POLL_S
    now[0] = 200.0
    assert mirror.interval_s() == 20.0
    now[0] = 86_400.0
    assert mirror.interval_s() == IDLE_POLL_S
    mirror.in_use()
    assert mirror.interval_s() == POLL_S


def test_mirror_polls_at_once_when_somebody_comes_back(tmp_path: Path) -> None:
    house = House(tmp_path / "cache", FakeDrive())
    house.store.db.set_setting("listing", "done")
    now = [0.0]
    mirror = Mirror(house.store, house.drive, monotonic=lambda: now[0])
    stop, polled = threading.Event(), threading.Semaphore(0)
    poll = mirror.poll

    def note() -> int:
        count = poll()
        now[0] += 86_400.0  # nobody looks for a day
        polled.release()
        return count

    mirror.poll = note  # type: ignore[method-assign]
    thread = threading.Thread(target=mirror.run, args=(stop,))
    thread.start()
    try:
        assert polled.acquire(timeout=10)
        mirror.in_use()
        assert polled.acquire(timeout=10)
    finally:
        stop.set()
        mirror.wake()
        thread.join(10)
    assert not thread.is_alive()
