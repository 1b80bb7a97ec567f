//! Of the database as a whole: real files, opened as a home's are.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

fn rows(id: &str, name: Option<&str>, created_at: i64, status: &str) -> (ConfigRow, StateRow) {
    let config = ConfigRow {
        id: id.into(),
        name: name.map(Into::into),
        created_at,
        json: format!("{{\"id\":\"{id}\"}}"),
    };
    let pid = (status == "running").then_some(42);
    let json = format!("{{\"status\":\"{status}\",\"pid\":42,\"later\":[1]}}");
    (config, StateRow { id: id.into(), status: status.into(), pid, json })
}

fn save(store: &Store, id: &str, name: Option<&str>, created_at: i64, status: &str) {
    let (config, state) = rows(id, name, created_at, status);
    store.save(&config, &state, None).unwrap();
}

/// A home with nothing in it.
fn home() -> (TempDir, Home) {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::open(dir.path()).unwrap();
    (dir, home)
}

fn try_open(home: &Home) -> Result<Store> {
    let mut lock = HomeLock::share(home)?;
    Store::open(home, &mut lock).map(|(store, _)| store)
}

fn open() -> (TempDir, Store) {
    let (dir, home) = home();
    (dir, try_open(&home).unwrap())
}

fn ids(rows: Vec<(ConfigRow, StateRow)>) -> Vec<String> {
    rows.into_iter().map(|(c, _)| c.id).collect()
}

#[test]
fn a_box_is_found_until_it_is_deleted() {
    let (_dir, store) = open();
    let (config, state) = rows("a", Some("web"), 1, "configured");
    store.save(&config, &state, None).unwrap();
    assert_eq!(store.load("a").unwrap(), Some((config.clone(), state.clone())));
    assert_eq!(store.find("web").unwrap(), (config, state));
    assert_eq!(store.load("b").unwrap(), None);
    let intent = store.delete("a", "remove").unwrap().unwrap();
    assert_eq!(store.delete("a", "remove").unwrap(), None);
    assert_eq!(store.load("a").unwrap(), None);
    assert_eq!(store.find("a").unwrap_err().code(), Code::NotFound);
    assert_eq!(store.change_state("a", |_| Ok(None)).unwrap_err().code(), Code::NotFound);
    let intents = store.intents().unwrap();
    assert_eq!((intents.len(), intents[0].id, &*intents[0].box_id), (1, intent, "a"));
    assert!(store.known_ids().unwrap().contains("a"));
    store.end_intent(intent).unwrap();
    assert_eq!((store.intents().unwrap().len(), store.known_ids().unwrap().len()), (0, 0));
}

#[test]
fn the_beginning_of_an_id_finds_one_box_or_lists_them() {
    let (_dir, store) = open();
    for (id, name) in [("01AAX", None), ("01AAY", Some("web")), ("01B", Some("01A")), ("9", None)] {
        save(&store, id, name, 1, "configured");
    }
    let find = |wanted: &str| store.find(wanted).map(|(c, _)| c.id);
    assert_eq!(find("01AAX").unwrap(), "01AAX");
    assert_eq!(find("01AAY").unwrap(), "01AAY");
    // A name that is the beginning of others' ids is still a name.
    assert_eq!(find("01A").unwrap(), "01B");
    assert_eq!(find("9").unwrap(), "9");
    let several = find("01AA").unwrap_err();
    assert_eq!(several.code(), Code::InvalidArgument);
    assert!(several.message().contains("01AAX") && several.message().contains("01AAY (web)"));
    assert!(!several.message().contains("01B"), "{several}");
    for none in ["", "%", "_", "01%", "01b", "01AAXX", "we", "[0-9]", "*"] {
        assert_eq!(find(none).unwrap_err().code(), Code::NotFound, "{none:?}");
    }
}

#[test]
fn a_name_in_use_is_refused_by_its_name_and_nothing_is_written() {
    let (_dir, store) = open();
    save(&store, "a", Some("web"), 1, "configured");
    let intent = store.begin_intent("b", "create", "{}").unwrap();
    let (config, state) = rows("b", Some("web"), 1, "configured");
    for error in [
        store.save(&config, &state, Some(intent)).unwrap_err(),
        store.check_name("web").unwrap_err(),
    ] {
        assert_eq!((error.code(), error.failing_object()), (Code::AlreadyExists, Some("web")));
        assert!(error.message().contains("(a)"), "{error}");
    }
    assert_eq!(store.load("b").unwrap(), None);
    assert_eq!(store.intents().unwrap().len(), 1);
    let config = ConfigRow { name: None, ..config };
    store.save(&config, &state, Some(intent)).unwrap();
    assert_eq!(store.intents().unwrap(), []);
}

