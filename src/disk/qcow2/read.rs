//! The bytes of a chain of disk files.

use std::fs::File;
use std::sync::{Mutex, PoisonError};

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use super::decode::decode;
use super::header::{Compression, Header};
use super::map::{Extent, ExtentKind, Map};
use super::pieces::Pieces;
use super::{push_bounded, read_failed, read_padded};
use crate::disk::chain::Link;
use crate::disk::overlay::DiskFormat;
use crate::error::{Code, Error, Result};

/// One file of a chain, open for reading. Nobody may write to it meanwhile.
#[derive(Debug)]
pub struct Layer {
    /// The file.
    pub file: File,
    /// What is in it.
    pub format: DiskFormat,
    /// What errors call it.
    pub name: String,
}

impl Layer {
    /// A file of a chain, opened.
    pub fn open(link: &Link) -> Result<Layer> {
        let name = link.path.display().to_string();
        let file = File::open(&link.path)
            .map_err(|e| Error::io(Code::Storage, format!("open {name}"), &e))?;
        Ok(Layer { file, format: link.format, name })
    }
}

/// A stretch of a disk that comes from one place. All values are bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Where on the disk it starts.
    pub guest: u64,
    /// Its length.
    pub length: u64,
    /// Where it comes from.
    pub content: Content,
}

/// Where a piece comes from. Layers are numbered from the top, from 0 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Zeros.
    Zero,
    /// Bytes of a layer's file.
    Data {
        /// The layer.
        layer: usize,
        /// Offset in its file.
        host: u64,
    },
    /// A part of a compressed cluster.
    Compressed {
        /// The layer.
        layer: usize,
        /// Offset in its file.
        host: u64,
        /// The most bytes that the compressed cluster has in the file.
        length: u64,
        /// Where on the disk the whole cluster starts.
        start: u64,
    },
}

/// Reads a disk whose files are all checked and mapped.
///
/// Holds at most [`MAX_EXTENTS`](super::MAX_EXTENTS) pieces of 56 bytes, and one cluster that was
/// decompressed last. Can be used by several threads.
#[derive(Debug)]
pub struct Reader {
    layers: Vec<Opened>,
    pieces: Vec<Piece>,
    size: u64,
    /// Whether the lowest layer names a backing file: it is not here, and shows between pieces.
    open_ended: bool,
    last: Mutex<Option<Decoded>>,
}

/// A layer as it was when it was opened.
#[derive(Debug)]
struct Opened {
    file: File,
    name: String,
    file_length: u64,
    cluster_size: usize,
    compression: Compression,
}

/// A compressed cluster, decompressed.
#[derive(Debug)]
struct Decoded {
    layer: usize,
    host: u64,
    bytes: Vec<u8>,
}

/// What one layer adds to a chain.
struct Mapped {
    opened: Opened,
    extents: Vec<Extent>,
    size: u64,
    has_backing: bool,
}

impl Reader {
    /// Opens a chain, its top first. Every file is checked, as [`Map::read`] does.
    ///
    /// A chain may be given in part: then the lowest layer names a backing file that is not among
    /// them, and what would come from it is missing.
    pub fn open(layers: Vec<Layer>) -> Result<Reader> {
        let mut pieces: Option<Pieces> = None;
        let (mut opened, mut size, mut open_ended) = (Vec::new(), 0, true);
        for layer in layers {
            if !open_ended {
                let message = format!("{} is under a file without backing file", layer.name);
                return Err(Error::new(Code::InvalidArgument, message));
            }
            let mapped = map(layer)?;
            if opened.is_empty() {
                size = mapped.size;
            }
            let all = pieces.get_or_insert_with(|| Pieces::new(size));
            all.add(&mapped.extents, mapped.size).map_err(|e| e.or_object(&mapped.opened.name))?;
            open_ended = mapped.has_backing;
            opened.push(mapped.opened);
        }
        let Some(pieces) = pieces else {
            return Err(Error::new(Code::InvalidArgument, "a chain without files"));
        };
        let pieces = if open_ended { pieces.leave_open() } else { pieces.close()? };
        Ok(Reader { layers: opened, pieces, size, open_ended, last: Mutex::new(None) })
    }

    /// Bytes of the disk: those of the top layer.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether the chain goes on below the layers that were given.
    pub fn is_open_ended(&self) -> bool {
        self.open_ended
    }

