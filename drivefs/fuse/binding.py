"""The Python binding of libfuse: mfusepy, or fusepy 3 where only that is there, with what they leave out.

Both hand Python copies of the bytes, drop rename's flags, the handle of ftruncate and futimens, and the attributes
of a listing, and know no exceptions but OSError. The classes here replace those callbacks; the rest is the binding's.
"""

from __future__ import annotations

import ctypes
import errno
import importlib
import logging
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from drivefs.errors import DriveError, DrivefsError, StoreError, UserError
from drivefs.fuse.ending import is_ending
from drivefs.fuse.errno_map import errno_of
from drivefs.fuse.operations import BLOCK_BYTES, FORMAT, Operations
from drivefs.vfs.opened import Attributes

log = logging.getLogger(__name__)

MODULE_VARIABLE = "DRIVEFS_FUSE_MODULE"
"""Environment variable that names the binding to take: mfusepy or fuse (fusepy's module)."""

LIBRARY_VARIABLE = "FUSE_LIBRARY_PATH"
"""Environment variable of both bindings that names the libfuse to load."""

LIBRARIES = {"mfusepy": ("libfuse3.so.4", "libfuse3.so.3", "libfuse.so.2"), "fuse": ("libfuse.so.2",)}
"""What is tried, in this order."""

UTIME_NOW = (1 << 30) - 1  # utimensat(2)
UTIME_OMIT = (1 << 30) - 2
FILL_DIR_PLUS = 2  # enum fuse_fill_dir_flags of libfuse 3
READDIR_PLUS = 1  # enum fuse_readdir_flags of libfuse 3

_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Binding:
    """A loaded libfuse. `run(operations, mountpoint, options)` blocks until the mount is gone."""

    module: str
    library_version: tuple[int, int]
    run: Callable[..., Any]
    interrupted: Callable[[], bool]
    """Whether whoever made the call that this thread handles is to end: a signal came that ends programs."""
    pid: Callable[[], int]
    """The thread that made it."""


def load() -> Binding:
    """Load the binding and its library, the newest that are there. Raises UserError."""
    chosen = os.environ.get(MODULE_VARIABLE)
    failures: list[str] = []
    for name in (chosen,) if chosen else LIBRARIES:
        for library in (os.environ.get(LIBRARY_VARIABLE), *LIBRARIES.get(name, ())):
            if library is None:
                continue
            try:
                module = _import(name, library)
            except (ImportError, OSError, AttributeError) as error:
                failures.append(f"{name} with {library}: {error}")
            else:
                return _bind(name, module)
    raise UserError(
        "libfuse could not be loaded: install it (on Debian and Ubuntu: apt install fuse3 libfuse3-3). Tried "
        + "; ".join(failures)
        + "."
    )


def _import(name: str, library: str) -> Any:
    """Import a binding, which loads the library named by the environment as it is imported."""
    before = os.environ.get(LIBRARY_VARIABLE)
    os.environ[LIBRARY_VARIABLE] = library
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # fusepy's own, of Python's syntax
            module = importlib.import_module(name)
    finally:
        if before is None:
            del os.environ[LIBRARY_VARIABLE]
        else:
            os.environ[LIBRARY_VARIABLE] = before
    if not hasattr(module, "FUSE"):
        raise ImportError(f"the module {name} is another library of that name")
    return module


def _bind(name: str, module: Any) -> Binding:
    version = int(module._libfuse.fuse_version())
    base = 10 if version < 100 else 100
    kind = _classic(module) if name == "fuse" else _modern(module)

    def pid() -> int:
        return int(module.fuse_get_context()[2])

    def interrupted() -> bool:
        return bool(module._libfuse.fuse_interrupted()) and is_ending(pid())

    return Binding(name, divmod(version, base), kind, interrupted, pid)


class _Callbacks:
    """The callbacks that are the same in both bindings."""

    operations: Operations

    def _wrapper(self, function: Callable[..., int | None], *arguments: Any) -> int:
        """Every callback goes through here: errors become errno, and none gets any further."""
        try:
            return function(*arguments) or 0
        except DrivefsError as error:
            if isinstance(error, (DriveError, StoreError, UserError)):
                log.warning("%s: %s", function.__name__, error)
            return -errno_of(error)
        except UnicodeDecodeError:
            return -errno.EINVAL  # fusepy decodes names itself: this one is not UTF-8
        except OSError as error:
            log.exception("%s failed", function.__name__)
            return -(error.errno or errno.EIO)
        except BaseException:  # a callback that raises takes the mount down
            log.exception("%s failed", function.__name__)
            return -errno.EIO

    def fgetattr(self, path: bytes | None, buffer: Any, fip: Any) -> None:
        fi = fip.contents if fip else None
        self._fill(buffer.contents, self.operations.getattr(_text(path), fi))

    def _fill(self, st: Any, attributes: Attributes) -> None:
        ctypes.memset(ctypes.byref(st), 0, ctypes.sizeof(st))
        vfs = self.operations.vfs
        st.st_ino, kind, mode, st.st_nlink, size_bytes, mtime_ns, ctime_ns, _ = attributes
        st.st_mode = FORMAT[kind] | mode
        st.st_uid = vfs.uid
        st.st_gid = vfs.gid
        st.st_size = size_bytes
        st.st_blksize = BLOCK_BYTES
        st.st_blocks = (size_bytes + 511) >> 9
        seconds, nanoseconds = divmod(mtime_ns, _NS)
        for spec in (st.st_atimespec, st.st_mtimespec):
            spec.tv_sec = seconds
            spec.tv_nsec = nanoseconds
        spec = st.st_ctimespec
        spec.tv_sec, spec.tv_nsec = divmod(ctime_ns, _NS)

    def read(self, _path: bytes | None, buffer: Any, size: int, offset: int, fip: Any) -> int:
        return self.operations.read(fip.contents, offset, _memory(buffer, size))

    def write(self, _path: bytes | None, buffer: Any, size: int, offset: int, fip: Any) -> int:
        return self.operations.write(fip.contents, offset, _memory(buffer, size))

    def getxattr(self, path: bytes, name: bytes, buffer: Any, size: int, *_: int) -> int:
        if not name.startswith(b"user."):
            return -errno.EOPNOTSUPP  # ls would ask again for every file if there could be any
        value = self.operations.getxattr(_text(path) or "", _text(name) or "")
        if not size:
            return len(value)
        if len(value) > size:
            return -errno.ERANGE
        ctypes.memmove(buffer, value, len(value))
        return len(value)


