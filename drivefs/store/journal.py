"""What Drive does not have yet: one job a node, in publish order.

A job says that a node differs from Drive, not how: the uploader compares the row's own columns with its remote_…
columns when it takes the job, so a hundred changes before that cost one request. Any thread may enter. Each
function is one transaction, or part of the caller's; a committed job outlives the process.
"""

from __future__ import annotations

import os
import time

from drivefs.model import FOLDER_MIME, DriveId, Generation, Inode, Kind, RemoteFile, RevisionId, SessionUri
from drivefs.store.claim import Claim
from drivefs.store.content_file import ContentFile
from drivefs.store.generations import State
from drivefs.store.node import NOT_ON_DRIVE, Node
from drivefs.store.points import Points
from drivefs.store.queue import Barrier, Job

FRESH_NS = 600_000_000_000
"""A file that this mount made and published less than 10 minutes ago counts as a temporary file when it is renamed
over another: it takes the other's place on Drive. An older one has a life of its own there (design, promise 5)."""


class Journal(Points):
    """The queue, and the changes of nodes and content that put jobs in and take them out."""

    # --- what system calls do ---

    def start_writing(self, file: ContentFile, *, in_place: bool = False) -> ContentFile:
        """Mark a node dirty before its content changes; returns the generation to write (ContentStore.reopen)."""
        node = self._nodes.get(file.inode)
        before = file.state
        job = self.find(file.inode)
        needed = job is not None and job.generation == file.generation and self._is_needed(node, job)
        reopened = self._content.reopen(file, node.mtime_ns, in_place=in_place, needed=needed)
        if before is not State.OPEN:
            self._live(node, reopened.generation)
            reopened.forget_fingerprint()
            if before is State.CLEAN:
                reopened.watch()
        return reopened

    def leave_unchanged(self, file: ContentFile) -> None:
        """What was opened for writing and not changed is a copy of Drive's again: there is nothing to send."""
        file.forget_fingerprint()
        self._content.mark(file.generation, State.CLEAN)

    def start_anew(self, node: Node) -> ContentFile:
        """A new, empty, open generation for a node that is truncated to nothing; the caller closes it.

        The old content stays with an upload that has begun, and is dropped otherwise.
        """
        with self._db.transaction():
            file = self._content.create(node.inode)
            self._live(node, file.generation)
            return file

    def _live(self, node: Node, generation: Generation) -> None:
        """`generation` is now the node's open content. Older content whose upload has begun, or that a point needs,
        goes on to Drive; what still waits is not sent any more."""
        with self._db.transaction():
            node = self._nodes.get(node.inode)
            job = self.find(node.inode) if node.change else None  # what never changed here has none
            if job is not None and job.generation not in (None, generation) and self._is_needed(node, job):
                if node.generation == job.generation:
                    node = self._nodes.update(node.inode, generation=None)
                self._leave_behind(node, job)
                job = None
            elif job is not None and job.generation == generation and self._is_needed(node, job):
                self._break(node, job)  # it could not be kept as it was
            if node.frozen and job is not None and job.generation == generation:
                self.keep_frozen(node.inode)
                self.give_up(node)
                job = None
            self._nodes.update(node.inode, generation=generation, change=node.change + 1)
            waiting = job.generation if job is not None else None
            if waiting is not None and (waiting == generation or not self._content.is_claimed(waiting)):
                # What a session has of it by now is of the old bytes.
                self._db.run(
                    "UPDATE jobs SET generation = NULL, session = NULL, session_generation = NULL, begun = NULL"
                    " WHERE inode = ?",
                    (node.inode,),
                )
            for old in (node.generation, waiting):
                if old is not None and old != generation and not self._content.is_claimed(old):
                    self._content.discard(old)

    def seal(self, file: ContentFile) -> None:
        """The last writer closed: the content no longer changes, and waits for Drive."""
        with self._db.transaction():
            self._content.seal(file)
            status = os.fstat(file.fd)
            # As it was shown while it was open: whoever keeps that is right.
            ctime_ns = max(self._nodes.get(file.inode).ctime_ns, status.st_ctime_ns)
            node = self._nodes.update(
                file.inode, size_bytes=status.st_size, mtime_ns=status.st_mtime_ns, ctime_ns=ctime_ns
            )
            self._send(node, file.generation)

    def adopted(self, node: Node, generation: Generation) -> None:
        """A new file whose sealed content came from elsewhere waits for Drive."""
        self._send(node, generation)

    def seal_snapshot(self, file: ContentFile) -> None:
        """Send a copy of an open file's content as it is now, while its writers go on."""
        node = self._nodes.get(file.inode)
        copy = self._content.snapshot(file)
        try:
            self._send(node, copy.generation)
        finally:
            copy.close()

    def _send(self, node: Node, generation: Generation) -> None:
        barrier = Barrier.NONE if node.drive_id is None else Barrier.FOLDER
        with self._db.transaction():
            job = self.find(node.inode)
            snapshot = job.generation if job is not None else None
            if snapshot not in (None, generation):
                # An older instant of an open file, not sent yet.
                if job is not None and self._is_needed(node, job):
                    self._leave_behind(node, job)
                    barrier = Barrier.FOLDER
                elif not self._content.is_claimed(snapshot):
                    self._content.discard(snapshot)
            self._enqueue(node, barrier, generation=generation, renew=True)

    def changed_metadata(self, node: Node) -> None:
        """Name, folder, mode, time or attributes of a node changed, or it is a new folder or symlink."""
        self._enqueue(node, Barrier.NONE, renew=False)

    def replaced(self, source: Node, target: Node) -> None:
        """`source` was renamed over `target`, which has lost its name. Both are given as they are now."""
        with self._db.transaction():
            frozen = self._nodes.frozen_in(source.parent, source.name) if source.parent is not None else []
            # After something of another kind had the name, what has a file of its own on Drive keeps that.
            own = source.drive_id is not None and not target.frozen and target.kind is not source.kind
            if frozen and (target.frozen or target.drive_id is None) and not own:
                older = None if target.frozen else self.find(target.inode)
                self.removed(target)
                self._follow(source, frozen[-1])
                if older is not None:
                    self._inherit(source.inode, older)
            elif target.drive_id is None:
                self.removed(target)
                self._enqueue(source, Barrier.FOLDER if frozen else Barrier.NONE, renew=source.drive_id is None)
            elif self.takes_over(source, target):
                self._take_over(source, target)
            else:
                self._enqueue(source, Barrier.FOLDER, renew=True)
                self.removed(target)

    def takes_over(self, source: Node, target: Node) -> bool:
        """Whether `source`, renamed over `target`, becomes its file on Drive, which goes to the trash otherwise."""
        return source.kind is target.kind and target.points_to is None and self._is_temporary(source)

    def _is_temporary(self, source: Node) -> bool:
        """Whether `source` may give up its own identity on Drive for that of the file it replaces."""
        if source.kind is Kind.FOLDER:
            return False
        if source.drive_id is None:
            return True
        if not source.ours:
            return False
        if source.confirmed_ns is not None and time.time_ns() - source.confirmed_ns > FRESH_NS:
            return False
        return source.kind is Kind.SYMLINK or (
            source.generation is not None and self._content.is_whole(source.generation)
        )

    def _take_over(self, source: Node, target: Node) -> None:
        """The Drive file of `target` becomes that of `source`; what `source` had of its own goes for good."""
        old_job = self.find(target.inode)
        self._nodes.update(target.inode, drive_id=None, confirmed_ns=None)
        self.removed(self._nodes.get(target.inode))
        if source.drive_id is not None:
            self._abandon(source)
        node = self._nodes.update(
            source.inode,
            drive_id=target.drive_id,
            confirmed_ns=target.confirmed_ns,
            revision=target.revision,
            md5=target.md5,
            ours=target.ours,
            remote_name=target.remote_name,
            remote_parent=target.remote_parent,
            remote_meta=target.remote_meta,
            remote_version=target.remote_version,
        )
        generation = self._to_send(node)
        # A target that was never sent replaces nothing on Drive.
        never_sent = target.confirmed_ns is None and old_job is not None and old_job.barrier is Barrier.NONE
        barrier = Barrier.NONE if never_sent else Barrier.FOLDER
        self._enqueue(node, barrier, generation=generation, renew=True)
        if old_job is not None:
            self._inherit(node.inode, old_job)

    def _follow(self, source: Node, frozen: Node) -> None:
        """`source` has the name of `frozen`, and takes its place on Drive once that is there."""
        generation = None
        if source.kind is frozen.kind and self._is_temporary(source):
            if source.drive_id is not None:
                self._abandon(source)
                source = self._nodes.update(source.inode, **NOT_ON_DRIVE)
            generation = self._to_send(source)
        self._enqueue(source, Barrier.FOLDER, generation=generation, renew=True)

    def _to_send(self, node: Node) -> Generation | None:
        """The content that a node sends to another file on Drive than its own; None while it is being written."""
        job = self.find(node.inode)
        if job is not None and job.generation is not None:
            return job.generation
        if node.generation is None:
            return None
        state = self._content.state(node.generation)
        if state is State.CLEAN:
            self._content.mark(node.generation, State.SEALED)
        return node.generation if state is not State.OPEN else None

    def _abandon(self, source: Node) -> None:
        """Leave a nameless node behind whose job deletes the file that `source` had on Drive, or may have."""
        drive_id = source.drive_id
        job = self.find(source.inode)
        if source.generation is not None:
            self._content.supersede(source.generation)
        if job is not None and job.generation is not None:
            self._content.supersede(job.generation)
        self._db.run("UPDATE jobs SET session = NULL, session_generation = NULL WHERE inode = ?", (source.inode,))
        self._nodes.update(source.inode, drive_id=None)
        left = self._leave_nameless(drive_id, source.kind, source.revision)
        if job is not None and job.tried_md5 is not None:
            self._db.run("UPDATE jobs SET tried_md5 = ? WHERE inode = ?", (job.tried_md5, left.inode))

    def _leave_nameless(self, drive_id: DriveId | None, kind: Kind, revision: RevisionId | None) -> Node:
        left = self._nodes.add(
            parent=None,
            name=None,
            kind=kind,
            mode=0,
            size_bytes=0,
            mtime_ns=0,
            ctime_ns=0,
            ours=True,
            drive_id=drive_id,
            confirmed_ns=None,
            revision=revision,
        )
        self._enqueue(left, Barrier.MOUNT, renew=True)
        return left

    def removed(self, node: Node) -> None:
        """A node lost its name: nothing more of it is sent, and what Drive has of it goes. A frozen one waits."""
        with self._db.transaction():
            if node.frozen:
                return
            job = self.find(node.inode)
            if job is not None and job.generation is not None:
                if job.generation == node.generation:
                    self._content.supersede(job.generation)
                else:
                    self._content.discard(job.generation)
                self._db.run("UPDATE jobs SET generation = NULL WHERE inode = ?", (node.inode,))
            if node.drive_id is None:
                self._drop(node.inode)
            else:
                self._enqueue(node, Barrier.MOUNT, renew=True)

    # --- what the uploader does ---

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
    ) -> None:
        """Drive has the node as it was when it was taken (`node`, and the content in `claim`). `sent`: bytes
        went with it. `news`: the answer tells of others' changes too; those are left to the changes feed.

        What changed since then stays in the journal.
        """
        with self._db.transaction():
            owner = self._nodes.find_by_drive_id(remote.id)
            if owner is None:
                # Removed, and Drive has been told already.
                return
            values: dict[str, object] = {"remote_meta": remote_meta, "confirmed_ns": _confirmed_ns(owner)}
            if not news:
                values |= {
                    "remote_name": remote.name,
                    "remote_parent": remote.parent,
                    "remote_version": remote.version,
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
            elif now.change == node.change:
                self._drop(node.inode)
            else:
                self._db.run(
                    "UPDATE jobs SET attempts = 0, reason = '', tried_md5 = NULL, since_seq = seq, since_ns = ?"
                    " WHERE inode = ?",
                    (time.time_ns(), node.inode),
                )
                self.changed.set()

    def _content_published(self, node: Node, claim: Claim) -> None:
        generation = claim.generation
        if node.generation != generation:
            self._content.discard(generation)  # a snapshot, or the node's own content has gone on
        elif claim.superseded:
            return  # it was written again, and may wait again by now
        else:
            self._content.mark(generation, State.CLEAN)
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
