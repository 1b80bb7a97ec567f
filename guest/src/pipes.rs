//! The pipes of a command's output.

use std::os::fd::OwnedFd;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::pipe2;

/// One pipe. Our end does not block.
pub struct Pipe {
    pub ours: OwnedFd,
    pub theirs: OwnedFd,
}

impl Pipe {
    /// For what a command writes.
    pub fn from_command() -> nix::Result<Pipe> {
        let (ours, theirs) = pipe2(OFlag::O_CLOEXEC)?;
        set_nonblocking(&ours)?;
        Ok(Pipe { ours, theirs })
    }

    /// For what a command reads.
    pub fn to_command() -> nix::Result<Pipe> {
        let (theirs, ours) = pipe2(OFlag::O_CLOEXEC)?;
        set_nonblocking(&ours)?;
        Ok(Pipe { ours, theirs })
    }
}

/// Those of one command.
pub struct Pipes {
    pub stdout: Pipe,
    pub stderr: Pipe,
}

impl Pipes {
    pub fn new() -> nix::Result<Pipes> {
        Ok(Pipes { stdout: Pipe::from_command()?, stderr: Pipe::from_command()? })
    }
}

fn set_nonblocking(fd: &OwnedFd) -> nix::Result<()> {
    fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map(drop)
}
