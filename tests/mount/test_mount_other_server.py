"""The whole mount on a Drive that is not our emulator: what programs do arrives, and what others do comes here."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.mounting import KERNEL_PLAIN, FreshMount, Mounted, Transport, contents, entries, mounted
from tests.other_server import OtherServer
from tests.other_server_items import FOLDER
from tests.other_server_wire import Habits, Refusal

MIB = 1 << 20
SYMLINK = "inode/symlink"

TRANSPORTS = (KERNEL_PLAIN,)
"""One is enough: what differs is on the other side."""


@dataclass(frozen=True, slots=True)
class Served:
    """The other server in the place of `tests.mounting.Drive`."""

    server: OtherServer
    credentials_file: Path

    @property
    def running(self) -> Served:
        return self

    @property
    def endpoint(self) -> str:
        return self.server.endpoint

    def contents(self, folder: str) -> dict[str, tuple[str, str | None]]:
        """Kind and md5 of all below a folder, by path from there."""
        kinds = {FOLDER: "folder", SYMLINK: "symlink"}
        found = self.server.tree(self.server.id_of(folder))
        return {path: (kinds.get(mime_type, "file"), md5) for path, (mime_type, md5) in found.items()}


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with OtherServer(Habits(kept_short_share=0.6, idle_s=2.0, token_life_s=3.0)) as server:
        path = tmp_path_factory.mktemp("other") / "credentials.json"
        path.write_text(json.dumps(server.credentials))
        yield Served(server, path)


def wait_until(condition: Callable[[], bool], limit_s: float = 25.0) -> None:
    end_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end_s, "it did not come true in time"
        time.sleep(0.1)


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_all_that_programs_do_arrives_and_is_read_again(
    folder: Path, mount: Mounted, drive: Served, fresh_mount: FreshMount
) -> None:
    drive.server.fail_next("POST", "/upload", Refusal(500, "internalError"), after=True)
    drive.server.fail_next("POST", "/upload", Refusal(503, "backendError"))
    drive.server.fail_next("POST", "/upload", Refusal(403, "userRateLimitExceeded", **{"Retry-After": "1"}))
    drive.server.fail_next("PUT", "/push", Refusal(502, "backendError"), after=True)
    (folder / "big").write_bytes(os.urandom(20 * MIB))
    (folder / "empty").write_bytes(b"")
    for number in range(24):
        place = folder / "deep" / str(number % 3) / "é ' \\ x"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"small {number}").write_bytes(b"%d" % number * 100)
    os.symlink("big", folder / "link")
    (folder / "log").write_bytes(b"one")
    (folder / "model").write_bytes(b"old" * 1000)
    mount.flush()
    assert drive.contents(folder.name) == contents(entries(folder))
    model_id, log_id = drive.server.id_of(f"{folder.name}/model"), drive.server.id_of(f"{folder.name}/log")

    (folder / "log").write_bytes(b"two, which is longer")
    (folder / "model.tmp").write_bytes(b"new" * 2000)
    (folder / "model.tmp").rename(folder / "model")
    (folder / "deep" / "0").rename(folder / "moved")
    (folder / "deep" / "1" / "é ' \\ x" / "small 1").unlink()
    (folder / "empty").rename(folder / "deep" / "void")
    with (folder / "big").open("r+b") as file:
        file.seek(7 * MIB)
        file.write(b"in the middle")
    wanted = entries(folder)
    mount.flush()

    assert drive.contents(folder.name) == contents(wanted)
    assert drive.server.id_of(f"{folder.name}/model") == model_id
    assert drive.server.id_of(f"{folder.name}/log") == log_id
    assert entries(folder) == wanted
    assert not [item for item in drive.server.items.values() if item.facts["name"] == "model.tmp"]
    with fresh_mount() as other:
        assert entries(other.path / folder.name) == wanted


def test_what_others_do_shows_up(folder: Path, mount: Mounted, drive: Served) -> None:
    (folder / "mine").write_bytes(b"first")
    (folder / "old").write_bytes(b"old")
    (folder / "gone").write_bytes(b"gone")
    mount.flush()
    server = drive.server
    top = server.id_of(folder.name)
    server.edit(server.id_of(f"{folder.name}/mine"), b"theirs, longer")
    server.edit(server.id_of(f"{folder.name}/old"), name="new")
    server.remove(server.id_of(f"{folder.name}/gone"))
    place = server.put("theirs", None, top)
    for number in range(40):
        server.put(f"{number}", b"%d" % number, place)
    names = {"mine", "new", "theirs"}
    wait_until(lambda: set(os.listdir(folder)) == names and len(os.listdir(folder / "theirs")) == 40)
    wait_until(lambda: (folder / "mine").stat().st_size == len(b"theirs, longer"))
    assert (folder / "mine").read_bytes() == b"theirs, longer"
    assert (folder / "new").read_bytes() == b"old"
    assert {int(path.name): path.read_bytes() for path in (folder / "theirs").iterdir()} == {
        number: b"%d" % number for number in range(40)
    }
    mount.flush()
    assert {path: facts[0] for path, facts in drive.contents(folder.name).items() if "/" not in path} == {
        "mine": "file",
        "new": "file",
        "theirs": "folder",
    }


def test_invisible_changes_are_no_conflicts(folder: Path, mount: Mounted, drive: Served) -> None:
    path = folder / "rewritten"
    for number in range(6):
        path.write_bytes(b"%d" % number * 1000)
        mount.flush()
        drive.server.edit(drive.server.id_of(f"{folder.name}/rewritten"))  # the version moves, nothing else does
    assert os.listdir(folder) == ["rewritten"]
    assert drive.contents(folder.name) == {"rewritten": ("file", hashlib.md5(b"5" * 1000).hexdigest())}


def test_server_without_head_revisions_serves_and_takes_files(transport: Transport, tmp_path: Path) -> None:
    with OtherServer(Habits(head_revisions=False, feed_lag_s=0.0)) as server:
        big = os.urandom(9 * MIB)
        server.put("big", big)
        server.put("small", b"small")
        path = tmp_path / "credentials.json"
        path.write_text(json.dumps(server.credentials))
        drive = Served(server, path)
        with mounted(drive, transport, tmp_path / "one") as mount:
            assert (mount.path / "big").read_bytes() == big
            assert (mount.path / "small").read_bytes() == b"small"
            (mount.path / "small").write_bytes(b"rewritten")
            with (mount.path / "big").open("r+b") as file:
                file.seek(5 * MIB)
                file.write(b"changed")
            (mount.path / "mine").write_bytes(b"mine")
            mount.flush()
            wanted = entries(mount.path)
            assert set(wanted) == {"big", "small", "mine"}
            assert {name: facts[1] for name, facts in server.tree().items()} == {
                name: entry.md5 for name, entry in wanted.items()
            }
        with mounted(drive, transport, tmp_path / "two") as mount:
            assert entries(mount.path) == wanted
