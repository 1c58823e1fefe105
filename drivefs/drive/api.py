"""The seam between drivefs and Drive: what `sync` needs, and nothing of how it is fetched.

Any number of threads may call one `Drive` at once; every call blocks until Drive has answered.

Errors: each call raises classes of the `DriveError` branch, or `SignInNeeded`.
Retries: a call that Drive refused for its rate did not happen, and is repeated inside, for as long as
`patience_s` of the implementation allows. Reading calls are repeated inside after `Unreachable` and
`ServerFault` too. A writing call is not: it may have had its effect, so the caller looks before it repeats.
Every writing call may be repeated with the same arguments without harm: a create carries its ID (the second
answers `IdInUse`), the others set what is already set.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from drivefs.model import (
    About,
    ChangesPage,
    CreateTarget,
    DriveId,
    ListPage,
    Priority,
    RemoteFile,
    Revision,
    RevisionId,
    SessionState,
    SessionUri,
    SharedDrive,
    UpdateTarget,
    UploadTarget,
)


class Content(Protocol):
    """Bytes to upload. `size_bytes` does not change; reading may raise `Superseded`, which ends the upload."""

    @property
    def size_bytes(self) -> int: ...

    def read_at(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes from `offset`, fewer only at the end."""
        ...


class Drive(Protocol):
    """One account's Drive, My Drive to begin with."""

    def at(self, priority: Priority) -> Drive:
        """The same Drive, whose calls queue at `priority` where calls compete."""
        ...

    # --- reading ---

    def about(self) -> About: ...

    def root_id(self) -> DriveId:
        """The real ID of My Drive's root (never the alias "root"). Asked once, then kept."""
        ...

    def get(self, file_id: DriveId) -> RemoteFile: ...

    def list_children(
        self, parents: Sequence[DriveId], page_token: str | None = None, *, trashed: bool = False
    ) -> ListPage:
        """What lies in any of `parents` (1 to 50; `ROOT_ALIAS` is one), 1,000 a page; what is trashed only with
        `trashed`."""
        ...

    def list_trashed(self, page_token: str | None = None) -> ListPage:
        """What the account owns and has in the trash, with what lies in folders there, 1,000 a page."""
        ...

    def list_all(self, page_token: str | None = None, *, folders: bool | None = None) -> ListPage:
        """Everything the account sees that is not trashed, flat, 1,000 a page; with `folders`, folders only or
        everything else."""
        ...

    def list_since(self, since_ns: int, page_token: str | None = None) -> ListPage:
        """What was created or modified after `since_ns` and is not trashed, 1,000 a page."""
        ...

    def list_shared_with_me(self, page_token: str | None = None) -> ListPage:
        """What others share with the account itself, 1,000 a page."""
        ...

    def shared_drives(self) -> list[SharedDrive]:
        """All that the account is a member of."""
        ...

    def start_page_token(self, shared_drive: DriveId | None = None) -> str:
        """Where the changes feed, the account's or a shared drive's own, stands now."""
        ...

    def changes(self, page_token: str, shared_drive: DriveId | None = None) -> ChangesPage:
        """Up to 1,000 changes from `page_token` on. `Refused` when the server no longer takes the token."""
        ...

    def revisions(self, file_id: DriveId) -> list[Revision]:
        """The contents that Drive still has of a file, oldest first; at most the last 1,000."""
        ...

    def download(
        self, file_id: DriveId, offset: int, length: int, revision: RevisionId | None = None
    ) -> Iterator[bytes]:
        """The bytes of [offset, offset + length), in pieces of up to 1 MiB, never more and never fewer.

        `revision` names the content wanted; None takes the head. Raises `BadReply` when the reply ends early
        or does not fit the range, `BadRange` outside of the file. Pieces handed out before an error are right.
        Once begun it is not repeated inside: the caller goes on from where it is. Nothing is asked before the
        first piece is taken; closing the iterator drops the connection. A revision that Drive has purged, or
        does not give to this account, is `RemoteNotFound` or `Refused`, and never another one's bytes.
        """
        ...

    def export(self, file_id: DriveId, mime_type: str) -> bytes:
        """A Google document as a file of that type; 10 MB at most (drive-api: Limits), beyond it `Refused` with the
        reason `exportSizeLimitExceeded`."""
        ...

    # --- writing ---

    def generate_ids(self, count: int) -> list[DriveId]:
        """`count` (1 to 1,000) fresh IDs for files and folders."""
        ...

    def create(self, target: CreateTarget) -> RemoteFile:
        """An item without content (a folder). `IdInUse` when an earlier try had worked."""
        ...

    def copy(self, source: DriveId, target: CreateTarget) -> RemoteFile:
        """A new file with the content that another one has at that instant, made by Drive itself. What `target` does
        not set may be the other one's. `IdInUse` when an earlier try had worked; `Refused` where it may not be."""
        ...

    def update(self, target: UpdateTarget) -> RemoteFile:
        """Metadata and parents only."""
        ...

    def trash(self, file_id: DriveId) -> None:
        """Into the trash; a file that is gone already is no error."""
        ...

    def delete(self, file_id: DriveId) -> bool:
        """For good, past the trash; False when it was not there."""
        ...

    # --- uploading ---

    def upload_small(self, target: UploadTarget, content: Content) -> RemoteFile:
        """Metadata and content in one multipart request; for contents up to 5 MB (drive-api: Uploads)."""
        ...

    def start_session(self, target: UploadTarget, size_bytes: int | None) -> SessionUri:
        """A resumable session, bound to `target`. None: the size is not known yet."""
        ...

    def session_state(self, session: SessionUri, total_bytes: int | None) -> SessionState:
        """Ask how much the server has. `SessionGone` after a week, or when it never was."""
        ...

    def send(
        self, session: SessionUri, content: Content, offset: int, length: int, total_bytes: int | None
    ) -> SessionState:
        """One request with [offset, offset + length) of `content`; says how far the server has come.

        Except for the last piece, `length` is a multiple of 262,144. The server may have kept fewer bytes than
        were sent. After `Unreachable` or `ServerFault`, ask `session_state` and go on from there. `SessionGone`
        is also what a server says that never liked the upload: whoever starts again has to count. What reading
        the content raises (`Superseded`, `CacheDamaged`) comes out, and the request is never completed.
        """
        ...

    def end_session(self, session: SessionUri) -> None:
        """Nobody goes on with a session that is not complete; one that is gone already is no error."""
        ...

    def close(self) -> None:
        """Drop all connections; calls under way end with `Unreachable`."""
        ...
