//! The database of a home: which boxes there are, and in what state.
//!
//! A box is two rows: its *configuration*, written once, and its *state*. Each has the columns
//! that are searched, and the whole structure as JSON, whose unknown fields are carried along.
//! The tables' shape is fixed, so that homes written by earlier software can be adopted.
//!
//! - [`schema`]: the tables, and telling our homes from others'
//! - [`process`]: no database in a forked child

mod process;
mod schema;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, params};

use self::process::ProcessGuard;
use crate::error::{Code, Error, Result};

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

/// An open database. All calls block for a transaction at most.
pub struct Store {
    path: PathBuf,
    connection: Mutex<Connection>,
    // After the connection: dropped when that is closed.
    _process: ProcessGuard,
}

impl Store {
    /// Opens or creates the database. Returns with it the ids of boxes that ran when the host
    /// went down: they are *stopped* now.
    pub fn open(path: &Path) -> Result<(Store, Vec<String>)> {
        let process = ProcessGuard::take()?;
        let connection = Mutex::new(schema::open(path)?);
        let store = Store { path: path.to_owned(), connection, _process: process };
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .map_err(|e| Error::io(Code::Internal, "read the host's boot id", &e))?;
        let stopped = store.note_boot(boot_id.trim())?;
        Ok((store, stopped))
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, what: &str) -> impl Fn(rusqlite::Error) -> Error {
        let what = format!("{what} in {}", self.path.display());
        move |e| schema::error(&what, &e)
    }

    /// Tells a reboot of the host from a restart of the program.
    fn note_boot(&self, boot_id: &str) -> Result<Vec<String>> {
        let failed = self.failed("note the host's boot");
        let mut connection = self.lock();
        let transaction = schema::begin(&mut connection).map_err(&failed)?;
        let known: Option<String> = transaction
            .query_row("SELECT boot_id FROM alive WHERE id = 1", [], |r| r.get(0))
            .optional()
            .map_err(&failed)?;
        let mut stopped = Vec::new();
        if known.is_some_and(|known| known != boot_id) {
            let query = format!(
                "UPDATE box_state SET status = 'stopped', pid = NULL,
                     json = json_set(json, '$.status', 'stopped', '$.pid', NULL)
                 WHERE status IN {ACTIVE} RETURNING id"
            );
            let mut statement = transaction.prepare(&query).map_err(&failed)?;
            let ids = statement.query_map([], |r| r.get(0)).map_err(&failed)?;
            stopped = ids.collect::<Result<_, _>>().map_err(&failed)?;
        }
        transaction
            .execute(
                "INSERT INTO alive (id, boot_id, started_at) VALUES (1, ?1, unixepoch())
                 ON CONFLICT (id) DO UPDATE SET boot_id = ?1, started_at = unixepoch()
                 WHERE boot_id <> ?1",
                [boot_id],
            )
            .map_err(&failed)?;
        transaction.commit().map_err(&failed)?;
        Ok(stopped)
    }

    /// Writes a new box: both rows or none. A name in use is ALREADY_EXISTS.
    pub fn save(&self, config: &ConfigRow, state: &StateRow) -> Result<()> {
        let failed = self.failed("save a box");
        let mut connection = self.lock();
        let transaction = schema::begin(&mut connection).map_err(&failed)?;
        let inserted = transaction.execute(
            "INSERT INTO box_config (id, name, created_at, json) VALUES (?1, ?2, ?3, ?4)",
            params![config.id, config.name, config.created_at, config.json],
        );
        if let Err(rusqlite::Error::SqliteFailure(e, _)) = &inserted
            && e.code == ErrorCode::ConstraintViolation
        {
            let name = config.name.as_deref().unwrap_or(&config.id);
            return Err(Error::new(Code::AlreadyExists, format!("a box '{name}' exists already"))
                .object(name));
        }
        inserted.map_err(&failed)?;
        transaction
            .execute(
                "INSERT INTO box_state (id, status, pid, json) VALUES (?1, ?2, ?3, ?4)",
                params![state.id, state.status, state.pid, state.json],
            )
            .map_err(&failed)?;
        transaction.commit().map_err(&failed)
    }

    /// A box by its id.
    pub fn load(&self, id: &str) -> Result<Option<(ConfigRow, StateRow)>> {
        self.load_where("c.id = ?1", id)
    }

    /// A box by its name.
    pub fn load_by_name(&self, name: &str) -> Result<Option<(ConfigRow, StateRow)>> {
        self.load_where("c.name = ?1", name)
    }

    fn load_where(&self, condition: &str, value: &str) -> Result<Option<(ConfigRow, StateRow)>> {
        let query = format!("{SELECT_BOTH} WHERE {condition}");
        self.lock()
            .query_row(&query, [value], both)
            .optional()
            .map_err(self.failed("look up a box"))
    }

    /// All boxes, newest first.
    pub fn list_all(&self) -> Result<Vec<(ConfigRow, StateRow)>> {
        self.list("TRUE")
    }

    /// The boxes whose machine may be running, newest first.
    pub fn list_active(&self) -> Result<Vec<(ConfigRow, StateRow)>> {
        self.list(&format!("s.status IN {ACTIVE}"))
    }

