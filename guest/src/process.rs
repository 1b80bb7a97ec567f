//! One exec: a process of the image with its three streams.

use std::collections::VecDeque;
use std::ffi::CString;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use boxlite_protocol::message::{
    Credit, Data, Exec, Exited, Failure, FailureKind, stream, to_host,
};
use boxlite_spawn::{Command, Credentials, Exit, Stacks, Step};
use bytes::Bytes;
use nix::errno::Errno;

use crate::output::{self, Output};
use crate::pipes::{Pipe, Pipes};
use crate::port::Port;
use crate::stdin::Stdin;
use crate::users::Cache;

pub const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What became of an attempt to move bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Pumped {
    Idle,
    Moved,
    /// The process has ended and everything was said.
    Ended,
}

pub struct Process {
    exec: u32,
    pid: i32,
    stdin: Option<Stdin>,
    outputs: VecDeque<Output>,
    /// Whether its outputs are watched since before they were its.
    watched: bool,
    exit: Option<Exit>,
}

pub fn failure(kind: FailureKind, message: impl Into<String>, errno: i32) -> Failure {
    Failure { kind: kind as i32, message: message.into(), errno }
}

/// What every start needs, kept from one to the next.
pub struct Means {
    stacks: Stacks,
    users: Cache,
    /// The stdin of those who get none.
    null: OwnedFd,
    /// Whether the agent yields to its processes; they must not inherit that.
    pub yields: bool,
    /// The pipes of the first command, which has to wait for everything it needs.
    ready_made: Option<Pipes>,
}

impl Means {
    pub fn new() -> io::Result<Means> {
        let null = OpenOptions::new().read(true).open("/dev/null")?;
        Ok(Means {
            stacks: Stacks::new()?,
            users: Cache::default(),
            null: null.into(),
            yields: false,
            ready_made: Some(Pipes::new()?),
        })
    }

    /// The outputs of the first command, to be watched before there is one.
    pub fn ready_made(&self) -> impl Iterator<Item = (u32, BorrowedFd<'_>)> {
        self.ready_made.iter().flat_map(|pipes| {
            [
                (stream::STDOUT, pipes.stdout.ours.as_fd()),
                (stream::STDERR, pipes.stderr.ours.as_fd()),
            ]
        })
    }

    /// Reads of the box's disk what the first start needs.
    pub fn prime(&mut self) {
        // Not read now, it is read then.
        let _ = self.users.prime();
    }
}

impl Process {
    /// Starts the process and returns it with the grant that opens its stdin.
    pub fn start(request: Exec, means: &mut Means) -> Result<(Process, Option<Credit>), Failure> {
        let command = parse(&request, &mut means.users)?;
        let resources = |e: Errno| {
            failure(FailureKind::Resources, format!("create pipes: {}", e.desc()), e as i32)
        };
        let to_stdin = request.stdin.then(Pipe::to_command).transpose().map_err(resources)?;
        let ready_made = means.ready_made.take();
        let watched = ready_made.is_some();
        let Pipes { stdout, stderr } = ready_made.map_or_else(Pipes::new, Ok).map_err(resources)?;
        let stdin = to_stdin.as_ref().map_or(&means.null, |pipe| &pipe.theirs);
        let pid = command
            .fd(stdin.as_fd(), 0)
            .fd(stdout.theirs.as_fd(), 1)
            .fd(stderr.theirs.as_fd(), 2)
            .new_session()
            .ordinary_scheduling(means.yields)
            .no_ignored_signals()
            .spawn_on(&mut means.stacks)
            .map_err(|f| describe(&request, &f))?;
        let exec = request.exec;
        let (stdin, credit) = to_stdin.map(|pipe| Stdin::new(exec, pipe.ours)).unzip();
        let outputs = VecDeque::from([
            Output::new(exec, stream::STDOUT, stdout.ours, request.window),
            Output::new(exec, stream::STDERR, stderr.ours, request.window),
        ]);
        Ok((Process { exec, pid, stdin, outputs, watched, exit: None }, credit))
    }

    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The descriptors that are still to be watched, each with its stream.
    pub fn fds(&self) -> impl Iterator<Item = (u32, BorrowedFd<'_>)> {
        let stdin = self.stdin.iter().filter_map(|s| Some((stream::STDIN, s.fd()?)));
        let outputs = self.outputs.iter().filter(|_| !self.watched);
        stdin.chain(outputs.map(|o| (o.stream(), o.fd())))
    }

