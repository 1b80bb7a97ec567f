//! Reads an ext4 disk with `debugfs`, and checks it with `e2fsck`.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use boxlite::image::Digest;

/// One inode as debugfs tells of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Node {
    pub inode: u32,
    /// regular, directory, symlink, …
    pub kind: String,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    pub links: u32,
    /// Seconds and nanoseconds.
    pub mtime: (i64, u32),
    pub device: Option<(u32, u32)>,
    /// Contents of regular files, targets of symbolic links.
    pub data: Vec<u8>,
    pub xattrs: BTreeMap<String, Vec<u8>>,
    pub blocks: u64,
    pub flags: u32,
}

pub type Files = BTreeMap<Vec<u8>, Node>;

/// Fails unless `e2fsck -fn` finds nothing to say.
pub fn check(disk: &Path) {
    let output = tool("e2fsck").arg("-fn").arg(disk).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "e2fsck: {text}");
    assert!(!text.contains("WARNING") && !text.contains("Fix?"), "e2fsck: {text}");
}

fn tool(name: &str) -> Command {
    let mut command = Command::new(name);
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    command.env("TZ", "UTC").env("LC_ALL", "C").env("DEBUGFS_PAGER", "__none__");
    command
}

/// The output of debugfs for each of the commands.
pub fn debugfs(disk: &Path, commands: &[String]) -> Vec<Vec<u8>> {
    let mut script = tempfile::NamedTempFile::new().unwrap();
    for command in commands {
        writeln!(script, "{command}").unwrap();
    }
    let output = tool("debugfs")
        .arg("-f")
        .arg(script.path())
        .arg(disk)
        .stderr(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success());
    // Each command is echoed behind a prompt.
    let mut parts = Vec::new();
    let mut rest = &output.stdout[..];
    for command in commands {
        let marker = format!("debugfs: {command}\n").into_bytes();
        let at = find(rest, &marker).expect("the echo of a command");
        if !parts.is_empty() || at > 0 {
            parts.push(rest[..at].to_vec());
        } else {
            parts.push(Vec::new());
        }
        rest = &rest[at + marker.len()..];
    }
    parts.push(rest.to_vec());
    parts.remove(0);
    parts
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|w| w == part)
}

/// Everything on the disk by path; the root is the empty path.
pub fn read(disk: &Path) -> Files {
    let mut inodes: BTreeMap<Vec<u8>, u32> = BTreeMap::from([(Vec::new(), 2)]);
    let mut level = vec![(Vec::new(), 2u32)];
    while !level.is_empty() {
        let commands: Vec<String> = level.iter().map(|(_, i)| format!("ls -p <{i}>")).collect();
        let mut next = Vec::new();
        for ((path, _), text) in level.iter().zip(debugfs(disk, &commands)) {
            for (name, inode, mode) in list(&text) {
                let mut full = path.clone();
                full.push(b'/');
                full.extend_from_slice(&name);
                if mode & 0o170_000 == 0o040_000 {
                    next.push((full.clone(), inode));
                }
                inodes.insert(full, inode);
            }
        }
        level = next;
    }
    let mut by_inode: BTreeMap<u32, Node> =
        inodes.values().map(|i| (*i, Node::default())).collect();
    let commands: Vec<String> = by_inode.keys().map(|i| format!("stat <{i}>")).collect();
    for ((inode, node), text) in by_inode.iter_mut().zip(debugfs(disk, &commands)) {
        *node = stat(*inode, &text);
    }
    read_data(disk, &mut by_inode);
    inodes.into_iter().map(|(path, i)| (path, by_inode[&i].clone())).collect()
}

/// Lines of the form `/inode/mode/uid/gid/name/size/`.
fn list(text: &[u8]) -> Vec<(Vec<u8>, u32, u32)> {
    let mut found = Vec::new();
    for line in text.split(|b| *b == b'\n').filter(|l| l.starts_with(b"/")) {
        let parts: Vec<&[u8]> = line.split(|b| *b == b'/').collect();
        let number =
            |i: usize, radix| u32::from_str_radix(str::from_utf8(parts[i]).unwrap(), radix);
        let name = parts[5].to_vec();
        if name != b"." && name != b".." && !name.is_empty() {
            found.push((name, number(1, 10).unwrap(), number(2, 8).unwrap()));
        }
    }
    found
}

