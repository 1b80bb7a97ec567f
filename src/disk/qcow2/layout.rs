//! Where everything lies in a file that is written front to back.
//!
//! Header, table of reference count blocks, the blocks, first-level table, second-level tables, and
//! then the data in order of the disk. All of it is known before the first byte; a cluster of
//! tables is made when it is its turn.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use qcow2_rs::meta::Qcow2Header;

use super::read::{Content, Piece, Reader};
use super::{MAX_L1_BYTES, MAX_TABLE_BYTES, too_large, unsupported};
use crate::disk::overlay::{DiskFormat, MAX_BACKING_PATH};
use crate::error::{Code, Error, Result};

/// Clusters of 64 KiB, as QEMU makes them.
const CLUSTER_BITS: u32 = 16;
const SMALLEST_CLUSTER_BITS: u32 = 9;
const HEADER: usize = 104;
const BACKING_FORMAT: u32 = 0xe279_2aca;
/// The cluster belongs to one entry alone.
const COPIED: u64 = 1 << 63;
/// The cluster reads as zeros.
const ZERO: u64 = 1;
/// The largest table of reference count blocks, as with QEMU.
const MAX_REFCOUNT_TABLE: u64 = 8 << 20;

/// A stretch of the disk whose clusters are all of one kind.
#[derive(Debug, Clone, Copy)]
struct Run {
    /// Its first cluster, counted from the disk's start.
    first: u64,
    clusters: u64,
    /// Zeros that hide a backing file; else data.
    zero: bool,
    /// How many clusters of data come before it.
    data_before: u64,
}

impl Run {
    fn end(&self) -> u64 {
        self.first + self.clusters
    }

    fn data_end(&self) -> u64 {
        self.data_before + if self.zero { 0 } else { self.clusters }
    }
}

/// The plan of a file. Holds 32 bytes for each run, of which there are no more than pieces, and 8
/// for each second-level table, of which there are at most
/// [`MAX_TABLE_BYTES`](super::MAX_TABLE_BYTES).
#[derive(Debug)]
pub struct Layout {
    pub cluster_bits: u32,
    header: Vec<u8>,
    runs: Vec<Run>,
    /// Which entries of the first-level table there are.
    tables: Vec<u64>,
    // Each in clusters.
    refcount_table: u64,
    refcount_blocks: u64,
    l1_table: u64,
    data: u64,
}

impl Layout {
    pub fn new(reader: &Reader, backing: Option<(&Path, DiskFormat)>) -> Result<Layout> {
        let cluster_bits = if backing.is_some() { cluster_bits(reader) } else { CLUSTER_BITS };
        let entries = reader.size().div_ceil(1 << (2 * cluster_bits - 3));
        if entries * 8 > MAX_L1_BYTES {
            let what = format!(
                "a disk of {} bytes in clusters of {} bytes",
                reader.size(),
                1u64 << cluster_bits
            );
            return Err(unsupported(what, "flatten the chain"));
        }
        let runs = runs(reader.extents(), cluster_bits, backing.is_some());
        let mut layout = Layout {
            cluster_bits,
            header: Vec::new(),
            tables: tables(&runs, cluster_bits - 3),
            refcount_table: 0,
            refcount_blocks: 0,
            l1_table: (entries * 8).div_ceil(1 << cluster_bits),
            data: runs.last().map_or(0, Run::data_end),
            runs,
        };
        layout.count_references()?;
        layout.header = layout.make_header(reader.size(), entries, backing)?;
        Ok(layout)
    }

    /// Bytes of the whole file.
    pub fn length(&self) -> u64 {
        self.clusters() << self.cluster_bits
    }

    /// Bytes of all that comes before the data.
    pub fn data_offset(&self) -> u64 {
        self.data_cluster() << self.cluster_bits
    }

    /// What lies `offset` bytes behind the start of the data: where that is on the disk, and how many
    /// bytes follow there in one piece. Nothing at the end.
    pub fn data_at(&self, offset: u64) -> Option<(u64, u64)> {
        let cluster = offset >> self.cluster_bits;
        let index = self.runs.partition_point(|run| run.data_end() <= cluster);
        let run = self.runs.get(index)?;
        let skipped = offset - (run.data_before << self.cluster_bits);
        let length = (run.clusters << self.cluster_bits) - skipped;
        Some(((run.first << self.cluster_bits) + skipped, length))
    }

