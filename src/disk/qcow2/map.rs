//! Where a qcow2 file holds which bytes of its disk.
//!
//! Each table is read once, and each cluster that is named counted as used: work and memory are
//! bounded by [`MAX_TABLE_BYTES`] of tables and
//! [`MAX_EXTENTS`](super::MAX_EXTENTS) extents of 40 bytes, and by as many claims of 24.

use std::fs::File;

use super::claims::Claims;
use super::entry::{Cluster, Entries};
use super::header::Header;
use super::{MAX_TABLE_BYTES, push_bounded, read_padded, too_large};
use crate::error::Result;

/// The extents of one file, in order; what lies between them is absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Map {
    extents: Vec<Extent>,
}

/// A stretch of a disk that lies in a file in one piece. All values are bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Where on the disk it starts.
    pub guest: u64,
    /// Its length on the disk.
    pub length: u64,
    /// Where it comes from.
    pub kind: ExtentKind,
}

/// Where an extent's bytes come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtentKind {
    /// From this offset of the file on. It may end behind the file's end: zeros are there.
    Data {
        /// Offset in the file.
        host: u64,
    },
    /// One cluster, compressed.
    Compressed {
        /// Offset in the file.
        host: u64,
        /// The most bytes that it has in the file.
        length: u64,
    },
    /// Zeros, whatever is below.
    Zero,
}

impl Map {
    /// Reads the map of `file`, which has this header and which errors call `name`.
    ///
    /// A cluster that is used twice and anything outside the file is
    /// [`crate::error::Code::Storage`].
    pub fn read(file: &File, header: &Header, name: &str) -> Result<Map> {
        let walk = walk(file, header).map_err(|e| e.or_object(name))?;
        Ok(Map { extents: walk.extents })
    }

    /// The extents, in order of the disk. None overlaps another.
    pub fn extents(&self) -> &[Extent] {
        &self.extents
    }

    pub(super) fn into_extents(self) -> Vec<Extent> {
        self.extents
    }
}

impl Extent {
    /// Where on the disk it ends.
    pub fn end(&self) -> u64 {
        self.guest + self.length
    }
}

/// All that a file's tables say.
pub(super) struct Walk {
    pub extents: Vec<Extent>,
    pub claims: Claims,
    /// The table of reference count blocks: where each is.
    pub refcount_blocks: Vec<Option<u64>>,
}

/// Reads all tables of a file but for the reference counts themselves.
pub(super) fn walk(file: &File, header: &Header) -> Result<Walk> {
    let entries = Entries::new(header)?;
    let mut claims = Claims::new(header.cluster_bits);
    claims.sole(0, header.cluster_size(), None)?;
    let l1_bytes = u64::from(header.l1_entries) * 8;
    claims.sole(header.l1_offset, l1_bytes, None)?;
    let refcount_blocks = refcount_blocks(file, header, &entries, &mut claims)?;
    let l2_tables = l2_tables(file, header, &entries, &mut claims)?;

    let mut extents = Extents { list: Vec::new(), virtual_size: header.virtual_size };
    let mut table = vec![0; 1 << header.cluster_bits];
    for (index, host) in l2_tables {
        read_padded(file, &mut table, host, header.file_length)?;
        let mut guest = index * header.bytes_per_l1_entry();
        for value in numbers(&table) {
            let cluster = entries.cluster(value)?;
            claim(&mut claims, cluster, header)?;
            extents.push(guest, header.cluster_size(), cluster)?;
            guest += header.cluster_size();
        }
    }
    claims.settle()?;
    Ok(Walk { extents: extents.list, claims, refcount_blocks })
}

fn refcount_blocks(
    file: &File,
    header: &Header,
    entries: &Entries<'_>,
    claims: &mut Claims,
) -> Result<Vec<Option<u64>>> {
    let length = u64::from(header.refcount_table_clusters) << header.cluster_bits;
    claims.sole(header.refcount_table_offset, length, None)?;
    // At most 8 MiB.
    let mut table = vec![0; length as usize];
    read_padded(file, &mut table, header.refcount_table_offset, header.file_length)?;
    let mut blocks = Vec::with_capacity(table.len() / 8);
    for value in numbers(&table) {
        let block = entries.refcount_block(value)?;
        if let Some(host) = block {
            claims.sole(host, header.cluster_size(), None)?;
        }
        blocks.push(block);
    }
    Ok(blocks)
}

/// The second-level tables that there are: the number of each and where it is.
fn l2_tables(
    file: &File,
    header: &Header,
    entries: &Entries<'_>,
    claims: &mut Claims,
) -> Result<Vec<(u64, u64)>> {
    // At most 32 MiB.
    let mut table = vec![0; header.l1_entries as usize * 8];
    read_padded(file, &mut table, header.l1_offset, header.file_length)?;
    let mut found = Vec::new();
    for (index, value) in (0..).zip(numbers(&table)) {
        if let Some((host, copied)) = entries.l2_table(value)? {
            claims.sole(host, header.cluster_size(), Some(copied))?;
            found.push((index, host));
        }
    }
    if (found.len() as u64) << header.cluster_bits > MAX_TABLE_BYTES {
        let what = format!("it has {} second-level tables", found.len());
        return Err(too_large(what));
    }
    Ok(found)
}

fn claim(claims: &mut Claims, cluster: Cluster, header: &Header) -> Result<()> {
    match cluster {
        Cluster::Absent | Cluster::Zero { host: None, .. } => Ok(()),
        Cluster::Data { host, copied } | Cluster::Zero { host: Some(host), copied } => {
            claims.sole(host, header.cluster_size(), Some(copied))
        }
        Cluster::Compressed { host, length } => claims.shared(host, length),
    }
}

pub(super) fn numbers(table: &[u8]) -> impl Iterator<Item = u64> + '_ {
    table.as_chunks().0.iter().map(|bytes| u64::from_be_bytes(*bytes))
}

/// Extents as they come, one cluster after another.
struct Extents {
    list: Vec<Extent>,
    virtual_size: u64,
}

impl Extents {
    fn push(&mut self, guest: u64, length: u64, cluster: Cluster) -> Result<()> {
        // The last table may map clusters that are behind the disk's end.
        let length = length.min(self.virtual_size.saturating_sub(guest));
        let kind = match cluster {
            _ if length == 0 => return Ok(()),
            Cluster::Absent => return Ok(()),
            Cluster::Data { host, .. } => ExtentKind::Data { host },
            Cluster::Zero { .. } => ExtentKind::Zero,
            Cluster::Compressed { host, length } => ExtentKind::Compressed { host, length },
        };
        let last = self.list.last_mut();
        if let Some(last) = last.filter(|last| last.end() == guest && continues(last, kind)) {
            last.length += length;
            return Ok(());
        }
        push_bounded(&mut self.list, Extent { guest, length, kind })
    }
}

fn continues(last: &Extent, kind: ExtentKind) -> bool {
    match (last.kind, kind) {
        (ExtentKind::Zero, ExtentKind::Zero) => true,
        (ExtentKind::Data { host }, ExtentKind::Data { host: next }) => host + last.length == next,
        _ => false,
    }
}
