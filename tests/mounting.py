"""Support for tests that go through a real mount: a Drive, mounts of it made by the real command, what to compare.

Everything that is started here can be found again by `Mounted.processes`, and ends in `Mounted.dispose`, by its
process ID, also when a test has failed or hangs.
"""

from __future__ import annotations

import ctypes.util
import hashlib
import importlib.util
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from drivefs.emulator import Admin, Options, Running, start
from drivefs.model import FOLDER_MIME
from drivefs.mounts import find_mount_at
from drivefs.sync.metadata import SYMLINK_MIME

TESTS = Path(__file__).parent
COMMAND_LIMIT_S = 120.0
_MARK = "DRIVEFS_TEST_MOUNT"  # in the environment of each process of a mount, so that they can be found


# --- which FUSE ---


@dataclass(frozen=True, slots=True)
class Transport:
    """One way to the kernel: its own protocol, or a Python package on a C library."""

    name: str
    option: str
    """What --transport is given."""
    module: str | None = None
    library: str | None = None
    shadow: Path | None = None
    """Folder of modules that hide installed ones, as if they were not there."""
    variables: tuple[tuple[str, str], ...] = ()
    """More of the environment."""

    def why_not(self) -> str | None:
        """Why nothing can be mounted with it on this machine, or None."""
        if self.module is not None and importlib.util.find_spec(self.module) is None:
            return f"the Python package of {self.module} is not installed"
        if self.library is not None and ctypes.util.find_library(self.library) is None:
            return f"lib{self.library} is not installed"
        try:
            os.close(os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC))
        except OSError as error:
            return f"/dev/fuse cannot be opened: {error.strerror}"
        return None

    def environment(self) -> dict[str, str]:
        # The code beside these tests is what is mounted, wherever a drivefs is installed.
        path = [str(self.shadow)] if self.shadow is not None else []
        return {"PYTHONPATH": os.pathsep.join([*path, str(TESTS.parent)]), **dict(self.variables)}


KERNEL = Transport("kernel-passthrough", "kernel")
KERNEL_PLAIN = Transport("kernel-no-passthrough", "kernel", variables=(("DRIVEFS_PASSTHROUGH", "no"),))
MFUSEPY = Transport("mfusepy-libfuse3", "libfuse", "mfusepy", "fuse3")
FUSEPY = Transport("fusepy-libfuse2", "libfuse", "fuse", "fuse", shadow=TESTS / "mount" / "fusepy_only")


# --- a Drive ---


class Drive:
    """An emulator that can be stopped, and started again at the same address with the same content."""

    def __init__(self, options: Options) -> None:
        """`options.directory` is set."""
        self._options = options
        self._running: Running | None = None

    def start(self) -> None:
        """Returns when it answers."""
        self._running = start(self._options)
        port = urlsplit(self._running.endpoint).port
        assert port is not None
        self._options = replace(self._options, port=port)

    def stop(self, *, kill: bool = False) -> None:
        if self._running is not None:
            self._running.stop(kill=kill)
            self._running = None

    @property
    def running(self) -> Running:
        assert self._running is not None, "the Drive is stopped"
        return self._running

    @property
    def admin(self) -> Admin:
        return self.running.admin

    def find(self, path: str) -> dict[str, Any]:
        """The one item at a path that is not in the trash."""
        found = [item for item in self.admin.tree() if item["path"] == path]
        assert len(found) == 1, f"{len(found)} items at {path}"
        return found[0]

    def fields(self, path: str, names: str) -> dict[str, Any]:
        """Fields of the one item at a path, as the API gives them."""
        request = urllib.request.Request(
            f"{self.running.endpoint}/drive/v3/files/{self.find(path)['id']}?fields={names}",
            headers={"Authorization": f"Bearer {self.admin.token()}"},
        )
        with urllib.request.urlopen(request) as reply:
            found: dict[str, Any] = json.load(reply)
        return found

    def contents(self, folder: str = "") -> dict[str, tuple[str, str | None]]:
        """Kind and md5 of all below a folder, by path from there; fails when two have one path."""
        found: dict[str, tuple[str, str | None]] = {}
        prefix = f"{folder}/" if folder else ""
        for item in self.admin.tree():
            if not item["path"].startswith(prefix):
                continue
            path = item["path"].removeprefix(prefix)
            assert path not in found, f"Drive has {path} twice"
            kind = {FOLDER_MIME: "folder", SYMLINK_MIME: "symlink"}.get(item["mimeType"], "file")
            found[path] = (kind, item.get("md5Checksum"))
        return found

    def trash(self, folder: str = "") -> list[str]:
        """Paths of what lies in the trash and came from below a folder."""
        prefix = f"{folder}/" if folder else ""
        trashed = [item["path"] for item in self.admin.tree(trashed=True) if item["trashed"]]
        return [path for path in trashed if path.startswith(prefix)]


