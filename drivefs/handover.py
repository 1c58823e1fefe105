"""What of a mount outlives its process, and how it gets from one process to the next. Entered by one thread."""

from __future__ import annotations

from drivefs.supervisor import Link
from drivefs.vfs.handle_memory import HandleMemory


class Handover:
    """What of a mount is in the supervisor's hands: the kernel's end of it, and which handles the kernel holds."""

    def __init__(self, supervisor: Link | None) -> None:
        self._supervisor = supervisor
        self._fuse: tuple[int, str] | None = None
        if supervisor is not None and supervisor.kept[0]:
            (fuse, memory), agreed = supervisor.kept
            self._fuse = fuse, agreed
            self.handles = HandleMemory(memory)
        else:
            self.handles = HandleMemory()

    def kept(self) -> tuple[int, str] | None:
        """As `kernel.Keeper` says."""
        return self._fuse

    def keep(self, fd: int, agreed: str) -> None:
        """As `kernel.Keeper` says."""
        if self._supervisor is not None:
            self._supervisor.keep([fd, self.handles.fd], agreed)
