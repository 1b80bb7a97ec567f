//! What a layer or archive is compressed with, told from its first bytes.

use std::io::{BufRead, Read};

use flate2::bufread::MultiGzDecoder;

use crate::error::{Code, Error, Result};

/// How a stream is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    Zstd,
}

/// Looks at the first bytes of a stream. Media types are often wrong or missing; these are not.
pub fn detect(start: &[u8]) -> Result<Compression> {
    let refused: [(&[u8], &str); 3] =
        [(b"\xfd7zXZ\0", "xz"), (b"BZh", "bzip2"), (b"\x04\x22\x4d\x18", "lz4")];
    if start.starts_with(&[0x1f, 0x8b]) {
        return Ok(Compression::Gzip);
    }
    // Skippable frames may come first (0x184d2a50 to 5f).
    let skippable = matches!(start, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..]);
    if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) || skippable {
        return Ok(Compression::Zstd);
    }
    match refused.iter().find(|(magic, _)| start.starts_with(magic)) {
        None => Ok(Compression::None),
        Some((_, name)) => {
            let message = format!(
                "it is compressed with {name}, which is not supported: use gzip, zstd or none"
            );
            Err(Error::new(Code::Image, message))
        }
    }
}

/// A reader of the plain bytes.
pub fn decoder<'r, R: BufRead + Send + 'r>(
    compression: Compression,
    reader: R,
) -> Result<Box<dyn Read + Send + 'r>> {
    Ok(match compression {
        Compression::None => Box::new(reader),
        Compression::Gzip => Box::new(MultiGzDecoder::new(reader)),
        Compression::Zstd => {
            let decoder = zstd::stream::read::Decoder::with_buffer(reader);
            Box::new(decoder.map_err(|e| Error::io(Code::Internal, "start zstd", &e))?)
        }
    })
}
