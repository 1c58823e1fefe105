"""A power cut at every call that the store makes of its disk, beneath content and database alike: the next mount
shows the last sync point, fsynced data is there, and nothing wrong gets to Drive.

The cache lies on a filesystem that writes down every call (tests/crash/disk.py); what a cut may leave is made from
that, by chance: what was not flushed is dropped, kept, reordered and torn. `HYPOTHESIS_PROFILE=long` cuts everywhere.
"""

from __future__ import annotations

import copy
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest

from drivefs.model import DriveId, Kind
from drivefs.store.queue import JobState
from drivefs.store.sync_points import SyncPoint, SyncPoints
from tests.crash import disk
from tests.crash.test_every_step import (
    LARGE,
    LONG,
    OTHER,
    SCRIPTS,
    SMALL,
    A,
    B,
    Dispatch,
    overwrite_all,
    random_script,
    removable,
    write,
)
from tests.filesystem import write_file
from tests.model import steps
from tests.model.reference import Reference
from tests.model.steps import Bytes, Step
from tests.model.world import World, world
from tests.mounting import MFUSEPY
from tests.whole import WatchedDrive, scratch_folder

CUTS_A_SCRIPT = 1_000_000 if LONG else 5
IMAGES_A_CUT = 2 if LONG else 1


@dataclass(frozen=True)
class SyncAll(Step):
    """What housekeeping does every 5 s."""

    def run(self, world: World) -> None:
        world.whole.store.checkpoint()


S = SyncAll()

POWER_SCRIPTS: dict[str, list[Step]] = {
    "rotation without a line": [
        *(write(A, LARGE), write(B, Bytes(7, 20)), S, write(steps.Place(0, 2), LARGE), steps.Unlink(A), S),
        *(write(A, OTHER), steps.Rename(A, B), Dispatch(1), S, Dispatch(1), Dispatch(1)),
    ],
    "in place": [
        *(write(A, LARGE), S, write(A, SMALL, 0, 100), write(A, OTHER, os.O_APPEND), S, steps.Truncate(A, 300), S),
        *(Dispatch(1), write(A, OTHER, 0, 50), S, write(A, SMALL, 0, 0), Dispatch(1), write(A, SMALL, 0, 10)),
    ],
    "a log that is fsynced": [
        steps.Open(A, os.O_RDWR | os.O_CREAT),
        *(steps.WriteHandle(0, 0, SMALL), steps.SyncHandle(0), steps.WriteHandle(0, 90, OTHER)),
        *(steps.WriteHandle(0, 210, SMALL), steps.SyncHandle(0), steps.WriteHandle(0, 20, OTHER)),
        *(steps.SyncHandle(0), steps.WriteHandle(0, 300, OTHER), Dispatch(1), steps.CloseHandle(0), Dispatch(1)),
    ],
    "partly local": [
        *(write(A, LARGE), Dispatch(1), Dispatch(1), S, steps.Evict(), write(A, SMALL, 0, 100), S),
        *(write(A, OTHER, 0, 500), steps.Truncate(A, 400), write(A, SMALL, 0, 600), S, Dispatch(1), Dispatch(1)),
    ],
}


@dataclass(frozen=True)
class Instant:
    """A sync point as the model sees it."""

    begun: int  # the trace's length
    model: Reference


