//! The disk's files in QEMU's block layer, and changing them while the machine runs.
//!
//! Nodes are named by us, and nothing here goes by a file's name: that may have changed since QEMU has
//! opened it.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

use qapi::qmp;

use super::command::{self, DISK_NODE};
use super::monitor::Link;
use crate::engine::Work;
use crate::error::Result;

/// The nodes of a machine's disk.
#[derive(Clone)]
pub struct Blocks {
    nodes: Rc<RefCell<Nodes>>,
}

struct Nodes {
    /// The one that is written to.
    active: String,
    /// How many were added.
    added: u32,
}

impl Default for Blocks {
    fn default() -> Blocks {
        let nodes = Nodes { active: DISK_NODE.to_owned(), added: 0 };
        Blocks { nodes: Rc::new(RefCell::new(nodes)) }
    }
}

impl Blocks {
    /// Has what is written from now on go into an overlay, which is empty. What has been the disk is
    /// complete in its file then, and never written again.
    pub fn branch(&self, link: Link, overlay: &Path) -> Result<Work> {
        let (active, node) = {
            let mut nodes = self.nodes.borrow_mut();
            nodes.added += 1;
            (nodes.active.clone(), format!("{DISK_NODE}{}", nodes.added))
        };
        let added = command::overlay(overlay, &node)?;
        let nodes = self.nodes.clone();
        Ok(Box::pin(async move {
            link.add_node(added).await?;
            let snapshot = qmp::BlockdevSnapshot { node: active, overlay: node.clone() };
            if let Err(error) = link.execute(qmp::blockdev_snapshot(snapshot)).await {
                // The overlay goes; that it goes from QEMU too only frees a descriptor.
                let _ = link.execute(qmp::blockdev_del { node_name: node }).await;
                return Err(error);
            }
            nodes.borrow_mut().active = node;
            Ok(())
        }))
    }
}
