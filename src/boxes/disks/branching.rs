//! A box's disk goes on in another file, for whatever that is wanted: the intent, the files, and what
//! becomes of both when something fails.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use boxlite_protocol::message;
use serde::{Deserialize, Serialize};

use super::super::context::Context;
use super::{CLONE, SNAPSHOT, merge};
use crate::channel::client::Connection;
use crate::disk::branch::{Branch, overlay_beside};
use crate::disk::chain::{Chain, Link, MAX_LINKS};
use crate::disk::overlay::DiskFormat;
use crate::error::{Code, Error, Result};
use crate::store::Intent;

/// What an intent says of files: relative to the home, which may be moved before it is settled.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Files {
    frozen: String,
    backing: Option<Backing>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Backing {
    path: String,
    format: DiskFormat,
}

impl Files {
    fn of(context: &Context, branch: &Branch) -> Files {
        let backing = branch
            .backing
            .as_ref()
            .map(|link| Backing { path: relative(context, &link.path), format: link.format });
        Files { frozen: relative(context, &branch.frozen), backing }
    }

    /// What was to be done with a box's disk.
    pub fn branch(&self, context: &Context, box_id: &str) -> Branch {
        let root = context.home.root();
        let disk = context.home.disk(box_id);
        Branch {
            overlay: overlay_beside(&disk),
            disk,
            frozen: root.join(&self.frozen),
            backing: self
                .backing
                .as_ref()
                .map(|backing| Link { path: root.join(&backing.path), format: backing.format }),
        }
    }
}

/// A branch that has been written down.
pub struct Begun {
    pub branch: Branch,
    pub intent: i64,
    /// Bytes that the guest sees.
    virtual_size: u64,
}

/// What a disk consists of, if it may consist of one file more.
pub fn extendable(context: &Context, id: &str) -> Result<Chain> {
    let chain =
        Chain::resolve(context.home.root(), &context.home.disk(id)).map_err(|e| e.or_object(id))?;
    check_length(&chain, id)?;
    Ok(chain)
}

/// The same of a box that does not run: what can be merged is, if that is needed.
pub fn extendable_at_rest(context: &Context, id: &str) -> Result<Chain> {
    match extendable(context, id) {
        Err(error) if error.code() == Code::ResourceExhausted => {
            merge::shorten(context, id)?;
            extendable(context, id)
        }
        other => other,
    }
}

/// That one file more may be on these.
pub fn check_length(chain: &Chain, id: &str) -> Result<()> {
    if chain.links.len() < MAX_LINKS {
        return Ok(());
    }
    let text = format!(
        "the box's disk consists of {} files already, and {MAX_LINKS} are the most: remove snapshots that \
         are not needed, or stop the box, so that what clones have left can be merged",
        chain.links.len()
    );
    Err(Error::new(Code::ResourceExhausted, text).object(id))
}

/// Writes down that what is the disk is to be a file of another name. `note` writes the intent, which says
/// this of the files.
pub fn begin(
    context: &Context,
    chain: &Chain,
    frozen: PathBuf,
    note: impl FnOnce(Files) -> Result<i64>,
) -> Result<Begun> {
    let branch = Branch::new(chain, frozen);
    if branch.is_begun()? {
        let path = branch.frozen.display();
        let text = format!("{path} is there, and belongs to nobody: look at it, and move it away");
        return Err(Error::new(Code::AlreadyExists, text));
    }
    let intent = note(Files::of(context, &branch))?;
    Ok(Begun { branch, intent, virtual_size: chain.virtual_size })
}

impl Begun {
    /// Makes what can be made while nothing has changed.
    pub fn prepare(&self) -> Result<()> {
        self.branch.prepare(self.virtual_size)
    }

    /// Has the supervisor of a running box do the rest. Without an answer nobody knows whether it does.
    pub async fn ask(&self, context: &Context, connection: &Connection) -> Result<Result<()>> {
        let asked = message::Branch {
            overlay: relative(context, &self.branch.overlay),
            frozen: relative(context, &self.branch.frozen),
            only_finish: false,
        };
        connection.branch(asked).await.map_err(|error| {
            error.context("whether this was done is found out when the box's disk is used next")
        })
    }

    /// Has all be as it was, for a reason. What cannot be undone now is settled before the box is used again.
    pub fn undo(&self, context: &Context, reason: Error) -> Error {
        match self.branch.undo().and_then(|()| context.store.end_intent(self.intent)) {
            Ok(()) => {}
            Err(error) => tracing::warn!("a change of a disk is not undone yet: {error}"),
        }
        reason
    }

    /// The same for a box that runs: if its machine has gone over to the overlay, the branch stays.
    pub fn give_up(&self, context: &Context, reason: Error) -> Error {
        match self.branch.is_begun() {
            Ok(false) => self.undo(context, reason),
            _ => reason.context("it is carried to its end when the box's disk is used next"),
        }
    }
}

/// Settles what is under way with the disk of a box that runs: its supervisor alone knows.
pub async fn settle_running(
    context: &Arc<Context>,
    connection: &Connection,
    id: &str,
) -> Result<()> {
    let intents = context.blocking(|context| context.store.intents()).await?;
    let is_branch = |intent: &Intent| matches!(&*intent.kind, SNAPSHOT | CLONE);
    for intent in intents.into_iter().filter(|i| i.box_id == id && is_branch(i)) {
        let only_finish = message::Branch { only_finish: true, ..message::Branch::default() };
        connection.branch(only_finish).await??;
        context.blocking(move |context| super::settle_idle(context, &intent)).await?;
    }
    Ok(())
}

/// Between two such changes of a running box: whether one is there, having done away with one that is not.
pub fn is_there(branch: &Branch) -> Result<bool> {
    let is_begun = branch.is_begun()?;
    if !is_begun {
        branch.undo()?;
    }
    Ok(is_begun)
}

/// A path of the home as rows and messages have it.
pub fn relative(context: &Context, path: &Path) -> String {
    let inside = path.strip_prefix(context.home.root()).unwrap_or(path);
    inside.to_string_lossy().into_owned()
}

pub fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value)
        .map_err(|e| Error::new(Code::Internal, format!("describe a change of a disk: {e}")))
}

/// What an intent says.
pub fn read<'a, T: Deserialize<'a>>(intent: &'a Intent) -> Result<T> {
    serde_json::from_str(&intent.json).map_err(|e| {
        let id = &*intent.box_id;
        let text = format!("what is under way with the disk of box {id} is unreadable: {e}");
        Error::new(Code::Metadata, text).object(id)
    })
}
