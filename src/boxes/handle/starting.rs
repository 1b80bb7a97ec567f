//! From a box that does not run to one that does, and back if nobody wants it.

use std::sync::Arc;
use std::time::Instant;

use boxlite_protocol::message::Running;
use tokio::sync::{OwnedMutexGuard, oneshot};

use super::super::admission;
use super::super::context::{self, BoxLock, Context, Counter};
use super::super::disks;
use super::super::events::What;
use super::super::info::Boot;
use super::super::main_process::Main;
use super::super::start::{self, StageTime, Supervisor};
use super::super::state::{Change, Status};
use super::super::truth;
use super::super::watch::ended;
use super::{ENDING_PATIENCE, Inner, Live, Observer};
use crate::channel::client::Connection;
use crate::error::{Code, Error, Result};
use crate::failpoint::{self, Point};

impl Inner {
    /// Starts the box, unless it runs. A task of its own does it: if nobody waits for it any more,
    /// the machine must be seen to end before anybody else may start the box.
    pub(super) async fn start(
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
        let began = Instant::now();
        let run = ulid::Ulid::generate().to_string();
        let (_lock, before) = self.begin_start(&run).await?;
        let launched = {
            let mut unfinished = Unfinished { inner: &self, run: &run, armed: true };
            let launched =
                start::launch(&self.context, &self.config, &run, (began, observer), unwanted).await;
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
        *self.live() = Live {
            connection: Some(connection.clone()),
            owned: true,
            stages,
            main_runs: self.config.options.main != Main::None,
            ..Live::default()
        };
        self.tell_start();
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
            let (id, of_run) = (self.config.id.clone(), run.to_owned());
            let settle = move |context: &Context| {
                truth::settle_disk(context, &id, &of_run);
                Ok(())
            };
            let _ = self.context.blocking(settle).await;
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
            disks::settle_box(context, &id)?;
            admission::check(memory_mib, context.home.root()).map_err(|e| e.context(&id))?;
            // A box of other software lacks some.
            context.home.make_box(&id)?;
            truth::note(context, &id, &run, &Change::Start)?;
            failpoint::hit(Point::StartNoted);
            Ok((lock, before.status))
        };
        self.context.blocking(begin).await
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
            match self.connection.detach().await {
                // It was started, and is over: its main process was short.
                Err(_) if self.connection.has_ended() && self.connection.ended().await.is_ok() => {}
                detached => detached.map_err(|e| e.or_object(&*self.inner.config.id))?,
            }
            failpoint::hit(Point::StartDetached);
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
        self.inner.tell_changes_in_order(&self.connection).await;
        known.iter().for_each(Connection::close);
        supervisor.end().await;
        self.inner.note(&self.connection.running().run, ended(&Ok(()))).await;
        if known.is_some() {
            self.inner.tell_end(&Ok(()), None);
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
