//! Homes that other software has left, as their user finds them again: through the library alone.

mod old_home;

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use boxlite::image::{DiskCache, Resolver};
use boxlite::{BoxInfo, Code, ExecOptions, Result, Runtime, RuntimeOptions};
use old_home::{BOXES, STAYS, is_all_there, make};
use rusqlite::Connection;
use tempfile::TempDir;

/// Helpers that are never run, unless these tests were given some.
fn libexec(place: &Path) -> PathBuf {
    let given = std::env::var_os("BOXLITE_LIBEXEC").map(PathBuf::from);
    given.unwrap_or_else(|| {
        let none = place.join("libexec");
        fs::create_dir_all(&none).unwrap();
        fs::write(none.join("boxlite-shim"), "").unwrap();
        none
    })
}

fn open(place: &TempDir, home: &Path) -> Result<Runtime> {
    let mut options = RuntimeOptions::new();
    options.home(home)?;
    options.libexec(libexec(place.path()))?;
    Runtime::open(&options)
}

fn place() -> (TempDir, PathBuf) {
    let place = tempfile::Builder::new().prefix("boxlite-test-").tempdir().unwrap();
    let home = place.path().join("home");
    (place, home)
}

/// What the library tells of its boxes, in the order in which they were made.
async fn told(runtime: &Runtime) -> Vec<BoxInfo> {
    let mut infos = runtime.list().await.unwrap();
    infos.reverse();
    infos
}

