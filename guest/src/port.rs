//! The virtio-serial port, and the session on it.
//!
//! The port is nonblocking and watched edge-triggered: with no host it reports a hang-up without
//! end, which a level-triggered watch would spin on. A session lasts from the moment the host is
//! there until it is gone; it begins with a greeting, after all stale input was discarded.
//!
//! What goes out is messages, and between them at most one payload that still lies in a process's
//! pipe: its announcement was queued, so exactly its bytes have to follow, and nothing else is
//! taken from any pipe before they have.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use boxlite_protocol::codec::{self, Codec};
use boxlite_protocol::handshake::Greeting;
use boxlite_protocol::message::{Data, Hello, ToGuest, ToHost, to_host};
use bytes::{Buf, BytesMut};
use nix::errno::Errno;
use nix::fcntl::SpliceFFlags;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};
use tokio_util::codec::{Decoder, Encoder};

use crate::setup;

/// The port's name, as the machine gives it, and where the kernel tells which device has it.
const NAME: &str = "boxlite.agent";
const PORTS: &str = "/sys/class/virtio-ports";

/// Above this many unwritten bytes, output is left in its pipes.
const HIGH_WATER: usize = 256 * 1024;

pub struct Port {
    file: File,
    codec: Codec<ToGuest, ToHost>,
    input: BytesMut,
    output: Output,
    /// What follows the greeting, as it is sent.
    hello: Vec<u8>,
    connected: bool,
    epoch: u32,
}

/// What is to be written, in this order.
#[derive(Default)]
struct Output {
    first: BytesMut,
    payload: Option<Payload>,
    /// What was queued behind the payload.
    last: BytesMut,
}