#[test]
fn boxes_are_listed_newest_first() {
    let (_dir, store) = open();
    for (id, at, status) in [("a", 5, "stopped"), ("b", 9, "paused"), ("c", 7, "running")] {
        save(&store, id, None, at, status);
    }
    assert_eq!(ids(store.list_all().unwrap()), ["b", "c", "a"]);
    assert_eq!(ids(store.list_active().unwrap()), ["b", "c"]);
}

#[test]
fn a_change_that_is_refused_changes_nothing() {
    let (_dir, store) = open();
    save(&store, "a", None, 1, "stopped");
    let refused = store.change_state("a", |_| Err(Error::new(Code::Busy, "no")));
    assert_eq!(refused.unwrap_err().code(), Code::Busy);
    let before = store.load("a").unwrap().unwrap().1;
    assert_eq!(store.change_state("a", |_| Ok(None)).unwrap(), before);
    let new = StateRow { status: "failed".into(), ..before };
    assert_eq!(store.change_state("a", |_| Ok(Some(new.clone()))).unwrap(), new);
    assert_eq!(store.load("a").unwrap().unwrap().1, new);
}

#[test]
fn a_reboot_stops_active_boxes_and_keeps_unknown_fields() {
    let (_dir, home) = home();
    let store = try_open(&home).unwrap();
    for (id, status) in [("a", "running"), ("b", "detached"), ("c", "configured"), ("d", "paused")]
    {
        save(&store, id, None, 1, status);
    }
    store.lock().execute("UPDATE box_state SET json = '{no' WHERE id = 'd'", []).unwrap();
    let reopen = || {
        let mut lock = HomeLock::share(&home).unwrap();
        let (store, mut stopped) = Store::open(&home, &mut lock).unwrap();
        stopped.sort();
        (store, stopped)
    };
    drop(store);
    let (store, stopped) = reopen();
    assert!(stopped.is_empty(), "no reboot, yet {stopped:?} were stopped");
    store.lock().execute("UPDATE alive SET boot_id = 'another'", []).unwrap();
    drop(store);
    let (store, stopped) = reopen();
    assert_eq!(stopped, ["a", "b", "d"]);
    let (_, state) = store.load("a").unwrap().unwrap();
    assert_eq!((state.status.as_str(), state.pid), ("stopped", None));
    let json: Value = serde_json::from_str(&state.json).unwrap();
    assert_eq!(json, json!({"status": "stopped", "pid": null, "later": [1]}));
    assert_eq!(store.load("c").unwrap().unwrap().1.status, "configured");
    assert_eq!(store.load("d").unwrap().unwrap().1.json, "{no");
}

#[test]
fn many_programs_may_make_the_database_at_once() {
    let (_dir, home) = home();
    std::thread::scope(|scope| {
        let opened: Vec<_> = (0..16).map(|_| scope.spawn(|| try_open(&home).map(drop))).collect();
        opened.into_iter().for_each(|t| t.join().unwrap().unwrap());
    });
}

// ---- homes of other software -------------------------------------------------------------------

/// The tables of the versions that can be adopted, as their software made them, with three boxes.
fn adoptable(home: &Home, version: i64) {
    let other = Connection::open(home.database()).unwrap();
    let mut tables = schema::BOXES_AND_IMAGES.to_owned();
    if version == 6 {
        tables += "CREATE TABLE box_snapshot (
            id TEXT PRIMARY KEY NOT NULL,
            box_id TEXT NOT NULL REFERENCES box_config (id) ON DELETE CASCADE,
            name TEXT NOT NULL,
            created_at INTEGER NOT NULL,
            snapshot_dir TEXT NOT NULL,
            guest_disk_bytes INTEGER,
            container_disk_bytes INTEGER,
            size_bytes INTEGER,
            UNIQUE (box_id, name)
        );";
    } else {
        tables += schema::BASE_DISKS;
    }
    other.execute_batch(&tables).unwrap();
    let set = "INSERT INTO schema_version VALUES (1, ?1, '2025-01-01T00:00:00Z')";
    other.execute(set, [version]).unwrap();
    let network =
        if version == 8 { json!({"Enabled": {"allow_net": ["a.b"]}}) } else { json!("Isolated") };
    for (id, name, status) in
        [("one", Some("web"), "stopped"), ("two", None, "failed"), ("three", None, "cloning")]
    {
        let config = json!({
            "id": id, "name": name, "created_at": "2025-01-01T00:00:00.000000001Z",
            "options": {"rootfs": {"Image": "alpine"}, "network": network, "detach": true},
            "box_home": "/gone", "of_later": {"a": [1, 2]},
        });
        let state = json!({
            "status": status, "pid": null, "container_id": null, "lock_id": 3,
            "last_updated": "", "error_reason": (status == "failed").then_some("it broke"),
        });
        let config = [id, &config.to_string()];
        other
            .execute(
                "INSERT INTO box_config (id, name, created_at, json) VALUES (?1, ?3, 7, ?2)",
                params![config[0], config[1], name],
            )
            .unwrap();
        other
            .execute(
                "INSERT INTO box_state (id, status, json) VALUES (?1, ?2, ?3)",
                params![id, status, state.to_string()],
            )
            .unwrap();
    }
    if version == 6 {
        other
            .execute(
                "INSERT INTO box_snapshot VALUES ('s', 'one', 'before', 9, '/h/boxes/one/snapshots/before',
                     1, 2, 3)",
                [],
            )
            .unwrap();
    }
}

