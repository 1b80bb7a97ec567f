//! Who asked what, and where which stream goes.
//!
//! Programs number their requests and execs as they like; towards the guest the hub numbers them
//! itself and translates. It also keeps both sides to their credit: what a hostile guest or a
//! broken program could make the supervisor hold is bounded.

use std::collections::HashMap;
use std::time::Duration;

use boxlite_protocol::flow;
use boxlite_protocol::message::{
    Credit, Data, Exec, Exited, Failure, FailureKind, FromSupervisor, Notice, Request, Response,
    Running, Shutdown, Signal, Standing, ToGuest, ToHost, ToSupervisor, from_supervisor, request,
    stream, to_guest, to_host, to_supervisor,
};
use tokio::sync::mpsc;

use super::peer::{ClientId, Clients};
use crate::error::{Code, Error, Result};

/// What the loop has to do next.
pub enum Outcome {
    Continue,
    /// A shutdown was asked for; processes have this long to end.
    Stopping {
        grace: Duration,
    },
    /// The guest is done with its shutdown, or has closed the channel.
    GuestDone,
    /// A program wants the machine to stand still, or to go on; the request is still to be answered.
    Halt {
        client: ClientId,
        id: u64,
        pause: bool,
    },
    /// A command of the supervisor's own has ended, or could not be run.
    OwnEnded {
        exec: u32,
        success: bool,
    },
}

/// In the place of a program: the supervisor itself.
const OWN: ClientId = ClientId::MAX;

pub struct Hub {
    guest: mpsc::UnboundedSender<ToGuest>,
    running: Running,
    /// The machine stands still.
    halted: bool,
    requests: HashMap<u64, Pending>,
    next_request: u64,
    /// By the guest's numbers.
    execs: HashMap<u32, Route>,
    /// From a program's numbers to the guest's.
    names: HashMap<(ClientId, u32), u32>,
    next_exec: u32,
}

/// A request under way in the guest.
struct Pending {
    client: ClientId,
    id: u64,
    kind: Kind,
}

enum Kind {
    Exec(u32),
    Shutdown,
    Other,
}

/// Where an exec's streams go.
struct Route {
    client: ClientId,
    /// The program's own number for it.
    name: u32,
    /// The program is gone: output is discarded until the process has ended.
    orphaned: bool,
    /// A bit for each output that has come to its end.
    ended: u8,
    stdin: flow::Send,
    stdout: flow::Receive,
    stderr: flow::Receive,
}

impl Route {
    fn output(&mut self, stream: u32) -> Option<&mut flow::Receive> {
        match stream {
            stream::STDOUT => Some(&mut self.stdout),
            stream::STDERR => Some(&mut self.stderr),
            _ => None,
        }
    }
}

/// What a guest may let a program send ahead.
const MAX_STDIN_CREDIT: u64 = 1 << 20;

/// The longest text of a guest's that is passed on.
const MAX_MESSAGE: usize = 4096;

fn to_guest(body: to_guest::Body) -> ToGuest {
    ToGuest { body: Some(body) }
}

fn to_client(body: from_supervisor::Body) -> FromSupervisor {
    FromSupervisor { body: Some(body) }
}

impl Hub {
    pub fn new(guest: mpsc::UnboundedSender<ToGuest>, running: Running) -> Hub {
        Hub {
            guest,
            running,
            halted: false,
            requests: HashMap::new(),
            next_request: 1,
            execs: HashMap::new(),
            names: HashMap::new(),
            next_exec: 1,
        }
    }

    /// Remembers how the machine is: who attaches is told, and nothing is started in one that stands
    /// still.
    pub fn stands(&mut self, notice: Notice, halted: bool) {
        self.halted = halted;
        self.running.standing = (notice.standing != Standing::Runs as i32).then_some(notice);
    }

    /// Sends the guest a request whose answer nobody waits for.
    pub fn tell(&mut self, op: request::Op) {
        let id = self.next_request;
        self.next_request += 1;
        self.send(to_guest::Body::Request(Request { id, op: Some(op) }));
    }

    /// Starts a command of the supervisor's own, whose output nobody reads. Returns the guest's number
    /// for it.
    pub fn start_own(&mut self, exec: Exec) -> u32 {
        let number = self.next_exec;
        let exec = Exec { exec: number, window: boxlite_protocol::WINDOW, ..exec };
        // The supervisor's own names are the guest's numbers: none is in use.
        if let Ok((_, exec)) = self.open_route(OWN, exec) {
            if let Some(route) = self.execs.get_mut(&number) {
                route.orphaned = true;
            }
            let id = self.next_request;
            self.requests.insert(id, Pending { client: OWN, id, kind: Kind::Exec(number) });
            self.tell(request::Op::Exec(exec));
        }
        number
    }

