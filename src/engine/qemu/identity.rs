//! What findings about a host, and machines prepared on it, are good for.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Changes whenever the host boots.
pub fn host_boot() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// Changes whenever the program or image does.
pub fn of_file(path: &Path) -> io::Result<String> {
    let path = path.canonicalize()?;
    let meta = path.metadata()?;
    Ok(format!(
        "{} {}:{} {} {}.{}",
        path.display(),
        meta.dev(),
        meta.ino(),
        meta.len(),
        meta.mtime(),
        meta.mtime_nsec()
    ))
}
