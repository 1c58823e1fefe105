"""What a mount asks of Drive, from before it is there: requests saved are the real speed (drive-api: Quota)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mounting import KERNEL_PLAIN, Drive, Mounted, drive_at

FOLDERS = 4
FILES = 1_100
ALWAYS = {"oauth.token", "drive.about.get", "drive.changes.list"}


pytestmark = pytest.mark.skipif(KERNEL_PLAIN.why_not() is not None, reason=str(KERNEL_PLAIN.why_not()))


@pytest.fixture
def drive(tmp_path: Path) -> Iterator[Drive]:
    with drive_at(tmp_path / "drive") as drive:
        for number in range(FOLDERS):
            drive.admin.fill_folder(f"tree/d{number}", FILES // FOLDERS)
        drive.admin.reset_counters()
        yield drive


def walk(top: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(top))


def asked(drive: Drive) -> dict[str, int]:
    return {name: counts["requests"] for name, counts in drive.admin.counters()["methods"].items()}


def test_requests_of_a_walk_are_those_for_pages_and_those_of_a_remount_none(drive: Drive, tmp_path: Path) -> None:
    mount = Mounted(drive, KERNEL_PLAIN, tmp_path / "mount")
    try:
        mount.mount()
        assert walk(mount.path) == FILES
        found = asked(drive)
        assert set(found) <= {*ALWAYS, "drive.changes.getStartPageToken", "drive.files.list"}
        # The root, the folders, two pages of files; and each folder where a busy machine lets nobody wait.
        assert found["drive.files.list"] <= 4 + FOLDERS + 2
        mount.umount()
        drive.admin.reset_counters()
        mount.mount()
        assert walk(mount.path) == FILES
        assert set(asked(drive)) <= ALWAYS
    finally:
        mount.dispose()
    assert mount.complaints() == []
