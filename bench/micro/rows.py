"""Many rows at once: what a mount would have after hours."""

from __future__ import annotations

import time

from drivefs.model import ROOT_INODE, DriveId, Inode, Kind, RemoteFile, RevisionId
from drivefs.store.generations import State
from drivefs.store.node import Node
from drivefs.store.queue import Barrier, JobState
from drivefs.store.store import Store


def folder(store: Store, name: str) -> Node:
    """A folder that Drive has, all of which is here."""
    return store.nodes.add(
        parent=ROOT_INODE, name=name, kind=Kind.FOLDER, mode=0o755, size_bytes=0, mtime_ns=1, ctime_ns=1,
        drive_id=DriveId(f"id of {name}"), confirmed_ns=1, listed=True,
    )  # fmt: skip


def remote_files(parent: DriveId, first: int, count: int, version: int = 1) -> tuple[RemoteFile, ...]:
    """As a page of a listing names them."""
    return tuple(
        RemoteFile(
            DriveId(f"file-{at:032d}"), f"f{at:07d}", "text/plain", parent, False, version, 10**18, 10**18, 1,
            "0" * 32, RevisionId(f"revision-{at:032d}-{version}"),
        )
        for at in range(first, first + count)
    )  # fmt: skip


def waiting_jobs(store: Store, count: int, size_bytes: int, folders: int = 100) -> list[Inode]:
    """New files of so many folders that were closed long ago, in turn, and none of which Drive has; there are rows
    only, and no content. Returns the folders."""
    places = [folder(store, f"d{number:05d}").inode for number in range(folders)]
    first = store.nodes.last_inode() + 1
    now_ns = time.time_ns()
    long_ago_ns = now_ns - 3600 * 10**9
    db = store.db
    db.run_many(
        "INSERT INTO nodes (inode, parent, name, kind, mode, size_bytes, mtime_ns, ctime_ns, generation, listed,"
        " writable, ours, change) VALUES (?, ?, ?, ?, 420, ?, ?, ?, ?, 0, 1, 1, 1)",
        [
            (first + at, places[at % folders], f"w{at:07d}", Kind.FILE.value, size_bytes, now_ns, now_ns, at + 1)
            for at in range(count)
        ],
    )
    db.run_many(
        "INSERT INTO generations (generation, inode, state, size_bytes, whole, used_ns) VALUES (?, ?, ?, ?, 1, ?)",
        [(at + 1, first + at, State.SEALED.value, size_bytes, now_ns) for at in range(count)],
    )
    db.run_many(
        "INSERT INTO jobs (inode, seq, since_seq, barrier, generation, state, since_ns, ready_ns, attempts, reason)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, '')",
        [
            (first + at, at + 1, at + 1, Barrier.NONE.value, at + 1, JobState.WAITING.value, long_ago_ns, long_ago_ns)
            for at in range(count)
        ],
    )
    return places
