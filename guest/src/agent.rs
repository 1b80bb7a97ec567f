//! The event loop: one thread, edge-triggered, never waiting for anything but events.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use boxlite_protocol::message::{
    Disk, Exec, Failure, FailureKind, Request, Response, Shutdown, Signal, ToGuest, request,
    to_guest, to_host,
};
use boxlite_spawn::Exit;
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::{SigHandler, SigSet, Signal as Sig};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{Id, WaitPidFlag, waitid};

use crate::freeze::{self, Freezer};
use crate::port::{self, Change, Port};
use crate::process::{Means, Process, Pumped, failure};
use crate::rehearsal::{self, Stage};
use crate::setup::{self, Blank};
use crate::stats;

const PORT: u64 = u64::MAX;
const SIGNALS: u64 = u64::MAX - 1;
const FREEZER: u64 = u64::MAX - 2;
/// Pipes of ended execs that background processes still write to.
const DISCARD: u64 = 1 << 40;
/// The outputs of the exec that has the ready-made pipes, by their stream.
const READY_MADE: u64 = 1 << 41;

/// How long processes may take to end after SIGKILL before the machine goes without them.
const KILL_PATIENCE: Duration = Duration::from_secs(5);

/// How long the host may take to read what is left at the end.
const LAST_WORDS_PATIENCE: Duration = Duration::from_secs(1);

enum State {
    /// A machine, not yet a box.
    Blank(Blank),
    Box,
    /// Ending: the requests to answer, and when patience with the processes ends.
    Ending {
        requests: Vec<u64>,
        deadline: Instant,
        killed: bool,
    },
    /// Unmounted: what is still to be sent may take this long, and the answers come last.
    Leaving {
        requests: Vec<u64>,
        deadline: Instant,
    },
    Over,
}

/// Processes started before all that run have their turn.
const STARTS_A_TURN: usize = 4;

struct Agent {
    epoll: Epoll,
    port: Port,
    signals: SignalFd,
    processes: BTreeMap<u32, Process>,
    means: Means,
    discards: BTreeMap<RawFd, Rc<OwnedFd>>,
    state: State,
    /// The exec that has the ready-made pipes.
    ready_made: Option<u32>,
    /// The exec that moved bytes last.
    served: u32,
    /// The host has sent more than was looked at.
    backlog: bool,
    rehearsing: Option<Rehearsing>,
    freezer: Freezer,
    /// What made this machine a box; to close it would take time.
    _spent: Option<Blank>,
}

/// A rehearsal whose commands run, one after the other.
struct Rehearsing {
    /// What the end of the last one answers.
    request: u64,
    stage: Stage,
    left: usize,
}

/// Serves until the box is shut down.
pub fn run() -> io::Result<()> {
    ignore_no_signal()?;
    let mut mask = SigSet::empty();
    mask.add(Sig::SIGCHLD);
    mask.thread_block()?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(signals.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, SIGNALS))?;
    let (means, blank) = (Means::new()?, Blank::new()?);
    for (stream, fd) in means.ready_made() {
        epoll.add(fd, edge(EpollFlags::EPOLLIN, READY_MADE | u64::from(stream)))?;
    }
    // Nothing after this but waiting: a machine may be saved from now on.
    let port = Port::open(&port::find()?)?;
    epoll.add(port.fd(), edge(EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT, PORT))?;
    let mut agent = Agent {
        epoll,
        port,
        signals,
        processes: BTreeMap::new(),
        means,
        discards: BTreeMap::new(),
        state: State::Blank(blank),
        ready_made: None,
        served: 0,
        backlog: false,
        rehearsing: None,
        freezer: Freezer::default(),
        _spent: None,
    };
    while !matches!(agent.state, State::Over) {
        agent.turn()?;
    }
    Ok(())
}

/// Has a process run on when it wakes us, until it waits or its time is up.
///
/// Every switch between address spaces costs an emulated processor what some dozen system calls
/// do. This way we find a full pipe where else we would be woken for its first page, and a
/// command's output, its end and its status in one turn.
///
/// Not before the first command has ended: the way to the end of a process takes long when it is
/// gone for the first time, and its output would wait for that.
fn yield_to_others() {
    // SAFETY: all fields of sched_param are plain data; zero is the only priority of this policy.
    let priority: libc::sched_param = unsafe { std::mem::zeroed() };
    // SAFETY: sets this process's policy. Refused, we are woken more often: no reason to fail.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &priority) };
}

