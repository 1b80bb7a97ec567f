//! A box as its users hold it.
//!
//! All handles on a box in one program share one [`BoxHandle`]; changes of its state take turns
//! among them, and are refused with BUSY while another program makes one. What the rows say is
//! checked against the supervisor's lock wherever it matters: the rows of a program that was
//! killed are stale.

mod attach;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Observer;
use super::admission;
use super::config::BoxConfig;
use super::context::{self, BoxLock, Context, Counter};
use super::events::What;
use super::exec::{self, Exec, Output};
use super::list::image_of;
use super::main_process::MainStatus;
use super::measure;
use super::options::ExecOptions;
use super::remove::{is_supervised, remove};
use super::start::{self, StageTime, Supervisor};
use super::state::{BoxState, Change, Status};
use super::truth;
use super::watch::ended;
use tokio::sync::{OwnedMutexGuard, oneshot};

use boxlite_protocol::message::Running;

use crate::channel::client::{Connection, Opening};
use crate::error::{Code, Error, Result};
use crate::failpoint::{self, Point};
use crate::metrics::BoxMetrics;
use crate::supervisor::health::HealthReport;
use crate::supervisor::launch::Identity;
use crate::supervisor::socket::{self, PidFile};

/// How long a supervisor that no longer answers may take to end.
const ENDING_PATIENCE: Duration = Duration::from_secs(15);

/// A box, running or not. Cloning gives another handle on the same box.
#[derive(Clone)]
pub struct BoxHandle {
    inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) context: Arc<Context>,
    pub(super) config: BoxConfig,
    /// Held by whoever changes the box's state.
    pub(super) turn: Arc<tokio::sync::Mutex<()>>,
    live: Mutex<Live>,
    /// Held while it is written down how the machine is.
    pub(super) noting: tokio::sync::Mutex<()>,
    /// It was removed when it stopped.
    gone: AtomicBool,
}

#[derive(Default)]
pub(super) struct Live {
    pub(super) connection: Option<Connection>,
    /// Whether this program started the box, which then ends with it unless it is detached.
    pub(super) owned: bool,
    stages: Vec<StageTime>,
    /// The end was written down before the one who watches had a turn.
    pub(super) noted_early: bool,
    /// What happened in a run and could not be written down yet.
    unwritten: Option<(String, Change)>,
}

/// What a box is and how it is, at one moment.
#[derive(Debug, Clone)]
pub struct BoxInfo {
    pub id: String,
    pub name: Option<String>,
    pub status: Status,
    /// The image's reference as it was given.
    pub image: String,
    pub cpus: u32,
    pub memory_mib: u32,
    pub disk_size_mib: u64,
    /// RFC 3339.
    pub created_at: String,
    /// The supervisor's process id, while the box runs.
    pub pid: Option<u32>,
    /// `kvm` or `tcg`, while the box runs.
    pub accelerator: Option<String>,
    /// How the machine came to run, while it does.
    pub boot: Boot,
    /// Why the box failed, if it did.
    pub error: Option<String>,
    /// How long each stage of the start took, if this program started it.
    pub stages: Vec<StageTime>,
    pub labels: BTreeMap<String, String>,
    /// How the health checks stood in the last run, if there are any.
    pub health: Option<HealthReport>,
    pub auto_remove: bool,
    /// How the main process is, or was in the last run.
    pub main: MainStatus,
    /// Whether the box outlives the program that starts it.
    pub detach: bool,
}

/// How a machine came to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum Boot {
    /// It does not run, or nobody told us.
    Unknown = 0,
    /// Its kernel booted.
    Cold = 1,
    /// It was loaded from a template.
    Restored = 2,
    /// It was loaded from a template beforehand, and waited.
    Pooled = 3,
}

impl Boot {
    fn of(running: &Running) -> Boot {
        match running.boot.as_str() {
            "cold" => Boot::Cold,
            "restored" => Boot::Restored,
            "pooled" => Boot::Pooled,
            _ => Boot::Unknown,
        }
    }
}

impl BoxHandle {
    pub(crate) fn new(context: Arc<Context>, config: BoxConfig) -> BoxHandle {
        let (turn, live, noting, gone) = Default::default();
        let inner = Inner { context, config, turn, live, noting, gone };
        BoxHandle { inner: Arc::new(inner) }
    }

    /// The box's id, a ULID.
    pub fn id(&self) -> &str {
        &self.inner.config.id
    }

    pub fn name(&self) -> Option<&str> {
        self.inner.config.name.as_deref()
    }

