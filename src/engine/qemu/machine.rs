//! A running QEMU.

use std::borrow::Cow;
use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use boxlite_spawn::{Child, Command, Exit};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::blocks::Blocks;
use super::command::{
    self, CHANNEL_FD, CONSOLE_FD, DISK_FD, MEMORY_FD, MONITOR_FD, Processor, Purpose, SCRATCH_FD,
    STATE_FD,
};
use super::monitor::{self, Monitor, Notice};
use super::template::Template;
use super::{files, prepare, scratch};
use crate::channel::guest::{self, Session};
use crate::disk::chain::Chain;
use crate::disk::overlay;
use crate::engine::log::{self, CappedLog, QUOTED_LINES};
use crate::engine::{
    Accelerator, CRASH_WORDS, Disk, Machine, MachineEnd, MachineEvent, MachineSpec, Merge, Work,
};
use crate::error::{Code, Error, Result};

/// How long after its channel has broken a machine may take to end.
const END_PATIENCE: Duration = Duration::from_secs(2);

/// How long QEMU may take to save or load a machine: milliseconds, on a host that has time.
const REPORT_PATIENCE: Duration = Duration::from_secs(60);
/// Where the logs are kept: what the guest writes to its console, and what QEMU says.
const CONSOLE_LOG: &str = "console.log";
const MESSAGES_LOG: &str = "qemu.log";

pub struct QemuMachine {
    process: Process,
    accelerator: Accelerator,
    channel: Option<UnixStream>,
    monitor: Monitor,
    notices: mpsc::UnboundedReceiver<Notice>,
    /// Its disk cannot be written, and not for want of space.
    broken: bool,
    blocks: Blocks,
    /// The disk until it has a box's.
    scratch: Option<File>,
    /// Held, so that nobody removes what the machine is made from.
    template: Option<Template>,
}

/// What a machine is started from.
pub enum Origin<'a> {
    /// Nothing but its kernel.
    Boot,
    /// The same, with a file for its memory.
    Prepare {
        memory: &'a File,
    },
    Restore(Template),
    /// The same, with a copy of its memory to write to.
    Derive {
        template: Template,
        memory: &'a File,
    },
}

impl Origin<'_> {
    fn purpose(&self) -> Purpose {
        match self {
            Origin::Boot => Purpose::Boot,
            Origin::Prepare { .. } => Purpose::Prepare,
            Origin::Restore(_) => Purpose::Restore,
            Origin::Derive { .. } => Purpose::Derive,
        }
    }

    /// The files that QEMU finds open, with their numbers.
    fn files(&self) -> Vec<(&File, i32)> {
        match self {
            Origin::Boot => vec![],
            Origin::Prepare { memory } => vec![(memory, MEMORY_FD)],
            Origin::Restore(template) => {
                vec![(&template.memory, MEMORY_FD), (&template.state, STATE_FD)]
            }
            Origin::Derive { template, memory } => {
                vec![(memory, MEMORY_FD), (&template.state, STATE_FD)]
            }
        }
    }
}

/// A machine that is for a certain disk, and has not mounted it, is like any other.
fn unless_mounted<'a>(spec: &'a MachineSpec, origin: &Origin<'_>) -> Cow<'a, MachineSpec> {
    let mounted = matches!(origin, Origin::Restore(template) if !template.disk.is_empty());
    match spec.disk {
        Disk::LaterOver(_) if !mounted => {
            Cow::Owned(MachineSpec { disk: Disk::Later, ..spec.clone() })
        }
        _ => Cow::Borrowed(spec),
    }
}

/// The files of the disk, in the order in which the command line names them.
fn disk_files(disk: &Disk, purpose: Purpose) -> Result<Vec<File>> {
    let (Disk::Image(chain), true) = (disk, purpose != Purpose::Prepare) else { return Ok(vec![]) };
    let open = |access: command::Access<'_>| {
        let file = File::options().read(true).write(access.writable).open(access.path);
        file.map_err(|e| {
            let path = access.path.display().to_string();
            Error::io(Code::Storage, format!("open {path}"), &e).object(path)
        })
    };
    command::files(chain).map(open).collect()
}

/// The disk of a machine that gets a box's later: the one that its template has mounted, or an empty
/// one. None if it gets none.
fn scratch(disk: &Disk, origin: &Origin<'_>) -> Result<Option<File>> {
    if !command::rehearses(disk, origin.purpose()) {
        return Ok(None);
    }
    match (disk, origin) {
        (Disk::LaterOver(_), Origin::Restore(template)) => files::in_memory(&template.disk)
            .map_err(|e| Error::io(Code::Storage, "make a disk for a waiting machine", &e)),
        _ => scratch::disk(),
    }
    .map(Some)
}

