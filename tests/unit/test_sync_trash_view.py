"""Drive's trash as `.Trash`, and what a desktop puts into its own: seen, restored, emptied, by the real VFS."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator

import pytest

from drivefs.errors import NoEntry, Unreachable
from drivefs.model import ROOT_INODE, ChangesPage, DriveId
from tests.fake_drive import ROOT
from tests.filesystem import read_file, write_file
from tests.whole import Clock, Whole, scratch_folder, small_scale


@pytest.fixture
def whole() -> Iterator[Whole]:
    clock = Clock()
    with scratch_folder() as folder, small_scale(clock):
        made = Whole(folder / "cache", clock)
        yield made
        made.abandon()


def put(whole: Whole, path: str, data: bytes = b"weights") -> DriveId:
    """A file of ours that Drive has."""
    write_file(whole.fs, path, data)
    whole.drain()
    return drive_id(whole, path)


def drive_id(whole: Whole, path: str) -> DriveId:
    found = whole.store.nodes.get(whole.vfs.tree.resolve(path)).drive_id
    assert found is not None
    return found


def desktop(whole: Whole) -> None:
    """What a desktop makes before it puts the first file into a mount's trash."""
    for name in (".Trash-0", ".Trash-0/files", ".Trash-0/info"):
        whole.fs.mkdir(name, 0o700)


def error_of(action: Callable[[], object]) -> int | None:
    with pytest.raises(OSError) as caught:
        action()
    return caught.value.errno


# --- looking ---


def test_trash_costs_nothing_until_somebody_looks_into_it(whole: Whole) -> None:
    file = put(whole, "old.ckpt")
    whole.fs.unlink("old.ckpt")
    whole.drain()
    whole.drive.calls.clear()
    assert whole.fs.names() == []
    whole.mirror.poll()
    place = whole.vfs.tree.lookup(ROOT_INODE, ".Trash").inode
    with pytest.raises(NoEntry):
        whole.vfs.tree.lookup(place, "1000")  # as desktops do at login
    assert "list_trashed" not in whole.drive.calls
    assert whole.fs.names(".Trash") == ["old.ckpt"]
    assert drive_id(whole, ".Trash/old.ckpt") == file
    assert whole.drive.calls.count("list_trashed") == 1
    assert whole.fs.names(".Trash") == ["old.ckpt"]
    assert whole.drive.calls.count("list_trashed") == 1


def test_trash_shows_each_by_a_name_of_its_own_and_its_content(whole: Whole) -> None:
    ids = [whole.drive.put("a/b.bin", data, trashed=True, put_into_trash=True) for data in (b"1", b"22")]
    first, second = "a\uff0fb.bin", f"a\uff0fb~{ids[1]}.bin"
    assert whole.fs.names(".Trash") == sorted([first, second])
    assert read_file(whole.fs, f".Trash/{first}") == b"1"
    assert read_file(whole.fs, f".Trash/{second}") == b"22"


def test_trash_shows_a_folder_with_what_is_in_it(whole: Whole) -> None:
    run = whole.drive.put("run", trashed=True, put_into_trash=True)
    below = whole.drive.put("step", parent=run)
    whole.drive.put("a.ckpt", b"weights", parent=below)
    alone = whole.drive.put("b.ckpt", b"b", parent=run, trashed=True, put_into_trash=True)
    assert "run" in whole.fs.names(".Trash")
    assert whole.fs.names(".Trash/run") == ["b.ckpt", "step"]
    assert drive_id(whole, ".Trash/run/b.ckpt") == alone
    assert read_file(whole.fs, ".Trash/run/step/a.ckpt") == b"weights"
    assert whole.fs.names(".Trash") == ["run"]