@contextmanager
def drive_at(directory: Path, **settings: Any) -> Iterator[Drive]:
    """A Drive for the length of a block."""
    drive = Drive(Options(directory=directory, **settings))
    drive.start()
    try:
        yield drive
    finally:
        drive.stop()


# --- a mount ---

_live: list[Mounted] = []


class Mounted:
    """One mount of a Drive, and the folder that holds its mount point, cache and home."""

    def __init__(self, drive: Drive, transport: Transport, folder: Path, *options: str) -> None:
        """`options` are given to each mount."""
        self.drive = drive
        self.transport = transport
        self.path = folder / "mnt"
        self.cache_dir = folder / "cache"
        self._mark = str(folder)
        ready = drive.running
        self._mount_options = [
            *("--endpoint", ready.endpoint, "--credentials", str(ready.credentials_file)),
            *("--cache-dir", str(self.cache_dir), "--transport", transport.option),
            *options,
        ]
        home = folder / "home"
        for part in (home, self.path):
            part.mkdir(parents=True, exist_ok=True)
        plain = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("DRIVEFS_", "FUSE_LIBRARY", "XDG_", "PYTHON"))
        }
        self.environment = {**plain, **transport.environment(), "HOME": str(home), _MARK: self._mark}

    # --- the command ---

    def command(
        self, *arguments: str | Path, check: bool = True, limit_s: float = COMMAND_LIMIT_S
    ) -> subprocess.CompletedProcess[str]:
        """Run `drivefs …` to its end; with `check`, exit code 0 is demanded."""
        done = subprocess.run(
            [sys.executable, "-m", "drivefs", *map(str, arguments)],
            env=self.environment,
            cwd=self.cache_dir.parent,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=limit_s,
            check=False,
        )
        if check:
            assert done.returncode == 0, f"drivefs {arguments[0]} ended with {done.returncode}:\n{_said(done)}"
        return done

    def mount(self, *options: str) -> None:
        self.command("mount", self.path, *self._mount_options, *options)
        assert find_mount_at(self.path) is not None

    def umount(self, *options: str) -> None:
        """Ends with the daemon gone."""
        daemons = self.processes()
        self.command("umount", self.path, *options)
        assert find_mount_at(self.path) is None
        for pid in daemons:
            assert wait_for_end(pid, 10.0), f"process {pid} is still there after the unmount"

    def empty_cache(self) -> None:
        """As on another machine; while it is not mounted."""
        assert find_mount_at(self.path) is None
        shutil.rmtree(self.cache_dir)

    def flush(self) -> None:
        self.command("flush", self.path)

    def status(self) -> dict[str, Any]:
        """What `status --json` says of this mount, running or not."""
        (found,) = json.loads(self.command("status", self.path, "--json").stdout)["mounts"]
        assert isinstance(found, dict)
        return found

    def space(self) -> os.statvfs_result:
        """What statfs says, once Drive has been asked: soon after the mount, not at the next look for changes."""
        end_s = time.monotonic() + 3.0
        while self.status()["quota"] is None:
            assert time.monotonic() < end_s, "the mount does not know Drive's quota"
        return os.statvfs(self.path)

    # --- its processes ---

    def moved_bytes(self) -> int:
        """What the daemon has read and written until now (proc_pid_io(5)): a byte that goes through it counts twice.

        Its housekeeping counts too, some MiB at any moment: only more than that tells what a file has moved.
        """
        lines = Path(f"/proc/{self.status()['pid']}/io").read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith(("rchar", "wchar")))

    def processes(self) -> list[int]:
        """All processes that this mount's commands have left running."""
        found = []
        entry = f"{_MARK}={self._mark}".encode()
        for path in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):  # ended meanwhile, or another user's
                if entry in path.read_bytes().split(b"\0"):
                    found.append(int(path.parent.name))
        return found

    def kill(self) -> None:
        """SIGKILL for all of its processes; the mount point stays behind as a dead mount."""
        while pids := self.processes():  # the first to go may have been replaced by the last
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for pid in pids:
                assert wait_for_end(pid, 10.0), f"process {pid} outlives SIGKILL"

    def kill_daemon(self) -> int:
        """SIGKILL for the process that serves the mount, and only for it; its ID."""
        pid = int(self.status()["pid"])
        os.kill(pid, signal.SIGKILL)
        assert wait_for_end(pid, 10.0), f"process {pid} outlives SIGKILL"
        return pid

    def dispose(self) -> None:
        """End whatever is left; never fails because there is nothing."""
        self.kill()
        while find_mount_at(self.path) is not None:
            tool = ["umount", "-l"] if os.geteuid() == 0 else ["fusermount3", "-uz"]
            subprocess.run([*tool, str(self.path)], check=True)

    def complaints(self) -> list[str]:
        """Lines of its logs that speak of a bug: tracebacks and errors."""
        logs = list(self.cache_dir.parent.rglob("*.log"))
        assert logs, "the mount has written no log"
        lines = [line for log in logs for line in log.read_text(errors="replace").splitlines()]
        return [line for line in lines if "Traceback" in line or " ERROR " in line or " CRITICAL " in line]


