"""demo: what drivefs is for, on a Drive that runs on this machine.

Saves a checkpoint on a mount of the emulator as TensorFlow's Saver does, waits until it is on Drive, compares, and
restores it through a second mount that has an empty cache. Each step goes through the real command.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from drivefs.cli.progress import size_text
from drivefs.config import parse_size
from drivefs.emulator.client import Running
from drivefs.emulator.command import arguments_of
from drivefs.emulator.options import Options
from drivefs.errors import UsageError, UserError
from drivefs.mounts import find_mount_at, unmount
from drivefs.records import forget_record

LATENCY_S = 0.08
BANDWIDTH_BYTES_S = 40e6
"""A request and a connection of the demo's network: Drive's, as Colab sees it."""

WRITE_BYTES = 8 << 20
"""Saver writes its data file in pieces of this size."""

STEP = 1000


@dataclass
class Demo:
    """One run; everything it makes lies in `folder`."""

    folder: Path
    console: Console
    emulator: Running | None = None
    caches: list[Path] = field(default_factory=list)

    @property
    def mountpoint(self) -> Path:
        return self.folder / "drive"

    # --- the steps ---

    def start_drive(self) -> Running:
        self.say("A Google Drive on this machine (80 ms a request, 40 MB/s a connection)")
        options = Options(
            directory=self.folder / "emulator", latency_s=LATENCY_S, bandwidth_bytes_s=BANDWIDTH_BYTES_S
        )
        with (self.folder / "emulator.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "drivefs.emulator", *arguments_of(options)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise UserError(f"The emulator ended with {process.wait()}: {self.folder}/emulator.log says why.")
        self.emulator = Running(process, json.loads(line))
        self.note(f"it answers at {self.emulator.endpoint}")
        return self.emulator

    def mount(self, drive: Running, cache: str) -> None:
        self.caches.append(self.folder / cache)
        self.drivefs(
            "mount",
            self.mountpoint,
            *("--endpoint", drive.endpoint),
            *("--credentials", drive.credentials_file),
            *("--cache-dir", self.folder / cache),
        )

    def save(self, size_bytes: int) -> dict[str, str]:
        """Save a checkpoint of about this size; md5 by path below the mount point."""
        self.say(f"Save a checkpoint of {size_text(size_bytes)}, as tf.train.Saver does")
        folder = self.mountpoint / "run"
        folder.mkdir()
        pieces = [WRITE_BYTES] * (size_bytes // WRITE_BYTES) + [size_bytes % WRITE_BYTES]
        numbers = random.Random(STEP)
        data = [numbers.randbytes(piece) for piece in pieces if piece]
        started_s = time.monotonic()
        prefix = f"model.ckpt-{STEP}"
        saved = {
            name: _save(folder / name, content)
            for name, content in (
                (f"{prefix}.data-00000-of-00001", data),
                (f"{prefix}.index", [numbers.randbytes(12_000)]),
                ("checkpoint", [f'model_checkpoint_path: "{prefix}"\n'.encode()]),
                (f"{prefix}.meta", [numbers.randbytes(400_000)]),
            )
        }
        seconds = time.monotonic() - started_s
        self.note(f"saved in {seconds:.2f} s, {size_text(size_bytes / seconds)}/s: nothing waited for the network")
        return {f"run/{name}": md5 for name, md5 in saved.items()}

    def compare_with_drive(self, drive: Running, saved: dict[str, str]) -> None:
        self.say("What Drive holds")
        table = Table("path", "size", "md5 on Drive", "as saved")
        found: dict[str, Any] = {}
        for item in sorted(drive.admin.tree(), key=lambda item: str(item["path"])):
            md5 = item.get("md5Checksum")
            if md5 is None:
                continue
            found[item["path"]] = md5
            same = "yes" if saved.get(item["path"]) == md5 else "NO"
            table.add_row(item["path"], size_text(int(item["size"])), md5, same)
        self.console.print(table)
        if found != saved:
            raise UserError("Drive does not hold what was saved.")

    def restore(self, saved: dict[str, str]) -> None:
        self.say("Restore it on another machine, that is, with an empty cache")
        started_s = time.monotonic()
        newest = (self.mountpoint / "run" / "checkpoint").read_text().split('"')[1]
        self.note(f"the newest checkpoint is {newest}")
        restored = {}
        for path in sorted((self.mountpoint / "run").iterdir()):
            with path.open("rb") as file:
                restored[f"run/{path.name}"] = hashlib.file_digest(file, "md5").hexdigest()
        if restored != saved:
            raise UserError("What was restored is not what was saved.")
        self.note(f"restored and compared in {time.monotonic() - started_s:.1f} s: every byte is the same")

    # --- how they are done ---

    def say(self, text: str) -> None:
        self.console.print(f"\n[bold]{text}[/bold]", highlight=False)

    def note(self, text: str) -> None:
        self.console.print(f"  {text}", highlight=False, markup=False, soft_wrap=True)

    def drivefs(self, *arguments: str | Path) -> None:
        """Run the command and show it. Raises UserError when it fails."""
        words = [str(argument) for argument in arguments]
        self.say(f"$ drivefs {' '.join(words)}")
        kept = {
            name: value for name, value in os.environ.items() if name == "DRIVEFS_DEBUG" or name[:8] != "DRIVEFS_"
        }
        code = subprocess.run(
            [sys.executable, "-P", "-m", "drivefs", *words],
            env={**kept, "XDG_CONFIG_HOME": str(self.folder / "config")},
            check=False,
        ).returncode
        if code:
            raise UserError(f"'drivefs {words[0]}' ended with {code}.")

    def dispose(self) -> None:
        """End and remove whatever there is of it."""
        if find_mount_at(self.mountpoint) is not None:
            try:
                self.drivefs("umount", "--no-wait", self.mountpoint)
            except UserError:
                unmount(self.mountpoint, lazy=True)
        if self.emulator is not None:
            self.emulator.stop()
        try:
            for cache in self.caches:
                forget_record(cache)
        finally:
            shutil.rmtree(self.folder)


def _save(path: Path, pieces: list[bytes]) -> str:
    """Write to a temporary name, then rename; the md5 of what was written."""
    digest = hashlib.md5(usedforsecurity=False)
    temporary = path.with_name(f"{path.name}.tempstate{random.randrange(10**9)}")
    with temporary.open("wb", buffering=0) as file:
        for piece in pieces:
            file.write(piece)
            digest.update(piece)
    temporary.rename(path)
    return digest.hexdigest()


@contextlib.contextmanager
def _disposed(end: Callable[[], None]) -> Iterator[None]:
    """Call `end` when the block failed."""
    try:
        yield
    except BaseException:
        end()
        raise


@click.command()
@click.option("--size", default="200M", show_default=True, metavar="SIZE", help="Of the checkpoint.")
@click.option("--keep", is_flag=True, help="Leave it mounted, and say how to look around and how to end it.")
def demo(size: str, keep: bool) -> None:
    """Save a checkpoint on an emulated Drive and restore it, from the mount to the last comparison."""
    try:
        size_bytes = parse_size(size)
    except ValueError as error:
        raise UsageError(f"--size is {size!r}, and should be {error}.") from None
    run = Demo(Path(tempfile.mkdtemp(prefix="drivefs-demo-")), Console())
    with _disposed(run.dispose):
        drive = run.start_drive()
        run.mount(drive, "cache")
        saved = run.save(size_bytes)
        run.drivefs("flush", run.mountpoint)
        run.compare_with_drive(drive, saved)
        run.drivefs("umount", run.mountpoint)
        run.mount(drive, "empty-cache")
        run.restore(saved)
        if keep:
            _say_kept(run, drive)
            return
        run.drivefs("umount", run.mountpoint)
    run.dispose()
    run.say("All of it held: saved at once, sent in order, the same bytes on Drive and in a fresh mount.")


def _say_kept(run: Demo, drive: Running) -> None:
    # From a checkout's virtual environment the command is not on the PATH.
    drivefs = "drivefs" if shutil.which("drivefs") else Path(sys.executable).with_name("drivefs")
    run.say("It stays mounted. Look around:")
    for line in (
        f"ls -l {run.mountpoint}/run",
        f"cp SOME-FILE {run.mountpoint}/ && {drivefs} flush {run.mountpoint}",
        f"{drivefs} status {run.mountpoint}",
        f"curl -s {drive.admin.endpoint}/_admin/tree      # what the emulated Drive holds",
    ):
        run.note(line)
    run.say("To end it:")
    run.note(f"{drivefs} umount {run.mountpoint} && kill {drive.process.pid} && rm -r {run.folder}")
