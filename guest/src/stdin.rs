//! The stdin of an exec: what the host sent and the process has not read yet.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use boxlite_protocol::flow::{self, Violation};
use boxlite_protocol::message::{Credit, Data, stream};
use bytes::{Buf, Bytes};
use nix::errno::Errno;

/// What the host may send ahead of the process.
const WINDOW: u64 = 128 * 1024;

pub struct Stdin {
    exec: u32,
    /// Gone when the process closed its end or the host said end of file.
    pipe: Option<OwnedFd>,
    waiting: VecDeque<Bytes>,
    flow: flow::Receive,
    eof: bool,
}

impl Stdin {
    /// The stream and the grant that opens it.
    pub fn new(exec: u32, pipe: OwnedFd) -> (Stdin, Credit) {
        let flow = flow::Receive::new(WINDOW);
        let stdin = Stdin { exec, pipe: Some(pipe), waiting: VecDeque::new(), flow, eof: false };
        (stdin, Credit { exec, stream: stream::STDIN, bytes: WINDOW })
    }

    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(|p| p.as_fd())
    }

    pub fn accept(&mut self, data: Data) -> Result<(), Violation> {
        self.flow.accept(data.offset, data.bytes.len() as u64)?;
        if !data.bytes.is_empty() {
            self.waiting.push_back(data.bytes);
        }
        self.eof |= data.eof;
        Ok(())
    }

    /// Writes what the process takes; returns a grant that is due.
    pub fn pump(&mut self) -> Option<Credit> {
        let mut written = 0;
        while let Some(front) = self.waiting.front_mut() {
            let result = match &self.pipe {
                Some(pipe) => nix::unistd::write(pipe, front),
                // Nobody reads any more: what comes is dropped, as a closed pipe does.
                None => Ok(front.len()),
            };
            match result {
                Ok(n) => {
                    written += n as u64;
                    front.advance(n);
                    if front.is_empty() {
                        self.waiting.pop_front();
                    }
                }
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => {}
                Err(_) => self.pipe = None,
            }
        }
        if self.waiting.is_empty() && self.eof {
            self.pipe = None;
        }
        let bytes = self.flow.consume(written)?;
        Some(Credit { exec: self.exec, stream: stream::STDIN, bytes })
    }
}
