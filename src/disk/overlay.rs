//! qcow2 overlays: a disk that holds only what differs from its backing file.
//!
//! Only the metadata of an empty overlay is written here (version 3, 64 KiB clusters); QEMU
//! does all reading and writing of data. The header is read back with `qcow2-rs`, which has no
//! way to create one with a backing file. Format: QEMU's `docs/interop/qcow2.txt`.

use std::fs::File;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use qcow2_rs::meta::Qcow2Header;
use serde::{Deserialize, Serialize};

use super::chain::Chain;
use super::durable::{self, IfExists, PendingFile};
use crate::error::{Code, Error, Result};

/// The longest path of a backing file, which the format fixes.
pub const MAX_BACKING_PATH: usize = 1023;

const CLUSTER_BITS: u32 = 16;
const CLUSTER: usize = 1 << CLUSTER_BITS;
const HEADER: usize = 104;
/// That of version 2.
const HEADER_OF_2: usize = 72;
const BACKING_FORMAT: u32 = 0xe279_2aca;
const END_OF_EXTENSIONS: u32 = 0;
const FEATURE_NAMES: u32 = 0x6803_f857;
/// Bytes of an entry in the table of feature names.
const FEATURE_NAME: usize = 48;
/// Incompatible features that do not change the header: dirty, corrupt, compression type,
/// extended entries.
const HARMLESS_FEATURES: u64 = 0b1_1011;
/// Clusters before the first-level table: header, reference count table and block.
const FIXED_CLUSTERS: u64 = 3;
/// Guest bytes that one entry of the first-level table maps.
const BYTES_PER_L1_ENTRY: u64 = (CLUSTER as u64 / 8) * CLUSTER as u64;
/// The largest first-level table that QEMU opens.
const MAX_L1_BYTES: u64 = 32 << 20;

/// The format of a backing file. It is always named: guessing would let a guest that writes a
/// qcow2 header into a raw disk name files of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskFormat {
    /// Plain bytes.
    Raw,
    /// Another overlay.
    Qcow2,
}

impl DiskFormat {
    /// The name that the header stores.
    pub fn name(self) -> &'static str {
        match self {
            DiskFormat::Raw => "raw",
            DiskFormat::Qcow2 => "qcow2",
        }
    }
}

/// What a qcow2 file says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverlayInfo {
    /// Bytes that the guest sees.
    pub virtual_size: u64,
    /// The backing file as it is stored; relative to the overlay's directory unless absolute.
    pub backing_path: Option<PathBuf>,
    /// The backing file's format as it is stored.
    pub backing_format: Option<String>,
}

/// A raw file that empty overlays are on, and what they say of it: all that is alike are the same disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RawBase {
    /// Absolute.
    pub path: PathBuf,
    /// How the overlays name it.
    pub named: PathBuf,
    /// Bytes that the guest sees.
    pub virtual_size: u64,
}

impl RawBase {
    /// What an overlay on it says.
    pub fn info(&self) -> OverlayInfo {
        OverlayInfo {
            virtual_size: self.virtual_size,
            backing_path: Some(self.named.clone()),
            backing_format: Some(DiskFormat::Raw.name().to_owned()),
        }
    }
}

/// Creates an empty overlay of `virtual_size` bytes at `path`, on what it is to name `backing`: best
/// relative to its directory ([`super::chain::named_from`]).
///
/// The file is complete and durable when this returns. An existing file is
/// [`Code::AlreadyExists`] and left alone.
pub fn create(
    path: &Path,
    backing: &Path,
    backing_format: DiskFormat,
    virtual_size: u64,
) -> Result<()> {
    let (start, length) = empty(backing, backing_format, virtual_size)?;
    check_written(&start, backing)?;
    let pending = PendingFile::create(path)?;
    let mut file = pending.file();
    let written = file.write_all(&start).and_then(|()| file.set_len(length));
    written.map_err(|e| Error::io(Code::Storage, format!("write {}", path.display()), &e))?;
    pending.commit(IfExists::Fail)
}