/// What is said of a machine that says nothing.
pub fn silent(limit: Duration) -> Error {
    let text = format!("the guest did not come up within {:.1} s", limit.as_secs_f32());
    Error::new(Code::Timeout, text)
}

/// The process and what it writes.
struct Process {
    child: Child,
    exited: AsyncFd<OwnedFd>,
    end: Option<MachineEnd>,
    console: Log,
    messages: Log,
}

impl QemuMachine {
    /// Starts the process. It dies with the calling thread.
    pub fn start(
        spec: &MachineSpec,
        processor: Processor,
        origin: Origin<'_>,
    ) -> Result<QemuMachine> {
        let spec = &*unless_mounted(spec, &origin);
        let purpose = origin.purpose();
        let argv = command::arguments(spec, processor, purpose)?;
        let scratch = scratch(&spec.disk, &origin)?;
        let blocks = match &spec.disk {
            Disk::Image(chain) => Blocks::of(chain),
            _ => Blocks::default(),
        };
        let binary = CString::new(spec.binary.as_os_str().as_bytes())
            .map_err(|_| Error::new(Code::Engine, "QEMU's path contains a NUL byte"))?;
        let sockets = |e: std::io::Error| Error::io(Code::Engine, "create sockets for QEMU", &e);
        let (monitor, monitor_theirs) = StdUnixStream::pair().map_err(sockets)?;
        let (channel, channel_theirs) = StdUnixStream::pair().map_err(sockets)?;
        let (console, console_theirs) = StdUnixStream::pair().map_err(sockets)?;
        let (messages, messages_theirs) = StdUnixStream::pair().map_err(sockets)?;
        let null =
            File::open("/dev/null").map_err(|e| Error::io(Code::Engine, "open /dev/null", &e))?;
        let log = |name: &str| spec.logs.as_ref().map(|logs| logs.join(name));
        let console = Log::follow(log(CONSOLE_LOG).as_deref(), console)?;
        let messages = Log::follow(log(MESSAGES_LOG).as_deref(), messages)?;
        let mut command = Command::new(binary, argv);
        let disk = disk_files(&spec.disk, purpose)?;
        for (file, number) in disk.iter().zip(DISK_FD..) {
            command = command.fd(file.as_fd(), number);
        }
        let scratch_file = scratch.iter().map(|file| (file, SCRATCH_FD));
        for (file, number) in origin.files().into_iter().chain(scratch_file) {
            command = command.fd(file.as_fd(), number);
        }
        let child = command
            .fd(null.as_fd(), 0)
            .fd(messages_theirs.as_fd(), 1)
            .fd(messages_theirs.as_fd(), 2)
            .fd(monitor_theirs.as_fd(), MONITOR_FD)
            .fd(channel_theirs.as_fd(), CHANNEL_FD)
            .fd(console_theirs.as_fd(), CONSOLE_FD)
            .death_signal(libc::SIGKILL)
            .spawn()
            .map_err(|e| {
                Error::io(Code::Engine, format!("start {}", spec.binary.display()), &e.error)
            })?;
        let pidfd = child.pidfd.try_clone().map_err(sockets)?;
        // SAFETY: the descriptor is owned by what is registered, and closed only with it.
        let exited = unsafe { AsyncFd::register(pidfd) }.map_err(|e| sockets(e.into()))?;
        let (monitor, notices) = monitor::open(monitor).map_err(sockets)?;
        Ok(QemuMachine {
            blocks,
            process: Process { child, exited, end: None, console, messages },
            accelerator: match processor {
                Processor::Kvm => Accelerator::Kvm,
                Processor::Tcg { .. } => Accelerator::Tcg,
            },
            channel: Some(into_tokio(channel).map_err(sockets)?),
            monitor,
            notices,
            broken: false,
            scratch,
            template: match origin {
                Origin::Restore(template) | Origin::Derive { template, .. } => Some(template),
                Origin::Boot | Origin::Prepare { .. } => None,
            },
        })
    }

    /// The host's end of the channel to the agent. Can be taken once.
    pub fn take_channel(&mut self) -> Result<UnixStream> {
        self.channel.take().ok_or_else(|| Error::new(Code::Internal, "channel taken twice"))
    }

    pub fn monitor(&mut self) -> &mut Monitor {
        &mut self.monitor
    }

    /// Waits for the agent's greeting.
    pub async fn open_channel(&mut self, limit: Duration) -> Result<Session> {
        let channel = self.take_channel()?;
        self.alive(limit, async { Ok(guest::open(channel).await?.0) }).await
    }

