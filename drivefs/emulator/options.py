"""What an emulator is started with. Frozen; the network, quota and faults can be changed at run time by `Admin`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

DEFAULT_ACCOUNT = "user@example.com"
DEFAULT_STORAGE_BYTES = 2 << 40
UNITS_PER_MINUTE = 325_000
"""Quota units of one user a minute (drive-api: Quota)."""


@dataclass(frozen=True, slots=True)
class Options:
    """`None` means no limit, or not asked for; a port of 0 lets the kernel choose."""

    directory: Path | None = None
    """Where state is kept between runs; None takes a temporary folder that is removed at the end."""
    port: int = 0
    proxy_port: int | None = None
    """Port of the HTTPS proxy; None starts none."""
    accounts: tuple[str, ...] = (DEFAULT_ACCOUNT,)
    """E-mail addresses, each with a Drive and a credentials file of its own; the first is the default one."""
    latency_s: float = 0.0
    """Added to each request, before the first byte of its reply."""
    bandwidth_bytes_s: float | None = None
    """Of each connection, in each direction."""
    shared_bandwidth_bytes_s: float | None = None
    """Of all connections together, in each direction."""
    quota_units_per_minute: int = UNITS_PER_MINUTE
    creates_per_s: float | None = None
    """Sustained creates and updates of one user; more are answered with `userRateLimitExceeded`."""
    storage_bytes: int | None = DEFAULT_STORAGE_BYTES
    """Of each user; what lies in the trash counts."""
    token_lifetime_s: float = 3599.0
    refresh_token_lifetime_s: float | None = None
    """Of a refresh token that somebody consents to from now on; Google gives an app in Testing 7 days."""
    simple_upload_limit_bytes: int = 5 << 40
    """Largest body of a `media` or `multipart` upload. Google's documentation says 5 MB, its server takes what
    the discovery document allows (rclone sends up to 8 MiB that way); 5_000_000 holds a client to the former."""
    revisions_kept: int = 100
    """Contents of one file that are kept besides those kept forever; Google keeps 100, or 30 days."""
