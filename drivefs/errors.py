"""Every error that drivefs raises on purpose, in one tree. Imports nothing.

DrivefsError
├── UserError               a sentence for the person, with a way out; carries the exit code
│   ├── UsageError          bad arguments (2)
│   ├── TimedOut            work is left (3)
│   └── SignInNeeded        no credentials, or they no longer work (4); also raised by Drive calls
├── FsError                 what a system call answers; one class an errno (fuse/errno_map.py)
├── DriveError              what Drive, or the way to it, answered
│   ├── Transient           the same call may work later
│   │   ├── Unreachable     no reply: it may have worked
│   │   ├── ServerFault     5xx: it may have worked
│   │   └── RateLimited     refused: it did not happen
│   ├── QueueBlocked        full Drive, daily limit: nothing of the kind will work for a while
│   ├── Refused             this call will never work: rights, bad request, policy
│   │   ├── RemoteNotFound  404
│   │   ├── IdInUse         409: a create with this ID has worked before
│   │   └── BadRange        416: nothing there to read
│   ├── SessionGone         the upload session is no longer known: start a new one
│   └── BadReply            what came is not what the API promises (short, long, not JSON, wrong checksum)
├── StoreError              the cache folder
│   ├── CacheInUse          another mount has it
│   ├── CacheDamaged        a file or a row of it is missing or unreadable
│   │   └── DatabaseDamaged its database is no database any more
│   ├── CacheFull           no room on the local disk
│   └── Changing            the file is written all the time: no one instant of it can be copied
└── Superseded              the content under an upload was taken back for newer content
"""

from __future__ import annotations


class DrivefsError(Exception):
    """Whatever drivefs raises on purpose; the message is a sentence."""


class UserError(DrivefsError):
    """Shown to the person as it is, without a traceback: one sentence, with a way out."""

    exit_code = 1


class UsageError(UserError):
    """The arguments do not fit."""

    exit_code = 2


class TimedOut(UserError):
    """The time given was up with work left; nothing is lost."""

    exit_code = 3


class SignInNeeded(UserError):
    """There are no credentials, or Drive no longer takes them."""

    exit_code = 4


# --- what a system call answers ---


class FsError(DrivefsError):
    """A system call's failure. Each class has its errno in fuse/errno_map.py."""


class NoEntry(FsError):
    """No such file or folder."""


class Stale(NoEntry):
    """A name led here a moment ago, and leads elsewhere by now, or nowhere: it is to be looked up again."""


class Exists(FsError):
    """The name is taken."""


class NotDirectory(FsError):
    """A folder was needed."""


class IsDirectory(FsError):
    """A file was needed."""


class CrossDevice(FsError):
    """Folders do not move from one drive to another, nor what is on this machine only to Drive."""


class NotEmpty(FsError):
    """The folder has entries."""


class NotPermitted(FsError):
    """The filesystem never allows this (hard links, device files)."""


class AccessDenied(FsError):
    """The account may not do this, or nobody may in the trash."""


class ReadOnly(FsError):
    """The mount, or this entry, cannot be written."""


class InvalidArgument(FsError):
    """The call's arguments contradict each other."""


class NameTooLong(FsError):
    """Over 255 bytes of UTF-8."""


class NoAttribute(FsError):
    """No extended attribute of that name."""


class NotSupported(FsError):
    """This filesystem does not have the operation."""


class NoSpace(FsError):
    """No room: on the local disk, or for an extended attribute on Drive."""


class BadHandle(FsError):
    """The handle is closed, or not open for this."""


class NotPublished(FsError):
    """fsync was to wait for Drive, which does not take the file."""


class Interrupted(FsError):
    """Whoever waited is to end."""


class ReadFailed(FsError):
    """The bytes are on Drive, and could not be fetched."""


class ReadTimedOut(FsError):
    """The bytes are on Drive, which did not answer in time."""


# --- what Drive answers ---


class DriveError(DrivefsError):
    """A call to Drive failed. `reason` is Drive's own word for it, or "" (drive-api: Errors)."""

    def __init__(self, message: str, *, reason: str = "", status: int = 0) -> None:
        super().__init__(message)
        self.reason = reason
        self.status = status


class Transient(DriveError):
    """The same call may work later."""


class Unreachable(Transient):
    """No reply: not connected, dropped or stalled. The request may have worked."""


class ServerFault(Transient):
    """5xx. The request may have worked."""


class RateLimited(Transient):
    """Too fast; the request was not carried out. `retry_after_s` is what the server asked for, or None."""

    def __init__(
        self, message: str, *, reason: str = "", status: int = 0, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message, reason=reason, status=status)
        self.retry_after_s = retry_after_s


class QueueBlocked(DriveError):
    """Nothing of the kind will work for a while: full Drive, daily limit, too many children."""


class Refused(DriveError):
    """This call will never work as it is: no rights, a bad request, a policy."""


class RemoteNotFound(Refused):
    """Drive has no such file, or the account may not see it."""


class IdInUse(Refused):
    """A file with this pre-generated ID is there already: an earlier create had worked."""


class ExportTooLarge(Refused):
    """Drive does not export a document of this size."""


class BadRange(Refused):
    """The range lies outside of the file."""


class SessionGone(DriveError):
    """The resumable session is unknown or used up: start a new one."""


class BadReply(DriveError):
    """The reply is not what the API promises."""


# --- the local cache ---


class StoreError(DrivefsError):
    """The cache folder cannot be used."""


class CacheInUse(StoreError):
    """Another process has this cache folder."""


class CacheDamaged(StoreError):
    """A file or a row of the cache is missing or cannot be read."""


class DatabaseDamaged(CacheDamaged):
    """The cache's database cannot be read as one."""


class CacheFull(StoreError):
    """The local disk has no room for it."""


class Changing(StoreError):
    """The content is written all the time, by the kernel itself: no one instant of it can be copied."""


class Superseded(DrivefsError):
    """The content under an upload was taken back, because newer content is coming."""
