//! A snapshot that goes though something is on its file: that holds its data from then on.
//!
//! What a guest sees is the same at every moment, so nothing is to be undone: if it fails half-way, the
//! snapshot is still there.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use boxlite_protocol::message;

use super::super::context::Context;
use super::branching::{self, relative};
use super::{MERGE, discard, snapshot};
use crate::disk::chain::{Chain, MAX_LINKS};
use crate::disk::durable::remove_leftovers;
use crate::disk::graph::Graph;
use crate::disk::merge;
use crate::error::{Code, Error, Result};
use crate::failpoint::{self, Point};
use crate::store::Intent;

use serde::{Deserialize, Serialize};

/// What an intent says.
#[derive(Serialize, Deserialize)]
struct Plan {
    /// The file that is written anew, relative to the home.
    upper: String,
}

/// What has to be merged with a snapshot's file before that can go.
pub struct Merge {
    /// What is to hold all of it.
    pub upper: PathBuf,
    /// The lowest file that is merged.
    pub lower: PathBuf,
    /// Whether the box's disk consists of both.
    pub in_disk: bool,
}

/// How a snapshot's file can go: at once, or after a merge. One that several others are on, or a disk of
/// another box, stays.
pub fn needed(context: &Context, id: &str, name: &str) -> Result<Option<Merge>> {
    let _disks = context.share_disks()?;
    let (_, lower) = match snapshot::expect(context, id, name) {
        // A file that is lost or spoiled cannot be merged, and need not be.
        Err(error) if error.code() != Code::NotFound => return Ok(None),
        found => found?,
    };
    let root = context.home.root();
    let graph = Graph::read(root)?;
    let dependents = graph.dependents(&lower);
    match dependents[..] {
        [] => Ok(None),
        [upper] if upper.starts_with(context.home.of_box(id)) => {
            let chain = Chain::resolve(root, &context.home.disk(id));
            let in_disk = chain.is_ok_and(|chain| chain.links.iter().any(|l| l.path == upper));
            Ok(Some(Merge { upper: upper.to_owned(), lower, in_disk }))
        }
        _ => {
            let paths: Vec<String> =
                dependents.iter().map(|path| relative(context, path)).collect();
            let text = format!(
                "snapshot '{name}' of box {id} is what {} are based on: it can go when only one of them \
                 is, of the same box",
                paths.join(", ")
            );
            Err(Error::new(Code::InvalidState, text).object(name))
        }
    }
}

/// Merges files that no machine has open to write. The caller has locked the box. None of them is taken
/// away meanwhile, as something is on it.
pub fn of_files(context: &Context, id: &str, files: &Merge) -> Result<()> {
    let plan = branching::json(&Plan { upper: relative(context, &files.upper) })?;
    let intent = context.store.begin_intent(id, MERGE, &plan)?;
    failpoint::hit(Point::MergeIntent);
    let merged = merge::merge(context.home.root(), &files.upper, &files.lower);
    failpoint::hit(Point::MergeWritten);
    if let Err(error) = context.store.end_intent(intent) {
        tracing::warn!("a merge of disks of box {id} is over, but not noted as that: {error}");
    }
    merged.map_err(|e| e.or_object(id))
}

/// Has the disk of a box that does not run consist of fewer files, if it can: those that have no name, and
/// that nothing is on but the next one, are merged into the first above them that is not so. The caller has
/// locked the box.
pub fn shorten(context: &Context, id: &str) -> Result<()> {
    let (chain, unnamed) = unnamed(context, id)?;
    let mut at = 0;
    while let Some(upper) = chain.links.get(at) {
        let count = unnamed.iter().skip(at + 1).take_while(|unnamed| **unnamed).count();
        if let Some(lower) = chain.links.get(at + count).filter(|_| count > 0) {
            // If others are on the upper one: they see no difference.
            let files =
                Merge { upper: upper.path.clone(), lower: lower.path.clone(), in_disk: true };
            of_files(context, id, &files)?;
            let _disks = context.take_disks()?;
            if let Some(first) = chain.links.get(at + 1) {
                discard::collect(context, &first.path)?;
            }
        }
        at += count + 1;
    }
    Ok(())
}

/// The files of a disk, from the topmost to the last, and of each whether it has no name, and nothing is on
/// it but the one above.
fn unnamed(context: &Context, id: &str) -> Result<(Chain, Vec<bool>)> {
    let root = context.home.root();
    let chain = Chain::resolve(root, &context.home.disk(id)).map_err(|e| e.or_object(id))?;
    let graph = Graph::read(root)?;
    let named = snapshot::named_files(context)?;
    let is_unnamed = |path: &PathBuf| {
        discard::is_ours(context, path)
            && !named.contains(path)
            && graph.dependents(path).len() == 1
    };
    let unnamed = chain.links.iter().map(|link| is_unnamed(&link.path)).collect();
    Ok((chain, unnamed))
}

/// Two files that can be one, of a disk that consists of as many as there can be; those that take least to be
/// merged.
pub fn unnamed_of_full(context: &Context, id: &str) -> Result<Option<Merge>> {
    let (chain, unnamed) = unnamed(context, id)?;
    if chain.links.len() < MAX_LINKS {
        return Ok(None);
    }
    let pairs = chain.links.windows(2).zip(unnamed.iter().skip(1));
    let pairs = pairs.filter_map(|(pair, unnamed)| match pair {
        [upper, lower] if *unnamed => Some((upper, lower)),
        _ => None,
    });
    let bytes = |path: &Path| path.metadata().map_or(u64::MAX, |about| about.blocks());
    let least = pairs.min_by_key(|(_, lower)| bytes(&lower.path));
    Ok(least.map(|(upper, lower)| Merge {
        upper: upper.path.clone(),
        lower: lower.path.clone(),
        in_disk: true,
    }))
}

/// What the supervisor of a running box is asked for.
pub fn asked(context: &Context, files: &Merge) -> message::Merge {
    message::Merge {
        upper: relative(context, &files.upper),
        lower: relative(context, &files.lower),
    }
}

/// Does away with what a program has left that died. The caller has locked the box.
pub fn settle(context: &Context, intent: &Intent) -> Result<()> {
    let plan: Plan = branching::read(intent)?;
    let upper = context.home.root().join(Path::new(&plan.upper));
    // Else there is nothing beside it either.
    if upper.parent().is_some_and(Path::is_dir) {
        remove_leftovers(&upper)?;
    }
    context.store.end_intent(intent.id)
}
