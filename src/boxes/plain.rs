//! A root disk that was made elsewhere, as a qcow2 or raw file, becomes a box's.
//!
//! Such a file may be anybody's. It is read by [`crate::disk::qcow2`], which refuses what it does not know, and
//! written anew: no table of it ever reaches QEMU.

use std::fs::File;
use std::path::Path;

use super::admission::FREE_DISK;
use super::archive::Course;
use crate::disk::chain::Link;
use crate::disk::durable::{IfExists, PendingFile};
use crate::disk::grow;
use crate::disk::overlay::DiskFormat;
use crate::disk::qcow2::{Layer, Reader, Stream};
use crate::disk::sparse::SparseFile;
use crate::error::{Code, Error, Result};

/// Where an ext4 file system says that it is one, and how.
const MAGIC_AT: u64 = 1024 + 56;
const MAGIC: [u8; 2] = [0x53, 0xef];

/// A disk that is about to be copied.
pub struct PlainDisk {
    stream: Stream,
    /// Bytes that a guest sees.
    pub virtual_size: u64,
}

impl PlainDisk {
    /// Opens a file, and checks all of it but its data.
    pub fn open(path: &Path, format: DiskFormat) -> Result<PlainDisk> {
        Self::read(path, format).map_err(|e| e.or_object(path.display().to_string()))
    }

    fn read(path: &Path, format: DiskFormat) -> Result<PlainDisk> {
        let shown = path.display();
        match path.metadata() {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::new(Code::NotFound, format!("there is no disk {shown}")));
            }
            Ok(meta) if !meta.is_file() => {
                let text = format!("{shown} is no file: copy it into one");
                return Err(Error::new(Code::InvalidArgument, text));
            }
            _ => {}
        }
        let reader = Reader::open(vec![Layer::open(&Link { path: path.to_owned(), format })?])?;
        if reader.is_open_ended() {
            let text = format!(
                "{shown} is based on another file: write both into one with `qemu-img convert -O qcow2`"
            );
            return Err(Error::new(Code::Unsupported, text));
        }
        let virtual_size = reader.size();
        let mut magic = [0; 2];
        if virtual_size >= MAGIC_AT + 2 {
            reader.read_at(&mut magic, MAGIC_AT)?;
        }
        if magic != MAGIC {
            let text = format!(
                "{shown} does not hold an ext4 file system, which a box's disk has to, without partitions"
            );
            return Err(Error::new(Code::Unsupported, text));
        }
        Ok(PlainDisk { stream: Stream::new(reader, None)?, virtual_size })
    }

    /// Bytes that are to be written.
    pub fn len(&self) -> u64 {
        self.stream.len()
    }

    /// Writes it to a file that is not there, as a disk of this size, which is no smaller than it was.
    pub fn write(self, disk: &Path, size: u64, course: &Course<'_>) -> Result<()> {
        let pending = PendingFile::create(disk)?;
        let was = self.virtual_size;
        self.copy(pending.file(), course)?;
        pending.commit(IfExists::Fail)?;
        if size > was { grow::grow(disk, size) } else { Ok(()) }
    }

    fn copy(self, file: &File, course: &Course<'_>) -> Result<()> {
        let mut sparse = SparseFile::sparing(file, FREE_DISK);
        let copied = sparse.write_all_of(course.follow(self.stream)).and_then(|()| sparse.end());
        copied.map(drop).map_err(|e| super::archive::cause("copy the disk", e))
    }
}
