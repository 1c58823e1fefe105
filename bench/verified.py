"""The bytes of a case, on both sides: a fast wrong answer fails."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from bench.systems import wait_until
from drivefs.emulator.client import Running

_READ_BYTES = 1 << 20


def md5_of(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def md5_of_file(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb", buffering=0) as file:
        while data := file.read(_READ_BYTES):
            digest.update(data)
    return digest.hexdigest()


def on_drive(emulator: Running) -> dict[str, str | None]:
    """Path below My Drive: md5, or None where there are no bytes."""
    return {item["path"]: item.get("md5Checksum") for item in emulator.admin.tree()}


def until_durable(emulator: Running, wanted: Mapping[str, str], size_bytes: int = 0) -> None:
    """Wait until Drive holds exactly these contents; there are `size_bytes` in them, or more."""
    # The counters cost next to nothing to ask for; the tree costs the emulator time.
    wait_until(lambda: emulator.admin.counters()["bytes_in"] >= size_bytes)

    def complete() -> bool:
        held = on_drive(emulator)
        return all(held.get(path) == md5 for path, md5 in wanted.items())

    wait_until(complete)


def check_here(folder: Path, wanted: Mapping[str, str]) -> None:
    """The mount shows these contents."""
    for path, md5 in wanted.items():
        assert md5_of_file(folder / path) == md5, f"wrong bytes in {path}"


def contents(folder: Path, below: str) -> dict[str, str]:
    """Path from `folder`: md5, of all files at and below one of its entries."""
    found = sorted(path for path in (folder / below).rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): md5_of_file(path) for path in found}
