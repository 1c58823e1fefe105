"""drivefs trash, by the real command line against the emulator."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from drivefs import cli
from drivefs.emulator import Running
from tests.emulator_support import Api

Run = Callable[..., Result]


@pytest.fixture
def run(emulator: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("DRIVEFS_ENDPOINT", emulator.endpoint)
    monkeypatch.setenv("DRIVEFS_CREDENTIALS", str(emulator.credentials_file))

    def invoke(*arguments: str, code: int = 0) -> Result:
        result = CliRunner().invoke(cli.main, ("trash", *arguments))
        assert result.exit_code == code, result.output
        return result

    return invoke


def trashed(api: Api, name: str, parent: str = "root") -> str:
    file_id = str(api.file(name, b"x", parent)["id"])
    api.ok("PATCH", f"files/{file_id}", {"trashed": True})
    return file_id


def listed(run: Run) -> dict[str, str]:
    return {item["id"]: item["name"] for item in json.loads(run("list", "--json").stdout)["items"]}


def test_trash_lists_restores_and_empties(run: Run, api: Api) -> None:
    folder = api.folder("folder")
    inside = str(api.file("inside", b"x", folder)["id"])
    api.ok("PATCH", f"files/{folder}", {"trashed": True})
    one, two = trashed(api, "one"), trashed(api, "two")
    kept = str(api.file("kept", b"x")["id"])
    assert listed(run) == {folder: "folder", one: "one", two: "two"}
    run("restore", "folder", one)
    assert listed(run) == {two: "two"}
    for file_id in (folder, inside, one, kept):
        assert api.ok("GET", f"files/{file_id}", fields="trashed") == {"trashed": False}
    other = trashed(api, "other")
    run("empty", "two", "--yes")
    assert listed(run) == {other: "other"}
    assert api.get(f"files/{two}").status == 404
    run("empty", "--yes")
    assert listed(run) == {}
    assert run("empty", "--yes").stdout == "The trash is empty.\n"
    assert api.get(f"files/{kept}").status == 200


def test_trash_asks_before_it_deletes_and_guesses_no_names(run: Run, api: Api) -> None:
    one, two = trashed(api, "same"), trashed(api, "same")
    assert one in run("restore", "same", code=2).output
    assert "drivefs trash list" in run("restore", "nothing", code=2).output
    run("empty", one, code=1)  # nobody says yes
    assert set(listed(run)) == {one, two}
    run("empty", "--yes")
