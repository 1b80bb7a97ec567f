//! A disk as a qcow2 file: a stream of bytes whose length is known before the first.

use std::io::{self, Read};
use std::path::Path;

use super::layout::Layout;
use super::read::Reader;
use crate::disk::overlay::DiskFormat;
use crate::error::{Code, Error, Result};

/// How much is read at once where the data lie in one piece.
const CHUNK: usize = 1 << 20;

/// The bytes of a new qcow2 file: version 3, clusters of 64 KiB, reference counts of 16 bits.
///
/// Only clusters that hold anything are in it. Memory is that of the [`Reader`], up to as much again
/// for the plan of the new file, and 1 MiB.
///
/// Errors while reading are [`io::Error`]s that hold an [`Error`].
#[derive(Debug)]
pub struct Stream {
    reader: Reader,
    layout: Layout,
    /// Where in the file the next byte is that is not in the buffer.
    position: u64,
    buffer: Vec<u8>,
    /// How many bytes of the buffer are read.
    used: usize,
}

impl Stream {
    /// A file with what `reader` shows, on a backing file if there is one: its path and format are
    /// stored as they are given.
    ///
    /// With a backing file the stream holds what is in the reader's layers, and nothing of what is
    /// below them; zeros that hide something stay zeros. Where the layers do not begin and end at
    /// multiples of 64 KiB, the clusters are smaller. Without one, all of the chain must be given:
    /// [`Code::InvalidArgument`] otherwise, as for a path that cannot be stored.
    pub fn new(reader: Reader, backing: Option<(&Path, DiskFormat)>) -> Result<Stream> {
        if backing.is_none() && reader.is_open_ended() {
            let message = "a part of a chain without a backing file: give all files, or say what \
                           they are on";
            return Err(Error::new(Code::InvalidArgument, message));
        }
        let layout = Layout::new(&reader, backing)?;
        Ok(Stream { reader, layout, position: 0, buffer: Vec::new(), used: 0 })
    }

    /// Bytes of the whole file.
    #[expect(clippy::len_without_is_empty, reason = "there is always a header")]
    pub fn len(&self) -> u64 {
        self.layout.length()
    }

    /// Fills `out`, which has room for a cluster, as far as is sensible. Nothing only at the end.
    fn next(&mut self, out: &mut [u8]) -> Result<usize> {
        let data = self.layout.data_offset();
        let mut done = 0;
        if self.position < data {
            let size = 1 << self.layout.cluster_bits;
            for cluster in out.chunks_exact_mut(size) {
                if self.position + done as u64 == data {
                    break;
                }
                let number = (self.position + done as u64) >> self.layout.cluster_bits;
                self.layout.metadata(number, cluster);
                done += size;
            }
        } else {
            while let Some(rest) = out.get_mut(done..).filter(|rest| !rest.is_empty()) {
                let offset = self.position + done as u64 - data;
                let Some((guest, length)) = self.layout.data_at(offset) else { break };
                let length = usize::try_from(length).unwrap_or(usize::MAX).min(rest.len());
                self.copy(rest.get_mut(..length).unwrap_or_default(), guest)?;
                done += length;
            }
        }
        self.position += done as u64;
        Ok(done)
    }

    /// Reads the disk; the last cluster may end behind it.
    fn copy(&self, out: &mut [u8], guest: u64) -> Result<()> {
        let there = self.reader.size().saturating_sub(guest);
        let there = usize::try_from(there).unwrap_or(usize::MAX).min(out.len());
        let (there, behind) = out.split_at_mut(there);
        behind.fill(0);
        self.reader.read_at(there, guest)
    }
}

impl Read for Stream {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.used == self.buffer.len() {
            if out.len() >= CHUNK {
                return self.next(out).map_err(io::Error::other);
            }
            let mut buffer = std::mem::take(&mut self.buffer);
            buffer.resize(CHUNK, 0);
            let filled = self.next(&mut buffer).map_err(io::Error::other)?;
            buffer.truncate(filled);
            (self.buffer, self.used) = (buffer, 0);
        }
        let mut rest = self.buffer.get(self.used..).unwrap_or_default();
        let length = rest.read(out)?;
        self.used += length;
        Ok(length)
    }
}
