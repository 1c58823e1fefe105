"""What changes on Drive shows in a mount that has been looked at before, whatever the kernel keeps of it."""

from __future__ import annotations

import errno
import json
import os
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.mounting import Drive, Mounted, await_true
from tests.promises import fails_with


def change(drive: Drive, path: str, **fields: Any) -> None:
    """What somebody else changes of an item's metadata on Drive."""
    request = urllib.request.Request(
        f"{drive.running.endpoint}/drive/v3/files/{drive.find(path)['id']}",
        json.dumps(fields).encode(),
        {"Authorization": f"Bearer {drive.admin.token()}", "Content-Type": "application/json"},
        method="PATCH",
    )
    with urllib.request.urlopen(request) as reply:
        assert reply.status == 200


def has(path: Path) -> bool:
    try:
        os.lstat(path)
    except FileNotFoundError:
        return False
    return True


@pytest.fixture
def seen(mount: Mounted, folder: Path) -> Path:
    """A folder with some entries, all of it looked at, with names that are missing."""
    for name in ("kept", "edited", "renamed", "removed"):
        (folder / name).write_text(f"first {name}")
    (folder / "sub").mkdir()
    (folder / "sub" / "file").write_text("below")
    mount.flush()
    for path in (folder, folder / "sub"):
        for entry in os.scandir(path):
            os.lstat(entry.path)
            if entry.is_file():
                Path(entry.path).read_text()
    for name in ("new", "other name", "sub/new", "never"):
        assert not has(folder / name)
    return folder


def test_description_and_star_of_others_are_seen(mount: Mounted, drive: Drive, seen: Path) -> None:
    assert os.listxattr(seen / "kept") == []
    change(drive, f"{seen.name}/kept", description="from the web", starred=True)
    mount.command("refresh", mount.path)
    await_true(lambda: os.listxattr(seen / "kept") != [])
    assert os.getxattr(seen / "kept", "user.drivefs.description") == b"from the web"
    assert os.getxattr(seen / "kept", "user.drivefs.starred") == b"1"


def test_what_others_change_is_seen_in_what_was_looked_at_before(mount: Mounted, drive: Drive, seen: Path) -> None:
    name = seen.name
    drive.admin.put_file(f"{name}/edited", b"longer than it was before")
    drive.admin.put_file(f"{name}/new", b"of somebody else")
    drive.admin.put_file(f"{name}/sub/new", b"further down")
    drive.admin.delete_file(f"{name}/removed")
    change(drive, f"{name}/renamed", name="other name")
    mount.command("refresh", mount.path)
    await_true(lambda: (seen / "edited").stat().st_size == 25)
    assert (seen / "edited").read_bytes() == b"longer than it was before"
    await_true(lambda: has(seen / "new") and has(seen / "sub" / "new") and has(seen / "other name"))
    assert (seen / "new").read_bytes() == b"of somebody else"
    assert (seen / "other name").read_text() == "first renamed"
    await_true(lambda: not has(seen / "removed") and not has(seen / "renamed"))
    await_true(lambda: sorted(os.listdir(seen)) == ["edited", "kept", "new", "other name", "sub"])
    await_true(lambda: sorted(os.listdir(seen / "sub")) == ["file", "new"])
    assert (seen / "kept").read_text() == "first kept"
    with fails_with(errno.ENOENT):
        os.lstat(seen / "never")


def test_time_and_folder_changed_by_others_are_seen(mount: Mounted, drive: Drive, seen: Path) -> None:
    change(drive, f"{seen.name}/kept", modifiedTime="2001-02-03T04:05:06.789Z")
    change(drive, f"{seen.name}/sub", name="sub moved")
    mount.command("refresh", mount.path)
    await_true(lambda: (seen / "kept").stat().st_mtime_ns == 981173106_789_000_000)
    await_true(lambda: has(seen / "sub moved") and not has(seen / "sub"))
    assert (seen / "sub moved" / "file").read_text() == "below"


def test_conflict_copy_is_seen_beside_a_file_that_was_looked_at(mount: Mounted, drive: Drive, seen: Path) -> None:
    with (seen / "edited").open("r+") as file:
        file.write("HERE")
        drive.admin.put_file(f"{seen.name}/edited", b"and there")
    mount.flush()
    await_true(lambda: any("conflict" in name for name in os.listdir(seen)))
    (copy,) = (name for name in os.listdir(seen) if "conflict" in name)
    assert (seen / copy).read_text() == "HEREt edited"
    await_true(lambda: (seen / "edited").read_bytes() == b"and there")


def test_name_made_here_after_it_was_missed_is_seen(seen: Path) -> None:
    (seen / "new").write_text("made")
    os.rename(seen / "kept", seen / "never")
    os.symlink("new", seen / "other name")
    assert (seen / "new").read_text() == (seen / "other name").read_text() == "made"
    assert (seen / "never").read_text() == "first kept"
    (seen / "new").unlink()
    assert sorted(os.listdir(seen)) == ["edited", "never", "other name", "removed", "renamed", "sub"]


def test_file_open_since_before_an_edit_is_read_to_its_end(mount: Mounted, drive: Drive, seen: Path) -> None:
    before = os.urandom(300_000)
    (seen / "edited").write_bytes(before)
    mount.flush()
    with (seen / "edited").open("rb", buffering=0) as first:
        assert first.read(10) == before[:10]
        drive.admin.put_file(f"{seen.name}/edited", b"short now")
        mount.command("refresh", mount.path)
        with (seen / "edited").open("rb") as second:
            assert second.read() == before
        assert first.readall() == before[10:]
    await_true(lambda: (seen / "edited").stat().st_size == 9)
    assert (seen / "edited").read_bytes() == b"short now"
