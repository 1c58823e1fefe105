"""What draws the thumbnails of a file manager has nothing downloaded, and reads what is here."""

from __future__ import annotations

import base64
import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mounting import KERNEL, KERNEL_PLAIN, MFUSEPY, Drive, Mounted, Transport, drive_at

TRANSPORTS = (KERNEL, KERNEL_PLAIN, MFUSEPY)

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
PICTURES = 12
REFUSED = os.strerror(errno.EACCES)


@pytest.fixture(scope="module")
def drive(transport: Transport, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drive]:
    with drive_at(tmp_path_factory.mktemp("drive")) as drive:
        yield drive


def downloads(drive: Drive) -> int:
    return len(drive.admin.requests(method="drive.files.get"))


def pictures_on_drive(drive: Drive, mount: Mounted, name: str) -> list[Path]:
    """Of which nothing is here."""
    for number in range(PICTURES):
        drive.admin.put_file(f"{name}/{number:02}.png", PNG + b"%d" % number)
    mount.command("refresh", mount.path)
    found = sorted((mount.path / name).iterdir())
    assert len(found) == PICTURES
    return found


def cat_named(tmp_path: Path, name: str) -> Path:
    """A program that reads, under a name."""
    return Path(shutil.copy("/bin/cat", tmp_path / name))


def run(*command: str | Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command, capture_output=True, timeout=60, check=False)


@pytest.mark.parametrize(
    "words",
    [["tumblerd"], ["totem-video-thumbnailer"], ["kioworker", "kio/thumbnail.so"]],
    ids=lambda words: words[0],
)
def test_thumbnailer_has_nothing_downloaded_and_reads_what_is_here(
    drive: Drive, mount: Mounted, tmp_path: Path, words: list[str]
) -> None:
    program, *arguments = words
    thumbnailer = cat_named(tmp_path, program)
    for each in arguments:  # cat shows these first
        (tmp_path / each).parent.mkdir()
        (tmp_path / each).touch()
    command = [thumbnailer, *(tmp_path / each for each in arguments)]
    here, *others = pictures_on_drive(drive, mount, f"pictures of {program}")
    assert run("cat", here).stdout == PNG + b"0"
    before = downloads(drive)
    for picture in others:
        drawn = run(*command, picture)
        assert drawn.returncode == 1
        assert drawn.stdout == b""
        assert REFUSED in drawn.stderr.decode()
    for _ in range(3):
        assert run(*command, here).stdout == PNG + b"0"
    assert downloads(drive) == before
    # Whoever else reads it has it.
    assert run("cat", others[0]).stdout == PNG + b"1"
    assert run(*command, others[0]).stdout == PNG + b"1"


def test_thumbnailer_that_reads_what_is_here_does_not_bring_the_rest(
    drive: Drive, mount: Mounted, tmp_path: Path
) -> None:
    tumblerd = cat_named(tmp_path, "tumblerd")
    pictures = pictures_on_drive(drive, mount, "some here")
    for picture in pictures[:2]:  # a third would bring the others, as of one who goes through all
        assert run("cat", picture).returncode == 0
    written = [mount.path / "some here" / f"new-{number}.png" for number in range(4)]
    for path in written:
        path.write_bytes(PNG)
    mount.flush()
    before = downloads(drive)
    for path in [*pictures[:2], *written]:
        assert run(tumblerd, path).returncode == 0
    assert run(tumblerd, pictures[-1]).returncode == 1
    assert downloads(drive) == before


def test_thumbnailer_of_another_kind_of_worker_is_none(drive: Drive, mount: Mounted, tmp_path: Path) -> None:
    worker = cat_named(tmp_path, "kioworker")
    (tmp_path / "file.so").touch()
    picture, *_ = pictures_on_drive(drive, mount, "copied by KDE")
    assert run(worker, tmp_path / "file.so", picture).stdout == PNG + b"0"


@pytest.mark.skipif(shutil.which("gdk-pixbuf-thumbnailer") is None, reason="gdk-pixbuf-thumbnailer is not installed")
def test_thumbnailer_of_gnome_draws_what_is_here_only(drive: Drive, mount: Mounted, tmp_path: Path) -> None:
    drawn = tmp_path / "drawn.png"
    picture, *_ = pictures_on_drive(drive, mount, "drawn by GNOME")
    before = downloads(drive)
    assert run("gdk-pixbuf-thumbnailer", "-s", "16", picture, drawn).returncode != 0
    assert not drawn.exists()
    assert downloads(drive) == before
    assert run("cat", picture).stdout == PNG + b"0"
    assert run("gdk-pixbuf-thumbnailer", "-s", "16", picture, drawn).returncode == 0
    assert drawn.stat().st_size
