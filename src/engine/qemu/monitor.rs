//! QEMU's control channel (QMP): commands, and events that somebody has to act on.

use std::fs::File;
use std::io::{self, IoSlice};
use std::mem;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;
use std::sync::Arc;

use futures_util::StreamExt;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use qapi::futures::{QapiService, QmpStreamTokio};
use qapi::qmp::{
    self, Event, IoOperationType, JobStatus, MigrationCapability, MigrationStatus, QmpCommand,
};
use qapi::{Command, Empty, ExecuteError};
use serde::Serialize;
use serde_json::Value;
use tokio::io::WriteHalf;
use tokio::net::UnixStream;
use tokio::sync::{Mutex, mpsc, oneshot, watch};

use super::command::{self, Access, DISK, DISK_NODE, SCRATCH_NODE, STATE_FD, WRITABLE};
use crate::disk::chain::Chain;
use crate::error::{Code, Error, Result};

type Service = QapiService<QmpStreamTokio<WriteHalf<UnixStream>>>;

/// What QEMU reports by itself that somebody acts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// The machine came to stand still, for a write that the host's disk has no space for.
    DiskFull,
    DiskError,
    /// The machine was saved, or loaded.
    Migrated,
    /// It could not be.
    MigrationFailed,
}

/// Commands to one QEMU.
pub struct Monitor {
    /// The connection once more: descriptors go beside what is written.
    socket: Arc<StdUnixStream>,
    greeting: oneshot::Receiver<Service>,
    job_changes: watch::Receiver<()>,
    link: Option<Link>,
}

/// A QEMU that has greeted.
#[derive(Clone)]
pub struct Link {
    service: Arc<Service>,
    socket: Arc<StdUnixStream>,
    /// Changes with the status of any job.
    job_changes: watch::Receiver<()>,
    /// Held from a command to its answer. Whether the first exchange was made: before it, QEMU takes no
    /// command and reports no event.
    negotiated: Arc<Mutex<bool>>,
}

/// Follows the monitor from a task of its own until QEMU is gone.
///
/// The queue of notices has no limit: what a guest can cause stops the machine.
pub fn open(stream: StdUnixStream) -> io::Result<(Monitor, mpsc::UnboundedReceiver<Notice>)> {
    let socket = Arc::new(stream.try_clone()?);
    stream.set_nonblocking(true)?;
    let stream = UnixStream::from_std(stream)?;
    let (sender, notices) = mpsc::unbounded_channel();
    let (ready, greeting) = oneshot::channel();
    let (job_changed, job_changes) = watch::channel(());
    tokio::spawn(async move {
        // The monitor ends with QEMU, whose end is noticed as such.
        let _ = follow(stream, ready, sender, job_changed).await;
    });
    Ok((Monitor { socket, greeting, job_changes, link: None }, notices))
}

async fn follow(
    stream: UnixStream,
    ready: oneshot::Sender<Service>,
    sender: mpsc::UnboundedSender<Notice>,
    job_changed: watch::Sender<()>,
) -> io::Result<()> {
    let mut reports = Reports::default();
    let (service, mut events) = QmpStreamTokio::open(stream).await?.stream.into_parts();
    // The connection is good as long as the service lives: with the machine, that is.
    if ready.send(service).is_err() {
        return Ok(());
    }
    while let Some(event) = events.next().await {
        let event = event?;
        if matches!(event, Event::JOB_STATUS_CHANGE { .. }) {
            job_changed.send_replace(());
        }
        if let Some(notice) = reports.notice(&event)
            && sender.send(notice).is_err()
        {
            break;
        }
    }
    Ok(())
}

/// What of QEMU's reports is news.
///
/// Each write that waits reports that there is no space, also one that the machine, standing still
/// already, had on its way. That it stands still is reported once, after the first of them; a later one
/// must not be taken for news when the machine runs on.
#[derive(Default)]
struct Reports {
    /// A write waits, and nobody was told yet.
    full: bool,
}

