"""What programs do with many files at once: a clone, an installation, an archive unpacked. To the program's end; what
it made is compared with its source."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

from bench.measured import Case, Limit, Measured, Network
from bench.systems import System
from bench.verified import contents, until_durable
from drivefs.emulator.client import Running

FOLDER_FILES = 20
_WITHIN_S = 120.0


def _run(*command: str | Path) -> str:
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    done = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True, env=environment)
    return done.stdout


def _sources(folder: Path, count: int) -> Path:
    """A tree of `count` modules of some 4 KB."""
    for number in range(count):
        path = folder / f"package{number // FOLDER_FILES:03}" / f"module{number:05}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"VALUE_{line} = {number * line}\n" for line in range(200)))
    return folder


def _repository(work: Path, count: int) -> Path:
    sources = _sources(work / "repository", count)
    git = ("git", "-C", sources, "-c", "user.name=bench", "-c", "user.email=bench@localhost")
    _run(*git, "init", "-q")
    _run(*git, "add", "-A")
    _run(*git, "commit", "-q", "-m", "all")
    return sources


def _archive(work: Path, count: int) -> Path:
    sources = _sources(work / "sources", count)
    with tarfile.open(work / "sources.tar", "w") as archive:
        archive.add(sources, "unpacked")
    return work / "sources.tar"


def _wheel(work: Path, count: int) -> Path:
    sources = _sources(work / "sources", count)
    wheel = work / "benchpackage-1.0-py3-none-any.whl"
    info = "benchpackage-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path in sorted(sources.rglob("*.py")):
            archive.write(path, f"benchpackage/{path.relative_to(sources)}")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: benchpackage\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: bench\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return wheel


def _timed(system: System, emulator: Running, made: str, *command: str | Path) -> Measured:
    """To the end of the command, and until Drive has what the mount shows in the folder `made`."""
    began = time.perf_counter()
    _run(*command)
    found = {"seconds": time.perf_counter() - began}
    if system.pid is not None:
        until_durable(emulator, contents(system.folder, made))
        found["durable_s"] = time.perf_counter() - began
    return Measured(found)


def _work_beside(system: System) -> Path:
    work = system.folder.parent / "material"
    work.mkdir()
    return work


def clone(count: int) -> Callable[[System, Running], Measured]:
    def work(system: System, emulator: Running) -> Measured:
        source, target = _repository(_work_beside(system), count), system.folder / "clone"
        found = _timed(system, emulator, "clone", "git", "clone", "-q", "--no-local", source, target)
        assert _run("git", "-C", target, "status", "--porcelain") == "", "the clone differs"
        assert len(_run("git", "-C", target, "ls-files").splitlines()) == count, "files are missing"
        return found

    return work


def unpack(count: int) -> Callable[[System, Running], Measured]:
    def work(system: System, emulator: Running) -> Measured:
        archive = _archive(_work_beside(system), count)
        found = _timed(system, emulator, "unpacked", "tar", "--no-same-owner", "-xf", archive, "-C", system.folder)
        _run("diff", "-r", archive.parent / "sources", system.folder / "unpacked")
        return found

    return work


def install(count: int) -> Callable[[System, Running], Measured]:
    def work(system: System, emulator: Running) -> Measured:
        wheel, target = _wheel(_work_beside(system), count), system.folder / "site"
        pip = (sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--target", target, wheel)
        found = _timed(system, emulator, "site", *pip)
        _run("diff", "-r", "-x", "__pycache__", wheel.parent / "sources", target / "benchpackage")
        return found

    return work


def cases(quick: bool) -> dict[str, Case]:
    count, modules = (200, 100) if quick else (2_000, 1_000)

    def limit(network: Network) -> Limit:
        return Limit({"durable_s": network.requests_s(count)}, "the disk; a request for each file until Drive has it")

    def limit_of_modules(network: Network) -> Limit:
        files = 2 * modules  # pip compiles each
        return Limit({"durable_s": network.requests_s(files)}, "the disk; a request for each file until Drive has it")

    return {
        f"git clone of {count} files": Case(clone(count), "seconds", limit=limit, within_s=_WITHIN_S),
        f"tar x of {count} files": Case(unpack(count), "seconds", limit=limit, within_s=_WITHIN_S),
        f"pip install --target of {modules} modules": Case(
            install(modules), "seconds", limit=limit_of_modules, within_s=_WITHIN_S
        ),
    }
