//! Reads one layer: a second thread reads, hashes and unpacks the blob, the caller's thread
//! hashes the plain bytes and uses them.
//!
//! Whatever goes wrong with the contents of a layer, a blob that is not what its digest says is
//! the better explanation: so after such an error the blob is still read to its end.

use std::io::{self, BufRead, BufReader, Read};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use super::compression;
use super::digest::{Digest, Hasher};
use super::files::Files;
use super::layout::{check_size, missing};
use super::tar::{Source, TarReader};
use super::{Image, Layer};
use crate::error::{Code, Error, Result};

/// Bytes handed over at once.
const CHUNK: usize = 256 * 1024;
/// Chunks under way.
const QUEUE: usize = 4;

/// What the reading thread is to do.
const UNPACK: u8 = 0;
/// Only hash the rest of the blob.
const VERIFY: u8 = 1;
const STOP: u8 = 2;

/// State that both threads see.
#[derive(Debug, Default)]
struct Shared {
    order: AtomicU8,
    /// Bytes of the blob read so far.
    read: AtomicU64,
}

/// Streams layer `index` of `image` through `consume`, and verifies it.
///
/// `consume` gets the reader and a function that tells how much of the blob is read.
pub fn stream(
    image: &Image,
    index: usize,
    consume: impl FnOnce(&mut TarReader<ChunkReader>, &dyn Fn() -> u64) -> Result<()>,
) -> Result<()> {
    let layer = image
        .layers
        .get(index)
        .ok_or_else(|| Error::new(Code::Internal, format!("the image has no layer {index}")))?;
    let what = format!("layer {} of {}", index + 1, image.layers.len());
    stream_named(&what, layer, &*image.files, consume).map_err(|e| {
        if e.code() == Code::Image && !e.message().contains(&what) {
            e.context(format!("{what} ({})", layer.digest))
        } else {
            e
        }
    })
}

fn stream_named(
    what: &str,
    layer: &Layer,
    files: &dyn Files,
    consume: impl FnOnce(&mut TarReader<ChunkReader>, &dyn Fn() -> u64) -> Result<()>,
) -> Result<()> {
    let opened = files.open(&layer.file)?;
    let (source, len) = opened.ok_or_else(|| missing(what, &layer.digest))?;
    check_size(what, &layer.digest, layer.size, len)?;
    let needs_own_hash = !layer.digest_is_of_blob || layer.digest != layer.diff_id;
    let shared = Shared::default();
    let (chunks, received) = sync_channel(QUEUE);
    let (returned, spare) = channel();
    std::thread::scope(|scope| {
        let producer = Producer {
            what,
            layer,
            shared: &shared,
            chunks,
            spare,
        };
        let thread = std::thread::Builder::new()
            .name("boxlite-layer".to_owned())
            .spawn_scoped(scope, move || producer.run(source))
            .map_err(|e| Error::io(Code::ResourceExhausted, "start a thread", &e))?;
        let mut reader = TarReader::new(ChunkReader {
            received,
            returned,
            chunk: Vec::new(),
            at: 0,
            // A blob that goes by its diff_id is plain: its digest is the one to check.
            hasher: needs_own_hash.then(|| Hasher::new(layer.diff_id.algorithm())),
        });
        let used = consume(&mut reader, &|| shared.read.load(Ordering::Relaxed));
        let source = reader.into_source();
        let diff_id = match &used {
            Ok(()) => source.finish(),
            Err(e) => {
                let order = if e.code() == Code::Image {
                    VERIFY
                } else {
                    STOP
                };
                shared.order.store(order, Ordering::Relaxed);
                drop(source);
                None
            }
        };
        let produced = match thread.join() {
            Ok(produced) => produced,
            Err(_) => Err(Error::new(Code::Internal, "the layer's reader panicked")),
        };
        match (used, produced) {
            (Err(e), _) if e.code() != Code::Image => Err(e),
            (_, Err(e)) => Err(e),
            (Err(e), Ok(_)) => Err(e),
            (Ok(()), Ok(blob)) => {
                let found = diff_id
                    .or(blob)
                    .ok_or_else(|| Error::new(Code::Internal, "a layer was not hashed"))?;
                let plain = format!("{what} ({}), uncompressed,", layer.digest);
                layer.diff_id.expect(&plain, &found)
            }
        }
    })
}

/// The reading thread.
struct Producer<'p> {
    what: &'p str,
    layer: &'p Layer,
    shared: &'p Shared,
    chunks: SyncSender<Vec<u8>>,
    spare: Receiver<Vec<u8>>,
}

