//! The last pass: numbers for the nodes, then directories, inodes, bitmaps, descriptors and
//! superblocks.

use std::time::{SystemTime, UNIX_EPOCH};

use super::dir::{self, Entry};
use super::extents::{self, Extent};
use super::geometry::{BLOCK, BLOCK_BYTES};
use super::inode::{FLAG_EXTENTS, FLAG_INDEX, Inode, device_field};
use super::inode_table::{InodePlan, InodeTable, inode_bitmap, needed};
use super::node::{Attributes, FileData, Kind, NodeId, Timestamp, Tree};
use super::numbers::{LOST_AND_FOUND, Numbers, ROOT_INODE};
use super::superblock::{FIRST_INODE, Group, JOURNAL_INODE, Superblock};
use super::volume::Volume;
use super::{journal, xattr};
use crate::error::{Code, Error, Result};

/// Subdirectories beyond which a directory's link count says 1 (feature dir_nlink).
const MAX_DIRECTORY_LINKS: u32 = 64_998;

/// What a finished file system has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Size of the disk in bytes.
    pub bytes: u64,
    /// Blocks in use, metadata included.
    pub used_blocks: u64,
    /// All inodes.
    pub inodes: u32,
    /// Inodes in use.
    pub used_inodes: u32,
}

/// The error for a disk that cannot hold its contents.
pub(super) fn too_small(have: u64, needed: u64, qualifier: &str) -> Error {
    const MIB: u64 = 1 << 20;
    let message = format!(
        "a disk of {have} bytes is too small for the image, which needs {qualifier}{needed} bytes \
         ({} MiB): ask for a larger disk",
        needed.div_ceil(MIB)
    );
    Error::new(Code::InvalidArgument, message)
}

impl Volume {
    /// Writes everything that is not file contents; the file is then complete but not synced.
    ///
    /// A disk that is too small is [`Code::InvalidArgument`] and says which size would do.
    pub fn finish(mut self, tree: &dyn Tree) -> Result<Usage> {
        let numbers = Numbers::assign(tree)?;
        let payload_before = self.alloc.handed_out();
        let plan = InodePlan::new(&self.geometry, numbers.used().into());
        let mut groups = match &plan {
            Some(plan) => plan.allocate(&mut self.alloc, self.geometry.groups),
            None => Vec::new(),
        };
        let metadata = self.alloc.handed_out() - payload_before;

        let mut table = InodeTable::new(&groups, plan.as_ref().map_or(0, |p| p.per_group));
        let journal = self.write_inodes(tree, &numbers, &mut table)?;
        table.flush(&mut self.sink)?;

        // The journal's size depends on the disk's and is counted by `needed`.
        let journal_blocks = journal::size(self.geometry.blocks);
        let payload = self.alloc.handed_out() - metadata - journal_blocks;
        let Some(plan) = plan.filter(|_| self.alloc.overflow() == 0) else {
            let needed = needed(payload, numbers.used().into());
            return Err(too_small(self.bytes, needed, ""));
        };
        table.count_into(&mut groups);
        self.write_groups(&plan, &mut groups, numbers.used(), &journal)
    }

    fn write_inodes(
        &mut self,
        tree: &dyn Tree,
        numbers: &Numbers,
        table: &mut InodeTable,
    ) -> Result<Journal> {
        let journal = self.write_journal()?;
        let empty = [0u8; super::geometry::INODE];
        let mut inodes = NodeWriter { volume: self, tree, numbers };
        for number in 1..FIRST_INODE {
            let (inode, directory) = match number {
                ROOT_INODE => (inodes.node(tree.root(), ROOT_INODE)?, true),
                JOURNAL_INODE => (journal.inode, false),
                _ => (empty, false),
            };
            table.push(&mut inodes.volume.sink, &inode, directory)?;
        }
        if numbers.adds_lost_and_found {
            let inode = inodes.lost_and_found()?;
            table.push(&mut inodes.volume.sink, &inode, true)?;
        }
        for (id, number) in numbers.in_order() {
            let inode = inodes.node(id, number)?;
            let directory = matches!(tree.node(id).kind, Kind::Directory);
            table.push(&mut inodes.volume.sink, &inode, directory)?;
        }
        Ok(journal)
    }

