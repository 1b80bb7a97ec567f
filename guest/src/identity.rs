//! The files that tell a box who it is.
//!
//! They are files of the box, which may change them: they are compared at each start, and written
//! where they differ.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, OwnedFd};

use boxlite_protocol::message::Init;
use boxlite_protocol::placeholder;
use nix::errno::Errno;
use nix::fcntl::{OFlag, PosixFadviseAdvice, open, posix_fadvise};
use nix::sys::stat::{Mode, SFlag, fchmod, fstat};
use nix::unistd::{Whence, fsync, ftruncate, lseek, mkdir, read, unlink, write as write_some};

/// Everybody reads them.
const MODE: Mode = Mode::from_bits_truncate(0o644);

/// A longer file tells more than who a box is.
const MAX_TEXT: usize = 4096;

/// Writes those that have a text, below the working directory, which is the box's root.
pub fn write(init: &Init) -> nix::Result<()> {
    let line =
        |text: &str| if text.is_empty() { vec![] } else { [text.as_bytes(), b"\n"].concat() };
    put(c"etc/hostname", &line(&init.hostname))?;
    put(c"etc/machine-id", &line(&init.machine_id))?;
    put(c"etc/hosts", init.hosts.as_bytes())?;
    put(c"etc/resolv.conf", init.resolv_conf.as_bytes())
}

/// Leaves placeholders in the files that are there, for a host to find on the disk.
pub fn hold_places() {
    for (number, path) in (0..).zip(placeholder::FILES) {
        // Where there is none, the file is written when the box is known.
        if let Err(e) = hold_place(number, path) {
            crate::console(&format!("{path}: no place is held: {}", e.desc()));
        }
    }
}

fn hold_place(number: u8, path: &str) -> nix::Result<()> {
    let flags = OFlag::O_RDWR | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = open(path, flags, Mode::empty())?;
    let meta = fstat(&file)?;
    let length = usize::try_from(meta.st_size).map_err(|_| Errno::EFBIG)?;
    if meta.st_mode != SFlag::S_IFREG.bits() | MODE.bits() || length > MAX_TEXT {
        return Err(Errno::EINVAL);
    }
    let text = placeholder::make(number, length).ok_or(Errno::EINVAL)?;
    let mut original = vec![0; length];
    read(&file, &mut original)?;
    lseek(&file, 0, Whence::SeekSet)?;
    write_all(&file, &text)?;
    fsync(&file)?;
    posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
    if !is_in_memory(&file) {
        return Ok(());
    }
    // Nobody would see what a host writes on the disk: there must be nothing to find.
    lseek(&file, 0, Whence::SeekSet)?;
    write_all(&file, &original)?;
    fsync(&file)?;
    Err(Errno::EBUSY)
}

/// Whether the file's text can be had without its disk.
fn is_in_memory(file: &OwnedFd) -> bool {
    let mut byte = [0u8; 1];
    let into = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    // SAFETY: one buffer of one byte, which outlives the call.
    let read = unsafe { libc::preadv2(file.as_raw_fd(), &into, 1, 0, libc::RWF_NOWAIT) };
    read >= 0 || Errno::last() != Errno::EAGAIN
}

/// What has the place of a file.
enum Present {
    Nothing,
    /// The file, as it should be; or a directory, which is left alone.
    Settled,
    /// A file that says something else.
    Other {
        file: OwnedFd,
        same_length: bool,
    },
    /// A link (it is not followed: what it points at may be somebody else's), a pipe, a device.
    NoFile,
}

/// Writes a file in place of whatever the image has there.
fn put(path: &CStr, text: &[u8]) -> nix::Result<()> {
    if text.is_empty() {
        return Ok(());
    }
    match look(path, text)? {
        Present::Settled => return Ok(()),
        Present::Other { file, same_length } => return rewrite(&file, text, same_length),
        Present::NoFile => unlink(path)?,
        Present::Nothing => {}
    }
    let create = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    let file = match open(path, create, MODE) {
        Err(Errno::ENOENT) => {
            mkdir(c"etc", Mode::from_bits_truncate(0o755))?;
            open(path, create, MODE)?
        }
        other => other?,
    };
    write_all(&file, text)
}

