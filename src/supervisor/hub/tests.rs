use super::super::peer::CREATOR;
use super::*;
use boxlite_protocol::message::{Empty, Follow};
use bytes::Bytes;
use prost::Message;
use tokio::net::UnixStream;

struct Setting {
    hub: Hub,
    clients: Clients,
    to_guest: mpsc::UnboundedReceiver<ToGuest>,
    program: UnixStream,
    dir: tempfile::TempDir,
}

/// A box with one program that has started one exec, which the guest knows as 2.
fn setting() -> Setting {
    let (ours, program) = UnixStream::pair().unwrap();
    let (queue, to_guest) = mpsc::unbounded_channel();
    let dir = tempfile::tempdir().unwrap();
    let place = Place::clear(dir.path(), 4096, "r").unwrap();
    let mut setting = Setting {
        hub: Hub::new(queue, Running::default(), place),
        clients: Clients::new(ours).unwrap(),
        to_guest,
        program,
        dir,
    };
    let exec = Exec { exec: 77, window: 1000, ..Exec::default() };
    let request = Request { id: 5, op: Some(request::Op::Exec(exec)) };
    setting.client(to_supervisor::Body::Request(request)).unwrap();
    setting
}

impl Setting {
    fn client(&mut self, body: to_supervisor::Body) -> Result<Outcome> {
        let message = ToSupervisor { body: Some(body) };
        self.hub.on_client(CREATOR, message, &mut self.clients)
    }

    fn guest(&mut self, body: to_host::Body) -> Result<Outcome> {
        self.hub.on_guest(Ok(Some(ToHost { body: Some(body) })), &self.clients)
    }

    fn output(&mut self, exec: u32, stream: u32, offset: u64, length: usize) -> Result<Outcome> {
        let bytes = Bytes::from(vec![0; length]);
        self.guest(to_host::Body::Data(Data { exec, stream, offset, bytes, eof: false }))
    }
}

#[tokio::test]
async fn a_guest_that_exceeds_its_credit_is_refused() {
    let mut s = setting();
    assert!(s.output(2, stream::STDOUT, 0, 1000).is_ok());
    assert!(s.output(2, stream::STDOUT, 1000, 1).is_err());
    assert!(s.output(2, stream::STDERR, 0, 1000).is_ok());
}

#[tokio::test]
async fn a_grant_of_the_program_lets_the_guest_go_on() {
    let mut s = setting();
    s.output(2, stream::STDOUT, 0, 1000).unwrap();
    let credit = Credit { exec: 77, stream: stream::STDOUT, bytes: 500 };
    s.client(to_supervisor::Body::Credit(credit)).unwrap();
    assert!(s.output(2, stream::STDOUT, 1000, 500).is_ok());
    let mut last = None;
    while let Ok(message) = s.to_guest.try_recv() {
        last = message.body;
    }
    assert_eq!(last, Some(to_guest::Body::Credit(Credit { exec: 2, ..credit })));
}

#[tokio::test]
async fn streams_that_do_not_exist_and_gaps_are_refused() {
    assert!(setting().output(2, 9, 0, 1).is_err());
    assert!(setting().output(2, stream::STDIN, 0, 1).is_err());
    assert!(setting().output(2, stream::STDOUT, 7, 1).is_err());
    let absurd = Credit { exec: 2, stream: stream::STDIN, bytes: u64::MAX };
    let mut s = setting();
    assert!(s.guest(to_host::Body::Credit(Credit { bytes: 1, ..absurd })).is_ok());
    assert!(s.guest(to_host::Body::Credit(absurd)).is_err());
}

#[tokio::test]
async fn a_guest_that_leaves_questions_unanswered_is_asked_no_more_of_them() {
    let mut s = setting();
    for id in 0..100 {
        let op = Some(request::Op::GuestStats(boxlite_protocol::message::Empty {}));
        s.client(to_supervisor::Body::Request(Request { id, op })).unwrap();
    }
    assert_eq!(s.hub.requests.len(), 1 + MAX_UNANSWERED);
}

