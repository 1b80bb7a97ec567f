//! The JSON of a box's two rows.
//!
//! Field names are those of the software whose homes can be adopted; fields that this version
//! does not know are carried along.

use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Code, Error, Result};
use crate::store::{ConfigRow, StateRow};

/// What a box is. Written once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BoxConfig {
    pub id: String,
    pub name: Option<String>,
    /// RFC 3339 with nanoseconds.
    pub created_at: String,
    pub container: Container,
    pub options: Options,
    /// What the image said when the box was made.
    pub image: ImageInfo,
    pub engine_kind: String,
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Container {
    /// 64 hexadecimal digits, random.
    pub id: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Options {
    pub cpus: u32,
    pub memory_mib: u32,
    pub disk_size_mib: u64,
    pub working_dir: Option<String>,
    pub env: Vec<(String, String)>,
    pub rootfs: RootFs,
    pub entrypoint: Option<Vec<String>>,
    pub cmd: Option<Vec<String>>,
    pub user: Option<String>,
    pub start_timeout_ms: u64,
    #[serde(default)]
    pub cold_boot: bool,
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum RootFs {
    /// An image reference.
    Image(String),
    /// A directory.
    RootfsPath(String),
}

/// What a box keeps of its image: enough to start without it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ImageInfo {
    pub manifest_digest: String,
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    pub env: Vec<(String, String)>,
    pub working_dir: String,
    pub user: String,
}

/// How a box is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BoxState {
    pub status: Status,
    pub pid: Option<u32>,
    pub container_id: Option<String>,
    /// RFC 3339.
    pub last_updated: String,
    /// Why the box failed.
    pub error_reason: Option<String>,
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// The life of a box.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(i32)]
pub enum Status {
    /// Made, never started.
    Configured = 1,
    Starting = 2,
    Running = 3,
    Stopping = 4,
    /// Stopped by request or by itself; its disk is intact.
    Stopped = 5,
    Paused = 6,
    /// It could not be started, or came to an unwanted end; its disk is kept, and it can be
    /// started again.
    Failed = 7,
    /// Something an older or newer version wrote.
    #[serde(other)]
    Unknown = 0,
}

impl Status {
    /// Whether a machine may be running.
    pub fn is_active(self) -> bool {
        matches!(self, Status::Starting | Status::Running | Status::Stopping | Status::Paused)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Status::Unknown => "unknown",
            Status::Configured => "configured",
            Status::Starting => "starting",
            Status::Running => "running",
            Status::Stopping => "stopping",
            Status::Stopped => "stopped",
            Status::Paused => "paused",
            Status::Failed => "failed",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn unreadable(id: &str, what: &str, error: &serde_json::Error) -> Error {
    Error::new(Code::Metadata, format!("the stored {what} of box {id} is unreadable: {error}"))
        .object(id)
}

impl BoxConfig {
    pub fn from_row(row: &ConfigRow) -> Result<BoxConfig> {
        serde_json::from_str(&row.json).map_err(|e| unreadable(&row.id, "configuration", &e))
    }

    pub fn to_row(&self, created: DateTime<Utc>) -> Result<ConfigRow> {
        Ok(ConfigRow {
            id: self.id.clone(),
            name: self.name.clone(),
            created_at: created.timestamp(),
            json: serde_json::to_string(self)
                .map_err(|e| unreadable(&self.id, "configuration", &e))?,
        })
    }

    /// The command that the box runs of itself, by the rules of container runtimes: a new
    /// entrypoint makes the image's cmd meaningless.
    pub fn command(&self) -> Vec<String> {
        let image = &self.image;
        let options = &self.options;
        let entrypoint = options.entrypoint.as_ref().unwrap_or(&image.entrypoint);
        let image_cmd = if options.entrypoint.is_some() { &[][..] } else { &image.cmd };
        let cmd = options.cmd.as_deref().unwrap_or(image_cmd);
        entrypoint.iter().chain(cmd).cloned().collect()
    }
}

impl BoxState {
    pub fn new(status: Status) -> BoxState {
        BoxState {
            status,
            pid: None,
            container_id: None,
            last_updated: String::new(),
            error_reason: None,
            unknown: Map::new(),
        }
    }

    pub fn from_row(row: &StateRow) -> Result<BoxState> {
        serde_json::from_str(&row.json).map_err(|e| unreadable(&row.id, "state", &e))
    }

    pub fn to_row(&self, id: &str) -> Result<StateRow> {
        let mut state = self.clone();
        state.last_updated = now();
        Ok(StateRow {
            id: id.to_owned(),
            status: state.status.as_str().to_owned(),
            pid: state.pid,
            json: serde_json::to_string(&state).map_err(|e| unreadable(id, "state", &e))?,
        })
    }
}

/// The time as it is written into rows.
pub fn now() -> String {
    Utc::now().to_rfc3339_opts(SecondsFormat::Nanos, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(entrypoint: Option<&[&str]>, cmd: Option<&[&str]>) -> BoxConfig {
        let list = |l: &[&str]| l.iter().map(|s| s.to_string()).collect::<Vec<_>>();
        BoxConfig {
            id: "x".into(),
            name: None,
            created_at: now(),
            container: Container { id: String::new() },
            options: Options {
                cpus: 1,
                memory_mib: 512,
                disk_size_mib: 1,
                working_dir: None,
                env: vec![],
                rootfs: RootFs::Image("i".into()),
                entrypoint: entrypoint.map(list),
                cmd: cmd.map(list),
                user: None,
                start_timeout_ms: 1,
                cold_boot: false,
                unknown: Map::new(),
            },
            image: ImageInfo {
                entrypoint: list(&["ie"]),
                cmd: list(&["ic"]),
                ..ImageInfo::default()
            },
            engine_kind: "Qemu".into(),
            unknown: Map::new(),
        }
    }

    #[test]
    fn entrypoint_and_cmd_combine_as_in_container_runtimes() {
        assert_eq!(config(None, None).command(), ["ie", "ic"]);
        assert_eq!(config(None, Some(&["c"])).command(), ["ie", "c"]);
        assert_eq!(config(Some(&["e"]), None).command(), ["e"]);
        assert_eq!(config(Some(&["e"]), Some(&["c"])).command(), ["e", "c"]);
        assert_eq!(config(Some(&[]), Some(&["c"])).command(), ["c"]);
    }

    #[test]
    fn unknown_fields_and_statuses_survive() {
        let json = r#"{"status":"hibernating","pid":null,"container_id":null,"last_updated":"",
            "error_reason":null,"lock_id":7,"health_status":{"state":"ok"}}"#;
        let row =
            StateRow { id: "x".into(), status: "hibernating".into(), pid: None, json: json.into() };
        let state = BoxState::from_row(&row).unwrap();
        assert_eq!(state.status, Status::Unknown);
        let written: Value = serde_json::from_str(&state.to_row("x").unwrap().json).unwrap();
        assert_eq!(written["lock_id"], 7);
        assert_eq!(written["health_status"]["state"], "ok");
    }
}
