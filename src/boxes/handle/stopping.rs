//! The end of a run, and of a box.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::super::context::Context;
use super::super::remove::remove;
use super::super::state::Change;
use super::Inner;
use crate::channel::client::Connection;
use crate::error::{Code, Error, Result};
use crate::failpoint::{self, Point};
use crate::supervisor::socket::PidFile;

impl Inner {
    pub(super) async fn remove(self: &Arc<Self>, force: bool) -> Result<()> {
        let id = self.config.id.clone();
        if self.connection().await?.is_some() {
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
        let Some(connection) = self.connection().await? else { return Ok(false) };
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
                self.kill_supervisor(&connection).await?;
                Err(silent.context("the box was cut off"))
            }
            outcome => self.last_word(&connection, outcome),
        };
        failpoint::hit(Point::StopAnswered);
        self.note_end(&outcome).await;
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

    /// Ends a supervisor that does not answer, and the machine with it.
    async fn kill_supervisor(&self, connection: &Connection) -> Result<()> {
        let (dir, pid) = (self.box_dir(), connection.running().supervisor_pid);
        tracing::warn!("box {}: its supervisor (process {pid}) is killed", self.config.id);
        let kill = move |_: &Context| {
            PidFile::kill_holder(&dir, pid)
                .map_err(|e| Error::io(Code::Engine, format!("kill process {pid}"), &e))
        };
        self.context.blocking(kill).await?;
        let _ = connection.ended().await;
        Ok(())
    }
}
