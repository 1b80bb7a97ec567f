//! Images become ext4 disks that say exactly what the layers say.

mod image_support;

use image_support::disk::{self, Files, Node};
use image_support::*;
use tar::EntryType;

fn get<'f>(files: &'f Files, path: &str) -> &'f Node {
    files.get(path.as_bytes()).unwrap_or_else(|| panic!("{path} is missing"))
}

fn paths(files: &Files) -> Vec<String> {
    files
        .keys()
        .filter(|p| !p.is_empty() && p[..] != b"/lost+found"[..])
        .map(|p| String::from_utf8_lossy(p).into_owned())
        .collect()
}

#[test]
fn every_kind_of_file_arrives_with_owner_mode_time_and_xattrs() {
    let acl = [
        &[2u8, 0, 0, 0][..],
        &[1, 0, 7, 0, 255, 255, 255, 255],
        &[2, 0, 4, 0, 232, 3, 0, 0],
        &[4, 0, 5, 0, 255, 255, 255, 255],
        &[16, 0, 5, 0, 255, 255, 255, 255],
        &[32, 0, 4, 0, 255, 255, 255, 255],
    ]
    .concat();
    let cap = b"\x01\0\0\x02\0\x04\n\n\0\0\0\0\0\0\0\0\0\0\0\0";
    let large = vec![0xa5u8; 3000];
    let owned = With { uid: 70_000, gid: 1_000_000, ..mode(0o4755) };
    let device = |major, minor| With { device: (major, minor), ..mode(0o600) };
    let long_target = "t/".repeat(2000);
    let mut layer = Layer::new();
    layer
        .add(b"./", EntryType::Directory, b"", &mode(0o711))
        .add(b"suid", EntryType::Regular, b"hello", &owned)
        .add(b"tmp", EntryType::Directory, b"", &mode(0o1777))
        .add(b"null", EntryType::Char, b"", &device(1, 3))
        .add(b"big", EntryType::Block, b"", &device(259, 70_000))
        .add(b"fifo", EntryType::Fifo, b"", &mode(0o620))
        .add(
            b"caps",
            EntryType::Regular,
            b"x",
            &mode(0o755)
                .xattr("security.capability", cap)
                .xattr("user.newline", b"a\nb\n")
                .xattr("trusted.large", &large)
                .xattr("com.apple.quarantine", b"no"),
        )
        .add(
            b"acl",
            EntryType::Directory,
            b"",
            &mode(0o755)
                .xattr("system.posix_acl_access", &acl)
                .xattr("system.posix_acl_default", &acl),
        )
        .add(b"times", EntryType::Regular, b"", &mode(0o644).pax("mtime", b"5000000000.123456789"))
        .add(b"old", EntryType::Regular, b"", &mode(0o644).pax("mtime", b"-1.5"))
        .add(b"bytes-\xff\xfe\x01", EntryType::Regular, b"b", &mode(0o644))
        .add(&[b'n'; 255], EntryType::Regular, b"long", &mode(0o644))
        .add(b"wide", EntryType::Regular, b"", &mode(0o644).pax("uid", b"4294967294"))
        .symlink("short", "suid")
        .symlink("sixty", &"x".repeat(60))
        .symlink("fiftynine", &"x".repeat(59))
        .symlink("long", &long_target[..4000])
        .file("empty", b"");
    let made = make(&[layer.finish()], 64 * MIB);
    let files = disk::read(&made.path);

    let suid = get(&files, "/suid");
    assert_eq!((suid.mode, suid.uid, suid.gid), (0o4755, 70_000, 1_000_000));
    assert_eq!(suid.data, b"hello");
    assert_eq!(get(&files, "").mode, 0o711);
    assert_eq!(get(&files, "/tmp").mode, 0o1777);
    assert_eq!(get(&files, "/null").device, Some((1, 3)));
    assert_eq!(get(&files, "/null").kind, "character");
    assert_eq!(get(&files, "/big").device, Some((259, 70_000)));
    assert_eq!(get(&files, "/big").kind, "block");
    assert_eq!(get(&files, "/fifo").kind, "FIFO");
    assert_eq!(get(&files, "/caps").xattrs["security.capability"], cap);
    assert_eq!(get(&files, "/caps").xattrs["user.newline"], b"a\nb\n");
    assert_eq!(get(&files, "/caps").xattrs["trusted.large"], large);
    assert_eq!(get(&files, "/caps").xattrs.len(), 3);
    assert_eq!(made.summary.skipped_xattrs, 1);
    // Only users and groups by name have an id on the disk; debugfs shows 0 for the others.
    let shown: Vec<u8> = acl.iter().map(|b| if *b == 255 { 0 } else { *b }).collect();
    assert_eq!(get(&files, "/acl").xattrs["system.posix_acl_access"], shown);
    assert_eq!(get(&files, "/acl").xattrs["system.posix_acl_default"], shown);
    assert_eq!(get(&files, "/times").mtime, (5_000_000_000, 123_456_789));
    assert_eq!(get(&files, "/old").mtime, (-2, 500_000_000));
    assert_eq!(get(&files, "/suid").mtime, (1_700_000_000, 0));
    assert_eq!(get(&files, "/wide").uid, 4_294_967_294);
    assert_eq!(get(&files, "/short").data, b"suid");
    assert_eq!(get(&files, "/fiftynine").data, "x".repeat(59).as_bytes());
    assert_eq!(get(&files, "/sixty").data, "x".repeat(60).as_bytes());
    assert_eq!(get(&files, "/long").data, long_target.as_bytes()[..4000]);
    assert_eq!(files[&b"/bytes-\xff\xfe\x01".to_vec()].data, b"b");
    assert_eq!(get(&files, &format!("/{}", "n".repeat(255))).data, b"long");
    assert_eq!(get(&files, "/empty").size, 0);
    assert_eq!(get(&files, "/lost+found").mode, 0o700);
}

