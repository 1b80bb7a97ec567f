//! Files that are written front to back, with holes where there are zeros.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use rustix::fs::fstatvfs;
use rustix::io::Errno;

/// Zeros of this many bytes in one piece, at a multiple of as many, become a hole.
const HOLE: usize = 4096;
/// How much is written before it is looked again how much is free.
const LOOK: u64 = 8 << 20;
/// How much is copied at once.
const PIECE: usize = 1 << 20;

/// Writes a file front to back.
pub struct SparseFile<'f> {
    file: &'f File,
    position: u64,
    /// What is to stay free on its file system.
    reserve: u64,
    /// Bytes that were written since it was looked whether that is free.
    unseen: u64,
}

impl<'f> SparseFile<'f> {
    /// A file that is empty.
    pub fn new(file: &'f File) -> SparseFile<'f> {
        SparseFile::sparing(file, 0)
    }

    /// The same, which leaves about so many bytes free on its file system: who would need them gets ENOSPC,
    /// before others who need little do.
    pub fn sparing(file: &'f File, reserve: u64) -> SparseFile<'f> {
        SparseFile { file, position: 0, reserve, unseen: 0 }
    }

    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
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
                self.make_sure_of_room(data.len() as u64)?;
                self.file.write_all_at(data, self.position)?;
            }
            self.position += run as u64;
            rest = rest.get(run..).unwrap_or_default();
        }
        Ok(())
    }

    fn make_sure_of_room(&mut self, bytes: u64) -> io::Result<()> {
        self.unseen += bytes;
        if self.reserve == 0 || self.unseen < LOOK {
            return Ok(());
        }
        self.unseen = 0;
        let about = fstatvfs(self.file)?;
        let free = about.f_bavail.saturating_mul(about.f_frsize);
        if free < self.reserve { Err(Errno::NOSPC.into()) } else { Ok(()) }
    }

    /// All that a stream has.
    pub fn write_all_of(&mut self, mut stream: impl Read) -> io::Result<()> {
        let mut buffer = vec![0; PIECE];
        loop {
            match stream.read(&mut buffer)? {
                0 => return Ok(()),
                read => self.write(buffer.get(..read).unwrap_or_default())?,
            }
        }
    }

    /// Ends the file where the last byte was. Returns how many there were.
    pub fn end(self) -> io::Result<u64> {
        self.file.set_len(self.position)?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn what_is_to_stay_free_stays_free() {
        let file = tempfile::tempfile().unwrap();
        let bytes = vec![7; PIECE];
        let mut sparse = SparseFile::sparing(&file, u64::MAX);
        let tried = (0..9).try_for_each(|_| sparse.write(&bytes));
        assert_eq!(tried.unwrap_err().kind(), io::ErrorKind::StorageFull);
        // Holes need no room, and little is not refused.
        let mut sparse = SparseFile::sparing(&file, u64::MAX);
        let zeros = vec![0; PIECE];
        (0..99).try_for_each(|_| sparse.write(&zeros)).unwrap();
        sparse.write(&bytes).unwrap();
    }

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
            assert_eq!(sparse.end().unwrap(), wanted.len() as u64);
            let mut found = vec![1; wanted.len()];
            file.read_exact_at(&mut found, 0).unwrap();
            assert!(found == wanted, "{piece}");
            if piece >= HOLE {
                assert!(file.metadata().unwrap().blocks() * 512 <= 64 << 10, "{piece}");
            }
        }
    }
}
