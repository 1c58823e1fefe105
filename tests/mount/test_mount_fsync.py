"""`--fsync drive` on a real mount: fsync(2) returns when Drive has confirmed. Each test has a Drive of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mounting import Drive, Mounted, Transport, drive_at, mounted

LIMIT_S = 30.0


@pytest.fixture
def drive(tmp_path: Path) -> Iterator[Drive]:
    with drive_at(tmp_path / "drive") as drive:
        yield drive


@pytest.fixture
def mount(drive: Drive, transport: Transport, tmp_path: Path) -> Iterator[Mounted]:
    with mounted(drive, transport, tmp_path / "mount") as mount:
        mount.umount()
        mount.mount("--fsync", "drive")
        yield mount


def test_fsync_returns_when_drive_has_it(drive: Drive, mount: Mounted) -> None:
    drive.admin.set_network(latency_s=0.2)
    (mount.path / "run").mkdir()
    with (mount.path / "run" / "log").open("wb", buffering=0) as file:
        for step in range(3):
            file.write(b"step %d\n" % step)
            os.fsync(file.fileno())
            assert drive.admin.read_file("run/log").endswith(b"step %d\n" % step)
        file.write(b"not synced")
    with (mount.path / "run" / "large").open("wb", buffering=0) as file:
        data = os.urandom(6_000_000)
        file.write(data)
        os.fsync(file.fileno())
        assert drive.admin.read_file("run/large") == data


def test_program_that_waits_for_drive_can_be_killed(drive: Drive, mount: Mounted) -> None:
    os.listdir(mount.path)
    drive.stop()
    path = mount.path / "file"
    code = (
        "import os, sys\nfile = open(sys.argv[1], 'wb', buffering=0)\nfile.write(b'x')\n"
        "print('written', flush=True)\nos.fsync(file.fileno())\nprint('synced', flush=True)"
    )
    with subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "written\n"
        with pytest.raises(subprocess.TimeoutExpired):
            program.wait(1.0)
        started_s = time.monotonic()
        program.kill()
        program.wait(LIMIT_S)
        assert time.monotonic() - started_s < 5.0
        assert program.stdout.read() == ""
    assert path.read_bytes() == b"x"
    drive.start()
    mount.flush()
    assert drive.admin.read_file("file") == b"x"


def test_mount_with_somebody_who_waits_for_drive_can_be_ended(drive: Drive, mount: Mounted) -> None:
    os.listdir(mount.path)
    drive.stop()
    code = (
        "import os, sys\nfile = open(sys.argv[1], 'wb', buffering=0)\nfile.write(b'x')\n"
        "print('written', flush=True)\n"
        "try: os.fsync(file.fileno())\nexcept OSError as error: print(error.errno, flush=True)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, mount.path / "file"], stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "written\n"
        assert "in use" in mount.command("umount", "--no-wait", mount.path, check=False).stderr
        mount.kill()
        assert program.stdout.readline() != ""
        program.wait(LIMIT_S)
    mount.mount()
    drive.start()
    mount.flush()
    assert drive.admin.read_file("file") == b"x"