#[test]
fn upper_layers_replace_remove_and_describe_what_lower_ones_brought() {
    let mut lower = Layer::new();
    lower
        .file("etc/late/child", b"before its directory")
        .add(b"etc/late", EntryType::Directory, b"", &mode(0o700))
        .file("etc/keep", b"keep")
        .file("etc/gone", b"gone")
        .file("opaque/old", b"old")
        .file("opaque/sub/old", b"old")
        .file("file-to-dir", b"x")
        .file("dir-to-file/a", b"a")
        .symlink("link-to-dir", "etc")
        .file("twice", b"first")
        .file("twice", b"second")
        .file("shared", b"shared data")
        .link("shared-2", "shared");
    let mut upper = Layer::new();
    upper
        .add(
            b"etc",
            EntryType::Directory,
            b"",
            &mode(0o750).xattr("user.new", b"1").pax("mtime", b"7.5"),
        )
        .whiteout("etc/gone")
        .file("opaque/new", b"new")
        .opaque("opaque")
        .file("opaque/sub/new", b"new")
        .file("file-to-dir/inside", b"y")
        .file("dir-to-file", b"z")
        .dir("link-to-dir")
        .link("from-below", "shared-2")
        .whiteout("shared")
        .file("../../escape", b"inside")
        .file("/absolute", b"inside")
        .file("a/./b/../c", b"clean");
    let made = make(&[lower.finish(), Layer::new().finish(), upper.finish()], 32 * MIB);
    let files = disk::read(&made.path);
    let want = [
        "/a",
        "/a/c",
        "/absolute",
        "/dir-to-file",
        "/escape",
        "/etc",
        "/etc/keep",
        "/etc/late",
        "/etc/late/child",
        "/file-to-dir",
        "/file-to-dir/inside",
        "/from-below",
        "/link-to-dir",
        "/opaque",
        "/opaque/new",
        "/opaque/sub",
        "/opaque/sub/new",
        "/shared-2",
        "/twice",
    ];
    assert_eq!(paths(&files), want);
    let etc = get(&files, "/etc");
    assert_eq!((etc.mode, etc.mtime), (0o750, (7, 500_000_000)));
    assert_eq!(etc.xattrs["user.new"], b"1");
    assert_eq!(get(&files, "/etc/late").mode, 0o700);
    assert_eq!(get(&files, "/twice").data, b"second");
    assert_eq!(get(&files, "/link-to-dir").kind, "directory");
    let (one, two) = (get(&files, "/shared-2"), get(&files, "/from-below"));
    assert_eq!(one.inode, two.inode);
    assert_eq!((one.links, &one.data[..]), (2, &b"shared data"[..]));
}

