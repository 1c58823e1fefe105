"""Drive's trash in the mount, by the usual programs, and the trash of a desktop, by GNOME's own."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.mounting import KERNEL, MFUSEPY, Drive, Mounted, Transport, await_true, drive_at

GVFS_TRASH = Path("/usr/share/gvfs/mounts/trash.mount")


TRANSPORTS = (KERNEL, MFUSEPY)


@pytest.fixture(scope="module")
def drive(transport: Transport, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drive]:
    with drive_at(tmp_path_factory.mktemp("drive")) as drive:
        yield drive


def run(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def item(drive: Drive, path: str) -> dict[str, Any] | None:
    """What Drive has at a path, in the trash or not; None when it is gone for good."""
    found = [each for each in drive.admin.tree(trashed=True) if each["path"] == path]
    assert len(found) <= 1
    return found[0] if found else None


def listings(drive: Drive) -> int:
    return len(drive.admin.requests(method="drive.files.list"))


def test_trash_of_the_mount_is_looked_into_restored_from_and_emptied(mount: Mounted, drive: Drive) -> None:
    top, trash = mount.path, mount.path / ".Trash"
    (top / "runs").mkdir()
    for number in range(3):
        (top / "runs" / f"{number}.ckpt").write_bytes(b"weights %d" % number)
    (top / "old.ckpt").write_bytes(b"old weights")
    mount.flush()
    old = drive.find("old.ckpt")["id"]
    run("rm", "-r", top / "runs", top / "old.ckpt")
    mount.flush()
    before = listings(drive)
    # Whoever goes through the mount does not come there.
    assert run("find", top).splitlines() == [str(top)]
    assert run("ls", "-laR", top).count(".Trash") == 0
    assert not (trash / "1000").exists()  # a desktop looks for it at login
    assert listings(drive) == before
    assert sorted(os.listdir(trash)) == ["old.ckpt", "runs"]
    assert (trash / "old.ckpt").read_bytes() == b"old weights"
    assert listings(drive) == before + 1
    run("mv", trash / "old.ckpt", top / "restored.ckpt")
    assert sorted(os.listdir(trash / "runs")) == ["0.ckpt", "1.ckpt", "2.ckpt"]
    run("rm", "-f", trash / "runs" / "0.ckpt")
    mount.flush()
    assert drive.find("restored.ckpt")["id"] == old
    assert item(drive, "runs/0.ckpt") is None
    run("mv", trash / "runs", top / "runs")
    assert (top / "runs" / "1.ckpt").read_bytes() == b"weights 1"
    mount.flush()
    assert sorted(drive.contents("runs")) == ["1.ckpt", "2.ckpt"]
    mount.command("refresh", top)
    assert (sorted(os.listdir(top)), os.listdir(trash)) == (["restored.ckpt", "runs"], [])
    run("rm", "-r", top / "runs")
    mount.flush()
    await_true(lambda: os.listdir(trash) == ["runs"])
    run("rm", "-rf", trash / "runs")
    mount.flush()
    assert {each["path"] for each in drive.admin.tree(trashed=True)} == {"restored.ckpt"}


def test_trash_takes_what_is_moved_into_it_and_is_not_written(mount: Mounted, drive: Drive) -> None:
    top, trash = mount.path, mount.path / ".Trash"
    (top / "model").mkdir()
    (top / "model" / "a.ckpt").write_bytes(b"weights")
    run("mv", top / "model", trash)
    mount.flush()
    trashed = item(drive, "model")
    assert trashed is not None
    assert trashed["explicitlyTrashed"]
    for action in (
        lambda: (trash / "new").write_bytes(b"1"),
        lambda: (trash / "model" / "a.ckpt").write_bytes(b"1"),
        (trash / "model" / "new").mkdir,
        trash.rmdir,
        lambda: trash.rename(top / "trash"),
    ):
        with pytest.raises(OSError) as caught:
            action()
        assert caught.value.errno in (errno.EACCES, errno.EPERM)
    mount.umount()
    mount.mount()
    assert (trash / "model" / "a.ckpt").read_bytes() == b"weights"
    run("mv", trash / "model", top / "model")
    mount.flush()
    assert drive.find("model/a.ckpt")["md5Checksum"]
    assert "model" not in os.listdir(trash)


# --- a desktop's ---

_SCRIPT = r"""
set -eu
cd "$1"
ours() { gio trash --list | awk -F'\t' -v top="$1/" 'index($2, top) == 1 { print $1 }'; }
case $2 in
    trash) shift 2; gio trash "$@" ;;
    list) gio trash --list | cut -f2 ;;
    restore) ours "$1" | while read -r item; do gio trash --restore "$item"; done ;;
    # As `gio trash --empty`, but of this mount only.
    empty)
        ours "$1" | while read -r item; do gio remove "$item"; done
        # It has moved them aside, and removes them behind our back.
        until [ -z "$(ls -A ".Trash-$(id -u)/expunged")" ]; do sleep 0.02; done ;;
