//! Frames: a four-byte big-endian length, then one protobuf message.

use std::io;
use std::marker::PhantomData;

use bytes::{BufMut, BytesMut};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};
use tokio_util::codec::{Decoder, Encoder, LengthDelimitedCodec};

use crate::message::Data;

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

/// Appends the beginning of a frame to the host: all of a [`Data`] message but its payload, of
/// which exactly `length` bytes have to follow on the wire. `head` has neither bytes nor the end
/// of its stream: whoever has the payload elsewhere need not copy it.
///
/// # Panics
/// If the frame would exceed [`MAX_FRAME`], or `head` is not such a head.
pub fn announce(head: &Data, length: usize, buffer: &mut BytesMut) {
    assert!(head.bytes.is_empty() && !head.eof, "a head has nothing behind its payload");
    // The numbers of the fields `ToHost::Data` and `Data::bytes`: the latter is the last that is
    // written, as fields are written in order and an eof that is false is not.
    const DATA: u32 = 3;
    const BYTES: u32 = 4;
    let field = |content: usize| 1 + encoded_len_varint(content as u64) + content;
    let data = head.encoded_len() + field(length);
    let frame = field(data);
    assert!(frame <= MAX_FRAME, "a payload of {length} bytes is over the limit");
    buffer.reserve(LENGTH + frame - length);
    buffer.put_u32(frame as u32);
    encode_key(DATA, WireType::LengthDelimited, buffer);
    encode_varint(data as u64, buffer);
    head.encode_raw(buffer);
    encode_key(BYTES, WireType::LengthDelimited, buffer);
    encode_varint(length as u64, buffer);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{ToHost, to_host};
    use bytes::Bytes;

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
    fn an_announced_payload_makes_the_same_frame_as_a_copied_one() {
        for (exec, offset) in [(0, 0), (1, 5), (300, 1 << 40), (u32::MAX, u64::MAX)] {
            for length in [1, 127, 128, 8192, 65_536, crate::MAX_CHUNK, MAX_FRAME - 40] {
                let payload = vec![7; length];
                let head = Data { exec, stream: 2, offset, bytes: Bytes::new(), eof: false };
                let mut announced = BytesMut::new();
                announce(&head, length, &mut announced);
                announced.extend_from_slice(&payload);
                let whole = Data { bytes: payload.into(), ..head };
                let message = ToHost { body: Some(to_host::Body::Data(whole)) };
                let mut copied = BytesMut::new();
                Loop::default().encode(&message, &mut copied).unwrap();
                assert!(announced == copied, "exec {exec}, {length} bytes");
            }
        }
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
