//! Detached commands, as programs ask for them.

use boxlite_protocol::message::{
    Data, Exec, Execs, Failure, FailureKind, Follow, MAIN_EXEC, stream, to_guest,
};
use bytes::Bytes;
use prost::Message;

use super::super::follow::{Done, Spooled};
use super::super::peer::{ClientId, Clients};
use super::super::route::{MAIN, OWN, Route};
use super::{Hub, fail, respond};

/// How long a list of commands may be, in bytes: it has to fit into a frame.
const MAX_LIST: usize = boxlite_protocol::codec::MAX_FRAME - 4096;

impl Hub {
    /// Where the output of a detached command goes; the program that starts it follows it.
    pub(super) fn spool(
        &self,
        client: ClientId,
        number: u32,
        exec: &Exec,
    ) -> Result<Spooled, Failure> {
        let mut spooled = Spooled::create(&self.place, number).map_err(|error| Failure {
            kind: FailureKind::Resources as i32,
            message: format!("keep the output: {error}"),
            errno: error.os_errno().unwrap_or(0),
        })?;
        if client != MAIN {
            let follow = Follow { exec: exec.exec, window: exec.window, ..Follow::default() };
            // From the beginning, which is there.
            let _ = spooled.follow(client, &follow);
        }
        Ok(spooled)
    }

    /// The spools of a command, by the guest's number, if it has any and they are still there.
    pub(super) fn spooled(&mut self, number: u32) -> Option<&mut Spooled> {
        match self.execs.get_mut(&number) {
            Some(route) => route.spooled.as_deref_mut(),
            None => self.finished.get(number),
        }
    }

    pub(super) fn follow(&mut self, client: ClientId, id: u64, follow: &Follow, clients: &Clients) {
        let followed = self.begin_to_follow(client, follow);
        let done = match &followed {
            // The answer first.
            Ok(number) => {
                respond(clients, client, id, Ok(*number));
                self.spooled(*number).map_or(Vec::new(), |spooled| spooled.pump(clients))
            }
            Err(_) => Vec::new(),
        };
        if let Err(failure) = followed {
            respond(clients, client, id, Err(failure));
        }
        self.forget(done);
    }

    fn begin_to_follow(&mut self, client: ClientId, follow: &Follow) -> Result<u32, Failure> {
        if self.names.contains_key(&(client, follow.exec)) {
            return Err(fail(FailureKind::Invalid, "the exec's number is in use"));
        }
        let number = follow.of;
        let known = self.execs.get(&number).is_some_and(|route| route.client != OWN);
        let Some(spooled) = self.spooled(number) else {
            return Err(if known {
                let text = "the command is not detached: only the program that started it gets its \
                            output";
                fail(FailureKind::State, text)
            } else if number == MAIN_EXEC {
                fail(FailureKind::NoExec, "the box has no main process")
            } else {
                fail(FailureKind::NoExec, "there is no such command, or it ended long ago")
            });
        };
        spooled.follow(client, follow).map_err(|text| fail(FailureKind::Invalid, &text))?;
        self.names.insert((client, follow.exec), number);
        Ok(number)
    }

    /// The commands with a number greater than `after`, as many as fit.
    pub(super) fn list(&self, after: u32) -> Execs {
        let running = self.execs.values().filter(|route| route.client != OWN);
        let all = running.map(Route::describe).chain(self.finished.describe());
        let mut list: Vec<_> = all.filter(|entry| entry.number > after).collect();
        list.sort_by_key(|entry| entry.number);
        let mut length = 0;
        let fits = |entry: &_| {
            length += Message::encoded_len(entry) + 8;
            length <= MAX_LIST
        };
        let count = list.len();
        let list: Vec<_> = list.into_iter().take_while(fits).collect();
        Execs { more: list.len() < count, list }
    }

    /// A program no longer wants to have to do with a detached command.
    pub(super) fn leave(&mut self, (client, name): Done) {
        let Some(&number) = self.names.get(&(client, name)) else { return };
        let Some(spooled) = self.spooled(number) else { return };
        spooled.leave((client, name));
        self.names.remove(&(client, name));
        if self.execs.get(&number).is_some_and(|r| (r.client, r.name) == (client, name)) {
            self.close_stdin(number);
        }
    }

    /// Nobody will write to a command any more.
    pub(super) fn close_stdin(&mut self, exec: u32) {
        let Some(route) = self.execs.get_mut(&exec).filter(|route| route.stdin_open) else {
            return;
        };
        route.stdin_open = false;
        let (stream, offset) = (stream::STDIN, route.stdin.take(0));
        self.send(to_guest::Body::Data(Data {
            exec,
            stream,
            offset,
            bytes: Bytes::new(),
            eof: true,
        }));
    }

    pub(super) fn forget(&mut self, done: Vec<Done>) {
        self.names.retain(|name, _| !done.contains(name));
    }
}
