"""Whatever is wrong around a mount: one clear sentence, a way out, the right exit code, and nothing lost.

Everything goes through the real command. What needs another machine (no /dev/fuse, no libfuse, a disk that is full)
is made in a mount namespace of the test's own.
"""

from __future__ import annotations

import contextlib
import errno
import http.server
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from drivefs.mounts import find_mount_at
from tests.mounting import MFUSEPY, Drive, Mounted, drive_at

pytestmark = [
    pytest.mark.skipif(MFUSEPY.why_not() is not None, reason=str(MFUSEPY.why_not())),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a machine in which something is missing"),
]

LIMIT_S = 60.0


class Person:
    """Somebody at a shell, with a home of their own."""

    def __init__(self, drive: Drive, folder: Path) -> None:
        self._mounted = Mounted(drive, MFUSEPY, folder)
        self._mounted.path.rmdir()
        self.folder = folder
        self.mountpoint = self._mounted.path
        self.cache_dir = self._mounted.cache_dir
        self.environment = self._mounted.environment
        self.credentials = drive.running.credentials_file
        self.endpoint = drive.running.endpoint
        self.kill = self._mounted.kill
        self.dispose = self._mounted.dispose
        self.processes = self._mounted.processes

    def run(
        self, *arguments: str | Path, before: tuple[str, ...] = (), **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """`drivefs ARGUMENTS`; `before` is a command that runs it."""
        return subprocess.run(
            [*before, sys.executable, "-m", "drivefs", *map(str, arguments)],
            env={**self.environment, **environment},
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )

    def mount(
        self, *options: str | Path, before: tuple[str, ...] = (), **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """With this person's Drive and cache folder, unless the options say otherwise: the last one counts."""
        usual = ("--credentials", self.credentials, "--endpoint", self.endpoint, "--cache-dir", self.cache_dir)
        return self.run("mount", self.mountpoint, *usual, *options, before=before, **environment)

    def succeed(self, done: subprocess.CompletedProcess[str]) -> str:
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def logs(self) -> str:
        return "".join(path.read_text() for path in self.folder.rglob("*.log*"))


def assert_refused(done: subprocess.CompletedProcess[str], *words: str, exit_code: int = 1) -> None:
    """One sentence that holds these words, and the exit code."""
    assert done.returncode == exit_code, done.stdout + done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("drivefs: ") and lines[0].endswith("."), lines[0]
    for word in words:
        assert word in lines[0], lines[0]


@pytest.fixture
def person(drive: Drive, tmp_path: Path) -> Iterator[Person]:
    person = Person(drive, tmp_path)
    try:
        yield person
    finally:
        person.dispose()


@pytest.fixture
def tmpfs(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Makes small disks: tmpfs with the options given."""
    made: list[Path] = []

    def make(options: str) -> Path:
        path = tmp_path / f"disk{len(made)}"
        path.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", path], check=True)
        made.append(path)
        return path

    yield make
    for path in made:
        subprocess.run(["umount", "-l", path], check=True)


def in_namespace(script: str) -> tuple[str, ...]:
    """Runs a command after a shell script, in a mount namespace of its own."""
    return ("unshare", "--mount", "sh", "-ec", f'{script}\nexec "$@"', "sh")


def hidden(path: str | Path) -> str:
    """A script's line that puts an empty file over a path."""
    return f"mount --bind /dev/null {os.path.realpath(path)}"


DEV = """
dev=$(mktemp -d)
mount -t tmpfs tmpfs $dev
for name in null zero random urandom; do touch $dev/$name; mount --bind /dev/$name $dev/$name; done
{more}
mount --rbind $dev /dev
"""
"""A /dev that holds what Python needs, and what `more` makes in $dev."""

AS_USER = ("setpriv", "--reuid=1000", "--inh-caps=+dac_override", "--ambient-caps=+dac_override")
"""An ordinary user who can reach this Python wherever it is installed, and who may not mount."""


# --- the mount point ---


def test_missing_mount_point_is_made(person: Person) -> None:
    assert "(a new folder)" in person.succeed(person.mount())
    assert person.mountpoint.is_dir()


def test_mount_point_without_a_parent_is_refused(person: Person) -> None:
    done = person.run("mount", person.folder / "no" / "such", "--credentials", person.credentials)
    assert_refused(done, "does not exist", "mkdir -p")


def test_mount_point_with_content_is_refused(person: Person) -> None:
    person.mountpoint.mkdir()
    (person.mountpoint / "thesis.tex").write_text("precious")
    assert_refused(person.mount(), "not empty")
    assert (person.mountpoint / "thesis.tex").read_text() == "precious"


def test_file_as_mount_point_is_refused(person: Person) -> None:
    person.mountpoint.write_text("precious")
    assert_refused(person.mount(), "is a file")
    assert person.mountpoint.read_text() == "precious"


def test_mount_point_in_use_is_refused(person: Person) -> None:
    person.succeed(person.mount())
    (person.mountpoint / "a").write_text("kept")
    assert_refused(person.mount(), "mounted by drivefs already", "drivefs umount")
    assert (person.mountpoint / "a").read_text() == "kept"


def test_failed_mount_leaves_no_folder_behind(person: Person) -> None:
    assert_refused(person.mount("--credentials", "nowhere.json"), "does not exist", exit_code=4)
    assert not person.mountpoint.exists()


def test_stale_mount_is_cleared_away_and_loses_nothing(person: Person, drive: Drive) -> None:
    person.succeed(person.mount())
    (person.mountpoint / "stale-1").write_text("written just before the end")
    person.kill()
    with pytest.raises(OSError) as caught:
        os.stat(person.mountpoint)
    assert caught.value.errno == errno.ENOTCONN
    done = person.mount()
    assert "waiting from last time" in person.succeed(done)
    assert "Cleared away the mount" in done.stderr
    assert (person.mountpoint / "stale-1").read_text() == "written just before the end"
    person.succeed(person.run("flush"))
    assert drive.admin.read_file("stale-1") == b"written just before the end"


def test_stale_mount_can_be_unmounted(person: Person) -> None:
    person.succeed(person.mount())
    (person.mountpoint / "stale-2").write_text("kept")
    person.kill()
    told = person.succeed(person.run("umount", person.mountpoint))
    assert "had died" in told and "1 file" in told
    assert find_mount_at(person.mountpoint) is None


def test_dead_mount_does_not_hang_status_and_flush(person: Person) -> None:
    person.succeed(person.mount())
    (person.mountpoint / "stale-3").write_text("kept")
    person.kill()
    told = json.loads(person.succeed(person.run("status", person.mountpoint, "--json")))
    assert (told["mounts"][0]["running"], told["mounts"][0]["queue"]["files"]) == (False, 1)
    assert_refused(person.run("flush"), "Nothing is mounted", "1 file", "drivefs mount")
    assert_refused(person.run("flush", person.mountpoint), "drivefs status")


def test_mount_in_use_is_not_unmounted(person: Person) -> None:
    person.succeed(person.mount())
    with (person.mountpoint / "open").open("w") as file:
        file.write("so far")
        file.flush()
        assert_refused(person.run("umount", person.mountpoint), "in use", "fuser")
        file.write(", and more")
    assert (person.mountpoint / "open").read_text() == "so far, and more"
    person.succeed(person.run("umount", person.mountpoint))


def test_umount_of_what_is_not_mounted_is_refused(person: Person) -> None:
    assert_refused(person.run("umount", person.folder), "Nothing is mounted on", "drivefs status")


# --- FUSE ---


def test_machine_without_dev_fuse_is_told(person: Person) -> None:
    done = person.mount(before=in_namespace(DEV.format(more="")))
    assert_refused(done, "no /dev/fuse", "modprobe fuse", "--device /dev/fuse")


def test_dev_fuse_that_may_not_be_opened_is_told(person: Person) -> None:
    user = ("setpriv", "--reuid=1000", "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
    script = DEV.format(more="mknod -m 600 $dev/fuse c 10 229")
    done = person.mount(before=(*in_namespace(script), *user))
    assert_refused(done, "/dev/fuse cannot be opened", "chmod 666 /dev/fuse")


def test_machine_without_libfuse_is_told(person: Person) -> None:
    libraries = {
        path.resolve() for folder in ("/lib", "/usr/lib") for path in Path(folder).glob("*-linux-gnu/libfuse*.so*")
    }
    assert libraries
    without = in_namespace("\n".join(map(hidden, sorted(libraries))))
    assert_refused(
        person.mount("--transport", "libfuse", before=without), "libfuse could not be loaded", "apt install fuse3"
    )


def test_machine_without_fusermount3_is_told_to_users(person: Person) -> None:
    script = DEV.format(more="mknod -m 666 $dev/fuse c 10 229")
    done = person.mount(before=(*in_namespace(script), *AS_USER, "env", "PATH=/nowhere"))
    assert_refused(done, "fusermount3 is missing", "apt install fuse3")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users can reach, which those of pytest are not."""
    with tempfile.TemporaryDirectory(prefix="drivefs-", dir="/tmp") as name:
        Path(name).chmod(0o777)
        yield Path(name)


@pytest.mark.parametrize("transport", ["kernel", "libfuse"])
def test_ordinary_user_can_mount_flush_and_unmount(drive: Drive, open_folder: Path, transport: str) -> None:
    person = Person(drive, open_folder)
    script = (
        'drivefs mount "$0" --credentials "$1" --endpoint "$2" --cache-dir "$3" --transport "$4"\n'
        'echo theirs >"$0/by-a-user"; test "$(stat -c %u "$0")" = 1000\n'
        'drivefs flush "$0"\ndrivefs umount "$0"; ! grep -q "$0" /proc/self/mountinfo'
    )
    words = [person.mountpoint, person.credentials, person.endpoint, person.cache_dir, transport]
    done = subprocess.run(
        [
            *in_namespace(DEV.format(more="mknod -m 666 $dev/fuse c 10 229")),
            *AS_USER,
            *("sh", "-ec", f'drivefs() {{ "{sys.executable}" -m drivefs "$@"; }}\n{script}', *map(str, words)),
        ],
        env=person.environment,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert drive.admin.read_file("by-a-user") == b"theirs\n"


def test_mount_option_that_fuse_does_not_know_is_told(person: Person) -> None:
    done = person.mount("-o", "frobnicate")
    assert_refused(done, "could not be mounted", "frobnicate")


# --- credentials ---


def test_nobody_signed_in_is_told(person: Person) -> None:
    done = person.run("mount", person.mountpoint)
    assert_refused(done, "Not signed in", "drivefs auth login", "--credentials", exit_code=4)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not json",
        b"\xff\xfe\x00",
        b"[]",
        b"{}",
        b"null",
        b"[" * 100_000,
        b'{"type": "authorized_user"}',
        b'{"type": "authorized_user", "client_id": 5, "client_secret": [], "refresh_token": {}}',
        b'{"type": "service_account", "client_email": "a@b", "private_key": "KEY-SECRET", "token_uri": "http://x"}',
        b'{"type": ["authorized_user"]}',
        b'{"installed": {"client_id": "x", "client_secret": "y"}}',
    ],
    ids=lambda content: content[:24].decode("latin-1"),
)
def test_broken_credentials_are_told(person: Person, content: bytes) -> None:
    file = person.folder / "key.json"
    file.write_bytes(content)
    done = person.mount("--credentials", file)
    assert_refused(done, str(file), "drivefs auth login", exit_code=4)
    assert "KEY-SECRET" not in done.stderr + person.logs()


def test_folder_as_credentials_is_told(person: Person) -> None:
    assert_refused(person.mount("--credentials", person.folder), "cannot be read", exit_code=4)


def test_sign_in_that_is_over_is_told_at_first_contact(person: Person, tmp_path: Path) -> None:
    with drive_at(tmp_path / "other") as other:
        other.admin.revoke_tokens()
        options = ("--endpoint", other.running.endpoint, "--credentials", other.running.credentials_file)
        done = person.mount(*options)
    assert_refused(done, "no longer takes the sign-in", "drivefs auth login", exit_code=4)


def test_sign_in_that_ended_later_stops_neither_mount_nor_writing(person: Person, tmp_path: Path) -> None:
    with drive_at(tmp_path / "other") as other:
        options = ("--endpoint", other.running.endpoint, "--credentials", other.running.credentials_file)
        person.succeed(person.mount(*options))
        (person.mountpoint / "a").write_text("first")
        person.succeed(person.run("umount", person.mountpoint))
        other.admin.revoke_tokens()
        person.succeed(person.mount(*options))
        assert (person.mountpoint / "a").read_text() == "first"
        (person.mountpoint / "b").write_text("second")
        assert_refused(person.run("flush", "--timeout", "3"), "Not on Drive yet", "drivefs auth login", exit_code=4)
        (told,) = json.loads(person.succeed(person.run("status", "--json")))["mounts"]
        assert "drivefs auth login" in told["pause"]["reason"]
        person.succeed(person.run("umount", "--no-wait", person.mountpoint))


# --- the endpoint ---


def test_endpoint_where_nobody_listens_is_told(person: Person) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{unused.getsockname()[1]}"
        assert_refused(person.mount("--endpoint", endpoint), endpoint, "check the network", "--endpoint")


def test_endpoint_that_never_answers_is_told(person: Person) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert_refused(person.mount("--endpoint", endpoint), endpoint, "check the network")


class Page(http.server.BaseHTTPRequestHandler):
    """A web server that is no Drive."""

    def do_GET(self) -> None:
        body = b"<html>Welcome!</html>"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_endpoint_that_is_no_drive_is_told(person: Person) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            endpoint = f"http://127.0.0.1:{server.server_port}"
            assert_refused(person.mount("--endpoint", endpoint), endpoint, "--endpoint")
        finally:
            server.shutdown()
            thread.join()


def test_root_that_is_not_there_is_told(person: Person) -> None:
    assert_refused(person.mount("--root", "no/such/folder"), "no/such/folder")


def test_mount_works_offline_with_a_cache_from_before(person: Person, tmp_path: Path) -> None:
    with drive_at(tmp_path / "other") as other:
        options = ("--endpoint", other.running.endpoint, "--credentials", other.running.credentials_file)
        person.succeed(person.mount(*options))
        (person.mountpoint / "a").write_text("online")
        person.succeed(person.run("umount", person.mountpoint))
        other.stop()
        person.succeed(person.mount(*options))
        assert (person.mountpoint / "a").read_text() == "online"
        (person.mountpoint / "b").write_text("offline")
        assert_refused(person.run("umount", person.mountpoint, "--timeout", "1"), "stays mounted", exit_code=3)
        assert "left in" in person.succeed(person.run("umount", "--no-wait", person.mountpoint))
        person.succeed(person.mount(*options))
        other.start()
        person.succeed(person.run("flush"))
        assert other.admin.read_file("b") == b"offline"
        person.succeed(person.run("umount", person.mountpoint))


# --- the cache folder ---


def test_cache_folder_in_use_by_another_mount_is_told(person: Person) -> None:
    person.succeed(person.mount())
    other = person.folder / "other"
    usual = ("--credentials", person.credentials, "--endpoint", person.endpoint, "--cache-dir", person.cache_dir)
    assert_refused(person.run("mount", other, *usual), "in use by another mount", "--cache-dir")
    assert not other.exists()
    (person.mountpoint / "a").write_text("the first one goes on")


def test_cache_folder_that_cannot_be_written_is_told(person: Person, tmpfs: Callable[[str], Path]) -> None:
    disk = tmpfs("ro")
    assert_refused(person.mount("--cache-dir", disk / "cache"), "cannot be used", "--cache-dir")
    file = person.folder / "file"
    file.touch()
    assert_refused(person.mount("--cache-dir", file), "cannot be used", "--cache-dir")
    assert_refused(person.mount("--cache-dir", file / "cache"), "cannot be used", "--cache-dir")


def test_damaged_cache_is_told_and_kept_aside(person: Person) -> None:
    person.cache_dir.mkdir()
    (person.cache_dir / "drivefs.db").write_bytes(b"garbage " * 2000)
    done = person.mount()
    person.succeed(done)
    assert "was damaged and is kept as" in done.stderr
    (kept,) = (person.cache_dir / "quarantine").glob("damaged-*.db")
    assert kept.read_bytes() == b"garbage " * 2000
    person.succeed(person.run("umount", person.mountpoint))


def test_cache_of_another_folder_of_drive_is_told(person: Person, drive: Drive) -> None:
    drive.admin.make_folder("somewhere")
    person.succeed(person.mount())
    person.succeed(person.run("umount", person.mountpoint))
    assert_refused(person.mount("--root", "somewhere"), "another account or folder", "--cache-dir")


def test_state_folder_that_cannot_be_written_is_told(person: Person, tmpfs: Callable[[str], Path]) -> None:
    done = person.mount(XDG_STATE_HOME=str(tmpfs("ro")))
    assert_refused(done, "cannot be made", "XDG_STATE_HOME")


# --- a full disk ---


def fill(disk: Path) -> None:
    with (disk / "filler").open("wb") as file, pytest.raises(OSError) as caught:
        while True:
            os.write(file.fileno(), b"x" * 65536)
    assert caught.value.errno == errno.ENOSPC


def test_full_disk_at_mount_is_told(person: Person, tmpfs: Callable[[str], Path]) -> None:
    disk = tmpfs("size=2m")
    fill(disk)
    assert_refused(person.mount("--cache-dir", disk / "cache"), "--cache-dir", "room")


def test_full_disk_while_writing_gives_enospc_and_loses_nothing(
    person: Person, drive: Drive, tmpfs: Callable[[str], Path]
) -> None:
    disk = tmpfs("size=24m")
    person.succeed(person.mount("--cache-dir", disk / "cache"))
    whole = os.urandom(1 << 20)
    (person.mountpoint / "full-whole").write_bytes(whole)
    with pytest.raises(OSError) as caught, (person.mountpoint / "full-large").open("wb", buffering=0) as file:
        for _ in range(100):
            file.write(whole)
    assert caught.value.errno == errno.ENOSPC
    (person.mountpoint / "full-large").unlink()
    (person.mountpoint / "full-after").write_bytes(whole)
    person.succeed(person.run("flush"))
    assert drive.admin.read_file("full-whole") == whole
    assert drive.admin.read_file("full-after") == whole
    assert "full-large" not in {item["path"] for item in drive.admin.tree()}
    person.succeed(person.run("umount", person.mountpoint))


def test_disk_that_fills_up_beside_the_mount_loses_nothing(
    person: Person, drive: Drive, tmpfs: Callable[[str], Path]
) -> None:
    disk = tmpfs("size=16m")
    person.succeed(person.mount("--cache-dir", disk / "cache"))
    (person.mountpoint / "beside-1").write_bytes(b"before")
    fill(disk)
    with pytest.raises(OSError) as caught:
        for number in range(10_000):
            (person.mountpoint / f"beside-more-{number}").write_bytes(b"x" * 100_000)
    assert caught.value.errno == errno.ENOSPC
    assert (person.mountpoint / "beside-1").read_bytes() == b"before"
    (disk / "filler").unlink()
    (person.mountpoint / "beside-2").write_bytes(b"after")
    person.succeed(person.run("flush"))
    assert drive.admin.read_file("beside-1") == b"before"
    assert drive.admin.read_file("beside-2") == b"after"
    person.succeed(person.run("umount", person.mountpoint))


# --- the end of the process ---


@pytest.mark.parametrize("to", ["daemon", "supervisor", "both"])
def test_sigterm_sends_what_waits_and_ends(person: Person, drive: Drive, to: str) -> None:
    person.succeed(person.mount())
    (person.mountpoint / f"term-{to}").write_text("sent at the end")
    terminate(person, to)
    wait_for(lambda: person.processes() == [])
    assert find_mount_at(person.mountpoint) is None
    assert drive.admin.read_file(f"term-{to}") == b"sent at the end"


def test_sigterm_ends_a_mount_in_use_too(person: Person, drive: Drive) -> None:
    person.succeed(person.mount())
    fd = os.open(person.mountpoint / "term-open", os.O_WRONLY | os.O_CREAT)
    try:
        os.write(fd, b"so far")
        terminate(person, "both")
        wait_for(lambda: person.processes() == [])
        assert find_mount_at(person.mountpoint) is None
        assert drive.admin.read_file("term-open") == b"so far"
        try:
            os.write(fd, b", and on")
        except OSError:
            expected = b"so far"  # lost with its process, and told so
        else:
            expected = b"so far, and on"  # the kernel has written it to the cache itself: the next mount sends it
    finally:
        with contextlib.suppress(OSError):
            os.close(fd)  # tells once more that the mount has gone
    person.succeed(person.mount())
    assert (person.mountpoint / "term-open").read_bytes() == expected
    person.succeed(person.run("flush"))
    assert drive.admin.read_file("term-open") == expected
    person.succeed(person.run("umount", person.mountpoint))


def terminate(person: Person, to: str) -> None:
    """SIGTERM to the process that serves the mount, to its supervisor, or to all, as a shutdown does."""
    (told,) = json.loads(person.succeed(person.run("status", person.mountpoint, "--json")))["mounts"]
    processes = person.processes()
    assert len(processes) == 2 and told["pid"] in processes
    for pid in processes:
        if to == "both" or (pid == told["pid"]) is (to == "daemon"):
            os.kill(pid, signal.SIGTERM)


def test_unmount_by_hand_sends_what_waits(person: Person, drive: Drive) -> None:
    person.succeed(person.mount())
    (person.mountpoint / "by-hand").write_text("sent at the end")
    subprocess.run([shutil.which("fusermount3") or "umount", "-u", person.mountpoint], check=True)
    wait_for(lambda: person.processes() == [])
    assert drive.admin.read_file("by-hand") == b"sent at the end"


def wait_for(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


# --- secrets ---


def test_nothing_that_is_printed_or_logged_holds_a_secret(person: Person, drive: Drive) -> None:
    said = person.mount(DRIVEFS_DEBUG="1")
    text = person.succeed(said) + said.stderr
    (person.mountpoint / "secret-large").write_bytes(os.urandom(6 << 20))
    for command in ("status", "flush", "status"):
        done = person.run(command, DRIVEFS_DEBUG="1")
        text += person.succeed(done) + done.stderr
    person.succeed(person.run("umount", person.mountpoint))
    text += person.logs()
    secrets = json.loads(person.credentials.read_text())
    for key in ("refresh_token", "client_secret"):
        assert secrets[key] not in text
    assert "upload_id" not in text and "Bearer" not in text and "ya29" not in text


def test_files_of_a_mount_are_for_their_owner_alone(person: Person) -> None:
    person.succeed(person.mount())
    (person.mountpoint / "private").write_text("x")
    person.succeed(person.run("umount", person.mountpoint))
    state = person.folder / "home" / ".local" / "state" / "drivefs"
    for top in (person.cache_dir, state):
        assert top.stat().st_mode & 0o077 == 0
        for path in top.rglob("*"):
            assert path.stat().st_mode & 0o077 == 0, path
