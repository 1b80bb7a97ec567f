//! Archives of boxes that are not what they should be: each is refused with an error that says why, and
//! nothing of it stays in the home.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use boxlite::disk::overlay::DiskFormat;
use boxlite::disk::qcow2::{Layer, Reader, Stream};
use boxlite::{BoxHandle, Code, ImportOptions, Result, Runtime, RuntimeOptions};
use rusqlite::Connection;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::EntryType;
use tempfile::TempDir;

const DISK: &str = "disks/disk.qcow2";
const FIRST: &str = "snapshots/first/disk.qcow2";
const SIZE: u64 = 16 << 20;

/// A home, and a runtime that never starts anything.
struct Place {
    directory: TempDir,
    runtime: Runtime,
    imports: std::cell::Cell<u32>,
}

impl Place {
    fn new() -> Place {
        let directory = tempfile::Builder::new().prefix("boxlite-test-").tempdir().unwrap();
        let libexec = directory.path().join("libexec");
        fs::create_dir(&libexec).unwrap();
        fs::write(libexec.join("boxlite-shim"), "").unwrap();
        let mut options = RuntimeOptions::new();
        options.home(directory.path().join("home")).unwrap();
        options.libexec(libexec).unwrap();
        let runtime = Runtime::open(&options).unwrap();
        Place { directory, runtime, imports: 0.into() }
    }

    fn home(&self) -> PathBuf {
        self.directory.path().join("home")
    }

    async fn import(&self, bytes: &[u8], trusted: bool) -> Result<BoxHandle> {
        self.imports.set(self.imports.get() + 1);
        let path = self.directory.path().join("archive");
        fs::write(&path, bytes).unwrap();
        let mut options = ImportOptions::new();
        options.trusted(trusted);
        self.runtime.import(&path, &options, None).await
    }

    /// It is refused, and nothing has come of it.
    async fn refuses(&self, what: &str, bytes: &[u8], code: Code, wanted: &str) {
        let Err(error) = self.import(bytes, true).await else { panic!("{what} was accepted") };
        assert_eq!(error.code(), code, "{what}: {error}");
        assert!(error.message().contains(wanted), "{what}: {error}");
        self.has_nothing(what);
    }

    fn has_nothing(&self, what: &str) {
        for directory in ["boxes", "bases", "locks", "tmp"] {
            let mut names: Vec<_> = fs::read_dir(self.home().join(directory))
                .unwrap()
                .map(|entry| entry.unwrap().file_name())
                .filter(|name| name.to_string_lossy().starts_with("box-") || directory != "locks")
                .collect();
            names.retain(|name| name != "ballast");
            assert!(names.is_empty(), "{what}: {directory} has {names:?}");
        }
        let rows = ["box_config", "box_state", "snapshot", "base_disk", "intent"];
        let database = Connection::open(self.home().join("db/boxlite.db")).unwrap();
        for table in rows {
            let query = format!("SELECT count(*) FROM {table}");
            let count: u32 = database.query_row(&query, [], |row| row.get(0)).unwrap();
            assert_eq!(count, 0, "{what}: {table}");
        }
    }

    /// It is accepted; and its box goes again. Returns what was stored of it.
    async fn accepts(&self, bytes: &[u8], trusted: bool) -> Value {
        let handle = self.import(bytes, trusted).await.unwrap();
        let database = Connection::open(self.home().join("db/boxlite.db")).unwrap();
        let query = "SELECT json FROM box_config";
        let json: String = database.query_row(query, [], |row| row.get(0)).unwrap();
        self.runtime.remove(handle.id(), false).await.unwrap();
        self.has_nothing("a good one");
        serde_json::from_str(&json).unwrap()
    }
}