    /// Waits for the agent to do something, for the machine to end, or for patience to.
    pub async fn alive<T>(
        &mut self,
        limit: Duration,
        step: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let failure = tokio::select! {
            biased;
            outcome = step => match outcome {
                Ok(done) => return Ok(done),
                Err(failure) => failure,
            },
            end = self.ended() => return Err(self.ended_early(&end)),
            () = tokio::time::sleep(limit) => silent(limit),
        };
        Err(self.explain(failure).await)
    }

    /// Waits until QEMU reports what happens to the machine.
    pub async fn listen(&mut self, limit: Duration) -> Result<()> {
        let failure = match tokio::time::timeout(limit, self.monitor.ready()).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(failure)) => failure,
            Err(_) => silent(limit),
        };
        Err(self.explain(failure).await)
    }

    /// What a failure comes from, and what guest and QEMU said last: a channel or a monitor that
    /// breaks is how the end of the machine shows first.
    pub async fn explain(&mut self, failure: Error) -> Error {
        if failure.code() != Code::Timeout
            && let Ok(end) = tokio::time::timeout(END_PATIENCE, self.ended()).await
        {
            return self.ended_early(&end);
        }
        Error::new(failure.code(), self.failed(failure.message()).message())
    }

    fn ended_early(&self, end: &MachineEnd) -> Error {
        self.failed(&format!("the virtual machine ended while starting ({end:?})"))
    }

    /// Waits for QEMU to report something, or to end.
    pub async fn reported(&mut self, wanted: Notice) -> Result<()> {
        let patience = tokio::time::Instant::now() + REPORT_PATIENCE;
        loop {
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(patience) => {
                    return Err(Error::new(Code::Engine, "QEMU did not report that it is done"));
                }
                Some(notice) = self.notices.recv() => match notice {
                    notice if notice == wanted => return Ok(()),
                    Notice::MigrationFailed => {
                        return Err(Error::new(Code::Engine, "QEMU gave up saving or loading"));
                    }
                    _ => {}
                },
                end = self.process.ended() => return Err(self.ended_early(&end)),
            }
        }
    }

    /// If the machine stands still with a disk mounted: has a box's disk, which nobody has written
    /// to, be that one, and with the box's texts if there are places for them.
    fn hand_over_mounted(&self, disk: &Chain, texts: &[String]) -> Result<bool> {
        let (Some(template), Some(scratch)) = (&self.template, &self.scratch) else {
            return Ok(false);
        };
        if template.disk.is_empty() {
            return Ok(false);
        }
        let mounted = overlay::info_in(&template.disk);
        if overlay::untouched(disk)?.map(|base| base.info()) != Some(mounted?) {
            return Err(Error::new(Code::Internal, "a parked machine has another disk mounted"));
        }
        let mut bytes = files::whole(scratch)
            .map_err(|e| Error::io(Code::Storage, "read the disk of a waiting machine", &e))?;
        let inscribed = template.inscribe(&mut bytes, texts);
        overlay::replace(disk.top(), &bytes)?;
        Ok(inscribed)
    }

    /// The time of a processor that the machine has used.
    pub fn processor_time(&self) -> Duration {
        let pid = Pid::from_raw(self.process.child.pid);
        let used = clock_getcpuclockid(pid).and_then(clock_gettime);
        // A process that is gone uses nothing.
        used.map_or(Duration::ZERO, Duration::from)
    }

    /// An error with what guest and QEMU said last.
    fn failed(&self, what: &str) -> Error {
        Error::new(Code::Engine, format!("{what}{}", self.last_words()))
    }
}

impl Process {
    /// Waits for the process to end, and for all it wrote.
    async fn ended(&mut self) -> MachineEnd {
        let end = loop {
            if let Some(end) = &self.end {
                break end.clone();
            }
            self.end = match self.child.try_wait() {
                Ok(Some(Exit::Code(0))) => Some(MachineEnd::GuestOff),
                Ok(Some(Exit::Code(code))) => Some(MachineEnd::Exited(code)),
                Ok(Some(Exit::Signal(signal))) => Some(MachineEnd::Killed(signal)),
                // Somebody else took the status: it has ended, nobody knows how.
                Err(_) => Some(MachineEnd::Exited(-1)),
                Ok(None) => None,
            };
            if self.end.is_none()
                && let Ok(mut guard) = self.exited.readable().await
            {
                guard.clear_ready();
            }
        };
        // What it wrote last is what explains the end.
        self.console.finish().await;
        self.messages.finish().await;
        end
    }
}

impl Machine for QemuMachine {
    fn pid(&self) -> u32 {
        self.process.child.pid.unsigned_abs()
    }

