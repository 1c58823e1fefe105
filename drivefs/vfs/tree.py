"""Names: everything that makes, moves or removes an entry of a folder, and changes the attributes that stand there.

Any thread may enter. What changes names is one transaction: it is journaled when the call returns, together with the
request that asked for it (store/requests.py), and undone as a whole when it raises. The network is asked only for a
folder that was never listed, before the transaction.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from drivefs.errors import (
    AccessDenied,
    CrossDevice,
    Exists,
    InvalidArgument,
    IsDirectory,
    NoEntry,
    NotEmpty,
    NotPermitted,
)
from drivefs.model import Inode, Kind, RequestId
from drivefs.store.node import Node
from drivefs.store.store import Store
from drivefs.sync.layout import is_desktop_trash
from drivefs.vfs.lookup import Lookup
from drivefs.vfs.names import check_name, check_target
from drivefs.vfs.opened import Attributes, OpenFiles
from drivefs.vfs.ports import Downloader, Mirror
from drivefs.vfs.rights import Rights
from drivefs.vfs.trash import Move, TrashMoves

RENAME_NOREPLACE = 1  # renameat2(2)


class Tree(Lookup):
    """The names of one mount, and their changes."""

    def __init__(
        self,
        store: Store,
        mirror: Mirror,
        downloader: Downloader,
        opened: OpenFiles,
        rights: Rights,
        *,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        super().__init__(store, mirror, downloader, opened)
        self._journal = store.journal
        self._rights = rights
        self._trash = TrashMoves(store.nodes)
        self._now_ns = now_ns

    # --- making ---

    def prepare_new(self, parent: Inode, name: str) -> None:
        """What must be known before a name is made: that it is one, and what the folder has on Drive. The caller
        holds no lock."""
        self._store.await_relief()
        self._rights.check_mount()
        check_name(name)
        folder = self._folder(parent)
        self._rights.check(folder)
        if not folder.listed:
            self._mirror.ensure_listed(parent)

    def add(self, parent: Inode, name: str, kind: Kind, mode: int, target: str | None = None) -> Node:
        """A new node, in the caller's transaction and after `prepare_new`. Raises Exists, NoEntry."""
        folder = self._folder(parent)
        if folder.unnamed:
            raise NoEntry("The folder was removed.")
        if self._nodes.find_child(parent, name) is not None:
            raise Exists("The name is taken.")
        now_ns = self._now_ns()
        local = folder.local or (kind is Kind.FOLDER and is_desktop_trash(parent, name))
        node = self._nodes.add(
            parent=parent,
            name=name,
            kind=kind,
            mode=mode & 0o7777,
            size_bytes=len(target.encode()) if target is not None else 0,
            mtime_ns=now_ns,
            ctime_ns=now_ns,
            target=target,
            listed=kind is Kind.FOLDER,
            ours=True,
            local=1 if local else None,
        )
        self._touch(parent, now_ns)
        return node

    def _touch(self, folder: Inode, now_ns: int) -> None:
        """The times of a folder whose entries changed. Drive is not told."""
        self._nodes.update(folder, mtime_ns=now_ns, ctime_ns=now_ns)

    def make_folder(self, parent: Inode, name: str, mode: int, request: RequestId | None = None) -> Attributes:
        """Raises Exists, NoEntry, NotDirectory, NameTooLong, InvalidArgument, ReadOnly, AccessDenied."""
        self.prepare_new(parent, name)
        with self._store.request():
            node = self.add(parent, name, Kind.FOLDER, mode)
            self._store.requests.note(request, node.inode)
            self._journal.changed_metadata(node)
            return self._opened.describe(node)

    def make_symlink(self, parent: Inode, name: str, target: str, request: RequestId | None = None) -> Attributes:
        """Raises what `make_folder` raises."""
        self.prepare_new(parent, name)
        check_target(target)
        with self._store.request():
            node = self.add(parent, name, Kind.SYMLINK, 0o777, target)
            self._store.requests.note(request, node.inode)
            self._journal.changed_metadata(node)
            return self._opened.describe(node)

    # --- removing ---

    def unlink(self, parent: Inode, name: str, request: RequestId | None = None) -> None:
        """Take away the name of a file or symlink; who has it open keeps it. Raises NoEntry, IsDirectory."""
        self._rights.check_mount()
        self.child(parent, name)
        with self._store.request():
            node = self._removable(parent, name)
            if node.kind is Kind.FOLDER:
                raise IsDirectory("A folder is removed by rmdir.")
            self._remove(node, parent, request)

    def remove_folder(self, parent: Inode, name: str, request: RequestId | None = None) -> None:
        """Raises NoEntry, NotDirectory, NotEmpty."""
        self._rights.check_mount()
        found = self.child(parent, name)
        if found.kind is Kind.FOLDER and not found.listed:
            self._mirror.ensure_listed(found.inode)
        with self._store.request():
            node = self._removable(parent, name)
            self._check_empty(node)
            self._remove(node, parent, request)

    def _remove(self, node: Node, parent: Inode, request: RequestId | None) -> None:
        self._rights.check_removal(node)
        self._store.requests.note(request, node.inode)
        columns = self._trash.columns_of_removal(node)
        left = self._take_name(node)
        if columns:
            left = self._nodes.update(left.inode, **columns)
        self._journal.removed(left)
        self._opened.forget_unnamed(left.inode)
        self._touch(parent, self._now_ns())

    def _removable(self, parent: Inode, name: str) -> Node:
        node = self._nodes.find_child(parent, name)
        if node is None:
            raise NoEntry("There is no such file or folder.")
        self._rights.check_entry(self._folder(parent))
        self._rights.check_entry(node)
        if node.place is not None:
            raise AccessDenied("It belongs to the mount, and stays where it is.")
        return node

    def _check_empty(self, node: Node) -> None:
        self._folder(node.inode)
        if self._nodes.has_children(node.inode):
            raise NotEmpty("The folder is not empty.")

    def _take_name(self, node: Node) -> Node:
        """The node as it is without its name, or frozen."""
        self._opened.keep_content(node)
        return self._journal.lose_name(node, self._now_ns())

    # --- moving ---

    def rename(
        self,
        parent: Inode,
        name: str,
        new_parent: Inode,
        new_name: str,
        flags: int = 0,
        request: RequestId | None = None,
    ) -> None:
        """As rename(2): over what has the new name, in one step. `flags` are those of renameat2(2).

        Raises NoEntry, NotDirectory, IsDirectory, NotEmpty; Exists under RENAME_NOREPLACE; InvalidArgument for a
        folder into itself and for other flags.
        """
        if flags & ~RENAME_NOREPLACE:
            raise InvalidArgument("Names cannot be exchanged.")
        found = self.child(parent, name)
        self._prepare_move(new_parent, new_name)
        if found.trash is not None and not self._folder(new_parent).local:
            self._list_below(found)
        over = self._nodes.find_child(new_parent, new_name)
        if over is not None and over.kind is Kind.FOLDER and not over.listed:
            self._mirror.ensure_listed(over.inode)
        with self._store.request():
            source = self._removable(parent, name)
            target = self._nodes.find_child(new_parent, new_name)
            move = self._trash.move(source, self._folder(new_parent), target)
            self._check_move(source, new_parent, target, flags)
            if move is Move.ON_DRIVE:
                self._check_drives(source, new_parent)
            elif move is Move.INTO_TRASH:
                self._rights.check_removal(source)
            if target is not None and target.inode == source.inode:
                return
            self._store.requests.note(request, source.inode)
            if target is not None:
                target = self._take_name(target)
            now_ns = self._now_ns()
            columns = self._trash.columns(move, source)
            moved = self._nodes.update(source.inode, parent=new_parent, name=new_name, ctime_ns=now_ns, **columns)
            if move is Move.INTO_TRASH:
                self._journal.put_into_trash(moved)
            elif target is not None:
                self._journal.replaced(moved, target)
                self._opened.forget_unnamed(target.inode)
            elif move is not Move.HERE:
                self._journal.changed_metadata(moved)
            if move is Move.OUT_OF_TRASH:
                self._journal.restored(moved)
            self._touch(parent, now_ns)
            if new_parent != parent:
                self._touch(new_parent, now_ns)
        if moved.kind is Kind.FILE:
            self._store.habits.renamed(parent, name, new_parent, new_name)

    def _list_below(self, folder: Node) -> None:
        """What was put into the trash by itself, and shows in a folder there, comes back with that: so it is to be
        known. Raises DriveError."""
        if folder.kind is Kind.FOLDER and not folder.listed:
            self._mirror.ensure_listed(folder.inode)
        for node in self._nodes.below(folder):
            if node.kind is Kind.FOLDER and not node.listed:
                self._mirror.ensure_listed(node.inode)

    def _prepare_move(self, new_parent: Inode, new_name: str) -> None:
        """As `prepare_new`; something can be moved into the trash, whatever is in there."""
        folder = self._folder(new_parent)
        if not folder.local:
            self.prepare_new(new_parent, new_name)
            return
        self._rights.check_mount()
        check_name(new_name)

    def _check_drives(self, source: Node, new_parent: Inode) -> None:
        if source.kind is Kind.FOLDER and source.parent is not None and source.parent != new_parent:
            places = self._nodes.place_above(source.parent), self._nodes.place_above(new_parent)
            if places[0] != places[1]:
                raise CrossDevice("A folder cannot move to another drive: copy it.")  # drive-api: Limits

    def _check_move(self, source: Node, new_parent: Inode, target: Node | None, flags: int) -> None:
        if self._folder(new_parent).unnamed:
            raise NoEntry("The folder was removed.")
        if source.kind is Kind.FOLDER and (
            new_parent == source.inode or source.inode in self._nodes.ancestors(new_parent)
        ):
            raise InvalidArgument("A folder cannot be moved into itself.")
        if target is None:
            return
        if flags & RENAME_NOREPLACE:
            raise Exists("The name is taken.")
        if target.inode == source.inode:
            return
        self._rights.check_content(target)
        if target.drive_id is not None and not self._journal.takes_over(source, target):
            self._rights.check_removal(target)
        if source.kind is Kind.FOLDER:
            self._check_empty(target)
        elif target.kind is Kind.FOLDER:
            raise IsDirectory("A file cannot take the place of a folder.")

    # --- attributes ---

    def set_mode(self, inode: Inode, mode: int) -> None:
        """chmod(2). Raises NoEntry, ReadOnly, AccessDenied."""
        self._rights.check_mount()
        with self._store.request():
            node = self._nodes.get(inode)
            self._rights.check(node)
            if mode & 0o7777 != node.mode:
                node = self._nodes.update(inode, mode=mode & 0o7777, ctime_ns=self._now_ns())
                self.changed(node)

    def set_owner(self, inode: Inode, uid: int, gid: int) -> None:
        """chown(2): the owner is the mount's, for all files. -1 leaves one as it is. Raises NotPermitted."""
        self._nodes.get(inode)
        if uid not in (-1, self._rights.uid) or gid not in (-1, self._rights.gid):
            raise NotPermitted("All files belong to the mount's owner.")

    def set_mtime(self, inode: Inode, mtime_ns: int) -> None:
        """utimensat(2), to the nanosecond. Raises NoEntry, ReadOnly, AccessDenied."""
        self._rights.check_mount()
        with self._opened.used(inode) as opened, self._store.request():
            node = self._nodes.get(inode)
            self._rights.check(node)
            file = opened.file
            if file is not None and (opened.dirty or file.direct_writers):
                untouched = file.untouched or (not opened.dirty and opened.sealed == file.fingerprint())
                file.set_mtime(mtime_ns)
                if not untouched:
                    return  # the seal takes it from there
                opened.sealed = file.fingerprint()
            if mtime_ns != node.mtime_ns:
                node = self._nodes.update(inode, mtime_ns=mtime_ns, ctime_ns=self._now_ns())
                self.changed(node)

    def changed(self, node: Node) -> None:
        """Journal a change of a node's attributes, unless it has lost its name or is the root."""
        if node.parent is not None:
            self._journal.changed_metadata(node)
