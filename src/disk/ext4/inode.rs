//! The 256 bytes of an inode.

use super::bytes::{hi16, hi32, lo16, lo32, mid16, put16, put32};
use super::geometry::{BLOCK_BYTES, INODE};
use super::node::{Attributes, Device, Timestamp};
use super::xattr::IN_INODE;

/// The file's blocks are mapped by extents.
pub const FLAG_EXTENTS: u32 = 0x8_0000;
/// The directory is a hash tree.
pub const FLAG_INDEX: u32 = 0x1000;
/// Bytes of the fixed part past the first 128.
pub const EXTRA_SIZE: u16 = 32;

/// Everything an inode says.
#[derive(Debug)]
pub struct Inode<'a> {
    /// File type and permissions.
    pub mode: u16,
    /// Owner, times.
    pub attributes: &'a Attributes,
    /// Names that lead to it.
    pub links: u16,
    /// Length in bytes.
    pub size: u64,
    /// Blocks in use, those of extent tree and attributes included.
    pub blocks: u64,
    /// `FLAG_*`.
    pub flags: u32,
    /// The field `i_block`: extent tree, short symlink or device number.
    pub block_field: [u8; 60],
    /// The extended attribute block, or 0.
    pub xattr_block: u64,
    /// Extended attributes in the inode.
    pub xattrs: Option<[u8; IN_INODE]>,
}

impl Inode<'_> {
    /// The on-disk form.
    pub fn encode(&self) -> [u8; INODE] {
        let mut out = [0u8; INODE];
        let a = self.attributes;
        put16(&mut out, 0, self.mode);
        put16(&mut out, 2, lo16(a.uid.into()));
        put32(&mut out, 4, lo32(self.size));
        put16(&mut out, 24, lo16(a.gid.into()));
        put16(&mut out, 26, self.links);
        let sectors = self.blocks * (BLOCK_BYTES / 512);
        put32(&mut out, 28, lo32(sectors));
        put32(&mut out, 32, self.flags);
        out[40..100].copy_from_slice(&self.block_field);
        put32(&mut out, 104, lo32(self.xattr_block));
        put32(&mut out, 108, hi32(self.size));
        put16(&mut out, 116, hi16(sectors));
        put16(&mut out, 118, hi16(self.xattr_block));
        put16(&mut out, 120, mid16(a.uid.into()));
        put16(&mut out, 122, mid16(a.gid.into()));
        put16(&mut out, 128, EXTRA_SIZE);
        for (time, base, extra) in [
            (a.atime, 8, 140),
            (a.ctime, 12, 132),
            (a.mtime, 16, 136),
            (a.mtime, 144, 148), // creation
        ] {
            let (seconds, rest) = encode_time(time);
            put32(&mut out, base, seconds);
            put32(&mut out, extra, rest);
        }
        if let Some(xattrs) = &self.xattrs {
            out[INODE - IN_INODE..].copy_from_slice(xattrs);
        }
        out
    }
}

/// Seconds as signed 32 bits; two more bits of them and the nanoseconds.
fn encode_time(time: Timestamp) -> (u32, u32) {
    const MIN: i64 = i32::MIN as i64;
    const MAX: i64 = MIN + (1 << 34) - 1;
    let seconds = time.seconds.clamp(MIN, MAX);
    // The wrap to 32 bits is the format's; what is lost are the epoch bits.
    let low = seconds as i32;
    let epoch = ((seconds - i64::from(low)) >> 32) as u32 & 3;
    (low as u32, time.nanoseconds << 2 | epoch)
}

/// The field `i_block` of a device node.
pub fn device_field(device: Device) -> [u8; 60] {
    let mut field = [0u8; 60];
    let Device { major, minor } = device;
    if major < 256 && minor < 256 {
        put32(&mut field, 0, major << 8 | minor);
    } else {
        let new = (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12);
        put32(&mut field, 4, new);
    }
    field
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_and_after_2038_keep_their_seconds() {
        let encode = |seconds| encode_time(Timestamp { seconds, nanoseconds: 5 });
        assert_eq!(encode(-1), (0xffff_ffff, 5 << 2));
        assert_eq!(encode(1 << 31), (0x8000_0000, 5 << 2 | 1));
        assert_eq!(encode(0xffff_ffff), (0xffff_ffff, 5 << 2 | 1));
        assert_eq!(encode(1 << 32), (0, 5 << 2 | 1));
        assert_eq!(encode(i64::MAX), (0x7fff_ffff, 5 << 2 | 3));
    }
}
