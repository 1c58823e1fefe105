"""A Drive in memory that keeps the promises of `drivefs.drive.api.Drive`, and breaks them on demand."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field, replace
from typing import Any, ParamSpec, TypeVar

from drivefs.drive.api import Content
from drivefs.errors import BadRange, IdInUse, Refused, RemoteNotFound, SessionGone
from drivefs.model import (
    FOLDER_MIME,
    ROOT_ALIAS,
    About,
    Change,
    ChangesPage,
    CreateTarget,
    DriveId,
    ListPage,
    Metadata,
    Priority,
    RemoteFile,
    Revision,
    RevisionId,
    SessionState,
    SessionUri,
    UpdateTarget,
    UploadTarget,
)

ROOT = DriveId("0Aroot")
P = ParamSpec("P")
T = TypeVar("T")


class HereAndNow(Executor):
    """Runs what it is given at once, in the caller's thread."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 - it is the future's
            future.set_exception(error)
        return future


@dataclass
class Session:
    target: UploadTarget
    total: int | None
    data: bytearray = field(default_factory=bytearray)
    done: RemoteFile | None = None


class FakeDrive:
    """`faults` holds, by method name, what the next calls do: ("before" | "after", error); None lets one pass."""

    def __init__(self, limit_bytes: int | None = None) -> None:
        self.files: dict[DriveId, RemoteFile] = {}
        self.contents: dict[tuple[DriveId, RevisionId], bytes] = {}
        self.log: list[tuple[str, Any]] = []  # changes of Drive's state, in the order in which they happened
        self.calls: list[str] = []
        self.faults: dict[str, list[tuple[str, Exception] | None]] = {}
        self.sessions: dict[SessionUri, Session] = {}
        self.keep_bytes: int | None = None  # of each request of a session, the server keeps no more than this
        self.grain_bytes = 262_144  # what all requests of a session but the last are multiples of
        self.exports: dict[DriveId, bytes] = {}  # of Google documents
        self.limit_bytes = limit_bytes
        self.page_files = 1_000
        self._count = itertools.count(1)
        self._changed: list[DriveId] = []
        self.files[ROOT] = RemoteFile(ROOT, "My Drive", FOLDER_MIME, None, False, 1, 0, 0, None, None, None)

    # --- for tests ---

    def names(self, parent: DriveId = ROOT) -> dict[str, DriveId]:
        """What is in a folder and not in the trash; fails on twins."""
        found: dict[str, DriveId] = {}
        for file in self.files.values():
            if file.parent == parent and not file.trashed:
                assert file.name not in found, f"two files named {file.name}"
                found[file.name] = file.id
        return found

    def content(self, file_id: DriveId) -> bytes:
        revision = self.files[file_id].revision
        assert revision is not None
        return self.contents[file_id, revision]

    def put(self, name: str, data: bytes | None = None, parent: DriveId = ROOT, **values: Any) -> DriveId:
        """As if somebody else had made it: a file, or a folder without data."""
        file_id = DriveId(values.pop("id", f"theirs-{next(self._count)}"))
        mime_type = values.pop("mime_type", FOLDER_MIME if data is None else "application/octet-stream")
        self.files[file_id] = RemoteFile(file_id, name, mime_type, parent, False, 0, 10**18, 10**18, None, None, None)
        self._change(file_id, data, **values)
        return file_id

    def change(self, file_id: DriveId, data: bytes | None = None, **values: Any) -> None:
        """As if somebody else had changed it."""
        self._change(file_id, data, **values)

    def fail(self, method: str, *faults: tuple[str, Exception] | None) -> None:
        self.faults.setdefault(method, []).extend(faults)

    # --- the machinery ---

    def _change(self, file_id: DriveId, data: bytes | None = None, **values: Any) -> RemoteFile:
        file = replace(self.files[file_id], version=next(self._count), **values)
        if data is not None:
            revision = RevisionId(f"r{next(self._count)}")
            self.contents[file_id, revision] = data
            md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
            file = replace(file, size_bytes=len(data), md5=md5, revision=revision)
        self.files[file_id] = file
        self._changed.append(file_id)
        return file

    def _call(self, method: str, effect: Callable[[], T]) -> T:
        self.calls.append(method)
        queue = self.faults.get(method)
        fault = queue.pop(0) if queue else None
        if fault is not None and fault[0] == "before":
            raise fault[1]
        result = effect()
        if fault is not None:
            raise fault[1]
        return result

    def _metadata(self, metadata: Metadata, old: dict[str, str]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        if metadata.name is not None:
            values["name"] = metadata.name
        if metadata.mime_type is not None:
            values["mime_type"] = metadata.mime_type
        if metadata.modified_ns is not None:
            values["modified_ns"] = metadata.modified_ns // 1_000_000 * 1_000_000
        if metadata.trashed is not None:
            values |= {"trashed": metadata.trashed, "put_into_trash": metadata.trashed}
        if metadata.app_properties is not None:
            merged = {**old, **metadata.app_properties}
            values["app_properties"] = {key: value for key, value in merged.items() if value is not None}
        if metadata.description is not None:
            values["description"] = metadata.description
        if metadata.starred is not None:
            values["starred"] = metadata.starred
        return values

    def _perform(self, target: UploadTarget, data: bytes | None) -> RemoteFile:
        if isinstance(target, CreateTarget):
            if target.id in self.files:
                raise IdInUse("The ID is in use.", reason="fileIdInUse", status=409)
            if target.parent not in self.files:
                raise RemoteNotFound("No such folder.", reason="notFound", status=404)
            self.files[target.id] = RemoteFile(
                target.id,
                "Untitled",
                "application/octet-stream",
                target.parent,
                False,
                0,
                10**18,
                10**18,
                None,
                None,
                None,
            )
            self.log.append(("create", target.metadata.name))
        else:
            if target.id not in self.files:
                raise RemoteNotFound("No such file.", reason="notFound", status=404)
            if target.remove_parent not in (None, self.files[target.id].parent):
                raise RemoteNotFound(f"File not found: {target.remove_parent}.", reason="notFound", status=404)
            self.log.append(("update", self.files[target.id].name))
        values = self._metadata(target.metadata, dict(self.files[target.id].app_properties))
        if isinstance(target, UpdateTarget) and target.add_parent is not None:
            values["parent"] = target.add_parent
        return self._change(target.id, data, **values)

    # --- the Protocol ---

    def at(self, priority: Priority) -> FakeDrive:
        return self

    def about(self) -> About:
        used = sum(file.size_bytes or 0 for file in self.files.values())
        return self._call("about", lambda: About("me@example.com", self.limit_bytes, used))

    def root_id(self) -> DriveId:
        return self._call("root_id", lambda: ROOT)

    def get(self, file_id: DriveId) -> RemoteFile:
        def effect() -> RemoteFile:
            known = ROOT if file_id == ROOT_ALIAS else file_id
            if known not in self.files:
                raise RemoteNotFound("No such file.", reason="notFound", status=404)
            return self.seen(self.files[known])

        return self._call("get", effect)

    def list_children(
        self, parents: Sequence[DriveId], page_token: str | None = None, *, trashed: bool = False
    ) -> ListPage:
        def effect() -> ListPage:
            known = {ROOT if parent == ROOT_ALIAS else parent for parent in parents}
            for unknown in known - self.files.keys():
                raise RemoteNotFound(f"{unknown} is not on Drive.")
            files = [self.seen(file) for file in self.files.values() if file.parent in known]
            found = [file for file in files if trashed or not file.trashed]
            start = int(page_token or 0)
            end = start + self.page_files
            return ListPage(tuple(found[start:end]), str(end) if end < len(found) else None)

        return self._call("list_children", effect)

    def seen(self, file: RemoteFile) -> RemoteFile:
        """As Drive tells of it: what lies in a trashed folder is trashed too."""
        above = self.files.get(file.parent) if file.parent is not None else None
        return file if above is None or not self.seen(above).trashed else replace(file, trashed=True)

    def list_trashed(self, page_token: str | None = None) -> ListPage:
        def effect() -> ListPage:
            files = [self.seen(file) for file in self.files.values() if file.owned_by_me]
            found = [file for file in files if file.trashed]
            start = int(page_token or 0)
            end = start + self.page_files
            return ListPage(tuple(found[start:end]), str(end) if end < len(found) else None)

        return self._call("list_trashed", effect)

    def list_all(self, page_token: str | None = None, *, folders: bool | None = None) -> ListPage:
        def wanted(file: RemoteFile) -> bool:
            return folders is None or folders == (file.mime_type == FOLDER_MIME)

        def effect() -> ListPage:
            # Each page goes on behind the last item of the one before, whatever has changed meanwhile.
            ids = [file_id for file_id in self.files if file_id != ROOT]
            after = ids[ids.index(DriveId(page_token)) + 1 :] if page_token else ids
            found = [self.files[each] for each in after if not self.files[each].trashed and wanted(self.files[each])]
            page = tuple(found[: self.page_files])
            return ListPage(page, page[-1].id if len(found) > len(page) else None)

        return self._call("list_all", effect)

    def list_since(self, since_ns: int, page_token: str | None = None) -> ListPage:
        def effect() -> ListPage:
            found = [
                file
                for file in self.files.values()
                if max(file.created_ns, file.modified_ns) > since_ns and not file.trashed and file.id != ROOT
            ]
            start = int(page_token or 0)
            end = start + self.page_files
            return ListPage(tuple(found[start:end]), str(end) if end < len(found) else None)

        return self._call("list_since", effect)

    def start_page_token(self) -> str:
        return self._call("start_page_token", lambda: str(len(self._changed)))

    def changes(self, page_token: str) -> ChangesPage:
        def effect() -> ChangesPage:
            if not page_token.isdecimal():
                raise Refused("Invalid token.", reason="invalid", status=400)
            ids = dict.fromkeys(self._changed[int(page_token) :])
            return ChangesPage(
                tuple(Change(each, self.files.get(each)) for each in ids), None, str(len(self._changed))
            )

        return self._call("changes", effect)

    def revisions(self, file_id: DriveId) -> list[Revision]:
        def effect() -> list[Revision]:
            return [
                Revision(revision, 10**18, len(data), hashlib.md5(data, usedforsecurity=False).hexdigest())
                for (owner, revision), data in self.contents.items()
                if owner == file_id
            ]

        return self._call("revisions", effect)

    def download(
        self, file_id: DriveId, offset: int, length: int, revision: RevisionId | None = None
    ) -> Iterator[bytes]:
        file = self.get(file_id)
        wanted = revision or file.revision
        self._call("download", lambda: None)
        if wanted is None or (file_id, wanted) not in self.contents:
            raise RemoteNotFound("No such revision.", reason="notFound", status=404)
        data = self.contents[file_id, wanted][offset : offset + length]
        if len(data) < length:
            raise BadRange("Outside of the file.", status=416)
        for at in range(0, length, 1 << 20):
            yield data[at : at + (1 << 20)]

    def export(self, file_id: DriveId, mime_type: str) -> bytes:
        def effect() -> bytes:
            if file_id not in self.files:
                raise RemoteNotFound("No such file.", reason="notFound", status=404)
            return self.exports.get(file_id, f"{self.files[file_id].name} as {mime_type}".encode())

        return self._call("export", effect)

    def generate_ids(self, count: int) -> list[DriveId]:
        return self._call("generate_ids", lambda: [DriveId(f"ours-{next(self._count)}") for _ in range(count)])

    def create(self, target: CreateTarget) -> RemoteFile:
        return self._call("create", lambda: self._perform(target, None))

    def copy(self, source: DriveId, target: CreateTarget) -> RemoteFile:
        def effect() -> RemoteFile:
            if source not in self.files:
                raise RemoteNotFound("No such file.", reason="notFound", status=404)
            file = self.files[source]
            if file.revision is None or not file.can_copy:
                raise Refused("It may not be copied.", reason="cannotCopyFile", status=403)
            # What the request does not set is the source's (the API's "patch semantics").
            inherited = {**file.app_properties, **(target.metadata.app_properties or {})}
            metadata = replace(target.metadata, app_properties=inherited)
            if metadata.description is None:
                metadata = replace(metadata, description=file.description)
            return self._perform(replace(target, metadata=metadata), self.content(source))

        return self._call("copy", effect)

    def update(self, target: UpdateTarget) -> RemoteFile:
        return self._call("update", lambda: self._perform(target, None))

    def trash(self, file_id: DriveId) -> None:
        def effect() -> None:
            if file_id in self.files:
                self.log.append(("trash", self.files[file_id].name))
                self._change(file_id, trashed=True, put_into_trash=True)

        self._call("trash", effect)

    def delete(self, file_id: DriveId) -> bool:
        def effect() -> bool:
            if file_id in self.files:
                self.log.append(("delete", self.files[file_id].name))
                del self.files[file_id]
                self._changed.append(file_id)
                return True
            return False

        return self._call("delete", effect)

    def upload_small(self, target: UploadTarget, content: Content) -> RemoteFile:
        data = content.read_at(0, content.size_bytes)
        return self._call("upload_small", lambda: self._perform(target, data))

    def start_session(self, target: UploadTarget, size_bytes: int | None) -> SessionUri:
        def effect() -> SessionUri:
            if isinstance(target, CreateTarget) and target.id in self.files:
                raise IdInUse("The ID is in use.", reason="fileIdInUse", status=409)
            uri = SessionUri(f"session-{next(self._count)}")
            self.sessions[uri] = Session(target, size_bytes)
            return uri

        return self._call("start_session", effect)

    def _session(self, uri: SessionUri) -> Session:
        if uri not in self.sessions:
            raise SessionGone("Unknown session.", status=404)
        return self.sessions[uri]

    def session_state(self, session: SessionUri, total_bytes: int | None) -> SessionState:
        def effect() -> SessionState:
            known = self._session(session)
            return SessionState(len(known.data), known.done)

        return self._call("session_state", effect)

    def send(
        self, session: SessionUri, content: Content, offset: int, length: int, total_bytes: int | None
    ) -> SessionState:
        known = self._session(session)
        assert offset == len(known.data), "not where the server is"
        assert offset + length == total_bytes or length % self.grain_bytes == 0, "not a multiple of 256 KiB"
        data = b"".join(
            content.read_at(at, min(1 << 20, offset + length - at)) for at in range(offset, offset + length, 1 << 20)
        )
        assert len(data) == length, "a short body"

        def effect() -> SessionState:
            kept = length if self.keep_bytes is None else min(length, self.keep_bytes)
            known.data += data[:kept]
            if len(known.data) == total_bytes:
                known.done = self._perform(known.target, bytes(known.data))
            return SessionState(len(known.data), known.done)

        return self._call("send", effect)

    def end_session(self, session: SessionUri) -> None:
        self._call("end_session", lambda: self.sessions.pop(session, None))

    def close(self) -> None:
        pass
