//! Bytes on their way in or out.

use std::fmt::Write as _;
use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};

use super::super::{Observer, Progress};
use crate::error::{Code, Error, Result};

/// How often it is told how far it is, in bytes.
const TOLD_EVERY: u64 = 4 << 20;

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

    /// A stream whose course it is.
    pub fn follow<'c, R: Read>(&'c self, inner: R) -> Followed<'c, R>
    where
        'a: 'c,
    {
        Followed { inner, course: self }
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
    inner: R,
    course: &'a Course<'a>,
}

impl<R: Read> Read for Followed<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.course.step(read as u64).map_err(io::Error::other)?;
        Ok(read)
    }
}

/// The error that a stream of ours failed with, or what the system said.
pub fn cause(what: &str, error: io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(own) => own,
        Err(other) => Error::io(Code::Storage, what, &other),
    }
}

/// In hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
