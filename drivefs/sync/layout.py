"""What a mount shows at its top: My Drive itself, or places as Colab's own mount has them.

    flat    the root is My Drive, or the folder that was chosen
    colab   MyDrive, with the older spelling `My Drive` as a symlink to it, Shareddrives, and `Shared with me`

Both have Drive's trash as `.Trash` at the top (sync.trash_view), where a desktop has its own as `.Trash-UID`.

Places are nodes that Drive does not have, or has without a name for them: nobody may move, remove or fill them.
"""

from __future__ import annotations

import re
import time
from typing import Any

from drivefs.model import ROOT_INODE, DriveId, Inode, Kind, Place, SharedDrive
from drivefs.store.node import Node
from drivefs.store.nodes import Nodes
from drivefs.sync.names import local_name, shown_name

COLAB, FLAT = "colab", "flat"
MY_DRIVE = "MyDrive"
OLD_MY_DRIVE = "My Drive"
SHARED_DRIVES = "Shareddrives"
SHARED_WITH_ME = "Shared with me"
TRASH = ".Trash"
_DESKTOP_TRASH = re.compile(r"\.Trash-[0-9]+")
"""What a desktop calls the trash of a mount (freedesktop.org: Trash specification); at the top only."""


def is_desktop_trash(parent: Inode, name: str) -> bool:
    """Whether a folder of this name is a desktop's trash: it stays on this machine, and what is moved into it goes
    to Drive's trash."""
    return parent == ROOT_INODE and _DESKTOP_TRASH.fullmatch(name) is not None


def is_reserved(parent: Inode, name: str) -> bool:
    """Whether no item of Drive shows under this name."""
    return parent == ROOT_INODE and (name == TRASH or is_desktop_trash(parent, name))


def make_places(nodes: Nodes, root: DriveId) -> None:
    """The places of layout `colab`, with `root` as My Drive; in the caller's transaction."""
    nodes.update(ROOT_INODE, place=Place.TOP, listed=True, writable=False)
    add_place(nodes, ROOT_INODE, MY_DRIVE, Place.MY_DRIVE, drive_id=root, confirmed_ns=1, writable=True)
    add_place(
        nodes, ROOT_INODE, OLD_MY_DRIVE, Place.ALIAS, kind=Kind.SYMLINK, target=MY_DRIVE, size_bytes=len(MY_DRIVE)
    )
    add_place(nodes, ROOT_INODE, SHARED_DRIVES, Place.SHARED_DRIVES, listed=True)
    add_place(nodes, ROOT_INODE, SHARED_WITH_ME, Place.SHARED_WITH_ME)


def add_shared_drive(nodes: Nodes, above: Node, drive: SharedDrive) -> Node:
    """A shared drive, under a name that no other has; in the caller's transaction."""
    shown = shown_name(drive.name)
    taken = nodes.find_child(above.inode, shown) is not None
    name = local_name(drive.name, drive.id, taken=taken)
    return add_place(
        nodes,
        above.inode,
        name,
        Place.SHARED_DRIVE,
        drive_id=drive.id,
        confirmed_ns=1,
        remote_name=drive.name,
        writable=True,
    )


def root_of(nodes: Nodes) -> Node:
    """The node of My Drive, or of the folder that is mounted; without a Drive ID while Drive is not known."""
    return nodes.find_place(Place.MY_DRIVE) or nodes.get(ROOT_INODE)


def add_place(nodes: Nodes, parent: Inode, name: str, place: Place, **values: Any) -> Node:
    """A node of the layout; in the caller's transaction."""
    now_ns = time.time_ns()
    return nodes.add(
        **{
            "parent": parent,
            "name": name,
            "kind": Kind.FOLDER,
            "mode": 0o755,
            "size_bytes": 0,
            "mtime_ns": now_ns,
            "ctime_ns": now_ns,
            "writable": False,
            "place": place,
            **values,
        }
    )
