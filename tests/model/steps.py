"""What can happen to a mount, one frozen record each: printed, it is a line of a regression test."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, replace

from drivefs.errors import (
    BadReply,
    DrivefsError,
    QueueBlocked,
    RateLimited,
    ServerFault,
    SessionGone,
    SignInNeeded,
    Unreachable,
)
from drivefs.model import Kind
from drivefs.store.identity import FRESH_NS
from drivefs.store.node import Node
from tests.model.reference import TRASH, Entry, Fails, is_in_trash, resize, write
from tests.model.world import THEIRS, Handle, World
from tests.whole import Image

NAMES = ("a", "b", "c", "tmp")
HANDLE_LIMIT = 4
DEPTH_LIMIT = 3


@dataclass(frozen=True, slots=True)
class Place:
    """A name in one of the folders that there are; `folder` is counted round."""

    folder: int
    name: int

    def path(self, world: World) -> str:
        folders = world.own_folders()
        return folders[self.folder % len(folders)] + NAMES[self.name]


@dataclass(frozen=True, slots=True)
class Trashed(Place):
    """A name in the trash, or, counted from 1, in the folder there that has one of the names."""

    def path(self, world: World) -> str:
        folder = f"{NAMES[self.folder - 1]}/" if self.folder else ""
        return f"{TRASH}/{folder}{NAMES[self.name]}"


@dataclass(frozen=True, slots=True)
class Bytes:
    """Data in which no two neighbours are alike."""

    first: int
    length: int

    def made(self) -> bytes:
        return bytes((self.first + at * 7) % 251 for at in range(self.length))


class Step:
    """Base of all."""

    __slots__ = ()

    def run(self, world: World) -> None:
        raise NotImplementedError


def _open_in_model(world: World, path: str, flags: int) -> Entry:
    folder, name = world.model.place(path)
    entry = folder.children.get(name)
    if entry is None:
        if not flags & os.O_CREAT:
            raise Fails(errno.ENOENT)
        entry = world.model.add(path, Entry(Kind.FILE, 0o644))
    elif flags & os.O_EXCL:
        raise Fails(errno.EEXIST)
    elif entry.kind is Kind.FOLDER:
        raise Fails(errno.EISDIR)
    if flags & os.O_TRUNC and entry.data:
        entry.data, entry.mtime_ns = b"", None
    return entry


def _is_symlink(world: World, path: str) -> bool:
    """The kernel follows symlinks before it asks."""
    folder, name = world.model.place(path)
    entry = folder.children.get(name)
    return entry is not None and entry.kind is Kind.SYMLINK


def _open(world: World, path: str, flags: int) -> Handle | None:
    if _is_symlink(world, path):
        return None
    fds: list[int] = []
    entry = world.agree(
        lambda: _open_in_model(world, path, flags), lambda: fds.append(world.whole.fs.open(path, flags))
    )
    if entry is None:
        return None
    mode = flags & os.O_ACCMODE
    return Handle(fds[0], entry, mode != os.O_WRONLY, mode != os.O_RDONLY, bool(flags & os.O_APPEND))


def _pwrite(world: World, handle: Handle, offset: int, data: bytes) -> None:
    entry = handle.entry

    def expected() -> None:
        if not handle.writable:
            raise Fails(errno.EBADF)
        if data:
            entry.data = write(entry.data, len(entry.data) if handle.append else offset, data)
            entry.mtime_ns = None

    world.agree(expected, lambda: world.whole.fs.pwrite(handle.fd, data, offset))
    world.note()


def _copy(world: World, source: Handle, target: Handle) -> None:
    def expected() -> None:
        if source.entry.data:
            target.entry.data = write(target.entry.data, 0, source.entry.data)
            target.entry.mtime_ns = None

    def real() -> None:
        done = 0
        while count := world.whole.fs.copy_range(source.fd, done, target.fd, done, 1 << 20):
            done += count

    world.agree(expected, real)
    world.note()


def _close(world: World, handle: Handle) -> None:
    with world.whole.faultless():
        world.whole.fs.close(handle.fd)


@dataclass(frozen=True, slots=True)
class Write(Step):
    """Open, write at an offset, close; as `flags` say with O_CREAT, O_TRUNC, O_EXCL or O_APPEND."""

    place: Place
    flags: int
    offset: int
    data: Bytes

    def run(self, world: World) -> None:
        handle = _open(world, self.place.path(world), self.flags | os.O_WRONLY)
        if handle is not None:
            world.note()
            _pwrite(world, handle, self.offset, self.data.made())
            _close(world, handle)


@dataclass(frozen=True, slots=True)
class Copy(Step):
    """As cp does it: by copy_file_range(2)."""

    place: Place
    new: Place

    def run(self, world: World) -> None:
        source = _open(world, self.place.path(world), os.O_RDONLY)
        if source is None:
            return
        target = _open(world, self.new.path(world), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        if target is not None:
            world.note()
            _copy(world, source, target)
            _close(world, target)
        _close(world, source)


@dataclass(frozen=True, slots=True)
class Open(Step):
    """A handle that stays open."""

    place: Place
    flags: int

    def run(self, world: World) -> None:
        if len(world.handles) < HANDLE_LIMIT:
            handle = _open(world, self.place.path(world), self.flags)
            if handle is not None:
                world.handles.append(handle)


@dataclass(frozen=True, slots=True)
class WriteHandle(Step):
    handle: int
    offset: int
    data: Bytes

    def run(self, world: World) -> None:
        if world.handles:
            handle = world.handles[self.handle % len(world.handles)]
            _pwrite(world, handle, self.offset, self.data.made())


@dataclass(frozen=True, slots=True)
class GrowHandle(Step):
    """Go on at the end."""

    handle: int
    data: Bytes

    def run(self, world: World) -> None:
        if world.handles:
            handle = world.handles[self.handle % len(world.handles)]
            _pwrite(world, handle, len(handle.entry.data), self.data.made())


@dataclass(frozen=True, slots=True)
class Begin(Step):
    """The beginning of a file that is written for long: its handle stays open."""

    place: Place
    data: Bytes

    def run(self, world: World) -> None:
        before = len(world.handles)
        Open(self.place, os.O_RDWR | os.O_CREAT | os.O_TRUNC).run(world)
        if len(world.handles) > before:
            world.note()
            GrowHandle(before, self.data).run(world)


@dataclass(frozen=True, slots=True)
class TruncateHandle(Step):
    handle: int
    size_bytes: int

    def run(self, world: World) -> None:
        if not world.handles:
            return
        handle = world.handles[self.handle % len(world.handles)]

        def expected() -> None:
            if not handle.writable:
                raise Fails(errno.EINVAL)
            if len(handle.entry.data) != self.size_bytes:
                handle.entry.data, handle.entry.mtime_ns = resize(handle.entry.data, self.size_bytes), None

        world.agree(expected, lambda: world.whole.fs.set_size(handle.fd, self.size_bytes))


@dataclass(frozen=True, slots=True)
class SyncHandle(Step):
    handle: int

    def run(self, world: World) -> None:
        if world.handles:
            with world.whole.faultless():
                world.whole.fs.fsync(world.handles[self.handle % len(world.handles)].fd)


@dataclass(frozen=True, slots=True)
class CloseHandle(Step):
    handle: int

    def run(self, world: World) -> None:
        if world.handles:
            _close(world, world.handles.pop(self.handle % len(world.handles)))


@dataclass(frozen=True, slots=True)
class CloseCopy(Step):
    """close(2) of a copy of the descriptor: a flush without a release."""

    handle: int

    def run(self, world: World) -> None:
        if world.handles:
            fs = world.whole.fs
            with world.whole.faultless():
                fs.close(fs.duplicate(world.handles[self.handle % len(world.handles)].fd))


@dataclass(frozen=True, slots=True)
class Truncate(Step):
    place: Place
    size_bytes: int

    def run(self, world: World) -> None:
        path = self.place.path(world)
        if _is_symlink(world, path):
            return

        def expected() -> None:
            entry = world.model.get(path)
            if entry.kind is Kind.FOLDER:
                raise Fails(errno.EISDIR)
            if len(entry.data) != self.size_bytes:
                entry.data, entry.mtime_ns = resize(entry.data, self.size_bytes), None

        world.agree(expected, lambda: world.whole.fs.truncate(path, self.size_bytes))


@dataclass(frozen=True, slots=True)
class MakeFolder(Step):
    place: Place

    def run(self, world: World) -> None:
        path = self.place.path(world)
        if path.count("/") < DEPTH_LIMIT:
            world.agree(
                lambda: world.model.add(path, Entry(Kind.FOLDER, 0o755)), lambda: world.whole.fs.mkdir(path, 0o755)
            )


@dataclass(frozen=True, slots=True)
class MakeSymlink(Step):
    place: Place
    target: str

    def run(self, world: World) -> None:
        path = self.place.path(world)
        world.agree(
            lambda: world.model.add(path, Entry(Kind.SYMLINK, 0o777, target=self.target)),
            lambda: world.whole.fs.symlink(self.target, path),
        )


@dataclass(frozen=True, slots=True)
class Unlink(Step):
    place: Place

    def run(self, world: World) -> None:
        path = self.place.path(world)
        node = world.node(path)
        origin = world.origin(node) if node is not None else None
        if world.agree(lambda: world.model.unlink(path), lambda: world.whole.fs.unlink(path)) and origin is not None:
            world.removed(origin)


@dataclass(frozen=True, slots=True)
class RemoveFolder(Step):
    place: Place

    def run(self, world: World) -> None:
        path = self.place.path(world)
        node = world.node(path)
        origin = world.origin(node) if node is not None else None
        if world.agree(lambda: world.model.rmdir(path), lambda: world.whole.fs.rmdir(path)) and origin is not None:
            world.removed(origin)


@dataclass(frozen=True, slots=True)
class Rename(Step):
    old: Place
    new: Place

    def run(self, world: World) -> None:
        old, new = self.old.path(world), self.new.path(world)
        source, target = world.node(old), world.node(new)
        own = world.origin(source) if source is not None else None
        other = world.origin(target) if target is not None else None
        entry = world.model.find(old)
        if entry is not None and entry.kind is Kind.FOLDER and new.count("/") + _height(entry) > DEPTH_LIMIT:
            return
        worked: list[bool] = []
        world.agree(
            lambda: world.model.rename(old, new), lambda: worked.append(world.whole.fs.rename(old, new) is None)
        )
        if not worked or source is None or target is None or target.inode == source.inode:
            return
        assert entry is not None
        assert own is not None
        assert other is not None
        after = world.node(new)
        assert after is not None
        now, over = world.origin(after), world.whole.store.nodes.find(other.inode)
        # What is frozen is on Drive before what replaces it.
        goes_on = (own.drive_id is None or not is_in_trash(old)) and (
            other.drive_id is not None
            or (over is not None and over.frozen)
            or now.inode not in (source.inode, own.inode)
        )
        if goes_on and source.kind is target.kind and self._is_temporary(world, source, own):
            assert now.drive_id == other.drive_id, "the target's ID is lost"
            assert now.inode != own.inode or now.inode == source.inode, "it goes on with what it was to leave"
            entry.drive_id = other.drive_id if other.confirmed_ns is not None else None
        else:
            assert now.drive_id == own.drive_id, "its own ID is lost"
            world.removed(other)

    @staticmethod
    def _is_temporary(world: World, source: Node, own: Node) -> bool:
        """Promise 5: a temporary file of ours."""
        if source.kind is Kind.FOLDER:
            return False
        if own.drive_id is None:
            return True
        fresh = own.confirmed_ns is None or world.whole.clock.now_ns - own.confirmed_ns < FRESH_NS - 10**9
        content = world.whole.store.content
        whole = source.generation is not None and content.is_whole(source.generation)
        return own.ours and fresh and (whole or source.kind is Kind.SYMLINK)


def _height(folder: Entry) -> int:
    return 1 + max((_height(each) for each in folder.children.values() if each.kind is Kind.FOLDER), default=0)


@dataclass(frozen=True, slots=True)
class ChangeMode(Step):
    place: Place
    mode: int

    def run(self, world: World) -> None:
        path = self.place.path(world)
        if not _is_symlink(world, path):
            world.agree(
                lambda: setattr(world.model.get(path), "mode", self.mode),
                lambda: world.whole.fs.chmod(path, self.mode),
            )


@dataclass(frozen=True, slots=True)
class SetTime(Step):
    place: Place
    mtime_ns: int

    def run(self, world: World) -> None:
        path = self.place.path(world)
        world.agree(
            lambda: setattr(world.model.get(path), "mtime_ns", self.mtime_ns),
            lambda: world.whole.fs.set_mtime(path, self.mtime_ns),
        )


@dataclass(frozen=True, slots=True)
class SetXattr(Step):
    place: Place
    name: int
    value: bytes | None

    def run(self, world: World) -> None:
        path, name = self.place.path(world), f"user.{NAMES[self.name]}"

        def expected() -> None:
            xattrs = world.model.get(path).xattrs
            if self.value is not None:
                xattrs[name] = self.value
            elif xattrs.pop(name, None) is None:
                raise Fails(errno.ENODATA)

        if self.value is not None:
            value = self.value
            world.agree(expected, lambda: world.whole.fs.set_xattr(path, name, value))
        else:
            world.agree(expected, lambda: world.whole.fs.remove_xattr(path, name))


# --- the mount and the way to Drive ---


@dataclass(frozen=True, slots=True)
class Snapshot(Step):
    """A flush begins: open files are sent as they are."""

    def run(self, world: World) -> None:
        world.whole.vfs.snapshot_open()


@dataclass(frozen=True, slots=True)
class Evict(Step):
    def run(self, world: World) -> None:
        world.whole.store.sync()
        world.whole.store.evict(1 << 40)


@dataclass(frozen=True, slots=True)
class ReadAll(Step):
    def run(self, world: World) -> None:
        world.check(everything=True)


@dataclass(frozen=True, slots=True)
class Poll(Step):
    def run(self, world: World) -> None:
        with world.whole.faultless():
            world.whole.mirror.poll()


@dataclass(frozen=True, slots=True)
class LookIntoTrash(Step):
    def run(self, world: World) -> None:
        with world.whole.faultless():
            world.whole.fs.names(TRASH)


@dataclass(frozen=True, slots=True)
class Dispatch(Step):
    """Publish what may start after `after_s`. In its n-th event (before or after a call's effect) the process is
    killed, or another step happens."""

    after_s: float
    crash_at: int = 0
    step_at: int = 0
    step: Step | None = None

    def run(self, world: World) -> None:
        whole, drive = world.whole, world.whole.drive
        events = 0
        image: Image | None = None
        outer = drive.watch

        def watch(when: str, method: str) -> None:
            nonlocal events, image
            outer(when, method)
            events += 1
            try:
                assert whole.store.db._depth == 0, f"{method} is called under the database's lock"
                if events == self.crash_at:
                    image = whole.image()
                elif events == self.step_at and self.step is not None and image is None:
                    self.step.run(world)
                    world.note()
            except BaseException as error:
                world.problems.append(error)
                raise

        drive.watch = watch
        try:
            whole.dispatch(self.after_s)
        except DrivefsError:
            pass  # as in Uploader.run: it may pass
        finally:
            drive.watch = outer
        if image is not None:
            world.crash(image)


@dataclass(frozen=True, slots=True)
class Overtake(Step):
    """A pointer on Drive is written twice behind a large file that is on its way: its publish point has begun."""

    pointer: Place
    member: Place
    data: Bytes

    def run(self, world: World) -> None:
        new = os.O_CREAT | os.O_TRUNC
        for step in (
            Write(self.pointer, new, 0, Bytes(1, 20)),
            Dispatch(1),
            Dispatch(1),
            Fault("start_session", "unreachable", False, 0, 1),
            Write(self.member, new, 0, Bytes(2, 500)),
            Write(self.pointer, new, 0, self.data),
            Dispatch(1),
            Write(self.pointer, new, 0, Bytes(3, 30)),
        ):
            step.run(world)
            world.note()


@dataclass(frozen=True, slots=True)
class Crash(Step):
    def run(self, world: World) -> None:
        world.crash()


@dataclass(frozen=True, slots=True)
class Drain(Step):
    def run(self, world: World) -> None:
        world.close_handles()
        world.whole.drain()
        with world.whole.faultless():
            world.check_drained()


# --- Drive ---

FAULTS = {
    "unreachable": Unreachable("No reply."),
    "server": ServerFault("500"),
    "rate": RateLimited("Slow down.", retry_after_s=3),
    "blocked": QueueBlocked("Full."),
    "bad": BadReply("Not JSON."),
    "signin": SignInNeeded("Expired."),
    "session": SessionGone("404"),
}
BEFORE_ONLY = {"rate", "blocked", "signin", "session"}
FAULTY = (
    "copy",
    "upload_small",
    "create",
    "update",
    "start_session",
    "send",
    "session_state",
    "trash",
    "delete",
    "get",
    "generate_ids",
)


@dataclass(frozen=True, slots=True)
class Fault(Step):
    method: str
    kind: str
    after: bool
    passed: int
    times: int

    def run(self, world: World) -> None:
        after = self.after and self.kind not in BEFORE_ONLY
        if self.kind == "session" and self.method not in ("send", "session_state"):
            return
        fault = ("after" if after else "before", FAULTS[self.kind])
        world.whole.drive.fail(self.method, *[None] * self.passed, *[fault] * self.times)


@dataclass(frozen=True, slots=True)
class NoFaults(Step):
    def run(self, world: World) -> None:
        world.whole.drive.faults.clear()


@dataclass(frozen=True, slots=True)
class KeepBytes(Step):
    """Drive keeps only the first bytes of each request of a session."""

    size_bytes: int | None

    def run(self, world: World) -> None:
        world.whole.drive.keep_bytes = self.size_bytes


@dataclass(frozen=True, slots=True)
class ExpireSessions(Step):
    def run(self, world: World) -> None:
        world.whole.drive.sessions.clear()


@dataclass(frozen=True, slots=True)
class TheirWrite(Step):
    name: int
    data: Bytes

    def run(self, world: World) -> None:
        data = self.data.made()
        world.contents.add(data)
        world.put_theirs(NAMES[self.name], data)
        Poll().run(world)


@dataclass(frozen=True, slots=True)
class TheirRename(Step):
    old: int
    new: int

    def run(self, world: World) -> None:
        children = world.model.root.children[THEIRS].children
        old, new = NAMES[self.old], NAMES[self.new]
        if old in children and new not in children:
            entry = children[new] = children.pop(old)
            assert entry.drive_id is not None
            world.whole.drive.change(entry.drive_id, name=new)
            Poll().run(world)


@dataclass(frozen=True, slots=True)
class TheirTrash(Step):
    name: int

    def run(self, world: World) -> None:
        entry = world.model.root.children[THEIRS].children.pop(NAMES[self.name], None)
        if entry is not None:
            assert entry.drive_id is not None
            world.trash_allowed.add(entry.drive_id)
            drive = world.whole.drive
            drive.change(entry.drive_id, trashed=True)
            drive.files[entry.drive_id] = replace(drive.files[entry.drive_id], trashed=True)
            Poll().run(world)
