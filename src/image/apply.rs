//! Applies the entries of one layer to the tree and the disk.

use super::tar::{Entry, EntryKind, Segment, Source, TarReader};
use super::tree::{ImageTree, Place, clean};
use crate::disk::ext4::{
    Attributes, Device, FileData, FileWriter, Kind, MAX_SYMLINK, Unfit, Volume, Xattr, xattrs_fit,
};
use crate::error::{Code, Error, Result};

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Other names with this prefix are the bookkeeping of AUFS.
const AUFS: &[u8] = b".wh..wh.";
/// Bits that ext4 has for device numbers.
const MAX_MAJOR: u32 = 1 << 12;
const MAX_MINOR: u32 = 1 << 20;

/// Applies layers.
pub struct Applier<'a> {
    pub tree: &'a mut ImageTree,
    pub volume: &'a mut Volume,
    /// Extended attributes that Linux has no name space for.
    pub skipped_xattrs: &'a mut u64,
}

impl Applier<'_> {
    /// Applies a whole layer. `pulse` is called for every piece of data; its error ends the work.
    pub fn apply<S: Source>(
        &mut self,
        reader: &mut TarReader<S>,
        pulse: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        self.tree.begin_layer();
        while let Some(entry) = reader.next_entry()? {
            pulse()?;
            self.entry(&entry, reader, pulse)
                .map_err(|e| e.context(format!("{:?}", String::from_utf8_lossy(&entry.path))))?;
            for data in self.tree.take_released() {
                self.volume.release(&data)?;
            }
        }
        Ok(())
    }

    fn entry<S: Source>(
        &mut self,
        entry: &Entry,
        reader: &mut TarReader<S>,
        pulse: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        let path = clean(&entry.path).ok_or_else(|| refused("its name has a NUL byte"))?;
        self.tree.set_implicit_time(entry.mtime);
        let Some((name, parents)) = path.split_last() else {
            if entry.kind != EntryKind::Directory {
                return Err(refused("the root can only be a directory"));
            }
            let attributes = self.attributes(entry)?;
            self.tree.set_root(attributes);
            return Ok(());
        };
        if *name == OPAQUE {
            if let Some(directory) = self.tree.find_directory(parents)? {
                self.tree.make_opaque(directory);
            }
            return Ok(());
        }
        if path.iter().any(|part| part.starts_with(AUFS)) {
            return Ok(());
        }
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            return self.whiteout(parents, hidden);
        }
        let Some(place) = self.tree.place(&path)? else {
            return Ok(());
        };
        self.put(entry, &place, reader, pulse)
    }

    fn whiteout(&mut self, parents: &[&[u8]], hidden: &[u8]) -> Result<()> {
        if hidden.is_empty() || hidden == b"." || hidden == b".." {
            return Err(refused("it is a whiteout of nothing"));
        }
        let mut path = parents.to_vec();
        path.push(hidden);
        if let Some(place) = self.tree.find(&path)? {
            self.tree.whiteout(&place);
        }
        Ok(())
    }

    fn put<S: Source>(
        &mut self,
        entry: &Entry,
        place: &Place,
        reader: &mut TarReader<S>,
        pulse: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        let kind = match entry.kind {
            EntryKind::HardLink => return self.hard_link(entry, place),
            EntryKind::Directory => {
                let attributes = self.attributes(entry)?;
                return self.tree.put_directory(place, attributes);
            }
            EntryKind::File => {
                // What is replaced goes first: its room may be needed.
                self.tree.clear(place);
                for data in self.tree.take_released() {
                    self.volume.release(&data)?;
                }
                Kind::File(self.contents(entry, reader, pulse)?)
            }
            EntryKind::Symlink => Kind::Symlink(symlink_target(&entry.link)?),
            EntryKind::Character => Kind::Character(device(entry)?),
            EntryKind::Block => Kind::Block(device(entry)?),
            EntryKind::Fifo => Kind::Fifo,
        };
        let attributes = self.attributes(entry)?;
        self.tree.put(place, attributes, kind)
    }

    fn hard_link(&mut self, entry: &Entry, place: &Place) -> Result<()> {
        let shown = String::from_utf8_lossy(&entry.link);
        let context = |e: Error| e.context(format!("hard link to {shown:?}"));
        let target = clean(&entry.link).filter(|t| !t.is_empty());
        let target = target.ok_or_else(|| context(refused("its target is not a file")))?;
        let target = self.tree.find(&target).map_err(context)?;
        let target = target.ok_or_else(|| context(refused("its target does not exist")))?;
        self.tree.link(place, &target).map_err(context)
    }

    fn contents<S: Source>(
        &mut self,
        entry: &Entry,
        reader: &mut TarReader<S>,
        pulse: &mut dyn FnMut() -> Result<()>,
    ) -> Result<FileData> {
        let whole = [Segment {
            offset: 0,
            len: entry.size,
        }];
        let segments = entry.segments.as_deref().unwrap_or(&whole);
        let mut writer = self.volume.file();
        let mut at = 0;
        for segment in segments {
            writer.skip(segment.offset - at)?;
            copy(segment.len, reader, &mut writer, pulse)?;
            at = segment.offset + segment.len;
        }
        writer.skip(entry.size - at)?;
        writer.finish()
    }

    fn attributes(&mut self, entry: &Entry) -> Result<Attributes> {
        let mut xattrs: Vec<Xattr> = Vec::with_capacity(entry.xattrs.len());
        for (name, value) in &entry.xattrs {
            match Xattr::new(name, value) {
                Ok(xattr) => xattrs.push(xattr),
                Err(Unfit::Namespace) => *self.skipped_xattrs += 1,
                Err(Unfit::Value) => return Err(xattr_refused(name, "has an invalid value")),
                Err(Unfit::TooLong) => return Err(xattr_refused(name, "is too long for ext4")),
            }
        }
        if !xattrs_fit(&xattrs) {
            return Err(refused("its extended attributes are too long for ext4"));
        }
        Ok(Attributes {
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            mtime: entry.mtime,
            atime: entry.atime.unwrap_or(entry.mtime),
            ctime: entry.ctime.unwrap_or(entry.mtime),
            xattrs: xattrs.into_boxed_slice(),
        })
    }
}

fn copy<S: Source>(
    len: u64,
    reader: &mut TarReader<S>,
    writer: &mut FileWriter<'_>,
    pulse: &mut dyn FnMut() -> Result<()>,
) -> Result<()> {
    let mut left = len;
    while left > 0 {
        let done = reader.with_data(left, |bytes| writer.write(bytes))?;
        if done == 0 {
            return Err(refused("its data ends too early"));
        }
        left -= done;
        pulse()?;
    }
    Ok(())
}

fn symlink_target(target: &[u8]) -> Result<Box<[u8]>> {
    if target.is_empty() || target.contains(&0) {
        return Err(refused(
            "a symbolic link must have a target without NUL bytes",
        ));
    }
    if target.len() > MAX_SYMLINK {
        return Err(refused("its target is longer than 4095 bytes"));
    }
    Ok(target.into())
}

fn device(entry: &Entry) -> Result<Device> {
    let Device { major, minor } = entry.device;
    if major >= MAX_MAJOR || minor >= MAX_MINOR {
        let message = format!("its device number {major}:{minor} is too large for ext4");
        return Err(refused(&message));
    }
    Ok(entry.device)
}

fn xattr_refused(name: &[u8], why: &str) -> Error {
    let shown = String::from_utf8_lossy(name);
    refused(&format!("its extended attribute {shown:?} {why}"))
}

fn refused(why: &str) -> Error {
    Error::new(Code::Image, why)
}