/// Where the length stays, no block is given back to be found again.
fn rewrite(file: &OwnedFd, text: &[u8], same_length: bool) -> nix::Result<()> {
    if !same_length {
        ftruncate(file, 0)?;
    }
    lseek(file, 0, Whence::SeekSet)?;
    write_all(file, text)?;
    if fstat(file)?.st_mode & 0o7777 == MODE.bits() { Ok(()) } else { fchmod(file, MODE) }
}

fn write_all(file: &OwnedFd, mut text: &[u8]) -> nix::Result<()> {
    while !text.is_empty() {
        text = &text[write_some(file, text)?..];
    }
    Ok(())
}

fn look(path: &CStr, text: &[u8]) -> nix::Result<Present> {
    let flags = OFlag::O_RDWR | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = match open(path, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::ENOENT) => return Ok(Present::Nothing),
        Err(Errno::EISDIR) => return Ok(Present::Settled),
        // A link, a socket, a device without a driver.
        Err(Errno::ELOOP | Errno::ENXIO | Errno::ENODEV) => return Ok(Present::NoFile),
        Err(e) => return Err(e),
    };
    let mut found = vec![0; text.len() + 1];
    let same_length = match read(&file, &mut found) {
        Ok(n) if found[..n] == *text => return Ok(Present::Settled),
        Ok(n) => n == text.len(),
        Err(_) => false,
    };
    let kind = SFlag::from_bits_truncate(fstat(&file)?.st_mode) & SFlag::S_IFMT;
    Ok(if kind == SFlag::S_IFREG { Present::Other { file, same_length } } else { Present::NoFile })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::path::{Path, PathBuf};

    /// A directory of one test, removed with it.
    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Directory {
            let path = std::env::temp_dir().join(format!("identity-{name}-{}", std::process::id()));
            fs::create_dir(&path).unwrap();
            Directory(path)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn put_at(path: &Path, text: &str) {
        put(&CString::new(path.as_os_str().as_bytes()).unwrap(), text.as_bytes()).unwrap();
    }

    fn assert_written(path: &Path, text: &str) {
        let meta = fs::symlink_metadata(path).unwrap();
        assert!(meta.is_file());
        assert_eq!(meta.permissions().mode() & 0o7777, 0o644);
        assert_eq!(fs::read_to_string(path).unwrap(), text);
    }

    #[test]
    fn a_file_is_made_and_replaced_whatever_its_length() {
        let directory = Directory::new("replace");
        let path = directory.0.join("file");
        for text in ["first\n", "a longer one\n", "short\n", "SHORT\n"] {
            put_at(&path, text);
            assert_written(&path, text);
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        put_at(&path, "other\n");
        assert_written(&path, "other\n");
    }

    #[test]
    fn what_is_right_already_is_not_touched() {
        let directory = Directory::new("same");
        let path = directory.0.join("file");
        fs::write(&path, "same\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        let before = fs::metadata(&path).unwrap();
        put_at(&path, "same\n");
        let after = fs::metadata(&path).unwrap();
        assert_eq!(after.permissions().mode() & 0o7777, 0o400);
        assert_eq!((before.ino(), before.ctime_nsec()), (after.ino(), after.ctime_nsec()));
        put_at(&path, "");
        assert_eq!(fs::read_to_string(&path).unwrap(), "same\n");
    }

    #[test]
    fn a_link_is_replaced_and_what_it_points_at_is_left_alone() {
        let directory = Directory::new("link");
        let (target, path) = (directory.0.join("target"), directory.0.join("file"));
        fs::write(&target, "somebody else's\n").unwrap();
        for pointing_at in [&target, &directory.0.join("nothing")] {
            symlink(pointing_at, &path).unwrap();
            put_at(&path, "ours\n");
            assert_written(&path, "ours\n");
            fs::remove_file(&path).unwrap();
        }
        assert_eq!(fs::read_to_string(&target).unwrap(), "somebody else's\n");
    }

    #[test]
    fn neither_pipe_nor_directory_stops_a_box() {
        let directory = Directory::new("kinds");
        let pipe = directory.0.join("pipe");
        nix::unistd::mkfifo(&pipe, Mode::S_IRUSR).unwrap();
        put_at(&pipe, "ours\n");
        assert_written(&pipe, "ours\n");
        put_at(&directory.0, "ours\n");
        assert!(directory.0.is_dir());
    }
}
