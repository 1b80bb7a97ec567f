//! Logs that a guest cannot grow without limit.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::CRASH_WORDS;

/// A file keeps at most this much, and its predecessor as much again.
const FILE_LIMIT: u64 = 1 << 20;
/// Lines that an error quotes.
pub const QUOTED_LINES: usize = 12;
/// What is kept in memory for error messages.
const TAIL_LIMIT: usize = 8 << 10;

/// An append-only log in two files of limited size, with its tail in memory.
#[derive(Default)]
pub struct CappedLog {
    kept: Option<Kept>,
    tail: VecDeque<u8>,
}

struct Kept {
    path: PathBuf,
    file: File,
    written: u64,
}

impl CappedLog {
    /// From now on keeps the log at `path`, appending to what is there; the tail comes first.
    pub fn keep(&mut self, path: &Path) -> io::Result<()> {
        let file = append_to(path)?;
        let written = file.metadata()?.len();
        let mut kept = Kept { path: path.to_owned(), file, written };
        kept.append(self.tail.make_contiguous())?;
        self.kept = Some(kept);
        Ok(())
    }

    /// Appends. The tail is kept even if the file cannot be written (a full disk).
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let kept = &bytes[bytes.len().saturating_sub(TAIL_LIMIT)..];
        let excess = (self.tail.len() + kept.len()).saturating_sub(TAIL_LIMIT);
        self.tail.drain(..excess.min(self.tail.len()));
        self.tail.extend(kept);
        self.kept.as_mut().map_or(Ok(()), |kept| kept.append(bytes))
    }

    /// The last lines, as text for people, without control characters. Before them comes the last line
    /// that says one of `telling`, if that is none of them.
    pub fn last_lines(&self, count: usize, telling: &[&str]) -> String {
        let bytes: Vec<u8> = self.tail.iter().copied().collect();
        let text: String = String::from_utf8_lossy(&bytes)
            .chars()
            .filter(|c| *c == '\n' || *c == '\t' || !c.is_control())
            .collect();
        let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
        let tells = |line: &&str| telling.iter().any(|words| line.contains(words));
        let (before, last) = lines.split_at(lines.len().saturating_sub(count));
        let told = before.iter().rev().copied().find(tells).filter(|_| !last.iter().any(tells));
        told.iter().chain(last).copied().collect::<Vec<_>>().join("\n")
    }
}

/// What is at the end of a log that was kept by somebody who is gone, for people; empty if nothing is.
pub fn last_words(path: &Path, name: &str) -> String {
    let mut log = CappedLog::default();
    let mut read = || {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_LIMIT as u64)))?;
        let mut tail = Vec::new();
        file.take(TAIL_LIMIT as u64).read_to_end(&mut tail)?;
        log.append(&tail)
    };
    // A log that cannot be read has nothing to say.
    let _: io::Result<()> = read();
    quote(name, &log.last_lines(QUOTED_LINES, &CRASH_WORDS))
}

/// The last lines of a log, to be put behind an error's message.
pub fn quote(name: &str, lines: &str) -> String {
    if lines.is_empty() {
        return String::new();
    }
    format!("\n--- {name}, last lines ---\n{lines}")
}

impl Kept {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.written + bytes.len() as u64 > FILE_LIMIT {
            std::fs::rename(&self.path, self.path.with_extension("log.old"))?;
            self.file = append_to(&self.path)?;
            self.written = 0;
        }
        self.file.write_all(bytes)?;
        self.written += bytes.len() as u64;
        Ok(())
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_leaves_two_files_of_limited_size_and_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console.log");
        let mut log = CappedLog::default();
        log.keep(&path).unwrap();
        for n in 0..300_000 {
            log.append(format!("line {n}\x1b[0m\r\n").as_bytes()).unwrap();
        }
        let size = |p: &Path| std::fs::metadata(p).unwrap().len();
        assert!(size(&path) <= FILE_LIMIT);
        assert!(size(&path.with_extension("log.old")) <= FILE_LIMIT);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
        assert_eq!(log.last_lines(2, &[]), "line 299998[0m\nline 299999[0m");
    }

    #[test]
    fn a_telling_line_is_not_lost_behind_others() {
        let mut log = CappedLog::default();
        log.append(b"one panic\nlast panic\nthen\nmore\n").unwrap();
        assert_eq!(log.last_lines(2, &["panic"]), "last panic\nthen\nmore");
        assert_eq!(log.last_lines(3, &["panic"]), "last panic\nthen\nmore");
        assert_eq!(log.last_lines(1, &["none", "then"]), "then\nmore");
        assert_eq!(log.last_lines(1, &["none"]), "more");
    }

    #[test]
    fn one_large_write_keeps_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.log");
        let mut log = CappedLog::default();
        log.append(&[b'x'; 3 * TAIL_LIMIT]).unwrap();
        log.append(b"\nend").unwrap();
        assert_eq!(log.last_lines(1, &[]), "end");
        // Kept from some moment on, it begins with what is remembered.
        log.keep(&path).unwrap();
        log.append(b"\nmore").unwrap();
        assert!(std::fs::read_to_string(&path).unwrap().ends_with("x\nend\nmore"));
    }
}
