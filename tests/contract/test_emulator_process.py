"""The emulator as a process: how it starts, where it lives, how it ends. And the fence around the tests."""

from __future__ import annotations

import json
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
import urllib3

from drivefs.emulator import Admin, Options, running, start
from drivefs.emulator.command import add_options, arguments_of, options_of


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_and_its_temporary_folder(number: signal.Signals) -> None:
    emulator = start(Options())
    folder = emulator.credentials_file.parent.parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert set(emulator.ready) == {"endpoint", "credentials", "admin", "accounts"}
    emulator.process.send_signal(number)
    assert emulator.process.wait(10) == 0
    emulator.stop()
    assert not folder.exists()


def test_a_folder_that_was_given_is_kept_with_its_credentials(tmp_path: Path) -> None:
    options = Options(directory=tmp_path / "drive", accounts=("a@example.com", "b@example.com"))
    tokens = []
    for _ in range(2):
        with running(options) as emulator:
            saved = json.loads(emulator.credentials_of("b@example.com").read_text())
            tokens.append(saved["refresh_token"])
            assert saved["token_uri"].startswith(emulator.endpoint)
    assert tokens[0] == tokens[1]
    for path in options.directory.rglob("*") if options.directory else ():
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_it_ends_in_the_middle_of_a_stalled_request() -> None:
    emulator = start(Options())
    emulator.admin.add_fault("stall", seconds=None)
    port = emulator.endpoint.rpartition(":")[2]
    with socket.create_connection(("127.0.0.1", int(port))) as raw:
        raw.sendall(b"GET /drive/v3/about?fields=* HTTP/1.1\r\nHost: x\r\n\r\n")
        while not emulator.admin.faults()[0]["struck"]:
            continue
        assert emulator.stop() == 0


def test_it_listens_on_loopback_only() -> None:
    with running(Options()) as emulator:
        assert emulator.endpoint.startswith("http://127.0.0.1:")


def test_the_command_line_carries_every_option(tmp_path: Path) -> None:
    seen: list[Options] = []

    @click.command()
    @add_options
    def command(**keywords: Any) -> None:
        seen.append(options_of(**keywords))

    plain, full = (
        Options(),
        Options(tmp_path, 1, 2, ("a@b", "c@d"), 0.08, 4e7, 1e8, 7, 2.5, None, 60.0, 5_000_000, 3),
    )
    for options in (plain, full):
        command.main(arguments_of(options), standalone_mode=False)
    assert seen == [plain, full]
    words = ["--latency", "80ms", "--bandwidth", "40MB", "--storage", "15GiB", "--token-lifetime", "1h"]
    command.main(words, standalone_mode=False)
    assert (seen[2].latency_s, seen[2].bandwidth_bytes_s) == (0.08, 40e6)
    assert (seen[2].storage_bytes, seen[2].token_lifetime_s) == (15 << 30, 3600.0)


def test_wrong_options_are_one_sentence_and_exit_code_2() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "drivefs.emulator", "--bandwidth", "fast"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "'fast' is not a size such as 40MB" in done.stderr


def test_a_port_that_is_taken_is_said_in_one_sentence() -> None:
    with running(Options()) as emulator:
        port = emulator.endpoint.rpartition(":")[2]
        done = subprocess.run(
            [sys.executable, "-m", "drivefs.emulator", "--port", port], capture_output=True, text=True, check=False
        )
    assert done.returncode == 1
    assert f"port {port}" in done.stderr
    assert "Traceback" not in done.stderr


def test_admin_files_need_no_api_and_leave_no_trace_in_the_log() -> None:
    with running(Options()) as emulator:
        admin = Admin(emulator.endpoint)
        made = admin.put_file("a/b/c.txt", b"one", modifiedTime="2020-01-01T00:00:00Z")
        assert admin.put_file("a/b/c.txt", b"two")["id"] == made["id"]
        assert admin.put_file("a/b/c.txt", b"three", new="1")["id"] != made["id"]
        assert admin.read_file("a/b/c.txt") == b"two"
        assert [entry["path"] for entry in admin.tree()] == ["a", "a/b", "a/b/c.txt", "a/b/c.txt"]
        admin.delete_file("a")
        assert admin.tree() == []
        assert admin.counters()["requests"] == 0
        admin.close()


def test_the_tests_reach_nothing_but_this_machine() -> None:
    with pytest.raises(OSError, match="look up"):
        socket.getaddrinfo("www.googleapis.com", 443)
    with socket.socket() as raw, pytest.raises(OSError, match="connect"):
        raw.connect(("192.0.2.1", 80))
    with pytest.raises(urllib3.exceptions.HTTPError):
        urllib3.request("GET", "https://www.googleapis.com/", retries=False)
