"""Contents that Drive has already in another file: it copies them itself, and none of their bytes is sent.

Stateless; entered by the uploader's threads. What is known here of other files may be old, so the one that is copied
is looked at before, and the copy afterwards by who asked for it: its checksum says what it holds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from drivefs.drive.api import Drive
from drivefs.errors import IdInUse, QueueBlocked, Refused
from drivefs.model import CreateTarget, RemoteFile
from drivefs.store.nodes import COPIED_LEAST_BYTES
from drivefs.store.store import Store
from drivefs.sync.sending import Content

log = logging.getLogger(__name__)

TWINS_TRIED = 3
"""Files of one content that are tried; where none of these may be copied, its bytes are sent."""


class Copies:
    """Makes files by copying others."""

    def __init__(self, store: Store, drive: Drive) -> None:
        self._store = store
        self._drive = drive

    def make(self, target: CreateTarget, content: Content, note: Callable[[], None]) -> RemoteFile | None:
        """A new file, copied from one that has this content as far as is known; None where no other has it, or none
        of those may be copied. `note` is called before Drive can show anything.

        All of `content` is read only where there is another of its size: then its upload need not hash it again.
        Raises IdInUse, and what reading the content raises.
        """
        size_bytes = content.size_bytes
        if size_bytes < COPIED_LEAST_BYTES or not self._store.nodes.may_have_twins(size_bytes):
            return None
        md5 = content.md5()
        # What is not said of a copy is the other file's; properties are found in the reply, and put right then.
        metadata = target.metadata
        metadata = replace(metadata, description=metadata.description or "", starred=bool(metadata.starred))
        target = replace(target, metadata=metadata)
        noted = False
        for twin in self._store.nodes.twins(size_bytes, md5, TWINS_TRIED):
            try:
                source = self._drive.get(twin)
                if source.trashed or not source.can_copy or (source.size_bytes, source.md5) != (size_bytes, md5):
                    continue
                if not noted:
                    note()
                    noted = True
                return self._drive.copy(twin, target)
            except IdInUse:
                raise
            except (Refused, QueueBlocked) as error:
                # What stands in the way of an upload too is learnt from that.
                log.info("Drive does not copy %s, which has the content of a new file: %s", twin, error)
        return None
