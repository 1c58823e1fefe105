"""One emulator a module, without faults at the start of each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from drivefs.drive.auth import load_credentials
from drivefs.drive.google import GoogleDrive
from drivefs.emulator import Options, Running, running
from tests.contract.commands import Run, runner
from tests.emulator_support import Api


@pytest.fixture(scope="module")
def emulator_process() -> Iterator[Running]:
    accounts = ("user@example.com", "other@example.com")
    with running(Options(accounts=accounts, quota_units_per_minute=10**9)) as emulator:
        yield emulator


@pytest.fixture
def emulator(emulator_process: Running) -> Iterator[Running]:
    emulator_process.admin.clear_faults()
    emulator_process.admin.reset_counters()
    yield emulator_process
    emulator_process.admin.clear_faults()
    emulator_process.admin.set_network(latency_s=0, bandwidth_bytes_s=None, shared_bandwidth_bytes_s=None)


@pytest.fixture
def api(emulator: Running) -> Iterator[Api]:
    """The first account's."""
    client = Api(emulator)
    yield client
    client.close()


@pytest.fixture
def other(emulator: Running) -> Iterator[Api]:
    """The second account's."""
    client = Api(emulator, account="other@example.com")
    yield client
    client.close()


@pytest.fixture
def run(emulator: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    return runner(emulator, tmp_path, monkeypatch)


@pytest.fixture
def drive(emulator: Running) -> Iterator[GoogleDrive]:
    """drivefs's own client of the first account; its pauses are short."""
    drive = GoogleDrive(
        load_credentials(emulator.credentials_file),
        endpoint=emulator.endpoint,
        stall_timeout_s=10,
        patience_s=3,
        random=lambda: 0.0,
    )
    yield drive
    drive.close()
    emulator.admin.set_quota(creates_per_s=None, storage_bytes=None)
