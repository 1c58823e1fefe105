"""Signing in around real mounts: two accounts side by side, a sign-in that ends while mounted, secrets that show
nowhere, and two users of one machine who cannot read each other's anything."""

from __future__ import annotations

import errno
import json
import os
import pwd
import secrets
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from drivefs.mounts import find_mount_at
from tests.browser import come_back
from tests.mounting import KERNEL_PLAIN, Drive, Mounted, drive_at
from tests.promises import fails_with
from tests.signing_in import ANNE, BEN, LIMIT_S, read_link

pytestmark = pytest.mark.skipif(KERNEL_PLAIN.why_not() is not None, reason=str(KERNEL_PLAIN.why_not()))


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drive]:
    with drive_at(tmp_path_factory.mktemp("drive"), accounts=(ANNE, BEN)) as drive:
        yield drive


class Home:
    """Somebody at a shell; all that the commands print, and all their processes' arguments, are remembered."""

    def __init__(self, drive: Drive, folder: Path, before: tuple[str, ...] = ()) -> None:
        """`before` is a command that runs each command; the first word of those is the interpreter then."""
        self.mounted = Mounted(drive, KERNEL_PLAIN, folder)
        self.path = self.mounted.path
        self.home = folder / "home"
        self.client = self.home / "client.json"
        self.client.write_text(json.dumps(drive.admin.client_secrets()))
        self.client.chmod(0o600)
        self.environment = {**self.mounted.environment, "DRIVEFS_TRANSPORT": "kernel"}
        self.endpoint = drive.running.endpoint
        self.said = ""
        self.arguments: set[bytes] = set()
        self.before = before or (sys.executable,)

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        debug = {"DRIVEFS_DEBUG": "1"} if arguments[0] == "mount" else {}  # all that can be in a log
        return subprocess.Popen(
            [*self.before, "-m", "drivefs", *map(str, arguments)],
            env={**self.environment, **debug},
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str | Path, code: int = 0) -> str:
        with self.start(*arguments) as process:
            self.look()
            out, err = process.communicate(timeout=LIMIT_S)
        self.said += out + err
        assert process.returncode == code, out + err
        return out + err

    def login(self, *arguments: str | Path, as_: str = ANNE) -> str:
        words = ("--client-secrets", self.client, "--endpoint", self.endpoint)
        with self.start("auth", "login", "--headless", *words, *arguments) as process:
            link, shown = read_link(process)
            self.look()
            out, err = process.communicate(come_back(link, as_) + "\n", timeout=LIMIT_S)
        self.said += shown + out + err
        assert process.returncode == 0, out + err
        return out

    def status(self, path: Path) -> dict[str, Any]:
        (found,) = json.loads(self.run("status", path, "--json"))["mounts"]
        assert isinstance(found, dict)
        return found

    def look(self) -> None:
        """Remember what anybody on the machine sees of the processes."""
        for pid in self.mounted.processes():
            try:
                self.arguments.add(Path(f"/proc/{pid}/cmdline").read_bytes())
            except (FileNotFoundError, ProcessLookupError):
                continue  # ended

    def dispose(self) -> None:
        self.mounted.dispose()


@pytest.fixture
def home(drive: Drive, tmp_path: Path) -> Iterator[Home]:
    home = Home(drive, tmp_path)
    try:
        yield home
    finally:
        home.dispose()


def secrets_of(drive: Drive) -> list[str]:
    """All that the Drive has ever given out and still knows, and the client's own."""
    folder = drive.running.credentials_file.parent.parent
    found = [drive.admin.client_secrets()["installed"]["client_secret"]]
    (database,) = folder.glob("*.db")
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        found += [token for (token,) in connection.execute("SELECT token FROM tokens")]
    connection.close()
    return found


def test_sign_in_to_read_alone_serves_a_read_only_mount_without_one_refusal(home: Home, drive: Drive) -> None:
    home.login()
    home.run("mount", home.path)
    fault = drive.admin.add_fault("error", api="drive.files.create", status=403, reason="storageQuotaExceeded")
    (home.path / "waits").write_text("for a mount that may write")
    home.run("umount", home.path, "--no-wait")
    drive.admin.clear_faults(fault)
    drive.admin.put_file("models/a", b"theirs", account=ANNE)
    assert "'drivefs mount --read-only FOLDER'" in home.login("--scope", "readonly")
    before = len(drive.admin.requests())
    home.run("mount", home.path, "--read-only")
    assert (home.path / "models" / "a").read_bytes() == b"theirs"
    with fails_with(errno.EROFS):
        (home.path / "new").touch()
    with fails_with(errno.EROFS):
        os.setxattr(home.path / "models" / "a", "user.drivefs.starred", b"1")
    assert "The mount is read-only; left in its cache" in home.run("flush", code=1)
    home.run("refresh", home.path)
    assert "left in" in home.run("umount", home.path)
    asked = drive.admin.requests()[before:]
    assert asked and not [each for each in asked if each["status"] in (401, 403)]
    assert {each["verb"] for each in asked if not each["method"].startswith("oauth")} == {"GET"}
    home.login("--scope", "full")
    home.run("mount", home.path)
    home.run("flush")
    assert drive.admin.read_file("waits", account=ANNE) == b"for a mount that may write"


