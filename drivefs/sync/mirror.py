"""Drive's tree as rows of the store: a folder is listed when it is first looked into, and the changes feed keeps all
listed folders right from then on.

`run` is the body of one thread; `ensure_listed` and `space` may be called from any. The network is never called
under a lock of the store. A page and the token after it are one transaction, so a crash repeats a page at most.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass

from drivefs.drive.api import Drive
from drivefs.errors import DriveError, Refused, SignInNeeded
from drivefs.model import ROOT_INODE, DriveId, Inode, Kind, Priority, RemoteFile
from drivefs.store.nodes import Node
from drivefs.store.store import Store
from drivefs.sync.metadata import attributes, remote_meta
from drivefs.sync.names import local_name, shown_name

log = logging.getLogger(__name__)

POLL_S = 5.0
SPACE_EVERY_POLLS = 12
"""Drive's quota is asked for once a minute."""


@dataclass(frozen=True, slots=True)
class Space:
    """How full Drive is."""

    total_bytes: int
    free_bytes: int


UNLIMITED_BYTES = 1 << 50
"""Shown as the size of a Drive without a limit."""


class Mirror:
    """The one writer of what Drive says into the store."""

    def __init__(self, store: Store, drive: Drive) -> None:
        self._store = store
        self._drive = drive.at(Priority.CHANGES)
        self._reader = drive.at(Priority.READER)
        self._lock = threading.Lock()
        self._listing: dict[Inode, threading.Lock] = {}  # guarded by _lock
        self._space: Space | None = None
        self.offline: str | None = None
        """Why Drive could not be asked at the last try, in words; None when it answered."""

    # --- start ---

    def start(self, root: DriveId | None = None) -> None:
        """Get to know the root folder; with a cache from before, nothing is asked.

        Raises DriveError or SignInNeeded at first contact; Refused when `root` is not a folder.
        """
        nodes = self._store.nodes
        if nodes.get(ROOT_INODE).drive_id is not None:
            return
        if root is None:
            root = self._drive.root_id()
        elif not self._drive.get(root).mime_type.endswith(".folder"):
            raise Refused(f"The item {root} is not a folder.", reason="notAFolder")
        # The token comes before the first listing, so that no change falls between the two.
        token = self._drive.start_page_token()
        with self._store.db.transaction():
            self._store.db.set_setting("changes_token", token)
            nodes.update(ROOT_INODE, drive_id=root, confirmed_ns=1)

    # --- the changes feed ---

    def run(self, stop: threading.Event) -> None:
        """Follow the changes feed until `stop` is set."""
        polls = 0
        while True:
            try:
                if polls % SPACE_EVERY_POLLS == 0:
                    self.ask_space()
                self.poll()
            except (DriveError, SignInNeeded) as error:
                if self.offline is None:
                    log.warning("Drive's changes cannot be followed for now: %s", error)
                self.offline = str(error)
            else:
                if self.offline is not None:
                    log.info("Drive answers again.")
                self.offline = None
                polls += 1
            if stop.wait(POLL_S):
                return

    def poll(self) -> int:
        """Apply everything that has changed on Drive until now; how many changes there were."""
        token = self._store.db.setting("changes_token")
        count = 0
        while token is not None:
            try:
                page = self._drive.changes(token)
            except Refused as error:
                log.warning("Drive no longer knows the place in its changes feed (%s): listing anew.", error)
                self._start_over()
                return count
            with self._store.db.transaction():
                for change in page.changes:
                    if change.file is None or change.file.trashed:
                        self._gone(change.id, change.file)
                    else:
                        self._apply(change.file)
                self._store.db.set_setting("changes_token", page.next_token or page.new_start_token or token)
            count += len(page.changes)
            token = page.next_token
        return count

    def _start_over(self) -> None:
        token = self._drive.start_page_token()
        with self._store.db.transaction():
            self._store.db.set_setting("changes_token", token)
            for row in self._store.db.rows(
                "SELECT inode FROM nodes WHERE kind = ? AND listed AND confirmed_ns IS NOT NULL", (Kind.FOLDER.value,)
            ):
                self._store.nodes.update(Inode(row[0]), listed=False)

    # --- listings ---

    def ensure_listed(self, inode: Inode) -> None:
        """Make sure that all that Drive has in a folder is in the store. Raises DriveError, SignInNeeded."""
        if self._store.nodes.get(inode).listed:
            return
        with self._lock:
            lock = self._listing.setdefault(inode, threading.Lock())
        with lock:  # the first one asks, the others wait for its answer
            node = self._store.nodes.get(inode)
            if not node.listed and node.drive_id is not None:
                self._list(node, node.drive_id)
        with self._lock:
            self._listing.pop(inode, None)

    def _list(self, folder: Node, drive_id: DriveId) -> None:
        seen: set[DriveId] = set()
        token: str | None = None
        while True:
            page = self._reader.list_children([drive_id], token)
            with self._store.db.transaction():
                # Of twins the older one keeps the plain name, whatever the order of the listing.
                for file in sorted(page.files, key=lambda file: (file.created_ns, file.id)):
                    seen.add(file.id)
                    self._apply(file)
            token = page.next_token
            if token is None:
                break
        with self._store.db.transaction():
            for child in self._store.nodes.children(folder.inode):
                if child.confirmed_ns is not None and child.drive_id not in seen:
                    self._forget(child)
            self._store.nodes.update(folder.inode, listed=True)

    # --- what one item of Drive means for the tree; in the caller's transaction ---

    def _apply(self, file: RemoteFile) -> None:
        nodes = self._store.nodes
        node = nodes.find_by_drive_id(file.id)
        if node is not None and node.inode == ROOT_INODE:
            return
        parent = nodes.find_by_drive_id(file.parent) if file.parent is not None else None
        if node is None:
            if parent is not None and parent.kind is Kind.FOLDER and not file.trashed:
                self._add(file, parent)
            return
        if node.remote_version is not None and 0 < file.version <= node.remote_version:
            return  # our own change come back, or older than what we know
        if node.unnamed or self._store.journal.find(node.inode) is not None or self._is_open(node):
            return  # changed here too; the publish decides
        if parent is None or self._is_above(node.inode, parent.inode):
            self._forget(node)  # moved out of sight
            return
        self._update(node, file, parent)

    def _is_open(self, node: Node) -> bool:
        """Whether the node's content is being written and has no job yet."""
        return node.generation is not None and self._store.content.is_dirty(node.generation)

    def _is_above(self, inode: Inode, folder: Inode) -> bool:
        """Whether hanging `inode` into `folder` would close a circle."""
        return inode == folder or inode in self._store.nodes.ancestors(folder)

    def _free_name(self, file: RemoteFile, parent: Node, inode: Inode | None) -> str:
        other = self._store.nodes.find_child(parent.inode, shown_name(file.name))
        return local_name(file.name, file.id, taken=other is not None and other.inode != inode)

    def _add(self, file: RemoteFile, parent: Node) -> None:
        shown = attributes(file)
        name = self._free_name(file, parent, None)
        if self._store.nodes.find_child(parent.inode, name) is not None:
            log.error("Drive's item %s cannot be shown: its name is taken twice over.", file.id)
            return
        node = self._store.nodes.add(
            parent=parent.inode,
            name=name,
            kind=shown.kind,
            mode=shown.mode,
            size_bytes=shown.size_bytes,
            mtime_ns=shown.mtime_ns,
            ctime_ns=shown.mtime_ns,
            target=shown.target,
            writable=file.can_edit,
            drive_id=file.id,
            confirmed_ns=file.created_ns,
            revision=file.revision,
            md5=file.md5,
            **self._remote(file),
        )
        for key, value in shown.xattrs.items():
            self._store.nodes.set_xattr(node.inode, key, value)

    def _update(self, node: Node, file: RemoteFile, parent: Node) -> None:
        nodes = self._store.nodes
        shown = attributes(file)
        values: dict[str, object] = self._remote(file)
        if file.revision != node.revision or file.md5 != node.md5:
            values |= {"revision": file.revision, "md5": file.md5, "size_bytes": shown.size_bytes, "generation": None}
            if node.generation is not None:
                # Whoever has it open reads the old revision to the end; then it is evicted.
                self._store.content.drop_unused(node.generation)
        if (file.name, file.parent) != (node.remote_name, node.remote_parent) or parent.inode != node.parent:
            values |= {"name": self._free_name(file, parent, node.inode), "parent": parent.inode}
        if values["remote_meta"] != node.remote_meta:
            values |= {"mode": shown.mode, "mtime_ns": shown.mtime_ns, "target": shown.target}
            for key in self._store.nodes.xattrs(node.inode):
                nodes.remove_xattr(node.inode, key)
            for key, value in shown.xattrs.items():
                nodes.set_xattr(node.inode, key, value)
        nodes.update(node.inode, writable=file.can_edit, confirmed_ns=node.confirmed_ns or file.created_ns, **values)

    @staticmethod
    def _remote(file: RemoteFile) -> dict[str, object]:
        return {
            "remote_name": file.name,
            "remote_parent": file.parent,
            "remote_meta": remote_meta(file),
            "remote_version": file.version,
        }

    def _gone(self, drive_id: DriveId, file: RemoteFile | None) -> None:
        node = self._store.nodes.find_by_drive_id(drive_id)
        if node is None or node.inode == ROOT_INODE or node.unnamed:
            return
        if file is not None and node.remote_version is not None and 0 < file.version <= node.remote_version:
            return
        self._forget(node)

    def _forget(self, node: Node) -> bool:
        """Drop a node, and what lies below it, that Drive no longer shows. What Drive does not have yet stays, with
        the folders that lead to it: those are made again. Returns whether the node stayed."""
        journal, nodes = self._store.journal, self._store.nodes
        job = journal.find(node.inode)
        kept = self._is_open(node) or (job is not None and (job.generation is not None or node.confirmed_ns is None))
        if node.kind is Kind.FOLDER:
            for child in list(nodes.children(node.inode)):
                kept = self._forget(child) or kept
        if kept:
            journal.lost_on_drive(nodes.get(node.inode))
            return True
        if node.generation is None or self._store.content.drop_unused(node.generation):
            nodes.remove(node.inode)
        else:  # open: it lives on without a name, as an unlinked file does
            nodes.update(node.inode, parent=None, name=None, drive_id=None, confirmed_ns=None)
        return False

    # --- how full Drive is ---

    def ask_space(self) -> None:
        """Ask Drive for its quota. Raises DriveError."""
        about = self._drive.about()
        if about.limit_bytes is None:
            self._space = Space(UNLIMITED_BYTES, UNLIMITED_BYTES - about.usage_bytes)
        else:
            self._space = Space(about.limit_bytes, max(0, about.limit_bytes - about.usage_bytes))

    def space(self) -> Space | None:
        """As last heard; None when Drive has not said yet."""
        return self._space
