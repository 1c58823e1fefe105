"""What was begun and cut off: the upload sessions and half downloads that a later `drivefs cp` goes on with.

One small file each, 0600 in a 0700 folder, for a session's address is a secret. Written in place of the old one by a
rename; what cannot be read is begun anew. Entered by any thread, each with keys of its own.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from drivefs.errors import CacheDamaged

_KEPT_S = 7 * 86_400.0
"""A session lives one week (drive-api: Uploads), and so long does a half download wait for its other half."""


class Unfinished:
    """The entries in a folder, which is made when it is needed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @staticmethod
    def key(*parts: str) -> str:
        """A name for a transfer, of what makes it the same one next time."""
        return hashlib.sha256(json.dumps(parts).encode(errors="surrogateescape")).hexdigest()[:32]

    def find(self, key: str) -> dict[str, Any] | None:
        """What was noted under `key`."""
        try:
            found = json.loads(self._path(key).read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        except OSError as error:
            raise self._damaged(error) from error
        return found if isinstance(found, dict) else None

    def note(self, key: str, entry: dict[str, Any]) -> None:
        """Remember `entry` in place of what there was. Raises `CacheDamaged` when it cannot be written."""
        new = self._path(key).with_suffix(".new")
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with open(handle, "w") as file:
                json.dump(entry, file)
            new.replace(self._path(key))
        except OSError as error:
            raise self._damaged(error) from error

    def forget(self, key: str) -> None:
        """The transfer is done, or cannot be gone on with."""
        self._path(key).unlink(missing_ok=True)

    def forget_old(self, now_s: float) -> None:
        """Drop what nobody came back for."""
        for path in self._folder.glob("*.json"):
            if path.stat().st_mtime < now_s - _KEPT_S:
                path.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.json"

    def _damaged(self, error: OSError) -> CacheDamaged:
        return CacheDamaged(f"The folder {self._folder} for cut-off copies cannot be used: {error.strerror}.")
