"""What is in the cache, and whether it is what Drive has. Any thread may enter."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Generator
from dataclasses import dataclass

from drivefs.errors import CacheDamaged
from drivefs.model import Generation, Inode, RevisionId
from drivefs.store.blocks import BLOCK_BYTES, Digester
from drivefs.store.content_file import ContentFile
from drivefs.store.generations import Base, State
from drivefs.store.store import Store

log = logging.getLogger(__name__)


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
    """Compare what Drive has too with its checksums: complete files with Drive's own, parts of others with those that
    were made as they came. Drop what is wrong. Says how far it is."""
    rows = store.db.rows(
        "SELECT g.generation, n.inode, n.md5, g.whole, CASE WHEN g.whole THEN g.size_bytes ELSE"
        " (SELECT CAST(TOTAL(r.stop - r.start) AS INTEGER) FROM ranges r WHERE r.generation = g.generation) END"
        " FROM generations g JOIN nodes n ON n.generation = g.generation"
        " WHERE g.state = ? AND (n.md5 IS NOT NULL OR NOT g.whole)",
        (State.CLEAN.value,),
    )
    checked = Checked(files=len(rows), size_bytes=sum(row[4] for row in rows))
    for generation, inode, md5, whole, size_bytes in rows:
        if whole and not _is_right(store, Generation(generation), md5):
            _drop(store, Generation(generation), Inode(inode), md5, checked)
        elif not whole and not _are_parts_right(store, Generation(generation)):
            checked.dropped += 1
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
        file.forget_compared()
        return is_copy(store, file)
    except CacheDamaged as error:
        log.warning("%s", error)
        return False
    finally:
        file.close()


def _are_parts_right(store: Store, generation: Generation) -> bool:
    try:
        file = store.content.open(generation)
    except CacheDamaged as error:
        log.info("%s", error)  # evicted meanwhile, or missing: then all of it is fetched when it is read
        return True
    try:
        return not file.check_parts()
    finally:
        file.close()


def checksums_of(file: ContentFile) -> tuple[str, bytes]:
    """Of all that a complete file has: md5 in hexadecimal, and those of its blocks. Raises CacheDamaged."""
    digest, blocks = hashlib.md5(usedforsecurity=False), Digester()
    while data := file.read(blocks.size_bytes, BLOCK_BYTES):
        digest.update(data)
        blocks.add(blocks.size_bytes, data)
    return digest.hexdigest(), blocks.digests()


def is_copy(store: Store, file: ContentFile) -> bool:
    """Whether a complete file is what Drive has by its md5, as far as that can be told: then the checksums of its
    blocks are kept, and it is sound. Reads all of it. Raises CacheDamaged."""
    looked = file.fingerprint()
    md5, digests = checksums_of(file)
    with store.db.transaction():
        node = store.nodes.find(file.inode)
        if file.state is not State.CLEAN or file.base is not None:
            return True  # written to meanwhile
        source = None
        if node is not None and node.generation == file.generation and node.export is None:
            if node.md5 is not None and md5 != node.md5:
                return False
            if node.drive_id is not None:
                source = Base(node.drive_id, node.revision or RevisionId(""))
        file.adopt(source, digests, looked)
    return True


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
