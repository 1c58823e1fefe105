"""Each fault of the emulator at each kind of request, under the real client, store and sync: work goes on here, and
ends with exactly one whole, right file each on Drive.

The client's pauses take no time: its clock moves by what it waits. `HYPOTHESIS_PROFILE=long` runs all of them, which
takes a minute or more; otherwise each kind meets a third of the faults, and each fault a third of the kinds.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from drivefs.drive.auth import load_credentials
from drivefs.drive.google import GoogleDrive
from drivefs.emulator import Running
from drivefs.errors import DriveError, SignInNeeded
from drivefs.model import ROOT_INODE
from drivefs.store import nodes
from tests.contract.client_calls import blob, md5
from tests.house import House
from tests.unit.fake_clock import FakeClock

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
CHUNK = 262_144
STALL_S = 0.4

KINDS: dict[str, dict[str, Any]] = {
    "list": {"api": "drive.files.list"},
    "get": {"api": "drive.files.get"},
    "create of a folder": {"api": "drive.files.create", "path": "^/drive/"},
    "create with content": {"api": "drive.files.create", "path": "^/upload/"},
    "start of a session": {"api": "drive.files.create", "path": "^/upload/", "skip": 1},
    "update": {"api": "drive.files.update", "path": "^/drive/"},
    "update with content": {"api": "drive.files.update", "path": "^/upload/"},
    "delete": {"api": "drive.files.delete"},
    "generateIds": {"api": "drive.files.generateIds"},
    "chunk": {"api": "upload.chunk"},
    "last chunk": {"api": "upload.chunk", "skip": 2},
    "status query": {"api": "upload.status"},
    "changes": {"api": "drive.changes.list"},
    "start token": {"api": "drive.changes.getStartPageToken"},
    "about": {"api": "drive.about.get"},
    "token": {"api": "oauth.token"},
    "revisions": {"api": "drive.revisions.list"},
    "copy": {"api": "drive.files.copy"},
}
ACTIONS: dict[str, dict[str, Any]] = {
    "rate limit": {"action": "error", "status": 403, "reason": "userRateLimitExceeded"},
    "rate limit that stays": {"action": "error", "status": 403, "reason": "userRateLimitExceeded", "count": 12},
    "429 with a time": {"action": "error", "status": 429, "retry_after_s": 7},
    "500": {"action": "error", "status": 500},
    "503 that stays": {"action": "error", "status": 503, "count": 12},
    "503 after the effect": {"action": "error_after", "status": 503},
    "401": {"action": "error", "status": 401, "count": 1},
    "daily limit": {"action": "error", "status": 403, "reason": "dailyLimitExceeded"},
    "full": {"action": "error", "status": 403, "reason": "storageQuotaExceeded"},
    "reset before": {"action": "reset_before"},
    "reset after": {"action": "reset_after"},
    "stall before": {"action": "stall", "seconds": None, "count": 1},
    "stall after": {"action": "stall", "seconds": None, "when": "after", "count": 1},
    "wrong checksum": {"action": "wrong_md5", "count": 1},
}
CASES = [(kind, action) for kind in KINDS for action in ACTIONS]
CASES += [
    (kind, action)
    for kind, actions in {
        "chunk": ("partial", "partial and reset", "session 404", "session 410"),
        "last chunk": ("partial", "partial and reset", "session 404", "session 410"),
        "status query": ("session 404", "session 410"),
        "create with content": ("partial and reset",),
        "update with content": ("partial and reset",),
        "get": ("download ends early", "download is too long", "download is damaged"),
        "list": ("incomplete",),
    }.items()
    for action in actions
]
ACTIONS |= {
    "partial": {"action": "partial", "bytes": 100_000},
    "partial and reset": {"action": "partial", "bytes": 100_000, "then": "reset"},
    "session 404": {"action": "expire_session", "count": 1},
    "session 410": {"action": "expire_session", "status": 410, "count": 1},
    "download ends early": {"action": "truncate", "bytes": 10},
    "download is too long": {"action": "overlong", "bytes": 10},
    "download is damaged": {"action": "corrupt", "offset": 5, "count": 1},
    "incomplete": {"action": "incomplete"},
}
SOME = {
    (kind, action)
    for kind, action in CASES
    if LONG or (list(KINDS).index(kind) + list(ACTIONS).index(action)) % 3 == 0
}
NEVER = {
    # The sign-in server refuses in its own words, and knows neither quotas nor sessions.
    ("token", action)
    for action in ("rate limit", "rate limit that stays", "429 with a time", "401", "daily limit", "full")
} | {
    ("token", "wrong checksum"),
    ("changes", "wrong checksum"),  # what does not have the checksum that Drive names is refused to readers
}


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def house(
    emulator: Running, clock: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], House]]:
    """Makes the house: its first calls are part of the test."""
    for module in ("publish", "sending", "uploader", "order"):
        monkeypatch.setattr(f"drivefs.sync.{module}.SMALL_LIMIT_BYTES", CHUNK, raising=False)
    monkeypatch.setattr("drivefs.sync.sending.FIRST_REQUEST_BYTES", CHUNK)
    monkeypatch.setattr("drivefs.sync.sending.REQUEST_S", 0.0)
    monkeypatch.setattr("drivefs.sync.publish.UNSEEN_S", -1.0)
    monkeypatch.setattr("drivefs.sync.copies.COPIED_LEAST_BYTES", CHUNK)
    monkeypatch.setattr(nodes, "_TWIN", nodes._TWIN.replace(str(nodes.COPIED_LEAST_BYTES), str(CHUNK)))
    drive = GoogleDrive(
        load_credentials(emulator.credentials_file),
        endpoint=emulator.endpoint,
        clock=clock,
        stall_timeout_s=STALL_S,
        connect_timeout_s=5,
        random=lambda: 0.0,
    )
    made: list[House] = []

    class Patient(House):
        """As the mount does, it begins again where Drive could not be asked."""

        def open(self) -> None:
            persist(super().open, self.again)

        def again(self) -> None:
            self.store.close()
            clock.now_s += 5

    def make() -> House:
        made.append(Patient(tmp_path / "cache", drive))  # type: ignore[arg-type]  # any Drive does
        return made[0]

    yield make
    for house in made:
        house.store.close()
    drive.close()


def persist(action: Callable[[], object], between: Callable[[], object]) -> None:
    """Again and again, as the threads of a mount do."""
    for attempt in itertools.count():
        try:
            action()
            return
        except (DriveError, SignInNeeded):
            assert attempt < 30
            between()


def drain(house: House) -> None:
    """As Uploader.run: what fails at once may pass."""
    persist(house.drain, lambda: setattr(house, "now", house.now + 61))


def read(house: House, path: str) -> bytes:
    node = house.node(path)
    with house.store.db.transaction():
        file = house.store.remote_content(node)
    try:
        house.downloader.ensure(file, 0, file.size_bytes)
        return file.read(0, file.size_bytes)
    finally:
        file.close()


@pytest.mark.parametrize(("kind", "action"), [case for case in CASES if case in SOME and case not in NEVER])
def test_sync_ends_with_each_file_once_and_whole_whatever_befalls(
    emulator: Running, house: Callable[[], House], clock: FakeClock, kind: str, action: str
) -> None:
    def later() -> None:
        clock.now_s += 5

    admin = emulator.admin
    for item in admin.tree(trashed=True):
        if item["path"].count("/") == 0:
            admin.delete_file("", id=item["id"])
    admin.put_file("theirs", b"from elsewhere")
    admin.expire_tokens()
    if kind == "status query":
        admin.add_fault("reset_before", api="upload.chunk", count=1, skip=1)
    fault = admin.add_fault(**{"count": 2, **KINDS[kind], **ACTIONS[action]})
    wanted = {"folder/small": blob(1_000), "folder/large": blob(700_000, 2), "latest": blob(2_000, 3)}
    wanted["copy"] = wanted["folder/large"]

    here = house()
    here.mkdir("folder")
    here.write("folder/small", b"old")
    here.write("folder/large", wanted["folder/large"])
    here.write("temporary", b"published, then renamed over another")
    here.write("latest", b"old")
    here.write("gone", b"removed in the end")
    drain(here)
    here.write("folder/small", wanted["folder/small"])
    here.rename("temporary", "latest")
    here.write("latest", wanted["latest"])
    here.remove("gone")
    here.write("copy", wanted["copy"])
    drain(here)
    here.rename("latest", "newest")
    wanted["newest"] = wanted.pop("latest")
    drain(here)
    admin.put_file("theirs", b"changed elsewhere")
    wanted["theirs"] = b"changed elsewhere"
    persist(here.mirror.poll, later)
    persist(here.mirror.ask_space, later)
    here.store.evict(1 << 40)
    persist(lambda: here.mirror.ensure_listed(ROOT_INODE), later)
    for path, data in wanted.items():
        got: list[bytes] = []
        persist(lambda path=path, got=got: got.append(read(here, path)), later)
        assert got == [data], path

    (struck,) = [rule["struck"] for rule in admin.faults() if rule["id"] == fault]
    assert struck > 0, "the fault has befallen nothing"
    admin.clear_faults()
    items = {item["path"]: item.get("md5Checksum") for item in admin.tree()}
    assert items == {"folder": None} | {path: md5(data) for path, data in wanted.items()}
    assert len(admin.tree()) == len(items), "two of one name"
    trash = [item["path"] for item in admin.tree(trashed=True) if item["trashed"]]
    assert set(trash) <= {"gone"}
