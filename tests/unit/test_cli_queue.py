"""flush, status and umount: what they print, and the exit code, for each answer of a mount."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from drivefs import cli
from drivefs.cli import mounting, queue, remote
from drivefs.control import Ended, Json
from drivefs.mounts import Running
from drivefs.records import Record, read_records, write_record
from drivefs.store.survey import survey
from tests.house import House

DONE = {
    "state": "done",
    "files": 2,
    "bytes": 2048,
    "files_left": 0,
    "bytes_left": 0,
    "parked": [],
    "pause": None,
    "seconds": 1.5,
}
LATE = {**DONE, "state": "timed-out", "files_left": 1, "bytes_left": 1024}
REFUSED = {**LATE, "state": "failed", "parked": [{"path": "a/b", "reason": "No rights."}]}
ENDED = {**LATE, "state": "ended"}


class FakeClient:
    """A mount's process that gives the answers it was made with."""

    def __init__(self, **answers: Json) -> None:
        self.pid = 4242
        self.answers = answers
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def ask(self, do: str, on_progress: Callable[[Json], None] | None = None, **arguments: Any) -> Json:
        self.asked.append((do, arguments))
        return self.answers[do]


def record(folder: Path, mountpoint: str = "/mnt/drive") -> Record:
    return Record(Path(mountpoint), folder, None, "default", None, None, False, 5.0)


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("DRIVEFS_DEBUG", raising=False)


def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, clients: list[FakeClient], *arguments: str) -> Any:
    found: list[Any] = [
        Running(record(tmp_path / str(number), f"/mnt/{number}"), client)  # type: ignore[arg-type]
        for number, client in enumerate(clients)
    ]
    monkeypatch.setattr(queue, "running", lambda: found)
    monkeypatch.setattr(mounting, "running", lambda: found)
    monkeypatch.setattr(remote, "running", lambda: found)
    return CliRunner().invoke(cli.main, arguments)


@pytest.mark.parametrize(
    ("answer", "exit_code", "said"),
    [
        (DONE, 0, "Everything in /mnt/0 is on Drive (2 files (2.0 KiB) sent in 2 s)."),
        (LATE, 3, "Not on Drive yet: 1 file (1.0 KiB)"),
        ({**LATE, "pause": "Sign in again."}, 3, "nothing moves: Sign in again."),
        (REFUSED, 1, "a/b: No rights"),
        (ENDED, 1, "left in the cache"),
    ],
)
def test_flush_exit_code_tells_the_truth(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answer: Json, exit_code: int, said: str
) -> None:
    result = run(monkeypatch, tmp_path, [FakeClient(flush=answer)], "flush")
    assert result.exit_code == exit_code
    assert said in result.output
    result = run(monkeypatch, tmp_path, [FakeClient(flush=answer)], "flush", "--json")
    assert result.exit_code == exit_code
    told = json.loads(result.stdout)
    assert told == {"state": answer["state"], "mounts": [{"mountpoint": "/mnt/0", "paths": [], **answer}]}


