"""All of drivefs but FUSE, in one thread: the real VFS, store and sync around a fake Drive, with a clock of its own.

What a `kill -9` leaves is taken as an `Image`, at any instant and without the process noticing: the cache's files as
they are, and what Drive has by then. So no handler, no rollback and no close runs that a `kill -9` would not run.
"""

from __future__ import annotations

import copy
import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from unittest import mock

from drivefs.model import ROOT_INODE, DriveId, RemoteFile, TrashLimit, UploadTarget
from drivefs.store import nodes
from drivefs.store.content import ContentStore
from drivefs.store.room import Room
from drivefs.store.store import Store
from drivefs.sync.downloader import Downloader
from drivefs.sync.mirror import Mirror
from drivefs.sync.streaming import Streaming
from drivefs.sync.trash import Trash
from drivefs.sync.uploader import Uploader
from drivefs.vfs.vfs import Vfs
from tests.fake_drive import FakeDrive
from tests.filesystem import VfsFilesystem

P = ParamSpec("P")
T = TypeVar("T")

SMALL_BYTES = 200
"""Instead of some megabytes: what takes a session here."""

GRAIN_BYTES = 64
"""Instead of 256 KiB: what requests of a session are multiples of here."""

BLOCK_BYTES = 64
"""Instead of some megabytes: what is fetched at once here."""

COPIED_LEAST_BYTES = 100
"""Instead of 1 MiB: what Drive copies itself when it has it."""

COPY_LIMIT_BYTES = 400
"""Instead of some megabytes: what is not copied when it is changed during its upload."""

START_S = 1_900_000_000.0


class Clock:
    """Time as the journal, the uploader and the VFS see it; moves when told to, and by 1 µs whenever it is asked."""

    def __init__(self, now_s: float = START_S) -> None:
        self.now_ns = int(now_s * 1e9)

    def time_ns(self) -> int:
        self.now_ns += 1_000
        return self.now_ns

    def time(self) -> float:
        return self.now_ns / 1e9

    def advance(self, by_s: float) -> None:
        self.now_ns += int(by_s * 1e9)


class WatchedDrive(FakeDrive):
    """Calls `watch` before and after the effect of each call; `when` is "before" or "after"."""

    def __init__(self) -> None:
        super().__init__()
        self.grain_bytes = GRAIN_BYTES
        self.watch: Callable[[str, str], None] = lambda when, method: None
        self.replaced: Callable[[DriveId, bytes], None] = lambda drive_id, data: None
        """Called when a content has taken the place of another one."""

    def _call(self, method: str, effect: Callable[[], T]) -> T:
        def watched() -> T:
            result = effect()
            self.watch("after", method)
            return result

        self.watch("before", method)
        return super()._call(method, watched)

    def _perform(self, target: UploadTarget, data: bytes | None) -> RemoteFile:
        there = self.files.get(target.id)
        before = self.content(target.id) if there is not None and there.revision is not None else None
        remote = super()._perform(target, data)
        if data is not None and before is not None and before != data:
            self.replaced(target.id, data)
        return remote

    def fork(self) -> WatchedDrive:
        """A Drive of its own in the same state, without faults."""
        other = WatchedDrive()
        other.files, other.contents = dict(self.files), dict(self.contents)
        other.sessions = copy.deepcopy(self.sessions)
        other._count, other._changed = itertools.count(next(self._count) + 1), list(self._changed)
        other.limit_bytes, other.keep_bytes = self.limit_bytes, self.keep_bytes
        other.replaced = self.replaced
        return other


class AtOnce(Executor):
    """Runs what it is given at once, in the caller's thread; what it raises that is no Exception goes through."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - it is the future's
            future.set_exception(error)
        return future


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder in memory where there is one: none of these tests asks what a disk keeps."""
    memory = Path("/dev/shm")
    where = memory if memory.is_dir() and os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="drivefs-test-", dir=where) as folder:
        yield Path(folder)


