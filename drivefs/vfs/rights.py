"""Who may change what: the mount as a whole, and the account on Drive."""

from __future__ import annotations

from dataclasses import dataclass

from drivefs.errors import AccessDenied, ReadOnly
from drivefs.model import Place
from drivefs.store.node import Node
from drivefs.store.nodes import Nodes


@dataclass(frozen=True, slots=True)
class Rights:
    """Whose the files are, and whether anything may change."""

    nodes: Nodes
    uid: int
    gid: int
    read_only: bool = False

    def check_mount(self) -> None:
        """Raises ReadOnly."""
        if self.read_only:
            raise ReadOnly("The mount is read-only.")

    def check_removal(self, node: Node) -> None:
        """Raises ReadOnly, AccessDenied."""
        self.check_entry(node)
        if node.kept:
            raise AccessDenied("The account may change this on Drive, but not remove it.")

    def check_content(self, node: Node) -> None:
        """Raises ReadOnly, AccessDenied."""
        self.check(node)
        if node.export is not None:
            raise AccessDenied("A Google document cannot be written as a file: open it in the browser.")

    def check(self, node: Node) -> None:
        """Of a change of the node, or of what is in a folder. Raises ReadOnly, AccessDenied."""
        self.check_entry(node)
        if node.place is Place.TRASH or self.nodes.trash_above(node) is not None:
            raise AccessDenied("What lies in the trash is not changed: move it out first.")

    def check_entry(self, node: Node) -> None:
        """Of taking its name away, or another's in a folder, which can be done in the trash. Raises ReadOnly,
        AccessDenied."""
        self.check_mount()
        if not node.writable:
            raise AccessDenied("The account may not change this on Drive.")
