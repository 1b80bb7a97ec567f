//! A writer of ext4 file systems.
//!
//! File contents are written as they arrive, one block after another; directories, inodes,
//! bitmaps and the journal follow when the tree is complete ([`Volume::finish`]). So a file
//! system is made in one pass over its contents, as an ordinary user, into a sparse file.
//! It must never read back what it wrote, and its memory must not grow with file contents.
//!
//! Format: the kernel's documentation (`Documentation/filesystems/ext4`) and its `fs/ext4`.

mod alloc;
mod bytes;
mod dir;
mod extents;
mod finish;
mod geometry;
mod hash;
mod inode;
mod inode_table;
mod journal;
mod node;
mod numbers;
mod sink;
mod superblock;
mod volume;
mod xattr;

pub use extents::Extent;
pub use finish::Usage;
pub use geometry::{BLOCK_BYTES, MAX_BYTES};
pub use node::{Attributes, Device, FileData, Kind, Node, NodeId, Timestamp, Tree};
pub use volume::{FileWriter, Volume};
pub use xattr::{Unfit, Xattr, fit as xattrs_fit};

/// The longest name in a directory.
pub const MAX_NAME: usize = 255;
/// The longest target of a symbolic link.
pub const MAX_SYMLINK: usize = 4095;
/// The largest number of names of one file.
pub const MAX_LINKS: u32 = 65_000;
/// The largest file.
pub const MAX_FILE: u64 = (1 << 44) - BLOCK_BYTES;
