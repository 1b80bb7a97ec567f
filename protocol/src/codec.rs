//! Frames: a four-byte big-endian length, then one protobuf message.

use std::io;
use std::marker::PhantomData;

use bytes::{BufMut, BytesMut};
use prost::Message;
use tokio_util::codec::{Decoder, Encoder, LengthDelimitedCodec};

/// The largest frame either side accepts. A command with its environment must fit.
pub const MAX_FRAME: usize = 1 << 20;

const LENGTH: usize = 4;

/// Reads messages of type `In` and writes messages of type `Out`.
///
/// Payload bytes of a decoded message share the read buffer: nothing is copied.
#[derive(Debug)]
pub struct Codec<In, Out> {
    frames: LengthDelimitedCodec,
    messages: PhantomData<fn(Out) -> In>,
}

impl<In, Out> Default for Codec<In, Out> {
    fn default() -> Self {
        let frames = LengthDelimitedCodec::builder()
            .length_field_length(LENGTH)
            .max_frame_length(MAX_FRAME)
            .new_codec();
        Codec { frames, messages: PhantomData }
    }
}

impl<In: Message + Default, Out> Decoder for Codec<In, Out> {
    type Item = In;
    type Error = io::Error;

    fn decode(&mut self, buffer: &mut BytesMut) -> io::Result<Option<In>> {
        match self.frames.decode(buffer)? {
            None => Ok(None),
            Some(frame) => In::decode(frame.freeze())
                .map(Some)
                .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e)),
        }
    }
}

impl<In, Out: Message> Encoder<&Out> for Codec<In, Out> {
    type Error = io::Error;

    /// Appends one frame. A message over [`MAX_FRAME`] is refused and leaves the buffer as it was.
    fn encode(&mut self, message: &Out, buffer: &mut BytesMut) -> io::Result<()> {
        let length = message.encoded_len();
        if length > MAX_FRAME {
            let text = format!("message of {length} bytes is over the limit of {MAX_FRAME}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        buffer.reserve(LENGTH + length);
        buffer.put_u32(length as u32);
        message.encode_raw(buffer);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Data, ToHost, to_host};

    type Loop = Codec<ToHost, ToHost>;

    fn data(bytes: Vec<u8>) -> ToHost {
        let data = Data { exec: 7, stream: 1, offset: 3, bytes: bytes.into(), eof: false };
        ToHost { body: Some(to_host::Body::Data(data)) }
    }

    #[test]
    fn frames_survive_being_cut_anywhere() {
        let messages: Vec<_> = (0..50).map(|n| data(vec![n as u8; n * 7])).collect();
        let mut wire = BytesMut::new();
        for message in &messages {
            Loop::default().encode(message, &mut wire).unwrap();
        }
        let mut codec = Loop::default();
        let (mut buffer, mut seen) = (BytesMut::new(), Vec::new());
        for byte in wire {
            buffer.put_u8(byte);
            while let Some(message) = codec.decode(&mut buffer).unwrap() {
                seen.push(message);
            }
        }
        assert_eq!(seen, messages);
    }

    #[test]
    fn an_oversized_length_is_refused_before_anything_is_allocated() {
        let mut buffer = BytesMut::from(&u32::MAX.to_be_bytes()[..]);
        assert!(Loop::default().decode(&mut buffer).is_err());
        assert!(buffer.capacity() < MAX_FRAME);
    }

    #[test]
    fn an_oversized_message_is_refused_by_the_sender() {
        let mut wire = BytesMut::new();
        assert!(Loop::default().encode(&data(vec![0; MAX_FRAME]), &mut wire).is_err());
        assert!(wire.is_empty());
    }

    #[test]
    fn garbage_is_an_error_and_never_a_panic() {
        // A linear congruential generator: the same garbage at every run.
        let mut state = 1u64;
        for _ in 0..20_000 {
            let mut bytes = Vec::new();
            for _ in 0..40 {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                bytes.push((state >> 33) as u8);
            }
            let mut buffer = BytesMut::new();
            buffer.put_u32(bytes.len() as u32);
            buffer.extend_from_slice(&bytes);
            let _ = Loop::default().decode(&mut buffer);
        }
    }
}
