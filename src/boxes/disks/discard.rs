//! A snapshot goes, and files that nobody needs any more.
//!
//! A file that is on no snapshot's row is needed as long as another file is on it. When the last of those
//! goes it goes too, and then perhaps what it was on.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::super::context::Context;
use super::branching::{self, relative};
use super::snapshot;
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

/// Removes a snapshot on whose file nothing is (any more). The caller has locked the box.
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
    let plan = branching::json(&Plan { file: relative(context, &path) })?;
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

/// Does away with all files of a box that is no more, but for those that disks of others are on.
pub fn of_box(context: &Context, id: &str) -> Result<()> {
    let directory = context.home.of_box(id);
    let below = what_it_is_on(context, id);
    let snapshots = directory.join("snapshots");
    // Most boxes share nothing with anybody, and wait for nobody.
    if below.is_empty() && entries(&snapshots)?.is_empty() {
        return remove_all(&directory);
    }
    let _disks = context.take_disks()?;
    let graph = Graph::read(context.home.root())?;
    let kept = graph.needed_by_others(&directory, &claimed(context, &graph, &directory)?);
    let goes = |user: &Path| user.starts_with(&directory) && !kept.iter().any(|kept| kept == user);
    for path in &below {
        remove_each(context, &unneeded(context, &graph, path, goes)?)?;
    }
    if kept.is_empty() {
        return remove_all(&directory);
    }
    let is_kept = |path: &Path| kept.iter().any(|file| file.starts_with(path));
    for path in entries(&directory)?.into_iter().chain(entries(&snapshots)?) {
        if !is_kept(&path) {
            remove_all(&path)?;
        }
    }
    sync_directory(&snapshots)?;
    sync_directory(&directory)?;
    tracing::info!("other boxes' disks are on {} files of box {id}: they stay", kept.len());
    Ok(())
}

/// The files of a directory that others are on as the rows say, if that cannot be read from all files: one
/// that is damaged, or on a disk that fails, may be mended.
fn claimed(context: &Context, graph: &Graph, directory: &Path) -> Result<Vec<PathBuf>> {
    if !graph.is_unsure_of_others(directory) {
        return Ok(Vec::new());
    }
    let files = context.store.bases()?.into_iter().map(|base| context.home.root().join(base.path));
    Ok(files.filter(|path| path.starts_with(directory) && path.exists()).collect())
}

/// The files outside of a box's directory that its own are on, but for images.
fn what_it_is_on(context: &Context, id: &str) -> Vec<PathBuf> {
    let directory = context.home.of_box(id);
    let snapshots = entries(&directory.join("snapshots")).unwrap_or_default();
    let own = snapshots.into_iter().map(|path| path.join("disk.qcow2"));
    let files = std::iter::once(context.home.disk(id)).chain(own);
    let mut found: Vec<PathBuf> = files.filter_map(|path| backing(&path)).collect();
    found.retain(|path| !path.starts_with(&directory) && is_ours(context, path));
    found.sort();
    found.dedup();
    found
}

/// What a file is on, if that can be read.
fn backing(path: &Path) -> Option<PathBuf> {
    let named = overlay::info(path).ok()?.backing_path?;
    path.parent()?.join(named).canonicalize().ok()
}

/// Removes whatever there is.
pub fn remove_all(path: &Path) -> Result<()> {
    let removed = match path.symlink_metadata() {
        Ok(meta) if meta.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(e) => Err(e),
    };
    match removed {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io(Code::Storage, format!("remove {}", path.display()), &e))
        }
        _ => Ok(()),
    }
}

pub fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    match std::fs::read_dir(directory) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read
            .and_then(|entries| entries.map(|e| e.map(|e| e.path())).collect())
            .map_err(|e| Error::io(Code::Storage, format!("list {}", directory.display()), &e)),
    }
}

/// Does away with a file if nobody needs it, and with those that only it needed. The caller has the home's
/// disks alone.
pub fn collect(context: &Context, path: &Path) -> Result<()> {
    let graph = Graph::read(context.home.root())?;
    remove_each(context, &unneeded(context, &graph, path, |_| false)?)
}

/// The files that nobody needs when those are gone which `goes` tells: this one, what it is on, and so
/// on.
fn unneeded(
    context: &Context,
    graph: &Graph,
    path: &Path,
    goes: impl Fn(&Path) -> bool,
) -> Result<Vec<PathBuf>> {
    let named = snapshot::named_files(context)?;
    let mut found: Vec<PathBuf> = Vec::new();
    let mut next = Some(path);
    while let Some(path) = next {
        // Images have ways of their own to come and go.
        let stays = !is_ours(context, path) || named.iter().any(|named| named == path);
        let is_gone = |user: &&Path| goes(user) || found.iter().any(|known| known == user);
        if stays || !graph.dependents(path).iter().all(is_gone) {
            break;
        }
        found.push(path.to_owned());
        next = graph.backing(path);
    }
    Ok(found)
}

/// Removes files of which each is on the next. The last goes first, and before each its row: whoever is
/// killed in between finds what is left by the first, as before.
fn remove_each(context: &Context, files: &[PathBuf]) -> Result<()> {
    for path in files.iter().rev() {
        context.make_room(|| context.store.delete_base(&relative(context, path)))?;
        remove(context, path)?;
        failpoint::hit(Point::DiscardFile);
    }
    Ok(())
}

/// Whether a file is one that snapshots or clones have made.
pub fn is_ours(context: &Context, path: &Path) -> bool {
    let inside = path.strip_prefix(context.home.root()).unwrap_or(path);
    let parts: Vec<_> = inside.iter().map(|part| part.to_str().unwrap_or("")).collect();
    matches!(parts[..], ["boxes", _, "snapshots", _, "disk.qcow2"] | ["bases", _])
}

/// Removes a file, and the directories that were for it alone.
pub fn remove(context: &Context, path: &Path) -> Result<()> {
    remove_all(path)?;
    let Some(directory) = path.parent().filter(|directory| directory.exists()) else {
        return Ok(());
    };
    sync_directory(directory)?;
    let snapshots = directory.parent().unwrap_or(directory);
    if snapshots.file_name() != Some("snapshots".as_ref()) {
        return Ok(());
    }
    match std::fs::remove_dir(directory) {
        Err(e) if e.kind() == ErrorKind::DirectoryNotEmpty => return Ok(()),
        Err(e) if e.kind() != ErrorKind::NotFound => {
            return Err(Error::io(Code::Storage, format!("remove {}", directory.display()), &e));
        }
        _ => sync_directory(snapshots)?,
    }
    // Of a box that was removed before this file was.
    let owner = snapshots.parent().unwrap_or(snapshots);
    let id = owner.file_name().unwrap_or_default().to_string_lossy();
    if context.store.load(&id)?.is_none() && std::fs::remove_dir(snapshots).is_ok() {
        // One with anything else in it is reported when the home is opened.
        let _ = std::fs::remove_dir(owner);
        sync_directory(&context.home.boxes())?;
    }
    Ok(())
}

/// Ends what a program has begun that died.
pub fn settle(context: &Context, intent: &Intent) -> Result<()> {
    let plan: Plan = branching::read(intent)?;
    let _disks = context.take_disks()?;
    collect(context, &context.home.root().join(&plan.file))?;
    context.store.end_intent(intent.id)
}