#[tokio::test]
async fn what_nobody_asked_for_is_ignored() {
    let mut s = setting();
    assert!(s.output(4711, stream::STDOUT, 0, 50_000).is_ok());
    for id in 0..1000 {
        let response = Response { id: id + 100, ..Response::default() };
        assert!(s.guest(to_host::Body::Response(response)).is_ok());
        let exited = Exited { exec: id as u32 + 100, code: 0, signal: 0 };
        assert!(s.guest(to_host::Body::Exited(exited)).is_ok());
    }
    assert!(s.hub.requests.len() == 1 && s.hub.execs.len() == 1);
}

#[tokio::test]
async fn a_program_that_exceeds_its_credit_is_disconnected_and_its_exec_killed() {
    let mut s = setting();
    let bytes = Bytes::from_static(b"unasked");
    let data = Data { exec: 77, stream: stream::STDIN, offset: 0, bytes, eof: false };
    s.client(to_supervisor::Body::Data(data)).unwrap();
    let mut killed = false;
    while let Ok(message) = s.to_guest.try_recv() {
        if let Some(to_guest::Body::Request(Request { op: Some(request::Op::Signal(k)), .. })) =
            message.body
        {
            killed = k == Signal { exec: 2, signal: libc::SIGKILL };
        }
    }
    assert!(killed);
    // What it still writes is discarded and does not block it.
    assert!(s.output(2, stream::STDOUT, 0, 1000).is_ok());
    assert!(s.output(2, stream::STDOUT, 1000, 60_000).is_ok());
}

// ---- detached commands -------------------------------------------------------------------------

/// What the supervisor has told the program by now.
async fn told(s: &mut Setting) -> Vec<from_supervisor::Body> {
    use boxlite_protocol::codec::Codec;
    use futures_util::StreamExt;
    // Answered after all that was sent before.
    s.client(to_supervisor::Body::Beat(Empty {})).unwrap();
    let codec = Codec::<FromSupervisor, ToSupervisor>::default();
    let mut frames = tokio_util::codec::FramedRead::new(&mut s.program, codec);
    let mut told = Vec::new();
    loop {
        match frames.next().await.unwrap().unwrap().body.unwrap() {
            from_supervisor::Body::Beat(_) => break,
            body => told.push(body),
        }
    }
    assert!(frames.read_buffer().is_empty());
    told
}

/// What went to the guest by now.
fn asked(s: &mut Setting) -> Vec<to_guest::Body> {
    std::iter::from_fn(|| s.to_guest.try_recv().ok()?.body).collect()
}

/// A box with a detached command, which the guest knows as 3 and the program as 78.
async fn detached() -> Setting {
    let mut s = setting();
    let exec = Exec { exec: 78, window: 1000, stdin: true, detached: true, ..Exec::default() };
    let request = Request { id: 6, op: Some(request::Op::Exec(exec)) };
    s.client(to_supervisor::Body::Request(request)).unwrap();
    let sent = asked(&mut s);
    let Some(to_guest::Body::Request(Request { id, op: Some(request::Op::Exec(exec)) })) =
        sent.last().cloned()
    else {
        panic!("{sent:?}");
    };
    assert_eq!((exec.exec, exec.window, exec.detached), (3, boxlite_protocol::WINDOW, false));
    s.guest(to_host::Body::Response(Response { id, ..Response::default() })).unwrap();
    let answer = Response { id: 6, number: 3, ..Response::default() };
    assert_eq!(told(&mut s).await, [from_supervisor::Body::Response(answer)]);
    s
}

fn follow(s: &mut Setting, as_exec: u32, of: u32, stdout_from: u64) {
    let follow = Follow { exec: as_exec, of, stdout_from, stderr_from: 0, window: 1000 };
    let request = Request { id: 9, op: Some(request::Op::Follow(follow)) };
    s.client(to_supervisor::Body::Request(request)).unwrap();
}

