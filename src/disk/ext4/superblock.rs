//! Superblock and group descriptors.

use super::alloc::Allocator;
use super::bytes::{hi16, hi32, lo16, lo32, mid16, put16, put32, put64};
use super::geometry::{DESCRIPTOR, GROUP_BLOCKS, Geometry, INODE};
use super::hash::HALF_MD4;
use super::inode::EXTRA_SIZE;

/// The journal's inode.
pub const JOURNAL_INODE: u32 = 8;
/// The first inode that is not special.
pub const FIRST_INODE: u32 = 11;

const COMPAT: u32 = 0x4 | 0x8 | 0x20; // has_journal, ext_attr, dir_index
const INCOMPAT: u32 = 0x2 | 0x40 | 0x80 | 0x200; // filetype, extents, 64bit, flex_bg
// sparse_super, large_file, huge_file, gdt_csum (uninit_bg), dir_nlink, extra_isize
const RO_COMPAT: u32 = 0x1 | 0x2 | 0x8 | 0x10 | 0x20 | 0x40;
const UNSIGNED_HASH: u32 = 2;
const LOG_GROUPS_PER_FLEX: u8 = 4;

const INODE_UNINIT: u16 = 1;
const BLOCK_UNINIT: u16 = 2;
const INODE_ZEROED: u16 = 4;

/// What the superblock says that is not constant.
#[derive(Debug)]
pub struct Superblock {
    /// Identity of this file system.
    pub uuid: [u8; 16],
    /// Seconds since 1970.
    pub created: u32,
    /// Total and free inodes, inodes per group.
    pub inodes: u32,
    /// Inodes not in use.
    pub free_inodes: u32,
    /// Inodes in a group.
    pub inodes_per_group: u32,
    /// Blocks not in use.
    pub free_blocks: u64,
    /// The journal inode's `i_block`, kept as a backup.
    pub journal_field: [u8; 60],
    /// The journal's length in bytes.
    pub journal_bytes: u64,
}

impl Superblock {
    /// The copy for `group`.
    pub fn encode(&self, geometry: &Geometry, group: u32) -> [u8; 1024] {
        let mut out = [0u8; 1024];
        let sb = &mut out;
        put32(sb, 0, self.inodes);
        put32(sb, 4, lo32(geometry.blocks));
        put32(sb, 12, lo32(self.free_blocks));
        put32(sb, 16, self.free_inodes);
        put32(sb, 24, 2); // 4 KiB blocks
        put32(sb, 28, 2);
        put32(sb, 32, GROUP_BLOCKS as u32);
        put32(sb, 36, GROUP_BLOCKS as u32);
        put32(sb, 40, self.inodes_per_group);
        put32(sb, 48, self.created);
        put16(sb, 54, 0xffff); // no check forced by mount count
        put16(sb, 56, 0xef53);
        put16(sb, 58, 1); // clean
        put16(sb, 60, 1); // on errors: continue
        put32(sb, 64, self.created);
        put32(sb, 76, 1); // revision
        put32(sb, 84, FIRST_INODE);
        put16(sb, 88, INODE as u16);
        put16(sb, 90, lo16(group.into()));
        put32(sb, 92, COMPAT);
        put32(sb, 96, INCOMPAT);
        put32(sb, 100, RO_COMPAT);
        sb[104..120].copy_from_slice(&self.uuid);
        put32(sb, 224, JOURNAL_INODE);
        sb[252] = HALF_MD4;
        sb[253] = 1; // the journal inode is backed up below
        put16(sb, 254, DESCRIPTOR as u16);
        put32(sb, 256, 0x4 | 0x8); // mount with user_xattr and acl
        put32(sb, 264, self.created);
        sb[268..328].copy_from_slice(&self.journal_field);
        put32(sb, 328, hi32(self.journal_bytes));
        put32(sb, 332, lo32(self.journal_bytes));
        put32(sb, 336, hi32(geometry.blocks));
        put32(sb, 344, hi32(self.free_blocks));
        put16(sb, 348, EXTRA_SIZE);
        put16(sb, 350, EXTRA_SIZE);
        put32(sb, 352, UNSIGNED_HASH);
        sb[372] = LOG_GROUPS_PER_FLEX;
        put64(sb, 376, 0); // kilobytes written
        out
    }
}

/// Counts and places of one group.
#[derive(Debug, Clone, Default)]
pub struct Group {
    /// Block of the block bitmap.
    pub block_bitmap: u64,
    /// Block of the inode bitmap.
    pub inode_bitmap: u64,
    /// First block of the inode table.
    pub inode_table: u64,
    /// Inodes in use, all at the table's start.
    pub used_inodes: u32,
    /// Directories among them.
    pub directories: u32,
    /// Free blocks.
    pub free_blocks: u64,
}

impl Group {
    /// Whether readers may take both bitmaps as empty without reading them.
    ///
    /// The last group's bitmap must be there: it tells where the disk ends.
    pub fn is_uninitialised(&self, group: u32, geometry: &Geometry, alloc: &Allocator) -> bool {
        group > 0
            && group + 1 < geometry.groups
            && self.used_inodes == 0
            && alloc.is_untouched(group)
    }

    /// The descriptor.
    pub fn encode(
        &self,
        number: u32,
        inodes_per_group: u32,
        uninitialised: bool,
        uuid: &[u8; 16],
    ) -> [u8; DESCRIPTOR] {
        let mut out = [0u8; DESCRIPTOR];
        let unused = u64::from(inodes_per_group - self.used_inodes);
        let mut flags = INODE_ZEROED;
        if self.used_inodes == 0 {
            flags |= INODE_UNINIT;
        }
        if uninitialised {
            flags |= BLOCK_UNINIT;
        }
        put32(&mut out, 0, lo32(self.block_bitmap));
        put32(&mut out, 4, lo32(self.inode_bitmap));
        put32(&mut out, 8, lo32(self.inode_table));
        put16(&mut out, 12, lo16(self.free_blocks));
        put16(&mut out, 14, lo16(unused));
        put16(&mut out, 16, lo16(self.directories.into()));
        put16(&mut out, 18, flags);
        put16(&mut out, 28, lo16(unused));
        put32(&mut out, 32, hi32(self.block_bitmap));
        put32(&mut out, 36, hi32(self.inode_bitmap));
        put32(&mut out, 40, hi32(self.inode_table));
        put16(&mut out, 44, mid16(self.free_blocks));
        put16(&mut out, 46, mid16(unused));
        put16(&mut out, 48, mid16(self.directories.into()));
        put16(&mut out, 50, mid16(unused));
        debug_assert_eq!(hi16(self.free_blocks), 0);
        let mut crc = crc16(0xffff, uuid);
        crc = crc16(crc, &number.to_le_bytes());
        crc = crc16(crc, &out[..30]);
        crc = crc16(crc, &out[32..]);
        put16(&mut out, 30, crc);
        out
    }
}

/// CRC-16 (polynomial 0x8005, reflected).
fn crc16(start: u16, data: &[u8]) -> u16 {
    data.iter().fold(start, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte), |c, _| {
            if c & 1 == 1 {
                (c >> 1) ^ 0xa001
            } else {
                c >> 1
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_published_one() {
        // The check value of CRC-16/MODBUS: this polynomial, started with ones.
        assert_eq!(crc16(0xffff, b"123456789"), 0x4b37);
    }
}
