"""A store with its sync around a fake Drive: what the unit tests of sync begin with."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

from drivefs.model import ROOT_INODE, Inode, Kind, TrashLimit
from drivefs.store.node import Node
from drivefs.store.store import Store
from drivefs.sync.downloader import Downloader
from drivefs.sync.mirror import Mirror
from drivefs.sync.streaming import Streaming
from drivefs.sync.trash import Trash
from drivefs.sync.uploader import Uploader
from drivefs.sync.warm import Warmer
from tests.fake_drive import FakeDrive, HereAndNow


class House:
    """Store, mirror, downloader and uploader in one thread; time moves only by `drain`."""

    trash_limit = TrashLimit()

    def __init__(self, folder: Path, drive: FakeDrive | None = None, *, delete: bool = False) -> None:
        self.folder = folder
        self.delete = delete
        self.drive = drive or FakeDrive()
        self.open()

    def open(self) -> None:
        self.store = Store(self.folder)
        self.recovered = self.store.recover()
        self.mirror = Mirror(self.store, self.drive)
        self.mirror.start()
        self.mirror.ensure_listed(ROOT_INODE)
        self.downloader = Downloader(self.store, self.drive, HereAndNow())
        self.warmer = Warmer(self.store, self.mirror, self.downloader, HereAndNow())
        self.now = time.time() + 1
        self.trash = Trash(self.store, self.drive, self.trash_limit, clock=lambda: self.now)
        self.streaming = Streaming(self.store, self.drive, HereAndNow(), clock=lambda: self.now, chance=lambda: 0.5)
        self.uploader = Uploader(
            self.store,
            self.drive,
            self.mirror,
            self.downloader,
            self.trash,
            self.streaming,
            HereAndNow(),
            delete=self.delete,
            clock=lambda: self.now,
            chance=lambda: 0.5,
        )

    def reopen(self) -> None:
        """As after a crash of the process: nothing in memory is left."""
        self.store.close()
        self.open()

    # --- the filesystem's part, as vfs does it ---

    def node(self, path: str) -> Node:
        node = self.store.nodes.get(ROOT_INODE)
        for part in path.split("/"):
            child = self.store.nodes.find_child(node.inode, part)
            assert child is not None, f"no {path} here"
            node = child
        return node

    def _place(self, path: str) -> tuple[Inode, str]:
        folder, _, name = path.rpartition("/")
        return (self.node(folder).inode if folder else ROOT_INODE), name

    def _add(self, path: str, kind: Kind, **values: object) -> Node:
        parent, name = self._place(path)
        now_ns = time.time_ns()
        mode = 0o755 if kind is Kind.FOLDER else 0o644
        values = {"mode": mode, "size_bytes": 0, "mtime_ns": now_ns, "ctime_ns": now_ns, "ours": True} | values
        return self.store.nodes.add(parent=parent, name=name, kind=kind, **values)

    def mkdir(self, path: str) -> None:
        self.store.journal.changed_metadata(self._add(path, Kind.FOLDER, listed=True))

    def symlink(self, path: str, target: str) -> None:
        self.store.journal.changed_metadata(self._add(path, Kind.SYMLINK, target=target))

    def write(self, path: str, data: bytes) -> None:
        """open(path, "wb").write(data), closed."""
        parent, name = self._place(path)
        node = self.store.nodes.find_child(parent, name) or self._add(path, Kind.FILE)
        file = self.store.journal.start_anew(node)
        file.write(0, data)
        self.store.journal.seal(file)
        file.close()

    def rename(self, old: str, new: str) -> None:
        parent, name = self._place(new)
        with self.store.db.transaction():
            target = self.store.nodes.find_child(parent, name)
            if target is not None:
                target = self.store.journal.lose_name(target, time.time_ns())
            source = self.store.nodes.update(self.node(old).inode, parent=parent, name=name)
            if target is None:
                self.store.journal.changed_metadata(source)
            else:
                self.store.journal.replaced(source, target)
        if target is not None:
            self.store.journal.forget_unnamed(target.inode)

    def remove(self, path: str) -> None:
        with self.store.db.transaction():
            node = self.store.journal.lose_name(self.node(path), time.time_ns())
            self.store.journal.removed(node)
        self.store.journal.forget_unnamed(node.inode)

    # --- time ---

    def dispatch(self) -> float:
        return self.uploader.dispatch()

    def drain(self, limit: int = 200) -> None:
        """Let time pass until Drive has everything."""
        for _ in itertools.count():
            if self.store.journal.left().jobs == 0:
                return
            assert limit > 0, f"still waiting: {self.store.journal.in_order(10)}"
            limit -= 1
            wait_s = self.dispatch()
            self.now += max(0.1, min(wait_s, 61))
