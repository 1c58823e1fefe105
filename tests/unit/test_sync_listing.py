"""Which folders are known, and what it costs to know them."""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from drivefs.errors import BadReply, Refused, RemoteNotFound, Unreachable
from drivefs.model import ROOT_INODE, DriveId, ListPage
from drivefs.sync.flat import AGAIN_S
from drivefs.sync.listing import BETWEEN_PAGES, HEAD_START_PAGES, HEAD_START_S, Listings
from drivefs.sync.walks import FIRST_FOLDERS, QUERY_FOLDERS, WALK_S
from tests.fake_drive import ROOT, FakeDrive
from tests.house import House


def fill(drive: FakeDrive, folders: int, files: int, parent: DriveId = ROOT) -> list[DriveId]:
    """Folders d0, d1, … with files f0, f1, … in each."""
    made = [drive.put(f"d{number:03d}", parent=parent) for number in range(folders)]
    for folder in made:
        for number in range(files):
            drive.put(f"f{number}", b"x", parent=folder)
    return made


def list_all(house: House, limit: int = 1_000) -> None:
    while house.mirror.listings.step():
        limit -= 1
        assert limit > 0, "the listing does not end"


def tree(house: House) -> set[str]:
    found = set()
    for row in house.store.db.rows("SELECT inode FROM nodes WHERE parent IS NOT NULL"):
        found.add(house.store.nodes.path(row[0]))
    return found


def on_drive(drive: FakeDrive) -> set[str]:
    def path(file_id: DriveId) -> str:
        file = drive.files[file_id]
        above = "" if file.parent in (None, ROOT) else path(file.parent) + "/"
        return above + file.name

    return {path(file.id) for file in drive.files.values() if file.id != ROOT and not file.trashed}


def assert_all_known(house: House) -> None:
    assert tree(house) == on_drive(house.drive)
    house.drive.calls.clear()
    for row in house.store.db.rows("SELECT inode FROM nodes WHERE kind = 'folder'"):
        house.mirror.ensure_listed(row[0])
    assert house.drive.calls == []


def note_parents(drive: FakeDrive) -> list[Sequence[DriveId]]:
    """Which folders each first page of a query is asked for, from now on."""
    asked: list[Sequence[DriveId]] = []
    list_children = drive.list_children

    def note(parents: Sequence[DriveId], token: str | None = None) -> ListPage:
        if token is None:
            asked.append(parents)
        return list_children(parents, token)

    drive.list_children = note  # type: ignore[method-assign]
    return asked


def test_listing_of_everything_costs_one_request_a_page(tmp_path: Path) -> None:
    drive = FakeDrive()
    drive.page_files = 100
    fill(drive, 50, 20)
    house = House(tmp_path / "cache", drive)
    drive.calls.clear()
    list_all(house)
    assert drive.calls.count("list_all") == 11
    assert_all_known(house)


def test_listing_finds_folders_that_come_before_their_own_folder(tmp_path: Path) -> None:
    drive = FakeDrive()
    drive.page_files = 3
    parent = ROOT
    deep = [DriveId(f"deep-{number}") for number in range(20)]
    for file_id in deep:
        parent = drive.put(file_id, parent=parent, id=file_id)
    drive.put("leaf", b"x", parent=parent)
    drive.files = dict(reversed(drive.files.items()))
    house = House(tmp_path / "cache", drive)
    list_all(house)
    assert_all_known(house)


def test_listing_shows_nothing_that_hangs_in_no_visible_folder(tmp_path: Path) -> None:
    drive = FakeDrive()
    drive.put("shared.txt", b"x", parent=None)
    hidden = drive.put("shared", parent=DriveId("not-mine"))
    drive.put("inside.txt", b"x", parent=hidden)
    house = House(tmp_path / "cache", drive)
    list_all(house)
    assert tree(house) == set()
    drive.change(hidden, parent=ROOT)
    house.mirror.poll()
    list_all(house)
    assert tree(house) == {"shared", "shared/inside.txt"}


def test_listing_of_folders_in_a_circle_ends_without_them(tmp_path: Path) -> None:
    drive = FakeDrive()
    drive.put("one", id="one", parent=DriveId("two"))
    drive.put("two", id="two", parent=DriveId("one"))
    drive.put("self", id="self", parent=DriveId("self"))
    drive.put("file", b"x")
    house = House(tmp_path / "cache", drive)
    list_all(house)
    assert tree(house) == {"file"}


