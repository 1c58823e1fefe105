"""What a change of names means in a trash: Drive's, which shows as `.Trash`, or a desktop's, `.Trash-UID`.

Moving something into either puts it into Drive's trash, moving it out restores it. Removing it from Drive's deletes
it for good; emptying a desktop's leaves it in Drive's. What a desktop notes beside it stays on this machine. Nothing
in a trash is changed. Called within the transaction of the change.
"""

from __future__ import annotations

from enum import Enum, auto

from drivefs.errors import AccessDenied, CrossDevice, Exists
from drivefs.model import Place, Trash
from drivefs.store.node import NOT_ON_DRIVE, Node
from drivefs.store.nodes import Nodes


class Move(Enum):
    """What a rename is to Drive."""

    ON_DRIVE = auto()
    """From one of its folders to another."""
    HERE = auto()
    """Within what only this machine has, or from one trash to another: nothing."""
    INTO_TRASH = auto()
    OUT_OF_TRASH = auto()


class TrashMoves:
    """The rules, and the columns that change with a move."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes

    def move(self, source: Node, folder: Node, target: Node | None) -> Move:
        """What moving `source` into `folder`, perhaps over `target`, is. Raises AccessDenied, CrossDevice, Exists."""
        above = self._nodes.trash_above(source)
        if self._nodes.trash_above(folder) is not None:
            raise AccessDenied("What lies in the trash is not changed: move it out first.")
        if source.local:
            here = self._nodes.find(source.parent) if source.parent is not None else None
            if here is None or not here.local:
                raise AccessDenied("A desktop's trash stays where it is.")
            if not folder.local or folder.place is Place.TRASH:
                raise CrossDevice("This is on this machine only: copy it.")
        if not folder.local:
            return Move.ON_DRIVE if above is None else Move.OUT_OF_TRASH
        if target is not None and not (source.local and target.local):
            raise Exists("The name is taken in the trash.")
        if above is not None and source.trash is None:
            raise AccessDenied("A folder in the trash stays whole: move the file out of it first.")
        return Move.HERE if source.local or above is not None else Move.INTO_TRASH

    def columns(self, move: Move, source: Node) -> dict[str, object]:
        """What changes in the row of `source`."""
        if move is Move.INTO_TRASH:
            # Where it is on its way out of the trash, Drive may have heard of that or not.
            values: dict[str, object] = {"trash": Trash.PUT, "remote_trashed": None}
            if source.confirmed_ns is None:
                # It is made where it was, and trashed there.
                here = self._nodes.find(source.parent) if source.parent is not None else None
                values |= {"remote_name": source.name, "remote_parent": here.drive_id if here is not None else None}
            return values
        if move is Move.OUT_OF_TRASH:
            # It keeps its own identity, whatever it is moved over.
            return {"trash": None, "ours": False, "remote_trashed": None if source.confirmed_ns is None else 1}
        return {}

    def columns_of_removal(self, node: Node) -> dict[str, object]:
        """What changes in the row of a node that is about to lose its name."""
        above = self._nodes.trash_above(node)
        if above is None or (node.trash is Trash.PUT and above.place is not Place.TRASH):
            return {}
        if above.place is not Place.TRASH:
            return dict(NOT_ON_DRIVE)  # it is in Drive's trash with its folder
        if node.confirmed_ns is None:
            return {"trash": None}
        return {"trash": Trash.PURGE, "remote_trashed": 1 if self._has_arrived(node) else None}

    def _has_arrived(self, node: Node) -> bool:
        """Whether Drive has it in its trash, as far as known: by itself, or with a folder above it."""
        while not node.remote_trashed:
            above = self._nodes.find(node.parent) if node.trash is None and node.parent is not None else None
            if above is None:
                return False
            node = above
        return True
