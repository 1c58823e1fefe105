"""All threads of a mount at once, without FUSE, on a fake Drive: in the end mount, Drive and cache agree."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from drivefs.errors import DrivefsError, RateLimited, ServerFault, Unreachable
from drivefs.model import ROOT_INODE, DriveId, TrashLimit
from drivefs.store.room import Room
from drivefs.store.store import Store
from drivefs.sync.downloader import Downloader
from drivefs.sync.mirror import Mirror
from drivefs.sync.streaming import Streaming
from drivefs.sync.trash import Trash
from drivefs.sync.uploader import Uploader
from drivefs.vfs.vfs import Vfs
from tests.fake_drive import FakeDrive
from tests.filesystem import VfsFilesystem, read_file
from tests.stress import Stress
from tests.whole import drive_tree, scratch_folder

T = TypeVar("T")

STRESS_S = 5.0
LARGE_BYTES = 50_000
"""Instead of some megabytes: what takes a session here."""


class SharedDrive(FakeDrive):
    """For many threads; each 20th call fails, before or after its effect. Not downloads: the client repeats them."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.RLock()
        self._calls = 0
        self.failing = True

    def _call(self, method: str, effect: Callable[[], T]) -> T:
        with self._lock:
            self._calls += 1
            trouble = self._calls % 20 if self.failing and method not in ("get", "download") else 1
            if trouble == 0 and self._calls % 40:
                raise RateLimited("Too fast.") if self._calls % 3 else ServerFault("Broken.", status=503)
            result = super()._call(method, effect)
            if trouble == 0:
                raise Unreachable("The reply was lost.")
            return result

    def edit(self, folder: DriveId, name: str, data: bytes) -> None:
        with self._lock:
            found = [file.id for file in self.files.values() if (file.parent, file.name) == (folder, name)]
            if found:
                self.change(found[0], data)
            else:
                self.put(name, data, parent=folder)


class Running:
    """The rooms with their threads, as `app` starts them."""

    def __init__(self, folder: Path) -> None:
        self.drive = SharedDrive()
        self.theirs = self.drive.put("theirs")
        self.drive.failing = False
        self.store = Store(folder)
        self.store.recover()
        self.mirror = Mirror(self.store, self.drive)
        self.mirror.start()
        self.mirror.ensure_listed(ROOT_INODE)
        self.drive.failing = True
        self._pools = [ThreadPoolExecutor(count) for count in (16, 16, 4)]
        self.downloader = Downloader(self.store, self.drive, self._pools[0])
        self.streaming = Streaming(self.store, self.drive, self._pools[2])
        self.uploader = Uploader(
            self.store,
            self.drive,
            self.mirror,
            self.downloader,
            Trash(self.store, self.drive, TrashLimit()),
            self.streaming,
            self._pools[1],
        )
        self.room = Room(self.store, limit_bytes=1_000_000, keep_free_bytes=0)
        self.vfs = Vfs(self.store, self.mirror, self.downloader, uid=0, gid=0, room=self.room)
        self.fs = VfsFilesystem(self.vfs)
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self.uploader.run, args=(self._stop,)),
            threading.Thread(target=self.streaming.run, args=(self._stop,)),
            threading.Thread(target=self.mirror.listings.run, args=(self._stop,)),
        ]
        for thread in self._threads:
            thread.start()

    def house_keeping(self) -> None:
        """What others of its threads do every few seconds."""
        try:
            self.mirror.poll()
            self.vfs.snapshot_due()
            self.store.checkpoint()
            self.room.tidy()
        except DrivefsError as error:
            assert isinstance(error, (Unreachable, RateLimited, ServerFault)), error
        time.sleep(0.02)

    def evict(self) -> None:
        self.store.evict(1 << 40)
        time.sleep(0.01)

    def drain(self) -> None:
        self.drive.failing = False
        end_s = time.monotonic() + 60
        while self.store.journal.left().jobs:
            self.uploader.resume()
            assert time.monotonic() < end_s, f"still waiting: {list(self.store.journal.in_order(5))}"
            with self.store.journal.progress:
                self.store.journal.progress.wait(0.1)
        self.mirror.poll()

    def close(self) -> None:
        self._stop.set()
        self.mirror.wake()
        self.store.journal.changed.set()
        for thread in self._threads:
            thread.join()
        for pool in self._pools:
            pool.shutdown()
        self.vfs.close()
        self.store.close()


@contextmanager
def running() -> Iterator[Running]:
    with scratch_folder() as folder:
        made = Running(folder / "cache")
        try:
            yield made
        finally:
            made.close()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("publish", "sending", "uploader", "order"):
        monkeypatch.setattr(f"drivefs.sync.{module}.SMALL_LIMIT_BYTES", LARGE_BYTES, raising=False)
    monkeypatch.setattr("drivefs.sync.transfers.BLOCK_BYTES", LARGE_BYTES)
    monkeypatch.setattr("drivefs.sync.uploader.BACKOFF_LIMIT_S", 0.2)


def test_mount_drive_and_cache_agree_after_all_at_once(small: None) -> None:
    with running() as mount:
        stress = Stress(mount.fs, lambda name, data: mount.drive.edit(mount.theirs, name, data))
        stress.run(STRESS_S, mount.house_keeping, mount.evict)
        assert stress.done > 300
        mount.drain()

        tree = drive_tree(mount.drive)  # fails on two of one name
        files = {path: file for path, file in tree.items() if file.revision is not None}
        assert sorted(files) == sorted(stress.wanted)
        for path, data in stress.wanted.items():
            assert mount.drive.content(files[path].id) == data, f"{path} on Drive"
            assert read_file(mount.fs, path) == data, f"{path} in the mount"
        in_trash = {file.name for file in mount.drive.files.values() if file.trashed}
        assert in_trash <= {path.rpartition("/")[2] for path in stress.removed}
        assert mount.vfs.dirty_open() == 0
        db = mount.store.db
        assert db.rows("SELECT 1 FROM nodes WHERE parent IS NULL AND inode != 1") == []
        stray = db.rows(
            "SELECT * FROM generations g WHERE state != 'clean'"
            " OR NOT EXISTS (SELECT 1 FROM nodes n WHERE n.generation = g.generation)"
        )
        assert [tuple(row) for row in stray] == []
        kept = {path.name for path in (mount.store.folder / "content").iterdir()}
        assert kept == {str(row[0]) for row in db.rows("SELECT generation FROM generations")}
        end_s = time.monotonic() + 20
        while mount.store.content.clean_bytes():  # what was brought ahead of readers may be on its way still
            assert time.monotonic() < end_s, "somebody has left a file open"
            mount.store.sync()  # until then, what was published a moment ago stays
            mount.evict()
