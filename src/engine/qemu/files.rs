//! Files that somebody else may have put there: opening, reading and removing them without waiting
//! for what is no file, and without taking more than is wanted.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::SeekFrom;

/// A file to lock, made if there is none.
pub fn open_lock(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    plain(options.create(true).truncate(false).write(true).mode(0o600), path)
}

/// A file to read.
pub fn open_file(path: &Path) -> io::Result<File> {
    plain(OpenOptions::new().read(true), path)
}

/// Opens a file, and nothing else that has its name: a pipe would have us wait for ever.
fn plain(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let file = options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("not a file")) }
}

/// Whether an open file still is what its path names.
pub fn is_named(file: &File, path: &Path) -> bool {
    let same = || {
        let (ours, named) = (file.metadata()?, fs::symlink_metadata(path)?);
        io::Result::Ok((ours.dev(), ours.ino()) == (named.dev(), named.ino()))
    };
    same().unwrap_or(false)
}

/// All that a file holds, from where it is read, unless it is more than the limit.
pub fn read_file(file: &File, limit: u64) -> io::Result<Vec<u8>> {
    if file.metadata()?.len() > limit {
        return Err(io::Error::other("too large"));
    }
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// All that a file holds, from its beginning on, wherever others read or write it.
pub fn whole(file: &File) -> io::Result<Vec<u8>> {
    let length = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// A file without a name that holds these bytes.
pub fn in_memory(bytes: &[u8]) -> io::Result<File> {
    let fd = rustix::fs::memfd_create(c"boxlite-template", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut file = File::from(fd);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}

/// Gives `to`, which is empty, the length of `from`, and what it holds where it holds anything.
pub fn copy_sparse(from: &File, to: &File) -> io::Result<()> {
    let length = from.metadata()?.len();
    to.set_len(length)?;
    let mut at = 0;
    loop {
        let start = match rustix::fs::seek(from, SeekFrom::Data(at)) {
            Ok(start) => start,
            // Nothing but a hole is left.
            Err(rustix::io::Errno::NXIO) => return Ok(()),
            Err(e) => return Err(e.into()),
        };
        at = rustix::fs::seek(from, SeekFrom::Hole(start))?;
        let (mut from_at, mut to_at) = (start, start);
        while from_at < at {
            let left = usize::try_from(at - from_at).unwrap_or(usize::MAX);
            let some =
                rustix::fs::copy_file_range(from, Some(&mut from_at), to, Some(&mut to_at), left)?;
            if some == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// Removes whatever there is.
pub fn remove(path: &Path) -> io::Result<()> {
    let outcome = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(e) => Err(e),
    };
    match outcome {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sparse_copy_has_the_same_bytes_and_the_same_holes() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            let mut options = OpenOptions::new();
            options.create_new(true).read(true).write(true);
            options.open(directory.path().join(name)).unwrap()
        };
        for (n, places) in [&[][..], &[0], &[1 << 20, 5 << 20], &[(8 << 20) - 3]].iter().enumerate()
        {
            let (from, to) = (file(&format!("{n}.from")), file(&format!("{n}.to")));
            from.set_len(8 << 20).unwrap();
            places.iter().for_each(|at| from.write_all_at(b"abc", *at).unwrap());
            copy_sparse(&from, &to).unwrap();
            let all = |file: &File| {
                let mut bytes = vec![0; 8 << 20];
                file.read_exact_at(&mut bytes, 0).unwrap();
                bytes
            };
            assert!(all(&from) == all(&to) && to.metadata().unwrap().len() == 8 << 20);
            assert!(to.metadata().unwrap().blocks() <= from.metadata().unwrap().blocks());
        }
    }
}
