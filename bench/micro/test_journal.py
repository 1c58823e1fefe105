"""What a program's closes and renames cost in the journal, and what the uploader's answers cost."""

from __future__ import annotations

import itertools

from pytest_benchmark.fixture import BenchmarkFixture

from drivefs.model import ROOT_INODE, Kind
from drivefs.store.node import Node
from drivefs.store.store import Store


def new_node(store: Store, name: str) -> Node:
    return store.nodes.add(
        parent=ROOT_INODE, name=name, kind=Kind.FILE, mode=0o644, size_bytes=0, mtime_ns=1, ctime_ns=1, ours=True
    )


def test_journal_commits_one_row(benchmark: BenchmarkFixture, store: Store) -> None:
    """The least that a commit can be."""
    numbers = itertools.count()
    benchmark(lambda: store.db.set_setting("number", str(next(numbers))))
    assert store.db.setting("number") == str(next(numbers) - 1)


def test_journal_commits_a_rename(benchmark: BenchmarkFixture, store: Store) -> None:
    node, numbers = new_node(store, "name"), itertools.count()

    def rename() -> None:
        with store.db.transaction():
            store.journal.changed_metadata(store.nodes.update(node.inode, name=f"name {next(numbers)}"))

    benchmark(rename)
    assert store.journal.left().jobs == 1


def test_journal_commits_a_file_written_anew(benchmark: BenchmarkFixture, store: Store) -> None:
    """A generation begun, and sealed: two commits, and a file made on the disk."""
    node = new_node(store, "name")

    def write() -> None:
        file = store.journal.start_anew(store.nodes.get(node.inode))
        store.journal.seal(file)
        file.close()

    benchmark(write)
    assert store.journal.left().jobs == 1


def test_journal_commits_a_new_file(benchmark: BenchmarkFixture, store: Store) -> None:
    """As above, with a node for each; the queue grows as it would offline."""
    numbers = itertools.count()

    def make() -> None:
        with store.db.transaction():
            file = store.journal.start_anew(new_node(store, f"name {next(numbers)}"))
        store.journal.seal(file)
        file.close()

    benchmark(make)
    assert store.journal.left().jobs == next(numbers)
