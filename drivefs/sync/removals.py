"""What was removed here goes from Drive: into the trash, for good, or out of the trash.

Stateless; entered by the uploader's threads. What somebody else has changed, or put into a folder, since it was
removed here is not taken from them.
"""

from __future__ import annotations

from drivefs.drive.api import Drive
from drivefs.errors import BadReply, RemoteNotFound
from drivefs.model import DriveId, Kind, RemoteFile, Trash
from drivefs.store.node import Node
from drivefs.store.store import Store
from drivefs.sync.mirror import Mirror


class Remover:
    """Knows how to take from Drive what has lost its place here. Raises DriveError, as all that asks Drive."""

    def __init__(self, store: Store, drive: Drive, mirror: Mirror, *, delete: bool) -> None:
        """`delete`: what is removed here is deleted on Drive, past the trash; but not folders, which may hold what
        others have in the trash, nor what somebody else has changed since."""
        self._delete = delete
        self._store = store
        self._mirror = mirror
        self._drive = drive

    def remove(self, node: Node) -> None:
        """What a nameless node stands for goes from Drive."""
        if node.drive_id is None:
            self._store.journal.removal_published(node.inode)
        elif node.trash is Trash.PURGE:
            self._purge(node, node.drive_id)
        elif node.trash is Trash.PUT and node.confirmed_ns is not None:
            if not node.remote_trashed:
                self._drive.trash(node.drive_id)
            self._removed(node, node.drive_id, trashed=True)
        elif node.kind is Kind.FOLDER and self._holds_others(node.drive_id):
            # Somebody put something into it since it was seen empty here.
            remote = self._drive.get(node.drive_id)
            with self._store.db.transaction():
                self._store.journal.removal_published(node.inode)
                self._mirror.take(remote)
        else:
            past_trash = self._delete and node.kind is not Kind.FOLDER
            trashed = node.confirmed_ns is not None and not past_trash
            if trashed or self._is_changed(node):
                self._drive.trash(node.drive_id)
            elif not self._drive.delete(node.drive_id):
                # Made by us a moment ago, if it is there at all: no trace of it, also if it comes later.
                self._store.journal.disown(node.drive_id)
            self._removed(node, node.drive_id, trashed=trashed)

    def _removed(self, node: Node, drive_id: DriveId, *, trashed: bool) -> None:
        with self._store.db.transaction():
            self._store.journal.removal_published(node.inode, trashed=trashed)
            self._mirror.is_gone(drive_id)
            if trashed:
                self._mirror.trash.moved_in(node)

    def put_into_trash(self, node: Node) -> None:
        """A named node, with all that is below it: it shows in a desktop's trash, or in Drive's."""
        assert node.drive_id is not None
        if not node.remote_trashed:
            self._drive.trash(node.drive_id)
        self._store.journal.is_in_trash(node)

    def _purge(self, node: Node, drive_id: DriveId) -> None:
        """Delete for good what was removed from the trash here, unless it is not as it was seen there. What had
        not come there yet is deleted where it is."""
        try:
            remote = self._drive.get(drive_id)
        except RemoteNotFound:
            self._store.journal.removal_published(node.inode)
            return
        restored = node.remote_trashed and not remote.trashed
        if node.kind is Kind.FOLDER:
            changed = self._holds_others(drive_id, trashed=True)
        else:
            changed = remote.revision != node.revision
        if not (restored or changed):
            self._drive.delete(drive_id)
            self._removed(node, drive_id, trashed=False)
            return
        with self._store.db.transaction():
            self._store.journal.removal_published(node.inode)
            self._mirror.take(remote)

    def _holds_others(self, folder: DriveId, *, trashed: bool = False) -> bool:
        """Whether Drive has something in a folder that was empty here when it was removed, in the trash too with
        `trashed`. Raises BadReply while it has what is on its way out."""
        try:
            left = self._drive.list_children([folder], trashed=trashed).files
        except RemoteNotFound:
            return False  # it is gone, or was never made
        leaving = [child for child in left if self._is_leaving(child)]
        if any(child not in leaving and self._is_in(child.id, folder, trashed=trashed) for child in left):
            return True
        if leaving:
            raise BadReply("The folder still holds what is on its way out of it.")
        return False

    def _is_leaving(self, remote: RemoteFile) -> bool:
        """Whether an item has another place, or none, by now, of which Drive has yet to hear."""
        with self._store.db.transaction():
            if remote.id in self._store.journal.disowned():
                self._mirror.take(remote)  # a create of ours that has come late
            node = self._store.nodes.find_by_drive_id(remote.id)
            return node is not None and self._store.journal.find(node.inode) is not None

    def _is_in(self, child: DriveId, folder: DriveId, *, trashed: bool) -> bool:
        """Whether a folder's child is there still: its removal may have been published since the list was made,
        and lists lag behind."""
        try:
            remote = self._drive.get(child)
        except RemoteNotFound:
            return False
        return remote.parent == folder and (trashed or not remote.trashed)

    def _is_changed(self, node: Node) -> bool:
        """Whether somebody has changed a file that has lost its place here since it was published."""
        assert node.drive_id is not None
        job = self._store.journal.find(node.inode)
        tried_md5 = job.tried_md5 if job is not None else None
        if node.revision is None and tried_md5 is None:
            return False  # nothing of it was sent to its end
        try:
            remote = self._drive.get(node.drive_id)
        except RemoteNotFound:
            return False
        return remote.revision != node.revision and remote.md5 != tried_md5
