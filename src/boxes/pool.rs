//! Machines that wait for their boxes.
//!
//! Each is under a supervisor of its own, which ends when we let go of its socket. One task keeps as
//! many as are wanted: it makes them one at a time, and only while nothing is being started, for
//! that is what they are there to speed up. Whoever starts a box takes one that fits, if there is
//! one; nobody ever waits for one.

use std::cell::LazyCell;
use std::fs::OpenOptions;
use std::future::poll_fn;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use nix::sys::socket::{Shutdown, shutdown};
use tokio::net::UnixStream;
use tokio::sync::watch;

use super::context::{Context, Counter};
use super::options::PoolOptions;
use super::start::{self, Supervisor};
use super::{admission, create};
use crate::channel::client;
use crate::disk::overlay::{self, RawBase};
use crate::engine::{Disk, MachineSpec};
use crate::error::{Code, Error, Result};

/// A pause after the last start, before a machine is made: what a started box does first goes
/// first, and another start may follow.
const QUIET: Duration = Duration::from_millis(100);

pub struct Pool {
    options: PoolOptions,
    state: watch::Sender<State>,
}

#[derive(Default)]
struct State {
    parked: Vec<Parked>,
    /// Starts under way.
    starts: usize,
    /// Making a machine has failed, and nothing was started since.
    failed: bool,
    closed: bool,
}

/// A machine that waits. Dropped, it ends.
pub struct Parked {
    spec: MachineSpec,
    since: Instant,
    /// None once it was taken.
    held: Option<(UnixStream, Supervisor)>,
}

/// A start that is under way, as long as this lives.
pub struct Starting<'a>(&'a Pool);

impl Pool {
    pub fn new(options: PoolOptions) -> Pool {
        Pool { options, state: watch::Sender::default() }
    }

    /// How many machines wait.
    pub fn ready(&self) -> usize {
        self.state.borrow().parked.len()
    }

    /// Notes that a box is being started.
    pub fn starting(&self) -> Starting<'_> {
        self.state.send_modify(|state| {
            state.starts += 1;
            state.failed = false;
        });
        Starting(self)
    }

    /// The machine that has waited longest of those that a box can have.
    pub fn take(&self, wanted: &MachineSpec) -> Option<Parked> {
        // Without templates, the box is to have a kernel that was booted for it.
        let max_age = wanted.templates.as_ref()?.max_age;
        // Looked at once, however many wait, and only if one of them wants to know. A disk that cannot
        // be read fits none, and is an error when the box starts.
        let fresh = LazyCell::new(|| match &wanted.disk {
            Disk::Image(chain) => overlay::untouched(chain).ok().flatten(),
            _ => None,
        });
        let mut taken = None;
        self.state.send_if_modified(|state| {
            let before = state.parked.len();
            state.parked.retain(|parked| parked.since.elapsed() < max_age);
            let fit = state.parked.iter().position(|parked| parked.fits(wanted, || fresh.as_ref()));
            taken = fit.map(|index| state.parked.remove(index));
            state.parked.len() < before
        });
        taken
    }

    /// Ends all machines, and makes no more. Returns them, for whoever waits for their ends.
    pub fn close(&self) -> Vec<Parked> {
        let mut parked = Vec::new();
        self.state.send_modify(|state| {
            state.closed = true;
            parked = std::mem::take(&mut state.parked);
        });
        parked
    }

    /// Waits until the pool is closed.
    async fn closed(&self) {
        // We hold the sender.
        let _ = self.state.subscribe().wait_for(|state| state.closed).await;
    }

    /// Waits until a machine is to be made.
    async fn wants_one(&self) {
        let size = self.options.size as usize;
        let wants = |state: &State| state.parked.len() < size && !state.failed && state.starts == 0;
        loop {
            let _ = self.state.subscribe().wait_for(wants).await;
            tokio::time::sleep(QUIET).await;
            if wants(&self.state.borrow()) {
                return;
            }
        }
    }

    /// Lets go of machines that have ended, as they do. For one task only.
    async fn drop_ended(&self) {
        poll_fn(|context| {
            self.state.send_if_modified(|state| {
                let before = state.parked.len();
                state.parked.retain(|parked| parked.poll_ended(context).is_pending());
                state.parked.len() < before
            });
            Poll::<()>::Pending
        })
        .await;
    }
}

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        self.0.state.send_modify(|state| state.starts -= 1);
    }
}

