"""Every instant at which a killed process can leave something new behind: what is on the disk and on Drive there.

A point lies right after each commit of the database, after each system call that changes a content file's bytes or
name (and in the middle of a write), and after the effect of each of Drive's calls, which is before its reply.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

from drivefs.model import DriveId, Generation
from drivefs.store.content_points import ContentPoints
from drivefs.store.db import Database
from tests.model.reference import Reference
from tests.model.steps import Step
from tests.model.world import World
from tests.whole import Clock, Image

CHANGING = {
    "copy",
    "create",
    "update",
    "trash",
    "delete",
    "upload_small",
    "start_session",
    "send",
    "end_session",
    "generate_ids",
}


class _Os:
    """The module os, for one that writes content files."""

    def __init__(self, point: Callable[[], None]) -> None:
        self._point = point

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        """Half of it at a time, as the kernel may."""
        done = os.pwrite(fd, data[: (len(data) + 1) // 2], offset)
        self._point()
        return done

    def ftruncate(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)
        self._point()

    def utime(self, *arguments: Any, **keywords: Any) -> None:
        os.utime(*arguments, **keywords)
        self._point()

    def open(self, path: Any, flags: int, mode: int = 0o777) -> int:
        fd = os.open(path, flags, mode)
        if flags & os.O_CREAT:
            self._point()
        return fd

    def copy_file_range(self, source: int, target: int, count: int, at: int, to: int) -> int:
        done = os.copy_file_range(source, target, (count + 1) // 2, at, to)
        self._point()
        return done

    def replace(self, source: Any, target: Any) -> None:
        os.replace(source, target)
        self._point()


class _Connection:
    """A connection of sqlite3 whose commits are points."""

    def __init__(self, real: Any, point: Callable[[], None]) -> None:
        self.__dict__.update(_real=real, _point=point)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._real, name, value)

    def execute(self, sql: str, *arguments: Any) -> Any:
        result = self._real.execute(sql, *arguments)
        if sql == "COMMIT":
            self._point()
        return result


@contextmanager
def watched(point: Callable[[], None]) -> Iterator[None]:
    """Within the block, `point` is called at each point of all stores that are opened in it, Drive's calls aside."""
    prepare, unlink = Database._prepare, ContentPoints.unlink

    def prepare_watched(db: Database) -> None:
        db._connection = _Connection(db._connection, point)  # type: ignore[assignment]
        prepare(db)

    def unlink_watched(store: ContentPoints, generation: Generation) -> None:
        unlink(store, generation)
        point()

    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(Database, "_prepare", prepare_watched))
        stack.enter_context(mock.patch.object(ContentPoints, "unlink", unlink_watched))
        for module in (
            "content",
            "content_file",
            "content_points",
            "checked_file",
            "disk",
            "sync_points",
            "quarantine",
        ):
            stack.enter_context(mock.patch(f"drivefs.store.{module}.os", _Os(point)))
        yield


@dataclass(frozen=True, slots=True)
class Death:
    """What a kill at one point leaves, and what the system call under way, if there was one, was about to change."""

    image: Image
    before: Reference
    after: Reference
    trash_allowed: frozenset[DriveId]
    contents: frozenset[bytes]


class Recorder:
    """Takes a `Death` at each point while steps run."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._deaths: list[Death] = []
        self._recording = False
        self.points = 0

    def point(self) -> None:
        if not self._recording:
            return
        self.points += 1
        world = self._world
        image = world.whole.image()
        after = copy.deepcopy(world.model)
        self._deaths.append(
            Death(
                image,
                world.before if world.before is not None else after,
                after,
                frozenset(world.trash_allowed),
                frozenset(world.contents),
            )
        )

    def run(self, step: Step) -> list[Death]:
        """Run a step, and return the deaths on its way."""
        drive = self._world.whole.drive

        def call(when: str, method: str) -> None:
            if when == "after" and method in CHANGING:
                self.point()

        drive.watch = call
        self._recording = True
        try:
            step.run(self._world)
        finally:
            self._recording = False
            drive.watch = lambda when, method: None
        self._world.note()
        deaths, self._deaths = self._deaths, []
        return deaths


def resurrect(death: Death, clock: Clock, removable: frozenset[DriveId], *, ids_move: bool) -> World:
    """Mount what a death has left, and check it against what was promised.

    `removable` are IDs that the step under way may move to the trash; `ids_move`: it may change whose an ID is.
    """
    now_ns = clock.now_ns
    clock.now_ns = death.image.now_ns
    try:
        candidates = [death.after] if death.before is death.after else [death.after, death.before]
        for last, model in ((model is candidates[-1], model) for model in candidates):
            world = World(death.image.folder, clock, death.image.drive, copy.deepcopy(model))
            try:
                world.trash_allowed |= death.trash_allowed | removable
                world.contents |= death.contents
                world.note()
                _allow_half_a_write(world, death)
                if ids_move:
                    for _, entry in world.model.walk():
                        entry.drive_id = None
                world.check(everything=True)
            except AssertionError:
                if last:
                    raise
                # Not as after the call: then as before it. A second mount of the same must find the same.
                image = world.whole.image()
                world.whole.abandon()
                image.folder.rename(death.image.folder)
                continue
            return world
        raise AssertionError("no candidate")
    finally:
        clock.now_ns = now_ns


def _allow_half_a_write(world: World, death: Death) -> None:
    """Where a call changes bytes, each of them may be the old or the new one."""
    for path, entry in world.model.walk():
        old, new = death.before.find(path), death.after.find(path)
        if old is None or new is None or old.data == new.data or world.node(path) is None:
            continue
        with world.whole.faultless():
            fd = world.whole.fs.open(path, os.O_RDONLY)
            shown = world.whole.fs.pread(fd, 1 << 20, 0)
            world.whole.fs.close(fd)
        shortest, longest = sorted((len(old.data), len(new.data)))
        if shortest <= len(shown) <= longest and all(
            byte in (old.data[at : at + 1], new.data[at : at + 1], b"\0") for at, byte in _bytes(shown)
        ):
            entry.data, entry.mtime_ns = shown, None
            world.contents.add(shown)


def _bytes(data: bytes) -> Iterator[tuple[int, bytes]]:
    for at in range(len(data)):
        yield at, data[at : at + 1]
