"""The promises of a filesystem, kept by the VFS alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.filesystem import Filesystem
from tests.promises import Promises
from tests.unit.vfs_house import VfsHouse


class TestVfsPromises(Promises):
    @pytest.fixture
    def fs(self, tmp_path: Path) -> Iterator[Filesystem]:
        house = VfsHouse(tmp_path / "cache")
        yield house.fs
        house.close()


class TestVfsPromisesWithPassthrough(Promises):
    """Reads and writes go to the content files, past everybody; releases come late."""

    @pytest.fixture
    def fs(self, tmp_path: Path) -> Iterator[Filesystem]:
        house = VfsHouse(tmp_path / "cache")
        house.fs.direct = True
        house.fs.delayed = []
        yield house.fs
        for release in house.fs.delayed:
            release()
        house.close()


class TestVfsPromisesWithLateReleases(Promises):
    """The kernel releases a file some time after close(2) returned: nothing may depend on it."""

    @pytest.fixture
    def fs(self, tmp_path: Path) -> Iterator[Filesystem]:
        house = VfsHouse(tmp_path / "cache")
        house.fs.delayed = []
        yield house.fs
        for release in house.fs.delayed:
            release()
        house.close()
