//! The end of a run, and of a box.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::super::context::Context;
use super::super::remove::remove;
use super::super::state::Change;
use super::Inner;
use crate::error::{Code, Error, Result};
use crate::failpoint::{self, Point};
use crate::supervisor::socket::PidFile;

impl Inner {
    pub(super) async fn remove(self: &Arc<Self>, force: bool) -> Result<()> {
        let id = self.config.id.clone();
        let runs = match self.connection().await {
            Err(silent) if silent.code() == Code::Timeout => true,
            connection => connection?.is_some(),
        };
        if runs {
            if !force {
                let text = "is running: stop it first, or remove it with force";
                return Err(Error::new(Code::InvalidState, format!("box {id} {text}")).object(id));
            }
            // How it ended no longer matters; that it has is checked below.
            if let Err(error) = self.stop(Duration::ZERO).await {
                tracing::debug!("box {id} before its removal: {error}");
            }
        }
        self.context.blocking(move |context| remove(context, &id)).await?;
        tracing::info!("box {} removed", self.config.id);
        Ok(())
    }

    /// Stops the box; false if it did not run.
    pub(super) async fn stop(self: &Arc<Self>, grace: Duration) -> Result<bool> {
        let connection = match self.connection().await {
            Err(silent) if silent.code() == Code::Timeout => {
                return Err(self.cut_off(silent).await);
            }
            connection => connection?,
        };
        let Some(connection) = connection else { return Ok(false) };
        failpoint::hit(Point::StopBegun);
        // Whoever finds it stopping and not locked knows that its stopper died. If another program is
        // at it too, its word is as good.
        let id = self.config.id.clone();
        let _lock = self.context.blocking(move |context| context.lock_box(&id)).await.ok();
        // A box can be stopped even if that cannot be written down.
        self.note(&connection.running().run, Change::Stop).await;
        failpoint::hit(Point::StopNoted);
        let grace = u32::try_from(grace.as_millis()).unwrap_or(u32::MAX);
        let outcome = match connection.shutdown(grace).await {
            Err(silent) if silent.code() == Code::Timeout && !connection.has_ended() => {
                self.kill_supervisor().await?;
                let _ = connection.ended().await;
                Err(silent.context("the box was cut off"))
            }
            outcome => self.last_word(&connection, outcome),
        };
        failpoint::hit(Point::StopAnswered);
        self.note_end(&connection, &outcome).await;
        failpoint::hit(Point::StopRecorded);
        outcome.map(|()| true).map_err(|e| e.or_object(&*self.config.id))
    }

    /// Removes a box that has stopped, if it is not to stay.
    pub(in super::super) async fn remove_unwanted(&self) -> Result<()> {
        if !self.config.options.auto_remove {
            return Ok(());
        }
        let id = self.config.id.clone();
        match self.context.blocking(move |context| remove(context, &id)).await {
            // Somebody else was faster.
            Err(error) if error.code() == Code::NotFound => {}
            Err(error) => return Err(error.context("the box has stopped, but it was not removed")),
            Ok(()) => tracing::info!("box {} removed", self.config.id),
        }
        self.gone.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Ends a box whose supervisor has not said a word to us. Returns what to tell of it.
    async fn cut_off(&self, silent: Error) -> Error {
        if let Err(error) = self.kill_supervisor().await {
            return error;
        }
        // Who looks at it now writes down that it has ended.
        if let Err(error) = self.state().await {
            tracing::warn!("box {}: {error}", self.config.id);
        }
        silent.context("the box was cut off")
    }

    /// Ends a supervisor that does not answer, and the machine with it.
    async fn kill_supervisor(&self) -> Result<()> {
        let (dir, id) = (self.box_dir(), self.config.id.clone());
        let kill = move |_: &Context| {
            let failed = |e: std::io::Error| Error::io(Code::Engine, "kill the supervisor", &e);
            let Some(pid) = PidFile::holder(&dir).map_err(failed)? else { return Ok(()) };
            tracing::warn!("box {id}: its supervisor (process {pid}) is killed");
            PidFile::kill_holder(&dir, pid).map_err(failed)
        };
        self.context.blocking(kill).await
    }
}
