"""One job made true on Drive: create, update, content.

Stateless; entered by the uploader's threads. Every step may be repeated after a crash or a lost reply: a create
carries an ID that was noted before, and a try that may have worked is looked at before the next.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace

from drivefs.drive.api import Drive
from drivefs.errors import BadReply, IdInUse, RemoteNotFound, Superseded
from drivefs.model import (
    CreateTarget,
    DriveId,
    Inode,
    Kind,
    Metadata,
    RemoteFile,
    UpdateTarget,
    UploadTarget,
)
from drivefs.store.claim import Claim
from drivefs.store.node import Node
from drivefs.store.queue import Job
from drivefs.store.store import Store
from drivefs.sync.conflicts import keep_beneath, set_aside
from drivefs.sync.copies import Copies
from drivefs.sync.metadata import remote_meta, to_create, to_update, told_fields, told_place, wanted_name
from drivefs.sync.mirror import Mirror
from drivefs.sync.order import SMALL_LIMIT_BYTES, folder_on_drive, removes
from drivefs.sync.removals import Remover
from drivefs.sync.sending import Content, Head, LinkTarget, Outgoing, Progress, Sender

log = logging.getLogger(__name__)

UNSEEN_S = 2.0
"""An upload that took longer leaves room for somebody else's between our look and its end."""