def test_flush_of_several_mounts_is_as_good_as_the_worst(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clients = [FakeClient(flush=LATE), FakeClient(flush=REFUSED), FakeClient(flush=DONE)]
    result = run(monkeypatch, tmp_path, clients, "flush")
    assert result.exit_code == 1
    assert [client.asked[0][0] for client in clients] == ["flush"] * 3


def test_flush_gives_the_mount_its_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    client = FakeClient(flush=DONE)
    run(monkeypatch, tmp_path, [client], "flush", "--timeout", "30")
    assert 29 < client.asked[0][1]["timeout_s"] <= 30
    client = FakeClient(flush=DONE)
    run(monkeypatch, tmp_path, [client], "flush")
    assert client.asked[0][1]["timeout_s"] is None


def test_flush_of_paths_asks_their_mounts_for_them_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first, second = FakeClient(flush=DONE), FakeClient(flush=DONE)
    clients: list[Any] = [first, second]
    found = [Running(record(tmp_path / str(number), f"/mnt/{number}"), each) for number, each in enumerate(clients)]
    monkeypatch.setattr(queue, "get_running", lambda path: found[int(path.parts[2])])
    result = CliRunner().invoke(cli.main, ["flush", "/mnt/0/run", "/mnt/0/latest", "/mnt/1", "/mnt/1/a"])
    assert result.exit_code == 0
    assert [asked["paths"] for _, asked in first.asked] == [["run", "latest"]]
    assert [asked["paths"] for _, asked in second.asked] == [[]]
    assert "/mnt/0/latest is on Drive." in result.stdout and "Everything in /mnt/1 is on Drive" in result.stdout


def test_flush_goes_on_with_a_mount_that_was_brought_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Dying(FakeClient):
        def ask(self, do: str, on_progress: Callable[[Json], None] | None = None, **arguments: Any) -> Json:
            raise Ended("It ended.")

    back: list[FakeClient] = [FakeClient(flush=DONE)]
    monkeypatch.setattr(queue, "reach", lambda record: back.pop() if back else None)
    assert run(monkeypatch, tmp_path, [Dying()], "flush").exit_code == 0
    result = run(monkeypatch, tmp_path, [Dying()], "flush")
    assert (result.exit_code, result.stderr) == (1, "drivefs: It ended.\n")


def test_flush_without_a_mount_says_what_waits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    result = run(monkeypatch, tmp_path, [], "flush")
    assert (result.exit_code, "Nothing is mounted" in result.stderr) == (1, True)
    house = House(tmp_path / "cache")
    house.write("a", b"12345")
    house.store.close()
    write_record(record(tmp_path / "cache"))
    result = run(monkeypatch, tmp_path, [], "flush")
    assert result.exit_code == 1
    assert "1 file (5 bytes)" in result.stderr and "drivefs mount /mnt/drive" in result.stderr


def test_status_without_a_mount_reads_the_cache_and_changes_nothing(tmp_path: Path) -> None:
    house = House(tmp_path / "cache")
    house.write("a", b"12345")
    house.write("b", b"1")
    house.store.journal.park(house.node("b").inode, "No rights.")
    house.store.close()
    write_record(record(tmp_path / "cache"))
    before = {path: path.read_bytes() for path in (tmp_path / "cache").rglob("*") if path.is_file()}
    told = json.loads(CliRunner().invoke(cli.main, ["status", "--json"]).stdout)
    (mount,) = told["mounts"]
    assert (mount["mountpoint"], mount["running"], mount["pid"]) == ("/mnt/drive", False, None)
    assert (mount["queue"]["files"], mount["queue"]["bytes"], mount["queue"]["parked"]) == (2, 6, 1)
    assert 0 <= mount["queue"]["oldest_s"] < 60
    assert "2 files (6 bytes)" in CliRunner().invoke(cli.main, ["status"]).stdout
    after = {path: path.read_bytes() for path in (tmp_path / "cache").rglob("*") if path.is_file()}
    assert {path: after[path] for path in before} == before


def test_survey_sees_what_a_killed_process_committed(tmp_path: Path) -> None:
    house = House(tmp_path / "cache")
    house.write("a", b"12345")
    assert survey(tmp_path / "cache").jobs == 1  # the log has not been moved into the database yet
    house.store.close()


def test_status_without_anything_says_so(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli.main, ["status"])
    assert (result.exit_code, result.stdout) == (
        0,
        "Nothing is mounted by drivefs, and nothing waits for Drive.\n",
    )
    result = CliRunner().invoke(cli.main, ["status", str(tmp_path)])
    assert (result.exit_code, "never mounted" in result.stderr) == (1, True)


def test_status_of_a_damaged_cache_is_told(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "drivefs.db").write_bytes(b"garbage" * 1000)
    write_record(record(tmp_path / "cache"))
    assert len(read_records()) == 1
    result = CliRunner().invoke(cli.main, ["status"])
    assert (result.exit_code, "cannot be read" in result.stdout) == (0, True)
    with pytest.raises(sqlite3.DatabaseError):
        sqlite3.connect(tmp_path / "cache" / "drivefs.db").execute("SELECT * FROM jobs")


@pytest.mark.parametrize(("answer", "exit_code"), [(LATE, 3), (REFUSED, 1)])
def test_umount_leaves_mounted_what_is_not_on_drive(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answer: Json, exit_code: int
) -> None:
    client = FakeClient(flush=answer)
    result = run(monkeypatch, tmp_path, [client], "umount", "/mnt/0", "--timeout", "5")
    assert result.exit_code == exit_code
    assert "stays mounted" in result.stderr and "--no-wait" in result.stderr
    assert [do for do, _ in client.asked] == ["flush"]


# --- refresh ---


def test_refresh_says_what_was_taken_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    client = FakeClient(refresh={"changes": 2})
    result = run(monkeypatch, tmp_path, [client], "refresh")
    assert (result.exit_code, client.asked) == (0, [("refresh", {})])
    assert "2 changes taken over" in result.output
    result = run(monkeypatch, tmp_path, [client], "refresh", "--json")
    assert [each["changes"] for each in json.loads(result.output)["mounts"]] == [2]


def test_refresh_fails_without_a_mount(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert run(monkeypatch, tmp_path, [], "refresh").exit_code == 1
