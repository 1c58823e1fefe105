"""What Drive has said of a job: reserved IDs, sessions, contents and names that it has now.

Entered by the uploader's threads. Each function is one transaction, or part of the caller's; it outlives the process
when it returns.
"""

from __future__ import annotations

import time

from drivefs.model import FOLDER_MIME, DriveId, Inode, Kind, RemoteFile, RevisionId, SessionUri, Trash
from drivefs.store.claim import Claim
from drivefs.store.generations import Base
from drivefs.store.node import NOT_ON_DRIVE, Node
from drivefs.store.points import Points
from drivefs.store.queue import Barrier, Job


class Confirmed(Points):
    """The queue, and what an answer of Drive's changes in it."""

    def reserve_id(self, inode: Inode, drive_id: DriveId) -> Node:
        """Note the ID under which a node is about to be created, before the request goes out."""
        with self._db.transaction():
            self._db.run("DELETE FROM spare_ids WHERE drive_id = ?", (drive_id,))
            return self._nodes.update(inode, drive_id=drive_id)

    def bound_id(self, job: Job) -> DriveId | None:
        """The ID that a content which was sent ahead creates; None when there is none, or another node has it."""
        ahead = self._content.sent_ahead.find(job.generation) if job.generation is not None else None
        if ahead is None or not ahead.fresh or self._nodes.find_by_drive_id(ahead.drive_id) is not None:
            return None
        return ahead.drive_id

    def go_on(self, job: Job, session: SessionUri) -> None:
        """The session in which a content was sent ahead is that of its job from now on."""
        assert job.generation is not None
        with self._db.transaction():
            ahead = self._content.sent_ahead.find(job.generation)
            if ahead is not None:
                self.set_session(job, ahead.drive_id, session)
                self._content.sent_ahead.forget(job.generation)

    def spare_ids(self, count: int) -> list[DriveId]:
        """Up to `count` generated IDs that nothing uses."""
        return [DriveId(row[0]) for row in self._db.rows("SELECT drive_id FROM spare_ids LIMIT ?", (count,))]

    def add_spare_ids(self, ids: list[DriveId]) -> None:
        with self._db.transaction():
            for drive_id in ids:
                self._db.run("INSERT OR IGNORE INTO spare_ids VALUES (?)", (drive_id,))

    def seen_on_drive(self, inode: Inode, remote: RemoteFile, remote_meta: str, *, sending: bool) -> None:
        """Note what Drive has of a node whose publish may have worked without our hearing of it; with `sending`, the
        content too, for it is ours, or about to be replaced. Otherwise another one is left to the changes feed."""
        with self._db.transaction():
            node = self._nodes.get(inode)
            if node.drive_id != remote.id:
                return
            if node.confirmed_ns is None or sending or self._is_tried(inode, remote):
                node = self._nodes.update(inode, revision=remote.revision, md5=remote.md5)
            self._nodes.update(
                inode,
                remote_name=remote.name,
                remote_parent=remote.parent,
                remote_meta=remote_meta,
                remote_version=remote.version,
                confirmed_ns=_confirmed_ns(node),
            )

    def _is_tried(self, inode: Inode, remote: RemoteFile) -> bool:
        """Whether the content that Drive has is one that was sent from here, though no reply said so."""
        job = self.find(inode)
        return job is not None and remote.md5 is not None and job.tried_md5 == remote.md5

    def set_session(self, job: Job, drive_id: DriveId, session: SessionUri | None) -> None:
        """Keep the resumable session of a job's content, or forget it. A session is for one content and one ID: when
        the node has another of either by now, it is not kept."""
        self._db.run(
            "UPDATE jobs SET session = ?, session_generation = ? WHERE inode = ? AND generation IS ? AND seq = ?"
            " AND EXISTS (SELECT 1 FROM nodes n WHERE n.inode = jobs.inode AND n.drive_id = ?)",
            (session, job.generation if session else None, job.inode, job.generation, job.seq, drive_id),
        )

    def published(
        self,
        node: Node,
        remote: RemoteFile,
        remote_meta: str,
        claim: Claim | None = None,
        *,
        sent: bool = False,
        news: bool = False,
        placed: bool = True,
    ) -> None:
        """Drive has the node as it was when it was taken (`node`, and the content in `claim`). `sent`: bytes
        went with it. `news`: the answer tells of others' changes too; those are left to the changes feed. `placed`:
        name and folder are not among them.

        What changed since then stays in the journal.
        """
        with self._db.transaction():
            owner = self._nodes.find_by_drive_id(remote.id)
            if owner is None:
                # Removed, and Drive has been told already.
                return
            values: dict[str, object] = {"remote_meta": remote_meta, "confirmed_ns": _confirmed_ns(owner)}
            if placed:
                values |= {"remote_name": remote.name, "remote_parent": remote.parent}
            if not news:
                values |= {
                    "remote_version": remote.version,
                    "remote_trashed": 1 if remote.put_into_trash else None,
                }
            if sent or self._is_tried(owner.inode, remote):
                values |= {"revision": remote.revision, "md5": remote.md5}
            now = self._nodes.update(owner.inode, **values)
            if owner.inode != node.inode and (claim is None or owner.generation != claim.generation):
                # A newer file has taken over this one's place on Drive while it was on its way.
                self.changed.set()
                return
            # Of another inode: it was frozen while it was on its way.
            if claim is not None:
                self._content_published(now, claim)
            if self.find(now.inode) is None:
                return
            self.settled(node if now.inode == node.inode else now)

    def settled(self, node: Node) -> None:
        """Drive agrees with the node as it was when it was taken; what changed since then stays in the journal."""
        with self._db.transaction():
            now = self._nodes.get(node.inode)
            if now.frozen:
                self._finish(now)
            elif now.trash is Trash.PUT and not now.remote_trashed and not self._has_content(now.inode):
                self._db.run("UPDATE jobs SET tried_md5 = NULL, reason = '' WHERE inode = ?", (now.inode,))
                self._enqueue(now, Barrier.MOUNT, renew=True)
            elif now.change == node.change:
                self._drop(node.inode)
            else:
                self._db.run(
                    "UPDATE jobs SET attempts = 0, reason = '', tried_md5 = NULL, since_seq = seq, since_ns = ?"
                    " WHERE inode = ?",
                    (time.time_ns(), node.inode),
                )
                self.changed.set()

    def _has_content(self, inode: Inode) -> bool:
        """Whether content waits, or is on its way."""
        job = self.find(inode)
        return job is not None and job.generation is not None

    def is_in_trash(self, node: Node) -> None:
        """Drive has put a node into its trash."""
        with self._db.transaction():
            self._nodes.update(node.inode, remote_trashed=1)
            self.settled(node)

    def _content_published(self, node: Node, claim: Claim) -> None:
        generation = claim.generation
        if node.generation != generation:
            self._content.discard(generation)  # a snapshot, or the node's own content has gone on
        elif claim.superseded:
            return  # it was written again, and may wait again by now
        else:
            assert node.drive_id is not None  # Drive has answered by it
            self._content.published(claim, Base(node.drive_id, node.revision or RevisionId("")))
        self._db.run(
            "UPDATE jobs SET generation = NULL, session = NULL, session_generation = NULL"
            " WHERE inode = ? AND generation = ?",
            (node.inode, generation),
        )

    def removal_published(self, inode: Inode, *, trashed: bool = False) -> None:
        """Drive no longer has what a nameless node stood for, or has it in the trash."""
        with self._db.transaction():
            node = self._nodes.find(inode)
            self._drop(inode)
            if trashed and node is not None and node.ours and node.kind is Kind.FILE:
                self._db.run(
                    "INSERT OR REPLACE INTO trashed VALUES (?, ?, ?, ?)",
                    (node.drive_id, node.revision, node.size_bytes, time.time_ns()),
                )
            if node is not None and node.unnamed:
                if node.generation is None:
                    self._nodes.remove(inode)
                else:
                    self._nodes.update(inode, drive_id=None, confirmed_ns=None)

    def came_late(self, remote: RemoteFile) -> None:
        """A create has worked after its file was removed here: that is deleted. Part of the caller's transaction."""
        self._db.run("DELETE FROM disowned WHERE drive_id = ?", (remote.id,))
        kind = Kind.FOLDER if remote.mime_type == FOLDER_MIME else Kind.FILE
        self._leave_nameless(remote.id, kind, remote.revision)

    def forgotten(self, inode: Inode) -> None:
        """A node that only differed in its name or attributes is gone from Drive: nothing is left to say."""
        self._drop(inode)

    def lost_on_drive(self, node: Node) -> None:
        """Drive no longer has the file or folder, but there is something here that it never had: it is new again."""
        with self._db.transaction():
            node = self._nodes.update(node.inode, **NOT_ON_DRIVE)
            if node.frozen:
                self.give_up(node)
                return
            # It would go on into the file that is gone.
            self._db.run("UPDATE jobs SET session = NULL, session_generation = NULL WHERE inode = ?", (node.inode,))
            if node.kind is Kind.FOLDER or self.find(node.inode) is not None:
                self._enqueue(node, Barrier.NONE, renew=False)


def _confirmed_ns(node: Node) -> int | None:
    """Since when Drive has had a node that it has confirmed now. One that was removed before that never counts as
    confirmed: its removal leaves no trace."""
    if node.confirmed_ns is None and not node.unnamed:
        return time.time_ns()
    return node.confirmed_ns
