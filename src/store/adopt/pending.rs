//! Snapshots that earlier software began and did not end.
//!
//! It left a marker in the box's directory that says which. To make a snapshot it renamed the disk, then
//! made an overlay on it under the disk's old name, then wrote the row: what is there tells how far it
//! came. The marker goes when all is well, and stays, with every file, where somebody has to look.
//!
//! Ours are intents in the database; no marker is ever made.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use rusqlite::{Connection, params};
use serde::Deserialize;
use serde_json::json;

use super::disks::{DISK, GUEST_DISK, fix_backing};
use super::{boxes, entries, failed, has_table, names, tolerate};
use crate::disk::durable::{make_directory, rename, sync_directory};
use crate::disk::overlay;
use crate::error::{Code, Error, Result};
use crate::failpoint::{self, Point};
use crate::home::Home;

pub const MARKER: &str = ".snapshot_pending";
/// The name of one that cannot be read.
pub const CORRUPT: &str = ".snapshot_pending.corrupt";
/// The longest marker that is read, in bytes.
const MAX_MARKER: u64 = 64 << 10;

/// Where a box has its disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// In its directory, as version 6 has it.
    Flat,
    /// In `disks/`.
    Disks,
}

/// What a marker says.
#[derive(Debug, Default, Deserialize)]
struct Marker {
    snapshot_dir: Option<PathBuf>,
    /// Older markers: the disk was on its way into this directory, under any name.
    bases_dir: Option<PathBuf>,
}

/// How it is with an interrupted snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// There is no marker.
    None,
    /// The snapshot's file is the box's disk again.
    MovedBack,
    /// It was complete, and has a row.
    Complete,
    /// It is complete, and waits for the table that its row is to be in.
    Waits,
    /// It had not begun, or had ended.
    Nothing,
    /// Why somebody has to look at the files, which are as they were.
    Unclear(String),
}

/// Looks after the interrupted snapshots of all boxes, whose disks are in `disks/`.
pub fn recover_all(home: &Home, connection: &Connection) -> Result<()> {
    for (id, _) in boxes(home)? {
        tolerate(&id, recover(home, connection, &id, Layout::Disks))?;
    }
    Ok(())
}

/// The same for one box.
pub fn recover(home: &Home, connection: &Connection, id: &str, layout: Layout) -> Result<()> {
    let case = Case { home, connection, id, directory: home.of_box(id), layout };
    match case.settle()? {
        Outcome::None | Outcome::Nothing | Outcome::Waits => {}
        Outcome::MovedBack => {
            tracing::warn!("box {id}: its disk is back from a snapshot that was not made")
        }
        Outcome::Complete => tracing::info!("box {id}: a snapshot was complete but for its row"),
        Outcome::Unclear(why) => tracing::warn!(
            "box {id}: an interrupted snapshot is left as it is ({}): {why}",
            case.marker().display()
        ),
    }
    Ok(())
}

struct Case<'a> {
    home: &'a Home,
    connection: &'a Connection,
    id: &'a str,
    directory: PathBuf,
    layout: Layout,
}

