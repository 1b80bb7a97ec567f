//! Connections: one task that reads and one that writes each.
//!
//! Writers have queues without a limit of their own: what may wait in them is bounded by the
//! credit that readers grant, which the [hub](super::hub) enforces.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use boxlite_protocol::codec::Codec;
use boxlite_protocol::message::{FromSupervisor, ToGuest, ToHost, ToSupervisor};
use bytes::BytesMut;
use futures_util::StreamExt;
use prost::Message;
use tokio::io::AsyncWriteExt;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::codec::{Encoder, FramedParts, FramedRead};

use crate::channel::guest::Session;
use crate::error::{Code, Error, Result};

/// A program's number at this supervisor.
pub type ClientId = u64;

/// The program that created the box.
pub const CREATOR: ClientId = 0;

/// Messages that wait between a connection's reader and the loop.
const BACKLOG: usize = 64;
/// Bytes gathered for one write.
const BATCH: usize = 256 * 1024;

/// What a program did.
#[expect(clippy::large_enum_variant, reason = "moved once, through a short queue")]
pub enum Arrival {
    Message(ClientId, ToSupervisor),
    /// It closed its connection, or broke it.
    Gone(ClientId),
}

/// All programs connected to the box.
pub struct Clients {
    next_id: ClientId,
    connected: HashMap<ClientId, Client>,
    arrivals: mpsc::Receiver<Arrival>,
    sender: mpsc::Sender<Arrival>,
}

/// What waits to be sent to one program.
pub type Queue = mpsc::UnboundedSender<FromSupervisor>;

struct Client {
    queue: Queue,
    reader: JoinHandle<()>,
    writer: JoinHandle<io::Result<()>>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Clients {
    pub fn new(creator: UnixStream) -> Result<Clients> {
        let (sender, arrivals) = mpsc::channel(BACKLOG);
        let mut clients = Clients { next_id: CREATOR, connected: HashMap::new(), arrivals, sender };
        clients.add(creator);
        Ok(clients)
    }

    fn add(&mut self, stream: UnixStream) {
        let id = self.next_id;
        self.next_id += 1;
        let (read_half, write_half) = stream.into_split();
        let (queue, messages) = mpsc::unbounded_channel();
        let reader = tokio::spawn(read_client(id, read_half, self.sender.clone()));
        let writer = tokio::spawn(write(write_half, messages));
        self.connected.insert(id, Client { queue, reader, writer });
    }

    /// The next thing a program does; new programs are let in on the way. Cancel-safe.
    pub async fn next(&mut self, listener: &UnixListener) -> Arrival {
        loop {
            tokio::select! {
                arrival = self.next_connected() => return arrival,
                accepted = listener.accept() => {
                    // A connection that failed before it was accepted is its owner's loss.
                    if let Ok((stream, _)) = accepted {
                        self.add(stream);
                    }
                }
            }
        }
    }

    /// The next thing one of the connected programs does. Cancel-safe.
    pub async fn next_connected(&mut self) -> Arrival {
        match self.arrivals.recv().await {
            Some(arrival) => {
                if let Arrival::Gone(id) = arrival {
                    self.connected.remove(&id);
                }
                arrival
            }
            // The channel cannot close: we hold a sender.
            None => std::future::pending().await,
        }
    }

    /// Sends to one program; one that is gone misses it.
    pub fn send(&self, id: ClientId, message: FromSupervisor) {
        if let Some(client) = self.connected.get(&id) {
            // Its reader reports the end of a connection that the writer found broken.
            let _ = client.queue.send(message);
        }
    }

    /// Another way to send to one program.
    pub fn queue(&self, id: ClientId) -> Option<Queue> {
        self.connected.get(&id).map(|client| client.queue.clone())
    }

    pub fn send_all(&self, message: &FromSupervisor) {
        for id in self.connected.keys() {
            self.send(*id, message.clone());
        }
    }

    /// Ends the connection with a program that broke the protocol.
    pub fn disconnect(&mut self, id: ClientId) {
        self.connected.remove(&id);
    }

    /// Waits until all programs have got what was sent to them, or patience ends.
    pub async fn flush(&mut self, patience: Duration) {
        let deadline = tokio::time::Instant::now() + patience;
        for (_, mut client) in self.connected.drain() {
            // The writer ends when its queue is closed and empty.
            client.queue = mpsc::unbounded_channel().0;
            let _ = tokio::time::timeout_at(deadline, &mut client.writer).await;
        }
    }
}

async fn read_client(id: ClientId, stream: OwnedReadHalf, sender: mpsc::Sender<Arrival>) {
    let mut frames = FramedRead::new(stream, Codec::<ToSupervisor, FromSupervisor>::default());
    while let Some(Ok(message)) = frames.next().await {
        if sender.send(Arrival::Message(id, message)).await.is_err() {
            return;
        }
    }
    // Nobody listens any more if this fails: the box is ending.
    let _ = sender.send(Arrival::Gone(id)).await;
}

/// Writes what is queued, many messages at a time.
async fn write<M: Message>(
    mut stream: OwnedWriteHalf,
    mut messages: mpsc::UnboundedReceiver<M>,
) -> io::Result<()> {
    let mut codec = Codec::<M, M>::default();
    let mut buffer = BytesMut::with_capacity(BATCH);
    while let Some(message) = messages.recv().await {
        codec.encode(&message, &mut buffer)?;
        while buffer.len() < BATCH
            && let Ok(message) = messages.try_recv()
        {
            codec.encode(&message, &mut buffer)?;
        }
        stream.write_all_buf(&mut buffer).await?;
    }
    stream.shutdown().await
}

/// The reading side of the channel to the guest.
pub struct GuestReader {
    frames: FramedRead<OwnedReadHalf, Codec<ToHost, ToGuest>>,
}

impl GuestReader {
    /// The next message; `None` when the guest has closed the channel. Cancel-safe.
    pub async fn next(&mut self) -> Result<Option<ToHost>> {
        match self.frames.next().await {
            None => Ok(None),
            Some(Ok(message)) => Ok(Some(message)),
            Some(Err(e)) if e.kind() == io::ErrorKind::InvalidData => {
                Err(crate::channel::guest::broken(&e))
            }
            Some(Err(e)) if e.kind() == io::ErrorKind::ConnectionReset => Ok(None),
            Some(Err(e)) => Err(Error::io(Code::Portal, "read from the guest", &e)),
        }
    }
}

/// Splits a session with the guest into a reader and a queue for a writing task.
pub fn split(session: Session) -> (GuestReader, mpsc::UnboundedSender<ToGuest>) {
    let parts: FramedParts<_, _> = session.into_parts();
    let (read_half, write_half) = parts.io.into_split();
    let mut frames = FramedRead::with_capacity(read_half, Codec::default(), BATCH);
    frames.read_buffer_mut().extend_from_slice(&parts.read_buf);
    let (queue, messages) = mpsc::unbounded_channel();
    tokio::spawn(write(write_half, messages));
    (GuestReader { frames }, queue)
}
