//! What host and guest say to each other, and a program to a box's supervisor.
//!
//! Two connections speak alike: guest agent ↔ supervisor over one virtio-serial port, and
//! supervisor ↔ library over a unix socket. Both carry protobuf messages in length-delimited
//! [frames](codec), and many byte streams at once, each with its own [credit](flow): a receiver
//! grants bytes, a sender never exceeds the grant. The transport itself is therefore always
//! drained, and a reader that stops reading stops its own stream only.
//!
//! - [`handshake`]: the sixteen bytes with which a guest opens a session
//! - [`codec`]: frames on a byte stream
//! - [`flow`]: credit accounting of one stream, for either end
//! - [`message`]: the messages themselves
//! - [`placeholder`]: texts on a disk that keep the place of others
//!
//! Nothing here performs I/O or trusts its peer: every length is bounded, every decode can fail.

pub mod codec;
pub mod flow;
pub mod handshake;
pub mod message;
pub mod placeholder;

/// The version of everything in this crate that an agent and a supervisor must agree on.
/// They ship together; a difference means a stale initramfs, and is reported as such.
pub const VERSION: u32 = 1;

/// The largest payload of one data message: half a [`WINDOW`], which is what a grant is of.
pub const MAX_CHUNK: usize = 128 * 1024;

/// The credit a reader grants per stream: what may wait unread, and what is in flight.
pub const WINDOW: u64 = 256 * 1024;
