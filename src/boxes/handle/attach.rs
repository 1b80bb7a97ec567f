//! Detached commands of a box: which there are, and their output, also when the box has ended.

use std::sync::Arc;

use boxlite_protocol::message::MAIN_EXEC;

use super::super::exec::{self, Exec, ExecInfo};
use super::super::main_process::Main;
use super::{BoxHandle, Inner};
use crate::channel::client::Connection;
use crate::error::{Code, Error, Result};

impl BoxHandle {
    /// The commands that run in the box, by whichever program, and the last detached ones that have
    /// ended. There are none in a box that does not run.
    pub async fn execs(&self) -> Result<Vec<ExecInfo>> {
        let Some(connection) = self.inner.clone().connection_in_turn().await? else {
            return Ok(Vec::new());
        };
        let list = connection.list().await.map_err(|e| e.or_object(self.id()))?;
        Ok(list.into_iter().map(ExecInfo::from).collect())
    }

    /// Follows the output of a detached command, from the given offsets of stdout and stderr on. It is
    /// still there when the box has ended, until it is started again.
    pub async fn attach(&self, exec: u32, from: [u64; 2]) -> Result<Exec> {
        let attached = self.inner.clone().attach_exec(exec, from).await;
        attached.map_err(|e| e.or_object(self.id()))
    }

    /// As [`BoxHandle::attach`], for the main process.
    pub async fn attach_main(&self, from: [u64; 2]) -> Result<Exec> {
        if self.inner.config.options.main == Main::None {
            let text = "the box has no main process: it was made without one";
            return Err(Error::new(Code::InvalidState, text).object(self.id()));
        }
        self.attach(MAIN_EXEC, from).await
    }
}

impl Inner {
    /// As [`Inner::connection`], for who changes nothing: nobody starts or stops the box meanwhile.
    async fn connection_in_turn(self: Arc<Self>) -> Result<Option<Connection>> {
        let _turn = self.turn.lock().await;
        self.connection().await
    }

    async fn attach_exec(self: Arc<Self>, exec: u32, from: [u64; 2]) -> Result<Exec> {
        let connection = self.clone().connection_in_turn().await?;
        if let Some(connection) = connection {
            match exec::follow(connection.clone(), exec, from).await {
                // It has just ended: what is left of it is left in any case.
                Err(_) if connection.has_ended() => drop(connection.ended().await),
                followed => return followed,
            }
        }
        let (dir, state) = (self.box_dir(), self.state().await?);
        let left = state.run.map(|run| exec::replay(&dir, &run, exec, from));
        match left {
            Some(Err(error)) if error.code() == Code::InvalidArgument => Err(error),
            Some(Ok(exec)) => Ok(exec),
            _ => {
                let text =
                    "the box does not run, and nothing is left of this command of its last run";
                Err(Error::new(Code::NotFound, text))
            }
        }
    }
}