/// A qcow2 file with something in it, as archives have them.
fn disk(directory: &Path, seed: u8, backing: Option<&str>) -> Vec<u8> {
    let raw = directory.join("raw");
    let mut content = vec![0; SIZE as usize];
    for at in 0..40 {
        let start = at * 400_000 + usize::from(seed) * 1000;
        content[start..start + 5000].fill(seed + at as u8 % 16);
    }
    fs::write(&raw, content).unwrap();
    let layer =
        Layer { file: File::open(&raw).unwrap(), format: DiskFormat::Raw, name: "raw".into() };
    let reader = Reader::open(vec![layer]).unwrap();
    let backing = backing.map(|path| (Path::new(path), DiskFormat::Qcow2));
    let mut bytes = Vec::new();
    Stream::new(reader, backing).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

#[derive(Clone)]
struct Entry {
    name: Vec<u8>,
    kind: EntryType,
    /// What its header says.
    size: u64,
    bytes: Vec<u8>,
}

impl Entry {
    fn file(name: &str, bytes: &[u8]) -> Entry {
        let (name, kind) = (name.as_bytes().to_vec(), EntryType::Regular);
        Entry { name, kind, size: bytes.len() as u64, bytes: bytes.to_vec() }
    }

    fn of_kind(name: &str, kind: EntryType) -> Entry {
        Entry { name: name.as_bytes().to_vec(), kind, size: 0, bytes: vec![] }
    }
}

/// An archive in the making.
#[derive(Clone)]
struct Forge {
    disks: Vec<Entry>,
    manifest: Value,
    /// In its place.
    manifest_bytes: Option<Vec<u8>>,
}

impl Forge {
    /// A good one: a disk on a snapshot.
    fn new(directory: &Path) -> Forge {
        let first = disk(directory, 1, None);
        let top = disk(directory, 3, Some("../snapshots/first/disk.qcow2"));
        let manifest = json!({
            "version": 1,
            "exported_at": "2026-01-02T03:04:05.000000000Z",
            "name": "forged",
            "image": {
                "manifest_digest": "sha256:0", "entrypoint": [], "cmd": ["sh"],
                "env": [["PATH", "/bin"]], "working_dir": "", "user": ""
            },
            "options": {
                "cpus": 1, "memory_mib": 256, "disk_size_mib": 16, "working_dir": null,
                "env": [["A", "b"]], "rootfs": {"Image": "/home/somebody/secret/busybox"},
                "entrypoint": null, "cmd": null, "user": null, "start_timeout_ms": 60000,
                "main": "None", "on_main_exit": "Stop", "spool_bytes": 1048576,
                "volumes": [{"host_path": "/etc", "guest_path": "/mnt", "read_only": false}],
                "ports": [{"host_port": 22, "guest_port": 22}],
                "advanced": {"security": {"jailer_enabled": false}}
            },
            "disk": described(DISK, Some("first"), &top),
            "snapshots": [
                {"name": "first", "created_at": 1_700_000_000, "disk": described(FIRST, None, &first)}
            ]
        });
        let disks = vec![Entry::file(FIRST, &first), Entry::file(DISK, &top)];
        Forge { disks, manifest, manifest_bytes: None }
    }

    /// With another disk.
    fn with_disk(mut self, bytes: Vec<u8>) -> Forge {
        self.manifest["disk"]["sha256"] = hash(&bytes).into();
        self.manifest["disk"]["bytes"] = bytes.len().into();
        self.disks[1] = Entry::file(DISK, &bytes);
        self
    }

    fn tar(&self) -> Vec<u8> {
        let manifest = serde_json::to_vec(&self.manifest).unwrap();
        let manifest = self.manifest_bytes.as_ref().unwrap_or(&manifest);
        let mut tar = Vec::new();
        for entry in self.disks.iter().chain([&Entry::file("manifest.json", manifest)]) {
            let mut header = tar::Header::new_gnu();
            header.as_gnu_mut().unwrap().name[..entry.name.len()].copy_from_slice(&entry.name);
            header.set_entry_type(entry.kind);
            header.set_size(entry.size);
            header.set_mode(0o600);
            if matches!(entry.kind, EntryType::Symlink | EntryType::Link) {
                header.set_link_name("/etc/passwd").unwrap();
            }
            header.set_cksum();
            tar.extend(header.as_bytes());
            tar.extend(&entry.bytes);
            tar.resize(tar.len().next_multiple_of(512), 0);
        }
        tar.resize(tar.len() + 1024, 0);
        tar
    }

    fn bytes(&self) -> Vec<u8> {
        packed(&self.tar())
    }
}

fn packed(tar: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.include_checksum(true).unwrap();
    std::io::Write::write_all(&mut encoder, tar).unwrap();
    encoder.finish().unwrap()
}

fn described(file: &str, parent: Option<&str>, bytes: &[u8]) -> Value {
    json!({
        "file": file, "parent": parent, "virtual_bytes": SIZE, "bytes": bytes.len(),
        "sha256": hash(bytes)
    })
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn nothing_of_a_strangers_host_comes_along_unless_it_is_trusted() {
    let place = Place::new();
    let forge = Forge::new(place.directory.path());
    let stored = place.accepts(&forge.bytes(), false).await;
    let options = &stored["options"];
    for field in ["volumes", "ports", "advanced"] {
        assert!(options.get(field).is_none(), "{options}");
    }
    assert_eq!(options["rootfs"], json!({"Image": "busybox"}));
    assert_eq!((&options["memory_mib"], &options["env"]), (&json!(256), &json!([["A", "b"]])));
    let stored = place.accepts(&forge.bytes(), true).await;
    for field in ["volumes", "ports", "advanced", "rootfs"] {
        assert_eq!(stored["options"][field], forge.manifest["options"][field]);
    }
}

#[tokio::test]
async fn manifests_that_lie() {
    let place = Place::new();
    let forge = Forge::new(place.directory.path());
    let bad = Code::InvalidArgument;
    let long = "x".repeat(300);
    for (pointer, value, code, wanted) in [
        ("/version", json!(2), Code::Unsupported, "version 2"),
        ("/version", json!("1"), bad, "manifest is not valid"),
        ("/name", json!("a b"), bad, "a b"),
        ("/name", json!("../x"), bad, "../x"),
        ("/options/cpus", json!(0), bad, "cpus"),
        ("/options/cpus", json!(4_000_000_000u32), bad, "cpus"),
        ("/options/memory_mib", json!(1), bad, "memory_mib"),
        ("/options/env", json!([["A=B", "c"]]), bad, "A=B"),
        ("/options/env", json!([["A", "b\0c"]]), bad, "NUL"),
        ("/options/working_dir", json!("relative"), bad, "working_dir"),
        ("/options/labels", json!({"a b": "c"}), bad, "a b"),
        ("/options/main", json!({"Argv": []}), bad, "main"),
        ("/options/spool_bytes", json!(1), bad, "spool_bytes"),
        ("/options/rootfs", json!({"Disk": 1}), bad, "manifest is not valid"),
        ("/image/user", json!("a\0b"), bad, "user"),
        ("/image/working_dir", json!("relative"), bad, "working_dir"),
        ("/disk/sha256", json!("0".repeat(64)), bad, "the archive was damaged or changed"),
        ("/disk/bytes", json!(1), bad, "was 1 bytes"),
        ("/disk/virtual_bytes", json!(1u64 << 40), bad, "was said to have 1099511627776"),
        ("/disk/virtual_bytes", json!(u64::MAX), bad, "disk_size_mib"),
        ("/disk/parent", json!(null), bad, "says otherwise"),
        ("/disk/parent", json!("second"), bad, "does not come before"),
        ("/disk/file", json!("manifest.json"), bad, "the file of the disk"),
        ("/disk/other", json!(1), bad, "manifest is not valid"),
        ("/snapshots/0/disk/parent", json!("first"), bad, "does not come before"),
        ("/snapshots/0/disk/file", json!(DISK), bad, "the file of snapshot 'first'"),
        ("/snapshots/0/name", json!("second"), bad, "the file of snapshot 'second'"),
        ("/snapshots/0/name", json!("../first"), bad, "../first"),
        ("/snapshots/0/name", json!(long), bad, "255"),
        ("/snapshots", json!([]), bad, "does not come before it"),
        ("/snapshots/1", forge.manifest["snapshots"][0].clone(), bad, "two snapshots 'first'"),
    ] {
        let mut forge = forge.clone();
        let (parent, last) = pointer.rsplit_once('/').unwrap();
        match forge.manifest.pointer_mut(parent).unwrap() {
            Value::Array(list) if last == "1" => list.push(value),
            Value::Array(list) => list[last.parse::<usize>().unwrap()] = value,
            object => object[last] = value,
        }
        place.refuses(pointer, &forge.bytes(), code, wanted).await;
    }
    for (bytes, wanted) in [
        (b"".to_vec(), "manifest is not valid"),
        (b"[]".to_vec(), "manifest is not valid"),
        (b"{\"version\": 1}".to_vec(), "manifest is not valid"),
        (vec![b' '; 9 << 20], "are the most"),
        (vec![b'['; 1 << 20], "manifest is not valid"),
    ] {
        let forge = Forge { manifest_bytes: Some(bytes), ..forge.clone() };
        place.refuses("a manifest", &forge.bytes(), bad, wanted).await;
    }
}

#[tokio::test]
async fn files_that_no_archive_has() {
    let place = Place::new();
    let forge = Forge::new(place.directory.path());
    let bad = Code::InvalidArgument;
    for name in ["../x", "/etc/passwd", "disks/../disks/disk.qcow2", "./disks/disk.qcow2", "x", ""]
    {
        let mut forge = forge.clone();
        forge.disks.push(Entry::file(name, b"x"));
        place.refuses(name, &forge.bytes(), bad, "no archive has").await;
    }
    for name in ["snapshots/../disk.qcow2", "snapshots/a/b/disk.qcow2", "snapshots//disk.qcow2"] {
        let mut forge = forge.clone();
        forge.disks.push(Entry::file(name, b"x"));
        place.refuses(name, &forge.bytes(), bad, "no archive has").await;
    }
    use EntryType as E;
    for kind in [E::Symlink, E::Link, E::Directory, E::Char, E::Block, E::Fifo] {
        let mut forge = forge.clone();
        forge.disks.insert(0, Entry::of_kind("snapshots/a/disk.qcow2", kind));
        place.refuses(&format!("{kind:?}"), &forge.bytes(), bad, "no plain file").await;
    }
    let mut strange = forge.clone();
    strange.disks.push(Entry { name: b"\xff".to_vec(), ..Entry::file("", b"") });
    place.refuses("no UTF-8", &strange.bytes(), bad, "UTF-8").await;
    for (at, name) in [FIRST, DISK].into_iter().enumerate() {
        let mut twice = forge.clone();
        twice.disks.push(twice.disks[at].clone());
        place.refuses("twice", &twice.bytes(), bad, &format!("{name} twice")).await;
        let mut gone = forge.clone();
        gone.disks.remove(at);
        place.refuses("gone", &gone.bytes(), bad, &format!("does not have {name}")).await;
    }
    let mut more = forge.clone();
    more.disks.push(Entry::file("snapshots/more/disk.qcow2", b"x"));
    place.refuses("more", &more.bytes(), bad, "does not speak").await;
    let mut many = forge.clone();
    many.disks.extend((0..70).map(|n| Entry::file(&format!("snapshots/{n}/disk.qcow2"), b"x")));
    place.refuses("many", &many.bytes(), bad, "more than 64 disks").await;
    let mut endless = forge.clone();
    endless.disks[1].size = 1 << 40;
    place.refuses("endless", &endless.bytes(), bad, "not all there").await;
}

#[tokio::test]
async fn disks_that_are_no_disks_or_reach_outside() {
    let place = Place::new();
    let directory = place.directory.path();
    let forge = Forge::new(directory);
    let bad = Code::InvalidArgument;
    for path in
        ["/etc/passwd", "../../other/disks/disk.qcow2", "../snapshots/../../x", "disk.qcow2"]
    {
        let forge = forge.clone().with_disk(disk(directory, 3, Some(path)));
        place.refuses(path, &forge.bytes(), bad, "says otherwise").await;
    }
    let alone = forge.clone().with_disk(disk(directory, 3, None));
    place.refuses("on nothing", &alone.bytes(), bad, "it is on nothing").await;
    let good = forge.disks[1].bytes.clone();
    // Incompatible features: dirty is mended by those who write, the others are not known.
    for bit in [1u8, 2, 4, 5, 16, 63] {
        let mut bytes = good.clone();
        bytes[79 - usize::from(bit / 8)] |= 1 << (bit % 8);
        let forge = forge.clone().with_disk(bytes);
        let error = place.import(&forge.bytes(), false).await.err().unwrap();
        assert!(matches!(error.code(), Code::Unsupported | Code::Storage), "bit {bit}: {error}");
        place.has_nothing("features");
    }
    // Encryption, internal snapshots, tables that lie outside, sizes that cannot be.
    for (at, value) in
        [(32, 1u8), (60, 1), (63, 1), (40, 0x7f), (48, 0x7f), (24, 0xff), (20, 0xff), (36, 0xff)]
    {
        let mut bytes = good.clone();
        bytes[at] = value;
        let forge = forge.clone().with_disk(bytes);
        assert!(place.import(&forge.bytes(), false).await.is_err(), "byte {at}");
        place.has_nothing("a header");
    }
    let mut uncounted = good.clone();
    let table = u64::from_be_bytes(good[48..56].try_into().unwrap()) as usize;
    let block = u64::from_be_bytes(good[table..table + 8].try_into().unwrap()) as usize;
    uncounted[block + 1] = 0;
    let forge = forge.clone().with_disk(uncounted);
    place.refuses("counts", &forge.bytes(), bad, "reference counts").await;
    for bytes in [vec![], vec![0; 4096], good[..good.len() / 2].to_vec(), b"QFI\xfb".to_vec()] {
        let forge = forge.clone().with_disk(bytes);
        assert!(place.import(&forge.bytes(), false).await.is_err());
        place.has_nothing("no disk");
    }
}

#[tokio::test]
async fn archives_that_are_cut_or_changed() {
    let place = Place::new();
    let forge = Forge::new(place.directory.path());
    let bytes = forge.bytes();
    let bad = Code::InvalidArgument;
    let step = (bytes.len() / 150).max(1);
    for at in (0..bytes.len()).step_by(step).chain(bytes.len() - 8..bytes.len()) {
        place.refuses(&format!("cut at {at}"), &bytes[..at], bad, "").await;
    }
    // The first bytes have one bit that means nothing.
    for at in (6..bytes.len()).step_by(step) {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        let what = format!("byte {at} of {} changed", bytes.len());
        let error = place.import(&changed, true).await.err().expect(&what);
        assert!(
            matches!(error.code(), Code::InvalidArgument | Code::Unsupported),
            "{what}: {error}"
        );
        place.has_nothing(&what);
    }
    for behind in [&b"x"[..], &[0; 512], &bytes] {
        let longer = [&bytes, behind].concat();
        place.refuses("longer", &longer, bad, "goes on behind its end").await;
    }
    let mut tar = forge.tar();
    tar.extend([1; 512]);
    place.refuses("a longer tar", &packed(&tar), bad, "").await;
    for (what, bytes) in [("empty", &b""[..]), ("gzip", b"\x1f\x8b\x08\x00"), ("tar", &forge.tar())]
    {
        place.refuses(what, bytes, bad, "no archive of a box").await;
    }
    assert!(place.imports.get() > 250);
    place.accepts(&bytes, false).await;
}
