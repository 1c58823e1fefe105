"""`Drive` over HTTP, against Google or any other server of the API v3.

Entered by any number of threads; starts none. Drive's JSON ends here: what comes out are the model's records
and the errors of `drivefs.errors`.
"""

from __future__ import annotations

import random as system_random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from urllib.parse import urljoin, urlsplit

import google.auth.credentials
from urllib3.response import BaseHTTPResponse

from drivefs.drive.api import Content
from drivefs.drive.auth import Authorizer
from drivefs.drive.calls import Caller, Reply, Way
from drivefs.drive.error_replies import Asked
from drivefs.drive.explorer import Explorer
from drivefs.drive.http import Body, Transport, foreign_errors
from drivefs.drive.pacing import Clock, Effort, Lane, Pacer, SystemClock
from drivefs.drive.replies import (
    is_stand_in,
    read_about,
    read_changes,
    read_content_range,
    read_file,
    read_id,
    read_ids,
    read_json,
    read_page,
    read_revisions,
    read_shared_drives,
    read_stored,
    read_token,
)
from drivefs.drive.service import PAGE_SIZE, Call, Service
from drivefs.drive.upload import Multipart, content_range, media_type, pieces
from drivefs.errors import BadReply, Refused, RemoteNotFound, SessionGone
from drivefs.model import (
    ROOT_ALIAS,
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
from drivefs.paging import Course

_DOWNLOAD_PIECE_BYTES = 256 << 10
"""Small enough that the first bytes of a slow line come soon, large enough that Python is not the bound."""


class _Root:
    """The root's ID, asked for once."""

    def __init__(self) -> None:
        self.lock = threading.Lock()  # guards the ID
        self.id: DriveId | None = None


class GoogleDrive:
    """The implementation of `drivefs.drive.api.Drive`; see there for what the methods promise."""

    def __init__(
        self,
        credentials: google.auth.credentials.Credentials,
        *,
        endpoint: str | None = None,
        clock: Clock | None = None,
        random: Callable[[], float] = system_random.random,
        connect_timeout_s: float = 10.0,
        stall_timeout_s: float = 60.0,
        reply_timeout_s: float = 15.0,
        patience_s: float = 30.0,
        max_connections: int = 64,
        upload_bytes_s: int | None = None,
        download_bytes_s: int | None = None,
        read_only: bool = False,
    ) -> None:
        """`endpoint` replaces the API's root URL; `stall_timeout_s` is the longest time without a byte moving,
        `reply_timeout_s` of a reply that only reads; such a call is tried again for `patience_s`.

        At most `max_connections` downloads and as many uploads go at once, and half as many plain calls;
        `upload_bytes_s` and `download_bytes_s` limit what they carry of the contents of files, all together.
        With `read_only` every call that would change something is refused here, as QueueBlocked.
        Connects to nothing yet. Raises `UsageError` for an endpoint that is no URL.
        """
        transport = Transport(
            connect_timeout_s=connect_timeout_s,
            stall_timeout_s=stall_timeout_s,
            reply_timeout_s=reply_timeout_s,
            max_connections=max_connections,
        )
        pacer = Pacer(
            clock or SystemClock(),
            calls=max(1, max_connections // 2),
            uploads=max_connections,
            downloads=max_connections,
            upload_bytes_s=upload_bytes_s,
            download_bytes_s=download_bytes_s,
        )
        self._service = Service(endpoint)
        self._caller = Caller(
            transport,
            Authorizer(credentials, transport),
            pacer,
            random=random,
            patience_s=patience_s,
            read_only=read_only,
        )
        self._root = _Root()
        self._priority = Priority.READER

    def at(self, priority: Priority) -> GoogleDrive:
        view = object.__new__(GoogleDrive)
        view._service, view._caller, view._root = self._service, self._caller, self._root
        view._priority = priority
        return view

    def explorer(self) -> Explorer:
        """What people ask of Drive beside what a mount does."""
        return Explorer(self._service, self._caller)

    def close(self) -> None:
        self._caller.close()

    # --- reading ---

    def about(self) -> About:
        return read_about(read_json(self._ask(self._service.about()).body))

    def root_id(self) -> DriveId:
        with self._root.lock:
            known = self._root.id
        if known is None:
            # Outside of the lock: several first callers may ask, and all get the same.
            known = read_id(read_json(self._ask(self._service.get(ROOT_ALIAS, "id")).body).get("id"))
            with self._root.lock:
                self._root.id = known
        return known

    def get(self, file_id: DriveId) -> RemoteFile:
        return read_file(read_json(self._ask(self._service.get(file_id)).body))

    def list_children(
        self, parents: Sequence[DriveId], page_token: str | None = None, *, trashed: bool = False
    ) -> ListPage:
        return read_page(read_json(self._ask(self._service.list_children(parents, page_token, trashed=trashed)).body))

    def list_trashed(self, page_token: str | None = None) -> ListPage:
        return read_page(read_json(self._ask(self._service.list_trashed(page_token)).body))

    def list_all(self, page_token: str | None = None, *, folders: bool | None = None) -> ListPage:
        return read_page(read_json(self._ask(self._service.list_all(page_token, folders)).body))

    def list_since(self, since_ns: int, page_token: str | None = None) -> ListPage:
        return read_page(read_json(self._ask(self._service.list_since(since_ns, page_token)).body))

    def list_shared_with_me(self, page_token: str | None = None) -> ListPage:
        return read_page(read_json(self._ask(self._service.list_shared_with_me(page_token)).body))

    def shared_drives(self) -> list[SharedDrive]:
        found: list[SharedDrive] = []
        course = Course()
        token: str | None = None
        while True:
            page, token = read_shared_drives(read_json(self._ask(self._service.shared_drives(token)).body))
            found += page
            if not page or course.follow(token, len(page)) is None:
                return found

    def start_page_token(self, shared_drive: DriveId | None = None) -> str:
        call = self._service.start_page_token(shared_drive)
        return read_token(read_json(self._ask(call).body).get("startPageToken"))

    def changes(self, page_token: str, shared_drive: DriveId | None = None) -> ChangesPage:
        return read_changes(read_json(self._ask(self._service.changes(page_token, shared_drive)).body))

    def revisions(self, file_id: DriveId) -> list[Revision]:
        found: list[Revision] = []
        course = Course()
        token: str | None = None
        while True:
            page, token = read_revisions(read_json(self._ask(self._service.revisions(file_id, token)).body))
            found = (found + page)[-PAGE_SIZE:]
            if course.follow(token, len(page)) is None:
                return found

    def download(
        self, file_id: DriveId, offset: int, length: int, revision: RevisionId | None = None
    ) -> Iterator[bytes]:
        if length <= 0:
            return
        if revision is not None and is_stand_in(revision):
            raise Refused("Drive names no revision of this file: only what is its head can be read.")
        call = self._service.download(file_id, offset, length, revision)
        way = Way(Lane.DOWNLOAD, Effort.READ, self._priority, reading=True)
        with self._caller.streaming(call, way, expected=(200, 206)) as response:
            _check_download(response, offset, length)
            left = length
            while left:
                wanted = self._caller.read_bytes(way, min(_DOWNLOAD_PIECE_BYTES, left))
                with foreign_errors():
                    piece = response.read(wanted, decode_content=False)
                if not piece:
                    raise BadReply(f"The download ended {left} bytes early.")
                left -= len(piece)
                yield piece

    def export(self, file_id: DriveId, mime_type: str) -> bytes:
        way = Way(Lane.DOWNLOAD, Effort.READ, self._priority, reading=True)
        return self._caller.exchange(self._service.export(file_id, mime_type), way).body

    # --- writing ---

    def generate_ids(self, count: int) -> list[DriveId]:
        self._caller.check_writing()  # it takes the right to write, though it is a GET
        return read_ids(read_json(self._ask(self._service.generate_ids(count)).body), count)

    def create(self, target: CreateTarget) -> RemoteFile:
        return read_file(read_json(self._tell(self._service.set_metadata(target)).body))

    def copy(self, source: DriveId, target: CreateTarget) -> RemoteFile:
        return read_file(read_json(self._tell(self._service.copy(source, target)).body))

    def update(self, target: UpdateTarget) -> RemoteFile:
        return read_file(read_json(self._tell(self._service.set_metadata(target)).body))

    def trash(self, file_id: DriveId) -> None:
        self._remove(self._service.trash(file_id))

    def delete(self, file_id: DriveId) -> bool:
        return self._remove(self._service.delete(file_id))

    def _remove(self, call: Call) -> bool:
        try:
            self._tell(call, expected=(200, 204))
        except RemoteNotFound:
            return False  # it is gone, as it should be
        return True

    # --- uploading ---

    def upload_small(self, target: UploadTarget, content: Content) -> RemoteFile:
        mime_type = media_type(target.metadata)
        call = self._service.upload_small(target, content.size_bytes, mime_type)
        body = Multipart(call.body or b"{}", mime_type, content)
        call = call.with_headers(content_type=body.content_type, content_length=str(body.size_bytes))
        reply = self._tell(call, lane=Lane.UPLOAD, body=body.pieces, expected=(200, 201))
        return read_file(read_json(reply.body))

    def start_session(self, target: UploadTarget, size_bytes: int | None) -> SessionUri:
        call = self._service.start_session(target, size_bytes, media_type(target.metadata))
        location = self._tell(call, expected=(200, 201)).headers.get("Location")
        if not location:
            raise BadReply("Drive opened an upload session without an address.")
        try:
            address = urljoin(call.uri, location)
            scheme = urlsplit(address).scheme
        except ValueError:
            raise BadReply("Drive opened an upload session at an address that is no URL.") from None
        if scheme not in ("http", "https") or (urlsplit(call.uri).scheme == "https" and scheme != "https"):
            # The token goes with every request of the session.
            raise BadReply("Drive opened an upload session at an address that is not safe.")
        return SessionUri(address)

    def session_state(self, session: SessionUri, total_bytes: int | None) -> SessionState:
        return self._put(session, None, 0, 0, total_bytes)

    def send(
        self, session: SessionUri, content: Content, offset: int, length: int, total_bytes: int | None
    ) -> SessionState:
        return self._put(session, content, offset, length, total_bytes)

    def end_session(self, session: SessionUri) -> None:
        way = Way(Lane.CALL, Effort.READ, self._priority, reading=True)
        with suppress(SessionGone):
            # 499 is what Google's servers say to it, as if the client had gone in the midst of an upload.
            self._caller.exchange(
                Call("DELETE", session, {"content-length": "0"}, None),
                way,
                expected=(200, 204, 499),
                asked=Asked.SESSION,
            )

    def _put(
        self, session: SessionUri, content: Content | None, offset: int, length: int, total_bytes: int | None
    ) -> SessionState:
        headers = {"content-range": content_range(offset, length, total_bytes), "content-length": str(length)}
        body: Body = b""
        if content is not None and length:
            headers["content-type"] = "application/octet-stream"
            source = content

            def body() -> Iterator[bytes]:
                return pieces(source, offset, length)

        # An empty request asks, or completes a file whose bytes are all there; both may be repeated.
        sending = bool(length)
        way = Way(
            Lane.UPLOAD if sending else Lane.CALL,
            Effort.EDIT if sending else Effort.READ,
            self._priority,
            reading=not sending,
        )
        reply = self._caller.exchange(
            Call("PUT", session, headers, None),
            way,
            body=body,
            expected=(200, 201, 308),
            asked=Asked.SESSION,
        )
        if reply.status == 308:
            return SessionState(read_stored(reply.headers, total_bytes))
        file = read_file(read_json(reply.body))
        return SessionState(file.size_bytes or 0 if total_bytes is None else total_bytes, file)

    # --- the way of a call ---

    def _ask(self, call: Call) -> Reply:
        return self._caller.exchange(call, Way(Lane.CALL, Effort.READ, self._priority, reading=True))

    def _tell(
        self,
        call: Call,
        *,
        lane: Lane = Lane.CALL,
        body: Body | None = None,
        expected: tuple[int, ...] = (200,),
    ) -> Reply:
        way = Way(lane, Effort.EDIT, self._priority, reading=False)
        return self._caller.exchange(call, way, body=body, expected=expected)


def _check_download(response: BaseHTTPResponse, offset: int, length: int) -> None:
    """Whether the reply's head fits the range that was asked for."""
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise BadReply("The download is encoded, though nobody asked for it.")
    if response.status == 200:
        # The server does not do ranges; from the beginning its reply still begins with what is wanted.
        if offset:
            raise BadReply("The download begins at byte 0, and not where it was asked to.")
        return
    start, end = read_content_range(response.headers.get("Content-Range"))
    if (start, end) != (offset, offset + length):
        raise BadReply(f"Drive sent bytes {start} to {end}, and not {offset} to {offset + length}.")
