//! A snapshot goes, and files that nobody needs any more.
//!
//! A file that is on no snapshot's row is needed as long as another file is on it. When the last of those
//! goes it goes too, and then perhaps what it was on.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::super::context::Context;
use super::snapshot::{self, relative, unreadable};
use super::{DISCARD, check_stopped};
use crate::disk::durable::sync_directory;
use crate::disk::graph::Graph;
use crate::disk::overlay;
use crate::error::{Code, Error, Result};
use crate::failpoint::{self, Point};
use crate::store::Intent;

/// What an intent says.
#[derive(Serialize, Deserialize)]
struct Plan {
    /// The file, relative to the home.
    file: String,
}

/// Removes a snapshot on whose file nothing is. The caller has locked the box.
pub fn snapshot(context: &Context, id: &str, name: &str, runs: bool) -> Result<()> {
    if !runs {
        check_stopped(context, id)?;
        super::settle_box(context, id)?;
    }
    let _disks = context.take_disks()?;
    let row = context.store.snapshot(id, name)?.ok_or_else(|| {
        let text = format!("box {id} has no snapshot '{}'", name.escape_debug());
        Error::new(Code::NotFound, text).object(name)
    })?;
    let path = snapshot::file(context, &row)?;
    let root = context.home.root();
    let graph = Graph::read(root)?;
    let dependents = graph.dependents(&path);
    if !dependents.is_empty() {
        let paths: Vec<String> = dependents.iter().map(|path| relative(context, path)).collect();
        let text =
            format!("snapshot '{name}' of box {id} is what {} is based on", paths.join(", "));
        return Err(Error::new(Code::InvalidState, text).object(name));
    }
    let plan = snapshot::json(&Plan { file: relative(context, &path) })?;
    let delete = || context.store.delete_snapshot(&row.id, (id, DISCARD, &plan));
    let Some(intent) = context.make_room(delete)? else { return Ok(()) };
    failpoint::hit(Point::DiscardRow);
    if let Err(error) = collect(context, &path).and_then(|()| context.store.end_intent(intent)) {
        tracing::warn!("snapshot '{name}' of box {id} is removed, but not its file yet: {error}");
    }
    failpoint::hit(Point::DiscardEnded);
    context.home.take_ballast();
    Ok(())
}

/// Does away with a file if nobody needs it, and then with those that only it needed. The caller has the
/// home's disks alone.
pub fn collect(context: &Context, path: &Path) -> Result<()> {
    let named: Vec<PathBuf> = context
        .store
        .all_snapshots()?
        .iter()
        .filter_map(|row| snapshot::file(context, row).ok())
        .collect();
    let mut next = Some(path.to_owned());
    while let Some(path) = next.take() {
        // Images have ways of their own to come and go.
        if !is_ours(context, &path) || named.contains(&path) || !path.exists() {
            break;
        }
        if !Graph::read(context.home.root())?.dependents(&path).is_empty() {
            break;
        }
        next = overlay::info(&path)
            .ok()
            .and_then(|info| path.parent()?.join(info.backing_path?).canonicalize().ok());
        remove(&path)?;
        failpoint::hit(Point::DiscardFile);
    }
    Ok(())
}

/// Whether a file is one that snapshots or clones have made.
fn is_ours(context: &Context, path: &Path) -> bool {
    let inside = path.strip_prefix(context.home.root()).unwrap_or(path);
    let parts: Vec<_> = inside.iter().map(|part| part.to_str().unwrap_or("")).collect();
    matches!(parts[..], ["boxes", _, "snapshots", _, "disk.qcow2"] | ["bases", _])
}

/// Removes a file, and its directory if that was for it alone.
fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::io(Code::Storage, format!("remove {}", path.display()), &e));
        }
        _ => {}
    }
    let Some(directory) = path.parent() else { return Ok(()) };
    sync_directory(directory)?;
    let alone = directory.parent().and_then(Path::file_name) == Some("snapshots".as_ref());
    if alone && std::fs::remove_dir(directory).is_ok() {
        sync_directory(directory.parent().unwrap_or(directory))?;
    }
    Ok(())
}

/// Ends what a program has begun that died.
pub fn settle(context: &Context, intent: &Intent) -> Result<()> {
    let plan: Plan = serde_json::from_str(&intent.json).map_err(|e| unreadable(intent, &e))?;
    let _disks = context.take_disks()?;
    collect(context, &context.home.root().join(&plan.file))?;
    context.store.end_intent(intent.id)
}
