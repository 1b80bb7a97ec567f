//! Inode tables: how many inodes there are, where, and writing them.

use super::alloc::Allocator;
use super::geometry::{BLOCK, BLOCK_BYTES, Geometry, INODES_PER_BLOCK, MAX_BYTES};
use super::journal;
use super::sink::Sink;
use super::superblock::Group;
use crate::error::Result;

/// Bytes of disk for which there is an inode, as mke2fs has it.
const BYTES_PER_INODE: u64 = 16 * 1024;
/// Free inodes that even the smallest disk has.
const MIN_FREE_INODES: u64 = 1024;
/// Inodes of one group: what one bitmap block can map.
const MAX_INODES_PER_GROUP: u64 = 8 * BLOCK_BYTES;
/// How much of the inode table is gathered before a write.
const TABLE_BUFFER: usize = 256 * BLOCK;

/// How many inodes there are, and where.
pub struct InodePlan {
    /// Inodes in a group.
    pub per_group: u32,
}

impl InodePlan {
    /// `None` when the groups cannot hold that many inodes.
    pub fn new(geometry: &Geometry, used: u64) -> Option<InodePlan> {
        let per_group = inodes_per_group(geometry, used);
        (per_group <= MAX_INODES_PER_GROUP).then_some(InodePlan {
            // At most 32768.
            per_group: per_group as u32,
        })
    }

    fn table_blocks(&self) -> u64 {
        (self.per_group / INODES_PER_BLOCK).into()
    }

    pub fn allocate(&self, alloc: &mut Allocator, count: u32) -> Vec<Group> {
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
pub fn needed(payload: u64, used: u64) -> u64 {
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
pub struct InodeTable {
    starts: Vec<u64>,
    per_group: u32,
    written: u32,
    directories: Vec<u32>,
    buffer: Vec<u8>,
    buffer_at: u64,
}

impl InodeTable {
    pub fn new(groups: &[Group], per_group: u32) -> InodeTable {
        InodeTable {
            starts: groups.iter().map(|g| g.inode_table).collect(),
            per_group,
            written: 0,
            directories: vec![0; groups.len()],
            buffer: Vec::with_capacity(TABLE_BUFFER),
            buffer_at: 0,
        }
    }

    pub fn push(&mut self, sink: &mut Sink, inode: &[u8], directory: bool) -> Result<()> {
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

    pub fn flush(&mut self, sink: &mut Sink) -> Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let len = self.buffer.len().next_multiple_of(BLOCK);
        self.buffer.resize(len, 0);
        sink.write(self.buffer_at, &self.buffer)?;
        self.buffer.clear();
        Ok(())
    }

    pub fn count_into(&self, groups: &mut [Group]) {
        let mut left = self.written;
        for (group, directories) in groups.iter_mut().zip(&self.directories) {
            group.used_inodes = left.min(self.per_group);
            group.directories = *directories;
            left -= group.used_inodes;
        }
    }
}

/// The bitmap of a group whose first `used` inodes are in use.
pub fn inode_bitmap(used: u32, per_group: u32) -> Vec<u8> {
    let mut bits = vec![0u8; BLOCK];
    let (used, per_group) = (used as usize, per_group as usize);
    // Bits past the last inode are set.
    for bit in (0..used).chain(per_group..8 * BLOCK) {
        bits[bit / 8] |= 1 << (bit % 8);
    }
    bits
}