def test_trash_follows_the_changes_feed_once_somebody_has_looked(whole: Whole) -> None:
    theirs = whole.drive.put("theirs", b"t")
    whole.mirror.poll()
    assert (whole.fs.names(), whole.fs.names(".Trash")) == (["theirs"], [])
    whole.drive.change(theirs, trashed=True, put_into_trash=True)
    whole.mirror.poll()
    assert (whole.fs.names(), whole.fs.names(".Trash")) == ([], ["theirs"])
    whole.drive.change(theirs, trashed=False, put_into_trash=False)
    whole.mirror.poll()
    assert (whole.fs.names(), whole.fs.names(".Trash")) == (["theirs"], [])
    whole.drive.change(theirs, trashed=True, put_into_trash=True)
    whole.mirror.poll()
    whole.drive.delete(theirs)
    whole.mirror.poll()
    assert (whole.fs.names(), whole.fs.names(".Trash")) == ([], [])


def test_trash_that_was_listed_before_the_feed_told_of_it_is_not_in_two_places(whole: Whole) -> None:
    theirs = whole.drive.put("theirs", b"t")
    whole.mirror.poll()
    whole.drive.change(theirs, trashed=True, put_into_trash=True)
    assert whole.fs.names(".Trash") == ["theirs"]
    assert whole.fs.names() == []
    whole.mirror.poll()
    assert (whole.fs.names(), whole.fs.names(".Trash")) == ([], ["theirs"])


def test_trash_shows_what_was_removed_here_at_once(whole: Whole) -> None:
    assert whole.fs.names(".Trash") == []
    for name in ("a", "b"):
        put(whole, name)
        whole.fs.unlink(name)
        whole.drain()
    assert whole.fs.names(".Trash") == ["a", "b"]
    whole.mirror.poll()
    assert whole.fs.names(".Trash") == ["a", "b"]


def test_trash_offline_shows_what_is_known_and_is_an_error_before_that(whole: Whole) -> None:
    whole.drive.put("theirs", b"t", trashed=True, put_into_trash=True)
    whole.drive.fail("list_trashed", ("before", Unreachable("No network.")))
    assert error_of(lambda: whole.fs.names(".Trash")) == errno.EIO
    assert whole.fs.names(".Trash") == ["theirs"]
    whole.drive.fail("list_trashed", ("before", Unreachable("No network.")))
    assert whole.fs.names(".Trash") == ["theirs"]
    whole.crash()
    assert whole.fs.names(".Trash") == ["theirs"]


def test_trash_leaves_names_to_what_drive_has_under_them_by_another(whole: Whole) -> None:
    ids = {name: whole.drive.put(name) for name in (".Trash", ".Trash-1000")}
    whole.drive.put("f", b"1", parent=ids[".Trash"])
    whole.mirror.poll()
    assert whole.fs.names() == sorted(f"{name}~{drive_id}" for name, drive_id in ids.items())
    there = f".Trash~{ids['.Trash']}"
    assert read_file(whole.fs, f"{there}/f") == b"1"
    write_file(whole.fs, f"{there}/g", b"2")
    whole.drain()
    assert whole.drive.files[ids[".Trash"]].name == ".Trash"
    assert set(whole.drive.names(ids[".Trash"])) == {"f", "g"}


# --- nothing in it is changed ---


def test_trash_is_not_written(whole: Whole) -> None:
    put(whole, "old.ckpt")
    whole.fs.mkdir("run")
    put(whole, "run/a")
    whole.fs.rename("old.ckpt", ".Trash/old.ckpt")
    whole.fs.rename("run", ".Trash/run")
    whole.drain()
    fs = whole.fs
    for action in (
        lambda: fs.open(".Trash/old.ckpt", os.O_WRONLY),
        lambda: fs.open(".Trash/new", os.O_WRONLY | os.O_CREAT),
        lambda: fs.open(".Trash/run/new", os.O_WRONLY | os.O_CREAT),
        lambda: fs.truncate(".Trash/run/a", 0),
        lambda: fs.mkdir(".Trash/new"),
        lambda: fs.symlink("x", ".Trash/run/new"),
        lambda: fs.chmod(".Trash/old.ckpt", 0o600),
        lambda: fs.set_mtime(".Trash/run/a", 1),
        lambda: fs.set_xattr(".Trash/run/a", "user.x", b"1"),
        lambda: fs.rename(".Trash/old.ckpt", ".Trash/run/old.ckpt"),
        lambda: fs.rename(".Trash/run/a", ".Trash/a"),
        lambda: fs.rmdir(".Trash"),
        lambda: fs.rename(".Trash", "trash"),
    ):
        assert error_of(action) == errno.EACCES
    assert whole.store.journal.left().jobs == 0


