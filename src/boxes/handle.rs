//! A box as its users hold it.
//!
//! All handles on a box in one program share one [`BoxHandle`]; changes of its state take turns
//! among them, and are refused with BUSY while another program makes one. What the rows say is
//! checked against the supervisor's lock wherever it matters: the rows of a program that was
//! killed are stale.

mod archive;
mod attach;
mod snapshots;
mod starting;
mod stopping;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Observer;
use super::config::BoxConfig;
use super::context::Context;
use super::events::What;
use super::exec::{self, Exec, Output};
use super::info::BoxInfo;
use super::main_process::MainStatus;
use super::measure;
use super::options::ExecOptions;
use super::remove::{GLANCE, is_supervised};
use super::start::StageTime;
use super::state::{BoxState, Change, Status};
use super::truth;
use crate::channel::client::{Connection, Opening};
use crate::error::{Code, Error, Result};
use crate::metrics::BoxMetrics;
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
    /// It was removed by itself or another program.
    gone: AtomicBool,
}

#[derive(Default)]
pub(super) struct Live {
    pub(super) connection: Option<Connection>,
    /// Whether this program started the box, which then ends with it unless it is detached.
    pub(super) owned: bool,
    pub(super) stages: Vec<StageTime>,
    /// Whether the main process runs, as far as is known here.
    pub(super) main_runs: bool,
    /// The end was written down before the one who watches had a turn.
    pub(super) noted_early: bool,
    /// What happened in a run and could not be written down yet.
    unwritten: Option<(String, Change)>,
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
        self.inner.info().await
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
    pub(super) async fn state(&self) -> Result<BoxState> {
        let unwritten = self.live().unwritten.clone();
        if let Some((run, change)) = unwritten.clone() {
            self.note(&run, change).await;
        }
        let id = self.config.id.clone();
        let state = self.context.blocking(move |context| truth::state(context, &id)).await;
        if state.as_ref().is_err_and(|e| e.code() == Code::NotFound) {
            // By another program: it never comes back.
            self.gone.store(true, Ordering::Relaxed);
        }
        let state = state?;
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
                let noted = self.note_end(&connection, &outcome).await;
                self.live().noted_early = noted;
            }
        }
        let Some(connection) = self.reach().await? else { return Ok(None) };
        let mut live = self.live();
        live.connection = Some(connection.clone());
        live.owned = false;
        live.main_runs = MainStatus::runs(&self.config, &connection.running().run, &self.box_dir());
        // Of a start of ours, long ago.
        live.stages.clear();
        drop(live);
        self.context.tasks.spawn(self.clone().watch(connection.clone()));
        Ok(Some(connection))
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

    /// A connection to the supervisor that another program has started; none if there is none.
    async fn reach(&self) -> Result<Option<Connection>> {
        let patience = Instant::now() + ENDING_PATIENCE;
        loop {
            let dir = self.box_dir();
            if !self.context.blocking(move |_| is_supervised(&dir)).await? {
                return Ok(None);
            }
            // One that is just beginning has no socket yet, and one that is just ending does not answer
            // any more.
            match self.attach().await {
                Ok(connection) => return Ok(Some(connection)),
                Err(error) if error.code() == Code::Timeout || Instant::now() > patience => {
                    return Err(error);
                }
                Err(_) => tokio::time::sleep(GLANCE).await,
            }
        }
    }

    async fn attach(&self) -> Result<Connection> {
        let id = &*self.config.id;
        let socket = socket::connect(&self.box_dir()).await.map_err(|e| {
            Error::io(Code::RpcTransport, "connect to the box's supervisor", &e)
                .object(id)
                .retryable(true)
        })?;
        let own_id = id.to_owned();
        // A row that cannot be read keeps nobody from the box itself.
        let stored = self.context.blocking(move |context| truth::read(context, &own_id)).await;
        // While it is being started it says nothing: that may take as long as a template and a boot.
        let limit = match stored {
            Ok(BoxState { status: Status::Starting, .. }) => {
                2 * Duration::from_millis(self.config.options.start_timeout_ms)
            }
            _ => Duration::ZERO,
        };
        let box_dir = self.box_dir();
        let opened = Connection::open(socket, &box_dir, Opening::Attach, |_| {});
        match tokio::time::timeout(limit + ENDING_PATIENCE, opened).await {
            Ok(opened) => opened,
            Err(_) => {
                let holder = PidFile::holder(&box_dir).ok().flatten();
                let process = holder.map_or(String::new(), |pid| format!(" (process {pid})"));
                let text = format!("the box's supervisor{process} does not answer");
                Err(Error::new(Code::Timeout, text).object(id))
            }
        }
    }
}
