//! Who asked what, and where which stream goes.
//!
//! Programs number their requests and execs as they like; towards the guest the hub numbers them
//! itself and translates. It also keeps both sides to their credit: what a hostile guest or a
//! broken program could make the supervisor hold is bounded.

mod detached;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use boxlite_protocol::message::{
    Attach, Credit, Data, Exec, Exited, Failure, FailureKind, FromSupervisor, ListExecs, MAIN_EXEC,
    Notice, Request, Response, Running, Shutdown, Signal, Standing, ToGuest, ToHost, ToSupervisor,
    from_supervisor, request, stream, to_guest, to_host, to_supervisor,
};
use tokio::sync::mpsc;

use super::branch::{Asked, Wanted};
use super::follow::{Finished, Place};
use super::peer::{ClientId, Clients};
use super::route::{MAIN, OWN, Route};
use super::stats::Meter;
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
    /// The main process runs, or could not be started.
    MainStarted(Result<(), Failure>),
    MainExited(Exited),
    /// A program wants the disk to consist of other files; the request is still to be answered.
    Disk(Asked),
    /// The guest's file system has come to rest at this request, or cannot.
    Frozen {
        request: u64,
        answer: Result<(), Failure>,
    },
    /// The guest's file system goes on after this request, or cannot.
    Thawed {
        request: u64,
    },
    /// A program wants the box to outlive it; the request is still to be answered.
    Detach {
        client: ClientId,
        id: u64,
    },
}

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
    finished: Finished,
    /// Where the output of detached commands is kept.
    place: Place,
    /// Programs of another version, by which the box can be stopped and nothing else.
    foreign: HashSet<ClientId>,
    pub meter: Meter,
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
    Stats,
    Freeze,
    Thaw,
    Other,
}

/// What a guest may let a program send ahead.
const MAX_STDIN_CREDIT: u64 = 1 << 20;

/// Questions of one kind that a guest may leave unanswered before it is asked no more of them.
pub const MAX_UNANSWERED: usize = 16;

/// The longest text of a guest's that is passed on.
const MAX_MESSAGE: usize = 4096;

fn to_guest(body: to_guest::Body) -> ToGuest {
    ToGuest { body: Some(body) }
}

fn to_client(body: from_supervisor::Body) -> FromSupervisor {
    FromSupervisor { body: Some(body) }
}