# --- restoring ---


def test_trash_restores_a_file_with_its_id_where_it_is_moved_to(whole: Whole) -> None:
    file = put(whole, "old.ckpt")
    whole.fs.mkdir("kept")
    whole.fs.unlink("old.ckpt")
    whole.drain()
    whole.fs.names(".Trash")
    whole.fs.rename(".Trash/old.ckpt", "kept/new.ckpt")
    assert read_file(whole.fs, "kept/new.ckpt") == b"weights"
    whole.drain()
    there = whole.drive.files[file]
    assert (there.trashed, there.name, there.parent) == (False, "new.ckpt", whole.drive.names()["kept"])
    whole.mirror.poll()
    assert (whole.fs.names(".Trash"), whole.fs.names("kept")) == ([], ["new.ckpt"])
    write_file(whole.fs, "kept/new.ckpt", b"better weights")
    whole.drain()
    assert whole.drive.content(file) == b"better weights"


def test_trash_restores_a_folder_and_one_file_of_another(whole: Whole) -> None:
    run, other = (whole.drive.put(name, trashed=True, put_into_trash=True) for name in ("run", "other"))
    files = [whole.drive.put("f", b"1", parent=folder) for folder in (run, other)]
    assert whole.fs.names(".Trash/run") == whole.fs.names(".Trash/other") == ["f"]
    whole.fs.rename(".Trash/run", "run")
    whole.fs.rename(".Trash/other/f", "g")
    whole.drain()
    assert whole.drive.names() == {"run": run, "g": files[1]}
    assert not whole.drive.get(files[0]).trashed
    assert whole.fs.names(".Trash") == ["other"]
    write_file(whole.fs, "run/f", b"changed")
    whole.fs.unlink("g")
    whole.drain()
    assert whole.drive.content(files[0]) == b"changed"
    assert whole.drive.files[files[1]].trashed
    assert set(whole.drive.files) == {ROOT, run, other, *files}


def test_trash_restored_and_written_before_drive_has_heard_is_the_same_file(whole: Whole) -> None:
    file = put(whole, "old.ckpt")
    whole.fs.rename("old.ckpt", ".Trash/old.ckpt")
    whole.drain()
    assert whole.drive.files[file].trashed
    whole.fs.rename(".Trash/old.ckpt", "old.ckpt")
    write_file(whole.fs, "old.ckpt", b"newer")
    whole.drain()
    assert whole.drive.names() == {"old.ckpt": file}
    assert whole.drive.content(file) == b"newer"


def test_trash_restored_over_a_file_keeps_its_own_id(whole: Whole) -> None:
    file = put(whole, "a")
    whole.fs.rename("a", ".Trash/a")
    whole.drain()
    other = put(whole, "a", b"other")
    whole.fs.rename(".Trash/a", "a")
    whole.drain()
    assert whole.drive.names() == {"a": file}
    assert whole.drive.files[other].trashed


def removed_run(whole: Whole) -> dict[str, DriveId]:
    """IDs of a folder with files and a folder, removed by rm -r: each of them was put into the trash by itself."""
    paths = ("run", "run/step", "run/step/a.ckpt", "run/b.ckpt")
    for path in paths:
        if path.endswith(".ckpt"):
            write_file(whole.fs, path, path.encode())
        else:
            whole.fs.mkdir(path)
    whole.drain()
    ids = {path: drive_id(whole, path) for path in paths}
    for path in reversed(paths):
        if path.endswith(".ckpt"):
            whole.fs.unlink(path)
        else:
            whole.fs.rmdir(path)
        whole.drain()
    return ids


