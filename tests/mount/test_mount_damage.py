"""What the cache's disk has damaged is fetched again, and never served: beneath a live mount and a remounted one.

The kernel's own copy of what was read before needs no disk: it is dropped, as a kernel that needs the memory does.
"""

from __future__ import annotations

import errno
import os
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.mounting import Drive, Mounted, Transport, await_true, mounted

MiB = 1 << 20
LARGE = random.Random(1).randbytes(20 * MiB + 123)
SMALL = random.Random(2).randbytes(100_000)


@pytest.fixture
def mount(transport: Transport, drive: Drive, tmp_path: Path) -> Iterator[Mounted]:
    """One whose log may say that the disk is damaged."""
    for name, data in (("large", LARGE), ("parts", LARGE), ("small", SMALL)):
        drive.admin.put_file(name, data)
    with mounted(drive, transport, tmp_path) as mount:
        yield mount


def content_file(mount: Mounted, name: str) -> Path:
    with closing(sqlite3.connect(mount.cache_dir / "drivefs.db")) as database:
        (generation,) = database.execute("SELECT generation FROM nodes WHERE name = ?", (name,)).fetchone()
    return mount.cache_dir / "content" / str(generation)


def await_check(mount: Mounted, name: str) -> None:
    """A large file is compared with Drive's checksum when all of it has come, after its last reader has its bytes."""

    def checked() -> bool:
        with closing(sqlite3.connect(mount.cache_dir / "drivefs.db")) as database:
            query = "SELECT whole FROM generations WHERE generation = (SELECT generation FROM nodes WHERE name = ?)"
            return bool(database.execute(query, (name,)).fetchone()[0])

    await_true(checked, 60)


def damage(path: Path, *places: int) -> None:
    with path.open("r+b") as file:
        for place in places:
            file.seek(place)
            (byte,) = file.read(1)
            file.seek(place)
            file.write(bytes([byte ^ 1]))


def read(path: Path) -> bytes:
    """Past what the kernel keeps of an earlier read."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return file.read()


def read_part(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(10 * MiB)
        return file.read(1000)


def test_mount_serves_nothing_that_its_disk_has_damaged(mount: Mounted, drive: Drive) -> None:
    (mount.path / "ours").write_bytes(LARGE)
    assert (read(mount.path / "large"), read(mount.path / "small")) == (LARGE, SMALL)
    await_check(mount, "large")
    damage(content_file(mount, "large"), 5, 7 * MiB)
    damage(content_file(mount, "small"), 5)
    assert (read(mount.path / "large"), read(mount.path / "small")) == (LARGE, SMALL)
    os.truncate(content_file(mount, "large"), 3 * MiB)
    os.truncate(content_file(mount, "small"), 0)
    assert (read(mount.path / "large"), read(mount.path / "small")) == (LARGE, SMALL)
    assert content_file(mount, "large").read_bytes() == LARGE
    cache = mount.status()["cache"]
    assert cache["damaged_blocks"] == cache["mended_blocks"] == 3 + 18 + 1
    assert read_part(mount.path / "parts") == LARGE[10 * MiB : 10 * MiB + 1000]
    mount.flush()
    mount.umount()
    damage(content_file(mount, "large"), 5 * MiB, 20 * MiB + 122)
    damage(content_file(mount, "small"), 99_999)
    damage(content_file(mount, "ours"), 0, 9 * MiB)
    damage(content_file(mount, "parts"), 10 * MiB + 7)
    mount.mount()
    drive.admin.reset_counters()
    assert (read(mount.path / "large"), read(mount.path / "small")) == (LARGE, SMALL)
    assert read(mount.path / "ours") == LARGE
    assert read_part(mount.path / "parts") == LARGE[10 * MiB : 10 * MiB + 1000]
    assert drive.admin.counters()["bytes_out"] < 8 * MiB
    assert mount.status()["cache"]["mended_blocks"] == 6
    assert (content_file(mount, "large").read_bytes(), content_file(mount, "small").read_bytes()) == (LARGE, SMALL)


def test_mount_neither_reads_nor_sends_what_is_damaged(mount: Mounted, drive: Drive) -> None:
    read(mount.path / "large")
    mount.umount()
    damage(content_file(mount, "large"), 5 * MiB, 8 * MiB)
    mount.mount()
    os.listdir(mount.path)
    drive.admin.add_fault("error", api="drive.(files|revisions).get", status=404)
    with (mount.path / "large").open("rb", buffering=0) as file:
        assert file.read(MiB) == LARGE[:MiB]
        file.seek(5 * MiB)
        with pytest.raises(OSError) as caught:
            file.read(1000)
    assert caught.value.errno == errno.EIO
    drive.admin.clear_faults()
    with (mount.path / "large").open("r+b") as file:
        file.write(b"changed")
    mount.flush()
    assert drive.admin.read_file("large") == b"changed" + LARGE[7:]