def test_listing_goes_on_where_it_was_cut(tmp_path: Path) -> None:
    drive = FakeDrive()
    drive.page_files = 50
    fill(drive, 20, 20)
    house = House(tmp_path / "cache", drive)
    drive.calls.clear()
    steps = 0
    while house.mirror.listings.step():
        steps += 1
        house.reopen()
    assert drive.calls.count("list_all") == 9
    assert_all_known(house)


def test_listing_begins_anew_when_its_place_is_no_longer_known(tmp_path: Path) -> None:
    drive = FakeDrive()
    drive.page_files = 10
    fill(drive, 10, 10)
    house = House(tmp_path / "cache", drive)
    for _ in range(5):
        house.mirror.listings.step()
    drive.fail("list_all", ("before", Refused("Invalid token.", reason="invalid", status=400)))
    list_all(house)
    assert_all_known(house)


def test_listing_that_drive_refuses_is_made_folder_by_folder(tmp_path: Path) -> None:
    drive = FakeDrive()
    fill(drive, 120, 2)
    drive.list_all = lambda *_, **__: (_ for _ in ()).throw(Refused("No.", status=403))  # type: ignore[method-assign]
    house = House(tmp_path / "cache", drive)
    drive.calls.clear()
    list_all(house)
    assert drive.calls.count("list_children") == 3
    assert_all_known(house)


def test_listing_that_says_it_is_incomplete_is_not_believed(tmp_path: Path) -> None:
    drive = FakeDrive()
    fill(drive, 3, 3)
    drive.list_all = lambda *_, **__: ListPage((), None, incomplete=True)  # type: ignore[method-assign]
    house = House(tmp_path / "cache", drive)
    list_all(house)
    assert_all_known(house)


def test_listing_that_changes_between_its_pages_ends_right(tmp_path: Path) -> None:
    drive = FakeDrive()
    drive.page_files = 7
    folders = fill(drive, 5, 9)
    house = House(tmp_path / "cache", drive)
    number = 0
    while house.mirror.listings.step():
        number += 1
        files = [file for file in drive.files.values() if file.name.startswith("f") and not file.trashed]
        if number < 8:
            drive.change(files[number].id, trashed=True)
            drive.change(files[-number].id, parent=folders[number % 5], name=f"moved{number}")
            drive.put(f"new{number}", b"x", parent=drive.put(f"fresh{number}", parent=folders[0]))
    house.mirror.poll()
    list_all(house)
    assert_all_known(house)


def test_listing_does_not_bring_back_what_went_while_its_page_was_on_its_way(tmp_path: Path) -> None:
    drive = FakeDrive()
    file_id = drive.put("f", b"x")
    house = House(tmp_path / "cache", drive)
    old = drive.files[file_id]
    since = house.mirror.listings.pages.moment()
    drive.change(file_id, trashed=True)
    house.mirror.poll()
    with house.store.db.transaction():
        house.mirror.listings.pages.apply([old], since)
    assert tree(house) == set()


def test_listing_of_one_folder_goes_alone_and_first(tmp_path: Path) -> None:
    drive = FakeDrive()
    fill(drive, 3, 3)
    house = House(tmp_path / "cache", drive)
    asked = note_parents(drive)
    house.mirror.ensure_listed(house.node("d001").inode)
    assert asked == [[drive.names()["d001"]]]
    assert "d001/f0" in tree(house) and "d000/f0" not in tree(house)


def test_listing_asks_for_the_folders_around_a_walker_many_at_once(tmp_path: Path) -> None:
    drive = FakeDrive()
    fill(drive, 120, 1)
    house = House(tmp_path / "cache", drive)
    house.store.db.set_setting("listing", "done")
    drive.calls.clear()
    for number in range(120):
        house.mirror.ensure_listed(house.node(f"d{number:03d}").inode)
    # The first one alone, for nobody knows yet that there is a walker.
    assert drive.calls.count("list_children") == 2 + math.ceil((120 - 1 - FIRST_FOLDERS) / QUERY_FOLDERS)
    assert_all_known(house)


def test_listing_around_a_walker_asks_for_as_many_folders_as_fill_a_page(tmp_path: Path) -> None:
    drive = FakeDrive()
    folders = fill(drive, 40, 6)
    house = House(tmp_path / "cache", drive)
    house.store.db.set_setting("listing", "done")
    drive.page_files = FIRST_FOLDERS * 6 // 2
    asked = note_parents(drive)
    for number in range(2 + FIRST_FOLDERS):
        house.mirror.ensure_listed(house.node(f"d{number:03d}").inode)
    assert [len(parents) for parents in asked] == [1, FIRST_FOLDERS, 3]
    assert asked[2] == folders[1 + FIRST_FOLDERS :][:3]
    list_all(house)
    assert_all_known(house)


