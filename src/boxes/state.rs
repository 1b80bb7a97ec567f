//! How a box is: its status, and the only ways from one to another.
//!
//! ```text
//!   configured ─┐
//!      stopped ─┼─ start ─> starting ─ started ─> running <─ resume ─┐
//!       failed ─┘              │                   │    └─ pause ─> paused
//!          ^                   │                   └──── stop ────────┤
//!          │                   │                                      v
//!          └─ cancel ──────────┤                                   stopping
//!                              v                                      │
//!                 stopped or failed <─ end, of whatever is active ────┘
//! ```
//!
//! Each start is a *run* with an id of its own. What belongs to a run (that it has started, that it was
//! paused, that it has ended) changes nothing once another has begun: several programs may report the
//! same end, and one of them late.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::config::{now, unreadable};
use crate::error::{Code, Error, Result};
use crate::store::StateRow;

/// The life of a box.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(i32)]
pub enum Status {
    /// Made, never started.
    Configured = 1,
    Starting = 2,
    #[serde(alias = "detached")]
    Running = 3,
    Stopping = 4,
    /// Stopped by request or by itself; its disk is intact.
    #[serde(alias = "snapshotting", alias = "restoring", alias = "exporting", alias = "cloning")]
    Stopped = 5,
    /// Its machine stands still.
    Paused = 6,
    /// It could not be started, or came to an unwanted end; its disk is kept, and it can be
    /// started again.
    Failed = 7,
    /// Something an older or newer version wrote, or what cannot be read.
    #[serde(other)]
    Unknown = 0,
}

impl Status {
    /// Whether a machine may be running.
    pub fn is_active(self) -> bool {
        matches!(self, Status::Starting | Status::Running | Status::Stopping | Status::Paused)
    }

    /// The status with this number, if there is one.
    pub fn from_i32(number: i32) -> Option<Status> {
        use Status::*;
        let all = [Unknown, Configured, Starting, Running, Stopping, Stopped, Paused, Failed];
        all.into_iter().find(|status| *status as i32 == number)
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

/// What happens to a box. All but the first belong to a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Somebody begins to start it.
    Start,
    /// Its machine runs, under a supervisor of this process id.
    Started {
        pid: u32,
    },
    /// The start was given up: it is again as it was before.
    Cancel {
        before: Status,
    },
    /// It stands still; why, if nobody asked for that.
    Pause {
        why: Option<String>,
    },
    Resume,
    /// Somebody begins to stop it.
    Stop,
    /// Whoever was stopping it has died, and had not asked its supervisor yet.
    RunOn,
    /// Its machine is gone.
    End(End),
}

/// How a run ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct End {
    /// Whether that was unwanted.
    pub failed: bool,
    /// What there is to tell of it.
    pub reason: Option<String>,
}

/// How a box is, as it is written down.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BoxState {
    pub status: Status,
    pub pid: Option<u32>,
    #[serde(default)]
    pub container_id: Option<String>,
    /// RFC 3339.
    #[serde(default)]
    pub last_updated: String,
    /// Why the box failed, or ended unasked.
    #[serde(default)]
    pub error_reason: Option<String>,
    /// The id of the last run, a ULID.
    #[serde(default)]
    pub run: Option<String>,
    /// The disk's size, if it was made larger than its configuration says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_size_mib: Option<u64>,
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

