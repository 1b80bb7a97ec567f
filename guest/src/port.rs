//! The virtio-serial port, and the session on it.
//!
//! The port is nonblocking and watched edge-triggered: with no host it reports a hang-up without
//! end, which a level-triggered watch would spin on. A session lasts from the moment the host is
//! there until it is gone; it begins with a greeting, after all stale input was discarded.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use boxlite_protocol::codec::Codec;
use boxlite_protocol::handshake::Greeting;
use boxlite_protocol::message::{Hello, ToGuest, ToHost, to_host};
use bytes::{Buf, BytesMut};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio_util::codec::{Decoder, Encoder};

/// The first port of the only virtio-serial device.
const DEVICE: &str = "/dev/vport0p1";

/// Above this many unwritten bytes, output is left in its pipes.
const HIGH_WATER: usize = 256 * 1024;

pub struct Port {
    file: File,
    codec: Codec<ToGuest, ToHost>,
    input: BytesMut,
    output: BytesMut,
    connected: bool,
    epoch: u32,
}

/// What a look at the port showed.
#[derive(Debug, PartialEq, Eq)]
pub enum Change {
    None,
    /// A new session has begun: nothing of an older one is known to the host.
    Opened,
    /// The host has gone.
    Closed,
}

impl Port {
    /// Waits for the device node to appear, and opens it.
    pub fn open() -> io::Result<Port> {
        let watch = Inotify::init(InitFlags::IN_CLOEXEC)?;
        watch.add_watch("/dev", AddWatchFlags::IN_CREATE)?;
        while !Path::new(DEVICE).exists() {
            watch.read_events()?;
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(DEVICE)?;
        Ok(Port {
            file,
            codec: Codec::default(),
            input: BytesMut::with_capacity(64 * 1024),
            output: BytesMut::with_capacity(HIGH_WATER),
            connected: false,
            epoch: 0,
        })
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Takes note of a change in the host's presence.
    pub fn set_present(&mut self, present: bool) -> io::Result<Change> {
        if present == self.connected {
            return Ok(Change::None);
        }
        self.connected = present;
        self.codec = Codec::default();
        self.output.clear();
        if !present {
            self.input.clear();
            return Ok(Change::Closed);
        }
        self.fill()?;
        self.input.clear();
        self.epoch += 1;
        let greeting = Greeting { version: boxlite_protocol::VERSION, epoch: self.epoch };
        self.output.extend_from_slice(&greeting.encode());
        let kernel = nix::sys::utsname::uname()?.release().to_string_lossy().into_owned();
        let agent = env!("CARGO_PKG_VERSION").to_owned();
        self.send(to_host::Body::Hello(Hello { agent, kernel }));
        Ok(Change::Opened)
    }

    /// The next message from the host, if a whole one is there.
    pub fn receive(&mut self) -> io::Result<Option<ToGuest>> {
        loop {
            if let Some(message) = self.codec.decode(&mut self.input)? {
                return Ok(Some(message));
            }
            if !self.connected || self.fill()? == 0 {
                return Ok(None);
            }
        }
    }

    /// Reads all that is there; 0 when there is nothing (or no host).
    fn fill(&mut self) -> io::Result<usize> {
        // The driver returns at most one page at a time.
        const PAGE: usize = 4096;
        let mut total = 0;
        while total < 64 * 1024 {
            let length = self.input.len();
            self.input.resize(length + PAGE, 0);
            let read = match self.file.read(&mut self.input[length..]) {
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => 0,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => 0,
                Err(e) => {
                    self.input.truncate(length);
                    return Err(e);
                }
            };
            self.input.truncate(length + read);
            total += read;
            if read == 0 {
                break;
            }
        }
        Ok(total)
    }

    /// Queues a message. Without a host it is dropped: a new session starts from nothing.
    pub fn send(&mut self, body: to_host::Body) {
        if self.connected {
            // Only an oversized message is refused, and every one of ours is bounded.
            let sent = self.codec.encode(&ToHost { body: Some(body) }, &mut self.output);
            debug_assert!(sent.is_ok());
        }
    }

    /// Whether more output may be taken from the pipes.
    pub fn has_room(&self) -> bool {
        self.connected && self.output.len() < HIGH_WATER
    }

    /// Whether everything was handed to the host.
    pub fn is_empty(&self) -> bool {
        self.output.is_empty()
    }

    /// Writes as much as the host takes.
    pub fn flush(&mut self) -> io::Result<()> {
        while self.connected && !self.output.is_empty() {
            match self.file.write(&self.output) {
                Ok(0) => return Ok(()),
                Ok(n) => self.output.advance(n),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}
