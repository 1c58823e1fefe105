"""A mount as a desktop makes it, by mount(8) and for systemd; and the commands that take a path of a mount."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mounting import KERNEL_PLAIN, Drive, Mounted, drive_at, mounted

TOP = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drive]:
    with drive_at(tmp_path_factory.mktemp("drive")) as drive:
        yield drive


@pytest.fixture(scope="module")
def mount(drive: Drive, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    reason = KERNEL_PLAIN.why_not()
    if reason is not None:
        pytest.skip(reason)
    with mounted(drive, KERNEL_PLAIN, tmp_path_factory.mktemp("mount")) as mount:
        yield mount


def test_commands_know_the_paths_of_a_mount(drive: Drive, mount: Mounted) -> None:
    (mount.path / "models").mkdir()
    path = mount.path / "models" / "a.ckpt"
    path.write_bytes(b"weights")
    mount.flush()
    item = drive.find("models/a.ckpt")
    assert mount.command("find-id", item["id"]).stdout.splitlines() == ["drive:models/a.ckpt", str(path)]
    listed = json.loads(mount.command("ls", "--json", str(mount.path / "models")).stdout)["items"]
    assert [each["id"] for each in listed] == [item["id"]]
    assert item["id"] in mount.command("link", str(path)).stdout
    path.write_bytes(b"better weights")
    mount.flush()
    revisions = json.loads(mount.command("revisions", "--json", str(path)).stdout)["revisions"]
    assert [each["size_bytes"] for each in revisions] == [14, 7]
    mount.command("revisions", str(path), "--restore", "2")
    mount.command("refresh")
    assert path.read_bytes() == b"weights"
    assert drive.find("models/a.ckpt")["id"] == item["id"]


_BY_MOUNT = r"""
set -eu
# A copy of /sbin's folder that only this process and those below it see, with our helper in it.
sbin=$(realpath /sbin)
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work"
mount -t overlay overlay -o "lowerdir=$sbin,upperdir=$1/upper,workdir=$1/work" "$sbin"
helper="$sbin/mount.fuse.drivefs"
printf '#!/bin/sh\nexec "%s" -P -c "from drivefs.cli.mount_helper import main; main()" "$@"\n' "$2" >"$helper"
chmod +x "$helper"
mount -t fuse.drivefs drivefs "$3" -o "cache_dir=$4,endpoint=$5,credentials=$6,_netdev,nofail"
echo by mount >"$3/by-mount"
"$2" -P -m drivefs umount "$3"
echo "default $3 fuse.drivefs cache_dir=$4,endpoint=$5,credentials=$6,_netdev,nofail 0 0" >"$1/fstab"
mount --fstab "$1/fstab" "$3"
echo by fstab >"$3/by-fstab"
umount "$3"
while "$2" -P -m drivefs status --json | grep -q '"pid": [0-9]'; do :; done
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="mount(8) mounts for root")
def test_mount_command_and_fstab_know_drivefs(drive: Drive, tmp_path: Path) -> None:
    for name in ("overlay", "mountpoint", "cache"):
        (tmp_path / name).mkdir()
    running = drive.running
    subprocess.run(
        [
            *("unshare", "-m", "sh", "-c", _BY_MOUNT, "sh", tmp_path / "overlay", sys.executable),
            *(tmp_path / "mountpoint", tmp_path / "cache", running.endpoint, running.credentials_file),
        ],
        env={**os.environ, "XDG_STATE_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)},
        check=True,
        timeout=100,
    )
    assert drive.admin.read_file("by-mount") == b"by mount\n"
    assert drive.admin.read_file("by-fstab") == b"by fstab\n"


def test_mount_tells_systemd_when_it_answers(drive: Drive, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        running = drive.running
        environment = {
            **os.environ,
            "NOTIFY_SOCKET": str(tmp_path / "notify"),
            "XDG_STATE_HOME": str(tmp_path),
            "DRIVEFS_ENDPOINT": running.endpoint,
            "DRIVEFS_CREDENTIALS": str(running.credentials_file),
            "DRIVEFS_CACHE_DIR": str(tmp_path / "cache"),
        }
        command = [sys.executable, "-P", "-m", "drivefs"]
        mountpoint = tmp_path / "drive"
        subprocess.run([*command, "mount", mountpoint], env=environment, check=True, timeout=60)
        try:
            told = dict(line.split("=", 1) for line in manager.recv(4096).decode().splitlines())
            assert told["READY"] == "1"
            words = Path(f"/proc/{told['MAINPID']}/cmdline").read_bytes().split(b"\0")
            assert b"drivefs.supervisor" in words
            assert os.path.ismount(mountpoint)
        finally:
            subprocess.run([*command, "umount", mountpoint], env=environment, check=True, timeout=60)


_BY_SYSTEMD = r"""
set -eu
# A user's manager of our own, on a machine that may have booted without systemd; nobody else sees it.
mount -t tmpfs tmpfs /run/systemd
mkdir /run/systemd/system
groups=""
for above in /sys/fs/cgroup/systemd /sys/fs/cgroup/unified /sys/fs/cgroup; do
    if [ -w "$above/cgroup.procs" ] && mkdir "$above/$1"; then
        groups="$groups $above/$1"
        echo $$ >"$above/$1/cgroup.procs"
    fi
done
systemd=$(command -v /usr/lib/systemd/systemd /lib/systemd/systemd | head -n 1)
"$systemd" --user &
manager=$!
leave() {
    set +e  # all of it
    systemctl --user --no-block exit || true  # as at logout
    wait $manager || true
    for group in $groups; do
        echo $$ >"${group%/*}/cgroup.procs"
        find "$group" -depth -type d -exec rmdir {} \;
    done
}
trap leave EXIT
until systemctl --user is-system-running --wait 2>/dev/null; do kill -0 $manager; done

systemctl --user enable --now drivefs
mountpoint "$HOME/drive"
systemctl --user show -p ActiveState -p MainPID -p Result drivefs
echo before the stop >"$HOME/drive/before-the-stop"
systemctl --user stop drivefs
systemctl --user show -p ActiveState -p MainPID -p Result drivefs
! mountpoint "$HOME/drive"
ls -A "$HOME/drive"

systemctl --user start drivefs
echo before the logout >"$HOME/drive/before-the-logout"
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="a manager of our own takes a control group and a namespace of our own")
@pytest.mark.skipif(shutil.which("systemctl") is None, reason="systemd is not installed")
def test_systemd_unit_mounts_and_flushes_at_stop_and_at_logout(drive: Drive, tmp_path: Path) -> None:
    home, runtime = tmp_path / "home", tmp_path / "runtime"
    command = home / ".local" / "bin" / "drivefs"
    units = home / ".config" / "systemd" / "user"
    for folder in (runtime, command.parent, units):
        folder.mkdir(parents=True, mode=0o700)
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m drivefs "$@"\n')
    command.chmod(0o755)
    shutil.copy(TOP / "packaging" / "systemd" / "drivefs.service", units)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "DBUS_"))}
    environment |= {
        "HOME": str(home),
        "XDG_RUNTIME_DIR": str(runtime),
        "DRIVEFS_ENDPOINT": drive.running.endpoint,
        "DRIVEFS_CREDENTIALS": str(drive.running.credentials_file),
    }
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", _BY_SYSTEMD, "sh", f"drivefs-test-{os.getpid()}"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    states = [dict(line.split("=", 1) for line in part.splitlines()[:3]) for part in _shown(done.stdout)]
    assert [(each["ActiveState"], each["Result"]) for each in states] == [
        ("active", "success"),
        ("inactive", "success"),
    ]
    assert states[0]["MainPID"] != "0", said
    assert drive.admin.read_file("before-the-stop") == b"before the stop\n", said
    assert drive.admin.read_file("before-the-logout") == b"before the logout\n", said


def _shown(text: str) -> list[str]:
    """What `systemctl show` has printed, each time."""
    lines = [line for line in text.splitlines() if line.startswith(("ActiveState=", "MainPID=", "Result="))]
    return ["\n".join(lines[at : at + 3]) for at in range(0, len(lines), 3)]
