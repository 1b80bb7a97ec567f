//! Having the root file system stand still, so that what is on the disk then is whole.
//!
//! To freeze means to wait until all that was written is on the disk, which may take long: a thread
//! does it, and the agent goes on serving meanwhile. Thawing is quick, but waits for a freezing that is
//! under way, so it is put off until that is over.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::thread::JoinHandle;

use boxlite_protocol::message::{Failure, FailureKind};
use nix::errno::Errno;

use crate::process::failure;

/// A request's number, and what it is answered with.
pub type Answer = (u64, Result<(), Failure>);

#[derive(Default)]
pub enum Freezer {
    #[default]
    Thawed,
    /// Under way; answers that wait for its end to be undone.
    Freezing {
        attempt: Attempt,
        request: u64,
        thaw: Option<Vec<u64>>,
    },
    Frozen(File),
}

/// A thread that freezes.
pub struct Attempt {
    thread: JoinHandle<io::Result<File>>,
    /// Closed at its other end when it is over, and watched for that.
    _over: OwnedFd,
}

impl Freezer {
    /// Begins to freeze. `watch` gets a descriptor that is readable when it has been tried, for
    /// [`Freezer::attempted`].
    pub fn freeze(
        &mut self,
        request: u64,
        watch: impl FnOnce(BorrowedFd<'_>) -> nix::Result<()>,
    ) -> Result<(), Failure> {
        if !matches!(self, Freezer::Thawed) {
            return Err(failure(FailureKind::State, "the file system is frozen already", 0));
        }
        let (over, theirs) = io::pipe().map_err(|e| io_failed(&e))?;
        watch(over.as_fd()).map_err(failed)?;
        let attempt = Attempt::begin(over.into(), theirs).map_err(|e| io_failed(&e))?;
        *self = Freezer::Freezing { attempt, request, thaw: None };
        Ok(())
    }

    /// What is to be answered when it was tried.
    pub fn attempted(&mut self) -> Vec<Answer> {
        let Freezer::Freezing { attempt, request, thaw } = std::mem::take(self) else {
            return Vec::new();
        };
        let mut answers = Vec::new();
        match attempt.thread.join() {
            Ok(Ok(root)) => {
                answers.push((request, Ok(())));
                *self = Freezer::Frozen(root);
            }
            Ok(Err(e)) => answers.push((request, Err(io_failed(&e)))),
            Err(_) => {
                let text = "the thread that freezes has panicked";
                answers.push((request, Err(failure(FailureKind::Internal, text, 0))));
            }
        }
        if let Some(requests) = thaw {
            let undone = self.melt();
            answers.extend(requests.into_iter().map(|request| (request, undone.clone())));
        }
        answers
    }

    /// Has the file system go on, now or as soon as that can be. Returns what is to be answered now.
    pub fn thaw(&mut self, request: Option<u64>) -> Vec<Answer> {
        if let Freezer::Freezing { thaw, .. } = self {
            thaw.get_or_insert_default().extend(request);
            return Vec::new();
        }
        let thawed = self.melt();
        request.into_iter().map(|request| (request, thawed.clone())).collect()
    }

    fn melt(&mut self) -> Result<(), Failure> {
        let Freezer::Frozen(root) = self else { return Ok(()) };
        // SAFETY: the call takes no memory of ours.
        let thawed = unsafe { ioctl::thaw(root.as_raw_fd(), 0) };
        match thawed {
            // Somebody in the box was faster.
            Ok(_) | Err(Errno::EINVAL) => {
                *self = Freezer::Thawed;
                Ok(())
            }
            Err(e) => Err(failed(e)),
        }
    }
}

impl Attempt {
    fn begin(over: OwnedFd, theirs: io::PipeWriter) -> io::Result<Attempt> {
        let root = File::open("/")?;
        let thread = std::thread::Builder::new().spawn(move || {
            let _theirs = theirs;
            // Most of it while the box still writes: it stands still for the shorter.
            nix::unistd::syncfs(&root)?;
            // SAFETY: the call takes no memory of ours.
            unsafe { ioctl::freeze(root.as_raw_fd(), 0) }?;
            Ok(root)
        })?;
        Ok(Attempt { thread, _over: over })
    }
}

/// What the kernel said to freezing, or thawing.
fn failed(e: Errno) -> Failure {
    failure(FailureKind::Internal, format!("freeze the file system: {}", e.desc()), e as i32)
}

fn io_failed(e: &io::Error) -> Failure {
    failed(Errno::from_raw(e.raw_os_error().unwrap_or(0)))
}

/// `FIFREEZE` and `FITHAW` of `<linux/fs.h>`; both ignore their argument.
mod ioctl {
    nix::ioctl_write_int_bad!(freeze, nix::request_code_readwrite!(b'X', 119, 4));
    nix::ioctl_write_int_bad!(thaw, nix::request_code_readwrite!(b'X', 120, 4));
}