    /// Whether its outputs are those that were watched before they were anybody's.
    pub fn has_ready_made(&self) -> bool {
        self.watched
    }

    fn output(&mut self, stream: u32) -> Option<&mut Output> {
        self.outputs.iter_mut().find(|o| o.stream() == stream)
    }

    /// Notes an edge on a descriptor.
    pub fn ready(&mut self, stream: u32, hung_up: bool) {
        if let Some(output) = self.output(stream) {
            output.set_readable(hung_up);
        }
    }

    /// Adds a grant for an output. False if it is absurd.
    pub fn grant(&mut self, stream: u32, bytes: u64) -> bool {
        self.output(stream).is_none_or(|o| o.grant(bytes))
    }

    /// Takes bytes for stdin. False if the host broke the rules.
    pub fn accept(&mut self, data: Data) -> bool {
        match &mut self.stdin {
            Some(stdin) => stdin.accept(data).is_ok(),
            // It has ended meanwhile, or never had a stdin: nobody to give it to.
            None => true,
        }
    }

    /// Notes that the process has ended.
    pub fn set_exited(&mut self, exit: Exit) {
        self.exit = Some(exit);
        self.stdin = None;
        self.outputs.iter_mut().for_each(Output::set_last);
    }

    /// Signals the process and its group.
    pub fn signal(&self, signal: i32) -> Result<(), Errno> {
        if self.exit.is_some() {
            return Err(Errno::ESRCH);
        }
        // SAFETY: kill on a process group we created; it is not reaped, so the number is ours.
        Errno::result(unsafe { libc::kill(-self.pid, signal) }).map(drop)
    }

    /// Moves bytes once on each stream, as far as the port has room. Pipes whose stream has
    /// ended go to `discard`: background processes may still write to them.
    pub fn pump(&mut self, port: &mut Port, discard: &mut Vec<Rc<OwnedFd>>) -> Pumped {
        let mut moved = false;
        if let Some(credit) = self.stdin.as_mut().and_then(Stdin::pump) {
            port.send(to_host::Body::Credit(credit));
            moved = true;
        }
        for _ in 0..self.outputs.len() {
            if !port.has_room() {
                break;
            }
            // Whose turn it was goes to the back: no stream keeps the other from the port.
            let Some(mut output) = self.outputs.pop_front() else { break };
            match output.step(port) {
                output::Step::Idle => self.outputs.push_back(output),
                output::Step::Moved => {
                    self.outputs.push_back(output);
                    moved = true;
                }
                output::Step::End => {
                    // The end of the process says it for all its streams.
                    if self.exit.is_none() {
                        port.send(to_host::Body::Data(output.end()));
                    }
                    discard.push(output.into_pipe());
                    moved = true;
                }
            }
        }
        match self.exit {
            Some(exit) if self.outputs.is_empty() => {
                port.send(to_host::Body::Exited(self.exited(exit)));
                Pumped::Ended
            }
            _ if moved => Pumped::Moved,
            _ => Pumped::Idle,
        }
    }

    fn exited(&self, exit: Exit) -> Exited {
        let (code, signal) = match exit {
            Exit::Code(code) => (code, 0),
            Exit::Signal(signal) => (0, signal),
        };
        Exited { exec: self.exec, code, signal }
    }
}

fn parse(request: &Exec, users: &mut Cache) -> Result<Command<'static>, Failure> {
    let argv = c_strings(&request.argv)?;
    let program = request.argv.first().filter(|p| !p.is_empty());
    let program = program
        .ok_or_else(|| failure(FailureKind::Invalid, "the command is empty", libc::EINVAL))?;

    let database = users.get().map_err(|e| {
        let errno = e.raw_os_error().unwrap_or(0);
        failure(FailureKind::Internal, format!("read the image's users: {e}"), errno)
    })?;
    let identity = database
        .resolve(&request.user)
        .map_err(|message| failure(FailureKind::NoUser, message, 0))?;

    let mut env = c_strings(&request.env)?;
    if find(&request.env, b"HOME=").is_none() {
        env.push(c_string(&[b"HOME=", &identity.home])?);
    }
    let path = find(&request.env, b"PATH=");
    if path.is_none() {
        env.push(c_string(&[b"PATH=", DEFAULT_PATH])?);
    }
    let candidates = candidates(program, path.unwrap_or(DEFAULT_PATH))?;
    let mut command = Command::first_of(candidates, argv).env(env);
    // What it has from us needs no change.
    if !matches!(&request.cwd[..], b"" | b"/") {
        command = command.cwd(c_string(&[&request.cwd])?);
    }
    if !is_ours(&identity.credentials) {
        command = command.credentials(identity.credentials);
    }
    Ok(command)
}

