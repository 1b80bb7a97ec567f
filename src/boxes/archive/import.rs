//! From an archive to a box.
//!
//! The archive is read once, front to back. Its files go into the directory of a box that has no row yet,
//! under names that mean nothing to anybody; an intent says so. When all of them are what the manifest
//! says, and sound, they get their names, and the box its rows. Whatever comes between leaves nothing.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::Utc;

use super::super::Observer;
use super::super::admission::FREE_DISK;
use super::super::config::BoxConfig;
use super::super::context::Context;
use super::super::create::{self, Undo};
use super::super::disks::snapshot;
use super::super::events::What;
use super::super::options::box_name;
use super::super::remove::CREATE;
use super::super::state::BoxState;
use sha2::{Digest, Sha256};

use super::flow::{Course, Followed, cause, hex};
use super::manifest::{DiskFile, Manifest};
use super::{DISK, MANIFEST, MAX_MANIFEST, named_by, of_snapshot};
use crate::disk::chain::{Chain, MAX_LINKS};
use crate::disk::durable::sync_directory;
use crate::disk::overlay::DiskFormat;
use crate::disk::qcow2::{Header, check};
use crate::disk::sparse::SparseFile;
use crate::error::{Code, Error, Result};
use crate::failpoint::{self, Point};
use crate::image::tar::{Entry, EntryKind, Source, TarReader};

/// A file that is read goes through a buffer of this size.
const BUFFER: usize = 1 << 20;

/// What is to become of an archive.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// None inside: without a name.
    name: Option<Option<String>>,
    trusted: bool,
}

impl ImportOptions {
    /// A box with the name that it had, without anything that concerns the host.
    pub fn new() -> ImportOptions {
        ImportOptions::default()
    }

    /// The box's name, in place of the one that it had. By the rules of
    /// [`BoxOptions::name`](crate::BoxOptions::name).
    pub fn name(&mut self, name: impl Into<String>) -> Result<()> {
        self.name = Some(Some(box_name(name.into())?));
        Ok(())
    }

    /// Has the box get no name.
    pub fn no_name(&mut self) {
        self.name = Some(None);
    }

    /// Whether the archive may bring with it what concerns the host: its paths, published ports, and how
    /// far the box is shut off. Only for archives that nobody else can have changed.
    pub fn trusted(&mut self, trusted: bool) {
        self.trusted = trusted;
    }
}

/// Makes a box of an archive. When `cancelled` is ready first, this ends with CANCELLED and without a box.
pub async fn import(
    context: &Arc<Context>,
    path: &Path,
    options: &ImportOptions,
    observer: Option<Observer>,
    cancelled: impl Future<Output = ()>,
) -> Result<BoxConfig> {
    let (path, options) = (path.to_owned(), options.clone());
    let make = move |context: &Context, cancelled: &dyn Fn() -> bool| {
        make(context, &path, &options, observer, cancelled)
    };
    create::unless(context, cancelled, make).await
}

fn make(
    context: &Context,
    path: &Path,
    options: &ImportOptions,
    observer: Option<Observer>,
    cancelled: &dyn Fn() -> bool,
) -> Result<BoxConfig> {
    options.name.iter().flatten().try_for_each(|name| context.store.check_name(name))?;
    let (file, length) = open(path)?;
    let course = Course::new(observer, cancelled, "the import", length);
    let id = ulid::Ulid::generate().to_string();
    let _lock = context.lock_box(&id)?;
    let intent = context.store.begin_intent(&id, CREATE, "{}")?;
    let undo = Undo::of(context, &id, intent);
    failpoint::hit(Point::ImportIntent);
    context.home.make_box(&id)?;
    let staging = Staging { context, id: &id };
    let about = |e: Error| e.or_object(path.display().to_string());
    let unpacked = staging.unpack(file, &course);
    let (manifest, staged) = unpacked.map_err(|e| about(judge(e, cancelled)))?;
    failpoint::hit(Point::ImportStaged);
    let config = staging.accept(&manifest, &staged, options).map_err(about)?;
    staging.place(&manifest, &staged)?;
    failpoint::hit(Point::ImportPlaced);
    let snapshots = manifest.snapshots.iter().map(|s| (&*s.name, s.created_at));
    let rows = snapshot::rows_of(context, &id, snapshots)?;
    let state = BoxState::new().to_row(&id)?;
    context.store.save_with_snapshots(&config.to_row(Utc::now())?, &state, &rows, intent)?;
    failpoint::hit(Point::ImportRows);
    undo.disarm();
    context.tell(&id, config.name.as_deref(), What::BoxCreated);
    Ok(config)
}

