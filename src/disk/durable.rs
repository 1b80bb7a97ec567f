//! Files that appear whole or not at all.
//!
//! A [`PendingFile`] is written under a temporary name beside its target, synced, renamed and
//! its directory synced. Dropped before [`PendingFile::commit`], it leaves nothing. Files that are there
//! get another name by [`rename`], or by [`transfer`] also on another file system.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{DirEntry, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use tempfile::NamedTempFile;

use super::sparse::SparseFile;
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

/// Makes a directory, and those above it, as far as they are missing. What was made is durable when this
/// returns.
pub fn make_directory(path: &Path) -> Result<()> {
    let Some(parent) = path.parent() else { return Ok(()) };
    let mut made = std::fs::create_dir(path);
    if made.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::NotFound) {
        make_directory(parent)?;
        made = std::fs::create_dir(path);
    }
    match made {
        Ok(()) => sync_directory(parent),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(Error::io(Code::Storage, format!("create {}", path.display()), &e)),
    }
}

/// Gives a file another name on its file system, one that nobody has. Durable when this returns.
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    let renamed = match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // A file system that cannot; whoever renames here has both names alone.
        Err(Errno::INVAL | Errno::NOSYS) if !to.exists() => std::fs::rename(from, to),
        Err(Errno::INVAL | Errno::NOSYS) => Err(Errno::EXIST.into()),
        other => other.map_err(Into::into),
    };
    renamed.map_err(|e| {
        let code = if e.kind() == io::ErrorKind::AlreadyExists {
            Code::AlreadyExists
        } else {
            Code::Storage
        };
        Error::io(code, format!("rename {} to {}", from.display(), to.display()), &e)
    })?;
    // Before anything takes the old name: else a power cut could leave only that.
    sync_directory(split(to)?.0)?;
    sync_directory(split(from)?.0)
}

/// As [`rename`], also to another file system: there the file is copied, and then removed. Whoever is
/// killed in between does it again, and finds the copy.
pub fn transfer(from: &Path, to: &Path) -> Result<()> {
    let failed = |what: &str, e: &io::Error| {
        Error::io(Code::Storage, format!("{what} {} to {}", from.display(), to.display()), e)
    };
    match rename(from, to) {
        Err(e) if e.os_errno() == Some(libc::EXDEV) || e.code() == Code::AlreadyExists => {}
        other => return other,
    }
    if !to.exists() {
        remove_leftovers(to)?;
        let source = File::open(from).map_err(|e| failed("copy", &e))?;
        let copy = PendingFile::create(to)?;
        let mut file = SparseFile::new(copy.file());
        let copied = file.write_all_of(source).and_then(|()| file.end());
        copied.map_err(|e| failed("copy", &e))?;
        copy.commit(IfExists::Fail)?;
    } else if !is_same(from, to).map_err(|e| failed("compare", &e))? {
        let text = format!("{} and {} are there, and differ", from.display(), to.display());
        return Err(Error::new(Code::AlreadyExists, text));
    }
    std::fs::remove_file(from)
        .map_err(|e| Error::io(Code::Storage, format!("remove {}", from.display()), &e))?;
    sync_directory(split(from)?.0)
}

/// Bytes that are compared at once.
const CHUNK: usize = 64 << 10;

/// Whether two files hold the same, which are two files.
fn is_same(one: &Path, other: &Path) -> io::Result<bool> {
    let (one, other) = (File::open(one)?, File::open(other)?);
    let length = one.metadata()?.len();
    if other.metadata()?.len() != length {
        return Ok(false);
    }
    let (mut a, mut b) = (vec![0; CHUNK], vec![0; CHUNK]);
    let mut at = 0;
    while at < length {
        let part = usize::try_from(length - at).unwrap_or(CHUNK).min(CHUNK);
        a.resize(part, 0);
        b.resize(part, 0);
        one.read_exact_at(&mut a, at)?;
        other.read_exact_at(&mut b, at)?;
        if a != b {
            return Ok(false);
        }
        at += part as u64;
    }
    Ok(true)
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

    #[test]
    fn a_file_is_transferred_also_to_another_file_system() {
        let here = tempfile::tempdir().unwrap();
        // Where there is none, or it is the same, this tests less.
        let there = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let mut content = vec![0; 3 * CHUNK + 5];
        content[CHUNK + 1] = 7;
        content[3 * CHUNK + 4] = 9;
        let from = here.path().join("a");
        let go = |to: &Path| transfer(&from, to);
        for directory in [here.path(), there.path()] {
            let to = directory.join("b");
            std::fs::write(&from, &content).unwrap();
            go(&to).unwrap();
            assert!(!from.exists() && std::fs::read(&to).unwrap() == content);
            // Killed between copy and removal.
            std::fs::write(&from, &content).unwrap();
            std::fs::write(directory.join(".b.x.partial"), b"half").unwrap();
            go(&to).unwrap();
            assert!(!from.exists() && std::fs::read(&to).unwrap() == content);
            let mut other = content.clone();
            other[0] = 1;
            for other in [&other[..], &other[1..]] {
                std::fs::write(&from, other).unwrap();
                assert_eq!(go(&to).unwrap_err().code(), Code::AlreadyExists);
                assert_eq!(std::fs::read(&from).unwrap(), other);
                assert!(std::fs::read(&to).unwrap() == content);
            }
        }
        assert_eq!(go(&here.path().join("no/b")).unwrap_err().code(), Code::Storage);
        assert!(from.exists());
    }
}
