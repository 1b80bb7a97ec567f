//! How a session begins: the guest speaks first.
//!
//! On a new connection the guest discards what is left in its input and writes a [`Greeting`].
//! The host sends nothing before it has seen it, and discards whatever comes before it. Without
//! this a fast reconnect goes unnoticed by the guest, which would then read stale bytes.

use bytes::{Buf, BytesMut};

const MAGIC: [u8; 8] = *b"boxlite\x1a";

/// The length of a greeting on the wire.
pub const LENGTH: usize = 16;

/// What opens a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Greeting {
    /// The protocol version the guest speaks; see [`crate::VERSION`].
    pub version: u32,
    /// Grows with every session of this machine.
    pub epoch: u32,
}

impl Greeting {
    /// The bytes on the wire: magic, version and epoch, big-endian.
    pub fn encode(self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&self.version.to_be_bytes());
        bytes[12..].copy_from_slice(&self.epoch.to_be_bytes());
        bytes
    }

    /// Takes the first greeting out of `buffer`, with all that comes before it.
    ///
    /// Without one, the buffer keeps only what may be a greeting's beginning.
    pub fn find(buffer: &mut BytesMut) -> Option<Greeting> {
        let start = buffer.windows(MAGIC.len()).position(|w| w == MAGIC);
        match start {
            Some(start) => {
                buffer.advance(start);
                if buffer.len() < LENGTH {
                    return None;
                }
                buffer.advance(MAGIC.len());
                Some(Greeting { version: buffer.get_u32(), epoch: buffer.get_u32() })
            }
            None => {
                buffer.advance(buffer.len().saturating_sub(MAGIC.len() - 1));
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greeting_is_found_behind_stale_bytes_however_it_arrives() {
        let greeting = Greeting { version: 1, epoch: 9 };
        let mut wire = b"stale frame boxlite\x1b".to_vec();
        wire.extend(greeting.encode());
        wire.extend(b"next");
        let mut buffer = BytesMut::new();
        let mut found = None;
        for byte in wire {
            buffer.extend_from_slice(&[byte]);
            if found.is_none() {
                found = Greeting::find(&mut buffer);
            }
        }
        assert_eq!(found, Some(greeting));
        assert_eq!(&buffer[..], b"next");
    }

    #[test]
    fn noise_does_not_accumulate() {
        let mut buffer = BytesMut::new();
        for _ in 0..1000 {
            buffer.extend_from_slice(&[b'b'; 100]);
            assert_eq!(Greeting::find(&mut buffer), None);
            assert!(buffer.len() < 8);
        }
    }
}
