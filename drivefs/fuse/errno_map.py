"""The one table from our errors to errno, for every adapter. The most specific class wins."""

from __future__ import annotations

import errno

from drivefs import errors

ERRNO: dict[type[errors.DrivefsError], int] = {
    errors.DrivefsError: errno.EIO,
    errors.UserError: errno.EIO,
    errors.UsageError: errno.EINVAL,
    errors.TimedOut: errno.ETIMEDOUT,
    errors.SignInNeeded: errno.EACCES,
    errors.FsError: errno.EIO,
    errors.NoEntry: errno.ENOENT,
    errors.Stale: errno.ESTALE,  # the kernel looks the name up again, and opens what that finds
    errors.Exists: errno.EEXIST,
    errors.NotDirectory: errno.ENOTDIR,
    errors.IsDirectory: errno.EISDIR,
    errors.NotEmpty: errno.ENOTEMPTY,
    errors.CrossDevice: errno.EXDEV,
    errors.NotPermitted: errno.EPERM,
    errors.AccessDenied: errno.EACCES,
    errors.ReadOnly: errno.EROFS,
    errors.InvalidArgument: errno.EINVAL,
    errors.NameTooLong: errno.ENAMETOOLONG,
    errors.NoAttribute: errno.ENODATA,
    errors.NotSupported: errno.EOPNOTSUPP,
    errors.NoSpace: errno.ENOSPC,
    errors.BadHandle: errno.EBADF,
    errors.NotPublished: errno.EIO,
    errors.Interrupted: errno.EINTR,
    errors.ReadFailed: errno.EIO,
    errors.ReadTimedOut: errno.ETIMEDOUT,
    errors.DriveError: errno.EIO,
    errors.Transient: errno.EIO,
    errors.Unreachable: errno.EIO,
    errors.ServerFault: errno.EIO,
    errors.RateLimited: errno.EIO,
    errors.QueueBlocked: errno.EIO,
    errors.Refused: errno.EACCES,
    # Gone on Drive while it was read: ENOENT would say that the name is not there.
    errors.RemoteNotFound: errno.EIO,
    errors.IdInUse: errno.EIO,
    errors.ExportTooLarge: errno.EFBIG,
    errors.BadRange: errno.EIO,
    errors.SessionGone: errno.EIO,
    errors.BadReply: errno.EIO,
    errors.StoreError: errno.EIO,
    errors.CacheInUse: errno.EBUSY,
    errors.CacheDamaged: errno.EIO,
    errors.DatabaseDamaged: errno.EIO,
    errors.CacheFull: errno.ENOSPC,
    errors.Changing: errno.EAGAIN,
    errors.Superseded: errno.EIO,
}


def errno_of(error: errors.DrivefsError) -> int:
    """What a system call answers for `error`."""
    for kind in type(error).__mro__:
        number = ERRNO.get(kind)
        if number is not None:
            return number
    return errno.EIO
