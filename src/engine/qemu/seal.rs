//! How a template is known to be intact.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::recipe::hex;

/// Tells some bytes from all others.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    bytes: u64,
    sha256: String,
}

impl Seal {
    pub fn of(bytes: &[u8]) -> Seal {
        Seal { bytes: bytes.len() as u64, sha256: hex(&Sha256::digest(bytes)) }
    }

    /// What of it is broken by these bytes.
    pub fn broken(&self, bytes: &[u8]) -> Option<&'static str> {
        if bytes.len() as u64 != self.bytes {
            return Some("size");
        }
        (hex(&Sha256::digest(bytes)) != self.sha256).then_some("checksum")
    }
}

/// Tells a file from every other, and from itself after it was written to.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Mark {
    pub fn of(file: &File) -> io::Result<Mark> {
        let meta = file.metadata()?;
        Ok(Mark {
            device: meta.dev(),
            inode: meta.ino(),
            bytes: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        })
    }
}
