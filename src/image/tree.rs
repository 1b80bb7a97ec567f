//! The file tree of an image while its layers are applied: names, inodes, and the rules of OCI
//! layers.
//!
//! Whiteouts take away what lower layers brought and nothing of their own layer, wherever in
//! the layer they stand: so every name knows the layer that wrote it last. Paths are resolved
//! inside the tree, symbolic links included; nothing here can name a file of the host. No
//! function recurses: a hostile image may be a million directories deep.

use std::collections::BTreeMap;

use crate::disk::ext4::{
    Attributes, FileData, Kind, MAX_LINKS, MAX_NAME, Node, NodeId, Timestamp, Tree,
};
use crate::error::{Code, Error, Result};

/// More files than any image has; bounds memory (about 300 bytes each).
const MAX_NODES: usize = 8 << 20;
/// Symbolic links followed for one path, as in Linux.
const MAX_SYMLINKS: usize = 40;
/// Components walked for one path, those of symbolic links included.
const MAX_STEPS: usize = 100_000;
const ROOT: NodeId = 0;

/// Number of a layer, from 1; 0 is the empty root.
type LayerNumber = u32;

#[derive(Debug, Clone, Copy)]
struct Name {
    id: NodeId,
    /// The layer that wrote it last.
    layer: LayerNumber,
}

#[derive(Debug, Default)]
struct Directory {
    names: BTreeMap<Box<[u8]>, Name>,
    /// The layer since which nothing of a lower layer is in it.
    pure_since: LayerNumber,
}

#[derive(Debug)]
struct Slot {
    node: Node,
    directory: Option<Box<Directory>>,
}

/// The tree.
#[derive(Debug)]
pub struct ImageTree {
    slots: Vec<Option<Slot>>,
    unused: Vec<NodeId>,
    layer: LayerNumber,
    /// Contents of files that have no name any more.
    released: Vec<FileData>,
    /// The time of directories that no entry describes.
    implicit_time: Timestamp,
}

/// A place for a name: an existing directory and a name in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub directory: NodeId,
    pub name: Box<[u8]>,
}

/// What to do with components that are missing or in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    Create,
    Nothing,
}

impl ImageTree {
    /// An empty root directory.
    pub fn new() -> ImageTree {
        let mut tree = ImageTree {
            slots: Vec::new(),
            unused: Vec::new(),
            layer: 0,
            released: Vec::new(),
            implicit_time: Timestamp::default(),
        };
        let root = tree.implicit_directory();
        tree.slots.push(Some(root));
        tree
    }

    /// What is written from now on belongs to the next layer.
    pub fn begin_layer(&mut self) {
        self.layer += 1;
    }

    /// Sets the time that directories get which no entry describes.
    pub fn set_implicit_time(&mut self, time: Timestamp) {
        self.implicit_time = time;
    }

    /// Contents whose last name went since the last call.
    pub fn take_released(&mut self) -> Vec<FileData> {
        std::mem::take(&mut self.released)
    }

    /// Where `path` (cleaned) belongs; creates the directories before it.
    pub fn place(&mut self, path: &[&[u8]]) -> Result<Option<Place>> {
        self.locate(path, Missing::Create)
    }

    /// Where `path` (cleaned) is, if all directories before it exist.
    pub fn find(&mut self, path: &[&[u8]]) -> Result<Option<Place>> {
        self.locate(path, Missing::Nothing)
    }

    /// The directory `path`, if it exists; symbolic links are followed.
    pub fn find_directory(&mut self, path: &[&[u8]]) -> Result<Option<NodeId>> {
        self.walk(path, Missing::Nothing)
    }

    /// Describes the root directory.
    pub fn set_root(&mut self, attributes: Attributes) {
        self.set_attributes(ROOT, attributes);
    }

    /// Makes or describes a directory; whatever else has the name goes.
    pub fn put_directory(&mut self, place: &Place, attributes: Attributes) -> Result<()> {
        if let Some(existing) = self.name(place)
            && self.is_directory(existing.id)
        {
            self.set_attributes(existing.id, attributes);
            self.touch(place);
            return Ok(());
        }
        self.clear(place);
        let mut slot = self.implicit_directory();
        slot.node.attributes = attributes;
        let id = self.add(slot)?;
        self.insert(place, id);
        Ok(())
    }

    /// Puts a node that is not a directory; whatever had the name goes.
    pub fn put(&mut self, place: &Place, attributes: Attributes, kind: Kind) -> Result<()> {
        self.clear(place);
        let node = Node { attributes, kind, links: 1 };
        let id = self.add(Slot { node, directory: None })?;
        self.insert(place, id);
        Ok(())
    }

