"""A kill at every durable or network step of what programs do to a mount: everything for which a call returned is
there at the next mount, and gets to Drive once, whole, and under its own ID.
"""

from __future__ import annotations

import os
import random

import pytest

from drivefs.model import DriveId, Kind
from tests.crash.points import Death, Recorder, resurrect, watched
from tests.filesystem import write_file
from tests.model import steps
from tests.model.steps import Bytes, Dispatch, Place, Step
from tests.model.world import World, world

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
RANDOM_SCRIPTS = 200 if LONG else 5
NEW = os.O_CREAT | os.O_TRUNC

A, B, C, TMP = (Place(0, name) for name in range(4))
SMALL, OTHER, LARGE = Bytes(1, 90), Bytes(2, 120), Bytes(3, 700)


def inside(place: Place) -> Place:
    """The same name in the first folder below the root."""
    return Place(1, place.name)


def trashed(place: Place, folder: Place | None = None) -> steps.Trashed:
    """The same name in the trash, or in a folder there."""
    return steps.Trashed(0 if folder is None else folder.name + 1, place.name)


def write(place: Place, data: Bytes = SMALL, flags: int = NEW, offset: int = 0) -> Step:
    return steps.Write(place, flags, offset, data)


def save(place: Place, data: Bytes) -> list[Step]:
    """As most programs save: a temporary file, renamed over the target."""
    return [write(TMP, data), steps.Rename(TMP, place)]


