//! Disks of images, one per image and size, shared by all boxes.
//!
//! Layout under the images directory:
//! `disk-images/<config digest>-<bytes>-v1.ext4` (read-only) and `blobs/<algorithm>/<hex>` with
//! the manifests and configs. Files appear whole under their names, so whoever sees one may use
//! it; a lock only keeps two builders from doing the same work.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::{Digest, Image, Observer, Reserved};
use crate::disk::durable::{IfExists, PendingFile, make_directory, remove_leftovers, unfinished};
use crate::error::{Code, Error, Result};

/// Number of the way in which disks are laid out: another one is another file.
const FORMAT: u32 = 2;

/// Where the disks are kept.
#[derive(Debug, Clone)]
pub struct DiskCache {
    images: PathBuf,
    locks: PathBuf,
}

impl DiskCache {
    /// A cache in the directories `images` and `locks` of a home.
    pub fn new(images: impl Into<PathBuf>, locks: impl Into<PathBuf>) -> DiskCache {
        DiskCache { images: images.into(), locks: locks.into() }
    }

    /// The path that the disk of `image` with `bytes` has, built or not.
    pub fn disk_path(&self, image: &Image, bytes: u64) -> PathBuf {
        let name = format!("{}.ext4", disk_key(image, bytes));
        self.images.join("disk-images").join(name)
    }

    /// The disk of `image` with `bytes`, which is built if it is not there. It has the `reserved`
    /// files, the same in each call.
    ///
    /// Of many callers, in whatever process, one builds and the others wait for it in the
    /// kernel, where `observer` is not asked. A builder that was killed leaves nothing that the
    /// next one does not remove.
    pub fn ensure_disk(
        &self,
        image: &Image,
        bytes: u64,
        reserved: &[Reserved],
        observer: &mut Observer<'_>,
    ) -> Result<PathBuf> {
        let path = self.disk_path(image, bytes);
        self.keep_blob(image.manifest_digest(), image.manifest())?;
        self.keep_blob(image.config_digest(), image.config_blob())?;
        if is_complete(&path, bytes)? {
            return Ok(path);
        }
        let key = disk_key(image, bytes);
        let _lock = self.lock(&lock_name(&key))?;
        if is_complete(&path, bytes)? {
            return Ok(path);
        }
        make_directory(&self.images.join("disk-images"))?;
        remove_leftovers(&path)?;
        image.write_shared_disk(&path, bytes, reserved, observer)?;
        Ok(path)
    }

    /// Removes what killed builders left of disks that nobody builds now.
    pub fn sweep(&self) -> Result<()> {
        for path in unfinished(&self.images.join("disk-images"))? {
            let key = path.file_stem().unwrap_or_default().to_string_lossy();
            let lock = self.open_lock(&lock_name(&key))?;
            // Else somebody is at it.
            if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
                remove_leftovers(&path)?;
            }
        }
        Ok(())
    }

    /// Where a manifest or config is kept.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        let directory = self.images.join("blobs").join(digest.algorithm_name());
        directory.join(digest.hex())
    }

    fn keep_blob(&self, digest: &Digest, bytes: &[u8]) -> Result<()> {
        let path = self.blob_path(digest);
        if is_complete(&path, bytes.len() as u64)? {
            return Ok(());
        }
        if let Some(directory) = path.parent() {
            make_directory(directory)?;
        }
        let pending = PendingFile::create(&path)?;
        pending
            .file()
            .write_all(bytes)
            .map_err(|e| Error::io(Code::Storage, format!("write {}", path.display()), &e))?;
        pending.commit(IfExists::Replace)
    }

    /// Waits for the lock; it is given back when the file is closed.
    fn lock(&self, name: &str) -> Result<File> {
        let file = self.open_lock(name)?;
        loop {
            match flock(&file, FlockOperation::LockExclusive) {
                Ok(()) => return Ok(file),
                Err(Errno::INTR) => {}
                Err(e) => return Err(Error::io(Code::Storage, format!("lock {name}"), &e.into())),
            }
        }
    }

    fn open_lock(&self, name: &str) -> Result<File> {
        make_directory(&self.locks)?;
        let path = self.locks.join(name);
        let mut options = File::options();
        options.create(true).truncate(false).write(true);
        options
            .open(&path)
            .map_err(|e| Error::io(Code::Storage, format!("lock {}", path.display()), &e))
    }
}

/// The lock of who builds a disk.
fn lock_name(key: &str) -> String {
    format!("disk-image-{key}.lock")
}

fn disk_key(image: &Image, bytes: u64) -> String {
    format!("{}-{bytes}-v{FORMAT}", image.config_digest().hex())
}

/// Whether `path` is a file of `bytes`; one of another length is none of ours.
fn is_complete(path: &Path, bytes: u64) -> Result<bool> {
    match path.metadata() {
        Ok(metadata) => Ok(metadata.is_file() && metadata.len() == bytes),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(Error::io(Code::Storage, format!("look at {}", path.display()), &e)),
    }
}