fn open(path: &Path) -> Result<(File, u64)> {
    let failed = |e: &io::Error| Error::io(Code::Storage, format!("open {}", path.display()), e);
    let meta = path.metadata().map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => {
            Error::new(Code::NotFound, format!("there is no archive {}", path.display()))
        }
        _ => failed(&e),
    })?;
    if !meta.is_file() {
        let text = format!("{} is no file: archives are", path.display());
        return Err(Error::new(Code::InvalidArgument, text));
    }
    Ok((File::open(path).map_err(|e| failed(&e))?, meta.len()))
}

/// What it means that an archive cannot be read: if not the system, then the archive is to blame.
fn judge(error: Error, cancelled: &dyn Fn() -> bool) -> Error {
    let of_system = error.os_errno().is_some();
    if cancelled() {
        Error::new(Code::Cancelled, "making the box was cancelled")
    } else if matches!(error.code(), Code::Image | Code::Storage) && !of_system {
        bad(format!("the archive is damaged, or not all there: {}", error.message()))
    } else {
        error
    }
}

/// A file of an archive, without its name.
struct Staged {
    path: PathBuf,
    bytes: u64,
    sha256: String,
}

/// The directory of a box that is not there yet.
struct Staging<'a> {
    context: &'a Context,
    id: &'a str,
}

