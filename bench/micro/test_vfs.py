"""What the filesystem bears a second when neither kernel nor network is asked: a call each."""

from __future__ import annotations

import itertools
import os

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.micro.rows import folder, remote_files
from drivefs.model import ROOT_INODE, Inode
from drivefs.vfs.vfs import Vfs
from tests.house import House

ENTRIES = 10_000
KiB, MiB = 1 << 10, 1 << 20


@pytest.fixture
def large_folder(house: House) -> Inode:
    """10,000 files that Drive has."""
    top = folder(house.store, "top")
    assert top.drive_id is not None
    pages = house.mirror.listings.pages
    with house.store.db.transaction():
        pages.apply(remote_files(top.drive_id, 0, ENTRIES), pages.moment())
    return top.inode


def written(vfs: Vfs, name: str, size_bytes: int) -> Inode:
    handle = vfs.files.create(ROOT_INODE, name, 0o644, os.O_WRONLY)
    vfs.files.write(handle.number, 0, os.urandom(size_bytes))
    vfs.files.flush(handle.number)
    vfs.files.release(handle.number)
    return handle.opened.inode


def test_vfs_lookup(benchmark: BenchmarkFixture, vfs: Vfs, large_folder: Inode) -> None:
    names = itertools.cycle([f"f{number:07d}" for number in range(1_000)])
    assert benchmark(lambda: vfs.tree.lookup(large_folder, next(names))).size_bytes == 1


def test_vfs_lookup_of_what_is_not_in_memory(benchmark: BenchmarkFixture, vfs: Vfs, large_folder: Inode) -> None:
    """Each name for the first time."""
    vfs.tree.resolve("top")
    names = itertools.cycle([f"f{number:07d}" for number in range(ENTRIES)])
    assert benchmark.pedantic(lambda: vfs.tree.lookup(large_folder, next(names)), rounds=ENTRIES).size_bytes == 1


def test_vfs_getattr(benchmark: BenchmarkFixture, vfs: Vfs, large_folder: Inode) -> None:
    inode = vfs.tree.lookup(large_folder, "f0000001").inode
    assert benchmark(lambda: vfs.tree.attributes(inode)).size_bytes == 1


def test_vfs_getattr_of_an_open_file(benchmark: BenchmarkFixture, vfs: Vfs) -> None:
    handle = vfs.files.create(ROOT_INODE, "name", 0o644, os.O_RDWR)
    vfs.files.write(handle.number, 0, b"123")
    assert benchmark(lambda: vfs.tree.attributes(handle.opened.inode)).size_bytes == 3
    vfs.files.release(handle.number)


def test_vfs_readdir_of_10000(benchmark: BenchmarkFixture, vfs: Vfs, large_folder: Inode) -> None:
    assert benchmark(lambda: sum(1 for _ in vfs.tree.entries(large_folder))) == ENTRIES + 2


def test_vfs_open_and_close_to_read(benchmark: BenchmarkFixture, vfs: Vfs) -> None:
    inode = written(vfs, "name", MiB)

    def open_and_close() -> None:
        handle = vfs.files.open(inode, os.O_RDONLY)
        vfs.files.flush(handle.number)
        vfs.files.release(handle.number)

    benchmark(open_and_close)


def test_vfs_read_of_128_KiB(benchmark: BenchmarkFixture, vfs: Vfs) -> None:
    handle = vfs.files.open(written(vfs, "name", 64 * MiB), os.O_RDONLY)
    offsets = itertools.cycle(range(0, 64 * MiB, 128 * KiB))
    assert len(benchmark(lambda: vfs.files.read(handle.number, next(offsets), 128 * KiB))) == 128 * KiB
    vfs.files.release(handle.number)


def test_vfs_write_of_128_KiB(benchmark: BenchmarkFixture, vfs: Vfs) -> None:
    handle = vfs.files.create(ROOT_INODE, "name", 0o644, os.O_WRONLY)
    data, offsets = os.urandom(128 * KiB), itertools.cycle(range(0, 64 * MiB, 128 * KiB))
    assert benchmark(lambda: vfs.files.write(handle.number, next(offsets), data)) == 128 * KiB
    vfs.files.release(handle.number)


def test_vfs_create_write_close_of_a_new_file(benchmark: BenchmarkFixture, vfs: Vfs, house: House) -> None:
    numbers = itertools.count()
    data = os.urandom(4 * KiB)

    def make() -> None:
        handle = vfs.files.create(ROOT_INODE, f"name {next(numbers)}", 0o644, os.O_WRONLY)
        vfs.files.write(handle.number, 0, data)
        vfs.files.flush(handle.number)
        vfs.files.release(handle.number)

    benchmark(make)
    assert house.store.journal.left().jobs == next(numbers)


def test_vfs_make_folder(benchmark: BenchmarkFixture, vfs: Vfs, house: House) -> None:
    numbers = itertools.count()
    benchmark(lambda: vfs.tree.make_folder(ROOT_INODE, f"name {next(numbers)}", 0o755))
    assert house.store.journal.left().jobs == next(numbers)


def test_vfs_rename_over(benchmark: BenchmarkFixture, vfs: Vfs) -> None:
    """A checkpoint written beside its name and renamed over it."""

    def rotate() -> None:
        written(vfs, "name.tmp", 1)
        vfs.tree.rename(ROOT_INODE, "name.tmp", ROOT_INODE, "name")

    benchmark(rotate)
    assert [name for name, _ in vfs.tree.entries(ROOT_INODE)] == [".", "..", "name"]


def test_vfs_create_and_unlink(benchmark: BenchmarkFixture, vfs: Vfs, house: House) -> None:
    def come_and_go() -> None:
        written(vfs, "name", 1)
        vfs.tree.unlink(ROOT_INODE, "name")

    benchmark(come_and_go)
    assert house.store.journal.left().jobs == 0
