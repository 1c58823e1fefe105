"""No silent overwrite, on a Drive that is not our emulator, with and without head revisions of its files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivefs.drive.auth import load_credentials
from drivefs.drive.google import GoogleDrive
from drivefs.sync import publish
from tests.contract.client_calls import md5
from tests.house import House
from tests.other_server import OtherServer
from tests.other_server_items import stamp
from tests.other_server_wire import Habits


@pytest.fixture(params=[True, False], ids=["head revisions", "none"])
def server(request: pytest.FixtureRequest) -> Iterator[OtherServer]:
    with OtherServer(Habits(head_revisions=request.param, feed_lag_s=0.0)) as server:
        yield server


@pytest.fixture
def house(server: OtherServer, tmp_path: Path) -> Iterator[House]:
    path = tmp_path / "credentials.json"
    path.write_text(json.dumps(server.credentials))
    drive = GoogleDrive(load_credentials(path), endpoint=server.endpoint, patience_s=3, random=lambda: 0.0)
    house = House(tmp_path / "cache", drive)  # type: ignore[arg-type]  # any Drive does
    house.write("model.ckpt", b"base")
    house.drain()
    yield house
    house.store.close()
    drive.close()


def kept(server: OtherServer) -> dict[str, str | None]:
    """Checksums by name, the conflict's copy under a plain one."""
    return {"copy" if "(conflict " in name else name: facts[1] for name, facts in server.tree().items()}


def test_conflict_keeps_both_contents(house: House, server: OtherServer) -> None:
    house.write("model.ckpt", b"mine")
    server.edit(server.id_of("model.ckpt"), b"theirs")
    house.drain()
    assert kept(server) == {"model.ckpt": md5(b"theirs"), "copy": md5(b"mine")}


def test_conflict_during_an_upload_keeps_the_version_beneath(
    house: House, server: OtherServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "UNSEEN_S", -1.0)
    file_id = server.id_of("model.ckpt")
    server.meanwhile("PATCH", "/upload", lambda: server.edit(file_id, b"theirs, in between"))
    house.write("model.ckpt", b"mine")
    house.drain()
    assert kept(server) == {"model.ckpt": md5(b"mine"), "copy": md5(b"theirs, in between")}


def test_conflict_is_none_after_changes_that_nobody_sees(house: House, server: OtherServer) -> None:
    for number in range(3):
        server.edit(server.id_of("model.ckpt"), starred=bool(number % 2))
        house.write("model.ckpt", b"mine %d" % number)
        server.edit(server.id_of("model.ckpt"))
        house.drain()
    assert kept(server) == {"model.ckpt": md5(b"mine 2")}
    assert len(server.items[server.id_of("model.ckpt")].revisions) == 4


def test_copy_of_what_drive_has_is_made_by_drive(house: House, server: OtherServer) -> None:
    data = b"weights" * 300_000
    server.put("theirs", data)
    house.mirror.poll()
    house.write("best.ckpt", data)
    server.requests.clear()
    house.drain()
    assert kept(server)["best.ckpt"] == md5(data)
    assert not [path for method, path in server.requests if "upload" in path]
    node = house.node("best.ckpt")
    assert node.drive_id is not None
    assert stamp(node.mtime_ns / 1e9) == server.items[node.drive_id].facts["modifiedTime"]
    assert server.items[node.drive_id].facts["appProperties"]["mtime_ns"] == str(node.mtime_ns)
