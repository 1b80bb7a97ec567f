//! The steps from the oldest tables that are understood to today's.
//!
//! Versions 6 to 8 are those of the software whose homes can be adopted; from 9 on they are ours, which
//! the database's mark says.

use rusqlite::{Transaction, params};
use serde_json::{Value, json};

use super::migrate::{Step, no_files};
use super::schema;

/// The oldest version that can be adopted, and the last of the other software.
pub const ADOPTABLE: std::ops::RangeInclusive<i64> = 6..=8;

pub const STEPS: &[Step] = &[
    Step { to: 7, files: no_files, tables: base_disks_and_snapshots },
    Step { to: 8, files: no_files, tables: networks_that_say_what_they_allow },
    Step { to: 9, files: no_files, tables: mark },
    Step { to: 10, files: no_files, tables: intents },
];

/// Snapshots leave their box's directory's name for the file itself, which other disks may be based on.
fn base_disks_and_snapshots(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction.execute_batch(schema::BASE_DISKS)?;
    let exists: bool = transaction.query_row(
        "SELECT count(*) > 0 FROM sqlite_schema WHERE type = 'table' AND name = 'box_snapshot'",
        [],
        |r| r.get(0),
    )?;
    if !exists {
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
fn networks_that_say_what_they_allow(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
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

fn mark(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction.pragma_update(None, "application_id", schema::MARK)
}

fn intents(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction.execute_batch(schema::INTENTS)
}
