//! From one version of the tables to the next.
//!
//! A step may change files, then changes the tables, in one transaction with their new version. Ended
//! anywhere it runs again, so what it does to files it can do twice. Before the first step the database
//! is copied beside itself.
//!
//! Whoever runs steps has the home alone.

use std::io::Write;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, Transaction};

use super::schema;
use crate::disk::durable::{IfExists, PendingFile, remove_leftovers, sync_directory};
use crate::error::{Code, Error, Result};
use crate::failpoint::{self, Point};
use crate::home::Home;

/// The way from one version to the next.
pub struct Step {
    /// The version it leads to, from the one before.
    pub to: i64,
    /// What it does to the files of a home.
    pub files: fn(&Home, &Connection) -> Result<()>,
    /// What it does to the tables, which is to be there with the files or not at all.
    pub tables: fn(&Home, &Transaction<'_>) -> Result<()>,
}

/// For steps that leave the files alone.
pub fn no_files(_: &Home, _: &Connection) -> Result<()> {
    Ok(())
}

/// Takes a database through the steps that it lacks.
pub fn run(home: &Home, connection: &mut Connection, steps: &[Step]) -> Result<()> {
    let path = home.database();
    let found = schema::version(connection)
        .map_err(|e| schema::error(&format!("read the version of {}", path.display()), &e))?;
    let mut missing = steps.iter().filter(|step| step.to > found).peekable();
    if missing.peek().is_some() {
        // Files will be moved to directories that an older version did not have.
        sync_directory(home.root())?;
        back_up(connection, &backup(&path, found))?;
        failpoint::hit(Point::AdoptBackedUp);
    }
    for step in missing {
        let what = format!("change {} to version {}", path.display(), step.to);
        (step.files)(home, connection).map_err(|e| e.context(&what))?;
        failpoint::hit(Point::AdoptFiles);
        change(home, connection, step).map_err(|e| e.context(&what))?;
        failpoint::hit(Point::AdoptTables);
        tracing::info!("{} has version {} now", path.display(), step.to);
    }
    Ok(())
}

fn change(home: &Home, connection: &mut Connection, step: &Step) -> Result<()> {
    let failed = |e: rusqlite::Error| schema::error("change the tables", &e);
    let transaction = schema::begin(connection).map_err(failed)?;
    (step.tables)(home, &transaction)?;
    schema::set_version(&transaction, step.to).map_err(failed)?;
    transaction.commit().map_err(failed)
}

/// Where the database is kept as it was in a version.
pub fn backup(database: &Path, version: i64) -> PathBuf {
    database.with_extension(format!("db.v{version}"))
}

/// Copies the database, whole or not at all. A copy that is there already was made by somebody who was
/// ended before anything was changed, or made of a home that was put back since: it is replaced.
fn back_up(connection: &mut Connection, to: &Path) -> Result<()> {
    let what = format!("copy the database to {}", to.display());
    let bytes = connection.serialize(rusqlite::MAIN_DB).map_err(|e| schema::error(&what, &e))?;
    // Whoever began one was ended: we have the home alone.
    remove_leftovers(to)?;
    let copy = PendingFile::create(to)?;
    copy.file().write_all(&bytes).map_err(|e| Error::io(Code::Storage, &what, &e))?;
    copy.commit(IfExists::Replace)
}
