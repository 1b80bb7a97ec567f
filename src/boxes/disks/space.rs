//! Which files a home has, what they take, and which of them nobody needs.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::super::context::Context;
use super::branching::relative;
use super::{discard, snapshot};
use crate::disk::durable::sync_directory;
use crate::disk::graph::Graph;
use crate::disk::overlay;
use crate::error::Result;
use crate::store::BaseRow;

/// What a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum FileKind {
    /// A box's own.
    Box = 0,
    Snapshot = 1,
    /// Disks are on it, and it has no name of its own.
    Base = 2,
    /// An image as a disk, shared by its boxes.
    Image = 3,
    /// Nobody needs it: left by a program that died.
    Orphan = 4,
    /// In a directory of a box that is not known: somebody's data, which is left alone.
    Unknown = 5,
}

/// A file that holds disks' data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredFile {
    pub kind: FileKind,
    /// Relative to the home.
    pub path: String,
    /// The box in whose directory it is.
    pub box_id: Option<String>,
    /// A snapshot's.
    pub name: Option<String>,
    /// What a guest sees; 0 if it is no disk.
    pub virtual_bytes: u64,
    /// What it takes on the host.
    pub allocated_bytes: u64,
}

/// All of them, by their paths.
pub fn files(context: &Context) -> Result<Vec<StoredFile>> {
    let _disks = context.share_disks()?;
    let mut files = Survey::of(context)?.files()?;
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

/// Does away with the files that nobody needs, and rows whose files are lost; or only tells which these
/// files are.
pub fn prune(context: &Context, dry_run: bool) -> Result<Vec<StoredFile>> {
    let _disks = context.take_disks()?;
    let mut orphans = Survey::of(context)?.files()?;
    orphans.retain(|file| file.kind == FileKind::Orphan);
    orphans.sort_by(|a, b| a.path.cmp(&b.path));
    if dry_run {
        return Ok(orphans);
    }
    for orphan in &orphans {
        let path = context.home.root().join(&orphan.path);
        discard::remove(context, &path)?;
        context.store.delete_base(&orphan.path)?;
        tracing::info!("{} was needed by nobody, and is removed", orphan.path);
    }
    for base in context.store.bases()? {
        if !context.home.root().join(&base.path).exists() {
            tracing::warn!("base {} is lost: {} is not there", base.id, base.path);
            context.store.delete_base(&base.path)?;
        }
    }
    sync_directory(&context.home.bases())?;
    Ok(orphans)
}

/// A home as it is at one moment. Whoever makes one has the lock of its disks.
struct Survey<'a> {
    context: &'a Context,
    graph: Graph,
    /// The files of snapshots, with these' names.
    named: Vec<(PathBuf, String)>,
    /// Boxes, and those that somebody makes or removes.
    known: HashSet<String>,
    bases: Vec<BaseRow>,
    /// Boxes that are at rest: nothing is under way with them, and nobody has locked them.
    at_rest: HashSet<String>,
}

impl Survey<'_> {
    fn of(context: &Context) -> Result<Survey<'_>> {
        let rows = context.store.all_snapshots()?;
        let named = rows.into_iter().filter_map(|row| {
            let path = snapshot::file(context, &row).ok()?;
            Some((path, row.name))
        });
        let known = context.store.known_ids()?;
        let busy: HashSet<String> =
            context.store.intents()?.into_iter().map(|intent| intent.box_id).collect();
        let is_free = |id: &&String| !busy.contains(*id) && context.try_lock_box(id).is_ok();
        Ok(Survey {
            context,
            graph: Graph::read(context.home.root())?,
            named: named.collect(),
            bases: context.store.bases()?,
            at_rest: known.iter().filter(is_free).cloned().collect(),
            known,
        })
    }

    fn files(&self) -> Result<Vec<StoredFile>> {
        let home = &self.context.home;
        let mut found = Vec::new();
        for directory in discard::entries(&home.boxes())? {
            let id = directory.file_name().and_then(OsStr::to_str).unwrap_or_default();
            let mut own = discard::entries(&directory.join("disks"))?;
            for snapshot in discard::entries(&directory.join("snapshots"))? {
                own.extend(discard::entries(&snapshot)?);
            }
            let described = own.iter().map(|path| self.describe(path, Some(id)));
            found.extend(described.flatten());
        }
        let bases = discard::entries(&home.bases())?;
        found.extend(bases.iter().filter_map(|path| self.describe(path, None)));
        let images = discard::entries(&home.images().join("disk-images"))?;
        found.extend(images.iter().filter_map(|path| self.describe(path, None)));
        self.settle(&mut found);
        Ok(found)
    }

    /// A file, taken for needed where it may be.
    fn describe(&self, path: &Path, id: Option<&str>) -> Option<StoredFile> {
        let meta = path.symlink_metadata().ok().filter(|meta| meta.is_file())?;
        let snapshot = self.named.iter().find(|(file, _)| file == path);
        let is_partial = path.extension() == Some(OsStr::new("partial"));
        let kind = match id {
            Some(id) if !self.known.contains(id) && is_disk(path) => FileKind::Base,
            Some(id) if !self.known.contains(id) => FileKind::Unknown,
            _ if snapshot.is_some() => FileKind::Snapshot,
            Some(id) if is_partial && self.at_rest.contains(id) => FileKind::Orphan,
            Some(_) if is_in(path, "disks") => FileKind::Box,
            None if is_in(path, "disk-images") => FileKind::Image,
            _ => FileKind::Base,
        };
        let virtual_bytes = match overlay::info(path) {
            Ok(info) => info.virtual_size,
            Err(_) if is_disk(path) => 0,
            Err(_) => meta.len(),
        };
        Some(StoredFile {
            kind,
            path: relative(self.context, path),
            box_id: id.map(str::to_owned),
            name: snapshot.map(|(_, name)| name.clone()),
            virtual_bytes,
            allocated_bytes: meta.blocks() * 512,
        })
    }

    /// What is taken for a base, and nothing is on it but what nobody needs, nobody needs either.
    fn settle(&self, files: &mut [StoredFile]) {
        let root = self.context.home.root();
        loop {
            let orphans: HashSet<PathBuf> =
                files.iter().filter(|f| is_unneeded(f)).map(|f| root.join(&f.path)).collect();
            let mut changed = false;
            for file in files.iter_mut().filter(|file| file.kind == FileKind::Base) {
                let path = root.join(&file.path);
                let on_it = self.graph.dependents(&path);
                if on_it.iter().any(|dependent| !orphans.contains(*dependent)) {
                    continue;
                }
                let row = self.bases.iter().find(|base| base.path == file.path);
                let kind = match (&file.box_id, row) {
                    // Of an older guest's system, whose box is there: kept with that.
                    (_, Some(row))
                        if row.kind == "rootfs" && self.known.contains(&row.source_box_id) =>
                    {
                        continue;
                    }
                    (Some(id), None) if !self.known.contains(id) => FileKind::Unknown,
                    (Some(id), _) if self.known.contains(id) && !self.at_rest.contains(id) => {
                        continue;
                    }
                    _ => FileKind::Orphan,
                };
                (file.kind, changed) = (kind, true);
            }
            if !changed {
                return;
            }
        }
    }
}

fn is_unneeded(file: &StoredFile) -> bool {
    file.kind == FileKind::Orphan
}

fn is_disk(path: &Path) -> bool {
    path.extension() == Some(OsStr::new("qcow2"))
}

fn is_in(path: &Path, directory: &str) -> bool {
    path.parent().and_then(Path::file_name) == Some(OsStr::new(directory))
}