/// What one follower was told: the bytes of stdout it has got and lost, and whether of the end.
fn got(told: &[from_supervisor::Body], exec: u32) -> (usize, u64, bool) {
    told.iter().fold((0, 0, false), |(got, lost, ended), body| match body {
        from_supervisor::Body::Data(d) if d.exec == exec && d.stream == stream::STDOUT => {
            assert!(!ended);
            (got + d.bytes.len(), lost, ended)
        }
        from_supervisor::Body::Gap(g) if g.exec == exec => (got, lost + g.bytes, ended),
        from_supervisor::Body::Exited(e) if e.exec == exec => (got, lost, true),
        _ => (got, lost, ended),
    })
}

#[tokio::test]
async fn a_detached_command_never_waits_for_a_reader() {
    let mut s = detached().await;
    let mut granted = boxlite_protocol::WINDOW;
    for chunk in 0..1000 {
        s.output(3, stream::STDOUT, chunk * 1000, 1000).unwrap();
        granted = asked(&mut s).iter().fold(granted, |granted, body| match body {
            to_guest::Body::Credit(credit) => granted + credit.bytes,
            _ => granted,
        });
        assert!(granted > (chunk + 1) * 1000);
    }
    // The program has credit for a thousand, and has taken none of it.
    assert_eq!(got(&told(&mut s).await, 78), (1000, 0, false));
    // Another one has the last bytes that are held: 4096 less its credit.
    follow(&mut s, 80, 3, 5);
    assert_eq!(got(&told(&mut s).await, 80), (1000, 1_000_000 - 4096 - 5, false));
    // Each goes on where it is, when it can.
    let credit = |exec| Credit { exec, stream: stream::STDOUT, bytes: 10_000 };
    s.client(to_supervisor::Body::Credit(credit(80))).unwrap();
    assert_eq!(got(&told(&mut s).await, 80), (3096, 0, false));
    s.client(to_supervisor::Body::Credit(credit(78))).unwrap();
    assert_eq!(got(&told(&mut s).await, 78), (4096, 1_000_000 - 4096 - 1000, false));
    s.guest(to_host::Body::Exited(Exited { exec: 3, code: 4, signal: 0 })).unwrap();
    let last = told(&mut s).await;
    assert!(got(&last, 78).2 && got(&last, 80).2);
    // It has ended, and can still be followed.
    follow(&mut s, 81, 3, 999_999);
    assert_eq!(got(&told(&mut s).await, 81), (1, 0, true));
}

#[tokio::test]
async fn a_detached_command_survives_its_program_whose_stdin_ends() {
    let mut s = detached().await;
    s.hub.client_gone(CREATOR).unwrap();
    let sent = asked(&mut s);
    let eof =
        sent.iter().any(|body| matches!(body, to_guest::Body::Data(d) if d.exec == 3 && d.eof));
    let killed: Vec<u32> = sent
        .iter()
        .filter_map(|body| match body {
            to_guest::Body::Request(Request { op: Some(request::Op::Signal(s)), .. }) => {
                Some(s.exec)
            }
            _ => None,
        })
        .collect();
    // The other, which is attached, is killed.
    assert!(eof && killed == [2], "{sent:?}");
    s.output(3, stream::STDOUT, 0, 5000).unwrap();
    follow(&mut s, 80, 3, 0);
    assert_eq!(got(&told(&mut s).await, 80), (1000, 904, false));
}

#[tokio::test]
async fn who_cannot_follow_is_told_why() {
    let mut s = detached().await;
    for (of, from, kind) in [
        (2, 0, FailureKind::State),
        (3, 1, FailureKind::Invalid),
        (99, 0, FailureKind::NoExec),
        (MAIN_EXEC, 0, FailureKind::NoExec),
    ] {
        follow(&mut s, 80, of, from);
        let told = told(&mut s).await;
        let [from_supervisor::Body::Response(Response { failure: Some(failure), .. })] = &told[..]
        else {
            panic!("{told:?}");
        };
        assert_eq!(failure.kind, kind as i32, "{failure:?}");
    }
    follow(&mut s, 78, 3, 0);
    let from_supervisor::Body::Response(response) = told(&mut s).await.remove(0) else { panic!() };
    assert!(response.failure.unwrap().message.contains("in use"));
}

