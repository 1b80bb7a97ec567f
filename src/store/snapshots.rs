//! The rows of snapshots.

use rusqlite::{ErrorCode, Row, Transaction, params};

use super::{ConfigRow, StateRow, Store, Trouble, insert_box, insert_intent, or_default};
use crate::error::{Code, Error, Result};

/// A snapshot of a box's disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotRow {
    pub id: String,
    pub box_id: String,
    pub name: String,
    /// Seconds since the Unix epoch.
    pub created_at: i64,
    pub json: String,
}

impl Store {
    /// The snapshots of a box, in the order in which they were made.
    pub fn snapshots(&self, box_id: &str) -> Result<Vec<SnapshotRow>> {
        self.select_snapshots("box_id = ?1", &[box_id])
    }

    /// The snapshots of all boxes.
    pub fn all_snapshots(&self) -> Result<Vec<SnapshotRow>> {
        self.select_snapshots("TRUE", &[])
    }

    /// A box's snapshot by its name.
    pub fn snapshot(&self, box_id: &str, name: &str) -> Result<Option<SnapshotRow>> {
        Ok(self.select_snapshots("box_id = ?1 AND name = ?2", &[box_id, name])?.pop())
    }

    fn select_snapshots(&self, condition: &str, values: &[&str]) -> Result<Vec<SnapshotRow>> {
        let failed = self.failed("look up snapshots");
        let query = format!(
            "SELECT id, box_id, name, created_at, json FROM snapshot
             WHERE {condition} ORDER BY created_at, id"
        );
        let connection = self.lock();
        let mut statement = connection.prepare_cached(&query).map_err(&failed)?;
        let rows =
            statement.query_map(rusqlite::params_from_iter(values), snapshot).map_err(&failed)?;
        rows.collect::<Result<_, _>>().map_err(&failed)
    }

    /// Writes a new box that has snapshots already: all rows or none, and with them the end of the intent
    /// to make it. A name in use is ALREADY_EXISTS.
    pub fn save_with_snapshots(
        &self,
        config: &ConfigRow,
        state: &StateRow,
        snapshots: &[SnapshotRow],
        intent: i64,
    ) -> Result<()> {
        self.write("save a box", |transaction| {
            insert_box(transaction, config, state)?;
            snapshots.iter().try_for_each(|row| insert_snapshot(transaction, row))?;
            transaction.execute("DELETE FROM intent WHERE id = ?1", [intent])?;
            Ok(())
        })
    }

    /// Writes a new snapshot, and with it the end of the intent to make it. A name in use is
    /// ALREADY_EXISTS.
    pub fn save_snapshot(&self, row: &SnapshotRow, intent: i64) -> Result<()> {
        self.write("save a snapshot", |transaction| {
            insert_snapshot(transaction, row)?;
            transaction.execute("DELETE FROM intent WHERE id = ?1", [intent])?;
            Ok(())
        })
    }

    /// Deletes a snapshot's row, and in the same step notes the intent to do away with its file. None if
    /// there is no such snapshot.
    pub fn delete_snapshot(&self, id: &str, intent: (&str, &str, &str)) -> Result<Option<i64>> {
        self.write("delete a snapshot", |transaction| {
            if transaction.execute("DELETE FROM snapshot WHERE id = ?1", [id])? == 0 {
                return Ok(None);
            }
            let (box_id, kind, json) = intent;
            insert_intent(transaction, box_id, kind, json).map(Some)
        })
    }
}

fn insert_snapshot(transaction: &Transaction<'_>, row: &SnapshotRow) -> Result<(), Trouble> {
    let inserted = transaction.execute(
        "INSERT INTO snapshot (id, box_id, name, created_at, json) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![row.id, row.box_id, row.name, row.created_at, row.json],
    );
    match inserted {
        Err(rusqlite::Error::SqliteFailure(e, _)) if e.code == ErrorCode::ConstraintViolation => {
            Err(Trouble::Refused(snapshot_exists(&row.box_id, &row.name)))
        }
        other => other.map(drop).map_err(Trouble::from),
    }
}

/// That a box has a snapshot of this name.
pub fn snapshot_exists(box_id: &str, name: &str) -> Error {
    let text = format!("box {box_id} has a snapshot '{name}' already");
    Error::new(Code::AlreadyExists, text).object(name)
}

fn snapshot(row: &Row<'_>) -> rusqlite::Result<SnapshotRow> {
    Ok(SnapshotRow {
        id: row.get(0)?,
        box_id: row.get(1)?,
        name: or_default(row, 2)?,
        created_at: or_default(row, 3)?,
        json: or_default(row, 4)?,
    })
}
