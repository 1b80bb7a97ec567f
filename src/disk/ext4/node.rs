//! What a file system is made of, before it has block and inode numbers.

use super::extents::Extent;
use super::xattr::Xattr;

/// Names a node of a [`Tree`].
pub type NodeId = u32;

/// A point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timestamp {
    /// Seconds since 1970, negative before.
    pub seconds: i64,
    /// 0 to 999,999,999.
    pub nanoseconds: u32,
}

/// What every kind of node has.
#[derive(Debug, Clone, Default)]
pub struct Attributes {
    /// Permission bits with setuid, setgid and sticky: at most 0o7777.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last change of the contents.
    pub mtime: Timestamp,
    /// Last read.
    pub atime: Timestamp,
    /// Last change of the attributes.
    pub ctime: Timestamp,
    /// Extended attributes in on-disk form.
    pub xattrs: Box<[Xattr]>,
}

/// The contents of a regular file, already on the disk.
#[derive(Debug, Clone, Default)]
pub struct FileData {
    /// Length in bytes.
    pub size: u64,
    /// Where the blocks lie, ascending; gaps read as zeros.
    pub extents: Box<[Extent]>,
}

/// What a node is.
#[derive(Debug, Clone)]
pub enum Kind {
    /// A regular file.
    File(FileData),
    /// A directory.
    Directory,
    /// A symbolic link and where it points.
    Symlink(Box<[u8]>),
    /// A character device.
    Character(Device),
    /// A block device.
    Block(Device),
    /// A named pipe.
    Fifo,
}

/// A device number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    /// At most 12 bits.
    pub major: u32,
    /// At most 20 bits.
    pub minor: u32,
}

/// An inode.
#[derive(Debug, Clone)]
pub struct Node {
    /// Mode, owner, times, xattrs.
    pub attributes: Attributes,
    /// File, directory, …
    pub kind: Kind,
    /// How many names a node other than a directory has.
    pub links: u32,
}

/// A tree of nodes, as the writer reads it.
///
/// Every name is 1 to 255 bytes without `/` and NUL, and not `.` or `..`.
pub trait Tree {
    /// The root directory.
    fn root(&self) -> NodeId;
    /// One more than the largest id in use.
    fn id_limit(&self) -> NodeId;
    /// The node of an id that a directory or [`Tree::root`] named.
    fn node(&self, id: NodeId) -> &Node;
    /// The names in a directory, in a stable order.
    fn entries<'a>(&'a self, id: NodeId) -> Box<dyn Iterator<Item = (&'a [u8], NodeId)> + 'a>;
}

impl Kind {
    /// The file type bits of `i_mode`.
    pub fn mode_bits(&self) -> u16 {
        match self {
            Kind::Fifo => 0o010_000,
            Kind::Character(_) => 0o020_000,
            Kind::Directory => 0o040_000,
            Kind::Block(_) => 0o060_000,
            Kind::File(_) => 0o100_000,
            Kind::Symlink(_) => 0o120_000,
        }
    }

    /// The file type as directory entries store it (feature filetype).
    pub fn entry_type(&self) -> u8 {
        match self {
            Kind::File(_) => 1,
            Kind::Directory => 2,
            Kind::Character(_) => 3,
            Kind::Block(_) => 4,
            Kind::Fifo => 5,
            Kind::Symlink(_) => 7,
        }
    }
}
