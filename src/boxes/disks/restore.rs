//! A disk goes back to a snapshot.
//!
//! An empty overlay on the snapshot's file takes the disk's place, in one step, and the old disk goes with
//! that. Nothing is copied, and the snapshot stays.

use super::super::context::Context;
use super::{RESTORE, check_stopped, discard, snapshot};
use crate::disk::branch::overlay_beside;
use crate::disk::chain::{Chain, named_from};
use crate::disk::durable::{remove_leftovers, sync_directory};
use crate::disk::overlay::{self, DiskFormat};
use crate::error::{Code, Error, Result};
use crate::failpoint::{self, Point};
use crate::store::Intent;

/// Has a box's disk be what it was in a snapshot. The caller has locked the box, which does not run.
pub fn restore(context: &Context, id: &str, name: &str) -> Result<()> {
    check_stopped(context, id)?;
    super::settle_box(context, id)?;
    // What only the old disk needed goes.
    let _disks = context.take_disks()?;
    let (_, frozen) = snapshot::expect(context, id, name)?;
    let root = context.home.root();
    let new = Chain::resolve(root, &frozen).map_err(|e| e.or_object(name))?;
    let disk = context.home.disk(id);
    // One that is broken is a reason to go back.
    let old = Chain::resolve(root, &disk).ok();
    let intent = context.store.begin_intent(id, RESTORE, "{}")?;
    failpoint::hit(Point::RestoreIntent);
    let overlay = overlay_beside(&disk);
    let named = named_from(&overlay, &frozen);
    // What has been made larger stays so.
    let size = old.as_ref().map_or(0, |old| old.virtual_size).max(new.virtual_size);
    let placed = overlay::create(&overlay, &named, DiskFormat::Qcow2, size).and_then(|()| {
        failpoint::hit(Point::RestoreOverlay);
        std::fs::rename(&overlay, &disk)
            .map_err(|e| Error::io(Code::Storage, format!("replace {}", disk.display()), &e))
    });
    if let Err(error) = placed {
        if let Err(other) = undo(context, id, intent) {
            tracing::warn!("a snapshot was not restored, and that is not undone yet: {other}");
        }
        return Err(error.or_object(id));
    }
    failpoint::hit(Point::RestorePlaced);
    sync_directory(disk.parent().unwrap_or(&disk))?;
    if let Some(link) = old.as_ref().and_then(Chain::backing)
        && let Err(error) = discard::collect(context, &link.path)
    {
        tracing::warn!("what only the old disk of box {id} needed is not removed: {error}");
    }
    context.store.end_intent(intent)?;
    failpoint::hit(Point::RestoreEnded);
    Ok(())
}

/// Undoes a restore that has not come to its one step; after that there is nothing to do.
pub fn settle(context: &Context, intent: &Intent) -> Result<()> {
    undo(context, &intent.box_id, intent.id)
}

fn undo(context: &Context, id: &str, intent: i64) -> Result<()> {
    let overlay = overlay_beside(&context.home.disk(id));
    remove_leftovers(&overlay)?;
    match std::fs::remove_file(&overlay) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::io(Code::Storage, format!("remove {}", overlay.display()), &e));
        }
        _ => sync_directory(overlay.parent().unwrap_or(&overlay))?,
    }
    context.store.end_intent(intent)
}
