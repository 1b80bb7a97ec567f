//! The database of a home: which boxes there are, in what state, and what is under way with them.
//!
//! A box is two rows: its *configuration*, written once, and its *state*. Each has the columns that are
//! searched, and the whole structure as JSON, whose unknown fields are carried along. The tables' shape
//! is fixed, so that homes written by earlier software can be adopted.
//!
//! A change that takes several steps is an [`Intent`] first: whoever opens the home after its program
//! has died finds it, and carries it to its end or undoes it.
//!
//! - [`open`]: whose a database is, and whether it can be used
//! - [`schema`]: the tables
//! - [`migrate`]: from one version of them to the next; [`adopt`]: each such step
//! - [`bases`]: the rows of files that several disks are on
//! - [`snapshots`]: the rows of snapshots
//! - [`process`]: no database in a forked child

mod adopt;
mod bases;
mod migrate;
mod open;
mod process;
mod schema;
mod snapshots;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::types::FromSql;
use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, Transaction, params};

pub use self::bases::BaseRow;
use self::process::ProcessGuard;
pub use self::snapshots::{SnapshotRow, snapshot_exists};
use crate::error::{Code, Error, Result};
use crate::home::{Home, HomeLock};

/// The statuses under which a machine may be running.
const ACTIVE: &str = "('starting', 'running', 'stopping', 'paused', 'detached')";

/// What a box is. Written once, at creation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigRow {
    pub id: String,
    pub name: Option<String>,
    /// Seconds since the Unix epoch.
    pub created_at: i64,
    pub json: String,
}

/// How a box is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateRow {
    pub id: String,
    pub status: String,
    /// The supervisor's process id, while there is one.
    pub pid: Option<u32>,
    pub json: String,
}

/// An image that was made into a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRow {
    pub reference: String,
    pub manifest_digest: String,
    pub config_digest: String,
    /// The layers' digests, as a JSON array.
    pub layers: String,
    /// RFC 3339.
    pub cached_at: String,
}

/// A change of several steps that is under way, or was when its program died.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    pub id: i64,
    pub box_id: String,
    /// What is being done.
    pub kind: String,
    /// What there is to know for it.
    pub json: String,
}

/// An open database. All calls block for a transaction at most.
pub struct Store {
    path: PathBuf,
    connection: Mutex<Connection>,
    // After the connection: dropped when that is closed.
    _process: ProcessGuard,
}

impl Store {
    /// Opens or creates a home's database. Returns with it the ids of boxes that ran when the host
    /// went down: they are *stopped* now.
    pub fn open(home: &Home, lock: &mut HomeLock) -> Result<(Store, Vec<String>)> {
        let process = ProcessGuard::take()?;
        let connection = Mutex::new(open::open(home, lock)?);
        let store = Store { path: home.database(), connection, _process: process };
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .map_err(|e| Error::io(Code::Internal, "read the host's boot id", &e))?;
        let stopped = store.note_boot(boot_id.trim())?;
        Ok((store, stopped))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, what: &str) -> impl Fn(rusqlite::Error) -> Error {
        let what = format!("{what} in {}", self.path.display());
        move |e| schema::error(&what, &e)
    }

    /// Does something that is written as a whole or not at all.
    fn write<T>(
        &self,
        what: &str,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Trouble>,
    ) -> Result<T> {
        let failed = self.failed(what);
        let mut connection = self.lock();
        let transaction = schema::begin(&mut connection).map_err(&failed)?;
        let done = match work(&transaction) {
            Ok(done) => done,
            Err(Trouble::Refused(error)) => return Err(error),
            Err(Trouble::Database(e)) => return Err(failed(e)),
        };
        transaction.commit().map_err(&failed)?;
        Ok(done)
    }

