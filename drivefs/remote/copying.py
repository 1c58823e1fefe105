"""A plan carried out: folders first, then files, many at once, each exactly once.

Starts no thread: the work is given to the executor that comes by constructor. `Copying.progress` may be asked by any
thread meanwhile, and `stop` ends what is under way; the same command goes on from there.
"""

from __future__ import annotations

import hashlib
import queue
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from drivefs.drive.google import GoogleDrive
from drivefs.errors import DrivefsError, IdInUse, QueueBlocked, ServerFault, SignInNeeded, Unreachable
from drivefs.model import FOLDER_MIME, CreateTarget, DriveId, Metadata, RemoteFile, UpdateTarget
from drivefs.remote.fetching import Fetch
from drivefs.remote.plan import Download, Plan, RemoteCopy, RemoteFolder, Transfer, Upload
from drivefs.remote.sending import FileContent, Patience, Resumable, Stopped, send
from drivefs.remote.unfinished import Unfinished

_IDS_AT_ONCE = 1000  # drive-api: Create without duplicates
_READ_BYTES = 4 << 20
_SHOW_S = 0.2
_RANGES_AT_ONCE = 4
"""Ranges of one file: with one of them a large file would come no faster than one connection."""

T = TypeVar("T")
Progress = dict[str, Any]


@dataclass(slots=True)
class Result:
    """What became of a plan. Paths are as the person would write them."""

    copied_files: int = 0
    copied_bytes: int = 0
    same_files: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)
    """(path, why)"""


@dataclass(frozen=True, slots=True)
class Pools:
    """Who does the work. Two, for a transfer waits for its ranges."""

    transfers: Executor
    ranges: Executor