    /// The box as it is now.
    pub async fn info(&self) -> Result<BoxInfo> {
        // An end that is just being written down is waited for.
        if self.inner.live().connection.as_ref().is_some_and(Connection::has_ended) {
            drop(self.inner.turn.lock().await);
        }
        let state = self.inner.state().await?;
        let (running, stages) = {
            let live = self.inner.live();
            let connection = live.connection.as_ref().filter(|c| !c.has_ended());
            (connection.map(|c| c.running().clone()), live.stages.clone())
        };
        let config = &self.inner.config;
        let options = &config.options;
        let box_dir = self.inner.box_dir();
        let health = state.run.as_deref().and_then(|run| HealthReport::read(&box_dir, run));
        Ok(BoxInfo {
            health: health.filter(|_| options.health_check.is_some()),
            auto_remove: options.auto_remove,
            main: MainStatus::of(config, &state, &box_dir),
            detach: options.detach,
            id: config.id.clone(),
            name: config.name.clone(),
            status: state.status,
            image: image_of(config).to_owned(),
            cpus: options.cpus,
            memory_mib: options.memory_mib,
            disk_size_mib: options.disk_size_mib,
            created_at: config.created_at.clone(),
            pid: state.pid,
            boot: running.as_ref().map_or(Boot::Unknown, Boot::of),
            accelerator: running.map(|r| r.accelerator),
            error: state.error_reason,
            stages,
            labels: options.labels.clone(),
        })
    }

    /// Starts the box; one that runs already stays as it is.
    /// Dropping the future cancels it.
    pub async fn start(&self, observer: Option<Observer>) -> Result<()> {
        self.start_unless(observer, std::future::pending()).await
    }

    /// As [`BoxHandle::start`]; when `cancelled` is ready first, this ends with CANCELLED once the
    /// machine has ended again.
    pub async fn start_unless(
        &self,
        observer: Option<Observer>,
        cancelled: impl Future<Output = ()>,
    ) -> Result<()> {
        self.inner.clone().start(observer, cancelled).await.map(drop)
    }

    /// Runs a command in the box, which is started first if it does not run.
    pub async fn exec(&self, options: &ExecOptions) -> Result<Exec> {
        let connection = self.inner.clone().start(None, std::future::pending()).await?;
        let hostname = Identity::of(&self.inner.config).hostname;
        let Inner { context, config, .. } = &*self.inner;
        exec::start(context, connection, config, &hostname, options).await
    }

    /// Runs a command to its end, and returns what it wrote: of each output up to `limit` bytes,
    /// the rest is counted and dropped. The command reads end of file. Dropping this kills it.
    pub async fn run(&self, options: &ExecOptions, limit: usize) -> Result<Output> {
        exec::run(self.exec(options).await?, limit).await
    }

    /// Stops the box: processes get SIGTERM and `grace` to end, then SIGKILL; the disk is
    /// unmounted. A box that does not run stays as it is. Dropping the future changes nothing.
    pub async fn stop(&self, grace: Duration) -> Result<()> {
        let inner = self.inner.clone();
        let stop = async move {
            let _turn = inner.turn.lock().await;
            if inner.stop(grace).await? { inner.remove_unwanted().await } else { Ok(()) }
        };
        self.inner.context.finish(stop).await
    }

    /// Has the box stand still: its processes do not run until it is resumed, and its memory stays. One
    /// that does already stays as it is.
    pub async fn pause(&self) -> Result<()> {
        let inner = self.inner.clone();
        self.inner.context.finish(async move { inner.halt(true).await }).await
    }

    /// Has a paused box go on; its clock is set. One that runs stays as it is.
    pub async fn resume(&self) -> Result<()> {
        let inner = self.inner.clone();
        self.inner.context.finish(async move { inner.halt(false).await }).await
    }

    /// Removes the box and its disk. One that runs is refused, or stopped at once with `force`.
    /// Dropping the future changes nothing.
    pub(crate) async fn remove(&self, force: bool) -> Result<()> {
        let inner = self.inner.clone();
        let remove = async move {
            let _turn = inner.turn.lock().await;
            inner.remove(force).await
        };
        self.inner.context.finish(remove).await
    }

    /// What the box has done since it was started, and what it takes. INVALID_STATE if it does not run.
    pub async fn metrics(&self) -> Result<BoxMetrics> {
        let connection = match self.inner.live_connection() {
            Some(connection) => connection,
            None => {
                let _turn = self.inner.turn.lock().await;
                let text = "the box does not run, and has no metrics";
                let none = || Error::new(Code::InvalidState, text).object(self.id());
                self.inner.connection().await?.ok_or_else(none)?
            }
        };
        let stages = self.inner.live().stages.clone();
        let metrics = measure::measure(&connection, &stages).await;
        metrics.map_err(|e| e.or_object(self.id()))
    }