impl Hub {
    pub fn new(guest: mpsc::UnboundedSender<ToGuest>, running: Running, place: Place) -> Hub {
        let meter = Meter::new(running.machine_pid);
        Hub {
            guest,
            running,
            halted: false,
            requests: HashMap::new(),
            next_request: 1,
            execs: HashMap::new(),
            names: HashMap::new(),
            next_exec: MAIN_EXEC + 1,
            finished: Finished::default(),
            place,
            foreign: HashSet::new(),
            meter,
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

    /// Starts the main process. A failure says that its output cannot be kept.
    pub fn start_main(&mut self, exec: Exec) -> Result<(), Failure> {
        let (number, exec) = self.open_route(MAIN, Exec { detached: true, ..exec })?;
        let id = self.next_request;
        self.requests.insert(id, Pending { client: MAIN, id, kind: Kind::Exec(number) });
        self.tell(request::Op::Exec(exec));
        Ok(())
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

    /// Has the guest's file system come to rest, which [`Outcome::Frozen`] tells. Returns the request's
    /// number.
    pub fn freeze(&mut self) -> u64 {
        let id = self.next_request;
        self.requests.insert(id, Pending { client: OWN, id, kind: Kind::Freeze });
        self.tell(request::Op::Freeze(boxlite_protocol::message::Empty {}));
        id
    }

    /// Has it go on, which [`Outcome::Thawed`] tells. Returns the request's number.
    pub fn thaw(&mut self) -> u64 {
        let id = self.next_request;
        self.requests.insert(id, Pending { client: OWN, id, kind: Kind::Thaw });
        self.tell(request::Op::Thaw(boxlite_protocol::message::Empty {}));
        id
    }

    /// Whether programs have commands running.
    pub fn is_in_use(&self) -> bool {
        self.execs.values().any(|route| route.client != OWN)
    }

    /// Answers a request that the hub has passed on.
    pub fn answer(&self, clients: &Clients, client: ClientId, id: u64, done: Result<()>) {
        self.answer_with(clients, client, id, done.map(|()| 0));
    }

    /// The same, with a number.
    pub fn answer_with(&self, clients: &Clients, client: ClientId, id: u64, done: Result<u32>) {
        let done = done.map_err(|error| {
            let kind = match error.code() {
                Code::Timeout => FailureKind::Silent,
                Code::InvalidState => FailureKind::State,
                Code::InvalidArgument => FailureKind::Invalid,
                Code::ResourceExhausted => FailureKind::Resources,
                Code::Storage | Code::AlreadyExists => FailureKind::Storage,
                _ => FailureKind::Internal,
            };
            Failure { errno: error.os_errno().unwrap_or(0), ..fail(kind, error.message()) }
        });
        respond(clients, client, id, done);
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
            Some(to_supervisor::Body::Attach(Attach { version })) => {
                if version != boxlite_protocol::VERSION {
                    self.foreign.insert(id);
                }
                self.welcome(clients, id);
            }
            Some(to_supervisor::Body::Request(request)) => {
                return Ok(self.request(id, request, clients));
            }
            Some(to_supervisor::Body::Data(data)) => {
                if !self.stdin(id, data) {
                    clients.disconnect(id);
                    return self.client_gone(id);
                }
            }
            Some(to_supervisor::Body::Credit(credit)) => self.grant(id, credit, clients),
            Some(to_supervisor::Body::Leave(name)) => self.leave((id, name)),
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
        if self.foreign.contains(&client) && !matches!(request.op, Some(request::Op::Shutdown(_))) {
            respond(clients, client, id, Err(other_version()));
            return outcome;
        }
        let passed_on = match request.op {
            Some(request::Op::Pause(_)) => return Outcome::Halt { client, id, pause: true },
            Some(request::Op::Resume(_)) => return Outcome::Halt { client, id, pause: false },
            Some(request::Op::Branch(branch)) => {
                return Outcome::Disk(Asked { client, id, what: Wanted::Branch(branch) });
            }
            Some(request::Op::Merge(merge)) => {
                return Outcome::Disk(Asked { client, id, what: Wanted::Merge(merge) });
            }
            Some(request::Op::Detach(_)) => return Outcome::Detach { client, id },
            Some(request::Op::ListExecs(ListExecs { after })) => {
                let answer = Response { id, execs: Some(self.list(after)), ..Response::default() };
                clients.send(client, to_client(from_supervisor::Body::Response(answer)));
                return outcome;
            }
            Some(request::Op::Stats(_)) => {
                let stats = Some(self.meter.read());
                let answer = Response { id, stats, ..Response::default() };
                clients.send(client, to_client(from_supervisor::Body::Response(answer)));
                return outcome;
            }
            Some(request::Op::Follow(follow)) => {
                self.follow(client, id, &follow, clients);
                return outcome;
            }
            Some(request::Op::Shutdown(shutdown)) => {
                let grace = Duration::from_millis(u64::from(shutdown.grace_ms));
                outcome = Outcome::Stopping { grace };
                Ok((Kind::Shutdown, request::Op::Shutdown(shutdown)))
            }
            op => self.translate(client, op),
        };
        let (kind, op) = match passed_on {
            Ok(passed_on) => passed_on,
            Err(failure) => {
                respond(clients, client, id, Err(failure));
                return outcome;
            }
        };
        let number = self.next_request;
        self.next_request += 1;
        self.requests.insert(number, Pending { client, id, kind });
        self.send(to_guest::Body::Request(Request { id: number, op: Some(op) }));
        outcome
    }

    /// What to ask the guest for, in its own numbers.
    fn translate(
        &mut self,
        client: ClientId,
        op: Option<request::Op>,
    ) -> Result<(Kind, request::Op), Failure> {
        match op {
            Some(request::Op::Exec(_)) if self.halted => {
                Err(fail(FailureKind::State, "the box is paused: resume it first"))
            }
            Some(request::Op::Exec(exec)) => {
                let (number, exec) = self.open_route(client, exec)?;
                Ok((Kind::Exec(number), request::Op::Exec(exec)))
            }
            Some(request::Op::Signal(signal)) => match self.names.get(&(client, signal.exec)) {
                Some(&exec) => Ok((Kind::Other, request::Op::Signal(Signal { exec, ..signal }))),
                None => Err(fail(FailureKind::NoExec, "the process has ended")),
            },
            Some(op @ request::Op::GuestStats(_)) => {
                let unanswered = |p: &&Pending| matches!(p.kind, Kind::Stats);
                let silent = self.requests.values().filter(unanswered).count() >= MAX_UNANSWERED;
                if self.halted || silent {
                    return Err(fail(FailureKind::Silent, "the agent does not answer now"));
                }
                Ok((Kind::Stats, op))
            }
            Some(op @ (request::Op::Ping(_) | request::Op::SetClock(_))) => Ok((Kind::Other, op)),
            _ => Err(fail(FailureKind::Invalid, "a request this supervisor does not know")),
        }
    }

    fn open_route(&mut self, client: ClientId, exec: Exec) -> Result<(u32, Exec), Failure> {
        if self.names.contains_key(&(client, exec.exec)) {
            return Err(fail(FailureKind::Invalid, "the exec's number is in use"));
        }
        let number = if client == MAIN { MAIN_EXEC } else { self.next_exec };
        let spooled = match exec.detached {
            true => Some(self.spool(client, number, &exec)?),
            false => None,
        };
        if number == self.next_exec {
            self.next_exec = number.checked_add(1).unwrap_or(MAIN_EXEC + 1);
        }
        let mut route = Route::new(client, number, &exec, spooled);
        let window = route.output(stream::STDOUT).map_or(0, |output| output.room().1);
        self.names.insert((client, exec.exec), number);
        self.execs.insert(number, route);
        Ok((number, Exec { exec: number, window, detached: false, ..exec }))
    }

    /// Forwards stdin; false if the program sent more than the guest granted.
    fn stdin(&mut self, client: ClientId, data: Data) -> bool {
        let Some(exec) = self.names.get(&(client, data.exec)) else { return true };
        let Some(route) = self.execs.get_mut(exec) else { return true };
        let length = data.bytes.len() as u64;
        let writer = (route.client, route.name) == (client, data.exec) && route.stdin_open;
        if !writer || data.stream != stream::STDIN || length > route.stdin.available() {
            return false;
        }
        route.stdin_open = !data.eof;
        let offset = route.stdin.take(length);
        if offset != data.offset {
            return false;
        }
        self.meter.sent(length);
        let data = Data { exec: *exec, ..data };
        self.send(to_guest::Body::Data(data));
        true
    }

    fn grant(&mut self, client: ClientId, credit: Credit, clients: &Clients) {
        let name = (client, credit.exec);
        let Some(&exec) = self.names.get(&name) else { return };
        if let Some(spooled) = self.spooled(exec) {
            let done = spooled.grant(name, credit.stream, credit.bytes, clients);
            return self.forget(done);
        }
        let route = self.execs.get_mut(&exec);
        if let Some(output) = route.and_then(|r| r.output(credit.stream)) {
            output.extend(credit.bytes);
            self.send(to_guest::Body::Credit(Credit { exec, ..credit }));
        }
    }

    /// A program is gone: what it ran attached ends with it.
    pub fn client_gone(&mut self, id: ClientId) -> Result<Outcome> {
        self.names.retain(|(client, _), _| *client != id);
        self.foreign.remove(&id);
        self.finished.client_gone(id);
        let (mut orphans, mut left) = (Vec::new(), Vec::new());
        for (exec, route) in &mut self.execs {
            if let Some(spooled) = &mut route.spooled {
                spooled.client_gone(id);
            }
            if route.client == id {
                if route.spooled.is_some() { &mut left } else { &mut orphans }.push(*exec);
            }
        }
        left.into_iter().for_each(|exec| self.close_stdin(exec));
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
        let answer = failure.map_or(Ok(()), Err);
        let mut outcome = Outcome::Continue;
        let mut number = 0;
        match pending.kind {
            Kind::Exec(exec) => {
                number = exec;
                // A health check is nobody's command.
                if pending.client != OWN {
                    self.meter.command(answer.is_ok());
                }
                if answer.is_err() {
                    self.give_up(exec);
                }
                match pending.client {
                    MAIN => return Outcome::MainStarted(answer),
                    OWN if answer.is_err() => outcome = Outcome::OwnEnded { exec, success: false },
                    _ => {}
                }
            }
            Kind::Stats if answer.is_ok() => {
                // Nothing else of what a guest may say is passed on.
                let guest_stats = response.guest_stats;
                let answer = Response { id: pending.id, guest_stats, ..Response::default() };
                clients.send(pending.client, to_client(from_supervisor::Body::Response(answer)));
                return outcome;
            }
            Kind::Thaw => return Outcome::Thawed { request: pending.id },
            Kind::Freeze => return Outcome::Frozen { request: pending.id, answer },
            Kind::Shutdown if answer.is_ok() => outcome = Outcome::GuestDone,
            _ => {}
        }
        respond(clients, pending.client, pending.id, answer.map(|()| number));
        outcome
    }

    fn output(&mut self, data: Data, clients: &Clients) -> Result<()> {
        let Some(route) = self.execs.get_mut(&data.exec) else { return Ok(()) };
        let (client, name, flows) = (route.client, route.name, route.flows());
        let length = data.bytes.len() as u64;
        let bit = 1 << (data.stream & 7);
        if route.ended & bit != 0 || (length == 0 && !data.eof) {
            return Err(violation("an empty chunk, or one after the end"));
        }
        route.ended |= u8::from(data.eof) * bit;
        let output = route.output(data.stream).ok_or_else(|| violation("no such stream"))?;
        output.accept(data.offset, length).map_err(violation)?;
        if client != OWN {
            self.meter.received(length);
        }
        if flows {
            // Kept or dropped; the grants are gathered as a reader's would be.
            let grant = output.consume(length);
            if let Some(spooled) = &mut route.spooled {
                spooled.append(&data, clients);
            }
            if let Some(bytes) = grant {
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
        let Some(mut route) = self.close_route(exited.exec) else { return Outcome::Continue };
        let detached = route.spooled.is_some();
        if let Some(mut spooled) = route.spooled.take() {
            let done = spooled.exit(exited, clients);
            self.forget(done);
            let done = self.finished.keep(route.about, *spooled, clients);
            self.forget(done);
        }
        match route.client {
            OWN => {
                let success = (exited.code, exited.signal) == (0, 0);
                return Outcome::OwnEnded { exec: exited.exec, success };
            }
            MAIN => return Outcome::MainExited(exited),
            _ if detached => {
                clients.send_all(&to_client(from_supervisor::Body::DetachedExited(exited)));
            }
            client => {
                let message = Exited { exec: route.name, ..exited };
                clients.send(client, to_client(from_supervisor::Body::Exited(message)));
            }
        }
        Outcome::Continue
    }

    /// The guest would not run a command.
    fn give_up(&mut self, exec: u32) {
        let route = self.close_route(exec);
        if let Some(spooled) = route.and_then(|route| route.spooled) {
            self.names.retain(|_, number| *number != exec);
            spooled.discard();
        }
    }

    /// Takes a command out of those that run. Who follows its output goes on to know it.
    fn close_route(&mut self, exec: u32) -> Option<Route> {
        let route = self.execs.remove(&exec)?;
        if route.spooled.is_none() {
            self.names.remove(&(route.client, route.name));
        }
        Some(route)
    }

    /// The machine is gone: nobody waits for an answer in vain.
    pub fn ended(&mut self, clients: &Clients) {
        for (_, pending) in self.requests.drain() {
            let failure = match pending.kind {
                Kind::Shutdown => None,
                _ => Some(fail(FailureKind::Ended, "the box has ended")),
            };
            respond(clients, pending.client, pending.id, failure.map_or(Ok(0), Err));
        }
    }
}

fn fail(kind: FailureKind, message: &str) -> Failure {
    Failure { kind: kind as i32, message: message.into(), errno: 0 }
}

/// Answers a request; the number is that of the exec that it was about, if it was about one.
fn respond(clients: &Clients, client: ClientId, id: u64, answer: Result<u32, Failure>) {
    let (number, failure) = answer.map_or_else(|failure| (0, Some(failure)), |n| (n, None));
    let response = Response { id, failure, number, ..Response::default() };
    clients.send(client, to_client(from_supervisor::Body::Response(response)));
}

fn other_version() -> Failure {
    let text = format!(
        "the box's supervisor speaks protocol version {}, and the program another: it can stop the box, \
         and start it again",
        boxlite_protocol::VERSION
    );
    fail(FailureKind::Version, &text)
}

fn violation(what: impl std::fmt::Display) -> Error {
    Error::new(Code::Portal, format!("the guest's agent broke the protocol: {what}"))
}

#[cfg(test)]
mod tests;
