//! A disk goes on in another file: what it is now gets a name of its own and never changes again, and an
//! empty overlay on that takes its name.
//!
//! This is how a snapshot is made, or the common base of clones. It takes several steps, all of which can
//! be done twice; who begins has written down the intent. A machine that runs has to write to the overlay
//! before the first file gets its new name: whatever happens in between, all that was ever written is in
//! the two files, and [`Branch::settle`] finds out what there is to do.

use std::path::{Path, PathBuf};

use super::chain::{Chain, Link, named_from};
use super::durable::{self, sync_directory};
use super::overlay::{self, DiskFormat};
use crate::error::{Code, Error, Result};
use crate::failpoint::{self, Point};

/// The files that a branch is about; all paths are absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch {
    /// The disk, before and after.
    pub disk: PathBuf,
    /// The overlay, until it is the disk. In the same directory.
    pub overlay: PathBuf,
    /// What was the disk. In a directory that only this needs, if that ends in `disk.qcow2`.
    pub frozen: PathBuf,
    /// What the disk is on.
    pub backing: Option<Link>,
}

/// Where a test may end a process: when the disk has its new name, when it names what it is on from
/// there, and when the overlay is the disk.
pub type Points = [Point; 3];

impl Branch {
    pub fn new(chain: &Chain, frozen: PathBuf) -> Branch {
        let disk = chain.top().to_owned();
        Branch { overlay: overlay_beside(&disk), disk, frozen, backing: chain.backing().cloned() }
    }

    /// Makes the overlay, for a disk of so many bytes, and the directory for what was the disk.
    pub fn prepare(&self, virtual_size: u64) -> Result<()> {
        let directory = parent(&self.frozen);
        std::fs::create_dir_all(directory)
            .map_err(|e| Error::io(Code::Storage, format!("create {}", directory.display()), &e))?;
        sync_directory(parent(directory))?;
        let named = named_from(&self.disk, &self.frozen);
        overlay::create(&self.overlay, &named, DiskFormat::Qcow2, virtual_size)
    }

    /// Gives the files their names. Nobody writes to what was the disk any more.
    pub fn finish(&self, points: &Points) -> Result<()> {
        if !exists(&self.frozen)? {
            durable::rename(&self.disk, &self.frozen)?;
        }
        failpoint::hit(points[0]);
        self.name_backing()?;
        failpoint::hit(points[1]);
        if exists(&self.overlay)? {
            let placed = std::fs::rename(&self.overlay, &self.disk);
            placed.map_err(|e| self.failed("rename the overlay to", &self.disk, &e))?;
            sync_directory(parent(&self.disk))?;
        }
        failpoint::hit(points[2]);
        Ok(())
    }

    /// Whether what was the disk has its own name.
    pub fn is_begun(&self) -> Result<bool> {
        exists(&self.frozen)
    }

    /// Has all be as it was, as long as nobody has written to the overlay.
    pub fn undo(&self) -> Result<()> {
        if exists(&self.frozen)? {
            self.name_backing_from(&self.disk)?;
            // The overlay has its place already, or none has.
            let back = std::fs::rename(&self.frozen, &self.disk);
            back.map_err(|e| self.failed("rename the disk back to", &self.disk, &e))?;
            sync_directory(parent(&self.disk))?;
            sync_directory(parent(&self.frozen))?;
        }
        match std::fs::remove_file(&self.overlay) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(self.failed("remove", &self.overlay, &e));
            }
            _ => sync_directory(parent(&self.disk))?,
        }
        self.remove_directory();
        Ok(())
    }

    /// Carries a branch to its end that somebody has begun who is gone, with his machine, or undoes it
    /// if nothing has happened yet. Tells whether there is a branch.
    pub fn settle(&self, points: &Points) -> Result<bool> {
        durable::remove_leftovers(&self.overlay)?;
        match (exists(&self.overlay)?, exists(&self.frozen)?) {
            (true, false) if self.is_unused()? => {
                self.undo()?;
                Ok(false)
            }
            (true, _) => self.finish(points).map(|()| true),
            (false, true) => {
                // A power cut may leave what was synced, and nothing else of it.
                if !exists(&self.disk)? {
                    let size = overlay::info(&self.frozen)?.virtual_size;
                    let named = named_from(&self.disk, &self.frozen);
                    overlay::create(&self.disk, &named, DiskFormat::Qcow2, size)?;
                }
                self.name_backing().map(|()| true)
            }
            (false, false) => {
                self.remove_directory();
                Ok(false)
            }
        }
    }

    /// Whether no machine has written to the overlay.
    fn is_unused(&self) -> Result<bool> {
        overlay::is_empty(&self.overlay)
    }

    /// Has the file that was the disk name what it is on as it has to from where it is now.
    fn name_backing(&self) -> Result<()> {
        self.name_backing_from(&self.frozen)
    }

    fn name_backing_from(&self, place: &Path) -> Result<()> {
        let Some(link) = &self.backing else { return Ok(()) };
        overlay::set_backing(&self.frozen, &named_from(place, &link.path), link.format)
    }

    /// One that is not empty is somebody's.
    fn remove_directory(&self) {
        let directory = parent(&self.frozen);
        if self.frozen.file_name() == self.disk.file_name()
            && std::fs::remove_dir(directory).is_ok()
        {
            // Whether it is there after a power cut is no matter.
            let _ = sync_directory(parent(directory));
        }
    }

    fn failed(&self, what: &str, path: &Path, cause: &std::io::Error) -> Error {
        Error::io(Code::Storage, format!("{what} {}", path.display()), cause)
    }
}

/// The name of the overlay that a disk goes on in, until it is the disk.
pub fn overlay_beside(disk: &Path) -> PathBuf {
    disk.with_file_name("next.qcow2")
}

fn exists(path: &Path) -> Result<bool> {
    path.try_exists()
        .map_err(|e| Error::io(Code::Storage, format!("look for {}", path.display()), &e))
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}
