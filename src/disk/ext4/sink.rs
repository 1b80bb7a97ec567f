//! Writes blocks to the host's file: gathered into large writes, zeros left out.
//!
//! A block that is skipped because it is zero must read as zero, so whatever was written before
//! is punched out when it is freed.

use std::fs::File;
use std::os::unix::fs::FileExt;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use super::geometry::{BLOCK, BLOCK_BYTES};
use crate::error::{Code, Error, Result};

/// How much is gathered before a write.
const BUFFER: usize = 1 << 20;
/// Shorter runs of zero blocks are written along: fewer calls.
const MIN_HOLE: usize = 4;

/// A buffered writer of blocks.
#[derive(Debug)]
pub struct Sink {
    file: File,
    /// Blocks from here on lie past the end of the disk and are dropped.
    limit: u64,
    buffer: Vec<u8>,
    first: u64,
}

impl Sink {
    /// A sink into `file`, which reads as zeros, for `limit` blocks.
    pub fn new(file: File, limit: u64) -> Sink {
        Sink { file, limit, buffer: Vec::with_capacity(BUFFER), first: 0 }
    }

    /// Writes whole blocks from `block` on.
    pub fn write(&mut self, block: u64, data: &[u8]) -> Result<()> {
        debug_assert!(data.len().is_multiple_of(BLOCK));
        let end = self.first + (self.buffer.len() / BLOCK) as u64;
        if block != end || self.buffer.len() + data.len() > BUFFER {
            self.flush()?;
            self.first = block;
        }
        if data.len() >= BUFFER / 2 && self.buffer.is_empty() {
            return self.store(block, data);
        }
        self.buffer.extend_from_slice(data);
        Ok(())
    }

    /// Writes `data` at a byte offset, past the buffer: for superblocks.
    pub fn write_bytes(&mut self, offset: u64, data: &[u8]) -> Result<()> {
        self.file.write_all_at(data, offset).map_err(|e| failed(&e))
    }

    /// Makes blocks read as zeros again.
    pub fn discard(&mut self, block: u64, len: u64) -> Result<()> {
        self.flush()?;
        let len = len.min(self.limit.saturating_sub(block));
        if len == 0 {
            return Ok(());
        }
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let (offset, bytes) = (block * BLOCK_BYTES, len * BLOCK_BYTES);
        match fallocate(&self.file, flags, offset, bytes) {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => self.write_zeros(block, len),
            Err(e) => Err(failed(&e.into())),
        }
    }

    /// Sends what is gathered to the file.
    pub fn flush(&mut self) -> Result<()> {
        let buffer = std::mem::take(&mut self.buffer);
        let stored = self.store(self.first, &buffer);
        self.buffer = buffer;
        self.buffer.clear();
        stored
    }

    /// Flushes and sets the file's final length.
    pub fn finish(mut self, bytes: u64) -> Result<()> {
        self.flush()?;
        self.file.set_len(bytes).map_err(|e| failed(&e))
    }

    fn write_zeros(&mut self, block: u64, len: u64) -> Result<()> {
        let zeros = [0u8; BLOCK];
        for at in block..block + len {
            self.write_bytes(at * BLOCK_BYTES, &zeros)?;
        }
        Ok(())
    }

    fn store(&self, first: u64, data: &[u8]) -> Result<()> {
        let room = self.limit.saturating_sub(first);
        let count = room.min((data.len() / BLOCK) as u64) as usize;
        let mut at = 0;
        while at < count {
            let zeros = run(data, at, count, true);
            if zeros >= MIN_HOLE || (at + zeros == count && zeros > 0) {
                at += zeros;
                continue;
            }
            let mut end = at + zeros;
            // Data, together with holes too short to leave out.
            while end < count {
                end += run(data, end, count, false);
                let zeros = run(data, end, count, true);
                if zeros >= MIN_HOLE || end + zeros == count {
                    break;
                }
                end += zeros;
            }
            let offset = (first + at as u64) * BLOCK_BYTES;
            let bytes = &data[at * BLOCK..end * BLOCK];
            self.file.write_all_at(bytes, offset).map_err(|e| failed(&e))?;
            at = end;
        }
        Ok(())
    }
}

/// How many blocks from `at` on are zero (or are not).
fn run(data: &[u8], at: usize, count: usize, zero: bool) -> usize {
    (at..count).take_while(|i| is_zero(&data[i * BLOCK..(i + 1) * BLOCK]) == zero).count()
}

fn is_zero(block: &[u8]) -> bool {
    static ZEROS: [u8; BLOCK] = [0; BLOCK];
    block == &ZEROS[..]
}

fn failed(cause: &std::io::Error) -> Error {
    Error::io(Code::Storage, "write the disk", cause)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn zero_runs_become_holes_and_everything_reads_back() {
        let file = tempfile::tempfile().unwrap();
        let mut sink = Sink::new(file.try_clone().unwrap(), 4096);
        let mut want = vec![0u8; 600 * BLOCK];
        for block in [0, 1, 3, 5, 9, 10, 300, 599] {
            want[block * BLOCK + 4095] = 7;
        }
        for (i, part) in want.chunks(7 * BLOCK).enumerate() {
            sink.write(i as u64 * 7, part).unwrap();
        }
        sink.finish(600 * BLOCK_BYTES).unwrap();
        let mut got = vec![0u8; want.len()];
        file.read_exact_at(&mut got, 0).unwrap();
        assert!(got == want);
        assert!(file.metadata().unwrap().blocks() * 512 < 100 * BLOCK_BYTES);
    }

    #[test]
    fn discarded_blocks_read_as_zeros() {
        let file = tempfile::tempfile().unwrap();
        let mut sink = Sink::new(file.try_clone().unwrap(), 4096);
        sink.write(0, &vec![1u8; 20 * BLOCK]).unwrap();
        sink.discard(5, 10).unwrap();
        sink.write(8, &[0u8; BLOCK]).unwrap();
        sink.finish(20 * BLOCK_BYTES).unwrap();
        let mut got = vec![9u8; 20 * BLOCK];
        file.read_exact_at(&mut got, 0).unwrap();
        assert!(got[5 * BLOCK..15 * BLOCK].iter().all(|b| *b == 0));
        assert!(got[15 * BLOCK..].iter().all(|b| *b == 1));
    }
}
