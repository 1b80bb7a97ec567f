//! Reading beforehand what nearly every command of an image reads.
//!
//! A machine that is saved with its disk mounted keeps what it has read, and every box made from it
//! finds it in memory. None of it is needed: what an image has not, or has as something else than a
//! file, is left out.

use std::fs::{self, File};
use std::io::{self, Read};
use std::num::NonZeroUsize;
use std::path::Path;

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use crate::process::DEFAULT_PATH;

/// A shell, what loads programs, and what they load: of Debian and its kin, of Red Hat's, of Alpine.
const FILES: &[&str] = &[
    "/bin/sh",
    "/lib64/ld-linux-x86-64.so.2",
    "/lib/x86_64-linux-gnu/libc.so.6",
    "/lib64/libc.so.6",
    "/lib/ld-musl-x86_64.so.1",
    "/etc/ld.so.cache",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/group",
];

/// No shell and no library that all programs use is larger.
const MAX_FILE: u64 = 8 << 20;

/// More commands than this are not looked at; each takes a kilobyte of memory.
const MAX_NAMES: usize = 2048;

/// Reads them, and looks at the commands in the directories where they are looked for.
pub fn read_ahead() {
    for path in FILES {
        let _ = read(Path::new(path));
    }
    let directories = String::from_utf8_lossy(DEFAULT_PATH);
    let entries = directories.split(':').filter_map(|path| fs::read_dir(path).ok()).flatten();
    for entry in entries.flatten().take(MAX_NAMES) {
        let _ = fs::metadata(entry.path());
    }
}

/// Has the pages of the shell in an address space, as a process that runs it has.
pub fn map_shell() -> io::Result<()> {
    let Ok(file) = File::open(FILES[0]) else { return Ok(()) };
    let length = usize::try_from(file.metadata()?.len().min(MAX_FILE)).unwrap_or(0);
    let Some(length) = NonZeroUsize::new(length) else { return Ok(()) };
    let (access, kind) = (ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_PRIVATE);
    // SAFETY: a new mapping, at an address that the kernel chooses.
    let pages = unsafe { mmap(None, length, access, kind, &file, 0) }?;
    for at in (0..length.get()).step_by(4096) {
        // SAFETY: within the mapping, which nothing else refers to; nothing shortens the file, for
        // nothing but the agent runs.
        unsafe {
            let byte = pages.as_ptr().cast::<u8>().add(at);
            let value = byte.read_volatile();
            if at % (64 * 4096) == 0 {
                byte.write_volatile(value);
            }
        }
    }
    // SAFETY: mapped above.
    unsafe { munmap(pages, length.get()) }?;
    Ok(())
}

fn read(path: &Path) -> io::Result<()> {
    // A pipe would have us wait for ever.
    if fs::metadata(path)?.is_file() {
        io::copy(&mut File::open(path)?.take(MAX_FILE), &mut io::sink())?;
    }
    Ok(())
}