#[tokio::test]
async fn of_those_that_have_ended_the_last_are_kept_with_their_files() {
    let mut s = detached().await;
    let start = |s: &mut Setting, name: u32| {
        let exec = Exec { exec: name, detached: true, argv: vec!["c".into()], ..Exec::default() };
        let request = Request { id: 6, op: Some(request::Op::Exec(exec)) };
        s.client(to_supervisor::Body::Request(request)).unwrap();
    };
    for name in 100..140 {
        start(&mut s, name);
        let exited = Exited { exec: name - 96, code: 0, signal: 0 };
        s.guest(to_host::Body::Exited(exited)).unwrap();
    }
    told(&mut s).await;
    let request = Request { id: 7, op: Some(request::Op::ListExecs(ListExecs { after: 0 })) };
    s.client(to_supervisor::Body::Request(request)).unwrap();
    let from_supervisor::Body::Response(response) = told(&mut s).await.remove(0) else { panic!() };
    let list = response.execs.unwrap().list;
    let numbers: Vec<u32> = list.iter().map(|entry| entry.number).collect();
    assert_eq!(numbers, [2, 3].into_iter().chain(12..44).collect::<Vec<_>>());
    assert!(list[1].detached && list[1].exited.is_none() && !list[0].detached);
    assert!(list[2].exited.is_some() && list[2].argv == ["c"]);
    let files = std::fs::read_dir(s.dir.path().join("output")).unwrap().count();
    assert_eq!(files, 2 * 33);
    // The program has a name for each of those that it has not heard the end of: none but two.
    assert_eq!(s.hub.names.len(), 2);
}

#[tokio::test]
async fn a_long_list_of_commands_comes_in_parts() {
    let mut s = setting();
    let argv = vec![Bytes::from(vec![b'a'; 4000])];
    for name in 1000..6000 {
        let exec = Exec { exec: name, argv: argv.clone(), ..Exec::default() };
        let request = Request { id: 6, op: Some(request::Op::Exec(exec)) };
        s.client(to_supervisor::Body::Request(request)).unwrap();
    }
    let (mut after, mut parts, mut numbers) = (0, 0, Vec::new());
    loop {
        let page = s.hub.list(after);
        assert!(page.encoded_len() <= boxlite_protocol::codec::MAX_FRAME - 1024);
        numbers.extend(page.list.iter().map(|entry| entry.number));
        after = page.list.last().unwrap().number;
        parts += 1;
        if !page.more {
            break;
        }
    }
    assert_eq!(numbers, (2..5003).collect::<Vec<_>>());
    assert!(parts > 1);
}

#[tokio::test]
async fn a_program_of_another_version_can_stop_the_box_and_nothing_else() {
    let mut s = setting();
    let attach = Attach { version: boxlite_protocol::VERSION + 1 };
    s.client(to_supervisor::Body::Attach(attach)).unwrap();
    told(&mut s).await;
    let mut ask =
        |op| s.client(to_supervisor::Body::Request(Request { id: 8, op: Some(op) })).unwrap();
    for op in [
        request::Op::Exec(Exec { exec: 90, ..Exec::default() }),
        request::Op::Pause(Empty {}),
        request::Op::Detach(Empty {}),
        request::Op::ListExecs(ListExecs { after: 0 }),
    ] {
        assert!(matches!(ask(op), Outcome::Continue));
    }
    let stopping = ask(request::Op::Shutdown(Shutdown { grace_ms: 0 }));
    assert!(matches!(stopping, Outcome::Stopping { .. }));
    let refused = told(&mut s).await;
    assert_eq!(refused.len(), 4);
    for body in refused {
        let from_supervisor::Body::Response(response) = body else { panic!("{body:?}") };
        assert_eq!(response.failure.unwrap().kind, FailureKind::Version as i32);
    }
}
