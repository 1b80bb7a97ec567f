//! The rows of files that several disks are on, and who uses them.
//!
//! What they say is for people and for other software: whether a file is needed is read from the files.

use rusqlite::{Row, Transaction, params};

use super::{ConfigRow, StateRow, Store, Trouble, insert_box, insert_intent, or_default};
use crate::error::Result;

/// A file that disks are on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseRow {
    pub id: String,
    /// The box whose disk it was.
    pub source_box_id: String,
    pub name: Option<String>,
    /// `snapshot`, `clone_base` or `rootfs`.
    pub kind: String,
    /// Relative to the home.
    pub path: String,
    /// Seconds since the Unix epoch.
    pub created_at: i64,
    pub json: String,
}

impl Store {
    /// All of them.
    pub fn bases(&self) -> Result<Vec<BaseRow>> {
        let failed = self.failed("look up base disks");
        let connection = self.lock();
        let mut statement = connection
            .prepare_cached(
                "SELECT id, source_box_id, name, kind, base_path, created_at, json FROM base_disk",
            )
            .map_err(&failed)?;
        let rows = statement.query_map([], base).map_err(&failed)?;
        rows.collect::<Result<_, _>>().map_err(&failed)
    }

    /// Notes that several things begin, in one step. Returns their numbers.
    pub fn begin_intents(&self, intents: &[(&str, &str, &str)]) -> Result<Vec<i64>> {
        self.write("note intents", |transaction| {
            let insert = |(box_id, kind, json): &(&str, &str, &str)| {
                insert_intent(transaction, box_id, kind, json)
            };
            intents.iter().map(insert).collect()
        })
    }

    /// Writes boxes that are on a base, with that and who uses it, and the end of the intents to make
    /// them: all or nothing. A name in use is ALREADY_EXISTS.
    pub fn save_clones(
        &self,
        boxes: &[(ConfigRow, StateRow)],
        base: Option<&BaseRow>,
        users: &[&str],
        intents: &[i64],
    ) -> Result<()> {
        self.write("save clones", |transaction| {
            boxes.iter().try_for_each(|(config, state)| insert_box(transaction, config, state))?;
            if let Some(base) = base {
                insert_base(transaction, base, users)?;
            }
            for intent in intents {
                transaction.execute("DELETE FROM intent WHERE id = ?1", [intent])?;
            }
            Ok(())
        })
    }

    /// Forgets a base whose file is gone.
    pub fn delete_base(&self, path: &str) -> Result<()> {
        self.write("forget a base disk", |transaction| {
            transaction.execute(
                "DELETE FROM base_disk_ref WHERE base_disk_id IN
                     (SELECT id FROM base_disk WHERE base_path = ?1)",
                [path],
            )?;
            transaction.execute("DELETE FROM base_disk WHERE base_path = ?1", [path])?;
            Ok(())
        })
    }
}

/// One whose file has a row already is used by more.
fn insert_base(
    transaction: &Transaction<'_>,
    base: &BaseRow,
    users: &[&str],
) -> Result<(), Trouble> {
    transaction.execute(
        "INSERT INTO base_disk (id, source_box_id, name, kind, base_path, created_at, json)
         SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7
         WHERE NOT EXISTS (SELECT 1 FROM base_disk WHERE base_path = ?5)",
        params![
            base.id,
            base.source_box_id,
            base.name,
            base.kind,
            base.path,
            base.created_at,
            base.json
        ],
    )?;
    for user in users {
        transaction.execute(
            "INSERT OR IGNORE INTO base_disk_ref (base_disk_id, box_id)
             SELECT id, ?2 FROM base_disk WHERE base_path = ?1",
            [&base.path, *user],
        )?;
    }
    Ok(())
}

fn base(row: &Row<'_>) -> rusqlite::Result<BaseRow> {
    Ok(BaseRow {
        id: row.get(0)?,
        source_box_id: or_default(row, 1)?,
        name: or_default(row, 2)?,
        kind: or_default(row, 3)?,
        path: or_default(row, 4)?,
        created_at: or_default(row, 5)?,
        json: or_default(row, 6)?,
    })
}
