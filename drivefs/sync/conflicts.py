"""Two contents of one file, one from here and one from elsewhere: both are kept (design, promise 7).

Drive's API has no If-Match, so a content that is about to replace another looks at what it replaces, before and, when
the upload took its time, after. Each function is one transaction; the copy is a new file beside the other, and waits
for Drive like any.
"""

from __future__ import annotations

import logging
import socket
import time
from pathlib import PurePosixPath

from drivefs.model import Inode, Kind, RemoteFile, Revision
from drivefs.store.generations import Base, State
from drivefs.store.node import Node
from drivefs.store.store import Store
from drivefs.sync.mirror import Mirror
from drivefs.sync.names import NAME_LIMIT_BYTES

log = logging.getLogger(__name__)


def set_aside(store: Store, mirror: Mirror, node: Node, remote: RemoteFile) -> None:
    """Somebody changed the file on Drive since the content here began: that keeps the name and the ID, and what is
    here becomes a new file beside it."""
    with store.db.transaction():
        current = store.nodes.get(node.inode)
        if current.frozen:
            store.journal.give_up(current)  # what has its name by now finds the same
            return
        if current.parent is None:
            return  # removed meanwhile: there is no version here to keep
        name = _copy_name(store, current)
        store.journal.lost_on_drive(store.nodes.update(node.inode, name=name))
        mirror.take(remote)
    log.warning("%s was changed on Drive too: the version of here is now %s.", remote.name, name)


def keep_beneath(store: Store, node: Node, remote: RemoteFile, beneath: Revision) -> None:
    """Somebody's content came between our look and our upload, and lies beneath ours now: it becomes a new file."""
    with store.db.transaction():
        current = store.nodes.get(node.inode)
        if current.parent is None:
            return
        now_ns = time.time_ns()
        copy = store.nodes.add(
            parent=current.parent,
            name=_copy_name(store, current),
            kind=Kind.FILE,
            mode=current.mode,
            size_bytes=beneath.size_bytes,
            mtime_ns=beneath.modified_ns,
            ctime_ns=now_ns,
            ours=True,
        )
        file = store.content.create_clean(copy.inode, beneath.size_bytes, Base(remote.id, beneath.id))
        store.content.mark(file.generation, State.SEALED)
        copy = store.nodes.update(copy.inode, generation=file.generation)
        store.journal.adopted(copy, file.generation)
    file.close()
    log.warning("%s was changed on Drive during its upload: that version is now %s.", remote.name, copy.name)


def _copy_name(store: Store, node: Node) -> str:
    """`name (conflict HOST DATE).ext`, free in the node's folder and within 255 bytes."""
    parent, name = node.parent or Inode(0), node.name or ""
    host = socket.gethostname().partition(".")[0].replace("/", "-")
    mark = f" (conflict {host} {time.strftime('%Y-%m-%d %H.%M.%S')}"
    suffix = PurePosixPath(name).suffix
    stem = name.removesuffix(suffix)
    for number in range(1, 1_000):
        end = f"{mark}{f' {number}' if number > 1 else ''}){suffix}"
        room = NAME_LIMIT_BYTES - len(end.encode(errors="surrogateescape"))
        found = stem.encode(errors="surrogateescape")[: max(0, room)].decode(errors="ignore") + end
        if store.nodes.find_child(parent, found) is None:
            return found
    raise AssertionError("a thousand conflicts of one name in one second")
