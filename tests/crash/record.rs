//! What a program writes below a directory, in order, and what it makes durable: enough to tell what a
//! disk may hold whenever the power goes.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::calls::{self, Call, Change};
use crate::state::{self, ARCHIVE, State};
use crate::trace::{self, Raw, Watch};
use crate::victim::NAME;

/// A file or directory, by its place in [`Recording::nodes`].
pub type Node = usize;

/// The directory that is recorded.
pub const ROOT: Node = 0;

/// A name in a directory.
pub type Name = (Node, String);

pub enum Event {
    Write {
        node: Node,
        at: u64,
        bytes: Vec<u8>,
    },
    Zero {
        node: Node,
        at: u64,
        length: u64,
    },
    Extend {
        node: Node,
        length: u64,
    },
    SetLength {
        node: Node,
        length: u64,
    },
    /// Of everything that was done to the node in the events before that number.
    Sync {
        node: Node,
        upto: usize,
    },
    Enter {
        name: Name,
        node: Node,
    },
    Move {
        from: Name,
        to: Name,
        node: Node,
    },
    Leave {
        name: Name,
    },
    /// The program has said that something is done.
    Said,
}

/// What was there before, of a node.
pub enum Before {
    Nothing { is_directory: bool },
    Directory(Vec<(String, Node)>),
    File(PathBuf),
}

pub struct Recording {
    pub nodes: Vec<Before>,
    pub events: Vec<Event>,
    /// What there was to its user: at first, and each time that it said something.
    pub states: Vec<State>,
}

/// Runs a program that changes the copy `changed` of the directory `before`.
pub fn record(command: &mut Command, before: &Path, changed: &Path) -> Recording {
    let mut recorder = Recorder {
        root: changed.to_owned(),
        nodes: vec![],
        events: vec![],
        states: vec![],
        known: HashMap::new(),
        pending: HashMap::new(),
    };
    recorder.learn(before, changed);
    recorder.note_state();
    let status = trace::run(command, &mut recorder).unwrap();
    assert_eq!(status, 0, "the program that was recorded has failed");
    let Recorder { nodes, events, states, .. } = recorder;
    Recording { nodes, events, states }
}

struct Recorder {
    root: PathBuf,
    nodes: Vec<Before>,
    events: Vec<Event>,
    states: Vec<State>,
    /// Nodes by the inodes that they are now.
    known: HashMap<u64, Node>,
    /// What each thread is in the middle of, and how many events there were when it began.
    pending: HashMap<i32, (Call, usize)>,
}

impl Recorder {
    /// Learns what is in a directory, and where it stays as it is.
    fn learn(&mut self, before: &Path, changed: &Path) -> Node {
        let node = self.add(Before::Directory(vec![]), fs::metadata(changed).unwrap().ino());
        let mut names = vec![];
        for entry in fs::read_dir(changed).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let (kept, changed) = (before.join(&name), changed.join(&name));
            let about = fs::symlink_metadata(&changed).unwrap();
            let inner = match about.is_dir() {
                true => self.learn(&kept, &changed),
                false => self.add(Before::File(kept), about.ino()),
            };
            names.push((name, inner));
        }
        self.nodes[node] = Before::Directory(names);
        node
    }

    fn add(&mut self, before: Before, inode: u64) -> Node {
        self.nodes.push(before);
        self.known.insert(inode, self.nodes.len() - 1);
        self.nodes.len() - 1
    }

    fn node(&self, inode: u64) -> Node {
        *self.known.get(&inode).unwrap_or_else(|| panic!("inode {inode} came from nowhere"))
    }

    fn name(&self, path: &Path) -> Name {
        let directory = fs::metadata(path.parent().unwrap()).unwrap().ino();
        (self.node(directory), path.file_name().unwrap().to_str().unwrap().to_owned())
    }

    fn note_state(&mut self) {
        let mut state = state::of_home(&self.root.join("home"));
        if self.root.join("archives/box").exists() {
            let earlier = self.states.last().and_then(|state| state.get(ARCHIVE));
            let content = earlier.or_else(|| state.get(NAME)).unwrap().clone();
            state.insert(ARCHIVE.into(), content);
        }
        self.states.push(state);
    }

    fn event(&mut self, raw: &Raw, call: Call, began: usize, result: u64) -> Option<Event> {
        let path = &call.path;
        Some(match call.change {
            Change::Write { file, at, mut bytes } => {
                bytes.truncate(usize::try_from(result).unwrap());
                Event::Write { node: self.node(file), at, bytes }
            }
            Change::Copy { file, at, into } => {
                let mut bytes = vec![0; usize::try_from(result).unwrap()];
                File::open(into).unwrap().read_exact_at(&mut bytes, at).unwrap();
                Event::Write { node: self.node(file), at, bytes }
            }
            Change::Zero { file, at, length } => Event::Zero { node: self.node(file), at, length },
            Change::Extend { file, length } => Event::Extend { node: self.node(file), length },
            Change::SetLength { file, length } => {
                Event::SetLength { node: self.node(file), length }
            }
            Change::Sync { file } => Event::Sync { node: self.node(file), upto: began },
            Change::Create => {
                let about = fs::symlink_metadata(path).unwrap();
                let is_directory = about.is_dir();
                let node = self.add(Before::Nothing { is_directory }, about.ino());
                Event::Enter { name: self.name(path), node }
            }
            Change::CreateUnnamed => {
                let file = format!("/proc/{}/fd/{result}", raw.thread);
                let inode = fs::metadata(file).unwrap().ino();
                self.add(Before::Nothing { is_directory: false }, inode);
                return None;
            }
            Change::Link { file } => Event::Enter { name: self.name(path), node: self.node(file) },
            Change::Rename { to } => {
                let node = self.node(fs::symlink_metadata(&to).unwrap().ino());
                Event::Move { from: self.name(path), to: self.name(&to), node }
            }
            Change::Remove => Event::Leave { name: self.name(path) },
        })
    }
}

impl Watch for Recorder {
    fn enter(&mut self, raw: &Raw) -> Option<i32> {
        if calls::said(raw).is_some() {
            self.note_state();
            self.events.push(Event::Said);
        } else if let Some(call) = Call::of(raw, &self.root) {
            self.pending.insert(raw.thread, (call, self.events.len()));
        }
        None
    }

    fn leave(&mut self, raw: &Raw, result: i64) {
        let Some((call, began)) = self.pending.remove(&raw.thread) else { return };
        if let Ok(result) = u64::try_from(result)
            && let Some(event) = self.event(raw, call, began, result)
        {
            self.events.push(event);
        }
    }
}
