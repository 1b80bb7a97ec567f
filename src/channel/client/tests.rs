use super::*;
use boxlite_protocol::message::Ended;
use futures_util::SinkExt;
use tokio_util::codec::Framed;

type Supervisor = Framed<UnixStream, Codec<ToSupervisor, FromSupervisor>>;

/// A connection to a supervisor of a version, played by the test.
async fn connected(version: u32, box_dir: &Path) -> (Connection, Supervisor) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut supervisor = Framed::new(theirs, Codec::default());
    let running = Running { version, run: "r".into(), ..Running::default() };
    let body = Some(from_supervisor::Body::Running(running));
    supervisor.send(&FromSupervisor { body }).await.unwrap();
    let connection = Connection::open(ours, box_dir, Opening::Attach, |_| {}).await.unwrap();
    heard(&mut supervisor).await;
    (connection, supervisor)
}

async fn heard(supervisor: &mut Supervisor) -> to_supervisor::Body {
    loop {
        match supervisor.next().await.unwrap().unwrap().body.unwrap() {
            to_supervisor::Body::Beat(_) => {}
            body => return body,
        }
    }
}

async fn asked(supervisor: &mut Supervisor) -> Request {
    match heard(supervisor).await {
        to_supervisor::Body::Request(request) => request,
        other => panic!("{other:?}"),
    }
}

async fn say(supervisor: &mut Supervisor, body: from_supervisor::Body) {
    supervisor.send(&FromSupervisor { body: Some(body) }).await.unwrap();
}

#[tokio::test]
async fn a_box_of_another_version_can_be_stopped_and_nothing_else() {
    let (connection, mut supervisor) = connected(VERSION + 1, Path::new("/nowhere")).await;
    for refused in [
        connection.exec(Exec::default(), None).await.err(),
        connection.follow(1, [0; 2]).await.err(),
        connection.list().await.err(),
        connection.pause().await.err(),
    ] {
        let error = refused.unwrap();
        assert_eq!(error.code(), Code::Unsupported);
        for part in [&format!("version {}", VERSION + 1), &format!("speaks {VERSION}"), "stop it"] {
            assert!(error.message().contains(part), "{error}");
        }
    }
    let stopped = async {
        // Nothing that was refused comes before, but that a follower has left.
        let request = loop {
            match heard(&mut supervisor).await {
                to_supervisor::Body::Leave(_) => {}
                to_supervisor::Body::Request(request) => break request,
                other => panic!("{other:?}"),
            }
        };
        assert!(matches!(request.op, Some(request::Op::Shutdown(_))), "{request:?}");
        say(&mut supervisor, from_supervisor::Body::Ended(Ended::default())).await;
    };
    let (shutdown, ()) = tokio::join!(connection.shutdown(0), stopped);
    shutdown.unwrap();
}

#[tokio::test]
async fn a_gap_is_told_in_its_place_and_a_wrong_one_ends_the_connection() {
    use crate::channel::exec::{ExecEvent, Wanted};
    let (connection, mut supervisor) = connected(VERSION, Path::new("/nowhere")).await;
    let answer = async {
        let request = asked(&mut supervisor).await;
        let Some(request::Op::Follow(follow)) = request.op else { panic!() };
        assert_eq!((follow.of, follow.stdout_from, follow.window), (9, 100, WINDOW));
        let response = Response { id: request.id, number: 9, ..Response::default() };
        say(&mut supervisor, from_supervisor::Body::Response(response)).await;
        let data = |offset, bytes: &'static [u8]| {
            let bytes = bytes.into();
            let stream = stream::STDOUT;
            let data = Data { exec: follow.exec, stream, offset, bytes, eof: false };
            from_supervisor::Body::Data(data)
        };
        let gap = |offset, bytes| {
            let gap = Gap { exec: follow.exec, stream: stream::STDOUT, offset, bytes };
            from_supervisor::Body::Gap(gap)
        };
        // Two that meet are one.
        for body in [data(100, b"ab"), gap(102, 5), gap(107, 3), data(110, b"cd"), gap(1, 1)] {
            say(&mut supervisor, body).await;
        }
    };
    let (streams, ()) = tokio::join!(connection.follow(9, [100, 0]), answer);
    let streams = streams.unwrap();
    assert!(connection.ended().await.unwrap_err().message().contains("protocol"));
    let mut seen = Vec::new();
    loop {
        match std::future::poll_fn(|cx| streams.poll_event(cx, Wanted::ALL)).await.unwrap() {
            ExecEvent::Stdout(bytes) => seen.push(String::from_utf8(bytes.to_vec()).unwrap()),
            ExecEvent::Gap { stream: 1, bytes } => seen.push(format!("gap {bytes}")),
            ExecEvent::Exit(exit) => break assert!(exit.is_err()),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen, ["ab", "gap 8", "cd"]);
    assert_eq!((streams.offset(stream::STDOUT), streams.lost(stream::STDOUT)), (112, 8));
}

/// A start that is given up between its answer and whoever is to have it: the command must not run on.
#[tokio::test]
async fn a_command_whose_answer_came_too_late_is_killed() {
    let (connection, mut supervisor) = connected(VERSION, Path::new("/nowhere")).await;
    let mut start = Box::pin(connection.exec(Exec::default(), None));
    assert!(futures_util::poll!(&mut start).is_pending());
    let request = asked(&mut supervisor).await;
    assert!(matches!(request.op, Some(request::Op::Exec(_))), "{request:?}");
    say(
        &mut supervisor,
        from_supervisor::Body::Response(Response { id: request.id, ..Response::default() }),
    )
    .await;
    // The connection's task takes the answer; nobody polls the start.
    while connection.shared.lock().requests.contains_key(&request.id) {
        tokio::task::yield_now().await;
    }
    drop(start);
    let killed = asked(&mut supervisor).await;
    let Some(request::Op::Signal(signal)) = killed.op else { panic!("{killed:?}") };
    assert_eq!(signal.signal, libc::SIGKILL);
}
