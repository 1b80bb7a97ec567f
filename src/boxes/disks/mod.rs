//! A box's disk, its snapshots, and what changes them.
//!
//! A disk is a chain of files: an overlay that is written to, on files that never change again, on an
//! image's disk. What is behind a disk keeps its name for as long as it is there. Rows say which of these
//! files have a meaning to somebody; which file is on which only the files themselves say.
//!
//! Each change is an intent first. Whoever makes one holds the box's lock, and that of the home's disks:
//! shared to add to what is there, alone to take something away.
//!
//! - [`branching`]: a disk goes on in another file
//! - [`clone`]: boxes that begin with what another's disk was
//! - [`snapshot`]: what a snapshot is, and how one is made
//! - [`restore`]: a disk goes back to a snapshot
//! - [`merge`]: a file that something is on goes, and its data stay
//! - [`discard`]: a snapshot goes, and files that nobody needs
//! - [`grow`]: a disk becomes larger
//! - [`space`]: what files there are, and what they take

pub mod branching;
pub mod clone;
pub mod discard;
pub mod grow;
pub mod merge;
pub mod restore;
pub mod snapshot;
pub mod space;

use super::context::Context;
use super::remove::is_supervised;
use crate::error::{Code, Error, Result};
use crate::store::Intent;

/// What is being done, as intents name it.
pub const SNAPSHOT: &str = "snapshot";
pub const CLONE: &str = "clone";
pub const RESTORE: &str = "restore";
pub const DISCARD: &str = "discard";
pub const MERGE: &str = "merge";
pub const GROW: &str = "grow";

/// Whether an intent is one of those that are settled here.
pub fn is_ours(intent: &Intent) -> bool {
    matches!(&*intent.kind, SNAPSHOT | CLONE | RESTORE | DISCARD | MERGE | GROW)
}

/// Carries to its end, or undoes, what a program that died was doing with the disk of a box that does not
/// run. The caller has locked the box.
pub fn settle(context: &Context, intent: &Intent) -> Result<()> {
    match &*intent.kind {
        SNAPSHOT => snapshot::settle(context, intent),
        CLONE => clone::settle(context, intent),
        RESTORE => restore::settle(context, intent),
        DISCARD => discard::settle(context, intent),
        MERGE => merge::settle(context, intent),
        GROW => grow::settle(context, intent),
        _ => Ok(()),
    }
}

/// The same for one whose machine runs, between two changes of its disk.
fn settle_idle(context: &Context, intent: &Intent) -> Result<()> {
    match &*intent.kind {
        SNAPSHOT => snapshot::settle_idle(context, intent),
        CLONE => clone::settle_idle(context, intent),
        _ => Ok(()),
    }
}

/// The same for all that is under way with a box, before anything else is done with its disk.
pub fn settle_box(context: &Context, id: &str) -> Result<()> {
    let intents = context.store.intents()?;
    for intent in intents.iter().filter(|intent| intent.box_id == id && is_ours(intent)) {
        settle(context, intent).map_err(|e| {
            e.context("finish what was under way with the box's disk").or_object(id)
        })?;
    }
    Ok(())
}

/// That a box which must not run does not. The caller has locked it.
pub fn check_stopped(context: &Context, id: &str) -> Result<()> {
    if is_supervised(&context.home.of_box(id))? {
        let text = "another program has just started the box: try again";
        return Err(Error::new(Code::Busy, text).object(id));
    }
    Ok(())
}