    /// Kills a command.
    pub fn kill(&mut self, exec: u32) {
        self.tell(request::Op::Signal(Signal { exec, signal: libc::SIGKILL }));
    }

    /// Ends the guest without anybody having asked.
    pub fn shut_down(&mut self, grace: Duration) {
        let grace_ms = u32::try_from(grace.as_millis()).unwrap_or(u32::MAX);
        let id = self.next_request;
        self.requests.insert(id, Pending { client: OWN, id, kind: Kind::Shutdown });
        self.tell(request::Op::Shutdown(Shutdown { grace_ms }));
    }

    /// Whether programs have commands running.
    pub fn is_in_use(&self) -> bool {
        self.execs.values().any(|route| route.client != OWN)
    }

    /// Answers a request that the hub has passed on.
    pub fn answer(&self, clients: &Clients, client: ClientId, id: u64, done: Result<()>) {
        let failure = done.err().map(|error| {
            let kind = match error.code() {
                Code::Timeout => FailureKind::Silent,
                _ => FailureKind::Internal,
            };
            fail(kind, error.message())
        });
        respond(clients, client, id, failure);
    }

    /// Tells a program that the box runs.
    pub fn welcome(&self, clients: &Clients, id: ClientId) {
        clients.send(id, to_client(from_supervisor::Body::Running(self.running.clone())));
    }

    fn send(&self, body: to_guest::Body) {
        // The writer ends only with the channel, whose end the reader reports.
        let _ = self.guest.send(to_guest(body));
    }

    // ---- from programs -------------------------------------------------------------------------

    pub fn on_client(
        &mut self,
        id: ClientId,
        message: ToSupervisor,
        clients: &mut Clients,
    ) -> Result<Outcome> {
        match message.body {
            Some(to_supervisor::Body::Attach(_)) => self.welcome(clients, id),
            Some(to_supervisor::Body::Request(request)) => {
                return Ok(self.request(id, request, clients));
            }
            Some(to_supervisor::Body::Data(data)) => {
                if !self.stdin(id, data) {
                    clients.disconnect(id);
                    return self.client_gone(id);
                }
            }
            Some(to_supervisor::Body::Credit(credit)) => self.grant(id, credit),
            Some(to_supervisor::Body::Beat(beat)) => {
                clients.send(id, to_client(from_supervisor::Body::Beat(beat)));
            }
            // A second launch makes no sense; what is unknown comes from a later library.
            Some(to_supervisor::Body::Launch(_) | to_supervisor::Body::Park(_)) | None => {}
        }
        Ok(Outcome::Continue)
    }

    fn request(&mut self, client: ClientId, request: Request, clients: &Clients) -> Outcome {
        let id = request.id;
        let mut outcome = Outcome::Continue;
        let (kind, op) = match request.op {
            Some(request::Op::Exec(_)) if self.halted => {
                let failure = fail(FailureKind::State, "the box is paused: resume it first");
                respond(clients, client, id, Some(failure));
                return outcome;
            }
            Some(request::Op::Pause(_)) => return Outcome::Halt { client, id, pause: true },
            Some(request::Op::Resume(_)) => return Outcome::Halt { client, id, pause: false },
            Some(request::Op::Exec(exec)) => match self.open_route(client, exec) {
                Ok((number, exec)) => (Kind::Exec(number), request::Op::Exec(exec)),
                Err(failure) => {
                    respond(clients, client, id, Some(failure));
                    return outcome;
                }
            },
            Some(request::Op::Signal(signal)) => match self.names.get(&(client, signal.exec)) {
                Some(exec) => (Kind::Other, request::Op::Signal(Signal { exec: *exec, ..signal })),
                None => {
                    let failure = fail(FailureKind::NoExec, "the process has ended");
                    respond(clients, client, id, Some(failure));
                    return outcome;
                }
            },
            Some(request::Op::Shutdown(shutdown)) => {
                let grace = Duration::from_millis(u64::from(shutdown.grace_ms));
                outcome = Outcome::Stopping { grace };
                (Kind::Shutdown, request::Op::Shutdown(shutdown))
            }
            Some(op @ (request::Op::Ping(_) | request::Op::SetClock(_))) => (Kind::Other, op),
            Some(request::Op::Init(_) | request::Op::Rehearse(_) | request::Op::MountRoot(_))
            | None => {
                let failure = fail(FailureKind::Invalid, "a request this supervisor does not know");
                respond(clients, client, id, Some(failure));
                return outcome;
            }
        };
        let number = self.next_request;
        self.next_request += 1;
        self.requests.insert(number, Pending { client, id, kind });
        self.send(to_guest::Body::Request(Request { id: number, op: Some(op) }));
        outcome
    }