/// Whether this is who we are: see [`crate::setup::early`].
fn is_ours(other: &Credentials) -> bool {
    other.uid == 0 && other.gid == 0 && other.groups == [0]
}

/// One string for the kernel, of several parts.
fn c_string(parts: &[&[u8]]) -> Result<CString, Failure> {
    let length: usize = parts.iter().map(|p| p.len()).sum();
    let mut bytes = Vec::with_capacity(length + 1);
    for part in parts {
        bytes.extend_from_slice(part);
    }
    bytes.push(0);
    CString::from_vec_with_nul(bytes).map_err(|_| {
        let what = "a string of the command contains a NUL byte";
        failure(FailureKind::Invalid, what, libc::EINVAL)
    })
}

fn c_strings(list: &[Bytes]) -> Result<Vec<CString>, Failure> {
    // Room for what is added to an environment.
    let mut strings = Vec::with_capacity(list.len() + 2);
    for string in list {
        strings.push(c_string(&[string])?);
    }
    Ok(strings)
}

/// The value of the last variable that starts with `name` (which ends in `=`).
fn find<'a>(env: &'a [Bytes], name: &[u8]) -> Option<&'a [u8]> {
    env.iter().rev().find_map(|e| e.strip_prefix(name))
}

/// Where a command is looked for, as a shell does it: a name with a slash is a path.
fn candidates(program: &[u8], path: &[u8]) -> Result<Vec<CString>, Failure> {
    if program.contains(&b'/') {
        return Ok(vec![c_string(&[program])?]);
    }
    let mut candidates = Vec::with_capacity(8);
    for directory in path.split(|b| *b == b':') {
        let directory = if directory.is_empty() { b"." } else { directory };
        candidates.push(c_string(&[directory, b"/", program])?);
    }
    Ok(candidates)
}

fn describe(request: &Exec, error: &boxlite_spawn::Failure) -> Failure {
    let errno = error.error.raw_os_error().unwrap_or(0);
    let reason = Errno::from_raw(errno).desc();
    let program = request.argv.first().map(|p| String::from_utf8_lossy(p)).unwrap_or_default();
    let cwd = String::from_utf8_lossy(&request.cwd);
    let (kind, message) = match (error.step, errno) {
        (Step::Exec, libc::ENOENT) => (
            FailureKind::CommandNotFound,
            if program.contains('/') {
                format!("{program}: no such file (or its interpreter) in the image")
            } else {
                format!("{program}: command not found in the image's PATH")
            },
        ),
        (Step::Exec, libc::ENOTDIR | libc::ELOOP | libc::ENAMETOOLONG) => {
            (FailureKind::CommandNotFound, format!("{program}: {reason}"))
        }
        (Step::Exec, libc::E2BIG) => {
            (FailureKind::Invalid, "the command and its environment are too long".into())
        }
        (Step::Exec | Step::Clone, libc::ENOMEM | libc::EAGAIN) => {
            (FailureKind::Resources, format!("{program}: {reason}"))
        }
        (Step::Exec, _) => {
            (FailureKind::CommandNotExecutable, format!("{program}: cannot be executed: {reason}"))
        }
        (Step::WorkingDirectory, _) => {
            (FailureKind::NoDirectory, format!("working directory {cwd}: {reason}"))
        }
        (step, _) => (FailureKind::Internal, format!("start {program}: {step:?}: {reason}")),
    };
    failure(kind, message, errno)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_looked_for_as_a_shell_does() {
        let found = |p: &str| {
            candidates(p.as_bytes(), b"/bin::/usr/bin")
                .unwrap()
                .into_iter()
                .map(|c| c.into_string().unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(found("ls"), ["/bin/ls", "./ls", "/usr/bin/ls"]);
        assert_eq!(found("./ls"), ["./ls"]);
    }

    #[test]
    fn the_last_of_several_variables_counts() {
        let env = [Bytes::from("A=1"), Bytes::from("AB=2"), Bytes::from("A=3")];
        assert_eq!(find(&env, b"A="), Some(&b"3"[..]));
        assert_eq!(find(&env, b"B="), None);
    }
}