    /// Tells a reboot of the host from a restart of the program.
    fn note_boot(&self, boot_id: &str) -> Result<Vec<String>> {
        self.write("note the host's boot", |transaction| {
            let known: Option<String> = transaction
                .query_row("SELECT boot_id FROM alive WHERE id = 1", [], |r| r.get(0))
                .optional()?;
            let mut stopped = Vec::new();
            if known.is_some_and(|known| known != boot_id) {
                // What cannot be read keeps its JSON: only the columns say that it is stopped.
                let query = format!(
                    "UPDATE box_state SET status = 'stopped', pid = NULL,
                         json = CASE json_valid(json)
                             WHEN 1 THEN json_set(json, '$.status', 'stopped', '$.pid', NULL)
                             ELSE json END
                     WHERE status IN {ACTIVE} RETURNING id"
                );
                let mut statement = transaction.prepare(&query)?;
                let ids = statement.query_map([], |r| r.get(0))?;
                stopped = ids.collect::<Result<_, _>>()?;
            }
            transaction.execute(
                "INSERT INTO alive (id, boot_id, started_at) VALUES (1, ?1, unixepoch())
                 ON CONFLICT (id) DO UPDATE SET boot_id = ?1, started_at = unixepoch()
                 WHERE boot_id <> ?1",
                [boot_id],
            )?;
            Ok(stopped)
        })
    }

    // ---- boxes ---------------------------------------------------------------------------------

    /// Writes a new box: both rows or none, and with them the end of the intent to make it. A name in
    /// use is ALREADY_EXISTS, and the error names its holder.
    pub fn save(&self, config: &ConfigRow, state: &StateRow, intent: Option<i64>) -> Result<()> {
        self.write("save a box", |transaction| {
            insert_box(transaction, config, state)?;
            if let Some(intent) = intent {
                transaction.execute("DELETE FROM intent WHERE id = ?1", [intent])?;
            }
            Ok(())
        })
    }

    /// The error of [`Store::save`] beforehand, if there is a box of this name.
    pub fn check_name(&self, name: &str) -> Result<()> {
        match holder_of(&self.lock(), name).map_err(self.failed("look up a box"))? {
            Some(holder) => Err(name_in_use(name, Some(&holder))),
            None => Ok(()),
        }
    }

    /// A box by its id.
    pub fn load(&self, id: &str) -> Result<Option<(ConfigRow, StateRow)>> {
        Ok(self.select("c.id = ?1", &[id])?.pop())
    }

    /// A box by its id, its name, or the beginning of its id, if no other begins so. None is NOT_FOUND,
    /// several are INVALID_ARGUMENT, and the error lists them.
    pub fn find(&self, wanted: &str) -> Result<(ConfigRow, StateRow)> {
        // Of an id and a name that are the same, the id.
        let mut exact = self.select("c.id = ?1 OR c.name = ?1", &[wanted])?;
        if let Some(at) = exact.iter().position(|(c, _)| c.id == wanted) {
            return Ok(exact.swap_remove(at));
        }
        if let Some(named) = exact.pop() {
            return Ok(named);
        }
        // substr, and not LIKE: nothing in it is a pattern.
        let begins = "?1 <> '' AND substr(c.id, 1, length(?1)) = ?1";
        let mut found = self.select(begins, &[wanted])?;
        if found.len() > 1 {
            let describe = |(config, _): &(ConfigRow, StateRow)| match &config.name {
                Some(name) => format!("{} ({name})", config.id),
                None => config.id.clone(),
            };
            let mut listed: Vec<String> = found.iter().take(LISTED).map(describe).collect();
            if found.len() > LISTED {
                listed.push(format!("and {} more", found.len() - LISTED));
            }
            let text = format!(
                "'{wanted}' begins the ids of {} boxes: {}; give more of it",
                found.len(),
                listed.join(", ")
            );
            return Err(Error::new(Code::InvalidArgument, text).object(wanted));
        }
        found.pop().ok_or_else(|| {
            Error::new(Code::NotFound, format!("there is no box '{wanted}'")).object(wanted)
        })
    }

    /// All boxes, newest first.
    pub fn list_all(&self) -> Result<Vec<(ConfigRow, StateRow)>> {
        self.select("TRUE", &[])
    }

    /// The boxes whose machine may be running, newest first.
    pub fn list_active(&self) -> Result<Vec<(ConfigRow, StateRow)>> {
        self.select(&format!("s.status IN {ACTIVE}"), &[])
    }

