"""What Drive does not have yet: one job a node, in publish order.

A job says that a node differs from Drive, not how: the uploader compares the row's own columns with its remote_…
columns when it takes the job, so a hundred changes before that cost one request. Any thread may enter. Each
function is one transaction, or part of the caller's; a committed job outlives the process.
"""

from __future__ import annotations

import os

from drivefs.model import Generation
from drivefs.store.confirmed import Confirmed
from drivefs.store.content_file import ContentFile
from drivefs.store.generations import State
from drivefs.store.node import Node
from drivefs.store.queue import Barrier


class Journal(Confirmed):
    """The queue, and the changes of nodes and content that put jobs in and take them out."""

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
        self._content.leave_unchanged(file)

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

    def put_into_trash(self, node: Node) -> None:
        """A node of Drive's tree was moved into a trash. What waits of its content goes to Drive first, at the place
        and under the name that it had; then it is trashed there, in its turn as a removal."""
        if node.confirmed_ns is None or self._has_content(node.inode):
            self._enqueue(node, Barrier.NONE, renew=False)
        else:
            self._enqueue(node, Barrier.MOUNT, renew=True)

    def restored(self, node: Node) -> None:
        """A node was moved out of a trash, with what was put there by itself and shows in it."""
        with self._db.transaction():
            for each in list(self._nodes.below(node)):
                if each.remote_trashed:
                    self.changed_metadata(each)