impl BoxState {
    /// That of a box that was just made.
    pub fn new() -> BoxState {
        BoxState {
            status: Status::Configured,
            pid: None,
            container_id: None,
            last_updated: String::new(),
            error_reason: None,
            run: None,
            disk_size_mib: None,
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

    /// The state after something happened in a run. None if that makes no difference: the run is over,
    /// or it was so already. INVALID_STATE if it cannot happen to a box of this status.
    pub fn after(&self, run: &str, change: &Change) -> Result<Option<BoxState>> {
        let begins = matches!(change, Change::Start);
        if !begins && self.run.as_deref() != Some(run) {
            return Ok(None);
        }
        let Some(status) = self.status.after(change) else {
            return match (self.status, change) {
                (Status::Stopped | Status::Failed, Change::End(_)) => Ok(None),
                _ => Err(self.refusal(change)),
            };
        };
        let mut state = BoxState { status, ..self.clone() };
        match change {
            Change::Start => {
                (state.run, state.pid, state.error_reason) = (Some(run.to_owned()), None, None);
            }
            Change::Started { pid } => state.pid = Some(*pid),
            Change::Cancel { .. } => state.pid = None,
            Change::End(end) => {
                (state.pid, state.error_reason) = (None, end.reason.clone());
            }
            Change::Pause { why } => state.error_reason.clone_from(why),
            Change::Resume => state.error_reason = None,
            Change::Stop | Change::RunOn => {}
        }
        Ok((state != *self).then_some(state))
    }

    fn refusal(&self, change: &Change) -> Error {
        let (what, remedy) = match change {
            Change::Start => ("started", "stop it first"),
            Change::Started { .. } => ("running", "start it first"),
            Change::Cancel { .. } => ("as before its start", "it was not being started"),
            Change::Pause { .. } => ("paused", "only a running box can be"),
            Change::Resume => ("resumed", "only a paused box can be"),
            Change::Stop => ("stopped", "it does not run"),
            Change::RunOn => ("running on", "nobody was stopping it"),
            Change::End(_) => ("at its end", "it does not run"),
        };
        Error::new(
            Code::InvalidState,
            format!("a box that is {} cannot be {what}: {remedy}", self.status),
        )
    }
}

impl Status {
    /// Where something leads from here.
    fn after(self, change: &Change) -> Option<Status> {
        use Status::*;
        match (self, change) {
            (Configured | Stopped | Failed | Unknown, Change::Start) => Some(Starting),
            (Starting, Change::Started { .. }) => Some(Running),
            (Starting, Change::Cancel { before }) if !before.is_active() => Some(*before),
            (Running | Paused, Change::Pause { .. }) => Some(Paused),
            (Running | Paused, Change::Resume) => Some(Running),
            (Starting | Running | Paused | Stopping, Change::Stop) => Some(Stopping),
            (Stopping, Change::RunOn) => Some(Running),
            (Starting | Running | Paused | Stopping, Change::End(end)) => {
                Some(if end.failed { Failed } else { Stopped })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Status::*;

    const ALL: [Status; 8] =
        [Unknown, Configured, Starting, Running, Stopping, Stopped, Paused, Failed];

    fn state(status: Status) -> BoxState {
        BoxState { status, run: Some("r".into()), ..BoxState::new() }
    }

    fn changes() -> Vec<Change> {
        let end = |failed| Change::End(End { failed, reason: Some("why".into()) });
        vec![
            Change::Start,
            Change::Started { pid: 7 },
            Change::Cancel { before: Stopped },
            Change::Pause { why: None },
            Change::Resume,
            Change::Stop,
            Change::RunOn,
            end(false),
            end(true),
        ]
    }

    /// For each status, where each change leads: `-` is refused, `=` makes no difference.
    const TABLE: &[(Status, &str)] = &[
        (Unknown, "s--------"),
        (Configured, "s--------"),
        (Starting, "-rt--p-TF"),
        (Running, "---Prp-TF"),
        (Stopping, "-----prTF"),
        (Stopped, "s------=="),
        (Paused, "---Prp-TF"),
        (Failed, "s------=="),
    ];

    #[test]
    fn every_way_that_is_not_drawn_is_refused() {
        for (from, row) in TABLE {
            for (change, cell) in changes().iter().zip(row.chars()) {
                let to = state(*from).after("r", change);
                let wanted = match cell {
                    's' => Starting,
                    'r' => Running,
                    'P' => Paused,
                    'p' => Stopping,
                    't' | 'T' => Stopped,
                    'F' => Failed,
                    '=' => {
                        assert_eq!(to.unwrap(), None, "{from} {change:?}");
                        continue;
                    }
                    _ => {
                        let error = to.unwrap_err();
                        assert_eq!(error.code(), Code::InvalidState, "{from} {change:?}");
                        assert!(error.message().contains(from.as_str()), "{error}");
                        continue;
                    }
                };
                let status = to.unwrap().map_or(*from, |state| state.status);
                assert_eq!(status, wanted, "{from} {change:?}");
            }
        }
        assert_eq!(TABLE.len(), ALL.len());
    }

    #[test]
    fn what_an_earlier_run_did_changes_nothing() {
        for from in ALL {
            for change in &changes()[1..] {
                assert_eq!(state(from).after("earlier", change).unwrap(), None);
            }
        }
    }

    #[test]
    fn a_run_leaves_its_reason_and_the_next_one_forgets_it() {
        let state = state(Starting).after("r", &Change::Started { pid: 7 }).unwrap().unwrap();
        assert_eq!((state.status, state.pid), (Running, Some(7)));
        let end = Change::End(End { failed: true, reason: Some("why".into()) });
        let state = state.after("r", &end).unwrap().unwrap();
        assert_eq!((state.pid, state.error_reason.as_deref()), (None, Some("why")));
        let state = state.after("next", &Change::Start).unwrap().unwrap();
        assert_eq!((state.run.as_deref(), state.error_reason), (Some("next"), None));
    }

    #[test]
    fn unknown_fields_and_older_statuses_survive() {
        let read = |status: &str| {
            let json = format!(
                r#"{{"status":"{status}","pid":null,"container_id":null,"last_updated":"",
                "error_reason":"e","lock_id":7,"health_status":{{"state":"ok"}}}}"#
            );
            BoxState::from_row(&StateRow { id: "x".into(), status: status.into(), pid: None, json })
        };
        let state = read("hibernating").unwrap();
        assert_eq!(state.status, Unknown);
        for older in ["snapshotting", "restoring", "exporting", "cloning"] {
            assert_eq!(read(older).unwrap().status, Stopped);
        }
        let state = state.after("r", &Change::Start).unwrap().unwrap();
        let written: Value = serde_json::from_str(&state.to_row("x").unwrap().json).unwrap();
        assert_eq!(written["lock_id"], 7);
        assert_eq!(written["health_status"]["state"], "ok");
    }
}
