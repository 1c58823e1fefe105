"""The rows of the tree, and what is kept of them in memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivefs.errors import CacheInUse, NoEntry
from drivefs.model import ROOT_INODE, Inode, Kind
from drivefs.store import nodes as nodes_module
from drivefs.store.node import Node
from drivefs.store.nodes import Nodes
from drivefs.store.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "cache")
    yield store
    store.close()


@pytest.fixture
def nodes(store: Store) -> Nodes:
    return store.nodes


def add(nodes: Nodes, name: str, parent: Inode = ROOT_INODE, kind: Kind = Kind.FILE) -> Node:
    return nodes.add(parent=parent, name=name, kind=kind, mode=0o644, size_bytes=1, mtime_ns=2, ctime_ns=3)


class Undo(Exception):
    """Ends a transaction."""


def test_nodes_are_found_by_inode_and_by_name(nodes: Nodes) -> None:
    node = add(nodes, "a")
    assert nodes.find(node.inode) == node
    assert nodes.find_child(ROOT_INODE, "a") == node
    assert nodes.find_child(ROOT_INODE, "b") is None


def test_nodes_names_are_told_apart_by_every_byte(nodes: Nodes) -> None:
    for name in ("a", "A", "é", "e\u0301", "a ", "%", "_"):
        add(nodes, name)
    assert len(list(nodes.children(ROOT_INODE))) == 7


def test_nodes_name_is_taken_once(nodes: Nodes) -> None:
    add(nodes, "a")
    with pytest.raises(sqlite3.IntegrityError):
        add(nodes, "a")


def test_nodes_renamed_node_is_found_under_its_new_name_only(nodes: Nodes) -> None:
    node = add(nodes, "a")
    nodes.find_child(ROOT_INODE, "a")
    nodes.update(node.inode, name="b")
    assert nodes.find_child(ROOT_INODE, "a") is None
    found = nodes.find_child(ROOT_INODE, "b")
    assert found is not None
    assert found.inode == node.inode


def test_nodes_memory_follows_an_undone_transaction(store: Store, nodes: Nodes) -> None:
    node = add(nodes, "a")
    with pytest.raises(Undo), store.db.transaction():
        nodes.update(node.inode, name="b", size_bytes=100)
        add(nodes, "c")
        nodes.find_child(ROOT_INODE, "c")
        raise Undo
    assert nodes.find_child(ROOT_INODE, "a") == node
    assert nodes.find_child(ROOT_INODE, "b") is None
    assert nodes.find_child(ROOT_INODE, "c") is None


def test_nodes_inode_is_never_used_twice(nodes: Nodes) -> None:
    first = add(nodes, "a").inode
    nodes.remove(first)
    assert add(nodes, "a").inode > first
    with pytest.raises(NoEntry):
        nodes.get(first)


def test_nodes_children_come_in_order_a_page_at_a_time(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{number:03}" for number in range(25)]
    for name in reversed(names):
        add(nodes, name)
    assert [node.name for node in nodes.page(ROOT_INODE, "004", 3)] == ["005", "006", "007"]
    monkeypatch.setattr(nodes_module, "PAGE_ROWS", 10)
    assert [node.name for node in nodes.children(ROOT_INODE)] == names


def test_nodes_children_may_be_removed_while_they_are_read(nodes: Nodes) -> None:
    for number in range(20):
        add(nodes, f"{number:02}")
    for node in nodes.children(ROOT_INODE):
        nodes.remove(node.inode)
    assert not nodes.has_children(ROOT_INODE)


def test_nodes_know_their_way_up(nodes: Nodes) -> None:
    folder = add(nodes, "d", kind=Kind.FOLDER)
    below = add(nodes, "e", folder.inode, Kind.FOLDER)
    assert list(nodes.ancestors(below.inode)) == [folder.inode, ROOT_INODE]
    assert nodes.path(below.inode) == "d/e"
    assert (nodes.path(ROOT_INODE), list(nodes.ancestors(ROOT_INODE))) == ("", [])


def test_nodes_without_a_name_are_unnamed_but_for_the_root(nodes: Nodes) -> None:
    node = nodes.update(add(nodes, "a").inode, parent=None, name=None)
    assert node.unnamed
    assert not nodes.get(ROOT_INODE).unnamed


def test_nodes_xattrs_go_with_their_node(nodes: Nodes, store: Store) -> None:
    node = add(nodes, "a")
    nodes.set_xattr(node.inode, "user.b", b"\0")
    nodes.set_xattr(node.inode, "user.a", b"1")
    nodes.set_xattr(node.inode, "user.a", b"2")
    assert nodes.xattrs(node.inode) == {"user.a": b"2", "user.b": b"\0"}
    assert nodes.remove_xattr(node.inode, "user.b")
    assert not nodes.remove_xattr(node.inode, "user.b")
    nodes.remove(node.inode)
    assert store.db.rows("SELECT * FROM xattrs") == []


# --- the database beneath ---


def test_store_folder_serves_one_at_a_time(store: Store) -> None:
    with pytest.raises(CacheInUse):
        Store(store.folder)


def test_store_files_are_for_their_owner_only(store: Store) -> None:
    assert store.folder.stat().st_mode & 0o077 == 0
    for path in store.folder.iterdir():
        assert path.stat().st_mode & 0o077 == 0, path


def test_store_transaction_is_all_or_nothing_also_when_nested(store: Store, nodes: Nodes) -> None:
    done: list[str] = []
    with pytest.raises(Undo), store.db.transaction():
        add(nodes, "a")
        with store.db.transaction():
            add(nodes, "b")
            store.db.after_commit(lambda: done.append("never"))
        raise Undo
    assert list(nodes.children(ROOT_INODE)) == []
    with store.db.transaction():
        store.db.after_commit(lambda: done.append("once"))
        assert done == []
    assert done == ["once"]


def test_store_keeps_settings(store: Store) -> None:
    assert store.db.setting("key") is None
    store.db.set_setting("key", "value")
    store.checkpoint()
    assert store.db.setting("key") == "value"
