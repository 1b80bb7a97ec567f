//! What all boxes of a home share.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use tokio::task::JoinError;

use super::events::{Bus, Event, What};
use super::pool::Pool;
use crate::engine::{AcceleratorChoice, TemplatePolicy};
use crate::error::{Code, Error, Result};
use crate::home::Home;
use crate::stage::Stage;
use crate::store::Store;

/// A home with its database and what is needed to run machines.
pub struct Context {
    pub home: Home,
    pub store: Store,
    pub settings: Settings,
    pub counters: Counters,
    /// Who wants to hear what happens to boxes.
    pub events: Bus,
    /// Machines that wait for boxes.
    pub pool: Pool,
    /// Where background work of boxes runs.
    pub tasks: tokio::runtime::Handle,
}

/// How machines are run.
#[derive(Debug, Clone)]
pub struct Settings {
    pub accelerator: AcceleratorChoice,
    /// The directory with the supervisor, the kernel and the initramfs.
    pub libexec: PathBuf,
    /// Where what was found out about the host is remembered.
    pub cache: PathBuf,
    /// What machines are restored from.
    pub templates: TemplatePolicy,
}

/// What this program's runtime has done since it was opened.
#[derive(Default)]
pub struct Counters([AtomicU64; Counter::COUNT]);

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum Counter {
    /// Boxes whose kernel was booted.
    ColdStarts = 0,
    /// Boxes made from a template.
    RestoredStarts = 1,
    /// Boxes that got a machine which was waiting for one.
    PooledStarts = 2,
    /// Machine templates made.
    TemplatesMade = 3,
    /// Times that a faster way to start a box did not work, each with a warning in the log.
    Detours = 4,
    /// Disk templates made: those that have a disk mounted.
    DiskTemplatesMade = 5,
    BoxesCreated = 6,
    /// Boxes that could not be started, or came to an unwanted end.
    BoxesFailed = 7,
    /// Boxes that ended as they were meant to.
    BoxesStopped = 8,
    /// Commands that were started.
    CommandsExecuted = 9,
    /// Commands that could not be.
    ExecErrors = 10,
}

impl Counter {
    const COUNT: usize = 11;

    /// What counts when something happens to a box.
    fn of_event(what: &What) -> Option<Counter> {
        match what {
            What::BoxCreated => Some(Counter::BoxesCreated),
            What::BoxFailed { .. } => Some(Counter::BoxesFailed),
            What::BoxStopped { .. } => Some(Counter::BoxesStopped),
            _ => None,
        }
    }

    /// What a start counts besides itself when it has done a stage.
    pub fn of_stage(name: &str) -> Option<Counter> {
        match Stage::of_name(name)? {
            Stage::Template => Some(Counter::TemplatesMade),
            Stage::DiskTemplate => Some(Counter::DiskTemplatesMade),
            _ => None,
        }
    }
}

