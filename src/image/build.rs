//! Makes a disk of an image.

use std::fs::Permissions;
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::apply::Applier;
use super::tree::ImageTree;
use super::{Image, layer};
use crate::disk::durable::{IfExists, PendingFile};
use crate::disk::ext4::{Attributes, BLOCK_BYTES, Kind, Volume};
use crate::error::{Code, Error, Result};
use crate::failpoint::{self, Point};

/// Bytes of a layer between two reports.
const REPORT_BYTES: u64 = 128 * 1024;
/// Steps without progress in the blob between two reports: a small blob can be a large layer.
const REPORT_STEPS: u32 = 256;

/// How far a build is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The layer being applied, from 0.
    pub layer: usize,
    /// Number of layers.
    pub layers: usize,
    /// Bytes of blobs read so far, of all layers.
    pub bytes: u64,
    /// Bytes of all layers' blobs.
    pub total: u64,
}

/// Is told of progress on the thread that builds; `Break` cancels the build.
pub type Observer<'o> = dyn FnMut(&Progress) -> ControlFlow<()> + 'o;

/// A finished disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskSummary {
    /// Size of the disk.
    pub bytes: u64,
    /// Bytes in use in its file system, metadata and journal included.
    pub used_bytes: u64,
    /// Files and directories.
    pub inodes: u32,
    /// Extended attributes left out because Linux has no name space for them.
    pub skipped_xattrs: u64,
}

impl Image {
    /// Writes the image as an ext4 disk of `bytes` to `path`, replacing what is there.
    ///
    /// The file appears only when it is complete and synced; a failed or cancelled build leaves
    /// nothing. A disk smaller than the image is [`Code::InvalidArgument`], and the message says
    /// which size would do. `bytes` is a multiple of 512.
    pub fn write_disk(
        &self,
        path: &Path,
        bytes: u64,
        observer: &mut Observer<'_>,
    ) -> Result<DiskSummary> {
        let (pending, summary) = self.build_disk(path, bytes, &[], observer)?;
        pending.commit(IfExists::Replace)?;
        Ok(summary)
    }

    /// As [`Image::write_disk`], but nobody may write to the disk, and it has some files more.
    pub(super) fn write_shared_disk(
        &self,
        path: &Path,
        bytes: u64,
        reserved: &[Reserved],
        observer: &mut Observer<'_>,
    ) -> Result<DiskSummary> {
        let (pending, summary) = self.build_disk(path, bytes, reserved, observer)?;
        pending
            .file()
            .set_permissions(Permissions::from_mode(0o444))
            .map_err(|e| Error::io(Code::Storage, "make the disk read-only", &e))?;
        failpoint::hit(Point::CreateImageDisk);
        pending.commit(IfExists::Replace)?;
        Ok(summary)
    }

    fn build_disk(
        &self,
        path: &Path,
        bytes: u64,
        reserved: &[Reserved],
        observer: &mut Observer<'_>,
    ) -> Result<(PendingFile, DiskSummary)> {
        let pending = PendingFile::create(path)?;
        let file = pending
            .file()
            .try_clone()
            .map_err(|e| Error::io(Code::Storage, "write the disk", &e))?;
        let mut volume = Volume::new(file, bytes)?;
        let mut tree = ImageTree::new();
        let mut skipped_xattrs = 0;
        let mut reports = Reports::new(self, observer);
        for index in 0..self.layers.len() {
            reports.begin(index)?;
            layer::stream(self, index, |reader, bytes_read| {
                let mut applier = Applier {
                    tree: &mut tree,
                    volume: &mut volume,
                    skipped_xattrs: &mut skipped_xattrs,
                };
                applier.apply(reader, &mut || reports.pulse(bytes_read()))
            })
            .map_err(|e| e.object(self.reference.clone()))?;
            reports.end(index)?;
        }
        for file in reserved {
            file.put(&mut tree, &mut volume)?;
        }
        let usage = volume.finish(&tree)?;
        let summary = DiskSummary {
            bytes: usage.bytes,
            used_bytes: usage.used_blocks * BLOCK_BYTES,
            inodes: usage.used_inodes,
            skipped_xattrs,
        };
        Ok((pending, summary))
    }
}

/// A file that each box writes at its first start: there beforehand, with as many bytes, it need not
/// be made then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reserved {
    /// Relative to the root.
    pub path: &'static str,
    pub text: String,
}

impl Reserved {
    /// Takes the place of whatever the image has there, but for a directory.
    fn put(&self, tree: &mut ImageTree, volume: &mut Volume) -> Result<()> {
        let path: Vec<&[u8]> = self.path.as_bytes().split(|b| *b == b'/').collect();
        if tree.find_directory(&path).is_ok_and(|d| d.is_some()) {
            return Ok(());
        }
        // An image in which the file can have no place gets it from nobody.
        let Ok(Some(place)) = tree.place(&path) else { return Ok(()) };
        tree.clear(&place);
        for data in tree.take_released() {
            volume.release(&data)?;
        }
        let mut writer = volume.file();
        writer.write(self.text.as_bytes())?;
        let data = writer.finish()?;
        let attributes = Attributes { mode: 0o644, ..Attributes::default() };
        tree.put(&place, attributes, Kind::File(data))
    }
}

/// Tells the observer, not too often.
struct Reports<'r, 'o> {
    observer: &'r mut Observer<'o>,
    progress: Progress,
    /// Bytes of the layers before.
    before: u64,
    sizes: Vec<u64>,
    steps: u32,
}

impl<'r, 'o> Reports<'r, 'o> {
    fn new(image: &Image, observer: &'r mut Observer<'o>) -> Reports<'r, 'o> {
        let sizes: Vec<u64> = image.layers.iter().map(|l| l.size).collect();
        Reports {
            observer,
            progress: Progress {
                layer: 0,
                layers: sizes.len(),
                bytes: 0,
                total: sizes.iter().fold(0, |sum, s| sum.saturating_add(*s)),
            },
            before: 0,
            sizes,
            steps: 0,
        }
    }

    fn begin(&mut self, layer: usize) -> Result<()> {
        self.progress.layer = layer;
        self.report()
    }

    fn end(&mut self, layer: usize) -> Result<()> {
        let size = self.sizes.get(layer).copied().unwrap_or(0);
        self.before = self.before.saturating_add(size);
        self.progress.bytes = self.before;
        self.report()
    }

    fn pulse(&mut self, read: u64) -> Result<()> {
        self.steps += 1;
        let bytes = self.before.saturating_add(read);
        if bytes >= self.progress.bytes + REPORT_BYTES || self.steps >= REPORT_STEPS {
            self.progress.bytes = bytes.max(self.progress.bytes);
            return self.report();
        }
        Ok(())
    }

    fn report(&mut self) -> Result<()> {
        self.steps = 0;
        match (self.observer)(&self.progress) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => {
                let message = "making the disk of the image was cancelled";
                Err(Error::new(Code::Cancelled, message))
            }
        }
    }
}