/// Undoes what the runtime did, for our processes: process 1 needs no protection from signals.
fn ignore_no_signal() -> io::Result<()> {
    // SAFETY: the default takes the place of an ignored signal; no handler is involved.
    unsafe { nix::sys::signal::signal(Sig::SIGPIPE, SigHandler::SigDfl) }?;
    Ok(())
}

fn edge(flags: EpollFlags, token: u64) -> EpollEvent {
    EpollEvent::new(flags | EpollFlags::EPOLLET, token)
}

fn token(exec: u32, stream: u32) -> u64 {
    u64::from(exec) << 2 | u64::from(stream)
}

impl Agent {
    /// Waits for events and acts on them until nothing more can move.
    fn turn(&mut self) -> io::Result<()> {
        let mut events = [EpollEvent::empty(); 64];
        let timeout = if self.backlog { EpollTimeout::ZERO } else { self.timeout() };
        let count = match self.epoll.wait(&mut events, timeout) {
            Err(Errno::EINTR) => 0,
            other => other?,
        };
        for event in &events[..count] {
            match event.data() {
                PORT => {
                    let present = !event.events().contains(EpollFlags::EPOLLHUP);
                    if self.port.set_present(present)? != Change::None {
                        self.end_all();
                    }
                }
                SIGNALS => self.reap()?,
                FREEZER => {
                    let answers = self.freezer.attempted();
                    self.answer(answers);
                }
                token if token & DISCARD != 0 => self.discard((token & !DISCARD) as RawFd),
                token => {
                    let ready_made = token & READY_MADE != 0;
                    let exec = if ready_made { self.ready_made } else { Some((token >> 2) as u32) };
                    let process = exec.and_then(|exec| self.processes.get_mut(&exec));
                    if let Some(process) = process {
                        let hung_up = event.events().contains(EpollFlags::EPOLLHUP);
                        process.ready((token & 3) as u32, hung_up);
                    }
                }
            }
        }
        if self.receive()? && self.means.yields {
            // A short command has ended by now: its whole story goes out at once.
            self.reap()?;
        }
        self.pump()?;
        self.finish()
    }

    /// Reads and acts on what the host sent; tells whether a process was started. What a host asks
    /// for without a pause is left for later turns, or nobody else would have any. A host that
    /// breaks the protocol loses its session.
    fn receive(&mut self) -> io::Result<bool> {
        let before = self.processes.len();
        self.backlog = false;
        loop {
            match self.port.receive() {
                Ok(Some(message)) => {
                    self.act(message)?;
                    if self.processes.len() >= before + STARTS_A_TURN {
                        self.backlog = true;
                        return Ok(true);
                    }
                }
                Ok(None) => return Ok(self.processes.len() > before),
                Err(e) => {
                    crate::console(&format!("bad message from the host: {e}"));
                    self.end_all();
                    self.port.set_present(false)?;
                    self.port.set_present(true)?;
                    return Ok(false);
                }
            }
        }
    }

    fn act(&mut self, message: ToGuest) -> io::Result<()> {
        match message.body {
            Some(to_guest::Body::Request(request)) => self.request(request),
            Some(to_guest::Body::Data(data)) => {
                let exec = data.exec;
                // An exec that has ended meanwhile: the bytes have nobody to go to.
                if self.processes.get_mut(&exec).is_some_and(|p| !p.accept(data)) {
                    crate::console(&format!("exec {exec}: stdin beyond its credit"));
                }
                Ok(())
            }
            Some(to_guest::Body::Credit(credit)) => {
                let process = self.processes.get_mut(&credit.exec);
                if process.is_some_and(|p| !p.grant(credit.stream, credit.bytes)) {
                    crate::console(&format!("exec {}: absurd credit", credit.exec));
                }
                Ok(())
            }
            // A newer host's message: nothing this agent promised to know.
            None => Ok(()),
        }
    }

