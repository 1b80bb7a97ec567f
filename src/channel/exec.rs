//! The program's end of one command's streams.
//!
//! Output waits here, at most a window per stream, until the program takes it; taking it returns
//! credit, which in the end lets the process write on. The exit comes last, after the last byte.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::task::{Context, Poll, Waker};

use boxlite_protocol::flow::{self, Violation};
use boxlite_protocol::message::{Credit, Data, ToSupervisor, stream, to_supervisor};
use boxlite_protocol::{MAX_CHUNK, WINDOW};
use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

use crate::error::{Code, Error, Result};

/// How a command ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExitStatus {
    /// The exit code, 0 to 255; 128 + n if signal n ended the command, as a shell reports it.
    pub code: i32,
    /// The signal that ended the command; 0 for none.
    pub signal: i32,
    /// Why the command never ran, where that is the case: the code is then 126 (it may not be
    /// executed) or 127 (it does not exist).
    pub message: Option<String>,
}

impl ExitStatus {
    /// The end of a command that ran, as the guest tells it.
    pub fn of(code: i32, signal: i32) -> ExitStatus {
        let code = if signal == 0 { code } else { 128 + (signal & 127) };
        ExitStatus { code, signal, message: None }
    }
}

/// Something a command did.
#[derive(Debug, Clone)]
pub enum ExecEvent {
    Stdout(Bytes),
    Stderr(Bytes),
    /// So many bytes of an output (1 is stdout, 2 stderr) are no longer held: it goes on behind them.
    Gap {
        stream: u32,
        bytes: u64,
    },
    /// The last event: the command's end, or the error that ended its box.
    Exit(Result<ExitStatus>),
}

/// What a reader of events makes of one output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// Nothing: it stays where it is, and the exit does not wait for it.
    Ignore,
    /// It is taken later, or by other means: it stays where it is, and the exit waits for it.
    Hold,
    /// It wants its bytes now.
    Deliver,
}

/// Which events a reader wants now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    pub stdout: Interest,
    pub stderr: Interest,
    pub exit: bool,
}

impl Wanted {
    pub const ALL: Wanted =
        Wanted { stdout: Interest::Deliver, stderr: Interest::Deliver, exit: true };

    fn of(self, stream: u32) -> Interest {
        if stream == stream::STDERR { self.stderr } else { self.stdout }
    }
}

/// Hears of a command's life before anybody else does, from whoever reads the connection.
pub trait Watcher: Send + Sync {
    /// The command runs, and the supervisor knows it by a number.
    fn started(&self, number: u32);
    /// It never ran, and this is what it ends with.
    fn refused(&self, status: &ExitStatus);
    /// It has ended, or never started because its box ended first. May be said twice.
    fn ended(&self, number: u32, exit: &Result<ExitStatus>);
}

/// One command's streams.
pub struct ExecStreams {
    id: u32,
    kind: Kind,
    watcher: OnceLock<Arc<dyn Watcher>>,
    /// The supervisor's number for it; 0 until it is known.
    number: AtomicU32,
    /// To the supervisor, or whoever has taken its place.
    outbox: RwLock<mpsc::UnboundedSender<ToSupervisor>>,
    state: Mutex<State>,
}

/// What a command is to the program that has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It was started here, and ends with its program.
    Attached,
    /// Its output is kept by the supervisor and followed by this program.
    Followed,
}

struct State {
    stdout: Inbound,
    stderr: Inbound,
    /// Which of the two has waited longer.
    first: u32,
    stdin: flow::Send,
    stdin_closed: bool,
    exit: Option<Result<ExitStatus>>,
    exit_taken: bool,
    wakers: Vec<Waker>,
}

struct Inbound {
    waiting: BytesMut,
    /// What is missing: where in the stream, and how many bytes.
    gaps: VecDeque<(u64, u64)>,
    /// The offset of what is taken next.
    next: u64,
    /// How many bytes were missing of what was taken.
    lost: u64,
    flow: flow::Receive,
    /// Nobody will read any more: what comes is dropped.
    discarded: bool,
    /// It came to its end by itself.
    ended: bool,
}

/// Something taken from an output.
enum Taken {
    Bytes(Bytes, Option<u64>),
    Gap(u64),
}

impl Inbound {
    fn starting_at(offset: u64) -> Inbound {
        Inbound {
            waiting: BytesMut::new(),
            gaps: VecDeque::new(),
            next: offset,
            lost: 0,
            flow: flow::Receive::starting_at(offset, WINDOW),
            discarded: false,
            ended: false,
        }
    }

    fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.gaps.is_empty()
    }

    /// Takes what is missing here, or up to `limit` bytes with what to grant for them.
    fn take(&mut self, limit: usize) -> Taken {
        let until_gap = match self.gaps.front() {
            Some((at, bytes)) if *at == self.next => {
                let bytes = *bytes;
                self.gaps.pop_front();
                self.next += bytes;
                self.lost += bytes;
                return Taken::Gap(bytes);
            }
            Some((at, _)) => usize::try_from(at - self.next).unwrap_or(usize::MAX),
            None => usize::MAX,
        };
        let length = self.waiting.len().min(limit).min(until_gap);
        let bytes = self.waiting.split_to(length).freeze();
        if self.waiting.is_empty() {
            // Give the memory back: most execs are quiet most of the time.
            self.waiting = BytesMut::new();
        }
        self.next += bytes.len() as u64;
        let grant = self.flow.consume(bytes.len() as u64);
        Taken::Bytes(bytes, grant)
    }

    /// Notes that bytes are missing where the stream stands.
    fn miss(&mut self, offset: u64, bytes: u64) -> Result<(), Violation> {
        self.flow.skip(offset, bytes)?;
        match self.gaps.back_mut() {
            // They are many where nobody reads: one is enough.
            Some((at, known)) if *at + *known == offset => *known += bytes,
            _ => self.gaps.push_back((offset, bytes)),
        }
        Ok(())
    }

    /// Drops what waits; returns what to grant for it.
    fn clear(&mut self) -> Option<u64> {
        self.gaps.clear();
        let waiting = std::mem::take(&mut self.waiting).len() as u64;
        self.next = self.flow.room().0;
        self.flow.consume(waiting)
    }
}

impl State {
    fn inbound(&mut self, stream: u32) -> &mut Inbound {
        if stream == stream::STDERR { &mut self.stderr } else { &mut self.stdout }
    }

    fn register(&mut self, cx: &Context<'_>) {
        if !self.wakers.iter().any(|w| w.will_wake(cx.waker())) {
            self.wakers.push(cx.waker().clone());
        }
    }
}

