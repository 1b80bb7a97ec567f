//! Bytes on their way in or out.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};

use super::super::{Observer, Progress};
use crate::error::{Code, Error, Result};

/// How often it is told how far it is, in bytes.
const TOLD_EVERY: u64 = 4 << 20;
/// Zeros of this many bytes in one piece, at a multiple of as many, become a hole.
const HOLE: usize = 4096;

/// How far it is, and whether it is still wanted.
pub struct Course<'a> {
    observer: Option<Observer>,
    cancelled: &'a dyn Fn() -> bool,
    what: &'static str,
    total: u64,
    done: AtomicU64,
}

impl<'a> Course<'a> {
    /// Of something that is done with so many bytes.
    pub fn new(
        observer: Option<Observer>,
        cancelled: &'a dyn Fn() -> bool,
        what: &'static str,
        total: u64,
    ) -> Course<'a> {
        Course { observer, cancelled, what, total, done: AtomicU64::new(0) }
    }

    /// So many bytes more are done. Fails if nobody wants the rest.
    pub fn step(&self, bytes: u64) -> Result<()> {
        if (self.cancelled)() {
            return Err(Error::new(Code::Cancelled, format!("{} was cancelled", self.what)));
        }
        let before = self.done.fetch_add(bytes, Ordering::Relaxed);
        let done = before + bytes;
        let is_due = before / TOLD_EVERY != done / TOLD_EVERY || done == self.total;
        if let Some(observer) = self.observer.as_ref().filter(|_| is_due) {
            observer(Progress::Bytes { done, total: self.total });
        }
        Ok(())
    }
}

/// A stream that is hashed and counted while it is read.
pub struct Hashed<R> {
    inner: R,
    hash: Sha256,
    bytes: u64,
}

impl<R: Read> Hashed<R> {
    pub fn new(inner: R) -> Hashed<R> {
        Hashed { inner, hash: Sha256::new(), bytes: 0 }
    }

    /// How many bytes there were, and their SHA-256 in hexadecimal digits.
    pub fn end(self) -> (u64, String) {
        (self.bytes, hex(&self.hash.finalize()))
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hash.update(buffer.get(..read).unwrap_or_default());
        self.bytes += read as u64;
        Ok(read)
    }
}

/// A stream whose course is followed.
pub struct Followed<'a, R> {
    pub inner: R,
    pub course: &'a Course<'a>,
}

impl<R: Read> Read for Followed<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.course.step(read as u64).map_err(io::Error::other)?;
        Ok(read)
    }
}

/// Writes a file front to back, with holes where there are zeros. What it has is hashed.
pub struct SparseFile<'f> {
    file: &'f File,
    hash: Sha256,
    position: u64,
}

impl<'f> SparseFile<'f> {
    pub fn new(file: &'f File) -> SparseFile<'f> {
        SparseFile { file, hash: Sha256::new(), position: 0 }
    }

    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        let mut rest = bytes;
        while !rest.is_empty() {
            // At most as much as is left of the present block.
            let left = HOLE - (self.position % HOLE as u64) as usize;
            let (piece, behind) = rest.split_at(left.min(rest.len()));
            let mut run = piece.len();
            let is_hole = piece.len() == HOLE && piece.iter().all(|byte| *byte == 0);
            if !is_hole {
                // All blocks up to the next of zeros at once.
                let blocks = behind.chunks_exact(HOLE);
                let full = blocks.take_while(|block| block.iter().any(|byte| *byte != 0)).count();
                run += full * HOLE;
                let data = rest.get(..run).unwrap_or_default();
                self.file.write_all_at(data, self.position)?;
            }
            self.position += run as u64;
            rest = rest.get(run..).unwrap_or_default();
        }
        Ok(())
    }

    /// Ends the file where the last byte was. Returns how many there were, and their SHA-256 in
    /// hexadecimal digits.
    pub fn end(self) -> io::Result<(u64, String)> {
        self.file.set_len(self.position)?;
        Ok((self.position, hex(&self.hash.finalize())))
    }
}

/// The error that a stream of ours failed with, or what the system said.
pub fn cause(what: &str, error: io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(own) => own,
        Err(other) => Error::io(Code::Storage, what, &other),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn zeros_become_holes_and_bytes_stay_what_they_are() {
        let mut wanted = vec![0u8; 5 << 20];
        for at in [0, 1 << 20, (3 << 20) + 17, (5 << 20) - 1] {
            wanted[at] = 7;
        }
        for piece in [1000, 4096, 65_536, 5 << 20] {
            let file = tempfile::tempfile().unwrap();
            let mut sparse = SparseFile::new(&file);
            wanted.chunks(piece).for_each(|bytes| sparse.write(bytes).unwrap());
            let (bytes, hash) = sparse.end().unwrap();
            assert_eq!((bytes, hash), (wanted.len() as u64, hex(&Sha256::digest(&wanted))));
            let mut found = vec![1; wanted.len()];
            file.read_exact_at(&mut found, 0).unwrap();
            assert!(found == wanted, "{piece}");
            if piece >= HOLE {
                assert!(file.metadata().unwrap().blocks() * 512 <= 64 << 10, "{piece}");
            }
        }
    }
}