    fn request(&mut self, request: Request) -> io::Result<()> {
        let id = request.id;
        let outcome = match request.op {
            Some(request::Op::Ping(_)) => Ok(()),
            Some(request::Op::Init(init)) => match &self.state {
                State::Blank(blank) => blank.become_box(&init).map(|()| {
                    if let State::Blank(blank) = std::mem::replace(&mut self.state, State::Box) {
                        self._spent = Some(blank);
                    }
                }),
                _ => Err(failure(FailureKind::State, "the machine is a box already", 0)),
            },
            Some(request::Op::Exec(exec)) => self.exec(exec),
            Some(request::Op::Signal(signal)) => self.signal(signal),
            Some(request::Op::SetClock(time)) => setup::set_clock(time).map_err(|e| {
                let errno = e.raw_os_error().unwrap_or(0);
                failure(FailureKind::Invalid, format!("set the clock: {e}"), errno)
            }),
            Some(request::Op::Rehearse(rehearse)) => match self.rehearse(id, &rehearse) {
                Ok(()) => return Ok(()),
                refused => refused,
            },
            Some(request::Op::MountRoot(disk)) => match &mut self.state {
                State::Blank(blank) => blank.mount_root(&disk).inspect(|()| self.means.prime()),
                _ => Err(failure(FailureKind::State, "the machine is a box already", 0)),
            },
            Some(request::Op::Freeze(_)) => {
                let event = EpollEvent::new(EpollFlags::EPOLLIN, FREEZER);
                let begun = match &self.state {
                    State::Box => self.freezer.freeze(id, |over| self.epoll.add(over, event)),
                    _ => Err(failure(FailureKind::State, "not the time to freeze", 0)),
                };
                match begun {
                    Ok(()) => return Ok(()),
                    refused => refused,
                }
            }
            Some(request::Op::Thaw(_)) => {
                let answers = self.freezer.thaw(Some(id));
                self.answer(answers);
                return Ok(());
            }
            Some(request::Op::Shutdown(shutdown)) => return self.shutdown(id, shutdown),
            Some(request::Op::GuestStats(_)) => {
                let guest_stats = Some(Box::new(stats::read()));
                let response = Response { id, guest_stats, ..Response::default() };
                self.port.send(to_host::Body::Response(response));
                return Ok(());
            }
            Some(
                request::Op::Pause(_)
                | request::Op::Resume(_)
                | request::Op::ListExecs(_)
                | request::Op::Follow(_)
                | request::Op::Detach(_)
                | request::Op::Branch(_)
                | request::Op::Merge(_)
                | request::Op::Stats(_),
            )
            | None => Err(failure(FailureKind::Invalid, "a request this agent does not know", 0)),
        };
        self.respond(id, outcome);
        Ok(())
    }

    fn answer(&mut self, answers: Vec<freeze::Answer>) {
        for (id, outcome) in answers {
            self.respond(id, outcome);
        }
    }

    fn respond(&mut self, id: u64, outcome: Result<(), Failure>) {
        self.port.send(to_host::Body::Response(Response {
            id,
            failure: outcome.err(),
            ..Response::default()
        }));
    }

    fn exec(&mut self, request: Exec) -> Result<(), Failure> {
        match self.state {
            State::Box => {}
            State::Blank(_) => return Err(failure(FailureKind::State, "the box is not set up", 0)),
            State::Ending { .. } | State::Leaving { .. } | State::Over => {
                return Err(failure(FailureKind::State, "the box is shutting down", 0));
            }
        }
        self.start(request)
    }

    /// Begins a rehearsal; its request is answered when the last of its commands has ended.
    fn rehearse(&mut self, id: u64, request: &Disk) -> Result<(), Failure> {
        let stage = match &self.state {
            State::Blank(blank) if self.rehearsing.is_none() => rehearsal::begin(blank, request)?,
            _ => return Err(failure(FailureKind::State, "not the time to rehearse", 0)),
        };
        self.rehearsing = Some(Rehearsing { request: id, stage, left: rehearsal::TIMES });
        Ok(())
    }

    /// The next command of a rehearsal, or its end. A host has no use for a machine where one failed.
    fn go_on_rehearsing(&mut self) -> io::Result<()> {
        let Some(Rehearsing { request, stage, left }) = self.rehearsing.take() else {
            return Ok(());
        };
        if left == 0 {
            self.respond(request, stage.clear());
        } else if let Err(refused) = self.start(stage.command()) {
            self.respond(request, Err(refused));
        } else {
            self.rehearsing = Some(Rehearsing { request, stage, left: left - 1 });
        }
        self.port.flush()
    }

