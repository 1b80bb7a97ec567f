//! The tables, and the marks of a database of ours.
//!
//! Homes of ours carry a mark (SQLite's `application_id`) and number their versions on from the last of
//! the software whose tables they share.

use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior, ffi};

use crate::error::{Code, Error};

/// "boxl", big-endian.
pub const MARK: i32 = 0x626f_786c;

/// The version of the tables below.
pub const VERSION: i64 = 11;

pub const BOXES_AND_IMAGES: &str = "
CREATE TABLE schema_version (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    version INTEGER NOT NULL,
    updated_at TEXT NOT NULL
);
CREATE TABLE box_config (
    id TEXT PRIMARY KEY NOT NULL,
    name TEXT UNIQUE,
    created_at INTEGER NOT NULL,
    json TEXT NOT NULL
);
CREATE INDEX idx_box_config_created_at ON box_config (created_at);
CREATE INDEX idx_box_config_name ON box_config (name);
CREATE TABLE box_state (
    id TEXT PRIMARY KEY NOT NULL REFERENCES box_config (id) ON DELETE CASCADE,
    status TEXT NOT NULL,
    pid INTEGER,
    json TEXT NOT NULL
);
CREATE INDEX idx_box_state_status ON box_state (status);
CREATE INDEX idx_box_state_pid ON box_state (pid);
CREATE TABLE alive (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    boot_id TEXT NOT NULL,
    started_at INTEGER NOT NULL
);
CREATE TABLE image_index (
    reference TEXT PRIMARY KEY NOT NULL,
    manifest_digest TEXT NOT NULL,
    config_digest TEXT NOT NULL,
    layers TEXT NOT NULL,
    cached_at TEXT NOT NULL,
    complete INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX idx_image_index_manifest_digest ON image_index (manifest_digest);
";

/// Since version 7.
pub const BASE_DISKS: &str = "
CREATE TABLE base_disk (
    id TEXT PRIMARY KEY NOT NULL,
    source_box_id TEXT NOT NULL,
    name TEXT,
    kind TEXT NOT NULL CHECK (kind IN ('snapshot', 'clone_base', 'rootfs')),
    base_path TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    json TEXT NOT NULL,
    UNIQUE (source_box_id, name)
);
CREATE INDEX idx_base_disk_source_box_id ON base_disk (source_box_id);
CREATE INDEX idx_base_disk_kind ON base_disk (kind);
CREATE INDEX idx_base_disk_base_path ON base_disk (base_path);
CREATE TABLE base_disk_ref (
    base_disk_id TEXT NOT NULL,
    box_id TEXT NOT NULL,
    PRIMARY KEY (base_disk_id, box_id)
);
CREATE TABLE snapshot (
    id TEXT PRIMARY KEY NOT NULL,
    box_id TEXT NOT NULL,
    name TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    json TEXT NOT NULL,
    UNIQUE (box_id, name)
);
CREATE INDEX idx_snapshot_box_id ON snapshot (box_id);
";

/// Since version 10: what is under way and takes several steps.
pub const INTENTS: &str = "
CREATE TABLE intent (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    box_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    json TEXT NOT NULL
);
CREATE INDEX idx_intent_box_id ON intent (box_id);
";

/// Makes the tables of a new home.
pub fn create(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction.pragma_update(None, "application_id", MARK)?;
    for tables in [BOXES_AND_IMAGES, BASE_DISKS, INTENTS] {
        transaction.execute_batch(tables)?;
    }
    set_version(transaction, VERSION)
}

/// Whether nobody has made any tables yet.
pub fn is_empty(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |r| r.get(0))
}

pub fn is_marked(connection: &Connection) -> rusqlite::Result<bool> {
    connection.pragma_query_value(None, "application_id", |r| Ok(r.get::<_, i32>(0)? == MARK))
}

pub fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("SELECT version FROM schema_version WHERE id = 1", [], |r| r.get(0))
}

pub fn set_version(transaction: &Transaction<'_>, version: i64) -> rusqlite::Result<()> {
    let now = chrono::Utc::now().to_rfc3339();
    transaction
        .execute("INSERT OR REPLACE INTO schema_version VALUES (1, ?1, ?2)", (version, now))
        .map(drop)
}

/// Begins a transaction that will write: waiting for the lock happens here, not half-way.
pub fn begin(connection: &mut Connection) -> rusqlite::Result<Transaction<'_>> {
    connection.transaction_with_behavior(TransactionBehavior::Immediate)
}

/// What went wrong in the database, as an error of ours.
pub fn error(what: &str, cause: &rusqlite::Error) -> Error {
    let (code, remedy) = match cause.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => (Code::ResourceExhausted, ""),
        // There is no room for the memory that programs share.
        Some(ErrorCode::SystemIoFailure) if is_shared_memory(cause) => {
            (Code::ResourceExhausted, "")
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            (Code::Busy, ": another program has locked it")
        }
        Some(ErrorCode::ReadOnly) => (Code::Storage, ": it is read-only"),
        Some(ErrorCode::CannotOpen | ErrorCode::SystemIoFailure) => (Code::Storage, ""),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => (
            Code::Database,
            ": it was left as it is; put a copy in its place, or choose another home",
        ),
        _ => (Code::Database, ""),
    };
    Error::new(code, format!("{what}: {cause}{remedy}"))
}

fn is_shared_memory(cause: &rusqlite::Error) -> bool {
    let extended = cause.sqlite_error().map_or(0, |e| e.extended_code);
    extended == ffi::SQLITE_IOERR_SHMSIZE
}
