"""A trainer that writes more than the line carries: Drive is loadable at each instant, its newest step advances.

Time passes only while the line carries bytes or nothing is to be done, and what the trainer does falls due in it:
also in the middle of an upload.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest

from drivefs.drive.api import Content
from drivefs.model import RemoteFile, SessionState, SessionUri, UploadTarget
from tests.filesystem import Filesystem, write_file
from tests.whole import Clock, Image, WatchedDrive, Whole, drive_tree, scratch_folder, small_scale

INTERVAL_S = 15.0
KEPT = 3
LARGE_BYTES = (900, 700, 400)
SMALL_BYTES = (150, 40)
SET_BYTES = sum(LARGE_BYTES) + sum(SMALL_BYTES)
SLICE_BYTES = 100
"""The trainer may act between so many bytes."""


class LineDrive(WatchedDrive):
    """Behind a line that takes its time; `carried` is told of each slice of content."""

    def __init__(self) -> None:
        super().__init__()
        self.carried: Callable[[int], None] = lambda size_bytes: None

    def fork(self) -> LineDrive:
        other = LineDrive()
        other.__dict__ |= super().fork().__dict__ | {"carried": self.carried}
        return other

    def _carry(self, content: Content, offset: int, length: int) -> None:
        for at in range(offset, offset + length, SLICE_BYTES):
            size_bytes = min(SLICE_BYTES, offset + length - at)
            content.read_at(at, size_bytes)
            self.carried(size_bytes)

    def send(
        self, session: SessionUri, content: Content, offset: int, length: int, total_bytes: int | None
    ) -> SessionState:
        self._carry(content, offset, length)
        return super().send(session, content, offset, length, total_bytes)

    def upload_small(self, target: UploadTarget, content: Content) -> RemoteFile:
        self._carry(content, 0, content.size_bytes)
        return super().upload_small(target, content)


def shard(step: int, number: int, size_bytes: int) -> bytes:
    return (f"{step} {number} ".encode() * size_bytes)[:size_bytes]


class Trainer:
    """Saves a set of files and what points to it, and removes old ones. Files are closed one after another."""

    pointer = "latest"

    def files(self, step: int) -> dict[str, bytes]:
        sizes = (*LARGE_BYTES, *SMALL_BYTES)
        return {f"{self.prefix(step)}{number}": shard(step, number, size) for number, size in enumerate(sizes)}

    def prefix(self, step: int) -> str:
        raise NotImplementedError

    def save(self, fs: Filesystem, step: int) -> None:
        raise NotImplementedError


class Folders(Trainer):
    """A folder a step, the pointer written over itself or replaced, rotation by unlink and rmdir."""

    def __init__(self, *, replaces: bool) -> None:
        self._replaces = replaces

    def prefix(self, step: int) -> str:
        return f"checkpoint-{step}/"

    def save(self, fs: Filesystem, step: int) -> None:
        fs.mkdir(f"checkpoint-{step}")
        for path, data in self.files(step).items():
            write_file(fs, path, data)
        if self._replaces:
            write_file(fs, "latest.tmp", str(step).encode())
            fs.rename("latest.tmp", "latest")
        else:
            write_file(fs, "latest", str(step).encode())
        old = step - KEPT
        if old > 0:
            for path in self.files(old):
                fs.unlink(path)
            fs.rmdir(f"checkpoint-{old}")


class Saver(Trainer):
    """tf.train.Saver: everything in one folder, temporary names that are renamed, the graph after the pointer."""

    pointer = "checkpoint"

    def prefix(self, step: int) -> str:
        return f"model.ckpt-{step}."

    def save(self, fs: Filesystem, step: int) -> None:
        for path, data in self.files(step).items():
            write_file(fs, f"{path}.tempstate17", data)
            fs.rename(f"{path}.tempstate17", path)
        write_file(fs, "checkpoint.tmp0a", str(step).encode())
        fs.rename("checkpoint.tmp0a", "checkpoint")
        write_file(fs, f"{self.prefix(step)}meta.tmp1b", b"graph")
        fs.rename(f"{self.prefix(step)}meta.tmp1b", f"{self.prefix(step)}meta")
        old = step - KEPT
        if old > 0:
            for path in (*self.files(old), f"{self.prefix(old)}meta"):
                fs.unlink(path)


class Stream:
    """A trainer on a mount behind a line, and what Drive shows meanwhile."""

    def __init__(self, whole: Whole, trainer: Trainer, line_bytes_s: float) -> None:
        self.whole = whole
        self.trainer = trainer
        self.line_bytes_s = line_bytes_s
        self.saved = 0
        self.due_s = whole.clock.time()
        self.end_s = 0.0
        self.advances: list[tuple[float, int]] = []
        """When Drive's pointer came to name another step, and which."""
        self.problems: list[str] = []
        self.kill_at_s: float | None = None
        self.image: Image | None = None
        self.drive.carried = self.carried

    @property
    def drive(self) -> LineDrive:
        assert isinstance(self.whole.drive, LineDrive)
        return self.whole.drive

    def carried(self, size_bytes: int) -> None:
        if self.image is None:
            self.pass_s(size_bytes / self.line_bytes_s)

    def pass_s(self, by_s: float) -> None:
        """Let time pass, with what is due in it."""
        clock = self.whole.clock
        until_s = clock.time() + by_s
        while min(self.due_s, self.end_s) <= until_s and self.due_s < self.end_s and self.image is None:
            clock.now_ns = max(clock.now_ns, int(self.due_s * 1e9))
            self.due_s += INTERVAL_S
            self.saved += 1
            with self.whole.faultless():
                self.trainer.save(self.whole.fs, self.saved)
        clock.now_ns = max(clock.now_ns, int(until_s * 1e9))
        if self.kill_at_s is not None and self.image is None and clock.time() >= self.kill_at_s:
            self.image = self.whole.image()

    def look(self, when: str, method: str) -> None:
        """Whatever the pointer on Drive names is there, whole and right."""
        if when != "after" or self.image is not None:
            return
        tree = drive_tree(self.drive)
        pointer = tree.get(self.trainer.pointer)
        if pointer is None:
            return
        step = int(self.drive.content(pointer.id))
        for path, data in self.trainer.files(step).items():
            if path not in tree or self.drive.content(tree[path].id) != data:
                self.problems.append(f"after {self.saved} steps Drive names {step}, and lacks its {path}")
        if not self.advances or self.advances[-1][1] != step:
            self.advances.append((self.whole.clock.time(), step))

    def run(self, for_s: float) -> None:
        self.end_s = self.whole.clock.time() + for_s
        while self.whole.clock.time() < self.end_s:
            self.drive.watch = self.look
            wait_s = self.whole.uploader.dispatch()
            self.drive.watch = lambda when, method: None
            assert self.problems == []
            if self.image is not None:
                self.whole.crash(self.image)
                self.drive.carried = self.carried
                self.image = self.kill_at_s = None
            else:
                self.pass_s(min(max(wait_s, 0.05), 0.5))

    def longest_s(self) -> float:
        """Between two steps that Drive came to name, and until the end."""
        times = [at_s for at_s, _ in self.advances] + [self.end_s]
        return max(later - earlier for earlier, later in pairwise(times))


