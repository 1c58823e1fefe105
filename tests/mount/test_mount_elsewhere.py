"""The promises of a filesystem where a mount is made by an ordinary user, and where its cache lies on overlayfs."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivefs.fuse.kernel.device import DEVICE
from tests.filesystem import Filesystem, OsFilesystem
from tests.mounting import KERNEL, MFUSEPY, TESTS, Drive, Mounted, Transport, mounted
from tests.promises import Promises

FILE_BYTES = 32 << 20
USER_LIMIT_S = 180.0

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make users and mount overlayfs")

TRANSPORTS = (KERNEL,)


@pytest.fixture(scope="module")
def overlay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    top = tmp_path_factory.mktemp("overlay")
    for name in ("lower", "upper", "work", "merged"):
        (top / name).mkdir()
    options = f"lowerdir={top}/lower,upperdir={top}/upper,workdir={top}/work"
    command = ["mount", "-t", "overlay", "overlay", "-o", options, top / "merged"]
    subprocess.run(command, check=True, capture_output=True)
    yield top / "merged"
    subprocess.run(["umount", "-l", top / "merged"], check=True)


@pytest.fixture(scope="module")
def mount(drive: Drive, transport: Transport, overlay: Path) -> Iterator[Mounted]:
    with mounted(drive, transport, overlay) as mount:
        yield mount


class TestOverlayPromises(Promises):
    """`max_stack_depth` 2: the backing file lies on a filesystem over another."""

    @pytest.fixture
    def fs(self, folder: Path) -> Filesystem:
        return OsFilesystem(folder)

    def test_overlay_beneath_is_passed_through_to(self, drive: Drive, mount: Mounted, folder: Path) -> None:
        drive.stop()  # an upload would count
        before = mount.moved_bytes()
        (folder / "file").write_bytes(bytes(FILE_BYTES))
        assert (folder / "file").read_bytes() == bytes(FILE_BYTES)
        moved = mount.moved_bytes() - before
        drive.start()
        assert moved < FILE_BYTES


@pytest.fixture(scope="module")
def user() -> Iterator[str]:
    """An ordinary user, who may open /dev/fuse as udev lets all."""
    name = f"drivefs-test-{os.getpid()}"
    subprocess.run(["useradd", "--no-create-home", "--user-group", name], check=True, capture_output=True)
    mode = stat.S_IMODE(DEVICE.stat().st_mode)
    DEVICE.chmod(0o666)
    yield name
    DEVICE.chmod(mode)
    subprocess.run(["userdel", name], check=True, capture_output=True)


@pytest.fixture
def home(user: str) -> Iterator[Path]:
    """Not in pytest's own folder, which is root's alone."""
    folder = Path(tempfile.mkdtemp(prefix="drivefs-user-"))
    entry = pwd.getpwnam(user)
    os.chown(folder, entry.pw_uid, entry.pw_gid)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("transport", [KERNEL, MFUSEPY], ids=lambda transport: transport.name)
def test_promises_hold_for_an_ordinary_user(user: str, home: Path, transport: Transport) -> None:
    entry = pwd.getpwnam(user)
    command = [
        # Reading is all that the right beyond an ordinary user's is for: Python may lie in a folder of root's.
        *("setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups"),
        *("--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search", "--bounding-set=+all"),
        *(sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", f"--basetemp={home / 'tests'}"),
        *("-k", f"[{transport.name}] and (Promises or what_is_open)"),
        *(TESTS / "mount" / name for name in ("test_mount_promises.py", "test_mount_handover.py")),
    ]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "XDG_"))},
        "HOME": str(home),
        "TMPDIR": str(home),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(
        command,
        env=environment,
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
        timeout=USER_LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout and "skipped" not in done.stdout
