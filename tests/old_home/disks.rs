//! The disks of such homes: chains of qcow2 files that name each other by absolute paths, snapshots that
//! were interrupted, bases, and files that are no disks.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rusqlite::Connection;
use serde_json::json;

use super::BOXES;

/// Whose snapshot was interrupted when its disk had been renamed, and nothing else had happened.
pub const TAKEN: usize = 1;
/// Whose snapshot was complete but for its row, and what it is called.
pub const HALF: usize = 2;
pub const HALF_NAME: &str = "half";
/// Whose older guest's disk is on a base of its own: in its directory, and in that of its disks already.
const BASED: [usize; 2] = [0, 4];
/// Whose older guest's disk is no disk.
const SPOILED: usize = 4;

/// Where what was written lies on a disk, in MiB.
const IN_BASE: u64 = 1;
const IN_SNAPSHOT: u64 = 2;
const IN_DISK: u64 = 3;

/// One box's files, wherever its version has them.
struct Maker {
    directory: PathBuf,
    disks: PathBuf,
    base: PathBuf,
    /// What tells this box's disks from others'.
    pattern: u8,
}

/// Makes all disks of a home.
pub fn make(home: &Path, version: i64) {
    let base = home.join("images/base.raw");
    fs::create_dir_all(base.parent().unwrap()).unwrap();
    fs::write(&base, vec![0; 16 << 20]).unwrap();
    write(&base, "raw", IN_BASE, 99);
    for (at, old) in BOXES.iter().enumerate() {
        let directory = home.join("boxes").join(old.id);
        let disks = if version == 6 { directory.clone() } else { directory.join("disks") };
        fs::create_dir_all(&disks).unwrap();
        let base = base.clone();
        let maker = Maker { directory, disks, base, pattern: u8::try_from(at).unwrap() + 1 };
        match at {
            0 => maker.with_snapshot("before"),
            TAKEN => maker.taken(),
            HALF => {
                maker.with_snapshot(HALF_NAME);
                maker.mark(HALF_NAME);
            }
            _ => maker.overlay("disk.qcow2", &maker.base, "raw", IN_DISK),
        }
        match at {
            SPOILED => fs::write(maker.disks.join("guest-rootfs.qcow2"), "no disk").unwrap(),
            0 if version == 6 => {
                let own = maker.directory.join("rootfs-base");
                fs::write(&own, vec![1; 16 << 20]).unwrap();
                maker.overlay("guest-rootfs.qcow2", &own, "raw", IN_DISK);
            }
            // Some have none.
            5 => {}
            _ => maker.overlay("guest-rootfs.qcow2", &maker.base, "raw", IN_DISK),
        }
        if version == 6 && at == BASED[1] {
            fs::create_dir(maker.directory.join("disks")).unwrap();
            fs::write(maker.directory.join("disks/rootfs-base"), vec![2; 16 << 20]).unwrap();
        }
    }
}

impl Maker {
    fn overlay(&self, name: &str, backing: &Path, format: &str, at: u64) {
        let path = self.disks.join(name);
        create(&path, backing, format);
        write(&path, "qcow2", at, self.pattern);
    }

    fn with_snapshot(&self, name: &str) {
        let frozen = self.directory.join("snapshots").join(name).join("disk.qcow2");
        fs::create_dir_all(frozen.parent().unwrap()).unwrap();
        create(&frozen, &self.base, "raw");
        write(&frozen, "qcow2", IN_SNAPSHOT, self.pattern);
        self.overlay("disk.qcow2", &frozen, "qcow2", IN_DISK);
    }

    /// Its disk has gone to be a snapshot's.
    fn taken(&self) {
        self.overlay("disk.qcow2", &self.base, "raw", IN_DISK);
        let frozen = self.directory.join("snapshots/taken/disk.qcow2");
        fs::create_dir_all(frozen.parent().unwrap()).unwrap();
        fs::rename(self.disks.join("disk.qcow2"), frozen).unwrap();
        self.mark("taken");
    }

