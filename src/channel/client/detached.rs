//! Boxes and commands that outlive their program, as a program asks for them.

use std::sync::Arc;

use boxlite_protocol::WINDOW;
use boxlite_protocol::message::{
    Empty, ExecEntry, Follow, ListExecs, ToSupervisor, request, to_supervisor,
};

use super::Connection;
use crate::channel::exec::{ExecStreams, Kind};
use crate::error::Result;

impl Connection {
    /// Follows the output of a detached command, by the supervisor's number for it, from the given
    /// offsets of stdout and stderr on.
    pub async fn follow(&self, of: u32, from: [u64; 2]) -> Result<Arc<ExecStreams>> {
        let (streams, exec) = self.shared.add(false, Kind::Followed, from);
        let mut unclaimed = Unclaimed { connection: self, exec, armed: true };
        let [stdout_from, stderr_from] = from;
        let follow = Follow { exec, of, stdout_from, stderr_from, window: WINDOW };
        let response = self.ask(request::Op::Follow(follow)).await?;
        streams.set_number(response.number);
        unclaimed.armed = false;
        Ok(streams)
    }

    /// No longer follows a command.
    pub fn leave(&self, exec: u32) {
        self.shared.lock().execs.remove(&exec);
        let body = Some(to_supervisor::Body::Leave(exec));
        let _ = self.shared.outbox.send(ToSupervisor { body });
    }

    /// The commands that run, and the last detached ones that have ended.
    pub async fn list(&self) -> Result<Vec<ExecEntry>> {
        let mut list: Vec<ExecEntry> = Vec::new();
        loop {
            let after = list.last().map_or(0, |entry| entry.number);
            let response = self.ask(request::Op::ListExecs(ListExecs { after })).await?;
            let mut page = response.execs.unwrap_or_default();
            let more = page.more && page.list.last().is_some_and(|entry| entry.number > after);
            list.append(&mut page.list);
            if !more {
                return Ok(list);
            }
        }
    }

    /// Lets the box outlive this program, which has started it.
    pub async fn detach(&self) -> Result<()> {
        self.ask(request::Op::Detach(Empty {})).await.map(drop)
    }
}

/// A command that is about to be followed: not, if nobody waits for it any more.
struct Unclaimed<'a> {
    connection: &'a Connection,
    exec: u32,
    armed: bool,
}

impl Drop for Unclaimed<'_> {
    fn drop(&mut self) {
        if self.armed {
            self.connection.leave(self.exec);
        }
    }
}