impl ExecStreams {
    /// A command whose outputs come from the given offsets on.
    pub(super) fn new(
        id: u32,
        outbox: mpsc::UnboundedSender<ToSupervisor>,
        stdin: bool,
        kind: Kind,
        [stdout, stderr]: [u64; 2],
    ) -> Arc<ExecStreams> {
        let state = State {
            stdout: Inbound::starting_at(stdout),
            stderr: Inbound::starting_at(stderr),
            first: stream::STDOUT,
            stdin: flow::Send::default(),
            stdin_closed: !stdin,
            exit: None,
            exit_taken: false,
            wakers: Vec::new(),
        };
        let (number, outbox) = (AtomicU32::new(0), RwLock::new(outbox));
        let watcher = OnceLock::new();
        Arc::new(ExecStreams { id, kind, watcher, number, outbox, state: Mutex::new(state) })
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The supervisor's number for the command: any program knows it by that.
    pub fn number(&self) -> u32 {
        self.number.load(Ordering::Relaxed)
    }

    pub(super) fn set_number(&self, number: u32) {
        self.number.store(number, Ordering::Relaxed);
    }

    /// The number that this program and the supervisor know the command by.
    pub fn id(&self) -> u32 {
        self.id
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, body: to_supervisor::Body) {
        let outbox = self.outbox.read().unwrap_or_else(PoisonError::into_inner);
        // A connection that is gone ends the exec by itself.
        let _ = outbox.send(ToSupervisor { body: Some(body) });
    }

    fn grant(&self, stream: u32, bytes: u64) {
        self.send(to_supervisor::Body::Credit(Credit { exec: self.id, stream, bytes }));
    }

    // ---- from the supervisor -------------------------------------------------------------------

    /// Wakes whoever waits, with nothing locked: a waker may take locks of its own.
    fn wake(mut state: MutexGuard<'_, State>) {
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(super) fn on_data(&self, data: &Data) -> Result<(), Violation> {
        let mut state = self.lock();
        let length = data.bytes.len() as u64;
        let other = if data.stream == stream::STDERR { stream::STDOUT } else { stream::STDERR };
        if state.inbound(other).is_empty() {
            state.first = data.stream;
        }
        let inbound = state.inbound(data.stream);
        inbound.flow.accept(data.offset, length)?;
        inbound.ended |= data.eof;
        if inbound.discarded {
            let grant = inbound.flow.consume(length);
            inbound.next = inbound.flow.room().0;
            drop(state);
            grant.into_iter().for_each(|bytes| self.grant(data.stream, bytes));
        } else {
            inbound.waiting.extend_from_slice(&data.bytes);
            Self::wake(state);
        }
        Ok(())
    }

    pub(super) fn on_gap(&self, stream: u32, offset: u64, bytes: u64) -> Result<(), Violation> {
        let mut state = self.lock();
        let inbound = state.inbound(stream);
        inbound.miss(offset, bytes)?;
        if inbound.discarded {
            inbound.clear();
        } else {
            Self::wake(state);
        }
        Ok(())
    }

    /// From now on somebody else sends what is missing; the receiver hears when there may be more
    /// room for it.
    pub(super) fn take_over(&self) -> mpsc::UnboundedReceiver<ToSupervisor> {
        let (outbox, calls) = mpsc::unbounded_channel();
        *self.outbox.write().unwrap_or_else(PoisonError::into_inner) = outbox;
        calls
    }

    /// Where an output stands, and how many bytes of it may come.
    pub(super) fn room(&self, stream: u32) -> (u64, u64) {
        self.lock().inbound(stream).flow.room()
    }

    pub(super) fn on_credit(&self, bytes: u64) {
        let mut state = self.lock();
        // An absurd grant would only let us send what the supervisor then refuses.
        let _ = state.stdin.grant(bytes);
        Self::wake(state);
    }

    /// From now on somebody hears of it.
    pub(super) fn watcher(&self) -> Option<Arc<dyn Watcher>> {
        self.watcher.get().cloned()
    }

    pub(super) fn watch(&self, watcher: Arc<dyn Watcher>) {
        let _ = self.watcher.set(watcher);
    }

    /// The command runs, and the supervisor knows it by a number.
    pub(super) fn on_start(&self, number: u32) {
        self.set_number(number);
        if let Some(watcher) = self.watcher.get() {
            watcher.started(number);
        }
    }

    /// The command could not be run.
    pub(super) fn on_refusal(&self, status: ExitStatus) {
        if let Some(watcher) = self.watcher.get() {
            watcher.refused(&status);
        }
        self.finish(Ok(status));
    }

    pub(super) fn on_exit(&self, exit: Result<ExitStatus>) {
        self.tell_end(&exit);
        self.finish(exit);
    }

    /// The command has ended, though its output may not all be here yet.
    pub(super) fn tell_end(&self, exit: &Result<ExitStatus>) {
        if let Some(watcher) = self.watcher.get() {
            watcher.ended(self.number(), exit);
        }
    }

    fn finish(&self, exit: Result<ExitStatus>) {
        let mut state = self.lock();
        state.exit.get_or_insert(exit);
        Self::wake(state);
    }

    // ---- for the program -----------------------------------------------------------------------

    /// The next event; `None` after the exit was delivered. The exit comes when no output is left
    /// that it has to wait for.
    pub fn poll_event(&self, cx: &Context<'_>, wanted: Wanted) -> Poll<Option<ExecEvent>> {
        let mut state = self.lock();
        let first = state.first;
        let second = if first == stream::STDERR { stream::STDOUT } else { stream::STDERR };
        let mut held = false;
        for stream in [first, second] {
            let inbound = state.inbound(stream);
            match wanted.of(stream) {
                _ if inbound.is_empty() => continue,
                Interest::Ignore => continue,
                Interest::Hold => {
                    held = true;
                    continue;
                }
                Interest::Deliver => {}
            }
            let (bytes, grant) = match inbound.take(MAX_CHUNK) {
                Taken::Bytes(bytes, grant) => (bytes, grant),
                Taken::Gap(bytes) => return Poll::Ready(Some(ExecEvent::Gap { stream, bytes })),
            };
            state.first = second;
            drop(state);
            grant.into_iter().for_each(|bytes| self.grant(stream, bytes));
            return Poll::Ready(Some(if stream == stream::STDERR {
                ExecEvent::Stderr(bytes)
            } else {
                ExecEvent::Stdout(bytes)
            }));
        }
        if state.exit_taken {
            return Poll::Ready(None);
        }
        match state.exit.clone().filter(|_| wanted.exit && !held) {
            Some(exit) => {
                state.exit_taken = true;
                Poll::Ready(Some(ExecEvent::Exit(exit)))
            }
            None => {
                state.register(cx);
                Poll::Pending
            }
        }
    }

    /// Takes up to `limit` bytes of one output: none at its end, and the error GAP, once, where some
    /// are missing. An output that ended with the
    /// box and not by itself has the box's error in place of an end.
    pub fn poll_read(&self, stream: u32, limit: usize, cx: &Context<'_>) -> Poll<Result<Bytes>> {
        let mut state = self.lock();
        let inbound = state.inbound(stream);
        if inbound.discarded {
            let text = "the output is being dropped";
            return Poll::Ready(Err(Error::new(Code::InvalidState, text)));
        }
        if !inbound.is_empty() {
            let (bytes, grant) = match inbound.take(limit) {
                Taken::Bytes(bytes, grant) => (bytes, grant),
                Taken::Gap(bytes) => {
                    let text = format!("{bytes} bytes of the output are no longer held");
                    Self::wake(state);
                    return Poll::Ready(Err(Error::new(Code::Gap, text)));
                }
            };
            // The exit may have waited for this.
            Self::wake(state);
            grant.into_iter().for_each(|bytes| self.grant(stream, bytes));
            return Poll::Ready(Ok(bytes));
        }
        let ended = inbound.ended;
        match &state.exit {
            Some(Err(error)) if !ended => Poll::Ready(Err(error.clone())),
            None if !ended => {
                state.register(cx);
                Poll::Pending
            }
            _ => Poll::Ready(Ok(Bytes::new())),
        }
    }

    /// Whether nothing waits on an output.
    pub fn is_drained(&self, stream: u32) -> bool {
        self.lock().inbound(stream).is_empty()
    }

    /// The offset of the next byte of an output that is taken.
    pub fn offset(&self, stream: u32) -> u64 {
        self.lock().inbound(stream).next
    }

    /// How many bytes of an output were missing so far where it was taken.
    pub fn lost(&self, stream: u32) -> u64 {
        self.lock().inbound(stream).lost
    }

    /// Whether a read (of an output) or a write (to stdin) would not have to wait.
    pub fn is_ready(&self, stream: u32) -> bool {
        let mut state = self.lock();
        if stream == stream::STDIN {
            return state.stdin.available() > 0 || state.stdin_closed || state.exit.is_some();
        }
        let exited = state.exit.is_some();
        let inbound = state.inbound(stream);
        exited || !inbound.is_empty() || inbound.ended || inbound.discarded
    }

    /// How the command ended, if it has; its output may still wait.
    pub fn exit(&self) -> Option<Result<ExitStatus>> {
        self.lock().exit.clone()
    }

    /// Sends what the command's stdin takes now: the number of bytes, or 0 when it takes none
    /// until it is woken.
    pub fn poll_write(&self, bytes: &[u8], cx: &Context<'_>) -> Poll<Result<usize>> {
        let mut state = self.lock();
        if state.stdin_closed {
            return Poll::Ready(Err(Error::new(Code::InvalidState, "stdin is closed")));
        }
        if state.exit.is_some() {
            return Poll::Ready(Err(
                Error::new(Code::InvalidState, "the command has ended").errno(libc::EPIPE)
            ));
        }
        let room = usize::try_from(state.stdin.available()).unwrap_or(usize::MAX);
        let length = bytes.len().min(room);
        if length == 0 && !bytes.is_empty() {
            state.register(cx);
            return Poll::Pending;
        }
        for chunk in bytes[..length].chunks(MAX_CHUNK) {
            let offset = state.stdin.take(chunk.len() as u64);
            self.send_stdin(offset, Bytes::copy_from_slice(chunk), false);
        }
        Poll::Ready(Ok(length))
    }

    /// Ends the command's stdin. Once is enough.
    pub fn close_stdin(&self) {
        let mut state = self.lock();
        if !state.stdin_closed {
            state.stdin_closed = true;
            let offset = state.stdin.take(0);
            self.send_stdin(offset, Bytes::new(), true);
            // Who waits to write need not wait any more.
            Self::wake(state);
        }
    }

    fn send_stdin(&self, offset: u64, bytes: Bytes, eof: bool) {
        let data = Data { exec: self.id, stream: stream::STDIN, offset, bytes, eof };
        self.send(to_supervisor::Body::Data(data));
    }

    /// Nobody will read this stream any more: drops what waits on it and what comes, so that the
    /// command can go on.
    pub fn discard(&self, stream: u32) {
        let mut state = self.lock();
        let inbound = state.inbound(stream);
        inbound.discarded = true;
        let grant = inbound.clear();
        Self::wake(state);
        grant.into_iter().for_each(|bytes| self.grant(stream, bytes));
    }

    /// Nobody holds this command any more.
    pub fn abandon(&self) {
        self.discard(stream::STDOUT);
        self.discard(stream::STDERR);
        self.close_stdin();
    }
}
