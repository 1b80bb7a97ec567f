//! Where an image's files are: a directory, or an archive read in place.

use std::collections::HashMap;
use std::fmt::Debug;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::compression::{self, Compression};
use super::tar::{EntryKind, Source, TarReader};
use crate::error::{Code, Error, Result};

/// Archives with more files than this are no images.
const MAX_ARCHIVE_ENTRIES: usize = 100_000;
/// Links that lead to links.
const MAX_LINKS: usize = 8;

/// A file's contents and their length.
pub type Opened = (Box<dyn Read + Send>, u64);

/// Files by relative name.
pub trait Files: Debug + Send + Sync {
    /// Opens a file, if it is there.
    fn open(&self, name: &str) -> Result<Option<Opened>>;
}

/// Reads a file of at most `max` bytes whole.
pub fn read_small(files: &dyn Files, name: &str, max: u64) -> Result<Option<Vec<u8>>> {
    let Some((reader, len)) = files.open(name)? else {
        return Ok(None);
    };
    if len > max {
        let message = format!("{name} has {len} bytes; at most {max} are accepted");
        return Err(Error::new(Code::Image, message));
    }
    let mut data = Vec::new();
    reader
        .take(max)
        .read_to_end(&mut data)
        .map_err(|e| Error::io(Code::Storage, format!("read {name}"), &e))?;
    if data.len() as u64 != len {
        let message = format!("{name} is truncated: {} of {len} bytes", data.len());
        return Err(Error::new(Code::Image, message));
    }
    Ok(Some(data))
}

/// A directory.
#[derive(Debug)]
pub struct Directory(pub PathBuf);

impl Files for Directory {
    fn open(&self, name: &str) -> Result<Option<Opened>> {
        let path = self.0.join(name);
        let io = |e: &io::Error| Error::io(Code::Image, format!("open {}", path.display()), e);
        let metadata = match path.metadata() {
            Ok(metadata) => metadata,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(io(&e)),
        };
        if !metadata.is_file() {
            let message = format!("{} is not a regular file", path.display());
            return Err(Error::new(Code::Image, message));
        }
        let file = File::open(&path).map_err(|e| io(&e))?;
        Ok(Some((Box::new(file), metadata.len())))
    }
}

/// An archive and where its files lie in it.
#[derive(Debug)]
pub struct Archive {
    file: Arc<File>,
    index: HashMap<String, Place>,
}

#[derive(Debug, Clone)]
enum Place {
    At { offset: u64, len: u64 },
    Link(String),
}

impl Archive {
    /// Reads the index of a tar file. A compressed one is first unpacked into a file without a
    /// name in `spool`.
    pub fn open(path: &Path, spool: &Path) -> Result<Archive> {
        let file = File::open(path)
            .map_err(|e| Error::io(Code::Image, format!("open {}", path.display()), &e))?;
        let mut start = [0u8; 8];
        let read = file
            .read_at(&mut start, 0)
            .map_err(|e| Error::io(Code::Storage, format!("read {}", path.display()), &e))?;
        let file = match compression::detect(&start[..read])? {
            Compression::None => file,
            compressed => unpack(file, compressed, path, spool)?,
        };
        let file = Arc::new(file);
        let index = index(&file).map_err(|e| e.context(path.display()))?;
        Ok(Archive { file, index })
    }
}

impl Files for Archive {
    fn open(&self, name: &str) -> Result<Option<Opened>> {
        let mut name = name;
        for _ in 0..MAX_LINKS {
            match self.index.get(name) {
                None => return Ok(None),
                Some(Place::Link(target)) => name = target,
                Some(Place::At { offset, len }) => {
                    let slice = Slice { file: Arc::clone(&self.file), at: *offset, left: *len };
                    return Ok(Some((Box::new(slice), *len)));
                }
            }
        }
        let message = format!("{name:?} in the archive is a link to a link to a link …");
        Err(Error::new(Code::Image, message))
    }
}

