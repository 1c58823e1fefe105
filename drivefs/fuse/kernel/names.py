"""Requests about names and attributes, in terms of the filesystem. No policy.

Any number of threads may enter. A nodeid of the kernel's is our inode.
"""

from __future__ import annotations

import errno
import itertools
import stat
import sys
import threading
import time
from collections import deque
from collections.abc import Callable

from drivefs.errors import NoEntry, NotPermitted
from drivefs.fuse.kernel import wire
from drivefs.fuse.kernel.known import KnownInodes
from drivefs.fuse.kernel.request import Malformed, Reply, Request
from drivefs.fuse.kernel.wire import Encoder, Opcode
from drivefs.model import Inode
from drivefs.vfs.opened import Attributes
from drivefs.vfs.vfs import Vfs
from drivefs.vfs.xattrs import OWN_PREFIX

NAME_LIMIT_BYTES = 255
DOTS = 2
"""Entries of a folder that are not in it: "." and ".."."""
_NS = 1_000_000_000
_S_ISUID_ISGID = stat.S_ISUID | stat.S_ISGID
_OWN_PREFIX = OWN_PREFIX.encode()

_STATFS = wire.STATFS_OUT


class _Folder:
    """An open folder: where its reader is."""

    def __init__(self, inode: Inode) -> None:
        self.inode = inode
        self.lock = threading.Lock()  # guards what follows
        self.dots: list[tuple[str, Attributes]] = []  # none before the first entry is read
        self.offset = 0  # how many entries were read
        self.after = ""  # the last of them
        self.ready: deque[tuple[str, Attributes]] = deque()  # the next ones
        self.mark = 0  # what the mark of the news was before they were looked for


