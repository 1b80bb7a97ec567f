//! The tables, and telling our homes from others'.
//!
//! Homes of ours carry a mark (SQLite's `application_id`) and number their schema on from the
//! last version of the software whose tables they share. A database without the mark is
//! somebody else's: it is never changed here.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};

use crate::error::{Code, Error, Result};

/// "boxl", big-endian.
const MARK: i32 = 0x626f_786c;

/// The first version of ours; 8 is the last of the software whose homes can be adopted.
const VERSION: i64 = 9;

const TABLES: &str = "
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

/// How long another program is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Opens a database of ours, or makes one.
pub fn open(path: &Path) -> Result<Connection> {
    let what = format!("open the database {}", path.display());
    let failed = |e: rusqlite::Error| error(&what, &e);
    let mut connection = Connection::open(path).map_err(failed)?;
    connection.busy_timeout(PATIENCE).map_err(failed)?;
    check_owner(&connection, path).map_err(|e| e.unwrap_or_else(failed))?;
    use_wal(&connection).map_err(failed)?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
    connection.pragma_update(None, "foreign_keys", "ON").map_err(failed)?;
    let transaction = begin(&mut connection).map_err(failed)?;
    // Looked at again inside the transaction: another program may have made it meanwhile.
    if is_empty(&transaction).map_err(failed)? {
        transaction.pragma_update(None, "application_id", MARK).map_err(failed)?;
        transaction.execute_batch(TABLES).map_err(failed)?;
        transaction
            .execute(
                "INSERT INTO schema_version VALUES (1, ?1, ?2)",
                (VERSION, chrono::Utc::now().to_rfc3339()),
            )
            .map_err(failed)?;
    }
    transaction.commit().map_err(failed)?;
    Ok(connection)
}

/// Of several who switch at the same moment, SQLite tells all but one at once that the database is
/// busy: they would wait for each other.
fn use_wal(connection: &Connection) -> rusqlite::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match connection.pragma_update(None, "journal_mode", "WAL") {
            Err(e)
                if e.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                    && Instant::now() < deadline =>
            {
                std::thread::sleep(Duration::from_millis(5));
            }
            other => return other,
        }
    }
}

enum Refusal {
    Refused(Error),
    Sqlite(rusqlite::Error),
}

impl Refusal {
    fn unwrap_or_else(self, convert: impl FnOnce(rusqlite::Error) -> Error) -> Error {
        match self {
            Refusal::Refused(error) => error,
            Refusal::Sqlite(e) => convert(e),
        }
    }
}

impl From<rusqlite::Error> for Refusal {
    fn from(e: rusqlite::Error) -> Self {
        Refusal::Sqlite(e)
    }
}

/// Refuses what is not ours to open. Changes nothing.
fn check_owner(connection: &Connection, path: &Path) -> Result<(), Refusal> {
    if is_empty(connection)? {
        return Ok(());
    }
    let mark: i32 = connection.pragma_query_value(None, "application_id", |r| r.get(0))?;
    let version: i64 =
        connection.query_row("SELECT version FROM schema_version", [], |r| r.get(0))?;
    let refusal = |code, text: String| {
        Err(Refusal::Refused(Error::new(code, text).object(path.display().to_string())))
    };
    if mark != MARK {
        return refusal(
            Code::Database,
            format!(
                "the home was written by other software (schema version {version}); this version \
                 of the library cannot adopt it: choose another home"
            ),
        );
    }
    if version > VERSION {
        return refusal(
            Code::Database,
            format!(
                "the home was written by a newer version of the library (schema version \
                 {version}, this one knows {VERSION}): upgrade, or choose another home"
            ),
        );
    }
    Ok(())
}

fn is_empty(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |r| r.get(0))
}

/// Begins a transaction that will write: waiting for the lock happens here, not half-way.
pub fn begin(connection: &mut Connection) -> rusqlite::Result<Transaction<'_>> {
    connection.transaction_with_behavior(TransactionBehavior::Immediate)
}

/// What went wrong in the database, as an error of ours.
pub fn error(what: &str, cause: &rusqlite::Error) -> Error {
    let code = match cause.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Code::ResourceExhausted,
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Code::Busy,
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::SystemIoFailure) => {
            Code::Storage
        }
        _ => Code::Database,
    };
    Error::new(code, format!("{what}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_softwares_home_is_refused_and_left_untouched() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("b.db");
        let other = Connection::open(&path).unwrap();
        other.execute_batch(TABLES).unwrap();
        other.execute("INSERT INTO schema_version VALUES (1, 8, '')", []).unwrap();
        drop(other);
        let before = std::fs::read(&path).unwrap();
        let error = open(&path).unwrap_err();
        assert!(error.message().contains("version 8"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }

    #[test]
    fn a_newer_home_of_ours_is_refused_by_both_versions() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("b.db");
        let ours = open(&path).unwrap();
        ours.execute("UPDATE schema_version SET version = 99", []).unwrap();
        drop(ours);
        let error = open(&path).unwrap_err();
        assert!(error.message().contains("99") && error.message().contains('9'), "{error}");
    }

    #[test]
    fn garbage_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("b.db");
        std::fs::write(&path, vec![7; 10_000]).unwrap();
        assert_eq!(open(&path).unwrap_err().code(), Code::Database);
    }

    #[test]
    fn many_programs_may_make_the_database_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("b.db");
        std::thread::scope(|scope| {
            let opened: Vec<_> = (0..16).map(|_| scope.spawn(|| open(&path).map(drop))).collect();
            opened.into_iter().for_each(|t| t.join().unwrap().unwrap());
        });
    }
}
