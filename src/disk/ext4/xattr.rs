//! Extended attributes in ext4's on-disk form: in the inode's spare room, the rest in a block.

use super::bytes::{put16, put32};
use super::geometry::BLOCK;

const MAGIC: u32 = 0xea02_0000;
const ENTRY: usize = 16;
const BLOCK_HEADER: usize = 32;
/// Bytes behind the fixed part of an inode, with the magic number in front.
pub const IN_INODE: usize = 96;
/// POSIX ACL as programs see it (`system.posix_acl_*`), and as ext4 stores it.
const ACL_VERSION: u32 = 2;
const ACL_DISK_VERSION: u32 = 1;
const ACL_USER: u16 = 0x02;
const ACL_GROUP: u16 = 0x08;

/// An attribute with its name prefix as a number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Xattr {
    index: u8,
    name: Box<[u8]>,
    value: Box<[u8]>,
}

/// Why an attribute cannot be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    /// Linux knows no such name space (another system's attribute).
    Namespace,
    /// The value is not what this attribute must hold.
    Value,
    /// The name or value is too long.
    TooLong,
}

impl Xattr {
    /// The attribute `name` (with its prefix) as Linux programs know it.
    pub fn new(name: &[u8], value: &[u8]) -> Result<Xattr, Unfit> {
        let prefixes: [(&[u8], u8); 4] = [
            (b"user.", 1),
            (b"trusted.", 4),
            (b"security.", 6),
            (b"system.", 7),
        ];
        if value.len() > BLOCK {
            return Err(Unfit::TooLong);
        }
        let acl = match name {
            b"system.posix_acl_access" => Some(2),
            b"system.posix_acl_default" => Some(3),
            _ => None,
        };
        if let Some(index) = acl {
            let value = acl_to_disk(value).ok_or(Unfit::Value)?;
            return Ok(Xattr {
                index,
                name: Box::default(),
                value: value.into(),
            });
        }
        let split = prefixes
            .into_iter()
            .find_map(|(prefix, index)| Some((index, name.strip_prefix(prefix)?)));
        let (index, name) = split.ok_or(Unfit::Namespace)?;
        if name.is_empty() || name.contains(&0) {
            return Err(Unfit::Value);
        }
        if name.len() > 255 {
            return Err(Unfit::TooLong);
        }
        Ok(Xattr {
            index,
            name: name.into(),
            value: value.into(),
        })
    }

    /// Whether both have the same name.
    pub fn same_name(&self, other: &Xattr) -> bool {
        self.index == other.index && self.name == other.name
    }

    fn space(&self) -> usize {
        pad4(ENTRY + self.name.len()) + pad4(self.value.len())
    }

    /// As `ext4_xattr_hash_entry` in Linux.
    fn hash(&self) -> u32 {
        let name = self
            .name
            .iter()
            .fold(0u32, |hash, b| hash.rotate_left(5) ^ u32::from(*b));
        self.value.chunks(4).fold(name, |hash, bytes| {
            let mut word = [0u8; 4];
            word[..bytes.len()].copy_from_slice(bytes);
            hash.rotate_left(16) ^ u32::from_le_bytes(word)
        })
    }
}

/// Where the attributes of an inode go.
#[derive(Debug)]
pub struct Placement {
    /// For the inode, if any attribute is there.
    pub in_inode: Option<[u8; IN_INODE]>,
    /// The attribute block, if one is needed.
    pub block: Option<Box<[u8; BLOCK]>>,
}

/// Distributes `xattrs`; `None` when they do not fit.
pub fn place(xattrs: &[Xattr]) -> Option<Placement> {
    let mut sorted: Vec<&Xattr> = xattrs.iter().collect();
    // The order that the kernel searches blocks in.
    sorted.sort_by_key(|x| (x.index, x.name.len(), &x.name));
    let mut room = IN_INODE - 4 - 4;
    let (inner, outer): (Vec<&Xattr>, Vec<&Xattr>) = sorted.into_iter().partition(|x| {
        let fits = x.space() <= room;
        room -= if fits { x.space() } else { 0 };
        fits
    });
    let mut placement = Placement {
        in_inode: None,
        block: None,
    };
    if !inner.is_empty() {
        let mut area = [0u8; IN_INODE];
        put32(&mut area, 0, MAGIC);
        write_entries(&mut area[4..], 0, &inner);
        placement.in_inode = Some(area);
    }
    if !outer.is_empty() {
        let space: usize = outer.iter().map(|x| x.space()).sum();
        if BLOCK_HEADER + space + 4 > BLOCK {
            return None;
        }
        let mut block = Box::new([0u8; BLOCK]);
        put32(&mut block[..], 0, MAGIC);
        put32(&mut block[..], 4, 1); // references
        put32(&mut block[..], 8, 1); // blocks
        let hash = outer
            .iter()
            .fold(0u32, |hash, x| hash.rotate_left(16) ^ x.hash());
        put32(&mut block[..], 12, hash);
        write_entries(&mut block[..], BLOCK_HEADER, &outer);
        placement.block = Some(block);
    }
    Some(placement)
}

