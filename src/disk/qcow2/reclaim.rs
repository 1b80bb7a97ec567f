//! The space of clusters that a writer which was killed had taken, and not used yet.

use std::fs::File;
use std::os::unix::fs::FileExt;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use super::check::{Counts, Report, count};
use super::header::Header;
use super::map::walk;
use super::push_bounded;
use crate::error::{Code, Error, Result};

/// Clusters that are counted and that nothing uses, one behind the other.
struct Lost {
    start: u64,
    end: u64,
}

/// Has `file` count as used what is used, and gives its file system back what is not; errors call it
/// `name`. Returns how many clusters that were. Nobody may have the file open to write. Durable when this
/// returns; whoever is killed in between has done a part of it.
///
/// A file in which more than space is wrong stays as it is, and so does one that QEMU will count anew
/// itself, one with persistent bitmaps, and one whose counts are not of 16 bits: we make no such files.
pub fn reclaim(file: &File, name: &str) -> Result<u64> {
    let reclaim = || {
        let header = Header::read(file, name)?;
        if header.has_bitmaps || header.is_dirty() || header.refcount_order != 4 {
            return Ok(0);
        }
        let walk = walk(file, &header)?;
        let mut report = Report::default();
        let mut lost: Vec<Lost> = Vec::new();
        let counts = Counts { file, header: &header, walk: &walk };
        count(&counts, |cluster, expected, stored| {
            report.compare(expected, stored);
            if stored == 0 || expected.references > 0 {
                return Ok(());
            }
            match lost.last_mut().filter(|last| last.end == cluster) {
                Some(last) => last.end += 1,
                None => push_bounded(&mut lost, Lost { start: cluster, end: cluster + 1 })?,
            }
            Ok(())
        })?;
        if !report.is_sound() || lost.is_empty() {
            return Ok(0);
        }
        for Lost { start, end } in &lost {
            (*start..*end).try_for_each(|cluster| forget(&counts, cluster))?;
        }
        file.sync_data().map_err(|e| failed("sync", &e))?;
        for Lost { start, end } in &lost {
            punch(file, start << header.cluster_bits, (end - start) << header.cluster_bits)?;
        }
        Ok(lost.iter().map(|lost| lost.end - lost.start).sum())
    };
    reclaim().map_err(|e: Error| e.or_object(name))
}

/// Counts a cluster as used by nobody.
fn forget(counts: &Counts<'_>, cluster: u64) -> Result<()> {
    let per_block = counts.per_block();
    let block = usize::try_from(cluster / per_block).ok();
    let host = block.and_then(|block| *counts.walk.refcount_blocks.get(block)?);
    // It would not have been counted.
    let Some(host) = host else { return Ok(()) };
    let at = host + cluster % per_block * 2;
    counts.file.write_all_at(&[0, 0], at).map_err(|e| failed("write", &e))
}

/// A file system that cannot keeps the space until the clusters are used for something else.
fn punch(file: &File, offset: u64, length: u64) -> Result<()> {
    match fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, length) {
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        Err(e) => Err(failed("free a part of", &e.into())),
    }
}

fn failed(what: &str, e: &std::io::Error) -> Error {
    Error::io(Code::Storage, what, e)
}