#[test]
fn hard_links_to_links_and_to_symbolic_links_are_one_file() {
    let mut layer = Layer::new();
    layer
        .file("a", b"1")
        .link("b", "a")
        .link("d/c", "./b")
        .symlink("s", "nowhere")
        .link("s2", "/s")
        .symlink("dir", "d")
        .link("e", "dir/c");
    let files = disk::read(&make(&[layer.finish()], 32 * MIB).path);
    assert_eq!(get(&files, "/e").inode, get(&files, "/a").inode);
    assert_eq!(get(&files, "/a").links, 4);
    assert_eq!(get(&files, "/s2").inode, get(&files, "/s").inode);
    assert_eq!((get(&files, "/s").links, get(&files, "/s").size), (2, 7));
}

#[test]
fn paths_through_symbolic_links_stay_inside_the_image() {
    let mut layer = Layer::new();
    layer
        .symlink("up", "../../../../..")
        .symlink("abs", "/usr/lib")
        .file("up/top", b"t")
        .file("abs/lib.so", b"l")
        .whiteout("up/nothing");
    let files = disk::read(&make(&[layer.finish()], 32 * MIB).path);
    assert_eq!(get(&files, "/top").data, b"t");
    assert_eq!(get(&files, "/usr/lib/lib.so").data, b"l");
    assert_eq!(get(&files, "/abs").kind, "symlink");
}

#[test]
fn directories_of_thousands_of_names_are_indexed_and_complete() {
    let mut layer = Layer::new();
    for i in 0..20_000 {
        layer.file(&format!("many/a-rather-long-name-to-fill-the-blocks-{i:06}"), b"");
    }
    for i in 0..200 {
        layer.file(&format!("few/{i}"), b"x");
    }
    for i in 0..300 {
        layer.dir(&format!("dirs/{i}"));
    }
    let made = make(&[layer.finish()], 128 * MIB);
    let files = disk::read(&made.path);
    assert_eq!(files.len(), 1 + 1 + 3 + 20_000 + 200 + 300);
    const INDEX: u32 = 0x1000;
    assert_ne!(get(&files, "/many").flags & INDEX, 0);
    assert_eq!(get(&files, "/few").flags & INDEX, 0);
    assert_eq!(get(&files, "/dirs").links, 302);
    // Found by hash, not by reading all blocks.
    let path = "/many/a-rather-long-name-to-fill-the-blocks-013579";
    let text = disk::debugfs(&made.path, &[format!("htree_dump {}", "/many")]);
    let text = String::from_utf8_lossy(&text[0]).into_owned();
    assert!(text.contains("Indirect levels: 0") || text.contains("Indirect levels: 1"), "{text}");
    assert_eq!(get(&files, path).size, 0);
}

#[test]
fn a_deep_tree_is_no_problem() {
    let mut layer = Layer::new();
    let deep = "d/".repeat(1500);
    layer.file(&format!("{deep}leaf"), b"deep");
    let made = make(&[layer.finish()], 64 * MIB);
    assert_eq!(made.summary.inodes, 10 + 1 + 1500 + 1);
    // And it can go again.
    let gone = Layer::new().whiteout("d").finish();
    let mut layer = Layer::new();
    layer.file(&format!("{deep}leaf"), b"deep");
    let made = make(&[layer.finish(), gone], 64 * MIB);
    assert_eq!(made.summary.inodes, 11);
}