/// What an empty overlay starts with, and its length; the rest, which is the first-level table, is
/// zeros.
fn empty(backing: &Path, format: DiskFormat, virtual_size: u64) -> Result<(Vec<u8>, u64)> {
    let mut start = header(backing, format, virtual_size)?;
    let clusters = FIXED_CLUSTERS + l1_clusters(virtual_size);
    start.extend(reference_counts(clusters));
    Ok((start, clusters * CLUSTER as u64))
}

/// What a disk is on that is on a raw file, and whose overlay is as [`create`] left it: nobody has
/// opened it to write since. None for any other.
pub fn untouched(disk: &Chain) -> Result<Option<RawBase>> {
    let [top, base] = &disk.links[..] else { return Ok(None) };
    if base.format != DiskFormat::Raw {
        return Ok(None);
    }
    let info = info(&top.path)?;
    let virtual_size = info.virtual_size;
    Ok(match info.backing_path.clone() {
        Some(named)
            if has_length(&base.path, virtual_size)
                && is_as_made(&top.path, info, DiskFormat::Raw)? =>
        {
            Some(RawBase { path: base.path.clone(), named, virtual_size })
        }
        _ => None,
    })
}

/// Whether a disk is as large as the file that it is on: it was not made larger since.
fn has_length(base: &Path, length: u64) -> bool {
    base.metadata().is_ok_and(|meta| meta.len() == length)
}

/// Whether an overlay on another is as [`create`] left it.
pub fn is_empty(path: &Path) -> Result<bool> {
    is_empty_on(path, DiskFormat::Qcow2)
}

/// Whether an overlay on a file of this format is as [`create`] left it.
pub fn is_empty_on(path: &Path, format: DiskFormat) -> Result<bool> {
    is_as_made(path, info(path)?, format)
}

/// Whether an overlay with this header, on a file of this format, is as [`create`] left it.
fn is_as_made(path: &Path, info: OverlayInfo, format: DiskFormat) -> Result<bool> {
    let Some(named) = info.backing_path else { return Ok(false) };
    let Ok((start, length)) = empty(&named, format, info.virtual_size) else { return Ok(false) };
    let read = || {
        let file = File::open(path)?;
        if file.metadata()?.len() != length {
            return Ok(false);
        }
        // The tables of the largest disk have 32 MiB.
        let mut bytes = vec![0; length as usize];
        file.read_exact_at(&mut bytes, 0)?;
        let (found, rest) = bytes.split_at(start.len());
        Ok(found == start && rest.iter().all(|byte| *byte == 0))
    };
    read().map_err(|e: std::io::Error| {
        Error::io(Code::Storage, format!("read {}", path.display()), &e)
    })
}

/// Has the file at `path` be these bytes, which are an overlay, from now on: all of them or none.
/// What somebody left who was killed in here goes; the caller sees to it that nobody else is.
pub fn replace(path: &Path, overlay: &[u8]) -> Result<()> {
    durable::remove_leftovers(path)?;
    let pending = PendingFile::create(path)?;
    let written = pending.file().write_all(overlay);
    written.map_err(|e| Error::io(Code::Storage, format!("write {}", path.display()), &e))?;
    pending.commit(IfExists::Replace)
}

/// Reads what the qcow2 file at `path` says. The file may be anything: it is not trusted.
pub fn info(path: &Path) -> Result<OverlayInfo> {
    let file = File::open(path)
        .map_err(|e| Error::io(Code::Storage, format!("open {}", path.display()), &e))?;
    info_of(&file, path)
}

/// As [`info`], for an open file.
pub fn info_of(file: &File, path: &Path) -> Result<OverlayInfo> {
    parse(&mut first_cluster(file, path)?).map_err(|why| bad(path, &why))
}

