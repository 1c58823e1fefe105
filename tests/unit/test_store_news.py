"""What is news to those who keep copies of the tree."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from drivefs.model import ROOT_INODE, Changes, Inode, Kind
from drivefs.store.news import EVERY_INODE
from drivefs.store.node import COLUMNS, Node
from tests.unit.vfs_house import VfsHouse


@pytest.fixture
def house(tmp_path: Path) -> Iterator[VfsHouse]:
    house = VfsHouse(tmp_path / "cache")
    house.store.news.keep(EVERY_INODE)
    yield house
    house.close()


def told(house: VfsHouse) -> Changes:
    """All that was noted until now, and a file whose news is the last."""
    house.store.news.attributes(Inode(0))
    changes = house.store.news.take()
    assert changes is not None
    assert Inode(0) in changes.attributes
    changes.attributes.discard(Inode(0))
    return changes


def add(house: VfsHouse, name: str, parent: Inode = ROOT_INODE, kind: Kind = Kind.FILE) -> Node:
    return house.store.nodes.add(
        parent=parent, name=name, kind=kind, mode=0o644, size_bytes=0, mtime_ns=1, ctime_ns=1
    )


def test_news_tells_what_came_changed_and_went(house: VfsHouse) -> None:
    file, other = add(house, "file"), add(house, "other")
    assert told(house) == Changes(names={(ROOT_INODE, "file"): None, (ROOT_INODE, "other"): None})
    house.store.nodes.update(file.inode, size_bytes=5)
    house.store.nodes.update(other.inode, name="new name")
    house.store.news.contents(file.inode)
    assert told(house) == Changes(
        names={(ROOT_INODE, "other"): None, (ROOT_INODE, "new name"): None},
        attributes={file.inode},
        contents={file.inode},
    )
    house.store.nodes.remove(file.inode)
    house.store.nodes.update(other.inode, parent=None, name=None)
    changes = told(house)
    assert changes.names == {(ROOT_INODE, "file"): file.inode, (ROOT_INODE, "new name"): other.inode}


def test_news_leaves_out_what_nobody_sees(house: VfsHouse) -> None:
    file = add(house, "file")
    told(house)
    house.store.nodes.update(file.inode, change=3, md5="of Drive", generation=None)
    house.store.nodes.update(file.inode, mode=0o644)
    folder = add(house, "folder", kind=Kind.FOLDER)
    add(house, "below", folder.inode)  # of a folder that was never listed nobody knows what is missing
    assert told(house) == Changes(names={(ROOT_INODE, "folder"): None})


def test_news_of_a_folder_that_is_listed_once_more_is_told(house: VfsHouse) -> None:
    folder = add(house, "folder", kind=Kind.FOLDER)
    house.store.nodes.update(folder.inode, listed=True, confirmed_ns=1)
    house.store.nodes.set_none_listed()
    told(house)
    values = {"parent": folder.inode, "name": "found", "kind": "file", "mode": 0, "writable": True, "ours": False}
    row = {**dict.fromkeys(COLUMNS[5:], 0), **values, "target": None, "generation": None, "drive_id": "1"}
    house.store.nodes.add_missing([list(row.values())], list(row))
    assert told(house) == Changes(names={(folder.inode, "found"): None})


def test_news_is_not_what_a_program_asked_for(house: VfsHouse) -> None:
    tree = house.vfs.tree
    folder = tree.make_folder(ROOT_INODE, "folder", 0o755).inode
    tree.make_symlink(folder, "link", "target")
    tree.rename(folder, "link", ROOT_INODE, "moved")
    tree.set_mode(folder, 0o700)
    tree.set_mtime(folder, 5)
    tree.unlink(ROOT_INODE, "moved")
    file = house.vfs.files.create(folder, "file", 0o644, 1)
    house.vfs.files.write(file.number, 0, b"content")
    house.vfs.files.flush(file.number)
    house.vfs.files.release(file.number)
    house.vfs.files.truncate(file.opened.inode, 3)
    tree.unlink(folder, "file")
    tree.remove_folder(ROOT_INODE, "folder")
    assert told(house) == Changes()


def test_news_of_what_was_undone_is_not_told(house: VfsHouse) -> None:
    mark = house.store.news.mark
    with pytest.raises(KeyError), house.store.db.transaction():
        add(house, "file")
        raise KeyError
    assert told(house) == Changes()
    assert house.store.news.mark > mark


def test_news_is_kept_of_known_inodes_only(house: VfsHouse) -> None:
    first, second = add(house, "first"), add(house, "second")
    told(house)
    house.store.news.keep({first.inode, 0})
    for node in (first, second):
        house.store.nodes.update(node.inode, size_bytes=7)
    add(house, "third")
    assert told(house) == Changes(attributes={first.inode})


def test_news_ends_when_it_is_closed(house: VfsHouse) -> None:
    house.store.news.close()
    assert house.store.news.take() is None
