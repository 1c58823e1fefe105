"""drivefs trash, by the real command line against the emulator."""

from __future__ import annotations

import json

from tests.contract.commands import Run
from tests.emulator_support import Api


def trashed(api: Api, name: str, parent: str = "root") -> str:
    file_id = str(api.file(name, b"x", parent)["id"])
    api.ok("PATCH", f"files/{file_id}", {"trashed": True})
    return file_id


def listed(run: Run) -> dict[str, str]:
    return {item["id"]: item["name"] for item in json.loads(run("trash", "list", "--json").stdout)["items"]}


def test_trash_lists_restores_and_empties(run: Run, api: Api) -> None:
    folder = api.folder("folder")
    inside = str(api.file("inside", b"x", folder)["id"])
    api.ok("PATCH", f"files/{folder}", {"trashed": True})
    one, two = trashed(api, "one"), trashed(api, "two")
    kept = str(api.file("kept", b"x")["id"])
    assert listed(run) == {folder: "folder", one: "one", two: "two"}
    run("trash", "restore", "folder", one)
    assert listed(run) == {two: "two"}
    for file_id in (folder, inside, one, kept):
        assert api.ok("GET", f"files/{file_id}", fields="trashed") == {"trashed": False}
    other = trashed(api, "other")
    run("trash", "empty", "two", "--yes")
    assert listed(run) == {other: "other"}
    assert api.get(f"files/{two}").status == 404
    run("trash", "empty", "--yes")
    assert listed(run) == {}
    assert run("trash", "empty", "--yes").stdout == "The trash is empty.\n"
    assert api.get(f"files/{kept}").status == 200


def test_trash_asks_before_it_deletes_and_guesses_no_names(run: Run, api: Api) -> None:
    one, two = trashed(api, "same"), trashed(api, "same")
    assert one in run("trash", "restore", "same", code=2).output
    assert "drivefs trash list" in run("trash", "restore", "nothing", code=2).output
    run("trash", "empty", one, code=1)  # nobody says yes
    assert set(listed(run)) == {one, two}
    run("trash", "empty", "--yes")
