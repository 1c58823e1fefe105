"""What a copy has to do: which folders to make, and which files may have to move. Looks, and changes nothing.

SRC and DST are as for rsync: `folder` is copied as a folder of that name into DST, `folder/` means what is in it; a
file goes into DST where that is a folder or ends with `/`, and becomes DST otherwise.

What is at its place already is compared by size here, and by checksum when its turn comes, for that reads the file.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from stat import S_ISDIR, S_ISREG

from drivefs.drive.api import Drive
from drivefs.errors import UsageError, UserError
from drivefs.model import FOLDER_MIME, GOOGLE_MIME_PREFIX, ROOT_ALIAS, DriveId, RemoteFile
from drivefs.remote.paths import PREFIX, children, find, get, id_of, oldest_first
from drivefs.sync.names import local_name, remote_name, shown_name
from drivefs.sync.walks import QUERY_FOLDERS


@dataclass(slots=True)
class RemoteFolder:
    """A folder of Drive to copy into; `id` is None until it is made."""

    path: str
    name: str
    parent: RemoteFolder | None
    id: DriveId | None = None
    entries: dict[str, RemoteFile] = field(default_factory=dict)
    """What is in it, by its plain shown name; of twins the oldest."""


@dataclass(frozen=True, slots=True)
class Upload:
    source: Path
    size_bytes: int
    folder: RemoteFolder
    name: str
    existing: RemoteFile | None

    @property
    def where(self) -> str:
        """The place that it goes to, as the person would write it."""
        return f"{self.folder.path}/{self.name}"


@dataclass(frozen=True, slots=True)
class Download:
    source: RemoteFile
    target: Path
    same_size: bool
    """Whether a file of its size is there, which may be the same."""

    @property
    def where(self) -> str:
        return str(self.target)

    @property
    def size_bytes(self) -> int:
        return self.source.size_bytes or 0


@dataclass(frozen=True, slots=True)
class RemoteCopy:
    source: RemoteFile
    folder: RemoteFolder
    existing: RemoteFile | None

    @property
    def where(self) -> str:
        return f"{self.folder.path}/{self.source.name}"

    @property
    def size_bytes(self) -> int:
        return self.source.size_bytes or 0


Transfer = Upload | Download | RemoteCopy


@dataclass(slots=True)
class Plan:
    """Folders, parents first, and files."""

    remote_folders: list[RemoteFolder] = field(default_factory=list)
    local_folders: list[Path] = field(default_factory=list)
    transfers: list[Transfer] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    """What is no plain file, in words."""


def is_on_drive(text: str) -> bool:
    """Whether an argument of a copy means something on Drive: `drive:PATH`, an ID or a link, and no file here."""
    return text.startswith(PREFIX) or (not os.path.lexists(text) and id_of(text) is not None)


def make(drive: Drive, sources: list[str], target: str, *, recursive: bool) -> Plan:
    """What copying `sources` to `target` takes. Raises UserError with a sentence, DriveError."""
    plan = Plan()
    from_drive = {is_on_drive(source) for source in sources}
    if len(from_drive) != 1:
        raise UsageError("Copy from this machine or from Drive, and not from both at once.")
    if from_drive == {True}:
        items = [(source, get(drive, source)) for source in sources]
        for source, item in items:
            if item.mime_type == FOLDER_MIME and not recursive:
                raise UsageError(f"{source} is a folder: 'drivefs cp -r' copies folders.")
        if is_on_drive(target):
            _copies(plan, drive, items, target)
        else:
            _downloads(plan, drive, items, Path(target), into=target.endswith("/"))
        return plan
    if not is_on_drive(target):
        raise UsageError(f"Neither end is on Drive: 'cp' copies on this machine; name one as {PREFIX}folder/.")
    _uploads(plan, drive, sources, target, recursive)
    return plan


# --- the target on Drive ---


def _target_folder(plan: Plan, drive: Drive, target: str, *, into: bool) -> tuple[RemoteFolder, str | None]:
    """The folder that `target` is, or lies in with the name that is returned too; what is missing is to be made."""
    if not target.startswith(PREFIX):
        item = get(drive, target)
        if item.mime_type != FOLDER_MIME:
            raise UsageError(f"{target} is a file on Drive; name a folder to copy into.")
        return _known(drive, target, item), None
    text = target.removeprefix(PREFIX)
    item_or_none = find(drive, text)
    if item_or_none is not None and item_or_none.mime_type == FOLDER_MIME:
        return _known(drive, target, item_or_none), None
    if item_or_none is not None and into:
        raise UsageError(f"{target} is a file on Drive; name a folder to copy into.")
    names = [name for name in text.split("/") if name]
    last = None if into else names.pop()
    folder = _known(drive, PREFIX, drive.get(ROOT_ALIAS))
    for name in names:
        folder = _below(plan, drive, folder, name)
    return folder, last


def _known(drive: Drive, path: str, item: RemoteFile) -> RemoteFolder:
    folder = RemoteFolder(path.rstrip("/"), item.name, None, item.id)
    _fill({item.id: folder}, drive)
    return folder


def _below(plan: Plan, drive: Drive, parent: RemoteFolder, name: str) -> RemoteFolder:
    """The folder `name` (a shown name) of a folder: the one that is there, or one to be made."""
    return _level(plan, drive, [(parent, name)])[0]


def _new(plan: Plan, parent: RemoteFolder, name: str) -> RemoteFolder:
    if name in parent.entries:
        raise UserError(f"{parent.path}/{name} is a file on Drive, where a folder is to be: move it away first.")
    folder = RemoteFolder(f"{parent.path}/{name}", remote_name(name), parent)
    plan.remote_folders.append(folder)
    return folder


def _fill(folders: Mapping[DriveId, RemoteFolder], drive: Drive) -> None:
    """Note what is in folders that exist, many to a query."""
    ids = list(folders)
    for start in range(0, len(ids), QUERY_FOLDERS):
        for file in children(drive, ids[start : start + QUERY_FOLDERS]):
            if file.parent is None or file.parent not in folders:
                continue
            entries = folders[file.parent].entries
            name = shown_name(file.name)
            if name not in entries or oldest_first(file) < oldest_first(entries[name]):
                entries[name] = file


def _level(plan: Plan, drive: Drive, wanted: Iterable[tuple[RemoteFolder, str]]) -> list[RemoteFolder]:
    """The folders of these names (parent, shown name), with their entries where they are there; the others are to be
    made."""
    known: dict[DriveId, RemoteFolder] = {}
    level = []
    for parent, name in wanted:
        existing = parent.entries.get(name)
        if existing is not None and existing.mime_type == FOLDER_MIME:
            folder = RemoteFolder(f"{parent.path}/{name}", existing.name, parent, existing.id)
            known[existing.id] = folder
        else:
            folder = _new(plan, parent, name)
        level.append(folder)
    _fill(known, drive)
    return level


# --- from here to Drive ---


def _uploads(plan: Plan, drive: Drive, sources: list[str], target: str, recursive: bool) -> None:
    tops = []
    for source in sources:
        path = Path(source)
        try:
            kind = path.stat().st_mode
        except OSError as error:
            raise UserError(f"{source} cannot be read: {error.strerror}.") from error
        if S_ISDIR(kind) and not recursive:
            raise UsageError(f"{source} is a folder: 'drivefs cp -r' copies folders.")
        tops.append((source, path, S_ISDIR(kind)))
    into = target.endswith(("/", ":")) or len(tops) > 1 or any(folder for _, _, folder in tops)
    folder, name = _target_folder(plan, drive, target, into=into)
    level: list[tuple[RemoteFolder, Path]] = []
    for source, path, is_folder in tops:
        if not is_folder:
            size_bytes = path.stat().st_size
            shown = name if name is not None else path.name
            plan.transfers.append(_upload(path, size_bytes, folder, shown))
        elif source.endswith(("/", "/.")) or source == ".":
            level.append((folder, path))
        else:
            level.append((_below(plan, drive, folder, path.name), path))
    while level:
        below = [(here, child) for here, path in level for child in _look_into(plan, path, here)]
        folders = _level(plan, drive, ((here, child.name) for here, child in below))
        level = [(each, child) for each, (_, child) in zip(folders, below, strict=True)]


def _look_into(plan: Plan, path: Path, here: RemoteFolder) -> Iterator[Path]:
    """Note the files of a local folder; its folders come out."""
    try:
        with os.scandir(path) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    for entry in listed:
        status = entry.stat(follow_symlinks=False)
        if S_ISDIR(status.st_mode):
            yield Path(entry.path)
        elif S_ISREG(status.st_mode):
            plan.transfers.append(_upload(Path(entry.path), status.st_size, here, entry.name))
        else:
            plan.left_out.append(f"{entry.path} (no plain file)")


def _upload(source: Path, size_bytes: int, folder: RemoteFolder, shown: str) -> Upload:
    existing = folder.entries.get(shown)
    if existing is not None and existing.mime_type.startswith(GOOGLE_MIME_PREFIX):
        raise UserError(
            f"{folder.path}/{shown} on Drive is no plain file, and is not overwritten: move it away first."
        )
    return Upload(source, size_bytes, folder, remote_name(shown), existing)


# --- from Drive to here ---


def _downloads(plan: Plan, drive: Drive, items: list[tuple[str, RemoteFile]], target: Path, *, into: bool) -> None:
    several = len(items) > 1 or any(item.mime_type == FOLDER_MIME for _, item in items)
    folder = into or several or target.is_dir()
    if folder:
        _local_folder(plan, target)
    level: list[tuple[RemoteFile, Path]] = []
    for source, item in items:
        shown = local_name(item.name, item.id, taken=False)
        if item.mime_type != FOLDER_MIME:
            _download(plan, item, target / shown if folder else target)
        elif source.endswith(("/", ":")):
            level.append((item, target))
        else:
            _local_folder(plan, target / shown)
            level.append((item, target / shown))
    for parents in _levels(drive, level):
        for folder_here, found in parents:
            for name, item in _told_apart(found):
                if item.mime_type == FOLDER_MIME:
                    _local_folder(plan, folder_here / name)
                else:
                    _download(plan, item, folder_here / name)


def _levels(drive: Drive, top: list[tuple[RemoteFile, Path]]) -> Iterator[list[tuple[Path, list[RemoteFile]]]]:
    """What lies below folders of Drive, level by level: (where it goes to, what goes there)."""
    level = {item.id: path for item, path in top}
    seen = set(level)
    while level:
        ids = list(level)
        found: dict[DriveId, list[RemoteFile]] = {each: [] for each in ids}
        for start in range(0, len(ids), QUERY_FOLDERS):
            for file in children(drive, ids[start : start + QUERY_FOLDERS]):
                if file.parent in found:
                    found[file.parent].append(file)
        yield [(level[each], files) for each, files in found.items()]
        below: dict[DriveId, Path] = {}
        for parent, files in found.items():
            for name, file in _told_apart(files):
                if file.mime_type == FOLDER_MIME and file.id not in seen:  # Drive may hold cycles
                    seen.add(file.id)
                    below[file.id] = level[parent] / name
        level = below


def _told_apart(files: list[RemoteFile]) -> Iterator[tuple[str, RemoteFile]]:
    """The items of one folder with the names that a mount shows them by."""
    taken: set[str] = set()
    for file in sorted(files, key=oldest_first):
        name = local_name(file.name, file.id, taken=shown_name(file.name) in taken)
        taken.add(shown_name(file.name))
        yield name, file


def _download(plan: Plan, item: RemoteFile, target: Path) -> None:
    if item.size_bytes is None:
        plan.left_out.append(f"{target} (a Google document or shortcut, which has no bytes)")
        return
    if target.is_dir():
        raise UserError(f"{target} is a folder, where a file is to be: move it away first.")
    same_size = target.is_file() and target.stat().st_size == item.size_bytes
    plan.transfers.append(Download(item, target, same_size))


def _local_folder(plan: Plan, path: Path) -> None:
    if path.is_dir():
        return
    if os.path.lexists(path):
        raise UserError(f"{path} is a file, where a folder is to be: move it away first.")
    plan.local_folders.append(path)


# --- within Drive ---


def _copies(plan: Plan, drive: Drive, items: list[tuple[str, RemoteFile]], target: str) -> None:
    into = target.endswith(("/", ":")) or len(items) > 1 or any(item.mime_type == FOLDER_MIME for _, item in items)
    folder, name = _target_folder(plan, drive, target, into=into)
    level: list[tuple[RemoteFile, RemoteFolder]] = []
    for source, item in items:
        if item.mime_type != FOLDER_MIME:
            _copy(plan, item, folder, name)
        elif source.endswith(("/", ":")):
            level.append((item, folder))
        else:
            level.append((item, _below(plan, drive, folder, shown_name(item.name))))
    seen = {item.id for item, _ in level}
    while level:
        targets = {item.id: here for item, here in level}
        below: list[tuple[RemoteFolder, RemoteFile]] = []
        ids = list(targets)
        for start in range(0, len(ids), QUERY_FOLDERS):
            for file in sorted(children(drive, ids[start : start + QUERY_FOLDERS]), key=oldest_first):
                here = targets.get(file.parent) if file.parent is not None else None
                if here is None or file.id in seen:
                    continue
                if file.mime_type != FOLDER_MIME:
                    _copy(plan, file, here, None)
                    continue
                seen.add(file.id)
                below.append((here, file))
        folders = _level(plan, drive, ((here, shown_name(file.name)) for here, file in below))
        level = [(file, each) for each, (_, file) in zip(folders, below, strict=True)]


def _copy(plan: Plan, item: RemoteFile, folder: RemoteFolder, name: str | None) -> None:
    shown = name if name is not None else shown_name(item.name)
    existing = folder.entries.get(shown)
    if existing is not None and (item.size_bytes is None or existing.size_bytes is None):
        plan.left_out.append(f"{folder.path}/{shown} (there already, and no plain file)")
        return
    source = item if name is None else replace(item, name=remote_name(name))
    plan.transfers.append(RemoteCopy(source, folder, existing))