    fn write_journal(&mut self) -> Result<Journal> {
        let blocks = journal::size(self.geometry.blocks);
        let mut extents = Vec::new();
        let mut at = 0;
        while at < blocks {
            let (start, len) = self.alloc.allocate(blocks - at);
            // At most 8192 blocks.
            let extent = Extent { logical: at as u32, len: len as u32, start };
            extents::push(&mut extents, extent);
            at += len;
        }
        if let Some(first) = extents.first() {
            let start = first.start;
            self.sink.write(start, &journal::superblock(blocks as u32))?;
        }
        let (block_field, tree_blocks) = self.extent_tree(&extents)?;
        let bytes = blocks * BLOCK_BYTES;
        let attributes = Attributes { mode: 0o600, ..now_attributes() };
        let inode = Inode {
            mode: 0o100_600,
            attributes: &attributes,
            links: 1,
            size: bytes,
            blocks: blocks + tree_blocks,
            flags: FLAG_EXTENTS,
            block_field,
            xattr_block: 0,
            xattrs: None,
        };
        Ok(Journal { inode: inode.encode(), block_field, bytes })
    }

    /// Writes the tree's blocks; the inode's part and how many blocks there were.
    fn extent_tree(&mut self, extents: &[Extent]) -> Result<([u8; 60], u64)> {
        let alloc = &mut self.alloc;
        let tree = extents::build(extents, || alloc.allocate(1).0);
        for (at, block) in &tree.blocks {
            self.sink.write(*at, &block[..])?;
        }
        Ok((tree.root, tree.blocks.len() as u64))
    }

    fn write_groups(
        mut self,
        plan: &InodePlan,
        groups: &mut [Group],
        used_inodes: u32,
        journal: &Journal,
    ) -> Result<Usage> {
        let uuid = random_uuid()?;
        let per_group = plan.per_group;
        let mut descriptors = Vec::new();
        let mut free_blocks = 0;
        for (number, group) in (0u32..).zip(groups.iter_mut()) {
            let (bitmap, free) = self.alloc.bitmap(number);
            group.free_blocks = free;
            free_blocks += free;
            let uninitialised = group.is_uninitialised(number, &self.geometry, &self.alloc);
            if !uninitialised {
                self.sink.write(group.block_bitmap, &bitmap[..])?;
            }
            if group.used_inodes > 0 {
                let bitmap = inode_bitmap(group.used_inodes, per_group);
                self.sink.write(group.inode_bitmap, &bitmap)?;
            }
            let descriptor = group.encode(number, per_group, uninitialised, &uuid);
            descriptors.extend_from_slice(&descriptor);
        }
        descriptors.resize(descriptors.len().next_multiple_of(BLOCK), 0);
        self.sink.flush()?;

        let inodes = per_group * self.geometry.groups;
        let superblock = Superblock {
            uuid,
            created: now(),
            inodes,
            free_inodes: inodes - used_inodes,
            inodes_per_group: per_group,
            free_blocks,
            journal_field: journal.block_field,
            journal_bytes: journal.bytes,
        };
        for group in (0..self.geometry.groups).filter(|g| self.geometry.reserved_in(*g) > 0) {
            let start = self.geometry.start_of(group);
            self.sink.write(start + 1, &descriptors)?;
            self.sink.flush()?;
            let offset = start * BLOCK_BYTES + if group == 0 { 1024 } else { 0 };
            let copy = superblock.encode(&self.geometry, group);
            self.sink.write_bytes(offset, &copy)?;
        }
        self.sink.finish(self.bytes)?;
        Ok(Usage {
            bytes: self.bytes,
            used_blocks: self.geometry.blocks - free_blocks,
            inodes,
            used_inodes,
        })
    }
}

struct Journal {
    inode: [u8; super::geometry::INODE],
    block_field: [u8; 60],
    bytes: u64,
}

/// Makes inodes of nodes, and writes what they need beside them.
struct NodeWriter<'a> {
    volume: &'a mut Volume,
    tree: &'a dyn Tree,
    numbers: &'a Numbers,
}