    fn mark(&self, name: &str) {
        let marker = json!({
            "snapshot_dir": self.directory.join("snapshots").join(name),
            "container_disk": self.disks.join("disk.qcow2"),
        });
        fs::write(self.directory.join(".snapshot_pending"), marker.to_string()).unwrap();
    }
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn create(path: &Path, backing: &Path, format: &str) {
    let (path, backing) = (path.to_str().unwrap(), backing.to_str().unwrap());
    run("qemu-img", &["create", "-q", "-f", "qcow2", "-F", format, "-b", backing, path]);
}

pub fn write(path: &Path, format: &str, at: u64, pattern: u8) {
    let write = format!("write -q -P {pattern} {at}M 64k");
    run("qemu-io", &["-f", format, "-c", &write, path.to_str().unwrap()]);
}

/// Whether a disk has what was written in these places, and nothing in the others.
fn has(path: &Path, pattern: u8, places: &[u64]) {
    let path = path.to_str().unwrap();
    let mut arguments = vec!["-r".to_owned(), "-f".into(), "qcow2".into()];
    for at in [IN_BASE, IN_SNAPSHOT, IN_DISK] {
        let own = if at == IN_BASE { 99 } else { pattern };
        let wanted = if at == IN_BASE || places.contains(&at) { own } else { 0 };
        arguments.extend(["-c".to_owned(), format!("read -q -P {wanted} {at}M 64k")]);
    }
    let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    arguments.push(path);
    let said = run("qemu-io", &arguments);
    assert!(said.is_empty(), "{path}: {said}");
}

/// Whether every disk is where today's software has it, with what it had, on files of its own home, which it
/// names relative to itself; and every row names a file that is there.
pub fn are_right(home: &Path, version: i64) {
    for (at, old) in BOXES.iter().enumerate() {
        let directory = home.join("boxes").join(old.id);
        let pattern = u8::try_from(at).unwrap() + 1;
        let disk = directory.join("disks/disk.qcow2");
        match at {
            0 | HALF => {
                let name = if at == 0 { "before" } else { HALF_NAME };
                let frozen = directory.join("snapshots").join(name).join("disk.qcow2");
                has(&disk, pattern, &[IN_SNAPSHOT, IN_DISK]);
                has(&frozen, pattern, &[IN_SNAPSHOT]);
                is_on(&disk, &frozen);
                is_on(&frozen, &home.join("images/base.raw"));
            }
            _ => {
                has(&disk, pattern, &[IN_DISK]);
                is_on(&disk, &home.join("images/base.raw"));
            }
        }
        assert!(!directory.join("disk.qcow2").exists() && !directory.join("rootfs-base").exists());
        assert!(!directory.join(".snapshot_pending").exists(), "{}", old.id);
        assert!(!directory.join("snapshots/taken").exists());
        let guest = directory.join("disks/guest-rootfs.qcow2");
        match at {
            SPOILED => assert_eq!(fs::read(&guest).unwrap(), b"no disk"),
            5 => assert!(!guest.exists()),
            _ => run("qemu-img", &["check", "-q", guest.to_str().unwrap()]).clear(),
        }
    }
    let database = Connection::open(home.join("db/boxlite.db")).unwrap();
    let text = |query: &str| -> Vec<(String, String)> {
        let mut query = database.prepare(query).unwrap();
        let rows = query.query_map([], |r| Ok((r.get(0)?, r.get(1)?))).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    };
    let snapshots =
        text("SELECT box_id, json_extract(json, '$.base_path') FROM snapshot ORDER BY box_id");
    let of = |at: usize, name: &str| {
        let id = BOXES[at].id;
        (id.to_owned(), format!("boxes/{id}/snapshots/{name}/disk.qcow2"))
    };
    assert_eq!(snapshots, [of(0, "before"), of(HALF, HALF_NAME)]);
    if version == 6 {
        bases_are_right(home, &text("SELECT source_box_id, base_path FROM base_disk ORDER BY 1"));
        let refs = text(
            "SELECT box_id, base_path FROM base_disk_ref JOIN base_disk ON id = base_disk_id ORDER BY 1",
        );
        bases_are_right(home, &refs);
    }
}

/// A base for each that had one, with what that was.
fn bases_are_right(home: &Path, rows: &[(String, String)]) {
    let owners: Vec<&str> = rows.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(owners, BASED.map(|at| BOXES[at].id));
    for (byte, (_, path)) in rows.iter().enumerate() {
        let base = fs::read(home.join(path)).unwrap();
        assert!(
            base.len() == 16 << 20 && base.iter().all(|b| usize::from(*b) == byte + 1),
            "{path}"
        );
        assert!(path.starts_with("bases/") && path.ends_with(".ext4"), "{path}");
    }
    let guest = home.join("boxes").join(BOXES[0].id).join("disks/guest-rootfs.qcow2");
    is_on(&guest, &home.join(&rows[0].1));
}

fn is_on(disk: &Path, backing: &Path) {
    let json = run("qemu-img", &["info", "--output=json", disk.to_str().unwrap()]);
    let info: serde_json::Value = serde_json::from_str(&json).unwrap();
    let named = Path::new(info["backing-filename"].as_str().unwrap());
    assert!(named.is_relative(), "{} names {}", disk.display(), named.display());
    let found = fs::metadata(disk.parent().unwrap().join(named)).unwrap();
    let wanted = fs::metadata(backing).unwrap();
    assert_eq!((found.dev(), found.ino()), (wanted.dev(), wanted.ino()), "{}", disk.display());
}