/// The cluster with the header, or as much of it as the file has.
pub(super) fn first_cluster(file: &File, path: &Path) -> Result<Vec<u8>> {
    let failed =
        |e: &std::io::Error| Error::io(Code::Storage, format!("read {}", path.display()), e);
    // The header ends with the first cluster, which has at most 2 MiB.
    let mut start = vec![0u8; HEADER];
    let read = read_up_to(file, &mut start).map_err(|e| failed(&e))?;
    start.truncate(read);
    let cluster = cluster_size(&start).map_err(|why| bad(path, why))?;
    let mut buffer = vec![0u8; cluster];
    let read = read_up_to(file, &mut buffer).map_err(|e| failed(&e))?;
    buffer.truncate(read);
    Ok(buffer)
}

/// Has the qcow2 file at `path` name another file as the one that it is on, with its format. Nothing
/// else changes, and it is durable when this returns; what the guest sees is the same only if that file
/// says the same. Nobody may have it open to write.
///
/// The names of all files that we make end within the header's first 512 bytes, which a disk writes
/// whole or not at all.
pub fn set_backing(path: &Path, backing: &Path, format: DiskFormat) -> Result<()> {
    let failed = |what: &str, e: &std::io::Error| {
        Error::io(Code::Storage, format!("{what} {}", path.display()), e)
    };
    let file = File::options().read(true).write(true).open(path);
    let file = file.map_err(|e| failed("open", &e))?;
    let old = first_cluster(&file, path)?;
    let info = parse(&mut old.clone()).map_err(|why| bad(path, &why))?;
    let named = |info: &OverlayInfo| {
        info.backing_path.as_deref() == Some(backing)
            && info.backing_format.as_deref() == Some(format.name())
    };
    if named(&info) {
        return Ok(());
    }
    check_name(backing)?;
    let new = with_backing(&old, backing, format).map_err(|why| bad(path, &why))?;
    let read = parse(&mut new.clone()).map_err(|why| bad(path, &why))?;
    if !named(&read) || read.virtual_size != info.virtual_size {
        return Err(Error::new(Code::Internal, "the header of an overlay does not read back"));
    }
    // One write, of no more than what changes.
    let end = (0..new.len()).rev().find(|at| old.get(*at) != new.get(*at)).map_or(0, |at| at + 1);
    file.write_all_at(&new[..end], 0).map_err(|e| failed("write", &e))?;
    file.sync_all().map_err(|e| failed("sync", &e))
}

/// The first cluster with another name for the backing file, all else in it as it is.
fn with_backing(old: &[u8], backing: &Path, format: DiskFormat) -> Result<Vec<u8>, String> {
    let cluster = cluster_size(old)?;
    let at = match get32(old, 4) {
        Some(2) => HEADER_OF_2,
        _ => get32(old, 100).unwrap_or(0) as usize,
    };
    let mut new = old.get(..at).ok_or("its header length is impossible")?.to_vec();
    // What follows is copied, but for what it says of the old file.
    for (kind, data) in extensions(old, at)? {
        if kind != BACKING_FORMAT {
            extend(&mut new, kind, data);
        }
    }
    extend(&mut new, BACKING_FORMAT, format.name().as_bytes());
    extend(&mut new, END_OF_EXTENSIONS, &[]);
    let name_at = new.len();
    let name = backing.as_os_str().as_bytes();
    new.extend(name);
    if new.len() > cluster {
        return Err("its first cluster has no room for the name of its backing file".to_owned());
    }
    put64(&mut new, 8, name_at as u64);
    put32(&mut new, 16, name.len() as u32);
    // The old name may have been longer. A file may end within its first cluster.
    new.resize(new.len().max(old.len()), 0);
    Ok(new)
}

/// Appends an extension of the header.
fn extend(header: &mut Vec<u8>, kind: u32, data: &[u8]) {
    header.extend(kind.to_be_bytes());
    header.extend((data.len() as u32).to_be_bytes());
    header.extend(data);
    header.resize(header.len().next_multiple_of(8), 0);
}

/// Reads what a qcow2 file says whose bytes these are.
pub fn info_in(bytes: &[u8]) -> Result<OverlayInfo> {
    let header = &bytes[..bytes.len().min(CLUSTER)];
    let parsed =
        cluster_size(header).map_err(str::to_owned).and_then(|_| parse(&mut header.to_vec()));
    parsed.map_err(|why| bad(Path::new("an overlay in memory"), &why))
}

