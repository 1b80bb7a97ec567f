//! Commands in a running box.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use boxlite_protocol::message;
use bytes::Bytes;
use prost::Message;

use super::config::BoxConfig;
use super::context::{Context, Counter};
use super::events::What;
use super::options::ExecOptions;
use crate::channel::client::Connection;
use crate::channel::exec::{ExecEvent, ExecStreams, ExitStatus, Kind, Wanted, Watcher};
use crate::channel::replay::Replay;
use crate::channel::spool::Held;
use crate::error::{Code, Error, Result};
use crate::supervisor::health::HealthSpec;

/// A command that runs, or ran, in a box.
///
/// Dropping it lets the command go on; its stdin is then closed, and its output discarded, unless it is
/// detached.
pub struct Exec {
    streams: Arc<ExecStreams>,
    /// None for what is left of a command whose box has ended.
    connection: Option<Connection>,
}

/// What a command that has ended wrote, and how it ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    pub status: ExitStatus,
    pub stdout: Captured,
    pub stderr: Captured,
}

/// The bytes of one stream, up to a limit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Captured {
    pub bytes: Vec<u8>,
    /// How many came after the limit, and are gone.
    pub dropped: u64,
}

impl Captured {
    fn append(&mut self, bytes: &[u8], limit: usize) {
        let kept = bytes.len().min(limit - self.bytes.len());
        self.bytes.extend_from_slice(&bytes[..kept]);
        self.dropped += (bytes.len() - kept) as u64;
    }
}

/// Tells of a command what happens to it.
struct Teller {
    context: Arc<Context>,
    box_id: String,
    box_name: Option<String>,
    program: String,
    started: AtomicBool,
}

impl Teller {
    fn tell(&self, what: What) {
        self.context.tell(&self.box_id, self.box_name.as_deref(), what);
    }

    fn tell_start(&self, exec: u32) {
        self.started.store(true, Ordering::Relaxed);
        self.tell(What::ExecStarted { exec, program: self.program.clone() });
    }
}

impl Watcher for Teller {
    fn started(&self, exec: u32) {
        self.context.counters.add(Counter::CommandsExecuted);
        self.tell_start(exec);
    }

    fn refused(&self, status: &ExitStatus) {
        self.context.counters.add(Counter::ExecErrors);
        self.tell_start(0);
        self.ended(0, &Ok(status.clone()));
    }

    fn ended(&self, exec: u32, exit: &Result<ExitStatus>) {
        // Once, and only of what was begun.
        if self.started.swap(false, Ordering::Relaxed) {
            let (code, signal, why) = match exit {
                Ok(status) => (status.code, status.signal, status.message.clone()),
                Err(error) => (-1, 0, Some(error.to_string())),
            };
            self.tell(What::ExecEnded { exec, code, signal, why });
        }
    }
}

/// Starts a command in a running box.
pub(super) async fn start(
    context: &Arc<Context>,
    connection: Connection,
    config: &BoxConfig,
    hostname: &str,
    options: &ExecOptions,
) -> Result<Exec> {
    let spec = specify(config, hostname, options)?;
    // The arguments may be secret; the program's name is not.
    let program = String::from_utf8_lossy(spec.argv.first().map_or(b"", |a| a)).into_owned();
    let watcher = Arc::new(Teller {
        context: context.clone(),
        box_id: config.id.clone(),
        box_name: config.name.clone(),
        program: program.clone(),
        started: AtomicBool::new(false),
    });
    let started = connection.exec(spec, Some(watcher)).await;
    let streams = started.inspect_err(|_| context.counters.add(Counter::ExecErrors))?;
    tracing::debug!("exec {} in box {}: {program}", streams.id(), config.id);
    Ok(Exec { streams, connection: Some(connection) })
}

/// The command with everything that the box and its image add to it.
pub(super) fn specify(
    config: &BoxConfig,
    hostname: &str,
    options: &ExecOptions,
) -> Result<message::Exec> {
    let argv = if options.argv.is_empty() { config.command() } else { options.argv.clone() };
    if argv.is_empty() {
        return Err(Error::new(
            Code::InvalidArgument,
            "no command was given, and the image names none: give one",
        )
        .object("argv"));
    }
    let text = |s: &str| Bytes::copy_from_slice(s.as_bytes());
    let image = &config.image;
    let host = [("HOSTNAME".to_owned(), hostname.to_owned())];
    let env = merge([&host[..], &image.env, &config.options.env, &options.env]);
    let or_image =
        |own: &Option<String>, image: &str| own.clone().unwrap_or_else(|| image.to_owned());
    let user = options.user.clone();
    let user = user.unwrap_or_else(|| or_image(&config.options.user, &image.user));
    let cwd = options.working_dir.clone();
    let cwd = cwd.unwrap_or_else(|| or_image(&config.options.working_dir, &image.working_dir));
    Ok(message::Exec {
        // Numbered and given credit by the connection.
        exec: 0,
        window: 0,
        argv: argv.iter().map(|a| text(a)).collect(),
        env: env.iter().map(|(name, value)| text(&format!("{name}={value}"))).collect(),
        cwd: text(&cwd),
        user,
        stdin: options.stdin,
        detached: options.detach,
    })
}

