//! A snapshot: what the disk is at one moment, kept under a name.
//!
//! The disk's file gets the snapshot's name and never changes again; the disk goes on in an overlay on it.
//! Nothing is copied. Of a box that runs, the guest's file system is frozen for that moment, and its
//! supervisor does what is done with files.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use ulid::Ulid;

use super::super::context::Context;
use super::branching::{self, Begun, Files, relative};
use super::{SNAPSHOT, check_stopped};
use crate::channel::client::Connection;
use crate::disk::branch::Points;
use crate::disk::chain::Chain;
use crate::disk::overlay;
use crate::error::{Code, Error, Result};
use crate::failpoint::{self, Point};
use crate::store::{Intent, SnapshotRow, snapshot_exists};

/// The longest name, in bytes: that of a directory.
const MAX_NAME: usize = 255;

/// Where a test may end a program that makes one of a box that does not run.
const POINTS: Points = [Point::SnapshotMoved, Point::SnapshotNamed, Point::SnapshotPlaced];

/// A snapshot of a box's disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// A ULID.
    pub id: String,
    pub box_id: String,
    pub name: String,
    /// RFC 3339.
    pub created_at: String,
    /// The snapshot that the box's disk came from when this one was made, if it is still there.
    pub parent: Option<String>,
    /// Bytes that the guest sees.
    pub virtual_bytes: u64,
    /// Bytes that the snapshot's file takes on the host: what was written since its parent.
    pub allocated_bytes: u64,
}

/// A snapshot's JSON. Field names are those of the software whose homes can be adopted.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Stored {
    id: String,
    box_id: String,
    name: String,
    /// Its file, relative to the home.
    base_path: String,
    /// The disk's virtual size.
    #[serde(default)]
    container_disk_bytes: Option<u64>,
    /// What its file took when it was made.
    #[serde(default)]
    size_bytes: Option<u64>,
    created_at: Value,
    #[serde(flatten)]
    unknown: Map<String, Value>,
}

/// What an intent says.
#[derive(Debug, Serialize, Deserialize)]
struct Plan {
    files: Files,
    snapshot: Stored,
}

/// The rules of STORAGE: a name is that of a directory.
pub fn check_name(name: &str) -> Result<()> {
    let bad = name.is_empty()
        || name.len() > MAX_NAME
        || name.starts_with('.')
        || name.contains(['/', '\\', '\0']);
    if bad {
        let text = format!(
            "a snapshot's name has 1 to {MAX_NAME} bytes, no '/', '\\' or NUL, and does not begin with \
             '.'; '{}' is none",
            name.escape_debug()
        );
        return Err(Error::new(Code::InvalidArgument, text).object(name));
    }
    Ok(())
}

/// Makes a snapshot of a box that does not run. The caller has locked it.
pub fn of_stopped(context: &Context, id: &str, name: &str) -> Result<Snapshot> {
    check_stopped(context, id)?;
    super::settle_box(context, id)?;
    branching::extendable_at_rest(context, id)?;
    let _disks = context.share_disks()?;
    let (stored, begun) = begin(context, id, name)?;
    let finished = begun.branch.finish(&POINTS);
    let made = finished.and_then(|()| record(context, &stored, begun.intent));
    made.map_err(|error| begun.undo(context, error))
}

/// Makes a snapshot of a box that runs. The caller has locked it.
pub async fn of_running(
    context: &Arc<Context>,
    connection: &Connection,
    id: &str,
    name: &str,
) -> Result<Snapshot> {
    let disks = context.blocking(|context| context.share_disks()).await?;
    branching::settle_running(context, connection, id).await?;
    let (box_id, named) = (id.to_owned(), name.to_owned());
    let begun = context.blocking(move |context| begin(context, &box_id, &named)).await;
    let (stored, begun) = begun?;
    let answer = begun.ask(context, connection).await?;
    let record = move |context: &Context| {
        let _disks = disks;
        answer
            .and_then(|()| record(context, &stored, begun.intent))
            .map_err(|error| begun.give_up(context, error))
    };
    context.blocking(record).await
}

/// Writes down what is about to be done, and makes what can be made while nothing has changed.
fn begin(context: &Context, id: &str, name: &str) -> Result<(Stored, Begun)> {
    if context.store.snapshot(id, name)?.is_some() {
        return Err(snapshot_exists(id, name));
    }
    let chain = branching::extendable(context, id)?;
    let path = context.home.snapshot(id, name);
    let taken = std::fs::metadata(chain.top()).map_or(0, |meta| meta.blocks() * 512);
    let stored = Stored {
        container_disk_bytes: Some(chain.virtual_size),
        size_bytes: Some(taken),
        ..Stored::new(context, Ulid::generate(), id, name, Utc::now().timestamp())
    };
    let begun = branching::begin(context, &chain, path, |files| {
        let plan = Plan { files, snapshot: stored.clone() };
        context.store.begin_intent(id, SNAPSHOT, &branching::json(&plan)?)
    });
    let begun = begun.map_err(|e| e.or_object(name))?;
    failpoint::hit(Point::SnapshotIntent);
    if let Err(error) = begun.prepare() {
        return Err(begun.undo(context, error));
    }
    failpoint::hit(Point::SnapshotOverlay);
    Ok((stored, begun))
}

impl Stored {
    fn new(context: &Context, id: Ulid, box_id: &str, name: &str, created_at: i64) -> Stored {
        Stored {
            id: id.to_string(),
            box_id: box_id.to_owned(),
            name: name.to_owned(),
            base_path: relative(context, &context.home.snapshot(box_id, name)),
            container_disk_bytes: None,
            size_bytes: None,
            created_at: created_at.into(),
            unknown: Map::new(),
        }
    }