    /// Fills one cluster of those that come before the data.
    pub fn metadata(&self, cluster: u64, out: &mut [u8]) {
        out.fill(0);
        let blocks = 1 + self.refcount_table;
        if cluster == 0 {
            let header = self.header.get(..out.len().min(self.header.len()));
            header.unwrap_or_default().iter().zip(out).for_each(|(byte, out)| *out = *byte);
        } else if cluster < blocks {
            self.refcount_table_cluster(cluster - 1, out);
        } else if cluster < self.l1_cluster() {
            self.refcount_block(cluster - blocks, out);
        } else if cluster < self.l2_cluster() {
            self.l1_cluster_at(cluster - self.l1_cluster(), out);
        } else {
            self.l2_table(cluster - self.l2_cluster(), out);
        }
    }

    fn l1_cluster(&self) -> u64 {
        1 + self.refcount_table + self.refcount_blocks
    }

    fn l2_cluster(&self) -> u64 {
        self.l1_cluster() + self.l1_table
    }

    fn data_cluster(&self) -> u64 {
        self.l2_cluster() + self.tables.len() as u64
    }

    fn clusters(&self) -> u64 {
        self.data_cluster() + self.data
    }

    /// Finds out how many reference counts there must be, which count themselves.
    fn count_references(&mut self) -> Result<()> {
        let cluster = 1u64 << self.cluster_bits;
        if (self.tables.len() as u64) << self.cluster_bits > MAX_TABLE_BYTES {
            return Err(too_large(format!("it has {} second-level tables", self.tables.len())));
        }
        loop {
            // A count has two bytes, and an entry of their table eight.
            let blocks = self.clusters().div_ceil(cluster / 2);
            let table = (blocks * 8).div_ceil(cluster);
            if table << self.cluster_bits > MAX_REFCOUNT_TABLE {
                return Err(too_large(format!("it has {} clusters", self.clusters())));
            }
            if (blocks, table) == (self.refcount_blocks, self.refcount_table) {
                return Ok(());
            }
            (self.refcount_blocks, self.refcount_table) = (blocks, table);
        }
    }

    fn make_header(
        &self,
        size: u64,
        entries: u64,
        backing: Option<(&Path, DiskFormat)>,
    ) -> Result<Vec<u8>> {
        let mut extensions = Vec::new();
        let mut name = [].as_slice();
        if let Some((path, format)) = backing {
            name = check_backing(path)?;
            let format = format.name().as_bytes();
            extensions.extend(BACKING_FORMAT.to_be_bytes());
            // At most 5.
            extensions.extend((format.len() as u32).to_be_bytes());
            extensions.extend(format);
            extensions.resize(extensions.len().next_multiple_of(8), 0);
        }
        // The end of extensions.
        extensions.resize(extensions.len() + 8, 0);
        let name_at = if name.is_empty() { 0 } else { HEADER + extensions.len() };
        if HEADER + extensions.len() + name.len() > 1 << self.cluster_bits {
            let message = "the backing file's path does not fit into the first cluster";
            return Err(Error::new(Code::InvalidArgument, message));
        }
        let offset = |cluster: u64| cluster << self.cluster_bits;
        let mut out = vec![0; HEADER];
        put32(&mut out, 0, Qcow2Header::QCOW2_MAGIC);
        put32(&mut out, 4, 3); // version
        put64(&mut out, 8, name_at as u64);
        put32(&mut out, 16, name.len() as u32); // at most 1023
        put32(&mut out, 20, self.cluster_bits);
        put64(&mut out, 24, size);
        put32(&mut out, 36, entries as u32); // at most MAX_L1_BYTES / 8
        put64(&mut out, 40, offset(self.l1_cluster()));
        put64(&mut out, 48, offset(1)); // table of reference count blocks
        put32(&mut out, 56, self.refcount_table as u32); // at most MAX_REFCOUNT_TABLE
        put32(&mut out, 96, 4); // 16-bit reference counts
        put32(&mut out, 100, HEADER as u32);
        out.extend(extensions);
        out.extend(name);
        Ok(out)
    }

    fn refcount_table_cluster(&self, number: u64, out: &mut [u8]) {
        let first = number << (self.cluster_bits - 3);
        for (block, entry) in (first..self.refcount_blocks).zip(entries(out)) {
            let offset = (1 + self.refcount_table + block) << self.cluster_bits;
            *entry = offset.to_be_bytes();
        }
    }

    fn refcount_block(&self, number: u64, out: &mut [u8]) {
        let first = number << (self.cluster_bits - 1);
        let counted = usize::try_from(self.clusters() - first).unwrap_or(usize::MAX);
        for count in out.as_chunks_mut().0.iter_mut().take(counted) {
            *count = 1u16.to_be_bytes();
        }
    }

