//! The steps from the oldest tables that are understood to today's.
//!
//! Versions 6 to 8 are those of the software whose homes can be adopted; from 9 on they are ours, which
//! the database's mark says.
//!
//! A step may find a box of which something is damaged, or not where it should be. That is reported and
//! left as it is, and the others are brought on: such a box says what is wrong when it is used.
//!
//! - [`disks`]: the disks of version 6 go to where version 7 has them
//! - [`pending`]: snapshots that were interrupted
//! - [`names`]: disks and rows name files relative to themselves and to the home

mod disks;
mod names;
mod pending;

use std::path::{Path, PathBuf};

use rusqlite::{Connection, Transaction, params};
use serde_json::{Value, json};

use super::migrate::{Step, no_files};
use super::schema;
use crate::error::{Code, Error, Result};
use crate::home::Home;

/// The oldest version that can be adopted, and the last of the other software.
pub const ADOPTABLE: std::ops::RangeInclusive<i64> = 6..=8;

pub const STEPS: &[Step] = &[
    Step { to: 7, files: disks::arrange, tables: base_disks_and_snapshots },
    Step { to: 8, files: no_files, tables: networks_that_say_what_they_allow },
    Step { to: 9, files: pending::recover_all, tables: mark },
    Step { to: 10, files: no_files, tables: intents },
    Step { to: 11, files: names::in_disks, tables: names::in_rows },
];

/// The directories of boxes, with their ids, in their order. None if there are none at all.
fn boxes(home: &Home) -> Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for path in entries(&home.boxes())? {
        let name = path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
        match name {
            Some(id) if path.is_dir() && !path.is_symlink() => found.push((id, path)),
            _ => tracing::warn!("{} is no box's directory, and is left alone", path.display()),
        }
    }
    Ok(found)
}

/// What is in a directory, in order. Nothing if it is not there.
fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let failed =
        |e: &std::io::Error| Error::io(Code::Storage, format!("list {}", directory.display()), e);
    let read = match std::fs::read_dir(directory) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(|e| failed(&e))?,
    };
    let paths: std::io::Result<Vec<PathBuf>> = read.map(|e| e.map(|e| e.path())).collect();
    let mut paths = paths.map_err(|e| failed(&e))?;
    paths.sort();
    Ok(paths)
}

/// Reports what cannot be done with one box, so that the others are not hindered. What concerns all of
/// them, that there is no room or no writing, ends the step, which is taken again.
fn tolerate(id: &str, done: Result<()>) -> Result<()> {
    let Err(error) = done else { return Ok(()) };
    let of_all = matches!(error.code(), Code::ResourceExhausted | Code::Database | Code::Busy)
        || matches!(error.os_errno(), Some(libc::EIO | libc::EROFS));
    if of_all {
        return Err(error);
    }
    tracing::warn!("box {id}: {error}; this was left as it is, the other boxes are not concerned");
    Ok(())
}

fn failed(e: rusqlite::Error) -> Error {
    schema::error("change the tables", &e)
}

/// Whether there is a table of this name.
fn has_table(connection: &Connection, name: &str) -> rusqlite::Result<bool> {
    let query = "SELECT count(*) > 0 FROM sqlite_schema WHERE type = 'table' AND name = ?1";
    connection.query_row(query, [name], |r| r.get(0))
}

/// Snapshots leave their box's directory's name for the file itself, which other disks may be based on;
/// and bases that boxes had to themselves get rows.
fn base_disks_and_snapshots(home: &Home, transaction: &Transaction<'_>) -> Result<()> {
    transaction.execute_batch(schema::BASE_DISKS).map_err(failed)?;
    snapshots(transaction).map_err(failed)?;
    disks::record_bases(home, transaction)
}

fn snapshots(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    if !has_table(transaction, "box_snapshot")? {
        return Ok(());
    }
    let mut rows = transaction.prepare(
        "SELECT id, box_id, name, created_at, snapshot_dir, container_disk_bytes, size_bytes
         FROM box_snapshot",
    )?;
    let mut rows = rows.query([])?;
    while let Some(row) = rows.next()? {
        let (id, box_id, name): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let (created_at, directory): (i64, String) = (row.get(3)?, row.get(4)?);
        let (disk_bytes, size_bytes): (Option<i64>, Option<i64>) = (row.get(5)?, row.get(6)?);
        let snapshot = json!({
            "id": id,
            "box_id": box_id,
            "name": name,
            "base_path": format!("{}/disk.qcow2", directory.trim_end_matches('/')),
            "container_disk_bytes": disk_bytes,
            "size_bytes": size_bytes,
            "created_at": created_at,
        });
        transaction.execute(
            "INSERT INTO snapshot (id, box_id, name, created_at, json) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![id, box_id, name, created_at, snapshot.to_string()],
        )?;
    }
    transaction.execute_batch("DROP TABLE box_snapshot")
}

/// `"Isolated"` never was what it said: it allowed everything.
fn networks_that_say_what_they_allow(_: &Home, transaction: &Transaction<'_>) -> Result<()> {
    networks(transaction).map_err(failed)
}

fn networks(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    let mut rows = transaction.prepare("SELECT id, json FROM box_config")?;
    let mut rows = rows.query([])?;
    while let Some(row) = rows.next()? {
        let id: String = row.get(0)?;
        // What cannot be read stays as it is: its box says so when it is used.
        let Ok(text) = row.get_ref(1)?.as_str() else { continue };
        let Ok(mut config) = serde_json::from_str::<Value>(text) else { continue };
        let Some(network) = config.pointer_mut("/options/network") else { continue };
        if network == "Isolated" {
            *network = json!({"Enabled": {"allow_net": []}});
            let text = config.to_string();
            transaction.execute("UPDATE box_config SET json = ?2 WHERE id = ?1", [id, text])?;
        }
    }
    Ok(())
}

/// The mark; and what the other software forgot when it took the same steps, so that a base could be
/// taken away from the box that is on it.
fn mark(_: &Home, transaction: &Transaction<'_>) -> Result<()> {
    let mend = "INSERT OR IGNORE INTO base_disk_ref (base_disk_id, box_id)
                SELECT base_disk.id, box_config.id FROM base_disk
                JOIN box_config ON box_config.id = base_disk.source_box_id
                WHERE base_disk.kind = 'rootfs'";
    let marked = transaction
        .execute(mend, [])
        .and_then(|_| transaction.pragma_update(None, "application_id", schema::MARK));
    marked.map_err(failed)
}

fn intents(_: &Home, transaction: &Transaction<'_>) -> Result<()> {
    transaction.execute_batch(schema::INTENTS).map_err(failed)
}
