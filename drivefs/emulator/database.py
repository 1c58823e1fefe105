"""The emulator's metadata in SQLite. One thread (the event loop's) uses it.

A committed transaction outlives the process; no promise is made about power cuts.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Row = sqlite3.Row

SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS users (
    n INTEGER PRIMARY KEY,
    email TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    permission_id TEXT NOT NULL UNIQUE,     -- the decimal ID by which permissions name the user
    root INTEGER,                           -- files.n of My Drive's root; NULL for a service account
    storage_used INTEGER NOT NULL DEFAULT 0 -- bytes of all owned content, trash and kept revisions included
);
CREATE TABLE IF NOT EXISTS files (
    n INTEGER PRIMARY KEY,                  -- order of creation; listings go by it
    id TEXT NOT NULL UNIQUE,
    parent INTEGER,                         -- files.n; NULL for roots and for what lost its parent
    is_root INTEGER NOT NULL DEFAULT 0,     -- 1 for the root of My Drive or of a shared drive
    owner INTEGER,                          -- users.n; NULL inside of shared drives
    drive TEXT,                             -- shared drive's ID, which is its root's ID too
    name TEXT NOT NULL,
    name_fold TEXT NOT NULL,                -- name without case, for q and orderBy
    mime TEXT NOT NULL,
    size INTEGER,                           -- NULL where there are no bytes
    md5 TEXT, sha1 TEXT, sha256 TEXT,
    head TEXT,                              -- revisions.id of the current content
    created_ms INTEGER NOT NULL,
    modified_ms INTEGER NOT NULL,
    modifier INTEGER,                       -- users.n
    trashed INTEGER NOT NULL DEFAULT 0,     -- 1 for what lies below a trashed folder too
    explicitly_trashed INTEGER NOT NULL DEFAULT 0,
    trashed_ms INTEGER,
    version INTEGER NOT NULL,
    seq INTEGER NOT NULL,                   -- place in the changes feed of its latest change
    changed_ms INTEGER NOT NULL,            -- time of that change
    target TEXT,                            -- shortcutDetails.targetId
    properties TEXT,                        -- JSON object, NULL when empty
    app_properties TEXT,                    -- JSON object: OAuth client ID -> its object
    creator_app TEXT,                       -- OAuth client ID that made it (scope drive.file)
    more TEXT                               -- JSON object of the fields that nothing is searched by
);
CREATE INDEX IF NOT EXISTS files_parent ON files (parent, n, trashed);
CREATE INDEX IF NOT EXISTS files_seq ON files (seq);
CREATE INDEX IF NOT EXISTS files_name ON files (name_fold);
CREATE INDEX IF NOT EXISTS files_target ON files (target) WHERE target IS NOT NULL;
CREATE INDEX IF NOT EXISTS files_trash ON files (owner, n) WHERE explicitly_trashed = 1;
CREATE TABLE IF NOT EXISTS user_state (     -- what one user sees of one file alone
    user INTEGER NOT NULL, file INTEGER NOT NULL,
    starred INTEGER NOT NULL DEFAULT 0,
    viewed_ms INTEGER, modified_ms INTEGER,
    PRIMARY KEY (user, file)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS user_state_file ON user_state (file);
CREATE TABLE IF NOT EXISTS permissions (    -- granted on this very item; inherited ones are found by walking up
    file INTEGER NOT NULL, id TEXT NOT NULL,
    type TEXT NOT NULL, role TEXT NOT NULL, email TEXT, domain TEXT,
    user INTEGER,                           -- users.n when it is one of ours
    discoverable INTEGER NOT NULL DEFAULT 0, granted_ms INTEGER NOT NULL, granted_by INTEGER,
    more TEXT,                              -- JSON object: expirationTime, view, pendingOwner
    PRIMARY KEY (file, id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS permissions_user ON permissions (user, file);
CREATE TABLE IF NOT EXISTS revisions (
    n INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE, file INTEGER NOT NULL,
    blob TEXT,                              -- name of the content file; NULL for Google documents
    mime TEXT NOT NULL, size INTEGER, md5 TEXT, sha1 TEXT, sha256 TEXT,
    modified_ms INTEGER NOT NULL, modifier INTEGER, keep INTEGER NOT NULL DEFAULT 0, original_name TEXT,
    more TEXT                               -- JSON object: published, publishAuto, publishedOutsideDomain
);
CREATE INDEX IF NOT EXISTS revisions_file ON revisions (file, n);
CREATE INDEX IF NOT EXISTS revisions_blob ON revisions (blob);
CREATE TABLE IF NOT EXISTS removals (       -- the changes feed's entries without a file
    seq INTEGER PRIMARY KEY, file TEXT NOT NULL, user INTEGER, drive TEXT, changed_ms INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS drives (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, created_ms INTEGER NOT NULL, request_id TEXT UNIQUE,
    seq INTEGER NOT NULL, more TEXT NOT NULL DEFAULT '{}'
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS hidden_drives (user INTEGER, drive TEXT, PRIMARY KEY (user, drive)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sessions (       -- resumable uploads
    id TEXT PRIMARY KEY, user INTEGER NOT NULL, client TEXT NOT NULL, method TEXT NOT NULL,
    file TEXT,                              -- files.id of an update; NULL for a create
    version TEXT NOT NULL,                  -- v2 or v3
    params TEXT NOT NULL, body TEXT NOT NULL, content_type TEXT, total INTEGER,
    stored INTEGER NOT NULL DEFAULT 0, started_s REAL NOT NULL,
    done TEXT                               -- files.id once complete
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tokens (         -- access tokens, refresh tokens and authorization codes
    token TEXT PRIMARY KEY, kind TEXT NOT NULL, user INTEGER NOT NULL, client TEXT NOT NULL, scopes TEXT NOT NULL,
    expires_s REAL, more TEXT NOT NULL DEFAULT '{}'
) WITHOUT ROWID;
"""


