"""Writers, renamers, readers, the uploader, the evictor and somebody on Drive at once, through the kernel."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.filesystem import OsFilesystem, read_file
from tests.mounting import KERNEL, MFUSEPY, Transport, contents, drive_at, entries, md5_of, mounted
from tests.stress import Stress

STRESS_S = 4.0


@pytest.mark.parametrize("transport", [KERNEL, MFUSEPY], ids=lambda transport: transport.name)
def test_mount_and_drive_agree_after_all_at_once(transport: Transport, tmp_path: Path) -> None:
    reason = transport.why_not()
    if reason is not None:
        pytest.skip(reason)
    with drive_at(tmp_path / "drive") as drive, mounted(drive, transport, tmp_path / "mount") as mount:
        drive.admin.make_folder("theirs")
        mount.umount()
        mount.environment["DRIVEFS_CACHE_SIZE"] = "2M"
        mount.mount()
        drive.admin.add_fault("error", status=503, every=40)
        drive.admin.add_fault("reset_after", every=60)
        drive.admin.add_fault("error", status=403, reason="userRateLimitExceeded", every=90)

        def edit(name: str, data: bytes) -> None:
            drive.admin.put_file(f"theirs/{name}", data)

        stress = Stress(OsFilesystem(mount.path), edit)
        stress.run(STRESS_S)
        assert stress.done > 100
        drive.admin.clear_faults()
        mount.flush()
        mount.command("refresh", mount.path)
        files = {path: entry for path, entry in entries(mount.path).items() if entry.kind == "file"}
        assert sorted(files) == sorted(stress.wanted)
        for path, data in stress.wanted.items():
            assert read_file(OsFilesystem(mount.path), path) == data, path
        assert drive.contents() == contents(entries(mount.path))
        assert {os.path.basename(path) for path in drive.trash()} <= {os.path.basename(p) for p in stress.removed}
        told = mount.status()
        assert (told["queue"]["files"], told["queue"]["writing_files"]) == (0, 0)
        assert told["restarts"] == 0
        end_s = time.monotonic() + 60
        while mount.status()["cache"]["clean_bytes"]:  # what was brought ahead of readers may be on its way still
            assert time.monotonic() < end_s, "somebody has left a file open"
            mount.command("cache", "clear", mount.path)
        for path, entry in files.items():
            assert md5_of(mount.path / path) == entry.md5, path