    /// What the disk is made of, in order. What is between pieces comes from below the layers that
    /// were given; there is nothing between them unless [`Reader::is_open_ended`].
    pub fn extents(&self) -> impl Iterator<Item = Piece> + '_ {
        self.pieces.iter().copied()
    }

    /// Fills `buffer` with the disk's bytes from `offset` on.
    ///
    /// Behind the disk's end, and where the bytes come from below the layers that were given, is
    /// [`Code::InvalidArgument`].
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        let mut at = offset;
        let mut rest = buffer;
        let mut index = self.pieces.partition_point(|piece| piece.end() <= offset);
        while !rest.is_empty() {
            let piece = self.pieces.get(index).filter(|piece| piece.guest <= at);
            let Some(piece) = piece else {
                let message = format!("byte {at} of the disk is not in the files that were given");
                return Err(Error::new(Code::InvalidArgument, message));
            };
            let length = usize::try_from(piece.end() - at).unwrap_or(usize::MAX).min(rest.len());
            let (part, behind) = rest.split_at_mut(length);
            self.read_piece(piece, part, at)?;
            at += length as u64;
            rest = behind;
            index += 1;
        }
        Ok(())
    }

    fn read_piece(&self, piece: &Piece, part: &mut [u8], at: u64) -> Result<()> {
        let layer = |number: usize| {
            self.layers.get(number).ok_or_else(|| Error::new(Code::Internal, "no such layer"))
        };
        match piece.content {
            Content::Zero => {
                part.fill(0);
                Ok(())
            }
            Content::Data { layer: number, host } => {
                let layer = layer(number)?;
                let offset = host + (at - piece.guest);
                read_padded(&layer.file, part, offset, layer.file_length)
                    .map_err(|e| e.or_object(&layer.name))
            }
            Content::Compressed { layer: number, host, length, start } => {
                let layer = layer(number)?;
                let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
                let known = last.take().filter(|known| (known.layer, known.host) == (number, host));
                let decoded = match known {
                    Some(known) => known,
                    None => {
                        let bytes = layer.decoded(host, length);
                        let bytes = bytes.map_err(|e| e.or_object(&layer.name))?;
                        Decoded { layer: number, host, bytes }
                    }
                };
                let skipped = usize::try_from(at - start).unwrap_or(usize::MAX);
                let bytes = decoded.bytes.get(skipped..).and_then(|b| b.get(..part.len()));
                part.copy_from_slice(bytes.ok_or_else(|| {
                    Error::new(Code::Internal, "a piece is longer than its cluster")
                })?);
                *last = Some(decoded);
                Ok(())
            }
        }
    }
}

impl Opened {
    fn decoded(&self, host: u64, length: u64) -> Result<Vec<u8>> {
        // At most a little more than a cluster, as its entry has no room for more.
        let mut packed = vec![0; length as usize];
        read_padded(&self.file, &mut packed, host, self.file_length)?;
        let mut cluster = vec![0; self.cluster_size];
        decode(self.compression, &packed, &mut cluster)?;
        Ok(cluster)
    }
}

fn map(layer: Layer) -> Result<Mapped> {
    let Layer { file, format, name } = layer;
    match format {
        DiskFormat::Qcow2 => {
            let header = Header::read(&file, &name)?;
            let extents = Map::read(&file, &header, &name)?.into_extents();
            let opened = Opened {
                file,
                name,
                file_length: header.file_length,
                cluster_size: 1 << header.cluster_bits,
                compression: header.compression,
            };
            let has_backing = header.backing_path.is_some();
            Ok(Mapped { opened, extents, size: header.virtual_size, has_backing })
        }
        DiskFormat::Raw => {
            let (extents, file_length) = raw_extents(&file).map_err(|e| e.or_object(&name))?;
            let opened = Opened {
                file,
                name,
                file_length,
                // Nothing in it is compressed.
                cluster_size: 0,
                compression: Compression::Deflate,
            };
            // As with QEMU, disks consist of sectors.
            let size = file_length.next_multiple_of(512);
            Ok(Mapped { opened, extents, size, has_backing: false })
        }
    }
}

/// Where a raw file holds anything, and its length.
fn raw_extents(file: &File) -> Result<(Vec<Extent>, u64)> {
    let failed = |e: Errno| read_failed(&e.into());
    let length = file.metadata().map_err(|e| read_failed(&e))?.len();
    if length == 0 || length > super::header::MAX_SIZE {
        let message = format!("it has {length} bytes: disks have 1 byte to 64 TiB");
        return Err(Error::new(Code::Unsupported, message));
    }
    let mut extents = Vec::new();
    let mut at = 0;
    while at < length {
        let start = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(start) => start,
            // Nothing but a hole is left.
            Err(Errno::NXIO) => break,
            // The file system does not know.
            Err(Errno::INVAL) => at,
            Err(e) => return Err(failed(e)),
        };
        let end = match rustix::fs::seek(file, SeekFrom::Hole(start)) {
            Ok(end) => end.min(length),
            Err(Errno::INVAL) => length,
            Err(e) => return Err(failed(e)),
        };
        // Somebody cut the file meanwhile; what is missing is noticed when it is read.
        if start >= end {
            break;
        }
        let kind = ExtentKind::Data { host: start };
        push_bounded(&mut extents, Extent { guest: start, length: end - start, kind })?;
        at = end;
    }
    Ok((extents, length))
}
