//! Headers, tables and reference counts that are changed by hand, field by field.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::*;
use crate::disk::overlay::{self, DiskFormat};

const CLUSTER: u64 = 65_536;
/// Where our own stream of a disk of five clusters has its tables: the header, the table of
/// reference count blocks, the one block, and then these.
const REFCOUNTS: u64 = 2 * CLUSTER;
const L1: u64 = 3 * CLUSTER;
const L2: u64 = 4 * CLUSTER;
const DATA: u64 = 5 * CLUSTER;
const COPIED: u64 = 1 << 63;

/// A file with a disk of five clusters that are all there.
fn five_clusters() -> File {
    let raw = tempfile::tempfile().unwrap();
    raw.write_all_at(&vec![7; 5 * CLUSTER as usize], 0).unwrap();
    let layer = Layer { file: raw, format: DiskFormat::Raw, name: "raw".to_owned() };
    let mut stream = Stream::new(Reader::open(vec![layer]).unwrap(), None).unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes.len() as u64, stream.len());
    assert_eq!(bytes.len() as u64, DATA + 5 * CLUSTER);
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(&bytes, 0).unwrap();
    file
}

fn put(file: &File, at: u64, value: u64) {
    file.write_all_at(&value.to_be_bytes(), at).unwrap();
}

fn put32(file: &File, at: u64, value: u32) {
    file.write_all_at(&value.to_be_bytes(), at).unwrap();
}

fn map_of(file: &File) -> Result<Map> {
    Map::read(file, &Header::read(file, "a disk")?, "a disk")
}

#[test]
fn what_is_not_read_is_named_and_why() {
    type Change = fn(&File);
    let refused: &[(Change, Code, &str)] = &[
        (|f| put32(f, 0, 7), Code::Storage, "magic"),
        (|f| put32(f, 4, 1), Code::Unsupported, "version is 1"),
        (|f| put32(f, 4, 4), Code::Unsupported, "version is 4"),
        (|f| put(f, 8, u64::MAX), Code::Storage, "backing file's name"),
        (|f| put(f, 8, (104 << 32) | 0xffff_ffff), Code::Storage, "backing file's name"),
        (|f| put32(f, 20, 8), Code::Storage, "cluster bits is 8"),
        (|f| put32(f, 20, 22), Code::Storage, "cluster bits is 22"),
        (|f| put(f, 24, 0), Code::Unsupported, "virtual size is 0"),
        (|f| put(f, 24, 513), Code::Unsupported, "virtual size is 513"),
        (|f| put(f, 24, (64 << 40) + 512), Code::Unsupported, "virtual size"),
        (|f| put(f, 24, 1 << 30), Code::Storage, "first-level entries is 1, of which"),
        (|f| put32(f, 32, 2), Code::Unsupported, "encrypted (method 2)"),
        (|f| put32(f, 36, 0), Code::Storage, "first-level entries is 0"),
        (|f| put32(f, 36, (4 << 20) + 1), Code::Storage, "first-level entries is 4194305"),
        (|f| put32(f, 36, 4 << 20), Code::Storage, "first-level table is at 0x30000"),
        (|f| put(f, 40, L1 + 512), Code::Storage, "first-level table is 0x30200"),
        (|f| put(f, 40, 0), Code::Storage, "first-level table is 0x0"),
        (|f| put(f, 40, 1 << 40), Code::Storage, "first-level table is at"),
        (|f| put(f, 48, 1 << 62), Code::Storage, "reference count table is at"),
        (|f| put32(f, 56, 0), Code::Storage, "reference count table is 0 clusters"),
        (|f| put32(f, 56, 129), Code::Storage, "reference count table is 129 clusters"),
        (|f| put32(f, 60, 3), Code::Unsupported, "3 internal snapshots"),
        (|f| put(f, 64, 512), Code::Storage, "snapshot table"),
        (|f| put(f, 72, 1 << 1), Code::Storage, "corrupt"),
        (|f| put(f, 72, 1 << 2), Code::Unsupported, "another file"),
        (|f| put(f, 72, 1 << 3), Code::Storage, "compression type is 0"),
        (|f| put(f, 72, 1 << 4), Code::Unsupported, "extended"),
        (|f| put(f, 72, 1 << 63), Code::Unsupported, "0x8000000000000000"),
        (|f| put32(f, 96, 7), Code::Storage, "order of reference counts is 7"),
        (|f| put32(f, 100, 100), Code::Storage, "header's length is 100"),
        (|f| put32(f, 100, 65_544), Code::Storage, "header's length is 65544"),
        (|f| put(f, 104, (0x1234 << 32) | 70_000), Code::Storage, "extension 0x1234"),
        (|f| put(f, 104, (0xe279_2aca << 32) | 16), Code::Storage, "backing file's format"),
        (|f| put(f, 104, (0x0537_be77 << 32) | 16), Code::Unsupported, "encryption"),
        (|f| f.set_len(103).unwrap(), Code::Storage, "length is 103"),
        (|f| f.set_len(0).unwrap(), Code::Storage, "magic"),
    ];
    for (change, code, text) in refused {
        let file = five_clusters();
        change(&file);
        let error = Header::read(&file, "/a/disk").unwrap_err();
        assert_eq!(error.code(), *code, "{error}");
        assert!(error.to_string().starts_with("/a/disk: "), "{error}");
        assert!(error.to_string().contains(text), "{error} has no {text:?}");
    }
}

