"""What a case is, and what it gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from bench.systems import System
from drivefs.emulator.client import Running
from drivefs.emulator.options import UNITS_PER_MINUTE

MiB = 1 << 20
CONNECTIONS = 64
"""Requests that a client of Drive has under way at most: what drivefs opens; rclone's best flags come to as many."""


@dataclass(frozen=True)
class Network:
    """What lies between a system and its Drive."""

    latency_s: float = 0.08
    """A request's, besides its bytes."""
    bandwidth_bytes_s: float = 40e6
    """Of one connection."""
    shared_bandwidth_bytes_s: float | None = None
    """Of all connections together; None: no limit."""
    quota_units_per_minute: int = UNITS_PER_MINUTE
    """Of one user."""

    def transfer_s(self, size_bytes: float, connections: int = 1) -> float:
        """How long bytes take at least."""
        rate = self.bandwidth_bytes_s * connections
        return size_bytes / min(rate, self.shared_bandwidth_bytes_s or rate)

    def units_s(self, units: float) -> float:
        """How long the quota makes one wait, who begins with a minute's units (drive-api: Quota)."""
        a_minute = self.quota_units_per_minute
        return max(0.0, units - a_minute) / a_minute * 60

    def requests_s(self, count: float, at_once: int = CONNECTIONS) -> float:
        """How long small requests take at least, `at_once` of them under way."""
        return count / at_once * self.latency_s


@dataclass
class Measured:
    """One run of one case on one system. A figure's name ends with its unit."""

    figures: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Limit:
    """What no system can beat, by figure, and why."""

    figures: Mapping[str, float]
    why: str


@dataclass(frozen=True)
class Case:
    """`prepare` fills Drive once, before the first system is mounted; `work` is measured on each."""

    work: Callable[[System, Running], Measured]
    main: str
    """The figure that stands for the case in a summary; less is better."""
    prepare: Callable[[Running], None] | None = None
    on_disk: bool = True
    """Whether the bare disk can do the same."""
    asked_for: bool = False
    """It takes long: only when --only names it."""
    limit: Callable[[Network], Limit] | None = None
    network: Network | None = None
    """None: what the run was told."""
    within_s: float = 180.0
    """All of `work`: a system that has not done it by then has not done it."""
    systems: Sequence[str] | None = None
    """Those that can do it, where they are others than a mount."""
    usual_s: float = 60.0
    """What a run takes of which nothing is known yet, on a slow system."""


@dataclass(frozen=True)
class Series:
    """One case at several sizes, to see how its cost grows."""

    title: str
    x_name: str
    cases: Mapping[float, Case]
