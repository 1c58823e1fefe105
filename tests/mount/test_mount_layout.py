"""`--layout colab`: My Drive, shared drives and what others share, in the places that Colab's own mount has."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.emulator_support import Api
from tests.mounting import KERNEL, Drive, Mounted, await_true, drive_at, mounted

OTHER = "other@example.com"


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drive]:
    with drive_at(tmp_path_factory.mktemp("drive"), accounts=("user@example.com", OTHER)) as drive:
        yield drive


@pytest.fixture(scope="module")
def api(drive: Drive) -> Iterator[Api]:
    client = Api(drive.running)
    yield client
    client.close()


@pytest.fixture(scope="module")
def other(drive: Drive) -> Iterator[Api]:
    client = Api(drive.running, account=OTHER)
    yield client
    client.close()


@pytest.fixture(scope="module")
def team(api: Api) -> str:
    """A shared drive with a file in it."""
    drive_id = str(api.ok("POST", "drives", {"name": "team"}, requestId="team")["id"])
    api.ok("POST", "files", {"name": "data", "parents": [drive_id], "mimeType": "application/vnd.google-apps.folder"},
           supportsAllDrives=True)  # fmt: skip
    return drive_id


@pytest.fixture(scope="module")
def shared(other: Api) -> str:
    """What the other account shares with this one: a file to read, and a folder to write into, whose ID this is."""
    file = other.file("paper.txt", b"read me")
    other.ok("POST", f"files/{file['id']}/permissions", {"type": "user", "role": "reader", "emailAddress": ME})
    folder = other.folder("ours")
    other.ok("POST", f"files/{folder}/permissions", {"type": "user", "role": "writer", "emailAddress": ME})
    return folder


ME = "user@example.com"


@pytest.fixture(scope="module")
def mount(drive: Drive, team: str, shared: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    reason = KERNEL.why_not()
    if reason is not None:
        pytest.skip(reason)
    with mounted(drive, KERNEL, tmp_path_factory.mktemp("mount"), "--layout", "colab") as mount:
        yield mount


def test_layout_has_the_places_of_colabs_own_mount(mount: Mounted) -> None:
    assert sorted(os.listdir(mount.path)) == ["My Drive", "MyDrive", "Shared with me", "Shareddrives"]
    assert os.readlink(mount.path / "My Drive") == "MyDrive"


def test_layout_notebooks_write_to_either_spelling(mount: Mounted, drive: Drive) -> None:
    (mount.path / "MyDrive" / "runs").mkdir()
    (mount.path / "My Drive" / "runs" / "a.ckpt").write_bytes(b"weights")
    mount.flush()
    assert drive.admin.read_file("runs/a.ckpt") == b"weights"
    assert (mount.path / "MyDrive" / "runs" / "a.ckpt").read_bytes() == b"weights"


def test_layout_places_stay_where_they_are(mount: Mounted) -> None:
    for action in (
        lambda: os.rename(mount.path / "MyDrive", mount.path / "mine"),
        lambda: os.rmdir(mount.path / "Shareddrives"),
        lambda: os.unlink(mount.path / "My Drive"),
        lambda: os.mkdir(mount.path / "new"),
        lambda: os.rmdir(mount.path / "Shareddrives" / "team"),
    ):
        with pytest.raises(OSError) as caught:
            action()
        assert caught.value.errno in (errno.EACCES, errno.EPERM, errno.EBUSY)
    assert len(os.listdir(mount.path)) == 4


def test_layout_shared_drive_is_read_and_written(mount: Mounted, api: Api, team: str) -> None:
    top = mount.path / "Shareddrives" / "team"
    await_true(top.exists)
    assert os.listdir(top) == ["data"]
    (top / "data" / "model.pt").write_bytes(b"weights")
    mount.flush()
    everywhere = {"supportsAllDrives": True, "includeItemsFromAllDrives": True}
    query = "name = 'model.pt'"
    (item,) = api.ok(
        "GET", "files", q=query, corpora="drive", driveId=team, fields="files(id,driveId)", **everywhere
    )["files"]
    assert item["driveId"] == team
    api.ok("PATCH", f"files/{item['id']}", {"name": "renamed.pt"}, supportsAllDrives=True)
    mount.command("refresh", mount.path)
    assert os.listdir(top / "data") == ["renamed.pt"]
    os.unlink(top / "data" / "renamed.pt")
    mount.flush()
    assert api.ok("GET", f"files/{item['id']}", fields="trashed", supportsAllDrives=True)["trashed"]


def test_layout_folders_do_not_move_to_another_drive(mount: Mounted) -> None:
    top = mount.path / "Shareddrives" / "team"
    await_true(top.exists)
    folder = mount.path / "MyDrive" / "to move"
    folder.mkdir()
    (folder / "f").write_bytes(b"1")
    with pytest.raises(OSError) as caught:
        os.rename(folder, top / "moved")
    assert caught.value.errno == errno.EXDEV
    shutil.move(folder, top / "moved")
    assert (top / "moved" / "f").read_bytes() == b"1"
    mount.flush()


def test_layout_shows_what_others_share(drive: Drive, mount: Mounted, shared: str) -> None:
    place = mount.path / "Shared with me"
    await_true(lambda: sorted(os.listdir(place)) == ["ours", "paper.txt"])
    assert (place / "paper.txt").read_bytes() == b"read me"
    with pytest.raises(PermissionError):
        os.open(place / "paper.txt", os.O_WRONLY)
    (place / "ours" / "mine").write_bytes(b"from here")
    mount.flush()
    assert drive.find("mine")["parents"] == [shared]
    mount.umount()
    mount.mount()
    assert sorted(os.listdir(place)) == ["ours", "paper.txt"]
    assert Path(place / "ours" / "mine").read_bytes() == b"from here"


def test_layout_trash_is_at_the_top_and_restores_into_my_drive(mount: Mounted, drive: Drive, api: Api) -> None:
    mine, trash = mount.path / "MyDrive" / "thrown away", mount.path / ".Trash"
    mine.mkdir()
    for name in ("back.ckpt", "gone.ckpt"):
        (mine / name).write_bytes(name.encode())
    mount.flush()
    ids = {each: drive.find(f"thrown away/{each}")["id"] for each in os.listdir(mine)}
    os.unlink(mine / "back.ckpt")
    os.rename(mine / "gone.ckpt", trash / "gone.ckpt")
    mount.flush()
    assert all(api.ok("GET", f"files/{each}", fields="trashed")["trashed"] for each in ids.values())
    assert {"back.ckpt", "gone.ckpt"} <= set(os.listdir(trash))
    assert ".Trash" not in os.listdir(mount.path)
    os.rename(trash / "back.ckpt", mine / "back.ckpt")
    os.unlink(trash / "gone.ckpt")
    mount.flush()
    assert drive.find("thrown away/back.ckpt")["id"] == ids["back.ckpt"]
    assert (mine / "back.ckpt").read_bytes() == b"back.ckpt"
    assert api.get(f"files/{ids['gone.ckpt']}").status == 404
