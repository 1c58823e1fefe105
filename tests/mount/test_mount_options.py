"""Mount options, and shortcuts, as programs see them on a real mount."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

from tests.emulator_support import SHORTCUT, Api
from tests.mounting import Drive, Mounted, Transport
from tests.promises import fails_with


def read_as(uid: int, path: Path) -> bytes:
    """What a user reads, who need not be able to come here by the folders above; nothing where it is refused."""
    top = os.open(path.parent.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        command = ["cat", f"/proc/self/fd/{top}/{path.parent.name}/{path.name}"]
        done = subprocess.run(
            command, user=uid, group=uid, extra_groups=[], pass_fds=[top], capture_output=True, check=False
        )
        assert done.returncode == 0 or b"Permission denied" in done.stderr
    finally:
        os.close(top)
    return done.stdout


def test_options_of_mount_8_hold(drive: Drive, transport: Transport, tmp_path: Path) -> None:
    api = Api(drive.running)
    folder = api.folder("shortcuts")
    for name, target in (("to file", api.file("file", b"content", folder)["id"]), ("self", folder)):
        body = {"name": name, "mimeType": SHORTCUT, "parents": [folder], "shortcutDetails": {"targetId": target}}
        api.ok("POST", "files", body)
    api.close()
    mount = Mounted(drive, transport, tmp_path)
    try:
        mount.mount("-o", "uid=1234,gid=4321,umask=027,noatime,default_permissions,allow_other")
        path = mount.path / "shortcuts"
        status = (path / "file").stat()
        assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (1234, 4321, 0o640)
        table = Path("/proc/self/mountinfo").read_text().splitlines()
        (line,) = [each for each in table if f" {mount.path} " in each]
        for option in ("noatime", "default_permissions", "allow_other"):
            assert option in line
        if os.geteuid() == 0:
            assert (read_as(1234, path / "file"), read_as(1235, path / "file")) == (b"content", b"")
        assert os.readlink(path / "to file") == "file"
        assert (path / "to file").read_bytes() == b"content"
        assert (path / "to file").lstat().st_size == len("file")
        found = subprocess.run(["find", "-L", path], capture_output=True, text=True, check=False)
        assert "loop" in found.stderr
        mount.umount()
        mount.mount("-o", "ro,uid=1234")
        with fails_with(errno.EROFS):
            (path / "new").write_bytes(b"x")
        if os.geteuid() == 0:
            assert read_as(1234, path / "file") == b"", "without allow_other it is for who mounted"
        mount.umount()
        assert mount.complaints() == []
    finally:
        mount.dispose()


def test_read_only_mount_leaves_what_waits_to_one_that_may_write(
    drive: Drive, transport: Transport, tmp_path: Path
) -> None:
    mount = Mounted(drive, transport, tmp_path)
    name = f"left by {transport.name}"
    try:
        drive.admin.add_fault("error", api="drive.files.create", status=503, count=1_000)
        mount.mount()
        (mount.path / name).write_bytes(b"from before")
        mount.umount("--no-wait")
        drive.admin.clear_faults()
        mount.mount("-o", "ro")
        flushed = mount.command("flush", mount.path, check=False)
        assert flushed.returncode == 1
        assert "read-only; left in its cache: 1 file" in flushed.stderr
        told = mount.command("umount", mount.path).stdout
        assert told.startswith(
            f"Unmounted {mount.path}; left in {mount.cache_dir} for the next mount that may write: 1"
        )
        mount.mount()
        mount.umount()
        assert drive.find(name)
        assert mount.complaints() == []
    finally:
        mount.dispose()
