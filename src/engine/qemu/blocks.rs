//! The disk's files in QEMU's block layer, and changing them while the machine runs.
//!
//! Nodes are named by us, and files are given as descriptors: a file's name may be another's by the time
//! that QEMU opens it once more, which it does whenever a file is to be read only, or to be written, from
//! then on.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

use qapi::qmp;

use super::command::{self, DISK_NODE};
use super::monitor::Link;
use crate::disk::chain::Chain;
use crate::engine::Work;

/// The nodes of a machine's disk.
#[derive(Clone, Default)]
pub struct Blocks {
    nodes: Rc<RefCell<Nodes>>,
}

#[derive(Default)]
struct Nodes {
    /// The one that is written to.
    active: String,
    /// The descriptors of its file.
    active_set: usize,
    /// How many sets of descriptors there were.
    sets: usize,
}

impl Blocks {
    /// Those of a disk that a machine was given.
    pub fn of(disk: &Chain) -> Blocks {
        let sets = disk.links.len();
        let nodes = Nodes { active: DISK_NODE.to_owned(), active_set: 0, sets };
        Blocks { nodes: Rc::new(RefCell::new(nodes)) }
    }

    /// Has what is written from now on go into an overlay, which is empty. What has been the disk is
    /// complete in its file then, and never written again.
    pub fn branch(&self, link: Link, overlay: &Path) -> Work {
        let (nodes, overlay) = (self.nodes.clone(), overlay.to_owned());
        Box::pin(async move {
            let (active, active_set, set) = {
                let mut nodes = nodes.borrow_mut();
                nodes.sets += 1;
                (nodes.active.clone(), nodes.active_set, nodes.sets - 1)
            };
            let node = format!("{DISK_NODE}{set}");
            for access in command::accesses(set, &overlay, true) {
                link.add_file(&access).await?;
            }
            link.add_node(command::overlay(set, &node)).await?;
            let snapshot = qmp::BlockdevSnapshot { node: active, overlay: node.clone() };
            if let Err(error) = link.execute(qmp::blockdev_snapshot(snapshot)).await {
                // The overlay goes; that it goes from QEMU too only frees descriptors.
                let _ = link.execute(qmp::blockdev_del { node_name: node }).await;
                return Err(error);
            }
            {
                let mut nodes = nodes.borrow_mut();
                nodes.active = node;
                nodes.active_set = set;
            }
            // Else no other machine could have the file in its disk.
            if let Err(error) = link.remove_writable(active_set).await {
                tracing::warn!("QEMU still has a file open that it does not write to: {error}");
            }
            Ok(())
        })
    }
}
