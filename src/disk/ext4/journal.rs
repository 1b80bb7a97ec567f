//! The journal: its size, and the superblock of an empty one (JBD2 version 2).

use super::bytes::put32be;
use super::geometry::BLOCK;

const MAGIC: u32 = 0xc03b_3998;
const SUPERBLOCK_V2: u32 = 4;

/// Blocks of the journal for a disk of `blocks`: as mke2fs, but 32 MiB at most.
pub fn size(blocks: u64) -> u64 {
    if blocks < 32_768 {
        1024
    } else if blocks < 262_144 {
        4096
    } else {
        8192
    }
}

/// The journal's first block; the others are zero.
pub fn superblock(blocks: u32) -> [u8; BLOCK] {
    let mut out = [0u8; BLOCK];
    put32be(&mut out, 0, MAGIC);
    put32be(&mut out, 4, SUPERBLOCK_V2);
    put32be(&mut out, 12, BLOCK as u32);
    put32be(&mut out, 16, blocks);
    put32be(&mut out, 20, 1); // first block of the log
    put32be(&mut out, 24, 1); // first sequence number; the start stays 0: empty
    put32be(&mut out, 64, 1); // users
    out
}