#[test]
fn what_the_format_lets_be_ignored_is_ignored() {
    let file = five_clusters();
    put(&file, 72, 1); // dirty
    put(&file, 80, u64::MAX); // compatible features
    put(&file, 88, !0b11); // autoclear features
    put(&file, 104, 0x1234_5678_0000_0003);
    let header = Header::read(&file, "a disk").unwrap();
    assert!(header.is_dirty() && !header.has_bitmaps && header.backing_path.is_none());
    let report = check(&file, "a disk").unwrap();
    assert_eq!(report, Report { used: 10, dirty: true, ..Report::default() });
    // Bitmaps have clusters of which no map tells.
    put(&file, 104, 0x2385_2875_0000_0000);
    put(&file, 88, 1);
    assert!(Header::read(&file, "a disk").unwrap().has_bitmaps);
    assert_eq!(check(&file, "a disk").unwrap_err().code(), Code::Unsupported);
    map_of(&file).unwrap();
}

#[test]
fn entries_that_cannot_be_are_refused() {
    let refused: &[(u64, u64, &str)] = &[
        (L1, L2 | COPIED | 1, "first-level table is 0x8000000000040001"),
        (L1, L2 | COPIED | 1 << 60, "first-level"),
        (L1, (L2 + 512) | COPIED, "first-level"),
        (L1, COPIED, "first-level"),
        (L1, 1 << 40 | COPIED, "second-level table is at"),
        (L1, L1 | COPIED, "the cluster at 0x30000 is used for two things"),
        (L1, CLUSTER | COPIED, "the cluster at 0x10000 is used"),
        (L2, DATA | COPIED | 1 << 1, "second-level table is 0x8000000000050002"),
        (L2, DATA | COPIED | 1 << 61, "second-level"),
        (L2, COPIED, "second-level"),
        (L2, COPIED | 1, "second-level"),
        (L2, 1 << 50 | COPIED, "a cluster is at 0x4000000000000 with 65536 bytes"),
        (L2, (DATA + CLUSTER) | COPIED, "the cluster at 0x60000 is used"),
        (L2, L2 | COPIED, "the cluster at 0x40000 is used"),
        (L2, REFCOUNTS | 1, "the cluster at 0x20000 is used"),
        // Compressed: copied, in the header, behind the end, over data.
        (L2, COPIED | 1 << 62 | DATA, "second-level"),
        (L2, 1 << 62 | 512, "second-level"),
        (L2, 1 << 62 | 1 << 40, "compressed cluster is at"),
        (L2, 1 << 62 | (DATA + CLUSTER + 3), "the cluster at 0x60000 is used"),
        (CLUSTER, REFCOUNTS | 1, "reference count table is"),
        (CLUSTER, 1 << 60, "block of reference counts is at"),
        (CLUSTER + 8, REFCOUNTS, "the cluster at 0x20000 is used"),
    ];
    for (at, value, text) in refused {
        let file = five_clusters();
        put(&file, *at, *value);
        let error = map_of(&file).unwrap_err();
        assert_eq!((error.code(), error.failing_object()), (Code::Storage, Some("a disk")));
        assert!(error.message().contains(text), "{error} has no {text:?}");
        assert_eq!(check(&file, "a disk").unwrap_err().message(), error.message());
    }
    // Version 2 has no flag for zeros.
    let file = five_clusters();
    put(&file, L2, 1);
    let zero = Extent { guest: 0, length: CLUSTER, kind: ExtentKind::Zero };
    assert_eq!(map_of(&file).unwrap().extents()[0], zero);
    put32(&file, 4, 2);
    put(&file, 72, 0);
    assert_eq!(map_of(&file).unwrap_err().code(), Code::Storage);
}