    fn start(&mut self, request: Exec) -> Result<(), Failure> {
        let id = request.exec;
        if self.processes.contains_key(&id) {
            return Err(failure(FailureKind::Invalid, format!("exec {id} is in use"), 0));
        }
        let (process, credit) = Process::start(request, &mut self.means)?;
        for (stream, fd) in process.fds() {
            let flags = if stream == 0 { EpollFlags::EPOLLOUT } else { EpollFlags::EPOLLIN };
            if let Err(e) = self.epoll.add(fd, edge(flags, token(id, stream))) {
                // Not watched, it would hang: it may not run at all.
                let _ = process.signal(libc::SIGKILL);
                return Err(failure(FailureKind::Resources, e.desc(), e as i32));
            }
        }
        if process.has_ready_made() {
            self.ready_made = Some(id);
        }
        self.processes.insert(id, process);
        if let Some(credit) = credit {
            self.port.send(to_host::Body::Credit(credit));
        }
        Ok(())
    }

    fn signal(&mut self, request: Signal) -> Result<(), Failure> {
        let gone = || failure(FailureKind::NoExec, "the process has ended", libc::ESRCH);
        let process = self.processes.get(&request.exec).ok_or_else(gone)?;
        process.signal(request.signal).map_err(|e| match e {
            Errno::ESRCH => gone(),
            Errno::EINVAL => {
                let text = format!("there is no signal {}", request.signal);
                failure(FailureKind::Invalid, text, e as i32)
            }
            e => failure(FailureKind::Internal, e.desc(), e as i32),
        })
    }

    /// Collects ended processes: execs, and whatever they left to process 1.
    fn reap(&mut self) -> io::Result<()> {
        while self.signals.read_signal()?.is_some() {}
        while let Some((pid, exit)) = reap_one() {
            if let Some(process) = self.processes.values_mut().find(|p| p.pid() == pid) {
                process.set_exited(exit);
            }
        }
        Ok(())
    }

    /// Moves bytes on all streams, in turn, until nothing moves or the port is full.
    fn pump(&mut self) -> io::Result<()> {
        let mut moved = true;
        while moved && self.make_room()? {
            moved = false;
            // Who comes after the one served last comes first: a full port starves nobody.
            let after = self.processes.range(self.served.saturating_add(1)..);
            let turns = after.chain(self.processes.range(..=self.served));
            for id in turns.map(|(id, _)| *id).collect::<Vec<u32>>() {
                if !self.make_room()? {
                    break;
                }
                self.served = id;
                moved |= self.pump_one(id);
            }
        }
        // As late as this: what belongs together goes out, and wakes the host, once.
        self.port.flush()
    }

    /// Whether the port takes more, now or after what is queued was written.
    fn make_room(&mut self) -> io::Result<bool> {
        if !self.port.has_room() {
            self.port.flush()?;
        }
        Ok(self.port.has_room())
    }

    fn pump_one(&mut self, id: u32) -> bool {
        let Some(process) = self.processes.get_mut(&id) else { return false };
        let mut discard = Vec::new();
        let pumped = process.pump(&mut self.port, &mut discard);
        for pipe in discard {
            self.keep_discarding(pipe);
        }
        if pumped == Pumped::Ended {
            self.processes.remove(&id);
            if !std::mem::replace(&mut self.means.yields, true) {
                yield_to_others();
            }
        }
        pumped != Pumped::Idle
    }

    /// Goes on reading a pipe that nobody listens to, so that who writes to it is not ended.
    fn keep_discarding(&mut self, pipe: Rc<OwnedFd>) {
        let fd = pipe.as_raw_fd();
        // Level-triggered: one bounded read a turn, or a busy writer would keep us for ever.
        let mut event = EpollEvent::new(EpollFlags::EPOLLIN, DISCARD | fd as u64);
        if self.epoll.modify(&pipe, &mut event).is_ok() {
            self.discards.insert(fd, pipe);
        }
    }

    fn discard(&mut self, fd: RawFd) {
        let mut scratch = [0; 64 * 1024];
        let Some(pipe) = self.discards.get(&fd) else { return };
        if !matches!(nix::unistd::read(pipe, &mut scratch), Ok(1..) | Err(Errno::EAGAIN)) {
            self.discards.remove(&fd);
        }
    }