/// Announced bytes that are in a pipe still.
struct Payload {
    pipe: Rc<OwnedFd>,
    left: usize,
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
    /// Opens the device, which tells the host that the agent is there: what can be done before
    /// comes before.
    pub fn open(device: &Path) -> io::Result<Port> {
        // What a session takes from the first: room for input, the greeting, the first answers.
        let hello = hello()?;
        let input = BytesMut::with_capacity(64 * 1024);
        let output = Output { first: BytesMut::with_capacity(4096), ..Output::default() };
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(libc::O_NONBLOCK);
        setup::touch_memory();
        let file = options.open(device)?;
        let codec = Codec::default();
        Ok(Port { file, codec, input, output, hello, connected: false, epoch: 0 })
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
        self.output.first.extend_from_slice(&greeting.encode());
        self.output.first.extend_from_slice(&self.hello);
        // The host has something to do from here on.
        self.flush()?;
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
            let sent = self.codec.encode(&ToHost { body: Some(body) }, self.output.end());
            debug_assert!(sent.is_ok());
        }
    }

    /// Queues a message whose payload is the next `length` bytes of a pipe that nobody else
    /// reads. Only while there is room.
    pub fn send_from_pipe(&mut self, head: &Data, pipe: Rc<OwnedFd>, length: usize) {
        debug_assert!(self.has_room());
        codec::announce(head, length, self.output.end());
        self.output.payload = Some(Payload { pipe, left: length });
    }

    /// Whether more output may be taken from the pipes.
    pub fn has_room(&self) -> bool {
        self.connected && self.output.payload.is_none() && self.output.first.len() < HIGH_WATER
    }

    /// Whether everything was handed to the host.
    pub fn is_empty(&self) -> bool {
        self.output.first.is_empty() && self.output.payload.is_none()
    }

    /// Writes as much as the host takes.
    pub fn flush(&mut self) -> io::Result<()> {
        while self.connected && !self.is_empty() {
            let moved = if self.output.first.is_empty() {
                self.output.splice(&self.file)
            } else {
                self.output.write(&self.file)
            };
            match moved {
                Ok(()) => {}
                Err(Errno::EAGAIN) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }
}

/// Finds the agent's port, and waits for it if need be.
pub fn find() -> io::Result<PathBuf> {
    if let Some(device) = look() {
        return Ok(device);
    }
    // A port gets its name after everything else, and that is an event.
    let (kind, flags) = (SockType::Datagram, SockFlag::SOCK_CLOEXEC);
    let protocol = SockProtocol::NetlinkKObjectUEvent;
    let events = socket(AddressFamily::Netlink, kind, flags, protocol)?;
    bind(events.as_raw_fd(), &NetlinkAddr::new(0, 1))?;
    loop {
        if let Some(device) = look() {
            return Ok(device);
        }
        match recv(events.as_raw_fd(), &mut [0; 4096], MsgFlags::empty()) {
            // Too many for the socket: one more look does for all of them.
            Ok(_) | Err(Errno::EINTR | Errno::ENOBUFS) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

fn look() -> Option<PathBuf> {
    let named = |port: &fs::DirEntry| {
        fs::read(port.path().join("name"))
            .is_ok_and(|name| name.trim_ascii_end() == NAME.as_bytes())
    };
    let port = fs::read_dir(PORTS).ok()?.flatten().find(named)?;
    Some(Path::new("/dev").join(port.file_name()))
}

/// The first message of every session, framed.
fn hello() -> io::Result<Vec<u8>> {
    let kernel = nix::sys::utsname::uname()?.release().to_string_lossy().into_owned();
    let agent = env!("CARGO_PKG_VERSION").to_owned();
    let body = Some(to_host::Body::Hello(Hello { agent, kernel }));
    let mut frame = BytesMut::new();
    Codec::<ToGuest, ToHost>::default().encode(&ToHost { body }, &mut frame)?;
    Ok(frame.into())
}

impl Output {
    /// Forgets everything, and keeps the room for more.
    fn clear(&mut self) {
        self.first.clear();
        self.payload = None;
        self.last.clear();
    }

    /// Where the next message goes.
    fn end(&mut self) -> &mut BytesMut {
        if self.payload.is_some() { &mut self.last } else { &mut self.first }
    }

    fn write(&mut self, port: &File) -> nix::Result<()> {
        let n = nix::unistd::write(port, &self.first)?;
        self.first.advance(n);
        Ok(())
    }

    fn splice(&mut self, port: &File) -> nix::Result<()> {
        let Some(payload) = &mut self.payload else { return Ok(()) };
        let flags = SpliceFFlags::SPLICE_F_NONBLOCK;
        match nix::fcntl::splice(&payload.pipe, None, port, None, payload.left, flags)? {
            // Bytes that were there are not: no way to keep what was announced.
            0 => return Err(Errno::EIO),
            n => payload.left -= n,
        }
        if payload.left == 0 {
            self.payload = None;
            std::mem::swap(&mut self.first, &mut self.last);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    use nix::unistd::{pipe2, write};
    use tokio_util::codec::Decoder;

    /// A port whose host is the reading end of a pipe: it takes little at a time.
    fn port() -> (Port, OwnedFd) {
        let (host, file) = pipe2(OFlag::O_NONBLOCK).unwrap();
        fcntl(&file, FcntlArg::F_SETPIPE_SZ(16 * 1024)).unwrap();
        let port = Port {
            file: file.into(),
            codec: Codec::default(),
            input: BytesMut::new(),
            output: Output::default(),
            hello: Vec::new(),
            connected: true,
            epoch: 1,
        };
        (port, host)
    }

    fn pipe_with(bytes: &[u8]) -> (Rc<OwnedFd>, OwnedFd) {
        let (ours, theirs) = pipe2(OFlag::O_NONBLOCK).unwrap();
        assert_eq!(write(&theirs, bytes).unwrap(), bytes.len());
        (Rc::new(ours), theirs)
    }

    fn data(stream: u32, bytes: &[u8]) -> Data {
        Data { exec: 1, stream, offset: 0, bytes: Bytes::copy_from_slice(bytes), eof: false }
    }

    fn read_all(port: &mut Port, host: &OwnedFd) -> Vec<ToHost> {
        let mut codec = Codec::<ToHost, ToGuest>::default();
        let (mut wire, mut messages) = (BytesMut::new(), Vec::new());
        let mut chunk = [0; 5000];
        loop {
            port.flush().unwrap();
            match nix::unistd::read(host, &mut chunk) {
                Ok(n) => wire.extend_from_slice(&chunk[..n]),
                Err(_) => break,
            }
            while let Some(message) = codec.decode(&mut wire).unwrap() {
                messages.push(message);
            }
        }
        assert!(wire.is_empty() && port.is_empty());
        messages
    }

    #[test]
    fn a_payload_follows_its_head_whatever_is_queued_meanwhile() {
        let (mut port, host) = port();
        let first: Vec<u8> = (0..60_000u32).map(|n| (n % 251) as u8).collect();
        let second = vec![9; 33_000];
        let (one, _writer) = pipe_with(&[&first[..], b"not announced"].concat());
        let (two, _other) = pipe_with(&second);

        port.send(to_host::Body::Data(data(1, b"before")));
        port.send_from_pipe(&data(1, b""), one, first.len());
        port.flush().unwrap();
        assert!(!port.has_room(), "the host has not taken it all");
        port.send(to_host::Body::Data(data(2, b"behind")));
        let mut messages = read_all(&mut port, &host);
        assert!(port.has_room());
        port.send_from_pipe(&data(2, b""), two, second.len());
        messages.extend(read_all(&mut port, &host));

        let wanted = [data(1, b"before"), data(1, &first), data(2, b"behind"), data(2, &second)];
        let wanted = wanted.map(|d| ToHost { body: Some(to_host::Body::Data(d)) });
        assert!(messages == wanted);
    }

    #[test]
    fn what_was_announced_and_is_gone_is_an_error_and_not_a_gap() {
        let (mut port, _host) = port();
        let (pipe, writer) = pipe_with(b"short");
        drop(writer);
        port.send_from_pipe(&data(1, b""), pipe, 9000);
        assert!(port.flush().is_err());
    }

    #[test]
    fn a_host_that_leaves_takes_what_was_queued_along() {
        let (mut port, _host) = port();
        let (pipe, _writer) = pipe_with(&[0; 9000]);
        port.send_from_pipe(&data(1, b""), pipe, 9000);
        assert_eq!(port.set_present(false).unwrap(), Change::Closed);
        assert!(port.is_empty());
        port.send(to_host::Body::Data(data(1, b"to nobody")));
        assert!(port.is_empty());
    }
}
