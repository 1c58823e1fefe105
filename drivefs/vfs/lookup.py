"""Names: everything that finds an entry of a folder, and the attributes that stand there.

Any thread may enter. The network is asked only for a folder that was never listed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from drivefs.errors import DriveError, InvalidArgument, NoEntry, NotDirectory, SignInNeeded
from drivefs.model import ROOT_INODE, Inode, Kind, Place
from drivefs.store.node import Node
from drivefs.store.store import Store
from drivefs.vfs.names import NAME_LIMIT_BYTES, check_sought
from drivefs.vfs.opened import Attributes, OpenFiles
from drivefs.vfs.ports import Downloader, Mirror

PAGE_ENTRIES = 256
"""Entries of a folder read under the lock at once, some 1 ms."""


class Lookup:
    """The names of one mount, as they are."""

    def __init__(self, store: Store, mirror: Mirror, downloader: Downloader, opened: OpenFiles) -> None:
        self._store = store
        self._nodes = store.nodes
        self._mirror = mirror
        self._downloader = downloader
        self._opened = opened

    def child(self, parent: Inode, name: str) -> Node:
        """Raises NoEntry, NotDirectory, NameTooLong; DriveError where the folder could not be listed."""
        if not name.isascii() or len(name) > 255:
            check_sought(name)
        node = self._nodes.find_child(parent, name)
        if node is None and not self._folder(parent).listed and not self._is_desktops_look(parent, name):
            self._mirror.ensure_listed(parent)
            node = self._nodes.find_child(parent, name)
        if node is None:
            raise NoEntry("There is no such file or folder.")
        return node

    def resolve(self, path: str) -> Inode:
        """The inode at a path from the mount's root. Raises what `child` raises."""
        inode = ROOT_INODE
        for name in path.split("/"):
            if name:
                inode = self.child(inode, name).inode
        return inode

    def lookup(self, parent: Inode, name: str) -> Attributes:
        """In one step: a name that is replaced meanwhile is never seen missing. Raises what `child` raises."""
        self._mirror.in_use()
        if not name.isascii() or len(name) > NAME_LIMIT_BYTES:
            check_sought(name)
        while True:
            with self._store.db.transaction_lock():
                node = self._nodes.find_child(parent, name)
                if node is not None:
                    found = self._opened.describe(node)
                    break
                if self._folder(parent).listed or self._is_desktops_look(parent, name):
                    raise NoEntry("There is no such file or folder.")
            self.child(parent, name)  # lists the folder, or says why there is nothing
        return self._measured(found)

    def _is_desktops_look(self, parent: Inode, name: str) -> bool:
        """Whether it is only a desktop that looks whether `.Trash` is of its kind, which has a folder for each user's
        ID (freedesktop.org: Trash specification), as it does at login and every time that something is mounted."""
        return name.isdecimal() and self._folder(parent).place is Place.TRASH

    def _measured(self, attributes: Attributes) -> Attributes:
        """With the size of a Google document, where it can be had by looking at this one more closely."""
        if attributes.measured or attributes.kind is not Kind.FILE:
            return attributes
        self._downloader.documents.look(attributes.inode)
        return self._opened.attributes(attributes.inode)

    def stat(self, path: str) -> Attributes:
        """The attributes at a path from the mount's root. Raises what `child` raises."""
        folder, _, name = path.rpartition("/")
        return self.lookup(self.resolve(folder), name) if name else self.attributes(ROOT_INODE)

    def attributes(self, inode: Inode) -> Attributes:
        """Raises NoEntry."""
        return self._measured(self._opened.attributes(inode))

    def place(self, inode: Inode) -> tuple[Inode, str] | None:
        """Folder and name of an inode; None where it has no name. Raises NoEntry."""
        node = self._nodes.get(inode)
        return None if node.parent is None or node.name is None else (node.parent, node.name)

    def entries(self, inode: Inode) -> Iterator[tuple[str, Attributes]]:
        """What is in a folder, with "." and "..", in the order of names; read a page at a time.

        What is made or removed meanwhile may or may not be among them. Raises NotDirectory, NoEntry, DriveError
        before the first entry.
        """
        return self._entries(self.begin_listing(inode))

    def _entries(self, dots: list[tuple[str, Attributes]]) -> Iterator[tuple[str, Attributes]]:
        yield from dots
        after = ""
        while page := self.page(dots[0][1].inode, after):
            yield from page
            after = page[-1][0]

    def begin_listing(self, inode: Inode) -> list[tuple[str, Attributes]]:
        """ "." and ".." of a folder; `page` has the others. Raises NotDirectory, NoEntry, DriveError."""
        self._mirror.in_use()
        folder = self._folder(inode)
        self._mirror.ensure_listed(inode, to_read=True)
        above = self._opened.attributes(folder.parent or folder.inode)
        return [(".", self._opened.attributes(folder.inode)), ("..", above)]

    def page(self, folder: Inode, after: str) -> list[tuple[str, Attributes]]:
        """The next entries of a folder in the order of names, from a name on; none at the end."""
        with self._store.db.transaction_lock():
            page = self._nodes.page(folder, after, PAGE_ENTRIES)
            return [(node.name or "", self._opened.describe(node)) for node in page]

    def read_link(self, inode: Inode) -> str:
        """Raises InvalidArgument where it is no symlink; DriveError."""
        node = self._nodes.get(inode)
        if node.kind is not Kind.SYMLINK:
            raise InvalidArgument("Only a symlink has a target.")
        if node.points_to is not None:
            if self._nodes.find_by_drive_id(node.points_to) is None:
                with suppress(DriveError, SignInNeeded):
                    self._mirror.ensure_known(node.points_to)
            with self._store.db.transaction_lock():
                return self._nodes.leads_to(self._nodes.get(inode))
        return node.target if node.target is not None else self._downloader.ensure_target(inode)

    def _folder(self, inode: Inode) -> Node:
        node = self._nodes.get(inode)
        if node.kind is not Kind.FOLDER:
            raise NotDirectory("That is no folder.")
        return node