@pytest.mark.parametrize("looked", [True, False], ids=["looked-into-before", "looked-into-after"])
@pytest.mark.parametrize("deep", [True, False], ids=["seen", "unseen"])
def test_trash_restores_what_was_removed_with_a_folder_along_with_it(
    whole: Whole, *, looked: bool, deep: bool
) -> None:
    if looked:
        assert whole.fs.names(".Trash") == []
    ids = removed_run(whole)
    whole.mirror.poll()
    assert all(whole.drive.files[each].put_into_trash for each in ids.values())
    assert whole.fs.names(".Trash") == ["run"]
    if deep:
        assert whole.fs.names(".Trash/run") == ["b.ckpt", "step"]
        assert read_file(whole.fs, ".Trash/run/step/a.ckpt") == b"run/step/a.ckpt"
    whole.fs.rename(".Trash/run", "back")
    write_file(whole.fs, "back/step/new.ckpt", b"new")
    whole.drain()
    assert not [file.name for file in whole.drive.files.values() if file.trashed]
    assert whole.drive.names() == {"back": ids["run"]}
    assert whole.drive.names(ids["run"]) == {"step": ids["run/step"], "b.ckpt": ids["run/b.ckpt"]}
    assert set(whole.drive.names(ids["run/step"])) == {"a.ckpt", "new.ckpt"}
    whole.mirror.poll()
    assert (whole.fs.names("back"), whole.fs.names(".Trash")) == (["b.ckpt", "step"], [])
    assert whole.fs.names("back/step") == ["a.ckpt", "new.ckpt"]


def test_trash_keeps_what_lies_in_a_folder_that_is_restored_elsewhere(whole: Whole) -> None:
    ids = removed_run(whole)
    assert whole.fs.names(".Trash/run/step") == ["a.ckpt"]
    whole.drive.change(ids["run"], trashed=False, put_into_trash=False)
    whole.mirror.poll()
    assert whole.fs.names() == ["run"]
    assert whole.fs.names("run") == []
    assert whole.fs.names(".Trash") == ["b.ckpt", "step"]
    whole.fs.rename(".Trash/b.ckpt", "run/b.ckpt")
    whole.drain()
    assert whole.drive.names(ids["run"]) == {"b.ckpt": ids["run/b.ckpt"]}


def test_trash_restored_folder_gets_new_files_only_once_it_is_out_of_the_trash(whole: Whole) -> None:
    run = whole.drive.put("run", trashed=True, put_into_trash=True)
    whole.fs.rename(".Trash/run", "run")
    write_file(whole.fs, "run/new", b"1")
    whole.drive.fail("update", ("before", Unreachable("No network.")))
    whole.drain()
    assert set(whole.drive.names(run)) == {"new"}
    assert len(whole.drive.files) == 3, "root, folder and file"
    (create,) = (at for at, each in enumerate(whole.drive.log) if each == ("create", "new"))
    assert ("update", "run") in whole.drive.log[:create]


# --- emptying ---


def test_trash_deletes_for_good_what_is_removed_from_it(whole: Whole) -> None:
    run = whole.drive.put("run", trashed=True, put_into_trash=True)
    whole.drive.put("f", b"1", parent=run)
    file = whole.drive.put("old", b"2", trashed=True, put_into_trash=True)
    kept = whole.drive.put("kept", b"3", trashed=True, put_into_trash=True)
    assert whole.fs.names(".Trash") == ["kept", "old", "run"]
    whole.fs.unlink(".Trash/old")
    assert whole.fs.names(".Trash/run") == ["f"]
    assert error_of(lambda: whole.fs.rmdir(".Trash/run")) == errno.ENOTEMPTY
    whole.fs.unlink(".Trash/run/f")
    whole.fs.rmdir(".Trash/run")
    assert file in whole.drive.files
    whole.drain()
    assert set(whole.drive.files) == {ROOT, kept}


def test_trash_deletes_a_folder_whatever_revision_an_older_cache_has_noted_of_it(whole: Whole) -> None:
    run = whole.drive.put("run", trashed=True, put_into_trash=True)
    assert whole.fs.names(".Trash") == ["run"]
    node = whole.store.nodes.find_by_drive_id(run)
    assert node is not None
    whole.store.nodes.update(node.inode, revision="md5:2026-01-01T00:00:00Z")
    whole.fs.rmdir(".Trash/run")
    whole.drain()
    assert run not in whole.drive.files