    fn open_route(&mut self, client: ClientId, exec: Exec) -> Result<(u32, Exec), Failure> {
        if self.names.contains_key(&(client, exec.exec)) {
            return Err(fail(FailureKind::Invalid, "the exec's number is in use"));
        }
        let number = self.next_exec;
        self.next_exec = self.next_exec.wrapping_add(1).max(1);
        let route = Route {
            client,
            name: exec.exec,
            orphaned: false,
            ended: 0,
            stdin: flow::Send::default(),
            stdout: flow::Receive::new(exec.window),
            stderr: flow::Receive::new(exec.window),
        };
        self.names.insert((client, exec.exec), number);
        self.execs.insert(number, route);
        Ok((number, Exec { exec: number, ..exec }))
    }

    /// Forwards stdin; false if the program sent more than the guest granted.
    fn stdin(&mut self, client: ClientId, data: Data) -> bool {
        let Some(exec) = self.names.get(&(client, data.exec)) else { return true };
        let Some(route) = self.execs.get_mut(exec) else { return true };
        let length = data.bytes.len() as u64;
        if data.stream != stream::STDIN || length > route.stdin.available() {
            return false;
        }
        let offset = route.stdin.take(length);
        if offset != data.offset {
            return false;
        }
        let data = Data { exec: *exec, ..data };
        self.send(to_guest::Body::Data(data));
        true
    }

    fn grant(&mut self, client: ClientId, credit: Credit) {
        let Some(exec) = self.names.get(&(client, credit.exec)) else { return };
        let exec = *exec;
        let route = self.execs.get_mut(&exec);
        if let Some(output) = route.and_then(|r| r.output(credit.stream)) {
            output.extend(credit.bytes);
            self.send(to_guest::Body::Credit(Credit { exec, ..credit }));
        }
    }

    /// A program is gone: what it ran attached ends with it.
    pub fn client_gone(&mut self, id: ClientId) -> Result<Outcome> {
        self.names.retain(|(client, _), _| *client != id);
        let orphans: Vec<u32> =
            self.execs.iter().filter(|(_, r)| r.client == id).map(|(exec, _)| *exec).collect();
        for exec in orphans {
            if let Some(route) = self.execs.get_mut(&exec) {
                route.orphaned = true;
            }
            self.kill(exec);
            // What it has written waits for credit; discarding it takes as much as comes.
            for stream in [stream::STDOUT, stream::STDERR] {
                let bytes = boxlite_protocol::WINDOW;
                if let Some(output) = self.execs.get_mut(&exec).and_then(|r| r.output(stream)) {
                    output.extend(bytes);
                }
                self.send(to_guest::Body::Credit(Credit { exec, stream, bytes }));
            }
        }
        Ok(Outcome::Continue)
    }

    // ---- from the guest ------------------------------------------------------------------------

    pub fn on_guest(
        &mut self,
        message: Result<Option<ToHost>>,
        clients: &Clients,
    ) -> Result<Outcome> {
        let Some(message) = message? else { return Ok(Outcome::GuestDone) };
        match message.body {
            Some(to_host::Body::Response(response)) => {
                return Ok(self.response(response, clients));
            }
            Some(to_host::Body::Data(data)) => self.output(data, clients)?,
            Some(to_host::Body::Credit(credit)) => self.stdin_credit(credit, clients)?,
            Some(to_host::Body::Exited(exited)) => return Ok(self.exited(exited, clients)),
            // A second introduction, or something unknown: of no consequence.
            Some(to_host::Body::Hello(_)) | None => {}
        }
        Ok(Outcome::Continue)
    }

