//! qcow2 files with flipped bits and cut ends: an error or a read, and never called good where
//! `qemu-img check` finds them corrupt.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::support::{Disks, Random, Shape};
use boxlite::disk::qcow2::{Header, Map, Stream, check};

/// Disks that are larger are mapped and not read.
const LARGEST_READ: u64 = 64 << 20;
/// What `qemu-img check` ends with that finds corruption.
const CORRUPT: i32 = 2;
/// And where it cannot open them.
const UNUSABLE: i32 = 1;

const SHAPES: [(&str, u64, bool); 4] = [
    ("compat=0.10,cluster_size=512", 512, true),
    ("compat=1.1,cluster_size=512,refcount_bits=4", 512, false),
    ("compat=1.1,cluster_size=4k,compression_type=zstd", 4096, true),
    ("compat=1.1,lazy_refcounts=on", 65_536, false),
];

/// A small file of each shape on a backing file, as bytes.
fn make(disks: &Disks, shape: (&'static str, u64, bool), random: &mut Random) -> Vec<u8> {
    let (options, cluster, compress) = shape;
    let size = 512 * 1024 + 512;
    let disk = Shape { options, cluster, size, writes: 30, longest: 20_000, compress };
    let base = Shape { options: "", ..disk };
    disks.create("base.raw", &base, None);
    disks.create("a.qcow2", &disk, Some(("base.raw", "raw")));
    disks.scribble("a.qcow2", &disk, random);
    std::fs::read(disks.path("a.qcow2")).unwrap()
}

/// What we say of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Sound,
    Leaks,
    WrongCounts,
    Refused,
}

/// Everything that can be done with a file, none of which must panic.
fn try_all(disks: &Disks) -> Verdict {
    let file = File::open(disks.path("a.qcow2")).unwrap();
    let report = check(&file, "a.qcow2");
    let header = Header::read(&file, "a.qcow2");
    let map = header.as_ref().ok().map(|header| Map::read(&file, header, "a.qcow2"));
    let mapped = matches!(map, Some(Ok(_)));
    if let Ok(reader) = disks.reader(&["a.qcow2", "base.raw"]) {
        assert!(mapped);
        if reader.size() <= LARGEST_READ {
            let mut bytes = vec![0; reader.size() as usize];
            let read = reader.read_at(&mut bytes, 0);
            let stream = Stream::new(reader, None).unwrap();
            let length = stream.len();
            let copied = std::io::copy(&mut { stream }, &mut std::io::sink());
            // Both read the same, and so both can or neither.
            assert_eq!(copied.ok(), read.ok().map(|()| length));
        }
    }
    match report {
        Ok(report) => {
            assert!(mapped, "{report:?}");
            match (report.is_sound(), report.leaked) {
                (true, 0) => Verdict::Sound,
                (true, _) => Verdict::Leaks,
                (false, _) => Verdict::WrongCounts,
            }
        }
        Err(error) => {
            assert!(error.to_string().contains("a.qcow2"), "{error}");
            Verdict::Refused
        }
    }
}

/// Whether the file still names the backing file that there is, without which QEMU opens nothing.
fn names_base(disks: &Disks) -> bool {
    let header = Header::read(&File::open(disks.path("a.qcow2")).unwrap(), "a.qcow2");
    header.is_ok_and(|header| {
        header.backing_path.is_none_or(|path| path == Path::new("base.raw"))
            && header.backing_format.is_none_or(|format| format == "raw")
    })
}

/// How often we and QEMU said what.
#[derive(Default)]
struct Table {
    cases: usize,
    verdicts: BTreeMap<(Verdict, i32), usize>,
    worse: Vec<String>,
    /// What we refuse and QEMU finds nothing wrong with.
    stricter: Vec<String>,
}

impl Table {
    /// Tries a file; asks QEMU too, if wanted.
    fn add(&mut self, disks: &Disks, ask: bool, what: &str) -> Verdict {
        let ours = try_all(disks);
        self.cases += 1;
        if ask {
            let theirs = disks.qemu_verdict("a.qcow2");
            *self.verdicts.entry((ours, theirs)).or_default() += 1;
            let good = matches!(ours, Verdict::Sound | Verdict::Leaks);
            let worse = theirs == CORRUPT || (theirs == UNUSABLE && names_base(disks));
            if ours == Verdict::Refused && theirs == 0 {
                let error = check(&File::open(disks.path("a.qcow2")).unwrap(), "a.qcow2");
                self.stricter.push(format!("{what}: {}", error.unwrap_err()));
            }
            if good && worse {
                self.worse.push(format!("{what}: {ours:?}, QEMU: {theirs}"));
            }
        }
        ours
    }

    fn finish(self, title: &str) {
        println!("{title}: {} files; of those also checked by qemu-img:", self.cases);
        for ((ours, theirs), count) in &self.verdicts {
            println!("{:>14} qemu-img {theirs}: {count}", format!("{ours:?}"));
        }
        for example in self.stricter.iter().step_by(self.stricter.len() / 12 + 1) {
            println!("    stricter than QEMU: {example}");
        }
        assert!(self.worse.is_empty(), "{:#?}", self.worse);
    }
}

