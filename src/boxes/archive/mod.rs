//! A box as one file, to be kept or taken elsewhere.
//!
//! The format (`.boxlite`, version 1) is a tar of regular files in one zstd frame with a checksum:
//!
//! | file | what |
//! |---|---|
//! | `disks/disk.qcow2` | the disk; with snapshots it may be on one of them, else it is on nothing |
//! | `snapshots/<name>/disk.qcow2` | a snapshot's, which may be on another's |
//! | `manifest.json` | the last one: what the others are, with their SHA-256, and the box ([`Manifest`]) |
//!
//! Which file is on which is the same in the files, by paths relative to themselves, and in the manifest.
//! All qcow2 files are of version 3, without any optional feature.
//!
//! An archive is a claim of whoever made it. All of it is read and checked before there is a box.
//!
//! - [`manifest`]: what an archive says of its box
//! - [`export`]: from a box to an archive
//! - [`import`]: from an archive to a box
//! - `flow`: bytes on their way, hashed, counted, and stopped when nobody wants them any more

pub mod export;
mod flow;
pub mod import;
pub mod manifest;

pub use export::ExportOptions;
pub use flow::{Course, cause};
pub use import::ImportOptions;

/// How the files of archives end.
pub const SUFFIX: &str = ".boxlite";
/// The version that is written, and the only one that is read.
const VERSION: u64 = 1;
const MANIFEST: &str = "manifest.json";
/// The largest manifest, in bytes.
const MAX_MANIFEST: u64 = 8 << 20;
const DISK: &str = "disks/disk.qcow2";

/// The file of a snapshot.
fn of_snapshot(name: &str) -> String {
    format!("snapshots/{name}/disk.qcow2")
}

/// How one file of an archive names a snapshot that it is on, relative to its own directory.
fn named_by(file: &str, snapshot: &str) -> String {
    match file {
        DISK => format!("../snapshots/{snapshot}/disk.qcow2"),
        _ => format!("../{snapshot}/disk.qcow2"),
    }
}
