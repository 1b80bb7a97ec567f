//! Opening a session with a guest's agent: the guest speaks first.

use std::io;

use boxlite_protocol::VERSION;
use boxlite_protocol::codec::Codec;
use boxlite_protocol::handshake::Greeting;
use boxlite_protocol::message::{Hello, ToGuest, ToHost, to_host};
use bytes::BytesMut;
use futures_util::StreamExt;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio_util::codec::{Framed, FramedParts};

use crate::error::{Code, Error, Result};

/// A session: frames both ways.
pub type Session = Framed<UnixStream, Codec<ToHost, ToGuest>>;

/// Waits for the agent's greeting, discarding whatever comes before it; returns what came after.
pub async fn greeting(stream: &mut UnixStream) -> Result<(Greeting, BytesMut)> {
    let mut buffer = BytesMut::with_capacity(4096);
    loop {
        if let Some(greeting) = Greeting::find(&mut buffer) {
            return Ok((greeting, buffer));
        }
        match stream.read_buf(&mut buffer).await {
            Ok(0) => return Err(closed()),
            Ok(_) => {}
            Err(e) => return Err(Error::io(Code::Portal, "wait for the guest's agent", &e)),
        }
    }
}

/// Waits for the greeting, checks the agent's version, and takes its introduction.
pub async fn open(mut stream: UnixStream) -> Result<(Session, Hello)> {
    let (greeting, rest) = greeting(&mut stream).await?;
    if greeting.version != VERSION {
        return Err(Error::new(
            Code::Portal,
            format!(
                "the guest's agent speaks protocol version {}, this library version {VERSION}: \
                 library and initramfs are of different builds; install them together",
                greeting.version
            ),
        ));
    }
    let mut parts = FramedParts::new::<&ToGuest>(stream, Codec::default());
    parts.read_buf = rest;
    let mut session = Framed::from_parts(parts);
    match session.next().await {
        Some(Ok(ToHost { body: Some(to_host::Body::Hello(hello)) })) => Ok((session, hello)),
        Some(Ok(_)) => Err(Error::new(Code::Portal, "the guest's agent did not introduce itself")),
        Some(Err(e)) => Err(broken(&e)),
        None => Err(closed()),
    }
}

/// The guest sent what is not the protocol.
pub fn broken(error: &io::Error) -> Error {
    Error::io(Code::Portal, "the guest's agent broke the protocol", error)
}

fn closed() -> Error {
    Error::new(Code::Portal, "the channel to the guest closed before its agent greeted")
}
