//! A disk becomes larger. The guest's file system grows with it when the box is started next.

use serde::{Deserialize, Serialize};

use super::super::context::Context;
use super::super::state::BoxState;
use super::{GROW, branching, check_stopped};
use crate::disk::branch::overlay_beside;
use crate::disk::chain::{Chain, named_from};
use crate::disk::durable::{remove_leftovers, sync_directory};
use crate::disk::overlay;
use crate::error::{Code, Error, Result};
use crate::failpoint::{self, Point};
use crate::store::Intent;

const MIB: u64 = 1 << 20;

/// What an intent says.
#[derive(Serialize, Deserialize)]
struct Plan {
    size_mib: u64,
}

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
    let intent = context.store.begin_intent(id, GROW, &branching::json(&Plan { size_mib })?)?;
    failpoint::hit(Point::GrowIntent);
    if let Err(error) = enlarge(&chain, size_mib * MIB) {
        if let Err(other) = context.store.end_intent(intent) {
            tracing::warn!("a disk was not made larger, and that is not noted yet: {other}");
        }
        return Err(error.or_object(id));
    }
    failpoint::hit(Point::GrowFile);
    note(context, id, size_mib, intent)?;
    failpoint::hit(Point::GrowRow);
    Ok(())
}

fn enlarge(chain: &Chain, size: u64) -> Result<()> {
    let disk = chain.top();
    match (overlay::grow(disk, size), chain.backing()) {
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

fn note(context: &Context, id: &str, size_mib: u64, intent: i64) -> Result<()> {
    let set = |row: &crate::store::StateRow| {
        let state = BoxState { disk_size_mib: Some(size_mib), ..BoxState::from_row(row)? };
        state.to_row(id).map(Some)
    };
    context.make_room(|| context.store.change_state(id, set).map(drop))?;
    context.store.end_intent(intent)
}

/// Ends what a program has begun that died.
pub fn settle(context: &Context, intent: &Intent) -> Result<()> {
    let plan: Plan = branching::read(intent)?;
    let disk = context.home.disk(&intent.box_id);
    let overlay = overlay_beside(&disk);
    remove_leftovers(&overlay)?;
    if overlay.exists() {
        std::fs::remove_file(&overlay)
            .map_err(|e| Error::io(Code::Storage, format!("remove {}", overlay.display()), &e))?;
    }
    let info = overlay::info(&disk)?;
    if info.virtual_size == plan.size_mib.saturating_mul(MIB) {
        return note(context, &intent.box_id, plan.size_mib, intent.id);
    }
    context.store.end_intent(intent.id)
}