class Recording:
    """A world on a disk whose power can be cut, and what it was when."""

    def __init__(self, made: World, trace: Path) -> None:
        self.world = made
        self._trace = trace
        self.instants: list[Instant] = []
        self.ended: list[tuple[int, Instant]] = []  # the trace's length when the point was certain
        self.drives: list[tuple[int, WatchedDrive, frozenset[DriveId], frozenset[bytes]]] = []
        self._allowed: frozenset[DriveId] = frozenset()

    @property
    def length(self) -> int:
        return self._trace.stat().st_size

    def begin(self) -> None:
        model = copy.deepcopy(self.world.model)
        for _, entry in model.walk():
            entry.mtime_ns = None
        self.instants.append(Instant(self.length, model))

    def end(self) -> None:
        self.ended.append((self.length, self.instants[-1]))

    def note(self) -> None:
        """Drive, and what may be there, as from now on."""
        self.world.note()
        allowed = frozenset(self.world.trash_allowed) | self._allowed
        self.drives.append((self.length, self.world.whole.drive.fork(), allowed, frozenset(self.world.contents)))

    def run(self, step: Step) -> None:
        """Take a step, and note what Drive has after each of its calls."""
        drive = self.world.whole.drive
        self._allowed |= removable(self.world, step)
        drive.watch = lambda when, method: self.note() if when == "after" else None
        try:
            step.run(self.world)
        finally:
            drive.watch = lambda when, method: None
        self.note()


@contextmanager
def disk_at(top: Path) -> Iterator[tuple[Path, Path]]:
    """A folder whose power can be cut, and its trace."""
    mountpoint, backing, trace = top / "mnt", top / "back", top / "trace"
    for folder in (mountpoint, backing):
        folder.mkdir()
    trace.touch()
    command = [sys.executable, "-m", "tests.crash.disk", str(mountpoint), str(backing), str(trace)]
    process = subprocess.Popen(command)
    try:
        while not os.path.ismount(mountpoint):
            assert process.poll() is None, "the disk cannot be mounted"
        yield mountpoint, trace
    finally:
        subprocess.run(["fusermount3", "-uz", str(mountpoint)], check=False)
        process.wait(30)


@contextmanager
def watched(recording: Recording) -> Iterator[None]:
    begin, end = SyncPoints.begin, SyncPoints.end

    def begin_watched(points: SyncPoints) -> int:
        recording.begin()
        return begin(points)

    def end_watched(points: SyncPoints, point: SyncPoint) -> None:
        end(points, point)
        recording.end()

    with mock.patch.object(SyncPoints, "begin", begin_watched), mock.patch.object(SyncPoints, "end", end_watched):
        yield


def run_and_cut(script: list[Step], seed: int) -> int:
    """Run a script, then cut the power at places of its trace; returns how many cuts there were."""
    chance = random.Random(seed)
    cuts = 0
    with ExitStack() as stack:
        # syncfs(2) is not handed to a FUSE filesystem.
        stack.enter_context(mock.patch("drivefs.store.content_points.SYNC_ALL_ABOVE", 1 << 30))
        top = stack.enter_context(scratch_folder())
        mountpoint, trace = stack.enter_context(disk_at(top))
        made = stack.enter_context(world(mountpoint / "cache"))
        recording = Recording(made, trace)
        with watched(recording):
            recording.note()
            recording.begin()
            made.whole.store.sync()
            recording.end()
            for step in script:
                recording.run(step)
        last = recording.length
        places = [at for at, _ in disk.records(trace) if recording.ended[0][0] < at <= last]
        chosen = set(places if len(places) <= CUTS_A_SCRIPT else chance.sample(places, CUTS_A_SCRIPT))
        left = disk.Disk()
        for at, record in disk.records(trace):
            left.take(record)
            for number in range(IMAGES_A_CUT if at in chosen else 0):
                image = top / f"cut-{at}-{number}"
                left.leave(image, seed + number)
                cuts += 1
                try:
                    verify(recording, at, image / "cache", go_on=chance.random() < 0.5)
                except BaseException as error:
                    error.add_note(f"Cut at {at} of the trace, after {record[:2]}; image {number} of seed {seed}")
                    raise
    return cuts


