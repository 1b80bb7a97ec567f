//! A disk becomes larger. The guest's file system grows with it when the box is started next.

use super::super::context::Context;
use super::super::state::BoxState;
use super::{GROW, check_stopped};
use crate::disk::branch::overlay_beside;
use crate::disk::chain::{Chain, named_from};
use crate::disk::durable::{remove_leftovers, sync_directory};
use crate::disk::{grow, overlay};
use crate::error::{Code, Error, Result};
use crate::failpoint::{self, Point};
use crate::store::{Intent, StateRow};

const MIB: u64 = 1 << 20;

/// Has a box's disk be larger. The caller has locked the box, which does not run.
pub fn grow(context: &Context, id: &str, size_mib: u64) -> Result<()> {
    check_stopped(context, id)?;
    super::settle_box(context, id)?;
    let chain = Chain::resolve(context.home.root(), &context.home.disk(id));
    let chain = chain.map_err(|e| e.or_object(id))?;
    let now = chain.virtual_size;
    if size_mib.saturating_mul(MIB) <= now {
        let text = format!(
            "size_mib: the disk of box {id} has {} MiB already, and cannot be made smaller",
            now / MIB
        );
        return Err(Error::new(Code::InvalidArgument, text).object("size_mib"));
    }
    let intent = context.store.begin_intent(id, GROW, "{}")?;
    failpoint::hit(Point::GrowIntent);
    // Whatever comes between, the file says which size is true.
    let changed = note(context, id, size_mib)
        .inspect(|()| failpoint::hit(Point::GrowRow))
        .and_then(|()| enlarge(&chain, size_mib * MIB));
    failpoint::hit(Point::GrowFile);
    let undone = match &changed {
        Ok(()) => Ok(()),
        Err(_) => note(context, id, now.div_ceil(MIB)),
    };
    if let Err(error) = undone.and_then(|()| context.store.end_intent(intent)) {
        tracing::warn!("the size of the disk of box {id} is not noted for good yet: {error}");
    }
    changed.map_err(|e| e.or_object(id))
}

fn enlarge(chain: &Chain, size: u64) -> Result<()> {
    let disk = chain.top();
    match (grow::grow(disk, size), chain.backing()) {
        // One with nothing in it is made anew, with a table of any size.
        (Err(error), Some(link))
            if error.code() == Code::Unsupported && overlay::is_empty_on(disk, link.format)? =>
        {
            let overlay = overlay_beside(disk);
            remove_leftovers(&overlay)?;
            overlay::create(&overlay, &named_from(disk, &link.path), link.format, size)?;
            std::fs::rename(&overlay, disk)
                .map_err(|e| Error::io(Code::Storage, format!("replace {}", disk.display()), &e))?;
            sync_directory(disk.parent().unwrap_or(disk))
        }
        (grown, _) => grown,
    }
}

fn note(context: &Context, id: &str, size_mib: u64) -> Result<()> {
    let set = |row: &StateRow| {
        let state = BoxState { disk_size_mib: Some(size_mib), ..BoxState::from_row(row)? };
        state.to_row(id).map(Some)
    };
    context.store.change_state(id, set).map(drop)
}

/// Ends what a program has begun that died.
pub fn settle(context: &Context, intent: &Intent) -> Result<()> {
    let disk = context.home.disk(&intent.box_id);
    let overlay = overlay_beside(&disk);
    remove_leftovers(&overlay)?;
    if overlay.exists() {
        std::fs::remove_file(&overlay)
            .map_err(|e| Error::io(Code::Storage, format!("remove {}", overlay.display()), &e))?;
    }
    let size = overlay::info(&disk)?.virtual_size;
    note(context, &intent.box_id, size.div_ceil(MIB))?;
    context.store.end_intent(intent.id)
}
