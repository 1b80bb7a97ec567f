//! What is behind a disk: its overlay, the file that this is on, and so on down to the last.
//!
//! Files name what they are on by a path relative to their own directory, so that a home may be moved
//! or copied as a whole. A path is somebody's claim, also where it was written by us once: a chain is
//! resolved here, all of it inside the home, and QEMU is told each file by its resolved path instead of
//! reading the claims itself.

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::overlay::{self, DiskFormat, OverlayInfo};
use crate::error::{Code, Error, Result};

/// The most files that a disk may consist of. QEMU opens each of them when a machine starts.
pub const MAX_LINKS: usize = 64;

/// One file of a chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Absolute, without symbolic links.
    pub path: PathBuf,
    pub format: DiskFormat,
}

/// The files that a disk consists of, the topmost first. There is at least one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    pub links: Vec<Link>,
    /// Bytes that the guest sees.
    pub virtual_size: u64,
}

impl Chain {
    /// Follows the claims from `top`, a qcow2 file, down. A file that is missing, is not in the directory
    /// `root`, or is in the chain already is an error that names it and who is on it.
    pub fn resolve(root: &Path, top: &Path) -> Result<Chain> {
        let mut chain = Chain { links: Vec::new(), virtual_size: 0 };
        let mut seen = HashSet::new();
        let mut next = Some((top.to_owned(), DiskFormat::Qcow2));
        while let Some((path, format)) = next.take() {
            let path = chain.locate(root, &path)?;
            let file = File::open(&path).map_err(|e| chain.failed("open", &path, &e))?;
            let meta = file.metadata().map_err(|e| chain.failed("examine", &path, &e))?;
            if !meta.is_file() {
                return Err(chain.refused(&path, "is no file"));
            }
            if !seen.insert((meta.dev(), meta.ino())) {
                return Err(chain.refused(&path, "is in its own backing chain"));
            }
            if chain.links.len() == MAX_LINKS {
                let text = format!("is more than {MAX_LINKS} files deep in a backing chain");
                return Err(chain.refused(&path, &text));
            }
            if format == DiskFormat::Qcow2 {
                let info = overlay::info_of(&file, &path)?;
                next = backing_of(&path, &info)?;
                if chain.links.is_empty() {
                    chain.virtual_size = info.virtual_size;
                }
            }
            chain.links.push(Link { path, format });
        }
        Ok(chain)
    }

    /// The file that is written to.
    pub fn top(&self) -> &Path {
        self.links.first().map_or(Path::new(""), |link| &link.path)
    }

    /// The file that the topmost is on.
    pub fn backing(&self) -> Option<&Link> {
        self.links.get(1)
    }

    /// The path of the chain's next file, made absolute, if it is in `root`.
    fn locate(&self, root: &Path, path: &Path) -> Result<PathBuf> {
        let resolved = path.canonicalize().map_err(|e| self.failed("open", path, &e))?;
        if !resolved.starts_with(root) {
            let text = format!("is outside of {}", root.display());
            return Err(self.refused(path, &text));
        }
        Ok(resolved)
    }

    fn failed(&self, what: &str, path: &Path, cause: &std::io::Error) -> Error {
        let text = format!("{what} {}{}", path.display(), self.on_it());
        Error::io(Code::Storage, text, cause).object(self.object(path))
    }

    fn refused(&self, path: &Path, why: &str) -> Error {
        let text = format!("{}{} {why}", path.display(), self.on_it());
        Error::new(Code::Storage, text).object(self.object(path))
    }

    fn object(&self, path: &Path) -> String {
        self.links.last().map_or(path, |link| &link.path).display().to_string()
    }

    fn on_it(&self) -> String {
        let above = self.links.last();
        above.map_or(String::new(), |link| format!(", which {} is based on,", link.path.display()))
    }
}

/// What an overlay at `path` is on, as it says: the claim, seen from the overlay's directory.
pub fn backing_of(path: &Path, info: &OverlayInfo) -> Result<Option<(PathBuf, DiskFormat)>> {
    let Some(named) = &info.backing_path else { return Ok(None) };
    let format = match info.backing_format.as_deref() {
        Some("raw") => DiskFormat::Raw,
        Some("qcow2") => DiskFormat::Qcow2,
        // Never by what is in it: a guest may have written that.
        None if named.extension().is_some_and(|e| e == "qcow2") => DiskFormat::Qcow2,
        None => DiskFormat::Raw,
        Some(other) => {
            let text = format!("{} is based on a file of format '{other}'", path.display());
            return Err(Error::new(Code::Unsupported, text).object(path.display().to_string()));
        }
    };
    let directory = path.parent().unwrap_or(Path::new("/"));
    Ok(Some((directory.join(named), format)))
}

/// The way from a directory to a file, both absolute and without `..`.
pub fn relative(directory: &Path, file: &Path) -> PathBuf {
    let common = directory.components().zip(file.components()).take_while(|(a, b)| a == b).count();
    let up = directory.components().skip(common).map(|_| Component::ParentDir);
    up.chain(file.components().skip(common)).collect()
}