    /// Whether this program is connected to the running box.
    pub(crate) fn is_connected(&self) -> bool {
        self.inner.live_connection().is_some()
    }

    /// The connection to the box, if it runs and ends with this program.
    fn owned_connection(&self) -> Option<Connection> {
        let live = self.inner.live();
        let owned = live.owned && !self.inner.config.options.detach;
        live.connection.clone().filter(|c| owned && !c.has_ended())
    }

    /// Stops the box if this program started it, and it is not detached.
    pub(crate) async fn stop_owned(&self, grace: Duration) -> Result<()> {
        if self.owned_connection().is_some() { self.stop(grace).await } else { Ok(()) }
    }

    /// Whether the box was removed when it stopped: nobody need remember it.
    pub(crate) fn is_gone(&self) -> bool {
        self.inner.gone.load(Ordering::Relaxed)
    }

    /// Notes that this program lets go of the box, which ends it unless it is detached.
    pub(crate) fn abandon(&self) {
        let ours = self.owned_connection();
        let known = self.inner.live().connection.take();
        known.iter().for_each(Connection::close);
        if let Some(connection) = ours {
            // Whoever looks when it has ended sees it stopped; also if this cannot be written.
            let (id, run) = (self.id(), &connection.running().run);
            let _ = truth::note(&self.inner.context, id, run, &Change::Stop);
        }
    }
}

impl Inner {
    pub(super) fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn live_connection(&self) -> Option<Connection> {
        self.live().connection.clone().filter(|c| !c.has_ended())
    }

    pub(super) fn tell(&self, what: What) {
        self.context.tell(&self.config.id, self.config.name.as_deref(), what);
    }

    pub(super) fn box_dir(&self) -> std::path::PathBuf {
        self.context.home.of_box(&self.config.id)
    }

    /// Writes down what happened in a run.
    async fn record(&self, run: &str, change: Change) -> Result<BoxState> {
        let (id, run) = (self.config.id.clone(), run.to_owned());
        self.context.blocking(move |context| truth::note(context, &id, &run, &change)).await
    }

    /// Writes down what happened in a run, now or as soon as it can be: it has happened in any case. A
    /// box that was removed meanwhile has no row.
    pub(super) async fn note(&self, run: &str, change: Change) {
        match self.record(run, change.clone()).await {
            // Something else happened first, as a stop before a pause.
            Err(error) if error.code() == Code::InvalidState => {
                tracing::debug!("box {}: {error}", self.config.id);
            }
            Err(error) if error.code() != Code::NotFound => {
                tracing::error!("the state of box {} was not written: {error}", self.config.id);
                self.live().unwritten = Some((run.to_owned(), change));
            }
            _ => self.live().unwritten = None,
        }
    }

    /// How the box is: what the row says, corrected by what is true.
    async fn state(&self) -> Result<BoxState> {
        let unwritten = self.live().unwritten.clone();
        if let Some((run, change)) = unwritten.clone() {
            self.note(&run, change).await;
        }
        let id = self.config.id.clone();
        let state = self.context.blocking(move |context| truth::state(context, &id)).await?;
        let known = match unwritten {
            Some((run, change)) => state.after(&run, &change).unwrap_or(None),
            None => None,
        };
        Ok(known.unwrap_or(state))
    }

