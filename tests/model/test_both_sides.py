"""Random changes of the same files here and by others on Drive: nobody's content is lost, and both sides agree in the
end. What name a conflict's copy has is not predicted here (tests/unit/test_sync_conflicts.py does that).
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drivefs.errors import DrivefsError, Unreachable
from drivefs.model import FOLDER_MIME, DriveId, Kind, RemoteFile
from drivefs.sync.names import shown_name, told_apart
from tests.fake_drive import ROOT
from tests.filesystem import read_file, write_file
from tests.whole import Clock, Image, Whole, scratch_folder, small_scale

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
NAMES = ("a", "b", "d")
LOST = ("after", Unreachable("No reply."))


@dataclass(frozen=True, slots=True)
class Do:
    """One change: what, and numbers that choose where."""

    what: str
    one: int = 0
    two: int = 0


class Sides:
    """The mount and the others."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self.whole = Whole(folder, clock)
        self.mine: dict[int, bytes] = {}
        """By inode, the content that it got here last."""
        self.theirs: list[bytes] = []
        self._numbers = itertools.count(1)

    def _new_content(self, who: str, large: bool) -> bytes:
        return f"{who} {next(self._numbers)} ".encode() * (50 if large else 1)

    def _path(self, number: int) -> str:
        """Some name at the top, or in one of the folders there."""
        folders = ["", *(f"{name}/" for name in NAMES if self._is_folder(name))]
        return folders[number // 3 % len(folders)] + NAMES[number % 3]

    def _is_folder(self, path: str) -> bool:
        with suppress(OSError):
            return self.whole.fs.status(path).is_folder
        return False

    def _forget(self, path: str) -> None:
        """What is removed here need not be found again."""
        with suppress(OSError):
            self.mine.pop(self.whole.fs.status(path).inode, None)

    def here(self, do: Do) -> None:
        fs, path = self.whole.fs, self._path(do.one)
        match do.what:
            case "write":
                data = self._new_content("mine", do.two % 2 == 1)
                write_file(fs, path, data)
                self.mine[fs.status(path).inode] = data
            case "save":
                data = self._new_content("mine", False)
                write_file(fs, "tmp", data)
                self._forget(path)
                fs.rename("tmp", path)
                self.mine[fs.status(path).inode] = data
            case "mkdir":
                fs.mkdir(path)
            case "rmdir":
                fs.rmdir(path)
            case "unlink":
                inode = fs.status(path).inode
                fs.unlink(path)
                self.mine.pop(inode, None)
            case "rename":
                new = self._path(do.two)
                over = None
                with suppress(OSError):
                    over = fs.status(new).inode
                source = fs.status(path).inode
                fs.rename(path, new)
                if over is not None and over != source:
                    self.mine.pop(over, None)
            case "chmod":
                fs.chmod(path, 0o600 + do.two % 8)
            case "evict":
                self.whole.store.sync()
        self.whole.store.evict(1 << 40)

    def there(self, do: Do) -> None:
        drive = self.whole.drive
        shown = [file for file in drive.files.values() if not file.trashed and file.id != ROOT]
        folders = [ROOT, *(file.id for file in shown if file.mime_type == FOLDER_MIME)]
        files = [file for file in shown if file.mime_type != FOLDER_MIME]
        name = NAMES[do.two % 3]
        if do.what == "put":
            self.theirs.append(self._new_content("theirs", False))
            drive.put(name, self.theirs[-1], parent=folders[do.one % len(folders)])
        elif do.what == "edit" and files:
            self.theirs.append(self._new_content("theirs", False))
            drive.change(files[do.one % len(files)].id, self.theirs[-1])
        elif shown:
            file = shown[do.one % len(shown)]
            folder = folders[do.two % len(folders)]
            if do.what == "their rename":
                drive.change(file.id, name=name)
            elif do.what == "trash":
                self._trash(file)
            elif do.what == "move" and folder not in self._below(file.id):
                drive.change(file.id, parent=folder)

    def _below(self, file_id: DriveId) -> list[DriveId]:
        children = [file.id for file in self.whole.drive.files.values() if file.parent == file_id]
        return [file_id, *(each for child in children for each in self._below(child))]

    def _trash(self, file: RemoteFile) -> None:
        for each in reversed(self._below(file.id)):
            self.whole.drive.change(each, trashed=True)

    def run(self, do: Do) -> None:
        whole = self.whole
        match do.what:
            case "put" | "edit" | "their rename" | "trash" | "move":
                self.there(do)
            case "poll":
                with whole.faultless():
                    whole.mirror.poll()
            case "lose":
                whole.drive.fail(("upload_small", "update", "create", "send")[do.one % 4], LOST)
            case "crash":
                whole.crash()
            case "dispatch" | "dispatch late" | "dispatch and crash":
                self._dispatch(do)
            case _:
                with suppress(OSError), whole.faultless():
                    self.here(do)

    def _dispatch(self, do: Do) -> None:
        """Publish some, with a change by others or a crash after its n-th event."""
        whole, events = self.whole, itertools.count(1)
        image: Image | None = None

        def watch(when: str, method: str) -> None:
            nonlocal image
            if next(events) == do.one + 1:
                if do.what == "dispatch and crash":
                    image = whole.image()
                else:
                    self.there(Do("edit", do.two, 0))

        if do.what != "dispatch":
            whole.drive.watch = watch
        with suppress(DrivefsError):  # as in Uploader.run: it may pass
            whole.dispatch(1.0)
        whole.drive.watch = lambda when, method: None
        if image is not None:
            theirs = set(image.drive.contents.values())
            self.theirs = [data for data in self.theirs if data in theirs]
            whole.crash(image)

    # --- the end ---

    def check(self) -> None:
        whole = self.whole
        whole.drive.faults.clear()
        for _ in range(4):
            whole.mirror.poll()
            whole.drain()
        whole.mirror.poll()
        kept = {whole.drive.contents[key] for key in whole.drive.contents if key[0] in whole.drive.files}
        lost = [data[:12] for data in self.mine.values() if data not in kept]
        assert not lost, f"lost from here: {lost}"
        assert [data[:12] for data in self.theirs if data not in kept] == [], "lost from there"
        self._check_folder("", ROOT)

    def _check_folder(self, prefix: str, folder: DriveId) -> None:
        """The mount shows what Drive has."""
        whole = self.whole
        there = [file for file in whole.drive.files.values() if file.parent == folder and not file.trashed]
        shown = dict(self._entries(prefix))
        assert len(shown) == len(there), (prefix, sorted(shown), sorted((file.name, file.id) for file in there))
        for name, file in shown.items():
            plain = shown_name(file.name)
            assert name in (plain, told_apart(plain, file.id)), name
            assert file.parent == folder
            if file.mime_type == FOLDER_MIME:
                self._check_folder(f"{prefix}{name}/", file.id)
            else:
                assert read_file(whole.fs, prefix + name) == whole.drive.content(file.id), prefix + name

    def _entries(self, prefix: str) -> Iterator[tuple[str, RemoteFile]]:
        tree = self.whole.vfs.tree
        for name, found in tree.entries(tree.resolve(prefix)):
            if name not in (".", ".."):
                node = self.whole.store.nodes.get(found.inode)
                assert node.drive_id is not None, f"{prefix}{name} is not on Drive"
                file = self.whole.drive.files[node.drive_id]
                assert not file.trashed, f"{prefix}{name} is in the trash"
                assert (file.mime_type == FOLDER_MIME) == (found.kind is Kind.FOLDER)
                yield name, file


@contextmanager
def sides() -> Iterator[Sides]:
    clock = Clock()
    with scratch_folder() as folder, small_scale(clock):
        made = Sides(folder / "cache", clock)
        try:
            yield made
        finally:
            made.whole.abandon()


HERE = ("write", "write", "write", "save", "save", "mkdir", "rmdir", "unlink", "rename", "chmod", "evict")
THERE = ("put", "edit", "edit", "their rename", "trash", "move")
BETWEEN = ("poll", "poll", "dispatch", "dispatch", "dispatch late", "dispatch and crash", "lose", "crash")
changes = st.one_of(
    *(st.builds(Do, st.sampled_from(what), st.integers(0, 8), st.integers(0, 8)) for what in (HERE, THERE, BETWEEN))
)


def replay(changes: list[Do]) -> None:
    with sides() as made:
        for do in changes:
            made.run(do)
        made.check()


@settings(
    max_examples=5_000 if LONG else 150,
    derandomize=not LONG,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(st.lists(changes, min_size=5, max_size=40))
def test_changes_on_both_sides_lose_nothing_and_agree_in_the_end(changes: list[Do]) -> None:
    replay(changes)


FOUND: dict[str, list[Do]] = {
    "edited there, its attributes changed here before that was heard of": [
        Do("write", 3, 2),
        Do("dispatch"),
        Do("edit", 0, 5),
        Do("chmod", 3, 4),
        Do("dispatch"),
    ],
    "trashed there, its attributes changed here before that was heard of": [
        Do("write", 6, 1),
        Do("dispatch"),
        Do("trash", 7, 1),
        Do("chmod", 3, 4),
        Do("dispatch"),
    ],
    "renamed there, its attributes changed here before that was heard of": [
        Do("write", 5, 4),
        Do("dispatch"),
        Do("their rename", 2, 1),
        Do("chmod", 2, 4),
        Do("dispatch"),
    ],
    "edited there, renamed here over another as a temporary file is": [
        Do("save", 7, 3),
        Do("write", 6, 1),
        Do("dispatch", 0, 3),
        Do("edit", 4, 3),
        Do("rename", 7, 6),
    ],
    "renamed there after a crash in the middle of its upload": [
        Do("write", 4, 1),
        Do("dispatch and crash", 5, 8),
        Do("their rename", 6, 0),
    ],
    "put into a folder that was removed here, before Drive heard of that": [
        Do("write"),
        Do("mkdir", 1),
        Do("dispatch"),
        Do("rmdir", 1),
        Do("put", 1),
    ],
    "edited there after a crash between the end of its session and the reply": [
        Do("write", 0, 1),
        Do("dispatch and crash", 5),
        Do("edit"),
    ],
    "edited there after its create, whose reply was lost, and renamed over another": [
        Do("write"),
        Do("dispatch"),
        Do("lose"),
        Do("write", 1),
        Do("dispatch"),
        Do("edit", 1),
        Do("dispatch late", 8),
        Do("dispatch late", 8),
        Do("rename", 1, 0),
    ],
    "edited there after its create, whose reply was lost, and removed here": [
        Do("write"),
        Do("lose"),
        Do("dispatch"),
        Do("unlink"),
        Do("edit"),
    ],
    "edited there, overwritten here, and renamed over another": [
        Do("write", 1),
        Do("write"),
        Do("dispatch"),
        Do("edit", 1),
        Do("poll"),
        Do("write"),
        Do("rename", 0, 1),
    ],
}


@pytest.mark.parametrize("name", FOUND)
def test_both_sides_agree_after_what_was_found(name: str) -> None:
    replay(FOUND[name])