class Names:
    """What the kernel may ask about names and attributes."""

    def __init__(self, vfs: Vfs, encoder: Encoder, known: KnownInodes) -> None:
        self._vfs = vfs
        self._tree = vfs.tree
        self._news = vfs.news
        self._encoder = encoder
        self._known = known
        self._folders: dict[int, _Folder] = {}  # single operations of a dict only
        self._numbers = itertools.count(vfs.first_number)

    def table(self) -> dict[int, Callable[[Request], Reply]]:
        return {
            Opcode.LOOKUP: self.lookup,
            Opcode.FORGET: self.forget,
            Opcode.BATCH_FORGET: self.batch_forget,
            Opcode.GETATTR: self.getattr,
            Opcode.SETATTR: self.setattr,
            Opcode.READLINK: self.readlink,
            Opcode.SYMLINK: self.symlink,
            Opcode.MKDIR: self.mkdir,
            Opcode.MKNOD: self.mknod,
            Opcode.LINK: self.link,
            Opcode.UNLINK: self.unlink,
            Opcode.RMDIR: self.rmdir,
            Opcode.RENAME: self.rename,
            Opcode.RENAME2: self.rename2,
            Opcode.STATFS: self.statfs,
            Opcode.GETXATTR: self.getxattr,
            Opcode.LISTXATTR: self.listxattr,
            Opcode.SETXATTR: self.setxattr,
            Opcode.REMOVEXATTR: self.removexattr,
            Opcode.OPENDIR: self.opendir,
            Opcode.READDIR: self.readdir,
            Opcode.READDIRPLUS: self.readdirplus,
            Opcode.RELEASEDIR: self.releasedir,
            Opcode.FSYNCDIR: self.fsyncdir,
        }

    # --- what the kernel knows ---

    def tell(self, request: Request, attributes: Attributes, mark: int) -> bytes:
        """The reply that makes an inode known to the kernel; `mark` is that of the news before it was looked at."""
        inode = attributes.inode
        self._known.told(inode)
        request.undo = lambda: self._forgotten(inode, 1)
        if self._news.mark != mark:
            attributes = self._tree.attributes(inode)
        return self._encoder.entry(attributes)

    def _forgotten(self, inode: int, lookups: int) -> None:
        self._known.forget(inode, lookups)

    def lookup(self, request: Request) -> Reply:
        mark = self._news.mark
        try:
            attributes = self._tree.lookup(Inode(request.nodeid), request.name())
        except NoEntry:
            return self._encoder.no_entry
        return self.tell(request, attributes, mark)

    def forget(self, request: Request) -> Reply:
        self._forgotten(request.nodeid, wire.FORGET_IN.unpack_from(request.body)[0])
        return None

    def batch_forget(self, request: Request) -> Reply:
        count, _ = wire.BATCH_FORGET_IN.unpack_from(request.body)
        if count * wire.FORGET_ONE.size > len(request.body) - wire.BATCH_FORGET_IN.size:
            raise Malformed("with fewer inodes than it says")
        for number in range(count):
            inode, lookups = wire.FORGET_ONE.unpack_from(
                request.body, wire.BATCH_FORGET_IN.size + number * wire.FORGET_ONE.size
            )
            self._forgotten(inode, lookups)
        return None

    # --- attributes ---

    def getattr(self, request: Request) -> Reply:
        return self._encoder.attr(self._tree.attributes(Inode(request.nodeid)))

    def setattr(self, request: Request) -> Reply:
        valid, _, handle, size, _, _, mtime, _, _, mtime_rest, _, mode, _, uid, gid, _ = wire.SETATTR_IN.unpack_from(
            request.body
        )
        inode = Inode(request.nodeid)
        if valid & wire.FATTR_SIZE:
            self._vfs.files.truncate(inode, size, handle if valid & wire.FATTR_FH else None)
        if valid & wire.FATTR_MODE:
            self._tree.set_mode(inode, mode & 0o7777)
        if valid & (wire.FATTR_UID | wire.FATTR_GID):
            self._tree.set_owner(inode, uid if valid & wire.FATTR_UID else -1, gid if valid & wire.FATTR_GID else -1)
        if valid & wire.FATTR_KILL_SUIDGID:
            self.drop_privileges(inode)
        if valid & wire.FATTR_MTIME_NOW:
            self._tree.set_mtime(inode, time.time_ns())
        elif valid & wire.FATTR_MTIME:
            seconds = mtime - (1 << 64) if mtime >> 63 else mtime  # before 1970
            self._tree.set_mtime(inode, seconds * _NS + mtime_rest)
        return self._encoder.attr(self._tree.attributes(inode))

    def drop_privileges(self, inode: Inode) -> None:
        """A write by somebody who is not root takes set-user-ID and set-group-ID away (HANDLE_KILLPRIV_V2)."""
        mode = self._tree.attributes(inode).mode
        if mode & _S_ISUID_ISGID:
            self._tree.set_mode(inode, mode & ~_S_ISUID_ISGID)
            self._news.attributes(inode)

    def statfs(self, _request: Request) -> Reply:
        volume = self._vfs.volume()
        free = volume.free_bytes // wire.BLOCK_BYTES
        total = volume.total_bytes // wire.BLOCK_BYTES
        return _STATFS.pack(total, free, free, 0, 0, wire.BLOCK_BYTES, NAME_LIMIT_BYTES, wire.BLOCK_BYTES, 0)

    def readlink(self, request: Request) -> Reply:
        return wire.bytes_of(self._tree.read_link(Inode(request.nodeid)))

    # --- names ---

    def _done(self, request: Request) -> Inode | None:
        """To which inode the process before did what comes again; None: it is still to be done."""
        return self._vfs.find_done(request.id) if request.resent else None

    def mkdir(self, request: Request) -> Reply:
        mark = self._news.mark
        mode, _ = wire.MKDIR_IN.unpack_from(request.body)
        name = request.name(wire.MKDIR_IN.size)
        made = self._done(request)
        if made is not None:
            return self.tell(request, self._tree.attributes(made), mark)
        attributes = self._tree.make_folder(Inode(request.nodeid), name, mode & 0o7777, request.id)
        return self.tell(request, attributes, mark)

    def mknod(self, request: Request) -> Reply:
        mark = self._news.mark
        mode, *_ = wire.MKNOD_IN.unpack_from(request.body)
        if not stat.S_ISREG(mode):
            raise NotPermitted("Drive has no device files, pipes or sockets.")
        inode = self._done(request)
        if inode is None:
            name = request.name(wire.MKNOD_IN.size)
            inode = self._vfs.files.make(Inode(request.nodeid), name, mode & 0o7777, request.id)
        return self.tell(request, self._tree.attributes(inode), mark)

    def symlink(self, request: Request) -> Reply:
        mark = self._news.mark
        name, target = request.names(0, 2)
        made = self._done(request)
        if made is not None:
            return self.tell(request, self._tree.attributes(made), mark)
        attributes = self._tree.make_symlink(Inode(request.nodeid), name, target, request.id)
        return self.tell(request, attributes, mark)

    def link(self, _request: Request) -> Reply:
        raise NotPermitted("Drive has no hard links.")

    def unlink(self, request: Request) -> Reply:
        if self._done(request) is None:
            self._tree.unlink(Inode(request.nodeid), request.name(), request.id)
        return b""

    def rmdir(self, request: Request) -> Reply:
        if self._done(request) is None:
            self._tree.remove_folder(Inode(request.nodeid), request.name(), request.id)
        return b""

    def rename(self, request: Request) -> Reply:
        (new_parent,) = wire.RENAME_IN.unpack_from(request.body)
        return self._rename(request, wire.RENAME_IN.size, new_parent, 0)

    def rename2(self, request: Request) -> Reply:
        new_parent, flags, _ = wire.RENAME2_IN.unpack_from(request.body)
        return self._rename(request, wire.RENAME2_IN.size, new_parent, flags)

    def _rename(self, request: Request, offset: int, new_parent: int, flags: int) -> Reply:
        name, new_name = request.names(offset, 2)
        if self._done(request) is None:
            self._tree.rename(Inode(request.nodeid), name, Inode(new_parent), new_name, flags, request.id)
        return b""

    # --- extended attributes ---

    def getxattr(self, request: Request) -> Reply:
        size, _ = wire.GETXATTR_IN.unpack_from(request.body)
        if request.body[wire.GETXATTR_IN.size :][: len(_OWN_PREFIX)] != _OWN_PREFIX:
            # Such as security.selinux: ls would ask again for every file if there could be any.
            raise OSError(errno.EOPNOTSUPP, "")
        value = self._vfs.xattrs.get(Inode(request.nodeid), request.name(wire.GETXATTR_IN.size))
        return self._sized(value, size)

    def listxattr(self, request: Request) -> Reply:
        size, _ = wire.GETXATTR_IN.unpack_from(request.body)
        names = self._vfs.xattrs.names(Inode(request.nodeid))
        return self._sized(b"".join(wire.bytes_of(name) + b"\0" for name in names), size)

    @staticmethod
    def _sized(value: bytes, size: int) -> bytes:
        if not size:
            return wire.GETXATTR_OUT.pack(len(value), 0)
        if len(value) > size:
            raise OSError(errno.ERANGE, "")
        return value

    def setxattr(self, request: Request) -> Reply:
        size, flags = wire.SETXATTR_IN.unpack_from(request.body)
        start = wire.SETXATTR_IN.size
        raw, zero, rest = bytes(request.body[start:]).partition(b"\0")
        if not zero or len(rest) < size:
            raise Malformed("without its name and value")
        if self._done(request) is None:
            self._vfs.xattrs.set(Inode(request.nodeid), wire.name_of(raw), rest[:size], flags, request.id)
        return b""

    def removexattr(self, request: Request) -> Reply:
        if self._done(request) is None:
            self._vfs.xattrs.remove(Inode(request.nodeid), request.name(), request.id)
        return b""

    # --- folders ---

    def opendir(self, request: Request) -> Reply:
        number = next(self._numbers)
        self._folders[number] = _Folder(Inode(request.nodeid))
        request.undo = lambda: self._close(number)
        return wire.OPEN_OUT.pack(number, wire.FOPEN_CACHE_DIR | wire.FOPEN_KEEP_CACHE, 0)

    def releasedir(self, request: Request) -> Reply:
        self._close(wire.HANDLE_IN.unpack_from(request.body)[0])
        return b""

    def _close(self, number: int) -> None:
        self._folders.pop(number, None)

    def fsyncdir(self, _request: Request) -> Reply:
        self._vfs.files.sync_names()
        return b""

    def readdir(self, request: Request) -> Reply:
        return self._read_folder(request, plus=False)

    def readdirplus(self, request: Request) -> Reply:
        return self._read_folder(request, plus=True)

    def _read_folder(self, request: Request, *, plus: bool) -> Reply:
        """As many entries as there is room for, from the offset on: that is the number of the last one read."""
        number, offset, size, *_ = wire.READ_IN.unpack_from(request.body)
        folder = self._folders.get(number)
        if folder is None:
            # Opened by the process before, whose table is gone.
            folder = self._folders.setdefault(number, _Folder(Inode(request.nodeid)))
        with folder.lock:
            self._seek(folder, offset, number)
            mark = folder.mark
            chosen = self._next_entries(folder, min(size, len(request.room)), wire.ENTRY_OUT_BYTES if plus else 0)
            if folder.offset > DOTS:
                self._vfs.places.note_place(number, folder.offset, wire.bytes_of(folder.after))
        if plus:
            told = [attributes.inode for _, attributes, place in chosen if place > DOTS]
            request.undo = lambda: self._forgotten_all(told)
            for inode in told:
                self._known.told(inode)
        changed = self._news.mark != mark
        parts: list[bytes] = []
        for raw, attributes, place in chosen:
            if plus:
                parts.append(self._entry_now(attributes, changed=changed) if place > DOTS else wire.NO_ENTRY)
            parts.append(wire.dirent(attributes.inode, place, raw, attributes.kind))
        return b"".join(parts)

    def _forgotten_all(self, inodes: list[Inode]) -> None:
        for inode in inodes:
            self._forgotten(inode, 1)

    def _entry_now(self, attributes: Attributes, *, changed: bool) -> bytes:
        """Of an inode that the kernel is being told of; looked at again if something has `changed`."""
        if changed:
            try:
                attributes = self._tree.attributes(attributes.inode)
            except NoEntry:
                self._forgotten(attributes.inode, 1)
                return wire.NO_ENTRY
        return self._encoder.entry(attributes)

    def _seek(self, folder: _Folder, offset: int, number: int) -> None:
        """Let the entry at `offset` come next. The caller holds the folder's lock."""
        mark = self._news.mark
        if not folder.dots and offset > DOTS:
            after = self._vfs.places.find_place(number, offset)
            if after is not None:  # begun by the process before; to count would pass over what was removed since
                folder.dots = self._tree.begin_listing(folder.inode)
                folder.offset, folder.after, folder.mark = offset, wire.name_of(after), mark
        if not folder.dots or offset != folder.offset:
            folder.dots = self._tree.begin_listing(folder.inode)
            folder.offset, folder.after, folder.ready = 0, "", deque(folder.dots)
            folder.mark = mark
            while folder.offset < offset and self._next_entries(folder, wire.BUFFER_BYTES, 0, offset - folder.offset):
                pass
        elif folder.mark != mark:
            folder.ready = deque(folder.dots[folder.offset :])
            folder.mark = mark

    def _next_entries(
        self, folder: _Folder, room_bytes: int, more_bytes: int, limit: int = sys.maxsize
    ) -> list[tuple[bytes, Attributes, int]]:
        """Name, attributes and offset after it of the entries that fit, with `more_bytes` for each."""
        chosen: list[tuple[bytes, Attributes, int]] = []
        while len(chosen) < limit:
            if not folder.ready:
                folder.ready.extend(self._tree.page(folder.inode, folder.after))
                if not folder.ready:
                    break
            name, attributes = folder.ready[0]
            raw = wire.bytes_of(name)
            room_bytes -= wire.dirent_bytes(raw) + more_bytes
            if room_bytes < 0:
                break
            folder.ready.popleft()
            folder.offset += 1
            if folder.offset > DOTS:
                folder.after = name
            chosen.append((raw, attributes, folder.offset))
        return chosen