#[test]
fn wrong_reference_counts_are_told_apart() {
    let sound = Report { used: 10, ..Report::default() };
    let count = |file: &File, cluster: u64, count: u16| {
        file.write_all_at(&count.to_be_bytes(), REFCOUNTS + 2 * cluster).unwrap();
    };
    let file = five_clusters();
    assert_eq!(check(&file, "a disk").unwrap(), sound);
    count(&file, 6, 0);
    let report = check(&file, "a disk").unwrap();
    assert_eq!(report, Report { uncounted: 1, misflagged: 1, ..sound.clone() });
    count(&file, 6, 2);
    let report = check(&file, "a disk").unwrap();
    assert_eq!(report, Report { leaked: 1, misflagged: 1, ..sound.clone() });
    // As a file is that once had a snapshot.
    put(&file, L2 + 8, DATA + CLUSTER);
    let report = check(&file, "a disk").unwrap();
    assert_eq!(report, Report { leaked: 1, ..sound.clone() });
    assert!(report.is_sound());
    count(&file, 6, 1);
    let report = check(&file, "a disk").unwrap();
    assert_eq!(report, Report { misflagged: 1, ..sound.clone() });
    // Unmapped, and still counted.
    put(&file, L2 + 8, 0);
    assert_eq!(check(&file, "a disk").unwrap(), Report { used: 9, leaked: 1, ..sound });
    // Without any block, nothing is counted; the block itself is free then.
    put(&file, CLUSTER, 0);
    let report = check(&file, "a disk").unwrap();
    assert_eq!((report.used, report.uncounted, report.leaked), (8, 8, 0));
}

#[test]
fn reference_counts_of_every_width_are_read() {
    for order in 0..7u32 {
        let file = five_clusters();
        put32(&file, 96, order);
        let mut block = vec![0u8; CLUSTER as usize];
        for cluster in 0..10usize {
            let bit = cluster << order;
            match order {
                0..3 => block[bit / 8] |= 1 << (bit % 8),
                _ => block[(bit + (1 << order)) / 8 - 1] = 1,
            }
        }
        file.write_all_at(&block, REFCOUNTS).unwrap();
        let report = check(&file, "a disk").unwrap();
        assert_eq!(report, Report { used: 10, ..Report::default() }, "order {order}");
    }
}

#[test]
fn tables_of_a_huge_sparse_file_are_not_all_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("huge.qcow2");
    overlay::create(&path, Path::new("/base"), DiskFormat::Raw, 64 << 40).unwrap();
    let file = File::options().read(true).write(true).open(&path).unwrap();
    let entries = (64u64 << 40) / (CLUSTER / 8 * CLUSTER);
    let first = file.metadata().unwrap().len();
    let table: Vec<u8> =
        (0..entries).flat_map(|i| ((first + i * CLUSTER) | COPIED).to_be_bytes()).collect();
    file.write_all_at(&table, 3 * CLUSTER).unwrap();
    file.set_len(first + entries * CLUSTER).unwrap();
    let error = map_of(&file).unwrap_err();
    assert_eq!(error.code(), Code::Unsupported);
    assert!(error.to_string().contains("131072 second-level tables"), "{error}");
}

