//! Databases that cannot be used: each is refused by its own name, and left as it is, byte for byte.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use boxlite::{BoxOptions, Code, Error, Result, Runtime, RuntimeOptions};
use rusqlite::Connection;
use tempfile::TempDir;

/// As whom this program runs again: see `another_program`.
const ROLE: &str = "BOXLITE_DAMAGED_ROLE";
const HOME: &str = "BOXLITE_DAMAGED_HOME";

/// The user who owns nothing.
const NOBODY: u32 = 65534;

fn open(home: &Path) -> Result<Runtime> {
    let libexec = home.parent().unwrap().join("libexec");
    fs::create_dir_all(&libexec).unwrap();
    fs::write(libexec.join("boxlite-shim"), "").unwrap();
    let mut options = RuntimeOptions::new();
    options.home(home)?;
    options.libexec(libexec)?;
    Runtime::open(&options)
}

fn try_open(home: &Path) -> Result<()> {
    let tasks = tokio::runtime::Runtime::new().unwrap();
    tasks.block_on(async { open(home).map(drop) })
}

/// How many boxes there are; or that they cannot be read, which is no crash either.
fn count(home: &Path) -> Result<usize> {
    let tasks = tokio::runtime::Runtime::new().unwrap();
    tasks.block_on(async { open(home)?.list().await.map(|infos| infos.len()) })
}

fn database(home: &Path) -> PathBuf {
    home.join("db/boxlite.db")
}

const MANY: usize = 60;

/// A home with boxes that have rows only.
fn home() -> (TempDir, PathBuf) {
    let place = tempfile::Builder::new().prefix("boxlite-test-").tempdir().unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let home = place.path().join("home");
    try_open(&home).unwrap();
    let database = Connection::open(database(&home)).unwrap();
    for n in 0..MANY {
        let config = format!(
            r#"{{"id":"box{n}","name":null,"created_at":"2026-01-01T00:00:00Z","container":{{"id":"{}"}},
            "options":{{"rootfs":{{"Image":"{}"}}}}}}"#,
            "0".repeat(64),
            "a long reference ".repeat(20),
        );
        let state = r#"{"status":"stopped","pid":null}"#;
        database
            .execute("INSERT INTO box_config VALUES (?1, NULL, 1, ?2)", [format!("box{n}"), config])
            .unwrap();
        database
            .execute(
                "INSERT INTO box_state VALUES (?1, 'stopped', NULL, ?2)",
                [&format!("box{n}"), state],
            )
            .unwrap();
    }
    drop(database);
    assert_eq!(count(&home).unwrap(), MANY);
    (place, home)
}

/// Every file of the database, but what says nothing: the shared memory of those who have it open, and an
/// empty log, which SQLite makes to read.
fn files(home: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(home.join("db")).unwrap().map(|e| e.unwrap().path());
    let lasting = entries.filter(|path| !path.to_string_lossy().ends_with("-shm"));
    let read = lasting.map(|path| (path.clone(), fs::read(path).unwrap()));
    read.filter(|(path, bytes)| !(bytes.is_empty() && path.to_string_lossy().ends_with("-wal")))
        .collect()
}

/// The home is refused with these words, and nothing has changed.
fn refused(home: &Path, code: Code, words: &[&str]) -> Error {
    let before = files(home);
    let error = try_open(home).expect_err("it was opened");
    assert_eq!(error.code(), code, "{error}");
    for word in words.iter().chain(&["boxlite.db"]) {
        assert!(error.to_string().contains(word), "{word:?} is not in: {error}");
    }
    assert!(files(home) == before, "the files have changed: {error}");
    error
}