    fn response(&mut self, response: Response, clients: &Clients) -> Outcome {
        let Some(pending) = self.requests.remove(&response.id) else { return Outcome::Continue };
        let failure = response.failure.map(|mut failure| {
            let end = failure.message.floor_char_boundary(MAX_MESSAGE);
            failure.message.truncate(end);
            failure
        });
        let response = Response { failure, ..response };
        let failed = response.failure.is_some();
        let mut outcome = Outcome::Continue;
        match pending.kind {
            Kind::Exec(exec) if failed => {
                self.close_route(exec);
                if pending.client == OWN {
                    outcome = Outcome::OwnEnded { exec, success: false };
                }
            }
            Kind::Shutdown if !failed => outcome = Outcome::GuestDone,
            _ => {}
        }
        respond(clients, pending.client, pending.id, response.failure);
        outcome
    }

    fn output(&mut self, data: Data, clients: &Clients) -> Result<()> {
        let Some(route) = self.execs.get_mut(&data.exec) else { return Ok(()) };
        let (client, name, orphaned) = (route.client, route.name, route.orphaned);
        let length = data.bytes.len() as u64;
        let bit = 1 << (data.stream & 7);
        if route.ended & bit != 0 || (length == 0 && !data.eof) {
            return Err(violation("an empty chunk, or one after the end"));
        }
        route.ended |= u8::from(data.eof) * bit;
        let output = route.output(data.stream).ok_or_else(|| violation("no such stream"))?;
        output.accept(data.offset, length).map_err(violation)?;
        if orphaned {
            // Discarded; the grants are gathered as a reader's would be.
            if let Some(bytes) = output.consume(length) {
                let credit = Credit { exec: data.exec, stream: data.stream, bytes };
                self.send(to_guest::Body::Credit(credit));
            }
        } else {
            clients
                .send(client, to_client(from_supervisor::Body::Data(Data { exec: name, ..data })));
        }
        Ok(())
    }

    fn stdin_credit(&mut self, credit: Credit, clients: &Clients) -> Result<()> {
        let Some(route) = self.execs.get_mut(&credit.exec) else { return Ok(()) };
        let outstanding = route.stdin.available().saturating_add(credit.bytes);
        let plausible = (1..=MAX_STDIN_CREDIT).contains(&credit.bytes);
        if credit.stream != stream::STDIN || !plausible || outstanding > MAX_STDIN_CREDIT {
            return Err(violation("absurd credit"));
        }
        if !route.stdin.grant(credit.bytes) {
            return Err(violation("absurd credit"));
        }
        let credit = Credit { exec: route.name, ..credit };
        clients.send(route.client, to_client(from_supervisor::Body::Credit(credit)));
        Ok(())
    }

    fn exited(&mut self, exited: Exited, clients: &Clients) -> Outcome {
        let mut outcome = Outcome::Continue;
        if let Some(route) = self.execs.get(&exited.exec) {
            if route.client == OWN {
                let success = (exited.code, exited.signal) == (0, 0);
                outcome = Outcome::OwnEnded { exec: exited.exec, success };
            }
            let message = Exited { exec: route.name, ..exited };
            clients.send(route.client, to_client(from_supervisor::Body::Exited(message)));
        }
        self.close_route(exited.exec);
        outcome
    }

    fn close_route(&mut self, exec: u32) {
        if let Some(route) = self.execs.remove(&exec) {
            self.names.remove(&(route.client, route.name));
        }
    }

    /// The machine is gone: nobody waits for an answer in vain.
    pub fn ended(&mut self, clients: &Clients) {
        for (_, pending) in self.requests.drain() {
            let failure = match pending.kind {
                Kind::Shutdown => None,
                _ => Some(fail(FailureKind::Ended, "the box has ended")),
            };
            respond(clients, pending.client, pending.id, failure);
        }
    }
}

fn fail(kind: FailureKind, message: &str) -> Failure {
    Failure { kind: kind as i32, message: message.into(), errno: 0 }
}

fn respond(clients: &Clients, client: ClientId, id: u64, failure: Option<Failure>) {
    clients.send(client, to_client(from_supervisor::Body::Response(Response { id, failure })));
}

fn violation(what: impl std::fmt::Display) -> Error {
    Error::new(Code::Portal, format!("the guest's agent broke the protocol: {what}"))
}

#[cfg(test)]
mod tests {
    use super::super::peer::CREATOR;
    use super::*;
    use bytes::Bytes;
    use tokio::net::UnixStream;

    struct Setting {
        hub: Hub,
        clients: Clients,
        to_guest: mpsc::UnboundedReceiver<ToGuest>,
        _program: UnixStream,
    }