/// Whether `xattrs` fit into one inode and one block.
pub fn fit(xattrs: &[Xattr]) -> bool {
    place(xattrs).is_some()
}

/// Entries from `at` on, values from the end; offsets count from the start of `area`.
fn write_entries(area: &mut [u8], mut at: usize, xattrs: &[&Xattr]) {
    let mut end = area.len();
    for xattr in xattrs {
        let start = end - pad4(xattr.value.len());
        area[start..start + xattr.value.len()].copy_from_slice(&xattr.value);
        end = start;
        // Names are at most 255 bytes, offsets and lengths at most a block.
        area[at] = xattr.name.len() as u8;
        area[at + 1] = xattr.index;
        put16(
            area,
            at + 2,
            if xattr.value.is_empty() {
                0
            } else {
                start as u16
            },
        );
        put32(area, at + 8, xattr.value.len() as u32);
        put32(area, at + 12, xattr.hash());
        let name = at + ENTRY;
        area[name..name + xattr.name.len()].copy_from_slice(&xattr.name);
        at += pad4(ENTRY + xattr.name.len());
    }
}

fn pad4(len: usize) -> usize {
    len.next_multiple_of(4)
}

fn acl_to_disk(value: &[u8]) -> Option<Vec<u8>> {
    let (version, entries) = value.split_first_chunk::<4>()?;
    let (entries, rest) = entries.as_chunks::<8>();
    if u32::from_le_bytes(*version) != ACL_VERSION || !rest.is_empty() || entries.is_empty() {
        return None;
    }
    let mut disk = ACL_DISK_VERSION.to_le_bytes().to_vec();
    for entry in entries {
        let tag = u16::from_le_bytes([entry[0], entry[1]]);
        let named = tag == ACL_USER || tag == ACL_GROUP;
        // Owner 1, group 4, mask 0x10 and others 0x20 have no id.
        if !named && ![0x01, 0x04, 0x10, 0x20].contains(&tag) {
            return None;
        }
        disk.extend_from_slice(if named { &entry[..] } else { &entry[..4] });
    }
    Some(disk)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_attributes_live_in_the_inode_and_large_ones_in_a_block() {
        let small = Xattr::new(b"user.a", b"1").unwrap();
        let large = Xattr::new(b"user.b", &[7; 3000]).unwrap();
        let placed = place(std::slice::from_ref(&small)).unwrap();
        assert!(placed.in_inode.is_some() && placed.block.is_none());
        let placed = place(&[small, large.clone()]).unwrap();
        assert!(placed.in_inode.is_some() && placed.block.is_some());
        assert!(!fit(&[large, Xattr::new(b"user.c", &[7; 3000]).unwrap()]));
    }

    #[test]
    fn unknown_name_spaces_and_bad_acls_are_told_apart() {
        assert_eq!(Xattr::new(b"com.apple.x", b""), Err(Unfit::Namespace));
        assert_eq!(Xattr::new(b"user.", b""), Err(Unfit::Value));
        let acl = b"system.posix_acl_access";
        assert_eq!(Xattr::new(acl, b"\x02\0\0\0\x01"), Err(Unfit::Value));
        assert_eq!(Xattr::new(b"user.a", &[0; 5000]), Err(Unfit::TooLong));
    }

    #[test]
    fn an_acl_loses_the_ids_that_its_tags_do_not_have() {
        let value = [
            &[2u8, 0, 0, 0][..],
            &[1, 0, 6, 0, 255, 255, 255, 255],
            &[2, 0, 4, 0, 232, 3, 0, 0],
            &[32, 0, 0, 0, 255, 255, 255, 255],
        ]
        .concat();
        let disk = acl_to_disk(&value).unwrap();
        let want = [
            1, 0, 0, 0, 1, 0, 6, 0, 2, 0, 4, 0, 232, 3, 0, 0, 32, 0, 0, 0,
        ];
        assert_eq!(disk, want);
    }
}
