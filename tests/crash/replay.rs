//! What a disk may hold after the power has gone: of what was recorded, all that was made durable, and of
//! the rest as much as chance would have it.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::kill::Random;
use crate::record::{Before, Event, Name, Node, ROOT, Recording};
use crate::state;

/// What is kept of what was not made durable.
pub enum Keep {
    Nothing,
    Everything,
    /// Each page that was written, and each change of a name, or not.
    Some(Random),
}

/// Disks write pages: of a write that was under way any of them may be there.
const PAGE: usize = 4096;

pub struct Replay<'a> {
    recording: &'a Recording,
    /// For each event the one that makes it durable.
    durable: Vec<Option<usize>>,
}

impl<'a> Replay<'a> {
    pub fn new(recording: &'a Recording) -> Replay<'a> {
        let mut durable = vec![None; recording.events.len()];
        for (at, event) in recording.events.iter().enumerate() {
            let Event::Sync { node, upto } = event else { continue };
            for (earlier, durable) in recording.events[..*upto].iter().zip(&mut durable) {
                if durable.is_none() && is_made_durable(earlier, *node) {
                    *durable = Some(at);
                }
            }
        }
        Replay { recording, durable }
    }

    /// As if nothing had been made durable.
    pub fn without_syncs(recording: &'a Recording) -> Replay<'a> {
        Replay { recording, durable: vec![None; recording.events.len()] }
    }

    /// Makes a directory with what the recorded one may hold when the power goes before event `cut`.
    pub fn image(&self, cut: usize, mut keep: Keep, to: &Path) {
        let mut disk = Disk::new(self.recording);
        for (event, durable) in self.recording.events[..cut].iter().zip(&self.durable) {
            let is_durable = durable.is_some_and(|at| at < cut);
            match &mut keep {
                Keep::Some(random) if !is_durable => disk.apply_some(event, random),
                Keep::Nothing if !is_durable => {}
                _ => disk.apply(event),
            }
        }
        disk.write(ROOT, to);
    }
}

/// Whether a node's being made durable is an event's too.
fn is_made_durable(event: &Event, synced: Node) -> bool {
    match event {
        Event::Write { node, .. }
        | Event::Zero { node, .. }
        | Event::Extend { node, .. }
        | Event::SetLength { node, .. } => *node == synced,
        Event::Enter { name, .. } | Event::Leave { name } => name.0 == synced,
        // Never half: a name that is gone in one place is there in the other.
        Event::Move { from, to, .. } => from.0 == synced || to.0 == synced,
        Event::Sync { .. } | Event::Said => false,
    }
}

struct Disk<'a> {
    recording: &'a Recording,
    directories: HashMap<Node, BTreeMap<String, Node>>,
    /// What was changed.
    files: HashMap<Node, Content>,
}

impl<'a> Disk<'a> {
    fn new(recording: &'a Recording) -> Disk<'a> {
        let directories = recording.nodes.iter().enumerate().filter_map(|(node, before)| {
            let names = match before {
                Before::Directory(names) => names.iter().cloned().collect(),
                Before::Nothing { is_directory: true } => BTreeMap::new(),
                _ => return None,
            };
            Some((node, names))
        });
        Disk { recording, directories: directories.collect(), files: HashMap::new() }
    }

    fn file(&mut self, node: Node) -> &mut Content {
        let before = &self.recording.nodes[node];
        self.files.entry(node).or_insert_with(|| match before {
            Before::File(path) => Content::read(path),
            _ => Content::default(),
        })
    }

    fn directory(&mut self, node: Node) -> &mut BTreeMap<String, Node> {
        self.directories.get_mut(&node).expect("names are in directories")
    }

    fn apply(&mut self, event: &Event) {
        match event {
            Event::Write { node, at, bytes } => self.file(*node).write(*at, bytes),
            Event::Zero { node, at, length } => self.file(*node).zero(*at, *length),
            Event::Extend { node, length } => self.file(*node).extend(*length),
            Event::SetLength { node, length } => self.file(*node).set_length(*length),
            Event::Enter { name: (directory, name), node } => {
                self.directory(*directory).insert(name.clone(), *node);
            }
            Event::Move { from, to, node } => {
                self.leave(from, Some(*node));
                self.directory(to.0).insert(to.1.clone(), *node);
            }
            Event::Leave { name } => self.leave(name, None),
            Event::Sync { .. } | Event::Said => {}
        }
    }

    /// Takes a name away, if it is there, and that of the node if one is given.
    fn leave(&mut self, (directory, name): &Name, node: Option<Node>) {
        let names = self.directory(*directory);
        if names.get(name).is_some_and(|there| node.is_none_or(|node| node == *there)) {
            names.remove(name);
        }
    }

    fn apply_some(&mut self, event: &Event, random: &mut Random) {
        let Event::Write { node, at, bytes } = event else {
            if random.below(2) == 0 {
                self.apply(event);
            }
            return;
        };
        let first = PAGE - usize::try_from(*at).unwrap() % PAGE;
        let (head, rest) = bytes.split_at(first.min(bytes.len()));
        let mut at = *at;
        for page in [head].into_iter().chain(rest.chunks(PAGE)) {
            if random.below(2) == 0 {
                self.file(*node).write(at, page);
            }
            at += page.len() as u64;
        }
    }

    fn write(&self, directory: Node, to: &Path) {
        fs::create_dir(to).unwrap();
        for (name, node) in &self.directories[&directory] {
            let to = to.join(name);
            match &self.recording.nodes[*node] {
                _ if self.directories.contains_key(node) => self.write(*node, &to),
                _ if self.files.contains_key(node) => self.files[node].store(&to),
                Before::File(path) if state::is_shared(path) => fs::hard_link(path, to).unwrap(),
                Before::File(path) => fs::copy(path, to).map(drop).unwrap(),
                _ => drop(File::create(to).unwrap()),
            }
        }
    }
}

/// What a file holds: pages that are not zero.
#[derive(Default)]
struct Content {
    length: u64,
    pages: BTreeMap<u64, Box<[u8; PAGE]>>,
}

impl Content {
    fn read(path: &Path) -> Content {
        let mut content = Content::default();
        content.write(0, &fs::read(path).unwrap());
        content
    }

