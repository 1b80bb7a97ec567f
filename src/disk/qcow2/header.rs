//! What a qcow2 file says about itself, and what of it we read at all.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::{MAX_L1_BYTES, damaged, get32, get64, read_failed, unsupported};
use crate::disk::overlay::MAX_BACKING_PATH;
use crate::error::Result;

/// The largest disk that is read.
pub const MAX_SIZE: u64 = 64 << 40;

const MAGIC: u32 = 0x5146_49fb;
/// Bytes of the header in version 2, and the least in version 3.
const HEADER_2: usize = 72;
const HEADER_3: usize = 104;
/// The largest table of reference count blocks, as with QEMU.
const MAX_REFCOUNT_TABLE: u64 = 8 << 20;
/// The longest name of a backing format that QEMU takes, and one.
const BACKING_FORMAT_ROOM: usize = 16;

const DIRTY: u64 = 1;
const CORRUPT: u64 = 1 << 1;
const EXTERNAL_DATA: u64 = 1 << 2;
const COMPRESSION_TYPE: u64 = 1 << 3;
const EXTENDED_L2: u64 = 1 << 4;
/// The autoclear feature that says that bitmaps are up to date.
const BITMAPS: u64 = 1;
/// The one that says that another file can be read without this one.
const RAW_EXTERNAL_DATA: u64 = 1 << 1;

const END_OF_EXTENSIONS: u32 = 0;
const BACKING_FORMAT: u32 = 0xe279_2aca;
const ENCRYPTION_HEADER: u32 = 0x0537_be77;
const BITMAPS_EXTENSION: u32 = 0x2385_2875;

/// How compressed clusters are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// A raw deflate stream.
    Deflate,
    /// A Zstandard frame.
    Zstd,
}

/// What is needed to read a qcow2 file. All offsets and lengths in it have been checked against each
/// other and the file's length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// 2 or 3.
    pub version: u32,
    /// A cluster has 2 to the power of this many bytes: 9 to 21.
    pub cluster_bits: u32,
    /// Bytes that the guest sees: a multiple of 512, at most [`MAX_SIZE`].
    pub virtual_size: u64,
    /// Where the first-level table starts, in bytes.
    pub l1_offset: u64,
    /// The first-level table's entries.
    pub l1_entries: u32,
    /// Where the table of reference count blocks starts, in bytes.
    pub refcount_table_offset: u64,
    /// The clusters of that table.
    pub refcount_table_clusters: u32,
    /// A reference count has 2 to the power of this many bits: 0 to 6.
    pub refcount_order: u32,
    /// How compressed clusters are compressed.
    pub compression: Compression,
    /// The backing file as it is stored. It is never opened here.
    pub backing_path: Option<PathBuf>,
    /// The backing file's format as it is stored.
    pub backing_format: Option<String>,
    /// The incompatible features that are set; all of them are known.
    pub incompatible_features: u64,
    /// Whether there are clusters of persistent bitmaps, which no map shows.
    pub has_bitmaps: bool,
    /// Bytes of the file when it was opened.
    pub(super) file_length: u64,
}

impl Header {
    /// Reads the header of `file`, which errors call `name`.
    ///
    /// What the format allows and we do not read is [`crate::error::Code::Unsupported`]; what it
    /// does not allow is [`crate::error::Code::Storage`].
    pub fn read(file: &File, name: &str) -> Result<Header> {
        Header::read_from(file).map_err(|e| e.or_object(name))
    }

    fn read_from(file: &File) -> Result<Header> {
        let file_length = file.metadata().map_err(|e| read_failed(&e))?.len();
        let mut fixed = [0u8; HEADER_3];
        read_start(file, &mut fixed, file_length)?;
        let cluster_bits = check_kind(&fixed)?;
        // At most 2 MiB.
        let mut cluster = vec![0; 1 << cluster_bits];
        read_start(file, &mut cluster, file_length)?;
        parse(&cluster, cluster_bits, file_length)
    }

