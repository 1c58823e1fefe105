"""What this user has mounted, and what still waits in the caches of it.

A record is one small file a cache folder in the user's state folder. It is written when the folder is mounted and
stays afterwards, so that `status` can tell what still waits there. Any process of the user may enter.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import platformdirs

from drivefs.errors import UserError


@dataclass(frozen=True, slots=True)
class Record:
    """One cache folder and its mount, the running one or the last."""

    mountpoint: Path
    cache_dir: Path
    log: Path | None
    """None: it logs to the terminal, or wherever standard error goes."""
    account: str
    """The account's name, the path of a credentials file, or in words where else the sign-in is from."""
    root: str | None
    endpoint: str | None
    read_only: bool
    started_s: float
    """When it was mounted, or brought back, seconds since the epoch."""
    supervisor: int | None = None
    """The process that brings the mount back when it dies; None: nobody does."""
    restarts: int = 0
    """How often it has done so."""
    subject: str | None = None
    """Whom a service account stands in for."""


def state_folder() -> Path:
    """Where logs and records are, made for this user alone."""
    folder = Path(platformdirs.user_state_dir("drivefs"))
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"The folder {folder} for logs cannot be made ({error.strerror}): set XDG_STATE_HOME to one that can."
        ) from error
    return folder


def _record_path(cache_dir: Path) -> Path:
    return state_folder() / f"{hashlib.sha256(os.fsencode(cache_dir)).hexdigest()[:16]}.json"


def write_record(record: Record) -> None:
    """Remember a mount, in place of what its cache folder had before. Raises UserError."""
    path = _record_path(record.cache_dir)
    new = path.with_suffix(f".{os.getpid()}")
    try:
        new.write_text(json.dumps(asdict(record), default=str))
        new.replace(path)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}.") from error


def forget_record(cache_dir: Path) -> None:
    """The cache folder is about to be removed; its log goes too."""
    record = next((record for record in read_records() if record.cache_dir == cache_dir), None)
    if record is not None and record.log is not None:
        record.log.unlink(missing_ok=True)
    _record_path(cache_dir).unlink(missing_ok=True)


def read_records() -> list[Record]:
    """All cache folders that are still there, the one mounted last first."""
    records = []
    for path in state_folder().glob("*.json"):
        try:
            values = json.loads(path.read_text())
            for name in ("mountpoint", "cache_dir", "log"):
                values[name] = Path(values[name]) if values[name] is not None else None
            record = Record(**values)
        except (OSError, ValueError, TypeError, KeyError):
            path.unlink(missing_ok=True)  # half a record of an older drivefs: the next mount writes it anew
            continue
        if (record.cache_dir / "drivefs.db").exists():
            records.append(record)
        elif record.cache_dir.parent.exists() and not record.cache_dir.exists():
            path.unlink(missing_ok=True)  # removed, and not on a disk that is away
    return sorted(records, key=lambda record: record.started_s, reverse=True)


def find_record(mountpoint: Path) -> Record | None:
    """The last mount on this path."""
    return next((record for record in read_records() if record.mountpoint == mountpoint), None)
