//! Homes as the software left them whose homes can be adopted: the tables of its schema versions 6 to 8,
//! and the JSON of its version 0.9.5.

use std::fs;
use std::path::Path;

use rusqlite::{Connection, params};
use serde_json::{Value, json};

pub mod disks;

const TABLES: &str = "
CREATE TABLE schema_version (
    id INTEGER PRIMARY KEY CHECK (id = 1), version INTEGER NOT NULL, updated_at TEXT NOT NULL
);
CREATE TABLE box_config (
    id TEXT PRIMARY KEY NOT NULL, name TEXT UNIQUE, created_at INTEGER NOT NULL, json TEXT NOT NULL
);
CREATE INDEX idx_box_config_created_at ON box_config (created_at);
CREATE INDEX idx_box_config_name ON box_config (name);
CREATE TABLE box_state (
    id TEXT PRIMARY KEY NOT NULL REFERENCES box_config (id) ON DELETE CASCADE,
    status TEXT NOT NULL, pid INTEGER, json TEXT NOT NULL
);
CREATE INDEX idx_box_state_status ON box_state (status);
CREATE INDEX idx_box_state_pid ON box_state (pid);
CREATE TABLE alive (
    id INTEGER PRIMARY KEY CHECK (id = 1), boot_id TEXT NOT NULL, started_at INTEGER NOT NULL
);
CREATE TABLE image_index (
    reference TEXT PRIMARY KEY NOT NULL, manifest_digest TEXT NOT NULL, config_digest TEXT NOT NULL,
    layers TEXT NOT NULL, cached_at TEXT NOT NULL, complete INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX idx_image_index_manifest_digest ON image_index (manifest_digest);
";

const SNAPSHOTS_OF_6: &str = "
CREATE TABLE box_snapshot (
    id TEXT PRIMARY KEY NOT NULL,
    box_id TEXT NOT NULL REFERENCES box_config (id) ON DELETE CASCADE,
    name TEXT NOT NULL, created_at INTEGER NOT NULL, snapshot_dir TEXT NOT NULL,
    guest_disk_bytes INTEGER NOT NULL, container_disk_bytes INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL, UNIQUE (box_id, name)
);
";

const SNAPSHOTS_OF_7: &str = "
CREATE TABLE base_disk (
    id TEXT PRIMARY KEY NOT NULL, source_box_id TEXT NOT NULL, name TEXT,
    kind TEXT NOT NULL CHECK (kind IN ('snapshot', 'clone_base', 'rootfs')),
    base_path TEXT NOT NULL, created_at INTEGER NOT NULL, json TEXT NOT NULL,
    UNIQUE (source_box_id, name)
);
CREATE INDEX idx_base_disk_source_box_id ON base_disk (source_box_id);
CREATE INDEX idx_base_disk_kind ON base_disk (kind);
CREATE INDEX idx_base_disk_base_path ON base_disk (base_path);
CREATE TABLE base_disk_ref (
    base_disk_id TEXT NOT NULL, box_id TEXT NOT NULL, PRIMARY KEY (base_disk_id, box_id)
);
CREATE TABLE snapshot (
    id TEXT PRIMARY KEY NOT NULL, box_id TEXT NOT NULL, name TEXT NOT NULL,
    created_at INTEGER NOT NULL, json TEXT NOT NULL, UNIQUE (box_id, name)
);
CREATE INDEX idx_snapshot_box_id ON snapshot (box_id);
";

/// A box of such a home.
pub struct OldBox {
    pub id: &'static str,
    pub name: Option<&'static str>,
    pub image: &'static str,
    /// As it is written there, and as it is told today, when the host has not been down since.
    pub status: &'static str,
    pub today: &'static str,
    pub error: Option<&'static str>,
}

const fn old(
    id: &'static str,
    name: Option<&'static str>,
    status: &'static str,
    today: &'static str,
) -> OldBox {
    OldBox { id, name, image: "docker.io/library/alpine:3.20", status, today, error: None }
}

/// The one that is not removed when it is stopped.
pub const STAYS: &str = "running-once";

pub const BOXES: &[OldBox] = &[
    old("01JD2W3X4Y5Z6A7B8C9D0E1F2G", Some("web"), "stopped", "stopped"),
    OldBox {
        error: Some("krun_start_enter failed with -22"),
        ..old("01JD2W3X4Y5Z6A7B8C9D0E1F2H", Some("db.main"), "failed", "failed")
    },
    OldBox {
        image: "/srv/rootfs",
        ..old("01JD2W3X4Y5Z6A7B8C9D0E1F2J", None, "configured", "configured")
    },
    old("01JD2W3X4Y5Z6A7B8C9D0E1F2K", Some(STAYS), "running", "stopped"),
    old("01JD2W3X4Y5Z6A7B8C9D0E1F2M", None, "starting", "configured"),
    old("01JD2W3X4Y5Z6A7B8C9D0E1F2N", None, "paused", "stopped"),
    old("01JD2W3X4Y5Z6A7B8C9D0E1F2P", None, "detached", "stopped"),
    old("01JD2W3X4Y5Z6A7B8C9D0E1F2Q", None, "snapshotting", "stopped"),
    old("01JD2W3X4Y5Z6A7B8C9D0E1F2R", None, "cloning", "stopped"),
    old("an-id_of_another-kind", Some("odd"), "hibernating", "unknown"),
];

/// Makes such a home, with disks where its version keeps them.
pub fn make(home: &Path, version: i64) {
    fs::create_dir_all(home.join("db")).unwrap();
    let database = Connection::open(home.join("db/boxlite.db")).unwrap();
    database.pragma_update(None, "journal_mode", "WAL").unwrap();
    let snapshots = if version == 6 { SNAPSHOTS_OF_6 } else { SNAPSHOTS_OF_7 };
    database.execute_batch(&[TABLES, snapshots].concat()).unwrap();
    let set = "INSERT INTO schema_version VALUES (1, ?1, '2025-11-02T09:00:00.123456789+00:00')";
    database.execute(set, [version]).unwrap();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    database.execute("INSERT INTO alive VALUES (1, ?1, 1762074000)", [boot.trim()]).unwrap();
    for (at, old) in BOXES.iter().enumerate() {
        let created_at = 1_762_074_000 + i64::try_from(at).unwrap();
        let (config, state) = (config(home, old, version), state(old));
        let values = params![old.id, old.name, created_at, config.to_string()];
        let insert = "INSERT INTO box_config (id, name, created_at, json) VALUES (?1, ?2, ?3, ?4)";
        database.execute(insert, values).unwrap();
        let values = params![old.id, old.status, state["pid"].as_i64(), state.to_string()];
        let insert = "INSERT INTO box_state (id, status, pid, json) VALUES (?1, ?2, ?3, ?4)";
        database.execute(insert, values).unwrap();
    }
    disks::make(home, version);
    let (id, directory) =
        (BOXES[0].id, home.join("boxes").join(BOXES[0].id).join("snapshots/before"));
    let directory = directory.to_str().unwrap();
    let insert = if version == 6 {
        format!(
            "INSERT INTO box_snapshot VALUES ('s1', '{id}', 'before', 9, '{directory}', 1, 2, 3)"
        )
    } else {
        let json = json!({"id": "s1", "base_path": format!("{directory}/disk.qcow2"), "later": 1});
        format!("INSERT INTO snapshot VALUES ('s1', '{id}', 'before', 9, '{json}')")
    };
    database.execute_batch(&insert).unwrap();
}

/// The configuration of a box, as 0.9.5 writes it.
fn config(home: &Path, old: &OldBox, version: i64) -> Value {
    let directory = home.join("boxes").join(old.id);
    let network = if version == 8 {
        json!({"Enabled": {"allow_net": ["example.org"]}})
    } else {
        json!("Isolated")
    };
    let rootfs = if old.image.starts_with('/') {
        json!({"RootfsPath": old.image})
    } else {
        json!({"Image": old.image})
    };
    json!({
        "id": old.id,
        "name": old.name,
        "created_at": "2025-11-02T09:00:00.123456789Z",
        "container": {"id": "0123456789abcdef".repeat(4)},
        "options": {
            "cpus": 2, "memory_mib": 1024, "disk_size_gb": null, "working_dir": null,
            "env": [["LANG", "C.UTF-8"]], "rootfs": rootfs,
            "volumes": [{"host_path": "/srv/data", "guest_path": "/data", "read_only": true}],
            "network": network,
            "ports": [{"host_port": 8080, "guest_port": 80, "protocol": "Tcp", "host_ip": null}],
            "auto_remove": old.name != Some(STAYS), "detach": false,
            "advanced": {
                "security": {"jailer_enabled": false, "seccomp_enabled": true},
                "isolate_mounts": false, "health_check": null
            },
            "entrypoint": null, "cmd": ["sleep", "infinity"], "user": null, "secrets": [],
            "of_a_later_version": {"list": [1, 2.5, "three"]}
        },
        "engine_kind": "Libkrun",
        "transport": {"Unix": {"socket_path": directory.join("sockets/box.sock")}},
        "box_home": directory,
        "ready_socket_path": directory.join("sockets/ready.sock"),
        "unknown_at_the_top": [null, true]
    })
}

fn state(old: &OldBox) -> Value {
    let alive = matches!(old.status, "running" | "detached" | "paused");
    json!({
        "status": old.status,
        // Nobody has this number: it is beyond what a kernel gives.
        "pid": alive.then_some(0x7fff_fff0u32),
        "container_id": "0123456789abcdef".repeat(4),
        "last_updated": "2025-11-02T09:30:00.5Z",
        "lock_id": 17,
        "health_status": {"state": "None", "failures": 0, "last_check": null},
        "error_reason": old.error,
        "unknown_too": {"a": {"b": 1}}
    })
}

/// Whether what such a home had is in its database as today's software has it: ids, names, error reasons,
/// and every field that it does not know.
pub fn is_all_there(home: &Path, version: i64) {
    let database = Connection::open(home.join("db/boxlite.db")).unwrap();
    let mut query = database
        .prepare("SELECT c.id, c.name, c.json, s.json FROM box_config c JOIN box_state s USING (id) ORDER BY c.created_at")
        .unwrap();
    let row = |r: &rusqlite::Row<'_>| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?));
    let rows = query
        .query_map([], row)
        .unwrap()
        .collect::<Result<Vec<(String, Option<String>, String, String)>, _>>();
    let rows = rows.unwrap();
    assert_eq!(rows.len(), BOXES.len());
    for ((id, name, config, state), old) in rows.iter().zip(BOXES) {
        assert_eq!((&**id, name.as_deref()), (old.id, old.name));
        let found: Value = serde_json::from_str(config).unwrap();
        let mut wanted = self::config(home, old, version);
        if version < 8 {
            wanted["options"]["network"] = json!({"Enabled": {"allow_net": []}});
        }
        for path in ["/box_home", "/ready_socket_path", "/transport/Unix/socket_path"] {
            // The home may have been moved since: what is written of it stays as it was.
            *wanted.pointer_mut(path).unwrap() = found.pointer(path).expect(path).clone();
        }
        assert_eq!(found, wanted);
        let found: Value = serde_json::from_str(state).unwrap();
        let wanted = self::state(old);
        // As it was, or corrected by whoever looked at the box or found that the host had been down.
        let statuses = [Some(old.status), Some(old.today), Some("stopped")];
        assert!(statuses.contains(&found["status"].as_str()), "{id} is {}", found["status"]);
        for field in ["container_id", "lock_id", "health_status", "error_reason", "unknown_too"] {
            assert_eq!(found[field], wanted[field], "{field} of {id}");
        }
    }
    disks::are_right(home, version);
    let count = |what: &str| -> i64 { database.query_row(what, [], |r| r.get(0)).unwrap() };
    assert_eq!(count("SELECT count(*) FROM snapshot WHERE name = 'before'"), 1);
    assert_eq!(count("SELECT count(*) FROM sqlite_schema WHERE name = 'box_snapshot'"), 0);
}
