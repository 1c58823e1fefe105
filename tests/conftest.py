"""What holds for all tests: they speak to this machine only, and in CI each of them runs.

Other names and addresses are refused before a packet leaves. A test that cannot run says why by a skip, which is
a failure where CI is set in the environment: there everything is to be installed.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Generator, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from drivefs.store.db import Database

# How long one example takes says more of who else uses the machine than of the test.
settings.register_profile("drivefs", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("drivefs")


def _is_loopback(host: Any) -> bool:
    if host in (None, "", "localhost", b"localhost"):
        return True
    try:
        return ipaddress.ip_address(host.decode() if isinstance(host, bytes) else host).is_loopback
    except ValueError:
        return False


def _forbid_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if not report.skipped or hasattr(report, "wasxfail") or not os.environ.get("CI"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
    report.outcome = "failed"
    report.longrepr = f"In CI no test may be skipped: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _forbid_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _forbid_skip(report)
    return report


@pytest.fixture(scope="session", autouse=True)
def _nobody_signed_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What this machine and its user are signed in to is no test's business."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_GCE_CHECK", "true")
        patch.setenv("CLOUDSDK_CONFIG", str(tmp_path_factory.mktemp("gcloud")))
        for name in ("GOOGLE_APPLICATION_CREDENTIALS", "RCLONE_CONFIG", "DRIVEFS_CREDENTIALS"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="session", autouse=True)
def only_loopback() -> Iterator[None]:
    """Looking up or connecting to any other host fails the test with an OSError that names it."""
    look_up, connect, connect_ex = socket.getaddrinfo, socket.socket.connect, socket.socket.connect_ex

    def guarded_look_up(host: Any, *arguments: Any, **keywords: Any) -> Any:
        if not _is_loopback(host):
            raise OSError(f"a test tried to look up {host!r}")
        return look_up(host, *arguments, **keywords)

    def check(address: Any) -> None:
        if isinstance(address, tuple) and not _is_loopback(address[0]):
            raise OSError(f"a test tried to connect to {address!r}")

    def guarded_connect(self: socket.socket, address: Any) -> None:
        check(address)
        connect(self, address)

    def guarded_connect_ex(self: socket.socket, address: Any) -> int:
        check(address)
        return connect_ex(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", guarded_look_up)
        patch.setattr(socket.socket, "connect", guarded_connect)
        patch.setattr(socket.socket, "connect_ex", guarded_connect_ex)
        yield


@pytest.fixture(autouse=True)
def _no_cache_stays_open(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A test that ends as a killed process does leaves its cache open: hundreds of them take all descriptors."""
    opened: list[Database] = []
    begin = Database.__init__

    def remembered(db: Database, *arguments: Any, **keywords: Any) -> None:
        begin(db, *arguments, **keywords)
        opened.append(db)

    monkeypatch.setattr(Database, "__init__", remembered)
    yield
    for db in opened:
        db.close()