def test_listing_of_a_walker_takes_the_place_of_the_flat_one_where_it_brings_as_much(tmp_path: Path) -> None:
    drive = FakeDrive()
    drive.page_files = 10
    fill(drive, 100, 10)
    house = House(tmp_path / "cache", drive)
    while house.mirror.listings.flat.page_count < HEAD_START_PAGES:
        assert house.mirror.listings.step()
    unlisted = len(house.store.nodes.unlisted(1_000))
    drive.calls.clear()
    for name in ("d050", "d051"):
        house.mirror.ensure_listed(house.node(name).inode)
    list_all(house)
    assert "list_all" not in drive.calls
    assert drive.calls.count("list_children") < unlisted + FIRST_FOLDERS
    assert_all_known(house)


def test_listing_of_everything_goes_on_between_a_walkers_queries_that_bring_little(tmp_path: Path) -> None:
    drive = FakeDrive()
    drive.page_files = 200
    fill(drive, 4_000, 1)
    house = House(tmp_path / "cache", drive)
    listings = house.mirror.listings
    while listings.flat.page_count < HEAD_START_PAGES:
        assert listings.step()
    stop = threading.Event()
    lister = threading.Thread(target=listings.run, args=(stop,))
    drive.calls.clear()
    lister.start()
    try:
        for number in range(4_000):
            listings.ensure_listed(house.node(f"d{number:03d}").inode)
    finally:
        stop.set()
        listings.wake()
        lister.join()
    flat, folders = drive.calls.count("list_all"), drive.calls.count("list_children")
    assert flat <= 2 * 4_000 / 200 - HEAD_START_PAGES + 1
    assert folders <= 2 + flat / BETWEEN_PAGES
    assert_all_known(house)


def test_listing_ahead_of_a_walker_is_done_by_several_at_once(tmp_path: Path) -> None:
    drive = FakeDrive()
    drive.page_files = 10
    fill(drive, 60, 10)
    house = House(tmp_path / "cache", drive)
    listings = house.mirror.listings
    while listings.flat.page_count < HEAD_START_PAGES:
        assert listings.step()
    for name in ("d000", "d001"):
        listings.ensure_listed(house.node(name).inode)
    list_children = drive.list_children
    together, met = threading.Barrier(2), threading.Event()

    def meet(parents: Sequence[DriveId], token: str | None = None) -> ListPage:
        if not met.is_set():
            with suppress(threading.BrokenBarrierError):
                together.wait(10)
                met.set()
        return list_children(parents, token)

    drive.list_children = meet  # type: ignore[method-assign]
    stop = threading.Event()
    threads = [threading.Thread(target=body, args=(stop,)) for body in (listings.run, listings.assist)]
    for thread in threads:
        thread.start()
    try:
        assert met.wait(10)
        for number in range(60):
            listings.ensure_listed(house.node(f"d{number:03d}").inode)
    finally:
        stop.set()
        for thread in threads:
            while thread.is_alive():
                listings.wake()
                thread.join(0.01)
    assert_all_known(house)


def test_listing_lets_a_walker_wait_for_the_young_flat_listing_only(tmp_path: Path) -> None:
    drive = FakeDrive()
    drive.page_files = 10
    fill(drive, 10, 10)
    house = House(tmp_path / "cache", drive)
    now = [0.0]
    listings = Listings(house.store, drive, house.mirror, monotonic=lambda: now[0])
    listings.step()
    listings.ensure_listed(house.node("d000").inode)
    drive.calls.clear()
    with ThreadPoolExecutor(1) as pool:
        walker = pool.submit(listings.ensure_listed, house.node("d001").inode)
        while listings.step():
            pass
        walker.result(10)
    assert "list_children" not in drive.calls
    late = Listings(house.store, drive, house.mirror, monotonic=lambda: now[0])
    house.mirror.listings.start_over()
    house.store.db.set_setting("listing", "files")
    late.step()
    now[0] += HEAD_START_S
    asked = note_parents(drive)
    for name in ("d000", "d001", "d002"):
        late.ensure_listed(house.node(name).inode)
    assert [len(parents) for parents in asked] == [1, FIRST_FOLDERS]


