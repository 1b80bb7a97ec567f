//! A program's connection to a box's supervisor.

mod detached;
mod failure;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use boxlite_protocol::codec::Codec;
use boxlite_protocol::message::{
    Attach, Branch, Data, Empty, Exec, Failure, FailureKind, FromSupervisor, Gap, GuestStats,
    Merge, Notice, Parked, Request, Response, Running, Signal, Stage, Standing, Stats,
    ToSupervisor, from_supervisor, request, stream, to_supervisor,
};
use boxlite_protocol::{VERSION, WINDOW};
use bytes::BytesMut;
use futures_util::StreamExt;
use prost::Message;
use tokio::io::{AsyncRead, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use tokio_util::codec::{Encoder, FramedRead};

use failure::{ended_early, error, lost, no_answer, other_version, outcome, why};

use super::exec::{ExecStreams, ExitStatus, Kind, Watcher};
use super::pulse::{BEAT, Change, Pulse};
use super::replay::Replay;
use crate::error::{Code, Error, Result};

/// The largest request: what a frame holds, less room for what the supervisor adds.
const MAX_REQUEST: usize = boxlite_protocol::codec::MAX_FRAME - 256;

/// Commands that may be starting at once. Who starts more waits here, where it can still be
/// cancelled: a guest takes its time, and has other things to do.
const MAX_STARTS: usize = 32;

/// Bytes gathered for one write, and read at once.
const BATCH: usize = 256 * 1024;

/// A connection to a running box. Cloning gives another handle on the same connection.
#[derive(Clone)]
pub struct Connection {
    shared: Arc<Shared>,
    running: Arc<Running>,
}

struct Shared {
    outbox: mpsc::UnboundedSender<ToSupervisor>,
    state: Mutex<State>,
    /// A permit for each command that may be starting at once.
    starts: Arc<Semaphore>,
    ended: watch::Sender<Option<Result<()>>>,
    /// Whether all commands were told of that.
    over: watch::Sender<bool>,
    pulse: Pulse,
    reader: OnceLock<AbortHandle>,
    /// What is left of the box's run when its supervisor is gone: its directory, and the run's id.
    remains: (PathBuf, String),
}

#[derive(Default)]
struct State {
    next: u64,
    requests: HashMap<u64, Pending>,
    execs: HashMap<u32, Arc<ExecStreams>>,
    /// Of detached commands that were started here, by the supervisor's numbers. They end also if nobody
    /// follows them.
    watchers: HashMap<u32, Arc<dyn Watcher>>,
}

struct Pending {
    answer: oneshot::Sender<Result<Response, Failure>>,
    /// The exec that the request starts, and its permit to.
    exec: Option<(u32, OwnedSemaphorePermit)>,
}

/// How the supervisor is asked for its service.
pub enum Opening {
    /// A new supervisor: what to launch, in the form it reads.
    Launch(Vec<u8>),
    /// A supervisor that another program has started.
    Attach,
}

impl Connection {
    /// Opens the conversation with the supervisor of the box that has a directory, and waits until it
    /// runs; `stage` hears of each step.
    pub async fn open(
        stream: UnixStream,
        box_dir: &Path,
        opening: Opening,
        mut stage: impl FnMut(Stage),
    ) -> Result<Connection> {
        let (read, write_half) = stream.into_split();
        let (outbox, messages) = mpsc::unbounded_channel();
        let (ended, ending) = watch::channel(None);
        tokio::spawn(write(write_half, messages, ending));
        let body = match opening {
            Opening::Launch(spec) => to_supervisor::Body::Launch(spec.into()),
            Opening::Attach => to_supervisor::Body::Attach(Attach { version: VERSION }),
        };
        let _ = outbox.send(ToSupervisor { body: Some(body) });
        let mut frames = FramedRead::with_capacity(read, Codec::default(), BATCH);
        let running = loop {
            match next(&mut frames).await? {
                Some(from_supervisor::Body::Stage(done)) => stage(done),
                Some(from_supervisor::Body::Running(running)) => break running,
                Some(from_supervisor::Body::Ended(ended)) => return Err(ended_early(ended)),
                Some(_) => {}
                None => return Err(lost()),
            }
        };
        let reader = OnceLock::new();
        let (state, starts) = (Mutex::default(), Arc::new(Semaphore::new(MAX_STARTS)));
        let standing = running.standing.clone().unwrap_or_default();
        let pulse = Pulse::new(running.supervisor_pid, standing);
        let remains = (box_dir.to_owned(), running.run.clone());
        let over = watch::channel(false).0;
        let shared = Shared { outbox, state, starts, ended, over, pulse, reader, remains };
        let shared = Arc::new(shared);
        let reading = tokio::spawn(read_all(shared.clone(), frames));
        let _ = shared.reader.set(reading.abort_handle());
        tokio::spawn(beat(Arc::downgrade(&shared)));
        Ok(Connection { shared, running: Arc::new(running) })
    }

    /// Notes what went wrong before there was a connection.
    pub fn add_detour(&mut self, detour: String) {
        Arc::make_mut(&mut self.running).detours.insert(0, detour);
    }

    /// Ends the connection: a box that this program started, and that is not detached, ends too.
    pub fn close(&self) {
        if let Some(reader) = self.shared.reader.get() {
            reader.abort();
        }
        self.shared.finish(Err(Error::new(Code::Stopped, "the box was let go of")), false);
    }

    /// What the supervisor said of itself.
    pub fn running(&self) -> &Running {
        &self.running
    }

    /// Waits for the box's end, which comes after that of all commands: `Ok` if it was meant to end.
    pub async fn ended(&self) -> Result<()> {
        let mut over = self.shared.over.subscribe();
        let _ = over.wait_for(|over| *over).await;
        let mut ended = self.shared.ended.subscribe();
        // The sender lives as long as we do.
        match ended.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(outcome)) => outcome.clone(),
            _ => Err(lost()),
        }
    }

    /// Whether this is another handle on the same connection.
    pub fn is(&self, other: &Connection) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// Whether the box has ended.
    pub fn has_ended(&self) -> bool {
        self.shared.ended.borrow().is_some()
    }

    /// A round trip to the agent.
    pub async fn ping(&self) -> Result<()> {
        let op = request::Op::Ping(Empty {});
        self.ask(op).await.map(drop)
    }

    /// What the box has done, and what its processes take.
    pub async fn stats(&self) -> Result<Stats> {
        let response = self.ask(request::Op::Stats(Empty {})).await?;
        response.stats.ok_or_else(|| no_answer("the supervisor"))
    }

    /// How the machine is, as its agent says. It may say anything, or nothing.
    pub async fn guest_stats(&self) -> Result<GuestStats> {
        let response = self.ask(request::Op::GuestStats(Empty {})).await?;
        response.guest_stats.map(|stats| *stats).ok_or_else(|| no_answer("the agent"))
    }

    /// How the machine is, as its supervisor says: changes can be waited for.
    pub fn standing(&self) -> watch::Receiver<Notice> {
        self.shared.pulse.subscribe()
    }

    /// What has changed since this was called last, in order, and how many changes are missing after
    /// that. Whoever takes them is the only one to see them.
    pub fn take_changes(&self) -> (Vec<Change>, u64) {
        self.shared.pulse.take_changes()
    }

    /// Waits until somebody who should answer does not: one of those `who`; says which.
    pub async fn silence(&self, who: &[Standing]) -> String {
        let mut standing = self.standing();
        let silent = standing.wait_for(|notice| who.contains(&notice.standing())).await;
        let message = silent.ok().map(|notice| notice.message.clone());
        match message {
            Some(message) => message,
            None => std::future::pending().await,
        }
    }

    /// Has the machine stand still.
    pub async fn pause(&self) -> Result<()> {
        let op = request::Op::Pause(Empty {});
        self.ask(op).await.map(drop)
    }

    /// Has the disk go on in another file, and returns the supervisor's answer: that it does, or why not.
    /// Where there is none, it may do so, now or later.
    pub async fn branch(&self, branch: Branch) -> Result<Result<()>> {
        let answer = self.request(request::Op::Branch(branch), None).await?;
        Ok(answer.map(drop).map_err(|failure| error(&failure)))
    }

    /// Has a file of the disk hold what it is on too, while the machine runs. Takes as long as that takes.
    pub async fn merge(&self, merge: Merge) -> Result<()> {
        self.ask(request::Op::Merge(merge)).await.map(drop)
    }

    /// Has it go on.
    pub async fn resume(&self) -> Result<()> {
        let op = request::Op::Resume(Empty {});
        self.ask(op).await.map(drop)
    }

    /// Starts a command, of which `watcher` hears; `spec.exec` and `spec.window` are filled in here.
    pub async fn exec(
        &self,
        spec: Exec,
        watcher: Option<Arc<dyn Watcher>>,
    ) -> Result<Arc<ExecStreams>> {
        let permit = self.shared.starts.clone().acquire_owned().await;
        let permit = permit.map_err(|_| lost())?;
        let kind = if spec.detached { Kind::Followed } else { Kind::Attached };
        let (streams, exec) = self.shared.add(spec.stdin, kind, [0; 2]);
        watcher.into_iter().for_each(|watcher| streams.watch(watcher));
        let spec = Exec { exec, window: WINDOW, ..spec };
        match self.request(request::Op::Exec(spec), Some((exec, permit))).await {
            Ok(Ok(_)) => Ok(streams),
            Ok(Err(failure)) => {
                self.shared.lock().execs.remove(&exec);
                let code = match FailureKind::try_from(failure.kind) {
                    Ok(FailureKind::CommandNotFound) => 127,
                    Ok(FailureKind::CommandNotExecutable) => 126,
                    _ => return Err(error(&failure)),
                };
                let message = Some(failure.message);
                streams.on_refusal(ExitStatus { code, signal: 0, message });
                Ok(streams)
            }
            Err(error) => {
                self.shared.lock().execs.remove(&exec);
                Err(error)
            }
        }
    }

    /// Signals a command's process group.
    pub async fn signal(&self, exec: u32, signal: i32) -> Result<()> {
        let op = request::Op::Signal(Signal { exec, signal });
        self.ask(op).await.map(drop)
    }

    /// Kills a command's process group, without waiting for it.
    pub fn kill(&self, exec: u32) {
        self.shared.kill(exec);
    }

    /// Asks the box to shut down; answers when it has.
    pub async fn shutdown(&self, grace_ms: u32) -> Result<()> {
        let op = request::Op::Shutdown(boxlite_protocol::message::Shutdown { grace_ms });
        match self.request(op, None).await {
            Ok(Ok(_)) => {}
            Ok(Err(failure)) => return Err(error(&failure)),
            // It ended before it could answer: that is what was asked for.
            Err(_) if self.has_ended() => {}
            Err(error) => return Err(error),
        }
        self.ended().await
    }

    async fn ask(&self, op: request::Op) -> Result<Response> {
        self.request(op, None).await?.map_err(|failure| error(&failure))
    }

    async fn request(
        &self,
        op: request::Op,
        exec: Option<(u32, OwnedSemaphorePermit)>,
    ) -> Result<Result<Response, Failure>> {
        if self.running.version != VERSION && !matches!(op, request::Op::Shutdown(_)) {
            return Err(other_version(self.running.version));
        }
        // What a guest has to answer cannot be had of one that is silent. The supervisor speaks for
        // itself, and waits for no machine for ever.
        let patience = match op {
            request::Op::Exec(_)
            | request::Op::Signal(_)
            | request::Op::Ping(_)
            | request::Op::Branch(_)
            | request::Op::GuestStats(_) => &[Standing::Unsupervised, Standing::Silent][..],
            _ => &[Standing::Unsupervised][..],
        };
        let size = Request { id: 0, op: Some(op.clone()) }.encoded_len();
        if size > MAX_REQUEST {
            return Err(Error::new(
                Code::InvalidArgument,
                format!("the command with its environment has {size} bytes, over {MAX_REQUEST}"),
            ));
        }
        let (answer, answered) = oneshot::channel();
        let number = exec.as_ref().map(|(exec, _)| *exec);
        let mut waiting = Waiting { shared: &self.shared, answered, exec: number };
        let _forgotten = {
            let mut state = self.shared.lock();
            if let Some(ended) = &*self.shared.ended.borrow() {
                return Err(why(ended));
            }
            state.next += 1;
            let id = state.next;
            state.requests.insert(id, Pending { answer, exec });
            let body = Some(to_supervisor::Body::Request(Request { id, op: Some(op) }));
            let _ = self.shared.outbox.send(ToSupervisor { body });
            // A command that was started though nobody waits any more is to be known.
            number.is_none().then(|| Forget { shared: &self.shared, id })
        };
        tokio::select! {
            biased;
            answer = &mut waiting.answered => match answer {
                // Why the box has ended comes right after.
                Ok(Err(failure)) if failure.kind == FailureKind::Ended as i32 => {}
                Ok(answer) => return Ok(answer),
                Err(_) => {}
            },
            who = self.silence(patience) => return Err(Error::new(Code::Timeout, who)),
        }
        Err(why(&self.ended().await))
    }
}

