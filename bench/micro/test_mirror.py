"""How fast what Drive says becomes rows."""

from __future__ import annotations

import itertools

from pytest_benchmark.fixture import BenchmarkFixture

from bench.micro.rows import folder, remote_files
from drivefs.model import Change, ChangesPage, RemoteFile
from tests.house import House

PAGE = 1_000


def test_mirror_takes_over_a_page_of_1000_new_files(benchmark: BenchmarkFixture, house: House) -> None:
    top = folder(house.store, "top")
    assert top.drive_id is not None
    parent, pages, starts = top.drive_id, house.mirror.listings.pages, itertools.count(step=PAGE)

    files: tuple[RemoteFile, ...] = ()

    def apply() -> None:
        with house.store.db.transaction():
            pages.apply(files, pages.moment())
        house.store.relieve()

    def next_page() -> None:
        nonlocal files
        files = remote_files(parent, next(starts), PAGE)

    benchmark.pedantic(apply, setup=next_page, rounds=30, warmup_rounds=2)
    assert sum(1 for _ in house.store.nodes.children(top.inode)) == next(starts)


def test_mirror_compares_a_page_of_1000_known_files(benchmark: BenchmarkFixture, house: House) -> None:
    top = folder(house.store, "top")
    assert top.drive_id is not None
    files, pages = remote_files(top.drive_id, 0, PAGE), house.mirror.listings.pages

    def apply() -> None:
        with house.store.db.transaction():
            pages.apply(files, pages.moment())

    apply()
    benchmark(apply)
    assert sum(1 for _ in house.store.nodes.children(top.inode)) == PAGE


def test_mirror_follows_a_page_of_1000_changes(benchmark: BenchmarkFixture, house: House) -> None:
    """Each file has another content than before."""
    top = folder(house.store, "top")
    assert top.drive_id is not None
    parent, versions = top.drive_id, itertools.count(1)
    page = ChangesPage((), None, "0")

    def next_page() -> None:
        nonlocal page
        changed = tuple(Change(each.id, each) for each in remote_files(parent, 0, PAGE, next(versions)))
        page = ChangesPage(changed, None, "0")

    house.drive.changes = lambda page_token: page  # type: ignore[method-assign]
    benchmark.pedantic(house.mirror.poll, setup=next_page, rounds=20, warmup_rounds=2)
    last = house.store.nodes.find_child(top.inode, "f0000999")
    assert last is not None and last.remote_version == next(versions) - 1
