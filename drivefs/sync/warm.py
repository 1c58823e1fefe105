"""`drivefs warm`: a tree of Drive's files brought into the cache, and pinned there if asked.

Entered by the thread that serves the request; the files come on the executor given, behind everything that somebody
waits for. Nothing is kept of how far it has come: what is here is not fetched again, so it may be repeated.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass, field

from drivefs.errors import CacheFull, DrivefsError
from drivefs.model import Inode, Kind, Priority
from drivefs.store.content_file import ContentFile
from drivefs.store.node import Node
from drivefs.store.store import Store
from drivefs.sync.downloader import Downloader
from drivefs.sync.mirror import Mirror

STEP_S = 0.5
"""Between two looks at what has come."""

NAMED_FAILURES = 20


@dataclass(slots=True)
class Warmed:
    """How far it is."""

    files: int = 0
    size_bytes: int = 0
    files_done: int = 0
    bytes_done: int = 0
    failed: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)
    """Path and reason of the first ones."""
    full: bool = False
    """The cache has no room for the rest."""


class Warmer:
    """Brings trees into the cache."""

    def __init__(self, store: Store, mirror: Mirror, downloader: Downloader, executor: Executor) -> None:
        self._store = store
        self._mirror = mirror
        self._downloader = downloader
        self._executor = executor

    def warm(self, roots: list[Inode], jobs: int) -> Generator[Warmed, None, Warmed]:
        """Bring everything at and below `roots`, `jobs` files at once; says how far it is. Raises DriveError where
        a folder cannot be listed. What fails otherwise is named at the end."""
        warmed = Warmed()
        running: dict[Future[None], Node] = {}
        files = self._files(roots)
        more = True
        while more or running:
            while more and len(running) < jobs and not warmed.full:
                node = next(files, None)
                if node is None:
                    more = False
                    break
                warmed.files += 1
                warmed.size_bytes += node.size_bytes
                running[self._executor.submit(self._bring, node.inode)] = node
            more = more and not warmed.full
            if running:
                done, _ = wait(running, STEP_S, FIRST_COMPLETED)
                for future in done:
                    self._count(warmed, running.pop(future), future)
            yield warmed
        return warmed

    def _count(self, warmed: Warmed, node: Node, future: Future[None]) -> None:
        error = future.exception()
        if error is None:
            warmed.files_done += 1
            warmed.bytes_done += node.size_bytes
            return
        if not isinstance(error, DrivefsError):
            raise error
        warmed.failed += 1
        warmed.full = warmed.full or isinstance(error, CacheFull)
        if len(warmed.failures) < NAMED_FAILURES:
            warmed.failures.append((self._store.nodes.path(node.inode), str(error)))

    def _files(self, roots: list[Inode]) -> Iterator[Node]:
        """Files that Drive has, folder after folder."""
        waiting = deque(roots)
        while waiting:
            node = self._store.nodes.find(waiting.popleft())
            if node is None:
                continue
            if node.kind is Kind.FOLDER:
                self._mirror.ensure_listed(node.inode)
                for child in self._store.nodes.children(node.inode):
                    if child.kind is Kind.FOLDER:
                        waiting.append(child.inode)
                    elif self._is_remote(child):
                        yield child
            elif self._is_remote(node):
                yield node

    @staticmethod
    def _is_remote(node: Node) -> bool:
        return node.kind is Kind.FILE and node.drive_id is not None and node.confirmed_ns is not None

    def _bring(self, inode: Inode) -> None:
        file = self._begin(inode)
        if file is None:
            return
        try:
            self._downloader.ensure(file, 0, file.size_bytes, priority=Priority.WARM)
        finally:
            file.close()

    def _begin(self, inode: Inode) -> ContentFile | None:
        """The content of a file, to be filled; None where nothing is missing any more."""
        with self._store.db.transaction():
            node = self._store.nodes.find(inode)
            if node is None or node.unnamed:
                return None  # removed meanwhile
            if node.export is None:
                if node.generation is None:
                    return self._store.remote_content(node)
                if self._store.content.is_whole(node.generation):
                    return None
                return self._store.content.open(node.generation)
        self._downloader.documents.ensure(inode)
        return None