impl Reports {
    fn notice(&mut self, event: &Event) -> Option<Notice> {
        match event {
            Event::BLOCK_IO_ERROR { data, .. } if data.operation == IoOperationType::write => {
                if data.nospace == Some(true) {
                    self.full = true;
                    return None;
                }
                Some(Notice::DiskError)
            }
            Event::STOP { .. } => mem::take(&mut self.full).then_some(Notice::DiskFull),
            // Those that waited are tried again.
            Event::RESUME { .. } => {
                self.full = false;
                None
            }
            Event::MIGRATION { data, .. } => match data.status {
                MigrationStatus::completed => Some(Notice::Migrated),
                MigrationStatus::failed | MigrationStatus::cancelled => {
                    Some(Notice::MigrationFailed)
                }
                _ => None,
            },
            _ => None,
        }
    }
}

impl Link {
    /// Has a command executed when it is its turn. Dropped before that, it is never sent. What was sent
    /// goes on to its answer even if nobody waits any more: commands have no numbers here, and an answer
    /// that was left for later would be taken for that of another.
    pub async fn execute<C>(&self, command: C) -> Result<C::Ok>
    where
        C: QmpCommand + Send + 'static,
        C::Ok: Send + 'static,
    {
        self.execute_with(command, None).await
    }

    /// The same for a command that takes a descriptor.
    async fn execute_with<C>(&self, command: C, file: Option<File>) -> Result<C::Ok>
    where
        C: QmpCommand + Send + 'static,
        C::Ok: Send + 'static,
    {
        let mut negotiated = self.negotiated.clone().lock_owned().await;
        let (service, socket) = (self.service.clone(), self.socket.clone());
        let exchange = tokio::spawn(async move {
            if !*negotiated {
                execute(&service, qmp::qmp_capabilities { enable: None }).await?;
                *negotiated = true;
            }
            if let Some(file) = file {
                send_descriptor(&socket, &file)
                    .map_err(|e| Error::io(Code::Engine, "hand a descriptor to QEMU", &e))?;
            }
            execute(&service, command).await
        });
        exchange.await.map_err(|e| Error::new(Code::Internal, format!("QMP {}: {e}", C::NAME)))?
    }
}

impl Link {
    /// Gives a file to QEMU, in a set.
    pub async fn add_file(&self, access: &Access<'_>) -> Result<()> {
        let Access { set, path, writable } = access;
        let file = File::options().read(true).write(*writable).open(path);
        let file =
            file.map_err(|e| Error::io(Code::Storage, format!("open {}", path.display()), &e))?;
        let fdset_id = i64::try_from(*set).ok();
        let opaque = Some(access.label());
        self.execute_with(qmp::add_fd { fdset_id, opaque }, Some(file)).await.map(drop)
    }

    /// Has QEMU close a set's descriptors, or the one to write with, and with that give up its lock on the
    /// file: closing only its copies of a descriptor would not.
    pub async fn remove_files(&self, set: usize, only_writable: bool) -> Result<()> {
        let mut files = self.files_in(set).await?;
        files.retain(|fd| {
            !only_writable || fd.opaque.as_ref().is_some_and(|label| label.starts_with(WRITABLE))
        });
        self.remove(set, files).await
    }

    /// Gives a set descriptors to read with and to write with, in place of those that it has: QEMU's lock
    /// on what it opened to read, which forbids others to write, would be held by these for ever.
    pub async fn open_anew(&self, set: usize, path: &Path) -> Result<()> {
        let old = self.files_in(set).await?;
        for access in command::accesses(set, path, true) {
            self.add_file(&access).await?;
        }
        self.remove(set, old).await
    }

    async fn files_in(&self, set: usize) -> Result<Vec<qmp::FdsetFdInfo>> {
        let sets = self.execute(qmp::query_fdsets {}).await?;
        let of_set = sets.into_iter().filter(|s| usize::try_from(s.fdset_id) == Ok(set));
        Ok(of_set.flat_map(|set| set.fds).collect())
    }

    async fn remove(&self, set: usize, files: Vec<qmp::FdsetFdInfo>) -> Result<()> {
        let fdset_id = i64::try_from(set).unwrap_or(i64::MAX);
        for file in files {
            self.execute(qmp::remove_fd { fdset_id, fd: Some(file.fd) }).await?;
        }
        Ok(())
    }

    /// Waits until a job that does not end by itself has done its work, or has failed.
    pub async fn job_ready_to_end(&self, id: &str) -> Result<()> {
        self.job_is(id, |status| matches!(status, JobStatus::pending | JobStatus::concluded))
            .await
            .map(drop)
    }

