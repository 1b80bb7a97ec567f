//! Starts a program without disturbing the process that asks for it.
//!
//! A library inside somebody else's program may not fork that program's memory, deliver SIGCHLD
//! to it, leave zombies for it, or leak its descriptors; an init process inside a small guest
//! wants the cheapest start there is. Both want the same thing: `clone` with the parent's memory
//! (as `posix_spawn` does), every preparation done beforehand, and the failing step reported
//! with its errno. The standard library's `Command` falls back to a full `fork` as soon as
//! groups, descriptors or sessions are involved, and always raises SIGCHLD.
//!
//! This crate must never allocate, lock or call back between `clone` and `execve`.

mod child;

use std::ffi::CString;
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

pub use child::Stacks;
use child::{Plan, Report};

/// A program to start. Built once, started once.
///
/// Signals are unblocked and their handlers reset in the new program; every descriptor that is
/// not handed over with [`Command::fd`] is closed there.
pub struct Command<'fd> {
    candidates: Vec<CString>,
    argv: Vec<CString>,
    env: Vec<CString>,
    fds: Vec<(BorrowedFd<'fd>, RawFd)>,
    cwd: Option<CString>,
    credentials: Option<Credentials>,
    new_session: bool,
    death_signal: Option<i32>,
    ordinary_scheduling: bool,
    ignores_signals: bool,
    orphan: bool,
}

/// The user a program runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
}

/// What was being done when a start failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum Step {
    Clone = 1,
    Descriptors,
    Session,
    DeathSignal,
    Credentials,
    WorkingDirectory,
    Exec,
}

/// A failed start: nothing is left running.
#[derive(Debug)]
pub struct Failure {
    pub step: Step,
    pub error: io::Error,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let step = match self.step {
            Step::Clone => "create process",
            Step::Descriptors => "hand over descriptors",
            Step::Session => "create session",
            Step::DeathSignal => "set death signal",
            Step::Credentials => "set user and groups",
            Step::WorkingDirectory => "enter working directory",
            Step::Exec => "execute",
        };
        write!(f, "{step}: {}", self.error)
    }
}

impl std::error::Error for Failure {}

/// A started child: its process id and a descriptor that becomes readable when it ends.
#[derive(Debug)]
pub struct Child {
    pub pid: i32,
    pub pidfd: OwnedFd,
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Signal(i32),
}

impl<'fd> Command<'fd> {
    /// A program at `path`, with `argv` (whose first element is the name it sees).
    pub fn new(path: CString, argv: Vec<CString>) -> Self {
        Command::first_of(vec![path], argv)
    }

    /// The first of several paths that exists and may be executed, as a shell searches PATH:
    /// a missing file moves on to the next, a forbidden one is remembered.
    pub fn first_of(candidates: Vec<CString>, argv: Vec<CString>) -> Self {
        Command {
            candidates,
            argv,
            env: Vec::new(),
            fds: Vec::new(),
            cwd: None,
            credentials: None,
            new_session: false,
            death_signal: None,
            ordinary_scheduling: false,
            ignores_signals: true,
            orphan: false,
        }
    }

    /// The whole environment, as `NAME=value` strings. Empty unless set.
    pub fn env(mut self, env: Vec<CString>) -> Self {
        self.env = env;
        self
    }

    /// Hands `fd` over as number `target`.
    pub fn fd(mut self, fd: BorrowedFd<'fd>, target: RawFd) -> Self {
        self.fds.push((fd, target));
        self
    }

    /// The working directory, entered as the new user. Inherited unless set.
    pub fn cwd(mut self, cwd: CString) -> Self {
        self.cwd = Some(cwd);
        self
    }

