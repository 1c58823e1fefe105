"""What a running mount answers on its socket: status, flush, refresh, warm, cache, stop.

Entered by the threads that serve the socket; waits without a lock. Nothing here is durable.
"""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import asdict

from drivefs.control import Handler, Json
from drivefs.errors import Changing, FsError, UserError
from drivefs.model import DriveId, Inode
from drivefs.mounts import find_mount_at, unmount
from drivefs.records import Record
from drivefs.store.check import Checked, check, kept
from drivefs.store.room import Room
from drivefs.store.scope import Scope
from drivefs.store.store import Store
from drivefs.sync.documents import Documents
from drivefs.sync.mirror import Mirror
from drivefs.sync.order import parked_above
from drivefs.sync.streaming import Streaming
from drivefs.sync.uploader import Uploader
from drivefs.sync.warm import Warmed, Warmer
from drivefs.why import Why, quarantined

STEP_S = 0.5
"""Between two looks at the queue."""

RATE_S = 0.4
"""How long status watches the uploads under way to tell their rates."""

SHOWN_JOBS = 20
"""Parked jobs named in an answer; their number is always told."""


class Answers:
    """The handlers of `control.Server` for one mount."""

    def __init__(
        self,
        record: Record,
        *,
        room: Room,
        upload_bytes_s: int | None = None,
        download_bytes_s: int | None = None,
        store: Store,
        mirror: Mirror,
        uploader: Uploader,
        streaming: Streaming,
        warmer: Warmer,
        documents: Documents,
        snapshot_open: Callable[..., None],
        resolve: Callable[[str], Inode],
    ) -> None:
        """`snapshot_open` seals a copy of what is open for writing, as it is now, or of those inodes alone for which
        its argument says yes. `resolve` finds the inode at a path from the mount's root."""
        self._record = record
        self._room = room
        self._limits = {"upload_bytes_s": upload_bytes_s, "download_bytes_s": download_bytes_s}
        self._store = store
        self._mirror = mirror
        self._uploader = uploader
        self._streaming = streaming
        self._warmer = warmer
        self._documents = documents
        self._snapshot_open = snapshot_open
        self._resolve = resolve
        self.stopping_s: float | None = None
        """How long to go on publishing after the unmount that a client asked for; None: nobody has asked."""
        self.ended = threading.Event()
        """Set when the mount has ended, and what is left is known: a client that asked for it may be told."""

    def handlers(self) -> dict[str, Handler]:
        return {
            "status": self.status,
            "flush": self.flush,
            "stop": self.stop,
            "refresh": self.refresh,
            "find": self.find,
            "signed-in": self.signed_in,
            "why": Why(self._store, self._mirror, self._uploader, self._documents, self._inode).answer,
            "warm": self.warm,
            "cache": self.cache,
        }

    # --- status ---

    def status(self, request: Json) -> Generator[Json, None, Json]:
        """The keys are those of `cli.status`."""
        before = {transfer.inode: transfer.done_bytes for transfer in self._uploader.active()}
        started_s = time.monotonic()
        if before:
            time.sleep(RATE_S)
        seconds = max(time.monotonic() - started_s, 1e-3)
        journal = self._store.journal
        left = journal.left()
        oldest = journal.oldest()
        pause = self._uploader.paused
        space = self._mirror.space()
        if space is None:
            self._mirror.want_space()
        writing_files, writing_bytes = self._store.content.being_written()
        yield from ()  # a handler is a generator, whether it has progress to tell or not
        return {
            **{key: value for key, value in asdict(self._record).items() if key not in ("started_s", "supervisor")},
            "mountpoint": str(self._record.mountpoint),
            "cache_dir": str(self._record.cache_dir),
            "log": str(self._record.log) if self._record.log is not None else None,
            "running": True,
            "pid": os.getpid(),
            "since": self._record.started_s,
            "queue": {
                "files": left.jobs,
                "bytes": left.size_bytes,
                "parked": left.parked,
                "writing_files": writing_files,
                "writing_bytes": writing_bytes,
                "oldest_path": self._path(oldest.inode) if oldest is not None else None,
                "oldest_s": max(0.0, time.time() - oldest.since_ns / 1e9) if oldest is not None else None,
            },
            "uploads": [
                {
                    "path": transfer.path,
                    "bytes": transfer.size_bytes,
                    "done_bytes": transfer.done_bytes,
                    "rate_bytes_s": max(0, transfer.done_bytes - before[transfer.inode]) / seconds
                    if transfer.inode in before
                    else None,
                }
                for transfer in self._uploader.active()
            ],
            "ahead": [
                {"path": self._path(each.inode), "bytes": each.size_bytes, "done_bytes": each.done_bytes}
                for each in self._streaming.active()
            ],
            "parked": self._parked(),
            "quarantined": [quarantined(each) for each in self._store.quarantine.all()[:SHOWN_JOBS]],
            "limits": self._limits,
            "pause": {"reason": pause.reason, "until": pause.until_s} if pause is not None else None,
            "offline": self._mirror.offline,
            "quota": asdict(space) if space is not None else None,
            "cache": {
                "limit_bytes": self._room.limit_bytes,
                "keep_free_bytes": self._room.keep_free_bytes,
                "clean_bytes": self._store.content.clean_bytes(),
                "damaged_blocks": self._store.content.damaged_blocks,
                "mended_blocks": self._store.content.mended_blocks,
            },
        }

    def _path(self, inode: Inode) -> str:
        return self._store.nodes.path(inode) or "(a deleted file)"

    def _parked(self) -> list[Json]:
        return [
            {"path": self._path(job.inode), "reason": job.reason} for job in self._store.journal.parked(SHOWN_JOBS)
        ]

    # --- flush ---

    def flush(self, request: Json) -> Generator[Json, None, Json]:
        """Wait until all that was written before the call is on Drive; `timeout_s` bounds it. With `paths`, which are
        from the mount's root, only what lies at or below one of them.

        A pause of the queue ends: who asks may have made room, or signed in again. The keys of progress and result
        are those of `cli.flush`.
        """
        paths = request.get("paths") or []
        scope = None
        if paths:
            scope = Scope(self._store.nodes, self._store.journal, [self._inode(path) for path in paths])
        end_s = math.inf
        if request.get("timeout_s") is not None:
            end_s = time.monotonic() + float(request["timeout_s"])
        self._uploader.resume()
        changing = yield from self._snapshot(scope, end_s)
        left_s = max(0.0, end_s - time.monotonic())
        result = yield from self.publish(None if left_s == math.inf else left_s, scope)
        if changing is not None:
            result |= {"state": "timed-out", "files_left": result["files_left"] + 1, "pause": changing}
        return result

    def _snapshot(self, scope: Scope | None, end_s: float) -> Generator[Json, None, str | None]:
        """Take a copy of what is open; why there is none of one file when the time is up, in words."""
        while True:
            try:
                self._snapshot_open(*([] if scope is None else [scope.covers]))
            except Changing as error:
                if time.monotonic() >= end_s or self.ended.is_set():
                    return str(error)
                pause = str(error)
            else:
                return None
            yield {"files": 1, "bytes": 0, "files_left": 1, "bytes_left": 0, "current": None, "pause": pause}
            with self._store.journal.progress:
                self._store.journal.progress.wait(STEP_S)

    def _inode(self, path: str) -> Inode:
        try:
            return self._resolve(path)
        except FsError:
            raise UserError(f"There is no {self._record.mountpoint / path}.") from None

    def publish(self, timeout_s: float | None, scope: Scope | None = None) -> Generator[Json, None, Json]:
        """Wait until every job that there is now, in the scope, has left the journal, or none of them can: a mount
        that is read-only sends nothing of what waits in its cache from an earlier one."""
        journal = self._store.journal
        started_s = time.monotonic()
        if scope is None:
            scope = Scope(self._store.nodes, journal)
        scope.begin()
        journal.hasten()
        left = scope.left()
        total = left
        stuck = left.parked == left.jobs or self._record.read_only
        signed_out = self._sign_in_over()
        while not (stuck or signed_out or self.ended.is_set()):
            if timeout_s is not None and time.monotonic() - started_s >= timeout_s:
                break
            under_way = self._uploader.active()
            yield {
                "files": total.jobs,
                "bytes": total.size_bytes,
                "files_left": left.jobs,
                "bytes_left": max(0, left.size_bytes - sum(transfer.done_bytes for transfer in under_way)),
                "current": max(under_way, key=lambda transfer: transfer.size_bytes).path if under_way else None,
                "pause": self._pause(),
            }
            with journal.progress:
                journal.progress.wait(STEP_S)
            left = scope.left()
            signed_out = self._sign_in_over()
            stuck = left.parked == left.jobs or (
                left.parked > 0
                and not under_way
                and all(parked_above(job, self._store.nodes, journal.find) for job in scope.jobs())
            )
        state = "timed-out"
        if left.jobs == 0:
            state = "done"
        elif self._record.read_only:
            state = "read-only"
        elif stuck:
            state = "failed"
        elif self.ended.is_set():
            state = "ended"
        elif signed_out:
            state = "sign-in"
        return {
            "state": state,
            "files": total.jobs,
            "bytes": total.size_bytes,
            "files_left": left.jobs,
            "bytes_left": left.size_bytes,
            "parked": self._parked() if left.parked else [],
            "pause": self._pause() if left.jobs else None,
            "seconds": round(time.monotonic() - started_s, 3),
        }

    def _pause(self) -> str | None:
        """Why nothing moves, in words."""
        pause = self._uploader.paused
        return pause.reason if pause is not None else self._mirror.offline

    def _sign_in_over(self) -> bool:
        pause = self._uploader.paused
        return pause is not None and pause.sign_in

    # --- refresh ---

    def signed_in(self, request: Json) -> Generator[Json, None, Json]:
        """The person has signed in again: whatever has waited for that goes on now."""
        yield from ()
        self._uploader.resume()
        self._mirror.wake()
        return {}

    def refresh(self, request: Json) -> Generator[Json, None, Json]:
        """Take over what has changed on Drive, now. Raises DriveError."""
        yield from ()
        return {"changes": self._mirror.poll()}

    # --- find ---

    def find(self, request: Json) -> Generator[Json, None, Json]:
        """Where in the mount the item of Drive `id` is: `path` from the mount's root, null where it is not."""
        yield from ()
        node = self._store.nodes.find_by_drive_id(DriveId(str(request["id"])))
        return {"path": None if node is None else self._store.nodes.path(node.inode)}

    # --- warm ---

    def warm(self, request: Json) -> Generator[Json, None, Json]:
        """Bring `paths` from the mount's root, `jobs` files at once; `pin` them, or take the pins back with `off`.
        The keys are those of `cli.warm`. Raises UserError where there is no such path, DriveError."""
        inodes = [self._inode(path) for path in request.get("paths") or []]
        for inode in inodes:
            if request.get("off"):
                self._store.unpin(inode)
            elif request.get("pin"):
                self._store.pin(inode)
        warmed = Warmed()
        if not request.get("off"):
            for warmed in self._warmer.warm(inodes, int(request.get("jobs") or 1)):
                yield {
                    "files": warmed.files,
                    "bytes": warmed.size_bytes,
                    "files_left": warmed.files - warmed.files_done - warmed.failed,
                    "bytes_left": warmed.size_bytes - warmed.bytes_done,
                    "current": None,
                    "pause": None,
                }
                if self.ended.is_set():
                    raise UserError("The mount was ended before it was done: repeat it in the next one.")
        return {
            "files": warmed.files,
            "bytes": warmed.size_bytes,
            "files_done": warmed.files_done,
            "bytes_done": warmed.bytes_done,
            "failed": warmed.failed,
            "failures": [{"path": path, "reason": reason} for path, reason in warmed.failures],
            "full": warmed.full,
        }

    # --- cache ---

    def cache(self, request: Json) -> Generator[Json, None, Json]:
        """`action` is show, verify or clear. The keys are those of `cli.cache`."""
        action = request.get("action")
        if action == "clear":
            self._store.sync()  # what Drive has got since the last one may go too
            return {"freed_bytes": self._store.evict(sys.maxsize)}
        if action == "verify":
            self._store.checkpoint()  # what Drive has had for a moment only cannot be dropped before
            checked = Checked()
            for checked in check(self._store):
                yield {
                    "files": checked.files,
                    "bytes": checked.size_bytes,
                    "files_left": checked.files - checked.files_done,
                    "bytes_left": checked.size_bytes - checked.bytes_done,
                    "current": None,
                    "pause": None,
                }
                if self.ended.is_set():
                    raise UserError("The mount was ended before it was done: repeat it in the next one.")
            return {
                "files": checked.files_done,
                "bytes": checked.bytes_done,
                "dropped": checked.dropped,
                "in_use": checked.in_use,
            }
        found, left = kept(self._store), self._store.journal.left()
        return {
            "whole_files": found.whole_files,
            "partial_files": found.partial_files,
            "bytes": found.size_bytes,
            "limit_bytes": self._room.limit_bytes,
            "keep_free_bytes": self._room.keep_free_bytes,
            "pins": found.pins,
            "damaged_blocks": self._store.content.damaged_blocks,
            "mended_blocks": self._store.content.mended_blocks,
            "waiting_files": left.jobs,
            "waiting_bytes": left.size_bytes,
        }

    # --- stop ---

    def stop(self, request: Json) -> Generator[Json, None, Json]:
        """Unmount, publish what came last for up to `timeout_s`, and say what is left. Raises MountBusy."""
        self.stopping_s = float(request.get("timeout_s") or 0.0)
        try:
            if find_mount_at(self._record.mountpoint) is not None:  # else somebody was faster
                unmount(self._record.mountpoint)
        except BaseException:
            self.stopping_s = None
            raise
        while not self.ended.wait(STEP_S):
            yield {}
        left = self._store.journal.left()
        return {"files_left": left.jobs, "bytes_left": left.size_bytes}
