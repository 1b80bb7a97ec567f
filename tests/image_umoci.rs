//! The same image through `umoci unpack` and through this library gives the same files.

mod image_support;

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::process::Command;

use boxlite::image::Digest;
use image_support::disk::{self, Files};
use image_support::*;
use tar::EntryType;

/// What both sides must agree on.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    kind: &'static str,
    mode: u32,
    owner: (u32, u32),
    size: u64,
    mtime: (i64, u32),
    contents: String,
    device: Option<(u32, u32)>,
    xattrs: BTreeMap<String, Vec<u8>>,
    /// The first path of the same file.
    group: Vec<u8>,
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn host_files() -> Vec<u8> {
    let wanted = [
        "usr/share/zoneinfo",
        "usr/share/terminfo",
        "usr/share/perl",
        "usr/share/perl5",
        "usr/lib/python3",
        "usr/lib/x86_64-linux-gnu/perl-base",
        "lib/terminfo",
        "etc/alternatives",
        "etc/ssl/certs",
        "usr/sbin",
    ];
    let there = wanted.iter().filter(|p| Path::new("/").join(p).exists());
    let output = Command::new("tar")
        .args(["--format=pax", "--hard-dereference", "-cf", "-", "-C", "/"])
        .args(there)
        .output()
        .unwrap();
    assert!(output.status.success());
    output.stdout
}

/// Changes of the kind that a Dockerfile makes.
fn changes() -> Vec<u8> {
    let mut layer = Layer::new();
    let owned = With { uid: 1000, gid: 100, ..mode(0o2755) };
    layer
        .whiteout("usr/share/zoneinfo/Europe")
        .opaque("usr/share/perl5")
        .dir("usr/share/perl5")
        .file("usr/share/perl5/New.pm", b"package New;")
        .dir("srv")
        .add(b"srv/app", EntryType::Directory, b"", &owned)
        .add(b"srv/app/run", EntryType::Regular, b"#!/bin/sh\n", &mode(0o4755))
        .link("srv/app/again", "srv/app/run")
        .symlink("srv/app/out", "../../../etc/alternatives")
        .file("srv/app/one", b"1")
        .file("srv/app/\u{e9}\u{2603}", b"unicode");
    if is_root() {
        let null = With { device: (1, 3), ..mode(0o666) };
        let marked = mode(0o644).xattr("user.mark", b"a\nb").xattr("trusted.t", b"t");
        layer
            .add(b"srv/null", EntryType::Char, b"", &null)
            .add(b"srv/fifo", EntryType::Fifo, b"", &mode(0o600))
            .add(b"srv/marked", EntryType::Regular, b"m", &marked);
    }
    layer.finish()
}

fn more_changes() -> Vec<u8> {
    let mut layer = Layer::new();
    layer
        .whiteout("srv/app/one")
        .add(b"srv/app", EntryType::Directory, b"", &mode(0o711))
        .link("srv/app/third", "srv/app/again")
        .file("srv/app/run", b"replaced")
        .whiteout("etc/ssl");
    layer.finish()
}

#[test]
fn the_disk_has_what_umoci_unpacks() {
    let layers =
        [(host_files(), Pack::Gzip), (changes(), Pack::Plain), (more_changes(), Pack::Gzip)];
    let layout = Layout::of(&layers);
    let made = try_make(layout.path(), 1 << 30).unwrap();
    let mut ours = from_disk(&disk::read(&made.path));

    let bundle = made.dir.path().join("bundle");
    let image = format!("{}:t", layout.path());
    let mut unpack = Command::new("umoci");
    unpack.args(["unpack", "--image", &image]);
    if !is_root() {
        unpack.arg("--rootless");
    }
    let output = unpack.arg(&bundle).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "umoci: {text}");
    let mut theirs = from_directory(&bundle.join("rootfs"));

    // No layer says anything about the root, and only ext4 has this directory.
    ours.remove(&b"/lost+found"[..]);
    assert!(ours.len() > 500, "{} files", ours.len());
    assert_eq!(ours.len(), theirs.len());
    for (path, mine) in &mut ours {
        let shown = String::from_utf8_lossy(path);
        let other = theirs.get_mut(path).unwrap_or_else(|| panic!("{shown} is not in umoci's"));
        if implicit(path) {
            (mine.mtime, other.mtime) = ((0, 0), (0, 0));
        }
        if !is_root() {
            // umoci records owners in an attribute then.
            (mine.owner, other.owner) = ((0, 0), (0, 0));
            other.xattrs.remove("user.rootlesscontainers");
        }
        assert_eq!(mine, other, "{shown}");
    }
}

