"""The tables of the cache's database, with the meaning of every column, and the way from older formats to this one.

The rule: whoever changes SCHEMA raises SCHEMA_VERSION by one. A new table, a new index and a new column that may be
NULL need nothing more: `upgrade` adds what an older cache lacks. Anything else needs a step in STEPS that keeps what
waits for Drive. A cache of a newer format is left alone.
"""

from __future__ import annotations

import sqlite3

SCHEMA_VERSION = 13

STEPS: dict[int, str] = {
    4: "DROP INDEX IF EXISTS nodes_by_name",  # what is frozen shares its name with what is shown
    # Documents and shortcuts were links to their page, without what they are: they are listed anew.
    5: """
        UPDATE nodes SET listed = 0 WHERE inode IN
            (SELECT parent FROM nodes WHERE kind = 'symlink' AND ours = 0 AND md5 IS NULL);
        DELETE FROM nodes WHERE kind = 'symlink' AND ours = 0 AND md5 IS NULL
            AND inode NOT IN (SELECT inode FROM jobs);
        DELETE FROM xattrs WHERE inode NOT IN (SELECT inode FROM nodes)
    """,
}
"""SQL that turns the format of this number into the next one, where adding is not enough."""

SCHEMA = """
CREATE TABLE nodes (
    inode         INTEGER PRIMARY KEY AUTOINCREMENT,
    parent        INTEGER,           -- inode of the folder; NULL: the root, or a node without a name any more
    name          TEXT,              -- as the mount shows it; NULL with parent
    kind          TEXT NOT NULL,     -- model.Kind
    mode          INTEGER NOT NULL,  -- permission bits
    size_bytes    INTEGER NOT NULL,  -- of the sealed content, or what Drive says
    mtime_ns      INTEGER NOT NULL,
    ctime_ns      INTEGER NOT NULL,
    target        TEXT,              -- symlinks: where to; Google documents and shortcuts: the page in the browser
    generation    INTEGER,           -- live content file; NULL: no byte is here
    listed        INTEGER NOT NULL,  -- folders: 1 when all children on Drive are rows here
    writable      INTEGER NOT NULL,  -- 0: the account may not change it
    ours          INTEGER NOT NULL,  -- 1: made by this mount, and no other content put into it since
    change        INTEGER NOT NULL,  -- counts local changes; a publish that began before the last one is not the last
    drive_id      TEXT UNIQUE,       -- reserved before the create is sent
    confirmed_ns  INTEGER,           -- when Drive first confirmed drive_id; NULL: it may not exist there
    revision      TEXT,              -- headRevisionId that size, md5 and clean content belong to
    md5           TEXT,
    remote_name   TEXT,              -- Drive's own name, as last seen or set
    remote_parent TEXT,              -- Drive ID of the folder, as last seen or set
    remote_meta   TEXT,              -- what else Drive last said of it, or was told: sync.metadata
    remote_version INTEGER,          -- Drive's `version` of all that: an older one is old news
    place         TEXT,              -- model.Place: put there by the layout; NULL: Drive's, or the user's
    frozen_ns     INTEGER,           -- when it was replaced or removed here while a publish point that has begun
                                     -- needs it: it stays in its place, shown to nobody; NULL: it is shown
    export        TEXT,              -- Google documents: the extension of what shows in their place (sync.exports)
    points_to     TEXT,              -- shortcuts: Drive ID of what they stand for
    kept          INTEGER,           -- 1: the account may not put it into the trash, or not delete it for good where
                                     -- it lies there; NULL: it may
    heir          INTEGER,           -- frozen: inode of what goes on with its file on Drive; NULL: nobody so far
    local         INTEGER,           -- 1: lies here only, and Drive is never told of it: what a desktop keeps of its
                                     -- trash, and the folder that shows Drive's; NULL: Drive's, or to be
    trash         TEXT,              -- model.Trash: what is to become of it in Drive's trash; NULL: it is not there
    remote_trashed INTEGER           -- 1: it was put into Drive's trash, as last seen or set, or may be there;
                                     -- NULL: it is not, or only with the folder that it lies in
);
CREATE UNIQUE INDEX nodes_shown_by_name ON nodes (parent, name) WHERE parent IS NOT NULL AND frozen_ns IS NULL;
-- Each of these holds few rows of a million, and finds them without reading the others.
CREATE INDEX nodes_exported ON nodes (inode) WHERE export IS NOT NULL;
CREATE INDEX nodes_frozen ON nodes (parent, name) WHERE frozen_ns IS NOT NULL;
CREATE INDEX nodes_heirs ON nodes (heir) WHERE heir IS NOT NULL;
CREATE INDEX nodes_unnamed ON nodes (inode) WHERE parent IS NULL;
CREATE INDEX nodes_by_generation ON nodes (generation) WHERE generation IS NOT NULL;
CREATE INDEX nodes_places ON nodes (place) WHERE place IS NOT NULL;
CREATE INDEX nodes_copied ON nodes (size_bytes, md5) WHERE size_bytes >= 1048576 AND md5 IS NOT NULL;
CREATE INDEX nodes_unlisted ON nodes (inode) WHERE kind = 'folder' AND listed = 0;

CREATE TABLE parked_folders (        -- folders that a flat listing named before the one they lie in
    drive_id TEXT PRIMARY KEY,
    parent   TEXT NOT NULL,          -- Drive ID
    item     TEXT NOT NULL           -- model.RemoteFile as JSON
) WITHOUT ROWID;
CREATE INDEX parked_by_parent ON parked_folders (parent);

CREATE TABLE xattrs (
    inode INTEGER NOT NULL,
    name  TEXT NOT NULL,             -- with its namespace: user.…; user.drivefs.…: a field of Drive's that was set
                                     -- here, until Drive has it
    value BLOB NOT NULL,
    PRIMARY KEY (inode, name)
) WITHOUT ROWID;

CREATE TABLE generations (
    generation INTEGER PRIMARY KEY AUTOINCREMENT,
    inode      INTEGER NOT NULL,
    state      TEXT NOT NULL,        -- content.State: open, sealed, clean
    size_bytes INTEGER NOT NULL,     -- at the last seal; while open, the file's own size counts
    whole      INTEGER NOT NULL,     -- 1: no byte of it is on Drive only
    base_id       TEXT,              -- not whole: what is not in `ranges` comes from this file …
    base_revision TEXT,              -- … in this revision
    used_ns    INTEGER NOT NULL      -- last use, for eviction
);
CREATE INDEX generations_by_state ON generations (state, used_ns);
CREATE INDEX generations_sealed ON generations (size_bytes) WHERE state = 'sealed';

CREATE TABLE dropped (               -- content files that nothing names any more: they go after the next sync point
    generation INTEGER PRIMARY KEY
);

CREATE TABLE quarantined (           -- content that nobody can vouch for: kept for the person, never sent
    file     TEXT PRIMARY KEY,       -- in the folder `quarantine`
    path     TEXT NOT NULL,          -- what it was in the mount; '' where nothing tells
    reason   TEXT NOT NULL,          -- a sentence
    found_ns INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE ranges (                -- of generations that are not whole: what is here
    generation INTEGER NOT NULL,
    start      INTEGER NOT NULL,
    stop       INTEGER NOT NULL,
    PRIMARY KEY (generation, start)
) WITHOUT ROWID;

CREATE TABLE checksums (             -- of sealed and clean generations: what of them is a copy of what Drive has
    generation INTEGER PRIMARY KEY,
    drive_id   TEXT NOT NULL,        -- of this file …
    revision   TEXT NOT NULL,        -- … in this revision
    digests    BLOB NOT NULL         -- store.blocks: 8 bytes a MiB, of what of that is here; zeros: it has none
);

CREATE TABLE jobs (                  -- what Drive does not have yet: at most one row a node
    inode       INTEGER PRIMARY KEY,
    seq         INTEGER NOT NULL,    -- place in the publish order: its last close, rename or removal
    since_seq   INTEGER NOT NULL,    -- its place when the node first differed from Drive; a flush waits by this
    barrier     TEXT NOT NULL,       -- queue.Barrier: what must be on Drive before it
    generation  INTEGER,             -- sealed content to send; NULL: none, or it is still being written
    state       TEXT NOT NULL,       -- queue.JobState
    since_ns    INTEGER NOT NULL,    -- when the node first differed from Drive
    ready_ns    INTEGER NOT NULL,    -- not before this time: quiet time, or the next try
    attempts    INTEGER NOT NULL,    -- failures in a row
    reason      TEXT NOT NULL,       -- the last failure in words; '' when there was none
    tried_md5   TEXT,                -- content (or =parent/name) that may have got to Drive, though no reply said so
    session     TEXT,                -- resumable session of `generation`: a bearer secret
    session_generation INTEGER,
    begun       INTEGER              -- 1: it is the pointer of a publish point that has begun
);
CREATE UNIQUE INDEX jobs_by_seq ON jobs (seq);
CREATE INDEX jobs_begun ON jobs (seq) WHERE begun = 1;
CREATE INDEX jobs_replacing ON jobs (since_seq) WHERE barrier = 'folder';
CREATE INDEX jobs_by_generation ON jobs (generation) WHERE generation IS NOT NULL;

CREATE TABLE sent_ahead (            -- sessions that hold the beginning of a content before its turn, or its end
    generation  INTEGER PRIMARY KEY,
    drive_id    TEXT NOT NULL,       -- what the session is bound to
    fresh       INTEGER NOT NULL,    -- 1: it creates drive_id, which nothing else uses
    session     TEXT NOT NULL,       -- a bearer secret
    base_bytes  INTEGER NOT NULL,    -- Drive has confirmed that many
    grain_bytes INTEGER NOT NULL,
    digests     BLOB NOT NULL        -- md5 of the first base_bytes, base_bytes + grain_bytes, … as they were sent
);

CREATE TABLE spare_ids (drive_id TEXT PRIMARY KEY) WITHOUT ROWID;  -- generated by Drive, not used yet

CREATE TABLE disowned (              -- IDs that were not there to be deleted: a create may be on its way
    drive_id TEXT PRIMARY KEY,
    since_ns INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE trashed (               -- files that this mount made, and put into Drive's trash
    drive_id   TEXT PRIMARY KEY,
    revision   TEXT,                 -- its content then: what was changed since is not ours to delete
    size_bytes INTEGER NOT NULL,
    trashed_ns INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE pins (inode INTEGER PRIMARY KEY);  -- what lies at and below it stays in the cache

CREATE TABLE requests (              -- what the mount's threads have last done for the kernel: store/requests.py
    slot   INTEGER PRIMARY KEY,      -- model.RequestId
    number INTEGER NOT NULL,
    inode  INTEGER NOT NULL          -- what it was done to
);

CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""


def upgrade(connection: sqlite3.Connection, version: int) -> None:
    """Bring an older database to this format, in one transaction. Raises sqlite3.DatabaseError when it is newer, or
    cannot be brought here; then nothing was changed."""
    if version > SCHEMA_VERSION:
        raise sqlite3.DatabaseError(
            f"it has format {version}, made by a newer drivefs; this one knows {SCHEMA_VERSION}"
        )
    connection.execute("BEGIN IMMEDIATE")
    try:
        for number in range(version, SCHEMA_VERSION):
            for statement in filter(str.strip, STEPS.get(number, "").split(";")):
                connection.execute(statement)
        _add_what_lacks(connection)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _add_what_lacks(connection: sqlite3.Connection) -> None:
    """Tables, indexes and columns that SCHEMA has and the database has not."""
    wanted = sqlite3.connect(":memory:")
    try:
        wanted.executescript(SCHEMA)
        query = "SELECT name, sql FROM sqlite_schema WHERE type = ? AND sql IS NOT NULL AND name NOT LIKE 'sqlite_%'"
        for kind in ("table", "index"):
            there = {row[0] for row in connection.execute(query, (kind,))}
            for name, sql in wanted.execute(query, (kind,)):
                if name not in there:
                    connection.execute(sql)
                elif kind == "table":
                    columns = {row[1] for row in connection.execute(f"PRAGMA table_info({name})")}
                    for _, column, of_type, *_ in wanted.execute(f"PRAGMA table_info({name})").fetchall():
                        if column not in columns:
                            connection.execute(f"ALTER TABLE {name} ADD COLUMN {column} {of_type}")
    finally:
        wanted.close()
