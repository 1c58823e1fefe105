"""Real programs on the mount. What each leaves is flushed, compared on Drive, and read through a fresh mount."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.mounting import Drive, FreshMount, Mounted, contents, entries

Arrives = Callable[[Path], None]

GIT_ENVIRONMENT = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
    **{f"GIT_{who}_{what}": "tester@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
}


def run(*command: str | Path, cwd: Path | None = None, **environment: str) -> str:
    """Run a program to its end, which is a good one; what it printed. Without the program the test is skipped."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{command[0]} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree on the local disk with what trees have: sizes, modes, times to the nanosecond, links, odd names."""
    chance = random.Random(7)
    top = tmp_path_factory.mktemp("source")
    (top / "package" / "données").mkdir(parents=True)
    (top / "empty folder").mkdir()
    for number in range(40):
        (top / "package" / f"module_{number}.py").write_bytes(chance.randbytes(chance.randrange(3000)))
    (top / "package" / "données" / 'it\'s a "test" 🎈.bin').write_bytes(chance.randbytes(6_000_000))
    (top / "empty").touch()
    (top / "run.sh").write_text("#!/bin/sh\necho ran\n")
    (top / "run.sh").chmod(0o755)
    (top / "secret").write_text("x")
    (top / "secret").chmod(0o600)
    (top / "link").symlink_to("package/module_1.py")
    (top / "dangling").symlink_to("../nowhere")
    for path in sorted(top.rglob("*"), reverse=True):
        mtime_ns = chance.randrange(10**18, 17 * 10**17)
        os.utime(path, ns=(mtime_ns, mtime_ns), follow_symlinks=False)
    return top


# --- copies ---


def test_shutil_copies_and_moves(source: Path, folder: Path, assert_arrives: Arrives, tmp_path: Path) -> None:
    shutil.copytree(source, folder / "tree", symlinks=True)
    assert entries(folder / "tree") == entries(source)
    shutil.copy(source / "run.sh", folder)
    shutil.copy2(source / "package" / "module_2.py", folder / "copied.py")
    shutil.copyfile(folder / "copied.py", folder / "within.py")
    (tmp_path / "outside").write_bytes(b"moved in")
    shutil.move(tmp_path / "outside", folder / "moved in")
    shutil.move(folder / "tree" / "package", folder / "moved within")
    shutil.copytree(source / "package", tmp_path / "to be moved")
    shutil.move(tmp_path / "to be moved", folder / "moved tree")
    shutil.move(folder / "copied.py", tmp_path / "moved out")
    assert (tmp_path / "moved out").read_bytes() == (source / "package" / "module_2.py").read_bytes()
    assert entries(folder / "moved within") == entries(source / "package")
    shutil.rmtree(folder / "moved tree" / "données")
    assert_arrives(folder)


def test_cp_archive_keeps_everything(source: Path, folder: Path, assert_arrives: Arrives) -> None:
    run("cp", "-a", source, folder / "copy")
    assert entries(folder / "copy") == entries(source)
    run("diff", "-r", "--no-dereference", source, folder / "copy")
    assert_arrives(folder)


def test_rsync_has_nothing_to_send_the_second_time(
    source: Path, folder: Path, mount: Mounted, drive: Drive, assert_arrives: Arrives, fresh_mount: FreshMount
) -> None:
    run("rsync", "-a", f"{source}/", folder / "copy")
    assert entries(folder / "copy") == entries(source)
    itemize = ("rsync", "-a", "--itemize-changes", f"{source}/")
    assert run(*itemize, folder / "copy") == ""
    assert_arrives(folder)
    assert run(*itemize, folder / "copy") == ""
    with fresh_mount() as other:
        assert run(*itemize, other.path / folder.name / "copy") == ""
        assert run(*itemize, "--checksum", other.path / folder.name / "copy") == ""
    assert drive.contents(f"{folder.name}/copy") == contents(entries(source))


def test_rsync_updates_and_deletes(source: Path, folder: Path, tmp_path: Path, assert_arrives: Arrives) -> None:
    shutil.copytree(source, tmp_path / "work", symlinks=True)
    run("rsync", "-a", f"{tmp_path}/work/", folder / "copy")
    (tmp_path / "work" / "package" / "module_3.py").write_text("changed\n")
    (tmp_path / "work" / "package" / "module_4.py").unlink()
    run("rsync", "-a", "--delete", f"{tmp_path}/work/", folder / "copy")
    run("rsync", "-a", "--inplace", "--append-verify", f"{tmp_path}/work/", folder / "copy")
    assert entries(folder / "copy") == entries(tmp_path / "work")
    assert_arrives(folder)


