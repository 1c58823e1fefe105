"""A Drive of any size: what is in memory and on the disk does not grow with it, but for the rows themselves."""

from __future__ import annotations

import threading
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

import pytest

from drivefs.model import FOLDER_MIME, ROOT_INODE, DriveId, ListPage, RemoteFile, RevisionId
from drivefs.store.store import Store
from drivefs.sync.downloader import Downloader
from drivefs.sync.mirror import Mirror
from drivefs.vfs.vfs import Vfs
from tests.fake_drive import FakeDrive, HereAndNow

PAGES = 10
PAGE_FILES = 1_000
LIMIT_BYTES = 3_000_000
"""As objects, the 10,000 entries would take more than that."""


class EndlessDrive(FakeDrive):
    """One folder with as many files as are asked for; none of them is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = self.put("big")

    def _page(self, number: int) -> tuple[RemoteFile, ...]:
        return tuple(
            RemoteFile(
                DriveId(f"id-{at:040d}"), f"f{at:07d}", "text/plain", self.folder, False, 1, 10**18, 10**18, 1,
                "0" * 32, RevisionId(f"revision-{at:060d}"),
            )
            for at in range(number * PAGE_FILES, (number + 1) * PAGE_FILES)
        )  # fmt: skip

    def list_all(self, page_token: str | None = None, *, folders: bool | None = None) -> ListPage:
        if folders:
            return ListPage(tuple(file for file in self.files.values() if file.mime_type == FOLDER_MIME), None)
        number = int(page_token or 0)
        return ListPage(self._page(number), str(number + 1) if number + 1 < PAGES else None)

    def list_children(self, parents: Sequence[DriveId], page_token: str | None = None) -> ListPage:
        if self.folder in parents:
            return self.list_all(page_token, folders=False)
        return ListPage((self.files[self.folder],), None)


@pytest.mark.parametrize("flat", [True, False])
def test_listing_and_reading_all_names_keeps_no_row_in_memory(tmp_path: Path, flat: bool) -> None:
    with mock.patch("drivefs.store.nodes.KEPT_NODES", 1_000):
        drive = EndlessDrive()
        store = Store(tmp_path / "cache")
        mirror = Mirror(store, drive)
        mirror.start()
        vfs = Vfs(store, mirror, Downloader(store, drive, HereAndNow()))
        tracemalloc.start()
        try:
            while flat and mirror.listings.step():
                pass
            (big,) = (found.inode for name, found in vfs.tree.entries(ROOT_INODE) if name == "big")
            names = (name for name, _ in vfs.tree.entries(big) if name.startswith("f"))
            assert sum(1 for _ in names) == PAGES * PAGE_FILES
            assert vfs.tree.lookup(big, "f0001234").size_bytes == 1
            peak_bytes = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak_bytes < LIMIT_BYTES
    store.close()


def test_log_of_the_database_stays_short_while_it_is_written_without_a_pause(tmp_path: Path) -> None:
    with (
        mock.patch("drivefs.store.db.LONG_LOG_BYTES", 1 << 20),
        mock.patch("drivefs.store.db.RESERVE_BYTES", 1 << 16),
    ):
        store = Store(tmp_path / "cache")
        store.sync()
        sizes = []
        for number in range(200):
            store.db.set_setting("value", f"{number}" * 20_000)
            store.relieve()
            sizes.append((store.folder / "drivefs.db-wal").stat().st_size)
        store.close()
    assert max(sizes) < 2 << 20


def test_log_of_the_database_begins_anew_while_names_are_made_without_a_pause(tmp_path: Path) -> None:
    written_bytes = 0
    stop = threading.Event()
    with (
        mock.patch("drivefs.store.db.LONG_LOG_BYTES", 1 << 20),
        mock.patch("drivefs.store.db.RESERVE_BYTES", 1 << 16),
    ):
        store = Store(tmp_path / "cache")
        store.sync()

        def make_names() -> None:
            nonlocal written_bytes
            while not stop.is_set():
                store.await_relief()
                store.db.set_setting("value", f"{written_bytes}" * 20_000)
                written_bytes += 20_000

        maker = threading.Thread(target=make_names)
        maker.start()
        try:
            while written_bytes < 32 << 20 and maker.is_alive():
                store.checkpoint()
        finally:
            stop.set()
            maker.join()
        size_bytes = (store.folder / "drivefs.db-wal").stat().st_size
        store.close()
    assert written_bytes > 30 << 20
    assert size_bytes < written_bytes / 2