def verify(recording: Recording, at: int, folder: Path, *, go_on: bool) -> None:
    """Mount what a cut has left: it is the last sync point, or the one that was under way."""
    certain = [instant for ended, instant in recording.ended if ended <= at]
    begun = [instant for instant in recording.instants if instant.begun <= at]
    candidates = [certain[-1], *(each for each in begun[-1:] if each is not certain[-1])]
    _, drive, allowed, contents = [each for each in recording.drives if each[0] <= at][-1]
    # The effect of a call may be there before the disk is asked for anything more.
    later = [each for each in recording.drives if each[0] > at][:1]
    clock = recording.world.whole.clock
    now_ns = clock.now_ns
    failure: AssertionError | None = None
    for instant in candidates:
        image = folder.with_name(f"try-{candidates.index(instant)}")
        subprocess.run(["cp", "-r", str(folder), str(image)], check=True)
        made = World(image, clock, drive.fork(), copy.deepcopy(instant.model), boot_id="second")
        try:
            made.trash_allowed |= allowed
            made.contents |= contents
            for _, _, _, more in later:
                made.contents |= more
            check(made)
        except AssertionError as error:
            failure = error
            made.whole.abandon()
            continue
        try:
            if go_on:
                overwrite_all(made)
            steps.Drain().run(made)
            made.whole.store.sync()
            for kept in made.whole.store.quarantine.all():
                assert kept.reason
        finally:
            clock.now_ns = now_ns
            made.whole.abandon()
        return
    assert failure is not None
    raise failure


def check(made: World) -> None:
    """All is as in the model, but for what changed in place, of which the bytes are old or new; that is not sent."""
    store = made.whole.store
    held = [job for job in store.journal.parked(1_000) if job.state is JobState.HELD]
    assert len(held) == made.whole.recovered.unsure
    paths = [store.nodes.path(job.inode) for job in held]
    for path in paths:
        entry = made.model.get(path)
        with made.whole.faultless():
            fd = made.whole.fs.open(path, os.O_RDONLY)
            shown = made.whole.fs.pread(fd, 1 << 20, 0)
            made.whole.fs.close(fd)
        for number in range(len(shown)):
            byte = shown[number : number + 1]
            assert byte in {each[number : number + 1] for each in made.contents} | {b"\0"}, f"{path} at {number}"
        entry.data = shown
    made.check(everything=True)
    before = set(made.whole.drive.contents)
    for _ in range(3):
        made.whole.dispatch(5)
    for job, path in zip(held, paths, strict=True):
        node = made.node(path)
        assert node is not None
        sent = set(made.whole.drive.contents) - before
        assert all(drive_id != node.drive_id for drive_id, _ in sent), f"{path} was sent"
        assert store.journal.find(job.inode) is not None
        # Somebody saves it again.
        entry = made.model.get(path)
        entry.data = b"saved again " + path.encode()
        write_file(made.whole.fs, path, entry.data)
        made.note()
    made.check()
    assert {entry.kind for _, entry in made.model.walk()} <= set(Kind)


@pytest.fixture(autouse=True)
def fuse() -> None:
    reason = MFUSEPY.why_not()
    if reason is not None:
        pytest.skip(reason)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", POWER_SCRIPTS)
def test_power_cut_anywhere_in_what_matters_most_keeps_the_last_sync_point(name: str) -> None:
    assert run_and_cut(POWER_SCRIPTS[name], seed=1) >= min(CUTS_A_SCRIPT, 50)


def with_syncs(script: list[Step], seed: int) -> list[Step]:
    chance = random.Random(seed)
    return [each for step in script for each in ((step, S) if chance.random() < 0.3 else (step,))]


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", SCRIPTS)
def test_power_cut_anywhere_in_a_script_keeps_the_last_sync_point(name: str) -> None:
    assert run_and_cut(with_syncs(SCRIPTS[name], 2), seed=2) >= min(CUTS_A_SCRIPT, 50)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(60 if LONG else 3))
def test_power_cut_anywhere_in_random_work_keeps_the_last_sync_point(seed: int) -> None:
    assert run_and_cut(with_syncs(random_script(seed), seed), seed) >= min(CUTS_A_SCRIPT, 50)
