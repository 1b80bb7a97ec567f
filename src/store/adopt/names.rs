//! Disks name what they are on relative to their own directory, and rows name files relative to the home:
//! so a home may be moved or copied.
//!
//! Older homes have absolute paths, of where they were when each was written. What such a path means is
//! found below the home as it is now ([`locate`]); never is it a file outside of it. What cannot be found
//! stays as it is, is reported, and its box says so when it is started.

use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use nix::fcntl::{FcntlArg, fcntl};
use rusqlite::{Connection, Transaction};
use serde_json::Value;

use super::{boxes, disks, entries, failed, tolerate};
use crate::disk::chain::{Chain, backing_of, named_from};
use crate::disk::overlay;
use crate::error::{Code, Error, Result};
use crate::failpoint::{self, Point};
use crate::home::Home;

/// The directories of a home that files are found below which others are on.
const ANCHORS: &[&str] = &["images", "bases", "boxes"];

/// The file that a claim means, which is about to be resolved from `directory`: without symbolic links, and
/// in the home at `root`. A claim that leads nowhere, or out of the home, was written when the home was
/// elsewhere: what follows the last `images`, `bases` or `boxes` in it that is there is meant.
pub fn locate(root: &Path, directory: &Path, claim: &Path) -> Option<PathBuf> {
    file_in(root, &directory.join(claim)).or_else(|| {
        let parts: Vec<Component<'_>> = claim.components().collect();
        (0..parts.len()).rev().find_map(|at| {
            let inside: PathBuf = parts.get(at..)?.iter().collect();
            let anchor = inside.iter().next()?.to_str()?;
            if !ANCHORS.contains(&anchor) || inside.components().any(|c| c == Component::ParentDir)
            {
                return None;
            }
            let found = |inside: &Path| file_in(root, &root.join(inside));
            found(&inside).or_else(|| found(&disks::since_moved(&inside)?))
        })
    })
}

/// A file's path without symbolic links, if it is there and in the home.
fn file_in(root: &Path, path: &Path) -> Option<PathBuf> {
    let found = path.canonicalize().ok()?;
    (found.starts_with(root) && found.is_file()).then_some(found)
}

/// The qcow2 files in a directory.
pub fn qcow2_files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = entries(directory)?;
    files.retain(|file| file.extension().is_some_and(|e| e == "qcow2") && file.is_file());
    Ok(files)
}

/// Whether a file begins as all of qcow2 do: another is on nothing.
pub fn is_qcow2(path: &Path) -> Result<bool> {
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(4).read_to_end(&mut start));
    read.map_err(|e| Error::io(Code::Storage, format!("read {}", path.display()), &e))?;
    Ok(start == *b"QFI\xfb")
}

/// The qcow2 files of a box, its own disks first, wherever any version has them.
pub fn files_of_box(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = qcow2_files(&directory.join("disks"))?;
    files.extend(qcow2_files(directory)?);
    for snapshot in entries(&directory.join("snapshots"))? {
        if snapshot.is_dir() {
            files.extend(qcow2_files(&snapshot)?);
        }
    }
    Ok(files)
}

/// Has every disk of a home name what it is on relative to itself, and says which are on nothing that is
/// there.
pub fn in_disks(home: &Home, connection: &Connection) -> Result<()> {
    // A home may have been adopted before this was done at its first step.
    disks::arrange(home, connection)?;
    let root = home.root();
    let bases = home.bases();
    let shared = bases.display().to_string();
    for base in qcow2_files(&bases)? {
        tolerate(&shared, in_disk(root, &base))?;
    }
    let boxes = boxes(home)?;
    for (id, directory) in &boxes {
        // Its machine writes the header too.
        if is_served(directory) {
            tracing::warn!(
                "box {id} runs: if its disks name files by absolute paths, they go on to"
            );
            continue;
        }
        let files = files_of_box(directory)
            .map(|files| files.iter().try_for_each(|file| tolerate(id, in_disk(root, file))));
        match files {
            Ok(done) => done?,
            Err(e) => tolerate(id, Err(e))?,
        }
    }
    // Only now, because a chain may lead through any of them.
    for (id, directory) in &boxes {
        let files = files_of_box(directory).unwrap_or_default();
        for file in files {
            tolerate(id, Chain::resolve(root, &file).map(drop))?;
        }
    }
    Ok(())
}