class Publisher:
    """Knows how to say a node to Drive."""

    def __init__(self, store: Store, drive: Drive, mirror: Mirror, *, delete: bool = False) -> None:
        """`delete`: what is removed here does not go to Drive's trash (`Remover`)."""
        self._store = store
        self._mirror = mirror
        self._drive = drive
        self._sender = Sender(store, drive)
        self._copies = Copies(store, drive)
        self._remover = Remover(store, drive, mirror, delete=delete)

    def publish(
        self, job: Job, node: Node, claim: Claim | None, progress: Progress, head: Head | None = None
    ) -> None:
        """Make Drive agree with `node` and `claim`, of which it has the `head` already, and note it. Raises
        DriveError, Superseded, CacheDamaged."""
        if node.unnamed:
            self._remover.remove(node)
            return
        if removes(job, node):
            self._remover.put_into_trash(node)
            return
        content: Content | None = None
        if claim is not None:
            content = Outgoing(claim, progress, self._store.sync, head)
        elif node.kind is Kind.SYMLINK and node.ours and node.target is not None:
            link = LinkTarget(node.target)
            content = link if node.md5 != link.md5() else None
        known = self._known(job, node, content)
        if known is not None and content is not None and self._is_not_ours(job, node, known, content):
            return  # its job goes on under another identity
        if content is not None:
            remote = self._with_content(job, node, content, known)
            if head is not None:
                remote = self._with_attributes(self._seen(node, remote, sending=True), remote)
            elif job.session is not None:
                resumed = self._with_what_changed(job, node, content, remote)
                if resumed is None:
                    return
                remote = resumed
        elif known is None and node.confirmed_ns is not None and not self._differs(node):
            with self._store.db.transaction():
                self._store.journal.settled(node)
                self._drop_told_fields(node.inode)
            return
        else:
            remote = self._without_content(node, known)
        sent = content is not None
        if sent and remote.trashed and not self._mirror.trash.holds(node):
            log.warning("%s was trashed on Drive while it was sent: it is made anew.", remote.name)
            self._store.journal.lost_on_drive(node)
            return
        placed = self._is_as_told(node, remote)
        news = not placed or self._tells_news(node, remote, sent=sent)
        # The changes feed may have been faster than the reply: what it told of the content had to wait for this.
        latest = self._drive.get(remote.id) if self._mirror.has_newer(remote) else None
        with self._store.db.transaction():
            news = news or self._has_other_attributes(node, remote)
            # News are told by the feed: it is compared with what was known before.
            meta = node.remote_meta if news and node.remote_meta is not None else remote_meta(remote)
            self._store.journal.published(node, remote, meta, claim, sent=sent, news=news, placed=placed)
            self._drop_told_fields(node.inode)
            if latest is not None:
                self._mirror.take_again(latest)

    def _drop_told_fields(self, inode: Inode) -> None:
        """What was set here of Drive's own fields, and Drive has: from now on Drive's counts. In the caller's
        transaction."""
        nodes = self._store.nodes
        node = nodes.find(inode)
        if node is not None:
            for name in told_fields(node, nodes.xattrs(inode)):
                nodes.remove_xattr(inode, name)

    # --- what Drive has, and what it is to be told ---

    def _is_as_told(self, node: Node, remote: RemoteFile) -> bool:
        """Whether name and folder are what Drive was told, though the node may have others by now."""
        if (remote.name, remote.parent) == (wanted_name(node), self._parent_id(node)):
            return True
        job = self._store.journal.find(node.inode)
        return job is not None and job.tried_md5 == told_place(remote.parent, remote.name)

    def _tells_news(self, node: Node, remote: RemoteFile, *, sent: bool) -> bool:
        """Whether Drive's answer differs in more than what it was told, and in more than the place."""
        return (remote.trashed and not self._mirror.trash.holds(node)) or (
            not sent and node.confirmed_ns is not None and remote.revision != node.revision
        )

    def _has_other_attributes(self, node: Node, remote: RemoteFile) -> bool:
        """Whether others have changed the time or attributes since they were last heard of; as far as that can be
        told from what was changed here since it was sent. In the caller's transaction."""
        now = self._store.nodes.find(node.inode)
        if node.confirmed_ns is None or now is None or now.change != node.change:
            return False
        told = replace(node, remote_name=remote.name, remote_meta=remote_meta(remote))
        return to_update(told, self._store.nodes.xattrs(node.inode), with_content=False, in_trash=True) != Metadata()

    def _known(self, job: Job, node: Node, content: Content | None) -> RemoteFile | None:
        """What Drive has now: before content replaces content, and after a failed try, which may have worked."""
        if node.drive_id is None:
            return None
        if node.confirmed_ns is not None:
            unsure = content is not None or job.attempts > 0 or job.tried_md5 is not None
            return self._drive.get(node.drive_id) if unsure else None
        if content is None or job.tried_md5 is None:
            return None
        try:
            return self._drive.get(node.drive_id)
        except RemoteNotFound:
            return None

    def _is_not_ours(self, job: Job, node: Node, known: RemoteFile, content: Content) -> bool:
        """Whether the content on Drive is not the one that the content here began from; then that is dealt with."""
        if known.trashed and not node.remote_trashed and not self._mirror.trash.holds(node):
            log.warning("%s was trashed on Drive while it was changed here: it is made anew.", known.name)
            self._store.journal.lost_on_drive(node)
            return True
        if node.confirmed_ns is None:
            # A create of ours whose reply was lost: what is there by now stays as a revision beneath, and the file.
            if node.kind is Kind.FILE and known.md5 not in (job.tried_md5, content.md5()):
                self._store.nodes.update(node.inode, ours=False)
            return False
        if known.revision == node.revision or known.md5 in (job.tried_md5, node.md5):
            return False
        if known.size_bytes == content.size_bytes and known.md5 == content.md5():
            return False
        set_aside(self._store, self._mirror, node, known)
        return True

    def _parent_id(self, node: Node) -> DriveId:
        parent = folder_on_drive(node, self._store.nodes)
        if parent is None or parent.drive_id is None:
            raise BadReply("The folder is not on Drive yet.")
        return parent.drive_id

    def _create_target(self, node: Node) -> CreateTarget:
        assert node.drive_id is not None  # reserved by the dispatcher
        return CreateTarget(
            node.drive_id, self._parent_id(node), to_create(node, self._store.nodes.xattrs(node.inode))
        )

    def _update_target(self, node: Node, *, with_content: bool) -> UpdateTarget:
        assert node.drive_id is not None
        parent_id = self._parent_id(node)
        moved = node.remote_parent is not None and node.remote_parent != parent_id
        return UpdateTarget(
            node.drive_id,
            to_update(
                node,
                self._store.nodes.xattrs(node.inode),
                with_content=with_content,
                in_trash=self._mirror.trash.holds(node),
            ),
            add_parent=parent_id if moved else None,
            remove_parent=node.remote_parent if moved else None,
        )

    def _differs(self, node: Node) -> bool:
        target = self._update_target(node, with_content=False)
        return target.metadata != Metadata() or target.add_parent is not None

    def _seen(self, node: Node, remote: RemoteFile, *, sending: bool) -> Node:
        """`node` with what Drive answered noted: the next update sends what differs from that. Raises Superseded
        when the node goes on under another identity."""
        with self._store.db.transaction():
            self._mirror.take(remote)
            self._store.journal.seen_on_drive(node.inode, remote, remote_meta(remote), sending=sending)
            node = self._store.nodes.get(node.inode)
        if node.drive_id != remote.id or node.unnamed:
            raise Superseded(f"{remote.name} was moved out of the mount, or another file has its place.")
        return node

    # --- the ways to say it ---

    def _with_what_changed(self, job: Job, node: Node, content: Content, remote: RemoteFile) -> RemoteFile | None:
        """After a session that was resumed: it had begun with the name and attributes of its time, and tells of the
        file as it was when it ended. None when somebody has given it another content since: then that is dealt
        with."""
        now = self._drive.get(remote.id)
        if now.revision == remote.revision or now.md5 == remote.md5:
            remote = now
        node = self._seen(node, remote, sending=True)
        if self._is_not_ours(job, node, now, content):
            return None
        return self._with_attributes(node, remote)

    def _with_attributes(self, node: Node, remote: RemoteFile) -> RemoteFile:
        """After a session that had begun with the name and attributes of its time."""
        if not self._differs(node):
            return remote
        return self._told(node)

    def _without_content(self, node: Node, known: RemoteFile | None) -> RemoteFile:
        assert node.drive_id is not None
        if node.confirmed_ns is None:
            try:
                return self._drive.create(self._create_target(node))
            except IdInUse:
                known = self._drive.get(node.drive_id)
        if known is not None:
            node = self._seen(node, known, sending=False)
        if known is not None and not self._differs(node):
            return known
        return self._told(node)

    def _told(self, node: Node) -> RemoteFile:
        self._store.journal.set_trying(node.inode, told_place(self._parent_id(node), wanted_name(node)))
        return self._drive.update(self._update_target(node, with_content=False))

    def _with_content(self, job: Job, node: Node, content: Content, known: RemoteFile | None) -> RemoteFile:
        assert node.drive_id is not None
        if node.confirmed_ns is None:
            try:
                known = known or self._copied(node, content)
                if known is None:
                    return self._sent(job, node, self._create_target(node), content)
            except IdInUse:
                # An earlier try had worked, though its reply was lost.
                known = self._drive.get(node.drive_id)
            # A session of before would create the file once more.
            self._store.journal.set_session(job, node.drive_id, None)
            job = replace(job, session=None)
            if isinstance(content, Outgoing):
                content.head = None
        assert known is not None
        node = self._seen(node, known, sending=True)
        if known.size_bytes == content.size_bytes and known.md5 == content.md5():
            return self._without_content(node, known)
        began = time.monotonic()
        remote = self._sent(job, node, self._update_target(node, with_content=True), content)
        if time.monotonic() - began > UNSEEN_S:
            self._look_beneath(job, node, remote, known)
        return remote

    def _copied(self, node: Node, content: Content) -> RemoteFile | None:
        """The new file as Drive has copied it from another of the same content, if it could: with that content,
        unless the other one changed just then, and perhaps with attributes of the other's."""
        return self._copies.make(self._create_target(node), content, lambda: self._note_tried(node, content))

    def _note_tried(self, node: Node, content: Content) -> None:
        """Before a request that may put `content` into the node's file, though no reply says so."""
        assert node.drive_id is not None
        self._store.journal.set_tried(node.drive_id, content.md5())
        self._store.sync()

    def _sent(self, job: Job, node: Node, target: UploadTarget, content: Content) -> RemoteFile:
        """Send content. It is noted before all of it can be there, so that neither a lost reply nor a crash has it
        taken for somebody else's content later, nor somebody else's for ours."""
        drive_id = node.drive_id
        assert drive_id is not None

        def note() -> None:
            self._store.journal.set_tried(drive_id, content.md5())

        if isinstance(content, Outgoing) and content.size_bytes > SMALL_LIMIT_BYTES:
            content.before_last = note
        else:
            self._note_tried(node, content)
        return self._sender.send(job, target, content)

    def _look_beneath(self, job: Job, node: Node, remote: RemoteFile, known: RemoteFile) -> None:
        """Whether somebody else's content came in while ours was on its way (v3 has no If-Match)."""
        revisions = self._drive.revisions(remote.id)
        at = [index for index, revision in enumerate(revisions) if revision.id == remote.revision]
        # Where Drive names no head revision, its content says which it is.
        at = at or [index for index, revision in enumerate(revisions) if revision.md5 == remote.md5]
        if not at or at[-1] == 0:
            return
        beneath = revisions[at[-1] - 1]
        if beneath.id != known.revision and beneath.md5 not in (known.md5, remote.md5, job.tried_md5):
            keep_beneath(self._store, node, remote, beneath)