    /// Bytes of a cluster.
    pub fn cluster_size(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// Whether a writer was cut off that counts references late: they may be too low.
    pub fn is_dirty(&self) -> bool {
        self.incompatible_features & DIRTY != 0
    }

    /// Bytes of the disk that one entry of the first-level table maps.
    pub(super) fn bytes_per_l1_entry(&self) -> u64 {
        1 << (2 * self.cluster_bits - 3)
    }

    /// Makes sure that `length` bytes from `offset` on are in the file. The last cluster may be
    /// cut short: what is missing of it reads as zeros.
    pub(super) fn inside(&self, what: &str, offset: u64, length: u64) -> Result<()> {
        let end = offset.checked_add(length).filter(|end| {
            offset < self.file_length && end.saturating_sub(self.file_length) < self.cluster_size()
        });
        end.map(drop).ok_or_else(|| {
            let file = self.file_length;
            damaged(what, format!("at {offset:#x} with {length} bytes in a file of {file}"))
        })
    }

    /// Makes sure that a table starts where one can, and is in the file.
    fn table(&self, what: &str, offset: u64, length: u64) -> Result<()> {
        if offset == 0 || !offset.is_multiple_of(self.cluster_size()) {
            return Err(damaged(format!("the offset of {what}"), format!("{offset:#x}")));
        }
        self.inside(what, offset, length)
    }

    fn check_geometry(&self) -> Result<()> {
        let size = self.virtual_size;
        if size == 0 || size > MAX_SIZE || !size.is_multiple_of(512) {
            return Err(unsupported(
                format!("its virtual size is {size} bytes"),
                "sizes are multiples of 512 up to 64 TiB",
            ));
        }
        let needed = size.div_ceil(self.bytes_per_l1_entry());
        let entries = u64::from(self.l1_entries);
        if entries < needed || entries * 8 > MAX_L1_BYTES {
            let found = format!("{entries}, of which a disk of {size} bytes needs {needed}");
            return Err(damaged("the number of first-level entries", found));
        }
        self.table("the first-level table", self.l1_offset, entries * 8)?;
        let length = u64::from(self.refcount_table_clusters) << self.cluster_bits;
        if length == 0 || length > MAX_REFCOUNT_TABLE {
            let found = format!("{} clusters", self.refcount_table_clusters);
            return Err(damaged("the length of the reference count table", found));
        }
        if self.refcount_order > 6 {
            return Err(damaged("the order of reference counts", self.refcount_order));
        }
        self.table("the reference count table", self.refcount_table_offset, length)
    }
}

fn read_start(file: &File, buffer: &mut [u8], file_length: u64) -> Result<()> {
    // A file may end within its first cluster; what is missing reads as zeros.
    let there = usize::try_from(file_length).unwrap_or(usize::MAX).min(buffer.len());
    let there = buffer.get_mut(..there).unwrap_or_default();
    file.read_exact_at(there, 0).map_err(|e| read_failed(&e))
}

/// The number of bits of a cluster, when this is a qcow2 file at all.
fn check_kind(fixed: &[u8]) -> Result<u32> {
    let magic = get32(fixed, 0).unwrap_or(0);
    if magic != MAGIC {
        return Err(damaged("the magic number of qcow2", format!("{magic:#010x}")));
    }
    match get32(fixed, 4).unwrap_or(0) {
        2 | 3 => {}
        version => {
            return Err(unsupported(
                format!("its version is {version}"),
                "convert it with `qemu-img convert -O qcow2` to version 2 or 3",
            ));
        }
    }
    match get32(fixed, 20).unwrap_or(0) {
        bits @ 9..=21 => Ok(bits),
        bits => Err(damaged("the number of cluster bits", bits)),
    }
}

/// Parses the first cluster.
fn parse(cluster: &[u8], cluster_bits: u32, file_length: u64) -> Result<Header> {
    // The first cluster has at least 512 bytes.
    let field32 = |at| get32(cluster, at).unwrap_or(0);
    let field64 = |at| get64(cluster, at).unwrap_or(0);
    let version = field32(4);
    if file_length < if version == 2 { HEADER_2 } else { HEADER_3 } as u64 {
        return Err(damaged("the file's length", format!("{file_length} bytes")));
    }
    let (features, refcount_order, header_length) = match version {
        2 => (0, 4, HEADER_2),
        _ => (field64(72), field32(96), header_length(field32(100), cluster)?),
    };
    check_features(features, field32(32), field32(60))?;
    let autoclear = if version == 2 { 0 } else { field64(88) };
    if autoclear & RAW_EXTERNAL_DATA != 0 {
        return Err(damaged(
            "the mark of raw data in another file, which there is none of,",
            "set",
        ));
    }
    // Without snapshots it says nothing, but QEMU refuses one that is impossible.
    let snapshots = field64(64);
    if snapshots > i64::MAX as u64 || !snapshots.is_multiple_of(1 << cluster_bits) {
        return Err(damaged("the offset of the snapshot table", format!("{snapshots:#x}")));
    }
    let compression = compression(cluster, features, header_length)?;
    let backing = backing(cluster, field64(8), field32(16))?;
    let name_at = field64(8) as usize;
    // Extensions end where the backing file's name starts; `backing` has checked where that is.
    let end = if name_at == 0 { cluster.len() } else { name_at };
    let extensions = extensions(cluster.get(..end).unwrap_or(cluster), header_length)?;
    let header = Header {
        version,
        cluster_bits,
        virtual_size: field64(24),
        l1_offset: field64(40),
        l1_entries: field32(36),
        refcount_table_offset: field64(48),
        refcount_table_clusters: field32(56),
        refcount_order,
        compression,
        backing_format: backing.as_ref().and(extensions.backing_format),
        backing_path: backing,
        incompatible_features: features,
        has_bitmaps: extensions.has_bitmaps && autoclear & BITMAPS != 0,
        file_length,
    };
    header.check_geometry()?;
    Ok(header)
}

fn header_length(stored: u32, cluster: &[u8]) -> Result<usize> {
    let length = stored as usize;
    if length < HEADER_3 || !length.is_multiple_of(8) || length > cluster.len() {
        return Err(damaged("the header's length", stored));
    }
    Ok(length)
}

fn check_features(features: u64, encryption: u32, snapshots: u32) -> Result<()> {
    const CONVERT: &str = "convert it with `qemu-img convert -O qcow2`";
    if features & CORRUPT != 0 {
        return Err(damaged("the mark of files that QEMU found to be corrupt", "set"));
    }
    if features & EXTERNAL_DATA != 0 {
        return Err(unsupported("its data are in another file", CONVERT));
    }
    if features & EXTENDED_L2 != 0 {
        return Err(unsupported("it has extended second-level entries", CONVERT));
    }
    let unknown = features & !(DIRTY | COMPRESSION_TYPE);
    if unknown != 0 {
        return Err(unsupported(
            format!("it has the unknown incompatible features {unknown:#x}"),
            "convert it with the program that wrote it",
        ));
    }
    if encryption != 0 {
        return Err(unsupported(format!("it is encrypted (method {encryption})"), CONVERT));
    }
    if snapshots != 0 {
        return Err(unsupported(format!("it has {snapshots} internal snapshots"), CONVERT));
    }
    Ok(())
}

fn compression(cluster: &[u8], features: u64, header_length: usize) -> Result<Compression> {
    let stored = if header_length > HEADER_3 { cluster.get(HEADER_3).copied() } else { None };
    match (features & COMPRESSION_TYPE != 0, stored.unwrap_or(0)) {
        (false, 0) => Ok(Compression::Deflate),
        (true, 1) => Ok(Compression::Zstd),
        (true, kind @ 2..) => Err(unsupported(
            format!("its compression type is {kind}"),
            "convert it with `qemu-img convert -O qcow2`",
        )),
        (flag, kind) => {
            let found = format!("{kind} though the feature bit is {}", u8::from(flag));
            Err(damaged("the compression type", found))
        }
    }
}

fn backing(cluster: &[u8], offset: u64, length: u32) -> Result<Option<PathBuf>> {
    if offset == 0 {
        return Ok(None);
    }
    let start = usize::try_from(offset).unwrap_or(usize::MAX);
    let length = length as usize;
    let name = start
        .checked_add(length)
        .filter(|_| length <= MAX_BACKING_PATH)
        .and_then(|end| cluster.get(start..end));
    let Some(name) = name else {
        let found = format!("at {offset:#x} with {length} bytes");
        return Err(damaged("the backing file's name", found));
    };
    if name.contains(&0) {
        return Err(damaged("the backing file's name", "one with zero bytes"));
    }
    Ok((!name.is_empty()).then(|| PathBuf::from(OsString::from_vec(name.to_vec()))))
}

#[derive(Default)]
struct Extensions {
    backing_format: Option<String>,
    has_bitmaps: bool,
}

/// Walks the extensions; `header` is the first cluster up to where they must have ended.
fn extensions(header: &[u8], mut at: usize) -> Result<Extensions> {
    let mut found = Extensions::default();
    while let (Some(kind), Some(length)) = (get32(header, at), get32(header, at + 4)) {
        let start = at + 8;
        let data = start.checked_add(length as usize).and_then(|end| header.get(start..end));
        let Some(data) = data else {
            let found = format!("{length} bytes at {at:#x}");
            return Err(damaged(format!("the length of header extension {kind:#x}"), found));
        };
        match kind {
            END_OF_EXTENSIONS => return Ok(found),
            BACKING_FORMAT if data.len() >= BACKING_FORMAT_ROOM => {
                let found = format!("a name of {length} bytes");
                return Err(damaged("the backing file's format", found));
            }
            BACKING_FORMAT => {
                let name = str::from_utf8(data).map_err(|_| {
                    damaged("the backing file's format", "a name that is not UTF-8")
                })?;
                found.backing_format = Some(name.to_owned());
            }
            ENCRYPTION_HEADER => {
                return Err(unsupported(
                    "it has a header of encryption",
                    "convert it with `qemu-img convert -O qcow2`",
                ));
            }
            BITMAPS_EXTENSION => found.has_bitmaps = true,
            // The format lets us step over what we do not know.
            _ => {}
        }
        at = start.saturating_add(data.len().next_multiple_of(8));
    }
    Ok(found)
}