#[test]
fn a_file_in_too_many_pieces_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("scattered.qcow2");
    overlay::create(&path, Path::new("/base"), DiskFormat::Raw, 1 << 40).unwrap();
    let file = File::options().read(true).write(true).open(&path).unwrap();
    let per_table = CLUSTER / 8;
    let tables = MAX_EXTENTS as u64 / per_table + 1;
    let first = file.metadata().unwrap().len();
    let mut host = first + (tables + tables * per_table) * CLUSTER;
    file.set_len(host).unwrap();
    for table in 0..tables {
        let at = first + table * CLUSTER;
        put(&file, L1 + table * 8, at | COPIED);
        let entry = |_| {
            // From the end on: none continues the one before.
            host -= CLUSTER;
            (host | COPIED).to_be_bytes()
        };
        let entries: Vec<u8> = (0..per_table).flat_map(entry).collect();
        file.write_all_at(&entries, at).unwrap();
    }
    let error = map_of(&file).unwrap_err();
    assert_eq!(error.code(), Code::Unsupported);
    assert!(error.to_string().contains("in more than 4194304 pieces"), "{error}");
}

#[test]
fn backing_paths_are_stored_as_they_are_given() {
    let open = || {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.qcow2");
        overlay::create(&path, Path::new("/base"), DiskFormat::Raw, 1 << 30).unwrap();
        let file = File::open(&path).unwrap();
        Reader::open(vec![Layer { file, format: DiskFormat::Qcow2, name: "a".to_owned() }]).unwrap()
    };
    for (path, format) in [("b", DiskFormat::Raw), ("../x/y.qcow2", DiskFormat::Qcow2)] {
        let mut stream = Stream::new(open(), Some((Path::new(path), format))).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        let info = overlay::info_in(&bytes).unwrap();
        assert_eq!(info.backing_path.as_deref(), Some(Path::new(path)));
        assert_eq!(info.backing_format.as_deref(), Some(format.name()));
        assert_eq!(info.virtual_size, 1 << 30);
    }
    for path in ["", "nbd:x", "a\0b", &"b".repeat(1024)] {
        let error = Stream::new(open(), Some((Path::new(path), DiskFormat::Raw))).unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{path:?}");
    }
}

#[test]
fn clusters_that_nothing_uses_are_freed() {
    let file = five_clusters();
    // Two behind all that there is, as if they had been taken for data, and one of those that are used.
    file.set_len(DATA + 7 * CLUSTER).unwrap();
    file.write_all_at(&[7; 2 * CLUSTER as usize], DATA + 5 * CLUSTER).unwrap();
    file.write_all_at(&[0, 1, 0, 1], REFCOUNTS + 2 * (5 + 5)).unwrap();
    put(&file, L2 + 8, 0);
    let before = std::os::unix::fs::MetadataExt::blocks(&file.metadata().unwrap());
    assert_eq!(check(&file, "a disk").unwrap().leaked, 3);
    assert_eq!(reclaim(&file, "a disk").unwrap(), 3);
    let report = check(&file, "a disk").unwrap();
    assert_eq!((report.leaked, report.is_sound()), (0, true));
    let after = std::os::unix::fs::MetadataExt::blocks(&file.metadata().unwrap());
    assert!(after < before, "{after} blocks after {before}");
    let mut kept = [0; 1];
    file.read_exact_at(&mut kept, DATA).unwrap();
    assert_eq!(kept, [7]);
    assert_eq!(reclaim(&file, "a disk").unwrap(), 0);
}

#[test]
fn nothing_is_freed_in_a_file_with_other_faults() {
    let file = five_clusters();
    put(&file, L2 + 8, 0);
    file.write_all_at(&[0, 0], REFCOUNTS + 2 * 5).unwrap();
    let report = check(&file, "a disk").unwrap();
    assert_eq!((report.leaked, report.uncounted), (1, 1));
    assert_eq!(reclaim(&file, "a disk").unwrap(), 0);
    assert_eq!(check(&file, "a disk").unwrap(), report);
}