def test_two_accounts_are_mounted_side_by_side(home: Home, drive: Drive) -> None:
    home.login()
    home.login("work", as_=BEN)
    second = home.path.with_name("second")
    home.run("mount", home.path)
    home.run("mount", second, "--account", "work")
    try:
        (home.path / "anne's").write_text("hers")
        (second / "ben's").write_text("his")
        home.run("flush")
        assert drive.admin.read_file("anne's", account=ANNE) == b"hers"
        assert drive.admin.read_file("ben's", account=BEN) == b"his"
        assert "anne's" in os.listdir(home.path) and "ben's" not in os.listdir(home.path)
        assert os.listdir(second) == ["ben's"]
        caches = {home.status(path)["cache_dir"] for path in (home.path, second)}
        assert len(caches) == 2
        accounts = json.loads(home.run("auth", "status", "--json"))["accounts"]
        assert [(each["email"], each["mountpoints"]) for each in accounts] == [
            (ANNE, [str(home.path)]),
            (BEN, [str(second)]),
        ]
    finally:
        home.run("umount", second)


def test_sign_in_that_ends_while_mounted_costs_nothing_and_shows_no_secret(home: Home, drive: Drive) -> None:
    home.login()
    home.run("mount", home.path)
    (home.path / "model").write_bytes(b"first" * 1000)
    home.run("flush", home.path)
    known = set(secrets_of(drive))
    drive.admin.expire_tokens()
    home.run("refresh", home.path)
    known |= set(secrets_of(drive))
    pid = home.status(home.path)["pid"]

    drive.admin.revoke_tokens()
    (home.path / "model").write_bytes(b"second" * 1000)
    (home.path / "folder").mkdir()
    told = home.run("flush", home.path, code=4)
    assert "invalid_grant" in told and "run 'drivefs auth login'" in told and "waits safely" in told
    assert (home.path / "model").read_bytes() == b"second" * 1000
    state = home.status(home.path)
    assert "run 'drivefs auth login'" in state["pause"]["reason"]
    assert state["queue"]["files"] >= 1
    assert "run 'drivefs auth login'" in home.run("status", home.path)
    assert "stays mounted" in home.run("umount", home.path, code=4)
    assert "run 'drivefs auth login'" in home.run("auth", "status", code=4)
    assert drive.admin.read_file("model", account=ANNE) == b"first" * 1000

    assert f"{home.path} goes on" in home.login()
    home.run("flush", home.path, "--timeout", "50")
    assert drive.admin.read_file("model", account=ANNE) == b"second" * 1000
    assert home.status(home.path)["pid"] == pid
    home.look()
    known |= set(secrets_of(drive))
    home.run("umount", home.path)
    home.run("auth", "logout")

    assert len(known) >= 5
    logs = [log.read_bytes() for log in home.home.rglob("*.log*")]
    assert logs and home.arguments
    shown = b"\0".join([*logs, *home.arguments, home.said.encode()])
    assert not [secret for secret in known if secret.encode() in shown]
    left = [file for file in home.home.rglob("*") if file.is_file() and file != home.client]
    assert left
    tokens = [secret for secret in known if not secret.startswith("GOCSPX")]
    assert not [file for file in left for token in tokens if token.encode() in file.read_bytes()]


# --- two users ---


@dataclass(frozen=True, slots=True)
class User:
    """An ordinary user of this machine, made for a test."""

    name: str
    uid: int
    gid: int


@pytest.fixture
def users() -> Iterator[list[User]]:
    if os.geteuid() != 0:
        pytest.skip("only root can make users")
    if shutil.which("useradd") is None or shutil.which("nsenter") is None:
        pytest.skip("useradd and nsenter are not installed")
    with ExitStack() as stack:
        made = []
        for _ in range(2):
            name = f"drivefs-test-{secrets.token_hex(3)}"
            subprocess.run(["useradd", "--no-create-home", "--user-group", name], check=True, capture_output=True)
            stack.callback(subprocess.run, ["userdel", name], check=True, capture_output=True)
            entry = pwd.getpwnam(name)
            made.append(User(name, entry.pw_uid, entry.pw_gid))
        yield made