impl Counters {
    pub fn add(&self, counter: Counter) {
        self.0[counter as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub fn get(&self, counter: Counter) -> u64 {
        self.0[counter as usize].load(Ordering::Relaxed)
    }
}

/// Held while a box's state changes; other programs get BUSY meanwhile.
pub struct BoxLock {
    _file: Flock<File>,
}

impl Context {
    /// Does work that goes on to its end also when nobody waits for it any more.
    pub async fn finish<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        outcome(self.tasks.spawn(work).await)
    }

    /// Runs work that blocks on files or the database.
    pub async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Context) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let context = self.clone();
        outcome(self.tasks.spawn_blocking(move || work(&context)).await)
    }

    /// Writes down that something is to go, also where the disk has no room for that. What is given up for
    /// it is taken again by [`Home::take_ballast`], once something has gone.
    pub fn make_room<T>(&self, write: impl Fn() -> Result<T>) -> Result<T> {
        match write() {
            Err(full) if full.code() == Code::ResourceExhausted && self.home.give_up_ballast() => {
                write()
            }
            written => written,
        }
    }

    /// Counts and tells what has just happened to a box.
    pub fn tell(&self, box_id: &str, box_name: Option<&str>, what: What) {
        Counter::of_event(&what).into_iter().for_each(|counter| self.counters.add(counter));
        let (box_id, box_name) = (box_id.to_owned(), box_name.map(str::to_owned));
        self.events.tell(&Event { at: SystemTime::now(), box_id, box_name, what });
    }

    /// Takes a box for a change of its state. Who only looks at it may have it for a moment, which is
    /// waited for.
    pub fn lock_box(&self, id: &str) -> Result<BoxLock> {
        let began = Instant::now();
        loop {
            match self.try_lock_box(id) {
                Err(busy) if busy.code() == Code::Busy && began.elapsed() < LOOKING => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                locked => return locked,
            }
        }
    }

    /// As [`Context::lock_box`], at once or not at all.
    pub fn try_lock_box(&self, id: &str) -> Result<BoxLock> {
        let path = self.home.box_lock(id);
        let failed = |e: std::io::Error| {
            Error::io(Code::Storage, format!("lock {}", path.display()), &e).object(id)
        };
        loop {
            let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
            match Flock::lock(file.map_err(failed)?, FlockArg::LockExclusiveNonblock) {
                // Else it was removed between the two, and is no lock any more.
                Ok(file) if has_name(&file, &path).map_err(failed)? => {
                    return Ok(BoxLock { _file: file });
                }
                Ok(_) => {}
                Err((_, Errno::EWOULDBLOCK)) => {
                    let text = "another program is changing box";
                    let text = format!("{text} {id}: try again when it is done");
                    return Err(Error::new(Code::Busy, text).object(id));
                }
                Err((_, e)) => return Err(failed(e.into())),
            }
        }
    }
}

impl Context {
    /// Adds to what disks there are, as others may at the same time: which is on which of those that are
    /// there stays as it is.
    pub fn share_disks(&self) -> Result<DisksLock> {
        self.lock_disks(FlockArg::LockSharedNonblock)
    }

    /// Takes something of the disks away, or moves it, and nobody else changes anything meanwhile.
    pub fn take_disks(&self) -> Result<DisksLock> {
        self.lock_disks(FlockArg::LockExclusiveNonblock)
    }

    fn lock_disks(&self, how: FlockArg) -> Result<DisksLock> {
        let path = self.home.disks_lock();
        let failed =
            |e: std::io::Error| Error::io(Code::Storage, format!("lock {}", path.display()), &e);
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let mut file = file.map_err(failed)?;
        let began = Instant::now();
        loop {
            file = match Flock::lock(file, how) {
                Ok(file) => return Ok(DisksLock { _file: file }),
                Err((_, e)) if e != Errno::EWOULDBLOCK => return Err(failed(e.into())),
                Err((file, _)) if began.elapsed() < CHANGING => file,
                Err(_) => {
                    let text =
                        "another program is changing the home's disks: try again when it is done";
                    let object = self.home.root().display().to_string();
                    return Err(Error::new(Code::Busy, text).object(object));
                }
            };
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Held while it changes which disks there are.
pub struct DisksLock {
    _file: Flock<File>,
}

/// How long those are waited for who change disks: no change takes long, but for a guest that takes its
/// time to come to rest.
const CHANGING: Duration = Duration::from_secs(30);

/// How long somebody who has found out that a row is not true may take to correct it.
const LOOKING: Duration = Duration::from_secs(1);

/// Whether a name is that of an open file.
fn has_name(file: &File, path: &Path) -> std::io::Result<bool> {
    let of_file = file.metadata()?;
    match std::fs::metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (of_file.dev(), of_file.ino())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

/// What a task came to, for who waited for it.
pub fn outcome<T>(joined: Result<Result<T>, JoinError>) -> Result<T> {
    match joined {
        Ok(outcome) => outcome,
        Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
        Err(_) => Err(Error::new(Code::Cancelled, "the runtime was closed")),
    }
}
