"""What is measured: a folder of some system, with a Drive behind it or the bare disk."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from drivefs.emulator.client import Running

RCLONE_BEST = [
    "--vfs-cache-mode=full",
    "--vfs-write-back=0s",
    "--dir-cache-time=1h",
    "--poll-interval=5s",
    "--transfers=32",
    "--checkers=32",
    "--tpslimit=0",
    "--drive-pacer-min-sleep=1ms",
    "--drive-pacer-burst=1000",
    "--drive-chunk-size=64M",
    "--buffer-size=16M",
    "--vfs-read-chunk-size=16M",
    "--vfs-read-chunk-streams=8",
]


RCLONE_COPY_BEST = [
    "--transfers=16",
    "--checkers=16",
    "--fast-list",
    "--tpslimit=0",
    "--drive-pacer-min-sleep=1ms",
    "--drive-pacer-burst=1000",
    "--drive-chunk-size=64M",
]

COPIERS = ("drivefs cp", "rclone copy", "rclone copy best flags")
"""Systems that copy, and mount nothing."""


@dataclass
class System:
    """A folder to work in, and the process that serves it."""

    folder: Path
    pid: int | None
    remount: Callable[[], None]
    """Unmount it, and mount it again with the cache that it has."""
    kill: Callable[[], None]
    """kill -9 for its process; it serves again when this returns."""
    copy: Callable[[str, str], None] | None = None
    """Copies what is in a folder into another one, without a mount; on Drive it is `drive:PATH/`."""
    ready_s: float = 0.0
    """The last mount took, until its command had returned or it could be looked into."""


MOUNT_S = 60.0
"""Within which a mount is there."""
FLUSH_S = 120.0
"""What is not on Drive then, when a case is over, is left."""
FAILED_S = 5.0
"""The same of a case that failed."""


def wait_until(condition: Callable[[], bool]) -> None:
    """Poll, for nothing outside can be waited on; the step is far below what is measured. The time of the case bounds
    it (`Case.within_s`)."""
    while not condition():
        time.sleep(0.02)


def cpu_s(pid: int) -> float:
    """What a process has used of the processors so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_memory_mb(pid: int) -> float:
    """VmHWM of a process: the most that it ever had, in 10^6 bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024 / 1e6
    raise ValueError("no VmHWM")


@contextmanager
def disk(emulator: Running, work: Path) -> Iterator[System]:
    folder = work / "disk"
    folder.mkdir()
    yield System(folder, None, lambda: None, lambda: None)
    shutil.rmtree(folder)


@contextmanager
def drivefs(emulator: Running, work: Path, flags: list[str]) -> Iterator[System]:
    folder, cache = work / "drivefs", work / "drivefs-cache"
    command = [sys.executable, "-m", "drivefs"]
    where = ["--endpoint", emulator.endpoint, "--credentials", str(emulator.credentials_file)]

    def run(*arguments: str) -> str:
        done = subprocess.run([*command, *arguments], check=True, stdout=subprocess.PIPE, text=True)
        return done.stdout

    def pid() -> int:
        return int(json.loads(run("status", str(folder), "--json"))["mounts"][0]["pid"])

    def mount() -> None:
        began = time.perf_counter()
        run("mount", str(folder), *where, "--cache-dir", str(cache), *flags)
        system.ready_s = time.perf_counter() - began
        system.pid = pid()

    def remount() -> None:
        run("umount", str(folder))
        mount()

    def kill() -> None:
        assert system.pid is not None
        os.kill(system.pid, signal.SIGKILL)
        system.pid = pid()  # it is brought back by itself, which status waits for

    system = System(folder, None, remount, kill)
    mount()
    worked = False
    try:
        yield system
        worked = True
    finally:
        # What is left of a case that failed goes nowhere; its Drive may be gone.
        if (
            not worked
            or subprocess.run([*command, "umount", str(folder), "--timeout", str(FLUSH_S)], check=False).returncode
        ):
            run("umount", str(folder), "--no-wait")
        shutil.rmtree(cache)
        folder.rmdir()


def rclone_binary() -> str:
    beside = Path(sys.executable).with_name("rclone")
    return str(beside) if beside.exists() else "rclone"


@contextmanager
def drivefs_cp(emulator: Running, work: Path) -> Iterator[System]:
    """The command without a mount."""
    command = [sys.executable, "-m", "drivefs", "cp", "-r", "--endpoint", emulator.endpoint,
               "--credentials", str(emulator.credentials_file)]  # fmt: skip
    with _copier(work, command, {**os.environ, "XDG_STATE_HOME": str(work)}) as system:
        yield system


@contextmanager
def rclone_copy(emulator: Running, work: Path, flags: list[str]) -> Iterator[System]:
    """The command without a mount."""
    config, environment = _of_rclone(emulator, work)
    with _copier(work, [rclone_binary(), "copy", "--config", str(config), *flags], environment) as system:
        yield system


@contextmanager
def _copier(work: Path, command: list[str], environment: dict[str, str]) -> Iterator[System]:
    folder = work / "copied"
    folder.mkdir()

    def copy(source: str, target: str) -> None:
        subprocess.run([*command, source, target], check=True, env=environment, stdout=subprocess.DEVNULL)

    yield System(folder, None, lambda: None, lambda: None, copy=copy)
    shutil.rmtree(folder)


def _of_rclone(emulator: Running, work: Path) -> tuple[Path, dict[str, str]]:
    """Its configuration with the remote `drive`, and the environment that leads it to the emulator."""
    config = work / "rclone.conf"
    credentials = json.loads(Path(emulator.credentials_file).read_text())
    token = {"access_token": emulator.admin.token(), "token_type": "Bearer", "expiry": "2100-01-01T00:00:00Z"}
    config.write_text(
        "[drive]\ntype = drive\nscope = drive\n"
        f"client_id = {credentials['client_id']}\nclient_secret = {credentials['client_secret']}\n"
        f"token = {json.dumps(token)}\n"
    )
    return config, {
        **os.environ,
        "HTTPS_PROXY": str(emulator.proxy),
        "SSL_CERT_FILE": str(emulator.ca_file),
        "NO_PROXY": "",
    }


@contextmanager
def rclone(emulator: Running, work: Path, flags: list[str]) -> Iterator[System]:
    folder, cache = work / "rclone", work / "rclone-cache"
    config, environment = _of_rclone(emulator, work)
    command = [rclone_binary(), "mount", "drive:", str(folder), "--config", str(config), "--cache-dir", str(cache),
               "--vfs-cache-mode", "full", *flags]  # fmt: skip
    with _in_foreground(folder, cache, command, environment) as system:
        yield system


@contextmanager
def peer(emulator: Running, work: Path, command: str) -> Iterator[System]:
    """Any other mount: `command` runs in the foreground until its mount point is unmounted."""
    folder, cache = work / "peer", work / "peer-cache"
    words = command.format(
        mountpoint=folder,
        cache=cache,
        endpoint=emulator.endpoint,
        credentials=emulator.credentials_file,
        proxy=emulator.proxy,
        ca=emulator.ca_file,
    )
    with _in_foreground(folder, cache, ["sh", "-c", f"exec {words}"], dict(os.environ)) as system:
        yield system


@contextmanager
def _in_foreground(folder: Path, cache: Path, command: list[str], environment: dict[str, str]) -> Iterator[System]:
    """A mount whose command runs until it is unmounted. Its output goes to a log beside the cache."""
    folder.mkdir()
    cache.mkdir()
    log = cache.with_suffix(".log").open("wb")
    process: subprocess.Popen[bytes]

    def mount() -> None:
        nonlocal process
        began = time.perf_counter()
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        while not os.path.ismount(folder):
            if process.poll() is not None or time.perf_counter() - began > MOUNT_S:
                raise TimeoutError(f"it did not mount; its log is {log.name}")
            time.sleep(0.02)
        system.ready_s, system.pid = time.perf_counter() - began, process.pid

    def unmount(patience_s: float = FLUSH_S) -> None:
        subprocess.run(["fusermount3", "-u", str(folder)], check=False)
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            subprocess.run(["fusermount3", "-uz", str(folder)], check=False)

    def remount() -> None:
        unmount()
        mount()

    def kill() -> None:
        process.kill()
        process.wait()
        subprocess.run(["fusermount3", "-uz", str(folder)], check=True)
        mount()

    system = System(folder, None, remount, kill)
    with log:
        mount()
        patience_s = FAILED_S
        try:
            yield system
            patience_s = FLUSH_S
        finally:
            unmount(patience_s)
            shutil.rmtree(cache, ignore_errors=True)
            folder.rmdir()