class Database:
    """Tables, the sequence of changes, and IDs that can be told from invented ones."""

    def __init__(self, path: Path) -> None:
        self.sql = sqlite3.connect(path, isolation_level=None, cached_statements=512)
        self.sql.row_factory = sqlite3.Row
        self.sql.execute("PRAGMA journal_mode = WAL")
        self.sql.execute("PRAGMA synchronous = OFF")
        self.sql.execute("PRAGMA cache_size = -65536")
        self.sql.executescript(SCHEMA)
        self._secret = bytes.fromhex(self.setting("secret", secrets.token_hex(16)))
        self._seq: int = max(
            self.value("SELECT max(seq) FROM files") or 0,
            self.value("SELECT max(seq) FROM removals") or 0,
            self.value("SELECT max(seq) FROM drives") or 0,
        )

    def close(self) -> None:
        self.sql.close()

    # --- statements ---

    def run(self, statement: str, arguments: Iterable[Any] = ()) -> sqlite3.Cursor:
        return self.sql.execute(statement, tuple(arguments))

    def row(self, statement: str, arguments: Iterable[Any] = ()) -> Row | None:
        found: Row | None = self.sql.execute(statement, tuple(arguments)).fetchone()
        return found

    def rows(self, statement: str, arguments: Iterable[Any] = ()) -> list[Row]:
        return self.sql.execute(statement, tuple(arguments)).fetchall()

    def value(self, statement: str, arguments: Iterable[Any] = ()) -> Any:
        found = self.sql.execute(statement, tuple(arguments)).fetchone()
        return None if found is None else found[0]

    def insert(self, table: str, **columns: Any) -> int:
        """Number of the new row."""
        names = ", ".join(columns)
        marks = ", ".join("?" * len(columns))
        cursor = self.sql.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(columns.values()))
        return cursor.lastrowid or 0

    def set(self, table: str, n: int, **columns: Any) -> None:
        if columns:
            names = ", ".join(f"{name} = ?" for name in columns)
            self.sql.execute(f"UPDATE {table} SET {names} WHERE n = ?", (*columns.values(), n))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; joins the transaction that is under way, if any."""
        if self.sql.in_transaction:
            yield
            return
        self.sql.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self.sql.execute("ROLLBACK")
            raise
        self.sql.execute("COMMIT")

    def setting(self, key: str, default: str) -> str:
        """A value that is fixed when it is first asked for."""
        self.run("INSERT OR IGNORE INTO meta VALUES (?, ?)", (key, default))
        return str(self.value("SELECT value FROM meta WHERE key = ?", (key,)))

    # --- sequence, IDs ---

    @property
    def seq(self) -> int:
        """Number of the latest change."""
        return self._seq

    def next_seq(self) -> int:
        self._seq += 1
        return self._seq

    def new_id(self, kind: str = "files") -> str:
        """An ID of Google's form (33 characters, beginning with 1) that `issued` knows again."""
        body = secrets.token_bytes(15)
        return "1" + base64.urlsafe_b64encode(body + self._seal(kind, body)).decode()

    def issued(self, file_id: str, kind: str = "files") -> bool:
        """Whether `new_id` gave it, for that kind."""
        if len(file_id) != 33 or not file_id.startswith("1"):
            return False
        try:
            raw = base64.urlsafe_b64decode(file_id[1:])
        except ValueError:
            return False
        return hmac.compare_digest(raw[15:], self._seal(kind, raw[:15]))

    def _seal(self, kind: str, body: bytes) -> bytes:
        return hmac.digest(self._secret, kind.encode() + body, hashlib.sha256)[:9]


def new_root_id() -> str:
    """As the roots of My Drive and of shared drives look: 0A…, 19 characters."""
    return "0A" + base64.urlsafe_b64encode(secrets.token_bytes(12)).decode()[:14] + "PVA"


def new_revision_id() -> str:
    return "0B" + base64.urlsafe_b64encode(secrets.token_bytes(36)).decode() + "PQ"


def now_ms() -> int:
    return time.time_ns() // 1_000_000
