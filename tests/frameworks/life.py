"""One life of a framework's checkpoints: saved on a mount, flushed, restored where the cache is empty, and resumed.

The frameworks run in processes of their own, which have no network at all where we may take it from them.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.mounting import MFUSEPY, Drive, Entry, contents, drive_at, entries, mounted

SCRIPT_LIMIT_S = 240.0


@dataclass(frozen=True, slots=True)
class Life:
    """What came of it; the results are by part of the script, the files by path from the mount's top."""

    saved: dict[str, Any]
    files: dict[str, Entry]
    """In the mount after saving."""
    items: dict[str, dict[str, Any]]
    """On Drive after the flush."""
    restored: dict[str, Any]
    fresh_files: dict[str, Entry]
    """As the empty cache shows them, before the restore."""
    resumed_files: dict[str, Entry]
    resumed_items: dict[str, dict[str, Any]]

    def part(self, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """What a part returned when it saved, and when it restored; a failure of it fails the test."""
        for results in (self.saved, self.restored):
            if "failure" in results[name]:
                pytest.fail(results[name]["failure"], pytrace=False)
        return self.saved[name], self.restored[name]

    def names(self, part: str, *, resumed: bool = False) -> list[str]:
        """The files of a part."""
        files = self.resumed_files if resumed else self.files
        return sorted(path.removeprefix(f"{part}/") for path in files if path.startswith(f"{part}/"))

    def assert_on_drive(self, part: str) -> None:
        """Drive had what the mount had, checksum by checksum, after saving and after going on; and so had the
        fresh mount."""
        for files, items in ((self.files, self.items), (self.resumed_files, self.resumed_items)):
            here = {path: entry.md5 for path, entry in files.items() if path.startswith(f"{part}/")}
            there = {path: item.get("md5Checksum") for path, item in items.items() if path.startswith(f"{part}/")}
            assert here and here == there
        shown = {path: entry for path, entry in self.fresh_files.items() if path.startswith(f"{part}/")}
        assert shown == {path: entry for path, entry in self.files.items() if path.startswith(f"{part}/")}


def live_through(script: str, packages: Sequence[str], tmp_path_factory: pytest.TempPathFactory) -> Life:
    """Run a script's two halves around a flush; without its packages, or FUSE, the tests are skipped."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    reason = MFUSEPY.why_not()
    if reason is not None:
        pytest.skip(reason)
    with (
        drive_at(tmp_path_factory.mktemp("drive")) as drive,
        mounted(drive, MFUSEPY, tmp_path_factory.mktemp("mount")) as mount,
    ):
        saved = _run(script, "save", mount.path)
        files = entries(mount.path)
        mount.flush()
        items = _items(drive)
        mount.umount()
        mount.empty_cache()
        mount.mount()
        fresh_files = entries(mount.path)
        restored = _run(script, "restore", mount.path)
        resumed_files = entries(mount.path)
        mount.flush()
        assert drive.contents() == contents(resumed_files)
        return Life(saved, files, items, restored, fresh_files, resumed_files, _items(drive))


def _items(drive: Drive) -> dict[str, dict[str, Any]]:
    return {item["path"]: item for item in drive.admin.tree()}


def _run(script: str, action: str, folder: Path) -> dict[str, Any]:
    alone = ["unshare", "--net"] if os.geteuid() == 0 else []
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [*alone, sys.executable, str(Path(__file__).with_name(script)), action, str(folder)],
        env={**environment, "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": ""},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SCRIPT_LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, f"{script} {action} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    results: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return results
