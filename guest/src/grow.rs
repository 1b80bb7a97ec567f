//! A root file system on a disk that is larger than it: it grows.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

/// Where the superblock is, and how long.
const SUPERBLOCK: u64 = 1024;
const LENGTH: usize = 1024;
const MAGIC: u16 = 0xef53;
/// Block numbers have 64 bits.
const INCOMPAT_64BIT: u32 = 0x80;

/// Has the ext4 file system of `device`, which is mounted at `target`, be as large as that, if it is
/// smaller: the disk was made larger since. Format: the kernel's `Documentation/filesystems/ext4`.
pub fn to_device(device: &str, target: &str) -> io::Result<()> {
    let file = File::open(device)?;
    let mut superblock = [0; LENGTH];
    file.read_exact_at(&mut superblock, SUPERBLOCK)?;
    let Some((blocks, block_size)) = size(&superblock) else { return Ok(()) };
    let mut there = 0;
    // SAFETY: the kernel writes one number of 64 bits.
    unsafe { ioctl::device_bytes(file.as_raw_fd(), &raw mut there) }?;
    let wanted = there / block_size;
    if wanted <= blocks {
        return Ok(());
    }
    let root = File::open(target)?;
    // SAFETY: the kernel reads one number of 64 bits.
    unsafe { ioctl::resize(root.as_raw_fd(), &raw const wanted) }?;
    Ok(())
}

/// How many blocks a file system has, and their size in bytes. None if it is no ext4.
fn size(superblock: &[u8; LENGTH]) -> Option<(u64, u64)> {
    let get = |at: usize| Some(u32::from_le_bytes(*superblock.get(at..)?.first_chunk()?));
    let magic = u16::from_le_bytes(*superblock.get(56..)?.first_chunk()?);
    let high = if get(96)? & INCOMPAT_64BIT != 0 { get(336)? } else { 0 };
    let block_size = 1024u64.checked_shl(get(24)?).filter(|size| *size <= 65_536)?;
    (magic == MAGIC).then_some((u64::from(high) << 32 | u64::from(get(4)?), block_size))
}

mod ioctl {
    nix::ioctl_read!(device_bytes, 0x12, 114, u64);
    nix::ioctl_write_ptr!(resize, b'f', 16, u64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_superblock_says_how_large_its_file_system_is() {
        let mut superblock = [0; LENGTH];
        assert_eq!(size(&superblock), None);
        superblock[56..58].copy_from_slice(&MAGIC.to_le_bytes());
        superblock[4..8].copy_from_slice(&7u32.to_le_bytes());
        superblock[24] = 2;
        superblock[336] = 1;
        assert_eq!(size(&superblock), Some((7, 4096)));
        superblock[96] = 0x80;
        assert_eq!(size(&superblock), Some(((1 << 32) + 7, 4096)));
        superblock[24] = 200;
        assert_eq!(size(&superblock), None);
    }
}