def test_trash_does_not_show_again_what_was_removed_from_it_while_news_of_it_were_on_their_way(
    whole: Whole, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = whole.drive.put("old", b"2", trashed=True, put_into_trash=True)
    assert whole.fs.names(".Trash") == ["old"]
    changes = whole.drive.changes

    def remove(page_token: str) -> ChangesPage:
        page = changes(page_token)
        monkeypatch.undo()
        whole.fs.unlink(".Trash/old")
        whole.drain()
        return page

    whole.drive.change(file, description="seen")
    monkeypatch.setattr(whole.drive, "changes", remove)
    whole.mirror.poll()
    assert file not in whole.drive.files
    assert whole.fs.names(".Trash") == []


def test_trash_deletes_what_was_removed_from_it_before_it_got_there(whole: Whole) -> None:
    for path in ("old.ckpt", "run/a.ckpt", "there/b.ckpt"):
        if "/" in path:
            whole.fs.mkdir(os.path.dirname(path))
        put(whole, path)
    kept = drive_id(whole, "there/b.ckpt")
    for name in ("old.ckpt", "run"):
        whole.fs.rename(name, f".Trash/{name}")
    whole.fs.unlink(".Trash/old.ckpt")
    whole.fs.unlink(".Trash/run/a.ckpt")
    whole.fs.rmdir(".Trash/run")
    whole.drain()
    there = drive_id(whole, "there")
    assert set(whole.drive.files) == {ROOT, there, kept}
    # With a folder that Drive has there, and that somebody has taken out since, it stays.
    whole.fs.rename("there", ".Trash/there")
    whole.drain()
    whole.fs.unlink(".Trash/there/b.ckpt")
    whole.drive.change(there, trashed=False, put_into_trash=False)
    whole.drain()
    whole.mirror.poll()
    assert set(whole.drive.files) == {ROOT, there, kept}
    assert whole.fs.names("there") == ["b.ckpt"]


def test_trash_gets_what_was_restored_and_thrown_away_again_at_once(whole: Whole) -> None:
    file = put(whole, "old.ckpt")
    for source, target in (("", ".Trash/"), (".Trash/", ""), ("", ".Trash/")):
        whole.fs.rename(f"{source}old.ckpt", f"{target}old.ckpt")
    whole.drain()
    assert whole.drive.files[file].trashed
    whole.mirror.poll()
    assert (whole.fs.names(), whole.fs.names(".Trash")) == ([], ["old.ckpt"])


def test_trash_is_never_emptied_of_what_was_restored_or_came_since(whole: Whole) -> None:
    restored = whole.drive.put("restored", b"1", trashed=True, put_into_trash=True)
    changed = whole.drive.put("changed", b"2", trashed=True, put_into_trash=True)
    run = whole.drive.put("run", trashed=True, put_into_trash=True)
    for name in whole.fs.names(".Trash"):
        if name == "run":
            assert whole.fs.names(".Trash/run") == []
            whole.fs.rmdir(".Trash/run")
        else:
            whole.fs.unlink(f".Trash/{name}")
    whole.drive.change(restored, trashed=False, put_into_trash=False)
    whole.drive.change(changed, b"theirs")
    whole.drive.put("new", b"3", parent=run)
    whole.drain()
    assert {restored, changed, run} <= set(whole.drive.files)
    whole.mirror.poll()
    assert whole.fs.names() == ["restored"]
    assert whole.fs.names(".Trash") == ["changed", "run"]


def test_trash_that_the_account_may_not_delete_stays(whole: Whole) -> None:
    whole.drive.put("theirs", b"1", trashed=True, put_into_trash=True, can_delete=False)
    assert whole.fs.names(".Trash") == ["theirs"]
    assert error_of(lambda: whole.fs.unlink(".Trash/theirs")) == errno.EACCES


# --- a desktop's ---


def test_desktop_trash_goes_to_drives_and_stays_visible(whole: Whole) -> None:
    file = put(whole, "old.ckpt")
    whole.fs.names(".Trash")
    desktop(whole)
    write_file(whole.fs, ".Trash-0/info/old.ckpt.trashinfo", b"[Trash Info]\nPath=old.ckpt\n")
    whole.fs.rename("old.ckpt", ".Trash-0/files/old.ckpt")
    whole.drain()
    assert whole.drive.files[file].trashed
    assert set(whole.drive.files) == {ROOT, file}, "nothing of the desktop's is on Drive"
    whole.mirror.poll()
    assert whole.fs.names(".Trash-0/files") == ["old.ckpt"]
    assert whole.fs.names(".Trash") == [], "it shows once"
    assert read_file(whole.fs, ".Trash-0/files/old.ckpt") == b"weights"
    whole.crash()
    assert read_file(whole.fs, ".Trash-0/info/old.ckpt.trashinfo") == b"[Trash Info]\nPath=old.ckpt\n"
    assert whole.fs.names(".Trash-0/files") == ["old.ckpt"]
    whole.fs.rename(".Trash-0/files/old.ckpt", "old.ckpt")
    whole.fs.unlink(".Trash-0/info/old.ckpt.trashinfo")
    whole.drain()
    assert whole.drive.names() == {"old.ckpt": file}


def test_desktop_trash_restored_at_once_costs_nothing_but_a_look(whole: Whole) -> None:
    file = put(whole, "old.ckpt")
    desktop(whole)
    whole.drive.log.clear()
    whole.fs.rename("old.ckpt", ".Trash-0/files/old.ckpt.2")
    whole.fs.rename(".Trash-0/files/old.ckpt.2", "old.ckpt")
    whole.drain()
    assert ("trash", "old.ckpt") not in whole.drive.log
    assert whole.drive.names() == {"old.ckpt": file}


def test_desktop_trash_emptied_leaves_it_in_drives(whole: Whole) -> None:
    whole.fs.mkdir("run")
    file = put(whole, "run/a.ckpt")
    run = drive_id(whole, "run")
    assert whole.fs.names(".Trash") == []
    desktop(whole)
    whole.fs.rename("run", ".Trash-0/files/run")
    whole.drain()
    whole.drive.log.clear()
    whole.fs.mkdir(".Trash-0/expunged")
    whole.fs.rename(".Trash-0/files/run", ".Trash-0/expunged/123")
    whole.fs.unlink(".Trash-0/expunged/123/a.ckpt")
    whole.fs.rmdir(".Trash-0/expunged/123")
    whole.drain()
    assert whole.drive.log == []
    assert (whole.drive.get(file).trashed, whole.drive.files[file].put_into_trash) == (True, False)
    assert whole.fs.names(".Trash") == ["run"]
    assert drive_id(whole, ".Trash/run") == run
    assert whole.fs.names(".Trash/run") == ["a.ckpt"]


def test_desktop_trash_emptied_before_drive_has_heard_is_trashed_as_a_whole(whole: Whole) -> None:
    whole.fs.mkdir("run")
    file = put(whole, "run/a.ckpt")
    run = drive_id(whole, "run")
    desktop(whole)
    whole.fs.rename("run", ".Trash-0/files/run")
    whole.fs.unlink(".Trash-0/files/run/a.ckpt")
    whole.fs.rmdir(".Trash-0/files/run")
    whole.drain()
    assert whole.drive.files[run].put_into_trash
    assert not whole.drive.files[file].put_into_trash
    assert whole.fs.names(".Trash/run") == ["a.ckpt"]


def test_desktop_trash_of_what_drive_does_not_have_yet_sends_it_first(whole: Whole) -> None:
    whole.fs.mkdir("run")
    whole.drain()
    desktop(whole)
    write_file(whole.fs, "run/new.ckpt", b"x" * 500)
    whole.fs.rename("run/new.ckpt", ".Trash-0/files/new.ckpt")
    whole.drain()
    (file,) = (each for each in whole.drive.files.values() if each.name == "new.ckpt")
    assert (file.trashed, file.parent) == (True, whole.drive.names()["run"])
    assert whole.drive.content(file.id) == b"x" * 500
    whole.fs.rename(".Trash-0/files/new.ckpt", "run/new.ckpt")
    whole.drain()
    assert whole.drive.names(whole.drive.names()["run"]) == {"new.ckpt": file.id}


def test_desktop_trash_of_what_was_changed_and_not_sent_yet_has_the_newest(whole: Whole) -> None:
    file = put(whole, "a.ckpt")
    desktop(whole)
    write_file(whole.fs, "a.ckpt", b"better weights")
    whole.fs.rename("a.ckpt", ".Trash-0/files/a.ckpt")
    whole.drain()
    assert (whole.drive.files[file].trashed, whole.drive.content(file)) == (True, b"better weights")
    assert whole.drive.names() == {}


def test_desktop_trash_emptied_of_what_drive_never_had_sends_nothing(whole: Whole) -> None:
    desktop(whole)
    write_file(whole.fs, "new.ckpt", b"weights")
    whole.fs.rename("new.ckpt", ".Trash-0/files/new.ckpt")
    whole.fs.unlink(".Trash-0/files/new.ckpt")
    whole.drain()
    assert set(whole.drive.files) == {ROOT}


def test_desktop_trash_written_by_who_has_it_open_keeps_what_was_written(whole: Whole) -> None:
    file = put(whole, "log")
    desktop(whole)
    fd = whole.fs.open("log", os.O_WRONLY | os.O_APPEND)
    whole.fs.write(fd, b" one")
    whole.fs.rename("log", ".Trash-0/files/log")
    whole.drain()
    whole.fs.write(fd, b" two")
    whole.fs.close(fd)
    whole.drain()
    assert (whole.drive.files[file].trashed, whole.drive.content(file)) == (True, b"weights one two")
    assert set(whole.drive.files) == {ROOT, file}


def test_desktop_trash_waits_for_what_was_closed_before(whole: Whole) -> None:
    put(whole, "step-1")
    desktop(whole)
    whole.drive.log.clear()
    write_file(whole.fs, "step-2", b"y" * 500)
    whole.fs.rename("step-1", ".Trash-0/files/step-1")
    whole.drain()
    assert [each for each in whole.drive.log if each[0] in ("create", "trash")] == [
        ("create", "step-2"),
        ("trash", "step-1"),
    ]


def test_desktop_trash_stays_on_this_machine(whole: Whole) -> None:
    desktop(whole)
    write_file(whole.fs, ".Trash-0/info/a.trashinfo", b"1")
    write_file(whole.fs, ".Trash-0/info/b", b"2")
    whole.fs.rename(".Trash-0/info/b", ".Trash-0/info/a.trashinfo")
    assert error_of(lambda: whole.fs.rename(".Trash-0/info/a.trashinfo", "a.trashinfo")) == errno.EXDEV
    assert error_of(lambda: whole.fs.rename(".Trash-0", "trash")) == errno.EACCES
    assert whole.fs.xattr(".Trash-0/info/a.trashinfo", "user.drivefs.state") == b"local"
    assert whole.store.journal.left().jobs == 0
    whole.drain()
    assert set(whole.drive.files) == {ROOT}
    whole.crash()
    assert read_file(whole.fs, ".Trash-0/info/a.trashinfo") == b"2"


def test_desktop_trash_that_is_restored_elsewhere_comes_back(whole: Whole) -> None:
    file = put(whole, "a")
    desktop(whole)
    whole.fs.rename("a", ".Trash-0/files/a")
    whole.drain()
    whole.mirror.poll()
    whole.drive.change(file, trashed=False, put_into_trash=False)
    whole.mirror.poll()
    assert (whole.fs.names(), whole.fs.names(".Trash-0/files")) == ([".Trash-0", "a"], [])
    whole.fs.rename("a", ".Trash-0/files/a")
    whole.drain()
    whole.drive.delete(file)
    whole.mirror.poll()
    assert whole.fs.names(".Trash-0/files") == []