impl Staging<'_> {
    /// Reads all of the archive.
    fn unpack(
        &self,
        file: File,
        course: &Course<'_>,
    ) -> Result<(Manifest, BTreeMap<String, Staged>)> {
        let read = |e| cause("read the archive", e);
        let mut file = BufReader::with_capacity(BUFFER, course.follow(file));
        let is_zstd = file.fill_buf().map_err(read)?.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]);
        if !is_zstd {
            let text = "it is no archive of a box: those begin with a zstd frame";
            return Err(Error::new(Code::InvalidArgument, text));
        }
        let decoder = zstd::Decoder::with_buffer(file).map_err(read)?.single_frame();
        let stream = Unpacked(BufReader::with_capacity(BUFFER, decoder));
        let mut archive = TarReader::new(stream);
        let (mut manifest, mut staged) = (None, BTreeMap::new());
        while let Some(entry) = archive.next_entry()? {
            let name = name_of(&entry)?;
            let is_new = match name {
                MANIFEST => manifest.replace(small(&mut archive, &entry)?).is_none(),
                _ => {
                    let number = staged.len();
                    if number == MAX_LINKS {
                        let text = format!("it has more than {MAX_LINKS} disks");
                        return Err(bad(text));
                    }
                    let file = self.stage(&mut archive, &entry, number)?;
                    staged.insert(name.to_owned(), file).is_none()
                }
            };
            if !is_new {
                return Err(bad(format!("it has {name} twice")));
            }
        }
        end(archive.into_source())?;
        let manifest = manifest.ok_or_else(|| {
            bad(format!("it has no {MANIFEST}, its last file: it is not all there"))
        })?;
        Ok((Manifest::parse(&manifest)?, staged))
    }

    fn stage(
        &self,
        archive: &mut TarReader<impl Source>,
        entry: &Entry,
        number: usize,
    ) -> Result<Staged> {
        let disk = self.context.home.disk(self.id);
        let path = disk.with_file_name(format!("import-{number}.partial"));
        let failed =
            |e: io::Error| Error::io(Code::Storage, format!("write {}", path.display()), &e);
        let created = File::options().read(true).write(true).create_new(true).open(&path);
        let file = created.map_err(failed)?;
        let (mut sparse, mut hash) = (SparseFile::sparing(&file, FREE_DISK), Sha256::new());
        let mut left = entry.size;
        while left > 0 {
            let read = archive.with_data(left, |bytes| {
                hash.update(bytes);
                sparse.write(bytes).map_err(failed)
            })?;
            // It fails before that where the archive ends.
            left -= read.min(left);
        }
        let bytes = sparse.end().map_err(failed)?;
        file.sync_all().map_err(failed)?;
        Ok(Staged { path: path.clone(), bytes, sha256: hex(&hash.finalize()) })
    }

    /// That all is as the manifest says, and a box can be made of it.
    fn accept(
        &self,
        manifest: &Manifest,
        staged: &BTreeMap<String, Staged>,
        options: &ImportOptions,
    ) -> Result<BoxConfig> {
        let name = options.name.clone().unwrap_or_else(|| manifest.name.clone());
        let checked = manifest.options(name)?;
        checked.name.as_deref().map_or(Ok(()), |name| self.context.store.check_name(name))?;
        check_structure(manifest)?;
        let disks = disks_of(manifest);
        if let Some(name) = staged.keys().find(|name| disks.iter().all(|d| d.file != **name)) {
            return Err(bad(format!("it has {name}, of which its manifest does not speak")));
        }
        for disk in disks {
            let file = staged.get(&disk.file).ok_or_else(|| {
                bad(format!("it does not have {}, of which its manifest speaks", disk.file))
            })?;
            check_disk(disk, file).map_err(|e| e.context(format!("{} is refused", disk.file)))?;
        }
        manifest.configure(self.id, &checked, options.trusted)
    }

    /// Gives the files their names, all of them synced.
    fn place(&self, manifest: &Manifest, staged: &BTreeMap<String, Staged>) -> Result<()> {
        let home = &self.context.home;
        let directory = home.of_box(self.id);
        for (name, file) in staged {
            let path = directory.join(name);
            let parent = path.parent().unwrap_or(&directory);
            let failed =
                |e: io::Error| Error::io(Code::Storage, format!("place {}", path.display()), &e);
            std::fs::create_dir_all(parent).map_err(failed)?;
            std::fs::rename(&file.path, &path).map_err(failed)?;
            sync_directory(parent)?;
        }
        if !manifest.snapshots.is_empty() {
            sync_directory(&directory.join("snapshots"))?;
        }
        sync_directory(&directory)?;
        sync_directory(&home.boxes())?;
        // With all that there is to know, once more: that a machine could have it.
        Chain::resolve(home.root(), &home.disk(self.id)).map(drop)
    }
}

/// The plain bytes of an archive.
struct Unpacked<'a>(BufReader<zstd::Decoder<'static, Packed<'a>>>);

/// The archive's file.
type Packed<'a> = BufReader<Followed<'a, File>>;

impl Read for Unpacked<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl BufRead for Unpacked<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.0.fill_buf()
    }

    fn consume(&mut self, length: usize) {
        self.0.consume(length);
    }
}

impl Source for Unpacked<'_> {
    fn skip(&mut self, length: u64) -> io::Result<u64> {
        io::copy(&mut (&mut self.0).take(length), &mut io::sink())
    }
}

/// Behind the last file there is nothing but zeros, and all of the zstd frame is there: its checksum is
/// at its end.
fn end(mut stream: Unpacked<'_>) -> Result<()> {
    let failed = |e| cause("read the archive", e);
    loop {
        let bytes = stream.fill_buf().map_err(failed)?;
        let length = bytes.len();
        if length == 0 {
            break;
        }
        if bytes.iter().any(|byte| *byte != 0) {
            return Err(bad("it goes on behind its end"));
        }
        stream.consume(length);
    }
    let mut file = stream.0.into_inner().finish();
    match file.fill_buf().map_err(failed)?.is_empty() {
        true => Ok(()),
        false => Err(bad("it goes on behind its end")),
    }
}

