"""What Drive has in another file of the mount is not sent again, however a program copies it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.mounting import Drive, FreshMount, Mounted, md5_of

SIZE_BYTES = 6_000_017
WAYS: dict[str, Callable[[Path, Path], object]] = {
    "cp": lambda source, target: subprocess.run(["cp", source, target], check=True),
    "cp -a": lambda source, target: subprocess.run(["cp", "-a", source, target], check=True),
    "read and write": lambda source, target: target.write_bytes(source.read_bytes()),
    "shutil": shutil.copyfile,
}


def assert_copied_by_drive(mount: Mounted, drive: Drive, copies: int) -> None:
    mount.flush()
    told: dict[str, Any] = drive.admin.counters()
    assert told["methods"]["drive.files.copy"]["requests"] == copies
    assert told["bytes_in"] < 100_000


def test_copy_of_what_drive_has_is_made_by_drive(
    folder: Path, drive: Drive, mount: Mounted, assert_arrives: Callable[[Path], None]
) -> None:
    source = folder / "model.ckpt"
    source.write_bytes(os.urandom(SIZE_BYTES))
    mount.flush()
    drive.admin.reset_counters()
    for name, copy in WAYS.items():
        copy(source, folder / name)
    assert_copied_by_drive(mount, drive, len(WAYS))
    assert {md5_of(folder / name) for name in WAYS} == {md5_of(source)}
    assert_arrives(folder)


def test_copy_of_what_is_only_on_drive_is_made_by_drive(
    folder: Path, drive: Drive, mount: Mounted, fresh_mount: FreshMount
) -> None:
    data = os.urandom(SIZE_BYTES)
    (folder / "model.ckpt").write_bytes(data)
    mount.flush()
    with fresh_mount() as other:
        there = other.path / folder.name
        drive.admin.reset_counters()
        subprocess.run(["cp", there / "model.ckpt", there / "copy"], check=True)
        assert (there / "copy").read_bytes() == data
        assert_copied_by_drive(other, drive, 1)


def test_copy_that_goes_on_is_what_it_became(folder: Path, assert_arrives: Callable[[Path], None]) -> None:
    data = os.urandom(SIZE_BYTES)
    (folder / "model.ckpt").write_bytes(data)
    with (folder / "model.ckpt").open("rb") as source, (folder / "copy").open("w+b", buffering=0) as target:
        done = 0
        while count := os.copy_file_range(source.fileno(), target.fileno(), len(data), done, done):
            done += count
            assert os.fstat(target.fileno()).st_size == done
        os.pwrite(target.fileno(), b"changed", 5)
        assert os.copy_file_range(source.fileno(), target.fileno(), 3, 100, len(data)) == 3
        wanted = data[:5] + b"changed" + data[12:] + data[100:103]
        assert os.pread(target.fileno(), 2 * SIZE_BYTES, 0) == wanted
    assert (folder / "copy").read_bytes() == wanted
    assert_arrives(folder)
