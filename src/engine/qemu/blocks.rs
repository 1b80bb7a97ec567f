//! The disk's files in QEMU's block layer, and changing them while the machine runs.
//!
//! Nodes are named by us, and files are given as descriptors: a file's name may be another's by the time
//! that QEMU opens it once more, which it does whenever a file is to be read only, or to be written, from
//! then on.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use qapi::qmp;

use super::command::{self, DISK_NODE};
use super::monitor::Link;
use serde_json::Value;

use crate::disk::chain::Chain;
use crate::engine::{Merge, Work};
use crate::error::{Code, Error, Result};
use crate::failpoint::{self, Point};

/// How long a merge may take to end where it is.
const GIVE_UP_PATIENCE: Duration = Duration::from_secs(2);

/// The nodes of a machine's disk.
#[derive(Clone, Default)]
pub struct Blocks {
    nodes: Rc<RefCell<Nodes>>,
}

#[derive(Default)]
struct Nodes {
    /// The topmost first, which is written to: as in the disk's chain of files.
    chain: Vec<Node>,
    /// How many sets of descriptors there were.
    sets: usize,
    /// How many merges there were.
    merges: usize,
    /// QEMU's job that merges just now.
    job: Option<String>,
}

#[derive(Clone)]
struct Node {
    name: String,
    /// The descriptors of its file.
    set: usize,
}

impl Blocks {
    /// Those of a disk that a machine was given.
    pub fn of(disk: &Chain) -> Blocks {
        let node = |set| Node { name: command::node(set), set };
        let sets = disk.links.len();
        let nodes = Nodes { chain: (0..sets).map(node).collect(), sets, ..Nodes::default() };
        Blocks { nodes: Rc::new(RefCell::new(nodes)) }
    }

    fn node(&self, depth: usize) -> Result<Node> {
        self.nodes.borrow().chain.get(depth).cloned().ok_or_else(|| {
            Error::new(Code::Internal, format!("the disk is not {depth} files deep in QEMU"))
        })
    }

    /// Has what is written from now on go into an overlay, which is empty. What has been the disk is
    /// complete in its file then, and never written again.
    pub fn branch(&self, link: Link, overlay: &Path) -> Work {
        let (blocks, overlay) = (self.clone(), overlay.to_owned());
        Box::pin(async move {
            let active = blocks.node(0)?;
            let set = {
                let mut nodes = blocks.nodes.borrow_mut();
                nodes.sets += 1;
                nodes.sets - 1
            };
            let node = format!("{DISK_NODE}{set}");
            for access in command::accesses(set, &overlay, true) {
                link.add_file(&access).await?;
            }
            link.add_node(command::overlay(set, &node)).await?;
            let snapshot = qmp::BlockdevSnapshot { node: active.name, overlay: node.clone() };
            if let Err(error) = link.execute(qmp::blockdev_snapshot(snapshot)).await {
                // The overlay goes; that it goes from QEMU too only frees descriptors.
                let _ = link.execute(qmp::blockdev_del { node_name: node }).await;
                return Err(error);
            }
            blocks.nodes.borrow_mut().chain.insert(0, Node { name: node, set });
            // Else no other machine could have the file in its disk.
            if let Err(error) = link.remove_files(active.set, true).await {
                tracing::warn!("QEMU still has a file open that it does not write to: {error}");
            }
            Ok(())
        })
    }

    /// Has a file hold what it is on too. Failed half-way, it holds some of that, and is on it still: the
    /// disk is the same at every moment.
    pub fn merge(&self, link: Link, merge: &Merge<'_>) -> Work {
        let (blocks, depth) = (self.clone(), merge.depth);
        let upper_path = merge.upper.to_owned();
        let backing = merge.backing.map(Path::to_owned);
        Box::pin(async move {
            let (upper, lower) = (blocks.node(depth)?, blocks.node(depth + 1)?);
            let base = blocks.node(depth + 2).ok();
            // The topmost can be written to as it is.
            let closed = depth > 0;
            if closed {
                link.open_anew(upper.set, &upper_path).await?;
            }
            let same = |below: Option<&Node>, writable| {
                let below = below.map(|node| &*node.name);
                command::same(upper.set, &upper.name, writable, below)
            };
            let copied = same(Some(&lower), true);
            let streamed = blocks.stream(&link, &upper, base.as_ref(), backing, copied).await;
            let done = match streamed {
                // What is below may go for good then.
                Ok(()) => link.reopen_node(same(base.as_ref(), !closed)).await,
                Err(error) => Err(error),
            };
            if closed && let Err(error) = link.remove_files(upper.set, true).await {
                tracing::warn!("QEMU still has a file open that it does not write to: {error}");
            }
            done?;
            blocks.nodes.borrow_mut().chain.remove(depth + 1);
            // One that the command line made as a part of another has gone with that.
            let _ = link.execute(qmp::blockdev_del { node_name: lower.name }).await;
            if let Err(error) = link.remove_files(lower.set, false).await {
                tracing::warn!("QEMU still has a file open that it does not need: {error}");
            }
            Ok(())
        })
    }

    /// Copies what is between a node and another to the first, which then names what it is on anew.
    ///
    /// QEMU writes that name before it writes where the copied data are. Killed in between, it would leave a
    /// file without them: so they are made durable first, by opening the node anew as `copied`.
    async fn stream(
        &self,
        link: &Link,
        upper: &Node,
        base: Option<&Node>,
        backing: Option<PathBuf>,
        copied: Value,
    ) -> Result<()> {
        let job = {
            let mut nodes = self.nodes.borrow_mut();
            nodes.merges += 1;
            format!("merge{}", nodes.merges)
        };
        let stream = qmp::block_stream {
            device: upper.name.clone(),
            job_id: Some(job.clone()),
            base_node: base.map(|node| node.name.clone()),
            // What the file is to name, which is no path of this process.
            backing_file: backing.map(|path| path.to_string_lossy().into_owned()),
            auto_dismiss: Some(false),
            auto_finalize: Some(false),
            backing_mask_protocol: None,
            base: None,
            bottom: None,
            filter_node_name: None,
            on_error: None,
            speed: None,
        };
        link.execute(stream).await?;
        self.nodes.borrow_mut().job = Some(job.clone());
        failpoint::hit(Point::BranchMerging);
        let done = async {
            link.job_ready_to_end(&job).await?;
            let durable = link.reopen_node(copied).await;
            let end = || link.execute(qmp::job_finalize { id: job.clone() });
            match durable {
                Ok(()) => end().await.map(drop),
                Err(error) => {
                    // Not to be told once more: the first error is the one that explains it.
                    let _ = link.execute(qmp::job_cancel { id: job.clone() }).await;
                    let _ = link.job_done(&job).await;
                    return Err(error);
                }
            }?;
            failpoint::hit(Point::BranchStreamed);
            link.job_done(&job).await
        }
        .await;
        self.nodes.borrow_mut().job = None;
        done
    }

    /// Has a merge that is under way end where it is, in an orderly manner: else clusters that it has just
    /// allocated would be lost.
    pub async fn give_up(&self, link: &Link) {
        let Some(job) = self.nodes.borrow_mut().job.take() else { return };
        let given_up = async {
            link.execute(qmp::job_cancel { id: job.clone() }).await?;
            let _ = link.job_done(&job).await;
            // All that QEMU has in memory is in the files then.
            link.execute(qmp::stop {}).await
        };
        // If not, these are lost: no data.
        let _ = tokio::time::timeout(GIVE_UP_PATIENCE, given_up).await;
    }
}