    /// Gives the node at `target` another name.
    pub fn link(&mut self, place: &Place, target: &Place) -> Result<()> {
        let Some(target) = self.name(target) else {
            return Err(refused("its target does not exist"));
        };
        if self.is_directory(target.id) {
            return Err(refused("its target is a directory"));
        }
        if self.name(place).is_some_and(|n| n.id == target.id) {
            self.touch(place);
            return Ok(());
        }
        let links = self.links_mut(target.id)?;
        if *links >= MAX_LINKS {
            return Err(refused("its target has too many names already"));
        }
        *links += 1;
        self.clear(place);
        self.insert(place, target.id);
        Ok(())
    }

    /// Takes whatever has the name away.
    pub fn clear(&mut self, place: &Place) {
        let removed = self.directory_mut(place.directory).and_then(|d| d.names.remove(&place.name));
        if let Some(name) = removed {
            self.drop_name(name.id);
        }
    }

    /// Takes away what lower layers have at `place`.
    pub fn whiteout(&mut self, place: &Place) {
        let Some(name) = self.name(place) else {
            return;
        };
        if self.is_directory(name.id) {
            self.make_opaque(name.id);
            self.remove_or_renew(place, name);
        } else if name.layer < self.layer {
            self.clear(place);
        }
    }

    /// Takes away what lower layers have in a directory, at any depth.
    pub fn make_opaque(&mut self, directory: NodeId) {
        // Parents before children; then their removal the other way round.
        let mut visited: Vec<(Place, Name)> = Vec::new();
        let mut pending = vec![directory];
        while let Some(id) = pending.pop() {
            let layer = self.layer;
            let Some(slot) = self.directory_mut(id) else {
                continue;
            };
            if slot.pure_since == layer {
                continue;
            }
            slot.pure_since = layer;
            let names: Vec<(Box<[u8]>, Name)> =
                slot.names.iter().map(|(n, v)| (n.clone(), *v)).collect();
            for (text, name) in names {
                let place = Place { directory: id, name: text };
                if self.is_directory(name.id) {
                    pending.push(name.id);
                    visited.push((place, name));
                } else if name.layer < layer {
                    self.clear(&place);
                }
            }
        }
        for (place, name) in visited.into_iter().rev() {
            self.remove_or_renew(&place, name);
        }
    }

    /// A directory of a lower layer that is whited out goes, unless this layer has put something
    /// into it: then it is a new directory.
    fn remove_or_renew(&mut self, place: &Place, name: Name) {
        if name.layer == self.layer {
            return;
        }
        if self.directory(name.id).is_none_or(|d| d.names.is_empty()) {
            self.clear(place);
            return;
        }
        let attributes = self.implicit_directory().node.attributes;
        self.set_attributes(name.id, attributes);
        self.touch(place);
    }

    fn locate(&mut self, path: &[&[u8]], missing: Missing) -> Result<Option<Place>> {
        let Some((name, parents)) = path.split_last() else {
            return Err(refused("it has no name"));
        };
        if name.len() > MAX_NAME {
            return Err(refused("a name in it is longer than 255 bytes"));
        }
        let directory = self.walk(parents, missing)?;
        Ok(directory.map(|directory| Place { directory, name: (*name).into() }))
    }

    /// Follows `path` from the root; symbolic links lead within the tree.
    fn walk(&mut self, path: &[&[u8]], missing: Missing) -> Result<Option<NodeId>> {
        let mut above: Vec<NodeId> = Vec::new();
        let mut at = ROOT;
        let mut todo: Vec<Box<[u8]>> = path.iter().rev().map(|c| (*c).into()).collect();
        let (mut links, mut steps) = (0, 0);
        while let Some(name) = todo.pop() {
            steps += 1;
            if steps > MAX_STEPS {
                return Err(refused("it has too many components"));
            }
            match &name[..] {
                b"" | b"." => continue,
                b".." => {
                    at = above.pop().unwrap_or(ROOT);
                    continue;
                }
                _ => {}
            }
            let place = Place { directory: at, name };
            let found = self.name(&place).map(|n| n.id);
            if let Some(Kind::Symlink(target)) = found.map(|id| self.kind(id)) {
                links += 1;
                if links > MAX_SYMLINKS {
                    return Err(refused("it leads through too many symbolic links"));
                }
                let parts: Vec<Box<[u8]>> =
                    target.split(|b| *b == b'/').rev().map(Into::into).collect();
                if target.starts_with(b"/") {
                    above.clear();
                    at = ROOT;
                }
                todo.extend(parts);
                continue;
            }
            let next = match found {
                Some(id) if self.is_directory(id) => id,
                _ if missing == Missing::Nothing => return Ok(None),
                // A layer that has files below a name has a directory there.
                _ => self.create_implicit(&place)?,
            };
            above.push(at);
            at = next;
        }
        Ok(Some(at))
    }

    fn create_implicit(&mut self, place: &Place) -> Result<NodeId> {
        if place.name.len() > MAX_NAME {
            return Err(refused("a name in it is longer than 255 bytes"));
        }
        self.clear(place);
        let slot = self.implicit_directory();
        let id = self.add(slot)?;
        self.insert(place, id);
        Ok(id)
    }