@pytest.fixture
def machine() -> Iterator[tuple[str, ...]]:
    """A command that runs others in a mount namespace in which /dev/fuse is open to all, as on most machines."""
    script = (
        "set -e; made=$(mktemp -d); mount -t tmpfs -o dev none $made; mknod -m 666 $made/fuse c 10 229; "
        "mount --bind $made/fuse /dev/fuse; umount -l $made; rmdir $made; echo ready; exec sleep infinity"
    )
    with subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", script], stdout=subprocess.PIPE, text=True
    ) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "ready\n"
            yield ("nsenter", "--mount", "--target", str(holder.pid))
        finally:
            holder.kill()


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users can reach, which those of pytest are not."""
    with tempfile.TemporaryDirectory(prefix="drivefs-", dir="/tmp", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        yield Path(name)


def _python(user: tuple[str, ...], environment: dict[str, str]) -> str:
    """An interpreter that ordinary users can run with what is installed here."""
    # setpriv(1) starts the first one with more rights than the user has; a mount starts others.
    script = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import drivefs.app'], check=True)"
    for program in (sys.executable, "/usr/bin/python3"):
        done = subprocess.run(
            [*user, program, "-c", script], env=environment, cwd="/", capture_output=True, check=False
        )
        if done.returncode == 0:
            return program
    pytest.skip("no Python here can be run by other users than root")


_LOOK_AROUND = """
import os, socket, sys
seen = []
for top in sys.argv[1:]:
    for folder, folders, files in os.walk(top):
        for name in files + folders:
            path = os.path.join(folder, name)
            try:
                if os.path.isdir(path):
                    continue
                with open(path, "rb") as file:
                    file.read(1)
                seen.append(path)
            except OSError:
                pass
for path in sys.argv[1:]:
    if path.startswith("/proc/"):
        continue
    try:
        os.listdir(path + "/../mnt")
        seen.append(path + "/../mnt")
    except PermissionError:
        pass
print("\\n".join(seen))
"""


def _output(command: list[str]) -> str:
    done = subprocess.run(command, cwd="/", timeout=LIMIT_S, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_two_users_cannot_read_each_others_anything(
    users: list[User], machine: tuple[str, ...], open_folder: Path, drive: Drive
) -> None:
    homes: list[Home] = []
    commands = []
    try:
        for user, email in zip(users, (ANNE, BEN), strict=True):
            ids = ("--reuid", str(user.uid), "--regid", str(user.gid), "--clear-groups", "--inh-caps=-all")
            command = (*machine, "setpriv", *ids)
            folder = open_folder / user.name
            home = Home(drive, folder)
            homes.append(home)
            commands.append(command)
            home.environment["PYTHONPATH"] = os.pathsep.join(path or os.getcwd() for path in sys.path)
            home.environment["PATH"] = "/usr/bin:/bin:/usr/sbin:/sbin"
            home.before = (*command, _python(command, home.environment))
            for path in (folder, *folder.rglob("*")):
                os.chown(path, user.uid, user.gid)
            home.login(as_=email)
            home.run("mount", home.path)
            write = f"umask 022; echo {email} >'{home.path}/{user.name}'; cat '{home.path}/{user.name}'"
            subprocess.run([*command, "sh", "-c", write], check=True, cwd="/", timeout=LIMIT_S, capture_output=True)
            home.run("flush")
        for user, email in zip(users, (ANNE, BEN), strict=True):
            assert drive.admin.read_file(user.name, account=email) == f"{email}\n".encode()

        for me, other in ((0, 1), (1, 0)):
            processes = [f"/proc/{pid}" for pid in homes[other].mounted.processes()]
            assert len(processes) >= 2
            assert any(path.name == "default.json" for path in homes[other].home.rglob("*.json"))
            secret = [
                *([homes[other].before[-1], "-c", _LOOK_AROUND, str(homes[other].home)]),
                *(f"{path}/{part}" for path in processes for part in ("fd", "map_files")),
            ]
            seen = _output([*commands[me], *secret])
            assert seen == ""
            own = _output([*commands[other], *secret[:4]])  # they are there to be seen by who may
            assert "accounts/default.json" in own and "drivefs.db" in own and "/mnt" in own and ".log" in own
            for path in processes:
                done = subprocess.run(
                    [*commands[me], "cat", f"{path}/environ", f"{path}/mem"],
                    cwd="/",
                    capture_output=True,
                    check=False,
                )
                assert (done.returncode, done.stdout) == (1, b"")
            assert "is not in a mount" in homes[me].run("flush", homes[other].path, code=1)
            homes[me].look()
            known = secrets_of(drive)
            assert not [each for each in known for shown in homes[me].arguments if each.encode() in shown]
        for home in homes:
            home.run("umount", home.path)
    finally:
        for home in homes:
            home.dispose()
    assert find_mount_at(homes[0].path) is None
