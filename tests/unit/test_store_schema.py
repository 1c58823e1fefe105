"""The database's format, and caches of older ones."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from drivefs.errors import CacheDamaged
from drivefs.model import ROOT_INODE, Kind
from drivefs.store import schema
from drivefs.store.schema import SCHEMA, SCHEMA_VERSION, upgrade
from drivefs.store.store import Store

FORMAT_1 = (Path(__file__).parent / "format_1.sql").read_text()
"""The tables as the first format had them."""


def shape(connection: sqlite3.Connection) -> dict[str, object]:
    """Tables with their columns and types, and indexes."""
    tables = connection.execute("SELECT name, type FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'").fetchall()
    return {
        name: sorted((row[1], row[2]) for row in connection.execute(f"PRAGMA table_info({name})"))
        for name, _ in tables
    }


def of_format_1(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript(FORMAT_1)
    connection.execute("PRAGMA user_version = 1")
    return connection


def test_schema_of_an_upgraded_cache_is_that_of_a_new_one() -> None:
    old, new = of_format_1(Path(":memory:")), sqlite3.connect(":memory:")
    new.executescript(SCHEMA)
    assert shape(old) != shape(new)
    upgrade(old, 1)
    assert shape(old) == shape(new)
    assert old.execute("PRAGMA user_version").fetchone()[0] == SCHEMA_VERSION


def test_schema_has_a_number_of_its_own() -> None:
    """Whoever changes the tables raises SCHEMA_VERSION, and then these figures."""
    new = sqlite3.connect(":memory:")
    new.executescript(SCHEMA)
    columns = sum(len(each) for each in shape(new).values())  # type: ignore[arg-type]
    assert (SCHEMA_VERSION, len(shape(new)), columns) == (13, 32, 91)


def test_store_upgrades_an_older_cache_with_all_that_waits(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    (folder / "content").mkdir(parents=True)
    old = of_format_1(folder / "drivefs.db")
    old.execute(
        "INSERT INTO nodes VALUES (1,NULL,NULL,'folder',493,0,1,1,NULL,NULL,1,1,0,0,'r',1,"
        "NULL,NULL,NULL,NULL,NULL,NULL)"
    )
    old.execute(
        "INSERT INTO nodes VALUES (2,1,'a','file',420,4,1,1,NULL,7,0,1,1,1,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL)"
    )
    old.execute("INSERT INTO generations VALUES (7,2,'sealed',4,1,NULL,NULL,1)")
    old.execute("INSERT INTO jobs VALUES (2,1,1,'none',7,'waiting',1,1,0,'',NULL,NULL,NULL)")
    old.close()
    (folder / "content" / "7").write_bytes(b"data")
    store = Store(folder)
    store.recover()
    node = store.nodes.find_child(ROOT_INODE, "a")
    assert node is not None
    assert node.kind is Kind.FILE
    job = store.journal.find(node.inode)
    assert job is not None
    assert job.generation is not None
    claim = store.content.claim(job.generation)
    assert claim.read_at(0, 10) == b"data"
    claim.close()
    store.close()


def test_schema_step_that_fails_leaves_the_older_cache_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(schema.STEPS, 1, "CREATE TABLE new (a); DROP TABLE nothing_of_that_name")
    old = of_format_1(Path(":memory:"))
    before = shape(old)
    with pytest.raises(sqlite3.OperationalError):
        upgrade(old, 1)
    assert shape(old) == before
    assert old.execute("PRAGMA user_version").fetchone()[0] == 1


def test_store_of_a_newer_format_is_left_alone(tmp_path: Path) -> None:
    store = Store(tmp_path / "cache")
    store.db.rows("PRAGMA user_version = 999")
    store.close()
    with pytest.raises(CacheDamaged, match="newer"):
        Store(tmp_path / "cache")


def test_store_lists_anew_what_an_older_cache_showed_as_a_link_to_its_page(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    old = of_format_1(folder / "drivefs.db")
    rest = "NULL,NULL,NULL,NULL"
    old.execute(f"INSERT INTO nodes VALUES (1,NULL,NULL,'folder',493,0,1,1,NULL,NULL,1,1,0,0,'r',1,NULL,NULL,{rest})")
    link = "'symlink',420,4,1,1,'https://docs/x',NULL,0,1,0,0"
    old.execute(f"INSERT INTO nodes VALUES (2,1,'Report',{link},'document',1,NULL,NULL,{rest})")
    old.execute(
        f"INSERT INTO nodes VALUES (3,1,'ours',{link},'link',1,'r1','0cc175b9c0f1b6a831c399e269772661',{rest})"
    )
    old.close()
    store = Store(folder)
    assert [node.name for node in store.nodes.children(ROOT_INODE)] == ["ours"]
    assert not store.nodes.get(ROOT_INODE).listed
    store.close()
