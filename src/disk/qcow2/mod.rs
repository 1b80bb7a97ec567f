//! qcow2 files read, checked and written in our own process; any of them may be hostile.
//!
//! | module | job |
//! |---|---|
//! | [`header`] | what a file says about itself; all that we cannot read is refused here |
//! | `entry` | what one entry of a table means |
//! | `claims` | which clusters are used by what, so that none is used twice |
//! | [`map`] | where a file holds which bytes of the disk |
//! | [`mod@check`] | the same walk, and whether the reference counts are right |
//! | `pieces` | the maps of a chain of files made one |
//! | `decode` | compressed clusters |
//! | [`read`] | the bytes of a chain |
//! | [`mod@reclaim`] | space that a killed writer had taken for nothing |
//! | `layout`, [`mod@write`] | a new file as a stream of bytes of known length |
//!
//! The format is described in QEMU's `docs/interop/qcow2.txt`. Entries of tables are taken apart by
//! `qcow2-rs`. What of it is not sound for files of strangers, and done here instead:
//!
//! - Its header parser takes version 2 for version 3, shifts by and slices at what the file says,
//!   refuses a file for any incompatible feature, and hides the features that it has read.
//! - Its mask of reserved bits leaves bit 0 of first-level entries out; it knows no version, and so
//!   takes the zero flag of version 2 for one; it drops high bits of the offset of a compressed
//!   cluster that has small clusters; offsets are never compared with the file's length.
//! - It has neither overlap checks, nor a check of reference counts, nor decoding of zstd, nor
//!   writing of backing files; its device layer trusts all of the file.
//!
//! Nothing here follows a backing path: the caller opens files, and says which is on which.

pub mod check;
mod claims;
mod decode;
mod entry;
pub mod header;
mod layout;
pub mod map;
mod pieces;
pub mod read;
pub mod reclaim;
#[cfg(test)]
mod tests;
pub mod write;

use std::fmt::Display;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

pub use check::{Report, check};
pub use header::{Compression, Header};
pub use map::{Extent, ExtentKind, Map};
pub use read::{Content, Layer, Piece, Reader};
pub use reclaim::reclaim;
pub use write::Stream;

use crate::error::{Code, Error, Result};

/// The most extents of one file, and the most pieces of a chain: what bounds memory. A disk of
/// 256 GiB of which no two clusters of 64 KiB lie one behind the other has as many.
pub const MAX_EXTENTS: usize = 1 << 22;

/// The most bytes of second-level tables, and of reference count blocks, that one file may have:
/// what bounds time. Enough for 8 TiB in clusters of 64 KiB.
pub const MAX_TABLE_BYTES: u64 = 1 << 30;

/// The largest first-level table, as with QEMU.
const MAX_L1_BYTES: u64 = 32 << 20;

fn damaged(field: impl Display, found: impl Display) -> Error {
    let message = format!(
        "it is damaged: {field} is {found}; take it from a backup, or see what \
         `qemu-img check -r all` can save of a copy"
    );
    Error::new(Code::Storage, message)
}

fn unsupported(what: impl Display, remedy: &str) -> Error {
    Error::new(Code::Unsupported, format!("{what}, which is not supported: {remedy}"))
}

/// Too many of anything.
fn too_large(what: impl Display) -> Error {
    unsupported(what, "write it anew with `qemu-img convert -O qcow2` and larger clusters")
}

/// Appends to a list that has [`MAX_EXTENTS`] at most.
fn push_bounded<T>(list: &mut Vec<T>, item: T) -> Result<()> {
    if list.len() >= MAX_EXTENTS {
        return Err(too_large(format!("it is in more than {MAX_EXTENTS} pieces")));
    }
    list.push(item);
    Ok(())
}

fn read_failed(e: &io::Error) -> Error {
    Error::io(Code::Storage, "read", e)
}

/// Fills `buffer` from `offset` on. What lies at or behind `length`, where the file ended when it was
/// opened, reads as zeros; that it has become shorter since is an error.
fn read_padded(file: &File, buffer: &mut [u8], offset: u64, length: u64) -> Result<()> {
    let there = usize::try_from(length.saturating_sub(offset)).unwrap_or(usize::MAX);
    let (there, behind) = buffer.split_at_mut(there.min(buffer.len()));
    behind.fill(0);
    file.read_exact_at(there, offset).map_err(|e| read_failed(&e))
}

fn get32(buffer: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*buffer.get(at..)?.first_chunk()?))
}

fn get64(buffer: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(*buffer.get(at..)?.first_chunk()?))
}
