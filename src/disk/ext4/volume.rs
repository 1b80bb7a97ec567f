//! A file system being written: its free blocks and the contents of its files.

use std::fs::File;

use super::alloc::Allocator;
use super::extents::{Extent, push};
use super::geometry::{BLOCK, BLOCK_BYTES, Geometry};
use super::node::FileData;
use super::sink::Sink;
use super::{MAX_FILE, finish};
use crate::error::{Code, Error, Result};

/// How much contents may exceed the disk before the count of what is missing is given up.
const MAX_OVERFLOW: u64 = (1 << 40) / BLOCK_BYTES;

/// A file system being written.
#[derive(Debug)]
pub struct Volume {
    pub(super) geometry: Geometry,
    pub(super) alloc: Allocator,
    pub(super) sink: Sink,
    pub(super) bytes: u64,
}

impl Volume {
    /// A file system of `bytes` in `file`, which must be empty.
    pub fn new(file: File, bytes: u64) -> Result<Volume> {
        let geometry = Geometry::new(bytes)?;
        let limit = geometry.blocks;
        Ok(Volume {
            alloc: Allocator::new(geometry.clone()),
            sink: Sink::new(file, limit),
            geometry,
            bytes,
        })
    }

    /// Starts the contents of a regular file.
    pub fn file(&mut self) -> FileWriter<'_> {
        FileWriter {
            volume: self,
            extents: Vec::new(),
            size: 0,
            partial: Vec::new(),
            partial_is_hole: true,
        }
    }

    /// Takes the blocks of a file back.
    pub fn release(&mut self, data: &FileData) -> Result<()> {
        for extent in &data.extents {
            self.sink.discard(extent.start, extent.len.into())?;
            self.alloc.free(extent.start, extent.len.into());
        }
        Ok(())
    }

    /// Allocates room for whole blocks of data and writes them.
    pub(super) fn append(
        &mut self,
        extents: &mut Vec<Extent>,
        logical: u64,
        mut data: &[u8],
    ) -> Result<()> {
        let mut logical = u32::try_from(logical).map_err(|_| too_large())?;
        while !data.is_empty() {
            let (start, len) = self.alloc.allocate((data.len() / BLOCK) as u64);
            // Not more than `data` has.
            let (now, rest) = data.split_at(len as usize * BLOCK);
            self.sink.write(start, now)?;
            let len = u32::try_from(len).map_err(|_| too_large())?;
            let extent = Extent {
                logical,
                len,
                start,
            };
            push(extents, extent);
            logical = logical.checked_add(len).ok_or_else(too_large)?;
            data = rest;
        }
        if self.alloc.overflow() > MAX_OVERFLOW {
            let needed = self.bytes.saturating_add(MAX_OVERFLOW * BLOCK_BYTES);
            return Err(finish::too_small(self.bytes, needed, "more than "));
        }
        Ok(())
    }
}

/// Writes the contents of one file, front to back.
#[derive(Debug)]
pub struct FileWriter<'v> {
    volume: &'v mut Volume,
    extents: Vec<Extent>,
    size: u64,
    /// The bytes of the last block, when it is not whole yet.
    partial: Vec<u8>,
    partial_is_hole: bool,
}

impl FileWriter<'_> {
    /// Appends bytes.
    pub fn write(&mut self, mut data: &[u8]) -> Result<()> {
        self.grow(data.len() as u64)?;
        let mut logical = (self.size - data.len() as u64) / BLOCK_BYTES;
        if !self.partial.is_empty() {
            let (now, rest) = data.split_at(data.len().min(BLOCK - self.partial.len()));
            self.partial.extend_from_slice(now);
            self.partial_is_hole &= now.is_empty();
            data = rest;
            if self.partial.len() < BLOCK {
                return Ok(());
            }
            self.flush(logical)?;
            logical += 1;
        }
        let (whole, rest) = data.split_at(data.len() - data.len() % BLOCK);
        self.volume.append(&mut self.extents, logical, whole)?;
        if !rest.is_empty() {
            self.partial.extend_from_slice(rest);
            self.partial_is_hole = false;
        }
        Ok(())
    }

    /// Appends a hole.
    pub fn skip(&mut self, len: u64) -> Result<()> {
        self.grow(len)?;
        let mut rest = len;
        if !self.partial.is_empty() {
            let fill = rest.min((BLOCK - self.partial.len()) as u64);
            self.partial.resize(self.partial.len() + fill as usize, 0);
            rest -= fill;
            if self.partial.len() < BLOCK {
                return Ok(());
            }
            self.flush((self.size - rest) / BLOCK_BYTES - 1)?;
        }
        self.partial.resize((rest % BLOCK_BYTES) as usize, 0);
        Ok(())
    }

    /// Ends the file.
    pub fn finish(mut self) -> Result<FileData> {
        if !self.partial.is_empty() {
            self.partial.resize(BLOCK, 0);
            self.flush((self.size - 1) / BLOCK_BYTES)?;
        }
        Ok(FileData {
            size: self.size,
            extents: self.extents.into_boxed_slice(),
        })
    }

    fn grow(&mut self, len: u64) -> Result<()> {
        let size = self.size.checked_add(len).filter(|s| *s <= MAX_FILE);
        self.size = size.ok_or_else(too_large)?;
        Ok(())
    }

    /// Writes the one block in `partial`, unless it is a hole.
    fn flush(&mut self, logical: u64) -> Result<()> {
        if !self.partial_is_hole {
            let block = std::mem::take(&mut self.partial);
            self.volume.append(&mut self.extents, logical, &block)?;
            self.partial = block;
        }
        self.partial.clear();
        self.partial_is_hole = true;
        Ok(())
    }
}

fn too_large() -> Error {
    Error::new(Code::Image, "a file is larger than ext4 can hold (16 TiB)")
}