esac
"""


class Desktop:
    """A session with a trash, and a home of its own."""

    def __init__(self, mount: Mounted, home: Path) -> None:
        self._top = mount.path
        keep = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "DBUS_", "PYTHON"))}
        self._environment = {**keep, "HOME": str(home), "XDG_RUNTIME_DIR": str(home), "XDG_DATA_HOME": str(home)}

    def does(self, *words: str) -> list[str]:
        try:
            done = subprocess.run(
                ["dbus-run-session", "--", "bash", "-c", _SCRIPT, "sh", self._top, *words],
                env=self._environment,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        finally:
            self._end()
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    def _end(self) -> None:
        """End what the session has left: it would look into every new mount, and keep it in use."""
        entry = f"XDG_RUNTIME_DIR={self._environment['XDG_RUNTIME_DIR']}".encode()
        for path in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):  # ended meanwhile, or another user's
                if entry in path.read_bytes().split(b"\0"):
                    os.kill(int(path.parent.name), signal.SIGKILL)

    def listed(self) -> list[str]:
        """What the desktop shows as trashed from this mount, as paths in it."""
        return sorted(
            str(Path(line).relative_to(self._top)) for line in self.does("list") if line.startswith(f"{self._top}/")
        )


@pytest.fixture
def desktop(mount: Mounted, tmp_path: Path) -> Desktop:
    for program in ("gio", "dbus-run-session"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    if not GVFS_TRASH.exists():
        pytest.skip("gvfs is not installed, which a desktop's trash needs")
    return Desktop(mount, tmp_path)


def test_desktop_trash_goes_to_drives_and_is_restored_and_emptied(
    mount: Mounted, drive: Drive, desktop: Desktop
) -> None:
    top = mount.path
    (top / "desk").mkdir()
    (top / "desk" / "a b.ckpt").write_bytes(b"weights")
    (top / "desk" / "run").mkdir()
    (top / "desk" / "run" / "x").write_bytes(b"1")
    mount.flush()
    file = drive.find("desk/a b.ckpt")["id"]
    (top / "desk" / "new.ckpt").write_bytes(b"never uploaded before")
    desktop.does("trash", "desk/a b.ckpt", "desk/run", "desk/new.ckpt")
    assert os.listdir(top / "desk") == []
    assert desktop.listed() == ["desk/a b.ckpt", "desk/new.ckpt", "desk/run"]
    mount.flush()
    for path in ("desk/a b.ckpt", "desk/run", "desk/new.ckpt"):
        trashed = item(drive, path)
        assert trashed is not None
        assert trashed["explicitlyTrashed"]
    on_drive = {each["path"] for each in drive.admin.tree(trashed=True)}
    assert not [path for path in on_drive if "trash" in path.lower()], "nothing of the desktop's own is on Drive"
    mount.umount()
    mount.mount()
    assert desktop.listed() == ["desk/a b.ckpt", "desk/new.ckpt", "desk/run"]
    desktop.does("restore")
    assert sorted(os.listdir(top / "desk")) == ["a b.ckpt", "new.ckpt", "run"]
    assert (top / "desk" / "run" / "x").read_bytes() == b"1"
    mount.flush()
    assert drive.find("desk/a b.ckpt")["id"] == file
    assert drive.find("desk/run/x")["trashed"] is False
    desktop.does("trash", "desk/a b.ckpt", "desk/run")
    mount.flush()
    desktop.does("empty")
    assert desktop.listed() == []
    mount.flush()
    await_true(lambda: sorted(os.listdir(top / ".Trash")) == ["a b.ckpt", "run"])
    left = item(drive, "desk/run/x")
    assert left is not None
    assert (left["trashed"], left["explicitlyTrashed"]) == (True, False)
