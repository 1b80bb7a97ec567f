//! Which node gets which inode number.

use super::node::{Kind, NodeId, Tree};
use super::superblock::FIRST_INODE;
use crate::error::{Code, Error, Result};

/// The root directory's inode.
pub const ROOT_INODE: u32 = 2;
/// Where e2fsck puts files without a name.
pub const LOST_AND_FOUND: &[u8] = b"lost+found";

/// Inode numbers: parents before children, the names of a directory side by side.
pub struct Numbers {
    /// By node id; 0: not in the tree.
    by_id: Vec<u32>,
    /// By node id, of directories: the parent's number.
    parents: Vec<u32>,
    /// By number, from `first` on.
    order: Vec<NodeId>,
    first: u32,
    /// Whether the writer makes the directory that e2fsck wants.
    pub adds_lost_and_found: bool,
}

impl Numbers {
    pub fn assign(tree: &dyn Tree) -> Result<Numbers> {
        let limit = tree.id_limit() as usize;
        let root = tree.root();
        let existing = tree.entries(root).find(|(name, _)| *name == LOST_AND_FOUND);
        if let Some((_, id)) = existing
            && !matches!(tree.node(id).kind, Kind::Directory)
        {
            let message = "the image has a /lost+found that is not a directory, which an ext4 disk \
                           cannot have";
            return Err(Error::new(Code::Image, message));
        }
        let adds_lost_and_found = existing.is_none();
        let mut numbers = Numbers {
            by_id: vec![0; limit],
            parents: vec![0; limit],
            order: Vec::new(),
            first: FIRST_INODE + u32::from(adds_lost_and_found),
            adds_lost_and_found,
        };
        numbers.by_id[root as usize] = ROOT_INODE;
        numbers.parents[root as usize] = ROOT_INODE;
        numbers.visit(tree, root);
        let mut next = 0;
        while let Some(&id) = numbers.order.get(next) {
            next += 1;
            if matches!(tree.node(id).kind, Kind::Directory) {
                numbers.visit(tree, id);
            }
        }
        Ok(numbers)
    }

    fn visit(&mut self, tree: &dyn Tree, directory: NodeId) {
        let own = self.of(directory);
        for (_, child) in tree.entries(directory) {
            if self.by_id[child as usize] != 0 {
                continue;
            }
            // Node ids are 32 bits, and the caller bounds their number.
            self.by_id[child as usize] = self.first + self.order.len() as u32;
            self.parents[child as usize] = own;
            self.order.push(child);
        }
    }

    pub fn of(&self, id: NodeId) -> u32 {
        self.by_id[id as usize]
    }

    pub fn parent_of(&self, id: NodeId) -> u32 {
        self.parents[id as usize]
    }

    pub fn in_order(&self) -> impl Iterator<Item = (NodeId, u32)> + '_ {
        self.order.iter().copied().zip(self.first..)
    }

    /// Inodes in use, the special ones included.
    pub fn used(&self) -> u32 {
        self.first - 1 + self.order.len() as u32
    }
}
