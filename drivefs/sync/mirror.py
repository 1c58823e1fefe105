"""Drive's tree as rows of the store: `listings` brings it in, and the changes feed keeps it right from then on.

`run` is the body of one thread; the rest may be called from any. The network is never called under a lock of the
store. A page and the token after it are one transaction, so a crash repeats a page at most.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from drivefs.drive.api import Drive
from drivefs.errors import DriveError, Refused, SignInNeeded
from drivefs.model import (
    LINK_EXPORTS,
    ROOT_ALIAS,
    ROOT_INODE,
    ChangesPage,
    DriveId,
    Inode,
    Kind,
    ListPage,
    Place,
    Priority,
    RemoteFile,
)
from drivefs.store.node import Node
from drivefs.store.store import Store
from drivefs.sync.exports import FORMATS, with_extension
from drivefs.sync.layout import COLAB, FLAT, make_places, root_of
from drivefs.sync.listing import Listings
from drivefs.sync.metadata import Attributes, attributes, node_values, remote_meta, told_place, wanted_name
from drivefs.sync.names import local_name, shown_name
from drivefs.sync.shared_drives import SharedDrives
from drivefs.sync.shortcuts import Shortcuts
from drivefs.sync.space import Space, SpaceWatch

log = logging.getLogger(__name__)

POLL_S = 5.0
"""Between two polls while the mount is in use: what is changed elsewhere is seen within 10 s."""

IDLE_POLL_S = 60.0
IDLE_PARTS = 10.0
"""Nobody looks: a tenth of the idle time, up to a minute. Whoever comes back lets it poll at once."""

ANEW_EVERY_S = 600.0
"""Everything is listed anew no more often than this, whatever a server says of its own tokens."""


class Mirror:
    """The one writer of what Drive says into the store."""

    def __init__(
        self,
        store: Store,
        drive: Drive,
        *,
        formats: Sequence[str] = FORMATS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`formats`: as what Google documents show (sync.exports)."""
        self._store = store
        self._formats = formats
        self._drive = drive.at(Priority.CHANGES)
        self.listings = Listings(store, drive, self, formats, monotonic=monotonic)
        self._shortcuts = Shortcuts(store, self._drive, self.listings)
        self._monotonic = monotonic
        self._polling = threading.Lock()  # one poll at a time; held while Drive is asked
        self._used_s = monotonic()
        self._hasten = threading.Event()
        self._shared = SharedDrives(store, self._drive, self, monotonic=monotonic)
        self._missed: dict[DriveId, RemoteFile] = {}  # changed while open for writing here; guarded by the database
        self._space = SpaceWatch(self._drive, monotonic)
        self._anew_s: float | None = None  # when everything was last listed anew; guarded by _polling
        self.offline: str | None = None
        """Why Drive could not be asked at the last try, in words; None when it answered."""

    # --- start ---

    def start(self, root: DriveId | None = None, *, layout: str = FLAT) -> None:
        """Get to know the root folder; with a cache from before, nothing is asked. A `root` of one's own is flat.

        Raises DriveError or SignInNeeded at first contact; Refused when `root` is not a folder.
        """
        nodes = self._store.nodes
        if root_of(nodes).drive_id is not None:
            return
        # The token comes before the first listing, so that no change falls between the two.
        token = self._drive.start_page_token()
        page: ListPage | None = None
        if root is None:
            page = self._drive.list_children([ROOT_ALIAS])
            root = self._root_of(page)
        elif not self._drive.get(root).mime_type.endswith(".folder"):
            raise Refused(f"The item {root} is not a folder.", reason="notAFolder")
        with self._store.db.transaction():
            self._store.db.set_setting("changes_token", token)
            if layout == COLAB:
                make_places(nodes, root)
            else:
                nodes.update(ROOT_INODE, drive_id=root, confirmed_ns=1)
            if page is not None:
                self.listings.flat.plan(page)
        self._shared.look()

    def _root_of(self, page: ListPage) -> DriveId:
        """My Drive's root: its children name it, which saves a request."""
        parents = {file.parent for file in page.files}
        named = parents.pop() if len(parents) == 1 else None
        return named or self._drive.root_id()

    def adopt_formats(self) -> None:
        """Documents that show in other formats than this mount's are listed anew; before anybody looks."""
        chosen = ",".join(self._formats)
        with self._store.db.transaction():
            if self._store.db.setting("export_formats") == chosen:
                return
            for node in self._store.nodes.documents():
                if node.parent is None or self._store.journal.find(node.inode) is not None:
                    continue  # with a change that waits, it keeps the name that it has
                if node.generation is None or self._store.content.drop_unused(node.generation):
                    self._store.nodes.remove(node.inode)
                    self._store.nodes.update(node.parent, listed=False)
            self._store.db.set_setting("export_formats", chosen)

    # --- the changes feed ---

    def run(self, stop: threading.Event) -> None:
        """Follow the changes feed until `stop` is set and `wake` called."""
        polled_s = self._monotonic()
        poll = not self.listings.flat.is_new()  # otherwise the feed's place was asked for a moment ago
        while not stop.is_set():
            try:
                if poll:
                    polled_s = self._monotonic()
                    self.poll()
                if self._space.is_due():
                    self.ask_space()
            except (DriveError, SignInNeeded) as error:
                if self.offline is None:
                    log.warning("Drive's changes cannot be followed for now: %s", error)
                self.offline = str(error)
            else:
                if self.offline is not None:
                    log.info("Drive answers again.")
                self.offline = None
            hastened = self._hasten.wait(polled_s + self.interval_s() - self._monotonic())
            self._hasten.clear()
            poll = not hastened or self._monotonic() - polled_s >= self.interval_s()

    def interval_s(self) -> float:
        """Until the next poll: short while the mount is in use."""
        return min(max(POLL_S, (self._monotonic() - self._used_s) / IDLE_PARTS), IDLE_POLL_S)

    def in_use(self) -> None:
        """Somebody looks at the mount; costs next to nothing."""
        now_s = self._monotonic()
        idle_s, self._used_s = now_s - self._used_s, now_s
        if idle_s > POLL_S * IDLE_PARTS:
            self._hasten.set()

    def wake(self) -> None:
        """Let both threads look whether the end has come."""
        self._hasten.set()
        self.listings.wake()

    def poll(self) -> int:
        """Apply everything that has changed on Drive until now; how many changes there were. Raises DriveError."""
        with self._polling:
            count = self._poll()
        if count:
            self.listings.wake()
        return count

    def _catch_up(self) -> None:
        """Take over what Drive had changed while it was open for writing here, and was not changed here after all."""
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

    def _poll(self) -> int:
        self._catch_up()
        try:
            count = self._follow("changes_token", self._drive.changes)
        except Refused as error:
            if self._anew_s is not None and self._monotonic() - self._anew_s < ANEW_EVERY_S:
                raise
            log.warning("Drive no longer knows the place in its changes feed (%s): listing anew.", error)
            self._start_over()
            return 0
        return count + self._shared.poll(self._follow)

    def _follow(self, setting: str, ask: Callable[[str], ChangesPage]) -> int:
        """Apply a feed from the place that `setting` keeps to its end; how many changes there were. Raises
        DriveError."""
        token = self._store.db.setting(setting)
        count = 0
        while token is not None:
            page = ask(token)
            with self._store.db.transaction():
                for change in page.changes:
                    if change.file is None or change.file.trashed:
                        self.listings.pages.is_gone(change.id)
                        self._gone(change.id, change.file)
                    else:
                        self._apply(change.file)
                self._store.db.set_setting(setting, page.next_token or page.new_start_token or token)
            count += len(page.changes)
            token = page.next_token
        return count

    def _start_over(self) -> None:
        token = self._drive.start_page_token()
        self._anew_s = self._monotonic()
        with self._store.db.transaction():
            self._store.db.set_setting("changes_token", token)
            self.listings.start_over()
        self.listings.wake()

    # --- listings ---

    def ensure_listed(self, inode: Inode, *, to_read: bool = False) -> None:
        """Make sure that all that Drive has in a folder is in the store. `to_read`: somebody will go through its
        entries. Raises DriveError, SignInNeeded."""
        self.listings.ensure_listed(inode, to_read=to_read)

    def ensure_known(self, drive_id: DriveId) -> None:
        """Have an item in the tree, with the folders that lead to it, if the mount shows it. Raises DriveError,
        SignInNeeded."""
        self._shortcuts.ensure_known(drive_id)

    # --- what one item of Drive means for the tree; in the caller's transaction ---

    def take(self, file: RemoteFile) -> None:
        """Drive said this of an item, in answer to another call; in the caller's transaction."""
        self._apply(file)

    def has_newer(self, file: RemoteFile) -> bool:
        """Whether the changes feed has told of a later state of an item."""
        node = self._store.nodes.find_by_drive_id(file.id)
        return node is not None and node.remote_version is not None and 0 < file.version < node.remote_version

    def take_again(self, file: RemoteFile) -> None:
        """Like `take`, where the feed told of this state while the item's content was on its way from here."""
        node = self._store.nodes.find_by_drive_id(file.id)
        if node is not None:
            self._store.nodes.update(node.inode, remote_version=None)
        self._apply(file)

    def _apply(self, file: RemoteFile) -> None:
        nodes = self._store.nodes
        node = nodes.find_by_drive_id(file.id)
        if node is not None and (node.inode == ROOT_INODE or node.place is not None):
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
                self._apply(file)
            return
        if parent is None or self._is_above(node.inode, parent.inode):
            self.forget(node)  # moved out of sight
            return
        if self._store.journal.find(node.inode) is not None or self._is_open(node):
            self._merge(node, file, parent)
            return
        self._update(node, file, parent)

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
        """Changed on both sides. What was not changed here is Drive's: the name and folder, or the content. Times
        and attributes stay. Where both changed the content, the publish finds out and keeps both."""
        nodes = self._store.nodes
        values: dict[str, object] = {"remote_version": file.version}
        here = nodes.find(node.parent) if node.parent is not None else None
        placed = here is not None and here.drive_id == node.remote_parent
        job = self._store.journal.find(node.inode)
        told = job is not None and job.tried_md5 == told_place(file.parent, file.name)  # from here, a moment ago
        if placed and not told and wanted_name(node) == node.remote_name:
            shown = self._shown_for(node)
            values |= {"name": self._free_name(file, parent, shown.inode), "parent": parent.inode}
            nodes.update(shown.inode, name=values["name"], parent=parent.inode)
        if job is not None and job.generation is None and not self._is_open(node):
            values |= self._content(node, file)
        nodes.update(node.inode, remote_name=file.name, remote_parent=file.parent, **values)
        if self._is_open(node) and file.revision != node.revision:
            self._missed[file.id] = file

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
        return local_name(name, file.id, taken=other is not None and other.inode != inode)

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
        node = self._store.nodes.add(parent=parent.inode, name=name, **node_values(file, shown))
        for key, value in shown.xattrs.items():
            self._store.nodes.set_xattr(node.inode, key, value)

    def _update(self, node: Node, file: RemoteFile, parent: Node) -> None:
        nodes = self._store.nodes
        shown = attributes(file, self._formats)
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
            kept=None if file.can_trash else 1,
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
        }

    def _gone(self, drive_id: DriveId, file: RemoteFile | None) -> None:
        node = self._store.nodes.find_by_drive_id(drive_id)
        if node is None or node.inode == ROOT_INODE or node.place is not None or node.unnamed:
            return
        if file is not None and node.remote_version is not None and 0 < file.version <= node.remote_version:
            return
        self.forget(node)

    def forget(self, node: Node) -> bool:
        """Drop a node, and what lies below it, that Drive no longer shows. What Drive does not have yet stays, with
        the folders that lead to it: those are made again. Returns whether the node stayed."""
        journal, nodes = self._store.journal, self._store.nodes
        job = journal.find(node.inode)
        kept = self._is_open(node) or (job is not None and (job.generation is not None or node.confirmed_ns is None))
        if node.kind is Kind.FOLDER:
            for child in (*nodes.children(node.inode), *nodes.frozen_in(node.inode)):
                kept = self.forget(child) or kept
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

    # --- how full Drive is ---

    def ask_space(self) -> None:
        """Ask Drive for its quota. Raises DriveError."""
        self._space.ask()

    def space(self) -> Space | None:
        """As last heard; None when Drive has not said yet."""
        return self._space.known

    def want_space(self) -> None:
        """Somebody asks, and does not know it yet: Drive is asked soon. Returns at once."""
        self._space.want()
        self._hasten.set()
