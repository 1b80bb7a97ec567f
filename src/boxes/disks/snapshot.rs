//! A snapshot: what the disk is at one moment, kept under a name.
//!
//! The disk's file gets the snapshot's name and never changes again; the disk goes on in an overlay on it.
//! Nothing is copied. Of a box that runs, the guest's file system is frozen for that moment, and its
//! supervisor does what is done with files.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use boxlite_protocol::message;
use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::super::context::Context;
use super::{SNAPSHOT, check_stopped};
use crate::channel::client::Connection;
use crate::disk::branch::{Branch, Points};
use crate::disk::chain::{Chain, Link, MAX_LINKS};
use crate::disk::overlay::{self, DiskFormat};
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

/// What an intent says: the snapshot, and what its disk is on.
#[derive(Debug, Serialize, Deserialize)]
struct Plan {
    snapshot: Stored,
    backing: Option<Backing>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Backing {
    /// Relative to the home.
    path: String,
    format: DiskFormat,
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
    let _disks = context.share_disks()?;
    let (plan, branch, intent) = begin(context, id, name)?;
    let done = branch.finish(&POINTS).and_then(|()| record(context, &plan, intent));
    match done {
        Ok(snapshot) => Ok(snapshot),
        Err(error) => Err(undo(context, &branch, intent, error)),
    }
}

/// Makes a snapshot of a box that runs. The caller has locked it.
pub async fn of_running(
    context: &Arc<Context>,
    connection: &Connection,
    id: &str,
    name: &str,
) -> Result<Snapshot> {
    let disks = context.blocking(|context| context.share_disks()).await?;
    finish_running(context, connection, id).await?;
    let (box_id, named) = (id.to_owned(), name.to_owned());
    let begun = context.blocking(move |context| begin(context, &box_id, &named)).await;
    let (plan, branch, intent) = begun?;
    let relative = |path: &Path| relative(context, path);
    let asked = message::Branch {
        overlay: relative(&branch.overlay),
        frozen: relative(&branch.frozen),
        only_finish: false,
    };
    let answer = connection.branch(asked).await.map_err(|error| {
        error.context("whether the snapshot was made is found out when the box's disk is used next")
    })?;
    let done = move |context: &Context| {
        let _disks = disks;
        answer
            .and_then(|()| record(context, &plan, intent))
            .map_err(|error| give_up(context, &branch, intent, error))
    };
    context.blocking(done).await
}

/// Settles what is under way with the disk of a box that runs: its supervisor alone knows.
async fn finish_running(context: &Arc<Context>, connection: &Connection, id: &str) -> Result<()> {
    let intents = context.blocking(|context| context.store.intents()).await?;
    for intent in intents.into_iter().filter(|i| i.box_id == id && i.kind == SNAPSHOT) {
        let only_finish = message::Branch { only_finish: true, ..message::Branch::default() };
        connection.branch(only_finish).await??;
        context.blocking(move |context| settle_idle(context, &intent)).await?;
    }
    Ok(())
}

/// Writes down what is about to be done, and makes what can be made while nothing has changed.
fn begin(context: &Context, id: &str, name: &str) -> Result<(Plan, Branch, i64)> {
    if context.store.snapshot(id, name)?.is_some() {
        return Err(snapshot_exists(id, name));
    }
    let chain =
        Chain::resolve(context.home.root(), &context.home.disk(id)).map_err(|e| e.or_object(id))?;
    if chain.links.len() >= MAX_LINKS {
        let text = format!(
            "the box's disk consists of {} files already, and {MAX_LINKS} are the most: remove snapshots \
             that are not needed",
            chain.links.len()
        );
        return Err(Error::new(Code::ResourceExhausted, text).object(id));
    }
    let frozen = context.home.snapshot(id, name);
    let branch = Branch::new(&chain, frozen);
    if branch.is_begun()? {
        let path = branch.frozen.display();
        let text =
            format!("{path} is there, and belongs to no snapshot: look at it, and move it away");
        return Err(Error::new(Code::AlreadyExists, text).object(name));
    }
    let taken = std::fs::metadata(chain.top()).map_or(0, |meta| meta.blocks() * 512);
    let plan = Plan {
        snapshot: Stored {
            id: ulid::Ulid::generate().to_string(),
            box_id: id.to_owned(),
            name: name.to_owned(),
            base_path: relative(context, &branch.frozen),
            container_disk_bytes: Some(chain.virtual_size),
            size_bytes: Some(taken),
            created_at: Utc::now().timestamp().into(),
            unknown: Map::new(),
        },
        backing: branch
            .backing
            .as_ref()
            .map(|link| Backing { path: relative(context, &link.path), format: link.format }),
    };
    let json = json(&plan)?;
    let intent = context.store.begin_intent(id, SNAPSHOT, &json)?;
    failpoint::hit(Point::SnapshotIntent);
    match branch.prepare(chain.virtual_size) {
        Ok(()) => {
            failpoint::hit(Point::SnapshotOverlay);
            Ok((plan, branch, intent))
        }
        Err(error) => Err(undo(context, &branch, intent, error)),
    }
}

/// Writes the row; with it the snapshot is there.
fn record(context: &Context, plan: &Plan, intent: i64) -> Result<Snapshot> {
    let stored = &plan.snapshot;
    let row = SnapshotRow {
        id: stored.id.clone(),
        box_id: stored.box_id.clone(),
        name: stored.name.clone(),
        created_at: stored.created_at.as_i64().unwrap_or_default(),
        json: json(stored)?,
    };
    context.make_room(|| context.store.save_snapshot(&row, intent))?;
    failpoint::hit(Point::SnapshotRow);
    get(context, &row.box_id, &row.name)?
        .ok_or_else(|| Error::new(Code::Internal, "the snapshot was just made"))
}

/// Has all be as it was, for a reason. What cannot be undone now is settled before the box is used again.
fn undo(context: &Context, branch: &Branch, intent: i64, reason: Error) -> Error {
    match branch.undo().and_then(|()| context.store.end_intent(intent)) {
        Ok(()) => {}
        Err(error) => tracing::warn!("a snapshot that was not made is not undone yet: {error}"),
    }
    reason
}

/// The same for a box that runs: if its machine has gone over to the overlay, the snapshot is left to be
/// settled.
fn give_up(context: &Context, branch: &Branch, intent: i64, reason: Error) -> Error {
    match branch.is_begun() {
        Ok(false) => undo(context, branch, intent, reason),
        _ => {
            reason.context("the snapshot is there, and is listed when the box's disk is used next")
        }
    }
}

/// Carries to its end, or undoes, what a program has begun that died. Nobody runs the box.
pub fn settle(context: &Context, intent: &Intent) -> Result<bool> {
    let (plan, branch) = read(context, intent)?;
    let made = branch.settle(&POINTS)?;
    conclude(context, &plan, intent, made)
}

/// The same while its machine runs, which is between two such changes.
fn settle_idle(context: &Context, intent: &Intent) -> Result<()> {
    let (plan, branch) = read(context, intent)?;
    let made = branch.is_begun()?;
    if !made {
        branch.undo()?;
    }
    conclude(context, &plan, intent, made).map(drop)
}

fn conclude(context: &Context, plan: &Plan, intent: &Intent, made: bool) -> Result<bool> {
    if !made {
        context.store.end_intent(intent.id)?;
        return Ok(false);
    }
    record(context, plan, intent.id)?;
    tracing::info!("snapshot '{}' of box {} is complete", plan.snapshot.name, intent.box_id);
    Ok(true)
}

fn read(context: &Context, intent: &Intent) -> Result<(Plan, Branch)> {
    let plan: Plan = serde_json::from_str(&intent.json).map_err(|e| unreadable(intent, &e))?;
    let disk = context.home.disk(&intent.box_id);
    let branch = Branch {
        overlay: crate::disk::branch::overlay_beside(&disk),
        disk,
        frozen: context.home.root().join(&plan.snapshot.base_path),
        backing: plan.backing.as_ref().map(|backing| Link {
            path: context.home.root().join(&backing.path),
            format: backing.format,
        }),
    };
    Ok((plan, branch))
}

/// That an intent is not what this version understands.
pub fn unreadable(intent: &Intent, why: &dyn std::fmt::Display) -> Error {
    let text =
        format!("what is under way with the disk of box {} is unreadable: {why}", intent.box_id);
    Error::new(Code::Metadata, text).object(&*intent.box_id)
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

/// A snapshot's file.
pub fn file(context: &Context, row: &SnapshotRow) -> Result<PathBuf> {
    let stored: Stored = serde_json::from_str(&row.json).map_err(|e| {
        let text =
            format!("the stored snapshot '{}' of box {} is unreadable: {e}", row.name, row.box_id);
        Error::new(Code::Metadata, text).object(&*row.name)
    })?;
    Ok(context.home.root().join(stored.base_path))
}

/// A path of the home as rows and messages have it.
pub fn relative(context: &Context, path: &Path) -> String {
    let inside = path.strip_prefix(context.home.root()).unwrap_or(path);
    inside.to_string_lossy().into_owned()
}

pub fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value)
        .map_err(|e| Error::new(Code::Internal, format!("describe a snapshot: {e}")))
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