pub(super) fn bad(path: &Path, why: &str) -> Error {
    let message = format!("{} is not a usable qcow2 file: {why}", path.display());
    Error::new(Code::Storage, message)
}

/// Makes sure that a path can be stored, and means to others what it means here.
fn check_name(backing: &Path) -> Result<()> {
    let backing = backing.as_os_str().as_bytes();
    let invalid = |message: String| Err(Error::new(Code::InvalidArgument, message));
    if backing.is_empty() || backing.len() > MAX_BACKING_PATH {
        return invalid(format!(
            "the path of a backing file has {} bytes; qcow2 has room for 1 to {MAX_BACKING_PATH}",
            backing.len()
        ));
    }
    if str::from_utf8(backing).is_err() {
        return invalid("the path of a backing file is not UTF-8".to_owned());
    }
    // QEMU would take what is before a colon for a protocol, "json:" and others.
    if backing.iter().find(|b| b":/".contains(b)) == Some(&b':') {
        return invalid("a path of a backing file must not begin as a protocol does".to_owned());
    }
    Ok(())
}

fn header(backing: &Path, format: DiskFormat, virtual_size: u64) -> Result<Vec<u8>> {
    check_name(backing)?;
    let backing = backing.as_os_str().as_bytes();
    let invalid = |message: String| Err(Error::new(Code::InvalidArgument, message));
    let entries = virtual_size.div_ceil(BYTES_PER_L1_ENTRY);
    if virtual_size == 0 || !virtual_size.is_multiple_of(512) || entries * 8 > MAX_L1_BYTES {
        return invalid(format!(
            "an overlay of {virtual_size} bytes cannot be made: sizes are multiples of 512"
        ));
    }
    let format = format.name().as_bytes();
    let name_at = HEADER + 8 + format.len().next_multiple_of(8) + 8;

    let mut out = vec![0u8; CLUSTER];
    let cluster = CLUSTER as u64;
    put32(&mut out, 0, Qcow2Header::QCOW2_MAGIC);
    put32(&mut out, 4, 3); // version
    put64(&mut out, 8, name_at as u64);
    // At most 1023.
    put32(&mut out, 16, backing.len() as u32);
    put32(&mut out, 20, CLUSTER_BITS);
    put64(&mut out, 24, virtual_size);
    // At most MAX_L1_BYTES / 8.
    put32(&mut out, 36, entries as u32);
    put64(&mut out, 40, FIXED_CLUSTERS * cluster); // first-level table
    put64(&mut out, 48, cluster); // reference count table
    put32(&mut out, 56, 1); // its clusters
    put32(&mut out, 96, 4); // 16-bit reference counts
    put32(&mut out, 100, HEADER as u32);
    put32(&mut out, HEADER, BACKING_FORMAT);
    put32(&mut out, HEADER + 4, format.len() as u32);
    out[HEADER + 8..HEADER + 8 + format.len()].copy_from_slice(format);
    put32(&mut out, name_at - 8, END_OF_EXTENSIONS);
    out[name_at..name_at + backing.len()].copy_from_slice(backing);
    Ok(out)
}

/// Makes sure that others read what was meant.
fn check_written(header: &[u8], backing: &Path) -> Result<()> {
    let read = parse(&mut header.to_vec());
    match read {
        Ok(info) if info.backing_path.as_deref() == Some(backing) => Ok(()),
        Ok(_) | Err(_) => {
            Err(Error::new(Code::Internal, "the header of a new overlay does not read back"))
        }
    }
}

/// Reference count table and first block: the first `used` clusters have one reference each.
fn reference_counts(used: u64) -> Vec<u8> {
    let mut out = vec![0u8; 2 * CLUSTER];
    put64(&mut out, 0, 2 * CLUSTER as u64);
    // A first-level table has at most 512 clusters; the block counts 32768.
    for count in out[CLUSTER..].chunks_exact_mut(2).take(used as usize) {
        count.copy_from_slice(&1u16.to_be_bytes());
    }
    out
}