/// How the overlay at `overlay` has to name `backing`, both absolute and without `..`.
pub fn named_from(overlay: &Path, backing: &Path) -> PathBuf {
    relative(overlay.parent().unwrap_or(Path::new("/")), backing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A home with an image's disk.
    fn home() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        for part in ["images", "boxes/a/disks", "boxes/a/snapshots/s"] {
            fs::create_dir_all(root.join(part)).unwrap();
        }
        fs::write(root.join("images/base.ext4"), [0; 512]).unwrap();
        (directory, root)
    }

    fn put(path: &Path, backing: &str, format: DiskFormat) {
        overlay::create(path, Path::new(backing), format, 1 << 30).unwrap();
    }

    #[test]
    fn a_chain_is_followed_to_its_end_and_moves_with_its_home() {
        let (directory, root) = home();
        let disk = root.join("boxes/a/disks/disk.qcow2");
        let snapshot = root.join("boxes/a/snapshots/s/disk.qcow2");
        let base = root.join("images/base.ext4");
        assert_eq!(named_from(&disk, &snapshot), Path::new("../snapshots/s/disk.qcow2"));
        put(&disk, "../snapshots/s/disk.qcow2", DiskFormat::Qcow2);
        put(&snapshot, "../../../../images/base.ext4", DiskFormat::Raw);
        assert_eq!(named_from(&snapshot, &base), Path::new("../../../../images/base.ext4"));
        let chain = Chain::resolve(&root, &disk).unwrap();
        let link = |path: &Path, format| Link { path: path.to_owned(), format };
        let wanted = [
            link(&disk, DiskFormat::Qcow2),
            link(&snapshot, DiskFormat::Qcow2),
            link(&base, DiskFormat::Raw),
        ];
        assert_eq!((&chain.links[..], chain.virtual_size), (&wanted[..], 1 << 30));
        let moved = directory.path().join("moved");
        fs::create_dir(&moved).unwrap();
        for part in ["images", "boxes"] {
            fs::rename(root.join(part), moved.join(part)).unwrap();
        }
        let moved = moved.canonicalize().unwrap();
        let chain = Chain::resolve(&moved, &moved.join("boxes/a/disks/disk.qcow2")).unwrap();
        assert!(chain.links.iter().all(|link| link.path.starts_with(&moved)));
    }

    #[test]
    fn what_is_not_in_the_home_is_refused() {
        let (_directory, root) = home();
        let outside = tempfile::NamedTempFile::new().unwrap();
        let disk = root.join("boxes/a/disks/disk.qcow2");
        let link = root.join("images/link.ext4");
        std::os::unix::fs::symlink(outside.path(), &link).unwrap();
        let way_out = format!("../../..{}/..{}", root.display(), outside.path().display());
        for named in [outside.path().to_str().unwrap(), link.to_str().unwrap(), &way_out] {
            put(&disk, named, DiskFormat::Raw);
            let error = Chain::resolve(&root, &disk).unwrap_err();
            assert_eq!(error.code(), Code::Storage, "{error}");
            fs::remove_file(&disk).unwrap();
        }
    }

    #[test]
    fn loops_gaps_and_depths_are_errors_that_name_the_file() {
        let (_directory, root) = home();
        let disk = root.join("boxes/a/disks/disk.qcow2");
        let other = root.join("boxes/a/disks/other.qcow2");
        put(&disk, "other.qcow2", DiskFormat::Qcow2);
        let text = Chain::resolve(&root, &disk).unwrap_err().to_string();
        assert!(text.contains("other.qcow2, which") && text.contains("No such file"), "{text}");
        put(&other, "disk.qcow2", DiskFormat::Qcow2);
        let text = Chain::resolve(&root, &disk).unwrap_err().to_string();
        assert!(text.contains("in its own backing chain"), "{text}");
        fs::write(&other, b"garbage").unwrap();
        let text = Chain::resolve(&root, &disk).unwrap_err().to_string();
        assert!(text.contains("other.qcow2"), "{text}");
        fs::remove_file(&other).unwrap();
        fs::create_dir(&other).unwrap();
        let text = Chain::resolve(&root, &disk).unwrap_err().to_string();
        assert!(text.contains("is no file"), "{text}");
        let name = |n: usize| format!("{n}.qcow2");
        for n in 0..MAX_LINKS {
            put(&root.join(name(n)), &name(n + 1), DiskFormat::Qcow2);
        }
        put(&root.join(name(MAX_LINKS)), "images/base.ext4", DiskFormat::Raw);
        let error = Chain::resolve(&root, &root.join(name(0))).unwrap_err();
        assert!(error.to_string().contains("64 files deep"), "{error}");
        Chain::resolve(&root, &root.join(name(2))).unwrap();
    }

    #[test]
    fn a_format_is_never_guessed_from_what_a_guest_may_have_written() {
        let info = |named: &str, format: Option<&str>| OverlayInfo {
            virtual_size: 1,
            backing_path: Some(named.into()),
            backing_format: format.map(str::to_owned),
        };
        let format = |info| backing_of(Path::new("/a/b"), &info).map(|found| found.unwrap().1);
        assert_eq!(format(info("x.ext4", None)).unwrap(), DiskFormat::Raw);
        assert_eq!(format(info("x.qcow2", None)).unwrap(), DiskFormat::Qcow2);
        assert_eq!(format(info("x.qcow2", Some("raw"))).unwrap(), DiskFormat::Raw);
        assert_eq!(format(info("x", Some("vmdk"))).unwrap_err().code(), Code::Unsupported);
    }
}