@contextmanager
def stream(trainer: Trainer, *, sets_per_interval: float) -> Iterator[Stream]:
    clock = Clock()
    with scratch_folder() as folder, small_scale(clock):
        whole = Whole(folder / "cache", clock, LineDrive())
        try:
            yield Stream(whole, trainer, SET_BYTES * sets_per_interval / INTERVAL_S)
        finally:
            whole.abandon()


TRAINERS: dict[str, Trainer] = {
    "latest overwritten": Folders(replaces=False),
    "latest replaced": Folders(replaces=True),
    "Saver": Saver(),
}


@pytest.mark.parametrize("sets_per_interval", [2.0, 0.56, 0.2])
@pytest.mark.parametrize("name", TRAINERS)
def test_stream_keeps_drive_loadable_and_its_newest_step_advancing(name: str, sets_per_interval: float) -> None:
    """0.56: 1 GiB every 15 s over 40 MB/s."""
    with stream(TRAINERS[name], sets_per_interval=sets_per_interval) as made:
        made.run(60 * INTERVAL_S)
        set_s = INTERVAL_S / sets_per_interval
        assert made.longest_s() < KEPT * set_s + INTERVAL_S
        steps = [step for _, step in made.advances]
        assert steps == sorted(steps)
        made.due_s = made.end_s
        made.whole.drain(2_000)
        tree = drive_tree(made.drive)
        assert int(made.drive.content(tree[TRAINERS[name].pointer].id)) == made.saved
        assert sorted(path for path, file in tree.items() if file.revision is not None) == sorted(local_files(made))
        assert not [file.name for file in made.drive.files.values() if file.trashed and "tmp" in file.name]


def local_files(made: Stream) -> list[str]:
    found: list[str] = []
    waiting = [""]
    while waiting:
        prefix = waiting.pop()
        for name in made.whole.fs.names(prefix.rstrip("/")):
            if made.whole.fs.status(prefix + name).is_folder:
                waiting.append(f"{prefix}{name}/")
            else:
                found.append(prefix + name)
    return found


@pytest.mark.parametrize("name", TRAINERS)
def test_stream_goes_on_after_kills_at_any_time(name: str) -> None:
    with stream(TRAINERS[name], sets_per_interval=0.56) as made:
        for _ in range(9):
            made.kill_at_s = made.whole.clock.time() + 2.3 * INTERVAL_S
            made.run(3.1 * INTERVAL_S)
        made.due_s = made.end_s
        made.whole.drain(2_000)
        tree = drive_tree(made.drive)
        assert int(made.drive.content(tree[TRAINERS[name].pointer].id)) == made.saved
        assert sorted(path for path, file in tree.items() if file.revision is not None) == sorted(local_files(made))
        assert len(made.advances) >= 3
