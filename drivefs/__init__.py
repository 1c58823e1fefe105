"""Google Drive as a filesystem with a local write-back cache.

In a notebook: `import drivefs; drivefs.mount("/content/drive")`, then `flush()`, `status()`, `unmount()`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from drivefs.notebook import flush, mount, status, unmount

__all__ = ["flush", "mount", "status", "unmount"]


def __getattr__(name: str) -> Any:
    # Late: the command and the mount's own processes import this package without them.
    if name in __all__:
        from drivefs import notebook  # noqa: PLC0415

        return getattr(notebook, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
