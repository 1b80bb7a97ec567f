//! A qcow2 file becomes a larger disk.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::overlay::{bad, cluster_size, first_cluster, get32, parse, put32, put64};
use crate::error::{Code, Error, Result};

/// Has the qcow2 file at `path` be a disk of `virtual_size` bytes, which is more than it was; what is new reads
/// as zeros. Durable when this returns. Nobody may have it open to write.
///
/// Its first-level table gets entries as far as its last cluster has room, which is up to 4 TiB for
/// disks that we make; beyond that it is [`Code::Unsupported`].
pub fn grow(path: &Path, virtual_size: u64) -> Result<()> {
    let failed = |what: &str, e: &std::io::Error| {
        Error::io(Code::Storage, format!("{what} {}", path.display()), e)
    };
    let file = File::options().read(true).write(true).open(path);
    let file = file.map_err(|e| failed("open", &e))?;
    let mut start = first_cluster(&file, path)?;
    let info = parse(&mut start.clone()).map_err(|why| bad(path, &why))?;
    if virtual_size <= info.virtual_size {
        let text = format!("{} is a disk of {} bytes already", path.display(), info.virtual_size);
        return Err(Error::new(Code::InvalidArgument, text));
    }
    let table = Table::of(&start).map_err(|why| bad(path, why))?;
    let entries = virtual_size.div_ceil(table.reach);
    if entries > table.room || table.has_snapshots {
        let text = format!(
            "{} cannot be larger than {} bytes as it is: make a snapshot of the box, after which it can",
            path.display(),
            if table.has_snapshots { info.virtual_size } else { table.room * table.reach }
        );
        return Err(Error::new(Code::Unsupported, text));
    }
    // What is behind a table in its cluster means nothing, and may be anything.
    let zeros = vec![0; (entries.saturating_sub(table.entries) * 8) as usize];
    file.write_all_at(&zeros, table.offset + table.entries * 8).map_err(|e| failed("write", &e))?;
    file.sync_all().map_err(|e| failed("sync", &e))?;
    put64(&mut start, 24, virtual_size);
    put32(&mut start, 36, entries.max(table.entries) as u32);
    // Within the first 512 bytes, which a disk writes whole or not at all.
    let changed = start.get(24..40).unwrap_or_default();
    file.write_all_at(changed, 24).map_err(|e| failed("write", &e))?;
    file.sync_all().map_err(|e| failed("sync", &e))
}

/// The first-level table of a file.
struct Table {
    entries: u64,
    offset: u64,
    /// How many entries its clusters have room for.
    room: u64,
    /// How many bytes of the disk one entry stands for.
    reach: u64,
    has_snapshots: bool,
}

impl Table {
    fn of(start: &[u8]) -> Result<Table, &'static str> {
        const CUT: &str = "its header is cut off";
        let cluster = cluster_size(start)? as u64;
        let entries = u64::from(get32(start, 36).ok_or(CUT)?);
        let offset = u64::from(get32(start, 40).ok_or(CUT)?) << 32;
        let offset = offset | u64::from(get32(start, 44).ok_or(CUT)?);
        if offset == 0 || offset % cluster != 0 || entries == 0 || entries > (32 << 20) / 8 {
            return Err("its first-level table is impossible");
        }
        let room = (entries * 8).next_multiple_of(cluster) / 8;
        let has_snapshots = get32(start, 60).ok_or(CUT)? != 0;
        Ok(Table { entries, offset, room, reach: cluster * (cluster / 8), has_snapshots })
    }
}
