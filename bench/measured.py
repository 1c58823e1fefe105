"""What a case is, and what it gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from bench.systems import System
from drivefs.emulator.client import Running

MiB = 1 << 20


@dataclass
class Measured:
    """One run of one case on one system."""

    figures: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """`prepare` fills Drive once, before the first system is mounted; `work` is measured on each."""

    work: Callable[[System, Running], Measured]
    prepare: Callable[[Running], None] | None = None
    on_disk: bool = True
    """Whether the bare disk can do the same."""
    asked_for: bool = False
    """It takes long: only when --only names it."""
