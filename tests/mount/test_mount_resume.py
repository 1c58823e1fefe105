"""An upload that is cut by the death of the mount's process goes on from the byte that Drive has."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mounting import KERNEL, Drive, Mounted, await_true, drive_at, mounted

MIB = 1 << 20
SIZE_BYTES = 256 * MIB
RATE_BYTES_S = 100e6


@pytest.fixture
def drive(tmp_path: Path) -> Iterator[Drive]:
    with drive_at(tmp_path / "drive", bandwidth_bytes_s=RATE_BYTES_S) as drive:
        yield drive


@pytest.fixture
def mount(drive: Drive, tmp_path: Path) -> Iterator[Mounted]:
    reason = KERNEL.why_not()
    if reason is not None:
        pytest.skip(reason)
    with mounted(drive, KERNEL, tmp_path / "mount") as mount:
        yield mount


def arrived(drive: Drive) -> int:
    """Bytes that sessions have."""
    return sum(int(session["received"]) for session in drive.admin.sessions())


def test_upload_cut_by_a_kill_sends_at_most_a_mebibyte_twice(drive: Drive, mount: Mounted) -> None:
    block = os.urandom(MIB)
    digest = hashlib.md5()
    drive.admin.reset_counters()
    with (mount.path / "model.ckpt").open("wb", buffering=0) as file:
        for number in range(SIZE_BYTES // MIB):
            piece = number.to_bytes(4, "big") + block[4:]
            file.write(piece)
            digest.update(piece)
    await_true(lambda: arrived(drive) > SIZE_BYTES // 3, 60)
    assert arrived(drive) < SIZE_BYTES, "the upload was over before it could be cut"
    mount.kill_daemon()
    mount.flush()
    assert drive.find("model.ckpt")["md5Checksum"] == digest.hexdigest()
    twice = drive.admin.counters()["bytes_in"] - SIZE_BYTES
    assert twice <= MIB
