"""Extended attributes: the files' own, kept on Drive, and those that drivefs answers by itself.

Any thread may enter. A change is journaled when the call returns.
"""

from __future__ import annotations

from enum import Enum

from drivefs.errors import Exists, NoAttribute, NoSpace, NotPermitted, NotSupported
from drivefs.model import ROOT_INODE, Inode, RequestId
from drivefs.store.node import Node
from drivefs.store.store import Store
from drivefs.sync.metadata import (
    FIELDS,
    XATTR_LIMIT,
    field_value,
    fields,
    remote_mime_type,
    unset_field,
    without_fields,
    xattr_property,
)
from drivefs.vfs.opened import OpenFiles
from drivefs.vfs.rights import Rights
from drivefs.vfs.tree import Tree

OWN_PREFIX = "user."
VIRTUAL_PREFIX = "user.drivefs."

XATTR_CREATE = 1  # setxattr(2)
XATTR_REPLACE = 2


class Publication(Enum):
    """How far a file is on its way to Drive: the value of `user.drivefs.state`."""

    LOCAL = "local"
    UPLOADING = "uploading"
    DURABLE = "durable"
    FAILED = "failed"


class Xattrs:
    """The extended attributes of one mount."""

    def __init__(self, store: Store, opened: OpenFiles, tree: Tree, rights: Rights) -> None:
        self._store = store
        self._opened = opened
        self._tree = tree
        self._rights = rights

    def get(self, inode: Inode, name: str) -> bytes:
        """getxattr(2). Raises NoAttribute, NoEntry; NotSupported for other namespaces."""
        if not name.startswith(OWN_PREFIX):
            raise NotSupported("Only user attributes are kept.")
        if name in FIELDS:
            value = self._all(inode).get(name) or unset_field(name) or None
        elif name.startswith(VIRTUAL_PREFIX):
            return self._virtual(inode, name.removeprefix(VIRTUAL_PREFIX))
        else:
            value = self._store.nodes.xattrs(inode).get(name)
        if value is None:
            raise NoAttribute("There is no such attribute.")
        return value

    def names(self, inode: Inode) -> list[str]:
        """listxattr(2): the file's own, and Drive's fields that are set; not those that a copy could not set. Raises
        NoEntry."""
        return list(self._all(inode))

    def _all(self, inode: Inode) -> dict[str, bytes]:
        with self._store.db.transaction_lock():
            node, known = self._store.nodes.get(inode), self._store.nodes.xattrs(inode)
        return {**without_fields(known), **fields(node, known)}

    def set(self, inode: Inode, name: str, value: bytes, flags: int = 0, request: RequestId | None = None) -> None:
        """setxattr(2). Raises Exists or NoAttribute as `flags` say; NoSpace beyond what Drive keeps;
        InvalidArgument for what a field of Drive's cannot be; NotPermitted for drivefs' own names, NotSupported for
        other namespaces."""
        self._check_name(name)
        with self._store.db.transaction():
            node = self._changeable(inode, name)
            known = self._all(inode)
            if name in known and flags & XATTR_CREATE:
                raise Exists("The attribute is there.")
            if name not in known and flags & XATTR_REPLACE:
                raise NoAttribute("There is no such attribute.")
            unset = unset_field(name) if name in FIELDS else None
            if name in FIELDS:
                value = field_value(name, value)
            else:
                if name not in known and len(without_fields(known)) >= XATTR_LIMIT:
                    raise NoSpace(f"Drive keeps {XATTR_LIMIT} attributes of a file.")
                xattr_property(name, value)
            self._store.requests.note(request, inode)
            if known.get(name, unset) != value:
                self._store.nodes.set_xattr(inode, name, value)
                self._tree.changed(node)

    def remove(self, inode: Inode, name: str, request: RequestId | None = None) -> None:
        """removexattr(2). Raises NoAttribute, NotPermitted, NotSupported."""
        self._check_name(name)
        with self._store.db.transaction():
            node = self._changeable(inode, name)
            if name not in self._all(inode):
                raise NoAttribute("There is no such attribute.")
            self._store.requests.note(request, inode)
            if name in FIELDS:
                self._store.nodes.set_xattr(inode, name, unset_field(name))
            else:
                self._store.nodes.remove_xattr(inode, name)
            self._tree.changed(node)

    def _changeable(self, inode: Inode, name: str) -> Node:
        self._rights.check_mount()
        node = self._store.nodes.get(inode)
        self._rights.check(node)
        if name in FIELDS and (inode == ROOT_INODE or node.place is not None):
            raise NotPermitted("The tops of drives have neither a description nor a star.")
        return node

    @staticmethod
    def _check_name(name: str) -> None:
        if not name.startswith(OWN_PREFIX):
            raise NotSupported("Only user attributes are kept.")
        if name.startswith(VIRTUAL_PREFIX) and name not in FIELDS:
            raise NotPermitted("drivefs answers this attribute by itself.")
        if not name.isascii():
            try:
                name.encode()
            except UnicodeEncodeError as error:
                raise NotSupported("Drive's names are Unicode: this one is not UTF-8.") from error

    def _virtual(self, inode: Inode, name: str) -> bytes:
        if name == "state":
            return self.publication(inode).value.encode()
        with self._store.db.transaction_lock():
            node = self._store.journal.origin(self._store.nodes.get(inode))
        value: str | None = None
        match name:
            case "id":
                value = node.drive_id if node.confirmed_ns is not None else None
            case "link" if node.confirmed_ns is not None:
                page = node.target if node.export is not None or node.points_to is not None else None
                value = page or f"https://drive.google.com/open?id={node.drive_id}"
            case "revision":
                value = node.revision
            case "md5":
                value = node.md5
            case "mime_type":
                value = remote_mime_type(node)
        if value is None:
            raise NoAttribute("Drive has said nothing of the kind.")
        return value.encode()

    def publication(self, inode: Inode) -> Publication:
        """How far a node is on its way to Drive."""
        with self._store.db.transaction_lock():
            if self._opened.is_dirty(inode):
                return Publication.LOCAL
            job = self._store.journal.find(inode)
            if job is None:
                return Publication.LOCAL if self._store.nodes.get(inode).local else Publication.DURABLE
            if job.stuck:
                return Publication.FAILED
            if job.generation is not None and self._store.content.is_claimed(job.generation):
                return Publication.UPLOADING
            return Publication.LOCAL
