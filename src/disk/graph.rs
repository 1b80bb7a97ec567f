//! Which files of a home are on which: read from the files themselves, because rows can be wrong.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::overlay;
use crate::error::{Code, Error, Result};

/// The qcow2 files of a home, and what each is on. True only as long as nobody changes disks.
#[derive(Debug, Default)]
pub struct Graph {
    files: Vec<Node>,
}

#[derive(Debug)]
struct Node {
    path: PathBuf,
    /// Absolute. None if it is on nothing; nobody knows if it cannot be read.
    backing: Option<PathBuf>,
    unreadable: bool,
}

impl Graph {
    /// Looks at all disks in a home: those of boxes, their snapshots, and bases.
    pub fn read(root: &Path) -> Result<Graph> {
        let mut graph = Graph::default();
        for directory in entries(&root.join("boxes"))? {
            graph.add_all(&directory.join("disks"))?;
            for snapshot in entries(&directory.join("snapshots"))? {
                graph.add_all(&snapshot)?;
            }
        }
        graph.add_all(&root.join("bases"))?;
        Ok(graph)
    }

    fn add_all(&mut self, directory: &Path) -> Result<()> {
        let files = entries(directory)?;
        let qcow2 = files.into_iter().filter(|path| path.extension() == Some(OsStr::new("qcow2")));
        self.files.extend(qcow2.map(|path| {
            let said = overlay::info(&path);
            let unreadable = said.is_err();
            let named = said.ok().and_then(|info| info.backing_path);
            let backing = named.map(|named| {
                let backing = path.parent().unwrap_or(Path::new("/")).join(named);
                // One that is not there is on its way, or lost.
                backing.canonicalize().unwrap_or(backing)
            });
            Node { path, backing, unreadable }
        }));
        Ok(())
    }

    /// What a file is on, if that is known.
    pub fn backing(&self, path: &Path) -> Option<&Path> {
        self.files.iter().find(|node| node.path == path)?.backing.as_deref()
    }

    /// The files that are on this one. One that cannot be read may be on any of its own box's, and of
    /// those that all may share.
    pub fn dependents(&self, path: &Path) -> Vec<&Path> {
        let may_be = |node: &Node| {
            let shared = path.parent().is_some_and(|p| p.file_name() == Some(OsStr::new("bases")));
            node.unreadable && node.path != path && (shared || owner(&node.path) == owner(path))
        };
        let is_on = |node: &&Node| node.backing.as_deref() == Some(path) || may_be(node);
        self.files.iter().filter(is_on).map(|node| &*node.path).collect()
    }
}

impl Graph {
    /// Whether there are files outside of a directory of which nobody knows what they are on.
    pub fn is_unsure_of_others(&self, directory: &Path) -> bool {
        self.files.iter().any(|node| node.unreadable && !node.path.starts_with(directory))
    }

    /// The files of a box's directory that disks of others are on, directly or not; and those of `claimed`,
    /// with what they are on.
    pub fn needed_by_others(&self, directory: &Path, claimed: &[PathBuf]) -> Vec<PathBuf> {
        let of = |path: &Path| self.files.iter().find(|node| node.path == path);
        let mut needed: Vec<PathBuf> = Vec::new();
        let mut next: Vec<&Path> = Vec::new();
        let others = self.files.iter().filter(|node| !node.path.starts_with(directory));
        next.extend(others.filter_map(|node| node.backing.as_deref()));
        next.extend(claimed.iter().map(PathBuf::as_path));
        while let Some(path) = next.pop() {
            if path.starts_with(directory) && !needed.iter().any(|known| known == path) {
                needed.push(path.to_owned());
                next.extend(of(path).and_then(|node| node.backing.as_deref()));
            }
        }
        needed
    }
}

/// The directory in `boxes` that a file is in, or that of what is shared.
fn owner(path: &Path) -> Option<&OsStr> {
    let mut above = path
        .ancestors()
        .skip_while(|p| p.parent().and_then(Path::file_name) != Some(OsStr::new("boxes")));
    above.next().and_then(Path::file_name)
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    match std::fs::read_dir(directory) {
        Err(e)
            if matches!(
                e.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(Vec::new())
        }
        read => read
            .and_then(|entries| entries.map(|e| e.map(|e| e.path())).collect())
            .map_err(|e| Error::io(Code::Storage, format!("list {}", directory.display()), &e)),
    }
}