SCRIPTS: dict[str, list[Step]] = {
    "creates": [
        *(write(A), write(B, LARGE), Dispatch(1), steps.MakeFolder(C), write(inside(A)), Dispatch(1), Dispatch(1)),
    ],
    "overwrites": [
        *(write(A), write(B, LARGE), Dispatch(1), Dispatch(1), write(A, OTHER), write(B, SMALL), Dispatch(1)),
        *(write(A, LARGE), steps.Truncate(B, 10), Dispatch(1), write(A, SMALL, 0, 50), Dispatch(1)),
        *(write(A, OTHER, os.O_APPEND), steps.Truncate(B, 0), Dispatch(1), Dispatch(1)),
    ],
    "partly local": [
        *(write(A, LARGE), write(B, LARGE), Dispatch(1), Dispatch(1), Dispatch(1), steps.Evict()),
        *(write(A, SMALL, 0, 100), steps.Truncate(B, 300), Dispatch(1), steps.Evict(), write(B, SMALL, 0, 900)),
        *(Dispatch(1), Dispatch(1), Dispatch(1)),
    ],
    "temporary files": [
        *save(A, SMALL),
        Dispatch(1),
        *save(A, OTHER),
        *save(A, LARGE),
        Dispatch(1),
        *(write(TMP, OTHER), Dispatch(1), steps.Rename(TMP, A), Dispatch(1)),
        *(write(TMP, SMALL), Dispatch(700), Dispatch(700), steps.Rename(TMP, A), Dispatch(1), Dispatch(1)),
    ],
    "removals": [
        *(write(A), write(B), write(C, LARGE), Dispatch(1), steps.Unlink(A), write(TMP), steps.Unlink(TMP)),
        *(Dispatch(1), steps.Unlink(B), write(B, OTHER), steps.Unlink(C), Dispatch(1), Dispatch(1)),
    ],
    "folders": [
        *(steps.MakeFolder(A), write(inside(A)), write(inside(B), LARGE), steps.MakeFolder(B), Dispatch(1)),
        *(steps.Rename(A, C), Dispatch(1), steps.Rename(C, B), Dispatch(1), steps.Rename(inside(A), A)),
        *(steps.Unlink(inside(B)), steps.RemoveFolder(B), Dispatch(1), Dispatch(1)),
    ],
    "attributes": [
        *(write(A), steps.MakeSymlink(B, "x" * 130), steps.ChangeMode(A, 0o600), Dispatch(1)),
        *(steps.SetTime(A, 1_577_840_523_123_456_789), steps.SetXattr(A, 0, b"text"), steps.SetXattr(A, 1, b"\0")),
        *(Dispatch(1), steps.SetXattr(A, 1, None), steps.Rename(B, C), steps.ChangeMode(A, 0o755), Dispatch(1)),
    ],
    "open files": [
        steps.Open(A, os.O_RDWR | os.O_CREAT),
        *(steps.WriteHandle(0, 0, SMALL), steps.Snapshot(), Dispatch(1), steps.WriteHandle(0, 50, LARGE)),
        *(steps.Rename(A, B), steps.SyncHandle(0), steps.Snapshot(), Dispatch(1), steps.WriteHandle(0, 0, OTHER)),
        *(steps.Unlink(B), steps.WriteHandle(0, 9, OTHER), Dispatch(1), write(B), steps.CloseHandle(0), Dispatch(1)),
    ],
    "streams": [
        steps.Open(A, os.O_RDWR | os.O_CREAT),
        *(steps.GrowHandle(0, LARGE), Dispatch(1), steps.GrowHandle(0, LARGE), Dispatch(1), steps.CloseHandle(0)),
        *(Dispatch(1), Dispatch(1), steps.Open(A, os.O_RDWR | os.O_TRUNC), steps.GrowHandle(0, LARGE), Dispatch(1)),
        *(steps.GrowHandle(0, SMALL), Dispatch(1), steps.WriteHandle(0, 3, OTHER), Dispatch(1), steps.CloseHandle(0)),
        *(Dispatch(1), Dispatch(1), steps.Open(TMP, os.O_RDWR | os.O_CREAT), steps.GrowHandle(0, LARGE), Dispatch(1)),
        *(steps.CloseHandle(0), steps.Rename(TMP, A), Dispatch(1), Dispatch(1)),
        *(steps.Open(TMP, os.O_RDWR | os.O_CREAT), steps.GrowHandle(0, LARGE), Dispatch(1), steps.CloseHandle(0)),
        *(steps.Rename(TMP, A), Dispatch(1), Dispatch(1), steps.Open(B, os.O_RDWR | os.O_CREAT)),
        *(steps.GrowHandle(0, LARGE), Dispatch(1), steps.Unlink(B), Dispatch(1), steps.CloseHandle(0), Dispatch(1)),
    ],
    "a poor line": [
        *(steps.KeepBytes(100), steps.Fault("send", "unreachable", True, 0, 1), write(A, LARGE), write(B)),
        Dispatch(1),
        *(steps.Fault("upload_small", "unreachable", True, 0, 1), write(C, OTHER), Dispatch(1), Dispatch(5)),
        *(steps.Fault("send", "session", False, 2, 1), write(A, OTHER), write(B, LARGE), Dispatch(5), Dispatch(70)),
        *(steps.Fault("update", "server", True, 0, 1), steps.ChangeMode(A, 0o600), Dispatch(5), Dispatch(70)),
    ],
    "copies": [
        *(write(A, LARGE), steps.ChangeMode(A, 0o755), Dispatch(1), Dispatch(1), steps.Copy(A, B), Dispatch(1)),
        *(steps.Fault("copy", "unreachable", True, 0, 1), write(C, LARGE), Dispatch(1), Dispatch(5)),
        *(steps.Fault("copy", "unreachable", False, 0, 1), *save(inside(A), LARGE), steps.Unlink(A), Dispatch(1)),
        *(Dispatch(5), write(B, OTHER), Dispatch(1), write(A, OTHER), Dispatch(1), Dispatch(70), Dispatch(1)),
    ],
    "the trash": [
        *(write(A), write(B, LARGE), steps.MakeFolder(C), write(inside(A)), write(inside(B), OTHER)),
        *(Dispatch(1), Dispatch(1), Dispatch(1), steps.Rename(A, trashed(A)), Dispatch(1)),
        *(write(TMP, LARGE), steps.Rename(TMP, trashed(TMP)), Dispatch(1), Dispatch(1), Dispatch(1)),
        *(steps.Rename(trashed(A), A), write(A, OTHER), Dispatch(1), Dispatch(1), steps.LookIntoTrash()),
        *(steps.Rename(B, trashed(B)), Dispatch(1), write(B), Dispatch(1), steps.Rename(trashed(B), B), Dispatch(1)),
        *(steps.Rename(C, trashed(C)), Dispatch(1), steps.Rename(trashed(A, C), TMP), Dispatch(1)),
        *(steps.Unlink(trashed(TMP)), steps.Unlink(trashed(B, C)), Dispatch(1), steps.RemoveFolder(trashed(C))),
        *(steps.Unlink(TMP), Dispatch(1), steps.Rename(A, trashed(A)), steps.Rename(trashed(A), C), Dispatch(1)),
        *(steps.Rename(B, trashed(A)), steps.Rename(trashed(A), B), steps.Rename(B, trashed(A)), Dispatch(1)),
        *(steps.Rename(C, trashed(C)), steps.Unlink(trashed(C)), Dispatch(1)),
    ],
    "an overtaken point": [
        *(write(B), Dispatch(1), steps.Fault("start_session", "unreachable", False, 0, 1)),
        *(write(C, LARGE), write(B, OTHER), Dispatch(1), write(B, Bytes(4, 60)), steps.Unlink(C)),
        *save(B, Bytes(5, 70)),
        *(write(C, SMALL), Dispatch(70), Dispatch(1), Dispatch(1)),
    ],
    "checkpoints": [
        *(step for number in range(4) for step in (
            steps.MakeFolder(A) if number == 0 else Dispatch(0.3),
            write(inside((A, B, C)[number % 3]), LARGE, NEW),
            *(write(TMP, Bytes(number, 40)), steps.Rename(TMP, inside(TMP))),
            Dispatch(1),
            steps.Unlink(inside((A, B, C)[(number + 1) % 3])),
        )),
        *(Dispatch(1), Dispatch(1)),
    ],
}  # fmt: skip


