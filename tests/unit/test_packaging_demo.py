"""packaging/demo on machines where something is missing, played by stand-ins for apt-get, sudo and Python."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

TOOLS = ("sh", "dirname", "cksum", "cat", "id", "grep", "env")
PACKAGING = Path(__file__).parents[2] / "packaging"


class Machine:
    """A checkout, and a PATH that holds nothing but what a test puts there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "bin"
        self.path.mkdir()
        self.log = folder / "log"
        self.log.touch()
        for tool in TOOLS:
            found = shutil.which(tool)
            assert found is not None
            (self.path / tool).symlink_to(found)
        (folder / "packaging").mkdir()
        for name in ("demo", "setup.sh"):
            shutil.copy(PACKAGING / name, folder / "packaging" / name)
        (folder / "pyproject.toml").write_text("[project]\n")

    def install(self, name: str, script: str = "exit 0", folder: Path | None = None) -> None:
        """A command that notes how it is called and then does what `script` says."""
        path = (folder or self.path) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'#!/bin/sh\necho "{name} $*" >>{self.log}\n{script}\n')
        path.chmod(0o755)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.folder / "packaging" / "demo", *arguments],
            env={"PATH": str(self.path)},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def calls(self) -> list[str]:
        return self.log.read_text().splitlines()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def add_fuse(machine: Machine) -> None:
    machine.install("fusermount3")
    machine.install("ldconfig", "echo libfuse3.so.3")


def assert_refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 1
    assert last.startswith("packaging/demo: ")
    for word in words:
        assert word in last


def test_demo_touches_nothing_when_all_is_there(machine: Machine) -> None:
    add_fuse(machine)
    machine.install("apt-get", "exit 1")
    machine.install("drivefs", folder=machine.folder / ".venv" / "bin")
    checksum = subprocess.run(["cksum"], input=b"[project]\n", capture_output=True, check=True).stdout
    (machine.folder / ".venv" / "installed").write_bytes(checksum)
    assert machine.run("--size", "1M").returncode == 0
    assert [call for call in machine.calls() if call[:4] != "ldco"] == ["drivefs --version", "drivefs demo --size 1M"]


def test_demo_on_another_system_says_what_to_install(machine: Machine) -> None:
    assert_refused(machine.run(), "no Debian or Ubuntu", "fuse3")


@pytest.mark.skipif(os.geteuid() != 0, reason="as root it needs no sudo")
def test_demo_says_when_apt_cannot(machine: Machine) -> None:
    machine.install("apt-get", "exit 1")
    assert_refused(machine.run(), "fuse3")
    assert [call.split()[2] for call in machine.calls()] == ["-y", "update"]


@pytest.mark.skipif(os.geteuid() != 0, reason="as root it needs no sudo")
def test_demo_refreshes_stale_package_lists_once(machine: Machine) -> None:
    lists = machine.folder / "lists"
    machine.install("apt-get", f"case $2 in update) >{lists} ;; esac\n[ -e {lists} ]")
    assert_refused(machine.run(), "Python 3.11 or newer")
    installs = [call.split()[-1] for call in machine.calls()]
    assert installs == ["fuse3", "update", "fuse3", "python3", "python3.11"]


@pytest.mark.skipif(os.geteuid() != 0, reason="as root it needs no sudo")
def test_demo_installs_venv_for_the_python_that_is_new_enough(machine: Machine) -> None:
    add_fuse(machine)
    machine.install("apt-get")
    machine.install("python3", "exit 1")
    machine.install("python3.12", 'case "$2" in *ensurepip*) exit 1 ;; *print*) echo 3.12 ;; venv) exit 1 ;; esac')
    assert_refused(machine.run(), "virtual environment")
    assert [call.split()[-1] for call in machine.calls() if call[:4] == "apt-"] == ["python3.12-venv"]
