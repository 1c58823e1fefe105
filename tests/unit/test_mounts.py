"""The mount table, the records of mounts, and what is said of a mount point that does not fit."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from drivefs import mounts, records
from drivefs.control import Server
from drivefs.errors import UserError
from drivefs.mounts import TableEntry
from drivefs.records import Record

TABLE = r"""22 1 254:1 / / rw,relatime - ext4 /dev/root rw
30 22 0:40 / /mnt/my\040drive rw,nosuid - fuse.drivefs drivefs rw,user_id=0
31 22 0:41 / /mnt/over rw - tmpfs tmpfs rw
32 31 0:42 / /mnt/over rw shared:7 master:1 - fuse.drivefs drivefs rw
33 22 0:43 / /mnt/tab\011and\134back rw - fuse.rclone remote: rw
"""


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = mounts.read_table(TABLE)
    monkeypatch.setattr(mounts, "read_table", lambda: entries)


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def record(tmp_path: Path, name: str, mountpoint: str, started_s: float = 1.0) -> Record:
    cache = tmp_path / name
    cache.mkdir()
    (cache / "drivefs.db").touch()
    made = Record(Path(mountpoint), cache, tmp_path / "log", "default", None, None, False, started_s)
    records.write_record(made)
    return made


@contextmanager
def answering(*records: Record) -> Iterator[None]:
    with ThreadPoolExecutor(1) as executor:
        servers = [Server(each.cache_dir, {}, executor) for each in records]
        threads = [threading.Thread(target=server.run) for server in servers]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            for server, thread in zip(servers, threads, strict=True):
                server.close()
                thread.join()


def test_table_is_read_with_its_escapes() -> None:
    assert mounts.read_table(TABLE)[1] == TableEntry(Path("/mnt/my drive"), "fuse.drivefs", "0:40")
    assert mounts.read_table(TABLE)[4].mountpoint == Path("/mnt/tab\tand\\back")
    assert [entry.is_fuse for entry in mounts.read_table(TABLE)] == [False, True, False, True, True]


@pytest.mark.usefixtures("table")
def test_mount_is_found_by_its_path_and_the_upper_one_counts() -> None:
    at = mounts.find_mount_at(Path("/mnt/over"))
    over = mounts.find_mount_over(Path("/mnt/over/a/b"))
    assert at is not None and over is not None
    assert (at.device, over.device) == ("0:42", "0:42")
    assert mounts.find_mount_at(Path("/mnt")) is None
    root = mounts.find_mount_over(Path("/mnt/overt"))
    assert root is not None and root.mountpoint == Path("/")


def test_records_outlive_the_mount_and_go_with_the_cache(tmp_path: Path) -> None:
    old = record(tmp_path, "old", "/mnt/a", 1.0)
    new = record(tmp_path, "new", "/mnt/a", 2.0)
    assert records.read_records() == [new, old]
    assert records.find_record(Path("/mnt/a")) == new
    (new.cache_dir / "drivefs.db").unlink()
    assert records.read_records() == [old]
    records.forget_record(old.cache_dir)
    assert records.read_records() == []
    new.cache_dir.rmdir()
    assert records.read_records() == []
    assert list(records.state_folder().iterdir()) == []


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"mountpoint": "/x"}', '{"mountpoint": 1, "cache_dir": 2, "log": 3}']
)
def test_record_that_cannot_be_read_is_as_good_as_none(tmp_path: Path, text: str) -> None:
    good = record(tmp_path, "cache", "/mnt/a")
    (records.state_folder() / "broken.json").write_text(text)
    assert records.read_records() == [good]


def test_records_are_for_their_owner_alone(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        record(tmp_path, "cache", "/mnt/a")
    finally:
        os.umask(old)
    assert (tmp_path / "state" / "drivefs").stat().st_mode & 0o077 == 0


@pytest.mark.usefixtures("table")
def test_running_mount_is_found_from_a_path_in_it(tmp_path: Path) -> None:
    first, second = record(tmp_path, "1", "/mnt/my drive"), record(tmp_path, "2", "/mnt/over")
    record(tmp_path, "3", "/mnt/dead")
    with answering(first, second):
        assert mounts.get_running(Path("/mnt/my drive/a/b")).record == first
        assert mounts.get_running(Path("/mnt/over")).record == second
        with pytest.raises(UserError, match="several mounts"):
            mounts.get_running(None)
        with pytest.raises(UserError, match="is not in a mount"):
            mounts.get_running(Path("/mnt/dead/x"))
    with answering(second):
        assert mounts.get_running(None).record == second
    with pytest.raises(UserError, match="Nothing is mounted"):
        mounts.get_running(None)


@pytest.mark.usefixtures("table")
def test_links_are_followed_up_to_a_mount_and_not_into_it(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "real")
    assert mounts.resolve(link / "x") == tmp_path.resolve() / "real" / "x"
    assert mounts.resolve(Path("/mnt/over/../over/x")) == Path("/mnt/over/x")


def test_mountpoint_is_made_where_only_it_is_missing(tmp_path: Path) -> None:
    assert mounts.ensure_mountpoint(tmp_path / "new")
    assert not mounts.ensure_mountpoint(tmp_path / "new")
    with pytest.raises(UserError, match="mkdir -p"):
        mounts.ensure_mountpoint(tmp_path / "no" / "such")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is a file"):
        mounts.ensure_mountpoint(tmp_path / "file")
    with pytest.raises(UserError, match="not empty"):
        mounts.ensure_mountpoint(tmp_path)


def test_unmount_of_what_is_not_mounted_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Nothing is mounted on"):
        mounts.unmount(tmp_path)
