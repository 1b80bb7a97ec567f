//! The program that created the box, as a process.
//!
//! Its end usually shows as the end of its connection. But a child that it forked may hold a copy
//! of the socket without knowing, and outlive it: then only the process itself tells.

use std::io;
use std::os::fd::OwnedFd;

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;

pub struct Creator {
    /// None if it is gone already.
    process: Option<AsyncFd<OwnedFd>>,
}

impl Creator {
    /// Whoever made the pair of sockets that this is one of.
    pub fn behind(control: &UnixStream) -> io::Result<Creator> {
        let pid = control.peer_cred()?.pid().and_then(Pid::from_raw);
        let Some(pid) = pid else {
            return Err(io::Error::other("the creating program's process id is not known"));
        };
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(process) => {
                // SAFETY: the descriptor is ours, and closed only after it was taken out again.
                let process = unsafe { AsyncFd::register(process) }?;
                Ok(Creator { process: Some(process) })
            }
            Err(rustix::io::Errno::SRCH) => Ok(Creator { process: None }),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits for its end. Cancel-safe.
    pub async fn gone(&self) {
        if let Some(process) = &self.process {
            // Readable when the process has ended; an error would only end the box too soon.
            if process.readable().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}