/// Directories that no entry describes, or whose time unpacking changes afterwards.
fn implicit(path: &[u8]) -> bool {
    let parents = ["/usr", "/usr/share", "/usr/lib", "/usr/lib/x86_64-linux-gnu", "/lib", "/etc"];
    let touched = ["/srv/app", "/usr/share/zoneinfo", "/srv"];
    parents.iter().chain(&touched).any(|p| p.as_bytes() == path)
}

fn from_disk(files: &Files) -> BTreeMap<Vec<u8>, Seen> {
    let mut groups: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
    let mut seen = BTreeMap::new();
    for (path, node) in files.iter().filter(|(p, _)| !p.is_empty()) {
        let group = groups.entry(node.inode).or_insert_with(|| path.clone());
        let kind = match node.kind.as_str() {
            "regular" => "file",
            "directory" => "directory",
            "symlink" => "symlink",
            "character" => "character",
            "FIFO" => "fifo",
            other => panic!("{other}"),
        };
        let is_directory = kind == "directory";
        seen.insert(
            path.clone(),
            Seen {
                kind,
                mode: node.mode,
                owner: (node.uid, node.gid),
                size: if is_directory { 0 } else { node.size },
                mtime: node.mtime,
                contents: Digest::of(&node.data).to_string(),
                device: node.device,
                xattrs: node.xattrs.clone(),
                group: group.clone(),
            },
        );
    }
    seen
}

fn from_directory(root: &Path) -> BTreeMap<Vec<u8>, Seen> {
    let mut paths = Vec::new();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                pending.push(entry.path());
            }
            paths.push(entry.path());
        }
    }
    paths.sort_by(|a, b| a.as_os_str().as_bytes().cmp(b.as_os_str().as_bytes()));
    let mut groups: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    let mut seen = BTreeMap::new();
    for path in paths {
        let key = &path.as_os_str().as_bytes()[root.as_os_str().len()..];
        let metadata = path.symlink_metadata().unwrap();
        let kind = metadata.file_type();
        let (kind, data) = if kind.is_file() {
            ("file", std::fs::read(&path).unwrap())
        } else if kind.is_dir() {
            ("directory", Vec::new())
        } else if kind.is_symlink() {
            let target = std::fs::read_link(&path).unwrap();
            ("symlink", target.as_os_str().as_bytes().to_vec())
        } else if kind.is_char_device() {
            ("character", Vec::new())
        } else {
            ("fifo", Vec::new())
        };
        let device = metadata.rdev();
        let device = (rustix::fs::major(device), rustix::fs::minor(device));
        let group = groups.entry(metadata.ino()).or_insert_with(|| key.to_vec());
        seen.insert(
            key.to_vec(),
            Seen {
                kind,
                mode: metadata.mode() & 0o7777,
                owner: (metadata.uid(), metadata.gid()),
                size: if kind == "directory" { 0 } else { metadata.len() },
                mtime: (metadata.mtime(), metadata.mtime_nsec() as u32),
                contents: Digest::of(&data).to_string(),
                device: (kind == "character").then_some(device),
                xattrs: xattrs(&path),
                group: group.clone(),
            },
        );
    }
    seen
}

fn xattrs(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut names = vec![0u8; 4096];
    let len = rustix::fs::llistxattr(path, &mut names[..]).unwrap();
    names.truncate(len);
    let mut found = BTreeMap::new();
    for name in names.split(|b| *b == 0).filter(|n| !n.is_empty()) {
        let name = String::from_utf8(name.to_vec()).unwrap();
        let mut value = vec![0u8; 4096];
        let len = rustix::fs::lgetxattr(path, &name, &mut value[..]).unwrap();
        value.truncate(len);
        found.insert(name, value);
    }
    found
}