    /// Waits for the end of a job, whose outcome QEMU keeps until it is taken here.
    pub async fn job_done(&self, id: &str) -> Result<()> {
        let job = self.job_is(id, |status| status == JobStatus::concluded).await?;
        self.execute(qmp::job_dismiss { id: id.to_owned() }).await?;
        let failed = |e| Error::new(Code::Engine, format!("QEMU's block layer: {e}"));
        job.error.map_or(Ok(()), |e| Err(failed(e)))
    }

    async fn job_is(&self, id: &str, wanted: impl Fn(JobStatus) -> bool) -> Result<qmp::JobInfo> {
        let mut changes = self.job_changes.clone();
        loop {
            changes.mark_unchanged();
            let jobs = self.execute(qmp::query_jobs {}).await?;
            let Some(job) = jobs.into_iter().find(|job| job.id == id) else {
                return Err(Error::new(Code::Engine, format!("QEMU forgot its job {id}")));
            };
            if wanted(job.status) {
                return Ok(job);
            }
            let gone = |_| Error::new(Code::Engine, "QEMU closed its monitor");
            changes.changed().await.map_err(gone)?;
        }
    }

    /// Adds a node, as a command line would name it.
    pub async fn add_node(&self, node: Value) -> Result<()> {
        self.execute(AddNode(node)).await.map(drop)
    }

    /// Opens a node once more, and with that has all of it that QEMU has in memory be in its file, durably.
    pub async fn reopen_node(&self, node: Value) -> Result<()> {
        self.execute(ReopenNodes { options: [node] }).await.map(drop)
    }
}

impl Monitor {
    /// Waits for QEMU to greet; commands may be sent then.
    pub async fn greeted(&mut self) -> Result<&Link> {
        if self.link.is_none() {
            let service = (&mut self.greeting).await.ok();
            let (socket, job_changes) = (self.socket.clone(), self.job_changes.clone());
            let negotiated = Arc::default();
            let link = |s| Link { service: Arc::new(s), socket, job_changes, negotiated };
            self.link = service.map(link);
        }
        self.link.as_ref().ok_or_else(|| Error::new(Code::Engine, "QEMU closed its monitor"))
    }

    /// The QEMU that has greeted, if it has.
    pub fn link(&self) -> Option<&Link> {
        self.link.as_ref()
    }

    /// Waits until QEMU takes commands, and reports events.
    pub async fn ready(&mut self) -> Result<()> {
        self.runs().await.map(drop)
    }

    /// Begins to read the state of the devices; the machine then runs on. A notice tells when.
    pub async fn load(&mut self) -> Result<()> {
        let link = self.greeted().await?;
        link.execute(migration_setup()).await?;
        let uri = Some(format!("fd:{STATE_FD}"));
        let load = qmp::migrate_incoming { uri, channels: None, exit_on_error: None };
        link.execute(load).await.map(drop)
    }

    /// Begins to write the state of the devices, to run on from when it is loaded. A notice tells
    /// when that is done; the machine then stands still.
    pub async fn save(&mut self, state: &File) -> Result<()> {
        let state = state
            .try_clone()
            .map_err(|e| Error::io(Code::Engine, "hand a descriptor to QEMU", &e))?;
        let link = self.greeted().await?;
        link.execute(migration_setup()).await?;
        link.execute_with(qmp::getfd { fdname: "state".to_owned() }, Some(state)).await?;
        let uri = Some("fd:state".to_owned());
        let migrate = qmp::migrate { uri, channels: None, detach: None, resume: None };
        link.execute(migrate).await.map(drop)
    }

    /// Has the machine stand still.
    pub async fn stop(&mut self) -> Result<()> {
        self.greeted().await?.execute(qmp::stop {}).await.map(drop)
    }

    /// Has a machine that stands still run on.
    pub async fn go_on(&mut self) -> Result<()> {
        self.greeted().await?.execute(qmp::cont {}).await.map(drop)
    }

    /// Whether the machine runs.
    pub async fn runs(&mut self) -> Result<bool> {
        let status = self.greeted().await?.execute(qmp::query_status {}).await?;
        Ok(status.running)
    }