#[test]
fn a_truncated_or_overwritten_database_is_refused() {
    let (_place, home) = home();
    let whole = fs::read(database(&home)).unwrap();
    let cut = |length: usize| whole[..length].to_vec();
    let over = |at: usize, bytes: &[u8]| {
        let mut damaged = whole.clone();
        damaged[at..at + bytes.len()].copy_from_slice(bytes);
        damaged
    };
    let cases = [
        ("two bytes", cut(2)),
        ("a header", cut(100)),
        ("a page", cut(4096)),
        ("half", cut(whole.len() / 2)),
        ("all but a byte", cut(whole.len() - 1)),
        ("all but a page", cut(whole.len() - 4096)),
        ("another file", b"#!/bin/sh\nexit 0\n".repeat(1000)),
        ("zeros", vec![0; whole.len()]),
        ("a header of zeros", over(0, &[0; 100])),
        ("pages of zeros", over(4096, &vec![0; whole.len() - 4096])),
        ("a first page of 0xff after its header", over(100, &[0xff; 3996])),
        ("a page size that is none", over(16, &[0x12, 0x34])),
        ("a schema format that nobody knows", over(44, &[0, 0, 0, 99])),
    ];
    for (what, bytes) in cases {
        eprintln!("{what}");
        fs::write(database(&home), bytes).unwrap();
        refused(&home, Code::Database, &[]);
    }
    // Less than two bytes are no database yet to SQLite; but where there are boxes there was one.
    fs::create_dir_all(home.join("boxes/somebodys")).unwrap();
    for length in [0, 1] {
        fs::write(database(&home), cut(length)).unwrap();
        refused(&home, Code::Database, &["empty"]);
    }
    fs::write(database(&home), &whole).unwrap();
    assert_eq!(count(&home).unwrap(), MANY);
}

/// Bytes anywhere, as a failing disk writes them. What nothing depends on may be damaged unnoticed; but
/// nothing is ever written to a file that was refused, and nobody crashes.
#[test]
fn flipped_bytes_are_refused_or_harm_nobody() {
    let (_place, home) = home();
    let whole = fs::read(database(&home)).unwrap();
    let seed = std::process::id();
    println!("seed {seed}");
    let mut random = u64::from(seed) + 1;
    let mut below = |limit: usize| {
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % limit
    };
    let mut refusals = 0;
    for _ in 0..60 {
        let mut damaged = whole.clone();
        let page = below(whole.len() / 4096) * 4096;
        // A whole page, or a few bytes of one.
        let (from, length) =
            if below(2) == 0 { (page, 4096) } else { (page + below(4000), 1 + below(64)) };
        for byte in &mut damaged[from..from + length] {
            *byte = below(256) as u8;
        }
        fs::write(database(&home), &damaged).unwrap();
        match count(&home) {
            Ok(_) => {}
            // A row's JSON; the home itself is usable.
            Err(error) if error.code() == Code::Metadata => {}
            Err(error) => {
                assert_eq!(error.code(), Code::Database, "{error}");
                let found = fs::read(database(&home)).unwrap();
                assert!(found == damaged, "the file has changed: {error}");
                refusals += 1;
            }
        }
        for rest in ["db/boxlite.db-wal", "db/boxlite.db-shm"] {
            let _ = fs::remove_file(home.join(rest));
        }
    }
    assert!(refusals > 10, "only {refusals} were refused");
}

#[test]
fn a_newer_or_a_strangers_database_is_refused_by_what_it_is() {
    let (_place, home) = home();
    let set = |sql: &str| Connection::open(database(&home)).unwrap().execute_batch(sql).unwrap();
    set("UPDATE schema_version SET version = 4711");
    refused(&home, Code::Database, &["newer", "4711", "upgrade"]);
    // The mark of another program, on the same tables.
    set("PRAGMA application_id = 1234");
    refused(&home, Code::Database, &["other software", "4711"]);
    set("DELETE FROM schema_version");
    refused(&home, Code::Database, &["other software"]);
    set("DROP TABLE schema_version");
    refused(&home, Code::Database, &["other software"]);
}

