//! Disks: ext4 file systems written from an in-memory tree, qcow2 overlays, qcow2 files
//! of strangers, and files that appear whole or not at all.
//!
//! Everything here works on plain files as an ordinary user. It must never mount, never run
//! another program, and never leave half a file under a final name.

pub mod branch;
pub mod chain;
pub mod cut_off;
pub mod durable;
pub mod ext4;
pub mod graph;
pub mod grow;
pub mod merge;
pub mod overlay;
pub mod qcow2;
pub mod sparse;
pub mod unnamed;
