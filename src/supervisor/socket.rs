//! The box's socket, and the file that says who serves it.
//!
//! Socket addresses hold 108 bytes; homes may have longer paths. So both ends reach the socket
//! through a descriptor of its directory.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::net::{UnixListener, UnixStream};

use crate::error::{Code, Error, Result};

const SOCKET: &str = "supervisor.sock";

/// A name that reaches the box's socket however long the home's path is.
struct ShortPath {
    directory: File,
}

impl ShortPath {
    fn new(box_dir: &Path) -> io::Result<ShortPath> {
        let directory = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_DIRECTORY | libc::O_PATH)
            .open(box_dir.join("sockets"))?;
        Ok(ShortPath { directory })
    }

    fn socket(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", self.directory.as_raw_fd()))
    }
}

/// Serves the box's socket, in place of one that an ended supervisor left.
pub fn listen(box_dir: &Path) -> Result<UnixListener> {
    let bind = || {
        let path = ShortPath::new(box_dir)?;
        match fs::remove_file(path.socket()) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        UnixListener::bind(path.socket())
    };
    bind().map_err(|e| {
        Error::io(Code::Storage, format!("serve {}", box_dir.join("sockets").display()), &e)
    })
}

/// Connects to a box's supervisor.
pub async fn connect(box_dir: &Path) -> io::Result<UnixStream> {
    let path = ShortPath::new(box_dir)?;
    UnixStream::connect(path.socket()).await
}

/// The supervisor's pid file, locked for as long as the supervisor lives: the lock, not the
/// number, tells whether it does, so a reused process id fools nobody. The file stays behind,
/// empty: removing it would let two supervisors lock two files of one name.
pub struct PidFile {
    file: File,
}

const NAME: &str = "shim.pid";

impl PidFile {
    /// Takes the box, or says that it is taken.
    pub fn create(box_dir: &Path) -> Result<PidFile> {
        let path = box_dir.join(NAME);
        let what = || format!("write {}", path.display());
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|e| Error::io(Code::Storage, what(), &e))?;
        match fcntl(&file, FcntlArg::F_OFD_SETLK(&whole_file(libc::F_WRLCK))) {
            Err(Errno::EAGAIN | Errno::EACCES) => {
                return Err(Error::new(Code::Busy, "another supervisor runs this box"));
            }
            Err(e) => return Err(Error::io(Code::Storage, what(), &e.into())),
            Ok(_) => {}
        }
        file.set_len(0)
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(|e| Error::io(Code::Storage, what(), &e))?;
        Ok(PidFile { file })
    }

    /// Blocks until the box has no supervisor.
    pub fn wait_released(box_dir: &Path) -> io::Result<()> {
        let file = File::open(box_dir.join(NAME))?;
        fcntl(&file, FcntlArg::F_OFD_SETLKW(&whole_file(libc::F_RDLCK)))?;
        Ok(())
    }

    /// Kills the box's supervisor, if it still is that process, and waits until it is gone.
    pub fn kill_holder(box_dir: &Path, pid: u32) -> io::Result<()> {
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let raw = raw.ok_or_else(|| io::Error::other("not a process id"))?;
        let process = match pidfd_open(raw, PidfdFlags::empty()) {
            Err(rustix::io::Errno::SRCH) => return Ok(()),
            other => other?,
        };
        // Looked at with the process in hand: what has its number now is what is killed.
        if PidFile::holder(box_dir)? != Some(pid) {
            return Ok(());
        }
        match pidfd_send_signal(&process, Signal::KILL) {
            Err(e) if e != rustix::io::Errno::SRCH => return Err(e.into()),
            _ => {}
        }
        PidFile::wait_released(box_dir)
    }

    /// Clears away what a supervisor that was killed has left: its number and its socket. Nothing is
    /// done while one lives.
    pub fn sweep(box_dir: &Path) -> io::Result<()> {
        let file = match OpenOptions::new().write(true).open(box_dir.join(NAME)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        match fcntl(&file, FcntlArg::F_OFD_SETLK(&whole_file(libc::F_WRLCK))) {
            Err(Errno::EAGAIN | Errno::EACCES) => return Ok(()),
            other => other?,
        };
        file.set_len(0)?;
        match fs::remove_file(ShortPath::new(box_dir)?.socket()) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    /// The process id of the box's supervisor, if one lives.
    pub fn holder(box_dir: &Path) -> io::Result<Option<u32>> {
        let file = match File::open(box_dir.join(NAME)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let mut lock = whole_file(libc::F_WRLCK);
        fcntl(&file, FcntlArg::F_OFD_GETLK(&mut lock))?;
        if lock.l_type == libc::F_UNLCK as libc::c_short {
            return Ok(None);
        }
        Ok(io::read_to_string(file)?.trim().parse().ok())
    }
}

fn whole_file(kind: libc::c_int) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // A number that stays is without meaning once its lock is gone.
        let _ = self.file.set_len(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_supervisor_holds_a_box_and_its_end_frees_it() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(PidFile::holder(dir.path()).unwrap(), None);
        let held = PidFile::create(dir.path()).unwrap();
        assert_eq!(PidFile::holder(dir.path()).unwrap(), Some(std::process::id()));
        assert_eq!(PidFile::create(dir.path()).err().unwrap().code(), Code::Busy);
        drop(held);
        assert_eq!(PidFile::holder(dir.path()).unwrap(), None);
        PidFile::create(dir.path()).unwrap();
    }

    #[tokio::test]
    async fn what_a_killed_supervisor_left_is_swept_and_what_a_living_one_has_is_not() {
        let dir = tempfile::tempdir().unwrap();
        PidFile::sweep(dir.path()).unwrap();
        fs::create_dir(dir.path().join("sockets")).unwrap();
        let socket = dir.path().join("sockets").join(SOCKET);
        let number = || fs::read_to_string(dir.path().join(NAME)).unwrap();

        let held = PidFile::create(dir.path()).unwrap();
        let _listener = listen(dir.path()).unwrap();
        PidFile::sweep(dir.path()).unwrap();
        assert!(socket.exists() && !number().is_empty());
        // Its lock goes with the process, and nothing else does.
        drop(held);
        fs::write(dir.path().join(NAME), "4711\n").unwrap();
        PidFile::sweep(dir.path()).unwrap();
        assert!(!socket.exists() && number().is_empty());
    }

    #[tokio::test]
    async fn a_path_longer_than_a_socket_address_works() {
        let dir = tempfile::tempdir().unwrap();
        let long = dir.path().join("x".repeat(150)).join("y".repeat(100));
        fs::create_dir_all(long.join("sockets")).unwrap();
        // A socket that a killed supervisor left.
        drop(listen(&long).unwrap());
        let listener = listen(&long).unwrap();
        let (connected, accepted) = tokio::join!(connect(&long), listener.accept());
        connected.unwrap();
        accepted.unwrap();
    }
}
