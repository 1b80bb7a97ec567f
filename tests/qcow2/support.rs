//! Disk files made by QEMU's own tools, and random numbers that can be had again.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use boxlite::disk::overlay::DiskFormat;
use boxlite::disk::qcow2::{Layer, Reader};

/// Numbers that follow from a seed, which is printed; `QCOW2_SEED` has them again.
pub struct Random(u64);

impl Random {
    pub fn new() -> Random {
        let seed = match std::env::var("QCOW2_SEED") {
            Ok(seed) => seed.parse().expect("QCOW2_SEED is a number"),
            Err(_) => u64::from_ne_bytes({
                let mut bytes = [0; 8];
                getrandom::fill(&mut bytes).unwrap();
                bytes
            }),
        };
        println!("QCOW2_SEED={seed}");
        Random(seed | 1)
    }

    pub fn next(&mut self) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 8) % end
    }
}

/// A directory with disk files.
pub struct Disks {
    directory: tempfile::TempDir,
}

impl Disks {
    pub fn new() -> Disks {
        Disks { directory: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs a program in the directory, which must succeed.
    pub fn run(&self, program: &str, args: &[&str]) {
        let output = self.outcome(program, args);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {args:?}: {told}");
    }

    pub fn outcome(&self, program: &str, args: &[&str]) -> Output {
        Command::new(program).args(args).current_dir(&self.directory).output().unwrap()
    }

    /// What `qemu-img check` ends with: 0 is sound, 1 cannot be checked, 2 corrupt, 3 leaks only.
    pub fn qemu_verdict(&self, name: &str) -> i32 {
        self.outcome("qemu-img", &["check", "-q", "-f", "qcow2", name]).status.code().unwrap()
    }

    /// The disk's bytes as QEMU sees them.
    pub fn qemu_bytes(&self, name: &str, format: &str) -> Vec<u8> {
        self.run("qemu-img", &["convert", "-f", format, "-O", "raw", name, "flat.raw"]);
        std::fs::read(self.path("flat.raw")).unwrap()
    }

    /// Writes random patterns with qemu-io: compressed clusters, then data, zeros and discards.
    ///
    /// Not mixed: compressed writes behind a discard have QEMU 7.2 use clusters twice.
    pub fn scribble(&self, name: &str, disk: &Shape, random: &mut Random) {
        let (mut packed, mut plain) = (Vec::new(), Vec::new());
        for _ in 0..disk.writes {
            let pattern = random.below(255) + 1;
            let sectors = disk.size / 512;
            let start = random.below(sectors);
            let length = random.below(disk.longest / 512).min(sectors - start - 1) + 1;
            let (start, length) = (start * 512, length * 512);
            // Compressed writes are of whole clusters.
            let cluster = disk.cluster.max(512);
            let (whole, clusters) = (start / cluster * cluster, length.next_multiple_of(cluster));
            match random.below(8) {
                0 => plain.push(format!("write -z {start} {length}")),
                1 => plain.push(format!("discard {start} {length}")),
                2 => plain.push(format!("write -z -u {start} {length}")),
                3..6 if disk.compress && whole + clusters <= disk.size => {
                    packed.push(format!("write -c -P {pattern} {whole} {clusters}"));
                }
                _ => plain.push(format!("write -P {pattern} {start} {length}")),
            }
        }
        for commands in [packed, plain].iter().filter(|commands| !commands.is_empty()) {
            let mut args = vec!["-f", disk.format()];
            args.extend(commands.iter().flat_map(|command| ["-c", command]));
            args.push(name);
            // Compressed writes to what is there already fail; the others do not mind.
            let told = self.outcome("qemu-io", &args).stdout;
            assert!(String::from_utf8_lossy(&told).contains("wrote "), "{args:?}");
        }
    }

    /// Makes a disk file: on a backing file, if there is one.
    pub fn create(&self, name: &str, disk: &Shape, backing: Option<(&str, &str)>) {
        let size = disk.size.to_string();
        let mut args = vec!["create", "-q", "-f", disk.format()];
        if !disk.options.is_empty() {
            args.extend(["-o", disk.options]);
        }
        if let Some((path, format)) = backing {
            args.extend(["-b", path, "-F", format]);
        }
        args.extend([name, &size]);
        self.run("qemu-img", &args);
    }

    /// Opens a chain of files, the top first.
    pub fn reader(&self, names: &[&str]) -> boxlite::error::Result<Reader> {
        Reader::open(names.iter().map(|name| self.layer(name)).collect())
    }

    fn layer(&self, name: &str) -> Layer {
        let raw = name.ends_with(".raw");
        let format = if raw { DiskFormat::Raw } else { DiskFormat::Qcow2 };
        Layer { file: File::open(self.path(name)).unwrap(), format, name: name.to_owned() }
    }
}

/// How a disk file is made.
#[derive(Clone, Copy)]
pub struct Shape {
    /// Options of `qemu-img create`; none for a raw file.
    pub options: &'static str,
    pub cluster: u64,
    pub size: u64,
    pub writes: usize,
    /// The longest write, in bytes.
    pub longest: u64,
    pub compress: bool,
}

impl Shape {
    pub fn format(&self) -> &'static str {
        if self.options.is_empty() { "raw" } else { "qcow2" }
    }
}

/// Writes all of a stream to a file, in pieces of odd lengths now and then.
pub fn save(mut stream: impl std::io::Read, path: &Path, random: &mut Random) -> u64 {
    let mut file = File::create(path).unwrap();
    let mut buffer = vec![0; 3 << 20];
    let mut total = 0;
    loop {
        let room = match random.below(3) {
            0 => buffer.len(),
            1 => 1 << 20,
            _ => random.below(200_000) as usize + 1,
        };
        match stream.read(&mut buffer[..room]).unwrap() {
            0 => return total,
            read => {
                std::io::Write::write_all(&mut file, &buffer[..read]).unwrap();
                total += read as u64;
            }
        }
    }
}

/// All of a disk, read in pieces of odd lengths.
pub fn read_all(reader: &Reader, random: &mut Random) -> boxlite::error::Result<Vec<u8>> {
    let mut bytes = vec![0xee; reader.size() as usize];
    let mut at = 0;
    while at < bytes.len() {
        let length = (random.below(3 << 20) as usize + 1).min(bytes.len() - at);
        reader.read_at(&mut bytes[at..at + length], at as u64)?;
        at += length;
    }
    Ok(bytes)
}
