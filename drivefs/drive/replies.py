"""What Drive's replies mean: JSON into the model's records, and errors into the tree of `drivefs.errors`.

Pure functions. Everything that comes in may be hostile: what is missing or odd is read as absent, and only
what nothing can go on without (an ID, a token) makes a reply a `BadReply`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from drivefs.errors import BadReply
from drivefs.model import (
    FOLDER_MIME,
    GOOGLE_MIME_PREFIX,
    SHORTCUT_MIME,
    About,
    Change,
    ChangesPage,
    Details,
    DetailsPage,
    DriveId,
    ListPage,
    RemoteFile,
    Revision,
    RevisionId,
    SharedDrive,
)

FILE_FIELDS = (
    "id,name,mimeType,parents,trashed,version,modifiedTime,createdTime,size,md5Checksum,headRevisionId,"
    "appProperties,shortcutDetails/targetId,webViewLink,capabilities/canEdit,"
    "capabilities/canModifyContent,capabilities/canTrash,capabilities/canDelete,capabilities/canCopy,ownedByMe,"
    "explicitlyTrashed,description,starred"
)

DETAIL_FIELDS = f"{FILE_FIELDS},webContentLink,sha1Checksum,sha256Checksum"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_EARLIEST_MS = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // timedelta(milliseconds=1)
_LATEST_MS = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // timedelta(milliseconds=1)
_MD5 = re.compile(r"[0-9a-fA-F]{32}")
_STAND_IN = "md5:"
_RANGE = re.compile(r"bytes=0-(\d{1,18})")
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(?:\d{1,18}|\*)")


# --- records ---


def read_json(body: bytes) -> dict[str, Any]:
    """The object that a reply is."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as e:
        raise BadReply("Drive's reply is not JSON.") from e
    if not isinstance(value, dict):
        raise BadReply("Drive's reply is not a JSON object.")
    return value


def read_file(value: object) -> RemoteFile:
    """One File resource, asked for with `FILE_FIELDS`. Where Drive names no head revision, the content's md5 stands
    in for it, and of Google's own kinds the modification time: so that a changed content is noticed all the same."""
    if not isinstance(value, dict):
        raise BadReply("Drive's reply holds something that is not a file.")
    mime_type = _text(value.get("mimeType")) or "application/octet-stream"
    parents = value.get("parents")
    size = _number(value.get("size"))
    md5 = _md5(value.get("md5Checksum"))
    properties = value.get("appProperties")
    shortcut = value.get("shortcutDetails")
    capabilities = value.get("capabilities")
    target = _text(shortcut.get("targetId")) if isinstance(shortcut, dict) else ""
    parent = _text(parents[0]) if isinstance(parents, list) and parents else ""

    def may(name: str) -> bool:
        return not (isinstance(capabilities, dict) and capabilities.get(name) is False)

    return RemoteFile(
        id=read_id(value.get("id")),
        name=_text(value.get("name")),
        mime_type=mime_type,
        parent=DriveId(parent) if parent else None,
        trashed=value.get("trashed") is True,
        version=_number(value.get("version")) or 0,
        modified_ns=read_time(value.get("modifiedTime")),
        created_ns=read_time(value.get("createdTime")),
        size_bytes=None if mime_type.startswith(GOOGLE_MIME_PREFIX) else size,
        md5=md5,
        revision=_revision_of(
            _text(value.get("headRevisionId")), _text(value.get("modifiedTime")) if _is_exported(mime_type) else md5
        ),
        app_properties={_text(k): _text(v) for k, v in properties.items() if isinstance(v, str)}
        if isinstance(properties, dict)
        else {},
        shortcut_target=DriveId(target) if target else None,
        web_view_link=_text(value.get("webViewLink")) or None,
        # What has no bytes of its own cannot have them locked.
        can_edit=may("canEdit") and (may("canModifyContent") or mime_type.startswith(GOOGLE_MIME_PREFIX)),
        can_trash=may("canTrash"),
        can_copy=may("canCopy"),
        owned_by_me=value.get("ownedByMe") is not False,
        description=_text(value.get("description")),
        starred=value.get("starred") is True,
        put_into_trash=value.get("trashed") is True and value.get("explicitlyTrashed") is not False,
        can_delete=may("canDelete"),
    )


def _is_exported(mime_type: str) -> bool:
    """Whether it has content that Drive makes a file of. That of a folder or shortcut is nowhere."""
    return mime_type.startswith(GOOGLE_MIME_PREFIX) and mime_type not in (FOLDER_MIME, SHORTCUT_MIME)


def _revision_of(head: str, stand_in: str | None) -> RevisionId | None:
    if head:
        return RevisionId(head)
    return RevisionId(_STAND_IN + stand_in) if stand_in else None


def is_stand_in(revision: RevisionId) -> bool:
    """Whether Drive has no revision of that name to give: it named none when the file was read."""
    return not revision or revision.startswith(_STAND_IN)


def read_page(value: dict[str, Any]) -> ListPage:
    return ListPage(
        files=tuple(read_file(f) for f in _list(value.get("files"))),
        next_token=_text(value.get("nextPageToken")) or None,
        incomplete=value.get("incompleteSearch") is True,
    )


def read_details(value: object) -> Details:
    """One File resource, asked for with `DETAIL_FIELDS`."""
    file = read_file(value)
    assert isinstance(value, dict)
    return Details(
        file=file,
        content_link=_text(value.get("webContentLink")) or None,
        sha1=_text(value.get("sha1Checksum")) or None,
        sha256=_text(value.get("sha256Checksum")) or None,
    )