    /// A box with one program that has started one exec, which the guest knows as 1.
    fn setting() -> Setting {
        let (ours, program) = UnixStream::pair().unwrap();
        let (queue, to_guest) = mpsc::unbounded_channel();
        let mut setting = Setting {
            hub: Hub::new(queue, Running::default()),
            clients: Clients::new(ours).unwrap(),
            to_guest,
            _program: program,
        };
        let exec = Exec { exec: 77, window: 1000, ..Exec::default() };
        let request = Request { id: 5, op: Some(request::Op::Exec(exec)) };
        setting.client(to_supervisor::Body::Request(request)).unwrap();
        setting
    }

    impl Setting {
        fn client(&mut self, body: to_supervisor::Body) -> Result<Outcome> {
            let message = ToSupervisor { body: Some(body) };
            self.hub.on_client(CREATOR, message, &mut self.clients)
        }

        fn guest(&mut self, body: to_host::Body) -> Result<Outcome> {
            self.hub.on_guest(Ok(Some(ToHost { body: Some(body) })), &self.clients)
        }

        fn output(
            &mut self,
            exec: u32,
            stream: u32,
            offset: u64,
            length: usize,
        ) -> Result<Outcome> {
            let bytes = Bytes::from(vec![0; length]);
            self.guest(to_host::Body::Data(Data { exec, stream, offset, bytes, eof: false }))
        }
    }

    #[tokio::test]
    async fn a_guest_that_exceeds_its_credit_is_refused() {
        let mut s = setting();
        assert!(s.output(1, stream::STDOUT, 0, 1000).is_ok());
        assert!(s.output(1, stream::STDOUT, 1000, 1).is_err());
        assert!(s.output(1, stream::STDERR, 0, 1000).is_ok());
    }

    #[tokio::test]
    async fn a_grant_of_the_program_lets_the_guest_go_on() {
        let mut s = setting();
        s.output(1, stream::STDOUT, 0, 1000).unwrap();
        let credit = Credit { exec: 77, stream: stream::STDOUT, bytes: 500 };
        s.client(to_supervisor::Body::Credit(credit)).unwrap();
        assert!(s.output(1, stream::STDOUT, 1000, 500).is_ok());
        let mut last = None;
        while let Ok(message) = s.to_guest.try_recv() {
            last = message.body;
        }
        assert_eq!(last, Some(to_guest::Body::Credit(Credit { exec: 1, ..credit })));
    }

    #[tokio::test]
    async fn streams_that_do_not_exist_and_gaps_are_refused() {
        assert!(setting().output(1, 9, 0, 1).is_err());
        assert!(setting().output(1, stream::STDIN, 0, 1).is_err());
        assert!(setting().output(1, stream::STDOUT, 7, 1).is_err());
        let absurd = Credit { exec: 1, stream: stream::STDIN, bytes: u64::MAX };
        let mut s = setting();
        assert!(s.guest(to_host::Body::Credit(Credit { bytes: 1, ..absurd })).is_ok());
        assert!(s.guest(to_host::Body::Credit(absurd)).is_err());
    }

    #[tokio::test]
    async fn what_nobody_asked_for_is_ignored() {
        let mut s = setting();
        assert!(s.output(4711, stream::STDOUT, 0, 50_000).is_ok());
        for id in 0..1000 {
            let response = Response { id: id + 100, failure: None };
            assert!(s.guest(to_host::Body::Response(response)).is_ok());
            let exited = Exited { exec: id as u32 + 100, code: 0, signal: 0 };
            assert!(s.guest(to_host::Body::Exited(exited)).is_ok());
        }
        assert!(s.hub.requests.len() == 1 && s.hub.execs.len() == 1);
    }

    #[tokio::test]
    async fn a_program_that_exceeds_its_credit_is_disconnected_and_its_exec_killed() {
        let mut s = setting();
        let bytes = Bytes::from_static(b"unasked");
        let data = Data { exec: 77, stream: stream::STDIN, offset: 0, bytes, eof: false };
        s.client(to_supervisor::Body::Data(data)).unwrap();
        let mut killed = false;
        while let Ok(message) = s.to_guest.try_recv() {
            if let Some(to_guest::Body::Request(Request {
                op: Some(request::Op::Signal(k)), ..
            })) = message.body
            {
                killed = k == Signal { exec: 1, signal: libc::SIGKILL };
            }
        }
        assert!(killed);
        // What it still writes is discarded and does not block it.
        assert!(s.output(1, stream::STDOUT, 0, 1000).is_ok());
        assert!(s.output(1, stream::STDOUT, 1000, 60_000).is_ok());
    }
}
