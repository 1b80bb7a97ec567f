//! QEMU's control channel: events that the supervisor has to act on.

use futures_util::StreamExt;
use qapi::futures::QmpStreamTokio;
use qapi::qmp::{Event, IoOperationType};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

/// What QEMU reports by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    DiskFull,
    DiskError,
}

/// Watches the monitor from a task of its own until QEMU is gone.
pub fn watch(stream: UnixStream) -> mpsc::Receiver<Notice> {
    let (sender, receiver) = mpsc::channel(8);
    tokio::spawn(async move {
        // The monitor ends with QEMU, whose end is noticed as such.
        let _ = follow(stream, sender).await;
    });
    receiver
}

async fn follow(stream: UnixStream, sender: mpsc::Sender<Notice>) -> std::io::Result<()> {
    let negotiation = QmpStreamTokio::open(stream).await?;
    // The service is kept: the connection is good only as long as it lives.
    let (_service, mut events) = negotiation.negotiate().await?.into_parts();
    while let Some(event) = events.next().await {
        let notice = match event? {
            Event::BLOCK_IO_ERROR { data, .. } if data.operation == IoOperationType::write => {
                if data.nospace == Some(true) {
                    Notice::DiskFull
                } else {
                    Notice::DiskError
                }
            }
            _ => continue,
        };
        if sender.send(notice).await.is_err() {
            break;
        }
    }
    Ok(())
}