def read_details_page(value: dict[str, Any]) -> DetailsPage:
    return DetailsPage(
        found=tuple(read_details(f) for f in _list(value.get("files"))),
        next_token=_text(value.get("nextPageToken")) or None,
        incomplete=value.get("incompleteSearch") is True,
    )


def read_revisions(value: dict[str, Any]) -> tuple[list[Revision], str | None]:
    """One page of a file's revisions, oldest first, and the token of the next."""
    found = []
    for entry in _list(value.get("revisions")):
        if not isinstance(entry, dict) or not _text(entry.get("id")):
            raise BadReply("Drive's reply holds a revision without an ID.")
        found.append(
            Revision(
                id=RevisionId(_text(entry.get("id"))),
                modified_ns=read_time(entry.get("modifiedTime")),
                size_bytes=_number(entry.get("size")) or 0,
                md5=_md5(entry.get("md5Checksum")),
                kept=entry.get("keepForever") is True,
            )
        )
    return found, _text(value.get("nextPageToken")) or None


def read_shared_drives(value: dict[str, Any]) -> tuple[list[SharedDrive], str | None]:
    """One page of the account's shared drives, and the token of the next."""
    found = [
        SharedDrive(read_id(entry.get("id")), _text(entry.get("name")))
        for entry in _list(value.get("drives"))
        if isinstance(entry, dict)
    ]
    return found, _text(value.get("nextPageToken")) or None


def read_changes(value: dict[str, Any]) -> ChangesPage:
    """One page of the feed, without the changes of whole shared drives."""
    changes = []
    for entry in _list(value.get("changes")):
        if not isinstance(entry, dict) or entry.get("fileId") is None:
            continue
        gone = entry.get("removed") is True or not isinstance(entry.get("file"), dict)
        changes.append(Change(read_id(entry["fileId"]), None if gone else read_file(entry["file"])))
    next_token = _text(value.get("nextPageToken")) or None
    new_start_token = None if next_token else _text(value.get("newStartPageToken")) or None
    if next_token is None and new_start_token is None:
        raise BadReply("Drive's page of changes does not say how it goes on.")
    return ChangesPage(tuple(changes), next_token, new_start_token)


def read_about(value: dict[str, Any]) -> About:
    user, quota = value.get("user"), value.get("storageQuota")
    quota = quota if isinstance(quota, dict) else {}
    return About(
        email=_text(user.get("emailAddress")) if isinstance(user, dict) else "",
        limit_bytes=_number(quota.get("limit")),
        usage_bytes=_number(quota.get("usage")) or 0,
    )


def read_ids(value: dict[str, Any], count: int) -> list[DriveId]:
    ids = [read_id(i) for i in _list(value.get("ids"))]
    if len(set(ids)) != count or len(ids) != count:
        raise BadReply(f"Drive was asked for {count} new IDs, and gave {len(set(ids))}.")
    return ids


def read_token(value: object) -> str:
    """A page token that has to be there."""
    token = _text(value)
    if not token:
        raise BadReply("Drive's reply lacks its page token.")
    return token


def read_id(value: object) -> DriveId:
    if not isinstance(value, str) or not value or encodable(value) != value:
        raise BadReply("Drive's reply holds something without an ID.")
    return DriveId(value)


def read_stored(headers: Mapping[str, str], total_bytes: int | None) -> int:
    """How many bytes an upload session has, by the `Range` of its 308; without one, none (drive-api: Uploads)."""
    value = headers.get("Range")
    if value is None:
        return 0
    match = _RANGE.fullmatch(value.strip())
    if match is None:
        raise BadReply("The upload session's Range header makes no sense.")
    stored = int(match[1]) + 1
    if total_bytes is not None and stored > total_bytes:
        raise BadReply("The upload session has more bytes than the file.")
    return stored


def read_content_range(value: str | None) -> tuple[int, int]:
    """The half open range that a 206 carries."""
    match = _CONTENT_RANGE.fullmatch((value or "").strip())
    if match is None:
        raise BadReply("The download's Content-Range header makes no sense.")
    return int(match[1]), int(match[2]) + 1


# --- times ---


def read_time(value: object) -> int:
    """RFC 3339 with or without a fraction, in nanoseconds since the epoch; 0 for anything else."""
    if not isinstance(value, str):
        return 0
    try:
        when = datetime.fromisoformat(value)
    except ValueError:
        return 0
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return (when - _EPOCH) // _MICROSECOND * 1000


def write_time(time_ns: int) -> str:
    """RFC 3339, cut to milliseconds, and to the years 1 to 9999."""
    milliseconds = min(max(time_ns // 1_000_000, _EARLIEST_MS), _LATEST_MS)
    when = _EPOCH + timedelta(milliseconds=milliseconds)
    return when.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


# --- values ---


def encodable(text: str) -> str:
    """Without lone surrogates, which JSON can spell and UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _md5(value: object) -> str | None:
    return value.lower() if isinstance(value, str) and _MD5.fullmatch(value) else None


def _text(value: object) -> str:
    return encodable(value) if isinstance(value, str) else ""


def _number(value: object) -> int | None:
    """An int64 that is not negative, as a number or as a string."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,19}", value):
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63:
        return value
    return None


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