    fn implicit_directory(&self) -> Slot {
        Slot {
            node: Node {
                attributes: Attributes {
                    mode: 0o755,
                    mtime: self.implicit_time,
                    atime: self.implicit_time,
                    ctime: self.implicit_time,
                    ..Attributes::default()
                },
                kind: Kind::Directory,
                links: 1,
            },
            directory: Some(Box::new(Directory { names: BTreeMap::new(), pure_since: self.layer })),
        }
    }

    fn add(&mut self, slot: Slot) -> Result<NodeId> {
        if let Some(id) = self.unused.pop() {
            self.slots[id as usize] = Some(slot);
            return Ok(id);
        }
        if self.slots.len() >= MAX_NODES {
            let message = format!("the image has more than {MAX_NODES} files");
            return Err(Error::new(Code::ResourceExhausted, message));
        }
        self.slots.push(Some(slot));
        // At most MAX_NODES.
        Ok((self.slots.len() - 1) as NodeId)
    }

    fn insert(&mut self, place: &Place, id: NodeId) {
        let layer = self.layer;
        if let Some(directory) = self.directory_mut(place.directory) {
            directory.names.insert(place.name.clone(), Name { id, layer });
        }
    }

    /// Marks a name as written by this layer.
    fn touch(&mut self, place: &Place) {
        let layer = self.layer;
        if let Some(directory) = self.directory_mut(place.directory)
            && let Some(name) = directory.names.get_mut(&place.name)
        {
            name.layer = layer;
        }
    }

    /// One name of a node is gone; with the last one, the node and all below it.
    fn drop_name(&mut self, id: NodeId) {
        let mut pending = vec![id];
        while let Some(id) = pending.pop() {
            let Some(slot) = self.slots.get_mut(id as usize) else {
                continue;
            };
            match slot {
                Some(used) if used.node.links > 1 => {
                    used.node.links -= 1;
                    continue;
                }
                _ => {}
            }
            let Some(gone) = slot.take() else {
                continue;
            };
            self.unused.push(id);
            if let Kind::File(data) = gone.node.kind
                && !data.extents.is_empty()
            {
                self.released.push(data);
            }
            if let Some(directory) = gone.directory {
                pending.extend(directory.names.into_values().map(|n| n.id));
            }
        }
    }

    fn slot(&self, id: NodeId) -> Option<&Slot> {
        self.slots.get(id as usize)?.as_ref()
    }

    fn directory(&self, id: NodeId) -> Option<&Directory> {
        self.slot(id)?.directory.as_deref()
    }

    fn directory_mut(&mut self, id: NodeId) -> Option<&mut Directory> {
        let slot = self.slots.get_mut(id as usize)?.as_mut()?;
        slot.directory.as_deref_mut()
    }

    fn is_directory(&self, id: NodeId) -> bool {
        self.directory(id).is_some()
    }

    fn name(&self, place: &Place) -> Option<Name> {
        self.directory(place.directory)?.names.get(&place.name).copied()
    }

    fn kind(&self, id: NodeId) -> &Kind {
        &self.node(id).kind
    }

    fn links_mut(&mut self, id: NodeId) -> Result<&mut u32> {
        let slot = self.slots.get_mut(id as usize).and_then(Option::as_mut);
        let slot = slot.ok_or_else(|| Error::new(Code::Internal, "a name without a node"))?;
        Ok(&mut slot.node.links)
    }

    fn set_attributes(&mut self, id: NodeId, attributes: Attributes) {
        if let Some(Some(slot)) = self.slots.get_mut(id as usize) {
            slot.node.attributes = attributes;
        }
    }
}

impl Tree for ImageTree {
    fn root(&self) -> NodeId {
        ROOT
    }

    fn id_limit(&self) -> NodeId {
        // At most MAX_NODES.
        self.slots.len() as NodeId
    }

    fn node(&self, id: NodeId) -> &Node {
        match self.slot(id) {
            Some(slot) => &slot.node,
            // The ids come from this tree's own names, each of which has a node.
            None => unreachable!("a name without a node"),
        }
    }

    fn entries<'a>(&'a self, id: NodeId) -> Box<dyn Iterator<Item = (&'a [u8], NodeId)> + 'a> {
        let names = self.directory(id).into_iter().flat_map(|d| &d.names);
        Box::new(names.map(|(text, name)| (&text[..], name.id)))
    }
}

/// Cleans a path of an archive as container runtimes do: `.`, `..` and doubled slashes go, and
/// `..` does not lead above the root. `None`: it holds a NUL byte.
pub fn clean(path: &[u8]) -> Option<Vec<&[u8]>> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
            }
            part if part.contains(&0) => return None,
            part => parts.push(part),
        }
    }
    Some(parts)
}

fn refused(why: &str) -> Error {
    Error::new(Code::Image, why)
}

#[cfg(test)]
mod tests;