    fn select(&self, condition: &str, values: &[&str]) -> Result<Vec<(ConfigRow, StateRow)>> {
        let failed = self.failed("look up boxes");
        let query = format!(
            "SELECT c.id, c.name, c.created_at, c.json, s.status, s.pid, s.json
             FROM box_config c JOIN box_state s ON s.id = c.id
             WHERE {condition} ORDER BY c.created_at DESC, c.id DESC"
        );
        let connection = self.lock();
        let mut statement = connection.prepare_cached(&query).map_err(&failed)?;
        let rows =
            statement.query_map(rusqlite::params_from_iter(values), both).map_err(&failed)?;
        rows.collect::<Result<_, _>>().map_err(&failed)
    }

    /// Changes a box's state: `change` is given the row as it is, and returns what it becomes, or none
    /// to leave it. Nobody else changes it meanwhile. Returns the row as it is then. A box that is not
    /// there is NOT_FOUND.
    pub fn change_state(
        &self,
        id: &str,
        change: impl FnOnce(&StateRow) -> Result<Option<StateRow>>,
    ) -> Result<StateRow> {
        self.write("change a box's state", |transaction| {
            let row = transaction
                .query_row("SELECT id, status, pid, json FROM box_state WHERE id = ?1", [id], state)
                .optional()?;
            let row = row.ok_or_else(|| {
                Trouble::Refused(Error::new(Code::NotFound, "the box was removed").object(id))
            })?;
            let Some(new) = change(&row).map_err(Trouble::Refused)? else { return Ok(row) };
            transaction.execute(
                "UPDATE box_state SET status = ?2, pid = ?3, json = ?4 WHERE id = ?1",
                params![id, new.status, new.pid, new.json],
            )?;
            Ok(new)
        })
    }

    /// Deletes a box's rows, and in the same step notes the intent to do away with its files. None if
    /// there is no such box.
    pub fn delete(&self, id: &str, kind: &str) -> Result<Option<i64>> {
        self.write("delete a box", |transaction| {
            if transaction.execute("DELETE FROM box_config WHERE id = ?1", [id])? == 0 {
                return Ok(None);
            }
            // Whatever was under way with its disk is moot.
            for table in ["snapshot", "intent", "base_disk_ref"] {
                transaction.execute(&format!("DELETE FROM {table} WHERE box_id = ?1"), [id])?;
            }
            insert_intent(transaction, id, kind, "{}").map(Some)
        })
    }

    // ---- intents -------------------------------------------------------------------------------

    /// Notes that a change of several steps begins.
    pub fn begin_intent(&self, box_id: &str, kind: &str, json: &str) -> Result<i64> {
        self.write("note an intent", |transaction| insert_intent(transaction, box_id, kind, json))
    }

    /// Notes that a change is complete, or undone.
    pub fn end_intent(&self, id: i64) -> Result<()> {
        self.lock()
            .execute("DELETE FROM intent WHERE id = ?1", [id])
            .map(drop)
            .map_err(self.failed("end an intent"))
    }

    /// What is under way, or was when its program died; oldest first.
    pub fn intents(&self) -> Result<Vec<Intent>> {
        let failed = self.failed("list the intents");
        let connection = self.lock();
        let mut statement = connection
            .prepare_cached("SELECT id, box_id, kind, json FROM intent ORDER BY id")
            .map_err(&failed)?;
        let intent = |row: &Row<'_>| {
            Ok(Intent {
                id: row.get(0)?,
                box_id: row.get(1)?,
                kind: row.get(2)?,
                json: row.get(3)?,
            })
        };
        let rows = statement.query_map([], intent).map_err(&failed)?;
        rows.collect::<Result<_, _>>().map_err(&failed)
    }

    /// The ids of all boxes, and of those that are being made or removed.
    pub fn known_ids(&self) -> Result<HashSet<String>> {
        let failed = self.failed("list the boxes");
        let connection = self.lock();
        let mut statement = connection
            .prepare_cached("SELECT id FROM box_config UNION SELECT box_id FROM intent")
            .map_err(&failed)?;
        let rows = statement.query_map([], |r| r.get(0)).map_err(&failed)?;
        rows.collect::<Result<_, _>>().map_err(&failed)
    }

    // ---- images --------------------------------------------------------------------------------

    /// Notes that an image has been made into a disk.
    pub fn save_image(&self, image: &ImageRow) -> Result<()> {
        self.lock()
            .execute(
                "INSERT INTO image_index
                     (reference, manifest_digest, config_digest, layers, cached_at, complete)
                 VALUES (?1, ?2, ?3, ?4, ?5, 1)
                 ON CONFLICT (reference) DO UPDATE SET manifest_digest = ?2, config_digest = ?3,
                     layers = ?4, cached_at = ?5, complete = 1",
                params![
                    image.reference,
                    image.manifest_digest,
                    image.config_digest,
                    image.layers,
                    image.cached_at
                ],
            )
            .map(drop)
            .map_err(self.failed("note an image"))
    }
}

