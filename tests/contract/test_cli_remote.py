"""The commands that need no mount, by the real command line against the emulator."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from drivefs.emulator import Running
from drivefs.errors import Unreachable
from drivefs.remote import copying
from drivefs.remote.fetching import RANGE_BYTES
from tests.contract.commands import Run
from tests.emulator_support import Api


@pytest.fixture
def top(api: Api, request: pytest.FixtureRequest) -> tuple[str, str]:
    """ID and `drive:` path of a folder of the test's own."""
    name = request.node.name
    return api.folder(name), f"drive:{name}"


def copied(result: Result) -> dict[str, Any]:
    return dict(json.loads(result.stdout))


def tree(emulator: Running, path: str) -> dict[str, bytes]:
    """Contents on Drive by their path below `drive:NAME`."""
    prefix = path.removeprefix("drive:") + "/"
    items = [item["path"].lstrip("/") for item in emulator.admin.tree() if item.get("size") is not None]
    return {item.removeprefix(prefix): emulator.admin.read_file(item) for item in items if item.startswith(prefix)}


def blob(size_bytes: int, seed: int = 0) -> bytes:
    return hashlib.shake_128(bytes([seed])).digest(size_bytes)


def folder_of(base: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        (base / name).write_bytes(data)
    return base


# --- ls, link, find-id ---


def test_ls_lists_ids_checksums_and_links(run: Run, api: Api, top: tuple[str, str]) -> None:
    file = api.file("a.ckpt", b"weights", parent=top[0])
    api.folder("sub", parent=top[0])
    items = {item["path"]: item for item in copied(run("ls", "--json", top[1]))["items"]}
    assert set(items) == {"a.ckpt", "sub"}
    got = items["a.ckpt"]
    assert (got["id"], got["kind"], got["size_bytes"]) == (file["id"], "file", 7)
    assert got["md5"] == hashlib.md5(b"weights").hexdigest()
    assert got["sha256"] == hashlib.sha256(b"weights").hexdigest()
    assert got["web_view_link"] == file["webViewLink"]
    assert got["web_content_link"] == file["webContentLink"]
    assert (items["sub"]["kind"], items["sub"]["size_bytes"]) == ("folder", None)


def test_ls_takes_ids_links_and_everything_below(run: Run, api: Api, top: tuple[str, str]) -> None:
    sub = api.folder("sub", parent=top[0])
    deep = api.folder("deep", parent=sub)
    api.file("x", b"1", parent=deep)
    items = copied(run("ls", "--json", "-R", f"https://drive.google.com/drive/u/0/folders/{top[0]}?usp=sharing"))
    assert [item["path"] for item in items["items"]] == ["sub", "sub/deep", "sub/deep/x"]
    assert "x" in run("ls", deep).stdout


def test_ls_searches_in_drives_own_language(run: Run, api: Api, top: tuple[str, str]) -> None:
    api.file("epoch-1.ckpt", b"1", parent=top[0])
    api.file("notes.txt", b"1", parent=top[0])
    found = copied(run("ls", "--json", "--query", "name contains 'epoch'", top[1]))["items"]
    assert [item["path"] for item in found] == ["epoch-1.ckpt"]
    assert "does not understand" in run("ls", "--query", "name like 'x'", code=2).output


def test_ls_shows_no_control_characters(run: Run, api: Api, top: tuple[str, str]) -> None:
    api.file("bad\x1b[2Jname", b"1", parent=top[0])
    assert "\x1b" not in run("ls", top[1]).stdout


def test_link_shares_only_when_it_is_told_to(run: Run, api: Api, other: Api, top: tuple[str, str]) -> None:
    file = api.file("model.pt", b"weights", parent=top[0])
    path = f"{top[1]}/model.pt"
    assert run("link", path).stdout.strip() == file["webViewLink"]
    assert other.get(f"files/{file['id']}").status == 404
    assert run("link", "--anyone", "--download", path).stdout.strip() == file["webContentLink"]
    assert other.get(f"files/{file['id']}").status == 200
    run("link", "--with", "other@example.com", "--role", "writer", path)
    permissions = api.ok("GET", f"files/{file['id']}/permissions", fields="*")["permissions"]
    assert {"writer", "reader"} <= {each["role"] for each in permissions}


def test_link_says_what_it_cannot_do(run: Run, top: tuple[str, str]) -> None:
    assert "two things" in run("link", "--anyone", "--with", "a@example.com", top[1], code=2).output
    assert "--role says" in run("link", "--role", "writer", top[1], code=2).output
    assert "no download link" in run("link", "--download", top[1], code=1).output
    assert "There is no drive:nowhere" in run("link", "drive:nowhere", code=1).output


@pytest.mark.parametrize(
    "form",
    [
        "{}",
        "https://drive.google.com/file/d/{}/view?usp=sharing",
        "https://drive.google.com/open?id={}",
        "https://drive.google.com/uc?export=download&id={}",
        "https://docs.google.com/document/d/{}/edit#heading=h.1",
        "https://colab.research.google.com/drive/{}",
        "https://drive.usercontent.google.com/download?id={}&confirm=t",
    ],
)
def test_find_id_gives_the_path(run: Run, api: Api, form: str) -> None:
    folder = api.folder("find me")
    file = api.file("it", b"1", parent=folder)
    assert run("find-id", form.format(file["id"])).stdout.splitlines() == ["drive:find me/it"]


def test_find_id_says_what_is_no_id(run: Run) -> None:
    assert "neither an ID nor a link" in run("find-id", "a b", code=2).output
    assert "has no item" in run("find-id", "nosuchitem_nosuchitem", code=1).output


# --- revisions ---


def test_revisions_lists_gets_restores_and_keeps(run: Run, api: Api, top: tuple[str, str], tmp_path: Path) -> None:
    file = api.file("m.ckpt", b"one", parent=top[0])
    api.multipart({}, b"two", file_id=file["id"])
    path = f"{top[1]}/m.ckpt"
    listed = copied(run("revisions", "--json", path))["revisions"]
    assert [(each["number"], each["md5"]) for each in listed] == [
        (1, hashlib.md5(b"two").hexdigest()),
        (2, hashlib.md5(b"one").hexdigest()),
    ]
    run("revisions", path, "--get", "2", str(tmp_path / "old"))
    assert (tmp_path / "old").read_bytes() == b"one"
    run("revisions", path, "--keep", listed[1]["id"])
    run("revisions", path, "--restore", "2")
    listed = copied(run("revisions", "--json", path))["revisions"]
    assert [each["md5"] for each in listed[:2]] == [hashlib.md5(b"one").hexdigest(), hashlib.md5(b"two").hexdigest()]
    assert listed[2]["kept"]
    assert api.ok("GET", f"files/{file['id']}", fields="md5Checksum")["md5Checksum"] == listed[0]["md5"]
    assert "already" in run("revisions", path, "--restore", "1").stdout
    assert "has no revision 9" in run("revisions", path, "--get", "9", "x", code=2).output


# --- cp ---

FILES = {"a": b"1", "sub/b": blob(100_000), "sub/deep/c": b"", "sub/ä name": b"x", "big": blob(6_000_000)}


def test_cp_brings_a_tree_to_drive_once(run: Run, emulator: Running, top: tuple[str, str], tmp_path: Path) -> None:
    source = folder_of(tmp_path / "run", FILES)
    first = copied(run("cp", "-r", "--json", f"{source}/", top[1]))
    assert (first["files"], first["same_files"], first["failures"]) == (5, 0, [])
    assert tree(emulator, top[1]) == FILES
    (source / "a").write_bytes(b"2")
    again = copied(run("cp", "-r", "--json", f"{source}/", top[1]))
    assert (again["files"], again["same_files"]) == (1, 4)
    assert tree(emulator, top[1]) == FILES | {"a": b"2"}
    run("cp", "-r", str(source), f"{top[1]}/")
    assert tree(emulator, top[1] + "/run") == FILES | {"a": b"2"}


def test_cp_keeps_the_id_and_the_time(run: Run, api: Api, top: tuple[str, str], tmp_path: Path) -> None:
    old = api.file("m.pt", b"old", parent=top[0])
    (tmp_path / "m.pt").write_bytes(b"new")
    os.utime(tmp_path / "m.pt", (1_600_000_000, 1_600_000_000))
    run("cp", str(tmp_path / "m.pt"), f"{top[1]}/m.pt")
    (now,) = api.ok("GET", "files", q=f"'{top[0]}' in parents", fields="files(id,modifiedTime)")["files"]
    assert now == {"id": old["id"], "modifiedTime": "2020-09-13T12:26:40.000Z"}


def test_cp_brings_a_tree_from_drive(run: Run, api: Api, top: tuple[str, str], tmp_path: Path) -> None:
    sub = api.folder("sub", parent=top[0])
    files = {"a": b"1", "big": blob(RANGE_BYTES * 2 + 5)}
    for name, data in files.items():
        api.file(name, data, parent=sub)
    api.file("../evil", b"hostile", parent=sub)
    api.file("a", b"twin", parent=sub)
    result = copied(run("cp", "-r", "--json", top[1] + "/", str(tmp_path / "here")))
    assert result["files"] == 4
    here = {path.name: path.read_bytes() for path in (tmp_path / "here" / "sub").iterdir()}
    assert {name: here[name] for name in files} == files
    shown = "..\N{FULLWIDTH SOLIDUS}evil"
    assert here[shown] == b"hostile"
    (twin,) = set(here) - {*files, shown}
    assert (twin[:2], here[twin]) == ("a~", b"twin")
    assert copied(run("cp", "-r", "--json", top[1] + "/", str(tmp_path / "here")))["same_files"] == 4


def test_cp_within_drive_sends_no_bytes(run: Run, emulator: Running, api: Api, top: tuple[str, str]) -> None:
    source = api.folder("from", parent=top[0])
    api.file("w", blob(1_000_000), parent=source)
    emulator.admin.reset_counters()
    run("cp", "-r", f"{top[1]}/from", f"{top[1]}/to/")
    assert tree(emulator, top[1] + "/to") == {"from/w": blob(1_000_000)}
    assert not [each for each in emulator.admin.requests() if "upload" in each["path"]]
    assert copied(run("cp", "-r", "--json", f"{top[1]}/from/", f"{top[1]}/to/from"))["same_files"] == 1


def test_cp_puts_no_folder_beside_a_file_of_its_name(run: Run, api: Api, top: tuple[str, str]) -> None:
    source, target = api.folder("from", parent=top[0]), api.folder("to", parent=top[0])
    api.file("w", b"1", parent=api.folder("x", parent=source))
    api.file("x", b"a file", parent=target)
    assert "is a file on Drive" in run("cp", "-r", f"{top[1]}/from/", f"{top[1]}/to", code=1).output
    assert api.names(f"'{target}' in parents") == ["x"]


def test_cp_asks_for_all_ids_at_once(run: Run, emulator: Running, top: tuple[str, str], tmp_path: Path) -> None:
    source = folder_of(tmp_path / "run", {f"d/f{n}": bytes([n]) for n in range(40)})
    run("cp", "-r", f"{source}/", f"{top[1]}/")
    assert len(emulator.admin.requests(method="drive.files.generateIds")) == 1  # for the folder and its files
    emulator.admin.reset_counters()
    run("cp", "-r", f"{source}/", f"{top[1]}/")
    assert not emulator.admin.requests(method="drive.files.generateIds")


def test_cp_of_more_than_one_request_gives_ids_for_has_one_for_each(
    run: Run, emulator: Running, top: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "_IDS_AT_ONCE", 7)
    files = {f"d{n % 3}/f{n}": bytes([n]) for n in range(40)}
    run("cp", "-r", f"{folder_of(tmp_path / 'run', files)}/", f"{top[1]}/")
    assert tree(emulator, top[1]) == files
    assert len(emulator.admin.requests(method="drive.files.generateIds")) == 7  # for 43


def test_cp_dry_run_changes_nothing(run: Run, emulator: Running, top: tuple[str, str], tmp_path: Path) -> None:
    source = folder_of(tmp_path / "run", FILES)
    told = run("cp", "-rn", f"{source}/", top[1]).stdout
    assert f"Would make {top[1]}/sub/deep/." in told
    assert f"Would copy {source}/a to {top[1]}/a." in told
    assert "Would copy 5 files" in told
    assert tree(emulator, top[1]) == {}


@pytest.mark.parametrize("action", ["reset_after", "error_after"])
def test_cp_makes_no_duplicates_whatever_fails(
    run: Run, emulator: Running, api: Api, top: tuple[str, str], tmp_path: Path, action: str
) -> None:
    source = folder_of(tmp_path / "run", {f"f{n}": bytes([n]) * 10 for n in range(8)})
    emulator.admin.add_fault(action, api="drive.files.create", count=4)
    run("cp", "-r", f"{source}/", f"{top[1]}/new/")
    assert len(tree(emulator, top[1] + "/new")) == 8
    folder = api.ok("GET", "files", q=f"'{top[0]}' in parents", fields="files(id)")["files"][0]["id"]
    assert sorted(api.names(f"'{folder}' in parents")) == [f"f{n}" for n in range(8)]


def test_cp_goes_on_with_an_upload_that_was_cut(
    run: Run, emulator: Running, top: tuple[str, str], tmp_path: Path
) -> None:
    data = blob(20_000_000)
    (tmp_path / "m").write_bytes(data)
    emulator.admin.add_fault("partial", api="upload.chunk", bytes=8_000_000, then="reset", count=1)
    emulator.admin.add_fault("error", api="upload.status", status=403, reason="storageQuotaExceeded")
    assert "storageQuotaExceeded" in run("cp", str(tmp_path / "m"), f"{top[1]}/m", code=1).output
    (note,) = (tmp_path / "state" / "drivefs" / "copies").iterdir()
    assert (note.stat().st_mode & 0o777, note.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    emulator.admin.clear_faults()
    emulator.admin.reset_counters()
    run("cp", str(tmp_path / "m"), f"{top[1]}/m")
    sent = [each["bytes_in"] for each in emulator.admin.requests(method="upload.chunk")]
    assert len(sent) == 1 and 0 < sent[0] <= len(data) - 7_000_000
    assert tree(emulator, top[1]) == {"m": data}
    assert not note.exists()


def test_cp_says_what_it_cannot_do(run: Run, top: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"1")
    assert "Neither end is on Drive" in run("cp", str(tmp_path / "f"), str(tmp_path / "g"), code=2).output
    assert "'drivefs cp -r'" in run("cp", str(tmp_path), top[1], code=2).output
    assert "cannot be read" in run("cp", str(tmp_path / "nothing"), top[1], code=1).output
    assert "There is no drive:nowhere" in run("cp", "drive:nowhere", str(tmp_path), code=1).output


# --- doctor ---


def test_doctor_finds_drive_and_the_account(run: Run) -> None:
    checks = {each["name"]: each for each in json.loads(run("doctor", "--json").stdout)["checks"]}
    assert checks["sign-in"]["text"] == "user@example.com."
    assert all(each["ok"] for each in checks.values())
    assert checks["clock"]["text"] == "agrees with Drive's."


def test_doctor_says_that_drive_cannot_be_reached(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drivefs.drive.google.GoogleDrive.about", _unreachable)
    assert "Look at the network" in run("doctor", code=1).stdout


def _unreachable(_: object) -> None:
    raise Unreachable("Drive was not reached.")
