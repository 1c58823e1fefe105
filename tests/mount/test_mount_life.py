"""A mount's life: remounted, killed, offline, full of waiting work, ended. Each test has a Drive of its own."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.mounting import Drive, Mounted, Transport, contents, drive_at, entries, mounted

EXIT_TIMED_OUT = 3


@pytest.fixture
def drive(tmp_path: Path) -> Iterator[Drive]:
    with drive_at(tmp_path / "drive", storage_bytes=10 << 30) as drive:
        yield drive


@pytest.fixture
def mount(drive: Drive, transport: Transport, tmp_path: Path) -> Iterator[Mounted]:
    """Its top folder is known, so that names in it can be made offline too."""
    with mounted(drive, transport, tmp_path / "mount") as mount:
        assert os.listdir(mount.path) == []
        yield mount


def write_some(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "small").write_bytes(b"small")
    (folder / "large").write_bytes(os.urandom(6_000_000))
    (folder / "sub").mkdir(exist_ok=True)
    (folder / "sub" / "link").symlink_to("../small")


def test_remount_with_the_same_cache_fetches_nothing(drive: Drive, mount: Mounted) -> None:
    write_some(mount.path / "run")
    wanted = entries(mount.path)
    mount.umount()
    drive.admin.reset_counters()
    mount.mount()
    assert entries(mount.path) == wanted
    assert drive.admin.counters()["bytes_out"] < 100_000  # metadata at most: the content has 6 MB
    assert contents(wanted) == drive.contents()


def test_umount_publishes_what_waits(drive: Drive, mount: Mounted) -> None:
    write_some(mount.path / "run")
    wanted = contents(entries(mount.path))
    mount.umount()
    assert drive.contents() == wanted


def test_umount_without_waiting_keeps_it_for_the_next_mount(drive: Drive, mount: Mounted) -> None:
    drive.stop()
    write_some(mount.path / "run")
    wanted = entries(mount.path)
    mount.umount("--no-wait")
    told = mount.status()
    assert told["running"] is False
    assert told["queue"]["bytes"] >= 6_000_000
    drive.start()
    mount.mount()
    mount.flush()
    assert entries(mount.path) == wanted
    assert drive.contents() == contents(wanted)


def test_killed_mount_loses_nothing(drive: Drive, mount: Mounted) -> None:
    (mount.path / "overwritten").write_bytes(b"old")
    (mount.path / "removed").write_bytes(b"old")
    mount.flush()
    before = drive.find("overwritten")["id"]
    drive.admin.set_network(latency_s=1.0)  # so that most of it still waits
    write_some(mount.path / "run")
    (mount.path / "overwritten").write_bytes(b"new")
    (mount.path / "removed").unlink()
    fd = os.open(mount.path / "open", os.O_CREAT | os.O_WRONLY)
    os.write(fd, b"written, not closed")
    wanted = entries(mount.path)
    mount.kill()
    with suppress(OSError):  # nobody is there to be told
        os.close(fd)
    with pytest.raises(OSError, check=lambda error: error.errno in (errno.ENOTCONN, errno.ECONNABORTED)):
        os.listdir(mount.path)
    drive.admin.set_network(latency_s=0.0)
    mount.mount()  # over the dead mount
    assert entries(mount.path) == wanted
    mount.flush()
    assert drive.contents() == contents(wanted)
    assert drive.find("overwritten")["id"] == before


def test_mount_goes_on_without_its_drive(drive: Drive, mount: Mounted) -> None:
    (mount.path / "before").write_bytes(b"before")
    mount.flush()
    drive.stop(kill=True)
    write_some(mount.path / "run")
    (mount.path / "before").rename(mount.path / "run" / "renamed")
    wanted = entries(mount.path)
    assert mount.command("flush", mount.path, "--timeout", "1", check=False).returncode == EXIT_TIMED_OUT
    told = mount.status()
    assert told["queue"]["files"] > 0
    assert told["queue"]["bytes"] >= 6_000_000
    drive.start()
    mount.flush()
    assert entries(mount.path) == wanted
    assert drive.contents() == contents(wanted)


def test_mount_can_be_made_offline_with_what_it_knows(drive: Drive, mount: Mounted) -> None:
    write_some(mount.path / "run")
    wanted = entries(mount.path)
    mount.umount()
    drive.stop()
    mount.mount()
    assert entries(mount.path) == wanted
    (mount.path / "run" / "offline").write_bytes(b"later")
    drive.start()
    mount.flush()
    assert drive.admin.read_file("run/offline") == b"later"


def test_status_and_space_follow_the_drive(drive: Drive, mount: Mounted) -> None:
    found = mount.space()
    assert found.f_frsize * found.f_blocks == 10 << 30
    (mount.path / "file").write_bytes(b"x" * 3_000_000)
    mount.flush()
    told = mount.status()
    assert told["running"] is True
    assert told["mountpoint"] == str(mount.path)
    assert told["pid"] in mount.processes()
    assert (told["queue"]["files"], told["queue"]["bytes"]) == (0, 0)
    assert told["quota"]["total_bytes"] == 10 << 30


def test_status_in_words_names_the_mount(mount: Mounted) -> None:
    assert str(mount.path) in mount.command("status").stdout


def test_flush_sends_nothing_twice(drive: Drive, mount: Mounted) -> None:
    write_some(mount.path / "run")
    mount.flush()
    drive.admin.reset_counters()
    mount.flush()
    assert drive.admin.counters()["bytes_in"] < 10_000


def test_superseded_content_is_never_sent(drive: Drive, mount: Mounted) -> None:
    drive.stop()
    for number in range(5):
        (mount.path / "latest").write_bytes(bytes([number]) * 2_000_000)
    for number in range(5):
        (mount.path / f"temporary {number}").write_bytes(b"x" * 2_000_000)
        (mount.path / f"temporary {number}").unlink()
    drive.start()
    mount.flush()
    assert drive.contents().keys() == {"latest"}
    assert drive.admin.read_file("latest") == b"\4" * 2_000_000
    assert drive.admin.counters()["bytes_in"] < 2_500_000
    assert drive.trash() == []


def test_flush_fails_while_drive_is_full_and_ends_when_it_is_not(drive: Drive, mount: Mounted) -> None:
    drive.admin.set_quota(storage_bytes=1_000_000)
    (mount.path / "file").write_bytes(b"x" * 2_000_000)
    done = mount.command("flush", mount.path, "--timeout", "3", check=False)
    assert done.returncode == EXIT_TIMED_OUT
    assert mount.status()["pause"]["reason"]
    assert drive.contents() == {}
    assert (mount.path / "file").read_bytes() == b"x" * 2_000_000
    drive.admin.set_quota(storage_bytes=10 << 30)
    mount.flush()
    assert drive.contents() == contents(entries(mount.path))


def test_expired_token_is_renewed(drive: Drive, mount: Mounted) -> None:
    (mount.path / "one").write_bytes(b"1")
    mount.flush()
    assert drive.admin.expire_tokens() > 0
    (mount.path / "two").write_bytes(b"2")
    mount.flush()
    assert drive.contents() == contents(entries(mount.path))
