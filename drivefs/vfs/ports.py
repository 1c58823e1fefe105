"""What the filesystem asks of the rooms that reach Drive. Any thread may call; each call may wait for the network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from drivefs.model import DriveId, Inode
from drivefs.store.content_file import ContentFile
from drivefs.store.node import Node


class Space(Protocol):
    """How large Drive is, and how much of it is free."""

    @property
    def total_bytes(self) -> int: ...

    @property
    def free_bytes(self) -> int: ...


class Mirror(Protocol):
    """Drive's metadata."""

    def ensure_listed(self, inode: Inode, *, to_read: bool = False) -> None:
        """Wait until all that Drive has in a folder is in the store. `to_read`: somebody will go through its
        entries, and perhaps into its folders. Raises DriveError, SignInNeeded."""
        ...

    def ensure_known(self, drive_id: DriveId) -> None:
        """Have an item in the tree, with the folders that lead to it, if the mount shows it. Raises DriveError,
        SignInNeeded."""
        ...

    def in_use(self) -> None:
        """Somebody looks at the tree: what changes on Drive should show soon. Costs next to nothing."""
        ...

    def space(self) -> Space | None:
        """As last heard, without asking; None while it is not known."""
        ...


class Documents(Protocol):
    """Google documents, which have bytes only once they are exported."""

    def ensure(self, inode: Inode) -> None:
        """Wait until a document's export is here; it may be evicted again unless somebody has the inode in use.
        Raises ExportTooLarge, DriveError, CacheFull, SignInNeeded, NoEntry."""
        ...

    def look(self, inode: Inode) -> None:
        """Somebody asks for the size of a document that is not here: export it, unless many were asked for lately."""
        ...


class Downloader(Protocol):
    """Drive's bytes."""

    @property
    def documents(self) -> Documents: ...

    def ensure(
        self, file: ContentFile, start: int, stop: int, *, interrupted: Callable[[], bool] = lambda: False
    ) -> None:
        """Wait until [start, stop), as far as the file goes, is here. Raises DriveError, CacheFull, SignInNeeded;
        Interrupted when `interrupted` says so meanwhile."""
        ...

    def fetch(self, file: ContentFile, start: int, stop: int) -> bytes:
        """[start, stop), as far as the file goes, of a clean file: from Drive, and kept nowhere. Raises DriveError,
        SignInNeeded."""
        ...

    def mend(self, file: ContentFile, start: int, stop: int) -> None:
        """Compare what of [start, stop) is here and was not compared yet; put what the disk has damaged right with
        what Drive has, or, of an incomplete file, have it wait for that. Raises DriveError, CacheFull, CacheDamaged,
        SignInNeeded."""
        ...

    def opened(self, node: Node) -> None:
        """A file is opened for reading: others beside it may be wanted soon. Returns at once."""
        ...

    def ensure_target(self, inode: Inode) -> str:
        """The target of a symlink that Drive's listing did not hold."""
        ...
