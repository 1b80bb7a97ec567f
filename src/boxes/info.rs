//! What a box is and how it is, as its users see it.

use std::collections::BTreeMap;

use boxlite_protocol::message::Running;

use super::handle::Inner;
use super::list::image_of;
use super::main_process::MainStatus;
use super::start::StageTime;
use super::state::Status;
use crate::channel::client::Connection;
use crate::error::Result;
use crate::supervisor::health::HealthReport;

/// What a box is and how it is, at one moment.
#[derive(Debug, Clone)]
pub struct BoxInfo {
    pub id: String,
    pub name: Option<String>,
    pub status: Status,
    /// The image's reference as it was given.
    pub image: String,
    pub cpus: u32,
    pub memory_mib: u32,
    pub disk_size_mib: u64,
    /// RFC 3339.
    pub created_at: String,
    /// The supervisor's process id, while the box runs.
    pub pid: Option<u32>,
    /// `kvm` or `tcg`, while the box runs.
    pub accelerator: Option<String>,
    /// How the machine came to run, while it does.
    pub boot: Boot,
    /// Why the box failed, if it did.
    pub error: Option<String>,
    /// How long each stage of the start took, if this program started it.
    pub stages: Vec<StageTime>,
    pub labels: BTreeMap<String, String>,
    /// How the health checks stood in the last run, if there are any.
    pub health: Option<HealthReport>,
    pub auto_remove: bool,
    /// How the main process is, or was in the last run.
    pub main: MainStatus,
    /// Whether the box outlives the program that starts it.
    pub detach: bool,
}

/// How a machine came to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum Boot {
    /// It does not run, or nobody told us.
    Unknown = 0,
    /// Its kernel booted.
    Cold = 1,
    /// It was loaded from a template.
    Restored = 2,
    /// It was loaded from a template beforehand, and waited.
    Pooled = 3,
}

impl Boot {
    pub(super) fn of(running: &Running) -> Boot {
        match running.boot.as_str() {
            "cold" => Boot::Cold,
            "restored" => Boot::Restored,
            "pooled" => Boot::Pooled,
            _ => Boot::Unknown,
        }
    }
}

impl Inner {
    /// The box as it is now.
    pub(super) async fn info(&self) -> Result<BoxInfo> {
        // An end that is just being written down is waited for.
        if self.live().connection.as_ref().is_some_and(Connection::has_ended) {
            drop(self.turn.lock().await);
        }
        let state = self.state().await?;
        let (running, stages) = {
            let live = self.live();
            let connection = live.connection.as_ref().filter(|c| !c.has_ended());
            (connection.map(|c| c.running().clone()), live.stages.clone())
        };
        let config = &self.config;
        let options = &config.options;
        let box_dir = self.box_dir();
        let health = state.run.as_deref().and_then(|run| HealthReport::read(&box_dir, run));
        Ok(BoxInfo {
            health: health.filter(|_| options.health_check.is_some()),
            auto_remove: options.auto_remove,
            main: MainStatus::of(config, &state, &box_dir),
            detach: options.detach,
            id: config.id.clone(),
            name: config.name.clone(),
            status: state.status,
            image: image_of(config).to_owned(),
            cpus: options.cpus,
            memory_mib: options.memory_mib,
            disk_size_mib: state.disk_size_mib.unwrap_or(options.disk_size_mib),
            created_at: config.created_at.clone(),
            pid: state.pid,
            boot: running.as_ref().map_or(Boot::Unknown, Boot::of),
            accelerator: running.map(|r| r.accelerator),
            error: state.error_reason,
            stages,
            labels: options.labels.clone(),
        })
    }
}
