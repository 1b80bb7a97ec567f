//! Headers: what one entry of an archive says about a file.

use tar::Header;

use super::pax::Extensions;
use super::sparse::Segment;
use super::{BLOCK, malformed};
use crate::disk::ext4::{Device, Timestamp};
use crate::error::Result;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    File,
    HardLink,
    Symlink,
    Character,
    Block,
    Directory,
    Fifo,
}

/// One file in an archive.
#[derive(Debug, Clone)]
pub struct Entry {
    /// As written, not cleaned.
    pub path: Vec<u8>,
    /// Target of a hard or symbolic link.
    pub link: Vec<u8>,
    pub kind: EntryKind,
    /// At most 0o7777.
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    pub mtime: Timestamp,
    pub atime: Option<Timestamp>,
    pub ctime: Option<Timestamp>,
    pub device: Device,
    /// Length of the file, holes included.
    pub size: u64,
    /// Of a sparse file: where its data belongs.
    pub segments: Option<Vec<Segment>>,
    /// Extended attributes by full name.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

const SIZE: std::ops::Range<usize> = 124..136;
const GNU_SPARSE: std::ops::Range<usize> = 386..482;
const GNU_IS_EXTENDED: usize = 482;
const GNU_REAL_SIZE: std::ops::Range<usize> = 483..495;
const EXTENDED_MAP: std::ops::Range<usize> = 0..504;
const EXTENDED_IS_EXTENDED: usize = 504;

/// Checks the header's checksum.
pub fn parse(block: &[u8; BLOCK]) -> Result<&Header> {
    let header = Header::from_byte_slice(block);
    let stored = number(&block[148..156], "checksum")?;
    let spaced = block.iter().enumerate();
    let bytes = spaced.map(|(i, b)| if (148..156).contains(&i) { b' ' } else { *b });
    let (unsigned, signed) = bytes.fold((0i64, 0i64), |(u, s), b| {
        (u + i64::from(b), s + i64::from(b as i8))
    });
    // Some old writers summed signed bytes.
    if stored != unsigned && stored != signed {
        return Err(malformed("has a header with a wrong checksum"));
    }
    Ok(header)
}

/// The entry without its size.
pub fn entry(block: &[u8; BLOCK], ext: &Extensions) -> Result<Entry> {
    let header = Header::from_byte_slice(block);
    let path = match ext.path() {
        Some(path) => path.to_vec(),
        None => header.path_bytes().into_owned(),
    };
    let link = match ext.link() {
        Some(link) => link.to_vec(),
        None => header.link_name_bytes().unwrap_or_default().into_owned(),
    };
    let kind = kind(header, &path)?;
    let device = if matches!(kind, EntryKind::Character | EntryKind::Block) {
        Device {
            major: number32(&block[329..337], "device number")?,
            minor: number32(&block[337..345], "device number")?,
        }
    } else {
        Device { major: 0, minor: 0 }
    };
    let mtime = Timestamp {
        seconds: number(&block[136..148], "time")?,
        nanoseconds: 0,
    };
    // The file type bits that some writers put there are not the mode's.
    let mode = number(&block[100..108], "mode")? & 0o7777;
    let id = |pax: Option<u32>, field: &[u8]| match pax {
        Some(id) => Ok(id),
        None => number32(field, "owner"),
    };
    Ok(Entry {
        path,
        link,
        kind,
        mode: mode as u16,
        uid: id(ext.uid()?, &block[108..116])?,
        gid: id(ext.gid()?, &block[116..124])?,
        mtime: ext.time(b"mtime")?.unwrap_or(mtime),
        atime: ext.time(b"atime")?,
        ctime: ext.time(b"ctime")?,
        device,
        size: 0,
        segments: None,
        xattrs: ext.xattrs(),
    })
}

/// Bytes of data behind the header of a file.
pub fn data_size(block: &[u8; BLOCK], ext: &Extensions) -> Result<u64> {
    match ext.size()? {
        Some(size) => Ok(size),
        None => own_size(block),
    }
}

/// The size field.
pub fn own_size(block: &[u8; BLOCK]) -> Result<u64> {
    unsigned(&block[SIZE], "size")
}

/// The map in the header of an old GNU sparse file.
pub fn old_sparse_map(block: &[u8; BLOCK]) -> Result<Option<Vec<Segment>>> {
    if !Header::from_byte_slice(block).entry_type().is_gnu_sparse() {
        return Ok(None);
    }
    let mut map = Vec::new();
    push_segments(&block[GNU_SPARSE], &mut map)?;
    Ok(Some(map))
}

/// Whether another block of the map follows the header.
pub fn sparse_map_continues(block: &[u8; BLOCK]) -> bool {
    block[GNU_IS_EXTENDED] != 0
}

/// Adds the segments of a map block; says whether another follows.
pub fn extended_sparse_map(block: &[u8; BLOCK], map: &mut Vec<Segment>) -> Result<bool> {
    push_segments(&block[EXTENDED_MAP], map)?;
    Ok(block[EXTENDED_IS_EXTENDED] != 0)
}

/// The length of an old GNU sparse file with its holes.
pub fn real_size(block: &[u8; BLOCK]) -> Result<u64> {
    unsigned(&block[GNU_REAL_SIZE], "size")
}

fn push_segments(fields: &[u8], map: &mut Vec<Segment>) -> Result<()> {
    for field in fields.chunks_exact(24) {
        if field[0] == 0 {
            break;
        }
        map.push(Segment {
            offset: unsigned(&field[..12], "sparse map")?,
            len: unsigned(&field[12..], "sparse map")?,
        });
    }
    Ok(())
}

fn kind(header: &Header, path: &[u8]) -> Result<EntryKind> {
    Ok(match header.entry_type().as_byte() {
        // Archives older than ustar mark directories by their name.
        0 | b'0' if path.ends_with(b"/") => EntryKind::Directory,
        0 | b'0' | b'7' | b'S' => EntryKind::File,
        b'1' => EntryKind::HardLink,
        b'2' => EntryKind::Symlink,
        b'3' => EntryKind::Character,
        b'4' => EntryKind::Block,
        b'5' => EntryKind::Directory,
        b'6' => EntryKind::Fifo,
        other => {
            let name = String::from_utf8_lossy(path);
            let kind = char::from(other).escape_default();
            return Err(malformed(&format!("has {name:?} of unknown type '{kind}'")));
        }
    })
}

/// A number: octal text, or binary with the top bit set.
fn number(field: &[u8], what: &str) -> Result<i64> {
    if field.first().is_some_and(|b| b & 0x80 != 0) {
        return binary(field).ok_or_else(|| bad_number(what));
    }
    let text = field.trim_ascii_start();
    let end = text.iter().position(|b| *b == 0 || *b == b' ');
    let digits = &text[..end.unwrap_or(text.len())];
    digits.iter().try_fold(0i64, |value, digit| {
        let digit = match digit {
            b'0'..=b'7' => i64::from(digit - b'0'),
            _ => return Err(bad_number(what)),
        };
        // At most 12 digits: 36 bits.
        Ok(value * 8 + digit)
    })
}

/// Big-endian two's complement below the flag bit.
fn binary(field: &[u8]) -> Option<i64> {
    let negative = field.first()? & 0x40 != 0;
    let mut value: i128 = if negative { -1 } else { 0 };
    for (i, byte) in field.iter().enumerate() {
        let byte = match (i, negative) {
            (0, false) => byte & 0x7f,
            _ => *byte,
        };
        value = value << 8 | i128::from(byte);
    }
    i64::try_from(value).ok()
}

fn unsigned(field: &[u8], what: &str) -> Result<u64> {
    u64::try_from(number(field, what)?).map_err(|_| bad_number(what))
}

fn number32(field: &[u8], what: &str) -> Result<u32> {
    u32::try_from(number(field, what)?).map_err(|_| bad_number(what))
}

fn bad_number(what: &str) -> crate::error::Error {
    malformed(&format!("has a header with an impossible {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_binary() {
        assert_eq!(number(b"0000644\0", "").unwrap(), 0o644);
        assert_eq!(number(b"   644 \0", "").unwrap(), 0o644);
        assert_eq!(number(b"\0\0\0\0\0\0\0\0", "").unwrap(), 0);
        assert_eq!(
            number(b"\x80\0\0\0\xff\xff\xff\xff", "").unwrap(),
            0xffff_ffff
        );
        assert_eq!(number(&[0xff; 12], "").unwrap(), -1);
        assert!(number(b"12x\0", "").is_err());
        assert!(number(b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "").is_err());
    }
}
