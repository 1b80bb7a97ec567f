//! The disk of a machine that was killed: when it is nobody's any more, and what space was lost in it.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, fcntl};

use super::qcow2;
use crate::error::{Code, Error, Result};

/// How long a process that is dying may hold on to its files.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is looked whether it does. What would tell of its end is its process, of which only its
/// parent knows; that is gone.
const PAUSE: Duration = Duration::from_millis(2);

/// The bytes of an image that QEMU has locks on while it uses it, each for a permission that it has or
/// denies to others (its `block/file-posix.c`).
const LOCKED: std::ops::Range<i64> = 100..300;

/// Waits until no QEMU uses the disk's file any more; false if one still does after some seconds.
pub fn is_released(disk: &Path) -> Result<bool> {
    let file = open(disk, false)?;
    let began = Instant::now();
    while is_used(&file).map_err(|e| failed("look who uses", disk, &e))? {
        if began.elapsed() > PATIENCE {
            return Ok(false);
        }
        std::thread::sleep(PAUSE);
    }
    Ok(true)
}

/// Frees what QEMU had taken on the disk for data that it did not come to name, unless one uses it. The
/// caller sees to it that no machine is started on it.
///
/// Only in the topmost file: what that is on may be another box's too, whose machine merges into it.
pub fn reclaim(disk: &Path) -> Result<()> {
    let file = open(disk, true)?;
    if is_used(&file).map_err(|e| failed("look who uses", disk, &e))? {
        return Ok(());
    }
    qcow2::reclaim(&file, &disk.display().to_string()).map(drop)
}

fn open(path: &Path, write: bool) -> Result<File> {
    File::options().read(true).write(write).open(path).map_err(|e| failed("open", path, &e))
}

fn failed(what: &str, path: &Path, e: &io::Error) -> Error {
    Error::io(Code::Storage, format!("{what} {}", path.display()), e)
}

fn is_used(file: &File) -> io::Result<bool> {
    let mut lock = nix::libc::flock {
        l_type: nix::libc::F_WRLCK as nix::libc::c_short,
        l_whence: nix::libc::SEEK_SET as nix::libc::c_short,
        l_start: LOCKED.start,
        l_len: LOCKED.end - LOCKED.start,
        l_pid: 0,
    };
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock))?;
    Ok(lock.l_type != nix::libc::F_UNLCK as nix::libc::c_short)
}
