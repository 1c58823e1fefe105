"""What any filesystem promises, and drivefs with it: run on the VFS alone, and through a real mount.

A subclass gives the fixture `fs`, a `tests.filesystem.Filesystem` over an empty folder.
"""

from __future__ import annotations

import errno
import os

import pytest

from tests.filesystem import Filesystem, read_file, write_file

XATTR_CREATE, XATTR_REPLACE = 1, 2
A_TIME_NS = 1_577_840_523_123_456_789


def fails_with(*numbers: int) -> pytest.RaisesExc[OSError]:
    return pytest.raises(OSError, check=lambda error: error.errno in numbers)


class FilePromises:
    def test_content_is_read_as_written(self, fs: Filesystem) -> None:
        data = os.urandom(3_000_017)
        write_file(fs, "a", data)
        assert read_file(fs, "a") == data
        assert fs.status("a").size_bytes == len(data)

    def test_write_shows_at_once_to_other_handles(self, fs: Filesystem) -> None:
        writer = fs.open("a", os.O_WRONLY | os.O_CREAT)
        reader = fs.open("a", os.O_RDONLY)
        fs.write(writer, b"one")
        assert fs.pread(reader, 10, 0) == b"one"
        fs.pwrite(writer, b"X", 1)
        assert fs.pread(reader, 10, 0) == b"oXe"
        fs.close(writer)
        fs.close(reader)

    def test_copied_range_is_that_of_the_source(self, fs: Filesystem) -> None:
        data = os.urandom(1_000_017)
        write_file(fs, "a", data)
        source = fs.open("a", os.O_RDONLY)
        target = fs.open("b", os.O_RDWR | os.O_CREAT)
        done = 0
        while count := fs.copy_range(source, done, target, done, len(data) - done):
            done += count
        assert (done, fs.status("b").size_bytes) == (len(data), len(data))
        assert fs.copy_range(source, len(data), target, len(data), 10) == 0
        assert fs.copy_range(source, 5, target, len(data) + 3, 4) == 4
        assert fs.copy_range(target, 0, target, 500_000, 7) == 7
        fs.pwrite(target, b"X", 2)
        wanted = bytearray(data + bytes(3) + data[5:9])
        wanted[500_000:500_007], wanted[2:3] = data[:7], b"X"
        assert fs.pread(target, 2_000_000, 0) == wanted
        fs.fsync(target)
        assert fs.copy_range(source, 40, target, 10, 5) == 5  # in place of what the disk has
        wanted[10:15] = data[40:45]
        assert fs.pread(target, 2_000_000, 0) == wanted
        fs.close(target)
        fs.close(source)
        assert read_file(fs, "b") == wanted
        assert read_file(fs, "a") == data

    def test_hole_reads_as_zeros(self, fs: Filesystem) -> None:
        fd = fs.open("a", os.O_RDWR | os.O_CREAT)
        fs.pwrite(fd, b"end", 100_000)
        assert fs.pread(fd, 200_000, 0) == bytes(100_000) + b"end"
        fs.close(fd)

    def test_append_goes_to_the_end_wherever_that_is(self, fs: Filesystem) -> None:
        one = fs.open("a", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        two = fs.open("a", os.O_WRONLY | os.O_APPEND)
        fs.write(one, b"1")
        fs.write(two, b"22")
        fs.write(one, b"333")
        fs.close(one)
        fs.close(two)
        assert read_file(fs, "a") == b"122333"

    def test_exclusive_create_fails_on_what_is_there(self, fs: Filesystem) -> None:
        write_file(fs, "a", b"x")
        with fails_with(errno.EEXIST):
            fs.open("a", os.O_WRONLY | os.O_CREAT | os.O_EXCL)

    def test_create_without_exclusive_opens_what_is_there(self, fs: Filesystem) -> None:
        write_file(fs, "a", b"xy")
        fd = fs.open("a", os.O_RDWR | os.O_CREAT)
        assert fs.pread(fd, 10, 0) == b"xy"
        fs.close(fd)

    def test_open_of_nothing_fails(self, fs: Filesystem) -> None:
        with fails_with(errno.ENOENT):
            fs.open("a", os.O_RDONLY)

    def test_open_of_a_folder_for_writing_fails(self, fs: Filesystem) -> None:
        fs.mkdir("d")
        with fails_with(errno.EISDIR):
            fs.open("d", os.O_WRONLY)

    def test_open_with_truncation_empties_for_all(self, fs: Filesystem) -> None:
        write_file(fs, "a", b"long content")
        reader = fs.open("a", os.O_RDONLY)
        writer = fs.open("a", os.O_WRONLY | os.O_TRUNC)
        assert fs.status("a").size_bytes == 0
        assert fs.pread(reader, 10, 0) == b""
        fs.write(writer, b"new")
        assert fs.pread(reader, 10, 0) == b"new"
        fs.close(writer)
        fs.close(reader)
        assert read_file(fs, "a") == b"new"

    def test_truncate_cuts_and_grows_by_zeros(self, fs: Filesystem) -> None:
        write_file(fs, "a", b"0123456789")
        fs.truncate("a", 4)
        assert read_file(fs, "a") == b"0123"
        fd = fs.open("a", os.O_RDWR)
        fs.set_size(fd, 6)
        fs.close(fd)
        assert read_file(fs, "a") == b"0123\0\0"
        fs.truncate("a", 0)
        assert read_file(fs, "a") == b""

    def test_write_after_a_copy_of_the_descriptor_was_closed_is_kept(self, fs: Filesystem) -> None:
        fd = fs.open("a", os.O_WRONLY | os.O_CREAT)
        copy = fs.duplicate(fd)
        fs.write(fd, b"one")
        fs.close(copy)
        assert fs.status("a").size_bytes == 3
        fs.write(fd, b"two")
        assert fs.status("a").size_bytes == 6
        fs.close(fd)
        assert read_file(fs, "a") == b"onetwo"

    def test_sync_of_an_open_file_changes_nothing(self, fs: Filesystem) -> None:
        fd = fs.open("a", os.O_RDWR | os.O_CREAT)
        fs.write(fd, b"kept")
        fs.fsync(fd)
        assert fs.pread(fd, 10, 0) == b"kept"
        fs.close(fd)

    def test_unlinked_file_lives_on_while_it_is_open(self, fs: Filesystem) -> None:
        fd = fs.open("a", os.O_RDWR | os.O_CREAT)
        fs.write(fd, b"before")
        fs.unlink("a")
        assert fs.names() == []
        fs.pwrite(fd, b"after!", 0)
        fs.set_size(fd, 5)
        assert fs.pread(fd, 10, 0) == b"after"
        write_file(fs, "a", b"another")
        assert fs.pread(fd, 10, 0) == b"after"
        fs.close(fd)
        assert read_file(fs, "a") == b"another"


class NamePromises:
    def test_folder_lists_what_is_in_it(self, fs: Filesystem) -> None:
        fs.mkdir("d")
        fs.mkdir("d/e")
        write_file(fs, "d/f", b"x")
        fs.symlink("f", "d/l")
        assert fs.names("d") == ["e", "f", "l"]
        assert fs.status("d/e").is_folder
        assert not fs.status("d/f").is_folder

    def test_large_folder_lists_each_entry_once(self, fs: Filesystem) -> None:
        wanted = sorted(f"entry {number}" for number in range(700))
        for name in wanted:
            write_file(fs, name, b"")
        assert fs.names() == wanted

    def test_symlink_keeps_its_target(self, fs: Filesystem) -> None:
        fs.symlink("some/where/ünïcode", "l")
        assert fs.readlink("l") == "some/where/ünïcode"
        assert fs.status("l").size_bytes == len("some/where/ünïcode".encode())
        write_file(fs, "f", b"")
        with fails_with(errno.EINVAL):
            fs.readlink("f")

    def test_mkdir_over_something_fails(self, fs: Filesystem) -> None:
        write_file(fs, "a", b"")
        fs.mkdir("d")
        for name in ("a", "d"):
            with fails_with(errno.EEXIST):
                fs.mkdir(name)

    def test_path_through_a_file_fails(self, fs: Filesystem) -> None:
        write_file(fs, "a", b"")
        with fails_with(errno.ENOTDIR):
            fs.status("a/b")
        with fails_with(errno.ENOTDIR):
            fs.mkdir("a/b")

    def test_rmdir_takes_empty_folders_only(self, fs: Filesystem) -> None:
        fs.mkdir("d")
        write_file(fs, "d/a", b"")
        with fails_with(errno.ENOTEMPTY):
            fs.rmdir("d")
        with fails_with(errno.ENOTDIR):
            fs.rmdir("d/a")
        with fails_with(errno.EISDIR):
            fs.unlink("d")
        fs.unlink("d/a")
        fs.rmdir("d")
        assert fs.names() == []

    def test_names_up_to_255_bytes_are_kept(self, fs: Filesystem) -> None:
        names = sorted(["x" * 255, "ü" * 127, "日" * 85, "a b\n\t", "~weird'\\\"*?", "e\u0301", "\u00e9"])
        for name in names:
            write_file(fs, name, name.encode())
        assert fs.names() == names
        assert all(read_file(fs, name) == name.encode() for name in names)

    def test_longer_names_are_refused(self, fs: Filesystem) -> None:
        for name in ("x" * 256, "日" * 86):
            with fails_with(errno.ENAMETOOLONG):
                fs.mkdir(name)
            with fails_with(errno.ENAMETOOLONG):
                fs.status(name)

    def test_names_that_are_not_text_are_refused(self, fs: Filesystem) -> None:
        with fails_with(errno.EINVAL, errno.EILSEQ):
            fs.mkdir("\udcff")

    def test_rename_moves_a_file_as_it_is(self, fs: Filesystem) -> None:
        write_file(fs, "a", b"content")
        before = fs.status("a")
        fs.mkdir("d")
        fs.rename("a", "d/b")
        assert fs.names() == ["d"]
        assert fs.status("d/b") == before
        assert read_file(fs, "d/b") == b"content"

    def test_rename_over_a_file_replaces_it(self, fs: Filesystem) -> None:
        write_file(fs, "a", b"new")
        write_file(fs, "b", b"old")
        fs.rename("a", "b")
        assert fs.names() == ["b"]
        assert read_file(fs, "b") == b"new"

    def test_replaced_file_lives_on_while_it_is_open(self, fs: Filesystem) -> None:
        write_file(fs, "a", b"new")
        write_file(fs, "b", b"old")
        fd = fs.open("b", os.O_RDWR)
        fs.rename("a", "b")
        assert fs.pread(fd, 10, 0) == b"old"
        fs.pwrite(fd, b"OLD", 0)
        assert fs.pread(fd, 10, 0) == b"OLD"
        assert read_file(fs, "b") == b"new"
        fs.close(fd)
        assert read_file(fs, "b") == b"new"

    def test_rename_of_an_open_file_goes_on_under_the_new_name(self, fs: Filesystem) -> None:
        fd = fs.open("a", os.O_RDWR | os.O_CREAT)
        fs.write(fd, b"one")
        fs.rename("a", "b")
        fs.write(fd, b"two")
        assert fs.status("b").size_bytes == 6
        fs.close(fd)
        assert read_file(fs, "b") == b"onetwo"

    def test_rename_onto_itself_does_nothing(self, fs: Filesystem) -> None:
        write_file(fs, "a", b"x")
        fs.rename("a", "a")
        assert read_file(fs, "a") == b"x"

    def test_rename_of_a_folder_takes_all_below(self, fs: Filesystem) -> None:
        fs.mkdir("d")
        fs.mkdir("d/e")
        write_file(fs, "d/e/f", b"deep")
        fs.rename("d", "g")
        assert read_file(fs, "g/e/f") == b"deep"

    def test_rename_into_itself_fails(self, fs: Filesystem) -> None:
        fs.mkdir("d")
        fs.mkdir("d/e")
        with fails_with(errno.EINVAL):
            fs.rename("d", "d/e/f")

    def test_rename_over_folders_follows_the_rules(self, fs: Filesystem) -> None:
        fs.mkdir("empty")
        fs.mkdir("full")
        write_file(fs, "full/a", b"")
        write_file(fs, "file", b"")
        with fails_with(errno.ENOTEMPTY):
            fs.rename("empty", "full")
        with fails_with(errno.EISDIR):
            fs.rename("file", "empty")
        with fails_with(errno.ENOTDIR):
            fs.rename("full", "file")
        fs.rename("full", "empty")
        assert fs.names() == ["empty", "file"]
        assert fs.names("empty") == ["a"]

    def test_rename_of_nothing_fails(self, fs: Filesystem) -> None:
        with fails_with(errno.ENOENT):
            fs.rename("a", "b")


class AttributePromises:
    def test_mode_is_kept(self, fs: Filesystem) -> None:
        fd = fs.open("a", os.O_WRONLY | os.O_CREAT, 0o600)
        fs.close(fd)
        assert fs.status("a").mode == 0o600
        fs.chmod("a", 0o755)
        assert fs.status("a").mode == 0o755
        fs.mkdir("d", 0o700)
        assert fs.status("d").mode == 0o700

    def test_time_that_was_set_is_kept_to_the_nanosecond(self, fs: Filesystem) -> None:
        write_file(fs, "a", b"x")
        fs.set_mtime("a", A_TIME_NS)
        assert fs.status("a").mtime_ns == A_TIME_NS
        fs.rename("a", "b")
        assert fs.status("b").mtime_ns == A_TIME_NS
        fs.mkdir("d")
        fs.set_mtime("d", A_TIME_NS + 1)
        assert fs.status("d").mtime_ns == A_TIME_NS + 1

    def test_close_leaves_a_time_that_was_set(self, fs: Filesystem) -> None:
        fd = fs.open("a", os.O_WRONLY | os.O_CREAT)
        fs.write(fd, b"x")
        fs.set_mtime("a", A_TIME_NS)
        assert fs.status("a").mtime_ns == A_TIME_NS
        fs.close(fd)
        assert fs.status("a").mtime_ns == A_TIME_NS

    def test_write_moves_a_time_that_was_set(self, fs: Filesystem) -> None:
        write_file(fs, "a", b"x")
        fs.set_mtime("a", A_TIME_NS)
        fd = fs.open("a", os.O_WRONLY)
        assert fs.status("a").mtime_ns == A_TIME_NS
        fs.write(fd, b"y")
        assert fs.status("a").mtime_ns > A_TIME_NS
        fs.close(fd)
        assert fs.status("a").mtime_ns > A_TIME_NS

    def test_reading_does_not_move_the_time(self, fs: Filesystem) -> None:
        write_file(fs, "a", b"x")
        fs.set_mtime("a", A_TIME_NS)
        fd = fs.open("a", os.O_RDWR)
        fs.pread(fd, 1, 0)
        fs.close(fd)
        assert fs.status("a").mtime_ns == A_TIME_NS

    def test_folder_time_moves_with_its_entries(self, fs: Filesystem) -> None:
        fs.mkdir("d")
        for change in (
            lambda: write_file(fs, "d/a", b""),
            lambda: fs.rename("d/a", "d/b"),
            lambda: fs.unlink("d/b"),
            lambda: fs.mkdir("d/e"),
            lambda: fs.rmdir("d/e"),
        ):
            fs.set_mtime("d", A_TIME_NS)
            change()
            assert fs.status("d").mtime_ns > A_TIME_NS

    def test_xattrs_are_kept_listed_and_removed(self, fs: Filesystem) -> None:
        write_file(fs, "a", b"")
        fs.set_xattr("a", "user.text", b"some text")
        fs.set_xattr("a", "user.bytes", b"\0\xff")
        fs.set_xattr("a", "user.empty", b"")
        assert fs.xattrs("a") == ["user.bytes", "user.empty", "user.text"]
        assert [fs.xattr("a", name) for name in fs.xattrs("a")] == [b"\0\xff", b"", b"some text"]
        fs.remove_xattr("a", "user.bytes")
        assert fs.xattrs("a") == ["user.empty", "user.text"]
        with fails_with(errno.ENODATA):
            fs.xattr("a", "user.bytes")
        with fails_with(errno.ENODATA):
            fs.remove_xattr("a", "user.bytes")

    def test_xattr_flags_are_followed(self, fs: Filesystem) -> None:
        write_file(fs, "a", b"")
        with fails_with(errno.ENODATA):
            fs.set_xattr("a", "user.x", b"1", XATTR_REPLACE)
        fs.set_xattr("a", "user.x", b"1", XATTR_CREATE)
        with fails_with(errno.EEXIST):
            fs.set_xattr("a", "user.x", b"2", XATTR_CREATE)
        fs.set_xattr("a", "user.x", b"2", XATTR_REPLACE)
        assert fs.xattr("a", "user.x") == b"2"

    def test_xattr_beyond_what_drive_keeps_is_refused(self, fs: Filesystem) -> None:
        write_file(fs, "a", b"")
        with fails_with(errno.ENOSPC):
            fs.set_xattr("a", "user.x", b"y" * 120)
        for number in range(20):
            fs.set_xattr("a", f"user.{number}", b"")
        with fails_with(errno.ENOSPC):
            fs.set_xattr("a", "user.20", b"")
        fs.set_xattr("a", "user.0", b"changed")

    def test_xattrs_of_drivefs_are_answered_not_listed_and_not_set(self, fs: Filesystem) -> None:
        write_file(fs, "a", b"x")
        assert fs.xattr("a", "user.drivefs.state") in (b"local", b"uploading", b"durable")
        assert fs.xattrs("a") == []
        with fails_with(errno.EPERM):
            fs.set_xattr("a", "user.drivefs.state", b"durable")

    def test_xattrs_of_drives_own_fields_are_listed_where_they_are_set(self, fs: Filesystem) -> None:
        write_file(fs, "a", b"x")
        assert fs.xattr("a", "user.drivefs.starred") == b"0"
        with fails_with(errno.ENODATA):
            fs.xattr("a", "user.drivefs.description")
        fs.set_xattr("a", "user.drivefs.description", "für später".encode())
        fs.set_xattr("a", "user.drivefs.starred", b"1")
        assert fs.xattrs("a") == ["user.drivefs.description", "user.drivefs.starred"]
        assert fs.xattr("a", "user.drivefs.description") == "für später".encode()
        with fails_with(errno.EEXIST):
            fs.set_xattr("a", "user.drivefs.starred", b"1", XATTR_CREATE)
        fs.set_xattr("a", "user.drivefs.starred", b"0")
        fs.remove_xattr("a", "user.drivefs.description")
        assert fs.xattrs("a") == []
        with fails_with(errno.ENODATA):
            fs.remove_xattr("a", "user.drivefs.description")
        for name, value in (("starred", b"yes"), ("description", b"\xff")):
            with fails_with(errno.EINVAL):
                fs.set_xattr("a", f"user.drivefs.{name}", value)


class Promises(FilePromises, NamePromises, AttributePromises):
    """All of them."""