@contextmanager
def small_scale(clock: Clock) -> Iterator[None]:
    """Sizes at which a few bytes take sessions, several blocks and several dispatches; time from `clock`."""
    with ExitStack() as stack:
        for module in ("publish", "sending", "streaming", "uploader", "order"):
            stack.enter_context(mock.patch(f"drivefs.sync.{module}.SMALL_LIMIT_BYTES", SMALL_BYTES))
        stack.enter_context(mock.patch("drivefs.sync.transfers.BLOCK_BYTES", BLOCK_BYTES))
        stack.enter_context(mock.patch("drivefs.sync.copies.COPIED_LEAST_BYTES", COPIED_LEAST_BYTES))
        twin = nodes._TWIN.replace(str(nodes.COPIED_LEAST_BYTES), str(COPIED_LEAST_BYTES))
        stack.enter_context(mock.patch("drivefs.store.nodes._TWIN", twin))
        for module in ("sending", "stream", "streaming"):
            stack.enter_context(mock.patch(f"drivefs.sync.{module}.ALIGN_BYTES", GRAIN_BYTES))
        for name, value in (
            ("FILE_BYTES", SMALL_BYTES),
            ("LEAST_BYTES", 64),
            ("MOST_BYTES", 128),
            ("GROWING_S", 0.0),
        ):
            stack.enter_context(mock.patch(f"drivefs.sync.streaming.{name}", value))
        stack.enter_context(mock.patch("drivefs.sync.uploader.SMALL_AT_ONCE", 2))
        stack.enter_context(mock.patch("drivefs.sync.uploader.LARGE_AT_ONCE", 1))
        stack.enter_context(mock.patch("drivefs.sync.uploader.IDS_AT_ONCE", 5))
        stack.enter_context(mock.patch("drivefs.vfs.writing.BEHIND_LEAST_BYTES", 1))
        stack.enter_context(mock.patch("drivefs.store.db.RESERVE_BYTES", 1 << 16))
        # The limit is the default of an argument too.
        stack.enter_context(mock.patch.object(ContentStore._copy, "__defaults__", (COPY_LIMIT_BYTES,)))
        for module in ("confirmed", "identity", "points", "queue"):
            stack.enter_context(mock.patch(f"drivefs.store.{module}.time", clock))
        yield


@dataclass(frozen=True, slots=True)
class Image:
    """A cache folder and a Drive at one instant."""

    folder: Path
    drive: WatchedDrive
    now_ns: int


