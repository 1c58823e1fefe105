"""A whole drivefs beside the reference model, and what must hold between them after every step."""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from drivefs.model import DriveId, Kind, RemoteFile
from drivefs.store.node import Node
from drivefs.sync.metadata import attributes
from tests.model.reference import TRASH, Entry, Fails, Reference
from tests.whole import Clock, Image, WatchedDrive, Whole, drive_tree, scratch_folder, small_scale

T = TypeVar("T")

THEIRS = "theirs"
"""A folder that only others change, on Drive."""

LIMIT_BYTES = 1 << 20


@dataclass(eq=False)
class Handle:
    fd: int
    entry: Entry
    readable: bool
    writable: bool
    append: bool


class _Errors(logging.Handler):
    """Keeps what is logged as an error: none of the faults here is one."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


class World:
    """The mount and the model. Steps (`tests.model.steps`) change both."""

    def __init__(
        self, folder: Path, clock: Clock, drive: WatchedDrive, model: Reference, *, boot_id: str = "first"
    ) -> None:
        """A mount of what is in the cache and on Drive, and the model of what that should be."""
        self.model = model
        self.whole = Whole(folder, clock, drive, boot_id=boot_id)
        self.handles: list[Handle] = []
        self.trash_allowed: set[DriveId] = set()
        self.contents: set[bytes] = {b""}
        """All that any file has ever held after a step: nothing else may ever be on Drive."""
        self.errors = _Errors()
        self.problems: list[BaseException] = []
        self.before: Reference | None = None
        """During a system call: the model as it was before it. `model` is what it will be after it."""

    # --- doing something to both ---

    def agree(self, expected: Callable[[], T], real: Callable[[], object]) -> T | None:
        """Do it to both: the mount must fail where the model does, as the model does."""
        with self.whole.faultless():
            self.before = copy.deepcopy(self.model)
            try:
                value = expected()
            except Fails as failure:
                try:
                    real()
                except OSError as error:
                    assert error.errno in failure.numbers, f"{error} instead of {failure}"
                else:
                    raise AssertionError(f"It worked instead of failing with {failure}") from None
                return None
            else:
                real()
                return value
            finally:
                self.before = None

    def node(self, path: str) -> Node | None:
        folder, _, name = path.rpartition("/")
        parent = self.whole.vfs.tree.resolve(folder)
        return self.whole.store.nodes.find_child(parent, name)

    def own_folders(self) -> list[str]:
        return [path for path in self.model.folders() if not path.startswith(THEIRS)]

    def crash(self, image: Image | None = None) -> None:
        self.handles.clear()
        self.whole.crash(image)
        assert (self.whole.recovered.lost, self.whole.recovered.orphans) == (0, 0)

    def close_handles(self) -> None:
        with self.whole.faultless():
            while self.handles:
                self.whole.fs.close(self.handles.pop().fd)

    def noting(self, check: Callable[..., None]) -> Callable[..., None]:
        """A check that is called where an error is taken for one of the uploader's."""

        def noted(*arguments: object) -> None:
            try:
                check(*arguments)
            except AssertionError as error:
                self.problems.append(error)
                raise

        return noted

    def origin(self, node: Node) -> Node:
        """The node that has, or will have first, the file on Drive that `node` goes on with."""
        return self.whole.store.journal.origin(node)

    def removed(self, origin: Node) -> None:
        """What has this file on Drive lost its name: it may go to the trash."""
        if origin.drive_id is not None and origin.confirmed_ns is not None:
            self.trash_allowed.add(origin.drive_id)

    # --- what must hold ---

    def note(self) -> None:
        """Remember the contents that files have now: each of them may be on Drive from now on."""
        for _, entry in self.model.walk():
            self.contents.add(entry.data)
        self.contents.update(handle.entry.data for handle in self.handles)

    def check(self, *, everything: bool = False) -> None:
        """The mount equals the model. What is not here is read with `everything` only."""
        for problem in self.problems:
            raise problem
        assert [record.getMessage() for record in self.errors.records] == []
        with self.whole.faultless():
            self._check_folder("", self.model.root, everything)
            self._check_trash(everything)
            for handle in self.handles:
                if handle.readable and (everything or self._is_here(handle)):
                    read = self.whole.fs.pread(handle.fd, LIMIT_BYTES, 0)
                    assert read == handle.entry.data, "an open file differs from the model"
        for file in self.whole.drive.files.values():
            if self.whole.drive.seen(file).trashed:
                assert file.id in self.trash_allowed, f"{file.name} is in the trash, and was not removed"
            if file.revision is not None and file.app_properties.get("symlink") != "1":
                assert self.whole.drive.contents[file.id, file.revision] in self.contents, f"{file.name} is torn"

    def _is_here(self, handle: Handle) -> bool:
        description = self.whole.fs._fds[handle.fd]
        file = self.whole.vfs.files.handle(description.handle).opened.file
        return file is not None and file.base is None

    def _check_trash(self, everything: bool) -> None:
        """What was moved there shows there; so does, once somebody has looked, what was removed."""
        for name, entry in self.model.trash.children.items():
            path = f"{TRASH}/{name}"
            node = self.node(path)
            assert node is not None, f"{path} is missing"
            self._check_entry(path, entry, node, everything)
        for path, _ in self.model.walk(self.model.trash, f"{TRASH}/"):
            node = self.node(path)
            if node is not None and node.drive_id is not None:
                self.trash_allowed.add(node.drive_id)

    def _check_folder(self, prefix: str, folder: Entry, everything: bool) -> None:
        whole = self.whole
        inode = whole.vfs.tree.resolve(prefix)
        shown = {name: found for name, found in whole.vfs.tree.entries(inode) if name not in (".", "..")}
        assert sorted(shown) == sorted(folder.children), f"names in /{prefix}"
        for name, entry in folder.children.items():
            self._check_entry(prefix + name, entry, whole.store.nodes.get(shown[name].inode), everything)

    def _check_entry(self, path: str, entry: Entry, node: Node, everything: bool) -> None:
        whole = self.whole
        found = whole.vfs.tree.attributes(node.inode)
        assert (found.kind, found.mode) == (entry.kind, entry.mode), path
        assert entry.mtime_ns is None or found.mtime_ns == entry.mtime_ns, path
        assert whole.store.nodes.xattrs(found.inode) == entry.xattrs, path
        if node.confirmed_ns is not None:
            assert entry.drive_id in (None, node.drive_id), f"{path} has another ID than before"
            entry.drive_id = node.drive_id
        if entry.kind is Kind.FOLDER:
            self._check_folder(f"{path}/", entry, everything)
        elif entry.kind is Kind.SYMLINK:
            assert whole.vfs.tree.read_link(found.inode) == entry.target, path
        else:
            assert found.size_bytes == len(entry.data), path
            if everything or (node.generation is not None and whole.store.content.is_whole(node.generation)):
                self._check_content(path, entry)

    def _check_content(self, path: str, entry: Entry) -> None:
        fd = self.whole.fs.open(path, os.O_RDONLY)
        try:
            assert self.whole.fs.pread(fd, LIMIT_BYTES, 0) == entry.data, path
        finally:
            self.whole.fs.close(fd)

    def check_drained(self) -> None:
        """With all handles closed and all jobs done: Drive equals the model, and nothing is left over."""
        self.check()
        self.whole.mirror.poll()
        self.check()
        tree = drive_tree(self.whole.drive)
        expected = dict(self.model.walk())
        assert sorted(tree) == sorted(expected), "names on Drive"
        for path, entry in expected.items():
            self._check_remote(path, entry, tree[path])
        for path, entry in self.model.walk(self.model.trash, f"{TRASH}/"):
            assert entry.drive_id is not None, path
            remote = self.whole.drive.files[entry.drive_id]
            assert self.whole.drive.seen(remote).trashed, path
            self._check_remote(path, entry, remote)
        assert not self.model.deleted & set(self.whole.drive.files), "what was removed from the trash is on Drive"
        self._check_cache()

    def _check_remote(self, path: str, entry: Entry, remote: RemoteFile) -> None:
        shown = attributes(remote)
        assert (shown.kind, shown.mode) == (entry.kind, entry.mode), path
        assert remote.id == entry.drive_id, f"{path} has another ID than before"
        assert dict(shown.xattrs) == entry.xattrs, path
        if entry.kind is Kind.FOLDER:
            return
        assert shown.mtime_ns == self.whole.fs.status(path).mtime_ns, path
        data = entry.target.encode() if entry.kind is Kind.SYMLINK else entry.data
        assert self.whole.drive.content(remote.id) == data, path

    def _check_cache(self) -> None:
        db = self.whole.store.db
        assert [tuple(row) for row in db.rows("SELECT inode FROM nodes WHERE parent IS NULL AND inode != 1")] == []
        stray = db.rows(
            "SELECT * FROM generations g WHERE state != 'clean'"
            " OR NOT EXISTS (SELECT 1 FROM nodes n WHERE n.generation = g.generation)"
        )
        assert [tuple(row) for row in stray] == []
        self.whole.store.sync()
        files = {path.name for path in (self.whole.folder / "content").iterdir()}
        assert files == {str(row[0]) for row in db.rows("SELECT generation FROM generations")}

    def put_theirs(self, name: str, data: bytes) -> None:
        """Others make or change a file in their folder."""
        folder = self.model.root.children[THEIRS]
        entry = folder.children.get(name)
        if entry is None:
            assert folder.drive_id is not None
            entry = folder.children[name] = Entry(Kind.FILE, 0o644)
            entry.drive_id = self.whole.drive.put(name, data, parent=folder.drive_id)
        else:
            assert entry.drive_id is not None
            self.whole.drive.change(entry.drive_id, data)
        entry.data = data


@contextmanager
def world(cache: Path | None = None) -> Iterator[World]:
    """A world for the length of a block, with its cache folder in memory or at `cache`."""
    clock = Clock()
    with scratch_folder() as folder, small_scale(clock):
        drive, model = WatchedDrive(), Reference()
        model.root.children[THEIRS] = Entry(Kind.FOLDER, 0o755, drive_id=drive.put(THEIRS))
        made = World(cache or folder / "cache", clock, drive, model)
        logger = logging.getLogger("drivefs")
        logger.addHandler(made.errors)
        try:
            yield made
        finally:
            logger.removeHandler(made.errors)
            made.whole.abandon()
