"""A trainer that writes more than the line carries, TensorFlow's way: what of it Drive can load, and how soon."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from bench.measured import Case, Limit, Measured, MiB, Network
from bench.systems import System
from drivefs.emulator.client import Running

SHARDS = 4
KEPT = 3
LOOK_S = 0.2


@dataclass
class Trainer:
    """Saves `set_bytes` every `interval_s`: a folder a step, a few large files and a small one in it, `latest`
    written over itself, and the oldest folder removed."""

    folder: Path
    set_bytes: int
    interval_s: float
    steps: int
    saved: int = 0
    slowest_s: float = 0.0
    checksums: dict[str, dict[str, str]] = field(default_factory=dict)
    """md5 of `latest` for a step: of each of that step's files, by path."""

    def __post_init__(self) -> None:
        self._blocks = [os.urandom(MiB) for _ in range(8)]
        self.problem: BaseException | None = None
        self.enough = threading.Event()

    def run(self) -> None:
        """The body of a thread."""
        try:
            began = time.monotonic()
            for step in range(1, self.steps + 1):
                if self.enough.wait(max(0.0, began + (step - 1) * self.interval_s - time.monotonic())):
                    return
                self._save(step)
                self.saved = step
        except BaseException as error:
            self.problem = error
            raise

    def _save(self, step: int) -> None:
        began = time.monotonic()
        folder = self.folder / f"checkpoint-{step}"
        folder.mkdir()
        found: dict[str, str] = {}
        for number in range(SHARDS):
            path = folder / f"model-{number}.bin"
            digest = hashlib.md5(usedforsecurity=False)
            with path.open("wb", buffering=0) as file:
                for at in range(self.set_bytes // SHARDS // MiB):
                    block = f"{step} {number} {at} ".encode().ljust(64) if at == 0 else b""
                    data = block + self._blocks[(step + at) % 8][len(block) :]
                    file.write(data)
                    digest.update(data)
            found[str(path.relative_to(self.folder))] = digest.hexdigest()
        index = f"index of {step}".encode()
        (folder / "model.index").write_bytes(index)
        found[f"checkpoint-{step}/model.index"] = hashlib.md5(index, usedforsecurity=False).hexdigest()
        pointer = f"checkpoint-{step}".encode()
        self.checksums[hashlib.md5(pointer, usedforsecurity=False).hexdigest()] = found
        (self.folder / "latest").write_bytes(pointer)
        if step > KEPT:
            shutil.rmtree(self.folder / f"checkpoint-{step - KEPT}")
        self.slowest_s = max(self.slowest_s, time.monotonic() - began)


@dataclass
class Watch:
    """What Drive was seen to hold."""

    trainer: Trainer
    advances_s: list[float] = field(default_factory=list)
    """When `latest` on Drive came to name another step, on the monotonic clock."""
    step: str | None = None
    looks: int = 0
    problems: list[str] = field(default_factory=list)

    def look(self, emulator: Running) -> None:
        """Compare what `latest` names with what is there."""
        held = {item["path"]: item.get("md5Checksum") for item in emulator.admin.tree()}
        self.looks += 1
        latest = held.get("latest")
        if latest is None:
            return
        for path, md5 in self.trainer.checksums[latest].items():
            if held.get(path) != md5:
                self.problems.append(f"Drive names the step of {path}, and holds {held.get(path)} of it")
        if latest != self.step:
            self.step = latest
            self.advances_s.append(time.monotonic())

    def until(self, done: Callable[[], bool], emulator: Running) -> None:
        """Look again and again; no further than to the first problem."""
        while not done() and not self.problems and self.trainer.problem is None:
            self.look(emulator)
            time.sleep(LOOK_S)

    def longest_s(self, end_s: float) -> float:
        """Between two advances, and from the last one to the end."""
        return max(later - earlier for earlier, later in pairwise([*self.advances_s, end_s]))


def stream(system: System, emulator: Running, set_bytes: int, interval_s: float, steps: int) -> Measured:
    trainer = Trainer(system.folder, set_bytes, interval_s, steps)
    watch = Watch(trainer)
    thread = threading.Thread(target=trainer.run)
    began = time.monotonic()
    thread.start()
    end_s = began + interval_s * steps
    watch.until(lambda: time.monotonic() >= end_s, emulator)
    thread.join()
    emulator.admin.set_network(shared_bandwidth_bytes_s=None, bandwidth_bytes_s=None)  # the end is not measured
    if trainer.problem is not None:
        raise trainer.problem
    if watch.problems:
        raise AssertionError(watch.problems[0])
    return Measured(
        {
            "saved": trainer.saved,
            "slowest_save_s": trainer.slowest_s,
            "advances": len(watch.advances_s),
            "first_s": watch.advances_s[0] - began if watch.advances_s else float("nan"),
            "longest_s": watch.longest_s(end_s) if watch.advances_s else float("nan"),
            "looks": watch.looks,
        }
    )


def cases(quick: bool) -> dict[str, Case]:
    size, every_s, steps, line = (32 * MiB, 1.0, 20, 20e6) if quick else (1024 * MiB, 15.0, 16, 40e6)

    def limit(network: Network) -> Limit:
        each_s = network.transfer_s(size) + 2 * network.latency_s
        return Limit({"first_s": each_s, "longest_s": each_s}, "the bytes of the newest set alone")

    return {
        f"stream of {size // MiB} MiB every {every_s:g} s over one line of {line / 1e6:g} MB/s": Case(
            lambda system, emulator: stream(system, emulator, size, every_s, steps),
            "longest_s",
            on_disk=False,
            asked_for=True,
            limit=limit,
            network=Network(bandwidth_bytes_s=line, shared_bandwidth_bytes_s=line),
            within_s=3 * steps * every_s,
        )
    }
