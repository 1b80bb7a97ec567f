//! qcow2 files of QEMU's own tools are read as they are meant, and ours are taken by them.

use std::fs::File;
use std::path::Path;

use crate::support::{Disks, Random, Shape, read_all, save};
use boxlite::disk::overlay::DiskFormat;
use boxlite::disk::qcow2::{Content, Reader, Stream, check};
use boxlite::error::Code;

const MIB: u64 = 1 << 20;

const SHAPES: [Shape; 13] = [
    shape("compat=0.10", 65_536, 24 * MIB, false),
    shape("compat=0.10", 65_536, 24 * MIB, true),
    shape("compat=0.10,cluster_size=512", 512, 3 * MIB + 512, true),
    shape("compat=1.1,cluster_size=512", 512, 3 * MIB + 1536, false),
    shape("compat=1.1,cluster_size=4096,refcount_bits=1", 4096, 9 * MIB + 512, false),
    shape("compat=1.1,refcount_bits=64", 65_536, 24 * MIB + 1024, true),
    shape("compat=1.1,cluster_size=1M,refcount_bits=8", 1 << 20, 40 * MIB, true),
    shape("compat=1.1,cluster_size=2M", 2 << 20, 70 * MIB + 512, true),
    shape("compat=1.1,compression_type=zstd", 65_536, 24 * MIB, true),
    shape("compat=1.1,compression_type=zstd,cluster_size=2M", 2 << 20, 60 * MIB, true),
    shape("compat=1.1,compression_type=zstd,cluster_size=512", 512, 2 * MIB, true),
    shape("compat=1.1,preallocation=metadata", 65_536, 24 * MIB, false),
    shape("compat=1.1,lazy_refcounts=on,preallocation=metadata", 65_536, 10 * MIB, false),
];

const fn shape(options: &'static str, cluster: u64, size: u64, compress: bool) -> Shape {
    Shape { options, cluster, size, writes: 60, longest: size / 16, compress }
}

/// The same bytes, or where the first is that differs.
fn assert_same(found: &[u8], want: &[u8], what: &str) {
    assert_eq!(found.len(), want.len(), "{what}: the length");
    let differs = found.iter().zip(want).position(|(found, want)| found != want);
    assert_eq!(differs, None, "{what}: the first byte that differs");
}

/// A stream of these layers is a file that QEMU takes, and has what `top` has.
fn assert_streams(disks: &Disks, names: &[&str], backing: Option<(&str, DiskFormat)>, top: &str) {
    let mut random = Random::new();
    let reader = disks.reader(names).unwrap();
    let backing = backing.map(|(path, format)| (Path::new(path), format));
    let stream = Stream::new(reader, backing).unwrap();
    let length = stream.len();
    let path = disks.path("stream.qcow2");
    assert_eq!(save(stream, &path, &mut random), length);
    let what = format!("{names:?} on {backing:?}");
    assert_eq!(disks.qemu_verdict("stream.qcow2"), 0, "{what}");
    let format = if top.ends_with(".raw") { "raw" } else { "qcow2" };
    disks.run("qemu-img", &["compare", "-f", "qcow2", "-F", format, "stream.qcow2", top]);
    let report = check(&File::open(&path).unwrap(), "stream.qcow2").unwrap();
    assert!(report.is_sound() && report.leaked == 0, "{what}: {report:?}");
}

#[test]
fn files_of_every_shape_read_and_stream_as_qemu_reads_them() {
    let mut random = Random::new();
    let mut packed = 0;
    for shape in SHAPES {
        let disks = Disks::new();
        disks.create("a.qcow2", &shape, None);
        disks.scribble("a.qcow2", &shape, &mut random);
        let what = format!("{} of {}", shape.options, shape.size);
        let reader = disks.reader(&["a.qcow2"]).unwrap();
        assert_eq!(reader.size(), shape.size, "{what}");
        let found = read_all(&reader, &mut random).unwrap();
        assert_same(&found, &disks.qemu_bytes("a.qcow2", "qcow2"), &what);
        let compressed = |content| matches!(content, Content::Compressed { .. });
        packed += usize::from(reader.extents().any(|piece| compressed(piece.content)));
        let verdict = disks.qemu_verdict("a.qcow2");
        let report = check(&File::open(disks.path("a.qcow2")).unwrap(), "a.qcow2").unwrap();
        assert!(report.is_sound() && !report.dirty, "{what}: {report:?}");
        assert_eq!(report.leaked > 0, verdict == 3, "{what}: {report:?} {verdict}");
        assert_streams(&disks, &["a.qcow2"], None, "a.qcow2");
    }
    // In one or the other, later writes may have hit all of them.
    assert!(packed >= SHAPES.iter().filter(|shape| shape.compress).count() / 2);
}

#[test]
fn converted_files_read_and_stream_as_qemu_reads_them() {
    let mut random = Random::new();
    let disks = Disks::new();
    let raw = Shape { size: 30 * MIB, ..shape("", 0, 30 * MIB, false) };
    disks.create("a.raw", &raw, None);
    disks.scribble("a.raw", &raw, &mut random);
    let want = std::fs::read(disks.path("a.raw")).unwrap();
    let found = read_all(&disks.reader(&["a.raw"]).unwrap(), &mut random).unwrap();
    assert_same(&found, &want, "raw");
    assert_streams(&disks, &["a.raw"], None, "a.raw");
    for options in [
        "compat=0.10",
        "cluster_size=512",
        "cluster_size=2M",
        "compression_type=zstd",
        "compression_type=zstd,cluster_size=8k",
    ] {
        let args = ["convert", "-f", "raw", "-O", "qcow2", "-c", "-o", options, "a.raw", "c.qcow2"];
        disks.run("qemu-img", &args);
        let found = read_all(&disks.reader(&["c.qcow2"]).unwrap(), &mut random).unwrap();
        assert_same(&found, &want, options);
        assert_streams(&disks, &["c.qcow2"], None, "a.raw");
    }
}

