//! Compressed clusters.

use flate2::{Decompress, FlushDecompress, Status};
use zstd::stream::raw::{DParameter, Decoder, Operation};

use super::damaged;
use super::header::Compression;
use crate::error::{Code, Error, Result};

/// The largest window that a Zstandard frame may ask for, as a power of two: 8 MiB of memory, where
/// the largest cluster has 2.
const MAX_WINDOW: u32 = 23;

/// Fills `cluster` from what its compressed bytes start with; what is behind them is not looked at.
pub fn decode(compression: Compression, bytes: &[u8], cluster: &mut [u8]) -> Result<()> {
    let done = match compression {
        Compression::Deflate => inflate(bytes, cluster),
        Compression::Zstd => unzstd(bytes, cluster)?,
    };
    match done {
        Some(length) if length == cluster.len() => Ok(()),
        Some(length) => {
            let wanted = cluster.len();
            Err(damaged("a compressed cluster", format!("one of {length} bytes, not {wanted}")))
        }
        None => Err(damaged("a compressed cluster", "not what its compression makes")),
    }
}

/// How many bytes came of it; none if it is malformed.
fn inflate(bytes: &[u8], cluster: &mut [u8]) -> Option<usize> {
    // A window of 12 bits is asked for; that of 15 bits reads it too.
    let mut stream = Decompress::new(false);
    let status = stream.decompress(bytes, cluster, FlushDecompress::Finish).ok()?;
    let length = usize::try_from(stream.total_out()).ok()?;
    (status == Status::StreamEnd || length == cluster.len()).then_some(length)
}

fn unzstd(bytes: &[u8], cluster: &mut [u8]) -> Result<Option<usize>> {
    let failed = |e: std::io::Error| Error::io(Code::Internal, "start zstd", &e);
    let mut decoder = Decoder::new().map_err(failed)?;
    decoder.set_parameter(DParameter::WindowLogMax(MAX_WINDOW)).map_err(failed)?;
    let (mut read, mut written) = (0, 0);
    while written < cluster.len() {
        let input = bytes.get(read..).unwrap_or_default();
        let output = cluster.get_mut(written..).unwrap_or_default();
        let Ok(step) = decoder.run_on_buffers(input, output) else {
            return Ok(None);
        };
        read += step.bytes_read;
        written += step.bytes_written;
        // A frame's end, or the input's.
        if step.remaining == 0 || (step.bytes_read, step.bytes_written) == (0, 0) {
            break;
        }
    }
    Ok(Some(written))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn deflated(bytes: &[u8]) -> Vec<u8> {
        let mut out = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        out.write_all(bytes).unwrap();
        out.finish().unwrap()
    }

    #[test]
    fn exactly_one_cluster_is_decoded() {
        let plain: Vec<u8> = (0..65_536u32).map(|i| (i / 7) as u8).collect();
        let both = [
            (Compression::Deflate, deflated(&plain)),
            (Compression::Zstd, zstd::encode_all(&plain[..], 3).unwrap()),
        ];
        for (compression, mut bytes) in both {
            let whole = bytes.len();
            bytes.extend([0xee; 300]);
            let mut cluster = vec![1; plain.len()];
            decode(compression, &bytes, &mut cluster).unwrap();
            assert!(cluster == plain);
            let mut larger = vec![1; plain.len() + 512];
            for error in [
                decode(compression, &bytes[..whole / 2], &mut cluster).unwrap_err(),
                decode(compression, &bytes, &mut larger).unwrap_err(),
                decode(compression, &[0xff; 512], &mut cluster).unwrap_err(),
                decode(compression, &[], &mut cluster).unwrap_err(),
            ] {
                assert_eq!(error.code(), Code::Storage, "{compression:?}");
            }
        }
    }

    #[test]
    fn a_frame_with_a_huge_window_is_refused() {
        let mut out = zstd::Encoder::new(Vec::new(), 3).unwrap();
        out.window_log(27).unwrap();
        out.write_all(&[7; 65_536]).unwrap();
        let frame = out.finish().unwrap();
        let error = decode(Compression::Zstd, &frame, &mut [0; 65_536]).unwrap_err();
        assert_eq!(error.code(), Code::Storage);
    }
}