/// This program again, as somebody else. Not a test: nothing happens without a role.
#[test]
fn another_program() {
    let Some(role) = std::env::var_os(ROLE) else { return };
    let home = PathBuf::from(std::env::var_os(HOME).unwrap());
    if role == "open" {
        match try_open(&home) {
            Ok(()) => println!("\nopened"),
            Err(error) => println!("\n{:?}: {error}", error.code()),
        }
        return;
    }
    let database = Connection::open(database(&home)).unwrap();
    database.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE").unwrap();
    println!("\nlocked");
    // Until it is told, by the end of its input, to end.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

fn run_again(role: &str, home: &Path, user: Option<u32>) -> Command {
    // Whoever that is may not reach the directory of this program.
    let program = home.parent().unwrap().join(format!("program-{role}"));
    if !program.exists() {
        // Not by us: a thread that forks meanwhile would have it open for writing, and it could not run.
        let mut copy = Command::new("cp");
        let copied = copy.arg(std::env::current_exe().unwrap()).arg(&program).status().unwrap();
        assert!(copied.success());
    }
    let mut command = Command::new(program);
    command.args(["--exact", "another_program", "--nocapture"]).env(ROLE, role).env(HOME, home);
    if let Some(user) = user {
        command.uid(user).gid(user).env_remove("XDG_CACHE_HOME").env("HOME", home);
    }
    command
}

#[test]
fn a_database_that_another_program_has_locked_is_busy() {
    let (_place, home) = home();
    let mut holder = run_again("lock", &home, None);
    let mut holder = holder.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(holder.stdout.take().unwrap()).lines();
    assert!(said.any(|line| line.unwrap() == "locked"));
    let error = refused(&home, Code::Busy, &["locked"]);
    assert!(error.is_retryable());
    drop(holder.stdin.take());
    said.for_each(drop);
    assert!(holder.wait().unwrap().success());
    assert_eq!(count(&home).unwrap(), MANY);
}

/// Root may write whatever the permissions are, so somebody else tries; who is not root tries himself.
#[test]
fn a_database_or_a_home_that_may_not_be_written_is_said_to_be_read_only() {
    let (place, home) = home();
    let root = rustix::process::geteuid().is_root();
    let user = root.then_some(NOBODY);
    let libexec = place.path().join("libexec");
    let own = |path: &Path| chown(path, user, user).unwrap();
    let mut all =
        vec![place.path().to_owned(), libexec.clone(), libexec.join("boxlite-shim"), home.clone()];
    let mut directories = vec![home.clone()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path.clone());
            }
            all.push(path);
        }
    }
    all.iter().for_each(|path| own(path));
    let mode =
        |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let said = || {
        let output = run_again("open", &home, user).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{text}");
        let line = text.lines().find(|l| l.contains(": ") || *l == "opened");
        line.unwrap_or_else(|| panic!("it said {text}")).to_owned()
    };
    assert_eq!(said(), "opened");

    let before = files(&home);
    mode(&database(&home), 0o400);
    let error = said();
    assert!(error.starts_with("Storage: ") && error.contains("read-only"), "{error}");
    assert!(error.contains("boxlite.db"), "{error}");
    assert_eq!(fs::read_dir(home.join("db")).unwrap().count(), 1, "something was left beside it");
    mode(&database(&home), 0o000);
    let error = said();
    assert!(error.starts_with("Storage: ") && error.contains("boxlite.db"), "{error}");
    mode(&database(&home), 0o600);
    mode(&home.join("db"), 0o500);
    let error = said();
    assert!(error.starts_with("Storage: ") && error.contains("boxlite.db"), "{error}");
    mode(&home.join("db"), 0o700);
    mode(&home, 0o500);
    let error = said();
    assert!(error.starts_with("Storage: ") && error.contains(home.to_str().unwrap()), "{error}");
    mode(&home, 0o700);
    let after = files(&home);
    let lengths = |files: &BTreeMap<PathBuf, Vec<u8>>| {
        files
            .iter()
            .map(|(path, bytes)| format!("{} {}", path.display(), bytes.len()))
            .collect::<Vec<_>>()
    };
    assert!(after == before, "{:?} became {:?}", lengths(&before), lengths(&after));
    assert_eq!(said(), "opened");
}

/// A home that was refused is good again when its cause is gone, and a box can be made in it.
#[test]
fn what_was_refused_is_used_again_when_its_cause_is_gone() {
    let Some(images) = std::env::var_os("BOXLITE_TEST_IMAGES").map(PathBuf::from) else {
        eprintln!("skipped: BOXLITE_TEST_IMAGES is not set");
        return;
    };
    let (_place, home) = home();
    let set = |sql: &str| Connection::open(database(&home)).unwrap().execute_batch(sql).unwrap();
    let version: i64 = Connection::open(database(&home))
        .unwrap()
        .query_row("SELECT version FROM schema_version", [], |r| r.get(0))
        .unwrap();
    set("UPDATE schema_version SET version = 4711");
    refused(&home, Code::Database, &["newer"]);
    set(&format!("UPDATE schema_version SET version = {version}"));
    let tasks = tokio::runtime::Runtime::new().unwrap();
    tasks.block_on(async {
        let runtime = open(&home).unwrap();
        let options = BoxOptions::new(images.join("busybox").to_str().unwrap()).unwrap();
        let made = runtime.create(&options, None).await.unwrap();
        assert_eq!(runtime.list().await.unwrap().len(), MANY + 1);
        runtime.remove(made.id(), false).await.unwrap();
    });
}
