"""What is in the cache, and whether it is what Drive has. Any thread may enter."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Generator
from dataclasses import dataclass

from drivefs.errors import CacheDamaged
from drivefs.model import Generation, Inode
from drivefs.store.content_file import ContentFile
from drivefs.store.generations import State
from drivefs.store.store import Store

log = logging.getLogger(__name__)

PIECE_BYTES = 1 << 20


@dataclass(slots=True)
class Checked:
    """How far a check is."""

    files: int = 0
    size_bytes: int = 0
    files_done: int = 0
    bytes_done: int = 0
    dropped: int = 0
    """Damaged, and fetched again when they are read."""
    in_use: int = 0
    """Damaged, and left because somebody has them open."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What Drive has too, as far as it is here."""

    whole_files: int
    partial_files: int
    size_bytes: int
    pins: int


def kept(store: Store) -> Kept:
    """What could be evicted, and how many files and folders are pinned."""
    rows = store.db.rows(
        "SELECT whole, COUNT(*) FROM generations WHERE state = ? GROUP BY whole", (State.CLEAN.value,)
    )
    counts = {bool(row[0]): int(row[1]) for row in rows}
    pins = store.db.row("SELECT COUNT(*) FROM pins")
    assert pins is not None
    return Kept(counts.get(True, 0), counts.get(False, 0), store.content.clean_bytes(), int(pins[0]))


def check(store: Store) -> Generator[Checked, None, Checked]:
    """Compare every complete file that Drive has too with its checksum; drop what is wrong. Says how far it is."""
    rows = store.db.rows(
        "SELECT g.generation, n.inode, n.md5, g.size_bytes FROM generations g JOIN nodes n"
        " ON n.generation = g.generation WHERE g.state = ? AND g.whole AND n.md5 IS NOT NULL",
        (State.CLEAN.value,),
    )
    checked = Checked(files=len(rows), size_bytes=sum(row[3] for row in rows))
    for generation, inode, md5, size_bytes in rows:
        if not _is_right(store, Generation(generation), md5):
            _drop(store, Generation(generation), Inode(inode), md5, checked)
        checked.files_done += 1
        checked.bytes_done += size_bytes
        yield checked
    return checked


def _is_right(store: Store, generation: Generation, md5: str) -> bool:
    try:
        file = store.content.open(generation)
    except CacheDamaged as error:
        log.warning("%s", error)
        return False
    try:
        return md5_of(file) == md5
    except CacheDamaged as error:
        log.warning("%s", error)
        return False
    finally:
        file.close()


def md5_of(file: ContentFile) -> str:
    """Of all that a complete file has, in hexadecimal. Raises CacheDamaged."""
    digest = hashlib.md5(usedforsecurity=False)
    offset = 0
    while data := file.read(offset, PIECE_BYTES):
        digest.update(data)
        offset += len(data)
    return digest.hexdigest()


def _drop(store: Store, generation: Generation, inode: Inode, md5: str, checked: Checked) -> None:
    with store.db.transaction():
        node = store.nodes.find(inode)
        row = store.db.row("SELECT state FROM generations WHERE generation = ?", (generation,))
        if node is None or row is None or (node.generation, node.md5) != (generation, md5):
            return  # changed or evicted while it was read
        if State(row[0]) is not State.CLEAN:
            return
        if store.content.drop_unused(generation):
            store.nodes.update(inode, generation=None)
            store.news.contents(inode)
            checked.dropped += 1
        else:
            checked.in_use += 1
    log.warning("The cache's copy of inode %d is damaged.", inode)
