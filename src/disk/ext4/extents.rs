//! Extent trees: which logical block of a file lies where.

use super::bytes::{hi16, lo32, put16, put32};
use super::geometry::BLOCK;

/// The largest extent that is not "unwritten".
const MAX_LEN: u32 = 32_768;
const MAGIC: u16 = 0xf30a;
const HEADER: usize = 12;
const ENTRY: usize = 12;
/// Entries in the inode itself.
const IN_INODE: usize = 4;
/// Entries in a block.
const IN_BLOCK: usize = (BLOCK - HEADER) / ENTRY;

/// A run of blocks of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// First block, counted in the file.
    pub logical: u32,
    /// Number of blocks.
    pub len: u32,
    /// First block, counted on the disk.
    pub start: u64,
}

/// An extent tree in its on-disk form.
#[derive(Debug)]
pub struct ExtentTree {
    /// The `i_block` field of the inode.
    pub root: [u8; 60],
    /// The blocks below it, each with its place.
    pub blocks: Vec<(u64, Box<[u8; BLOCK]>)>,
}

/// Adds a run to a list, as part of the last one where they touch.
pub fn push(extents: &mut Vec<Extent>, new: Extent) {
    if let Some(last) = extents.last_mut()
        && last.logical + last.len == new.logical
        && last.start + u64::from(last.len) == new.start
    {
        last.len += new.len;
        return;
    }
    extents.push(new);
}

/// Builds the tree for `extents`, with blocks from `allocate` where the inode is too small.
pub fn build(extents: &[Extent], mut allocate: impl FnMut() -> u64) -> ExtentTree {
    // Entries of the level at hand: logical block and the 12 bytes.
    let mut level: Vec<(u32, [u8; ENTRY])> = split(extents).map(leaf_entry).collect();
    let mut depth: u16 = 0;
    let mut blocks = Vec::new();
    while level.len() > IN_INODE {
        let mut above = Vec::with_capacity(level.len().div_ceil(IN_BLOCK));
        for part in level.chunks(IN_BLOCK) {
            let at = allocate();
            let mut block = Box::new([0u8; BLOCK]);
            write_node(&mut block[..], part, depth, IN_BLOCK);
            blocks.push((at, block));
            above.push((part[0].0, index_entry(part[0].0, at)));
        }
        level = above;
        depth += 1;
    }
    let mut root = [0u8; 60];
    write_node(&mut root, &level, depth, IN_INODE);
    ExtentTree { root, blocks }
}

fn split(extents: &[Extent]) -> impl Iterator<Item = Extent> + '_ {
    extents.iter().flat_map(|whole| {
        (0..whole.len.div_ceil(MAX_LEN)).map(|i| {
            let skip = i * MAX_LEN;
            Extent {
                logical: whole.logical + skip,
                len: (whole.len - skip).min(MAX_LEN),
                start: whole.start + u64::from(skip),
            }
        })
    })
}

fn leaf_entry(extent: Extent) -> (u32, [u8; ENTRY]) {
    let mut entry = [0u8; ENTRY];
    put32(&mut entry, 0, extent.logical);
    // At most MAX_LEN.
    put16(&mut entry, 4, extent.len as u16);
    put16(&mut entry, 6, hi16(extent.start));
    put32(&mut entry, 8, lo32(extent.start));
    (extent.logical, entry)
}

fn index_entry(logical: u32, block: u64) -> [u8; ENTRY] {
    let mut entry = [0u8; ENTRY];
    put32(&mut entry, 0, logical);
    put32(&mut entry, 4, lo32(block));
    put16(&mut entry, 8, hi16(block));
    entry
}

fn write_node(to: &mut [u8], entries: &[(u32, [u8; ENTRY])], depth: u16, max: usize) {
    put16(to, 0, MAGIC);
    // Both are at most IN_BLOCK.
    put16(to, 2, entries.len() as u16);
    put16(to, 4, max as u16);
    put16(to, 6, depth);
    for (slot, (_, entry)) in to[HEADER..].chunks_mut(ENTRY).zip(entries) {
        slot.copy_from_slice(entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn touching_runs_become_one() {
        let mut list = Vec::new();
        let run = |logical, len, start| Extent { logical, len, start };
        push(&mut list, run(0, 5, 100));
        push(&mut list, run(5, 5, 105));
        push(&mut list, run(11, 1, 111));
        push(&mut list, run(12, 1, 200));
        assert_eq!(list, [run(0, 10, 100), run(11, 1, 111), run(12, 1, 200)]);
    }

    #[test]
    fn a_tree_grows_only_as_deep_as_it_must() {
        let list = |n: u32| -> Vec<Extent> {
            let one = |i| Extent { logical: 2 * i, len: 1, start: u64::from(i) };
            (0..n).map(one).collect()
        };
        let depth_and_blocks = |n| {
            let tree = build(&list(n), || 7);
            (tree.root[6], tree.blocks.len())
        };
        assert_eq!(depth_and_blocks(4), (0, 0));
        assert_eq!(depth_and_blocks(5), (1, 1));
        assert_eq!(depth_and_blocks(340 * 4), (1, 4));
        assert_eq!(depth_and_blocks(340 * 4 + 1), (2, 6));
    }

    #[test]
    fn a_run_longer_than_an_extent_is_split() {
        let whole = Extent { logical: 0, len: 2 * MAX_LEN + 1, start: 50 };
        let lens: Vec<u32> = split(&[whole]).map(|e| e.len).collect();
        assert_eq!(lens, [MAX_LEN, MAX_LEN, 1]);
    }
}
