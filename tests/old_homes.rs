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

#[tokio::test(flavor = "multi_thread")]
async fn a_box_whose_disk_is_not_where_it_belongs_says_so_and_loses_nothing() {
    let (place, home) = place();
    make(&home, 6);
    let runtime = open(&place, &home).unwrap();
    let error = runtime.get("web").await.unwrap().start(None).await.unwrap_err();
    assert_eq!(error.code(), Code::Storage, "{error}");
    let wanted = home.join("boxes").join(BOXES[0].id).join("disks/disk.qcow2");
    assert!(error.message().contains(wanted.to_str().unwrap()), "{error}");
    is_told(&runtime, false).await;
    drop(runtime);
    for name in ["disk.qcow2", "guest-rootfs.qcow2"] {
        assert!(home.join("boxes").join(BOXES[0].id).join(name).is_file());
    }
    is_all_there(&home, 6);
}

/// The images of the tests, unless this run has none, or no machines.
fn images() -> Option<PathBuf> {
    let path = |name| std::env::var_os(name).map(PathBuf::from);
    path("BOXLITE_LIBEXEC").and(path("BOXLITE_TEST_IMAGES"))
}

/// Puts an image's disk below that of a box, as the other software does.
fn put_disk(place: &Path, home: &Path, id: &str, images: &Path) {
    let directory = |name: &str| {
        let path = place.join(name);
        fs::create_dir_all(&path).unwrap();
        path
    };
    let reference = images.join("busybox");
    let image = Resolver::new(directory("tmp")).resolve(reference.to_str().unwrap()).unwrap();
    let cache = DiskCache::new(directory("images"), directory("locks"));
    let go_on = &mut |_: &boxlite::image::Progress| ControlFlow::Continue(());
    let base = cache.ensure_disk(&image, 64 << 20, &[], go_on).unwrap();
    let disk = home.join("boxes").join(id).join("disks/disk.qcow2");
    let mut make = Command::new("qemu-img");
    make.args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"]).arg(base).arg(disk);
    assert!(make.status().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_box_of_version_8_starts_from_its_disk_and_goes_on() {
    let Some(images) = images() else {
        eprintln!("skipped: BOXLITE_TEST_IMAGES and BOXLITE_LIBEXEC are not set");
        return;
    };
    let (place, home) = place();
    make(&home, 8);
    let old = BOXES.iter().find(|b| b.name == Some(STAYS)).unwrap();
    put_disk(place.path(), &home, old.id, &images);
    let runtime = open(&place, &home).unwrap();
    let handle = runtime.get(STAYS).await.unwrap();
    for script in ["echo kept > /mine; sync; echo kept $LANG", "cat /mine; echo $LANG"] {
        let argv = ["sh", "-c", script].map(String::from).to_vec();
        let output = handle.run(&ExecOptions::new(argv).unwrap(), 1 << 12).await.unwrap();
        let words: Vec<_> = output.stdout.bytes.split(u8::is_ascii_whitespace).collect();
        assert!(words.starts_with(&[b"kept", b"C.UTF-8"]), "{output:?}");
        handle.stop(Duration::ZERO).await.unwrap();
    }
    // The others are to be removed when they are stopped: by us, and not before.
    assert_eq!(runtime.list().await.unwrap().len(), BOXES.len());
    runtime.shutdown(Duration::ZERO).await.unwrap();
}
