"""A VFS over a store in a temporary folder and a Drive of a few lines: what its unit tests begin with."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable
from pathlib import Path

from drivefs.errors import Unreachable
from drivefs.model import ROOT_INODE, DriveId, Inode, Kind, RevisionId
from drivefs.store.content_file import ContentFile
from drivefs.store.generations import Base
from drivefs.store.node import Node
from drivefs.store.room import STALLED_S, Room
from drivefs.store.store import Store
from drivefs.vfs.handle_memory import HandleMemory
from drivefs.vfs.vfs import Vfs
from tests.filesystem import VfsFilesystem


class FakeMirror:
    """Lists a folder by calling what the test has put there."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.on_listing: dict[Inode, Callable[[], None]] = {}
        self.online = True
        self.asked: list[Inode] = []
        self.known_space: FakeSpace | None = None

    def ensure_listed(self, inode: Inode, *, to_read: bool = False) -> None:
        if self._store.nodes.get(inode).listed:
            return
        self.asked.append(inode)
        if not self.online:
            raise Unreachable("no network")
        self.on_listing.pop(inode, lambda: None)()
        self._store.nodes.update(inode, listed=True)

    def ensure_known(self, drive_id: DriveId) -> None:
        pass

    def in_use(self) -> None:
        pass

    def space(self) -> FakeSpace | None:
        return self.known_space


class FakeSpace:
    total_bytes = 1000 << 12
    free_bytes = 400 << 12


class FakeDocuments:
    """Has no documents."""

    def ensure(self, inode: Inode) -> None:
        raise AssertionError("no document here")

    def look(self, inode: Inode) -> None:
        raise AssertionError("no document here")


class FakeDownloader:
    """Fills gaps from the bytes that Drive has."""

    def __init__(self) -> None:
        self.documents = FakeDocuments()
        self.remote: dict[RevisionId, bytes] = {}
        self.targets: dict[Inode, str] = {}
        self.fetched: list[tuple[int, int]] = []
        self.online = True

    def ensure(
        self, file: ContentFile, start: int, stop: int, *, interrupted: Callable[[], bool] = lambda: False
    ) -> None:
        for gap_start, gap_stop in file.gaps(start, stop):
            if not self.online:
                raise Unreachable("no network")
            assert file.base is not None
            self.fetched.append((gap_start, gap_stop))
            file.fill(gap_start, self.remote[file.base.revision][gap_start:gap_stop])

    def mend(self, file: ContentFile, start: int, stop: int) -> None:
        for block_start, block_stop in file.damaged(start, stop):
            if not self.online:
                raise Unreachable("no network")
            assert file.source is not None
            self.fetched.append((block_start, block_stop))
            assert file.mend(block_start, self.remote[file.source.revision][block_start:block_stop])

    def opened(self, node: Node) -> None:
        pass

    def ensure_target(self, inode: Inode) -> str:
        return self.targets[inode]


class VfsHouse:
    """The rooms, and shortcuts into them."""

    def __init__(
        self,
        folder: Path,
        *,
        read_only: bool = False,
        fsync_drive: bool = False,
        handles: HandleMemory | None = None,
    ) -> None:
        self.handles = handles or HandleMemory()
        self.store = Store(folder)
        self.store.recover({handle.inode for handle in self.handles.found})
        self.mirror = FakeMirror(self.store)
        self.downloader = FakeDownloader()
        self.store.nodes.update(ROOT_INODE, listed=True)
        # Whoever waits for uploads without headway waits for one step.
        self.room = Room(self.store, monotonic=itertools.count(step=STALLED_S).__next__)
        self.vfs = Vfs(
            self.store,
            self.mirror,
            self.downloader,
            uid=1000,
            gid=1000,
            read_only=read_only,
            fsync_drive=fsync_drive,
            handles=self.handles,
            room=self.room,
        )
        self.taken_over = self.vfs.files.take_over()
        self.fs = VfsFilesystem(self.vfs)

    def close(self) -> None:
        self.vfs.close()
        self.store.close()

    def crash(self) -> VfsHouse:
        """Stop without another word, and open the cache again."""
        folder = self.store.folder
        self.store.close()
        return VfsHouse(folder)

    def hand_over(self) -> VfsHouse:
        """Stop without another word, while the kernel holds what is open; the next process takes it over."""
        folder, memory = self.store.folder, os.dup(self.handles.fd)
        self.handles.close()
        self.store.close()
        house = VfsHouse(folder, handles=HandleMemory(memory))
        house.downloader.remote = self.downloader.remote
        return house

    def node(self, path: str) -> Node:
        return self.store.nodes.get(self.vfs.tree.resolve(path))

    def remote_file(self, name: str, data: bytes, parent: Inode = ROOT_INODE, **values: object) -> Node:
        """A file that Drive has, none of whose bytes are here."""
        md5 = hashlib.md5(data).hexdigest()
        revision = RevisionId(f"revision of {name} {md5}")
        self.downloader.remote[revision] = data
        shown: dict[str, object] = {
            "parent": parent,
            "name": name,
            "kind": Kind.FILE,
            "mode": 0o644,
            "size_bytes": len(data),
            "mtime_ns": 1_000_000_000,
            "ctime_ns": 1_000_000_000,
            "drive_id": DriveId(f"id of {name}"),
            "confirmed_ns": 1,
            "revision": revision,
            "md5": md5,
        }
        return self.store.nodes.add(**(shown | values))

    def publish(self, path: str) -> None:
        """What the uploader does when Drive has taken a file: content clean, job gone."""
        node = self.node(path)
        self.store.nodes.update(
            node.inode,
            drive_id=node.drive_id or DriveId(f"id of {path}"),
            confirmed_ns=1,
            revision=RevisionId(f"published {path} {node.change}"),
        )
        self.store.db.run("DELETE FROM jobs WHERE inode = ?", (node.inode,))
        if node.generation is not None:
            node = self.node(path)
            claim = self.store.content.claim(node.generation)
            self.downloader.remote[node.revision] = claim.read_at(0, claim.size_bytes)
            self.store.content.published(claim, Base(node.drive_id, node.revision))
            claim.close()

    def publish_job(self, path: str) -> None:
        """What the journal does when Drive has taken what waits of a file, while it may still be written."""
        self.store.db.run("DELETE FROM jobs WHERE inode = ?", (self.node(path).inode,))
        with self.store.journal.progress:
            self.store.journal.progress.notify_all()

    def has_job(self, path: str) -> bool:
        return self.store.journal.find(self.node(path).inode) is not None

    def sealed_bytes(self, path: str) -> bytes | None:
        """What waits to be sent of a file; None when no content does."""
        job = self.store.journal.find(self.node(path).inode)
        if job is None or job.generation is None:
            return None
        claim = self.store.content.claim(job.generation)
        try:
            return claim.read_at(0, claim.size_bytes)
        finally:
            claim.close()
