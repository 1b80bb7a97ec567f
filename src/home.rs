//! The layout of a home directory: which file is where.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::error::{Code, Error, Result};

/// A home directory, absolute and existing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    root: PathBuf,
}

/// The directories of a home.
const DIRECTORIES: &[&str] = &[
    "db",
    "images",
    "images/blobs",
    "images/disk-images",
    "boxes",
    "bases",
    "templates",
    "locks",
    "tmp",
    "tmp/trash",
];

impl Home {
    /// The home that a user gets without asking: `$BOXLITE_HOME`, else `~/.boxlite`.
    pub fn default_path() -> Result<PathBuf> {
        let set = |name: &str| std::env::var_os(name).filter(|v: &OsString| !v.is_empty());
        if let Some(home) = set("BOXLITE_HOME") {
            return Ok(home.into());
        }
        let user = set("HOME").ok_or_else(|| {
            Error::new(Code::Config, "neither BOXLITE_HOME nor HOME is set: name a home directory")
        })?;
        Ok(PathBuf::from(user).join(".boxlite"))
    }

    /// Opens a home, making what is missing of it. For its owner only: disks are in it.
    pub fn open(path: &Path) -> Result<Home> {
        let failed = |e: io::Error| {
            Error::io(Code::Storage, format!("open home directory {}", path.display()), &e)
                .object(path.display().to_string())
        };
        let make = |p: &Path| fs::DirBuilder::new().recursive(true).mode(0o700).create(p);
        make(path).map_err(failed)?;
        let root = path.canonicalize().map_err(failed)?;
        for directory in DIRECTORIES {
            make(&root.join(directory)).map_err(failed)?;
        }
        // A home that exists but belongs to somebody else is noticed here, not at the first box.
        nix::unistd::access(&root, nix::unistd::AccessFlags::W_OK)
            .map_err(|e| failed(io::Error::from(e)))?;
        Ok(Home { root })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn database(&self) -> PathBuf {
        self.root.join("db/boxlite.db")
    }

    /// Held by every program that uses the home: shared, or exclusively to change its layout.
    pub fn lock(&self) -> PathBuf {
        self.root.join("locks/home.lock")
    }

    pub fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    pub fn locks(&self) -> PathBuf {
        self.root.join("locks")
    }

    pub fn temporary(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// Prepared machines.
    pub fn templates(&self) -> PathBuf {
        self.root.join("templates")
    }

    /// What is being deleted: out of sight already, emptied whenever a home is opened.
    pub fn trash(&self) -> PathBuf {
        self.root.join("tmp/trash")
    }

    pub fn boxes(&self) -> PathBuf {
        self.root.join("boxes")
    }

    /// A box's own directory.
    pub fn of_box(&self, id: &str) -> PathBuf {
        self.boxes().join(id)
    }

    /// A box's disk.
    pub fn disk(&self, id: &str) -> PathBuf {
        self.of_box(id).join("disks/disk.qcow2")
    }

    /// Held while a box's state changes.
    pub fn box_lock(&self, id: &str) -> PathBuf {
        self.root.join("locks").join(format!("box-{id}.lock"))
    }
}