    /// Puts a disk, as a command line would name it, in the place of the one to rehearse on, and has
    /// the machine run on. On the way of a start, as loading is: if one of these fails, the machine
    /// that runs on then is of no use to anybody.
    pub async fn resume_with(&mut self, disk: &Chain) -> Result<()> {
        let link = self.greeted().await?;
        for access in command::files(disk) {
            link.add_file(&access).await?;
        }
        let node = DISK_NODE;
        let exchange = qmp::qom_set {
            path: format!("/machine/peripheral/{DISK}"),
            property: "drive".to_owned(),
            value: node.into(),
        };
        let old = qmp::blockdev_del { node_name: SCRATCH_NODE.to_owned() };
        link.add_node(command::image(disk)?).await?;
        link.execute(exchange).await?;
        link.execute(old).await?;
        link.execute(qmp::cont {}).await?;
        Ok(())
    }
}

async fn execute<C: QmpCommand>(service: &Service, command: C) -> Result<C::Ok> {
    let outcome = service.execute(command).await;
    outcome.map_err(|e: ExecuteError| Error::new(Code::Engine, format!("QMP {}: {e}", C::NAME)))
}

/// `blockdev-add` with what a command line takes: the types of [`qmp`] are those of one QEMU, and
/// know no other's options.
#[derive(Serialize)]
#[serde(transparent)]
struct AddNode(Value);

impl QmpCommand for AddNode {}

impl Command for AddNode {
    type Ok = Empty;
    const NAME: &'static str = "blockdev-add";
    const ALLOW_OOB: bool = false;
}

/// `blockdev-reopen`, likewise.
#[derive(Serialize)]
struct ReopenNodes {
    options: [Value; 1],
}

impl QmpCommand for ReopenNodes {}

impl Command for ReopenNodes {
    type Ok = Empty;
    const NAME: &'static str = "blockdev-reopen";
    const ALLOW_OOB: bool = false;
}

/// Has memory in files stay there when a machine is saved or loaded, and QEMU tell when it is.
fn migration_setup() -> qmp::migrate_set_capabilities {
    let on = |capability| qmp::MigrationCapabilityStatus { capability, state: true };
    let capabilities =
        vec![on(MigrationCapability::events), on(MigrationCapability::x_ignore_shared)];
    qmp::migrate_set_capabilities { capabilities }
}

/// Sends a descriptor beside a byte without meaning; the command that follows takes it.
fn send_descriptor(socket: &StdUnixStream, file: &File) -> io::Result<()> {
    let descriptors = [file.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&descriptors)];
    let bytes = [IoSlice::new(b"\n")];
    sendmsg::<()>(socket.as_raw_fd(), &bytes, &rights, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(name: &str, data: Value) -> Event {
        let timestamp = json!({ "seconds": 1, "microseconds": 0 });
        serde_json::from_value(json!({ "event": name, "timestamp": timestamp, "data": data }))
            .unwrap()
    }

    fn refused(nospace: bool) -> Event {
        let data = json!({
            "device": "", "node-name": "disk", "operation": "write", "action": "stop",
            "nospace": nospace, "reason": "refused",
        });
        event("BLOCK_IO_ERROR", data)
    }

    #[test]
    fn a_full_disk_is_news_once_for_each_time_that_the_machine_stands_still() {
        let mut reports = Reports::default();
        let mut told = |event| reports.notice(&event);
        assert_eq!(told(refused(true)), None);
        assert_eq!(told(refused(true)), None);
        assert_eq!(told(event("STOP", json!({}))), Some(Notice::DiskFull));
        // One that was on its way.
        assert_eq!(told(refused(true)), None);
        assert_eq!(told(event("RESUME", json!({}))), None);
        // Somebody pauses the machine.
        assert_eq!(told(event("STOP", json!({}))), None);
        assert_eq!(told(event("RESUME", json!({}))), None);
        assert_eq!(told(refused(true)), None);
        assert_eq!(told(event("STOP", json!({}))), Some(Notice::DiskFull));
    }

    #[test]
    fn a_disk_that_fails_is_news_at_once() {
        assert_eq!(Reports::default().notice(&refused(false)), Some(Notice::DiskError));
    }
}