    fn list(&self, condition: &str) -> Result<Vec<(ConfigRow, StateRow)>> {
        let failed = self.failed("list the boxes");
        let query =
            format!("{SELECT_BOTH} WHERE {condition} ORDER BY c.created_at DESC, c.id DESC");
        let connection = self.lock();
        let mut statement = connection.prepare_cached(&query).map_err(&failed)?;
        let rows = statement.query_map([], both).map_err(&failed)?;
        rows.collect::<Result<_, _>>().map_err(&failed)
    }

    /// Writes a box's state. A box that is not there is NOT_FOUND.
    pub fn update_state(&self, state: &StateRow) -> Result<()> {
        let changed = self
            .lock()
            .execute(
                "UPDATE box_state SET status = ?2, pid = ?3, json = ?4 WHERE id = ?1",
                params![state.id, state.status, state.pid, state.json],
            )
            .map_err(self.failed("update a box"))?;
        match changed {
            0 => Err(Error::new(Code::NotFound, "the box was removed").object(&*state.id)),
            _ => Ok(()),
        }
    }

    /// Deletes a box; says whether there was one.
    pub fn delete(&self, id: &str) -> Result<bool> {
        self.lock()
            .execute("DELETE FROM box_config WHERE id = ?1", [id])
            .map(|rows| rows > 0)
            .map_err(self.failed("delete a box"))
    }

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

const SELECT_BOTH: &str = "SELECT c.id, c.name, c.created_at, c.json, s.status, s.pid, s.json
     FROM box_config c JOIN box_state s ON s.id = c.id";

fn both(row: &Row<'_>) -> rusqlite::Result<(ConfigRow, StateRow)> {
    let id: String = row.get(0)?;
    let config =
        ConfigRow { id: id.clone(), name: row.get(1)?, created_at: row.get(2)?, json: row.get(3)? };
    Ok((config, StateRow { id, status: row.get(4)?, pid: row.get(5)?, json: row.get(6)? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(id: &str, name: Option<&str>, created_at: i64, status: &str) -> (ConfigRow, StateRow) {
        let config = ConfigRow {
            id: id.into(),
            name: name.map(Into::into),
            created_at,
            json: format!("{{\"id\":\"{id}\"}}"),
        };
        let pid = (status == "running").then_some(42);
        let json = format!("{{\"status\":\"{status}\",\"pid\":42,\"later\":[1]}}");
        (config, StateRow { id: id.into(), status: status.into(), pid, json })
    }

    fn open() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("boxlite.db")).unwrap().0;
        (dir, store)
    }

    #[test]
    fn a_box_is_found_by_id_and_name_until_it_is_deleted() {
        let (_dir, store) = open();
        let (config, state) = rows("a", Some("web"), 1, "configured");
        store.save(&config, &state).unwrap();
        assert_eq!(store.load("a").unwrap(), Some((config.clone(), state.clone())));
        assert_eq!(store.load_by_name("web").unwrap(), Some((config, state.clone())));
        assert_eq!(store.load("b").unwrap(), None);
        assert!(store.delete("a").unwrap());
        assert!(!store.delete("a").unwrap());
        assert_eq!(store.load("a").unwrap(), None);
        assert_eq!(store.update_state(&state).unwrap_err().code(), Code::NotFound);
    }

    #[test]
    fn a_name_in_use_is_refused_by_its_name_and_nothing_is_written() {
        let (_dir, store) = open();
        let (config, state) = rows("a", Some("web"), 1, "configured");
        store.save(&config, &state).unwrap();
        let (config, state) = rows("b", Some("web"), 1, "configured");
        let error = store.save(&config, &state).unwrap_err();
        assert_eq!((error.code(), error.failing_object()), (Code::AlreadyExists, Some("web")));
        assert_eq!(store.load("b").unwrap(), None);
    }

    #[test]
    fn boxes_are_listed_newest_first() {
        let (_dir, store) = open();
        for (id, at, status) in [("a", 5, "stopped"), ("b", 9, "paused"), ("c", 7, "running")] {
            let (config, state) = rows(id, None, at, status);
            store.save(&config, &state).unwrap();
        }
        let ids = |rows: Vec<(ConfigRow, StateRow)>| {
            rows.into_iter().map(|(c, _)| c.id).collect::<Vec<_>>()
        };
        assert_eq!(ids(store.list_all().unwrap()), ["b", "c", "a"]);
        assert_eq!(ids(store.list_active().unwrap()), ["b", "c"]);
    }

    #[test]
    fn a_reboot_stops_active_boxes_and_keeps_unknown_fields() {
        let (dir, store) = open();
        for (id, status) in [("a", "running"), ("b", "paused"), ("c", "configured")] {
            let (config, state) = rows(id, None, 1, status);
            store.save(&config, &state).unwrap();
        }
        let path = dir.path().join("boxlite.db");
        drop(store);
        let (store, stopped) = Store::open(&path).unwrap();
        assert!(stopped.is_empty(), "no reboot, yet {stopped:?} were stopped");
        store.lock().execute("UPDATE alive SET boot_id = 'another'", []).unwrap();
        drop(store);
        let (store, mut stopped) = Store::open(&path).unwrap();
        stopped.sort();
        assert_eq!(stopped, ["a", "b"]);
        let (_, state) = store.load("a").unwrap().unwrap();
        assert_eq!((state.status.as_str(), state.pid), ("stopped", None));
        let json: serde_json::Value = serde_json::from_str(&state.json).unwrap();
        assert_eq!(json, serde_json::json!({"status": "stopped", "pid": null, "later": [1]}));
        assert_eq!(store.load("c").unwrap().unwrap().1.status, "configured");
    }
}
