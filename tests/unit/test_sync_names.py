"""One stable name for each item of Drive, and the way back (README: How things are kept on Drive)."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivefs.model import ROOT_INODE, DriveId
from drivefs.sync.names import NAME_LIMIT_BYTES, local_name, remote_name
from tests.fake_drive import FakeDrive
from tests.house import House

ID = DriveId("1w3SmBeGISqPU4ZLbIg8aQWkvdHG-q8rC")
NFC, NFD = (unicodedata.normalize(form, "Modèle é.ckpt") for form in ("NFC", "NFD"))
ODD = [
    "a/b",
    "a\0b",
    ".",
    "..",
    "",
    "x" * 300 + ".bin",
    "\u00e9" * 200,
    "new\nline",
    "\x1b[31mred\x7f",
    "\u202erlo",
    " ",
    "~",
]


def shown(house: House) -> set[str]:
    house.mirror.ensure_listed(ROOT_INODE)
    return {node.name or "" for node in house.store.nodes.children(ROOT_INODE)}


@given(st.text(), st.booleans())
def test_name_can_be_a_file_name_and_leads_back(name: str, taken: bool) -> None:
    local = local_name(name, ID, taken=taken)
    raw = local.encode()
    assert local not in ("", ".", "..") and "/" not in local and "\0" not in local
    assert len(raw) <= NAME_LIMIT_BYTES
    assert remote_name(local, name, ID) == name
    assert local_name(name, ID, taken=taken) == local


@given(st.text(st.characters(exclude_characters="\u201b\0", exclude_categories=["Cs"]), min_size=1, max_size=60))
def test_name_of_a_new_file_is_the_one_that_would_show_it(name: str) -> None:
    local = local_name(name, ID, taken=False)
    assert remote_name(local) == name


@given(st.lists(st.text(max_size=8), unique=True, min_size=2, max_size=6))
def test_names_of_twins_differ_by_their_ids(names: list[str]) -> None:
    ids = [DriveId(f"id-{number}") for number, _ in enumerate(names)]
    found = {local_name("same", drive_id, taken=True) for drive_id in ids}
    assert len(found) == len(names)


def test_names_that_look_alike_are_files_of_their_own(tmp_path: Path) -> None:
    drive = FakeDrive()
    names = [NFC, NFD, "case", "Case", "CASE", *ODD]
    for number, name in enumerate(names):
        drive.put(name, bytes([number]))
    house = House(tmp_path / "one", drive)
    found = shown(house)
    assert len(found) == len(names)
    assert {NFC, NFD, "case", "Case", "CASE", "new\nline"} <= found
    assert shown(House(tmp_path / "two", drive)) == found
    for name in found:
        house.write(name, b"changed")
    house.drain()
    assert sorted(drive.names()) == sorted(names), "a name was changed on Drive"
    assert all(drive.content(drive.names()[name]) == b"changed" for name in names)


@pytest.mark.parametrize("name", [NFC, NFD, "Case", "a\uff0fb", "new\nline"])
def test_name_of_a_new_file_goes_where_it_says_beside_its_look_alikes(tmp_path: Path, name: str) -> None:
    drive = FakeDrive()
    for other in (NFC, NFD, "case", "a\\b", "new line"):
        if other != name:
            drive.put(other, b"old")
    house = House(tmp_path / "cache", drive)
    shown(house)
    house.write(name, b"new")
    house.drain()
    assert drive.content(drive.names()[remote_name(name)]) == b"new"
    assert (
        sum(drive.content(file.id) == b"old" for file in drive.files.values() if file.md5) == len(drive.names()) - 1
    )


def test_name_of_a_twin_stays_when_the_other_one_goes_and_writes_reach_the_right_one(tmp_path: Path) -> None:
    drive = FakeDrive()
    drive.put("twin.txt", b"2", id="younger", created_ns=2)
    drive.put("twin.txt", b"1", id="older", created_ns=1)
    house = House(tmp_path / "cache", drive)
    house.write("twin~younger.txt", b"to the younger")
    house.write("twin.txt", b"to the older")
    house.drain()
    assert drive.content(DriveId("older")) == b"to the older"
    assert drive.content(DriveId("younger")) == b"to the younger"
    drive.change(DriveId("older"), trashed=True)
    house.mirror.poll()
    assert shown(house) == {"twin~younger.txt"}
    house.write("twin.txt", b"a third")
    house.drain()
    assert drive.content(DriveId("younger")) == b"to the younger"
    assert shown(house) == {"twin.txt", "twin~younger.txt"}
    assert drive.files[DriveId("younger")].name == "twin.txt"
