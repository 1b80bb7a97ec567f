//! The disks of version 6, beside everything else in their box's directory, go into `disks/`; a box's own
//! base of the older guest's root file system becomes a base among others, with a row and a reference.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, Transaction, params};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{boxes, failed, pending, tolerate};
use crate::disk::chain::{backing_of, named_from};
use crate::disk::durable::{make_directory, rename, transfer};
use crate::disk::overlay;
use crate::error::{Code, Error, Result};
use crate::failpoint::{self, Point};
use crate::home::Home;

pub const DISK: &str = "disk.qcow2";
/// The disk of the older guest, which is kept and not used.
pub const GUEST_DISK: &str = "guest-rootfs.qcow2";
/// What that may be on.
const BASE: &str = "rootfs-base";

/// Brings the files of each box to where version 7 has them. What is there already stays.
pub fn arrange(home: &Home, connection: &Connection) -> Result<()> {
    for (id, directory) in boxes(home)? {
        let recovered = pending::recover(home, connection, &id, pending::Layout::Flat);
        tolerate(&id, recovered)?;
        for name in [DISK, GUEST_DISK] {
            tolerate(&id, into_disks(home, &directory, name))?;
        }
        tolerate(&id, base(home, &id, &directory))?;
    }
    Ok(())
}

fn into_disks(home: &Home, directory: &Path, name: &str) -> Result<()> {
    let (from, to) = (directory.join(name), directory.join("disks").join(name));
    if !from.is_file() {
        return Ok(());
    }
    if to.exists() {
        let text = format!("{} and {} are there", from.display(), to.display());
        return Err(Error::new(Code::AlreadyExists, text));
    }
    make_directory(&directory.join("disks"))?;
    if let Err(error) = fix_backing(home.root(), &from) {
        // It may be anything; it is moved as it is.
        tracing::warn!("{error}");
    }
    rename(&from, &to)?;
    failpoint::hit(Point::AdoptMoved);
    Ok(())
}

/// Has a disk that is about to be moved name what it is on by an absolute path, if it does so relative to
/// where it is now.
pub fn fix_backing(root: &Path, disk: &Path) -> Result<()> {
    let info = overlay::info(disk)?;
    let Some(claim) = info.backing_path.as_deref().filter(|path| path.is_relative()) else {
        return Ok(());
    };
    let directory = disk.parent().unwrap_or(root);
    let (Ok(found), Some((_, format))) =
        (directory.join(claim).canonicalize(), backing_of(disk, &info)?)
    else {
        return Ok(());
    };
    overlay::set_backing(disk, &found, format)
}

/// Moves a box's own base to the others, and has the disk that is on it say so.
fn base(home: &Home, id: &str, directory: &Path) -> Result<()> {
    let base = home.bases().join(base_file(id));
    let disks = directory.join("disks");
    for from in [directory.join(BASE), disks.join(BASE)] {
        if from.is_file() {
            make_directory(&home.bases())?;
            transfer(&from, &base)?;
            failpoint::hit(Point::AdoptBaseMoved);
        }
    }
    let guest = disks.join(GUEST_DISK);
    if !base.is_file() || !guest.is_file() {
        return Ok(());
    }
    let info = overlay::info(&guest)?;
    let Some((now, format)) = backing_of(&guest, &info)? else { return Ok(()) };
    let is_own = now.file_name() == Some(OsStr::new(BASE));
    // With another file below it, it would be another disk.
    if !is_own && now.exists() && now.canonicalize().ok() != base.canonicalize().ok() {
        let text =
            format!("{} is based on {}, not on its own base", guest.display(), now.display());
        return Err(Error::new(Code::Storage, text));
    }
    overlay::set_backing(&guest, &named_from(&guest, &base), format)?;
    failpoint::hit(Point::AdoptBaseNamed);
    Ok(())
}

/// Writes the rows of bases that [`arrange`] has moved, now or in a try before.
pub fn record_bases(home: &Home, transaction: &Transaction<'_>) -> Result<()> {
    for (id, _) in boxes(home)? {
        let path = home.bases().join(base_file(&id));
        let Ok(meta) = std::fs::metadata(&path) else { continue };
        let base_id = base_id(&id);
        let (base_path, now) =
            (format!("bases/{}", base_file(&id)), chrono::Utc::now().timestamp());
        let json = json!({
            "id": base_id,
            "source_box_id": id,
            "name": null,
            "kind": "rootfs",
            "base_path": base_path,
            "size_bytes": meta.len(),
            "created_at": now,
        });
        let insert = "INSERT OR IGNORE INTO base_disk
                      (id, source_box_id, name, kind, base_path, created_at, json)
                      VALUES (?1, ?2, NULL, 'rootfs', ?3, ?4, ?5)";
        let values = params![base_id, id, base_path, now, json.to_string()];
        transaction.execute(insert, values).map_err(failed)?;
        let insert = "INSERT OR IGNORE INTO base_disk_ref (base_disk_id, box_id) VALUES (?1, ?2)";
        transaction.execute(insert, [&base_id, &id]).map_err(failed)?;
    }
    Ok(())
}

/// The id of the base that a box had to itself. It comes from the box's, so that whoever tries again
/// finds what was done before.
pub fn base_id(box_id: &str) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let hash = Sha256::digest(box_id.as_bytes());
    let mut number = hash.iter().take(8).fold(0u64, |n, byte| n << 8 | u64::from(*byte));
    let mut digit = || {
        let digit = DIGITS.get((number % 62) as usize).copied().unwrap_or(b'0');
        number /= 62;
        char::from(digit)
    };
    (0..8).map(|_| digit()).collect()
}

fn base_file(box_id: &str) -> String {
    format!("{}.ext4", base_id(box_id))
}

/// Where a file of version 6 is now, both relative to the home. None for any other.
pub fn since_moved(inside: &Path) -> Option<PathBuf> {
    let parts: Vec<&str> = inside.iter().map(OsStr::to_str).collect::<Option<_>>()?;
    match parts[..] {
        ["boxes", id, name @ (DISK | GUEST_DISK)] => {
            Some(["boxes", id, "disks", name].iter().collect())
        }
        ["boxes", id, BASE] | ["boxes", id, "disks", BASE] => {
            Some(Path::new("bases").join(base_file(id)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_bases_come_from_those_of_boxes() {
        let id = base_id("01JD2W3X4Y5Z6A7B8C9D0E1F2G");
        assert_eq!(id, base_id("01JD2W3X4Y5Z6A7B8C9D0E1F2G"));
        assert_ne!(id, base_id("01JD2W3X4Y5Z6A7B8C9D0E1F2H"));
        assert!(id.len() == 8 && id.bytes().all(|b| b.is_ascii_alphanumeric()), "{id}");
    }
}