#[test]
fn chains_of_any_sizes_and_clusters_are_flattened_and_cut_anywhere() {
    let mut random = Random::new();
    let all = ["compat=0.10", "cluster_size=512", "cluster_size=4k", "", "cluster_size=2M"];
    for round in 0..12 {
        let disks = Disks::new();
        let mut names: Vec<&str> = Vec::new();
        for (number, name) in ["a", "b.qcow2", "c.qcow2"].into_iter().enumerate() {
            let options = match (number, all[random.below(5) as usize]) {
                (1.., "") => "compat=1.1",
                (_, options) => options,
            };
            let size = (random.below(20_000) + 2000) * 512;
            let disk = Shape { writes: 25, ..shape(options, 65_536, size, false) };
            let name = match (number, disk.format()) {
                (0, "raw") => "a.raw",
                (0, _) => "a.qcow2",
                _ => name,
            };
            let below = names
                .first()
                .map(|below| (*below, if below.ends_with(".raw") { "raw" } else { "qcow2" }));
            disks.create(name, &disk, below);
            disks.scribble(name, &disk, &mut random);
            names.insert(0, name);
        }
        let what = format!("round {round}: {names:?}");
        let found = read_all(&disks.reader(&names).unwrap(), &mut random).unwrap();
        assert_same(&found, &disks.qemu_bytes("c.qcow2", "qcow2"), &what);
        assert_streams(&disks, &names, None, "c.qcow2");
        for above in 1..3 {
            let below = names[above];
            let raw = below.ends_with(".raw");
            let format = if raw { DiskFormat::Raw } else { DiskFormat::Qcow2 };
            assert_streams(&disks, &names[..above], Some((below, format)), "c.qcow2");
            let part = disks.reader(&names[..above]).unwrap();
            assert!(part.is_open_ended());
            let error = Stream::new(part, None).unwrap_err();
            assert_eq!(error.code(), Code::InvalidArgument);
        }
        // Complete, and on something else, of which nothing must show.
        let other = Shape { writes: 25, ..shape("compat=1.1", 65_536, 16 * MIB, false) };
        disks.create("other.qcow2", &other, None);
        disks.scribble("other.qcow2", &other, &mut random);
        assert_streams(&disks, &names, Some(("other.qcow2", DiskFormat::Qcow2)), "c.qcow2");
    }
}

#[test]
fn a_stream_of_an_empty_or_large_disk_is_as_small_as_it_can_be() {
    let disks = Disks::new();
    for (size, clusters) in [(512, 4), (64 << 30, 4), (4 << 40, 4), (64 << 40, 19)] {
        let disk = Shape { writes: 0, ..shape("compat=1.1", 65_536, size, false) };
        disks.create("a.qcow2", &disk, None);
        let stream = Stream::new(disks.reader(&["a.qcow2"]).unwrap(), None).unwrap();
        assert_eq!(stream.len(), clusters * 65_536, "{size}");
        assert_streams(&disks, &["a.qcow2"], None, "a.qcow2");
    }
    // Reference counts of more than one cluster, and a table of second-level entries that is not the
    // first.
    let disk = Shape { writes: 0, ..shape("", 0, 3 << 30, false) };
    disks.create("b.raw", &disk, None);
    disks.run("qemu-io", &["-f", "raw", "-c", "write -P 7 600M 1M", "b.raw"]);
    disks.run("qemu-io", &["-f", "raw", "-c", "write -P 9 3071M 1M", "b.raw"]);
    assert_streams(&disks, &["b.raw"], None, "b.raw");
    let want = "compat=1.1,preallocation=metadata";
    let disk = Shape { writes: 0, ..shape(want, 65_536, 3 << 30, false) };
    disks.create("c.qcow2", &disk, None);
    assert_streams(&disks, &["c.qcow2"], None, "c.qcow2");
    let stream = Stream::new(disks.reader(&["c.qcow2"]).unwrap(), None).unwrap();
    assert_eq!(stream.len() / 65_536, 1 + 1 + 2 + 1 + 6 + (3 << 30) / 65_536);
}

#[test]
fn a_file_that_shrinks_while_it_is_read_is_an_error() {
    let disks = Disks::new();
    let disk = shape("compat=1.1", 65_536, 8 * MIB, false);
    disks.create("a.qcow2", &disk, None);
    disks.run("qemu-io", &["-f", "qcow2", "-c", "write -P 7 0 8M", "a.qcow2"]);
    let reader: Reader = disks.reader(&["a.qcow2"]).unwrap();
    let file = File::options().write(true).open(disks.path("a.qcow2")).unwrap();
    file.set_len(4 * MIB).unwrap();
    let error = read_all(&reader, &mut Random::new()).unwrap_err();
    assert_eq!(error.code(), Code::Storage);
    assert!(error.to_string().contains("a.qcow2"), "{error}");
    let outcome = std::io::copy(&mut Stream::new(reader, None).unwrap(), &mut std::io::sink());
    let inner = outcome.unwrap_err().into_inner().unwrap();
    assert_eq!(inner.downcast::<boxlite::error::Error>().unwrap().code(), Code::Storage);
}