/// Follows a detached command of a running box.
pub(super) async fn follow(connection: Connection, number: u32, from: [u64; 2]) -> Result<Exec> {
    let streams = connection.follow(number, from).await?;
    Ok(Exec { streams, connection: Some(connection) })
}

/// What is left of a detached command of a run that is over.
pub(super) fn replay(box_dir: &Path, run: &str, number: u32, from: [u64; 2]) -> Result<Exec> {
    let unseen = Error::new(Code::Stopped, "the box was cut off before the command's end was seen");
    let streams = Replay::open(box_dir, run, number)?.streams(from, unseen)?;
    Ok(Exec { streams, connection: None })
}

/// A command of a running box, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecInfo {
    /// Unique in a run of its box.
    pub id: u32,
    /// The command and its arguments, as many as fit into some hundred bytes.
    pub argv: Vec<Bytes>,
    /// Milliseconds since the Unix epoch.
    pub started_ms: u64,
    pub main: bool,
    /// Whether its output can be followed.
    pub detached: bool,
    /// Which bytes of its outputs are held, if it is detached.
    pub stdout: Held,
    pub stderr: Held,
    /// How it ended, if it has.
    pub exit: Option<ExitStatus>,
}

impl From<message::ExecEntry> for ExecInfo {
    fn from(entry: message::ExecEntry) -> ExecInfo {
        let held = |held: Option<message::Held>| {
            held.map_or(Held::default(), |h| Held { start: h.start, total: h.total })
        };
        ExecInfo {
            id: entry.number,
            argv: entry.argv,
            started_ms: entry.started_ms,
            main: entry.main,
            detached: entry.detached,
            stdout: held(entry.stdout),
            stderr: held(entry.stderr),
            exit: entry.exited.map(|exited| ExitStatus::of(exited.code, exited.signal)),
        }
    }
}

/// How the supervisor is to find out whether the box is well.
pub(super) fn health(config: &BoxConfig, hostname: &str) -> Result<Option<HealthSpec>> {
    let Some(check) = &config.options.health_check else { return Ok(None) };
    let exec = specify(config, hostname, &ExecOptions::new(&check.argv)?)?;
    Ok(Some(HealthSpec {
        exec: exec.encode_to_vec(),
        interval: Duration::from_millis(check.interval_ms),
        timeout: Duration::from_millis(check.timeout_ms),
        retries: check.retries,
        start_period: Duration::from_millis(check.start_period_ms),
    }))
}

/// Variables of several sources; the last value of a name counts, in the place of the first.
fn merge<const N: usize>(sources: [&[(String, String)]; N]) -> Vec<(String, String)> {
    let mut merged: Vec<(String, String)> = Vec::new();
    for (name, value) in sources.into_iter().flatten() {
        match merged.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => old.clone_from(value),
            None => merged.push((name.clone(), value.clone())),
        }
    }
    merged
}

impl Exec {
    /// The next thing the command did; the exit is last, then nothing.
    pub async fn next(&self) -> Option<ExecEvent> {
        std::future::poll_fn(|cx| self.poll_next(cx, Wanted::ALL)).await
    }

    /// As [`Exec::next`], for callers with a waker of their own who want some events only.
    pub fn poll_next(&self, cx: &TaskContext<'_>, wanted: Wanted) -> Poll<Option<ExecEvent>> {
        self.streams.poll_event(cx, wanted)
    }

    /// Takes up to `limit` bytes of an output (1 is stdout, 2 stderr): none at its end.
    pub async fn read(&self, stream: u32, limit: usize) -> Result<Bytes> {
        std::future::poll_fn(|cx| self.poll_read(stream, limit, cx)).await
    }

    /// As [`Exec::read`], for callers with a waker of their own.
    pub fn poll_read(
        &self,
        stream: u32,
        limit: usize,
        cx: &TaskContext<'_>,
    ) -> Poll<Result<Bytes>> {
        self.streams.poll_read(stream, limit, cx)
    }

    /// Whether a read of an output, or a write to stdin (0), would not have to wait now.
    pub fn is_ready(&self, stream: u32) -> bool {
        self.streams.is_ready(stream)
    }

