"""What the other Drive holds: files, folders, revisions, and the feed of their changes; all in memory.

Entered by the server's threads and by tests, under the lock.
"""

from __future__ import annotations

import hashlib
import random
import string
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tests.other_server_wire import Habits, Refusal

FOLDER = "application/vnd.google-apps.folder"
LETTERS = string.ascii_letters + string.digits + "-_"


@dataclass(slots=True)
class Item:
    facts: dict[str, Any]
    parent: str | None
    created_s: float
    trashed: bool = False
    revisions: list[dict[str, Any]] = field(default_factory=list)  # File-like facts, and "bytes"


class Items:
    """My Drive of one account."""

    def __init__(self, habits: Habits) -> None:
        self.habits = habits
        self.random = random.Random(habits.seed)
        self.lock = threading.RLock()
        self.items: dict[str, Item] = {}
        self._feed: list[tuple[float, str]] = []  # when it is to be seen, and the ID
        self._late: list[tuple[float, str]] = []  # when the version moves once more, for no visible reason
        self._version = 4_000
        self.root = "0A" + self._word(14) + "PVA"
        self._add(self.root, {"name": "My Drive", "mimeType": FOLDER}, None)

    # --- for tests: what others do, and what there is ---

    def put(self, name: str, data: bytes | None, parent: str | None = None) -> str:
        """A file, or with None a folder, made by somebody else; its ID."""
        with self.lock:
            item_id = self._word(33)
            self._add(
                item_id, {"name": name, "mimeType": FOLDER if data is None else "text/plain"}, parent or self.root
            )
            if data is not None:
                self._set_content(item_id, data, {})
            return item_id

    def edit(self, item_id: str, data: bytes | None = None, **facts: Any) -> None:
        with self.lock:
            if data is not None:
                self._set_content(item_id, data, {})
            self._set_facts(item_id, facts)

    def remove(self, item_id: str) -> None:
        with self.lock:
            self._remove(item_id)

    def tree(self, top: str | None = None, prefix: str = "") -> dict[str, tuple[str, str | None]]:
        """MIME type and md5 of all that is not in the trash, by path; fails where two have one path."""
        found: dict[str, tuple[str, str | None]] = {}
        with self.lock:
            for item_id, item in self.items.items():
                if item.parent == (top or self.root) and not item.trashed:
                    path = prefix + item.facts["name"]
                    assert path not in found, f"{path} is there twice"
                    found[path] = (
                        item.facts["mimeType"],
                        item.revisions[-1]["md5Checksum"] if item.revisions else None,
                    )
                    found |= self.tree(item_id, path + "/")
        return found

    def id_of(self, path: str) -> str:
        parent = self.root
        for name in path.split("/"):
            (parent,) = [
                i
                for i, it in self.items.items()
                if (it.parent, it.facts["name"], it.trashed) == (parent, name, False)
            ]
        return parent

    # --- what happens to items ---

    def _word(self, length: int) -> str:
        return "1" + "".join(self.random.choices(LETTERS, k=length - 1))

    def _moved(self, item_id: str) -> None:
        self._version += self.random.randint(1, 5)
        if item_id in self.items:
            self.items[item_id].facts["version"] = str(self._version)
        seen_s = time.time() + self.habits.feed_lag_s
        self._feed += [(seen_s, item_id)] * self.random.choice((1, 1, 2))

    def _add(self, item_id: str, facts: dict[str, Any], parent: str | None) -> None:
        now_s = time.time()
        self.items[item_id] = Item({"createdTime": stamp(now_s), "modifiedTime": stamp(now_s)}, parent, now_s)
        self._set_facts(item_id, facts)

    def _set_facts(self, item_id: str, facts: dict[str, Any]) -> None:
        item = self.items[item_id]
        for key in ("name", "mimeType", "description", "starred", "shortcutDetails"):
            if key in facts:
                item.facts[key] = facts[key]
        if "modifiedTime" in facts:
            item.facts["modifiedTime"] = stamp(datetime.fromisoformat(facts["modifiedTime"]))
        for key in ("appProperties", "properties"):
            merged = {**item.facts.get(key, {}), **facts.get(key, {})}
            item.facts[key] = {name: value for name, value in merged.items() if value is not None}
        item.trashed = facts.get("trashed", item.trashed)
        self._moved(item_id)

    def _set_content(self, item_id: str, data: bytes, facts: dict[str, Any]) -> None:
        item, now = self.items[item_id], stamp(time.time())
        item.facts["modifiedTime"] = now
        self._set_facts(item_id, facts)
        revision = {"id": "0B" + self._word(50), "modifiedTime": item.facts["modifiedTime"], "size": str(len(data))}
        revision |= {"kind": "drive#revision", "md5Checksum": hashlib.md5(data).hexdigest(), "keepForever": False}
        item.revisions.append({**revision, "mimeType": item.facts["mimeType"], "bytes": data})
        self._late.append((time.time() + self.random.random(), item_id))

    def _remove(self, item_id: str) -> None:
        for child in [each for each, item in self.items.items() if item.parent == item_id]:
            self._remove(child)
        del self.items[item_id]
        self._moved(item_id)

    def _item(self, item_id: str) -> Item:
        item = self.items.get(self._resolve(item_id))
        if item is None:
            raise Refusal(404, "notFound")
        return item

    def _resolve(self, item_id: str) -> str:
        return self.root if item_id == "root" else item_id

    def _in_trash(self, item: Item) -> bool:
        return item.trashed or (item.parent in self.items and self._in_trash(self.items[item.parent]))

    def _file(self, item_id: str) -> dict[str, Any]:
        """The File resource, whole."""
        item = self.items[item_id]
        file = {"kind": "drive#file", "id": item_id, **item.facts, "trashed": self._in_trash(item), "ownedByMe": True}
        file |= {
            "explicitlyTrashed": item.trashed,
            "spaces": ["drive"],
            "webViewLink": f"https://d.example/{item_id}",
        }
        file["capabilities"] = [{"canEdit": True, "canShare": True}, {"canShare": True}, {}][ord(item_id[-1]) % 3]
        if item.parent is not None:
            file["parents"] = [item.parent]
        if item.revisions:
            head = item.revisions[-1]
            file |= {key: head[key] for key in ("size", "md5Checksum")} | {"quotaBytesUsed": head["size"]}
            if self.habits.head_revisions:
                file["headRevisionId"] = head["id"]
        return file


def stamp(moment: datetime | float) -> str:
    """As Drive writes a time: cut to milliseconds."""
    when = moment if isinstance(moment, datetime) else datetime.fromtimestamp(moment, UTC)
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
