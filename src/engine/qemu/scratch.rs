//! The disk of a machine that has none yet: an empty file system to rehearse on, in a file without a
//! name that goes with the machine.

use std::fs::File;

use crate::disk::ext4::{Attributes, Kind, Node, NodeId, Tree, Volume};
use crate::error::{Code, Error, Result};

/// The journal takes a quarter of this. What is not written takes no memory.
const BYTES: u64 = 16 << 20;

/// Makes such a disk.
pub fn disk() -> Result<File> {
    let failed =
        |e: std::io::Error| Error::io(Code::Storage, "make a disk for a waiting machine", &e);
    let fd = rustix::fs::memfd_create(c"boxlite-scratch", rustix::fs::MemfdFlags::CLOEXEC)
        .map_err(|e| failed(e.into()))?;
    let file = File::from(fd);
    let volume = Volume::new(file.try_clone().map_err(failed)?, BYTES)?;
    volume.finish(&Empty::default())?;
    Ok(file)
}

/// A tree of nothing but its root.
struct Empty(Node);

impl Default for Empty {
    fn default() -> Empty {
        let attributes = Attributes { mode: 0o755, ..Attributes::default() };
        Empty(Node { attributes, kind: Kind::Directory, links: 2 })
    }
}

impl Tree for Empty {
    fn root(&self) -> NodeId {
        0
    }

    fn id_limit(&self) -> NodeId {
        1
    }

    fn node(&self, _: NodeId) -> &Node {
        &self.0
    }

    fn entries<'a>(&'a self, _: NodeId) -> Box<dyn Iterator<Item = (&'a [u8], NodeId)> + 'a> {
        Box::new(std::iter::empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn it_is_a_file_system_and_takes_little_memory() {
        let disk = disk().unwrap();
        let mut magic = [0; 2];
        std::os::unix::fs::FileExt::read_exact_at(&disk, &mut magic, 1024 + 56).unwrap();
        assert_eq!(magic, [0x53, 0xef]);
        let meta = disk.metadata().unwrap();
        assert_eq!(meta.len(), BYTES);
        assert!(meta.blocks() * 512 < 1 << 20, "{} blocks", meta.blocks());
    }
}
