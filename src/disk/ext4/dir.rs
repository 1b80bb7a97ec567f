//! Directory blocks: one linear block for small directories, a hash tree for larger ones.

use super::bytes::{put16, put32};
use super::geometry::BLOCK;
use super::hash::{HALF_MD4, name_hash};

/// How full the leaves of a hash tree get: a name added later should not split each of them.
const LEAF_FILL: usize = BLOCK * 7 / 8;
const ROOT_ENTRIES: usize = (BLOCK - 32) / 8;
const NODE_ENTRIES: usize = (BLOCK - 8) / 8;
const DIRECTORY: u8 = 2;

/// A name in a directory.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// 1 to 255 bytes.
    pub name: &'a [u8],
    /// The inode it names.
    pub inode: u32,
    /// The file type as [`super::node::Kind::entry_type`] gives it.
    pub kind: u8,
}

/// The contents of a directory.
#[derive(Debug)]
pub struct Directory {
    /// Whole blocks.
    pub data: Vec<u8>,
    /// Whether it is a hash tree (flag INDEX).
    pub indexed: bool,
}

/// A directory too large for a hash tree of two levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLarge;

/// Lays out a directory.
pub fn build(inode: u32, parent: u32, entries: &[Entry<'_>]) -> Result<Directory, TooLarge> {
    let dots = entry_len(1) + entry_len(2);
    let total: usize = entries.iter().map(|e| entry_len(e.name.len())).sum();
    if dots + total > BLOCK {
        return build_indexed(inode, parent, entries);
    }
    let mut data = vec![0u8; BLOCK];
    let mut writer = BlockWriter::new(&mut data);
    writer.push(Entry {
        name: b".",
        inode,
        kind: DIRECTORY,
    });
    writer.push(Entry {
        name: b"..",
        inode: parent,
        kind: DIRECTORY,
    });
    entries.iter().for_each(|e| writer.push(*e));
    writer.finish();
    Ok(Directory {
        data,
        indexed: false,
    })
}

/// A block index entry: the lowest hash below it, and the block.
type Index = (u32, u32);

fn build_indexed(inode: u32, parent: u32, entries: &[Entry<'_>]) -> Result<Directory, TooLarge> {
    let mut sorted: Vec<((u32, u32), &Entry<'_>)> =
        entries.iter().map(|e| (name_hash(e.name), e)).collect();
    sorted.sort_by(|(a, x), (b, y)| a.cmp(b).then_with(|| x.name.cmp(y.name)));
    let leaves = split_leaves(&sorted);
    let nodes = if leaves.len() <= ROOT_ENTRIES {
        0
    } else {
        leaves.len().div_ceil(NODE_ENTRIES)
    };
    if nodes > ROOT_ENTRIES {
        return Err(TooLarge);
    }
    // Root, index nodes, leaves.
    let mut data = vec![0u8; (1 + nodes + leaves.len()) * BLOCK];
    let mut index: Vec<Index> = Vec::with_capacity(leaves.len());
    let mut previous = None;
    for (i, leaf) in leaves.iter().enumerate() {
        let at = 1 + nodes + i;
        let mut writer = BlockWriter::new(&mut data[at * BLOCK..(at + 1) * BLOCK]);
        leaf.iter().for_each(|(_, e)| writer.push(**e));
        writer.finish();
        let first = leaf[0].0.0;
        // Bit 0 says that names with this hash begin in the block before.
        let continued = u32::from(previous == Some(first));
        // Fewer than 2^19 blocks.
        index.push((first | continued, at as u32));
        previous = leaf.last().map(|(hash, _)| hash.0);
    }
    if nodes > 0 {
        let mut above = Vec::with_capacity(nodes);
        for (i, part) in index.chunks(NODE_ENTRIES).enumerate() {
            let at = 1 + i;
            let node = &mut data[at * BLOCK..(at + 1) * BLOCK];
            put16(node, 4, BLOCK as u16);
            write_index(node, 8, NODE_ENTRIES, part);
            above.push((part[0].0, at as u32));
        }
        index = above;
    }
    write_root(&mut data[..BLOCK], inode, parent, nodes > 0);
    write_index(&mut data[..BLOCK], 32, ROOT_ENTRIES, &index);
    Ok(Directory {
        data,
        indexed: true,
    })
}

fn split_leaves<'s, 'a>(
    sorted: &'s [((u32, u32), &'a Entry<'a>)],
) -> Vec<&'s [((u32, u32), &'a Entry<'a>)]> {
    let mut leaves = Vec::new();
    let (mut from, mut used) = (0, 0);
    for (i, (_, entry)) in sorted.iter().enumerate() {
        let len = entry_len(entry.name.len());
        if used + len > LEAF_FILL {
            leaves.push(&sorted[from..i]);
            (from, used) = (i, 0);
        }
        used += len;
    }
    leaves.push(&sorted[from..]);
    leaves
}

fn write_root(block: &mut [u8], inode: u32, parent: u32, two_levels: bool) {
    put_entry(block, 0, entry_len(1), b".", inode, DIRECTORY);
    let rest = BLOCK - entry_len(1);
    put_entry(block, entry_len(1), rest, b"..", parent, DIRECTORY);
    block[28] = HALF_MD4;
    block[29] = 8; // length of this information
    block[30] = u8::from(two_levels);
}

/// An index: limit and count lie where the first entry, which covers all below the second,
/// would have its hash.
fn write_index(block: &mut [u8], at: usize, limit: usize, entries: &[Index]) {
    for (i, (hash, target)) in entries.iter().enumerate() {
        put32(block, at + 8 * i, *hash);
        put32(block, at + 8 * i + 4, *target);
    }
    // Both are at most NODE_ENTRIES.
    put16(block, at, limit as u16);
    put16(block, at + 2, entries.len() as u16);
}

struct BlockWriter<'b> {
    block: &'b mut [u8],
    at: usize,
    last: usize,
}

impl BlockWriter<'_> {
    fn new(block: &mut [u8]) -> BlockWriter<'_> {
        BlockWriter {
            block,
            at: 0,
            last: 0,
        }
    }

    fn push(&mut self, entry: Entry<'_>) {
        let len = entry_len(entry.name.len());
        put_entry(
            self.block,
            self.at,
            len,
            entry.name,
            entry.inode,
            entry.kind,
        );
        self.last = self.at;
        self.at += len;
    }

    /// The last entry reaches to the end of the block.
    fn finish(self) {
        put16(self.block, self.last + 4, (BLOCK - self.last) as u16);
    }
}

fn put_entry(block: &mut [u8], at: usize, len: usize, name: &[u8], inode: u32, kind: u8) {
    put32(block, at, inode);
    // A block and a name are short.
    put16(block, at + 4, len as u16);
    block[at + 6] = name.len() as u8;
    block[at + 7] = kind;
    block[at + 8..at + 8 + name.len()].copy_from_slice(name);
}

fn entry_len(name: usize) -> usize {
    (8 + name).next_multiple_of(4)
}