    fn row(&self) -> Result<SnapshotRow> {
        Ok(SnapshotRow {
            id: self.id.clone(),
            box_id: self.box_id.clone(),
            name: self.name.clone(),
            created_at: self.created_at.as_i64().unwrap_or_default(),
            json: branching::json(self)?,
        })
    }
}

/// The rows of snapshots that were made elsewhere, each with its name and time, in seconds since the Unix
/// epoch, and whose files are in their places.
pub fn rows_of<'a>(
    context: &Context,
    id: &str,
    snapshots: impl Iterator<Item = (&'a str, i64)>,
) -> Result<Vec<SnapshotRow>> {
    // Those of one second are listed in the order of their ids.
    let first = Ulid::generate().0;
    let row = |(number, (name, created_at)): (usize, (&str, i64))| {
        let info = overlay::info(&context.home.snapshot(id, name))?;
        let own = Ulid(first.wrapping_add(number as u128));
        let new = Stored::new(context, own, id, name, created_at);
        Stored { container_disk_bytes: Some(info.virtual_size), ..new }.row()
    };
    snapshots.enumerate().map(row).collect()
}

/// Writes the row; with it the snapshot is there.
fn record(context: &Context, stored: &Stored, intent: i64) -> Result<Snapshot> {
    let row = stored.row()?;
    context.make_room(|| context.store.save_snapshot(&row, intent))?;
    failpoint::hit(Point::SnapshotRow);
    get(context, &row.box_id, &row.name)?
        .ok_or_else(|| Error::new(Code::Internal, "the snapshot was just made"))
}

/// Carries to its end, or undoes, what a program has begun that died. Nobody runs the box.
pub fn settle(context: &Context, intent: &Intent) -> Result<()> {
    let plan: Plan = branching::read(intent)?;
    let made = plan.files.branch(context, &intent.box_id).settle(&POINTS)?;
    conclude(context, &plan, intent, made)
}

/// The same while its machine runs, which is between two such changes.
pub fn settle_idle(context: &Context, intent: &Intent) -> Result<()> {
    let plan: Plan = branching::read(intent)?;
    let made = branching::is_there(&plan.files.branch(context, &intent.box_id))?;
    conclude(context, &plan, intent, made)
}

fn conclude(context: &Context, plan: &Plan, intent: &Intent, made: bool) -> Result<()> {
    if !made {
        return context.store.end_intent(intent.id);
    }
    record(context, &plan.snapshot, intent.id)?;
    tracing::info!("snapshot '{}' of box {} is complete", plan.snapshot.name, intent.box_id);
    Ok(())
}

/// A box's snapshots, in the order in which they were made.
pub fn list(context: &Context, id: &str) -> Result<Vec<Snapshot>> {
    let rows = context.store.snapshots(id)?;
    let files: Vec<_> = rows.iter().map(|row| file(context, row).ok()).collect();
    Ok(rows.iter().map(|row| describe(context, row, &rows, &files)).collect())
}

/// A box's snapshot by its name.
pub fn get(context: &Context, id: &str, name: &str) -> Result<Option<Snapshot>> {
    Ok(list(context, id)?.into_iter().find(|snapshot| snapshot.name == name))
}

fn describe(
    context: &Context,
    row: &SnapshotRow,
    rows: &[SnapshotRow],
    files: &[Option<PathBuf>],
) -> Snapshot {
    let path = file(context, row).ok();
    let chain = path.as_deref().and_then(|p| Chain::resolve(context.home.root(), p).ok());
    let backing = chain.as_ref().and_then(Chain::backing).map(|link| &link.path);
    let parent = backing.and_then(|b| files.iter().position(|file| file.as_ref() == Some(b)));
    let meta = path.and_then(|path| std::fs::metadata(path).ok());
    let created = DateTime::<Utc>::from_timestamp(row.created_at, 0).unwrap_or_default();
    Snapshot {
        id: row.id.clone(),
        box_id: row.box_id.clone(),
        name: row.name.clone(),
        created_at: created.to_rfc3339_opts(SecondsFormat::Secs, true),
        parent: parent.and_then(|at| rows.get(at)).map(|row| row.name.clone()),
        virtual_bytes: chain.map_or(0, |chain| chain.virtual_size),
        allocated_bytes: meta.map_or(0, |meta| meta.blocks() * 512),
    }
}

/// The files of all snapshots of the home.
pub fn named_files(context: &Context) -> Result<Vec<PathBuf>> {
    let rows = context.store.all_snapshots()?;
    Ok(rows.iter().filter_map(|row| file(context, row).ok()).collect())
}

/// A snapshot's file.
pub fn file(context: &Context, row: &SnapshotRow) -> Result<PathBuf> {
    let stored: Stored = serde_json::from_str(&row.json).map_err(|e| {
        let text =
            format!("the stored snapshot '{}' of box {} is unreadable: {e}", row.name, row.box_id);
        Error::new(Code::Metadata, text).object(&*row.name)
    })?;
    Ok(context.home.root().join(stored.base_path))
}

/// A box's snapshot, which must be there.
pub fn expect(context: &Context, id: &str, name: &str) -> Result<(SnapshotRow, PathBuf)> {
    let row = context.store.snapshot(id, name)?.ok_or_else(|| {
        let text = format!("box {id} has no snapshot '{}'", name.escape_debug());
        Error::new(Code::NotFound, text).object(name)
    })?;
    let path = file(context, &row)?;
    // The rows' words are not the files'.
    overlay::info(&path).map_err(|e| e.or_object(name))?;
    Ok((row, path))
}