    /// Whether nothing waits on an output (1 is stdout, 2 stderr).
    pub fn is_drained(&self, stream: u32) -> bool {
        self.streams.is_drained(stream)
    }

    /// Drops what waits on a stream (1 is stdout, 2 stderr) and what comes.
    pub fn discard(&self, stream: u32) {
        self.streams.discard(stream);
    }

    /// How the command ended, if it has; its output may still wait to be taken.
    pub fn exit(&self) -> Option<Result<ExitStatus>> {
        self.streams.exit()
    }

    /// Takes all output and waits for the end. What a stream has beyond `limit` bytes is counted
    /// and dropped: the command is not held up.
    pub async fn output(&self, limit: usize) -> Result<Output> {
        let mut output = Output::default();
        loop {
            match self.next().await {
                Some(ExecEvent::Stdout(bytes)) => output.stdout.append(&bytes, limit),
                Some(ExecEvent::Stderr(bytes)) => output.stderr.append(&bytes, limit),
                Some(ExecEvent::Gap { stream: 2, bytes }) => output.stderr.dropped += bytes,
                Some(ExecEvent::Gap { bytes, .. }) => output.stdout.dropped += bytes,
                Some(ExecEvent::Exit(exit)) => {
                    output.status = exit?;
                    return Ok(output);
                }
                None => {
                    return Err(Error::new(Code::InvalidState, "the output was taken already"));
                }
            }
        }
    }

    /// Writes to the command's stdin what it takes now, at least one byte.
    pub async fn write(&self, bytes: &[u8]) -> Result<usize> {
        std::future::poll_fn(|cx| self.poll_write(bytes, cx)).await
    }

    /// As [`Exec::write`], for callers with a waker of their own.
    pub fn poll_write(&self, bytes: &[u8], cx: &TaskContext<'_>) -> Poll<Result<usize>> {
        self.streams.poll_write(bytes, cx)
    }

    /// Ends the command's stdin.
    pub fn close_stdin(&self) {
        self.streams.close_stdin();
    }

    /// Sends a signal, by its number on x86-64 Linux, to the command's process group.
    pub async fn signal(&self, signal: i32) -> Result<()> {
        if !(0..=64).contains(&signal) {
            let text = format!("signal: there is no signal {signal}");
            return Err(Error::new(Code::InvalidArgument, text).object("signal"));
        }
        if self.exit().is_some() {
            return Err(Error::new(Code::NotFound, "the command has ended").errno(libc::ESRCH));
        }
        match &self.connection {
            Some(connection) => connection.signal(self.streams.id(), signal).await,
            None => Err(Error::new(Code::NotFound, "the command has ended with its box")),
        }
    }

    /// The number by which any program can attach to the command, if it is detached. Unique in a run of
    /// its box.
    pub fn id(&self) -> u32 {
        self.streams.number()
    }

    /// The offset in an output (1 is stdout, 2 stderr) of the next byte that is taken here.
    pub fn offset(&self, stream: u32) -> u64 {
        self.streams.offset(stream)
    }

    /// How many bytes of an output (1 is stdout, 2 stderr) were no longer held when it was their turn.
    pub fn lost(&self, stream: u32) -> u64 {
        self.streams.lost(stream)
    }
}

/// Kills a command that is no longer waited for.
struct KillOnDrop<'a> {
    exec: &'a Exec,
    armed: bool,
}

impl Drop for KillOnDrop<'_> {
    fn drop(&mut self) {
        if self.armed {
            let connection = self.exec.connection.as_ref();
            connection.iter().for_each(|c| c.kill(self.exec.streams.id()));
        }
    }
}

/// Takes all output and waits for the end of a command that reads nothing. It is killed if this
/// is dropped half-way.
pub(super) async fn run(exec: Exec, limit: usize) -> Result<Output> {
    exec.close_stdin();
    let mut killer = KillOnDrop { exec: &exec, armed: true };
    let output = exec.output(limit).await;
    killer.armed = false;
    output
}

impl Drop for Exec {
    fn drop(&mut self) {
        match (self.streams.kind(), &self.connection) {
            (Kind::Followed, Some(connection)) => connection.leave(self.streams.id()),
            _ => self.streams.abandon(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_sources_of_variables_win() {
        let v = |n: &str, v: &str| (n.to_owned(), v.to_owned());
        let merged = merge([
            &[v("A", "1"), v("B", "2")][..],
            &[v("B", "3"), v("C", "4")],
            &[v("A", "5"), v("A", "6")],
        ]);
        assert_eq!(merged, [v("A", "6"), v("B", "3"), v("C", "4")]);
    }
}
