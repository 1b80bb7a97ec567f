//! Files that appear whole or not at all.
//!
//! A [`PendingFile`] is written under a temporary name beside its target, synced, renamed and
//! its directory synced. Dropped before [`PendingFile::commit`], it leaves nothing.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{DirEntry, File};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::{Code, Error, Result};

/// Ends the names of files that are not complete yet.
const SUFFIX: &str = ".partial";

/// What to do when the target exists already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfExists {
    /// Put the new file in its place, in one step.
    Replace,
    /// Fail with [`Code::AlreadyExists`] and leave it alone.
    Fail,
}

/// A file being written that has not got its name yet.
#[derive(Debug)]
pub struct PendingFile {
    temp: NamedTempFile,
    target: PathBuf,
}

impl PendingFile {
    /// Opens a temporary file in the directory of `target`.
    pub fn create(target: &Path) -> Result<PendingFile> {
        let (directory, name) = split(target)?;
        let mut builder = tempfile::Builder::new();
        let prefix = temporary_prefix(name);
        let temp = builder
            .prefix(OsStr::from_bytes(&prefix))
            .suffix(SUFFIX)
            .tempfile_in(directory)
            .map_err(|e| {
                let what = format!("create a temporary file in {}", directory.display());
                Error::io(Code::Storage, what, &e)
            })?;
        Ok(PendingFile { temp, target: target.to_owned() })
    }

    /// The open file.
    pub fn file(&self) -> &File {
        self.temp.as_file()
    }

    /// Syncs the file, gives it its name and syncs the directory.
    pub fn commit(self, if_exists: IfExists) -> Result<()> {
        let target = self.target;
        let io = |what: &str, e: &std::io::Error| {
            Error::io(Code::Storage, format!("{what} {}", target.display()), e)
        };
        self.temp.as_file().sync_all().map_err(|e| io("sync", &e))?;
        let renamed = match if_exists {
            IfExists::Replace => self.temp.persist(&target),
            IfExists::Fail => self.temp.persist_noclobber(&target),
        };
        if let Err(failed) = renamed {
            if failed.error.kind() == std::io::ErrorKind::AlreadyExists {
                let message = format!("{} exists already", target.display());
                return Err(Error::new(Code::AlreadyExists, message));
            }
            return Err(io("rename a finished file to", &failed.error));
        }
        sync_directory(split(&target)?.0)
    }

    /// Gives the file its name, in place of what has it, without syncing anything: after a power cut
    /// either may be there, or neither.
    pub fn place(self) -> Result<()> {
        let target = self.target;
        self.temp.persist(&target).map(drop).map_err(|e| {
            let what = format!("rename a finished file to {}", target.display());
            Error::io(Code::Storage, what, &e.error)
        })
    }
}

/// Makes the names in `directory` durable.
pub fn sync_directory(directory: &Path) -> Result<()> {
    File::open(directory)
        .and_then(|d| d.sync_all())
        .map_err(|e| Error::io(Code::Storage, format!("sync {}", directory.display()), &e))
}

/// Removes what a killed writer of `target` left beside it.
///
/// The caller holds the lock under which `target` is written: a writer that is still at work
/// would lose its file.
pub fn remove_leftovers(target: &Path) -> Result<()> {
    let (directory, name) = split(target)?;
    let prefix = temporary_prefix(name);
    let io = |e: &std::io::Error| {
        Error::io(Code::Storage, format!("clean up {}", directory.display()), e)
    };
    for entry in std::fs::read_dir(directory).map_err(|e| io(&e))? {
        let entry = entry.map_err(|e| io(&e))?;
        let found = entry.file_name();
        let found = found.as_bytes();
        if found.starts_with(&prefix) && found.ends_with(SUFFIX.as_bytes()) {
            std::fs::remove_file(entry.path()).map_err(|e| io(&e))?;
        }
    }
    Ok(())
}

/// The targets of which a directory has files that are not complete: somebody writes them, or was
/// killed.
pub fn unfinished(directory: &Path) -> Result<BTreeSet<PathBuf>> {
    let entries = std::fs::read_dir(directory)
        .and_then(|entries| entries.collect::<Result<Vec<_>, _>>())
        .map_err(|e| Error::io(Code::Storage, format!("list {}", directory.display()), &e))?;
    let target = |entry: &DirEntry| {
        let found = entry.file_name();
        let name = found.as_bytes().strip_prefix(b".")?.strip_suffix(SUFFIX.as_bytes())?;
        let end = name.iter().rposition(|b| *b == b'.')?;
        Some(directory.join(OsStr::from_bytes(&name[..end])))
    };
    Ok(entries.iter().filter_map(target).collect())
}

fn temporary_prefix(name: &OsStr) -> Vec<u8> {
    let mut prefix = vec![b'.'];
    prefix.extend_from_slice(name.as_bytes());
    prefix.push(b'.');
    prefix
}

fn split(target: &Path) -> Result<(&Path, &OsStr)> {
    let name = target.file_name().ok_or_else(|| {
        let message = format!("{} does not name a file", target.display());
        Error::new(Code::InvalidArgument, message)
    })?;
    let directory = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    Ok((directory, name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(directory)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_that_is_not_committed_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let pending = PendingFile::create(&directory.path().join("a")).unwrap();
        pending.file().write_all(b"half").unwrap();
        assert_eq!(names(directory.path()).len(), 1);
        drop(pending);
        assert_eq!(names(directory.path()), Vec::<String>::new());
    }

    #[test]
    fn an_existing_file_is_replaced_only_when_asked() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("a");
        std::fs::write(&target, b"old").unwrap();
        let pending = PendingFile::create(&target).unwrap();
        pending.file().write_all(b"new").unwrap();
        let refused = pending.commit(IfExists::Fail).unwrap_err();
        assert_eq!(refused.code(), Code::AlreadyExists);
        assert_eq!(std::fs::read(&target).unwrap(), b"old");
        let pending = PendingFile::create(&target).unwrap();
        pending.file().write_all(b"new").unwrap();
        pending.commit(IfExists::Replace).unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"new");
        assert_eq!(names(directory.path()), ["a"]);
    }

    #[test]
    fn leftovers_of_a_killed_writer_go_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("a");
        let (_, kept) = PendingFile::create(&target).unwrap().temp.keep().unwrap();
        for other in ["a", "a.partial", ".b.x.partial", ".a.x"] {
            std::fs::write(directory.path().join(other), b"").unwrap();
        }
        let targets = ["a", "b"].map(|name| directory.path().join(name));
        assert_eq!(unfinished(directory.path()).unwrap(), targets.into());
        remove_leftovers(&target).unwrap();
        assert!(!kept.exists());
        assert_eq!(names(directory.path()).len(), 4);
    }
}