/// A part of a file, read without moving the file's own position.
#[derive(Debug)]
struct Slice {
    file: Arc<File>,
    at: u64,
    left: u64,
}

impl Read for Slice {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = usize::try_from(self.left).unwrap_or(usize::MAX);
        let len = buffer.len().min(want);
        let read = self.file.read_at(&mut buffer[..len], self.at)?;
        self.at += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}

/// The archive file under a [`TarReader`]: skipping seeks.
struct Seekable {
    reader: BufReader<File>,
    position: u64,
    len: u64,
}

impl Read for Seekable {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.position += read as u64;
        Ok(read)
    }
}

impl BufRead for Seekable {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.reader.fill_buf()
    }

    fn consume(&mut self, len: usize) {
        self.reader.consume(len);
        self.position += len as u64;
    }
}

impl Source for Seekable {
    fn skip(&mut self, len: u64) -> io::Result<u64> {
        let len = len.min(self.len.saturating_sub(self.position));
        self.position += len;
        match i64::try_from(len) {
            Ok(relative) => self.reader.seek_relative(relative)?,
            Err(_) => {
                self.reader.seek(SeekFrom::Start(self.position))?;
            }
        }
        Ok(len)
    }
}

fn index(file: &File) -> Result<HashMap<String, Place>> {
    let io = |e: &io::Error| Error::io(Code::Storage, "read the archive", e);
    let mut own = file.try_clone().map_err(|e| io(&e))?;
    own.seek(SeekFrom::Start(0)).map_err(|e| io(&e))?;
    let len = own.metadata().map_err(|e| io(&e))?.len();
    let mut reader = TarReader::new(Seekable {
        reader: BufReader::with_capacity(8 * 1024, own),
        position: 0,
        len,
    });
    let mut index = HashMap::new();
    while let Some(entry) = reader.next_entry()? {
        if index.len() >= MAX_ARCHIVE_ENTRIES {
            let message = format!("an archive of more than {MAX_ARCHIVE_ENTRIES} files");
            return Err(Error::new(Code::Image, message));
        }
        let Some(name) = clean(&entry.path, "") else {
            continue;
        };
        let target = match entry.kind {
            EntryKind::File if entry.segments.is_none() => {
                Some(Place::At { offset: reader.position(), len: reader.data_left() })
            }
            EntryKind::Symlink => {
                let directory = name.rsplit_once('/').map_or("", |(d, _)| d);
                clean(&entry.link, directory).map(Place::Link)
            }
            EntryKind::HardLink => clean(&entry.link, "").map(Place::Link),
            _ => None,
        };
        if let Some(target) = target {
            index.insert(name, target);
        }
    }
    Ok(index)
}

/// A name in the archive without `.`, `..` and doubled slashes.
fn clean(name: &[u8], directory: &str) -> Option<String> {
    let name = str::from_utf8(name).ok()?;
    let base = if name.starts_with('/') { "" } else { directory };
    let mut parts: Vec<&str> = Vec::new();
    for part in base.split('/').chain(name.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

fn unpack(file: File, compression: Compression, path: &Path, spool: &Path) -> Result<File> {
    let mut out = tempfile::tempfile_in(spool).map_err(|e| {
        let what = format!("create a temporary file in {}", spool.display());
        Error::io(Code::Storage, what, &e)
    })?;
    let reader = BufReader::with_capacity(256 * 1024, file);
    let mut decoder = compression::decoder(compression, reader)?;
    let mut buffer = vec![0u8; 256 * 1024];
    loop {
        let read = decoder.read(&mut buffer).map_err(|e| {
            let cut = e.kind() == io::ErrorKind::UnexpectedEof;
            let how = if cut { "truncated" } else { "damaged" };
            Error::io(Code::Image, format!("{} is {how}", path.display()), &e)
        })?;
        if read == 0 {
            return Ok(out);
        }
        io::Write::write_all(&mut out, &buffer[..read]).map_err(|e| {
            let what = format!("unpack {} into {}", path.display(), spool.display());
            Error::io(Code::Storage, what, &e)
        })?;
    }
}