/// Waits for an answer. A command that was started is not wanted if its answer has come, and whoever was to
/// have it goes without.
struct Waiting<'a> {
    shared: &'a Shared,
    answered: oneshot::Receiver<Result<Response, Failure>>,
    exec: Option<u32>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // From here on, sending fails, and the sender sees to the command.
        self.answered.close();
        if let (Some(exec), Ok(Ok(_))) = (self.exec, self.answered.try_recv()) {
            self.shared.end_unwanted(exec);
        }
    }
}

/// Forgets a request that nobody waits for any more: its answer may never come.
struct Forget<'a> {
    shared: &'a Shared,
    id: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        let forgotten = self.shared.lock().requests.remove(&self.id);
        drop(forgotten);
    }
}

/// Has a new supervisor hold a machine ready, described in the form it reads, and waits until it
/// does; a launch may then be sent. `stage` hears of each stage that is done. Returns what went wrong
/// on faster ways to start the machine.
pub async fn park(
    stream: &mut UnixStream,
    machine: Vec<u8>,
    mut stage: impl FnMut(&str),
) -> Result<Vec<String>> {
    let message = ToSupervisor { body: Some(to_supervisor::Body::Park(machine.into())) };
    let mut buffer = BytesMut::new();
    let sent = Codec::<FromSupervisor, ToSupervisor>::default().encode(&message, &mut buffer);
    let failed = |e| Error::io(Code::RpcTransport, "write to the supervisor", &e);
    sent.map_err(failed)?;
    stream.write_all_buf(&mut buffer).await.map_err(failed)?;
    let mut frames = FramedRead::new(stream, Codec::default());
    loop {
        match next(&mut frames).await? {
            Some(from_supervisor::Body::Stage(Stage { name, began: false, .. })) => stage(&name),
            Some(from_supervisor::Body::Parked(Parked { detours })) => return Ok(detours),
            Some(from_supervisor::Body::Ended(ended)) => return Err(ended_early(ended)),
            Some(_) => {}
            None => return Err(lost()),
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a command; returns it with this program's number for it.
    fn add(&self, stdin: bool, kind: Kind, from: [u64; 2]) -> (Arc<ExecStreams>, u32) {
        let mut state = self.lock();
        state.next += 1;
        let exec = (state.next & u64::from(u32::MAX)) as u32;
        let streams = ExecStreams::new(exec, self.outbox.clone(), stdin, kind, from);
        state.execs.insert(exec, streams.clone());
        (streams, exec)
    }

    /// Acts on a message; false if the supervisor broke the protocol.
    fn on_message(&self, body: from_supervisor::Body) -> bool {
        match body {
            from_supervisor::Body::Response(response) => self.on_response(response),
            from_supervisor::Body::Data(data) => {
                let exec = self.lock().execs.get(&data.exec).cloned();
                return exec.is_none_or(|e| accept(&e, &data));
            }
            from_supervisor::Body::Credit(credit) => {
                let exec = self.lock().execs.get(&credit.exec).cloned();
                if let (Some(exec), stream::STDIN) = (exec, credit.stream) {
                    exec.on_credit(credit.bytes);
                }
            }
            from_supervisor::Body::Exited(exited) => {
                let exec = self.lock().execs.remove(&exited.exec);
                if let Some(exec) = exec {
                    exec.on_exit(Ok(ExitStatus::of(exited.code, exited.signal)));
                }
            }
            from_supervisor::Body::Gap(Gap { exec, stream, offset, bytes }) => {
                let exec = self.lock().execs.get(&exec).cloned();
                return exec.is_none_or(|e| e.on_gap(stream, offset, bytes).is_ok());
            }
            // A stage or a welcome after the beginning says nothing new.
            from_supervisor::Body::Stage(_)
            | from_supervisor::Body::Running(_)
            | from_supervisor::Body::Parked(_)
            | from_supervisor::Body::Beat(_)
            | from_supervisor::Body::Ended(_) => {}
            from_supervisor::Body::Notice(notice) => self.pulse.said(notice),
            from_supervisor::Body::MainExited(exited) => {
                self.pulse.changed(Change::MainExited(exited));
            }
            from_supervisor::Body::DetachedExited(exited) => {
                let watcher = self.lock().watchers.remove(&exited.exec);
                let status = ExitStatus::of(exited.code, exited.signal);
                watcher.iter().for_each(|w| w.ended(exited.exec, &Ok(status.clone())));
            }
            from_supervisor::Body::Healthy(health) => self.pulse.changed(Change::Healthy(health)),
        }
        true
    }

    fn on_response(&self, response: Response) {
        let Some(pending) = self.lock().requests.remove(&response.id) else { return };
        let number = response.number;
        let answer = match response.failure {
            Some(failure) => Err(failure),
            None => Ok(response),
        };
        let started = answer.is_ok();
        if let (true, Some((exec, _))) = (started, &pending.exec) {
            let streams = self.lock().execs.get(exec).cloned();
            if let Some(streams) = streams {
                streams.on_start(number);
                if let (Kind::Followed, Some(watcher)) = (streams.kind(), streams.watcher()) {
                    self.lock().watchers.insert(number, watcher);
                }
            }
        }
        // Whoever asked for the exec no longer wants it: it may not run unobserved.
        if pending.answer.send(answer).is_err()
            && let (true, Some((exec, _))) = (started, pending.exec)
        {
            self.end_unwanted(exec);
        }
    }

    /// Kills a command that nobody has got, and drops its output.
    fn end_unwanted(&self, exec: u32) {
        let streams = self.lock().execs.get(&exec).cloned();
        streams.iter().for_each(|s| s.abandon());
        self.kill(exec);
    }

    /// Nobody waits for the answer: request 0.
    fn kill(&self, exec: u32) {
        let op = Some(request::Op::Signal(Signal { exec, signal: libc::SIGKILL }));
        let body = Some(to_supervisor::Body::Request(Request { id: 0, op }));
        let _ = self.outbox.send(ToSupervisor { body });
    }

    /// The connection is over: everybody who waits is told. Who follows a command gets the rest of it
    /// from what the supervisor has left, if that is wanted.
    fn finish(&self, ended: Result<()>, replayed: bool) {
        let first = self.ended.send_if_modified(|known| {
            let first = known.is_none();
            known.get_or_insert_with(|| ended.clone());
            first
        });
        if !first {
            return;
        }
        let State { requests, execs, watchers, .. } = std::mem::take(&mut *self.lock());
        drop(requests);
        for exec in execs.into_values() {
            let followed = replayed && exec.kind() == Kind::Followed && exec.number() != 0;
            let (box_dir, run) = &self.remains;
            match followed.then(|| Replay::open(box_dir, run, exec.number())) {
                Some(Ok(replay)) => replay.take_over(&exec, why(&ended)),
                _ => exec.on_exit(Err(why(&ended))),
            }
        }
        watchers.into_iter().for_each(|(number, w)| w.ended(number, &Err(why(&ended))));
        self.over.send_replace(true);
    }
}

/// Asks the supervisor now and then whether it is there, for as long as there is a connection.
async fn beat(shared: Weak<Shared>) {
    loop {
        tokio::time::sleep(BEAT).await;
        let Some(shared) = shared.upgrade().filter(|s| s.ended.borrow().is_none()) else { return };
        shared.pulse.beat();
        let body = Some(to_supervisor::Body::Beat(Empty {}));
        let _ = shared.outbox.send(ToSupervisor { body });
    }
}

fn accept(exec: &ExecStreams, data: &Data) -> bool {
    exec.on_data(data).is_ok()
}

type Frames<R> = FramedRead<R, Codec<FromSupervisor, ToSupervisor>>;

async fn next(
    frames: &mut Frames<impl AsyncRead + Unpin>,
) -> Result<Option<from_supervisor::Body>> {
    loop {
        match frames.next().await {
            None => return Ok(None),
            Some(Ok(FromSupervisor { body: Some(body) })) => return Ok(Some(body)),
            // From a later supervisor: nothing we asked for.
            Some(Ok(FromSupervisor { body: None })) => {}
            // It ended with something of ours unread.
            Some(Err(e)) if e.kind() == std::io::ErrorKind::ConnectionReset => return Ok(None),
            Some(Err(e)) => {
                return Err(Error::io(Code::RpcTransport, "read from the supervisor", &e));
            }
        }
    }
}

async fn read_all(shared: Arc<Shared>, mut frames: Frames<OwnedReadHalf>) {
    let ended = loop {
        match next(&mut frames).await {
            Ok(Some(from_supervisor::Body::Ended(ended))) => break outcome(ended),
            Ok(Some(body)) => {
                shared.pulse.heard();
                if !shared.on_message(body) {
                    break Err(Error::new(Code::Rpc, "the supervisor broke the protocol"));
                }
            }
            Ok(None) => break Err(shared.pulse.killed()),
            Err(error) => break Err(error),
        }
    };
    shared.finish(ended, true);
}

async fn write(
    mut stream: OwnedWriteHalf,
    mut messages: mpsc::UnboundedReceiver<ToSupervisor>,
    mut ending: watch::Receiver<Option<Result<()>>>,
) -> std::io::Result<()> {
    let mut codec = Codec::<FromSupervisor, ToSupervisor>::default();
    let mut buffer = BytesMut::new();
    loop {
        let message = tokio::select! {
            message = messages.recv() => message,
            // Also when the other end has gone: only then is the socket closed.
            Ok(_) = ending.wait_for(Option::is_some) => None,
        };
        let Some(message) = message else { return Ok(()) };
        codec.encode(&message, &mut buffer)?;
        while buffer.len() < BATCH
            && let Ok(message) = messages.try_recv()
        {
            codec.encode(&message, &mut buffer)?;
        }
        stream.write_all_buf(&mut buffer).await?;
    }
}

#[cfg(test)]
mod tests;