/// Everything that is told is what the home had.
async fn is_told(runtime: &Runtime, rebooted: bool) {
    let infos = told(runtime).await;
    assert_eq!(infos.len(), BOXES.len());
    for (info, old) in infos.iter().zip(BOXES) {
        assert_eq!((&*info.id, info.name.as_deref()), (old.id, old.name));
        assert_eq!((&*info.image, info.error.as_deref()), (old.image, old.error), "{}", old.id);
        let was_active = matches!(old.status, "starting" | "running" | "paused" | "detached");
        let today = if rebooted && was_active { "stopped" } else { old.today };
        assert_eq!(info.status.as_str(), today, "{} was {}", old.id, old.status);
        assert_eq!((info.cpus, info.memory_mib, info.pid), (2, 1024, None));
        assert_eq!(info.created_at, "2025-11-02T09:00:00.123456789Z");
        let wanted = old.name.unwrap_or(old.id);
        assert_eq!(runtime.get(wanted).await.unwrap().id(), old.id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn homes_of_versions_6_to_8_open_with_all_they_had() {
    for version in 6..=8 {
        for rebooted in [false, true] {
            let (place, home) = place();
            make(&home, version);
            if rebooted {
                let database = Connection::open(home.join("db/boxlite.db")).unwrap();
                database.execute("UPDATE alive SET boot_id = 'of another day'", []).unwrap();
            }
            for _ in 0..2 {
                let runtime = open(&place, &home).unwrap();
                is_told(&runtime, rebooted).await;
                drop(runtime);
                is_all_there(&home, version);
            }
            let copy = Connection::open(home.join(format!("db/boxlite.db.v{version}"))).unwrap();
            let of = |query| copy.query_row(query, [], |r| r.get::<_, i64>(0)).unwrap();
            assert_eq!(of("SELECT version FROM schema_version"), version);
            assert_eq!(of("SELECT count(*) FROM box_config"), BOXES.len() as i64);
            assert_eq!(of("PRAGMA application_id"), 0);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_may_be_moved_before_it_is_adopted_and_after() {
    for version in 6..=8 {
        let (place, home) = place();
        make(&home, version);
        let elsewhere = place.path().join("a place with spaces/and more");
        fs::create_dir_all(elsewhere.parent().unwrap()).unwrap();
        fs::rename(&home, &elsewhere).unwrap();
        is_told(&open(&place, &elsewhere).unwrap(), false).await;
        fs::rename(&elsewhere, &home).unwrap();
        is_told(&open(&place, &home).unwrap(), false).await;
        is_all_there(&home, version);
    }
}

/// The images of the tests, unless this run has none, or no machines.
fn images() -> Option<PathBuf> {
    let path = |name| std::env::var_os(name).map(PathBuf::from);
    path("BOXLITE_LIBEXEC").and(path("BOXLITE_TEST_IMAGES"))
}

/// Puts an image's disk below that of a box, and a file into it, as the other software leaves them: a disk
/// on a snapshot on the image's.
fn put_disk(home: &Path, id: &str, images: &Path, flat: bool) {
    let directory = |name: &str| {
        let path = home.join(name);
        fs::create_dir_all(&path).unwrap();
        path
    };
    let reference = images.join("busybox");
    let image = Resolver::new(directory("tmp")).resolve(reference.to_str().unwrap()).unwrap();
    let cache = DiskCache::new(directory("images"), directory("locks"));
    let go_on = &mut |_: &boxlite::image::Progress| ControlFlow::Continue(());
    let base = cache.ensure_disk(&image, 64 << 20, &[], go_on).unwrap();
    let boxes = home.join("boxes").join(id);
    let frozen = boxes.join("snapshots/put/disk.qcow2");
    fs::create_dir_all(frozen.parent().unwrap()).unwrap();
    let disk = boxes.join(if flat { "disk.qcow2" } else { "disks/disk.qcow2" });
    let work = home.join("tmp/work");
    fs::copy(&base, &work).unwrap();
    for (path, backing, format, text) in
        [(&frozen, &base, "raw", "before"), (&disk, &frozen, "qcow2", "kept")]
    {
        let file = home.join("tmp/text");
        fs::write(&file, format!("{text}\n")).unwrap();
        run(Command::new("debugfs").args(["-w", "-R", "rm /mine"]).arg(&work));
        let write = format!("write {} /mine", file.display());
        run(Command::new("debugfs").args(["-w", "-R", &write]).arg(&work));
        let mut convert = Command::new("qemu-img");
        convert.args(["convert", "-q", "-f", "raw", "-O", "qcow2", "-F", format, "-B"]);
        run(convert.arg(backing).arg(&work).arg(path));
        fs::remove_file(file).unwrap();
    }
    fs::remove_file(work).unwrap();
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
}

async fn says(runtime: &Runtime, script: &str) -> String {
    let handle = runtime.get(STAYS).await.unwrap();
    let argv = ["sh", "-c", script].map(String::from).to_vec();
    let output = handle.run(&ExecOptions::new(argv).unwrap(), 1 << 12).await.unwrap();
    handle.stop(Duration::ZERO).await.unwrap();
    assert!(output.stderr.bytes.is_empty(), "{output:?}");
    String::from_utf8(output.stdout.bytes.to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn boxes_start_from_their_disks_and_go_on_in_homes_that_move() {
    let Some(images) = images() else {
        eprintln!("skipped: BOXLITE_TEST_IMAGES and BOXLITE_LIBEXEC are not set");
        return;
    };
    for version in [6, 8] {
        let (place, home) = place();
        make(&home, version);
        let old = BOXES.iter().find(|b| b.name == Some(STAYS)).unwrap();
        put_disk(&home, old.id, &images, version == 6);
        let moved = place.path().join("moved once");
        fs::rename(&home, &moved).unwrap();
        let runtime = open(&place, &moved).unwrap();
        assert_eq!(
            says(&runtime, "cat /mine; echo $LANG; echo more >> /mine; sync").await,
            "kept\nC.UTF-8\n"
        );
        // The others are to be removed when they are stopped: by us, and not before.
        assert_eq!(runtime.list().await.unwrap().len(), BOXES.len());
        runtime.shutdown(Duration::ZERO).await.unwrap();
        drop(runtime);
        let again = place.path().join("moved again");
        fs::rename(&moved, &again).unwrap();
        let runtime = open(&place, &again).unwrap();
        assert_eq!(says(&runtime, "cat /mine").await, "kept\nmore\n");
        runtime.shutdown(Duration::ZERO).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_of_an_older_home_is_gone_back_to() {
    let Some(images) = images() else { return };
    let (place, home) = place();
    make(&home, 6);
    let old = BOXES.iter().find(|b| b.name == Some(STAYS)).unwrap();
    put_disk(&home, old.id, &images, true);
    let directory = home.join("boxes").join(old.id).join("snapshots/put");
    let database = Connection::open(home.join("db/boxlite.db")).unwrap();
    let row = (old.id, directory.to_str().unwrap());
    database
        .execute("INSERT INTO box_snapshot VALUES ('s9', ?1, 'put', 9, ?2, 1, 2, 3)", row)
        .unwrap();
    drop(database);
    let runtime = open(&place, &home).unwrap();
    let handle = runtime.get(STAYS).await.unwrap();
    handle.restore_snapshot("put").await.unwrap();
    assert_eq!(says(&runtime, "cat /mine").await, "before\n");
    let snapshot = handle.snapshot("put").await.unwrap().unwrap();
    assert_eq!(
        (snapshot.created_at.as_str(), snapshot.virtual_bytes),
        ("1970-01-01T00:00:09Z", 64 << 20)
    );
    runtime.shutdown(Duration::ZERO).await.unwrap();
}

/// A box of an older home in which a snapshot was interrupted.
struct Interrupted {
    place: TempDir,
    home: PathBuf,
    version: i64,
    directory: PathBuf,
    disk: PathBuf,
}

impl Interrupted {
    /// With a disk, no snapshot, and what a marker is to say.
    fn new(version: i64, marker: &str) -> Interrupted {
        let (place, home) = place();
        make(&home, version);
        let directory = home.join("boxes").join(BOXES[6].id);
        let disk = directory.join(if version == 6 { "disk.qcow2" } else { "disks/disk.qcow2" });
        let said = marker.replace("BOX", directory.to_str().unwrap());
        let said = said.replace("HOME", home.to_str().unwrap());
        fs::write(directory.join(".snapshot_pending"), said).unwrap();
        Interrupted { place, home, version, directory, disk }
    }

    fn frozen(&self, name: &str) -> PathBuf {
        let path = self.directory.join("snapshots").join(name).join("disk.qcow2");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    /// The home is adopted; what became of the box, whose disk is in its new place.
    fn adopted(&mut self) -> &mut Interrupted {
        let runtime = open(&self.place, &self.home).unwrap();
        drop(runtime);
        self.disk = self.directory.join("disks/disk.qcow2");
        self
    }

    fn has_marker(&self) -> bool {
        self.directory.join(".snapshot_pending").exists()
    }

    fn has_row(&self, name: &str) -> bool {
        let database = Connection::open(self.home.join("db/boxlite.db")).unwrap();
        let query = "SELECT count(*) FROM snapshot WHERE box_id = ?1 AND name = ?2";
        database.query_row(query, [BOXES[6].id, name], |r| r.get::<_, i64>(0)).unwrap() == 1
    }
}

const MARKER: &str = r#"{"snapshot_dir": "BOX/snapshots/s", "container_disk": "BOX/disk.qcow2"}"#;

#[tokio::test(flavor = "multi_thread")]
async fn interrupted_snapshots_are_ended_or_left_to_be_looked_at() {
    for version in [6, 8] {
        // The disk was taken, and nothing has its place.
        for marker in [MARKER, "{", "[]", r#"{"snapshot_dir": 7}"#] {
            let mut old = Interrupted::new(version, marker);
            fs::rename(&old.disk, old.frozen("s")).unwrap();
            old.adopted();
            assert!(old.disk.is_file() && !old.directory.join("snapshots/s").exists(), "{marker}");
            assert!(!old.has_marker() && !old.has_row("s"), "{marker}");
        }
        // Another disk is in its place that is not on it.
        let mut old = Interrupted::new(version, MARKER);
        fs::copy(&old.disk, old.frozen("s")).unwrap();
        old.adopted();
        assert!(old.disk.is_file() && old.frozen("s").is_file());
        assert!(old.has_marker() && !old.has_row("s"));
        // Nothing had happened.
        let mut old = Interrupted::new(version, MARKER);
        fs::create_dir_all(old.directory.join("snapshots/s")).unwrap();
        old.adopted();
        assert!(old.disk.is_file() && !old.directory.join("snapshots/s").exists());
        assert!(!old.has_marker());
        // There is neither.
        let mut old = Interrupted::new(version, MARKER);
        fs::create_dir_all(old.directory.join("snapshots/s")).unwrap();
        fs::remove_file(&old.disk).unwrap();
        old.adopted();
        assert!(!old.disk.exists() && !old.directory.join("snapshots/s").exists());
        assert!(old.has_marker());
        // A marker that says nothing, and no snapshot or two that could be meant.
        for snapshots in [&[][..], &["a", "b"]] {
            let mut old = Interrupted::new(version, "nothing");
            for name in snapshots {
                fs::copy(&old.disk, old.frozen(name)).unwrap();
            }
            old.adopted();
            assert!(old.disk.is_file() && !old.has_marker());
            let kept = fs::read(old.directory.join(".snapshot_pending.corrupt")).unwrap();
            assert_eq!(kept, b"nothing");
            assert!(snapshots.iter().all(|name| old.frozen(name).is_file()));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_went_to_the_bases_comes_back() {
    for version in [6, 8] {
        let mut old = Interrupted::new(version, r#"{"bases_dir": "HOME/bases"}"#);
        let bases = old.home.join("bases");
        fs::create_dir_all(&bases).unwrap();
        // Older, or in use.
        for (name, days) in [("older.qcow2", 3), ("used.qcow2", 0), ("mine.qcow2", 1)] {
            fs::copy(&old.disk, bases.join(name)).unwrap();
            let file = fs::File::options().write(true).open(bases.join(name)).unwrap();
            let time = std::time::SystemTime::now() - Duration::from_secs(days * 86_400);
            file.set_modified(time).unwrap();
        }
        fs::remove_file(&old.disk).unwrap();
        let other = old.home.join("boxes").join(BOXES[7].id);
        let other = other.join(if version == 6 { "disk.qcow2" } else { "disks/disk.qcow2" });
        fs::remove_file(&other).unwrap();
        old_home::disks::create(&other, &bases.join("used.qcow2"), "qcow2");
        old.adopted();
        assert!(old.disk.is_file() && !old.has_marker());
        let left = |name: &str| bases.join(name).exists();
        assert!(left("older.qcow2") && left("used.qcow2") && !left("mine.qcow2"));

        let mut old = Interrupted::new(version, r#"{"bases_dir": "HOME/bases"}"#);
        fs::remove_file(&old.disk).unwrap();
        old.adopted();
        assert!(!old.disk.exists() && old.has_marker(), "{}", old.version);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn homes_that_lack_what_others_have() {
    let (place, home) = place();
    make(&home, 6);
    fs::remove_dir_all(home.join("boxes")).unwrap();
    let database = Connection::open(home.join("db/boxlite.db")).unwrap();
    database.execute_batch("DROP TABLE box_snapshot").unwrap();
    drop(database);
    let runtime = open(&place, &home).unwrap();
    is_told(&runtime, false).await;
    let error = runtime.get("web").await.unwrap().start(None).await.unwrap_err();
    assert_eq!(error.code(), Code::Storage, "{error}");
    assert!(error.message().contains("disks/disk.qcow2"), "{error}");
}

/// A box whose disk is on a file that is nowhere is reported, and says so; the others are as ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_on_a_file_that_is_lost_or_outside_keeps_nobody_else_from_working() {
    let (place, home) = place();
    make(&home, 6);
    let outside = place.path().join("outside.raw");
    fs::write(&outside, vec![0; 16 << 20]).unwrap();
    for (at, backing) in [(7, Path::new("/nowhere/at.all")), (8, &outside)] {
        let disk = home.join("boxes").join(BOXES[at].id).join("disk.qcow2");
        let mut rebase = Command::new("qemu-img");
        rebase.args(["rebase", "-u", "-F", "raw", "-b"]).arg(backing).arg(&disk);
        run(&mut rebase);
    }
    let runtime = open(&place, &home).unwrap();
    is_told(&runtime, false).await;
    for at in [7, 8] {
        let error = runtime.get(BOXES[at].id).await.unwrap().start(None).await.unwrap_err();
        assert_eq!(error.code(), Code::Storage, "{error}");
        assert!(error.message().contains("disks/disk.qcow2"), "{error}");
    }
}