impl Case<'_> {
    fn settle(&self) -> Result<Outcome> {
        let path = self.marker();
        if !exists(&path)? {
            return Ok(Outcome::None);
        }
        let marker = read(&path)?;
        if let Some(directory) = marker.snapshot_dir.as_deref().and_then(|said| self.snapshot(said))
        {
            return self.decide(&directory);
        }
        if let Some(bases) = &marker.bases_dir {
            return self.take_from_bases(bases);
        }
        match &self.without_row()?[..] {
            [directory] => self.decide(directory),
            _ => {
                let corrupt = path.with_file_name(CORRUPT);
                std::fs::rename(&path, &corrupt).map_err(|e| io("rename", &path, &e))?;
                sync_directory(&self.directory)?;
                let text = "the marker cannot be read, and has another name now";
                Ok(Outcome::Unclear(text.to_owned()))
            }
        }
    }

    fn marker(&self) -> PathBuf {
        self.directory.join(MARKER)
    }

    /// The box's disk; where it would be if there is none.
    fn disk(&self) -> Result<PathBuf> {
        let places = [self.directory.join("disks").join(DISK), self.directory.join(DISK)];
        for place in &places {
            if exists(place)? {
                return Ok(place.clone());
            }
        }
        let [nested, flat] = places;
        Ok(if self.layout == Layout::Flat { flat } else { nested })
    }

    /// The directory of a snapshot of this box that a marker names, wherever the home was.
    fn snapshot(&self, said: &Path) -> Option<PathBuf> {
        let name = said.file_name()?;
        let parent = said.parent()?.file_name()?;
        (parent == "snapshots").then(|| self.directory.join("snapshots").join(name))
    }

    /// The snapshots that have a disk and no row.
    fn without_row(&self) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for directory in entries(&self.directory.join("snapshots"))? {
            if exists(&directory.join(DISK))? && !self.has_row(&directory)? {
                found.push(directory);
            }
        }
        Ok(found)
    }

    fn decide(&self, directory: &Path) -> Result<Outcome> {
        let (disk, frozen) = (self.disk()?, directory.join(DISK));
        match (exists(&disk)?, exists(&frozen)?) {
            (false, true) => {
                self.move_back(&frozen, &disk)?;
                self.clear(directory)?;
                self.end(Outcome::MovedBack)
            }
            (true, true) if self.is_on(&disk, &frozen) => self.complete(directory, &frozen),
            (true, true) => Ok(Outcome::Unclear(format!(
                "{} is not based on {}; both are kept",
                disk.display(),
                frozen.display()
            ))),
            (true, false) => {
                self.clear(directory)?;
                self.end(Outcome::Nothing)
            }
            (false, false) => {
                // Only if it is empty.
                let _ = std::fs::remove_dir(directory);
                Ok(Outcome::Unclear(format!(
                    "neither {} nor {} is there",
                    disk.display(),
                    frozen.display()
                )))
            }
        }
    }

    fn is_on(&self, disk: &Path, frozen: &Path) -> bool {
        let claim = overlay::info(disk).ok().and_then(|info| info.backing_path);
        let directory = disk.parent().unwrap_or(&self.directory);
        let found = claim.and_then(|claim| names::locate(self.home.root(), directory, &claim));
        found.is_some() && found == frozen.canonicalize().ok()
    }

    fn move_back(&self, frozen: &Path, disk: &Path) -> Result<()> {
        if let Err(error) = fix_backing(self.home.root(), frozen) {
            // It may be anything; it is moved as it is.
            tracing::warn!("box {}: {error}", self.id);
        }
        make_directory(disk.parent().unwrap_or(disk))?;
        rename(frozen, disk)?;
        failpoint::hit(Point::AdoptPendingMoved);
        Ok(())
    }

    /// Does away with the directory of a snapshot that was not made. Disks in it are never removed.
    fn clear(&self, directory: &Path) -> Result<()> {
        if self.has_row(directory)? || !exists(directory)? {
            return Ok(());
        }
        let guest = directory.join(GUEST_DISK);
        let home_of_guest = self.disk()?.with_file_name(GUEST_DISK);
        if exists(&guest)? && !exists(&home_of_guest)? {
            fix_backing(self.home.root(), &guest)?;
            rename(&guest, &home_of_guest)?;
        }
        if let Some(disk) = names::qcow2_files(directory)?.first() {
            tracing::warn!("box {}: {} is left of a snapshot", self.id, disk.display());
            return Ok(());
        }
        std::fs::remove_dir_all(directory).map_err(|e| io("remove", directory, &e))?;
        sync_directory(directory.parent().unwrap_or(directory))
    }

    /// Writes the row of a snapshot of which all else is there.
    fn complete(&self, directory: &Path, frozen: &Path) -> Result<Outcome> {
        if !has_table(self.connection, "snapshot").map_err(failed)? {
            return Ok(Outcome::Waits);
        }
        if !self.has_row(directory)? {
            let Some(name) = directory.file_name().and_then(OsStr::to_str) else {
                let text = format!("{} is no name for a snapshot", directory.display());
                return Ok(Outcome::Unclear(text));
            };
            self.write_row(name, frozen)?;
            failpoint::hit(Point::AdoptPendingRow);
        }
        self.end(Outcome::Complete)
    }

    fn write_row(&self, name: &str, frozen: &Path) -> Result<()> {
        let meta = frozen.metadata().map_err(|e| io("examine", frozen, &e))?;
        let inside = frozen.strip_prefix(self.home.root()).unwrap_or(frozen);
        let (id, created_at) = (ulid::Ulid::generate().to_string(), meta.mtime());
        let json = json!({
            "id": id,
            "box_id": self.id,
            "name": name,
            "base_path": inside.to_string_lossy(),
            "container_disk_bytes": overlay::info(frozen)?.virtual_size,
            "size_bytes": meta.blocks() * 512,
            "created_at": created_at,
        });
        // What is in the directory of no box is nobody's snapshot.
        let insert = "INSERT INTO snapshot (id, box_id, name, created_at, json)
                      SELECT ?1, id, ?3, ?4, ?5 FROM box_config WHERE id = ?2";
        let values = params![id, self.id, name, created_at, json.to_string()];
        self.connection.execute(insert, values).map(drop).map_err(failed)
    }

    /// Whether a snapshot's directory is that of one that has a row.
    fn has_row(&self, directory: &Path) -> Result<bool> {
        let name = directory.file_name().and_then(OsStr::to_str).unwrap_or_default();
        let exists = |query: &str| {
            self.connection
                .query_row(query, [self.id, name, &format!("/{name}/disk.qcow2")], |r| r.get(0))
                .map_err(failed)
        };
        if has_table(self.connection, "snapshot").map_err(failed)? {
            return exists(
                "SELECT count(*) > 0 FROM snapshot WHERE box_id = ?1 AND
                 (name = ?2 OR json_valid(json) AND substr(json_extract(json, '$.base_path'), -length(?3)) = ?3)",
            );
        }
        if !has_table(self.connection, "box_snapshot").map_err(failed)? {
            return Ok(false);
        }
        exists(
            "SELECT count(*) > 0 FROM box_snapshot WHERE box_id = ?1 AND
             (name = ?2 OR substr(rtrim(snapshot_dir, '/') || '/disk.qcow2', -length(?3)) = ?3)",
        )
    }

    /// An older marker: the disk may have got any name in a directory of bases.
    fn take_from_bases(&self, said: &Path) -> Result<Outcome> {
        let disk = self.disk()?;
        if exists(&disk)? {
            return self.end(Outcome::Nothing);
        }
        let directory = self.bases(said);
        let files = match &directory {
            Some(directory) => names::qcow2_files(directory)?,
            None => Vec::new(),
        };
        let used = self.used()?;
        let modified = |file: &PathBuf| {
            let meta = file.metadata().map_err(|e| io("examine", file, &e))?;
            Ok((meta.mtime(), meta.mtime_nsec()))
        };
        let mut newest = None;
        for file in files.iter().filter(|file| !used.contains(*file)) {
            let age = modified(file)?;
            if newest.as_ref().is_none_or(|(known, _)| age > *known) {
                newest = Some((age, file));
            }
        }
        let Some((_, file)) = newest else {
            let text = format!("no disk in {} is without an owner", said.display());
            return Ok(Outcome::Unclear(text));
        };
        self.move_back(file, &disk)?;
        self.end(Outcome::MovedBack)
    }

    /// The directory of bases that a marker names, wherever the home was.
    fn bases(&self, said: &Path) -> Option<PathBuf> {
        let root = self.home.root();
        let as_said = said.canonicalize().ok().filter(|path| path.starts_with(root));
        as_said.or_else(|| {
            let parts: Vec<Component<'_>> = said.components().collect();
            let at = parts.iter().rposition(|part| part.as_os_str() == "bases")?;
            let inside: PathBuf = parts.get(at..)?.iter().collect();
            root.join(inside).canonicalize().ok().filter(|path| path.starts_with(root))
        })
    }

    /// The files of the home that a disk is on, or that a row names.
    fn used(&self) -> Result<HashSet<PathBuf>> {
        let root = self.home.root();
        let mut used = HashSet::new();
        let mut add = |file: &Path, claim: &Path| {
            used.extend(names::locate(root, file.parent().unwrap_or(root), claim));
        };
        for (_, directory) in boxes(self.home)? {
            for file in names::files_of_box(&directory)? {
                if !names::is_qcow2(&file)? {
                    continue;
                }
                // One that cannot be read could be on any of them.
                let claim = overlay::info(&file)?.backing_path;
                claim.iter().for_each(|claim| add(&file, claim));
            }
        }
        for file in names::qcow2_files(&self.home.bases())? {
            let claim = overlay::info(&file).ok().and_then(|info| info.backing_path);
            claim.iter().for_each(|claim| add(&file, claim));
        }
        if !has_table(self.connection, "base_disk").map_err(failed)? {
            return Ok(used);
        }
        for query in [
            "SELECT base_path FROM base_disk",
            "SELECT json_extract(json, '$.base_path') FROM snapshot WHERE json_valid(json)",
        ] {
            let mut rows = self.connection.prepare(query).map_err(failed)?;
            let paths = rows.query_map([], |r| r.get::<_, Option<String>>(0)).map_err(failed)?;
            for path in paths {
                let path = path.map_err(failed)?.unwrap_or_default();
                used.extend(names::locate(root, root, Path::new(&path)));
            }
        }
        Ok(used)
    }

    /// Removes the marker: what it was for is as it should be.
    fn end(&self, outcome: Outcome) -> Result<Outcome> {
        let marker = self.marker();
        std::fs::remove_file(&marker).map_err(|e| io("remove", &marker, &e))?;
        sync_directory(&self.directory)?;
        failpoint::hit(Point::AdoptPendingEnded);
        Ok(outcome)
    }
}

/// What a marker says. Nothing, if it is no such thing.
fn read(path: &Path) -> Result<Marker> {
    let meta = path.metadata().map_err(|e| io("examine", path, &e))?;
    if !meta.is_file() || meta.len() > MAX_MARKER {
        return Ok(Marker::default());
    }
    let bytes = std::fs::read(path).map_err(|e| io("read", path, &e))?;
    Ok(serde_json::from_slice(&bytes).unwrap_or_default())
}

fn exists(path: &Path) -> Result<bool> {
    path.try_exists().map_err(|e| io("look for", path, &e))
}

fn io(what: &str, path: &Path, cause: &std::io::Error) -> Error {
    Error::io(Code::Storage, format!("{what} {}", path.display()), cause)
}