impl NodeWriter<'_> {
    fn node(&mut self, id: NodeId, number: u32) -> Result<[u8; super::geometry::INODE]> {
        let node = self.tree.node(id);
        let attributes = &node.attributes;
        let mut inode = Inode {
            mode: node.kind.mode_bits() | (attributes.mode & 0o7777),
            attributes,
            links: u16::try_from(node.links).unwrap_or(u16::MAX),
            size: 0,
            blocks: 0,
            flags: 0,
            block_field: [0; 60],
            xattr_block: 0,
            xattrs: None,
        };
        match &node.kind {
            Kind::File(data) => self.map(&mut inode, data)?,
            Kind::Directory => self.directory(&mut inode, id, number)?,
            Kind::Symlink(target) => self.symlink(&mut inode, target)?,
            Kind::Character(device) | Kind::Block(device) => {
                inode.block_field = device_field(*device);
            }
            Kind::Fifo => {}
        }
        let placed = xattr::place(&attributes.xattrs)
            .ok_or_else(|| Error::new(Code::Internal, "extended attributes do not fit"))?;
        inode.xattrs = placed.in_inode;
        if let Some(block) = placed.block {
            let (at, _) = self.volume.alloc.allocate(1);
            self.volume.sink.write(at, &block[..])?;
            inode.xattr_block = at;
            inode.blocks += 1;
        }
        Ok(inode.encode())
    }

    fn map(&mut self, inode: &mut Inode<'_>, data: &FileData) -> Result<()> {
        let (root, tree_blocks) = self.volume.extent_tree(&data.extents)?;
        let own: u64 = data.extents.iter().map(|e| u64::from(e.len)).sum();
        inode.block_field = root;
        inode.flags |= FLAG_EXTENTS;
        inode.size = data.size;
        inode.blocks += own + tree_blocks;
        Ok(())
    }

    fn map_bytes(&mut self, inode: &mut Inode<'_>, size: u64, blocks: &[u8]) -> Result<()> {
        let mut extents = Vec::new();
        self.volume.append(&mut extents, 0, blocks)?;
        let data = FileData { size, extents: extents.into_boxed_slice() };
        self.map(inode, &data)
    }

    fn symlink(&mut self, inode: &mut Inode<'_>, target: &[u8]) -> Result<()> {
        inode.size = target.len() as u64;
        if target.len() < inode.block_field.len() {
            inode.block_field[..target.len()].copy_from_slice(target);
            return Ok(());
        }
        let mut block = target.to_vec();
        block.resize(BLOCK, 0);
        self.map_bytes(inode, target.len() as u64, &block)
    }

    fn directory(&mut self, inode: &mut Inode<'_>, id: NodeId, number: u32) -> Result<()> {
        let tree = self.tree;
        let mut subdirectories = 0u32;
        let mut entries: Vec<Entry<'_>> = tree
            .entries(id)
            .map(|(name, child)| {
                let kind = tree.node(child).kind.entry_type();
                subdirectories += u32::from(kind == 2);
                Entry { name, inode: self.numbers.of(child), kind }
            })
            .collect();
        if number == ROOT_INODE && self.numbers.adds_lost_and_found {
            subdirectories += 1;
            entries.push(Entry { name: LOST_AND_FOUND, inode: FIRST_INODE, kind: 2 });
        }
        inode.links = if subdirectories > MAX_DIRECTORY_LINKS {
            1
        } else {
            // At most 65,000.
            (2 + subdirectories) as u16
        };
        self.directory_blocks(inode, number, self.numbers.parent_of(id), &entries)
    }

    fn lost_and_found(&mut self) -> Result<[u8; super::geometry::INODE]> {
        let attributes = Attributes { mode: 0o700, ..now_attributes() };
        let mut inode = Inode {
            mode: 0o040_700,
            attributes: &attributes,
            links: 2,
            size: 0,
            blocks: 0,
            flags: 0,
            block_field: [0; 60],
            xattr_block: 0,
            xattrs: None,
        };
        self.directory_blocks(&mut inode, FIRST_INODE, ROOT_INODE, &[])?;
        Ok(inode.encode())
    }

    fn directory_blocks(
        &mut self,
        inode: &mut Inode<'_>,
        number: u32,
        parent: u32,
        entries: &[Entry<'_>],
    ) -> Result<()> {
        let directory = dir::build(number, parent, entries).map_err(|_| {
            let message = format!("a directory of {} names is too large", entries.len());
            Error::new(Code::Image, message)
        })?;
        if directory.indexed {
            inode.flags |= FLAG_INDEX;
        }
        self.map_bytes(inode, directory.data.len() as u64, &directory.data)
    }
}

fn random_uuid() -> Result<[u8; 16]> {
    let mut uuid = [0u8; 16];
    getrandom::fill(&mut uuid)
        .map_err(|e| Error::new(Code::Internal, format!("no random numbers: {e}")))?;
    uuid[6] = (uuid[6] & 0x0f) | 0x40;
    uuid[8] = (uuid[8] & 0x3f) | 0x80;
    Ok(uuid)
}

fn now() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |d| u32::try_from(d.as_secs()).unwrap_or(u32::MAX))
}

fn now_attributes() -> Attributes {
    let time = Timestamp { seconds: now().into(), nanoseconds: 0 };
    Attributes { mtime: time, atime: time, ctime: time, ..Attributes::default() }
}