    /// The connection to the running box, if it runs: ours, or a new one to the supervisor that
    /// another program started.
    /// The caller has the turn.
    async fn connection(self: &Arc<Self>) -> Result<Option<Connection>> {
        let known = self.live().connection.clone();
        if let Some(connection) = known {
            // A program that has no descriptor left to look with can still use what it has.
            if !connection.has_ended() && is_supervised(&self.box_dir()).unwrap_or(true) {
                return Ok(Some(connection));
            }
            // Somebody else ended the box, and we have yet to hear of it.
            let ended = tokio::time::timeout(ENDING_PATIENCE, connection.ended()).await;
            if let Ok(outcome) = ended {
                let outcome = self.last_word(&connection, outcome);
                let noted = self.note_end(&outcome).await;
                self.live().noted_early = noted;
            }
        }
        let dir = self.box_dir();
        let holder = move |_: &Context| {
            PidFile::holder(&dir)
                .map_err(|e| Error::io(Code::Storage, format!("examine {}", dir.display()), &e))
        };
        if self.context.blocking(holder).await?.is_none() {
            return Ok(None);
        }
        let connection = match self.attach().await {
            Ok(connection) => connection,
            Err(error) => {
                // One that is just ending does not answer any more: it is waited for.
                let dir = self.box_dir();
                let released = self.context.blocking(move |_| {
                    PidFile::wait_released(&dir)
                        .map_err(|e| Error::io(Code::Storage, "wait for the supervisor", &e))
                });
                return match tokio::time::timeout(ENDING_PATIENCE, released).await {
                    Ok(Ok(())) => Ok(None),
                    _ => Err(error),
                };
            }
        };
        let mut live = self.live();
        live.connection = Some(connection.clone());
        live.owned = false;
        // Of a start of ours, long ago.
        live.stages.clear();
        drop(live);
        self.context.tasks.spawn(self.clone().watch(connection.clone()));
        Ok(Some(connection))
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

    /// Has the running box stand still, or go on.
    async fn halt(self: &Arc<Self>, pause: bool) -> Result<()> {
        let _turn = self.turn.lock().await;
        let Some(connection) = self.connection().await? else {
            let what = if pause { "paused" } else { "resumed" };
            let text = format!("the box does not run, and cannot be {what}");
            return Err(Error::new(Code::InvalidState, text).object(&*self.config.id));
        };
        let done = if pause { connection.pause().await } else { connection.resume().await };
        done.map_err(|e| e.or_object(&*self.config.id))?;
        self.note_standing(&connection).await;
        Ok(())
    }

    async fn attach(&self) -> Result<Connection> {
        let socket = socket::connect(&self.box_dir()).await.map_err(|e| {
            Error::io(Code::RpcTransport, "connect to the box's supervisor", &e)
                .object(&*self.config.id)
                .retryable(true)
        })?;
        Connection::open(socket, &self.box_dir(), Opening::Attach, |_| {}).await
    }

    /// Starts the box, unless it runs. A task of its own does it: if nobody waits for it any more,
    /// the machine must be seen to end before anybody else may start the box.
    async fn start(
        self: Arc<Self>,
        observer: Option<Observer>,
        cancelled: impl Future<Output = ()>,
    ) -> Result<Connection> {
        let (wanted, unwanted) = oneshot::channel();
        let mut starting = self.context.tasks.spawn(self.clone().start_now(observer, unwanted));
        let started = tokio::select! {
            biased;
            started = &mut starting => started,
            () = cancelled => {
                drop(wanted);
                if let Ok(Ok(started)) = starting.await {
                    started.undo().await;
                }
                return Err(Error::new(Code::Cancelled, "the start was cancelled"));
            }
        };
        context::outcome(started)?.claim().await
    }

    async fn start_now(
        self: Arc<Self>,
        observer: Option<Observer>,
        unwanted: oneshot::Receiver<()>,
    ) -> Result<Started> {
        let turn = self.turn.clone().lock_owned().await;
        if let Some(connection) = self.connection().await? {
            return Ok(Started { inner: self, connection, fresh: None });
        }
        let run = ulid::Ulid::generate().to_string();
        let (_lock, before) = self.begin_start(&run).await?;
        let launched = {
            let mut unfinished = Unfinished { inner: &self, run: &run, armed: true };
            let launched =
                start::launch(&self.context, &self.config, &run, observer, unwanted).await;
            unfinished.armed = false;
            launched
        };
        let (connection, stages, supervisor) = match launched {
            Ok(launched) => launched,
            Err(error) => return Err(self.note_failed_start(error, &run, before).await),
        };
        failpoint::hit(Point::StartOpened);
        let pid = connection.running().supervisor_pid;
        if let Err(error) = self.record(&run, Change::Started { pid }).await {
            connection.close();
            supervisor.end().await;
            return Err(self.note_unwritten_start(error, &run).await);
        }
        failpoint::hit(Point::StartRecorded);
        let accelerator = &connection.running().accelerator;
        tracing::info!("box {} runs, executed by {accelerator}", self.config.id);
        self.count(connection.running(), &stages);
        *self.live() =
            Live { connection: Some(connection.clone()), owned: true, stages, ..Live::default() };
        self.tell(What::BoxStarted);
        self.context.tasks.spawn(self.clone().watch(connection.clone()));
        Ok(Started { inner: self, connection, fresh: Some((turn, supervisor)) })
    }

    fn count(&self, running: &Running, stages: &[StageTime]) {
        let counters = &self.context.counters;
        counters.add(match Boot::of(running) {
            Boot::Restored => Counter::RestoredStarts,
            Boot::Pooled => Counter::PooledStarts,
            Boot::Cold | Boot::Unknown => Counter::ColdStarts,
        });
        stages.iter().filter_map(|s| Counter::of_stage(&s.name)).for_each(|c| counters.add(c));
        for detour in &running.detours {
            counters.add(Counter::Detours);
            tracing::warn!("box {} took longer to start: {detour}", self.config.id);
        }
    }

    /// Writes down why there is no machine, and returns the reason. It matters more than a row
    /// that cannot be written: the next look corrects that.
    async fn note_failed_start(&self, error: Error, run: &str, before: Status) -> Error {
        if error.code() == Code::Cancelled {
            self.note(run, Change::Cancel { before }).await;
        } else {
            tracing::warn!("box {} did not start: {error}", self.config.id);
            self.note(run, ended(&Err(error.clone()))).await;
            self.tell(What::BoxFailed { why: error.to_string() });
        }
        error.or_object(&*self.config.id)
    }

    /// Writes down the end of a machine that came up and could not be said to run.
    async fn note_unwritten_start(&self, error: Error, run: &str) -> Error {
        self.note(run, ended(&Ok(()))).await;
        let id = &*self.config.id;
        if error.code() != Code::InvalidState {
            self.tell(What::BoxFailed { why: error.to_string() });
            return error.or_object(id);
        }
        let text = "somebody else stopped the box while it was being started";
        Error::new(Code::Stopped, text).object(id)
    }

    /// Takes the box for a start, if it and the host permit one. Returns how it was before.
    async fn begin_start(&self, run: &str) -> Result<(BoxLock, Status)> {
        let (id, memory_mib) = (self.config.id.clone(), self.config.options.memory_mib);
        let run = run.to_owned();
        let begin = move |context: &Context| {
            let lock = context.lock_box(&id)?;
            failpoint::hit(Point::StartLocked);
            let before = truth::startable(context, &id)?;
            admission::check(memory_mib, context.home.root()).map_err(|e| e.context(&id))?;
            // A box of other software lacks some.
            context.home.make_box(&id)?;
            truth::note(context, &id, &run, &Change::Start)?;
            failpoint::hit(Point::StartNoted);
            Ok((lock, before.status))
        };
        self.context.blocking(begin).await
    }

    async fn remove(self: &Arc<Self>, force: bool) -> Result<()> {
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
    async fn stop(self: &Arc<Self>, grace: Duration) -> Result<bool> {
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
    pub(super) async fn remove_unwanted(&self) -> Result<()> {
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
}

/// A box that runs, for whoever asked for its start.
struct Started {
    inner: Arc<Inner>,
    connection: Connection,
    /// If it was started just now: dropped unclaimed, it ends before anybody else has a turn.
    fresh: Option<(OwnedMutexGuard<()>, Supervisor)>,
}

impl Started {
    /// From now on the box is somebody's, or its own if it is detached.
    async fn claim(mut self) -> Result<Connection> {
        if self.fresh.is_some() && self.inner.config.options.detach {
            let detached = self.connection.detach().await;
            detached.map_err(|e| e.or_object(&*self.inner.config.id))?;
        }
        self.fresh = None;
        Ok(self.connection.clone())
    }
}

impl Started {
    /// Ends what was started, while nobody else has a turn.
    async fn undo(mut self) {
        let Some((turn, supervisor)) = self.fresh.take() else { return };
        if self.inner.config.options.detach {
            // It may have let go of us already.
            let ended = self.connection.shutdown(0);
            let _ = tokio::time::timeout(ENDING_PATIENCE, ended).await;
        }
        let known = self.inner.live().connection.take();
        known.iter().for_each(Connection::close);
        supervisor.end().await;
        self.inner.note(&self.connection.running().run, ended(&Ok(()))).await;
        if known.is_some() {
            self.inner.tell(What::BoxStopped);
        }
        drop(turn);
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let fresh = self.fresh.take();
        if fresh.is_some() {
            let (inner, connection) = (self.inner.clone(), self.connection.clone());
            let tasks = inner.context.tasks.clone();
            tasks.spawn(Started { inner, connection, fresh }.undo());
        }
    }
}

/// Marks a start that was dropped half-way (with its runtime) as what it is.
struct Unfinished<'a> {
    inner: &'a Inner,
    run: &'a str,
    armed: bool,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if self.armed {
            // The supervisor ends with its connection; a stale row is corrected by the next look.
            let (context, id) = (&self.inner.context, &self.inner.config.id);
            let _ = truth::note(context, id, self.run, &ended(&Ok(())));
        }
    }
}
