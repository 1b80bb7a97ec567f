//! The last bytes of one output of a command, in a file of limited size.
//!
//! The file is a header and a ring: the byte at offset p of the stream lies at p modulo the ring's
//! size. The header says which bytes are held, and how the command ended once it has. It is written
//! by one process, and may be read by others meanwhile: before bytes are overwritten the header no
//! longer holds them, and it holds new ones after they were written. What could not be written, as
//! on a full disk, is not held; nobody waits for it.
//!
//! ```text
//!    0  magic (8)   format (4)   flags (4)   size of the ring (8)
//!   24  the offset of the first byte held (8)   the length of the stream so far (8)
//!   40  exit code (4)   signal (4)   length of the run's id (4)   the run's id (64)
//! 4096  the ring
//! ```

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::RangeInclusive;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use boxlite_protocol::message::stream;
use bytes::Bytes;

use crate::error::{Code, Error, Result};

/// The sizes that a ring may have, in bytes.
pub const SIZES: RangeInclusive<u64> = 4096..=1 << 30;

const MAGIC: [u8; 8] = *b"blspool\n";
const FORMAT: u32 = 1;
const RING: u64 = 4096;
const HELD_AT: u64 = 24;
const END_AT: u64 = 40;
const MAX_RUN: usize = 64;
const HEADER: usize = 52 + MAX_RUN;

/// The flags: the command has ended.
const ENDED: u32 = 1;

/// How often a header is read that somebody else is just writing.
const TRIES: usize = 100;

/// Where the spools of a box's last run are.
pub fn directory(box_dir: &Path) -> PathBuf {
    box_dir.join("output")
}

/// Where in there an output of a command is, by the supervisor's number for it.
pub fn path(directory: &Path, number: u32, stream: u32) -> PathBuf {
    let output = if stream == stream::STDERR { "stderr" } else { "stdout" };
    directory.join(format!("{number}.{output}"))
}

/// Which bytes of a stream are held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    /// The offset of the first.
    pub start: u64,
    /// How long the stream is so far: behind the last.
    pub total: u64,
}

/// What is at an offset of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// So many bytes are gone.
    Gap(u64),
    Bytes(Bytes),
    /// Nothing yet.
    End,
}

impl Held {
    /// What to read for somebody who wants up to `limit` bytes from an offset on, if there are any.
    fn piece(self, from: u64, limit: u64) -> Result<Option<u64>, u64> {
        if from < self.start {
            return Err(self.start - from);
        }
        let length = self.total.saturating_sub(from).min(limit);
        Ok((length > 0).then_some(length))
    }
}

/// The writing end.
#[derive(Debug)]
pub struct Spool {
    file: File,
    size: u64,
    held: Held,
}

impl Spool {
    /// Begins a spool for a command of a run of a box, in place of a file that is there.
    pub fn create(path: &Path, size: u64, run: &str) -> Result<Spool> {
        let create = || {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(true).mode(0o600);
            let file = options.open(path)?;
            let mut header = [0; HEADER];
            header[..8].copy_from_slice(&MAGIC);
            header[8..12].copy_from_slice(&FORMAT.to_le_bytes());
            header[16..24].copy_from_slice(&size.to_le_bytes());
            let run = &run.as_bytes()[..run.len().min(MAX_RUN)];
            header[48..52].copy_from_slice(&(run.len() as u32).to_le_bytes());
            header[52..52 + run.len()].copy_from_slice(run);
            file.write_all_at(&header, 0)?;
            Ok(file)
        };
        let file = create().map_err(|e: io::Error| {
            Error::io(Code::Storage, format!("create {}", path.display()), &e)
        })?;
        Ok(Spool { file, size, held: Held::default() })
    }

    /// Which bytes are held.
    pub fn held(&self) -> Held {
        self.held
    }

    /// Appends to the stream. An error says that it has a gap now: the bytes before its new end are gone.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let total = self.held.total.saturating_add(bytes.len() as u64);
        let first = self.held.start.max(total.saturating_sub(self.size));
        let written = self.write(bytes, first, total);
        self.held = match written {
            Ok(()) => Held { start: first, total },
            Err(_) => Held { start: total, total },
        };
        if written.is_err() {
            // What a reader sees must not be older than what was overwritten: this fits where it was.
            let _ = self.write_held(self.held);
        }
        written
    }

    fn write(&self, bytes: &[u8], start: u64, total: u64) -> io::Result<()> {
        if start != self.held.start {
            // From here on nobody believes what is about to be overwritten.
            let end = self.held.total.max(start);
            self.write_held(Held { start, total: end })?;
        }
        let kept = bytes.len().min(usize::try_from(self.size).unwrap_or(usize::MAX));
        let kept = &bytes[bytes.len() - kept..];
        let at = (total - kept.len() as u64) % self.size;
        let until_wrap = usize::try_from(self.size - at).unwrap_or(usize::MAX);
        let (one, two) = kept.split_at(kept.len().min(until_wrap));
        self.file.write_all_at(one, RING + at)?;
        self.file.write_all_at(two, RING)?;
        self.write_held(Held { start, total })
    }

    fn write_held(&self, held: Held) -> io::Result<()> {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&held.start.to_le_bytes());
        bytes[8..].copy_from_slice(&held.total.to_le_bytes());
        self.file.write_all_at(&bytes, HELD_AT)
    }

    /// Notes how the command ended.
    pub fn end(&self, code: i32, signal: i32) -> io::Result<()> {
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&code.to_le_bytes());
        bytes[4..].copy_from_slice(&signal.to_le_bytes());
        self.file.write_all_at(&bytes, END_AT)?;
        self.file.write_all_at(&ENDED.to_le_bytes(), 12)
    }

    /// What is at an offset, up to `limit` bytes of it. What cannot be read is gone.
    pub fn read(&self, from: u64, limit: u64) -> Piece {
        match self.held.piece(from, limit) {
            Err(gone) => Piece::Gap(gone),
            Ok(None) => Piece::End,
            Ok(Some(length)) => match read_ring(&self.file, self.size, from, length) {
                Ok(bytes) => Piece::Bytes(bytes),
                Err(_) => Piece::Gap(length),
            },
        }
    }
}

