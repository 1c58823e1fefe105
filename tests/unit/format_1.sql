CREATE TABLE nodes (
    inode         INTEGER PRIMARY KEY AUTOINCREMENT,
    parent        INTEGER,
    name          TEXT,
    kind          TEXT NOT NULL,
    mode          INTEGER NOT NULL,
    size_bytes    INTEGER NOT NULL,
    mtime_ns      INTEGER NOT NULL,
    ctime_ns      INTEGER NOT NULL,
    target        TEXT,
    generation    INTEGER,
    listed        INTEGER NOT NULL,
    writable      INTEGER NOT NULL,
    ours          INTEGER NOT NULL,
    change        INTEGER NOT NULL,
    drive_id      TEXT UNIQUE,
    confirmed_ns  INTEGER,
    revision      TEXT,
    md5           TEXT,
    remote_name   TEXT,
    remote_parent TEXT,
    remote_meta   TEXT,
    remote_version INTEGER
);
CREATE UNIQUE INDEX nodes_by_name ON nodes (parent, name) WHERE parent IS NOT NULL;

CREATE INDEX nodes_unnamed ON nodes (inode) WHERE parent IS NULL;
CREATE INDEX nodes_by_generation ON nodes (generation) WHERE generation IS NOT NULL;
CREATE INDEX nodes_unlisted ON nodes (inode) WHERE kind = 'folder' AND listed = 0;

CREATE TABLE parked_folders (
    drive_id TEXT PRIMARY KEY,
    parent   TEXT NOT NULL,
    item     TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX parked_by_parent ON parked_folders (parent);

CREATE TABLE xattrs (
    inode INTEGER NOT NULL,
    name  TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (inode, name)
) WITHOUT ROWID;

CREATE TABLE generations (
    generation INTEGER PRIMARY KEY AUTOINCREMENT,
    inode      INTEGER NOT NULL,
    state      TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    whole      INTEGER NOT NULL,
    base_id       TEXT,
    base_revision TEXT,
    used_ns    INTEGER NOT NULL
);
CREATE INDEX generations_by_state ON generations (state, used_ns);

CREATE TABLE ranges (
    generation INTEGER NOT NULL,
    start      INTEGER NOT NULL,
    stop       INTEGER NOT NULL,
    PRIMARY KEY (generation, start)
) WITHOUT ROWID;

CREATE TABLE jobs (
    inode       INTEGER PRIMARY KEY,
    seq         INTEGER NOT NULL,
    since_seq   INTEGER NOT NULL,
    barrier     TEXT NOT NULL,
    generation  INTEGER,
    state       TEXT NOT NULL,
    since_ns    INTEGER NOT NULL,
    ready_ns    INTEGER NOT NULL,
    attempts    INTEGER NOT NULL,
    reason      TEXT NOT NULL,
    tried_md5   TEXT,
    session     TEXT,
    session_generation INTEGER
);
CREATE UNIQUE INDEX jobs_by_seq ON jobs (seq);

CREATE TABLE spare_ids (drive_id TEXT PRIMARY KEY) WITHOUT ROWID;

CREATE TABLE trashed (
    drive_id   TEXT PRIMARY KEY,
    revision   TEXT,
    size_bytes INTEGER NOT NULL,
    trashed_ns INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE pins (inode INTEGER PRIMARY KEY);

CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
