//! Opening a database: whose it is, whether it is whole, and what it takes to use it.
//!
//! What cannot be used is refused with nothing changed: not even what its last program left in the
//! write-ahead log is moved into the file.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode};

use super::{adopt, migrate, schema};
use crate::error::{Code, Error, Result};
use crate::failpoint::{self, Point};
use crate::home::{Home, HomeLock};

/// How long another program is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a database is.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// Nobody has made it yet.
    Nothing,
    /// One that this version uses as it is.
    Current,
    /// One of an older version, or of the software whose homes can be adopted.
    Older,
}

/// Opens the database of a home, which is made or brought up to date if need be.
pub fn open(home: &Home, lock: &mut HomeLock) -> Result<Connection> {
    let path = home.database();
    let what = format!("open the database {}", path.display());
    let failed = |e: rusqlite::Error| schema::error(&what, &e).object(path.display().to_string());
    check_not_lost(home, &what)?;
    // Nothing in the log, and there is nothing that closing could move into the file.
    let has_log = has_log(&path);
    let mut connection = Connection::open(&path).map_err(failed)?;
    connection.busy_timeout(PATIENCE).map_err(failed)?;
    let keep_log = |connection: &Connection, keep| {
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, keep).map_err(failed)
    };
    keep_log(&connection, has_log)?;
    match examine(&connection, home, &what)? {
        Found::Current => {}
        Found::Nothing => make(&mut connection).map_err(failed)?,
        Found::Older => lock.alone(home, || match examine(&connection, home, &what)? {
            Found::Older => migrate::run(home, &mut connection, adopt::STEPS),
            // Somebody else was faster.
            Found::Current | Found::Nothing => Ok(()),
        })?,
    }
    use_wal(&connection).map_err(failed)?;
    keep_log(&connection, false)?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
    connection.pragma_update(None, "foreign_keys", "ON").map_err(failed)?;
    Ok(connection)
}

/// Whether something stands in the write-ahead log.
fn has_log(path: &Path) -> bool {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    std::fs::metadata(log).is_ok_and(|log| log.len() > 0)
}

/// Finds out what a database is, or refuses it. Changes nothing.
fn examine(connection: &Connection, home: &Home, what: &str) -> Result<Found> {
    let path = home.database();
    let failed = |e: rusqlite::Error| schema::error(what, &e).object(path.display().to_string());
    let refuse = |text: String| {
        Err(Error::new(Code::Database, format!("{what}: {text}"))
            .object(path.display().to_string()))
    };
    // Before anything is read: for that SQLite makes files beside it, as read-only as itself.
    if connection.is_readonly(rusqlite::MAIN_DB).map_err(failed)? {
        let text = format!("{what}: it is read-only: make it writable, or choose another home");
        return Err(Error::new(Code::Storage, text).object(path.display().to_string()));
    }
    if schema::is_empty(connection).map_err(failed)? {
        return Ok(Found::Nothing);
    }
    if let Some(fault) = damage(connection, &path).map_err(failed)? {
        return refuse(format!(
            "it is damaged ({fault}) and was left as it is: put back a copy, or choose another home"
        ));
    }
    let marked = schema::is_marked(connection).map_err(failed)?;
    let version = match schema::version(connection) {
        Ok(version) => version,
        Err(e) if is_unknown(&e) => {
            return refuse("it is a database of other software: choose another home".into());
        }
        Err(e) => return Err(failed(e)),
    };
    let oldest = adopt::ADOPTABLE.start();
    match (marked, version) {
        (true, schema::VERSION) => Ok(Found::Current),
        (true, _) if version > schema::VERSION => refuse(format!(
            "it was written by a newer version of the library (schema version {version}, this one \
             knows {}): upgrade, or choose another home",
            schema::VERSION
        )),
        (true, _) => Ok(Found::Older),
        (false, _) if adopt::ADOPTABLE.contains(&version) => Ok(Found::Older),
        (false, _) => refuse(format!(
            "it was written by other software, with schema version {version}; versions {oldest} to \
             {} can be adopted, this library's own is {}: choose another home",
            adopt::ADOPTABLE.end(),
            schema::VERSION
        )),
    }
}

/// No table or row where the version would be.
fn is_unknown(error: &rusqlite::Error) -> bool {
    matches!(error, rusqlite::Error::QueryReturnedNoRows)
        || error.sqlite_error_code() == Some(ErrorCode::Unknown)
}

/// What is wrong with the file, if anything is. Reads all of it, a millisecond for each megabyte.
fn damage(connection: &Connection, path: &Path) -> rusqlite::Result<Option<String>> {
    let outcome: String = connection.query_row("PRAGMA quick_check(1)", [], |r| r.get(0))?;
    if outcome != "ok" {
        return Ok(Some(outcome));
    }
    // SQLite takes what is missing of the last page for zeros. What the log has is not missing.
    let page: u32 = connection.pragma_query_value(None, "page_size", |r| r.get(0))?;
    let length = std::fs::metadata(path).map_or(0, |file| file.len());
    let cut = !length.is_multiple_of(u64::from(page)) && !has_log(path);
    Ok(cut.then(|| "its last page is incomplete".into()))
}

/// Where there are boxes there was a database: a new one would know of none of them.
fn check_not_lost(home: &Home, what: &str) -> Result<()> {
    let path = home.database();
    // A single byte is none to SQLite either.
    let is_missing = || std::fs::metadata(&path).map_or(true, |file| file.len() <= 1);
    if !is_missing() {
        return Ok(());
    }
    let directory = home.boxes();
    let boxes = std::fs::read_dir(&directory)
        .map_err(|e| Error::io(Code::Storage, format!("list {}", directory.display()), &e))?
        .count();
    // Another program may have made both since.
    if boxes == 0 || !is_missing() {
        return Ok(());
    }
    let text = format!(
        "{what}: there is none, or an empty one, but there are the directories of {boxes} boxes: put \
         back a copy of the database, or move {} away",
        directory.display()
    );
    Err(Error::new(Code::Database, text).object(path.display().to_string()))
}

/// Makes the tables, unless another program has made them meanwhile.
fn make(connection: &mut Connection) -> rusqlite::Result<()> {
    use_wal(connection)?;
    let transaction = schema::begin(connection)?;
    if schema::is_empty(&transaction)? {
        schema::create(&transaction)?;
    }
    transaction.commit()?;
    failpoint::hit(Point::OpenMade);
    Ok(())
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
