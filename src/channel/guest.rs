//! A session with a guest's agent: opening it, where the guest speaks first, and asking one thing
//! at a time, before whoever serves a box reads all that comes.

use std::io;

use boxlite_protocol::VERSION;
use boxlite_protocol::codec::Codec;
use boxlite_protocol::handshake::Greeting;
use boxlite_protocol::message::{
    Failure, Hello, Request, Response, ToGuest, ToHost, request, to_guest, to_host,
};
use bytes::BytesMut;
use futures_util::{SinkExt, StreamExt};
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

/// Goes on with a session that was opened before, and in which nothing is under way.
pub fn resume(stream: UnixStream) -> Session {
    Framed::new(stream, Codec::default())
}

/// The number of a request while it is the only one.
const ONLY: u64 = 0;

/// Sends a request; its response will have this number.
pub async fn send(session: &mut Session, id: u64, op: request::Op) -> Result<()> {
    let body = Some(to_guest::Body::Request(Request { id, op: Some(op) }));
    session.send(&ToGuest { body }).await.map_err(|e| broken(&e))
}

/// Sends a request and takes the response, which has to be the next that comes. A failure that the
/// agent tells of is a response too.
pub async fn call(session: &mut Session, op: request::Op) -> Result<Response> {
    send(session, ONLY, op).await?;
    let response = next_response(session).await?;
    response.ok_or_else(|| Error::new(Code::Portal, "the guest's agent answered out of turn"))
}

/// Sends a request and takes the response, passing over what comes before it.
pub async fn call_among_others(session: &mut Session, op: request::Op) -> Result<Response> {
    send(session, ONLY, op).await?;
    loop {
        if let Some(response) = next_response(session).await? {
            return Ok(response);
        }
    }
}

/// The agent's next message: a response, or None for anything else.
async fn next_response(session: &mut Session) -> Result<Option<Response>> {
    match session.next().await {
        Some(Ok(ToHost { body: Some(to_host::Body::Response(response)) })) => Ok(Some(response)),
        Some(Ok(_)) => Ok(None),
        Some(Err(e)) => Err(broken(&e)),
        None => Err(Error::new(Code::Portal, "the guest closed its channel before it answered")),
    }
}

/// The agent would not do what it was asked for.
pub fn refused(failure: Failure) -> Error {
    Error::new(Code::Portal, failure.message).errno(failure.errno)
}

/// The guest sent what is not the protocol.
pub fn broken(error: &io::Error) -> Error {
    Error::io(Code::Portal, "the guest's agent broke the protocol", error)
}

fn closed() -> Error {
    Error::new(Code::Portal, "the channel to the guest closed before its agent greeted")
}

#[cfg(test)]
mod tests {
    use super::*;
    use boxlite_protocol::message::Empty;
    use tokio::io::AsyncWriteExt;

    async fn opened(bytes: &[u8]) -> Result<Hello> {
        let (ours, mut guest) = UnixStream::pair().unwrap();
        guest.write_all(bytes).await.unwrap();
        drop(guest);
        open(ours).await.map(|(_, hello)| hello)
    }

    fn greeting_of(version: u32) -> Vec<u8> {
        Greeting { version, epoch: 1 }.encode().to_vec()
    }

    #[tokio::test]
    async fn an_agent_of_another_version_is_told_as_such() {
        let error = opened(&greeting_of(VERSION + 41)).await.unwrap_err();
        let wanted = format!("protocol version {}", VERSION + 41);
        assert!(error.message().contains(&wanted), "{error}");
    }

    #[tokio::test]
    async fn stale_bytes_garbage_and_silence_are_errors_or_skipped() {
        assert_eq!(opened(b"").await.unwrap_err().code(), Code::Portal);
        assert_eq!(opened(b"no greeting at all").await.unwrap_err().code(), Code::Portal);
        let mut garbage = greeting_of(VERSION);
        garbage.extend([0xff; 64]);
        assert_eq!(opened(&garbage).await.unwrap_err().code(), Code::Portal);
        // Stale bytes before, a proper introduction after.
        let mut wire = b"rest of an older session".to_vec();
        wire.extend(greeting_of(VERSION));
        let hello = Hello { agent: "a".into(), kernel: "k".into() };
        let message = ToHost { body: Some(to_host::Body::Hello(hello.clone())) };
        let mut frame = BytesMut::new();
        let mut codec = Codec::<ToGuest, ToHost>::default();
        tokio_util::codec::Encoder::encode(&mut codec, &message, &mut frame).unwrap();
        wire.extend(&frame);
        assert_eq!(opened(&wire).await.unwrap(), hello);
    }

    #[tokio::test]
    async fn an_answer_comes_next_or_among_others_as_it_was_asked_for() {
        let ping = || request::Op::Ping(Empty {});
        let hello = to_host::Body::Hello(Hello::default());
        let answer = to_host::Body::Response(Response { id: 7, ..Default::default() });
        let asked = async |before: Option<to_host::Body>, among_others: bool| {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let mut guest = Framed::new(theirs, Codec::<ToGuest, ToHost>::default());
            for body in before.into_iter().chain([answer.clone()]) {
                guest.send(&ToHost { body: Some(body) }).await.unwrap();
            }
            let mut session = resume(ours);
            match among_others {
                true => call_among_others(&mut session, ping()).await,
                false => call(&mut session, ping()).await,
            }
        };
        assert_eq!(asked(None, false).await.unwrap().id, 7);
        assert_eq!(asked(Some(hello.clone()), true).await.unwrap().id, 7);
        let error = asked(Some(hello), false).await.unwrap_err();
        assert!(error.message().contains("out of turn"), "{error}");
    }

    #[tokio::test]
    async fn a_guest_that_says_nothing_more_is_told_as_such() {
        let (ours, guest) = UnixStream::pair().unwrap();
        let mut session = resume(ours);
        let closing = async {
            let mut guest = Framed::new(guest, Codec::<ToGuest, ToHost>::default());
            guest.next().await.unwrap().unwrap()
        };
        let (answer, _) =
            tokio::join!(call_among_others(&mut session, request::Op::Ping(Empty {})), closing);
        assert!(answer.unwrap_err().message().contains("before it answered"));
    }
}