#[test]
fn homes_of_versions_6_to_8_are_adopted_with_all_they_hold() {
    for version in 6..=8 {
        let (_dir, home) = home();
        adoptable(&home, version);
        let before = fs::read(home.database()).unwrap();
        let store = try_open(&home).unwrap();
        let (config, state) = store.find("web").unwrap();
        let json: Value = serde_json::from_str(&config.json).unwrap();
        assert_eq!((&*config.id, config.created_at), ("one", 7));
        assert_eq!(json["of_later"], json!({"a": [1, 2]}));
        assert_eq!(json["box_home"], "/gone");
        let allowed = if version == 8 { json!(["a.b"]) } else { json!([]) };
        assert_eq!(json["options"]["network"], json!({"Enabled": {"allow_net": allowed}}));
        assert_eq!(json["options"]["detach"], true);
        assert_eq!(state.status, "stopped");
        let state: Value =
            serde_json::from_str(&store.load("two").unwrap().unwrap().1.json).unwrap();
        assert_eq!((&state["error_reason"], &state["lock_id"]), (&json!("it broke"), &json!(3)));
        assert_eq!(store.load("three").unwrap().unwrap().1.status, "cloning");
        if version == 6 {
            let snapshot: String = store
                .lock()
                .query_row("SELECT json FROM snapshot WHERE box_id = 'one'", [], |r| r.get(0))
                .unwrap();
            let snapshot: Value = serde_json::from_str(&snapshot).unwrap();
            assert_eq!(snapshot["base_path"], "/h/boxes/one/snapshots/before/disk.qcow2");
            assert_eq!(
                (&snapshot["container_disk_bytes"], &snapshot["created_at"]),
                (&json!(2), &json!(9))
            );
        }
        // What it was before is beside it, and it is ours now: the next open changes nothing.
        drop(store);
        let copy = migrate::backup(&home.database(), version);
        let kept = Connection::open(&copy).unwrap();
        assert_eq!(schema::version(&kept).unwrap(), version);
        assert!(!schema::is_marked(&kept).unwrap());
        assert!(before.len() <= fs::metadata(&copy).unwrap().len() as usize);
        let connection = Connection::open(home.database()).unwrap();
        assert!(schema::is_marked(&connection).unwrap());
        assert_eq!(schema::version(&connection).unwrap(), schema::VERSION);
        drop(connection);
        try_open(&home).unwrap();
    }
}

