//! From a box to an archive.
//!
//! Files that a disk consists of are read as they are, and no file of the home changes. They are open from
//! the beginning: who takes one away, or puts a merged one in its place, does not change what is read.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use super::super::config::BoxConfig;
use super::super::context::Context;
use super::super::disks::snapshot;
use super::super::{Observer, Progress};
use super::flow::{Course, Hashed, cause};
use super::manifest::{DiskFile, Manifest, SnapshotFile};
use super::{DISK, MANIFEST, SUFFIX, named_by, of_snapshot};
use crate::disk::chain::Chain;
use crate::disk::durable::make_directory;
use crate::disk::overlay::DiskFormat;
use crate::disk::qcow2::{Layer, Reader, Stream};
use crate::disk::unnamed::UnnamedFile;
use crate::error::{Code, Error, Result};
use crate::failpoint::{self, Point};
use crate::store::SnapshotRow;

/// That of the `zstd` program.
const LEVEL: i32 = 3;
/// The most threads that compress.
const MAX_WORKERS: usize = 8;

/// What of a box an archive is to have.
#[derive(Debug, Clone, Default)]
pub struct ExportOptions {
    snapshot: Option<String>,
    with_snapshots: bool,
}

impl ExportOptions {
    /// The box's disk as it is, in one file.
    pub fn new() -> ExportOptions {
        ExportOptions::default()
    }

    /// The disk as it was in a snapshot, and not as it is.
    pub fn snapshot(&mut self, name: &str) -> Result<()> {
        snapshot::check_name(name)?;
        self.snapshot = Some(name.to_owned());
        Ok(())
    }

    /// Whether all snapshots are to be in the archive, each with what was written since the one before.
    pub fn with_snapshots(&mut self, with: bool) {
        self.with_snapshots = with;
    }

    /// Whether it is about the disk as it is.
    pub(in super::super) fn is_of_disk(&self) -> bool {
        self.snapshot.is_none()
    }

    pub(in super::super) fn check(&self) -> Result<()> {
        if self.with_snapshots && self.snapshot.is_some() {
            let text = "with_snapshots: an archive has one snapshot, or the disk with all of them";
            return Err(Error::new(Code::InvalidArgument, text).object("with_snapshots"));
        }
        Ok(())
    }
}

/// Where an archive is written to, which has no name before it is whole.
pub struct Output {
    file: UnnamedFile,
    target: PathBuf,
}

impl Output {
    /// Opens a file that is not there yet, or one of the box's name in a directory.
    pub fn open(path: &Path, config: &BoxConfig) -> Result<Output> {
        let target = target(path, config)?;
        if let Some(directory) = target.parent() {
            let failed =
                |e| Error::io(Code::Storage, format!("create {}", directory.display()), &e);
            make_directory(&std::path::absolute(directory).map_err(failed)?)?;
        }
        Ok(Output { file: UnnamedFile::create(&target)?, target })
    }
}

/// Writes a box's archive, and returns where it is. `disk` is the box's disk, or what that was: it does not
/// change, and neither does what it is on.
pub fn export(
    context: &Context,
    config: &BoxConfig,
    disk: &Path,
    output: Output,
    options: &ExportOptions,
    observer: Option<Observer>,
    cancelled: &dyn Fn() -> bool,
) -> Result<PathBuf> {
    let Output { file, target } = output;
    let parts = Plan { context, config, disk, options }.parts()?;
    let total = parts.iter().map(|part| part.stream.len()).sum();
    if let Some(observer) = &observer {
        observer(Progress::Began { what: format!("export of {total} bytes") });
    }
    let course = Course::new(observer, cancelled, "the export", total);
    write(file.file(), config, parts, &course)
        .map_err(|e| e.or_object(target.display().to_string()))?;
    file.commit()?;
    Ok(target)
}

/// Where an archive goes.
fn target(path: &Path, config: &BoxConfig) -> Result<PathBuf> {
    if path.as_os_str().is_empty() {
        let text = "path: it is empty; give the archive's file, or a directory";
        return Err(Error::new(Code::InvalidArgument, text).object("path"));
    }
    Ok(match path.is_dir() {
        true => path.join(format!("{}{SUFFIX}", config.name.as_deref().unwrap_or("box"))),
        false => path.to_owned(),
    })
}

/// A qcow2 file that is to be in the archive.
struct Part {
    snapshot: Option<SnapshotRow>,
    parent: Option<String>,
    virtual_bytes: u64,
    stream: Stream,
}

struct Plan<'a> {
    context: &'a Context,
    config: &'a BoxConfig,
    disk: &'a Path,
    options: &'a ExportOptions,
}

/// A snapshot with all that it is on.
struct Frozen {
    row: SnapshotRow,
    chain: Chain,
}

