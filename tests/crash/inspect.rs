//! What can be seen of a home from outside, and whether it fits together.

use std::collections::BTreeSet;
use std::path::Path;

use boxlite::supervisor::socket::PidFile;
use rusqlite::{Connection, OpenFlags};

use crate::disks;
use crate::place::{Place, names};

/// A box as its rows tell.
pub struct Row {
    pub id: String,
    pub status: String,
    json_status: String,
    pid: Option<u32>,
}

impl Row {
    /// Whether a machine runs, if the row is true.
    pub fn is_active(&self) -> bool {
        matches!(&*self.status, "starting" | "running" | "stopping" | "paused")
    }
}

pub fn database(home: &Path) -> Connection {
    let path = home.join("db/boxlite.db");
    Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap()
}

pub fn rows(home: &Path) -> Vec<Row> {
    let database = database(home);
    let mut query = database
        .prepare(
            "SELECT c.id, s.status, json_extract(s.json, '$.status'), s.pid FROM box_config c
             LEFT JOIN box_state s ON s.id = c.id ORDER BY c.rowid",
        )
        .unwrap();
    let row = |r: &rusqlite::Row<'_>| {
        Ok(Row { id: r.get(0)?, status: r.get(1)?, json_status: r.get(2)?, pid: r.get(3)? })
    };
    query.query_map([], row).unwrap().map(|r| r.expect("a box has both rows")).collect()
}

/// Whether it is a home of other software, or of a version before ours.
pub fn is_old(home: &Path) -> bool {
    let mark = |r: &rusqlite::Row<'_>| r.get::<_, i64>(0);
    let of = |pragma| database(home).query_row(pragma, [], mark).unwrap();
    let intents = "SELECT count(*) FROM sqlite_schema WHERE name = 'intent'";
    of("PRAGMA application_id") == 0 || of(intents) == 0
}

/// Everything that contradicts something else, in words. Nobody is to be using the home.
pub fn contradictions(place: &Place, home: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let rows = rows(home);
    let known: BTreeSet<String> = rows.iter().map(|r| r.id.clone()).collect();
    for row in &rows {
        found.extend(of_box(home, row));
    }
    if !rows.iter().any(Row::is_active) {
        let orphans = place.processes().len();
        if orphans > 0 {
            found.push(format!("{orphans} processes, and no box runs"));
        }
    }
    let directories = names(&home.join("boxes"));
    found.extend(
        directories.iter().filter(|d| !known.contains(*d)).map(|d| format!("boxes/{d} has no row")),
    );
    // What is done with the disk of a machine that runs, only its supervisor knows.
    let running = rows.iter().any(Row::is_active);
    let query = if running {
        "SELECT count(*) FROM intent WHERE kind NOT IN ('snapshot', 'clone')"
    } else {
        "SELECT count(*) FROM intent"
    };
    let intents: i64 = database(home).query_row(query, [], |r| r.get(0)).unwrap();
    if intents > 0 {
        found.push(format!("{intents} intents"));
    }
    if !running {
        found.extend(of_bases(home));
    }
    for lock in names(&home.join("locks")) {
        let id = lock.strip_prefix("box-").and_then(|l| l.strip_suffix(".lock"));
        if id.is_some_and(|id| !known.contains(id)) {
            found.push(format!("locks/{lock} is of no box"));
        }
    }
    for directory in ["tmp", "images/disk-images", "bases"] {
        let halves = names(&home.join(directory)).into_iter().filter(|n| n.ends_with(".partial"));
        found.extend(halves.map(|n| format!("{directory}/{n} was never finished")));
    }
    found
}

fn of_box(home: &Path, row: &Row) -> Vec<String> {
    let mut found = Vec::new();
    let id = &row.id;
    if row.status != row.json_status {
        found.push(format!("{id} is {} and {}", row.status, row.json_status));
    }
    let directory = home.join("boxes").join(id);
    let supervisor = PidFile::holder(&directory).unwrap();
    if row.is_active() != supervisor.is_some() {
        found.push(format!("{id} is {}, and its supervisor is {supervisor:?}", row.status));
    }
    if !row.is_active() && row.pid.is_some() {
        found.push(format!("{id} is {}, with process {:?}", row.status, row.pid));
    }
    if supervisor.is_none() {
        // Homes of version 6 have it beside everything else.
        let places = ["disks/disk.qcow2", "disk.qcow2"].map(|name| directory.join(name));
        let disk = places.iter().find(|p| p.exists()).unwrap_or(&places[0]);
        found.extend(disks::look(disk).fault.map(|fault| format!("{id}: its disk: {fault}")));
        found.extend(of_snapshots(home, id));
    }
    found
}

fn has_bases(database: &Connection) -> bool {
    database.prepare("SELECT base_path FROM base_disk").is_ok()
}

/// Each base has its file, and each file its base.
fn of_bases(home: &Path) -> Vec<String> {
    let database = database(home);
    if !has_bases(&database) {
        return vec![];
    }
    let query = "SELECT base_path FROM base_disk";
    let mut query = database.prepare(query).unwrap();
    let rows = query.query_map([], |r| r.get(0)).unwrap();
    let rows: BTreeSet<String> = rows.map(Result::unwrap).collect();
    let lost = rows.iter().filter(|path| !home.join(path).exists());
    let mut found: Vec<String> = lost.map(|path| format!("{path}: no such base")).collect();
    let files = names(&home.join("bases")).into_iter().map(|name| format!("bases/{name}"));
    found.extend(files.filter(|path| !rows.contains(path)).map(|path| format!("{path}: no row")));
    found
}

/// Each snapshot has its file, and each file its snapshot.
fn of_snapshots(home: &Path, id: &str) -> Vec<String> {
    let database = database(home);
    if !has_bases(&database) {
        return vec![];
    }
    let mut query = database.prepare("SELECT name FROM snapshot WHERE box_id = ?1").unwrap();
    let rows = query.query_map([id], |r| r.get(0)).unwrap();
    let rows: BTreeSet<String> = rows.map(Result::unwrap).collect();
    let directory = home.join("boxes").join(id);
    let kept = directory.join("snapshots");
    let files: BTreeSet<String> =
        if kept.exists() { names(&kept) } else { vec![] }.into_iter().collect();
    let mut found: Vec<String> =
        rows.symmetric_difference(&files).map(|name| format!("{id}: snapshot {name}")).collect();
    for name in rows.intersection(&files) {
        let fault = disks::look(&kept.join(name).join("disk.qcow2")).fault;
        found.extend(fault.map(|fault| format!("{id}: snapshot {name}: {fault}")));
    }
    let disks = directory.join("disks");
    let mut disks = if disks.exists() { names(&disks) } else { vec![] };
    disks.retain(|name| name != "disk.qcow2" && name != "guest-rootfs.qcow2");
    found.extend(disks.iter().map(|name| format!("{id}: disks/{name}")));
    found
}
