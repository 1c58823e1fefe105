"""A cache folder with all rooms above it, on the disk that pytest's folders are on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from drivefs.model import ROOT_INODE
from drivefs.store.store import Store
from drivefs.vfs.vfs import Vfs
from tests.fake_drive import FakeDrive
from tests.house import House


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "cache")
    yield opened
    opened.close()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """Beside an empty Drive in memory."""
    made = House(tmp_path / "cache", FakeDrive())
    yield made
    made.store.close()


@pytest.fixture
def vfs(house: House) -> Iterator[Vfs]:
    """Whose root is listed."""
    assert house.store.nodes.get(ROOT_INODE).listed
    made = Vfs(house.store, house.mirror, house.downloader)
    yield made
    made.close()