/// Keeps the pool of a runtime full until it is closed.
pub fn fill(context: &Arc<Context>) {
    if context.pool.options.size > 0 {
        context.tasks.spawn(keep(context.clone()));
    }
}

async fn keep(context: Arc<Context>) {
    let pool = &context.pool;
    let mut trouble = None;
    loop {
        tokio::select! {
            biased;
            () = pool.closed() => return,
            () = pool.drop_ended() => {}
            () = pool.wants_one() => {}
        }
        let made = tokio::select! {
            biased;
            () = pool.closed() => return,
            made = park(&context) => made,
        };
        let before = std::mem::replace(&mut trouble, made.as_ref().err().map(Error::code));
        if let Err(error) = &made
            && before != trouble
        {
            tracing::warn!("no machine was made for the pool; the next start tries again: {error}");
        }
        pool.state.send_modify(|state| match made {
            Ok(parked) => state.parked.push(parked),
            Err(_) => state.failed = true,
        });
    }
}

/// Makes one machine wait.
async fn park(context: &Arc<Context>) -> Result<Parked> {
    let spec = context.blocking(|context| {
        let PoolOptions { cpus, memory_mib, image, .. } = &context.pool.options;
        admission::check(*memory_mib, context.home.root())?;
        let mut spec = start::machine(context, *cpus, *memory_mib)?;
        if let Some((reference, size_mib)) = image {
            let closed = || context.pool.state.borrow().closed;
            spec.disk = Disk::LaterOver(create::base_disk(context, reference, *size_mib, &closed)?);
        }
        Ok(spec)
    });
    let spec = spec.await?;
    let json = serde_json::to_vec(&spec)
        .map_err(|e| Error::new(Code::Internal, format!("describe a machine: {e}")))?;
    // Nobody's directory is there for its messages: what matters comes as an error.
    let log = OpenOptions::new().write(true).open("/dev/null");
    let log = log.map_err(|e| Error::io(Code::Internal, "open /dev/null", &e))?;
    let held = start::spawn_supervisor(&context.settings.libexec, &log)?;
    let mut parked = Parked { spec, since: Instant::now(), held: Some(held) };
    if let Some((socket, _)) = &mut parked.held {
        let done = |stage: &str| {
            if let Some(counter) = Counter::of_stage(stage) {
                context.counters.add(counter);
            }
        };
        for detour in client::park(socket, json, done).await? {
            context.counters.add(Counter::Detours);
            tracing::warn!("a machine for the pool took longer to start: {detour}");
        }
    }
    Ok(parked)
}

impl Parked {
    /// Whether it is what a box would be given whose disk, if nobody has written to it, is `fresh`.
    fn fits<'a>(&self, wanted: &MachineSpec, fresh: impl FnOnce() -> Option<&'a RawBase>) -> bool {
        let ours = &self.spec;
        let comparable = MachineSpec {
            disk: ours.disk.clone(),
            texts: ours.texts.clone(),
            logs: ours.logs.clone(),
            boot_timeout: ours.boot_timeout,
            ..wanted.clone()
        };
        *ours == comparable
            && match &ours.disk {
                Disk::LaterOver(base) => fresh() == Some(base),
                _ => true,
            }
    }

    /// Whether it has ended. One that waits has nothing to say: whatever there is to read tells of
    /// its end.
    fn poll_ended(&self, context: &mut std::task::Context<'_>) -> Poll<()> {
        match &self.held {
            Some((socket, _)) => socket.poll_read_ready(context).map(drop),
            None => Poll::Ready(()),
        }
    }

    /// Its supervisor, and the socket that a launch goes to.
    pub fn claim(mut self) -> Option<(UnixStream, Supervisor)> {
        self.held.take()
    }

    /// Ends it, and waits until it has ended.
    pub async fn end(mut self) {
        if let Some((_, supervisor)) = self.held.take() {
            supervisor.end().await;
        }
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        if let Some((socket, _)) = &self.held {
            // Not only closed: a forked child may have it too.
            let _ = shutdown(socket.as_raw_fd(), Shutdown::Both);
        }
    }
}