impl Plan<'_> {
    /// The files of the archive: each snapshot after those that it is on, the disk at last.
    fn parts(&self) -> Result<Vec<Part>> {
        let id = &*self.config.id;
        // No file that is opened here is taken away before it is.
        let _disks = self.context.share_disks()?;
        let root = self.context.home.root();
        let top = match &self.options.snapshot {
            Some(name) => snapshot::expect(self.context, id, name)?.1,
            None => self.disk.to_owned(),
        };
        let disk = Chain::resolve(root, &top).map_err(|e| e.or_object(id))?;
        let snapshots = if self.options.with_snapshots { self.snapshots()? } else { Vec::new() };
        let mut parts = Vec::new();
        for (at, frozen) in snapshots.iter().enumerate() {
            let below = snapshots.get(..at).unwrap_or_default();
            parts.push(part(&frozen.chain, below, Some(&frozen.row))?);
        }
        parts.push(part(&disk, &snapshots, None)?);
        Ok(parts)
    }

    fn snapshots(&self) -> Result<Vec<Frozen>> {
        let rows = self.context.store.snapshots(&self.config.id)?;
        let frozen = |row: SnapshotRow| {
            let path = snapshot::file(self.context, &row)?;
            let chain = Chain::resolve(self.context.home.root(), &path);
            Ok(Frozen { chain: chain.map_err(|e| e.or_object(&*row.name))?, row })
        };
        let mut snapshots = rows.into_iter().map(frozen).collect::<Result<Vec<_>>>()?;
        // One that is on another has more files.
        snapshots.sort_by_key(|frozen| frozen.chain.links.len());
        Ok(snapshots)
    }
}

/// What a chain has above the first snapshot of those given that it is on.
fn part(chain: &Chain, snapshots: &[Frozen], row: Option<&SnapshotRow>) -> Result<Part> {
    let is_of = |path: &Path| snapshots.iter().find(|frozen| frozen.chain.top() == path);
    let mut parent = None;
    let mut layers = Vec::new();
    for link in &chain.links {
        parent = is_of(&link.path);
        if parent.is_some() {
            break;
        }
        layers.push(Layer::open(link)?);
    }
    let parent = parent.map(|frozen| frozen.row.name.clone());
    let file = row.map_or(DISK.to_owned(), |row| of_snapshot(&row.name));
    let backing = parent.as_ref().map(|name| PathBuf::from(named_by(&file, name)));
    let reader = Reader::open(layers)?;
    let backing = backing.as_deref().map(|path| (path, DiskFormat::Qcow2));
    Ok(Part {
        snapshot: row.cloned(),
        parent,
        virtual_bytes: chain.virtual_size,
        stream: Stream::new(reader, backing)?,
    })
}

fn write(output: &File, config: &BoxConfig, parts: Vec<Part>, course: &Course<'_>) -> Result<()> {
    let failed = |e| cause("write the archive", e);
    let mut archive = tar::Builder::new(compressor(output).map_err(failed)?);
    archive.mode(tar::HeaderMode::Deterministic);
    let (mut disk, mut snapshots) = (None, Vec::new());
    for Part { snapshot, parent, virtual_bytes, stream } in parts {
        let file = snapshot.as_ref().map_or(DISK.to_owned(), |row| of_snapshot(&row.name));
        let length = stream.len();
        let mut hashed = Hashed::new(course.follow(stream));
        append(&mut archive, &file, length, &mut hashed).map_err(failed)?;
        let (bytes, sha256) = hashed.end();
        failpoint::hit(Point::ExportHalf);
        if bytes != length {
            let text = format!("{file} has {bytes} bytes, and was to have {length}");
            return Err(Error::new(Code::Internal, text));
        }
        let part = DiskFile { file, parent, virtual_bytes, bytes, sha256 };
        match snapshot {
            None => disk = Some(part),
            Some(row) => snapshots.push(SnapshotFile {
                name: row.name,
                created_at: row.created_at,
                disk: part,
            }),
        }
    }
    let disk = disk.ok_or_else(|| Error::new(Code::Internal, "an archive without a disk"))?;
    let manifest = serde_json::to_vec_pretty(&Manifest::of(config, disk, snapshots))
        .map_err(|e| Error::new(Code::Internal, format!("describe the box: {e}")))?;
    append(&mut archive, MANIFEST, manifest.len() as u64, &mut &manifest[..]).map_err(failed)?;
    let compressor = archive.into_inner().map_err(failed)?;
    let mut output = compressor.finish().map_err(failed)?;
    output.flush().map_err(failed)
}

fn compressor(output: &File) -> std::io::Result<zstd::Encoder<'static, BufWriter<File>>> {
    let output = BufWriter::with_capacity(1 << 20, output.try_clone()?);
    let mut encoder = zstd::Encoder::new(output, LEVEL)?;
    encoder.include_checksum(true)?;
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    encoder.multithread(processors.min(MAX_WORKERS) as u32)?;
    Ok(encoder)
}

fn append<W: Write>(
    archive: &mut tar::Builder<W>,
    name: &str,
    length: u64,
    bytes: &mut impl Read,
) -> std::io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(length);
    header.set_mode(0o600);
    archive.append_data(&mut header, name, bytes)
}
