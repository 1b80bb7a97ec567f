//! Whether a qcow2 file is sound: its structure, and its reference counts.

use std::fs::File;

use super::claims::{Expectations, Expected};
use super::header::Header;
use super::map::{Walk, walk};
use super::{MAX_TABLE_BYTES, read_padded, too_large, unsupported};
use crate::error::Result;

/// What is found in a file whose structure is sound. All but the flag are numbers of clusters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Those that are used.
    pub used: u64,
    /// Those that are used less often than is counted: space is lost, and nothing else.
    pub leaked: u64,
    /// Those that are used more often than is counted: a writer would take them for something else.
    pub uncounted: u64,
    /// Those whose entry says that nobody else uses them, while the count says otherwise, or the
    /// other way round: a writer would change them in place, or lose them.
    pub misflagged: u64,
    /// Whether a writer was cut off that counts references late. QEMU counts anew before it writes:
    /// wrong counts are to be expected, and data are not at risk.
    pub dirty: bool,
}

impl Report {
    /// Whether a writer can go on with the file without harm.
    pub fn is_sound(&self) -> bool {
        self.uncounted == 0 && self.misflagged == 0
    }

    pub fn compare(&mut self, expected: Expected, stored: u64) {
        let Expected { references, copied } = expected;
        self.used += u64::from(references > 0);
        self.leaked += u64::from(stored > references);
        self.uncounted += u64::from(stored < references);
        self.misflagged += u64::from(copied.is_some_and(|copied| copied != (stored == 1)));
    }
}

/// Checks all of `file` but the data, and never changes it; errors call it `name`.
///
/// Damage because of which the file cannot be read is [`crate::error::Code::Storage`]: anything
/// outside the file, a cluster that is used twice, reserved bits. Wrong reference counts are in the
/// report. The clusters of persistent bitmaps are not known here: a file that has some is
/// [`crate::error::Code::Unsupported`]; it can be read.
pub fn check(file: &File, name: &str) -> Result<Report> {
    let header = Header::read(file, name)?;
    if header.has_bitmaps {
        let what = unsupported(
            "it has persistent bitmaps",
            "remove them with `qemu-img bitmap --remove`, or check it with `qemu-img check`",
        );
        return Err(what.object(name));
    }
    let compare = || {
        let walk = walk(file, &header)?;
        let mut report = Report { dirty: header.is_dirty(), ..Report::default() };
        let counts = Counts { file, header: &header, walk: &walk };
        count(&counts, |_, expected, stored| {
            report.compare(expected, stored);
            Ok(())
        })?;
        Ok(report)
    };
    compare().map_err(|e: crate::error::Error| e.or_object(name))
}

/// A file, and what it uses.
pub struct Counts<'a> {
    pub(super) file: &'a File,
    pub(super) header: &'a Header,
    pub(super) walk: &'a Walk,
}

impl Counts<'_> {
    /// How many clusters one block counts.
    pub fn per_block(&self) -> u64 {
        (self.header.cluster_size() * 8) >> self.header.refcount_order
    }
}

/// Tells `tell` of each cluster what is expected, and what the file says.
pub fn count(
    counts: &Counts<'_>,
    mut tell: impl FnMut(u64, Expected, u64) -> Result<()>,
) -> Result<()> {
    let Counts { file, header, walk } = counts;
    // A compressed cluster may end behind the file's end.
    let clusters = header.file_length.div_ceil(header.cluster_size()).max(walk.claims.end());
    let mut expectations = walk.claims.expectations();
    let per_block = counts.per_block();
    let stored = walk.refcount_blocks.iter().flatten().count() as u64;
    if stored << header.cluster_bits > MAX_TABLE_BYTES {
        return Err(too_large(format!("it has {stored} blocks of reference counts")));
    }
    let mut block = vec![0; 1 << header.cluster_bits];
    let mut start = 0;
    for host in &walk.refcount_blocks {
        // Blocks for what is behind the file's end count nothing.
        let end = (start + per_block).min(clusters);
        if start >= end {
            break;
        }
        match host {
            None => uncounted(&mut expectations, start, end, &mut tell)?,
            Some(host) => {
                read_padded(file, &mut block, *host, header.file_length)?;
                for cluster in start..end {
                    let stored = refcount(&block, header.refcount_order, cluster - start);
                    tell(cluster, expectations.at(cluster), stored)?;
                }
            }
        }
        start = end;
    }
    uncounted(&mut expectations, start, clusters, &mut tell)
}

/// Clusters that no block counts.
fn uncounted(
    expectations: &mut Expectations<'_>,
    start: u64,
    end: u64,
    tell: &mut impl FnMut(u64, Expected, u64) -> Result<()>,
) -> Result<()> {
    let mut cluster = start;
    while let Some(used) = expectations.next_used(cluster).filter(|used| *used < end) {
        tell(used, expectations.at(used), 0)?;
        cluster = used + 1;
    }
    Ok(())
}

/// One reference count of a block. Those of less than a byte start at the lowest bit.
fn refcount(block: &[u8], order: u32, index: u64) -> u64 {
    let bits = 1u64 << order;
    let at = (index * bits / 8) as usize;
    if bits < 8 {
        let byte = u64::from(block.get(at).copied().unwrap_or(0));
        return (byte >> (index * bits % 8)) & ((1 << bits) - 1);
    }
    let bytes = block.get(at..at + bits as usize / 8).unwrap_or_default();
    bytes.iter().fold(0, |count, byte| count << 8 | u64::from(*byte))
}