impl Producer<'_> {
    /// Gives the blob's digest, when it was computed and verified.
    fn run(self, source: Box<dyn Read + Send>) -> Result<Option<Digest>> {
        let digest = self.layer.digest_is_of_blob.then_some(&self.layer.digest);
        let mut raw = BufReader::with_capacity(
            CHUNK,
            Raw {
                source,
                hasher: digest.map(|d| Hasher::new(d.algorithm())),
                shared: self.shared,
            },
        );
        let unpacked = self.unpack(&mut raw);
        if self.shared.order.load(Ordering::Relaxed) == STOP {
            return Ok(None);
        }
        let read_failed =
            |e: &io::Error| Error::io(Code::Storage, format!("read {}", self.what), e);
        io::copy(&mut raw, &mut io::sink()).map_err(|e| read_failed(&e))?;
        let read = self.shared.read.load(Ordering::Relaxed);
        check_size(self.what, &self.layer.digest, self.layer.size, read)?;
        let found = raw.into_inner().hasher.map(Hasher::finish);
        if let (Some(want), Some(found)) = (digest, &found) {
            want.expect(self.what, found)?;
        }
        unpacked?;
        Ok(found)
    }

    fn unpack(&self, raw: &mut BufReader<Raw<'_>>) -> Result<()> {
        let failed = |e: &io::Error| {
            let (code, how) = match e.kind() {
                io::ErrorKind::UnexpectedEof => (Code::Image, "is truncated"),
                _ if e.raw_os_error().is_some() => (Code::Storage, "cannot be read"),
                _ => (Code::Image, "is damaged"),
            };
            let what = format!("{} ({}) {how}", self.what, self.layer.digest);
            Error::io(code, what, e)
        };
        let start = raw.fill_buf().map_err(|e| failed(&e))?;
        let compression = compression::detect(start)
            .map_err(|e| e.context(format!("{} ({})", self.what, self.layer.digest)))?;
        let mut plain = compression::decoder(compression, raw)?;
        loop {
            let mut chunk = self.spare.try_recv().unwrap_or_default();
            chunk.clear();
            let mut limited = plain.by_ref().take(CHUNK as u64);
            let read = limited.read_to_end(&mut chunk);
            let end = !matches!(read, Ok(n) if n > 0);
            if !chunk.is_empty() {
                let stopped = self.shared.order.load(Ordering::Relaxed) != UNPACK;
                if stopped || self.chunks.send(chunk).is_err() {
                    return Ok(());
                }
            }
            if end {
                return read.map(drop).map_err(|e| failed(&e));
            }
        }
    }
}

/// The blob as it is stored.
struct Raw<'s> {
    source: Box<dyn Read + Send>,
    hasher: Option<Hasher>,
    shared: &'s Shared,
}

impl Read for Raw<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..read]);
        }
        self.shared.read.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// The plain bytes, as the other thread sends them.
#[derive(Debug)]
pub struct ChunkReader {
    received: Receiver<Vec<u8>>,
    returned: Sender<Vec<u8>>,
    chunk: Vec<u8>,
    at: usize,
    hasher: Option<Hasher>,
}

impl ChunkReader {
    /// Makes sure that there are bytes, unless the stream has ended.
    fn refill(&mut self) {
        while self.at >= self.chunk.len() {
            let Ok(next) = self.received.recv() else {
                return;
            };
            let old = std::mem::replace(&mut self.chunk, next);
            // Gone, when the other thread has ended: then nobody needs it.
            let _ = self.returned.send(old);
            self.at = 0;
            if let Some(hasher) = &mut self.hasher {
                hasher.update(&self.chunk);
            }
        }
    }

    /// Reads the rest; the digest of all bytes.
    fn finish(mut self) -> Option<Digest> {
        self.at = self.chunk.len();
        loop {
            self.refill();
            if self.at >= self.chunk.len() {
                return self.hasher.map(Hasher::finish);
            }
            self.at = self.chunk.len();
        }
    }
}

impl Read for ChunkReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let len = available.len().min(buffer.len());
        buffer[..len].copy_from_slice(&available[..len]);
        self.consume(len);
        Ok(len)
    }
}

impl BufRead for ChunkReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.refill();
        Ok(self.chunk.get(self.at..).unwrap_or(&[]))
    }

    fn consume(&mut self, len: usize) {
        self.at += len;
    }
}

impl Source for ChunkReader {
    fn skip(&mut self, len: u64) -> io::Result<u64> {
        let mut left = len;
        while left > 0 {
            let available = self.fill_buf()?.len();
            if available == 0 {
                break;
            }
            let now = usize::try_from(left).unwrap_or(usize::MAX).min(available);
            self.consume(now);
            left -= now as u64;
        }
        Ok(len - left)
    }
}
