//! A file that has no name before it is complete: whoever writes it may die, and nothing is left.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

use super::durable::{IfExists, PendingFile, sync_directory};
use crate::error::{Code, Error, Result};

/// A file being written. Dropped before [`UnnamedFile::commit`] it leaves nothing, and where the file
/// system has such files (`O_TMPFILE`) not even the end of the program does.
#[derive(Debug)]
pub struct UnnamedFile {
    target: PathBuf,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Unnamed(File),
    /// Where the file system has no such files.
    Pending(PendingFile),
}

impl UnnamedFile {
    /// Opens a file in the directory of `target`, for its owner alone to read and write. A target that
    /// is there is ALREADY_EXISTS.
    pub fn create(target: &Path) -> Result<UnnamedFile> {
        if target.symlink_metadata().is_ok() {
            return Err(exists(target));
        }
        let directory = directory_of(target);
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let kind = match rustix::fs::open(directory, flags, Mode::RUSR | Mode::WUSR) {
            Ok(file) => Kind::Unnamed(File::from(file)),
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
                Kind::Pending(PendingFile::create(target)?)
            }
            Err(e) => {
                let what = format!("create a file in {}", directory.display());
                return Err(Error::io(Code::Storage, what, &e.into()));
            }
        };
        Ok(UnnamedFile { target: target.to_owned(), kind })
    }

    /// The open file.
    pub fn file(&self) -> &File {
        match &self.kind {
            Kind::Unnamed(file) => file,
            Kind::Pending(pending) => pending.file(),
        }
    }

    /// Syncs the file, gives it its name and syncs the directory. A file that has got that name
    /// meanwhile stays: ALREADY_EXISTS.
    pub fn commit(self) -> Result<()> {
        let target = self.target;
        let file = match self.kind {
            Kind::Unnamed(file) => file,
            Kind::Pending(pending) => return pending.commit(IfExists::Fail),
        };
        let failed = |what: &str, e: std::io::Error| {
            Error::io(Code::Storage, format!("{what} {}", target.display()), &e)
        };
        file.sync_all().map_err(|e| failed("sync", e))?;
        let source = format!("/proc/self/fd/{}", file.as_raw_fd());
        match rustix::fs::linkat(CWD, source, CWD, &target, AtFlags::SYMLINK_FOLLOW) {
            Ok(()) => sync_directory(directory_of(&target)),
            Err(Errno::EXIST) => Err(exists(&target)),
            Err(e) => Err(failed("name a finished file", e.into())),
        }
    }
}

fn exists(target: &Path) -> Error {
    Error::new(Code::AlreadyExists, format!("{} exists already", target.display()))
}

fn directory_of(target: &Path) -> &Path {
    match target.parent() {
        Some(parent) if parent.as_os_str() != OsStr::new("") => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_file_is_there_when_it_is_complete_and_never_in_place_of_another() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("a");
        let count = || std::fs::read_dir(directory.path()).unwrap().count();
        let unnamed = UnnamedFile::create(&target).unwrap();
        unnamed.file().write_all(b"half").unwrap();
        drop(unnamed);
        assert_eq!(count(), 0);
        let [first, second] = [(); 2].map(|()| UnnamedFile::create(&target).unwrap());
        first.file().write_all(b"first").unwrap();
        first.commit().unwrap();
        assert_eq!(second.commit().unwrap_err().code(), Code::AlreadyExists);
        assert_eq!(UnnamedFile::create(&target).unwrap_err().code(), Code::AlreadyExists);
        assert_eq!(std::fs::read(&target).unwrap(), b"first");
        assert_eq!(count(), 1);
    }
}