def random_script(seed: int) -> list[Step]:
    chance = random.Random(seed)

    def place() -> Place:
        return Place(chance.randrange(3), chance.randrange(4))

    def one() -> Step:
        data = Bytes(chance.randrange(250), chance.choice((0, 60, 130, 500)))
        return chance.choice(
            (
                lambda: write(place(), data, chance.choice((NEW, NEW, os.O_CREAT)), chance.choice((0, 100))),
                lambda: write(place(), data),
                lambda: steps.Rename(place(), place()),
                lambda: steps.Rename(place(), place()),
                lambda: steps.MakeFolder(place()),
                lambda: steps.Unlink(place()),
                lambda: steps.RemoveFolder(place()),
                lambda: steps.Open(place(), os.O_RDWR | os.O_CREAT),
                lambda: steps.WriteHandle(0, chance.choice((0, 70)), data),
                lambda: steps.Begin(place(), LARGE),
                lambda: steps.Copy(place(), place()),
                lambda: steps.GrowHandle(0, data),
                lambda: steps.CloseHandle(0),
                steps.Snapshot,
                steps.Evict,
                lambda: Dispatch(chance.choice((0.3, 5, 700))),
                lambda: Dispatch(1),
                lambda: Dispatch(1),
            )
        )()

    return [write(A), *(one() for _ in range(40))]


def removable(made: World, step: Step) -> frozenset[DriveId]:
    """What the step may move to the trash, should it be the last one."""
    ids = set()
    for place in (getattr(step, name, None) for name in ("place", "new")):
        node = made.node(place.path(made)) if isinstance(place, Place) else None
        if node is not None and node.drive_id is not None:
            ids.add(node.drive_id)
    return frozenset(ids)


def overwrite_all(world: World) -> None:
    """Work goes on before the rest of last time is published."""
    for number, (path, entry) in enumerate(list(world.model.walk())):
        if entry.kind is Kind.FILE:
            entry.data, entry.mtime_ns = Bytes(number, 300 + number).made(), None
            write_file(world.whole.fs, path, entry.data)
    world.note()


def verify(death: Death, made: World, step: Step, ids: frozenset[DriveId], *, go_on: bool) -> None:
    # Whether a rename has come to the change of identity is not seen from outside.
    again = resurrect(death, made.whole.clock, ids, ids_move=isinstance(step, steps.Rename))
    now_ns = made.whole.clock.now_ns
    try:
        if go_on:
            overwrite_all(again)
        steps.Drain().run(again)
    finally:
        made.whole.clock.now_ns = now_ns
        again.whole.abandon()


def die_everywhere(script: list[Step]) -> int:
    """Kill, recover and verify at each point of a script; returns how many there were."""
    recorder: Recorder | None = None

    def point() -> None:
        if recorder is not None:
            recorder.point()

    with watched(point), world() as made:
        recorder = Recorder(made)
        for number, step in enumerate(script):
            ids = removable(made, step)
            for count, death in enumerate(recorder.run(step)):
                try:
                    verify(death, made, step, ids, go_on=(number + count) % 2 == 1)
                except BaseException as error:
                    error.add_note(f"Killed at point {count} of step {number}: {step}")
                    raise
            made.check()
            made.whole.store.checkpoint()
        steps.Drain().run(made)
    return recorder.points


COUNTED: dict[object, int] = {}
"""Points of each script that ran."""


@pytest.mark.parametrize("name", SCRIPTS)
def test_kill_at_every_step_of_a_script_loses_and_doubles_nothing(name: str) -> None:
    COUNTED[name] = die_everywhere(SCRIPTS[name])
    assert COUNTED[name] > len(SCRIPTS[name])


@pytest.mark.parametrize("seed", range(RANDOM_SCRIPTS))
def test_kill_at_every_step_of_random_work_loses_and_doubles_nothing(seed: int) -> None:
    COUNTED[seed] = die_everywhere(random_script(seed))
    assert COUNTED[seed] > 0


def test_kill_has_come_at_2000_points() -> None:
    """Of those above, when all of them have run."""
    if len(COUNTED) < len(SCRIPTS) + RANDOM_SCRIPTS:
        pytest.skip("not all scripts were chosen to run")
    print(f"{sum(COUNTED.values())} points")
    assert sum(COUNTED.values()) >= 2_000
