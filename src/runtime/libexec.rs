//! Where the library's helpers are: the supervisor, the guest kernel and the initramfs.
//!
//! They are looked for beside the library itself, never through PATH: a program that links the
//! library runs the helpers that were installed with it.

use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::error::{Code, Error, Result};

const SUPERVISOR: &str = "boxlite-shim";

/// The directory of the helpers: as given, else `$BOXLITE_LIBEXEC`, else beside the library.
pub fn find(given: Option<PathBuf>) -> Result<PathBuf> {
    let from_environment =
        || std::env::var_os("BOXLITE_LIBEXEC").filter(|v| !v.is_empty()).map(PathBuf::from);
    if let Some(directory) = given.or_else(from_environment) {
        if has_helpers(&directory) {
            return std::path::absolute(&directory)
                .map_err(|e| Error::io(Code::Config, directory.display(), &e));
        }
        return Err(missing(&[directory]));
    }
    let beside: Vec<PathBuf> = here().iter().flat_map(|file| candidates(file)).collect();
    match beside.iter().find(|d| has_helpers(d)) {
        Some(directory) => Ok(directory.clone()),
        None => Err(missing(&beside)),
    }
}

fn has_helpers(directory: &Path) -> bool {
    directory.join(SUPERVISOR).is_file()
}

/// From `lib/libboxlite.so` or `bin/program`: `../libexec/boxlite`; also for Debian's
/// `lib/x86_64-linux-gnu`, and for a build tree.
fn candidates(file: &Path) -> Vec<PathBuf> {
    let directories = file.ancestors().skip(1).take(3);
    directories.map(|d| d.join("libexec/boxlite")).collect()
}

fn missing(looked: &[PathBuf]) -> Error {
    let list: Vec<_> = looked.iter().map(|d| d.display().to_string()).collect();
    Error::new(
        Code::Config,
        format!(
            "the helper program {SUPERVISOR} was not found in {}: reinstall the library, or name \
             its directory in BOXLITE_LIBEXEC",
            list.join(", ")
        ),
    )
    .object(SUPERVISOR)
}

/// The file that this code was loaded from: the shared library, or the program it is linked into.
fn here() -> Option<PathBuf> {
    // SAFETY: an all-zero Dl_info is valid storage for dladdr to fill.
    let mut info: libc::Dl_info = unsafe { std::mem::zeroed() };
    let address = here as *const () as *const libc::c_void;
    // SAFETY: an address of our own code, and storage for the answer.
    if unsafe { libc::dladdr(address, &mut info) } == 0 || info.dli_fname.is_null() {
        // A program without a dynamic linker: we are in the program itself.
        return std::env::current_exe().ok();
    }
    // SAFETY: on success the name is a NUL-terminated string of the dynamic linker's.
    let name = unsafe { CStr::from_ptr(info.dli_fname) };
    let path = PathBuf::from(OsStr::from_bytes(name.to_bytes()));
    // The program's own name may be relative or found through PATH; the kernel knows better.
    if path.is_absolute() { path.canonicalize().ok() } else { std::env::current_exe().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn helpers_are_looked_for_beside_the_library() {
        let found = candidates(Path::new("/opt/x/lib/x86_64-linux-gnu/libboxlite.so.0"));
        assert!(found.contains(&PathBuf::from("/opt/x/libexec/boxlite")));
        let found = candidates(Path::new("/opt/x/lib/libboxlite.so.0"));
        assert!(found.contains(&PathBuf::from("/opt/x/libexec/boxlite")));
    }

    #[test]
    fn a_wrong_directory_is_named() {
        let error = find(Some("/nonexistent/dir".into())).unwrap_err();
        assert!(error.message().contains("/nonexistent/dir"), "{error}");
    }
}
