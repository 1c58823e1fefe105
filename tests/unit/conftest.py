"""Fixtures of the unit tests: a Drive client on a script, with a clock of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import google.oauth2.credentials
import pytest

from drivefs.drive.google import GoogleDrive
from drivefs.drive.http import Transport
from tests.unit.drive_calls import PATIENCE_S, Opener
from tests.unit.fake_clock import FakeClock
from tests.unit.scripted_server import ScriptedServer


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def opened(clock: FakeClock) -> Iterator[Opener]:
    drives: list[GoogleDrive] = []

    def open_drive(server: ScriptedServer, **options: Any) -> GoogleDrive:
        settings: dict[str, Any] = {"stall_timeout_s": 5, "clock": clock, "random": lambda: 0.5, **options}
        credentials = settings.pop("credentials", None) or google.oauth2.credentials.Credentials("token")
        drives.append(GoogleDrive(credentials, endpoint=server.url, patience_s=PATIENCE_S, **settings))
        return drives[-1]

    yield open_drive
    for drive in drives:
        drive.close()


@pytest.fixture
def transport() -> Iterator[Transport]:
    transport = Transport(connect_timeout_s=5, stall_timeout_s=5)
    yield transport
    transport.close()


@pytest.fixture
def impatient() -> Iterator[Transport]:
    transport = Transport(connect_timeout_s=0.3, stall_timeout_s=0.3)
    yield transport
    transport.close()
