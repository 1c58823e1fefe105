"""What is written and flushed is on Drive with the same checksum, and a fresh mount with an empty cache reads it."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.mounting import Drive, FreshMount, Mounted, md5_of

Arrives = Callable[[Path], None]
MIB = 1 << 20


def test_big_file_arrives(folder: Path, assert_arrives: Arrives) -> None:
    chance = random.Random(1)
    digest = hashlib.md5()
    with (folder / "weights.bin").open("wb", buffering=0) as file:
        for _ in range(100):
            piece = chance.randbytes(MIB)
            digest.update(piece)
            file.write(piece)
    assert md5_of(folder / "weights.bin") == digest.hexdigest()
    assert_arrives(folder)


def test_many_small_files_arrive(folder: Path, assert_arrives: Arrives) -> None:
    chance = random.Random(2)
    for number in range(300):
        path = folder / f"class {number % 10}" / f"sample {number:04}.bin"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(chance.randbytes(chance.randrange(5000)))
    assert_arrives(folder)


def test_deep_folders_arrive(folder: Path, assert_arrives: Arrives) -> None:
    path = folder
    for depth in range(40):
        path = path / f"level {depth}"
        path.mkdir()
        (path / "note").write_text(f"at depth {depth}")
    (folder / "empty").mkdir()
    assert_arrives(folder)


ODD_NAMES = [
    "x" * 255,
    "é" * 127 + "x",
    "🎈" * 63 + "abc",
    " blanks  around ",
    'it\'s "quoted" and \\slashed\\',
    "caf\u00e9",
    "cafe\u0301",
    "Case",
    "case",
    "new\nline\ttab",
    "~$lock.docx#",
    ".hidden",
    "...",
    "name = 'x' and trashed = true",
    "%41%2F?&=+",
    "日本語 العربية",
    "\u202egnp.exe",
]


@pytest.mark.parametrize("kind", ["files", "folders"])
def test_odd_names_arrive(folder: Path, assert_arrives: Arrives, kind: str) -> None:
    for name in ODD_NAMES:
        if kind == "files":
            (folder / name).write_text(name)
        else:
            (folder / name).mkdir()
            (folder / name / "inside").write_text(name)
    assert sorted(os.listdir(folder)) == sorted(ODD_NAMES)
    assert_arrives(folder)


def test_look_alikes_of_what_no_file_can_be_called_arrive(
    folder: Path, drive: Drive, mount: Mounted, fresh_mount: FreshMount
) -> None:
    meant = ["a\uff0fb", "\uff0e\uff0e", "\u201ba\uff0fc", "\u2400"]
    for name in meant:
        (folder / name).write_text(name)
    mount.flush()
    parent = drive.find(folder.name)["id"]
    on_drive = [item["name"] for item in drive.admin.tree() if item.get("parents") == [parent]]
    assert len(on_drive) == len(meant)
    assert {"a/b", ".."} <= set(on_drive)
    with fresh_mount() as other:
        assert sorted(os.listdir(other.path / folder.name)) == sorted(meant)
        for name in meant:
            assert (other.path / folder.name / name).read_text() == name


def test_every_way_of_writing_arrives(folder: Path, drive: Drive, mount: Mounted, assert_arrives: Arrives) -> None:
    expected: dict[str, bytes] = {"empty": b""}
    (folder / "empty").touch()
    with (folder / "hole").open("wb") as file:
        file.write(b"start")
        file.seek(3 * MIB)
        file.write(b"end")
    expected["hole"] = b"start" + bytes(3 * MIB - 5) + b"end"
    with (folder / "grown").open("wb") as file:
        file.truncate(2 * MIB + 1)
    expected["grown"] = bytes(2 * MIB + 1)
    (folder / "mapped").write_bytes(bytes(MIB))
    with (folder / "mapped").open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        memory[500_000:500_006] = b"mapped"
    expected["mapped"] = bytes(500_000) + b"mapped" + bytes(MIB - 500_006)
    for line in (b"one\n", b"two\n", b"three\n"):
        with (folder / "appended").open("ab") as file:
            file.write(line)
    expected["appended"] = b"one\ntwo\nthree\n"
    (folder / "emptied").write_bytes(b"x" * 100_000)
    with (folder / "emptied").open("wb") as file:
        file.write(b"short")
    expected["emptied"] = b"short"
    (folder / "cut").write_bytes(b"x" * 100_000)
    os.truncate(folder / "cut", 77_777)
    expected["cut"] = b"x" * 77_777
    with (folder / "patched").open("wb") as file:  # as zip and HDF5 write: the head comes last
        file.write(bytes(100) + b"body" * 300_000)
        file.seek(0)
        file.write(b"head")
    expected["patched"] = b"head" + bytes(96) + b"body" * 300_000
    mount.flush()
    on_drive = drive.contents(folder.name)
    assert on_drive == {name: ("file", hashlib.md5(data).hexdigest()) for name, data in expected.items()}
    assert_arrives(folder)


def test_attributes_links_and_own_xattrs_survive(folder: Path, drive: Drive, assert_arrives: Arrives) -> None:
    (folder / "script").write_text("#!/bin/sh\n")
    (folder / "script").chmod(0o755)
    (folder / "secret").write_text("x")
    (folder / "secret").chmod(0o400)
    (folder / "private").mkdir(mode=0o700)
    (folder / "old").write_text("x")
    os.utime(folder / "old", ns=(0, 1_234_567_890_123_456_789))
    (folder / "link").symlink_to("script")
    (folder / "dangling").symlink_to("../nowhere/" + "é" * 100)
    os.setxattr(folder / "script", "user.note", "kept, é".encode())
    os.setxattr(folder / "script", "user.raw", b"\0\1\xff")
    os.setxattr(folder / "private", "user.note", b"of a folder")
    for name in ("script", "private"):
        os.setxattr(folder / name, "user.drivefs.description", "the best one, é".encode())
        os.setxattr(folder / name, "user.drivefs.starred", b"1")
    assert_arrives(folder)
    assert drive.find(f"{folder.name}/old")["modifiedTime"] == "2009-02-13T23:31:30.123Z"
    for name in ("script", "private"):
        found = drive.fields(f"{folder.name}/{name}", "description,starred,mimeType")
        assert (found["description"], found["starred"]) == ("the best one, é", True)
        assert os.getxattr(folder / name, "user.drivefs.mime_type").decode() == found["mimeType"]


def test_attributes_changed_later_arrive_without_the_content(
    folder: Path, drive: Drive, mount: Mounted, assert_arrives: Arrives
) -> None:
    path = folder / "file"
    path.write_bytes(os.urandom(MIB))
    os.setxattr(path, "user.gone", b"x")
    mount.flush()
    before = drive.find(f"{folder.name}/file")
    path.chmod(0o711)
    os.utime(path, ns=(0, 1_500_000_000_987_654_321))
    os.setxattr(path, "user.came", b"y")
    os.removexattr(path, "user.gone")
    folder.chmod(0o750)
    assert_arrives(folder)
    after = drive.find(f"{folder.name}/file")
    assert after["headRevisionId"] == before["headRevisionId"]


def test_overwrite_updates_the_same_file(folder: Path, drive: Drive, mount: Mounted, assert_arrives: Arrives) -> None:
    path = folder / "model.ckpt"
    path.write_bytes(b"first")
    mount.flush()
    before = drive.find(f"{folder.name}/model.ckpt")
    path.write_bytes(b"second, longer")
    assert_arrives(folder)
    after = drive.find(f"{folder.name}/model.ckpt")
    assert after["id"] == before["id"]
    assert after["headRevisionId"] != before["headRevisionId"]
    assert drive.trash(folder.name) == []


@pytest.mark.parametrize("temporary_is_on_drive", [False, True])
def test_rename_over_updates_the_same_file(
    folder: Path, drive: Drive, mount: Mounted, assert_arrives: Arrives, temporary_is_on_drive: bool
) -> None:
    target, temporary = folder / "model.ckpt", folder / "model.ckpt.tmp"
    target.write_bytes(b"first")
    mount.flush()
    before = drive.find(f"{folder.name}/model.ckpt")
    for content in (b"second", b"third"):
        temporary.write_bytes(content)
        if temporary_is_on_drive:
            mount.flush()
        temporary.replace(target)
    assert_arrives(folder)
    assert drive.find(f"{folder.name}/model.ckpt")["id"] == before["id"]
    assert target.read_bytes() == b"third"
    assert drive.trash(folder.name) == []


def test_rename_and_move_keep_the_file(folder: Path, drive: Drive, mount: Mounted, assert_arrives: Arrives) -> None:
    (folder / "from").mkdir()
    (folder / "to").mkdir()
    (folder / "from" / "file").write_bytes(b"content")
    mount.flush()
    before = drive.find(f"{folder.name}/from/file")
    (folder / "from" / "file").rename(folder / "to" / "renamed")
    (folder / "from").rename(folder / "to" / "moved")
    assert_arrives(folder)
    after = drive.find(f"{folder.name}/to/renamed")
    assert (after["id"], after["headRevisionId"]) == (before["id"], before["headRevisionId"])


def test_removed_is_gone_from_drive(folder: Path, drive: Drive, mount: Mounted, assert_arrives: Arrives) -> None:
    (folder / "sub").mkdir()
    for name in ("file", "stays", "sub/file"):
        (folder / name).write_text(name)
    mount.flush()
    (folder / "file").unlink()
    (folder / "sub" / "file").unlink()
    (folder / "sub").rmdir()
    assert_arrives(folder)
    assert list(drive.contents(folder.name)) == ["stays"]


def test_file_that_fresh_mount_changes_in_part_is_whole_on_drive(
    folder: Path, drive: Drive, mount: Mounted, fresh_mount: FreshMount
) -> None:
    data = bytearray(random.Random(3).randbytes(3 * MIB))
    for name in ("patched", "appended", "cut", "grown"):
        (folder / name).write_bytes(data)
    mount.flush()
    with fresh_mount() as other:
        there = other.path / folder.name
        with (there / "patched").open("r+b") as file:
            file.seek(MIB + 5)
            file.write(b"patch")
        with (there / "appended").open("ab") as file:
            file.write(b"more")
        os.truncate(there / "cut", MIB + 7)
        os.truncate(there / "grown", 3 * MIB + 100)
        other.flush()
    patched = bytearray(data)
    patched[MIB + 5 : MIB + 10] = b"patch"
    expected = {
        "patched": patched,
        "appended": data + b"more",
        "cut": data[: MIB + 7],
        "grown": data + bytes(100),
    }
    assert drive.contents(folder.name) == {
        name: ("file", hashlib.md5(content).hexdigest()) for name, content in expected.items()
    }


def test_flush_covers_a_file_that_is_still_open(folder: Path, drive: Drive, mount: Mounted) -> None:
    path = folder / "events.log"
    with path.open("wb", buffering=0) as file:
        file.write(b"step 1\n")
        mount.flush()
        assert drive.admin.read_file(f"{folder.name}/events.log") == b"step 1\n"
        file.write(b"step 2\n")
        assert path.read_bytes() == b"step 1\nstep 2\n"
    mount.flush()
    assert drive.admin.read_file(f"{folder.name}/events.log") == b"step 1\nstep 2\n"
    assert drive.find(f"{folder.name}/events.log")["id"]


def test_state_of_a_file_tells_whether_drive_has_it(folder: Path, drive: Drive, mount: Mounted) -> None:
    path = folder / "file"
    drive.admin.set_network(latency_s=2.0)
    try:
        path.write_bytes(b"x")
        assert os.getxattr(path, "user.drivefs.state") in (b"local", b"uploading")
    finally:
        drive.admin.set_network(latency_s=0.0)
    mount.flush()
    assert os.getxattr(path, "user.drivefs.state") == b"durable"
    path.write_bytes(b"y")
    assert os.getxattr(path, "user.drivefs.state") in (b"local", b"uploading")


def test_flush_of_a_path_does_not_wait_for_others(folder: Path, drive: Drive, mount: Mounted) -> None:
    (folder / "here").mkdir()
    (folder / "there").mkdir()
    mount.flush()
    drive.admin.set_network(bandwidth_bytes_s=1_000_000)
    try:
        (folder / "there" / "large").write_bytes(os.urandom(20_000_000))
        with (folder / "here" / "log").open("wb", buffering=0) as file:
            file.write(b"still open")
            told = mount.command("flush", folder / "here").stdout
        assert f"{folder / 'here'} is on Drive." in told
        assert drive.admin.read_file(f"{folder.name}/here/log") == b"still open"
        assert mount.status()["queue"]["bytes"] >= 20_000_000
    finally:
        drive.admin.set_network(bandwidth_bytes_s=None)
    mount.flush()
    assert mount.command("flush", folder / "nowhere", check=False).returncode == 1


def test_why_tells_what_a_file_waits_for(folder: Path, drive: Drive, mount: Mounted) -> None:
    (folder / "latest").write_bytes(b"0")
    mount.flush()
    assert mount.command("why", folder / "latest").stdout == f"{folder / 'latest'} is on Drive as it is here.\n"
    drive.admin.set_network(bandwidth_bytes_s=1_000_000)
    try:
        (folder / "weights").write_bytes(os.urandom(10_000_000))
        (folder / "latest").write_bytes(b"1")
        told = json.loads(mount.command("why", "--json", folder / "latest").stdout)
        assert (told["cause"], told["earlier"]) == ("order", [f"{folder.name}/weights"])
        assert told["drive"]["id"] == drive.find(f"{folder.name}/latest")["id"]
    finally:
        drive.admin.set_network(bandwidth_bytes_s=None)
    mount.flush()
    assert mount.command("why", folder / "nowhere", check=False).returncode == 1
