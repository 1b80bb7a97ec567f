//! The last pass: numbers for the nodes, then directories, inodes, bitmaps, descriptors and
//! superblocks.

use std::time::{SystemTime, UNIX_EPOCH};

use super::alloc::Allocator;
use super::dir::{self, Entry};
use super::extents::{self, Extent};
use super::geometry::{BLOCK, BLOCK_BYTES, Geometry, INODES_PER_BLOCK, MAX_BYTES};
use super::inode::{FLAG_EXTENTS, FLAG_INDEX, Inode, device_field};
use super::node::{Attributes, FileData, Kind, NodeId, Timestamp, Tree};
use super::sink::Sink;
use super::superblock::{FIRST_INODE, Group, JOURNAL_INODE, Superblock};
use super::volume::Volume;
use super::{journal, xattr};
use crate::error::{Code, Error, Result};

const ROOT_INODE: u32 = 2;
const LOST_AND_FOUND: &[u8] = b"lost+found";
/// Bytes of disk for which there is an inode, as mke2fs has it.
const BYTES_PER_INODE: u64 = 16 * 1024;
/// Free inodes that even the smallest disk has.
const MIN_FREE_INODES: u64 = 1024;
/// Inodes of one group: what one bitmap block can map.
const MAX_INODES_PER_GROUP: u64 = 8 * BLOCK_BYTES;
/// Subdirectories beyond which a directory's link count says 1 (feature dir_nlink).
const MAX_DIRECTORY_LINKS: u32 = 64_998;
/// How much of the inode table is gathered before a write.
const TABLE_BUFFER: usize = 256 * BLOCK;

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

/// Inode numbers: parents before children, the names of a directory side by side.
struct Numbers {
    /// By node id; 0: not in the tree.
    by_id: Vec<u32>,
    /// By node id, of directories: the parent's number.
    parents: Vec<u32>,
    /// By number, from `first` on.
    order: Vec<NodeId>,
    first: u32,
    adds_lost_and_found: bool,
}

impl Numbers {
    fn assign(tree: &dyn Tree) -> Result<Numbers> {
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

    fn of(&self, id: NodeId) -> u32 {
        self.by_id[id as usize]
    }

    fn parent_of(&self, id: NodeId) -> u32 {
        self.parents[id as usize]
    }

    fn in_order(&self) -> impl Iterator<Item = (NodeId, u32)> + '_ {
        self.order.iter().copied().zip(self.first..)
    }

    /// Inodes in use, the special ones included.
    fn used(&self) -> u32 {
        self.first - 1 + self.order.len() as u32
    }
}

/// How many inodes there are, and where.
struct InodePlan {
    per_group: u32,
}

impl InodePlan {
    /// `None` when the groups cannot hold that many inodes.
    fn new(geometry: &Geometry, used: u64) -> Option<InodePlan> {
        let per_group = inodes_per_group(geometry, used);
        (per_group <= MAX_INODES_PER_GROUP).then_some(InodePlan {
            // At most 32768.
            per_group: per_group as u32,
        })
    }

    fn table_blocks(&self) -> u64 {
        (self.per_group / INODES_PER_BLOCK).into()
    }

    fn allocate(&self, alloc: &mut Allocator, count: u32) -> Vec<Group> {
        let mut groups = vec![Group::default(); count as usize];
        for group in &mut groups {
            group.block_bitmap = alloc.allocate_run(1);
        }
        for group in &mut groups {
            group.inode_bitmap = alloc.allocate_run(1);
        }
        for group in &mut groups {
            group.inode_table = alloc.allocate_run(self.table_blocks());
        }
        groups
    }
}

fn inodes_per_group(geometry: &Geometry, used: u64) -> u64 {
    let by_size = geometry.blocks * BLOCK_BYTES / BYTES_PER_INODE;
    let wanted = by_size.max(used + (used / 4).max(MIN_FREE_INODES));
    wanted.div_ceil(geometry.groups.into()).next_multiple_of(INODES_PER_BLOCK.into())
}

/// A size that surely holds `payload` blocks of files and directories and `used` inodes.
fn needed(payload: u64, used: u64) -> u64 {
    const STEP: u64 = 1 << 20;
    let mut bytes = (payload * BLOCK_BYTES).next_multiple_of(STEP).max(STEP);
    while bytes < MAX_BYTES {
        let Ok(geometry) = Geometry::new(bytes) else {
            break;
        };
        let per_group = inodes_per_group(&geometry, used);
        if per_group > MAX_INODES_PER_GROUP {
            bytes += STEP;
            continue;
        }
        let groups = u64::from(geometry.groups);
        let table = per_group / u64::from(INODES_PER_BLOCK);
        let copies = (0..geometry.groups).filter(|g| geometry.reserved_in(*g) > 0).count() as u64;
        let total = payload
            + journal::size(geometry.blocks)
            + groups * (table + 2)
            // A table that does not fit before a superblock copy leaves its room.
            + copies * (1 + geometry.descriptor_blocks + table);
        if total <= geometry.blocks {
            return bytes;
        }
        bytes += ((total - geometry.blocks) * BLOCK_BYTES).next_multiple_of(STEP);
    }
    bytes
}

/// Writes inodes one after another into the tables of the groups.
struct InodeTable {
    starts: Vec<u64>,
    per_group: u32,
    written: u32,
    directories: Vec<u32>,
    buffer: Vec<u8>,
    buffer_at: u64,
}

impl InodeTable {
    fn new(groups: &[Group], per_group: u32) -> InodeTable {
        InodeTable {
            starts: groups.iter().map(|g| g.inode_table).collect(),
            per_group,
            written: 0,
            directories: vec![0; groups.len()],
            buffer: Vec::with_capacity(TABLE_BUFFER),
            buffer_at: 0,
        }
    }

    fn push(&mut self, sink: &mut Sink, inode: &[u8], directory: bool) -> Result<()> {
        if self.per_group == 0 {
            return Ok(()); // only counting what a larger disk would need
        }
        let group = (self.written / self.per_group) as usize;
        let index = self.written % self.per_group;
        if index == 0 {
            self.flush(sink)?;
            self.buffer_at = self.starts[group];
        }
        self.buffer.extend_from_slice(inode);
        self.directories[group] += u32::from(directory);
        self.written += 1;
        if self.buffer.len() >= TABLE_BUFFER {
            let blocks = (self.buffer.len() / BLOCK) as u64;
            self.flush(sink)?;
            self.buffer_at += blocks;
        }
        Ok(())
    }

    fn flush(&mut self, sink: &mut Sink) -> Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let len = self.buffer.len().next_multiple_of(BLOCK);
        self.buffer.resize(len, 0);
        sink.write(self.buffer_at, &self.buffer)?;
        self.buffer.clear();
        Ok(())
    }

    fn count_into(&self, groups: &mut [Group]) {
        let mut left = self.written;
        for (group, directories) in groups.iter_mut().zip(&self.directories) {
            group.used_inodes = left.min(self.per_group);
            group.directories = *directories;
            left -= group.used_inodes;
        }
    }
}

fn inode_bitmap(used: u32, per_group: u32) -> Vec<u8> {
    let mut bits = vec![0u8; BLOCK];
    let (used, per_group) = (used as usize, per_group as usize);
    // Bits past the last inode are set.
    for bit in (0..used).chain(per_group..8 * BLOCK) {
        bits[bit / 8] |= 1 << (bit % 8);
    }
    bits
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