def _said(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout + done.stderr


def wait_for_end(pid: int, limit_s: float) -> bool:
    """Whether a process, which need not be a child of ours, has ended in time."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        waiting = select.poll()  # not select(2), which knows no descriptors from 1,024 on
        waiting.register(fd, select.POLLIN)
        return bool(waiting.poll(limit_s * 1000))
    finally:
        os.close(fd)


@contextmanager
def mounted(drive: Drive, transport: Transport, folder: Path, *options: str) -> Iterator[Mounted]:
    """A mount for the length of a block; what its log complains of fails the test."""
    mount = Mounted(drive, transport, folder, *options)
    _live.append(mount)
    try:
        mount.mount()
        yield mount
    finally:
        _live.remove(mount)
        mount.dispose()
    assert mount.complaints() == []


FreshMount = Callable[[], AbstractContextManager[Mounted]]
"""Makes another mount of the same Drive, with an empty cache, for the length of a block."""


def kill_all() -> None:
    """End the processes of all mounts that there are now."""
    for mount in list(_live):
        mount.kill()


# --- what to compare ---


@dataclass(frozen=True, slots=True)
class Entry:
    """What a tree holds at one path. `mtime_ns` is None for folders, whose time moves with what is made in them."""

    kind: str
    md5: str | None
    mode: int
    mtime_ns: int | None
    xattrs: tuple[tuple[str, bytes], ...] = ()


def entries(top: Path) -> dict[str, Entry]:
    """All below a folder, by path from there."""
    found: dict[str, Entry] = {}
    for folder, folders, files in os.walk(top):
        for name in (*folders, *files):
            path = Path(folder) / name
            found[str(path.relative_to(top))] = _entry(path)
    return found


def _entry(path: Path) -> Entry:
    status = path.lstat()
    mode = status.st_mode & 0o7777
    if path.is_symlink():
        md5 = hashlib.md5(os.fsencode(os.readlink(path))).hexdigest()
        return Entry("symlink", md5, 0o777, status.st_mtime_ns)
    own = sorted(name for name in os.listxattr(path) if name.startswith("user."))
    xattrs = tuple((name, os.getxattr(path, name)) for name in own)
    if path.is_dir():
        return Entry("folder", None, mode, None, xattrs)
    return Entry("file", md5_of(path), mode, status.st_mtime_ns, xattrs)


def md5_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def contents(found: dict[str, Entry]) -> dict[str, tuple[str, str | None]]:
    """What Drive can be asked for: kind and md5."""
    return {path: (entry.kind, entry.md5) for path, entry in found.items()}


# --- what only time shows ---


def await_true(condition: Callable[[], bool], limit_s: float = 20.0) -> None:
    """Look until it holds: nothing outside can be waited on."""
    deadline_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
