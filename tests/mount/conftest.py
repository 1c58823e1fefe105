"""A Drive and a mount of it for each module of tests, on each transport."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.mounting import (
    FUSEPY,
    KERNEL,
    KERNEL_PLAIN,
    MFUSEPY,
    Drive,
    FreshMount,
    Mounted,
    Transport,
    contents,
    drive_at,
    entries,
    kill_all,
    mounted,
)

STUCK_S = 200.0
"""A test that takes longer hangs in a system call; no test takes a tenth of it."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A module runs on each transport, or on those in its TRANSPORTS; a test may say its own by parametrize."""
    own = [mark for mark in metafunc.definition.iter_markers("parametrize") if mark.args[0] == "transport"]
    if "transport" in metafunc.fixturenames and not own:
        chosen = getattr(metafunc.module, "TRANSPORTS", (KERNEL, KERNEL_PLAIN, MFUSEPY, FUSEPY))
        metafunc.parametrize("transport", chosen, ids=[each.name for each in chosen], indirect=True, scope="module")


@pytest.fixture(scope="module")
def transport(request: pytest.FixtureRequest) -> Transport:
    chosen: Transport = request.param
    reason = chosen.why_not()
    if reason is not None:
        pytest.skip(reason)
    return chosen


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drive]:
    with drive_at(tmp_path_factory.mktemp("drive")) as drive:
        yield drive


@pytest.fixture(scope="module")
def mount(drive: Drive, transport: Transport, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    """The mount that most tests of a module share."""
    with mounted(drive, transport, tmp_path_factory.mktemp("mount")) as mount:
        yield mount


@pytest.fixture
def folder(mount: Mounted, request: pytest.FixtureRequest) -> Path:
    """An empty folder of the test's own, at the top of the mount."""
    path = mount.path / request.node.name.replace("/", "-")
    path.mkdir()
    return path


@pytest.fixture
def fresh_mount(drive: Drive, transport: Transport, tmp_path_factory: pytest.TempPathFactory) -> FreshMount:
    """Makes another mount of the same Drive, with an empty cache."""
    return lambda: mounted(drive, transport, tmp_path_factory.mktemp("fresh"))


@pytest.fixture
def assert_arrives(mount: Mounted, drive: Drive, fresh_mount: FreshMount) -> Callable[[Path], None]:
    """Checks that a flush brings a folder of the mount to Drive, and that a fresh mount shows the same."""

    def check(folder: Path) -> None:
        wanted = entries(folder)
        mount.flush()
        name = str(folder.relative_to(mount.path))
        assert drive.contents(name) == contents(wanted)
        assert entries(folder) == wanted
        with fresh_mount() as other:
            assert entries(other.path / name) == wanted

    return check


@pytest.fixture(autouse=True)
def _unstick() -> Iterator[None]:
    """Kill the mounts under a test that hangs in a system call: a signal does not end that, their death does."""
    timer = threading.Timer(STUCK_S, kill_all)
    timer.daemon = True
    timer.start()
    yield
    timer.cancel()
