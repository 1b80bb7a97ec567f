//! One output stream of an exec: a pipe on one side, credit on the other.
//!
//! A little output is read and sent as any message. Much of it never passes through this process:
//! the frame's head is written, and the kernel moves the pipe's own pages to the port.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use boxlite_protocol::MAX_CHUNK;
use boxlite_protocol::flow;
use boxlite_protocol::message::{Data, to_host};
use bytes::Bytes;
use nix::errno::Errno;

use crate::port::Port;

/// Below this many bytes a copy is cheaper than two transfers to the port.
const SMALL: usize = 8 * 1024;

/// Each page of a pipe becomes a segment of one transfer, and QEMU takes at most 1024. Only root
/// can make a pipe larger than this; what is in it is copied.
const MOST_SPLICED: i32 = 1024 * 1024;

pub struct Output {
    exec: u32,
    stream: u32,
    pipe: Rc<OwnedFd>,
    flow: flow::Send,
    /// Whether the pipe may have something: set by an edge, cleared by an empty read.
    readable: bool,
    /// Whether the pipe was made large.
    large: bool,
    /// Whether nobody has the writing end any more: there is an end of file to be read.
    hung_up: bool,
    /// Once the process has ended: what was in the pipe then and is still to be sent. What some
    /// background process writes later is not part of this exec's output.
    remaining: Option<usize>,
}

/// What a command may write ahead of us once it writes much: each time we find the pipe full and
/// empty it, the processor changes hands twice. Most commands never need it.
const LARGE_PIPE: i32 = 256 * 1024;

/// What became of an attempt to move bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing to do until an edge or a grant comes.
    Idle,
    Moved,
    /// The end of the stream; the pipe is still good for discarding what comes later.
    End,
}

/// What is to be done about a pipe.
enum Chunk {
    Spliced(usize),
    /// Read at most so much, which may be nothing yet.
    Read(usize),
}

impl Output {
    pub fn new(exec: u32, stream: u32, pipe: OwnedFd, credit: u64) -> Output {
        Output {
            exec,
            stream,
            pipe: Rc::new(pipe),
            flow: flow::Send::new(credit),
            readable: false,
            large: false,
            hung_up: false,
            remaining: None,
        }
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }

    pub fn stream(&self) -> u32 {
        self.stream
    }

    pub fn into_pipe(self) -> Rc<OwnedFd> {
        self.pipe
    }

    /// Notes an edge: there may be something to read, or at least the end.
    pub fn set_readable(&mut self, hung_up: bool) {
        self.readable = true;
        self.hung_up |= hung_up;
    }

    /// Notes that the process has ended, so the stream ends with what is in the pipe now.
    pub fn set_last(&mut self) {
        self.remaining = Some(self.waiting());
    }

    /// False if the grant is absurd.
    #[must_use]
    pub fn grant(&mut self, bytes: u64) -> bool {
        self.flow.grant(bytes)
    }

    /// Moves at most one chunk to the port, which has room.
    pub fn step(&mut self, port: &mut Port) -> Step {
        let limit = match self.remaining {
            Some(0) => return Step::End,
            Some(remaining) => remaining.min(MAX_CHUNK),
            None if self.readable => MAX_CHUNK,
            None => return Step::Idle,
        };
        let limit = limit.min(usize::try_from(self.flow.available()).unwrap_or(MAX_CHUNK));
        if limit == 0 {
            return Step::Idle;
        }
        match self.choose(limit) {
            Chunk::Spliced(length) => {
                self.enlarge();
                let head = self.data(length, Bytes::new());
                port.send_from_pipe(&head, self.pipe.clone(), length);
                Step::Moved
            }
            Chunk::Read(length) => self.copy(length, port),
        }
    }

    fn choose(&self, limit: usize) -> Chunk {
        let spliced = self.waiting().min(limit);
        if spliced < SMALL || self.capacity() > MOST_SPLICED {
            return Chunk::Read(limit.min(SMALL));
        }
        Chunk::Spliced(spliced)
    }

    fn copy(&mut self, length: usize, port: &mut Port) -> Step {
        let mut buffer = [0; SMALL];
        match nix::unistd::read(&self.pipe, &mut buffer[..length]) {
            Ok(n) if n > 0 => {
                // It is empty now. Should the end be there already, no further edge tells of it.
                self.readable &= n == length || self.hung_up;
                let data = self.data(n, Bytes::copy_from_slice(&buffer[..n]));
                port.send(to_host::Body::Data(data));
                Step::Moved
            }
            Err(Errno::EAGAIN) if self.remaining.is_none() => {
                self.readable = false;
                Step::Idle
            }
            // End of file, or an error that ends the stream.
            _ => Step::End,
        }
    }

    /// How many bytes wait in the pipe. Nobody else reads it, so they stay.
    fn waiting(&self) -> usize {
        nix::ioctl_read_bad!(waiting_bytes, libc::FIONREAD, libc::c_int);
        let mut waiting = 0;
        // SAFETY: FIONREAD stores one int.
        let known = unsafe { waiting_bytes(self.pipe.as_raw_fd(), &mut waiting) };
        known.map_or(0, |_| usize::try_from(waiting).unwrap_or(0))
    }

    /// A system that refuses leaves the size it gave.
    fn enlarge(&mut self) {
        use nix::fcntl::{FcntlArg, fcntl};
        if !self.large && self.remaining.is_none() {
            self.large = true;
            let _ = fcntl(&self.pipe, FcntlArg::F_SETPIPE_SZ(LARGE_PIPE));
        }
    }

    fn capacity(&self) -> i32 {
        use nix::fcntl::{FcntlArg, fcntl};
        fcntl(&self.pipe, FcntlArg::F_GETPIPE_SZ).unwrap_or(i32::MAX)
    }

    /// A message about `length` bytes, which are taken out of the credit.
    fn data(&mut self, length: usize, bytes: Bytes) -> Data {
        let offset = self.flow.take(length as u64);
        self.remaining = self.remaining.map(|r| r - length);
        Data { exec: self.exec, stream: self.stream, offset, bytes, eof: false }
    }

    /// The message that says that nothing follows.
    pub fn end(&mut self) -> Data {
        Data { eof: true, ..self.data(0, Bytes::new()) }
    }
}
