"""What one item of Drive means for the rows: new, changed, gone, or changed here too.

Any thread may enter, in a transaction of its own making. Nothing here asks Drive.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from drivefs.model import LINK_EXPORTS, ROOT_INODE, DriveId, Inode, Kind, Place, RemoteFile, Trash
from drivefs.store.node import Node
from drivefs.store.store import Store
from drivefs.sync.exports import with_extension
from drivefs.sync.layout import is_reserved
from drivefs.sync.metadata import (
    Attributes,
    attributes,
    kept,
    merged,
    node_values,
    remote_meta,
    told_place,
    wanted_name,
    without_fields,
)
from drivefs.sync.names import local_name, shown_name
from drivefs.sync.trash_view import TrashView

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Leaving:
    """A node that Drive no longer shows."""

    node: Node
    kept: bool  # it, or something below it, is not on Drive yet
    below: Iterator[Node]


class Items:
    """The one writer of what Drive says of single items into the store."""

    def __init__(self, store: Store, formats: Sequence[str]) -> None:
        """`formats`: as what Google documents show (sync.exports)."""
        self._store = store
        self._formats = formats
        self.trash = TrashView(store, self)
        self._missed: dict[DriveId, RemoteFile] = {}  # changed while open for writing here; guarded by the database

    def has_newer(self, file: RemoteFile) -> bool:
        """Whether the changes feed has told of a later state of an item."""
        node = self._store.nodes.find_by_drive_id(file.id)
        return node is not None and node.remote_version is not None and 0 < file.version < node.remote_version

    def take_again(self, file: RemoteFile) -> None:
        """Like `take`, where the feed told of this state while the item's content was on its way from here."""
        node = self._store.nodes.find_by_drive_id(file.id)
        if node is not None:
            self._store.nodes.update(node.inode, remote_version=None)
        self.take(file)

    def take(self, file: RemoteFile) -> None:
        """Drive says this of an item."""
        nodes = self._store.nodes
        node = nodes.find_by_drive_id(file.id)
        if node is not None and (node.inode == ROOT_INODE or node.place is not None):
            return
        if file.trashed and self._apply_trashed(node, file):
            return
        parent = self._parent_of(file)
        if parent is not None and parent.unnamed:
            parent = None  # removed here: should it come back, it is listed anew
        if node is None:
            if file.id in self._store.journal.disowned():
                self._store.journal.came_late(file)
            elif parent is not None and parent.kind is Kind.FOLDER and not file.trashed:
                self._add(file, parent)
            return
        if node.remote_version is not None and 0 < file.version <= node.remote_version:
            return  # our own change come back, or older than what we know
        if node.unnamed:
            if node.kind is Kind.FILE and node.confirmed_ns is not None and self._is_theirs(node, file):
                # Removed here, but somebody went on with it: it comes back.
                self._store.journal.removal_published(node.inode)
                self.take(file)
            return
        if parent is None or self._is_above(node.inode, parent.inode):
            self.forget(node)  # moved out of sight
            return
        if self._store.journal.find(node.inode) is not None or self._is_open(node):
            self._merge(node, file, parent)
            return
        self._update(node, file, parent)

    def _apply_trashed(self, node: Node | None, file: RemoteFile) -> bool:
        """Take over that an item is in Drive's trash; False where it is something else that is to be told."""
        if node is None:
            if file.id in self._store.journal.disowned():
                return False
            self._add_trashed(file)
        elif self.trash.holds(node):
            self._update_trashed(node, file)
        elif node.unnamed or self._is_open(node) or self._store.journal.find(node.inode) is not None:
            return False
        else:
            self.gone(file.id, file)
        return True

    def _add_trashed(self, file: RemoteFile) -> None:
        folder = self.trash.folder_of(file)
        if folder is not None:
            self._add(file, folder)

    def _update_trashed(self, node: Node, file: RemoteFile) -> None:
        """In the trash here too: it keeps the place that it has there."""
        if node.remote_version is not None and 0 < file.version <= node.remote_version:
            return
        values = {**self._remote(file), "kept": kept(file)}
        if self._store.journal.find(node.inode) is None and not self._is_open(node):
            values |= self._content(node, file)
        here = self._store.nodes.find(node.parent) if node.parent is not None else None
        folder = self.trash.folder_of(file)
        if folder is not None and here is not None and here.place is Place.TRASH and folder.inode != here.inode:
            # Its own folder is there too.
            values |= {"parent": folder.inode, "name": self._free_name(file, folder, node.inode), "trash": None}
        self._store.nodes.update(node.inode, **values)

    def _parent_of(self, file: RemoteFile) -> Node | None:
        """The node of the folder that an item lies in; for what others share, which lies in none, its place."""
        if file.parent is not None:
            return self._store.nodes.find_by_drive_id(file.parent)
        return None if file.owned_by_me else self._store.nodes.find_place(Place.SHARED_WITH_ME)

    def _is_theirs(self, node: Node, file: RemoteFile) -> bool:
        """Whether the content on Drive is neither what was last known nor what was being sent from here."""
        job = self._store.journal.find(node.inode)
        tried_md5 = job.tried_md5 if job is not None else None
        return file.revision != node.revision and file.md5 not in (node.md5, tried_md5)

    def _merge(self, node: Node, file: RemoteFile, parent: Node) -> None:
        """Changed on both sides. What was not changed here is Drive's: the name and folder, the content, the time and
        each attribute. Where both changed the content, the publish finds out and keeps both."""
        nodes = self._store.nodes
        values: dict[str, object] = {"remote_version": file.version}
        here = nodes.find(node.parent) if node.parent is not None else None
        placed = here is not None and not node.trash and here.drive_id == node.remote_parent
        job = self._store.journal.find(node.inode)
        told = job is not None and job.tried_md5 == told_place(file.parent, file.name)  # from here, a moment ago
        if placed and not told and wanted_name(node) == node.remote_name:
            shown = self._shown_for(node)
            values |= {"name": self._free_name(file, parent, shown.inode), "parent": parent.inode}
            nodes.update(shown.inode, name=values["name"], parent=parent.inode)
        if job is not None and job.generation is None and not self._is_open(node):
            values |= self._content(node, file)
        if job is not None and job.tried_md5 is None and node.remote_meta is not None and not self._is_open(node):
            # Otherwise it may be from here.
            values |= self._merge_attributes(node, file, with_time=job.generation is None)
        nodes.update(node.inode, remote_name=file.name, remote_parent=file.parent, **values)
        if self._is_open(node) and file.revision != node.revision:
            self._missed[file.id] = file

    def _merge_attributes(self, node: Node, file: RemoteFile, *, with_time: bool) -> dict[str, object]:
        nodes = self._store.nodes
        xattrs = nodes.xattrs(node.inode)
        found = merged(node, xattrs, attributes(file, self._formats), with_time=with_time)
        for name in without_fields(xattrs).keys() - found.xattrs.keys():
            nodes.remove_xattr(node.inode, name)
        for name, value in found.xattrs.items():
            nodes.set_xattr(node.inode, name, value)
        return {"mode": found.mode, "mtime_ns": found.mtime_ns, "remote_meta": remote_meta(file)}

    def _shown_for(self, node: Node) -> Node:
        """What goes on with a frozen node's file on Drive, if it is shown in its place; otherwise the node itself."""
        heir = self._store.nodes.last_heir(node)
        return heir if not heir.gone and (heir.parent, heir.name) == (node.parent, node.name) else node

    def _content(self, node: Node, file: RemoteFile) -> dict[str, object]:
        """What changes in a node with the content that Drive has now; nothing when it is the one known."""
        if file.revision == node.revision and file.md5 == node.md5:
            return {}
        self._store.news.contents(node.inode)
        if node.generation is not None:
            # Whoever has it open reads the old revision to the end; then it is evicted.
            self._store.content.drop_unused(node.generation)
        # With somebody else's content in it, it is no temporary file of ours, and not ours to delete for good.
        return {
            "revision": file.revision,
            "md5": file.md5,
            "size_bytes": attributes(file, self._formats).size_bytes,
            "generation": None,
            "ours": node.ours and (node.revision is None or not self._is_theirs(node, file)),
        }

    def _is_open(self, node: Node) -> bool:
        """Whether the node's content is being written and has no job yet."""
        return node.generation is not None and self._store.content.is_dirty(node.generation)

    def _is_above(self, inode: Inode, folder: Inode) -> bool:
        """Whether hanging `inode` into `folder` would close a circle."""
        return inode == folder or inode in self._store.nodes.ancestors(folder)

    def _free_name(self, file: RemoteFile, parent: Node, inode: Inode | None) -> str:
        nodes = self._store.nodes
        name = attributes(file, self._formats).name
        shown = shown_name(name)
        other = nodes.find_child(parent.inode, shown)
        if other is not None and other.inode != inode and self._is_younger_twin(other, file):
            nodes.update(other.inode, name=self._apart(other))
            other = None
        taken = is_reserved(parent.inode, shown) or (other is not None and other.inode != inode)
        return local_name(name, file.id, taken=taken)

    @staticmethod
    def _apart(node: Node) -> str:
        """The name of an item of Drive whose plain name another one has."""
        assert node.drive_id is not None
        return local_name(with_extension(node.remote_name or "", node.export), node.drive_id, taken=True)

    def _is_younger_twin(self, node: Node, file: RemoteFile) -> bool:
        """Whether `node` has to give the plain name up for `file`: both are Drive's, and it came later."""
        return (
            node.confirmed_ns is not None
            and (node.confirmed_ns, node.drive_id) > (file.created_ns, file.id)
            and not node.ours
            and self._store.journal.find(node.inode) is None
            and not self._is_open(node)
        )

    def _add(self, file: RemoteFile, parent: Node) -> None:
        shown = attributes(file, self._formats)
        name = self._free_name(file, parent, None)
        if self._store.nodes.find_child(parent.inode, name) is not None:
            log.error("Drive's item %s cannot be shown: its name is taken twice over.", file.id)
            return
        trash = Trash.PUT if parent.place is Place.TRASH else None
        node = self._store.nodes.add(parent=parent.inode, name=name, trash=trash, **node_values(file, shown))
        for key, value in shown.xattrs.items():
            self._store.nodes.set_xattr(node.inode, key, value)
        if file.trashed:
            self.trash.gather(node)

    def _update(self, node: Node, file: RemoteFile, parent: Node) -> None:
        nodes = self._store.nodes
        shown = attributes(file, self._formats)
        if node.trash is not None:
            self.trash.leave_behind(node)
        values: dict[str, object] = self._remote(file) | self._content(node, file)
        if node.export is not None and (file.name, shown.target) != (node.remote_name, node.target):
            values |= self._link(node, shown)
        if (file.name, file.parent) != (node.remote_name, node.remote_parent) or parent.inode != node.parent:
            values |= {"name": self._free_name(file, parent, node.inode), "parent": parent.inode}
        if values["remote_meta"] != node.remote_meta:
            values |= {"mode": shown.mode, "mtime_ns": shown.mtime_ns, "target": shown.target}
            for key in self._store.nodes.xattrs(node.inode):
                nodes.remove_xattr(node.inode, key)
            for key, value in shown.xattrs.items():
                nodes.set_xattr(node.inode, key, value)
        nodes.update(
            node.inode,
            writable=file.can_edit,
            kept=kept(file),
            trash=None,
            confirmed_ns=node.confirmed_ns or file.created_ns,
            **values,
        )

    def _link(self, node: Node, shown: Attributes) -> dict[str, object]:
        """What changes in a document with its title and address, which stand in a file that leads to its page."""
        if node.generation is not None and node.export in LINK_EXPORTS:
            self._store.news.contents(node.inode)
            self._store.content.drop_unused(node.generation)
        if node.export in LINK_EXPORTS:
            return {"target": shown.target, "generation": None, "size_bytes": shown.size_bytes}
        return {"target": shown.target}

    @staticmethod
    def _remote(file: RemoteFile) -> dict[str, object]:
        return {
            "remote_name": file.name,
            "remote_parent": file.parent,
            "remote_meta": remote_meta(file),
            "remote_version": file.version,
            "remote_trashed": 1 if file.put_into_trash else None,
        }

    def gone(self, drive_id: DriveId, file: RemoteFile | None) -> None:
        """Drive says that an item is in the trash, or that there is none."""
        node = self._store.nodes.find_by_drive_id(drive_id)
        if node is None:
            if file is not None:
                self._add_trashed(file)
            return
        if node.inode == ROOT_INODE or node.place is not None or node.unnamed:
            return
        if file is not None and node.remote_version is not None and 0 < file.version <= node.remote_version:
            return
        if file is not None and self.trash.holds(node):
            self._update_trashed(node, file)
            return
        self.forget(node)
        if file is not None:
            self._add_trashed(file)

    def forget(self, node: Node) -> bool:
        """Drop a node, and what lies below it, that Drive no longer shows. What Drive does not have yet stays, with
        the folders that lead to it: those are made again. Returns whether the node stayed."""
        # What lies below goes first. Not by recursion: nobody but Drive says how deep its folders are.
        way = [self._leaving(node)]
        while True:
            leaving = way[-1]
            child = next(leaving.below, None)
            if child is not None:
                way.append(self._leaving(child))
                continue
            way.pop()
            stayed = self._leave(leaving.node, leaving.kept)
            if not way:
                return stayed
            way[-1].kept = way[-1].kept or stayed

    def _leaving(self, node: Node) -> _Leaving:
        nodes = self._store.nodes
        job = self._store.journal.find(node.inode)
        kept = self._is_open(node) or (job is not None and (job.generation is not None or node.confirmed_ns is None))
        is_folder = node.kind is Kind.FOLDER
        below = chain(nodes.children(node.inode), nodes.frozen_in(node.inode)) if is_folder else iter(())
        return _Leaving(node, kept, below)

    def _leave(self, node: Node, kept: bool) -> bool:
        """Drop a node of which nothing is left below, unless it is `kept`; whether it stayed."""
        journal, nodes = self._store.journal, self._store.nodes
        if node.frozen:
            # Nobody misses it here.
            left = nodes.find(node.inode)
            if left is not None:
                journal.lost_on_drive(left)
            return False
        if kept:
            journal.lost_on_drive(nodes.get(node.inode))
            return True
        journal.forgotten(node.inode)
        if node.generation is None or self._store.content.drop_unused(node.generation):
            nodes.remove(node.inode)
        else:  # open: it lives on without a name, as an unlinked file does
            nodes.update(node.inode, parent=None, name=None, drive_id=None, confirmed_ns=None)
        return False

    def catch_up(self) -> None:
        """Take over what Drive had changed while it was open for writing here, and was not changed here after all.
        Not in a transaction of the caller's."""
        nodes = self._store.nodes
        for drive_id, file in list(self._missed.items()):
            with self._store.db.transaction():
                node = nodes.find_by_drive_id(drive_id)
                if node is not None and self._is_open(node):
                    continue
                del self._missed[drive_id]
                parent = nodes.find_by_drive_id(file.parent) if file.parent is not None else None
                if node is None or node.unnamed or parent is None or node.remote_version != file.version:
                    continue  # gone, or there is newer news
                if self._store.journal.find(node.inode) is None:
                    self._update(node, file, parent)
