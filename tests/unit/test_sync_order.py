"""The publish order: what Drive holds is loadable at every moment."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from drivefs.errors import Refused, Unreachable
from drivefs.model import DriveId, Inode
from drivefs.sync.order import earlier, has_something, look, parked_above
from tests.house import House

BIG = b"w" * 6_000_000


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path / "cache")


def happened(house: House, *entries: tuple[str, str]) -> list[int]:
    return [house.drive.log.index(entry) for entry in entries]


def test_order_replaces_a_pointer_after_all_that_was_closed_before_it(house: House) -> None:
    house.write("checkpoint", b"0")
    house.drain()
    house.write("data-1", BIG)
    house.write("index-1", b"i")
    house.write("tmp", b"1")
    house.rename("tmp", "checkpoint")
    house.drive.fail("upload_small", ("before", Unreachable("cut")))  # the index needs a second try
    house.drain()
    places = happened(house, ("create", "data-1"), ("create", "index-1"), ("update", "checkpoint"))
    assert places[2] == max(places)


def test_order_overwrites_in_place_after_all_that_was_closed_before_it_below(house: House) -> None:
    house.write("latest", b"0")
    house.mkdir("checkpoint-1")
    house.drain()
    house.write("checkpoint-1/weights", BIG)
    house.write("latest", b"1")
    house.drain()
    places = happened(house, ("create", "weights"), ("update", "latest"))
    assert places == sorted(places)


def test_order_does_not_hold_a_pointer_for_another_folder(house: House) -> None:
    house.mkdir("a")
    house.mkdir("b")
    house.write("b/latest", b"0")
    house.drain()
    house.write("a/big", BIG)
    house.drive.fail("start_session", *[("before", Unreachable("cut"))] * 3)
    house.write("b/latest", b"1")
    house.drain()
    places = happened(house, ("update", "latest"), ("create", "big"))
    assert places == sorted(places)


def test_order_removes_after_all_that_was_closed_before_anywhere(house: House) -> None:
    house.mkdir("a")
    house.write("old", b"o")
    house.drain()
    house.write("a/new", BIG)
    house.remove("old")
    house.drive.fail("start_session", *[("before", Unreachable("cut"))] * 3)
    house.drain()
    places = happened(house, ("create", "new"), ("trash", "old"))
    assert places == sorted(places)


def test_order_removes_a_folder_after_what_may_be_in_it_though_no_reply_said_so(house: House) -> None:
    house.mkdir("run")
    house.drain()
    house.write("run/tmp", b"x")
    house.drive.fail("upload_small", ("after", Unreachable("The reply was lost.")))
    house.dispatch()
    house.remove("run/tmp")
    house.remove("run")
    house.drive.fail("delete", ("before", Unreachable("cut")))
    house.drain()
    assert house.drive.calls.count("delete") == 2
    assert house.drive.calls[-2:] == ["list_children", "trash"]
    assert house.drive.calls.count("list_children") == 2  # with the first look at the mount


def test_order_holds_the_first_small_pointer_for_the_weights_before_it(house: House) -> None:
    house.mkdir("run")
    house.drain()
    house.write("run/weights", BIG)
    house.write("latest", b"run")
    house.drive.fail("start_session", *[("before", Unreachable("cut"))] * 3)
    house.drain()
    places = happened(house, ("create", "weights"), ("create", "latest"))
    assert places == sorted(places)


def test_order_makes_folders_before_what_lies_in_them(house: House) -> None:
    house.mkdir("a")
    house.mkdir("a/b")
    house.write("a/b/c", b"c")
    house.drive.fail("create", ("before", Unreachable("cut")))
    house.drain()
    places = happened(house, ("create", "a"), ("create", "b"), ("create", "c"))
    assert places == sorted(places)


def test_order_lets_nothing_wait_for_what_is_parked(house: House) -> None:
    house.write("latest", b"0")
    house.write("old", b"0")
    house.drain()
    house.mkdir("refused")
    house.write("refused/inside", b"x")
    house.drive.fail("create", ("before", Refused("No rights.", reason="insufficientFilePermissions")))
    house.write("latest", b"1")
    house.remove("old")
    for _ in range(10):
        house.dispatch()
        house.now += 1
    assert house.drive.content(house.drive.names()["latest"]) == b"1"
    assert "old" not in house.drive.names()


def test_order_lets_nothing_wait_for_a_file_that_is_still_open(house: House) -> None:
    house.write("latest", b"0")
    house.drain()
    house.write("log", b"")
    log = house.store.journal.start_anew(house.node("log"))
    log.write(0, b"line\n")
    house.rename("log", "train.log")
    house.write("latest", b"1")
    for _ in range(10):
        house.dispatch()
        house.now += 1
    assert house.drive.content(house.drive.names()["latest"]) == b"1"
    assert "train.log" not in house.drive.names()
    house.store.journal.seal(log)
    log.close()
    house.drain()
    assert house.drive.content(house.drive.names()["train.log"]) == b"line\n"


def test_order_removes_what_is_still_being_sent_under_the_same_id_only_then(house: House) -> None:
    house.write("a", b"1")
    house.drain()
    house.remove("a")
    journal, nodes = house.store.journal, house.store.nodes
    (job,) = journal.in_order(10)
    drive_id = nodes.get(job.inode).drive_id
    assert drive_id is not None

    def may_start(busy_ids: set[DriveId]) -> list[Inode]:
        found = look([job], nodes, journal.find, set(), job.ready_ns, busy_ids)
        return [each.job.inode for each in found.ready]

    assert may_start({drive_id}) == []
    assert may_start(set()) == [job.inode]


@pytest.mark.parametrize("seed", range(40))
def test_order_names_what_a_job_waits_for(house: House, seed: int) -> None:
    """`earlier` and `look` are two readings of one rule."""
    chance = random.Random(seed)
    for path in ("a", "a/b", "c"):
        house.mkdir(path)
    for path in ("a/1", "a/b/1", "c/1", "1"):
        house.write(path, b"old")
    house.drain()
    there = {"a/1", "a/b/1", "c/1", "1"}
    if chance.random() < 0.3:
        house.mkdir("new")
    for _ in range(8):
        path = f"{chance.choice(['', 'a/', 'a/b/', 'c/'])}{chance.randrange(4)}"
        match chance.randrange(4):
            case 0 if path in there:
                house.remove(path)
                there.remove(path)
            case 1 if there:
                old = chance.choice(sorted(there))
                if old != path:
                    house.rename(old, path)
                    there = (there - {old}) | {path}
            case _:
                house.write(path, chance.choice([b"small", BIG]))
                there.add(path)
    journal, nodes = house.store.journal, house.store.nodes
    jobs = list(journal.in_order(100))
    if len(jobs) > 1:
        journal.park(chance.choice(jobs).inode, "No rights.")
    jobs = list(journal.in_order(100))
    may_go = {each.job.inode for each in look(jobs, nodes, journal.find, set(), 1 << 62).ready}
    for job in jobs:
        if parked_above(job, nodes, journal.find) is None and has_something(job, nodes.get(job.inode)):
            waits = bool(list(earlier(job, nodes.get(job.inode), jobs, nodes, journal.find)))
            assert waits is (job.inode not in may_go), nodes.path(job.inode)
