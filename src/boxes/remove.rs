//! The end of a box's files and rows, wanted or after somebody's death.
//!
//! To make a box and to remove one takes several steps, so each is an intent first. Whoever does it
//! holds the box's lock; an intent whose box nobody has locked is that of a program that died.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::context::Context;
use super::disks::{self, discard};
use super::events::What;
use crate::disk::durable::sync_directory;
use crate::error::{Code, Error, Result};
use crate::failpoint::{self, Point};
use crate::home::Home;
use crate::image::DiskCache;
use crate::store::Intent;
use crate::supervisor::socket::PidFile;

/// What is being done, as intents name it.
pub const CREATE: &str = "create";
const REMOVE: &str = "remove";

/// How often it is looked whether a supervisor that somebody else started is still there. A lock can be
/// waited for only by a thread that does nothing else.
pub const GLANCE: Duration = Duration::from_millis(20);

/// For a box that has no row.
pub fn not_found(id: &str) -> Error {
    Error::new(Code::NotFound, format!("there is no box {id}")).object(id)
}

/// Whether a supervisor, of whatever program, serves the box.
pub fn is_supervised(box_dir: &Path) -> Result<bool> {
    let holder = PidFile::holder(box_dir);
    holder
        .map(|h| h.is_some())
        .map_err(|e| Error::io(Code::Storage, format!("examine {}", box_dir.display()), &e))
}

/// Waits until a supervisor has let go of its box, up to a limit; false if it does not.
pub async fn released(context: &Arc<Context>, box_dir: &Path, limit: Duration) -> bool {
    let gone = async {
        loop {
            let box_dir = box_dir.to_owned();
            match context.blocking(move |_| is_supervised(&box_dir)).await {
                Ok(true) => tokio::time::sleep(GLANCE).await,
                _ => return,
            }
        }
    };
    tokio::time::timeout(limit, gone).await.is_ok()
}

/// Removes a box's rows and files. With its rows it is gone; that its files go too is certain then,
/// though it may be the next program that opens the home which does it.
pub fn remove(context: &Context, id: &str) -> Result<()> {
    let _lock = context.lock_box(id)?;
    failpoint::hit(Point::RemoveLocked);
    let (row, _) = context.store.load(id)?.ok_or_else(|| not_found(id))?;
    if is_supervised(&context.home.of_box(id))? {
        let text = "its machine is still ending: try again";
        return Err(Error::new(Code::Busy, text).object(id));
    }
    let deleted = context.make_room(|| context.store.delete(id, REMOVE))?;
    let intent = deleted.ok_or_else(|| not_found(id))?;
    context.tell(id, row.name.as_deref(), What::BoxRemoved);
    failpoint::hit(Point::RemoveRows);
    if let Err(error) = finish(context, id, intent) {
        tracing::warn!("box {id} is removed, but not all of its files yet: {error}");
    }
    context.home.take_ballast();
    Ok(())
}

/// Does away with the files of a box without rows, and then with the intent; but for those that other
/// boxes' disks are on, which go with the last of these. Its lock's file goes last: as long as that is
/// there, whoever makes a box of this id waits.
pub fn finish(context: &Context, id: &str, intent: i64) -> Result<()> {
    discard::of_box(context, id).map_err(|e| e.or_object(id))?;
    end(context, id, intent)
}

/// The same for a box that was just made, and nothing but its directory; what its disk is on stays, as
/// others need it. The caller may share the lock of the home's disks.
pub fn unmake(context: &Context, id: &str, intent: i64) -> Result<()> {
    discard::remove_all(&context.home.of_box(id)).map_err(|e| e.or_object(id))?;
    end(context, id, intent)
}

fn end(context: &Context, id: &str, intent: i64) -> Result<()> {
    failpoint::hit(Point::RemoveFiles);
    sync_directory(&context.home.boxes())?;
    failpoint::hit(Point::RemoveSynced);
    context.store.end_intent(intent)?;
    failpoint::hit(Point::RemoveIntent);
    let _ = std::fs::remove_file(context.home.box_lock(id));
    Ok(())
}

/// Carries to its end, or undoes, what programs were doing when they died, and does away with what they
/// left; and tells of directories that belong to no box.
pub fn recover(context: &Context) -> Result<()> {
    if !failpoint::recovers() {
        return Ok(());
    }
    for found in context.store.intents()? {
        let Intent { id: intent, box_id, kind, .. } = found.clone();
        // Somebody is at it.
        let Ok(_lock) = context.try_lock_box(&box_id) else { continue };
        if disks::is_ours(&found) {
            settle_disk(context, &found);
        // Of a box that has its rows nothing is removed, whatever was intended.
        } else if context.store.load(&box_id)?.is_some() {
            context.store.end_intent(intent)?;
        } else if let Err(error) = finish(context, &box_id, intent) {
            tracing::warn!("what is left of box {box_id} ({kind}) cannot be removed: {error}");
        }
    }
    sweep_locks(context)?;
    let home = &context.home;
    if let Err(error) = DiskCache::new(home.images(), home.locks()).sweep() {
        tracing::warn!("what is left of an image's disk cannot be removed: {error}");
    }
    report_strangers(context)
}

/// Ends a change of a box's disk. That of a machine which runs is left to who changes it next: only its
/// supervisor knows what has become of it.
fn settle_disk(context: &Context, intent: &Intent) {
    let id = &intent.box_id;
    let settled = is_supervised(&context.home.of_box(id))
        .and_then(|runs| if runs { Ok(()) } else { disks::settle(context, intent) });
    if let Err(error) = settled {
        tracing::warn!("box {id}: what was under way with its disk ({}): {error}", intent.kind);
    }
}

/// Locks of boxes that are no more, or that never came to be.
fn sweep_locks(context: &Context) -> Result<()> {
    let found = names(&context.home.locks())?;
    let known = context.store.known_ids()?;
    let ids = found.iter().filter_map(|name| Home::box_of_lock(name));
    for id in ids.filter(|id| !known.contains(*id)) {
        // Else somebody begins to make it.
        if let Ok(_lock) = context.try_lock_box(id) {
            let _ = std::fs::remove_file(context.home.box_lock(id));
        }
    }
    Ok(())
}

fn names(directory: &Path) -> Result<Vec<OsString>> {
    std::fs::read_dir(directory)
        .and_then(|entries| entries.map(|e| e.map(|e| e.file_name())).collect())
        .map_err(|e| Error::io(Code::Storage, format!("list {}", directory.display()), &e))
}

/// Directories without a row are somebody's data: they are left alone.
fn report_strangers(context: &Context) -> Result<()> {
    let boxes = context.home.boxes();
    // What there is first: a box that is made meanwhile then is known.
    let found = names(&boxes)?;
    let mut known = context.store.known_ids()?;
    // What is left of a removed box because others are on it.
    let bases = context.store.bases()?;
    let kept = bases.iter().filter_map(|base| base.path.strip_prefix("boxes/")?.split('/').next());
    known.extend(kept.map(str::to_owned));
    for name in found.iter().filter(|name| name.to_str().is_none_or(|id| !known.contains(id))) {
        let directory = boxes.join(name);
        let supervisor = PidFile::holder(&directory).ok().flatten();
        let runs = supervisor.map(|pid| format!(" (a machine runs there, under process {pid})"));
        let runs = runs.unwrap_or_default();
        tracing::warn!("{} belongs to no box{runs}, and is left alone", directory.display());
    }
    Ok(())
}
