//! The command that a box runs of itself.

use std::path::Path;

use boxlite_protocol::message::Exec;
use prost::Message;
use serde::{Deserialize, Serialize};

use super::config::BoxConfig;
use super::exec;
use super::options::ExecOptions;
use super::state::{BoxState, Status};
use crate::error::Result;
use crate::supervisor::main_process::{MainRecord, MainSpec};

/// Which command is started with a box.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Main {
    /// None.
    #[default]
    None,
    /// The box's own: entrypoint and cmd, its own or those of its image.
    Image,
    /// This one.
    Argv(Vec<String>),
}

/// What happens to a box when its main process has ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[repr(i32)]
pub enum OnMainExit {
    /// It is stopped.
    #[default]
    Stop = 0,
    /// It stays as it is.
    Stay = 1,
}

/// How the main process of a box's last run is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MainStatus {
    /// There is none, or it was not started.
    #[default]
    None,
    Running,
    /// It has ended: with an exit code, or by a signal, which is 0 if there was none. The code is then
    /// 128 + the signal.
    Exited {
        code: i32,
        signal: i32,
    },
    /// Its box was cut off before its end was seen.
    Lost,
}

impl MainStatus {
    /// What is known of a box's main process.
    pub(super) fn of(config: &BoxConfig, state: &BoxState, box_dir: &Path) -> MainStatus {
        let Some(run) = state.run.as_deref().filter(|_| config.options.main != Main::None) else {
            return MainStatus::None;
        };
        if let Some(MainRecord { code, signal, .. }) = MainRecord::read(box_dir, run) {
            let code = if signal == 0 { code } else { 128 + (signal & 127) };
            return MainStatus::Exited { code, signal };
        }
        match state.status {
            Status::Running | Status::Paused | Status::Stopping => MainStatus::Running,
            // One that never ran has no output.
            Status::Stopped | Status::Failed if has_output(box_dir, run) => MainStatus::Lost,
            _ => MainStatus::None,
        }
    }

    /// Whether the main process of a run that goes on has not ended yet.
    pub(super) fn runs(config: &BoxConfig, run: &str, box_dir: &Path) -> bool {
        config.options.main != Main::None && MainRecord::read(box_dir, run).is_none()
    }
}

fn has_output(box_dir: &Path, run: &str) -> bool {
    crate::channel::replay::Replay::open(box_dir, run, boxlite_protocol::message::MAIN_EXEC).is_ok()
}

/// The name of the program, without its arguments, which may be secret.
pub(super) fn program(config: &BoxConfig) -> String {
    let argv = match &config.options.main {
        Main::Argv(argv) => argv.clone(),
        Main::None | Main::Image => config.command(),
    };
    argv.into_iter().next().unwrap_or_default()
}

/// What the supervisor is to start.
pub(super) fn spec(config: &BoxConfig, hostname: &str) -> Result<Option<MainSpec>> {
    let argv = match &config.options.main {
        Main::None => return Ok(None),
        // The command of the box or its image.
        Main::Image => &[][..],
        Main::Argv(argv) => argv,
    };
    let command: Exec = exec::specify(config, hostname, &ExecOptions::new(argv)?)?;
    let stop = config.options.on_main_exit == OnMainExit::Stop;
    Ok(Some(MainSpec { exec: command.encode_to_vec(), stop }))
}