/// Flips one bit, tries the file, and flips it back.
fn flip(disks: &Disks, good: &[u8], bit: u64, ask: bool, table: &mut Table) -> Verdict {
    let path = disks.path("a.qcow2");
    let file = File::options().write(true).open(&path).unwrap();
    let (at, mask) = (bit / 8, 1 << (bit % 8));
    let byte = good[at as usize];
    file.write_all_at(&[byte ^ mask], at).unwrap();
    let verdict = table.add(disks, ask, &format!("byte {at:#x}, bit {mask:#x}"));
    file.write_all_at(&[byte], at).unwrap();
    verdict
}

#[test]
fn every_bit_of_the_header_flipped_is_an_error_or_a_read() {
    let mut random = Random::new();
    let mut table = Table::default();
    for shape in SHAPES {
        let disks = Disks::new();
        let good = make(&disks, shape, &mut random);
        assert_eq!(table.add(&disks, true, "unchanged"), Verdict::Sound);
        // The fixed part, extensions, and the name of the backing file.
        for bit in 0..480 * 8 {
            flip(&disks, &good, bit, bit < 112 * 8 || bit % 5 == 0, &mut table);
        }
    }
    assert!(table.cases > 15_000);
    table.finish("bits of headers");
}

/// Where the tables are: first and second level, reference counts.
fn tables(disks: &Disks, good: &[u8]) -> Vec<(u64, u64)> {
    let header = Header::read(&File::open(disks.path("a.qcow2")).unwrap(), "a").unwrap();
    let cluster = header.cluster_size();
    let number = |at: u64| u64::from_be_bytes(*good[at as usize..].first_chunk().unwrap());
    let l1 = header.l1_offset;
    let l1_length = u64::from(header.l1_entries) * 8;
    let counts = header.refcount_table_offset;
    // What is used of it: 32 entries cover all of a small file.
    let mut found = vec![(l1, l1_length), (counts, 64)];
    for at in (l1..l1 + l1_length).step_by(8) {
        found.push((number(at) & 0x00ff_ffff_ffff_fe00, cluster));
    }
    found.push((number(counts), cluster.min(512)));
    found.retain(|(start, _)| *start != 0);
    found
}

#[test]
fn flipped_bits_of_tables_are_an_error_or_a_read() {
    let mut random = Random::new();
    let mut table = Table::default();
    let mut refused = 0;
    for shape in SHAPES {
        let disks = Disks::new();
        let good = make(&disks, shape, &mut random);
        let tables = tables(&disks, &good);
        for round in 0..1200 {
            let (start, length) = tables[random.below(tables.len() as u64) as usize];
            // Entries that are nothing say little.
            let at = (0..50).map(|_| start + random.below(length));
            let at = at.filter(|at| (*at as usize) < good.len());
            let at = at.min_by_key(|at| good[(*at & !7) as usize] == 0).unwrap();
            let bit = at * 8 + random.below(8);
            let verdict = flip(&disks, &good, bit, round % 3 == 0, &mut table);
            refused += usize::from(verdict == Verdict::Refused);
        }
    }
    println!("{refused} of {} refused", table.cases);
    assert!(table.cases >= 4800 && refused > 500);
    table.finish("bits of tables");
}

#[test]
fn several_entries_changed_are_an_error_or_a_read() {
    let mut random = Random::new();
    let mut table = Table::default();
    for shape in SHAPES {
        let disks = Disks::new();
        let good = make(&disks, shape, &mut random);
        let tables = tables(&disks, &good);
        for _ in 0..150 {
            let mut bad = good.clone();
            for _ in 0..=random.below(3) {
                let (start, length) = tables[random.below(tables.len() as u64) as usize];
                let (other, _) = tables[random.below(tables.len() as u64) as usize];
                let at = (start + random.below(length / 8) * 8) as usize;
                let value = match random.below(4) {
                    0 => random.next(),
                    // An entry of this or another table once more.
                    1 => *good[other as usize..]
                        .first_chunk()
                        .map(|b| u64::from_be_bytes(*b))
                        .as_ref()
                        .unwrap(),
                    2 => 1 << 63 | (random.below(good.len() as u64) & !(shape.1 - 1)),
                    _ => 0,
                };
                if let Some(entry) = bad.get_mut(at..at + 8) {
                    entry.copy_from_slice(&value.to_be_bytes());
                }
            }
            std::fs::write(disks.path("a.qcow2"), &bad).unwrap();
            table.add(&disks, true, "entries");
        }
    }
    table.finish("changed entries");
}

#[test]
fn a_file_cut_anywhere_is_an_error_or_a_read() {
    let mut random = Random::new();
    let mut table = Table::default();
    for shape in SHAPES {
        let disks = Disks::new();
        let good = make(&disks, shape, &mut random);
        let file = File::options().write(true).open(disks.path("a.qcow2")).unwrap();
        let mut lengths: Vec<u64> = (0..60).map(|_| random.below(good.len() as u64)).collect();
        lengths.extend([0, 1, 4, 71, 72, 103, 104, 105, 111, 112, 511, 512, good.len() as u64 - 1]);
        lengths.sort_unstable();
        for length in lengths.into_iter().rev() {
            file.set_len(length).unwrap();
            let verdict = table.add(&disks, true, &format!("cut at {length}"));
            assert!(length > 512 || verdict == Verdict::Refused, "{length}");
        }
    }
    assert!(table.cases >= 200);
    table.finish("cut files");
}