/// Reads from a ring what it is known to hold.
fn read_ring(file: &File, size: u64, from: u64, length: u64) -> io::Result<Bytes> {
    let at = from % size;
    let mut bytes = vec![0; usize::try_from(length.min(size)).unwrap_or(usize::MAX)];
    let until_wrap = usize::try_from(size - at).unwrap_or(usize::MAX).min(bytes.len());
    let (one, two) = bytes.split_at_mut(until_wrap);
    file.read_exact_at(one, RING + at)?;
    file.read_exact_at(two, RING)?;
    Ok(bytes.into())
}

/// The reading end, for another process than the one that writes.
#[derive(Debug)]
pub struct SpoolReader {
    file: File,
    size: u64,
    run: String,
}

/// A header, as far as it changes.
struct Header {
    held: Held,
    /// Exit code and signal.
    end: Option<(i32, i32)>,
}

impl SpoolReader {
    /// Opens a spool; METADATA if the file is none.
    pub fn open(path: &Path) -> Result<SpoolReader> {
        let failed =
            |e: &io::Error| Error::io(Code::Storage, format!("read {}", path.display()), e);
        let foreign = || {
            let text =
                format!("{} is not a file of output that this version reads", path.display());
            Error::new(Code::Metadata, text)
        };
        let file = File::open(path).map_err(|e| failed(&e))?;
        let mut header = [0; HEADER];
        match file.read_exact_at(&mut header, 0) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Err(foreign()),
            other => other.map_err(|e| failed(&e))?,
        }
        let size = number(&header[16..24]);
        let run = number(&header[48..52]);
        let run = usize::try_from(run).ok().and_then(|length| header[52..].get(..length));
        let run = run.and_then(|run| std::str::from_utf8(run).ok());
        let known = header[..8] == MAGIC && number(&header[8..12]) == u64::from(FORMAT);
        match run {
            Some(run) if known && SIZES.contains(&size) => {
                let reader = SpoolReader { file, size, run: run.to_owned() };
                reader.header().map_err(|_| foreign())?;
                Ok(reader)
            }
            _ => Err(foreign()),
        }
    }

    /// The run of the box that this is of.
    pub fn run(&self) -> &str {
        &self.run
    }

    /// How the command ended, exit code and signal, if it has.
    pub fn end(&self) -> io::Result<Option<(i32, i32)>> {
        Ok(self.header()?.end)
    }

    /// Which bytes are held.
    pub fn held(&self) -> io::Result<Held> {
        Ok(self.header()?.held)
    }

    fn header(&self) -> io::Result<Header> {
        for _ in 0..TRIES {
            let mut bytes = [0; 36];
            self.file.read_exact_at(&mut bytes, 12)?;
            let held = Held { start: number(&bytes[12..20]), total: number(&bytes[20..28]) };
            let signed =
                |range: std::ops::Range<usize>| (number(&bytes[range]) as u32).cast_signed();
            let end = (bytes[0] & 1 != 0).then(|| (signed(28..32), signed(32..36)));
            if held.start <= held.total && held.total - held.start <= self.size {
                return Ok(Header { held, end });
            }
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, "the header contradicts itself"))
    }

    /// What is at an offset, up to `limit` bytes of it.
    pub fn read(&self, from: u64, limit: u64) -> io::Result<Piece> {
        let length = match self.held()?.piece(from, limit) {
            Err(gone) => return Ok(Piece::Gap(gone)),
            Ok(None) => return Ok(Piece::End),
            Ok(Some(length)) => length,
        };
        let bytes = read_ring(&self.file, self.size, from, length)?;
        // What was overwritten meanwhile is not what it was.
        let start = self.held()?.start;
        Ok(if start > from { Piece::Gap(start - from) } else { Piece::Bytes(bytes) })
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 4096;

    fn spool() -> (tempfile::TempDir, std::path::PathBuf, Spool) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("main.stdout");
        let spool = Spool::create(&path, SIZE, "the run").unwrap();
        (dir, path, spool)
    }

    /// The byte at an offset of the stream that the tests write.
    fn byte(offset: u64) -> u8 {
        (offset * 7 + offset / 251) as u8
    }

    fn stream(from: u64, length: u64) -> Vec<u8> {
        (from..from + length).map(byte).collect()
    }

    #[test]
    fn the_last_bytes_are_held_and_what_came_before_is_a_gap_for_both_ends() {
        let (_dir, path, mut spool) = spool();
        let reader = SpoolReader::open(&path).unwrap();
        assert_eq!((reader.run(), reader.read(0, 9).unwrap()), ("the run", Piece::End));
        let mut total = 0;
        // Across the ring's end, exactly to it, and more than all of it at once.
        for length in [1, 4095, 4096, 10, 4000, 200, 10_000, 3, 8192, 4095, 1] {
            spool.append(&stream(total, length)).unwrap();
            total += length;
            let start = total.saturating_sub(SIZE);
            assert_eq!(spool.held(), Held { start, total });
            assert_eq!(reader.held().unwrap(), spool.held());
            if start > 0 {
                assert_eq!(reader.read(start - 1, 9).unwrap(), Piece::Gap(1));
                assert_eq!(spool.read(0, 9), Piece::Gap(start));
            }
            let all = Piece::Bytes(stream(start, total - start).into());
            assert_eq!(spool.read(start, u64::MAX), all);
            assert_eq!(reader.read(start, u64::MAX).unwrap(), all);
            let some = Piece::Bytes(stream(total - 1, 1).into());
            assert_eq!(reader.read(total - 1, 100).unwrap(), some);
            assert_eq!((spool.read(total, 9), spool.read(total + 1, 9)), (Piece::End, Piece::End));
        }
        assert_eq!(reader.end().unwrap(), None);
        spool.end(-3, 9).unwrap();
        assert_eq!(reader.end().unwrap(), Some((-3, 9)));
    }

    #[test]
    fn who_reads_while_it_is_written_sees_right_bytes_or_a_gap() {
        let (_dir, path, mut spool) = spool();
        let writer = std::thread::spawn(move || {
            let mut total = 0;
            while total < 3_000_000 {
                let length = 1 + total % 1500;
                spool.append(&stream(total, length)).unwrap();
                total += length;
            }
            spool.end(0, 0).unwrap();
            total
        });
        let reader = SpoolReader::open(&path).unwrap();
        let (mut at, mut read) = (0, 0);
        loop {
            let ended = reader.end().unwrap().is_some();
            match reader.read(at, 700).unwrap() {
                Piece::Gap(gone) => at += gone,
                Piece::Bytes(bytes) => {
                    assert!(bytes == stream(at, bytes.len() as u64), "at {at}");
                    at += bytes.len() as u64;
                    read += 1;
                }
                Piece::End if ended => break,
                Piece::End => {}
            }
        }
        assert_eq!(at, writer.join().unwrap());
        assert!(read > 0);
    }

    #[test]
    fn a_full_disk_makes_a_gap_and_the_stream_goes_on() {
        let (_dir, path, mut spool) = spool();
        spool.append(b"before").unwrap();
        let full = OpenOptions::new().read(true).write(true).open("/dev/full").unwrap();
        let real = std::mem::replace(&mut spool.file, full);
        let error = spool.append(b"lost").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
        assert_eq!(
            (spool.held(), spool.read(0, 9)),
            (Held { start: 10, total: 10 }, Piece::Gap(10))
        );
        spool.file = real;
        spool.append(b"after").unwrap();
        let reader = SpoolReader::open(&path).unwrap();
        assert_eq!(reader.read(3, 9).unwrap(), Piece::Gap(7));
        assert_eq!(reader.read(10, 9).unwrap(), Piece::Bytes("after".into()));
    }

    #[test]
    fn a_file_that_is_no_spool_is_an_error() {
        let (_dir, path, spool) = spool();
        let good = std::fs::read(&path).unwrap();
        drop(spool);
        let wrong = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = good.clone();
            change(&mut bytes);
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(SpoolReader::open(&path).unwrap_err().code(), Code::Metadata);
        };
        wrong(&Vec::clear);
        wrong(&|bytes| bytes.truncate(100));
        wrong(&|bytes| bytes[0] = b'x');
        wrong(&|bytes| bytes[8] = 2);
        wrong(&|bytes| bytes[16..24].fill(0));
        wrong(&|bytes| bytes[16..24].fill(0xff));
        // More held than there is room for, and less than none.
        wrong(&|bytes| bytes[32..40].fill(0xff));
        wrong(&|bytes| bytes[24..32].fill(0xff));
        wrong(&|bytes| bytes[48..52].fill(0xff));
        wrong(&|bytes| bytes[48..53].copy_from_slice(&[1, 0, 0, 0, 0xff]));
    }
}
