"""The kernel's FUSE protocol as bytes: opcodes, flags, and the structs of requests and replies (linux/fuse.h). Pure.

Everything is in the machine's own byte order, without padding but what stands in the structs.
"""

from __future__ import annotations

import stat
from enum import IntEnum
from mmap import PAGESIZE
from struct import Struct

from drivefs.model import Kind
from drivefs.vfs.opened import Attributes

VERSION = (7, 40)
"""What we speak: 7.40 brought passthrough (Linux 6.9). The kernel takes the lower of the two."""

OLDEST_MINOR = 28
"""max_pages came with 7.28 (Linux 4.20)."""

WRITE_LIMIT_BYTES = 1 << 19
"""Of one WRITE. Half of a MiB that a program writes is put in place while the other half is being received."""

READ_LIMIT_BYTES = 1 << 20
PAGES_LIMIT = READ_LIMIT_BYTES // PAGESIZE + 1
"""Pages of one request: 1 MiB that begins within a page. The kernel grants fs.fuse.max_pages_limit at most, which is
256 unless root has raised it."""

BUFFER_BYTES = PAGES_LIMIT * PAGESIZE
"""Holds any request (a header, write's own, and the bytes), and what the longest READ asks for."""


class Opcode(IntEnum):
    """What a request asks for."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    READLINK = 5
    SYMLINK = 6
    MKNOD = 8
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    LINK = 13
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    SETXATTR = 21
    GETXATTR = 22
    LISTXATTR = 23
    REMOVEXATTR = 24
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    FSYNCDIR = 30
    CREATE = 35
    INTERRUPT = 36
    DESTROY = 38
    BATCH_FORGET = 42
    FALLOCATE = 43
    READDIRPLUS = 44
    RENAME2 = 45
    COPY_FILE_RANGE = 47
    COPY_FILE_RANGE_64 = 53


class Notification(IntEnum):
    """What the kernel is told without having asked."""

    INVAL_INODE = 2
    INVAL_ENTRY = 3
    DELETE = 6


EXPIRE_ONLY = 1 << 0
"""Of INVAL_ENTRY, since 7.38: look again, and drop nothing."""

# --- INIT ---

ASYNC_READ = 1 << 0
ATOMIC_O_TRUNC = 1 << 3
BIG_WRITES = 1 << 5
DO_READDIRPLUS = 1 << 13
READDIRPLUS_AUTO = 1 << 14
PARALLEL_DIROPS = 1 << 18
ABORT_ERROR = 1 << 21
MAX_PAGES = 1 << 22
EXPLICIT_INVAL_DATA = 1 << 25
HANDLE_KILLPRIV_V2 = 1 << 28
INIT_EXT = 1 << 30
PASSTHROUGH = 1 << 37
HAS_RESEND = 1 << 39

UNIQUE_RESENT = 1 << 63
"""In the number of a request that is sent again."""

NOTIFY_RESEND = 7
"""Asks the kernel to send again what was read and not answered (7.40, Linux 6.9)."""

# --- SETATTR, GETATTR, OPEN ---

FATTR_MODE = 1 << 0
FATTR_UID = 1 << 1
FATTR_GID = 1 << 2
FATTR_SIZE = 1 << 3
FATTR_MTIME = 1 << 5
FATTR_FH = 1 << 6
FATTR_MTIME_NOW = 1 << 8
FATTR_KILL_SUIDGID = 1 << 11

WRITE_KILL_SUIDGID = 1 << 2
OPEN_KILL_SUIDGID = 1 << 0

FOPEN_DIRECT_IO = 1 << 0
FOPEN_KEEP_CACHE = 1 << 1
FOPEN_CACHE_DIR = 1 << 3
FOPEN_PASSTHROUGH = 1 << 7

# --- structs; the comments name the fields ---

IN_HEADER = Struct("=IIQQIIIHH")  # len, opcode, unique, nodeid, uid, gid, pid, total_extlen, padding
OUT_HEADER = Struct("=IiQ")  # len, error, unique
INIT_IN = Struct("=IIII")  # major, minor, max_readahead, flags
INIT_FLAGS2 = Struct("=I")  # follows under INIT_EXT
INIT_OUT = Struct("=IIIIHHIIHHIIH22x")
# major, minor, max_readahead, flags, max_background, congestion_threshold, max_write, time_gran, max_pages,
# map_alignment, flags2, max_stack_depth, request_timeout, unused
FORGET_IN = Struct("=Q")  # nlookup
BATCH_FORGET_IN = Struct("=II")  # count, dummy
FORGET_ONE = Struct("=QQ")  # nodeid, nlookup
SETATTR_IN = Struct("=IIQQQQQQIIIIIIII")
# valid, padding, fh, size, lock_owner, atime, mtime, ctime, atimensec, mtimensec, ctimensec, mode, unused, uid, gid,
# unused
MKNOD_IN = Struct("=IIII")  # mode, rdev, umask, padding
MKDIR_IN = Struct("=II")  # mode, umask
RENAME_IN = Struct("=Q")  # newdir
RENAME2_IN = Struct("=QII")  # newdir, flags, padding
OPEN_IN = Struct("=II")  # flags, open_flags
CREATE_IN = Struct("=IIII")  # flags, mode, umask, open_flags
OPEN_OUT = Struct("=QIi")  # fh, open_flags, backing_id
READ_IN = Struct("=QQIIQII")  # fh, offset, size, read_flags, lock_owner, flags, padding
WRITE_IN = Struct("=QQIIQII")  # fh, offset, size, write_flags, lock_owner, flags, padding
WRITE_OUT = Struct("=II")  # size, padding
HANDLE_IN = Struct("=Q")  # how RELEASE, FLUSH, FSYNC and their like begin: fh
FALLOCATE_IN = Struct("=QQQII")  # fh, offset, length, mode, padding
COPY_FILE_RANGE_IN = Struct("=QQQQQQQ")  # fh_in, off_in, nodeid_out, fh_out, off_out, len, flags
COPY_FILE_RANGE_OUT = Struct("=Q")  # bytes_copied: of COPY_FILE_RANGE_64; the older one's reply is that of WRITE
SETXATTR_IN = Struct("=II")  # size, flags
GETXATTR_IN = Struct("=II")  # size, padding
GETXATTR_OUT = Struct("=II")  # size, padding
INTERRUPT_IN = Struct("=Q")  # unique
STATFS_OUT = Struct("=QQQQQIIII24x")  # blocks, bfree, bavail, files, ffree, bsize, namelen, frsize, padding
_ATTR = "QQQQQQIIIIIIIIII"
# ino, size, blocks, atime, mtime, ctime, their nanoseconds, mode, nlink, uid, gid, rdev, blksize, flags
_ATTR_OUT = Struct("=QII" + _ATTR)  # attr_valid, its nanoseconds, dummy
_ENTRY_OUT = Struct("=QQQQII" + _ATTR)  # nodeid, generation, entry_valid, attr_valid, their nanoseconds
_DIRENT = Struct("=QQII")  # ino, off, namelen, type
_BACKING_MAP = Struct("=iIQ")  # fd, flags, padding

NOTIFY_INVAL_INODE_OUT = Struct("=Qqq")  # ino, off (below 0: attributes only), len (0: to the end)
NOTIFY_INVAL_ENTRY_OUT = Struct("=QII")  # parent, namelen, flags; then the name and a zero
NOTIFY_DELETE_OUT = Struct("=QQII")  # parent, child, namelen, padding; then the name and a zero

ENTRY_OUT_BYTES = _ENTRY_OUT.size

DEV_IOC_BACKING_OPEN = 0x4010E501  # _IOW(229, 1, struct fuse_backing_map)
DEV_IOC_BACKING_CLOSE = 0x4004E502  # _IOW(229, 2, uint32_t)

BLOCK_BYTES = 4096
FORMAT = {Kind.FILE: stat.S_IFREG, Kind.FOLDER: stat.S_IFDIR, Kind.SYMLINK: stat.S_IFLNK}
_NS = 1_000_000_000


class Encoder:
    """Attributes as the kernel wants them, for one owner, and with how long it may keep them."""

    def __init__(self, uid: int, gid: int, valid_s: int) -> None:
        self._uid = uid
        self._gid = gid
        self._valid_s = valid_s
        self.no_entry = _ENTRY_OUT.pack(0, 0, valid_s, 0, 0, 0, *[0] * 16)
        """struct fuse_entry_out of a name that does not exist."""

    def attr(self, attributes: Attributes) -> bytes:
        """struct fuse_attr_out."""
        return _ATTR_OUT.pack(self._valid_s if attributes.measured else 0, 0, 0, *self._fields(attributes))

    def entry(self, attributes: Attributes) -> bytes:
        """struct fuse_entry_out. Inode numbers are never used again, so there is one generation."""
        valid_s = self._valid_s
        return _ENTRY_OUT.pack(
            attributes[0], 0, valid_s, valid_s if attributes.measured else 0, 0, 0, *self._fields(attributes)
        )

    def _fields(self, attributes: Attributes) -> tuple[int, ...]:
        inode, kind, mode, links, size_bytes, mtime_ns, ctime_ns, _ = attributes
        mtime_s, mtime_rest = divmod(mtime_ns, _NS)
        ctime_s, ctime_rest = divmod(ctime_ns, _NS)
        mtime_s &= 0xFFFFFFFFFFFFFFFF  # before 1970
        ctime_s &= 0xFFFFFFFFFFFFFFFF
        mode |= FORMAT[kind]
        return (
            *(inode, size_bytes, (size_bytes + 511) >> 9, mtime_s, mtime_s, ctime_s),
            *(mtime_rest, mtime_rest, ctime_rest, mode, links, self._uid, self._gid, 0, BLOCK_BYTES, 0),
        )


NO_ENTRY = bytes(ENTRY_OUT_BYTES)
"""In READDIRPLUS: this name is not looked up by the way."""


def dirent_bytes(name: bytes) -> int:
    """How long the `dirent` of a name is."""
    return _DIRENT.size + (len(name) + 7 & ~7)


def dirent(inode: int, offset: int, name: bytes, kind: Kind) -> bytes:
    """struct fuse_dirent; `offset` is where the next one begins."""
    padding = -len(name) % 8
    return _DIRENT.pack(inode, offset, len(name), FORMAT[kind] >> 12) + name + bytes(padding)


def backing_map(fd: int) -> bytearray:
    """What DEV_IOC_BACKING_OPEN takes; in memory that may change, or fcntl does not return the ID."""
    return bytearray(_BACKING_MAP.pack(fd, 0, 0))


def name_of(raw: bytes) -> str:
    """A name as the rest of us knows it; what is not UTF-8 comes through as surrogates."""
    return raw.decode("utf-8", "surrogateescape")


def bytes_of(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")
