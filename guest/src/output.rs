//! One output stream of an exec: a pipe on one side, credit on the other.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use boxlite_protocol::MAX_CHUNK;
use boxlite_protocol::flow;
use boxlite_protocol::message::Data;
use bytes::BytesMut;
use nix::errno::Errno;

pub struct Output {
    exec: u32,
    stream: u32,
    pipe: OwnedFd,
    flow: flow::Send,
    /// Whether the pipe may have something: set by an edge, cleared by an empty read.
    readable: bool,
    /// Once the process has ended: what was in the pipe then and is still to be sent. What some
    /// background process writes later is not part of this exec's output.
    remaining: Option<usize>,
}

/// What became of an attempt to move bytes.
pub enum Step {
    /// Nothing to do until an edge or a grant comes.
    Idle,
    Data(Data),
    /// The end of the stream; the pipe is still good for discarding what comes later.
    End(Data),
}

impl Output {
    pub fn new(exec: u32, stream: u32, pipe: OwnedFd, credit: u64) -> Output {
        let flow = flow::Send::new(credit);
        Output { exec, stream, pipe, flow, readable: true, remaining: None }
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }

    pub fn stream(&self) -> u32 {
        self.stream
    }

    pub fn into_pipe(self) -> OwnedFd {
        self.pipe
    }

    pub fn set_readable(&mut self) {
        self.readable = true;
    }

    /// Notes that the process has ended, so the stream ends with what is in the pipe now.
    pub fn set_last(&mut self) {
        self.remaining = Some(self.waiting().unwrap_or(0));
    }

    /// False if the grant is absurd.
    #[must_use]
    pub fn grant(&mut self, bytes: u64) -> bool {
        self.flow.grant(bytes)
    }

    /// Moves at most one chunk.
    pub fn step(&mut self) -> Step {
        let limit = match self.remaining {
            Some(0) => return Step::End(self.data(BytesMut::new(), true)),
            Some(remaining) => remaining.min(MAX_CHUNK),
            None if self.readable => MAX_CHUNK,
            None => return Step::Idle,
        };
        let limit = limit.min(usize::try_from(self.flow.available()).unwrap_or(MAX_CHUNK));
        if limit == 0 {
            return Step::Idle;
        }
        let mut chunk = BytesMut::zeroed(limit);
        match nix::unistd::read(&self.pipe, &mut chunk) {
            Ok(n) if n > 0 => {
                chunk.truncate(n);
                self.remaining = self.remaining.map(|r| r - n);
                Step::Data(self.data(chunk, false))
            }
            Err(Errno::EAGAIN) if self.remaining.is_none() => {
                self.readable = false;
                Step::Idle
            }
            // End of file, or an error that ends the stream.
            _ => Step::End(self.data(BytesMut::new(), true)),
        }
    }

    /// How many bytes wait in the pipe.
    fn waiting(&self) -> nix::Result<usize> {
        nix::ioctl_read_bad!(waiting_bytes, libc::FIONREAD, libc::c_int);
        let mut waiting = 0;
        // SAFETY: FIONREAD stores one int.
        unsafe { waiting_bytes(self.pipe.as_raw_fd(), &mut waiting)? };
        Ok(usize::try_from(waiting).unwrap_or(0))
    }

    fn data(&mut self, bytes: BytesMut, eof: bool) -> Data {
        let offset = self.flow.take(bytes.len() as u64);
        Data { exec: self.exec, stream: self.stream, offset, bytes: bytes.freeze(), eof }
    }
}