/// How many boxes an error lists.
const LISTED: usize = 10;

/// Why something was not written.
enum Trouble {
    Refused(Error),
    Database(rusqlite::Error),
}

impl From<rusqlite::Error> for Trouble {
    fn from(e: rusqlite::Error) -> Trouble {
        Trouble::Database(e)
    }
}

fn insert_box(
    transaction: &Transaction<'_>,
    config: &ConfigRow,
    state: &StateRow,
) -> Result<(), Trouble> {
    let inserted = transaction.execute(
        "INSERT INTO box_config (id, name, created_at, json) VALUES (?1, ?2, ?3, ?4)",
        params![config.id, config.name, config.created_at, config.json],
    );
    if let Err(rusqlite::Error::SqliteFailure(e, _)) = &inserted
        && e.code == ErrorCode::ConstraintViolation
    {
        return Err(Trouble::Refused(match &config.name {
            Some(name) => name_in_use(name, holder_of(transaction, name)?.as_deref()),
            None => Error::new(Code::AlreadyExists, "a box of this id exists already")
                .object(&*config.id),
        }));
    }
    inserted?;
    transaction.execute(
        "INSERT INTO box_state (id, status, pid, json) VALUES (?1, ?2, ?3, ?4)",
        params![state.id, state.status, state.pid, state.json],
    )?;
    Ok(())
}

fn insert_intent(
    transaction: &Transaction<'_>,
    box_id: &str,
    kind: &str,
    json: &str,
) -> Result<i64, Trouble> {
    transaction.execute(
        "INSERT INTO intent (box_id, kind, created_at, json) VALUES (?1, ?2, unixepoch(), ?3)",
        [box_id, kind, json],
    )?;
    Ok(transaction.last_insert_rowid())
}

/// The id of the box that has a name.
fn holder_of(connection: &Connection, name: &str) -> rusqlite::Result<Option<String>> {
    connection
        .query_row("SELECT id FROM box_config WHERE name = ?1", [name], |r| r.get(0))
        .optional()
}

fn name_in_use(name: &str, holder: Option<&str>) -> Error {
    let holder = holder.map(|id| format!(" ({id})")).unwrap_or_default();
    let text = format!("a box '{name}' exists already{holder}");
    Error::new(Code::AlreadyExists, text).object(name)
}

fn both(row: &Row<'_>) -> rusqlite::Result<(ConfigRow, StateRow)> {
    let config = ConfigRow {
        id: row.get(0)?,
        name: or_default(row, 1)?,
        created_at: or_default(row, 2)?,
        json: or_default(row, 3)?,
    };
    Ok((config, state_from(row, [0, 4, 5, 6])?))
}

fn state(row: &Row<'_>) -> rusqlite::Result<StateRow> {
    state_from(row, [0, 1, 2, 3])
}

fn state_from(row: &Row<'_>, columns: [usize; 4]) -> rusqlite::Result<StateRow> {
    let [id, status, pid, json] = columns;
    Ok(StateRow {
        id: row.get(id)?,
        status: or_default(row, status)?,
        pid: or_default(row, pid)?,
        json: or_default(row, json)?,
    })
}

/// A column's value, or the type's default if it is of another type: one spoiled row must not hide all
/// others. No JSON is empty, so nobody takes that for what was written.
fn or_default<T: FromSql + Default>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    match row.get(column) {
        Err(e) if !matches!(e, rusqlite::Error::SqliteFailure(..)) => Ok(T::default()),
        other => other,
    }
}

#[cfg(test)]
mod tests;