#[test]
fn adopted_tables_are_those_of_a_new_home() {
    let shape = |home: &Home| -> Vec<String> {
        let connection = Connection::open(home.database()).unwrap();
        let mut tables = connection
            .prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name")
            .unwrap();
        tables.query_map([], |r| r.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    };
    let (_dir, new) = home();
    drop(try_open(&new).unwrap());
    for version in 6..=8 {
        let (_dir, old) = home();
        adoptable(&old, version);
        drop(try_open(&old).unwrap());
        assert_eq!(shape(&old), shape(&new));
    }
}

#[test]
fn a_step_that_fails_leaves_its_version_and_is_taken_again() {
    let (_dir, home) = home();
    adoptable(&home, 6);
    let mut connection = Connection::open(home.database()).unwrap();
    fn refuse(_: &Home, _: &Connection) -> Result<()> {
        Err(Error::new(Code::Storage, "no room"))
    }
    fn half(_: &Home, transaction: &Transaction<'_>) -> Result<()> {
        let done = transaction.execute_batch("CREATE TABLE half (a); SELECT no_such_function()");
        done.map_err(|e| schema::error("change the tables", &e))
    }
    let step = |to, files, tables| migrate::Step { to, files, tables };
    let first = || step(7, migrate::no_files, adopt::STEPS[0].tables);
    let error =
        migrate::run(&home, &mut connection, &[first(), step(8, refuse, adopt::STEPS[1].tables)])
            .unwrap_err();
    assert!(
        error.message().contains("version 8") && error.message().contains("no room"),
        "{error}"
    );
    assert_eq!(schema::version(&connection).unwrap(), 7);
    migrate::run(&home, &mut connection, &[first(), step(8, migrate::no_files, half)]).unwrap_err();
    assert_eq!(schema::version(&connection).unwrap(), 7);
    connection.query_row("SELECT * FROM half", [], |_| Ok(())).unwrap_err();
    drop(connection);
    let store = try_open(&home).unwrap();
    assert_eq!(store.list_all().unwrap().len(), 3);
    // Each try has left a copy of what it found.
    for version in [6, 7] {
        assert!(migrate::backup(&home.database(), version).is_file());
    }
}

#[test]
fn a_home_that_is_in_use_is_not_migrated() {
    let (_dir, home) = home();
    adoptable(&home, 7);
    let _other = HomeLock::share(&home).unwrap();
    let before = fs::read(home.database()).unwrap();
    let error = try_open(&home).err().unwrap();
    assert_eq!(error.code(), Code::Busy);
    let holder = format!("(process {})", std::process::id());
    assert!(error.message().contains(&holder), "{error}");
    assert_eq!(fs::read(home.database()).unwrap(), before);
}

#[test]
fn two_who_would_adopt_a_home_do_it_once() {
    let (_dir, home) = home();
    adoptable(&home, 6);
    std::thread::scope(|scope| {
        let opened: Vec<_> = (0..4).map(|_| scope.spawn(|| try_open(&home).map(drop))).collect();
        opened.into_iter().for_each(|t| t.join().unwrap().unwrap());
    });
    let store = try_open(&home).unwrap();
    let count: i64 =
        store.lock().query_row("SELECT count(*) FROM snapshot", [], |r| r.get(0)).unwrap();
    assert_eq!(count, 1);
}

// ---- what cannot be used -----------------------------------------------------------------------

/// All files of the database's directory, with what is in them.
fn files(home: &Home) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(home.database().parent().unwrap())
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|path| !path.to_string_lossy().ends_with("-shm"))
        .map(|path| (path.to_string_lossy().into_owned(), fs::read(&path).unwrap()))
        .collect();
    files.sort();
    files
}

/// The home's database is refused, with these words, and left as it is.
fn refused(home: &Home, code: Code, words: &[&str]) {
    let before = files(home);
    let error = try_open(home).err().expect("it was opened");
    assert_eq!(error.code(), code, "{error}");
    for word in words {
        assert!(error.message().contains(word), "{word:?} is not in: {error}");
    }
    assert!(files(home) == before, "the files have changed");
}

/// A database of ours with a box whose row is in the write-ahead log only, as a killed program leaves
/// it.
fn with_a_log() -> (TempDir, Home) {
    let (dir, home) = home();
    let store = try_open(&home).unwrap();
    for n in 0..50 {
        save(&store, &format!("box{n}"), None, n, "stopped");
    }
    let copy = dir.path().join("copy");
    fs::create_dir(&copy).unwrap();
    for name in ["boxlite.db", "boxlite.db-wal"] {
        fs::copy(home.root().join("db").join(name), copy.join(name)).unwrap();
    }
    drop(store);
    for name in ["boxlite.db", "boxlite.db-wal"] {
        fs::copy(copy.join(name), home.root().join("db").join(name)).unwrap();
    }
    assert!(fs::metadata(copy.join("boxlite.db-wal")).unwrap().len() > 0);
    (dir, home)
}

#[test]
fn what_a_killed_program_wrote_is_there() {
    let (_dir, home) = with_a_log();
    assert_eq!(try_open(&home).unwrap().list_all().unwrap().len(), 50);
}