#[test]
fn files_longer_than_an_extent_and_fragmented_ones_read_back() {
    // 150 MiB: two extents; then sparse with thousands of pieces: an extent tree.
    let mut big = vec![0u8; 150 << 20];
    for (i, chunk) in big.chunks_mut(1 << 20).enumerate() {
        chunk[..8].copy_from_slice(&(i as u64 + 1).to_le_bytes());
    }
    let pieces: u64 = 3000;
    let mut map = format!("{pieces}\n");
    let mut data = Vec::new();
    for i in 0..pieces {
        map.push_str(&format!("{}\n4096\n", i * 8192 + 4096));
        data.extend_from_slice(&[(i % 251) as u8 + 1; 4096]);
    }
    let mut body = map.into_bytes();
    body.resize(body.len().next_multiple_of(512), 0);
    body.extend_from_slice(&data);
    let real_size = (pieces * 8192 + 100).to_string();
    let sparse = mode(0o644)
        .pax("GNU.sparse.major", b"1")
        .pax("GNU.sparse.minor", b"0")
        .pax("GNU.sparse.name", b"sparse")
        .pax("GNU.sparse.realsize", real_size.as_bytes());
    let mut layer = Layer::new();
    layer.file("big", &big);
    layer.add(b"GNUSparseFile.0/sparse", EntryType::Regular, &body, &sparse);
    let made = make(&[layer.finish()], 256 * MIB);
    let files = disk::read(&made.path);
    let read = get(&files, "/sparse");
    assert_eq!(read.size, pieces * 8192 + 100);
    assert_eq!(read.data.len() as u64, read.size);
    for (i, block) in read.data.chunks(4096).enumerate() {
        let want = if i % 2 == 1 { ((i / 2) % 251) as u8 + 1 } else { 0 };
        assert!(block.iter().all(|b| *b == want), "block {i}");
    }
    // Holes take no room: pieces and a few blocks of extent tree, in units of 512 bytes.
    assert!(read.blocks < (pieces + 30) * 8);
    let out = made.dir.path().join("big");
    disk::debugfs(&made.path, &[format!("dump /big {}", out.display())]);
    assert!(std::fs::read(&out).unwrap() == big);
}

#[test]
fn the_room_of_replaced_files_is_used_again_and_holds_no_old_bytes() {
    // Three layers of 6 MiB each on a disk that holds little more than one of them.
    let old = vec![0xeeu8; 6 << 20];
    let mut zeros = vec![0u8; 6 << 20];
    zeros[5 << 20] = 1;
    let layers = [
        Layer::new().file("f", &old).finish(),
        Layer::new().file("f", &old).finish(),
        Layer::new().file("f", &zeros).finish(),
    ];
    let made = make(&layers, 14 * MIB);
    let files = disk::read(&made.path);
    assert!(get(&files, "/f").data == zeros);
}

#[test]
fn odd_disk_sizes_are_exact_and_clean() {
    let layer = Layer::new().file("etc/motd", b"hi").finish();
    let group = 128 * MIB;
    for bytes in [
        10 * MIB,
        10 * MIB + 512,
        group - 4096,
        group,
        group + 4096,
        group + 300 * 4096,
        3 * group + 60 * 4096,
        10 * group + 12_345 * 512,
        1 << 37,
    ] {
        let made = make(std::slice::from_ref(&layer), bytes);
        assert_eq!(made.summary.bytes, bytes);
        let files = disk::read(&made.path);
        assert_eq!(get(&files, "/etc/motd").data, b"hi", "{bytes}");
    }
}

#[test]
fn a_disk_that_is_too_small_says_which_size_would_do_and_that_size_does() {
    let mut many = Layer::new();
    for i in 0..3000 {
        many.file(&format!("f{i}"), b"x");
    }
    let images = [
        Layer::new().finish(),
        many.finish(),
        Layer::new().file("big", &vec![1u8; 40 << 20]).finish(),
        Layer::new().file("zeros", &vec![0u8; 200 << 20]).finish(),
    ];
    for layer in images {
        for bytes in [4096, MIB, 4 * MIB] {
            let error = make_error(std::slice::from_ref(&layer), bytes);
            assert_eq!(error.code(), boxlite::Code::InvalidArgument);
            let message = error.message();
            assert!(message.contains(&format!("disk of {bytes} bytes")), "{message}");
            let needed = message.split_once("needs ").unwrap().1;
            let needed: u64 = needed.split(' ').next().unwrap().parse().unwrap();
            make(std::slice::from_ref(&layer), needed);
        }
    }
    let error = make_error(&[Layer::new().finish()], 1000);
    assert_eq!(error.code(), boxlite::Code::InvalidArgument);
}
