//! Making room: which templates go when a new one was made.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::fcntl::{Flock, FlockArg};

use super::files::{open_file, remove};
use super::recipe::Recipe;
use super::template::{self, DESCRIPTION, LOCK, WORKSHOP};
use crate::engine::TemplatePolicy;

/// A template that may go.
struct Candidate {
    path: PathBuf,
    used: SystemTime,
    bytes: u64,
}

/// Removes what nobody can use any more, and then what was used longest ago until the rest fits.
/// Nothing that a machine is made from goes, and nothing that somebody is making.
pub fn prune(policy: &TemplatePolicy, kept: &Recipe) -> io::Result<()> {
    let mut total = 0;
    let mut candidates = Vec::new();
    for entry in fs::read_dir(&policy.directory)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if let Some(key) = name.strip_suffix(LOCK) {
            drop_leftovers(&policy.directory, key);
        } else if name.contains(template::HIDDEN) {
            // Somebody was ended while removing it.
            let _ = remove(&path);
        } else if !name.ends_with(WORKSHOP) && name != kept.key() {
            match examine(&path, policy, kept) {
                Some(candidate) => candidates.push(candidate),
                None => drop(remove_unused(&path)?),
            }
        }
        total += used_space(&path);
    }
    candidates.sort_by_key(|c| c.used);
    for candidate in candidates {
        if total <= policy.max_bytes {
            break;
        }
        if remove_unused(&candidate.path)? {
            total -= candidate.bytes.min(total);
        }
    }
    Ok(())
}

/// A template that is good for something still.
fn examine(path: &Path, policy: &TemplatePolicy, kept: &Recipe) -> Option<Candidate> {
    let description = template::describe(path).ok()?;
    let same_boot = description.recipe.host_boot == kept.host_boot;
    if !same_boot || description.age() > policy.max_age {
        return None;
    }
    let used = fs::metadata(path.join(DESCRIPTION)).and_then(|m| m.modified()).ok()?;
    Some(Candidate { path: path.to_owned(), used, bytes: used_space(path) })
}

/// Removes a template, unless somebody holds it.
fn remove_unused(path: &Path) -> io::Result<bool> {
    let _held = match open_file(&path.join(DESCRIPTION)) {
        Ok(file) => match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(held) => Some(held),
            Err(_) => return Ok(false),
        },
        // Without a description nobody can hold it.
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(e) => return Err(e),
    };
    template::remove_template(path)?;
    Ok(true)
}

/// What the lock of a template that is no more leaves, and a workshop that nobody works in.
fn drop_leftovers(directory: &Path, key: &str) {
    let lock = directory.join(format!("{key}{LOCK}"));
    let Ok(file) = open_file(&lock) else { return };
    let Ok(_held) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else { return };
    let _ = remove(&directory.join(format!("{key}{WORKSHOP}")));
    if !directory.join(key).exists() {
        // Who waits for it looks whether it still has its name.
        let _ = fs::remove_file(&lock);
    }
}

/// The space that files of a directory take, sparse ones too.
fn used_space(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = fs::read_dir(path) else { return 0 };
    entries.flatten().filter_map(|e| e.metadata().ok()).map(|m| m.blocks() * 512).sum()
}
