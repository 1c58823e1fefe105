"""The rooms of the house: imports run downward only, without circles, and threads begin in one place.

Read from the source, so that an import inside of a function counts too.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "drivefs"

LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"__main__", ""}),  # "": the package itself, which gives out what notebook has
    frozenset({"notebook"}),
    frozenset({"cli", "daemon"}),
    frozenset({"app"}),
    frozenset({"answers", "first_contact", "handover"}),
    frozenset({"why"}),
    frozenset({"mounts"}),
    frozenset({"control", "config", "records"}),
    frozenset({"fuse"}),
    frozenset({"vfs", "remote"}),
    frozenset({"sync", "signin"}),
    frozenset({"drive", "store"}),
    frozenset({"model", "paging"}),
    frozenset({"errors", "supervisor"}),
)
"""From the top down; what stands beside another in one row does not know it."""

FORBIDDEN = frozenset(
    {
        *(("vfs", each) for each in ("drive", "signin")),
        *(("fuse", each) for each in ("sync", "signin", "drive", "store")),
        ("signin", "store"),
    }
)
"""Downward, and still not allowed."""

SEAMS = {("sync", "drive"): frozenset({"drivefs.drive.api"})}
"""Where a room may be entered by some of its modules only."""

THREAD_CALLS = frozenset(
    {"Thread", "Timer", "ThreadPoolExecutor", "ProcessPoolExecutor", "Process", "start_new_thread"}
)
MAY_START_THREADS = frozenset({"app", "cli"})


def module_name(file: Path) -> str:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


MODULES = {module_name(file): ast.parse(file.read_text(), str(file)) for file in sorted(PACKAGE.rglob("*.py"))}


def imports(module: str, *, deferred: bool = True) -> Iterator[tuple[str, int]]:
    """(module of drivefs, line); `deferred` counts those inside of functions too."""
    nodes = ast.walk(MODULES[module]) if deferred else iter(MODULES[module].body)
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "drivefs":
                    yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: relative imports hide where they lead"
            if node.module is not None and node.module.split(".")[0] == "drivefs":
                for alias in node.names:
                    whole = f"{node.module}.{alias.name}"
                    yield (whole if whole in MODULES else node.module), node.lineno


def level(name: str) -> int:
    (found,) = [number for number, rooms in enumerate(LAYERS) if name in rooms]
    return found


def complaint(importer: str, imported: str) -> str | None:
    above, below = room(importer), room(imported)
    if above == below or not below:
        return None
    if "emulator" in (above, below):
        # The emulator is a program of its own; only the command may start it.
        return None if (above, below) == ("cli", "emulator") else "the emulator stands alone"
    if (above, below) in FORBIDDEN:
        return f"{above} does not know {below}"
    if level(above) >= level(below):
        return f"{below} is not below {above}"
    seam = SEAMS.get((above, below))
    if seam is not None and imported not in seam:
        return f"{above} enters {below} by {', '.join(sorted(seam))} only"
    return None


def test_layers_imports_run_downward_only() -> None:
    wrong = [
        f"{module}:{line} imports {imported}: {reason}"
        for module in MODULES
        for imported, line in imports(module)
        if (reason := complaint(module, imported)) is not None
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("drivefs.store.db", "drivefs.drive.api"),
        ("drivefs.drive.http", "drivefs.store.db"),
        ("drivefs.vfs.tree", "drivefs.drive.api"),
        ("drivefs.sync.mirror", "drivefs.drive.google"),
        ("drivefs.errors", "drivefs.model"),
        ("drivefs.fuse.libfuse", "drivefs.app"),
        ("drivefs.emulator.tree", "drivefs.model"),
        ("drivefs.app", "drivefs.emulator.tree"),
    ],
)
def test_layers_test_would_see_it(importer: str, imported: str) -> None:
    assert complaint(importer, imported) is not None


def test_layers_have_no_circles() -> None:
    graph = {module: {target for target, _ in imports(module, deferred=False)} for module in MODULES}
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " → ".join([*path[path.index(module) :], module])
        if module not in done:
            for target in graph.get(module, ()):
                visit(target, (*path, module))
            done.add(module)

    for module in MODULES:
        visit(module, ())


def test_layers_start_threads_in_one_place() -> None:
    wrong = [
        f"{module}:{node.lineno} calls {name}"
        for module, tree in MODULES.items()
        if room(module) not in MAY_START_THREADS | {"emulator"}
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and (name := getattr(node.func, "attr", getattr(node.func, "id", ""))) in THREAD_CALLS
    ]
    assert wrong == []