def test_listing_takes_who_reads_one_folder_after_the_other_for_a_walker(tmp_path: Path) -> None:
    drive = FakeDrive()
    fill(drive, 2, 2, parent=drive.put("tree"))
    house = House(tmp_path / "cache", drive)
    now = [0.0]
    listings = Listings(house.store, drive, house.mirror, monotonic=lambda: now[0])
    listings.step()
    listings.ensure_listed(ROOT_INODE, to_read=True)
    drive.calls.clear()
    with ThreadPoolExecutor(1) as pool:
        walker = pool.submit(listings.ensure_listed, house.node("tree").inode, to_read=True)
        while listings.step():
            pass
        walker.result(10)
    assert "list_children" not in drive.calls
    house.mirror.listings.start_over()
    house.store.db.set_setting("listing", "files")
    drive.page_files = 1
    slow = Listings(house.store, drive, house.mirror, monotonic=lambda: now[0])
    slow.step()
    slow.ensure_listed(ROOT_INODE, to_read=True)
    drive.page_files = 1_000
    now[0] += WALK_S
    drive.calls.clear()
    slow.ensure_listed(house.node("tree").inode, to_read=True)  # a person, who is not to wait
    assert drive.calls == ["list_children"]


def test_listing_is_asked_for_once_by_all_who_wait(tmp_path: Path) -> None:
    drive = FakeDrive()
    fill(drive, 1, 3)
    house = House(tmp_path / "cache", drive)
    gate, list_children = threading.Event(), drive.list_children

    def wait(parents: Sequence[DriveId], token: str | None = None) -> ListPage:
        gate.wait(10)
        return list_children(parents, token)

    drive.list_children = wait  # type: ignore[method-assign]
    drive.calls.clear()
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(house.mirror.ensure_listed, house.node("d000").inode) for _ in range(8)]
        gate.set()
        for each in waiting:
            each.result(10)
    assert drive.calls == ["list_children"]


def test_listing_of_many_is_not_spoilt_by_one_that_drive_refuses(tmp_path: Path) -> None:
    drive = FakeDrive()
    folders = fill(drive, 5, 1)
    house = House(tmp_path / "cache", drive)
    house.store.db.set_setting("listing", "done")
    list_children = drive.list_children

    def refuse(parents: Sequence[DriveId], token: str | None = None) -> ListPage:
        if folders[2] in parents:
            raise RemoteNotFound("File not found.", reason="notFound", status=404)
        return list_children(parents, token)

    drive.list_children = refuse  # type: ignore[method-assign]
    list_all(house)
    assert tree(house) == on_drive(drive) - {"d002/f0"}
    with pytest.raises(RemoteNotFound):
        house.mirror.ensure_listed(house.node("d002").inode)


def test_listing_that_turns_in_a_circle_is_an_error(tmp_path: Path) -> None:
    drive = FakeDrive()
    fill(drive, 1, 1)
    house = House(tmp_path / "cache", drive)
    drive.list_children = lambda *_: ListPage((), "again")  # type: ignore[method-assign]
    with pytest.raises(BadReply):
        house.mirror.ensure_listed(house.node("d000").inode)


@pytest.mark.parametrize("tokens", [itertools.cycle("ab"), map(str, itertools.count())], ids=["circle", "nothing"])
def test_listing_that_does_not_end_is_an_error_or_made_another_way(tmp_path: Path, tokens: Iterator[str]) -> None:
    drive = FakeDrive()
    fill(drive, 3, 3)
    house = House(tmp_path / "cache", drive)
    list_children = drive.list_children
    drive.list_all = lambda *_, **__: ListPage((), next(tokens))  # type: ignore[method-assign]
    drive.list_children = lambda *_: ListPage((), next(tokens))  # type: ignore[method-assign]
    with pytest.raises(BadReply):
        house.mirror.ensure_listed(house.node("d000").inode)
    drive.list_children = list_children  # type: ignore[method-assign]
    list_all(house)
    assert_all_known(house)


def test_listing_whose_page_is_empty_goes_on_behind_it(tmp_path: Path) -> None:
    drive = FakeDrive()
    fill(drive, 2, 2)
    house = House(tmp_path / "cache", drive)
    whole = drive.list_children

    def sparse(parents: Sequence[DriveId], token: str | None = None) -> ListPage:
        pages = {None: ListPage((), "1"), "1": ListPage((), "2"), "2": whole(parents)}
        return pages[token]

    drive.list_children = sparse  # type: ignore[method-assign]
    house.mirror.ensure_listed(house.node("d000").inode)
    assert "d000/f1" in tree(house)


def test_listing_that_failed_is_asked_for_again(tmp_path: Path) -> None:
    drive = FakeDrive()
    fill(drive, 1, 1)
    house = House(tmp_path / "cache", drive)
    drive.fail("list_children", ("before", Unreachable("cut")))
    with pytest.raises(Unreachable):
        house.mirror.ensure_listed(house.node("d000").inode)
    house.mirror.ensure_listed(house.node("d000").inode)
    assert "d000/f0" in tree(house)


