"""How a mount is made."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MountOptions:
    """What the person may choose of a mount. The process stays in the foreground: who calls has it detached."""

    allow_other: bool = False
    read_only: bool = False
    fsname: str = "drivefs"
    """Shown as the source in the table of mounts."""
    passthrough: bool = True
    """Whether the kernel may read and write local files itself; libfuse cannot."""
    extra: tuple[str, ...] = ()
    """Further options, each `name` or `name=value`."""