    fn write(&mut self, mut at: u64, mut bytes: &[u8]) {
        self.extend(at + bytes.len() as u64);
        while !bytes.is_empty() {
            let start = usize::try_from(at).unwrap() % PAGE;
            let (piece, rest) = bytes.split_at((PAGE - start).min(bytes.len()));
            let page = self.pages.entry(at / PAGE as u64).or_insert_with(|| Box::new([0; PAGE]));
            page[start..start + piece.len()].copy_from_slice(piece);
            at += piece.len() as u64;
            bytes = rest;
        }
    }

    fn zero(&mut self, at: u64, length: u64) {
        let end = (at + length).min(self.length);
        for (number, page) in self.pages.range_mut(at / PAGE as u64..=end / PAGE as u64) {
            let start = number * PAGE as u64;
            let within = |at: u64| usize::try_from(at.saturating_sub(start)).unwrap().min(PAGE);
            page[within(at)..within(end)].fill(0);
        }
    }

    fn extend(&mut self, length: u64) {
        self.length = self.length.max(length);
    }

    fn set_length(&mut self, length: u64) {
        if length < self.length {
            self.zero(length, self.length - length);
        }
        self.length = length;
    }

    fn store(&self, to: &Path) {
        let file = File::create(to).unwrap();
        file.set_len(self.length).unwrap();
        for (number, page) in &self.pages {
            let at = number * PAGE as u64;
            let length = usize::try_from(self.length.saturating_sub(at)).unwrap().min(PAGE);
            file.write_all_at(&page[..length], at).unwrap();
        }
    }
}
