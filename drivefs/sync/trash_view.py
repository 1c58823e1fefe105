"""Drive's trash in the mount: the folder `.Trash` in its root, which is in no listing and shows to who names it.

Its entries are nodes like others, so that they are read as others are; moving one out of it is what restores it, and
removing one deletes it for good. The place is filled by one listing of the trash at the first look into it, and kept
right by the changes feed from then on; before that look it costs nothing. A trashed folder is listed when somebody
looks into that. An item shows once: in its folder where that is in the trash too, and what a desktop has put into
its own trash (`.Trash-UID`) there until that is emptied. Any thread may enter; what changes rows is part of the
caller's transaction.
"""

from __future__ import annotations

from typing import Protocol

from drivefs.drive.api import Drive
from drivefs.model import ROOT_INODE, DriveId, Inode, Kind, Place, RemoteFile, Trash
from drivefs.paging import pages
from drivefs.store.node import Node
from drivefs.store.store import Store
from drivefs.sync.layout import TRASH, add_place, is_reserved
from drivefs.sync.names import local_name, told_apart

_REMOTE_COLUMNS = (
    *("kind", "mode", "size_bytes", "mtime_ns", "ctime_ns", "target", "writable", "ours", "drive_id", "confirmed_ns"),
    *("revision", "md5", "remote_name", "remote_parent", "remote_meta", "remote_version", "export", "points_to"),
)
"""What a node knows of its item on Drive."""


class Tree(Protocol):
    """The rows of Drive's items; in the caller's transaction."""

    def take(self, file: RemoteFile) -> None: ...

    def forget(self, node: Node) -> bool: ...


class TrashView:
    """The place that shows Drive's trash."""

    def __init__(self, store: Store, tree: Tree) -> None:
        self._store = store
        self._nodes = store.nodes
        self._tree = tree
        self._looking = 0  # listings under way; guarded by the database's lock

    def ensure_place(self) -> None:
        """Have the place; what Drive has under a name that is reserved shows by another. A name that something has
        which Drive does not have yet is waited for: the place comes with the next mount."""
        with self._store.db.transaction():
            for node in self._nodes.children(ROOT_INODE):
                if node.drive_id is not None and node.place is None and is_reserved(ROOT_INODE, node.name or ""):
                    self._nodes.update(node.inode, name=told_apart(node.name or "", node.drive_id))
            if self._nodes.find_place(Place.TRASH) is None and self._nodes.find_child(ROOT_INODE, TRASH) is None:
                add_place(self._nodes, ROOT_INODE, TRASH, Place.TRASH, writable=True, kept=1, local=1, mode=0o700)

    def list_all(self, place: Node, drive: Drive) -> None:
        """Fill the place with what Drive has in its trash. Raises DriveError, SignInNeeded."""
        with self._store.db.transaction_lock():
            self._looking += 1
            unseen = {node.drive_id: node.inode for node in self._nodes.children(place.inode) if node.drive_id}
        try:
            for page in pages(drive.list_trashed):
                with self._store.db.transaction():
                    for file in page.files:
                        unseen.pop(file.id, None)
                        if file.put_into_trash:
                            self._tree.take(file)
            with self._store.db.transaction():
                for inode in unseen.values():
                    node = self._nodes.find(inode)
                    if node is not None and node.parent == place.inode and self._store.journal.find(inode) is None:
                        self._tree.forget(node)
                self._nodes.update(place.inode, listed=True)
                for node in self._nodes.children(place.inode):
                    if node.name is not None and node.name.isdecimal():
                        self._store.news.name(place.inode, node.name)  # a desktop may have been told that it is not
        finally:
            with self._store.db.transaction_lock():
                self._looking -= 1

    def start_over(self) -> None:
        """Changes were missed: the trash is listed at the next look."""
        place = self._nodes.find_place(Place.TRASH)
        if place is not None:
            self._nodes.update(place.inode, listed=False)

    def holds(self, node: Node) -> bool:
        """Whether a node is shown as something in a trash."""
        return self._nodes.trash_above(node) is not None

    def folder_of(self, file: RemoteFile) -> Node | None:
        """Where a trashed item shows: in its folder where that is trashed too, or in the place itself; None when it
        does not show."""
        parent = self._nodes.find_by_drive_id(file.parent) if file.parent is not None else None
        if parent is not None and not parent.gone and self.holds(parent):
            return parent
        if not file.put_into_trash or not file.owned_by_me or (parent is None and self._is_part()):
            return None
        return self._followed()

    def moved_in(self, node: Node) -> None:
        """The item of a node that has lost its name is in the trash now."""
        place = self._followed()
        if place is None or node.drive_id is None or self._nodes.find_by_drive_id(node.drive_id) is not None:
            return
        shown = {column: getattr(node, column) for column in _REMOTE_COLUMNS}
        name = self._free_name(place.inode, node.remote_name or "", node.drive_id)
        self.gather(self._nodes.add(**shown, parent=place.inode, name=name, trash=Trash.PUT, remote_trashed=1))

    def gather(self, folder: Node) -> None:
        """A folder has come into the trash: what was put there before from within shows in it from now on."""
        place = self._followed()
        if place is None or folder.kind is not Kind.FOLDER or folder.drive_id is None:
            return
        for node in self._nodes.children_from(place.inode, folder.drive_id):
            if node.drive_id is not None and self._store.journal.find(node.inode) is None:
                name = self._free_name(folder.inode, node.remote_name or "", node.drive_id)
                self._nodes.update(node.inode, parent=folder.inode, name=name, trash=None)

    def leave_behind(self, folder: Node) -> None:
        """Somebody else has taken a folder out of the trash: what was put there by itself is still in it."""
        for node in list(self._nodes.children(folder.inode)):
            if not node.remote_trashed:
                if node.kind is Kind.FOLDER:
                    self.leave_behind(node)
            elif node.drive_id is not None and self._store.journal.find(node.inode) is None:
                self._back_to_top(node, node.drive_id)

    def _back_to_top(self, node: Node, drive_id: DriveId) -> None:
        place = self._followed()
        if place is None:
            self._tree.forget(node)
            return
        name = self._free_name(place.inode, node.remote_name or "", drive_id)
        self._nodes.update(node.inode, parent=place.inode, name=name, trash=Trash.PUT)

    def _free_name(self, place: Inode, name: str, drive_id: DriveId) -> str:
        plain = local_name(name, drive_id, taken=False)
        return local_name(name, drive_id, taken=self._nodes.find_child(place, plain) is not None)

    def _followed(self) -> Node | None:
        """The place, once somebody has looked into it."""
        place = self._nodes.find_place(Place.TRASH)
        return place if place is not None and (place.listed or self._looking) else None

    def _is_part(self) -> bool:
        """Whether the mount shows one folder of Drive: then its trash is what was put there from within."""
        return bool(self._store.db.setting("root"))
