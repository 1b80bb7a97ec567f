//! What one entry of a table means: `qcow2-rs` takes it apart, and what it does not check is checked.

use qcow2_rs::dev::{Qcow2DevParams, Qcow2Info};
use qcow2_rs::meta::{L1Entry, L2Entry, Qcow2Header, RefTableEntry, TableEntry};

use super::damaged;
use super::header::Header;
use crate::error::{Code, Error, Result};

/// Where a second-level table or a cluster of the disk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cluster {
    /// Nowhere: what is below shows.
    Absent,
    /// In a cluster of its own.
    Data { host: u64, copied: bool },
    /// It reads as zeros; it may have a cluster of its own all the same.
    Zero { host: Option<u64>, copied: bool },
    /// In `length` bytes or less, which may start and end anywhere.
    Compressed { host: u64, length: u64 },
}

/// Takes the entries of one file apart.
pub struct Entries<'h> {
    header: &'h Header,
    info: Qcow2Info,
}

impl<'h> Entries<'h> {
    pub fn new(header: &'h Header) -> Result<Entries<'h>> {
        let failed = |e| Error::new(Code::Internal, format!("qcow2-rs refuses a geometry: {e}"));
        // It takes a header of its own only: one that has nothing but the geometry.
        let mut bytes = [0u8; 128];
        let fields: [(usize, u32); 5] = [
            (0, Qcow2Header::QCOW2_MAGIC),
            (4, 3),
            (20, header.cluster_bits),
            (96, header.refcount_order),
            (100, 112),
        ];
        for (at, value) in fields {
            bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
        }
        bytes[24..32].copy_from_slice(&header.virtual_size.to_be_bytes());
        let parsed = Qcow2Header::from_buf(&bytes).map_err(failed)?;
        // Sizes of caches, which are not used; the default would not fit small clusters.
        let cache = Some((9, 1024));
        let params = Qcow2DevParams::new(9, cache, cache, true, false);
        let info = Qcow2Info::new(&parsed, &params).map_err(failed)?;
        Ok(Entries { header, info })
    }

    /// The second-level table that an entry of the first level names, and its copied flag.
    pub fn l2_table(&self, value: u64) -> Result<Option<(u64, bool)>> {
        const WHAT: &str = "an entry of the first-level table";
        let entry: L1Entry = self.parse(WHAT, value)?;
        let (host, copied) = (entry.l2_offset(), entry.is_copied());
        if value & 1 != 0 || (host == 0 && copied) {
            return Err(damaged(WHAT, format!("{value:#018x}")));
        }
        if host == 0 {
            return Ok(None);
        }
        self.header.inside("a second-level table", host, self.header.cluster_size())?;
        Ok(Some((host, copied)))
    }

    /// What an entry of a second-level table names.
    pub fn cluster(&self, value: u64) -> Result<Cluster> {
        const WHAT: &str = "an entry of a second-level table";
        if value == 0 {
            return Ok(Cluster::Absent);
        }
        let entry: L2Entry = self.parse(WHAT, value)?;
        let bits = self.header.cluster_bits;
        if let Some((host, length)) = entry.compressed_range(bits) {
            let offset = value & ((1 << (62 - (bits - 8))) - 1);
            if offset != host || host < self.header.cluster_size() {
                return Err(damaged(WHAT, format!("{value:#018x}")));
            }
            self.header.inside("a compressed cluster", host, length as u64)?;
            return Ok(Cluster::Compressed { host, length: length as u64 });
        }
        let host = Some(entry.cluster_offset()).filter(|host| *host != 0);
        let copied = entry.is_copied();
        if let Some(host) = host {
            self.header.inside("a cluster", host, self.header.cluster_size())?;
        }
        match (entry.is_zero(), host) {
            (true, host) if self.header.version > 2 && (host.is_some() || !copied) => {
                Ok(Cluster::Zero { host, copied })
            }
            (false, Some(host)) => Ok(Cluster::Data { host, copied }),
            // A zero flag in version 2, or a copied flag of nothing.
            _ => Err(damaged(WHAT, format!("{value:#018x}"))),
        }
    }

    /// The block of reference counts that an entry of their table names.
    pub fn refcount_block(&self, value: u64) -> Result<Option<u64>> {
        let entry: RefTableEntry = self.parse("an entry of the reference count table", value)?;
        if entry.is_zero() {
            return Ok(None);
        }
        let host = entry.refblock_offset();
        self.header.inside("a block of reference counts", host, self.header.cluster_size())?;
        Ok(Some(host))
    }

    /// Refuses reserved bits, and offsets that are not those of clusters.
    fn parse<E: TableEntry>(&self, what: &str, value: u64) -> Result<E> {
        E::try_from_plain(value, &self.info).map_err(|_| damaged(what, format!("{value:#018x}")))
    }
}
