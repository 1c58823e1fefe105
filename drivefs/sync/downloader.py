"""Brings bytes of Drive into content files, in blocks, one fetch for all who wait for a block.

Any thread may call `ensure`; the transfers run on the executor given. A reader in order gets blocks ahead of it,
more as its stream goes on.
"""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field

from cachetools import TTLCache

from drivefs.drive.api import Drive
from drivefs.errors import BadReply, Refused
from drivefs.model import DriveId, Generation, Inode, Priority
from drivefs.store.content import Base, ContentFile, State
from drivefs.store.nodes import Node
from drivefs.store.store import Store

BLOCK_BYTES = 4 << 20
"""One request each: at 80 ms a request and 40 MB/s a connection, 57 % of the time is transfer."""

AHEAD_BLOCKS = 8
"""Blocks on their way at most for one reader in order: 32 MiB."""

UNPINNED_S = 600
"""How long a file is taken for one whose revisions this account may not read."""

TARGET_LIMIT_BYTES = 4096
"""PATH_MAX: a longer content is no symlink's target."""


@dataclass(slots=True)
class _Stream:
    """How one content file is being read. Guarded by the downloader's lock."""

    fetching: dict[int, Future[None]] = field(default_factory=dict)  # by block
    next_block: int = 0  # where a reader in order goes on
    ahead: int = 1


class Downloader:
    """Fetches what readers, and uploads of partly local files, need."""

    def __init__(self, store: Store, drive: Drive, executor: Executor) -> None:
        self._store = store
        self._drive = drive.at(Priority.READER)
        self._executor = executor
        self._lock = threading.Lock()
        self._streams: dict[Generation, _Stream] = {}  # guarded by _lock
        self._unpinned: TTLCache[DriveId, bool] = TTLCache(1_000, UNPINNED_S)  # guarded by _lock

    def ensure(self, file: ContentFile, start: int, stop: int) -> None:
        """Wait until [start, stop), as far as the file goes, is here. Raises DriveError, CacheFull, SignInNeeded."""
        while gaps := file.gaps(start, stop):
            wanted = range(gaps[0][0] // BLOCK_BYTES, (gaps[-1][1] - 1) // BLOCK_BYTES + 1)
            with self._lock:
                stream = self._streams.setdefault(file.generation, _Stream())
                begun = {block: Future[None]() for block in self._plan(stream, file, wanted)}
                stream.fetching |= begun
                waiting = [stream.fetching[block] for block in wanted]
            for block, future in begun.items():
                # The fetch has a use of the file of its own, for the reader may go before it ends.
                self._executor.submit(self._run, self._store.content.open(file.generation), block, future)
            for future in waiting:
                future.result()

    def _plan(self, stream: _Stream, file: ContentFile, wanted: range) -> list[int]:
        """The blocks to begin: those wanted, and for a reader in order some ahead of it. Under the lock."""
        in_order = stream.next_block in (wanted[0], wanted[0] + 1) or wanted[0] == 0
        stream.ahead = min(stream.ahead * 2, AHEAD_BLOCKS) if in_order else 1
        stream.next_block = wanted[-1] + 1
        last = (file.size_bytes - 1) // BLOCK_BYTES
        ahead = range(wanted[-1] + 1, min(wanted[-1] + stream.ahead, last + 1))
        return [block for block in (*wanted, *ahead) if block not in stream.fetching]

    def ensure_target(self, inode: Inode) -> str:
        """The target of a symlink; fetched when Drive's listing did not hold it."""
        node = self._store.nodes.get(inode)
        if node.target is None:
            if node.drive_id is None or node.size_bytes > TARGET_LIMIT_BYTES:
                raise BadReply(f"The item {node.drive_id} on Drive is marked as a symlink, but is none.")
            data = b"".join(self._drive.download(node.drive_id, 0, node.size_bytes)) if node.size_bytes else b""
            node = self._store.nodes.update(inode, target=data.decode(errors="surrogateescape"))
        return node.target or ""

    def _run(self, file: ContentFile, block: int, future: Future[None]) -> None:
        error: BaseException | None = None
        try:
            self._fetch(file, block)
        except BaseException as caught:  # noqa: BLE001 - handed to whoever waits
            error = caught
        with self._lock:
            stream = self._streams[file.generation]
            del stream.fetching[block]
            if not stream.fetching and file.base is None:
                del self._streams[file.generation]
        file.close()
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)

    def _fetch(self, file: ContentFile, block: int) -> None:
        start = block * BLOCK_BYTES
        with file.lock:
            base = file.base
            gaps = file.gaps(start, start + BLOCK_BYTES)
        if base is None or not gaps:
            return
        with self._store.db.transaction_lock():
            node = self._store.nodes.find(file.inode)
            unchanged = file.state is State.CLEAN  # otherwise the node's size is not that of the revision
        if unchanged and node and node.revision == base.revision and node.md5 and node.size_bytes <= BLOCK_BYTES:
            self._fetch_small(file, base, node)
            return
        for gap_start, gap_stop in gaps:
            with self._lock:
                unpinned = base.drive_id in self._unpinned
            if unpinned:
                self._fetch_head(file, base, gap_start, gap_stop)
                continue
            offset = gap_start
            try:
                for piece in self._drive.download(base.drive_id, gap_start, gap_stop - gap_start, base.revision):
                    file.fill(offset, piece)
                    offset += len(piece)
            except Refused:
                # Reading a revision takes more rights than reading the file (drive-api: a viewer has them not).
                self._fetch_head(file, base, offset, gap_stop)
                with self._lock:
                    self._unpinned[base.drive_id] = True

    def _fetch_head(self, file: ContentFile, base: Base, start: int, stop: int) -> None:
        """A range of whatever is the head, kept only if that was the revision wanted before and after."""
        self._check_head(base)
        data = b"".join(self._drive.download(base.drive_id, start, stop - start))
        self._check_head(base)
        file.fill(start, data)

    def _check_head(self, base: Base) -> None:
        if self._drive.get(base.drive_id).revision != base.revision:
            raise BadReply(f"The file {base.drive_id} was changed on Drive while it was read: open it again.")

    def _fetch_small(self, file: ContentFile, base: Base, node: Node) -> None:
        """A whole file in one request: its checksum says whether it is the revision wanted."""
        data = b"".join(self._drive.download(base.drive_id, 0, node.size_bytes))
        if _md5(data) != node.md5:
            data = b"".join(self._drive.download(base.drive_id, 0, node.size_bytes, base.revision))
            if _md5(data) != node.md5:
                raise BadReply(f"What Drive sends of {base.drive_id} does not have the checksum that it says.")
        file.fill(0, data)


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