/// The name of a file that an archive may have.
fn name_of(entry: &Entry) -> Result<&str> {
    let shown = String::from_utf8_lossy(&entry.path);
    let Ok(name) = std::str::from_utf8(&entry.path) else {
        return Err(bad(format!("the name of its file '{}' is not UTF-8", shown.escape_debug())));
    };
    if entry.kind != EntryKind::File || entry.segments.is_some() {
        return Err(bad(format!("'{}' is no plain file", shown.escape_debug())));
    }
    let of = name.strip_prefix("snapshots/").and_then(|rest| rest.strip_suffix("/disk.qcow2"));
    let is_ours = matches!(name, MANIFEST | DISK)
        || of.is_some_and(|snapshot| snapshot::check_name(snapshot).is_ok());
    if !is_ours {
        let text = format!("it has a file '{}', which no archive has", name.escape_debug());
        return Err(bad(text));
    }
    Ok(name)
}

/// A file that is held in memory.
fn small(archive: &mut TarReader<impl Source>, entry: &Entry) -> Result<Vec<u8>> {
    if entry.size > MAX_MANIFEST {
        let text = format!("its manifest has {} bytes; {MAX_MANIFEST} are the most", entry.size);
        return Err(bad(text));
    }
    let mut bytes = Vec::new();
    while archive.data_left() > 0 {
        archive.with_data(MAX_MANIFEST, |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
    }
    Ok(bytes)
}

fn disks_of(manifest: &Manifest) -> Vec<&DiskFile> {
    let snapshots = manifest.snapshots.iter().map(|snapshot| &snapshot.disk);
    snapshots.chain([&manifest.disk]).collect()
}

/// Which file is on which: each on one that came before it, all under their own names.
fn check_structure(manifest: &Manifest) -> Result<()> {
    let mut known: Vec<&str> = Vec::new();
    let is_known = |known: &[&str], disk: &DiskFile| match &disk.parent {
        Some(parent) if !known.contains(&&**parent) => {
            let text =
                format!("{} is on snapshot '{parent}', which does not come before it", disk.file);
            Err(bad(text))
        }
        _ => Ok(()),
    };
    for snapshot in &manifest.snapshots {
        snapshot::check_name(&snapshot.name)?;
        if known.contains(&&*snapshot.name) {
            return Err(bad(format!("it has two snapshots '{}'", snapshot.name)));
        }
        is_known(&known, &snapshot.disk)?;
        if snapshot.disk.file != of_snapshot(&snapshot.name) {
            let (name, file) = (&snapshot.name, &snapshot.disk.file);
            return Err(bad(format!("the file of snapshot '{name}' is called {file}")));
        }
        known.push(&snapshot.name);
    }
    is_known(&known, &manifest.disk)?;
    if manifest.disk.file != DISK {
        return Err(bad(format!("the file of the disk is called {}", manifest.disk.file)));
    }
    Ok(())
}

/// That a file is the one that was written, and one that QEMU can be given.
fn check_disk(disk: &DiskFile, staged: &Staged) -> Result<()> {
    if (staged.bytes, &staged.sha256) != (disk.bytes, &disk.sha256) {
        let text = format!(
            "it has {} bytes with the SHA-256 {}, and was {} bytes with {}: the archive was damaged or \
             changed",
            staged.bytes, staged.sha256, disk.bytes, disk.sha256
        );
        return Err(bad(text));
    }
    let file = File::open(&staged.path)
        .map_err(|e| Error::io(Code::Storage, format!("open {}", staged.path.display()), &e))?;
    let header = Header::read(&file, &disk.file)?;
    if header.virtual_size != disk.virtual_bytes {
        let (is, said) = (header.virtual_size, disk.virtual_bytes);
        return Err(bad(format!("it is a disk of {is} bytes, and was said to have {said}")));
    }
    let parent = disk.parent.as_ref().map(|name| PathBuf::from(named_by(&disk.file, name)));
    let format = parent.as_ref().map(|_| DiskFormat::Qcow2.name());
    if header.backing_path != parent || header.backing_format.as_deref() != format {
        let text = match &header.backing_path {
            Some(path) => format!("it is on '{}'", path.display()),
            None => "it is on nothing".to_owned(),
        };
        return Err(bad(format!("{text}, and its manifest says otherwise")));
    }
    if !check(&file, &disk.file)?.is_sound() {
        return Err(bad("its reference counts are wrong: the archive was made of a damaged disk"));
    }
    Ok(())
}

fn bad(text: impl Into<String>) -> Error {
    Error::new(Code::InvalidArgument, text)
}