fn l1_clusters(virtual_size: u64) -> u64 {
    (virtual_size.div_ceil(BYTES_PER_L1_ENTRY) * 8).div_ceil(CLUSTER as u64)
}

/// The cluster size, when the fixed part of the header makes sense.
pub(super) fn cluster_size(header: &[u8]) -> Result<usize, &'static str> {
    if header.len() < HEADER {
        return Err("it is too short for a header");
    }
    if get32(header, 0) != Some(Qcow2Header::QCOW2_MAGIC) {
        return Err("it does not start as one");
    }
    if !matches!(get32(header, 4), Some(2 | 3)) {
        return Err("its version is neither 2 nor 3");
    }
    match get32(header, 20) {
        Some(bits @ 9..=21) => Ok(1 << bits),
        _ => Err("its cluster size is impossible"),
    }
}

/// Parses the first cluster, or as much of it as the file has.
///
/// `qcow2-rs` trusts some lengths: they are checked here first.
pub(super) fn parse(cluster: &mut Vec<u8>) -> Result<OverlayInfo, String> {
    let size = cluster_size(cluster)?;
    // A file may end within its first cluster; what is missing reads as zeros.
    cluster.resize(size.max(HEADER + 8), 0);
    if get32(cluster, 4) == Some(2) {
        // Version 2 has a shorter header; what follows is not fields but extensions.
        cluster.splice(HEADER_OF_2..HEADER_OF_2, [0; HEADER - HEADER_OF_2]);
        let name_at = get64(cluster, 8).unwrap_or(0);
        if name_at != 0 {
            let moved = name_at.checked_add((HEADER - HEADER_OF_2) as u64);
            put64(cluster, 8, moved.ok_or("its backing file's name is out of bounds")?);
        }
        put32(cluster, 100, HEADER as u32);
        cluster.truncate(size.max(HEADER + 8));
    }
    let header_len = get32(cluster, 100).unwrap_or(0) as usize;
    if header_len < HEADER || !header_len.is_multiple_of(8) || header_len > size {
        return Err("its header length is impossible".to_owned());
    }
    extensions(cluster, header_len)?;
    let features = get64(cluster, 72).unwrap_or(0);
    put64(cluster, 72, features & !HARMLESS_FEATURES);
    let parsed = Qcow2Header::from_buf(cluster).map_err(|e| e.to_string())?;
    let backing_path = parsed.backing_filename().map(PathBuf::from);
    Ok(OverlayInfo {
        virtual_size: parsed.size(),
        backing_format: backing_path.as_ref().and_then(|_| parsed.backing_format().cloned()),
        backing_path,
    })
}

/// The extensions, with what they hold; each must end within the cluster, and there must be an end.
fn extensions(cluster: &[u8], mut at: usize) -> Result<Vec<(u32, &[u8])>, String> {
    const BAD: &str = "its header extensions are out of bounds";
    let mut found = Vec::new();
    loop {
        let kind = get32(cluster, at).ok_or(BAD)?;
        let len = get32(cluster, at + 4).ok_or(BAD)? as usize;
        if kind == END_OF_EXTENSIONS {
            // The parser reads the data of the end as well.
            return if len == 0 { Ok(found) } else { Err(BAD.to_owned()) };
        }
        if kind == FEATURE_NAMES && !len.is_multiple_of(FEATURE_NAME) {
            return Err(BAD.to_owned());
        }
        let data = cluster.get(at + 8..).and_then(|rest| rest.get(..len)).ok_or(BAD)?;
        found.push((kind, data));
        at = (at + 8 + len).next_multiple_of(8);
    }
}

fn read_up_to(file: &File, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], done as u64)? {
            0 => break,
            read => done += read,
        }
    }
    Ok(done)
}

pub(super) fn get32(buffer: &[u8], at: usize) -> Option<u32> {
    let bytes = buffer.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_be_bytes(*bytes))
}

fn get64(buffer: &[u8], at: usize) -> Option<u64> {
    let bytes = buffer.get(at..)?.first_chunk::<8>()?;
    Some(u64::from_be_bytes(*bytes))
}