#[test]
fn newer_and_unknown_homes_are_refused_and_left_untouched() {
    for (version, words) in [(5, ["5", "6 to 8"]), (9, ["9", "6 to 8"]), (99, ["99", "6 to 8"])] {
        let (_dir, home) = home();
        adoptable(&home, 8);
        let other = Connection::open(home.database()).unwrap();
        other.execute("UPDATE schema_version SET version = ?1", [version]).unwrap();
        drop(other);
        refused(&home, Code::Database, &words);
    }
    let (_dir, home) = home();
    let other = Connection::open(home.database()).unwrap();
    other.execute_batch("CREATE TABLE songs (id INTEGER)").unwrap();
    drop(other);
    refused(&home, Code::Database, &["other software"]);
}

#[test]
fn a_newer_home_of_ours_is_refused_by_both_versions_also_with_a_log() {
    let (_dir, home) = with_a_log();
    let store = try_open(&home).unwrap();
    store.lock().execute("UPDATE schema_version SET version = 99", []).unwrap();
    // As if killed: the log has it, the file does not.
    let saved = files(&home);
    drop(store);
    for (path, bytes) in saved {
        fs::write(path, bytes).unwrap();
    }
    refused(&home, Code::Database, &["99", &schema::VERSION.to_string(), "newer"]);
}

#[test]
fn damaged_databases_are_refused_and_left_untouched() {
    let whole = || {
        let (dir, home) = home();
        let store = try_open(&home).unwrap();
        for n in 0..200 {
            save(&store, &format!("box{n}"), None, n, "stopped");
        }
        drop(store);
        let bytes = fs::read(home.database()).unwrap();
        (dir, home, bytes)
    };
    let (_dir, home, bytes) = whole();
    let cases: [(&str, Vec<u8>); 6] = [
        ("garbage", vec![7; 10_000]),
        ("cut to half", bytes[..bytes.len() / 2].to_vec()),
        ("cut by a page", bytes[..bytes.len() - 4096].to_vec()),
        ("cut within the header", bytes[..50].to_vec()),
        ("holes", bytes.iter().enumerate().map(|(i, b)| if i > 8192 { 0 } else { *b }).collect()),
        ("a header only", bytes[..100].to_vec()),
    ];
    for (what, damaged) in cases {
        fs::write(home.database(), &damaged).unwrap();
        let error = try_open(&home).err().unwrap_or_else(|| panic!("{what} was opened"));
        assert_eq!(error.code(), Code::Database, "{what}: {error}");
        assert!(error.message().contains("boxlite.db"), "{error}");
        assert!(fs::read(home.database()).unwrap() == damaged, "{what} has changed");
    }
    fs::write(home.database(), &bytes).unwrap();
    assert_eq!(try_open(&home).unwrap().list_all().unwrap().len(), 200);
}

#[test]
fn an_empty_database_among_boxes_is_refused() {
    let (_dir, home) = home();
    fs::create_dir(home.boxes().join("somebodys")).unwrap();
    refused(&home, Code::Database, &["empty", "1 boxes"]);
    fs::write(home.database(), b"").unwrap();
    refused(&home, Code::Database, &["empty"]);
    fs::remove_dir(home.boxes().join("somebodys")).unwrap();
    try_open(&home).unwrap();
}

#[test]
fn a_locked_database_is_waited_for_and_then_busy() {
    let (_dir, home) = home();
    let store = try_open(&home).unwrap();
    let mut other = Connection::open(home.database()).unwrap();
    let held = schema::begin(&mut other).unwrap();
    store.lock().busy_timeout(std::time::Duration::from_millis(50)).unwrap();
    let error = store.begin_intent("a", "create", "{}").unwrap_err();
    assert_eq!((error.code(), error.is_retryable()), (Code::Busy, true));
    drop(held);
    store.begin_intent("a", "create", "{}").unwrap();
}

#[test]
fn a_read_only_database_is_said_to_be() {
    // Permissions do not bind root; what is immutable does, where the file system has that.
    let (_dir, home) = home();
    drop(try_open(&home).unwrap());
    let path = home.database();
    let root = nix::unistd::geteuid().is_root();
    let chattr = |flag: &str| {
        let status = std::process::Command::new("chattr").arg(flag).arg(&path).status();
        status.is_ok_and(|s| s.success())
    };
    let set = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    if root && !chattr("+i") {
        return;
    }
    if !root {
        set(0o400);
    }
    let outcome = try_open(&home).err();
    if root {
        assert!(chattr("-i"));
    } else {
        set(0o600);
    }
    let error = outcome.expect("it was opened");
    assert_eq!(error.code(), Code::Storage, "{error}");
    assert!(error.message().contains("read-only"), "{error}");
    try_open(&home).unwrap();
}