class Copying:
    """One copy. `run` is its life."""

    def __init__(
        self, drive: GoogleDrive, plan: Plan, unfinished: Unfinished, pools: Pools, *, jobs: int, dry_run: bool
    ) -> None:
        """`jobs` transfers go at once; with `dry_run` everything is looked at, and nothing changed."""
        self._drive, self._plan, self._unfinished = drive, plan, unfinished
        self._pools, self._jobs, self._dry_run = pools, jobs, dry_run
        self._total_bytes = sum(transfer.size_bytes for transfer in plan.transfers)
        self._stop = threading.Event()
        self._ids: queue.SimpleQueue[DriveId] = queue.SimpleQueue()  # reserved, and not used yet
        # Both of the thread of `run`:
        self._ids_to_ask = sum(map(_makes_something, [*plan.remote_folders, *plan.transfers]))
        self._spare_ids = 0  # of those reserved, not for anything that was given out
        self._lock = threading.Lock()  # guards all below
        self._result = Result()
        self._bytes_done = 0
        self._files_done = 0
        self._current = ""
        self._would: list[str] = []

    @property
    def would(self) -> list[str]:
        """What a dry run would have done, in words."""
        return self._would

    def stop(self) -> None:
        self._stop.set()

    def progress(self) -> Progress:
        """As `cli.progress` shows it."""
        with self._lock:
            return {
                "bytes": self._total_bytes,
                "bytes_left": max(0, self._total_bytes - self._bytes_done),
                "files": len(self._plan.transfers),
                "files_left": len(self._plan.transfers) - self._files_done,
                "pause": None,
                "current": self._current,
            }

    def run(self, on_progress: Callable[[Progress], None]) -> Result:
        """Carry out the plan. Raises what makes all of it impossible: SignInNeeded, QueueBlocked, `Stopped`."""
        if self._dry_run:
            self._would += [f"make {path}/" for path in self._new_folders()]
        else:
            self._make_folders()
        self._each(
            self._pools.transfers, self._supplied(self._plan.transfers), self._transfer, self._jobs, on_progress
        )
        return self._result

    def _each(
        self,
        pool: Executor,
        things: Iterator[T],
        do: Callable[[T], None],
        at_once: int,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> None:
        """Do all, `at_once` of them at a time; the first error ends it, when those under way have ended."""
        under_way: set[Future[None]] = set()
        try:
            exhausted = False
            while under_way or not exhausted:
                while not exhausted and len(under_way) < at_once:
                    thing = next(things, None)
                    if thing is None:
                        exhausted = True
                    else:
                        under_way.add(pool.submit(do, thing))
                done, under_way = wait(under_way, timeout=_SHOW_S, return_when=FIRST_COMPLETED)
                for each in done:
                    each.result()
                if on_progress is not None:
                    on_progress(self.progress())
        finally:
            wait(under_way)

    def _id(self) -> DriveId:
        """An ID for something new, which `_supplied` has asked for."""
        return self._ids.get_nowait()

    def _supplied(self, things: Sequence[T]) -> Iterator[T]:
        """All, with an ID for each that makes something new: many are asked for at a time, by the thread that gives
        the work out."""
        for start in range(0, len(things), _IDS_AT_ONCE):
            part = things[start : start + _IDS_AT_ONCE]
            needed = 0 if self._dry_run else sum(map(_makes_something, part))
            lacking = needed - self._spare_ids
            if lacking > 0:
                # With those that folders take, and the files in them, it is one request for a thousand.
                found = self._drive.generate_ids(max(lacking, min(self._ids_to_ask, _IDS_AT_ONCE)))
                self._ids_to_ask -= len(found)
                self._spare_ids += len(found)
                for each in found:
                    self._ids.put(each)
            self._spare_ids -= needed
            yield from part

    # --- folders ---

    def _new_folders(self) -> list[str]:
        return [folder.path for folder in self._plan.remote_folders] + [
            str(path) for path in self._plan.local_folders
        ]

    def _make_folders(self) -> None:
        for path in self._plan.local_folders:
            path.mkdir(parents=True, exist_ok=True)
        waiting = self._plan.remote_folders
        while waiting:
            ready = [folder for folder in waiting if folder.parent is not None and folder.parent.id is not None]
            waiting = [folder for folder in waiting if folder not in ready]
            self._each(self._pools.transfers, self._supplied(ready), self._make_folder, self._jobs)

    def _make_folder(self, folder: RemoteFolder) -> None:
        assert folder.parent is not None and folder.parent.id is not None
        target = CreateTarget(self._id(), folder.parent.id, Metadata(name=folder.name, mime_type=FOLDER_MIME))
        patience = Patience(self._stop)
        while True:
            try:
                self._drive.create(target)
            except IdInUse:
                pass  # an earlier try had worked
            except (Unreachable, ServerFault) as error:
                patience.again(error)
                continue
            folder.id = target.id
            return

    # --- files ---

    def _transfer(self, transfer: Transfer) -> None:
        """One file; what fails with it alone is noted."""
        if self._stop.is_set():
            raise Stopped("Stopped; the same command goes on from here.")
        with self._lock:
            self._current = transfer.where
        try:
            copied = self._copied(transfer)
        except (SignInNeeded, QueueBlocked, Stopped):
            self._stop.set()
            raise
        except DrivefsError as error:
            with self._lock:
                self._files_done += 1
                self._result.failures.append((transfer.where, str(error)))
            return
        with self._lock:
            self._files_done += 1
            if copied:
                self._result.copied_files += 1
                self._result.copied_bytes += transfer.size_bytes
            else:
                self._result.same_files += 1
                self._bytes_done += transfer.size_bytes

    def _copied(self, transfer: Transfer) -> bool:
        """Whether it had to be; False where the same was there already."""
        match transfer:
            case Upload():
                return self._upload(transfer)
            case Download():
                return self._download(transfer)
            case RemoteCopy():
                return self._copy(transfer)

    def _moved(self, count: int) -> None:
        with self._lock:
            self._bytes_done += count

    def _upload(self, transfer: Upload) -> bool:
        with FileContent(transfer.source, self._moved) as content:
            existing = transfer.existing
            if existing is not None and existing.size_bytes == content.size_bytes and existing.md5 == content.md5():
                return False
            if self._dry_run:
                return self._note(f"copy {transfer.source} to {transfer.where}")
            metadata = Metadata(name=transfer.name, modified_ns=content.mtime_ns)
            target: CreateTarget | UpdateTarget
            if existing is not None:
                target = UpdateTarget(existing.id, Metadata(modified_ns=content.mtime_ns))
            else:
                assert transfer.folder.id is not None
                target = CreateTarget(self._id(), transfer.folder.id, metadata)
            parent = transfer.folder.id or ""
            key = Unfinished.key("upload", str(transfer.source.absolute()), parent, transfer.name)
            send(self._drive, target, content, Patience(self._stop), Resumable(self._unfinished, key))
            return True

    def _download(self, transfer: Download) -> bool:
        if transfer.same_size and _md5(transfer.target) == transfer.source.md5:
            return False
        if self._dry_run:
            return self._note(f"copy {transfer.source.name} to {transfer.where}")
        self._fetch(transfer.source, transfer.target)
        return True

    def _fetch(self, source: RemoteFile, target: Path) -> None:
        fetch = Fetch(self._drive, source, target, self._unfinished, self._moved)
        try:
            self._moved(fetch.done_bytes)
            patience = Patience(self._stop)
            starts = fetch.ranges()
            if len(starts) == 1:
                fetch.fetch(starts[0], patience)
            else:
                self._each(
                    self._pools.ranges, iter(starts), lambda start: fetch.fetch(start, patience), _RANGES_AT_ONCE
                )
            fetch.finish()
        finally:
            fetch.close()

    def _copy(self, transfer: RemoteCopy) -> bool:
        """By Drive itself, where nothing has to keep its ID."""
        source, existing = transfer.source, transfer.existing
        if existing is not None and source.md5 is not None and existing.md5 == source.md5:
            return False
        if self._dry_run:
            return self._note(f"copy {source.name} to {transfer.where} on Drive")
        if existing is not None:
            self._replace(source, existing)
            return True
        assert transfer.folder.id is not None
        metadata = Metadata(name=source.name, modified_ns=source.modified_ns)
        target = CreateTarget(self._id(), transfer.folder.id, metadata)
        patience = Patience(self._stop)
        while True:
            try:
                self._drive.copy(source.id, target)
            except IdInUse:
                pass  # an earlier try had worked
            except (Unreachable, ServerFault) as error:
                patience.again(error)
                continue
            self._moved(transfer.size_bytes)
            return True

    def _replace(self, source: RemoteFile, existing: RemoteFile) -> None:
        """Give an item another one's content: Drive has no call for it, so the bytes come here and go back."""
        with tempfile.TemporaryDirectory(prefix="drivefs-") as folder, ExitStack() as stack:
            local = Path(folder) / "content"
            self._fetch(source, local)
            content = stack.enter_context(FileContent(local))
            target = UpdateTarget(existing.id, Metadata(modified_ns=source.modified_ns))
            send(self._drive, target, content, Patience(self._stop))

    def _note(self, what: str) -> bool:
        with self._lock:
            self._would.append(what)
        return True


def _makes_something(thing: object) -> bool:
    """Whether it needs an ID of its own on Drive."""
    return isinstance(thing, RemoteFolder) or (isinstance(thing, Upload | RemoteCopy) and thing.existing is None)


def _md5(path: Path) -> str | None:
    digest = hashlib.md5(usedforsecurity=False)
    try:
        with path.open("rb") as file:
            while piece := file.read(_READ_BYTES):
                digest.update(piece)
    except OSError:
        return None  # it cannot be compared, so it is copied anew, which says what is wrong with it
    return digest.hexdigest()
