"""The contents of files, the current one and those before it. Callers hold the transaction."""

from __future__ import annotations

import json

from drivefs.emulator.accounts import Caller
from drivefs.emulator.content import Stored
from drivefs.emulator.database import new_revision_id, now_ms
from drivefs.emulator.render import is_google
from drivefs.emulator.tree import Tree

REVISION_LIFE_MS = 30 * 86_400_000


class Heads:
    """Revisions come and go here; `kept` is how many contents a file has at most, kept ones apart."""

    def __init__(self, tree: Tree, kept: int) -> None:
        self.tree = tree
        self.db = tree.db
        self._kept = kept

    def add(self, n: int, caller: Caller, stored: Stored, mime: str, modified_ms: int, *, keep: bool) -> None:
        row = self.tree.by_n(n)
        before = self.tree.quota_bytes(row)
        revision = new_revision_id()
        content = {"size": stored.size, "md5": stored.md5, "sha1": stored.sha1, "sha256": stored.sha256}
        self.db.insert(
            "revisions",
            id=revision,
            file=n,
            blob=stored.blob,
            mime=mime,
            modified_ms=modified_ms,
            modifier=caller.user.n,
            keep=int(keep),
            original_name=json.loads(row["more"] or "{}").get("originalFilename", row["name"]),
            **content,
        )
        if is_google(row["mime"]):
            content = {}
        more = json.loads(row["more"] or "{}")
        if keep:
            more["kept"] = True
        self.db.set("files", n, head=revision, mime=mime, more=json.dumps(more) if more else None, **content)
        self.tree.charge(row["owner"], self.tree.quota_bytes(self.tree.by_n(n)) - before)
        self._purge(n, revision)

    def _purge(self, n: int, head: str) -> None:
        old = self.db.rows(
            "SELECT n FROM revisions WHERE file = ? AND keep = 0 AND id != ? ORDER BY n DESC", (n, head)
        )
        oldest_ms = now_ms() - REVISION_LIFE_MS
        for at, row in enumerate(old):
            if at >= self._kept - 1:
                self.drop(row["n"])
        for row in self.db.rows(
            "SELECT n FROM revisions WHERE file = ? AND keep = 0 AND id != ? AND modified_ms < ? AND n NOT IN"
            " (SELECT n FROM revisions WHERE file = ? ORDER BY n DESC LIMIT 2)",
            (n, head, oldest_ms, n),
        ):
            self.drop(row["n"])

    def drop(self, n: int) -> None:
        """Forget one revision, and its blob when nothing else has it."""
        blob = self.db.value("SELECT blob FROM revisions WHERE n = ?", (n,))
        self.db.run("DELETE FROM revisions WHERE n = ?", (n,))
        if blob is not None and self.db.value("SELECT 1 FROM revisions WHERE blob = ?", (blob,)) is None:
            self.tree.contents.remove(blob)