pub(super) fn put32(buffer: &mut [u8], at: usize, value: u32) {
    buffer[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

pub(super) fn put64(buffer: &mut [u8], at: usize, value: u64) {
    buffer[at..at + 8].copy_from_slice(&value.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overlay_reads_back_what_it_was_made_with() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk.qcow2");
        let backing = Path::new("/base/image.ext4");
        create(&path, backing, DiskFormat::Raw, 10 << 30).unwrap();
        let want = OverlayInfo {
            virtual_size: 10 << 30,
            backing_path: Some(backing.to_owned()),
            backing_format: Some("raw".to_owned()),
        };
        assert_eq!(info(&path).unwrap(), want);
        let again = create(&path, backing, DiskFormat::Raw, 1 << 30).unwrap_err();
        assert_eq!(again.code(), Code::AlreadyExists);
        assert_eq!(info(&path).unwrap(), want);
    }

    #[test]
    fn backing_paths_up_to_1023_bytes_fit() {
        let directory = tempfile::tempdir().unwrap();
        for len in [1, 7, 8, 1023] {
            let path = directory.path().join(format!("{len}.qcow2"));
            let backing = PathBuf::from(format!("/{}", "b".repeat(len - 1)));
            create(&path, &backing, DiskFormat::Qcow2, 512).unwrap();
            assert_eq!(info(&path).unwrap().backing_path, Some(backing));
        }
        let path = directory.path().join("long.qcow2");
        for backing in ["b".repeat(1024), String::new(), "nbd:x".to_owned()] {
            let error = create(&path, Path::new(&backing), DiskFormat::Raw, 512).unwrap_err();
            assert_eq!(error.code(), Code::InvalidArgument);
        }
        for size in [0, 511, u64::MAX, u64::MAX / 512 * 512] {
            let error = create(&path, Path::new("b"), DiskFormat::Raw, size).unwrap_err();
            assert_eq!(error.code(), Code::InvalidArgument);
        }
        assert!(!path.exists());
    }

    #[test]
    fn an_overlay_is_untouched_until_anything_in_it_changes() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        let (path, base) = (root.join("disk.qcow2"), root.join("base"));
        std::fs::write(&base, b"").unwrap();
        create(&root.join("other"), Path::new("base"), DiskFormat::Raw, 1 << 20).unwrap();
        let make = |named: &str, format, size| {
            let _ = std::fs::remove_file(&path);
            File::options().write(true).open(&base).unwrap().set_len(size).unwrap();
            create(&path, Path::new(named), format, size).unwrap();
        };
        let look = || untouched(&Chain::resolve(&root, &path).unwrap());
        for virtual_size in [1 << 20, 10 << 30, 1 << 40] {
            make("base", DiskFormat::Raw, virtual_size);
            let found = look().unwrap().unwrap();
            let wanted = RawBase { path: base.clone(), named: "base".into(), virtual_size };
            assert_eq!((&found, found.info()), (&wanted, info(&path).unwrap()));
        }
        let length = std::fs::metadata(&path).unwrap().len();
        for at in [90, 1000, 65_536, 131_080, length - 1, length] {
            make("base", DiskFormat::Raw, 1 << 40);
            let chain = Chain::resolve(&root, &path).unwrap();
            let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
            file.write_all_at(&[1], at).unwrap();
            // One that is broken is an error, and not untouched either.
            assert!(!matches!(untouched(&chain), Ok(Some(_))), "byte {at}");
        }
        make("other", DiskFormat::Qcow2, 1 << 30);
        assert_eq!(look().unwrap(), None);
        // A disk that was made larger than what it is on.
        make("base", DiskFormat::Raw, 2 << 30);
        File::options().write(true).open(&base).unwrap().set_len(1 << 30).unwrap();
        assert_eq!(look().unwrap(), None);
    }

    #[test]
    fn another_backing_file_is_named_and_nothing_else_changes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk.qcow2");
        create(&path, Path::new("../a"), DiskFormat::Raw, 1 << 30).unwrap();
        let made = std::fs::read(&path).unwrap();
        let (long, longest) = ("l".repeat(255), "m".repeat(MAX_BACKING_PATH));
        for (named, format) in [
            ("../../bases/b.qcow2", DiskFormat::Qcow2),
            (&*longest, DiskFormat::Qcow2),
            ("../s:1/disk.qcow2", DiskFormat::Qcow2),
            (&*format!("../snapshots/{long}/disk.qcow2"), DiskFormat::Qcow2),
            ("../a", DiskFormat::Raw),
        ] {
            set_backing(&path, Path::new(named), format).unwrap();
            let found = info(&path).unwrap();
            assert_eq!(found.backing_path.as_deref(), Some(Path::new(named)));
            assert_eq!(found.backing_format.as_deref(), Some(format.name()));
            assert_eq!(std::fs::read(&path).unwrap()[CLUSTER..], made[CLUSTER..]);
        }
        assert!(std::fs::read(&path).unwrap() == made);
        for bad in ["", "nbd:x", &"b".repeat(MAX_BACKING_PATH + 1)] {
            let error = set_backing(&path, Path::new(bad), DiskFormat::Raw).unwrap_err();
            assert_eq!(error.code(), Code::InvalidArgument);
        }
        assert!(std::fs::read(&path).unwrap() == made);
    }

    #[test]
    fn files_of_others_keep_all_else_that_their_headers_say() {
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path().join("base");
        std::fs::write(&base, vec![7; 1 << 20]).unwrap();
        let run = |arguments: &[&str]| {
            let run = std::process::Command::new("qemu-img")
                .args(arguments)
                .current_dir(directory.path())
                .output();
            let run = run.unwrap();
            assert!(
                run.status.success(),
                "{arguments:?}: {}",
                String::from_utf8_lossy(&run.stderr)
            );
        };
        for (n, options) in ["compat=0.10", "compat=1.1", "cluster_size=512"].iter().enumerate() {
            let name = format!("{n}.qcow2");
            let over = ["-b", "base", "-F", "raw", &name];
            run(&[&["create", "-q", "-f", "qcow2", "-o", options][..], &over].concat());
            let path = directory.path().join(&name);
            let before = std::fs::read(&path).unwrap();
            set_backing(&path, Path::new("../x/y"), DiskFormat::Qcow2).unwrap();
            let found = info(&path).unwrap();
            assert_eq!(found.backing_path.as_deref(), Some(Path::new("../x/y")));
            set_backing(&path, Path::new("base"), DiskFormat::Raw).unwrap();
            run(&["check", "-q", &name]);
            run(&["compare", "-q", &name, "base"]);
            let after = std::fs::read(&path).unwrap();
            let features =
                |bytes: &[u8]| bytes.windows(4).filter(|w| *w == [0x68, 3, 0xf8, 0x57]).count();
            assert_eq!(features(&after), features(&before));
        }
    }

    #[test]
    fn a_replaced_overlay_is_the_other() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk.qcow2");
        create(&path, Path::new("/base"), DiskFormat::Raw, 1 << 30).unwrap();
        // What a killed program had begun.
        std::fs::write(directory.path().join(".disk.qcow2.x1.partial"), b"anot").unwrap();
        replace(&path, b"another").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"another");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn hostile_headers_are_errors_and_never_panics() {
        let good = header(Path::new("/a/b"), DiskFormat::Raw, 1 << 30).unwrap();
        let mut refused = 0;
        for at in 0..HEADER + 40 {
            for value in [0u8, 1, 0x7f, 0x80, 0xff] {
                let mut bytes = good.clone();
                bytes[at] = value;
                refused += u32::from(parse(&mut bytes).is_err());
            }
        }
        assert!(refused > 100);
        for len in 0..HEADER + 40 {
            let _ = parse(&mut good[..len].to_vec());
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x");
        std::fs::write(&path, b"QFI\xfb").unwrap();
        assert_eq!(info(&path).unwrap_err().code(), Code::Storage);
        assert_eq!(info(directory.path()).unwrap_err().code(), Code::Storage);
    }
}
