"""The handles that are open, by number; what must be known of them after the process's death is noted at once.

Any thread may enter. What changes of a handle is guarded by its OpenFile's lock.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from drivefs.errors import BadHandle
from drivefs.model import RequestId
from drivefs.vfs.handle_memory import HandleMemory, HandleRecord, HandleState
from drivefs.vfs.opened import OpenFile


@dataclass(slots=True, eq=False)
class Handle:
    """One open(2) of a file. Its state changes through Handles."""

    number: int
    opened: OpenFile
    flags: int
    place: int
    state: HandleState
    request: int = 0
    """Number of the request that opened it; 0: nobody sends that again."""
    backing: int = 0
    """The kernel's number for the content file; 0: it has none."""

    @property
    def readable(self) -> bool:
        return self.flags & os.O_ACCMODE != os.O_WRONLY

    @property
    def writable(self) -> bool:
        return self.flags & os.O_ACCMODE != os.O_RDONLY

    @property
    def append(self) -> bool:
        return bool(self.flags & os.O_APPEND)

    @property
    def closed(self) -> bool:
        """Whether it was closed since it last wrote."""
        return bool(self.state & HandleState.CLOSED)

    @property
    def direct(self) -> bool:
        """Whether the kernel reads and writes the content file itself."""
        return bool(self.state & HandleState.DIRECT)


class Handles:
    """The open handles of one mount."""

    def __init__(self, memory: HandleMemory) -> None:
        self._memory = memory
        self._table: dict[int, Handle] = {}  # single operations of a dict only
        self._opened_by: dict[int, Handle] = {}  # of the process before, by request; likewise

    def get(self, number: int) -> Handle:
        """Raises BadHandle."""
        try:
            return self._table[number]
        except KeyError as error:
            raise BadHandle("The handle is closed.") from error

    def all(self) -> list[Handle]:
        return list(self._table.values())

    def add(self, opened: OpenFile, flags: int, request: RequestId | None, *, direct: bool) -> Handle:
        state = HandleState.USED | HandleState.DIRECT if direct else HandleState.USED
        number_of_request = 0 if request is None else request.number
        place, number = self._memory.add(opened.inode, number_of_request, flags, state)
        handle = self._table[number] = Handle(number, opened, flags, place, state, number_of_request)
        return handle

    def restore(self, opened: OpenFile, record: HandleRecord) -> Handle:
        """A handle of the process before."""
        handle = Handle(
            record.number, opened, record.flags, record.place, record.state, record.request, record.backing
        )
        self._table[handle.number] = handle
        if handle.request:
            self._opened_by[handle.request] = handle
        return handle

    def find_opened_by(self, request: int) -> Handle | None:
        """The handle that the process before opened for a request which the kernel sends again."""
        return self._opened_by.get(request)

    def remove(self, handle: Handle) -> None:
        del self._table[handle.number]
        self._opened_by.pop(handle.request, None)
        self._memory.remove(handle.place)

    def set_closed(self, handle: Handle, closed: bool) -> None:
        self._set(handle, HandleState.CLOSED, closed)

    def set_indirect(self, handle: Handle) -> None:
        self._set(handle, HandleState.DIRECT, False)

    def _set(self, handle: Handle, bit: HandleState, on: bool) -> None:
        handle.state = handle.state | bit if on else handle.state & ~bit
        self._memory.set_state(handle.place, handle.state)

    def set_backing(self, handle: Handle, backing: int) -> None:
        handle.backing = backing
        self._memory.set_backing(handle.place, backing)
