//! QEMU's control channel (QMP): commands, and events that somebody has to act on.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream as StdUnixStream;

use futures_util::StreamExt;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use qapi::ExecuteError;
use qapi::futures::{QapiService, QmpStreamTokio};
use qapi::qmp::{self, Event, IoOperationType, MigrationCapability, MigrationStatus, QmpCommand};
use tokio::io::WriteHalf;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};

use super::command::{CHANNEL_PORT, STATE_FD};
use crate::error::{Code, Error, Result};

type Service = QapiService<QmpStreamTokio<WriteHalf<UnixStream>>>;

/// What QEMU reports by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    DiskFull,
    DiskError,
    /// The agent has opened its port: it waits for a host.
    AgentReady,
    /// The machine was saved, or loaded.
    Migrated,
    /// It could not be.
    MigrationFailed,
}

/// Commands to one QEMU.
pub struct Monitor {
    /// The connection once more: descriptors go beside what is written.
    socket: StdUnixStream,
    negotiated: oneshot::Receiver<Service>,
    service: Option<Service>,
}

/// Follows the monitor from a task of its own until QEMU is gone.
///
/// The queue of notices has no limit: what a guest can cause is either limited by QEMU (one port
/// event a second), or stops the machine.
pub fn open(stream: StdUnixStream) -> io::Result<(Monitor, mpsc::UnboundedReceiver<Notice>)> {
    let socket = stream.try_clone()?;
    stream.set_nonblocking(true)?;
    let stream = UnixStream::from_std(stream)?;
    let (sender, notices) = mpsc::unbounded_channel();
    let (ready, negotiated) = oneshot::channel();
    tokio::spawn(async move {
        // The monitor ends with QEMU, whose end is noticed as such.
        let _ = follow(stream, ready, sender).await;
    });
    Ok((Monitor { socket, negotiated, service: None }, notices))
}

async fn follow(
    stream: UnixStream,
    ready: oneshot::Sender<Service>,
    sender: mpsc::UnboundedSender<Notice>,
) -> io::Result<()> {
    let negotiation = QmpStreamTokio::open(stream).await?;
    let (service, mut events) = negotiation.negotiate().await?.into_parts();
    // The connection is good as long as the service lives: with the machine, that is.
    if ready.send(service).is_err() {
        return Ok(());
    }
    while let Some(event) = events.next().await {
        if let Some(notice) = notice(&event?)
            && sender.send(notice).is_err()
        {
            break;
        }
    }
    Ok(())
}

fn notice(event: &Event) -> Option<Notice> {
    match event {
        Event::BLOCK_IO_ERROR { data, .. } if data.operation == IoOperationType::write => {
            Some(match data.nospace {
                Some(true) => Notice::DiskFull,
                _ => Notice::DiskError,
            })
        }
        Event::VSERPORT_CHANGE { data, .. } if data.id == CHANNEL_PORT && data.open => {
            Some(Notice::AgentReady)
        }
        Event::MIGRATION { data, .. } => match data.status {
            MigrationStatus::completed => Some(Notice::Migrated),
            MigrationStatus::failed | MigrationStatus::cancelled => Some(Notice::MigrationFailed),
            _ => None,
        },
        _ => None,
    }
}

impl Monitor {
    async fn execute<C: QmpCommand>(&mut self, command: C) -> Result<C::Ok> {
        if self.service.is_none() {
            self.service = (&mut self.negotiated).await.ok();
        }
        let outcome = match &self.service {
            Some(service) => service.execute(command).await,
            None => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
        };
        outcome.map_err(|e: ExecuteError| Error::new(Code::Engine, format!("QMP {}: {e}", C::NAME)))
    }

    /// Has memory in files stay there when a machine is saved or loaded, and QEMU tell when it is.
    async fn set_up_migration(&mut self) -> Result<()> {
        let on = |capability| qmp::MigrationCapabilityStatus { capability, state: true };
        let capabilities =
            vec![on(MigrationCapability::events), on(MigrationCapability::x_ignore_shared)];
        self.execute(qmp::migrate_set_capabilities { capabilities }).await.map(drop)
    }

    /// Hands a descriptor over. It goes beside a byte without meaning, and is taken by the command
    /// that follows.
    async fn send_descriptor(&mut self, name: &str, file: &File) -> Result<()> {
        let failed = |e| Error::io(Code::Engine, "hand a descriptor to QEMU", &io::Error::from(e));
        let descriptors = [file.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&descriptors)];
        let bytes = [IoSlice::new(b"\n")];
        let flags = MsgFlags::MSG_NOSIGNAL;
        sendmsg::<()>(self.socket.as_raw_fd(), &bytes, &rights, flags, None).map_err(failed)?;
        self.execute(qmp::getfd { fdname: name.to_owned() }).await.map(drop)
    }

    /// Stops the machine and begins to write the state of its devices. Ends with a notice.
    pub async fn save(&mut self, state: &File) -> Result<()> {
        self.set_up_migration().await?;
        self.execute(qmp::stop {}).await?;
        self.send_descriptor("state", state).await?;
        let uri = Some("fd:state".to_owned());
        self.execute(qmp::migrate { uri, channels: None, detach: None, resume: None }).await?;
        Ok(())
    }

    /// Begins to read the state of the devices. Ends with a notice.
    pub async fn load(&mut self) -> Result<()> {
        self.set_up_migration().await?;
        let uri = Some(format!("fd:{STATE_FD}"));
        self.execute(qmp::migrate_incoming { uri, channels: None, exit_on_error: None }).await?;
        Ok(())
    }

    /// Lets a machine run that stands still.
    pub async fn resume(&mut self) -> Result<()> {
        self.execute(qmp::cont {}).await.map(drop)
    }
}