    /// Ends all execs: the host that knew them is gone.
    fn end_all(&mut self) {
        for process in self.processes.values() {
            // A process that has ended meanwhile is what we want.
            let _ = process.signal(libc::SIGKILL);
        }
        self.processes.clear();
        // Who asked for it is gone too.
        self.freezer.thaw(None);
    }

    fn shutdown(&mut self, request: u64, shutdown: Shutdown) -> io::Result<()> {
        // Processes that wait for the disk could not end.
        let answers = self.freezer.thaw(None);
        self.answer(answers);
        let wanted = Instant::now() + Duration::from_millis(u64::from(shutdown.grace_ms));
        match &mut self.state {
            // A second request can only shorten the first.
            State::Ending { requests, deadline, .. } => {
                requests.push(request);
                *deadline = wanted.min(*deadline);
            }
            State::Leaving { requests, .. } => requests.push(request),
            State::Over => {}
            State::Blank(_) | State::Box => {
                let requests = vec![request];
                self.state = State::Ending { requests, deadline: wanted, killed: false };
                signal_all(libc::SIGTERM);
            }
        }
        Ok(())
    }

    fn timeout(&self) -> EpollTimeout {
        let (State::Ending { deadline, .. } | State::Leaving { deadline, .. }) = &self.state else {
            return EpollTimeout::NONE;
        };
        let left = deadline.saturating_duration_since(Instant::now());
        // A millisecond more, so that the deadline has passed when we look.
        let millis = u16::try_from(left.as_millis() + 1).unwrap_or(u16::MAX);
        EpollTimeout::from(millis)
    }

    /// Goes on with a rehearsal whose command has ended. While shutting down: goes on to the next
    /// step when processes or patience have ended.
    fn finish(&mut self) -> io::Result<()> {
        if self.processes.is_empty() {
            self.go_on_rehearsing()?;
        }
        let (requests, deadline, killed) = match &mut self.state {
            State::Ending { requests, deadline, killed } => (requests, deadline, killed),
            State::Leaving { .. } => return self.leave(),
            State::Blank(_) | State::Box | State::Over => return Ok(()),
        };
        let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        let alive = !matches!(waitid(Id::All, look), Err(Errno::ECHILD));
        if alive && Instant::now() < *deadline {
            return Ok(());
        }
        if alive && !*killed {
            *killed = true;
            *deadline = Instant::now() + KILL_PATIENCE;
            signal_all(libc::SIGKILL);
            return Ok(());
        }
        let requests = std::mem::take(requests);
        nix::unistd::sync();
        let read_only = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        // Without a box there is no disk; with a stuck process the sync above has to do.
        if let Err(e) = mount(None::<&str>, "/", None::<&str>, read_only, None::<&str>) {
            crate::console(&format!("root not unmounted cleanly: {}", e.desc()));
        }
        let deadline = Instant::now() + LAST_WORDS_PATIENCE;
        self.state = State::Leaving { requests, deadline };
        self.pump()?;
        self.leave()
    }

    /// Answers once the last output was sent, and is done once the answers were.
    fn leave(&mut self) -> io::Result<()> {
        let State::Leaving { requests, deadline } = &mut self.state else { return Ok(()) };
        let late = Instant::now() >= *deadline;
        let sent = self.port.is_empty() && self.processes.is_empty();
        if !late && !sent {
            return Ok(());
        }
        for request in std::mem::take(requests) {
            self.respond(request, Ok(()));
        }
        self.port.flush()?;
        if late || self.port.is_empty() {
            self.state = State::Over;
        }
        Ok(())
    }
}

/// Signals every process but this one.
fn signal_all(signal: i32) {
    // SAFETY: process 1 signals all others; none of them means there is nothing to do.
    unsafe { libc::kill(-1, signal) };
}

/// The next child that has ended, if any.
fn reap_one() -> Option<(i32, Exit)> {
    let mut status = 0;
    // SAFETY: a wait for any child that stores one int. (The typed wrapper cannot express death
    // by a real-time signal.)
    let pid = unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) };
    let exit = if libc::WIFEXITED(status) {
        Exit::Code(libc::WEXITSTATUS(status))
    } else {
        Exit::Signal(libc::WTERMSIG(status))
    };
    (pid > 0).then_some((pid, exit))
}
