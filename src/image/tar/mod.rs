//! A reader of tar streams: ustar, PAX and GNU, front to back.
//!
//! The headers' fields are decoded with the `tar` crate; the stream is walked here because
//! layers come from strangers: every extension is bounded, extended attributes keep all their
//! bytes (newlines too), PAX sparse files are understood, and a stream that ends too early is
//! told apart from one that is malformed.

mod header;
mod pax;
mod sparse;

use std::io::{self, BufRead, Read};

pub use header::{Entry, EntryKind};
pub use sparse::Segment;

use crate::error::{Code, Error, Result};
use pax::Extensions;

pub const BLOCK: usize = 512;
/// The largest long name or set of PAX records.
const MAX_EXTENSION: u64 = 1 << 20;

/// Where a tar stream comes from.
pub trait Source: BufRead {
    /// Steps over `len` bytes; fewer only at the end of the stream.
    fn skip(&mut self, len: u64) -> io::Result<u64>;
}

/// Reads entries one after another.
#[derive(Debug)]
pub struct TarReader<S> {
    source: S,
    /// Bytes read so far.
    position: u64,
    /// Bytes of the current entry's data that are not read yet.
    data: u64,
    /// Bytes behind the data, up to the next header.
    padding: u64,
}

impl<S: Source> TarReader<S> {
    pub fn new(source: S) -> TarReader<S> {
        TarReader {
            source,
            position: 0,
            data: 0,
            padding: 0,
        }
    }

    /// The next entry, or `None` at the end of the archive.
    pub fn next_entry(&mut self) -> Result<Option<Entry>> {
        let mut extensions = Extensions::default();
        loop {
            self.skip_exact(self.data)?;
            // Some writers leave the last padding out: then the archive ends here.
            self.position += self
                .source
                .skip(self.padding)
                .map_err(|e| read_failed(&e))?;
            (self.data, self.padding) = (0, 0);
            let Some(block) = self.header_block()? else {
                if extensions.is_empty() {
                    return Ok(None);
                }
                return Err(malformed("ends behind an extension header"));
            };
            let header = header::parse(&block)?;
            match header.entry_type().as_byte() {
                b'L' => extensions.set_path(self.extension(&block)?),
                b'K' => extensions.set_link(self.extension(&block)?),
                b'x' => extensions.parse(&self.extension(&block)?)?,
                // Global records and volume labels say nothing about files.
                b'g' | b'V' => {
                    self.extension(&block)?;
                }
                _ => return self.entry(&block, extensions).map(Some),
            }
        }
    }

    /// How many bytes of the current entry's data are still to be read.
    pub fn data_left(&self) -> u64 {
        self.data
    }

    /// Where in the stream the next byte lies.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The next bytes of the current entry's data, at most `limit`: handed to `use_bytes`.
    /// Returns how many there were: 0 only at the end of the data.
    pub fn with_data(
        &mut self,
        limit: u64,
        use_bytes: impl FnOnce(&[u8]) -> Result<()>,
    ) -> Result<u64> {
        let want = limit.min(self.data);
        if want == 0 {
            return Ok(0);
        }
        let available = self.source.fill_buf().map_err(|e| read_failed(&e))?;
        if available.is_empty() {
            return Err(truncated());
        }
        let len = available
            .len()
            .min(usize::try_from(want).unwrap_or(usize::MAX));
        use_bytes(&available[..len])?;
        self.source.consume(len);
        self.position += len as u64;
        self.data -= len as u64;
        Ok(len as u64)
    }

    /// Ends reading and gives the source back.
    pub fn into_source(self) -> S {
        self.source
    }

    fn entry(&mut self, block: &[u8; BLOCK], extensions: Extensions) -> Result<Entry> {
        let old_sparse = header::old_sparse_map(block)?;
        let mut entry = header::entry(block, &extensions)?;
        self.data = if entry.kind == EntryKind::File {
            header::data_size(block, &extensions)?
        } else {
            0
        };
        self.padding = padding(self.data);
        entry.size = self.data;
        if let Some(mut map) = old_sparse {
            self.extended_sparse_map(block, &mut map)?;
            sparse::finish_old(&mut entry, map, header::real_size(block)?)?;
        } else if entry.kind == EntryKind::File {
            self.pax_sparse(&mut entry, &extensions)?;
        }
        sparse::check(&entry, self.data)?;
        Ok(entry)
    }

    /// The blocks of a GNU sparse map that did not fit into the header.
    fn extended_sparse_map(&mut self, block: &[u8; BLOCK], map: &mut Vec<Segment>) -> Result<()> {
        let mut more = header::sparse_map_continues(block);
        while more {
            let mut block = [0u8; BLOCK];
            self.read_exact(&mut block)?;
            more = header::extended_sparse_map(&block, map)?;
            sparse::check_count(map)?;
        }
        Ok(())
    }

    fn pax_sparse(&mut self, entry: &mut Entry, extensions: &Extensions) -> Result<()> {
        let Some(sparse) = extensions.sparse()? else {
            return Ok(());
        };
        let map = match sparse.map {
            Some(map) => map,
            None => {
                // Version 1.0: the map is text at the start of the data, in whole blocks.
                let mut text = sparse::TextMap::default();
                loop {
                    let mut block = [0u8; BLOCK];
                    if self.data < BLOCK as u64 {
                        return Err(malformed("has a sparse map that does not end"));
                    }
                    self.read_exact(&mut block)?;
                    self.data -= BLOCK as u64;
                    if let Some(map) = text.feed(&block)? {
                        break map;
                    }
                }
            }
        };
        entry.size = sparse.size;
        entry.segments = Some(map);
        Ok(())
    }

    /// The data of an extension header, whole.
    fn extension(&mut self, block: &[u8; BLOCK]) -> Result<Vec<u8>> {
        let size = header::own_size(block)?;
        if size > MAX_EXTENSION {
            let message = format!("has an extension header of {size} bytes");
            return Err(malformed(&message));
        }
        let mut data = vec![0u8; usize::try_from(size).unwrap_or(0)];
        self.read_exact(&mut data)?;
        self.skip_exact(padding(size))?;
        Ok(data)
    }

    /// The next header, or `None` at the end: a zero block or the end of the stream.
    fn header_block(&mut self) -> Result<Option<[u8; BLOCK]>> {
        if self
            .source
            .fill_buf()
            .map_err(|e| read_failed(&e))?
            .is_empty()
        {
            return Ok(None);
        }
        let mut block = [0u8; BLOCK];
        self.read_exact(&mut block)?;
        Ok(block.iter().any(|b| *b != 0).then_some(block))
    }

    fn read_exact(&mut self, buffer: &mut [u8]) -> Result<()> {
        match Read::read_exact(&mut self.source, buffer) {
            Ok(()) => {
                self.position += buffer.len() as u64;
                Ok(())
            }
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Err(truncated()),
            Err(e) => Err(read_failed(&e)),
        }
    }

    fn skip_exact(&mut self, len: u64) -> Result<()> {
        let done = self.source.skip(len).map_err(|e| read_failed(&e))?;
        self.position += done;
        if done < len {
            return Err(truncated());
        }
        Ok(())
    }
}

fn padding(size: u64) -> u64 {
    (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64
}

fn malformed(what: &str) -> Error {
    Error::new(Code::Image, format!("the tar stream {what}"))
}

fn truncated() -> Error {
    Error::new(Code::Image, "the tar stream is truncated")
}

fn read_failed(cause: &io::Error) -> Error {
    Error::io(Code::Storage, "read the tar stream", cause)
}

#[cfg(test)]
mod tests;
