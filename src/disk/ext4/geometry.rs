//! Where the parts of the file system lie: groups, superblock copies, descriptor tables.

use crate::error::{Code, Error, Result};

/// Bytes of a block. 4 KiB, the page size of the guest.
pub const BLOCK: usize = 4096;
/// Bytes of a block, as a 64-bit number.
pub const BLOCK_BYTES: u64 = BLOCK as u64;
/// Blocks of a group: what one bitmap block can map.
pub const GROUP_BLOCKS: u64 = 8 * BLOCK_BYTES;
/// Bytes of an inode.
pub const INODE: usize = 256;
/// Inodes in a block of an inode table.
pub const INODES_PER_BLOCK: u32 = (BLOCK / INODE) as u32;
/// Bytes of a group descriptor (feature 64bit).
pub const DESCRIPTOR: usize = 64;
/// The largest disk that this writer makes: 16 TiB.
pub const MAX_BYTES: u64 = 1 << 44;
/// A last group with less room than this for files is left out, as mke2fs does.
const MIN_LAST_GROUP: u64 = 50;

/// The fixed geometry of a file system of a given size.
#[derive(Debug, Clone)]
pub struct Geometry {
    /// Blocks of the file system.
    pub blocks: u64,
    /// Number of block groups.
    pub groups: u32,
    /// Blocks of one copy of the group descriptor table.
    pub descriptor_blocks: u64,
}

impl Geometry {
    /// The geometry for a disk of `bytes`.
    pub fn new(bytes: u64) -> Result<Geometry> {
        if bytes > MAX_BYTES || !bytes.is_multiple_of(512) || bytes < BLOCK_BYTES {
            let message = format!(
                "a disk of {bytes} bytes cannot be made: sizes are multiples of 512 bytes, up to \
                 16 TiB"
            );
            return Err(Error::new(Code::InvalidArgument, message));
        }
        let whole = Geometry::of_blocks(bytes / BLOCK_BYTES);
        let rest = whole.blocks % GROUP_BLOCKS;
        let last = whole.groups.saturating_sub(1);
        if last > 0 && rest > 0 && rest < whole.reserved_in(last) + MIN_LAST_GROUP {
            return Ok(Geometry::of_blocks(whole.blocks - rest));
        }
        Ok(whole)
    }

    fn of_blocks(blocks: u64) -> Geometry {
        // At most 2^32 blocks (MAX_BYTES), so at most 2^17 groups.
        let groups = blocks.div_ceil(GROUP_BLOCKS) as u32;
        let descriptor_blocks = (u64::from(groups) * DESCRIPTOR as u64).div_ceil(BLOCK_BYTES);
        Geometry { blocks, groups, descriptor_blocks }
    }

    /// The first block of `group`.
    pub fn start_of(&self, group: u32) -> u64 {
        u64::from(group) * GROUP_BLOCKS
    }

    /// The number of blocks in `group`.
    pub fn len_of(&self, group: u32) -> u64 {
        (self.blocks - self.start_of(group)).min(GROUP_BLOCKS)
    }

    /// Blocks at the start of `group` that hold a superblock and descriptor table, or 0.
    pub fn reserved_in(&self, group: u32) -> u64 {
        if has_superblock(group) { 1 + self.descriptor_blocks } else { 0 }
    }
}

/// Whether `group` carries a copy of the superblock (feature sparse_super).
pub fn has_superblock(group: u32) -> bool {
    group <= 1 || [3, 5, 7].iter().any(|base| is_power(group, *base))
}

fn is_power(mut value: u32, base: u32) -> bool {
    while value.is_multiple_of(base) && value > 1 {
        value /= base;
    }
    value == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn superblock_copies_lie_in_groups_0_1_and_powers_of_3_5_7() {
        let with: Vec<u32> = (0..130).filter(|g| has_superblock(*g)).collect();
        assert_eq!(with, [0, 1, 3, 5, 7, 9, 25, 27, 49, 81, 125]);
    }

    #[test]
    fn a_last_group_too_small_for_its_own_metadata_is_left_out() {
        let bytes = GROUP_BLOCKS * BLOCK_BYTES + 8 * BLOCK_BYTES;
        let geometry = Geometry::new(bytes).unwrap();
        assert_eq!((geometry.groups, geometry.blocks), (1, GROUP_BLOCKS));
        let bytes = GROUP_BLOCKS * BLOCK_BYTES + 100 * BLOCK_BYTES;
        let geometry = Geometry::new(bytes).unwrap();
        assert_eq!((geometry.groups, geometry.len_of(1)), (2, 100));
    }

    #[test]
    fn impossible_sizes_are_refused() {
        for bytes in [0, 511, 4096 + 1, MAX_BYTES + 512, u64::MAX] {
            let error = Geometry::new(bytes).unwrap_err();
            assert_eq!(error.code(), Code::InvalidArgument, "{bytes}");
        }
        assert_eq!(Geometry::new(MAX_BYTES).unwrap().groups, 131_072);
    }
}
