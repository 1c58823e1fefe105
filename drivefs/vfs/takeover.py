"""The open files of a process that has died, in the hands of the next one: the kernel goes on using them.

Entered by one thread, after `Store.recover` and before the kernel is answered.
"""

from __future__ import annotations

import logging

from drivefs.errors import NoEntry, StoreError
from drivefs.model import Generation, Inode
from drivefs.store.content_file import ContentFile
from drivefs.store.store import Store
from drivefs.vfs.appends import Appends
from drivefs.vfs.handle_memory import HandleMemory
from drivefs.vfs.handles import Handles
from drivefs.vfs.opened import OpenFile, OpenFiles
from drivefs.vfs.writeback import WriteBack

log = logging.getLogger(__name__)


def take_over(
    store: Store,
    memory: HandleMemory,
    handles: Handles,
    table: OpenFiles,
    appends: Appends,
    writeback: WriteBack,
) -> None:
    """Open again what was open, and seal what nobody writes any more."""
    files: dict[Inode, OpenFile] = {}
    for record in memory.found:
        try:
            opened = files[record.inode] = table.acquire(record.inode)
        except NoEntry:
            log.error("Inode %d is open, and gone: who has it open gets errors", record.inode)
            memory.remove(record.place)
            continue
        handle = handles.restore(opened, record)
        with opened.lock:
            file = _content(store, table, opened)
            if handle.direct:
                opened.direct += 1
                if handle.writable and file is not None:
                    store.content.add_direct_writer(file)
            else:
                opened.indirect += 1
            if handle.writable and not handle.closed:
                opened.busy += 1
    appends.take_over(files)
    for opened in files.values():
        with opened.lock:
            writeback.settle(opened)


def _content(store: Store, table: OpenFiles, opened: OpenFile) -> ContentFile | None:
    """What those read and write who have a file open; None while nobody has needed it."""
    if opened.file is not None:
        return opened.file
    left: Generation | None = store.left.get(opened.inode)
    try:
        if left is not None:
            opened.file = store.content.open(left)
        elif store.nodes.get(opened.inode).generation is not None:
            table.load(opened)
    except StoreError as error:
        log.error("Who has inode %d open gets errors: %s", opened.inode, error)
    return opened.file
