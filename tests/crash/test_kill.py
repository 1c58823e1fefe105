"""The daemon killed with SIGKILL at random times while a program works on its mount: what the program was told is
done is there at the next mount, and in the end on Drive, once.

`HYPOTHESIS_PROFILE=long` makes it 300 kills.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.crash import writer
from tests.crash.writer import content
from tests.mounting import KERNEL, KERNEL_PLAIN, MFUSEPY, Mounted, Transport, contents, drive_at, entries, mounted

KILLS = 300 if os.environ.get("HYPOTHESIS_PROFILE") == "long" else 5  # of each transport
ALIVE_S = (0.05, 1.2)
LATENCIES_S = (0.0, 0.02, 0.3)


@dataclass
class Record:
    """What must be in the mount: the content of files by path, and folders as None."""

    tree: dict[str, bytes | None] = field(default_factory=dict)
    doubt: list[dict[str, bytes | None]] = field(default_factory=list)
    """Other trees that the call under way at the end may have left."""
    partly: tuple[str, bytes, int] | None = None
    """A write under way: its path, what the file was to hold, and how much of that at least."""

    def replay(self, lines: list[str]) -> None:
        self.doubt, self.partly = [], None
        begun: list[object] = []
        base = b""
        wrote = 0
        for line in lines:
            word, *rest = json.loads(line)
            if word == "begin":
                begun, wrote = rest, 0
                before = self.tree.get(str(rest[1]))
                base = before if rest[0] == "append" and before is not None else b""
            elif word == "wrote":
                wrote = rest[0]
            else:
                self.tree = self._after(begun)
                begun = []
        if begun and begun[0] in ("write", "append"):
            path = str(begun[1])
            self.partly = (path, self._after(begun)[path] or b"", len(base) + wrote)
            if not wrote:
                self.doubt = [self.tree]
        elif begun:
            self.doubt = [self.tree, self._after(begun)]

    def _after(self, call: list[object]) -> dict[str, bytes | None]:
        tree = dict(self.tree)
        match call:
            case ["write" | "append" as how, str(path), int(seed), int(size_bytes)]:
                tree[path] = ((tree.get(path) or b"") if how == "append" else b"") + content(seed, size_bytes)
            case ["mkdir", str(path)]:
                tree[path] = None
            case ["unlink", str(path)]:
                del tree[path]
            case ["rename", str(old), str(new)]:
                tree[new] = tree.pop(old)
                for path in [path for path in tree if path.startswith(f"{old}/")]:
                    tree[new + path.removeprefix(old)] = tree.pop(path)
        return tree

    def compare(self, top: Path) -> None:
        """Check what is there, and go on from it."""
        found: dict[str, bytes | None] = {
            path: (top / path).read_bytes() if entry.kind == "file" else None for path, entry in entries(top).items()
        }
        if self.partly is not None and found not in self.doubt:
            path, wanted, least = self.partly
            there = found.get(path)
            assert there is not None, f"{path} is missing"
            assert least <= len(there) <= len(wanted), f"{path} has {len(there)} bytes: {least} had been written"
            assert wanted.startswith(there), f"{path} holds what was never written"
            self.tree = {**self.tree, path: there}
        elif self.doubt:
            assert digests(found) in [digests(tree) for tree in self.doubt]
            self.tree = found
        assert digests(found) == digests(self.tree)


def digests(tree: dict[str, bytes | None]) -> dict[str, str]:
    """Short enough to be read where they differ."""
    return {
        path: "folder" if data is None else f"{len(data)} {hashlib.md5(data).hexdigest()}"
        for path, data in sorted(tree.items())
    }


def work_and_die(mount: Mounted, record: Path, seed: int, alive_s: float) -> list[str]:
    """Returns what the writer has recorded until its mount died."""
    command = [sys.executable, writer.__file__, str(mount.path), str(record), str(seed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        with suppress(subprocess.TimeoutExpired):  # it works until its mount is gone
            process.wait(alive_s)
        mount.kill()
        told, _ = process.communicate(timeout=30)
    assert process.returncode == 0, told
    lines = record.read_text().splitlines()
    record.unlink()
    return lines


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("transport", [KERNEL, KERNEL_PLAIN, MFUSEPY], ids=lambda transport: transport.name)
def test_kill_of_the_daemon_at_any_time_loses_and_doubles_nothing(tmp_path: Path, transport: Transport) -> None:
    reason = transport.why_not()
    if reason is not None:
        pytest.skip(reason)
    chance = random.Random(20)
    record = Record()
    calls = 0
    with drive_at(tmp_path / "drive") as drive, mounted(drive, transport, tmp_path / "mount") as mount:
        for number in range(KILLS):
            drive.admin.set_network(latency_s=chance.choice(LATENCIES_S))
            alive_s = chance.uniform(*ALIVE_S)
            lines = work_and_die(mount, tmp_path / "record", chance.randrange(1 << 30), alive_s)
            calls += len(lines)
            record.replay(lines)
            mount.mount()
            try:
                record.compare(mount.path)
            except AssertionError as error:
                error.add_note(f"After kill {number}, at {alive_s:.3f} s")
                raise
            if number % 5 == 4:
                drive.admin.set_network(latency_s=0.0)
                mount.flush()
                record.compare(mount.path)
                assert drive.contents() == contents(entries(mount.path))
        print(f"{KILLS} kills among {calls} recorded calls and writes")
        assert calls > KILLS