fn in_disk(root: &Path, disk: &Path) -> Result<()> {
    let failed =
        |e: &std::io::Error| Error::io(Code::Storage, format!("open {}", disk.display()), e);
    let disk = &disk.canonicalize().map_err(|e| failed(&e))?;
    let info = overlay::info(disk)?;
    let (Some(claim), Some((_, format))) = (&info.backing_path, backing_of(disk, &info)?) else {
        return Ok(());
    };
    let directory = disk.parent().unwrap_or(root);
    let found = locate(root, directory, claim).filter(|_| disk.starts_with(root)).ok_or_else(|| {
        let text = format!(
            "{} is based on {}, which is not in the home {}: put that file where it belongs there, or \
             name another with `qemu-img rebase -u`",
            disk.display(),
            claim.display(),
            root.display()
        );
        Error::new(Code::Storage, text).object(disk.display().to_string())
    })?;
    overlay::set_backing(disk, &named_from(disk, &found), format)?;
    failpoint::hit(Point::AdoptRelative);
    Ok(())
}

/// Whether a supervisor of ours holds the box.
fn is_served(directory: &Path) -> bool {
    let mut lock = nix::libc::flock {
        l_type: nix::libc::F_WRLCK as nix::libc::c_short,
        l_whence: nix::libc::SEEK_SET as nix::libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    File::open(directory.join("shim.pid")).is_ok_and(|file| {
        fcntl(&file, FcntlArg::F_OFD_GETLK(&mut lock)).is_ok()
            && lock.l_type != nix::libc::F_UNLCK as nix::libc::c_short
    })
}

/// Has the rows of bases and snapshots name their files relative to the home.
pub fn in_rows(home: &Home, transaction: &Transaction<'_>) -> Result<()> {
    disks::record_bases(home, transaction)?;
    let root = home.root();
    let select = "SELECT id, source_box_id, base_path, json FROM base_disk";
    for (id, box_id, path, json) in rows(transaction, select).map_err(failed)? {
        let inside = path.as_deref().map(|path| inside(root, &box_id, path));
        let json = json.as_deref().and_then(|json| with_inside(root, &box_id, json));
        let update = "UPDATE base_disk SET base_path = ifnull(?2, base_path),
                      json = ifnull(?3, json) WHERE id = ?1";
        transaction.execute(update, (id, inside, json)).map_err(failed)?;
    }
    let select = "SELECT id, box_id, NULL, json FROM snapshot";
    for (id, box_id, _, json) in rows(transaction, select).map_err(failed)? {
        let Some(json) = json.and_then(|json| with_inside(root, &box_id, &json)) else { continue };
        let update = "UPDATE snapshot SET json = ?2 WHERE id = ?1";
        transaction.execute(update, (id, json)).map_err(failed)?;
    }
    Ok(())
}

/// What was stored may be anything; it is none then.
type Stored = (String, String, Option<String>, Option<String>);

fn rows(transaction: &Transaction<'_>, select: &str) -> rusqlite::Result<Vec<Stored>> {
    let mut statement = transaction.prepare(select)?;
    let text = |row: &rusqlite::Row<'_>, at| {
        row.get_ref(at).map(|value| value.as_str().ok().map(str::to_owned))
    };
    let rows = statement.query_map([], |row| {
        let key = |found: Option<String>| found.unwrap_or_default();
        Ok((key(text(row, 0)?), key(text(row, 1)?), text(row, 2)?, text(row, 3)?))
    })?;
    rows.collect()
}

/// A path as rows have it: relative to the home, or as it was if there is no such file.
fn inside(root: &Path, box_id: &str, path: &str) -> String {
    let found = locate(root, root, Path::new(path));
    let found = found.as_deref().and_then(|found| found.strip_prefix(root).ok()?.to_str());
    if found.is_none() {
        tracing::warn!(
            "box {box_id}: a row names {path}, which is not in the home {}; the row stays as it is",
            root.display()
        );
    }
    found.unwrap_or(path).to_owned()
}

/// JSON whose `base_path` is relative to the home. None for what has none, or is no JSON.
fn with_inside(root: &Path, box_id: &str, json: &str) -> Option<String> {
    let mut stored: Value = serde_json::from_str(json).ok()?;
    let path = stored.get_mut("base_path")?;
    *path = inside(root, box_id, path.as_str()?).into();
    Some(stored.to_string())
}