    fn l1_cluster_at(&self, number: u64, out: &mut [u8]) {
        let first = number << (self.cluster_bits - 3);
        let skipped = self.tables.partition_point(|index| *index < first);
        let entries = entries(out);
        for (table, index) in self.tables.iter().enumerate().skip(skipped) {
            let at = usize::try_from(index - first).unwrap_or(usize::MAX);
            let Some(entry) = entries.get_mut(at) else { break };
            let offset = (self.l2_cluster() + table as u64) << self.cluster_bits;
            *entry = (offset | COPIED).to_be_bytes();
        }
    }

    fn l2_table(&self, number: u64, out: &mut [u8]) {
        let index = usize::try_from(number).ok().and_then(|number| self.tables.get(number));
        let Some(index) = index else { return };
        let first = index << (self.cluster_bits - 3);
        let end = first + (1 << (self.cluster_bits - 3));
        let entries = entries(out);
        let skipped = self.runs.partition_point(|run| run.end() <= first);
        for run in self.runs.iter().skip(skipped).take_while(|run| run.first < end) {
            let start = run.first.max(first);
            let of_table = (start - first) as usize..(run.end().min(end) - first) as usize;
            let data = self.data_cluster() + run.data_before + (start - run.first);
            let Some(entries) = entries.get_mut(of_table) else { return };
            for (cluster, entry) in (data..).zip(entries) {
                let value = if run.zero { ZERO } else { cluster << self.cluster_bits | COPIED };
                *entry = value.to_be_bytes();
            }
        }
    }
}

fn put32(out: &mut [u8], at: usize, value: u32) {
    out[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

fn put64(out: &mut [u8], at: usize, value: u64) {
    out[at..at + 8].copy_from_slice(&value.to_be_bytes());
}

fn entries(table: &mut [u8]) -> &mut [[u8; 8]] {
    table.as_chunks_mut().0
}

/// The size of clusters with which nothing shows of a backing file but what is to be seen.
///
/// A cluster is either here or there. Where layers have smaller clusters than ours, or end within
/// one, ours must be smaller too.
fn cluster_bits(reader: &Reader) -> u32 {
    let mut end = 0;
    let mut bounds = 0;
    for piece in reader.extents() {
        if piece.guest != end {
            bounds |= end | piece.guest;
        }
        end = piece.end();
    }
    if end != reader.size() {
        bounds |= end;
    }
    // Zero has 64 trailing zeros.
    bounds.trailing_zeros().clamp(SMALLEST_CLUSTER_BITS, CLUSTER_BITS)
}

/// What must be in the file: data, and zeros where they hide something.
fn runs(pieces: impl Iterator<Item = Piece>, cluster_bits: u32, keep_zeros: bool) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for piece in pieces {
        let zero = piece.content == Content::Zero;
        if zero && !keep_zeros {
            continue;
        }
        let (mut first, end) =
            (piece.guest >> cluster_bits, ((piece.end() - 1) >> cluster_bits) + 1);
        // Data in a cluster make all of it data, though what is before them are zeros.
        if !zero
            && let Some(last) = runs.last_mut()
            && last.zero
            && last.end() > first
        {
            last.clusters -= 1;
        }
        runs.pop_if(|last| last.clusters == 0);
        let last_end = runs.last().map_or(0, Run::end);
        first = first.max(last_end);
        if first >= end {
            continue;
        }
        let data_before = runs.last().map_or(0, Run::data_end);
        let run = Run { first, clusters: end - first, zero, data_before };
        match runs.last_mut() {
            Some(last) if last.zero == zero && last.end() == first => last.clusters += run.clusters,
            _ => runs.push(run),
        }
    }
    runs
}

/// Which second-level tables there must be.
fn tables(runs: &[Run], entry_bits: u32) -> Vec<u64> {
    let mut tables: Vec<u64> = Vec::new();
    for run in runs {
        let next = tables.last().map_or(0, |last| last + 1);
        let first = (run.first >> entry_bits).max(next);
        tables.extend(first..=((run.end() - 1) >> entry_bits));
    }
    tables
}

fn check_backing(path: &Path) -> Result<&[u8]> {
    let name = path.as_os_str().as_bytes();
    let invalid = |message: String| Err(Error::new(Code::InvalidArgument, message));
    if name.is_empty() || name.len() > MAX_BACKING_PATH || name.contains(&0) {
        return invalid(format!(
            "the path of a backing file has {} bytes; qcow2 has room for 1 to {MAX_BACKING_PATH}",
            name.len()
        ));
    }
    if str::from_utf8(name).is_err() {
        return invalid("the path of a backing file is not UTF-8".to_owned());
    }
    // QEMU would take what is before a colon for a protocol, "json:" and others.
    if !name.starts_with(b"/") && name.contains(&b':') {
        return invalid("a relative path of a backing file must not have a colon".to_owned());
    }
    Ok(name)
}