# --- archives ---


def test_tar_packs_and_unpacks(source: Path, folder: Path, assert_arrives: Arrives) -> None:
    run("tar", "-czf", folder / "all.tar.gz", "-C", source, ".")
    (folder / "by tar").mkdir()
    run("tar", "-xzf", folder / "all.tar.gz", "-C", folder / "by tar")
    with tarfile.open(folder / "by python.tar", "w") as archive:
        archive.add(source / "package", "package")
    with tarfile.open(folder / "by python.tar") as archive:
        archive.extractall(folder / "by python", filter="data")
    wanted = contents(entries(source))
    assert contents(entries(folder / "by tar")) == wanted
    assert contents(entries(folder / "by python" / "package")) == contents(entries(source / "package"))
    assert_arrives(folder)


def test_zip_packs_and_unpacks(source: Path, folder: Path, assert_arrives: Arrives) -> None:
    run("zip", "-qr", "--symlinks", folder / "all.zip", ".", cwd=source)
    run("unzip", "-q", folder / "all.zip", "-d", folder / "by unzip")
    assert contents(entries(folder / "by unzip")) == contents(entries(source))
    with zipfile.ZipFile(folder / "by python.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("run.sh", "package/module_1.py"):
            archive.write(source / name, name)
    with zipfile.ZipFile(folder / "by python.zip", "a") as archive:
        archive.writestr("added.txt", "appended to the archive")
    with zipfile.ZipFile(folder / "by python.zip") as archive:
        assert archive.testzip() is None
        archive.extractall(folder / "by python")
    assert (folder / "by python" / "added.txt").read_text() == "appended to the archive"
    assert_arrives(folder)


# --- git ---


def test_git_works_on_the_mount(
    source: Path, folder: Path, mount: Mounted, tmp_path: Path, assert_arrives: Arrives, fresh_mount: FreshMount
) -> None:
    def git(*words: str | Path, cwd: Path) -> str:
        return run("git", *words, cwd=cwd, **GIT_ENVIRONMENT)

    project = folder / "project"
    git("init", "-q", "-b", "main", project, cwd=folder)
    shutil.copytree(source / "package", project / "package")
    git("add", ".", cwd=project)
    git("commit", "-q", "-m", "first", cwd=project)
    (project / "package" / "module_1.py").write_text("changed = True\n")
    git("commit", "-q", "-a", "-m", "second", cwd=project)
    git("checkout", "-q", "-b", "side", "HEAD~1", cwd=project)
    git("checkout", "-q", "main", cwd=project)
    git("gc", "-q", cwd=project)
    git("clone", "-q", project, folder / "clone", cwd=folder)
    git("clone", "-q", "--no-local", project, tmp_path / "outside", cwd=folder)
    for place in (project, folder / "clone", tmp_path / "outside"):
        assert git("fsck", "--strict", cwd=place) == ""
        assert git("status", "--porcelain", cwd=place) == ""
    assert_arrives(folder)
    with fresh_mount() as other:
        there = other.path / folder.name / "project"
        assert git("fsck", "--strict", cwd=there) == ""
        assert git("log", "--format=%s", cwd=there).split() == ["second", "first"]
        assert git("status", "--porcelain", cwd=there) == ""


# --- sqlite ---


@pytest.mark.parametrize("journal_mode", ["delete", "truncate", "persist"])
def test_sqlite_works_on_the_mount(
    folder: Path, journal_mode: str, assert_arrives: Arrives, fresh_mount: FreshMount
) -> None:
    path = folder / "runs.db"
    connection = sqlite3.connect(path, isolation_level=None)
    assert connection.execute(f"PRAGMA journal_mode={journal_mode}").fetchone() == (journal_mode,)
    connection.execute("CREATE TABLE runs (step INTEGER PRIMARY KEY, loss REAL)")
    for first in range(0, 300, 100):
        connection.execute("BEGIN")
        connection.executemany(
            "INSERT INTO runs VALUES (?, ?)", [(n, 1 / (n + 1)) for n in range(first, first + 100)]
        )
        connection.execute("COMMIT")
    connection.execute("BEGIN")
    connection.execute("DELETE FROM runs")
    connection.execute("ROLLBACK")
    connection.execute("UPDATE runs SET loss = -1 WHERE step = 5")
    connection.close()
    query = "SELECT count(*), sum(step), min(loss) FROM runs; PRAGMA integrity_check"
    assert run("sqlite3", path, query).split() == ["300|44850|-1.0", "ok"]
    assert_arrives(folder)
    with fresh_mount() as other:
        assert run("sqlite3", other.path / folder.name / "runs.db", query).split() == ["300|44850|-1.0", "ok"]


def test_sqlite_transaction_locks_out_others(folder: Path) -> None:
    path = folder / "runs.db"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("CREATE TABLE runs (step)")
    connection.execute("BEGIN IMMEDIATE")
    code = (
        "import sqlite3, sys\nconnection = sqlite3.connect(sys.argv[1], timeout=0)\n"
        "try: connection.execute('BEGIN IMMEDIATE')\nexcept sqlite3.OperationalError: print('locked')"
    )
    attempt = (sys.executable, "-c", code, path)
    assert run(*attempt) == "locked\n"
    connection.execute("COMMIT")
    assert run(*attempt) == ""
    connection.close()


# --- Python from the mount ---


def test_python_runs_and_imports_from_the_mount(
    folder: Path, assert_arrives: Arrives, fresh_mount: FreshMount
) -> None:
    (folder / "library").mkdir()
    (folder / "library" / "__init__.py").write_text("from library.answer import ANSWER\n")
    (folder / "library" / "answer.py").write_text("ANSWER = 42\n")
    (folder / "main.py").write_text("#!/usr/bin/env python3\nfrom library import ANSWER\nprint(ANSWER)\n")
    (folder / "main.py").chmod(0o755)
    cacheless = {"PYTHONDONTWRITEBYTECODE": ""}  # as unset: the compiled modules go to the mount too
    assert run(sys.executable, folder / "main.py", **cacheless) == "42\n"
    assert run(sys.executable, folder / "main.py", **cacheless) == "42\n"
    assert run(folder / "main.py") == "42\n"
    assert list(folder.glob("library/__pycache__/answer.*.pyc"))
    (folder / "library" / "answer.py").write_text("ANSWER = 'changed'\n")
    assert run(sys.executable, folder / "main.py", **cacheless) == "changed\n"
    assert_arrives(folder)
    with fresh_mount() as other:
        assert run(other.path / folder.name / "main.py") == "changed\n"


# --- editors ---


def test_sed_in_place_keeps_the_file(folder: Path, drive: Drive, mount: Mounted, assert_arrives: Arrives) -> None:
    (folder / "config.ini").write_text("rate = 1\n" * 1000)
    mount.flush()
    before = drive.find(f"{folder.name}/config.ini")["id"]
    run("sed", "-i", "s/1/2/", folder / "config.ini")
    assert (folder / "config.ini").read_text() == "rate = 2\n" * 1000
    assert os.listdir(folder) == ["config.ini"]
    assert_arrives(folder)
    assert drive.find(f"{folder.name}/config.ini")["id"] == before
    assert drive.trash(folder.name) == []


def test_editor_that_saves_by_backup_leaves_one_file(
    folder: Path, drive: Drive, mount: Mounted, assert_arrives: Arrives
) -> None:
    path, backup = folder / "notes.txt", folder / "notes.txt~"
    path.write_text("first")
    mount.flush()
    for text in ("second", "third"):
        path.rename(backup)  # as vim does
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        os.write(fd, text.encode())
        os.fsync(fd)
        os.close(fd)
        backup.unlink()
    assert os.listdir(folder) == ["notes.txt"]
    assert_arrives(folder)
    assert path.read_text() == "third"
    assert list(drive.contents(folder.name)) == ["notes.txt"]


def test_lock_file_of_an_office_program_leaves_no_trace(
    folder: Path, drive: Drive, mount: Mounted, assert_arrives: Arrives
) -> None:
    lock = folder / ".~lock.report.odt#"
    lock.write_text("somebody")
    (folder / "lu123.tmp").write_bytes(b"document" * 1000)
    (folder / "lu123.tmp").replace(folder / "report.odt")
    lock.unlink()
    assert_arrives(folder)
    assert list(drive.contents(folder.name)) == ["report.odt"]
