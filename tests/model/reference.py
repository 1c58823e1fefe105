"""What POSIX says of a small tree, in plain dictionaries: the model that the mount is compared with."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass, field

from drivefs.model import DriveId, Kind

TRASH = ".Trash"


class Fails(Exception):
    """A call must fail with one of `numbers`."""

    def __init__(self, *numbers: int) -> None:
        super().__init__(", ".join(errno.errorcode[number] for number in numbers))
        self.numbers = numbers


@dataclass(eq=False)
class Entry:
    """A file, folder or symlink; lives on without a name while a handle has it."""

    kind: Kind
    mode: int
    data: bytes = b""
    target: str = ""
    mtime_ns: int | None = None
    """None: whatever the clock said."""
    xattrs: dict[str, bytes] = field(default_factory=dict)
    children: dict[str, Entry] = field(default_factory=dict)
    drive_id: DriveId | None = None
    """Where its name is on Drive, once Drive has confirmed one: it stays."""


class Reference:
    """The tree, and what was moved into the trash. Paths are relative, and never lead through symlinks."""

    def __init__(self) -> None:
        self.root = Entry(Kind.FOLDER, 0o755)
        self.trash = Entry(Kind.FOLDER, 0o700)
        self.deleted: set[DriveId] = set()
        """What was removed from the trash: gone for good."""

    def find(self, path: str) -> Entry | None:
        entry: Entry | None = self.root
        if path == TRASH or is_in_trash(path):
            entry, path = self.trash, path.removeprefix(TRASH)
        for name in path.split("/"):
            if name and entry is not None:
                entry = entry.children.get(name)
        return entry

    def place(self, path: str) -> tuple[Entry, str]:
        folder, _, name = path.rpartition("/")
        found = self.find(folder)
        assert found is not None
        assert found.kind is Kind.FOLDER
        return found, name

    def get(self, path: str) -> Entry:
        folder, name = self.place(path)
        entry = folder.children.get(name)
        if entry is None:
            raise Fails(errno.ENOENT)
        return entry

    def walk(self, folder: Entry | None = None, prefix: str = "") -> Iterator[tuple[str, Entry]]:
        """All below a folder, parents first."""
        for name, entry in sorted((folder or self.root).children.items()):
            yield prefix + name, entry
            yield from self.walk(entry, f"{prefix}{name}/") if entry.kind is Kind.FOLDER else ()

    def folders(self) -> list[str]:
        """Prefixes of paths: "" or one that ends in a slash."""
        return ["", *(f"{path}/" for path, entry in self.walk() if entry.kind is Kind.FOLDER)]

    # --- system calls ---

    def add(self, path: str, entry: Entry) -> Entry:
        folder, name = self.place(path)
        if name in folder.children:
            raise Fails(errno.EEXIST)
        folder.children[name] = entry
        folder.mtime_ns = None
        return entry

    def unlink(self, path: str) -> Entry:
        folder, name = self.place(path)
        entry = self.get(path)
        if entry.kind is Kind.FOLDER:
            raise Fails(errno.EISDIR)
        self._remove(folder, name, path)
        return entry

    def _remove(self, folder: Entry, name: str, path: str) -> None:
        entry = folder.children.pop(name)
        folder.mtime_ns = None
        if is_in_trash(path) and entry.drive_id is not None:
            self.deleted.add(entry.drive_id)

    def rmdir(self, path: str) -> Entry:
        folder, name = self.place(path)
        entry = self.get(path)
        if entry.kind is not Kind.FOLDER:
            raise Fails(errno.ENOTDIR)
        if entry.children:
            raise Fails(errno.ENOTEMPTY)
        self._remove(folder, name, path)
        return entry

    def rename(self, old: str, new: str) -> Entry | None:
        """Returns what was replaced."""
        source = self.get(old)
        folder, name = self.place(new)
        target = folder.children.get(name)
        if target is source:
            return None
        numbers = []
        if source.kind is Kind.FOLDER and f"{new}/".startswith(f"{old}/"):
            numbers.append(errno.EINVAL)
        if target is not None and target.kind is Kind.FOLDER:
            if source.kind is not Kind.FOLDER:
                numbers.append(errno.EISDIR)
            elif target.children:
                numbers.append(errno.ENOTEMPTY)
        elif target is not None and source.kind is Kind.FOLDER:
            numbers.append(errno.ENOTDIR)
        if numbers:
            raise Fails(*numbers)
        old_folder, old_name = self.place(old)
        del old_folder.children[old_name]
        folder.children[name] = source
        old_folder.mtime_ns = folder.mtime_ns = None
        return target


def is_in_trash(path: str) -> bool:
    return path.startswith(f"{TRASH}/")


def write(data: bytes, offset: int, new: bytes) -> bytes:
    """What pwrite(2) makes of a file."""
    return data[:offset].ljust(offset, b"\0") + new + data[offset + len(new) :] if new else data


def resize(data: bytes, size_bytes: int) -> bytes:
    """What ftruncate(2) makes of a file."""
    return data[:size_bytes].ljust(size_bytes, b"\0")
