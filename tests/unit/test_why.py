"""why: the cause that keeps a file from Drive, and the sentence that a person reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from drivefs import cli
from drivefs.cli import why as command
from drivefs.cli.why import sentences
from drivefs.control import Json
from drivefs.errors import QueueBlocked, Unreachable, UserError
from drivefs.mounts import Running
from drivefs.records import Record, write_record
from drivefs.why import Why
from tests.house import House

BIG = b"w" * 6_000_000


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path / "cache")


def facts_of(house: House, path: str) -> Json:
    handler = Why(
        house.store, house.mirror, house.uploader, house.downloader.documents, lambda path: house.node(path).inode
    )
    steps = handler.answer({"path": path})
    with pytest.raises(StopIteration) as end:
        next(steps)
    found: Json = end.value.value
    return found


def told(house: House, path: str) -> str:
    return sentences(f"/mnt/{path}", facts_of(house, path))


def test_why_says_when_drive_has_it(house: House) -> None:
    house.write("a", b"1")
    house.drain()
    facts = facts_of(house, "a")
    assert (facts["cause"], facts["drive"]["id"], facts["pause"]) == (None, house.node("a").drive_id, None)
    assert told(house, "a") == "/mnt/a is on Drive as it is here."


def test_why_says_what_a_file_waits_for(house: House) -> None:
    house.write("latest", b"0")
    house.drain()
    house.write("weights", BIG)
    house.write("latest", b"1")
    facts = facts_of(house, "latest")
    assert (facts["cause"], facts["earlier"], facts["earlier_files"]) == ("order", ["weights"], 1)
    assert told(house, "latest") == (
        "Drive has /mnt/latest, but not as it is here now: what was closed before it goes first (weights)."
    )


def test_why_says_that_a_change_is_fresh_and_that_a_try_failed(house: House) -> None:
    house.write("a", b"1")
    assert facts_of(house, "a")["cause"] == "quiet"
    house.store.journal.hasten()
    assert facts_of(house, "a")["cause"] == "turn"
    house.drive.fail("upload_small", ("before", Unreachable("The line is cut.")))
    house.dispatch()
    facts = facts_of(house, "a")
    assert (facts["cause"], facts["reason"]) == ("retry", "The line is cut.")
    assert "the last try failed (The line is cut), the next one is in" in told(house, "a")


def test_why_says_that_a_folder_is_made_first(house: House) -> None:
    house.mkdir("run")
    house.write("run/a", b"12")
    house.store.journal.hasten()
    facts = facts_of(house, "run/a")
    assert (facts["cause"], facts["earlier"]) == ("folder", ["run"])
    assert facts_of(house, "run")["below"] == {"files": 2, "bytes": 2, "parked": 0}
    assert told(house, "run").endswith("At and below it 2 files (2 bytes) are not on Drive yet.")


def test_why_says_that_a_file_is_being_written(house: House) -> None:
    house.write("a", b"1")
    house.drain()
    file = house.store.journal.start_anew(house.node("a"))
    facts = facts_of(house, "a")
    assert (facts["cause"], facts["writing"]) == ("writing", True)
    assert "'drivefs flush /mnt/a' sends it as it is" in told(house, "a")
    file.close()


def test_why_says_what_drive_refuses(house: House) -> None:
    house.mkdir("run")
    house.write("run/a", b"1")
    house.store.journal.park(house.node("run").inode, "No rights.")
    assert (facts_of(house, "run")["cause"], facts_of(house, "run/a")["earlier"]) == ("refused", ["run"])
    assert "Drive does not take it (No rights); the next mount tries again" in told(house, "run")
    assert "Drive does not take the folder run (No rights)" in told(house, "run/a")


def test_why_says_that_the_queue_is_paused(house: House) -> None:
    house.write("a", b"1")
    house.drive.fail("upload_small", ("before", QueueBlocked("Drive is full.", reason="storageQuotaExceeded")))
    house.dispatch()
    text = told(house, "a")
    assert "Nothing is sent for now (Drive is full); next try in" in text and "'drivefs flush'" in text


# --- the command ---


class FakeClient:
    def __init__(self, answer: Json) -> None:
        self.answer = answer
        self.asked: list[str] = []

    def ask(self, do: str, **arguments: Any) -> Json:
        self.asked.append(arguments["path"])
        return self.answer


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Record:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return Record(Path("/mnt/drive"), tmp_path / "cache", None, "default", None, None, False, 5.0)


def test_why_command_prints_sentences_or_an_object(
    house: House, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.write("a", b"1")
    client: Any = FakeClient(facts_of(house, "a"))
    monkeypatch.setattr(command, "get_running", lambda path: Running(record, client))
    result = CliRunner().invoke(cli.main, ["why", "/mnt/drive/a"])
    assert (result.exit_code, client.asked) == (0, ["a"])
    assert result.stdout.startswith("Drive has nothing of /mnt/drive/a yet: ")
    told = json.loads(CliRunner().invoke(cli.main, ["why", "--json", "/mnt/drive/a"]).stdout)
    assert (told["path"], told["cause"], told["drive"]) == ("/mnt/drive/a", "quiet", None)
    assert told["text"].startswith("Drive has nothing of")


def test_why_without_a_mount_says_what_waits(house: House, record: Record) -> None:
    house.write("a", b"12345")
    house.store.close()
    write_record(record)
    result = CliRunner().invoke(cli.main, ["why", "/mnt/drive/a"])
    assert result.exit_code == 1
    assert "Nothing is mounted on /mnt/drive, and 1 file (5 bytes)" in result.stderr
    assert "'drivefs mount /mnt/drive' goes on." in result.stderr


def test_why_of_what_is_on_no_mount_is_refused(record: Record) -> None:
    with pytest.raises(UserError, match="not in a mount"):
        command.why.callback(Path("/somewhere"), False)  # type: ignore[misc]