class Whole:
    """One mount's life after the other, on one cache and one Drive. Enter `small_scale` around it."""

    def __init__(
        self, folder: Path, clock: Clock, drive: WatchedDrive | None = None, *, boot_id: str = "first"
    ) -> None:
        """A machine that was started anew has another `boot_id`."""
        self.boot_id = boot_id
        self.folder = folder
        self.clock = clock
        self.drive = drive if drive is not None else WatchedDrive()
        self._images = 0
        self.open()

    def open(self) -> None:
        with self.faultless():
            self.store = Store(self.folder, lambda: self.boot_id)
            self.recovered = self.store.recover()
            self.mirror = Mirror(self.store, self.drive)
            self.mirror.start()
            self.mirror.trash.ensure_place()
            self.downloader = Downloader(self.store, self.drive, AtOnce())
            self.streaming = Streaming(self.store, self.drive, AtOnce(), clock=self.clock.time, chance=lambda: 0.5)
            self.uploader = Uploader(
                self.store,
                self.drive,
                self.mirror,
                self.downloader,
                Trash(self.store, self.drive, TrashLimit(), clock=self.clock.time),
                self.streaming,
                AtOnce(),
                clock=self.clock.time,
                chance=lambda: 0.5,
            )
            self.vfs = Vfs(
                self.store,
                self.mirror,
                self.downloader,
                uid=0,
                gid=0,
                now_ns=self.clock.time_ns,
                room=Room(self.store, disk_free_bytes=lambda folder: 1 << 40),
            )
            self.vfs.files.make_receive_buffers(1, 1 << 16)
            self.fs = VfsFilesystem(self.vfs)
            self.mirror.ensure_listed(ROOT_INODE)

    @contextmanager
    def faultless(self) -> Iterator[None]:
        """Calls of Drive within the block are neither faulty nor watched."""
        faults, self.drive.faults = self.drive.faults, {}
        watch, self.drive.watch = self.drive.watch, lambda when, method: None
        try:
            yield
        finally:
            self.drive.faults, self.drive.watch = faults, watch

    # --- the end of a process ---

    def image(self) -> Image:
        """What would be there if the process were killed now."""
        self._images += 1
        folder = self.folder.parent / f"{self.folder.name}.{self._images}"
        copy_cache(self.folder, folder)
        return Image(folder, self.drive.fork(), self.clock.now_ns)

    def abandon(self) -> None:
        """Give back descriptors and memory, and remove the cache folder: nothing is saved."""
        for file in self.store.content._opened.all():
            os.close(file.fd)
            file._fd = -1
        self.store.write_buffers.close()
        self.store.content.points.close()
        self.store.db.close()
        shutil.rmtree(self.folder)

    def crash(self, image: Image | None = None) -> None:
        """Kill the process, now or at the instant of `image`, and mount again."""
        image = image or self.image()
        faults, watch = self.drive.faults, self.drive.watch
        self.abandon()
        image.folder.rename(self.folder)
        self.drive = image.drive
        self.drive.faults, self.drive.watch = faults, watch
        self.open()

    # --- time ---

    def dispatch(self, after_s: float = 1.0) -> float:
        """Let time pass, then send ahead what grows, and publish what may start."""
        self.clock.advance(after_s)
        self.streaming.tick()
        return self.uploader.dispatch()

    def drain(self, limit: int = 300) -> None:
        """Let time pass until Drive has everything."""
        with self.faultless():
            self.drive.keep_bytes = None
            while self.store.journal.left().jobs:
                assert limit > 0, f"still waiting: {list(self.store.journal.in_order(10))}"
                limit -= 1
                self.dispatch(min(self.uploader.dispatch(), 61.0) + 0.1)
                with self.uploader._idle:  # where the executor has threads of its own
                    assert self.uploader._idle.wait_for(lambda: not self.uploader._active, 60)


def copy_cache(source: Path, target: Path) -> None:
    """A cache folder as another process would find it, the database's shared memory aside."""
    target.mkdir()
    for name in ("sync-points", "drivefs.db", "drivefs.db-wal", "write-buffers"):
        if (source / name).exists():
            _copy(source / name, target / name)
    for name in ("content", "quarantine"):
        if (source / name).is_dir():
            (target / name).mkdir()
            for path in (source / name).iterdir():
                _copy(path, target / name / path.name)


def _copy(source: Path, target: Path) -> None:
    target.write_bytes(source.read_bytes())
    status = source.stat()
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def drive_tree(drive: FakeDrive) -> dict[str, Any]:
    """What Drive shows, by path; fails on two of one name, and on what hangs nowhere."""
    found: dict[str, Any] = {}
    names: dict[tuple[str, str], str] = {}
    shown = [file for file in drive.files.values() if file.parent is not None and not drive.seen(file).trashed]
    by_parent: dict[str, list[Any]] = {}
    for file in shown:
        key = (str(file.parent), file.name)
        assert key not in names, f"Drive has two of the name {file.name}: {names[key]}, {file.id}"
        names[key] = file.id
        by_parent.setdefault(str(file.parent), []).append(file)
    (root,) = [file for file in drive.files.values() if file.parent is None]
    waiting = [("", str(root.id))]
    while waiting:
        prefix, parent = waiting.pop()
        for file in by_parent.get(parent, ()):
            found[prefix + file.name] = file
            waiting.append((f"{prefix}{file.name}/", file.id))
    assert len(found) == len(shown), "Drive has items in folders that are gone"
    return found