fn stat(inode: u32, text: &[u8]) -> Node {
    let text = String::from_utf8_lossy(text);
    let after = |key: &str| -> Option<String> {
        let rest = text.split_once(key)?.1.trim_start();
        Some(rest.split_whitespace().next()?.to_owned())
    };
    let number = |key: &str| after(key).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
    let mtime = after("mtime: 0x").unwrap();
    let (seconds, extra) = mtime.split_once(':').unwrap();
    let low = u32::from_str_radix(seconds, 16).unwrap() as i32;
    let extra = u32::from_str_radix(extra, 16).unwrap();
    let device = text.split_once("major/minor number: ").map(|(_, rest)| {
        let pair = rest.split_whitespace().next().unwrap();
        let (major, minor) = pair.split_once(':').unwrap();
        (major.parse().unwrap(), minor.parse().unwrap())
    });
    let names = text.split_once("Extended attributes:\n").map_or("", |(_, rest)| rest);
    let names = names.lines().take_while(|l| l.starts_with("  "));
    let xattrs = names
        .filter_map(|l| Some((l.trim_start().split_once(" (")?.0.to_owned(), Vec::new())))
        .collect();
    Node {
        inode,
        kind: after("Type: ").unwrap(),
        mode: u32::from_str_radix(&after("Mode: ").unwrap(), 8).unwrap(),
        // debugfs shows the highest ones as negative.
        uid: after("User: ").unwrap().parse::<i64>().unwrap() as u32,
        gid: after("Group: ").unwrap().parse::<i64>().unwrap() as u32,
        size: number("Size: "),
        links: number("Links: ") as u32,
        mtime: (i64::from(low) + (i64::from(extra & 3) << 32), extra >> 2),
        device,
        data: Vec::new(),
        xattrs,
        blocks: number("Blockcount: "),
        flags: u32::from_str_radix(after("Flags: 0x").unwrap().as_str(), 16).unwrap(),
    }
}

fn read_data(disk: &Path, nodes: &mut BTreeMap<u32, Node>) {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    let mut commands = Vec::new();
    for (inode, node) in nodes.iter() {
        if matches!(node.kind.as_str(), "regular" | "symlink") {
            let kept = node.size < 64 << 20;
            if kept {
                commands.push(format!("dump <{inode}> {}", file(&inode.to_string()).display()));
            }
        }
        for (i, name) in node.xattrs.keys().enumerate() {
            let to = file(&format!("{inode}.{i}"));
            commands.push(format!("ea_get -f {} <{inode}> {name}", to.display()));
        }
    }
    debugfs(disk, &commands);
    for (inode, node) in nodes.iter_mut() {
        node.data = std::fs::read(file(&inode.to_string())).unwrap_or_default();
        for (i, value) in node.xattrs.values_mut().enumerate() {
            *value = std::fs::read(file(&format!("{inode}.{i}"))).unwrap();
        }
    }
    let fast: Vec<u32> =
        nodes.iter().filter(|(_, n)| n.kind == "symlink" && n.size < 60).map(|(i, _)| *i).collect();
    let commands: Vec<String> = fast.iter().map(|i| format!("stat <{i}>")).collect();
    for (inode, text) in fast.iter().zip(debugfs(disk, &commands)) {
        let marker = b"Fast link dest: \"";
        if let (Some(at), Some(node)) = (find(&text, marker), nodes.get_mut(inode)) {
            let rest = &text[at + marker.len()..];
            node.data = rest[..node.size as usize].to_vec();
        }
    }
}

/// SHA-256 of a node's data.
pub fn sha256(node: &Node) -> String {
    Digest::of(&node.data).to_string()
}
