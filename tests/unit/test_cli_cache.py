"""warm and cache: what is asked of the mount, what is printed, and the exit code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from drivefs import cli
from drivefs.cli import cache, warm
from drivefs.control import Json
from drivefs.mounts import Running
from drivefs.records import Record

WARMED = {
    "files": 2,
    "bytes": 2048,
    "files_done": 2,
    "bytes_done": 2048,
    "failed": 0,
    "failures": [],
    "full": False,
}
FAILED = {**WARMED, "files_done": 1, "failed": 1, "failures": [{"path": "a/b", "reason": "No rights."}]}


class FakeClient:
    def __init__(self, answer: Json) -> None:
        self.pid = 4242
        self.answer = answer
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def ask(self, do: str, on_progress: Callable[[Json], None] | None = None, **arguments: Any) -> Json:
        self.asked.append((do, arguments))
        return self.answer


def run(monkeypatch: pytest.MonkeyPatch, folder: Path, answer: Json, *arguments: str) -> tuple[Result, FakeClient]:
    client = FakeClient(answer)
    record = Record(folder, folder / "cache", None, "default", None, None, False, 5.0)
    for module in (cache, warm):
        monkeypatch.setattr(module, "get_running", lambda path: Running(record, client))  # type: ignore[arg-type]
    return CliRunner().invoke(cli.main, arguments), client


def test_warm_asks_for_paths_from_the_mounts_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    paths = [str(tmp_path), str(tmp_path / "a" / "b")]
    result, client = run(monkeypatch, tmp_path, WARMED, "warm", *paths, "--jobs", "3", "--pin")
    assert result.exit_code == 0
    assert "In the cache: 2 files (2.0 KiB)." in result.output
    assert client.asked == [("warm", {"paths": ["", "a/b"], "jobs": 3, "pin": True, "off": False})]


def test_warm_fails_when_a_file_did_not_come(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    result, _ = run(monkeypatch, tmp_path, FAILED, "warm", str(tmp_path))
    assert result.exit_code == 1
    assert "a/b: No rights" in result.output


def test_cache_show_prints_what_is_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    answer = {
        "whole_files": 2,
        "partial_files": 1,
        "bytes": 2048,
        "limit_bytes": 1 << 30,
        "keep_free_bytes": 1 << 20,
        "damaged_blocks": 3,
        "mended_blocks": 2,
        "pins": 3,
        "waiting_files": 0,
        "waiting_bytes": 0,
    }
    result, client = run(monkeypatch, tmp_path, answer, "cache", "show")
    assert client.asked == [("cache", {"action": "show"})]
    assert "2 files (2.0 KiB), parts of 1 more" in result.output
    assert "3 MiB of what Drive has too were damaged" in result.output
    result, _ = run(monkeypatch, tmp_path, answer, "cache", "show", "--json")
    assert json.loads(result.output) == answer


@pytest.mark.parametrize(("in_use", "exit_code"), [(0, 0), (1, 1)])
def test_cache_verify_fails_while_damage_is_left(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, in_use: int, exit_code: int
) -> None:
    answer = {"files": 5, "bytes": 2048, "dropped": 1, "in_use": in_use}
    result, _ = run(monkeypatch, tmp_path, answer, "cache", "verify")
    assert result.exit_code == exit_code


def test_cache_clear_says_how_much_it_freed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    result, client = run(monkeypatch, tmp_path, {"freed_bytes": 2048}, "cache", "clear")
    assert client.asked == [("cache", {"action": "clear"})]
    assert "Freed 2.0 KiB." in result.output
