"""`drivefs demo`: the whole way, and nothing left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivefs.mounts import find_mount_over, read_table
from tests.mounting import MFUSEPY

pytestmark = pytest.mark.skipif(MFUSEPY.why_not() is not None, reason=str(MFUSEPY.why_not()))


class Desk:
    """A home and a folder for temporary files, for the demo alone."""

    def __init__(self, folder: Path) -> None:
        self.temporary = folder / "tmp"
        self.state = folder / ".local" / "state" / "drivefs"
        self.temporary.mkdir()
        plain = {name: value for name, value in os.environ.items() if not name.startswith(("DRIVEFS_", "XDG_"))}
        self.environment = {**plain, "HOME": str(folder), "TMPDIR": str(self.temporary), "COLUMNS": "200"}

    def demo(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "drivefs", "demo", *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def shell(self, line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", "-c", line], env=self.environment, capture_output=True, text=True, timeout=60, check=False
        )

    def mounts(self) -> list[Path]:
        return [entry.mountpoint for entry in read_table() if self.temporary in entry.mountpoint.parents]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    for mountpoint in desk.mounts():
        subprocess.run(["fusermount3", "-uz", mountpoint], check=True)


def test_demo_holds_and_leaves_nothing_behind(desk: Desk) -> None:
    done = desk.demo("--size", "20M")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "run/model.ckpt-1000.data-00000-of-00001" in done.stdout
    assert "every byte is the same" in done.stdout
    assert "NO" not in done.stdout.split() and "Traceback" not in done.stderr
    assert desk.mounts() == []
    assert list(desk.temporary.iterdir()) == []
    assert [path for path in desk.state.rglob("*") if path.is_file()] == []


def test_demo_that_is_kept_is_ended_as_it_says(desk: Desk) -> None:
    done = desk.demo("--size", "2M", "--keep")
    assert done.returncode == 0, done.stdout + done.stderr
    (mountpoint,) = desk.mounts()
    lines = [line.strip() for line in done.stdout.splitlines()]
    look, end = lines.index("It stays mounted. Look around:"), lines.index("To end it:")
    assert "checkpoint" in (listed := desk.shell(lines[look + 1])).stdout, listed.stderr
    (status,) = [line for line in lines[look:end] if " status " in line]
    assert "nothing, everything" in desk.shell(status).stdout
    ended = desk.shell(lines[end + 1])
    assert ended.returncode == 0, ended.stdout + ended.stderr
    over = find_mount_over(mountpoint)
    assert over is not None and not over.is_fuse
    assert list(desk.temporary.iterdir()) == []


def test_demo_that_fails_leaves_nothing_behind(desk: Desk) -> None:
    desk.environment["XDG_STATE_HOME"] = "/proc/nowhere"
    done = desk.demo("--size", "1M")
    assert done.returncode == 1
    assert "XDG_STATE_HOME" in done.stderr and "Traceback" not in done.stderr
    assert desk.mounts() == []
    assert list(desk.temporary.iterdir()) == []
