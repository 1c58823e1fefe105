"""A database that cannot be read: what waited for Drive goes on, or is kept aside. Nothing is thrown away."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.house import House

PAGE_BYTES = 4096


def damage(folder: Path, pages: list[int]) -> None:
    """Overwrite pages of a database that was closed."""
    with (folder / "drivefs.db").open("r+b") as file:
        for page in pages:
            file.seek(page * PAGE_BYTES)
            file.write(b"\xa5" * PAGE_BYTES)


@pytest.fixture
def house(tmp_path: Path) -> House:
    house = House(tmp_path / "cache")
    house.write("sent", b"Drive has it")
    house.drain()
    house.write("sent", b"newer than what Drive has")
    house.write("new", b"Drive has nothing of it")
    return house


def waiting(house: House) -> set[str]:
    return {house.store.nodes.path(job.inode) for job in house.store.journal.in_order(1_000)}


def test_salvage_goes_on_with_all_that_waits(house: House) -> None:
    sent = house.node("sent").drive_id
    house.store.close()
    (house.folder / "drivefs.db").write_bytes(_without_index(house.folder))
    house.open()
    assert house.store.damaged is not None
    assert house.store.damaged.exists()
    assert waiting(house) == {"sent", "new"}
    house.drain()
    assert house.node("sent").drive_id == sent
    assert sent is not None
    assert house.drive.content(sent) == b"newer than what Drive has"
    assert sorted(house.drive.names()) == ["new", "sent"]
    assert house.store.quarantine.all() == []
    house.store.close()


def _without_index(folder: Path) -> bytes:
    """The database with a page of an index overwritten: the tables are legible."""
    import sqlite3

    connection = sqlite3.connect(folder / "drivefs.db")
    (page,) = connection.execute(
        "SELECT rootpage FROM sqlite_schema WHERE type = 'index' AND tbl_name = 'jobs' AND sql LIKE '%(seq)%'"
    ).fetchone()
    connection.close()
    damage(folder, [page - 1])
    return (folder / "drivefs.db").read_bytes()


@pytest.mark.parametrize("first", range(24))
def test_salvage_of_any_damaged_page_loses_no_content(house: House, first: int) -> None:
    """Each content that Drive does not have still waits for it, or lies in the quarantine."""
    house.store.close()
    damage(house.folder, [first])
    house.open()
    _all_is_somewhere(house)
    house.store.close()


def test_salvage_of_what_is_no_database_keeps_all_content(house: House) -> None:
    house.store.close()
    (house.folder / "drivefs.db").write_bytes(b"this is no database" * 1000)
    house.open()
    _all_is_somewhere(house)
    assert len(house.store.quarantine.all()) == 2
    assert house.store.damaged is not None
    assert house.store.damaged.read_bytes().startswith(b"this is no database")
    house.store.close()


def _all_is_somewhere(house: House) -> None:
    kept = {each.file.read_bytes() for each in house.store.quarantine.all()}
    there = {path.read_bytes() for path in (house.folder / "content").iterdir()}
    assert {b"newer than what Drive has", b"Drive has nothing of it"} <= kept | there