    /// Runs as another user. Inherited unless set.
    pub fn credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = Some(credentials);
        self
    }

    /// Makes the program the leader of a new session and process group.
    pub fn new_session(mut self) -> Self {
        self.new_session = true;
        self
    }

    /// If `wanted`, gives the program the scheduling policy that programs have, whatever ours is.
    /// Inherited unless set.
    pub fn ordinary_scheduling(mut self, wanted: bool) -> Self {
        self.ordinary_scheduling = wanted;
        self
    }

    /// Says that this process ignores no signal, so that there is none to be reset. Else each of
    /// them is.
    pub fn no_ignored_signals(mut self) -> Self {
        self.ignores_signals = false;
        self
    }

    /// Sends `signal` to the program when the *thread* that starts it ends. Only for
    /// single-threaded parents.
    pub fn death_signal(mut self, signal: i32) -> Self {
        self.death_signal = Some(signal);
        self
    }

    /// Starts the program as a child, which raises SIGCHLD when it ends: for processes that own
    /// themselves, not for a library in somebody else's.
    pub fn spawn(self) -> Result<Child, Failure> {
        let stacks = Stacks::new().map_err(|error| Failure { step: Step::Clone, error })?;
        let pid = self.start(&stacks)?;
        // SAFETY: pidfd_open takes two integers. The child cannot have been reaped: nobody else
        // knows its pid yet, so the number still means this child.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        if fd < 0 {
            let error = io::Error::last_os_error();
            // SAFETY: plain kill and wait on our own unreaped child.
            unsafe {
                libc::kill(pid, libc::SIGKILL);
                libc::waitpid(pid, std::ptr::null_mut(), libc::__WALL);
            }
            return Err(Failure { step: Step::Clone, error });
        }
        // SAFETY: the kernel just returned this descriptor (close-on-exec) to us alone.
        let pidfd = unsafe { OwnedFd::from_raw_fd(fd as RawFd) };
        Ok(Child { pid, pidfd })
    }

    /// As [`Command::spawn`], for a process that starts many and waits for them by number: on
    /// stacks that it keeps, for making and unmapping them costs more than all else here.
    /// Returns the child's process id.
    pub fn spawn_on(self, stacks: &mut Stacks) -> Result<i32, Failure> {
        self.start(stacks)
    }

    /// Starts the program as nobody's child: it belongs to init, the caller never has to wait
    /// for it and is never told of its end. Returns its process id, which is good for messages
    /// only.
    pub fn spawn_orphan(mut self) -> Result<i32, Failure> {
        self.orphan = true;
        let stacks = Stacks::new().map_err(|error| Failure { step: Step::Clone, error })?;
        self.start(&stacks)
    }

    fn start(self, stacks: &Stacks) -> Result<i32, Failure> {
        let report = Report::default();
        let plan = Plan::new(&self, &report);
        let pid = child::clone_and_exec(&plan, stacks)
            .map_err(|error| Failure { step: Step::Clone, error })?;
        let outcome = report.outcome();
        if self.orphan || outcome.is_err() {
            // The intermediate child, or one that failed to become the program: both have ended.
            reap(pid);
        }
        match outcome {
            Ok(grandchild) if self.orphan => Ok(grandchild),
            Ok(_) => Ok(pid),
            Err((step, errno)) => Err(Failure { step, error: io::Error::from_raw_os_error(errno) }),
        }
    }
}

fn reap(pid: i32) {
    loop {
        // SAFETY: waits for our own child; no status is wanted.
        let done = unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::__WALL) };
        // Anything but an interruption means there is nothing left to wait for (a host that
        // ignores SIGCHLD has its children reaped by the kernel).
        if done >= 0 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return;
        }
    }
}

impl Child {
    /// How the child ended, without blocking; `None` while it runs. The first `Some` reaps it.
    pub fn try_wait(&self) -> io::Result<Option<Exit>> {
        // SAFETY: an all-zero siginfo_t is a valid value for waitid to fill.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        let flags = libc::WEXITED | libc::WNOHANG | libc::__WALL;
        // SAFETY: the pidfd is ours and open; `info` is writable.
        let done = unsafe {
            libc::waitid(libc::P_PIDFD, self.pidfd.as_raw_fd() as libc::id_t, &mut info, flags)
        };
        if done != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: waitid filled the fields of a SIGCHLD siginfo; si_pid is zero if nothing ended.
        let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
        Ok(match (pid, info.si_code) {
            (0, _) => None,
            (_, libc::CLD_EXITED) => Some(Exit::Code(status)),
            _ => Some(Exit::Signal(status)),
        })
    }

    /// Sends a signal to exactly this child.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        // SAFETY: pidfd_send_signal on our own descriptor with no siginfo.
        let done = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.pidfd.as_raw_fd(),
                signal,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}