    fn accelerator(&self) -> Accelerator {
        self.accelerator
    }

    async fn event(&mut self) -> MachineEvent {
        loop {
            if self.broken {
                return MachineEvent::Ended(MachineEnd::DiskError);
            }
            tokio::select! {
                biased;
                end = self.process.ended() => return MachineEvent::Ended(end),
                Some(notice) = self.notices.recv() => match notice {
                    Notice::DiskFull => return MachineEvent::DiskFull,
                    Notice::DiskError => self.broken = true,
                    // Of saving and loading, which is over.
                    Notice::Migrated | Notice::MigrationFailed => {}
                }
            }
        }
    }

    async fn pause(&mut self) -> Result<()> {
        self.monitor.stop().await
    }

    async fn go_on(&mut self) -> Result<()> {
        self.monitor.go_on().await
    }

    async fn runs(&mut self) -> Result<bool> {
        self.monitor.runs().await
    }

    async fn branch(&mut self, overlay: &Path) -> Result<Work> {
        let link = self.monitor.greeted().await?.clone();
        Ok(self.blocks.branch(link, overlay))
    }

    async fn merge(&mut self, merge: &Merge<'_>) -> Result<Work> {
        let link = self.monitor.greeted().await?.clone();
        Ok(self.blocks.merge(link, merge))
    }

    async fn park(&mut self) -> Result<()> {
        prepare::settle(self).await;
        self.monitor.stop().await
    }

    async fn resume(&mut self, spec: &MachineSpec) -> Result<bool> {
        let Disk::Image(disk) = &spec.disk else {
            return Err(Error::new(Code::Internal, "a parked machine gets no disk"));
        };
        let inscribed = self.hand_over_mounted(disk, &spec.texts)?;
        if let Some(logs) = &spec.logs {
            self.process.console.keep(&logs.join(CONSOLE_LOG))?;
            self.process.messages.keep(&logs.join(MESSAGES_LOG))?;
        }
        self.monitor.resume_with(disk).await?;
        self.blocks = Blocks::of(disk);
        self.scratch = None;
        Ok(inscribed)
    }

    async fn kill(&mut self) {
        if let Some(link) = self.monitor.link() {
            self.blocks.give_up(link).await;
        }
        // Only a process that is gone already refuses this.
        let _ = self.process.child.signal(libc::SIGKILL);
        self.process.ended().await;
    }

    fn last_words(&self) -> String {
        let mut text = String::new();
        for (name, log) in
            [("guest console", &self.process.console), ("qemu", &self.process.messages)]
        {
            text.push_str(&log::quote(name, &log.last_lines()));
        }
        text
    }
}

impl Drop for QemuMachine {
    fn drop(&mut self) {
        // Ends at once what was not ended before; the kernel reaps it with this process.
        let _ = self.process.child.signal(libc::SIGKILL);
    }
}

fn into_tokio(stream: StdUnixStream) -> std::io::Result<UnixStream> {
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

/// A log that a task fills from a stream.
struct Log {
    log: Arc<Mutex<CappedLog>>,
    task: Option<JoinHandle<()>>,
}

impl Log {
    fn follow(path: Option<&Path>, stream: StdUnixStream) -> Result<Log> {
        let stream = into_tokio(stream)
            .map_err(|e| Error::io(Code::Engine, "follow what QEMU writes", &e))?;
        let log = Arc::new(Mutex::new(CappedLog::default()));
        let task = tokio::spawn(copy(stream, log.clone()));
        let followed = Log { log, task: Some(task) };
        path.map_or(Ok(()), |path| followed.keep(path))?;
        Ok(followed)
    }

    /// Keeps in a file what was written, as far as it is remembered, and what will be.
    fn keep(&self, path: &Path) -> Result<()> {
        let kept = self.log.lock().unwrap_or_else(PoisonError::into_inner).keep(path);
        kept.map_err(|e| Error::io(Code::Storage, format!("open {}", path.display()), &e))
    }

    fn last_lines(&self) -> String {
        self.log
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .last_lines(QUOTED_LINES, &CRASH_WORDS)
    }

    /// Waits until the writer is gone and all it wrote has been taken.
    async fn finish(&mut self) {
        if let Some(task) = &mut self.task {
            // A task that panicked has nothing more to say either.
            let _ = task.await;
            self.task = None;
        }
    }
}

async fn copy(mut stream: impl AsyncRead + Unpin, log: Arc<Mutex<CappedLog>>) {
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        // A full disk loses lines of the file, not the machine; the tail is kept in memory.
        let _ = log.lock().unwrap_or_else(PoisonError::into_inner).append(&buffer[..read]);
    }
}
