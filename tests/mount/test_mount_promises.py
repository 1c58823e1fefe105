"""The promises of a filesystem, kept through the kernel."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.filesystem import Filesystem, OsFilesystem
from tests.promises import Promises


class TestMountPromises(Promises):
    @pytest.fixture
    def fs(self, folder: Path) -> Filesystem:
        return OsFilesystem(folder)
