//! Disks of boxes as QEMU's tools see them.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{LazyLock, Mutex, PoisonError};

use sha2::{Digest, Sha256};

/// What a disk is found to be.
#[derive(Clone)]
pub struct Disk {
    /// What is wrong with it.
    pub fault: Option<String>,
    /// SHA-256 of what a guest reads on it, from its first byte to its last.
    pub content: String,
}

/// What was found once, by the bytes of all files that the disk consists of.
static KNOWN: LazyLock<Mutex<HashMap<String, Disk>>> = LazyLock::new(Mutex::default);

/// Looks at a disk that nobody writes to.
pub fn look(path: &Path) -> Disk {
    let files = match chain(path) {
        Ok(files) => files,
        Err(fault) => return Disk { fault: Some(fault), content: String::new() },
    };
    let known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner).get(&files).cloned();
    known.unwrap_or_else(|| {
        let disk = examine(path);
        KNOWN.lock().unwrap_or_else(PoisonError::into_inner).insert(files, disk.clone());
        disk
    })
}

/// What the files are that a disk consists of, from the upper end to the lower.
fn chain(path: &Path) -> Result<String, String> {
    let mut seen = String::new();
    let mut next = Some(path.to_owned());
    while let Some(path) = next {
        let mut start = [0; 4];
        let failed = |e| format!("{}: {e}", path.display());
        let file = fs::File::open(&path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let _ = std::os::unix::fs::FileExt::read_at(&file, &mut start, 0).map_err(failed)?;
        if start != *b"QFI\xfb" {
            // An image's disk, which is never written once it is there.
            seen += &format!("{} {length}\n", path.file_name().unwrap_or_default().display());
            break;
        }
        let mut bytes = fs::read(&path).map_err(failed)?;
        let name = backing(&bytes);
        next = name.clone().map(|at| path.parent().unwrap().join(OsStr::from_bytes(&bytes[at])));
        // What a file is called that it is on says nothing of what it holds.
        bytes[name.unwrap_or_default()].fill(0);
        seen += &format!("{}\n", hex(&Sha256::digest(&bytes)));
        if seen.len() > 1 << 16 {
            return Err(format!("{}: it is based on itself", path.display()));
        }
    }
    Ok(seen)
}

/// Where the name is of the file that a file of QEMU's is on (docs/interop/qcow2.txt: bytes 8 to 19).
fn backing(bytes: &[u8]) -> Option<Range<usize>> {
    let at = u64::from_be_bytes(bytes.get(8..16)?.try_into().ok()?);
    let length = u32::from_be_bytes(bytes.get(16..20)?.try_into().ok()?);
    let at = usize::try_from(at).ok().filter(|at| *at > 0)?;
    let name = at..at.checked_add(usize::try_from(length).ok()?)?;
    bytes.get(name.clone()).map(|_| name)
}

/// The file that a file of QEMU's is on, if it is one and there is that.
pub fn is_on(path: &Path) -> Option<PathBuf> {
    let bytes = fs::read(path).ok().filter(|bytes| bytes.starts_with(b"QFI\xfb"))?;
    let name = OsStr::from_bytes(&bytes[backing(&bytes)?]);
    path.parent()?.join(name).canonicalize().ok()
}

fn examine(path: &Path) -> Disk {
    // Processes with a path of ours on their command line are taken for the library's.
    let tool = |arguments: &[&str]| {
        let mut tool = Command::new("qemu-img");
        tool.current_dir(path.parent().unwrap()).args(arguments).arg(path.file_name().unwrap());
        tool
    };
    let check = tool(&["check", "-q", "-f", "qcow2"]).output().unwrap();
    if !check.status.success() {
        let fault = String::from_utf8_lossy(&check.stderr).into_owned();
        return Disk { fault: Some(fault), content: String::new() };
    }
    let plain = tempfile::NamedTempFile::with_prefix("boxlite-test-").unwrap();
    let convert =
        tool(&["convert", "-f", "qcow2", "-O", "raw"]).arg(plain.path()).output().unwrap();
    let fault = String::from_utf8_lossy(&convert.stderr).into_owned();
    let content = hex(&Sha256::digest(fs::read(plain.path()).unwrap()));
    Disk { fault: (!convert.status.success()).then_some(fault), content }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