def _text(raw: bytes | None) -> str | None:
    return None if raw is None else raw.decode("utf-8", "surrogateescape")


def _memory(buffer: Any, size: int) -> memoryview:
    """libfuse's own buffer, without a copy; good until the callback returns."""
    return memoryview((ctypes.c_char * size).from_address(ctypes.addressof(buffer.contents))).cast("B")


def _mtime_ns(times: Any) -> int | None:
    """The modification time that utimens(2) asks for; None where it is to stay."""
    if not times:
        return time.time_ns()
    mtime = times.contents.modtime
    if mtime.tv_nsec == UTIME_OMIT:
        return None
    if mtime.tv_nsec == UTIME_NOW:
        return time.time_ns()
    return int(mtime.tv_sec * _NS + mtime.tv_nsec)


def _modern(module: Any) -> Any:
    """mfusepy, over libfuse 2 or 3."""
    stat_type = module.c_stat

    class Modern(_Callbacks, module.FUSE):  # type: ignore[misc]  # the base is known at run time only
        def copy_file_range(
            self,
            _source: bytes | None,
            source: Any,
            offset: int,
            _path: bytes | None,
            fip: Any,
            to: int,
            size: int,
            _: int,
        ) -> int:
            return self.operations.copy_file_range(source.contents, offset, fip.contents, to, size)

        def rename_fuse_3(self, old: bytes, new: bytes, flags: int) -> None:
            self.operations.rename(_text(old) or "", _text(new) or "", flags)

        def chmod_fuse_3(self, path: bytes | None, mode: int, fip: Any) -> None:
            self.operations.chmod(_text(path), mode, fip.contents if fip else None)

        def chown_fuse_3(self, path: bytes | None, uid: int, gid: int, fip: Any) -> None:
            self.operations.chown(_text(path), _owner(uid), _owner(gid), fip.contents if fip else None)

        def truncate_fuse_3(self, path: bytes | None, length: int, fip: Any) -> None:
            self.operations.truncate(_text(path), length, fip.contents if fip else None)

        def utimens_fuse_2(self, path: bytes, times: Any) -> None:
            self.operations.utimens(_text(path), _mtime_ns(times))

        def utimens_fuse_3(self, path: bytes | None, times: Any, fip: Any) -> None:
            self.operations.utimens(_text(path), _mtime_ns(times), fip.contents if fip else None)

        def readdir_fuse_2(self, path: bytes | None, buffer: Any, filler: Any, _offset: int, fip: Any) -> None:
            st = stat_type()
            for name, attributes in self.operations.readdir(_text(path), fip.contents.fh):
                self._fill(st, attributes)
                if filler(buffer, name.encode("utf-8", "surrogateescape"), st, 0):
                    break

        def readdir_fuse_3(
            self, path: bytes | None, buffer: Any, filler: Any, _offset: int, fip: Any, flags: int
        ) -> None:
            st = stat_type()
            plus = FILL_DIR_PLUS if flags & READDIR_PLUS else 0
            for name, attributes in self.operations.readdir(_text(path), fip.contents.fh):
                self._fill(st, attributes)
                if filler(buffer, name.encode("utf-8", "surrogateescape"), st, 0, plus):
                    break

    return Modern


def _owner(number: int) -> int:
    return -1 if number == 0xFFFFFFFF else number


def _classic(module: Any) -> Any:
    """fusepy 3, over libfuse 2."""
    stat_type = module.c_stat

    class Classic(_Callbacks, module.FUSE):  # type: ignore[misc]  # the base is known at run time only
        def __init__(self, operations: Operations, mountpoint: str, **options: Any) -> None:
            super().__init__(_Callable(operations), mountpoint, encoding="utf-8", **options)

        def utimens(self, path: bytes, times: Any) -> None:
            self.operations.utimens(_text(path), _mtime_ns(times))

        def readdir(self, path: bytes | None, buffer: Any, filler: Any, _offset: int, fip: Any) -> None:
            st = stat_type()
            for name, attributes in self.operations.readdir(_text(path), fip.contents.fh):
                self._fill(st, attributes)
                if filler(buffer, name.encode("utf-8", "surrogateescape"), st, 0):
                    break

    return Classic


class _Callable:
    """The operations as fusepy calls them: the object itself, with the name of the operation."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    def __getattr__(self, name: str) -> Any:
        return getattr(self._operations, name)

    def __call__(self, name: str, *arguments: Any) -> Any:
        return getattr(self._operations, name)(*arguments)
