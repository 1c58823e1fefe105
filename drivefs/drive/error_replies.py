"""What Drive's refusals mean: a reply that is an error, as one of the tree of `drivefs.errors`.

Pure functions. Everything that comes in may be hostile.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum

from drivefs.drive.replies import encodable
from drivefs.errors import (
    BadRange,
    BadReply,
    DriveError,
    IdInUse,
    QueueBlocked,
    RateLimited,
    Refused,
    RemoteNotFound,
    ServerFault,
    SessionGone,
)

ERROR_OF_REASON: Mapping[str, type[DriveError]] = {
    # wait, and repeat
    "rateLimitExceeded": RateLimited,
    "userRateLimitExceeded": RateLimited,
    "sharingRateLimitExceeded": RateLimited,
    "backendError": ServerFault,
    "internalError": ServerFault,
    # nothing of the kind will work for a while
    "dailyLimitExceeded": QueueBlocked,
    "storageQuotaExceeded": QueueBlocked,
    "quotaExceeded": QueueBlocked,
    "downloadQuotaExceeded": QueueBlocked,
    "activeItemCreationLimitExceeded": QueueBlocked,
    "numChildrenInNonRootLimitExceeded": QueueBlocked,
    "teamDriveFileLimitExceeded": QueueBlocked,
    "myDriveHierarchyDepthLimitExceeded": QueueBlocked,
    "teamDriveHierarchyTooDeep": QueueBlocked,
    # never
    "insufficientFilePermissions": Refused,
    "appNotAuthorizedToFile": Refused,
    "domainPolicy": Refused,
    "cannotDownloadAbusiveFile": Refused,
    "fileNotDownloadable": Refused,
    "exportSizeLimitExceeded": Refused,
    "fileNotExportable": Refused,
    "teamDrivesFolderMoveInNotSupported": Refused,
    "accessNotConfigured": Refused,
    "badRequest": Refused,
    "invalid": Refused,
    "notFound": RemoteNotFound,
    "fileIdInUse": IdInUse,
}
"""drive-api: Errors."""

_ERROR_OF_STATUS: Mapping[int, type[DriveError]] = {
    404: RemoteNotFound,
    408: ServerFault,
    409: IdInUse,
    410: RemoteNotFound,
    416: BadRange,
    429: RateLimited,
}

MAX_RETRY_AFTER_S = 3600.0
"""No server is believed to want more: a slip of its clock must not stop us for days."""

_SESSION_KEEPS = (RateLimited, ServerFault, QueueBlocked, IdInUse)
"""Errors that leave an upload session as it is, or would come again from a new one."""


class Asked(Enum):
    """What an error is the answer to."""

    CALL = "call"
    SESSION = "session"


def error_of(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    asked: Asked = Asked.CALL,
    *,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> DriveError:
    """The error that a reply of this status is, by its `reason` first and its status second."""
    reason, said = _reason(body)
    kind = ERROR_OF_REASON.get(reason) or _ERROR_OF_STATUS.get(status)
    if kind is None:
        kind = ServerFault if status >= 500 else Refused if status >= 400 else BadReply
    if asked is Asked.SESSION:
        gone = status in (404, 410) or not (
            issubclass(kind, _SESSION_KEEPS) or (reason in ERROR_OF_REASON and status == 403)
        )
        if 400 <= status < 500 and gone:
            kind = SessionGone
        said = ""  # the server may quote the session's address
    message = f"Drive answered {status}{f' ({reason})' if reason else ''}{f': {said}' if said else ''}"
    message = message.rstrip(".") + "."
    if kind is RateLimited:
        retry_after_s = retry_after(headers.get("Retry-After"), now)
        return RateLimited(message, reason=reason, status=status, retry_after_s=retry_after_s)
    return kind(message, reason=reason, status=status)


def _reason(body: bytes) -> tuple[str, str]:
    """Drive's word for what went wrong, and its sentence (one line, 200 characters)."""
    try:
        error = json.loads(body)["error"]
        first = error["errors"][0] if error.get("errors") else {}
        reason, said = first.get("reason", ""), error.get("message", "")
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        return "", ""
    reason = reason if isinstance(reason, str) and re.fullmatch(r"[A-Za-z0-9_.]{1,80}", reason) else ""
    said = " ".join("".join(c if c.isprintable() else " " for c in said).split()) if isinstance(said, str) else ""
    return reason, encodable(said[:200])


def retry_after(value: str | None, now: Callable[[], datetime]) -> float | None:
    """Seconds to wait, up to an hour, as the `Retry-After` header says by number or by date; None without."""
    if value is None:
        return None
    if re.fullmatch(r"\d{1,9}", value.strip()):
        return min(float(value), MAX_RETRY_AFTER_S)
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return min(max(0.0, (when - now()).total_seconds()), MAX_RETRY_AFTER_S)
