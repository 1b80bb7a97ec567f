//! What happens to a running box by itself, or by whoever asks its supervisor: told to who listens, and
//! written down.

use std::sync::Arc;

use boxlite_protocol::message::{Healthy, MAIN_EXEC, Standing};

use super::context::Context;
use super::events::What;
use super::handle::Inner;
use super::main_process;
use super::remove::is_supervised;
use super::state::{Change, End};
use super::truth;
use crate::channel::client::Connection;
use crate::channel::exec::ExitStatus;
use crate::channel::pulse;
use crate::error::Result;
use crate::supervisor::record::EndRecord;

impl Inner {
    /// Records what happens to a running box by itself, up to its end.
    pub(super) async fn watch(self: Arc<Self>, connection: Connection) {
        let mut standing = connection.standing();
        standing.mark_changed();
        let outcome = loop {
            tokio::select! {
                outcome = connection.ended() => break outcome,
                Ok(()) = standing.changed() => self.note_standing(&connection).await,
            }
        };
        let outcome = self.last_word(&connection, outcome);
        let _turn = self.turn.lock().await;
        let owned = self.live().owned;
        let early = std::mem::take(&mut self.live().noted_early);
        if (self.note_end(&connection, &outcome).await || early)
            && owned
            && outcome.is_ok()
            && let Err(error) = self.remove_unwanted().await
        {
            tracing::warn!("{error}");
        }
    }

    /// How a box ended: what its supervisor left in writing counts, if that ended before it could say so.
    pub(super) fn last_word(&self, connection: &Connection, outcome: Result<()>) -> Result<()> {
        outcome.or_else(|error| match EndRecord::read(&self.box_dir(), &connection.running().run) {
            Some(record) if record.code == 0 => Ok(()),
            _ => Err(error),
        })
    }

    /// Writes down how the machine is now: whoever comes last writes what was said last.
    pub(super) async fn note_standing(&self, connection: &Connection) {
        let _order = self.noting.lock().await;
        self.tell_changes(connection);
        let notice = connection.standing().borrow().clone();
        let run = &*connection.running().run;
        match notice.standing() {
            Standing::Runs => self.note(run, Change::Resume).await,
            Standing::Paused => self.note(run, Change::Pause { why: None }).await,
            Standing::DiskFull => self.note(run, Change::Pause { why: Some(notice.message) }).await,
            // It may answer again.
            Standing::Silent | Standing::Unsupervised => {}
        }
    }

    pub(super) async fn tell_changes_in_order(&self, connection: &Connection) {
        let _order = self.noting.lock().await;
        self.tell_changes(connection);
    }

    /// Tells what has happened to the machine, all of it. The caller has `noting`.
    fn tell_changes(&self, connection: &Connection) {
        let id = &self.config.id;
        let (changes, lost) = connection.take_changes();
        for change in changes {
            self.tell(match change {
                pulse::Change::Paused(why) => {
                    why.iter().for_each(|why| tracing::warn!("box {id} was paused: {why}"));
                    What::BoxPaused { why }
                }
                pulse::Change::Resumed => What::BoxResumed,
                pulse::Change::Silent { who, still } => {
                    tracing::warn!("box {id}: {who}");
                    if still {
                        continue;
                    }
                    What::Unresponsive { who }
                }
                pulse::Change::Answers => What::Responsive,
                pulse::Change::MainExited(exited) => {
                    self.live().main_runs = false;
                    let ExitStatus { code, signal, message: why } =
                        ExitStatus::of(exited.code, exited.signal);
                    What::ExecEnded { exec: MAIN_EXEC, code, signal, why }
                }
                pulse::Change::Healthy(Healthy { healthy: true, .. }) => What::Healthy,
                pulse::Change::Healthy(Healthy { failures, .. }) => What::Unhealthy { failures },
            });
        }
        if lost > 0 {
            self.context.events.lose(lost);
        }
    }

    /// Writes down the end of the run that a connection is of, once; false if that was done before.
    pub(super) async fn note_end(&self, connection: &Connection, outcome: &Result<()>) -> bool {
        let ended = |known: &mut Connection| known.is(connection) && known.has_ended();
        let Some(connection) = self.live().connection.take_if(ended) else { return false };
        self.tell_changes_in_order(&connection).await;
        let (run, box_dir) = (&connection.running().run, self.box_dir());
        let mut end = End { failed: outcome.is_err(), reason: None };
        let told = EndRecord::read(&box_dir, run);
        let supervisor = connection.running().supervisor_pid;
        end.reason = match (outcome, told) {
            // It may have stopped by itself, and told why.
            (Ok(()), told) => told.map(|record| record.message).filter(|m| !m.is_empty()),
            (Err(error), Some(_)) => Some(error.to_string()),
            (Err(error), None) => {
                let (id, of_run) = (self.config.id.clone(), run.clone());
                let look = move |context: &Context| {
                    // Who has it starts it, and does the same.
                    if let Ok(_lock) = context.try_lock_box(&id)
                        && !is_supervised(&box_dir)?
                    {
                        truth::settle_disk(context, &id, &of_run);
                    }
                    Ok(truth::traces(&box_dir, supervisor))
                };
                let traces = self.context.blocking(look).await.unwrap_or_default();
                Some(error.to_string() + &traces)
            }
        };
        let why = end.reason.clone();
        self.note(run, Change::End(end)).await;
        match outcome {
            Ok(()) => tracing::info!("box {} stopped", self.config.id),
            Err(error) => tracing::warn!("box {} ended: {error}", self.config.id),
        }
        self.tell_end(outcome, why);
        true
    }

    /// Tells that the box was started, and its main process with it.
    pub(super) fn tell_start(&self) {
        self.tell(What::BoxStarted);
        if self.live().main_runs {
            let program = main_process::program(&self.config);
            self.tell(What::ExecStarted { exec: MAIN_EXEC, program });
        }
    }

    /// Tells that the box has ended, and before that of a main process whose end was not seen.
    pub(super) fn tell_end(&self, outcome: &Result<()>, why: Option<String>) {
        let cut_off = std::mem::take(&mut self.live().main_runs);
        if cut_off {
            let why = Some(match outcome {
                Ok(()) => "the box was stopped".to_owned(),
                Err(error) => error.to_string(),
            });
            self.tell(What::ExecEnded { exec: MAIN_EXEC, code: -1, signal: 0, why });
        }
        self.tell(match outcome {
            Ok(()) => What::BoxStopped { why },
            Err(_) => What::BoxFailed { why: why.unwrap_or_default() },
        });
    }
}

/// What the end of a run is to its box.
pub(super) fn ended(outcome: &Result<()>) -> Change {
    Change::End(End {
        failed: outcome.is_err(),
        reason: outcome.as_ref().err().map(ToString::to_string),
    })
}