def test_listing_anew_forgets_what_is_gone_and_keeps_what_waits_here(tmp_path: Path) -> None:
    drive = FakeDrive()
    fill(drive, 2, 2)
    house = House(tmp_path / "cache", drive)
    list_all(house)
    house.write("d000/mine", b"m")
    house.rename("d000/f0", "d001/here")
    house.store.db.set_setting("changes_token", "forgotten")
    gone = drive.names(drive.names()["d001"])["f1"]
    drive.change(gone, trashed=True)
    house.mirror.poll()
    list_all(house)
    assert tree(house) == {"d000", "d001", "d000/f1", "d000/mine", "d001/f0", "d001/here"}
    house.drain()
    assert set(drive.names(drive.names()["d001"])) == {"f0", "here"}
    assert house.store.nodes.get(ROOT_INODE).listed


def test_listing_of_a_folder_that_changes_between_its_pages_drops_nothing_that_is_there(tmp_path: Path) -> None:
    drive = FakeDrive()
    drive.page_files = 3
    (folder,) = fill(drive, 1, 9)
    house = House(tmp_path / "cache", drive)
    list_all(house)
    house.mirror.listings.start_over()
    house.mirror.ensure_listed(ROOT_INODE)
    list_children = drive.list_children

    def change_behind(parents: Sequence[DriveId], token: str | None = None) -> ListPage:
        page = list_children(parents, token)
        if not drive.files[page.files[0].id].trashed and page.files[0].name == "f0":
            drive.change(page.files[0].id, trashed=True)  # what the next page would begin with is on this one now
        return page

    drive.list_children = change_behind  # type: ignore[method-assign]
    house.mirror.ensure_listed(house.node("d000").inode)
    house.mirror.poll()
    assert tree(house) == on_drive(drive)
    assert len(drive.names(folder)) == 8


def test_listing_gives_the_plain_name_to_the_older_twin_in_any_order(tmp_path: Path) -> None:
    drive = FakeDrive()
    drive.page_files = 1
    for age in (3, 1, 2):
        drive.put("twin.txt", b"x", id=f"age{age}", created_ns=age)
    house = House(tmp_path / "cache", drive)
    list_all(house)
    assert tree(house) == {"twin.txt", "twin~age2.txt", "twin~age3.txt"}
    assert house.node("twin.txt").drive_id == "age1"


def test_listing_rests_while_somebody_waits_for_a_folder(tmp_path: Path) -> None:
    drive = FakeDrive()
    drive.page_files = 1
    fill(drive, 3, 3)
    house = House(tmp_path / "cache", drive)
    gate, asked, list_children = threading.Event(), threading.Event(), drive.list_children

    def wait(parents: Sequence[DriveId], token: str | None = None) -> ListPage:
        asked.set()
        gate.wait(10)
        return list_children(parents, token)

    drive.list_children = wait  # type: ignore[method-assign]
    drive.calls.clear()
    with ThreadPoolExecutor(2) as pool:
        reader = pool.submit(house.mirror.ensure_listed, house.node("d000").inode)
        assert asked.wait(10)
        step = pool.submit(house.mirror.listings.step)
        assert drive.calls == []
        gate.set()
        reader.result(10)
        assert step.result(10)
    assert drive.calls.index("list_children") < drive.calls.index("list_all")


def test_listing_of_everything_ends_when_every_folder_was_asked_for(tmp_path: Path) -> None:
    drive = FakeDrive()
    drive.page_files = 5
    fill(drive, 3, 20)
    house = House(tmp_path / "cache", drive)
    house.mirror.listings.step()
    house.mirror.listings.flat.end_wait()
    for name in ("d000", "d001", "d002"):
        house.mirror.ensure_listed(house.node(name).inode)
    drive.calls.clear()
    list_all(house)
    assert drive.calls == []
    assert_all_known(house)


def test_listing_asks_again_for_what_it_was_too_early_for(tmp_path: Path) -> None:
    drive = FakeDrive()
    fill(drive, 2, 2)
    house = House(tmp_path / "cache", drive)
    # Made before the feed began, and not in the search yet: neither of the two names it.
    late = drive.put("late", b"x", parent=drive.names()["d000"], created_ns=time.time_ns())
    house.store.db.set_setting("changes_token", str(drive.start_page_token()))
    file = drive.files.pop(late)
    now = [time.time()]
    listings = Listings(house.store, drive, house.mirror, clock=lambda: now[0])
    while listings.step():
        pass
    drive.files[late] = file
    drive.calls.clear()
    assert not listings.step()
    now[0] += AGAIN_S
    while listings.step():
        pass
    assert drive.calls == ["list_since"]
    assert "d000/late" in tree(house)
    assert listings.flat.again_in_s() is None
    assert not listings.step()
